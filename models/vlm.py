"""A vision-language ranker: a Qwen-VL reads query, cover and note, and a head scores what it made
of them.

Source: Chen et al. 2025 (arXiv 2503.00501) with Qwen2-VL (arXiv 2409.12191). The backbone alone is
used, without logits of words; the head is trained; a loss over the exposures of a request.

What the candidates of a request begin with, instruction and query, is read once for all of them:
the backbone looks back only, so that what it makes of a beginning depends on nothing behind it.

Shapes: B = pairs of a batch, R = its requests, S and L = tokens of the longest beginning and of the
longest rest, H = width, I = covers of a batch, P = patches of a batch, N = candidates of all
requests.
"""

import importlib.util
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    DynamicCache,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLModel,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import logging as transformers_logging

from models import loop
from models.encoder import SCORE_DECIMALS, TOKENS_PER_SCORED_BATCH, by_length, scoring
from models.loop import Progress, TrainingHistory
from models.metrics import FloatArray
from models.ranking_data import require_enough, validation_metric
from models.recipes import LoRA, Training, VisionLanguage, VLMRecipe
from models.text_data import (
    DrawnLists,
    IntArray,
    NoteTexts,
    TextRequests,
    adamw,
    clicks_counted,
    drawn_lists,
)
from models.tokens import CLS, PAD, SEP, TextNumbers
from models.vlm_input import (
    Covers,
    ImageShape,
    Pairs,
    PlacedTokens,
    Prompt,
    image_processor,
    put_together,
    save_processor,
)

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
# The names that Qwen-VL has for what stands around an image, and around a turn of a talk.
IMAGE_START, IMAGE_END = "<|vision_start|>", "<|vision_end|>"
IMAGE, VIDEO = "<|image_pad|>", "<|video_pad|>"
TURN, TURN_END = "<|im_start|>", "<|im_end|>"
QUERY_LABEL, NOTE_LABEL = "查询：", "\n笔记："
FEED_FORWARD = 3
# So many batches are sorted by length together, which leaves them all but random.
BATCHES_SORTED_TOGETHER = 16
# Only the language layers: the vision tower calls its projections otherwise.
ADAPTED = r".*language_model\..*\.(q|k|v|o)_proj"
HEAD = "head.safetensors"
KEPT_TOKEN_BYTES = 2_000_000_000


@dataclass(frozen=True)
class Reader:
    """What turns texts and covers into input: the tokenizer and the words around the texts."""

    tokenizer: Tokenizer
    prompt: Prompt
    image_shape: ImageShape


@dataclass(frozen=True)
class Batch:
    """B pairs of R requests as the backbone takes them, on its device.

    Attributes:
        shared: its inputs (R, S): what the candidates of a request begin with.
        own: its inputs (B, L): what follows, with the covers.
        request: int64 (B,), each pair's row of ``shared``.
        is_match: int64 (B, L), 1 for a token of the note that stands in the query, too.
        last: int64 (B,), place of the last token in ``own``.
    """

    shared: dict[str, Any]
    own: dict[str, Any]
    request: Tensor
    is_match: Tensor
    last: Tensor


class VLMRanker(nn.Module):
    """The backbone of a Qwen-VL with a linear head on one state of the last layer.

    Where weights are frozen, `state_dict` holds the trained ones only: checkpoints of a training
    do not repeat two billion weights that nobody changes.
    """

    def __init__(
        self, backbone: nn.Module, width: int, pooling: Literal["last", "mean"], marks_matches: bool
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pooling = pooling
        self.match = nn.Embedding(2, width, padding_idx=0) if marks_matches else None
        if self.match is not None:
            nn.init.normal_(self.match.weight[1], std=0.02)
        self.head = nn.Linear(width, 1)

    def forward(self, batch: "Batch") -> Tensor:
        """Logits of a click, float32 (B,)."""
        read, request_B = DynamicCache(), batch.request
        shared_RSH = self.backbone(**batch.shared, cache=read, use_cache=True).last_hidden_state
        if read.get_seq_length() == 0:
            raise ValueError("the backbone keeps nothing of a beginning: is it set to recompute?")
        read.batch_select_indices(request_B)
        own = dict(batch.own)
        if self.match is not None:
            words = self.backbone.get_input_embeddings()  # type: ignore[operator]
            own["inputs_embeds"] = words(own["input_ids"]) + self.match(batch.is_match)
        is_shared_RS, is_own_BL = batch.shared["attention_mask"], batch.own["attention_mask"]
        own["attention_mask"] = torch.cat([is_shared_RS[request_B], is_own_BL], dim=1)
        own_BLH = self.backbone(**own, cache=read, use_cache=True).last_hidden_state
        if self.pooling == "last":
            state_BH = own_BLH[torch.arange(len(batch.last), device=own_BLH.device), batch.last]
        else:
            sums_and_counts = [
                ((hidden * is_token[:, :, None]).sum(dim=1), is_token.sum(dim=1, keepdim=True))
                for hidden, is_token in ((shared_RSH, is_shared_RS), (own_BLH, is_own_BL))
            ]
            (shared_RH, n_shared_R1), (own_BH, n_own_B1) = sums_and_counts
            state_BH = (shared_RH[request_B] + own_BH) / (n_shared_R1[request_B] + n_own_B1)
        # Half precision would make one in ten scores of a request the same.
        with torch.autocast(state_BH.device.type, enabled=False):
            logit_B1: Tensor = self.head(state_BH.float())
        return logit_B1[:, 0]

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        trained = self._trained()
        state = super().state_dict(*args, **kwargs)
        return {name: tensor for name, tensor in state.items() if name in trained}

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        if strict and set(state_dict) != self._trained():
            other = sorted(set(state_dict) ^ self._trained())
            raise RuntimeError(f"weights of another model: {', '.join(other[:5])}")
        return super().load_state_dict(state_dict, strict=False, assign=assign)

    def _trained(self) -> set[str]:
        return {name for name, parameter in self.named_parameters() if parameter.requires_grad}

    @property
    def has_frozen_eyes(self) -> bool:
        """Whether covers always become the same tokens."""
        eyes = [p for name, p in self.named_parameters() if ".visual." in f".{name}"]
        return not any(parameter.requires_grad for parameter in eyes)


class VLMLearner:
    """The ranker with its folds, for `models.loop.train`.

    Lists are drawn as for the cross-encoder. A batch has requests of about the same length.
    """

    model: VLMRanker

    def __init__(
        self,
        model: VLMRanker,
        reader: Reader,
        notes: NoteTexts,
        covers: Covers | None,
        fit: TextRequests,
        validation: TextRequests,
        recipe: VLMRecipe,
        place: torch.device,
    ) -> None:
        self.model = model.to(place)
        self.n_fit_requests, self.n_validation_requests = fit.n_requests, validation.n_requests
        self._fit, self._validation = fit, validation
        self._n_notes, self._recipe, self._place = len(notes.lists), recipe, place
        self._batches = _Batches(model, reader, notes, covers, recipe, place)
        self._metric = validation_metric(validation, recipe.training)
        self._counted = clicks_counted(fit, recipe.training)
        self._epoch: DrawnLists | None = None

    def optimisers(self, training: Training) -> Sequence[torch.optim.Optimizer]:
        return adamw(self.model, training)

    def batches(self, order: np.random.Generator) -> list[IntArray]:
        recipe, fit = self._recipe, self._fit
        epoch = self._epoch = drawn_lists(
            order, fit, self._n_notes, recipe.list_size, recipe.other_negatives, self._counted
        )
        n = max(1, recipe.training.candidates_per_batch // recipe.list_size)
        request = np.repeat(np.arange(fit.n_requests), np.diff(epoch.offsets))
        of_pair = self._batches.lengths(fit, request, epoch.note)
        length = np.zeros(fit.n_requests, dtype=np.int64)
        np.maximum.at(length, request, of_pair)
        requests = order.permutation(fit.n_requests)
        found = []
        for start in range(0, len(requests), n * BATCHES_SORTED_TOGETHER):
            together = requests[start : start + n * BATCHES_SORTED_TOGETHER]
            together = together[np.argsort(length[together], kind="stable")]
            found += [together[at : at + n] for at in range(0, len(together), n)]
        return [found[number] for number in order.permutation(len(found))]

    def loss(self, requests: IntArray) -> Tensor:
        if self._epoch is None:
            raise ValueError("batches() draws what an epoch learns from; it was not called")
        drawn = self._epoch.pairs(requests)
        batch = self._batches.batch(self._fit, drawn.fit_request, drawn.note)
        return drawn.loss(self._recipe.training, self.model(batch))

    def validation_scores(self, requests: IntArray) -> FloatArray:
        return self._batches.scores(self._validation.take(requests))

    def metric(self, scores: FloatArray) -> float:
        return self._metric(scores)


class _Batches:
    """Pairs of a request and a note as the backbone's input, on the device."""

    def __init__(
        self,
        model: VLMRanker,
        reader: Reader,
        notes: NoteTexts,
        covers: Covers | None,
        recipe: VLMRecipe,
        place: torch.device,
    ) -> None:
        self._model, self._prompt, self._notes = model, reader.prompt, notes
        self._covers, self._recipe, self._place = covers, recipe, place
        self._kept: dict[int, Tensor] | None = None
        if model.has_frozen_eyes and _family(model.backbone) != "qwen3_vl":
            # Qwen3-VL hands several layers of its vision tower on, not the last alone.
            self._kept = {}
        self._kept_bytes = 0

    @property
    def _n_max(self) -> tuple[int, int]:
        sizes = self._recipe.model
        return sizes.max_query_tokens, sizes.max_note_tokens if self._recipe.reads_text else 0

    def lengths(self, data: TextRequests, request: IntArray, note: IntArray) -> IntArray:
        """Tokens of these pairs, (B,)."""
        n_query, n_note = self._n_max
        n_image = self._image_grid(note).prod(axis=1)
        length: IntArray = (
            self._prompt.n_around
            + data.queries.lengths(request, n_query)
            + self._notes.lists.lengths(note, n_note)
            + n_image
            + 2 * (n_image > 0)
        )
        return length

    def batch(self, data: TextRequests, request: IntArray, note: IntArray) -> Batch:
        grid = self._image_grid(note)
        read: Pairs = put_together(
            self._prompt, data.queries, request, self._notes.lists, note, grid, self._n_max
        )
        has_cover = grid[:, 0] > 0
        seen = self._seen(note[has_cover]) if has_cover.any() else {}
        return Batch(
            shared=self._inputs(read.shared),
            own=self._inputs(read.own) | seen,
            request=self._to(read.request),
            is_match=self._to(read.is_match),
            last=self._to(read.last),
        )

    def _inputs(self, read: PlacedTokens) -> dict[str, Any]:
        return {
            "input_ids": self._to(read.token_id),
            "attention_mask": self._to(read.is_token),
            "position_ids": self._to(read.position),
        }

    def scores(self, data: TextRequests) -> FloatArray:
        """Click logits of all candidates, float64 (N,), in the order of the data."""
        request = data.request_index
        score_N = np.zeros(data.n_candidates)
        with scoring(self._model, self._place):
            # By the longest of each request, so that its candidates stay together.
            longest = np.zeros(data.n_requests, dtype=np.int64)
            np.maximum.at(longest, request, self.lengths(data, request, data.note))
            for rows in by_length(longest[request], TOKENS_PER_SCORED_BATCH):
                batch = self.batch(data, request[rows], data.note[rows])
                score_N[rows] = self._model(batch).cpu().numpy()
        return np.round(score_N, SCORE_DECIMALS)

    def _image_grid(self, note: IntArray) -> IntArray:
        if self._covers is None:
            return np.zeros((len(note), 2), dtype=np.int64)
        return self._covers.token_grid(note)

    def _seen(self, note: IntArray) -> dict[str, Any]:
        """The covers of these notes: as patches, or as the tokens that frozen eyes made of them."""
        assert self._covers is not None
        if self._kept is None:
            patches, grid = self._covers.patches(note)
            return {"pixel_values": self._pixels(patches), "image_grid_thw": self._to(grid)}
        new = np.array([row for row in dict.fromkeys(note.tolist()) if row not in self._kept])
        fresh: dict[int, Tensor] = {}
        if len(new):
            patches, grid = self._covers.patches(new)
            with torch.no_grad():
                seen = self._model.backbone.get_image_features(  # type: ignore[operator]
                    self._pixels(patches), self._to(grid)
                ).pooler_output
            fresh = dict(zip(new.tolist(), seen, strict=True))
            for row, tokens in fresh.items():
                if self._kept_bytes < KEPT_TOKEN_BYTES:
                    self._kept[row] = tokens.detach().cpu()
                    self._kept_bytes += tokens.nbytes
        tokens_of = tuple(
            fresh[row] if row in fresh else self._kept[row].to(self._place) for row in note.tolist()
        )
        seen_before: Any = BaseModelOutputWithPooling
        return {"mm_encoder_outputs": {"image": seen_before(pooler_output=tokens_of)}}

    def _pixels(self, patches: NDArray[np.uint8]) -> Tensor:
        assert self._covers is not None
        return self._covers.normalised(torch.from_numpy(patches).to(self._place))

    def _to(self, array: IntArray) -> Tensor:
        return torch.from_numpy(array).to(self._place)


def train(
    notes: NoteTexts,
    reader: Reader,
    covers: Covers | None,
    fit: TextRequests,
    validation: TextRequests,
    recipe: VLMRecipe,
    *,
    device: str = "auto",
    checkpoint: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> tuple[VLMRanker, TrainingHistory]:
    """Train on the fit fold and keep the weights that are best on the validation fold.

    Args:
        notes: all notes that requests point to, as tokens of the reader.
        reader: from `new_reader` or `checkpoint_reader`.
        covers: of these notes; None for a model that sees none.
        fit: requests to learn from, each with both clicked and unclicked notes.
        validation: other requests, say the last hours before the test rows.
        recipe: the model and how to train it.
        device, checkpoint, on_progress: as in `models.loop.train`.

    Returns:
        The model, set to score, on the CPU unless it is quantised; and what happened.

    Raises:
        TooLittleData: too few requests in either fold; the message is a sentence for the user.
        ValueError: a checkpoint of another family.
    """
    require_enough(fit, validation, recipe.training)
    learner, history = loop.train(
        lambda place: VLMLearner(
            new_model(recipe, reader, place), reader, notes, covers, fit, validation, recipe, place
        ),
        recipe.training,
        device=device,
        checkpoint=checkpoint,
        on_progress=on_progress,
    )
    return learner.model, history


def scores(
    model: VLMRanker,
    reader: Reader,
    notes: NoteTexts,
    covers: Covers | None,
    requests: TextRequests,
    recipe: VLMRecipe,
    place: torch.device,
) -> FloatArray:
    """Click logits of all candidates, float64 (N,), in the order of the data."""
    model.to(place)
    return _Batches(model, reader, notes, covers, recipe, place).scores(requests)


@dataclass(frozen=True)
class Eyes:
    """The vision tower of a checkpoint: what it makes of an image, as numbers."""

    backbone: nn.Module
    shape: ImageShape
    max_tokens: int
    place: torch.device

    @classmethod
    def of_checkpoint(cls, checkpoint: str, device: str, max_tokens: int = 100) -> "Eyes":
        """Raises ValueError when it is no Qwen-VL, OSError when nothing of this name is here."""
        place = loop.device_named(device)
        backbone = _from_checkpoint(checkpoint, None, place).to(place).eval()
        return cls(
            backbone, ImageShape.of(image_processor(checkpoint, max_tokens)), max_tokens, place
        )

    def look(
        self, size: IntArray, read: Callable[[int], Image.Image], images_at_once: int = 32
    ) -> NDArray[np.float32]:
        """The mean of each image's tokens, float32 (I, H); 0 for one that is no more than a line.

        Args:
            size: int64 (I, 2), height and width in pixels.
            read: the image of a row, in RGB.
        """
        covers = Covers(size, read, self.shape, self.max_tokens)
        width = self.backbone.config.get_text_config().hidden_size  # type: ignore[union-attr, operator]
        seen = np.zeros((len(size), int(width)), dtype=np.float32)
        rows = np.flatnonzero(covers.grid[:, 0])
        with scoring(self.backbone, self.place):
            for start in range(0, len(rows), images_at_once):
                some = rows[start : start + images_at_once]
                patches, grid = covers.patches(some)
                tokens = self.backbone.get_image_features(  # type: ignore[operator]
                    covers.normalised(torch.from_numpy(patches).to(self.place)),
                    torch.from_numpy(grid).to(self.place),
                ).pooler_output
                seen[some] = [of_one.float().mean(dim=0).cpu().numpy() for of_one in tokens]
        return seen


def new_reader(tokenizer: Tokenizer, sizes: VisionLanguage) -> Reader:
    """The reader of a new model: this tokenizer with four tokens more, which stand for images."""
    own = Tokenizer.from_str(tokenizer.to_str())
    marks = (IMAGE_START, IMAGE_END, IMAGE, VIDEO)
    own.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    begin, between, pad = (_number(own, name) for name in (CLS, SEP, PAD))
    instruction = TextNumbers(own)([sizes.instruction], 256)[0]
    prompt = _prompt(own, [begin, *instruction], [between], [between], pad)
    return Reader(own, prompt, ImageShape.of(image_processor(None, sizes.max_image_tokens)))


def checkpoint_reader(sizes: VisionLanguage) -> Reader:
    """The reader of a checkpoint: its tokenizer, and the turns of a talk that it was trained on.

    Raises:
        ValueError: its tokenizer is none of a Qwen-VL.
        OSError: nothing of this name is here.
    """
    if sizes.checkpoint is None:
        raise ValueError("a new model has no tokenizer of its own")
    loaded = AutoTokenizer.from_pretrained(
        sizes.checkpoint, local_files_only=True, trust_remote_code=False
    )
    tokenizer: Tokenizer = loaded.backend_tokenizer
    known = {name: tokenizer.token_to_id(name) for name in (IMAGE_START, IMAGE_END, IMAGE, TURN)}
    if None in known.values():
        lacks = ", ".join(name for name, number in known.items() if number is None)
        raise ValueError(f"the tokenizer of {sizes.checkpoint} lacks {lacks}: it is no Qwen-VL")

    def numbers(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    head = numbers(f"{TURN}user\n{sizes.instruction}\n{QUERY_LABEL}")
    tail = numbers(f"{TURN_END}\n{TURN}assistant\n")
    pad = loaded.pad_token_id if loaded.pad_token_id is not None else tail[0]
    prompt = _prompt(tokenizer, head, numbers(NOTE_LABEL), tail, pad)
    processor = image_processor(sizes.checkpoint, sizes.max_image_tokens)
    return Reader(tokenizer, prompt, ImageShape.of(processor))


def _prompt(
    tokenizer: Tokenizer, head: list[int], middle: list[int], tail: list[int], pad: int
) -> Prompt:
    start, image, end = (_number(tokenizer, name) for name in (IMAGE_START, IMAGE, IMAGE_END))
    return Prompt(
        head=np.array(head, dtype=np.int64),
        middle=np.array(middle, dtype=np.int64),
        tail=np.array(tail, dtype=np.int64),
        image_start=start,
        image=image,
        image_end=end,
        pad=pad,
    )


def _number(tokenizer: Tokenizer, name: str) -> int:
    number = tokenizer.token_to_id(name)
    if number is None:
        raise ValueError(f"the tokenizer has no token {name}")
    return number


def new_model(recipe: VLMRecipe, reader: Reader, place: torch.device) -> VLMRanker:
    """The model of a recipe: a new head, on random weights or the checkpoint's.

    Raises:
        ValueError: the checkpoint is no Qwen-VL.
    """
    sizes = recipe.model
    if sizes.checkpoint is None:
        backbone: nn.Module = Qwen2VLModel(new_config(sizes, reader))
    else:
        backbone = _from_checkpoint(sizes.checkpoint, recipe.adapter, place)
    width = backbone.config.get_text_config().hidden_size  # type: ignore[union-attr, operator]
    if recipe.adapter is not None:
        backbone = _adapted(backbone, recipe.adapter)
    return VLMRanker(backbone, int(width), sizes.pooling, sizes.marks_matches)


def new_config(sizes: VisionLanguage, reader: Reader) -> Qwen2VLConfig:
    """Configuration of a small new Qwen2-VL."""
    half = sizes.width // sizes.n_heads // 2
    time = max(1, half // 4)
    high = (half - time) // 2
    text = {
        "vocab_size": reader.tokenizer.get_vocab_size(),
        "hidden_size": sizes.width,
        "intermediate_size": FEED_FORWARD * sizes.width,
        "num_hidden_layers": sizes.n_layers,
        "num_attention_heads": sizes.n_heads,
        "num_key_value_heads": sizes.n_heads,
        "max_position_embeddings": 4096,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10_000.0,
            "mrope_section": [time, high, half - time - high],
        },
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": reader.prompt.pad,
    }
    vision = {
        "depth": sizes.vision_layers,
        "embed_dim": sizes.vision_width,
        "hidden_size": sizes.width,
        "num_heads": sizes.vision_heads,
        "mlp_ratio": 2,
        "patch_size": reader.image_shape.patch,
        "spatial_merge_size": reader.image_shape.merge,
        "temporal_patch_size": reader.image_shape.frames,
    }
    return Qwen2VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=reader.prompt.image,
        video_token_id=_number(reader.tokenizer, VIDEO),
        vision_start_token_id=reader.prompt.image_start,
        vision_end_token_id=reader.prompt.image_end,
    )


def can_quantise(place: torch.device) -> bool:
    """Whether four bits are at hand: a GPU, and bitsandbytes installed."""
    return place.type == "cuda" and importlib.util.find_spec("bitsandbytes") is not None


def _from_checkpoint(checkpoint: str, adapter: LoRA | None, place: torch.device) -> nn.Module:
    config = AutoConfig.from_pretrained(checkpoint, local_files_only=True, trust_remote_code=False)
    if config.model_type not in FAMILIES:
        raise ValueError(
            f"{checkpoint} is a {config.model_type}; a Qwen-VL is needed: {', '.join(FAMILIES)}"
        )
    more: dict[str, Any] = {}
    if adapter is not None and adapter.quantizes and can_quantise(place):
        more = {"quantization_config": _four_bits(config), "device_map": {"": place}}
    # Frozen weights may be as small as they were trained; those that move need all digits.
    is_small = adapter is not None and place.type == "cuda"
    model: nn.Module = AutoModel.from_pretrained(
        checkpoint,
        dtype=torch.bfloat16 if is_small else torch.float32,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        **more,
    )
    return model


def _four_bits(config: Any) -> Any:
    """NF4, quantised twice, for the language layers; each layer of the eyes is named, because
    naming the tower alone does not keep it out."""
    from transformers import BitsAndBytesConfig

    model_of: Any = AutoModel.from_config
    with torch.device("meta"):
        modules = model_of(config).named_modules()
    eyes = [name for name, module in modules if isinstance(module, nn.Linear) and "visual" in name]
    quantised: Any = BitsAndBytesConfig
    return quantised(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=eyes,
    )


def _adapted(backbone: nn.Module, adapter: LoRA) -> nn.Module:
    """The backbone frozen, with trained matrices of low rank beside its language layers."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=ADAPTED,
        bias="none",
    )
    adapted: nn.Module = get_peft_model(backbone, config)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return adapted


def _family(backbone: nn.Module) -> str:
    return str(backbone.config.model_type)  # type: ignore[union-attr]


def save_model(model: VLMRanker, reader: Reader, recipe: VLMRecipe, folder: Path) -> None:
    """Write what was trained: the adapter, or the whole backbone, as safetensors; the head; and
    the tokenizer and the image processor that go with them."""
    _save_backbone(model.backbone, folder)
    _save_head(model, folder)
    _save_reader(reader, recipe, folder)


def load_model(recipe: VLMRecipe, reader: Reader, folder: Path) -> VLMRanker:
    """The model that `save_model` wrote, set to score, on the CPU."""
    sizes, backbone = recipe.model, None
    if recipe.adapter is None:
        backbone = AutoModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    else:
        from peft import PeftModel

        place = torch.device("cpu")
        if sizes.checkpoint is None:
            raise ValueError(f"{folder} holds an adapter, and the recipe names no checkpoint")
        frozen: Any = _from_checkpoint(sizes.checkpoint, recipe.adapter, place)
        backbone = PeftModel.from_pretrained(frozen, str(folder), local_files_only=True)
    width = backbone.config.get_text_config().hidden_size
    model = VLMRanker(backbone, width, sizes.pooling, sizes.marks_matches)
    _load_head(model, folder)
    return model.eval()


def export_merged(model: VLMRanker, reader: Reader, recipe: VLMRecipe, folder: Path) -> VLMRanker:
    """Work the adapter into the weights and write them as one model that transformers loads alone.

    Returns:
        The merged model; the one given is used up.
    """
    backbone: Any = model.backbone
    if recipe.adapter is not None:
        backbone = backbone.merge_and_unload()
    _save_backbone(backbone, folder)
    merged = VLMRanker(
        backbone,
        model.head.in_features,
        model.pooling,
        model.match is not None,
    )
    merged.head.load_state_dict(model.head.state_dict())
    if merged.match is not None and model.match is not None:
        merged.match.load_state_dict(model.match.state_dict())
    _save_head(merged, folder)
    _save_reader(reader, recipe, folder)
    return merged.eval()


def _save_backbone(backbone: Any, folder: Path) -> None:
    """As safetensors, without the bar that a log file would fill with."""
    bars: Any = transformers_logging
    had_bars = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        backbone.save_pretrained(folder)
    finally:
        if had_bars:
            bars.enable_progress_bar()


def _save_head(model: VLMRanker, folder: Path) -> None:
    parts = {"head": model.head, "match": model.match}
    weights = {
        f"{name}.{entry}": tensor.detach().cpu().contiguous()
        for name, part in parts.items()
        if part is not None
        for entry, tensor in part.state_dict().items()
    }
    save_file(weights, folder / HEAD)


def _load_head(model: VLMRanker, folder: Path) -> None:
    weights = load_file(folder / HEAD)
    for name, part in (("head", model.head), ("match", model.match)):
        if part is not None:
            part.load_state_dict(
                {
                    key.removeprefix(f"{name}."): tensor
                    for key, tensor in weights.items()
                    if key.startswith(f"{name}.")
                }
            )


def _save_reader(reader: Reader, recipe: VLMRecipe, folder: Path) -> None:
    wrapped: Any = PreTrainedTokenizerFast
    wrapped(tokenizer_object=reader.tokenizer).save_pretrained(folder)
    save_processor(image_processor(recipe.model.checkpoint, recipe.model.max_image_tokens), folder)
    prompt = {
        name: array.tolist() if isinstance(array, np.ndarray) else array
        for name, array in vars(reader.prompt).items()
    }
    (folder / "prompt.json").write_text(json.dumps(prompt, indent=1) + "\n", encoding="utf-8")
