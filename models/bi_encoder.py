"""Bi-encoder: one BERT embeds queries and notes apart, and the angle between them is the score.

Source: Karpukhin et al., EMNLP 2020 (dense passages, in-batch negatives), with normalised
embeddings and a temperature (Radford et al., ICML 2021).

Shapes: B = texts of a batch, H = width, R = requests of a batch, C = different notes of a batch,
P = positives of a batch, N = candidates of all requests.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertModel

from models import loop
from models.array_file import array_file, whole_file
from models.encoder import (
    SCORE_DECIMALS,
    TOKENS_PER_SCORED_BATCH,
    WEIGHTS,
    by_length,
    encoder_config,
    new_bert,
    save,
    scoring,
    tensors,
)
from models.loop import Progress, TrainingHistory, device_named
from models.losses import ranking_loss
from models.metrics import FloatArray
from models.ranking_data import require_enough, rows_of_requests, validation_metric
from models.recipes import BiEncoderRecipe, Training
from models.text_data import IntArray, NoteTexts, TextRequests, adamw, clicks_counted, drawn
from models.tokens import Sequences, SpecialTokens, TokenLists, single

# As Radford et al.: a smaller temperature makes training unstable.
SMALLEST_TEMPERATURE = 0.01
NOTES_PER_SHARD = 65_536
EMBEDDINGS = "note_embedding.npy"
LOOK = "look.safetensors"


class BiEncoder(nn.Module):
    """A BERT, pooled and normalised, and the temperature of its cosines."""

    def __init__(
        self,
        bert: BertModel,
        pooling: Literal["mean", "cls"],
        temperature: float,
        learns_temperature: bool,
        n_visual: int = 0,
    ) -> None:
        super().__init__()
        self.bert = bert
        width_H = bert.config.hidden_size
        self.look = nn.Linear(n_visual, width_H, bias=False) if n_visual else None
        self.pooling = pooling
        self.log_scale = nn.Parameter(
            torch.tensor(-math.log(temperature)), requires_grad=learns_temperature
        )

    def forward(self, sequences: dict[str, Tensor], visual_BK: Tensor | None = None) -> Tensor:
        """Embeddings of unit length, float32 (B, H); of notes also by the looks of their covers."""
        hidden_BLH = self.bert(**sequences).last_hidden_state.float()
        if self.pooling == "cls":
            text_BH = hidden_BLH[:, 0]
        else:
            is_token_BL1 = sequences["attention_mask"][:, :, None].float()
            text_BH = (hidden_BLH * is_token_BL1).sum(dim=1)
        if self.look is None or visual_BK is None:
            return functional.normalize(text_BH, dim=1)
        # Of one length, so that a look does not drown in a long text.
        return functional.normalize(
            functional.normalize(text_BH, dim=1) + self.look(visual_BK).float(), dim=1
        )

    def scale(self) -> Tensor:
        """What cosines are multiplied by: one over the temperature."""
        return self.log_scale.clamp(max=-math.log(SMALLEST_TEMPERATURE)).exp()


@dataclass(frozen=True)
class Negatives:
    """How many notes a positive was told from in one epoch, by where they come from.

    Attributes:
        exposed: notes shown in the request and not clicked.
        bm25: notes that BM25 finds for the query among all.
        in_batch: notes of the other requests of a batch.
        masked: clicked notes of the request that stood in its batch and were left out.
    """

    exposed: int
    bm25: int
    in_batch: int
    masked: int


@dataclass(frozen=True)
class FoundNotes:
    """Notes that another ranker found for each fit request, best first; clicked ones are left out.

    Attributes:
        offsets: int64 (R + 1,).
        note: int64, rows of the notes.
        n_clicked: how many of the found were clicked in the request and so are no negatives.
    """

    offsets: IntArray
    note: IntArray
    n_clicked: int

    @classmethod
    def without_clicked(cls, found: Sequence[IntArray], requests: TextRequests) -> "FoundNotes":
        """Of each request's list what the request did not click."""
        kept, n_clicked = [], 0
        for number, notes in enumerate(found):
            start, end = requests.request_offsets[number : number + 2]
            clicked = requests.note[start:end][requests.labels[start:end] > 0]
            is_clicked = np.isin(notes, clicked)
            kept.append(notes[~is_clicked])
            n_clicked += int(is_clicked.sum())
        offsets = np.cumsum([0, *map(len, kept)], dtype=np.int64)
        none = np.zeros(0, dtype=np.int64)
        return cls(offsets, np.concatenate([none, *kept]), n_clicked)


@dataclass(frozen=True)
class _Epoch:
    """What was drawn for one epoch: rows of the fit candidates, rows of the found notes."""

    positive: IntArray
    positive_offsets: IntArray
    exposed: IntArray
    exposed_offsets: IntArray
    found: IntArray
    found_offsets: IntArray


@dataclass(frozen=True)
class _Batch:
    """R requests and the C notes they are told from.

    ``target`` (R,) is the note of each request's positive, ``counted`` (R,) what its click counts
    as, where that is not 1; ``is_masked`` (R, C) are its other clicks.
    """

    requests: IntArray
    notes: IntArray
    target: IntArray
    is_masked: NDArray[np.bool_]
    counted: NDArray[np.float32] | None


class BiEncoderLearner:
    """The bi-encoder with its folds, for `models.loop.train`.

    Per request and epoch one clicked note is drawn, and told by a softmax from all notes of the
    batch but the other clicked ones of the request: those of the other requests, exposed and not
    clicked ones, and ones that BM25 found.
    """

    model: BiEncoder

    def __init__(
        self,
        model: BiEncoder,
        notes: NoteTexts,
        fit: TextRequests,
        validation: TextRequests,
        found: FoundNotes,
        recipe: BiEncoderRecipe,
        place: torch.device,
    ) -> None:
        self.model = model.to(place)
        self.n_fit_requests, self.n_validation_requests = fit.n_requests, validation.n_requests
        self._notes, self._fit, self._validation = notes, fit, validation
        self._found, self._recipe, self._place = found, recipe, place
        self._metric = validation_metric(validation, recipe.training)
        self._counted = clicks_counted(fit, recipe.training)
        correction = recipe.training.correction
        if (
            correction is not None
            and correction.self_normalised
            and recipe.training.loss == "listwise"
        ):
            raise ValueError(
                "a bi-encoder learns from one click of a request at a time: weights that sum to 1 "
                "in each request would all be 1; set self_normalised to False"
            )
        self._epoch: _Epoch | None = None

    def optimisers(self, training: Training) -> Sequence[torch.optim.Optimizer]:
        return adamw(self.model, training)

    def batches(self, order: np.random.Generator) -> list[IntArray]:
        recipe, fit = self._recipe, self._fit
        clicked = fit.labels > 0
        every_found = np.ones(len(self._found.note), dtype=bool)
        self._epoch = _Epoch(
            *drawn(order, fit.request_offsets, clicked, 1),
            *drawn(order, fit.request_offsets, ~clicked, recipe.exposed_negatives),
            *drawn(order, self._found.offsets, every_found, recipe.bm25_negatives),
        )
        per_request = 1 + recipe.exposed_negatives + recipe.bm25_negatives
        n_requests = max(2, recipe.training.candidates_per_batch // per_request)
        requests = order.permutation(fit.n_requests)
        return [
            requests[start : start + n_requests] for start in range(0, len(requests), n_requests)
        ]

    def loss(self, requests: IntArray) -> Tensor:
        batch = self._batch(requests)
        encoder = self._recipe.encoder
        special = self._notes.special
        query_RH = self._embed(
            single(special, self._fit.queries, requests, encoder.max_query_tokens)
        )
        note_CH = self._embed(
            single(special, self._notes.lists, batch.notes, encoder.max_note_tokens),
            _looks(self._notes, batch.notes, self._place),
        )
        request, note = np.nonzero(~batch.is_masked)
        is_target = note == batch.target[request]
        request_B, note_B, label_B = (
            torch.from_numpy(array).to(self._place)
            for array in (request, note, is_target.astype(np.float32))
        )
        lists = (label_B, request_B, note_B, len(requests))
        corrected_B = None
        if batch.counted is not None:
            corrected = np.where(is_target, batch.counted[request], np.float32(0))
            corrected_B = torch.from_numpy(corrected).to(self._place)
        # Half precision would blur cosines that the scale then tells apart.
        with torch.autocast(self._place.type, enabled=False):
            score_RC = self.model.scale() * query_RH @ note_CH.T
            return ranking_loss(
                self._recipe.training.loss,
                score_RC[request_B, note_B],
                *lists,
                corrected_B=corrected_B,
                self_normalised=False,
            )

    def validation_scores(self, requests: IntArray) -> FloatArray:
        part = self._validation.take(requests)
        return scores(self.model, self._notes, part, self._recipe, self._place)

    def metric(self, scores: FloatArray) -> float:
        return self._metric(scores)

    def negatives(self, order: np.random.Generator) -> Negatives:
        """Counted over the epoch that this order gives."""
        n_exposed = n_found = n_in_batch = n_masked = 0
        for requests in self.batches(order):
            batch = self._batch(requests)
            epoch = self._drawn()
            n_all = len(requests) * (len(batch.notes) - 1) - int(batch.is_masked.sum())
            exposed, exposed_of = self._notes_of(epoch.exposed, epoch.exposed_offsets, requests)
            found, found_of = self._found_of(requests)
            own = {*zip(exposed_of.tolist(), exposed.tolist(), strict=True)}
            own_found = {*zip(found_of.tolist(), found.tolist(), strict=True)} - own
            n_exposed += len(own)
            n_found += len(own_found)
            n_in_batch += n_all - len(own) - len(own_found)
            n_masked += int(batch.is_masked.sum())
        return Negatives(n_exposed, n_found, n_in_batch, n_masked)

    def _batch(self, requests: IntArray) -> _Batch:
        epoch, fit = self._drawn(), self._fit
        at, _ = rows_of_requests(epoch.positive_offsets, requests)
        positive = fit.note[epoch.positive[at]]
        counted = None if self._counted is None else self._counted[epoch.positive[at]]
        exposed, _ = self._notes_of(epoch.exposed, epoch.exposed_offsets, requests)
        found, _ = self._found_of(requests)
        notes = np.unique(np.concatenate([positive, exposed, found]))
        target = np.searchsorted(notes, positive)
        # A note that was clicked is no negative of its request, whoever brought it into the batch.
        rows, offsets = rows_of_requests(fit.request_offsets, requests)
        of_request = np.repeat(np.arange(len(requests)), np.diff(offsets))
        is_clicked = fit.labels[rows] > 0
        clicked, of_request = fit.note[rows][is_clicked], of_request[is_clicked]
        column = np.minimum(np.searchsorted(notes, clicked), len(notes) - 1)
        is_here = notes[column] == clicked
        is_masked = np.zeros((len(requests), len(notes)), dtype=bool)
        is_masked[of_request[is_here], column[is_here]] = True
        is_masked[np.arange(len(requests)), target] = False
        return _Batch(requests, notes, target, is_masked, counted)

    def _notes_of(
        self, drawn_rows: IntArray, offsets: IntArray, requests: IntArray
    ) -> tuple[IntArray, IntArray]:
        at, of = rows_of_requests(offsets, requests)
        return self._fit.note[drawn_rows[at]], np.repeat(np.arange(len(requests)), np.diff(of))

    def _found_of(self, requests: IntArray) -> tuple[IntArray, IntArray]:
        epoch = self._drawn()
        at, of = rows_of_requests(epoch.found_offsets, requests)
        return self._found.note[epoch.found[at]], np.repeat(np.arange(len(requests)), np.diff(of))

    def _drawn(self) -> _Epoch:
        if self._epoch is None:
            raise ValueError("batches() draws what an epoch learns from; it was not called")
        return self._epoch

    def _embed(self, sequences: Sequences, visual: Tensor | None = None) -> Tensor:
        embedded: Tensor = self.model(tensors(sequences, self._place), visual)
        return embedded


def train(
    notes: NoteTexts,
    n_vocabulary: int,
    fit: TextRequests,
    validation: TextRequests,
    found: FoundNotes,
    recipe: BiEncoderRecipe,
    *,
    device: str = "auto",
    checkpoint: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> tuple[BiEncoder, Negatives, TrainingHistory]:
    """Train on the fit fold and keep the weights that are best on the validation fold.

    Args:
        notes: all notes that requests point to.
        n_vocabulary: of their tokenizer.
        fit: requests to learn from, each with both clicked and unclicked notes.
        validation: other requests, say the last hours before the test rows.
        found: hard negatives for the fit requests.
        recipe: the model, its negatives and how to train it.
        device, checkpoint, on_progress: as in `models.loop.train`.

    Returns:
        The model on the CPU, the negatives of the first epoch, and what happened.

    Raises:
        TooLittleData: too few requests in either fold; the message is a sentence for the user.
        ValueError: a checkpoint that is no BERT or of another vocabulary.
    """
    require_enough(fit, validation, recipe.training)
    learner, history = loop.train(
        lambda place: BiEncoderLearner(
            new_model(recipe, n_vocabulary, notes.special, notes.n_visual),
            notes,
            fit,
            validation,
            found,
            recipe,
            place,
        ),
        recipe.training,
        device=device,
        checkpoint=checkpoint,
        on_progress=on_progress,
    )
    counted = learner.negatives(np.random.default_rng(recipe.training.seed))
    return learner.model.cpu(), counted, history


def new_model(
    recipe: BiEncoderRecipe, n_vocabulary: int, special: SpecialTokens, n_visual: int = 0
) -> BiEncoder:
    """The model of a recipe, with random weights or its checkpoint's."""
    config = encoder_config(recipe.encoder, n_vocabulary, special)
    return BiEncoder(
        new_bert(recipe.encoder, config),
        recipe.pooling,
        recipe.temperature,
        recipe.learns_temperature,
        n_visual,
    )


def scores(
    model: BiEncoder,
    notes: NoteTexts,
    requests: TextRequests,
    recipe: BiEncoderRecipe,
    place: torch.device,
) -> FloatArray:
    """Cosines of all candidates with their query, by the temperature; float64 (N,).

    Each note is embedded once, however often it is a candidate.
    """
    encoder = recipe.encoder
    known, which = np.unique(requests.note, return_inverse=True)
    note_CH = embed(model, notes, notes.lists, known, encoder.max_note_tokens, place)
    rows = np.arange(requests.n_requests)
    query_RH = embed(model, notes, requests.queries, rows, encoder.max_query_tokens, place)
    cosine_N = np.einsum("nh,nh->n", note_CH[which], query_RH[requests.request_index])
    scale = float(model.scale().detach())
    score_N: FloatArray = np.round(cosine_N.astype(np.float64) * scale, SCORE_DECIMALS)
    return score_N


def embed(
    model: BiEncoder,
    notes: NoteTexts,
    texts: TokenLists,
    rows: IntArray,
    n_max: int,
    place: torch.device,
) -> NDArray[np.float32]:
    """Embeddings of these rows of the texts, float32 (B, H), in their order."""
    model.to(place)
    embedded = np.zeros((len(rows), model.bert.config.hidden_size), dtype=np.float32)
    with scoring(model, place):
        for part in by_length(texts.lengths(rows, n_max) + 2, TOKENS_PER_SCORED_BATCH):
            sequences = single(notes.special, texts, rows[part], n_max)
            looks = _looks(notes, rows[part], place) if texts is notes.lists else None
            embedded[part] = model(tensors(sequences, place), looks).cpu().numpy()
    return embedded


def _looks(notes: NoteTexts, rows: IntArray, place: torch.device) -> Tensor | None:
    """What the covers of these notes look like, (B, K)."""
    if notes.visual is None:
        return None
    return torch.from_numpy(notes.visual[rows]).to(place)


def embed_notes(
    model: BiEncoder,
    notes: NoteTexts,
    n_notes: int,
    n_max: int,
    folder: Path,
    *,
    device: str = "auto",
    shard_size: int = NOTES_PER_SHARD,
    report: Callable[[int], None] = lambda n_done: None,
) -> Path:
    """Embed the first n_notes notes into ``folder``/note_embedding.npy, float16 (n_notes, H).

    Shards are written one by one, each whole or not at all. A run that was killed goes on after
    the last one: the folder must be for this model alone.

    Returns:
        The file, to be memory-mapped.
    """
    place = device_named(device)
    folder.mkdir(parents=True, exist_ok=True)
    whole = folder / EMBEDDINGS
    if whole.exists():
        return whole
    width_H = model.bert.config.hidden_size
    starts = range(0, n_notes, shard_size)
    shards = [folder / f"shard-{number:05}.npy" for number in range(len(starts))]
    for start, shard in zip(starts, shards, strict=True):
        rows = np.arange(start, min(start + shard_size, n_notes))
        if not shard.exists():
            embedded = embed(model, notes, notes.lists, rows, n_max, place)
            _save_whole(shard, [embedded.astype(np.float16)], width_H)
        report(int(rows[-1]) + 1)
    parts = (np.load(shard, mmap_mode="r") for shard in shards)
    _save_whole(whole, parts, width_H)
    for shard in shards:
        shard.unlink()
    return whole


def save_model(model: BiEncoder, tokenizer: Tokenizer, folder: Path) -> None:
    """Write weights.safetensors, config.json and tokenizer.json.

    The weights are those of the BERT; config.json has pooling and temperature besides. What looks
    at covers stands in look.safetensors.
    """
    if model.look is not None:
        save_file({"weight": model.look.weight.detach().cpu().contiguous()}, folder / LOOK)
    save(
        model.bert.state_dict(),
        model.bert.config,
        tokenizer,
        folder,
        architectures=["BertModel"],
        pooling=model.pooling,
        cosine_temperature=1 / float(model.scale().detach()),
    )


def load_model(folder: Path) -> BiEncoder:
    """The model that `save_model` wrote, set to score."""
    config = BertConfig.from_pretrained(folder, local_files_only=True)
    bert = BertModel(config, add_pooling_layer=False)
    bert.load_state_dict(load_file(folder / WEIGHTS))
    look = load_file(folder / LOOK) if (folder / LOOK).exists() else None
    model = BiEncoder(
        bert,
        config.pooling,
        config.cosine_temperature,
        learns_temperature=False,
        n_visual=0 if look is None else look["weight"].shape[1],
    )
    if model.look is not None and look is not None:
        model.look.load_state_dict(look)
    return model.eval()


def counted_negatives(negatives: Negatives, found: FoundNotes) -> dict[str, int]:
    """Negatives of an epoch by source, and the found ones left out as clicked."""
    return asdict(negatives) | {"bm25_clicked_left_out": found.n_clicked}


def _save_whole(path: Path, parts: Iterable[NDArray[np.float16]], width_H: int) -> None:
    """Write the parts one after the other as one array; the file is there whole or not at all."""
    with whole_file(path) as aside, array_file(aside, np.float16, (width_H,)) as append:
        for part in parts:
            append(part)
