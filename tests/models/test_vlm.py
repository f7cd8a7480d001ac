"""The vision-language ranker: what it reads, that it learns from covers, what is written."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers import models as tokenizer_models
from transformers import (
    AutoModel,
    BertConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLModel,
    Qwen2VLConfig,
    Qwen2VLModel,
    Qwen3VLConfig,
    Qwen3VLModel,
)

from models import vlm
from models.loop import train as run_loop
from models.ranking_data import metric_on
from models.recipes import LoRA, Training, VisionLanguage, VLMRecipe, vlm_from_checkpoint
from models.text_data import NoteTexts, TextRequests
from models.tokens import TextNumbers, count_tokenizer, lists_of, special_tokens
from models.vlm_input import Covers, ImageShape, Pairs, image_processor, put_together

WORDS = ["咖啡", "露营", "编发", "滑雪", "很好", "分享", "推荐", "今天"]
CPU = torch.device("cpu")
SIZES = VisionLanguage(
    n_layers=1, width=32, vision_width=16, max_query_tokens=6, max_note_tokens=8, instruction="很好"
)
TRAINING = Training(
    max_epochs=4,
    patience=4,
    candidates_per_batch=60,
    learning_rate=5e-3,
    min_fit_requests=20,
    min_validation_requests=5,
)
RECIPE = VLMRecipe(name="vlm", task="search", model=SIZES, list_size=5, training=TRAINING)
COUNTED = count_tokenizer(WORDS * 2)
READER = vlm.new_reader(COUNTED, SIZES)
N_NOTES = 80
# Every other note has a cover; the brightest are the clicked ones.
BRIGHTNESS = np.random.default_rng(3).integers(20, 236, N_NOTES)


def note_texts(reader: vlm.Reader, note_length: int = 3) -> NoteTexts:
    draw = np.random.default_rng(0)
    texts = ["".join(draw.choice(WORDS, note_length)) for _ in range(N_NOTES)]
    numbers = TextNumbers(reader.tokenizer)([*texts, ""], 99)
    return NoteTexts(lists_of(numbers), special_tokens(COUNTED))


def cover(row: int) -> Image.Image:
    return Image.new("RGB", (20 + row, 30), (int(BRIGHTNESS[row]),) * 3)


def covers(shape: ImageShape, sizes: VisionLanguage = SIZES) -> Covers:
    size = np.array(
        [[30, 20 + row] if row % 2 == 0 else [0, 0] for row in range(N_NOTES)] + [[0, 0]]
    )
    return Covers(size, cover, shape, sizes.max_image_tokens)


def requests(reader: vlm.Reader, n: int, seed: int) -> TextRequests:
    """Five notes with covers each, the brightest clicked; one without a cover in every other."""
    draw = np.random.default_rng(seed)
    note = 2 * np.stack([draw.choice(N_NOTES // 2, 5, replace=False) for _ in range(n)])
    labels = np.zeros((n, 5), dtype=np.float32)
    labels[np.arange(n), BRIGHTNESS[note].argmax(axis=1)] = 1
    note[::2, 4] = np.where(labels[::2, 4] > 0, note[::2, 4], note[::2, 4] + 1)
    texts = ["".join(draw.choice(WORDS, 2)) for _ in range(n)]
    return TextRequests(
        request_offsets=np.arange(0, 5 * n + 1, 5),
        labels=labels.ravel(),
        queries=lists_of(TextNumbers(reader.tokenizer)(texts, 99)),
        note=note.ravel(),
    )


NOTES = note_texts(READER)
FIT, VALIDATION = requests(READER, 120, 1), requests(READER, 40, 2)
RANDOM = metric_on(VALIDATION)(np.zeros(VALIDATION.n_candidates))


def trained(recipe: VLMRecipe, seen: Covers | None):
    return vlm.train(NOTES, READER, seen, FIT, VALIDATION, recipe, device="cpu")


@pytest.fixture(scope="module")
def with_covers():
    seen = covers(READER.image_shape)
    model, history = trained(RECIPE, seen)
    return model, history, seen


def test_it_learns_what_only_the_covers_show(with_covers) -> None:
    _, history, _ = with_covers
    assert history.best_metric > RANDOM + 0.25
    # Without covers there are the texts, by which a note can be known again; with one text for all
    # there is nothing.
    one_text = NoteTexts(lists_of([[9]] * (N_NOTES + 1)), NOTES.special)
    short = replace(RECIPE, training=replace(TRAINING, max_epochs=2))
    _, blind = vlm.train(one_text, READER, None, FIT, VALIDATION, short, device="cpu")
    assert blind.best_metric < RANDOM + 0.1


def test_alone_and_in_a_batch_the_scores_are_the_same(with_covers) -> None:
    model, _, seen = with_covers
    together = vlm.scores(model, READER, NOTES, seen, VALIDATION, RECIPE, CPU)
    alone = np.concatenate(
        [
            vlm.scores(model, READER, NOTES, seen, VALIDATION.take(np.array([r])), RECIPE, CPU)
            for r in range(VALIDATION.n_requests)
        ]
    )
    # The fifth decimal of a sum may fall on either side; the order of a request may not change.
    assert np.abs(alone - together).max() <= 2e-5
    assert (
        alone.reshape(-1, 5).argsort(axis=1, kind="stable").tolist()
        == together.reshape(-1, 5).argsort(axis=1, kind="stable").tolist()
    )


def test_a_request_is_scored_alike_whatever_stands_beside_it(with_covers) -> None:
    """A longer neighbour pads its rows."""
    model, _, seen = with_covers
    long = replace(RECIPE, model=replace(SIZES, max_note_tokens=200))
    notes = note_texts(READER)
    padded = NoteTexts(
        lists_of(
            [
                list(notes.lists.token_id[a:b]) * (40 if row == 7 else 1)
                for row, (a, b) in enumerate(
                    zip(notes.lists.offsets[:-1], notes.lists.offsets[1:], strict=True)
                )
            ]
        ),
        notes.special,
    )
    one = requests(READER, 1, 5)
    two = TextRequests(
        request_offsets=np.array([0, 5, 7]),
        labels=np.array([*one.labels, 1, 0], dtype=np.float32),
        queries=lists_of(
            [list(one.queries.token_id[: one.queries.offsets[1]]), [READER.prompt.pad + 6]]
        ),
        note=np.array([*one.note, 7, 3]),
    )
    alone = vlm.scores(model, READER, padded, seen, one, long, CPU)
    beside = vlm.scores(model, READER, padded, seen, two, long, CPU)[:5]
    assert np.abs(alone - beside).max() <= 2e-5


def test_every_parameter_changes_in_one_step() -> None:
    torch.manual_seed(1)
    model = vlm.new_model(RECIPE, READER, CPU)
    learner = vlm.VLMLearner(
        model, READER, NOTES, covers(READER.image_shape), FIT, VALIDATION, RECIPE, CPU
    )
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    (optimiser,) = learner.optimisers(TRAINING)
    torch.autograd.backward(learner.loss(learner.batches(np.random.default_rng(0))[0]))
    optimiser.step()
    unchanged = [n for n, value in model.named_parameters() if torch.equal(value, before[n])]
    assert unchanged == []


def test_batches_are_of_like_length_and_hold_every_request_once() -> None:
    notes = NoteTexts(
        lists_of([[9] * (1 + 3 * (row % 20)) for row in range(N_NOTES + 1)]), NOTES.special
    )
    recipe = replace(RECIPE, model=replace(SIZES, max_note_tokens=90))
    model = vlm.new_model(recipe, READER, CPU)
    learner = vlm.VLMLearner(model, READER, notes, None, FIT, VALIDATION, recipe, CPU)
    batches = learner.batches(np.random.default_rng(0))
    assert sorted(np.concatenate(batches)) == list(range(FIT.n_requests))
    longest = np.array([(3 * (FIT.note[5 * r : 5 * r + 5] % 20)).max() for r in range(120)])
    spread = np.mean([np.ptp(longest[batch]) for batch in batches])
    at_random = np.mean([np.ptp(longest[r : r + 12]) for r in range(0, 120, 12)])
    assert spread < at_random / 2


def test_an_interrupted_training_goes_on_to_the_same_scores(tmp_path: Path) -> None:
    short = replace(RECIPE, training=replace(TRAINING, max_epochs=2))
    seen = covers(READER.image_shape)

    def learner(place: torch.device) -> vlm.VLMLearner:
        model = vlm.new_model(short, READER, place)
        return vlm.VLMLearner(model, READER, NOTES, seen, FIT, VALIDATION, short, place)

    class Killed(Exception):
        pass

    def kill(progress) -> None:
        if progress.epoch == 2:
            raise Killed

    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Killed):
        run_loop(learner, short.training, device="cpu", checkpoint=path, on_progress=kill)
    resumed, _ = run_loop(learner, short.training, device="cpu", checkpoint=path)
    whole, _ = run_loop(learner, short.training, device="cpu")
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


def test_weights_come_back(with_covers, tmp_path: Path) -> None:
    model, _, seen = with_covers
    vlm.save_model(model, READER, RECIPE, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"model.safetensors", "head.safetensors", "tokenizer.json"} <= names
    assert {"preprocessor_config.json", "prompt.json", "config.json"} <= names
    read = vlm.load_model(RECIPE, READER, tmp_path)
    expected = vlm.scores(model, READER, NOTES, seen, VALIDATION, RECIPE, CPU)
    assert vlm.scores(read, READER, NOTES, seen, VALIDATION, RECIPE, CPU).tolist() == (
        expected.tolist()
    )
    assert isinstance(AutoModel.from_pretrained(tmp_path), Qwen2VLModel)


def whole(pairs: Pairs, b: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens (1, L) and positions (3, 1, L) of one pair, without padding."""
    parts = ((pairs.shared, pairs.request[b]), (pairs.own, b))
    token_id = [part.token_id[row][part.is_token[row] > 0] for part, row in parts]
    position = [part.position[:, row][:, part.is_token[row] > 0] for part, row in parts]
    return (
        torch.from_numpy(np.concatenate(token_id))[None],
        torch.from_numpy(np.concatenate(position, axis=1))[:, None],
    )


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_a_shared_beginning_changes_no_score_and_no_gradient(pooling: str) -> None:
    """Against the backbone on each pair alone, whole, with positions of its own."""
    recipe = replace(RECIPE, model=replace(SIZES, pooling=pooling, marks_matches=False))
    torch.manual_seed(4)
    model = vlm.new_model(recipe, READER, CPU).double()
    seen, data = covers(READER.image_shape), requests(READER, 6, 7)
    learner = vlm.VLMLearner(model, READER, NOTES, seen, data, data, recipe, CPU)
    request, note, n_max = data.request_index, data.note, (6, 8)
    grid = seen.token_grid(note)
    pairs = put_together(READER.prompt, data.queries, request, NOTES.lists, note, grid, n_max)
    states = []
    for b in range(len(note)):
        token_id, position = whole(pairs, b)
        patches, patch_grid = seen.patches(note[b : b + 1]) if grid[b, 0] else (None, None)
        images = {} if patches is None else {
            "pixel_values": seen.normalised(torch.from_numpy(patches)).double(),
            "image_grid_thw": torch.from_numpy(patch_grid),
        }  # fmt: skip
        hidden = model.backbone(input_ids=token_id, position_ids=position, **images)
        hidden = hidden.last_hidden_state[0]
        states.append(hidden[-1] if pooling == "last" else hidden.mean(dim=0))
    model.head.float()
    expected = model.head(torch.stack(states).float())[:, 0]
    found = model(learner._batches.batch(data, request, note))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    gradients = []
    for score in (found, expected):
        model.zero_grad()
        torch.autograd.backward((score * torch.arange(len(score))).sum())
        gradients.append(
            [p.grad.clone() for p in model.backbone.parameters() if p.grad is not None]
        )
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_a_backbone_that_recomputes_is_refused() -> None:
    """It drops what it read of the beginning, and would score notes without a query."""
    model = vlm.new_model(RECIPE, READER, CPU).train()
    model.backbone.gradient_checkpointing_enable()
    learner = vlm.VLMLearner(model, READER, NOTES, None, FIT, VALIDATION, RECIPE, CPU)
    with pytest.raises(ValueError, match="set to recompute"):
        learner.loss(learner.batches(np.random.default_rng(0))[0])


class TestInput:
    """Prompts and patches."""

    def pairs(self, grid, n_max=(6, 8)):
        query = lists_of([[20, 21, 22, 23, 24, 25, 26, 27], [20]])
        note = lists_of([[30, 21, 32, 33, 34, 35, 36, 37, 38, 39], [40]])
        rows = np.arange(2)
        return put_together(READER.prompt, query, rows, note, rows, np.array(grid), n_max)

    def test_a_long_note_costs_neither_instruction_nor_query_nor_end(self) -> None:
        prompt = READER.prompt
        pairs = self.pairs([[1, 2], [0, 0]])
        marks = [prompt.image_start, prompt.image, prompt.image, prompt.image_end]
        note = [30, 21, 32, 33, 34, 35, 36, 37]
        assert pairs.shared.token_id[0].tolist() == [*prompt.head, *range(20, 26), *prompt.middle]
        assert pairs.own.token_id[0].tolist() == [*marks, *note, *prompt.tail]
        assert len(prompt.head) == 3, "the instruction is there"
        assert pairs.is_match[0].nonzero()[0].tolist() == [len(marks) + 1]

    def test_a_note_without_a_cover_has_no_token_for_it(self) -> None:
        prompt = READER.prompt
        own = self.pairs([[2, 2], [0, 0]]).own
        length = 1 + len(prompt.tail)
        assert own.is_token[1].sum() == length
        assert prompt.image not in own.token_id[1]
        assert set(own.token_id[1, length:]) == {prompt.pad}

    def test_what_candidates_begin_with_is_there_once(self) -> None:
        query, note = lists_of([[20], [21, 22], [23]]), lists_of([[30], [31]])
        rows, no_cover = np.array([2, 1, 1, 2]), np.zeros((4, 2), dtype=np.int64)
        notes = np.array([0, 1, 0, 1])
        pairs = put_together(READER.prompt, query, rows, note, notes, no_cover, (6, 8))
        assert len(pairs.shared.token_id) == 2
        assert pairs.request.tolist() == [1, 0, 0, 1]
        first = len(READER.prompt.head)
        assert pairs.shared.token_id[:, first].tolist() == [21, 23]
        assert pairs.own.token_id[:, 0].tolist() == [30, 31, 30, 31]

    def test_positions_are_those_of_the_model(self) -> None:
        pairs = self.pairs([[2, 1], [1, 3]])
        model = Qwen2VLModel(vlm.new_config(SIZES, READER))
        for b, grid in enumerate(([1, 4, 2], [1, 2, 6])):
            token_id, position = whole(pairs, b)
            expected, _ = model.get_rope_index(
                token_id,
                mm_token_type_ids=(token_id == READER.prompt.image).int(),
                image_grid_thw=torch.tensor([grid]),
                attention_mask=torch.ones_like(token_id),
            )
            assert position.tolist() == expected.tolist()

    @pytest.mark.parametrize("size", [(32, 32), (300, 200), (64, 90), (20, 30), (40, 160)])
    def test_patches_are_those_of_the_processor(self, size: tuple[int, int]) -> None:
        draw = np.random.default_rng(0)
        image = Image.fromarray(draw.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))
        processor = image_processor(None, 12)
        shape = ImageShape.of(processor)
        seen = Covers(np.array([[size[1], size[0]]]), lambda row: image, shape, 12)
        patches, grid = seen.patches(np.array([0]))
        expected = processor(images=[image], return_tensors="pt")
        assert grid.tolist() == expected["image_grid_thw"].tolist()
        found = seen.normalised(torch.from_numpy(patches))
        torch.testing.assert_close(found, expected["pixel_values"])

    @pytest.mark.parametrize("size", [(1, 1), (9, 9), (4000, 100), (100, 9000), (3000, 4000)])
    def test_no_cover_is_dearer_than_the_budget(self, size: tuple[int, int]) -> None:
        shape = ImageShape.of(image_processor(None, 6))
        seen = Covers(np.array([size, (0, 0)]), cover, shape, 6)
        grid = seen.token_grid(np.array([0, 1]))
        assert 1 <= grid[0].prod() <= 6
        assert grid[1].tolist() == [0, 0]
        if 100 in size:
            assert (grid[0][0] > grid[0][1]) == (size[0] > size[1]), "proportions are kept"

    def test_a_cover_is_opened_once_and_only_when_needed(self) -> None:
        opened: list[int] = []

        def read(row: int) -> Image.Image:
            opened.append(row)
            return cover(row)

        seen = Covers(np.array([[30, 20], [30, 21], [0, 0]]), read, READER.image_shape, 4)
        seen.token_grid(np.array([0, 1, 2]))
        assert opened == []
        for _ in range(2):
            seen.patches(np.array([1, 1]))
        assert opened == [1]


TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
}
FAMILIES = {
    "qwen2_vl": (
        Qwen2VLConfig,
        Qwen2VLModel,
        {"depth": 1, "embed_dim": 16, "hidden_size": 32, "num_heads": 2},
    ),
    "qwen2_5_vl": (
        Qwen2_5_VLConfig,
        Qwen2_5_VLModel,
        {
            "depth": 1,
            "hidden_size": 16,
            "out_hidden_size": 32,
            "num_heads": 2,
            "intermediate_size": 32,
            "fullatt_block_indexes": [0],
        },
    ),
    "qwen3_vl": (
        Qwen3VLConfig,
        Qwen3VLModel,
        {
            "depth": 2,
            "hidden_size": 16,
            "out_hidden_size": 32,
            "num_heads": 2,
            "intermediate_size": 32,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
    ),
}


def write_checkpoint(folder: Path, family: str) -> None:
    """A tiny Qwen-VL as `hf download` leaves one: byte-level tokens, processor, weights."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(tokenizer_models.BPE({c: i for i, c in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    marks = (vlm.IMAGE_START, vlm.IMAGE_END, vlm.IMAGE, vlm.VIDEO, vlm.TURN, vlm.TURN_END)
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in marks])
    number = tokenizer.token_to_id
    config_of, model_of, vision = FAMILIES[family]
    text = TEXT | {"vocab_size": tokenizer.get_vocab_size()}
    if family == "qwen3_vl":
        text |= {"head_dim": 16}
    config = config_of(
        text_config=text,
        vision_config=vision | {"patch_size": 16 if family == "qwen3_vl" else 14},
        image_token_id=number(vlm.IMAGE),
        video_token_id=number(vlm.VIDEO),
        vision_start_token_id=number(vlm.IMAGE_START),
        vision_end_token_id=number(vlm.IMAGE_END),
    )
    torch.manual_seed(3)
    model_of(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=vlm.TURN_END).save_pretrained(
        folder
    )
    processor = image_processor(None, 4)
    if family == "qwen3_vl":
        processor.patch_size, processor.image_mean = 16, [0.5, 0.5, 0.5]
    processor.save_pretrained(folder)


def on_checkpoint(folder: Path) -> tuple[VLMRecipe, vlm.Reader]:
    recipe = vlm_from_checkpoint(RECIPE, str(folder))
    training = replace(
        TRAINING, max_epochs=1, candidates_per_batch=60, learning_rate=1e-2, precision="bf16"
    )
    sizes = replace(recipe.model, max_query_tokens=12, max_note_tokens=12, max_image_tokens=4)
    recipe = replace(recipe, model=sizes, training=training)
    return recipe, vlm.checkpoint_reader(recipe.model)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_of_each_family_is_trained_saved_and_merged(
    family: str, tmp_path: Path
) -> None:
    write_checkpoint(tmp_path / "base", family)
    recipe, reader = on_checkpoint(tmp_path / "base")
    assert recipe.adapter == LoRA(rank=16)
    notes, seen = note_texts(reader), covers(reader.image_shape, recipe.model)
    fit, validation = requests(reader, 24, 1), requests(reader, 8, 2)
    model, history = vlm.train(notes, reader, seen, fit, validation, recipe, device="cpu")
    assert np.isfinite(history.best_metric)
    # Trained is the adapter of the language layers and the head; all else is the checkpoint's.
    state = model.state_dict()
    assert {name.split(".")[-2] for name in state} == {"default", "head"}
    assert all("language_model" in name for name in state if not name.startswith("head"))
    frozen = dict(AutoModel.from_pretrained(tmp_path / "base").named_parameters())
    for name, parameter in model.named_parameters():
        own = name.removeprefix("backbone.base_model.model.").replace(".base_layer", "")
        if own in frozen:
            assert torch.equal(parameter, frozen[own]), name
    expected = vlm.scores(model, reader, notes, seen, validation, recipe, CPU)
    assert len(set(expected.tolist())) > 1

    for folder in ("adapter", "merged"):
        (tmp_path / folder).mkdir()
    vlm.save_model(model, reader, recipe, tmp_path / "adapter")
    with safe_open(tmp_path / "adapter" / "adapter_model.safetensors", "pt") as file:
        assert all("lora_" in name for name in file.keys())  # noqa: SIM118
    read = vlm.load_model(recipe, reader, tmp_path / "adapter")
    again = vlm.scores(read, reader, notes, seen, validation, recipe, CPU)
    assert again.tolist() == expected.tolist()

    merged = vlm.export_merged(read, reader, recipe, tmp_path / "merged")
    found = vlm.scores(merged, reader, notes, seen, validation, recipe, CPU)
    assert np.abs(found - expected).max() < 1e-3
    alone = AutoModel.from_pretrained(tmp_path / "merged")
    assert type(alone) is FAMILIES[family][1]


def test_tokens_that_frozen_eyes_keep_are_those_they_see(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "qwen2_vl")
    recipe, reader = on_checkpoint(tmp_path)
    notes, seen = note_texts(reader), covers(reader.image_shape, recipe.model)
    validation = requests(reader, 8, 2)
    model = vlm.new_model(recipe, reader, CPU)
    assert model.has_frozen_eyes
    kept = vlm.scores(model, reader, notes, seen, validation, recipe, CPU)
    # Eyes that can change are asked anew in each batch.
    next(p for n, p in model.named_parameters() if "visual" in n).requires_grad_(True)
    asked = vlm.scores(model, reader, notes, seen, validation, recipe, CPU)
    assert np.abs(kept - asked).max() <= 2e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_eyes_of_a_checkpoint_look_at_each_image_alike(family: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, family)
    eyes = vlm.Eyes.of_checkpoint(str(tmp_path), "cpu", max_tokens=4)
    size = np.array([[30, 20 + row] for row in range(5)] + [[1, 4000]])
    together = eyes.look(size, cover)
    assert together.shape == (6, 32)
    assert np.abs(eyes.look(size, cover, images_at_once=2) - together).max() < 1e-5
    assert together[5].tolist() == [0] * 32, "a line is no image"
    assert np.abs(together[0] - together[1]).max() > 0


def test_what_is_no_qwen_vl_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "qwen2_vl")
    recipe, reader = on_checkpoint(tmp_path)
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"is a bert; a Qwen-VL is needed"):
        vlm.new_model(recipe, reader, CPU)
    PreTrainedTokenizerFast(tokenizer_object=COUNTED).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"lacks .*vision_start.*: it is no Qwen-VL"):
        vlm.checkpoint_reader(recipe.model)
