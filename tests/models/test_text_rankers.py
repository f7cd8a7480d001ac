"""Bi-encoder and cross-encoder: what they learn from, that all of it moves, what is written."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertModel,
)

from models import bi_encoder, cross_encoder, recipes
from models.encoder import by_length, checkpoint_tokenizer, encoder_config
from models.loop import train as run_loop
from models.ranking_data import TooLittleData, metric_on
from models.recipes import BiEncoderRecipe, CrossEncoderRecipe, Encoder, TextRecipe
from models.text_data import NoteTexts, TextRequests, drawn
from models.tokens import (
    TextNumbers,
    TokenLists,
    count_tokenizer,
    lists_of,
    special_tokens,
)

N_TOPICS = 8
TOPICS = ["咖啡", "露营", "编发", "滑雪", "串珠", "面试", "钢琴", "租房"]
NAMES = ["拿铁", "帐篷", "辫子", "雪板", "手工", "求职", "琴谱", "中介"]
FILLERS = ["很好", "分享", "推荐", "真的", "今天"]
ENCODER = Encoder(n_layers=1, width=32, dropout=0.0, max_query_tokens=8, max_note_tokens=12)
TRAINING = recipes.Training(
    max_epochs=6,
    patience=6,
    candidates_per_batch=128,
    learning_rate=5e-3,
    min_fit_requests=20,
    min_validation_requests=5,
)
BI = BiEncoderRecipe(name="bi", task="search", encoder=ENCODER, training=TRAINING)
CROSS = CrossEncoderRecipe(
    name="cross", task="search", encoder=ENCODER, list_size=4, training=TRAINING
)
LONGER = replace(CROSS, training=replace(TRAINING, max_epochs=12, patience=12))
BOTH = pytest.mark.parametrize("recipe", [BI, CROSS], ids=["bi", "cross"])
CPU = torch.device("cpu")

TOKENIZER = count_tokenizer([*TOPICS, *NAMES, *FILLERS] * 2)
N_VOCABULARY = TOKENIZER.get_vocab_size()
NUMBERS = TextNumbers(TOKENIZER)
N_NOTES = 20 * N_TOPICS


def note_texts() -> NoteTexts:
    """Twenty notes a topic, half of which name it otherwise than a query does; and an empty one."""
    draw = np.random.default_rng(0)
    texts = [
        FILLERS[draw.integers(5)]
        + (NAMES, TOPICS)[note // N_TOPICS % 2][note % N_TOPICS]
        + FILLERS[draw.integers(5)]
        for note in range(N_NOTES)
    ]
    return NoteTexts(lists_of(NUMBERS([*texts, ""], 99)), special_tokens(TOKENIZER))


def requests(n: int, seed: int) -> TextRequests:
    """Five notes each, of which those of the query's topic (one or two) are clicked."""
    draw = np.random.default_rng(seed)
    topic = draw.integers(0, N_TOPICS, n)
    note = draw.integers(0, N_NOTES, (n, 5))
    note[:, 0] = topic + N_TOPICS * draw.integers(0, 10, n)
    note[:, 1] = (topic + 1) % N_TOPICS + N_TOPICS * draw.integers(10, 20, n)
    note = draw.permuted(note, axis=1)
    return TextRequests(
        request_offsets=np.arange(0, 5 * n + 1, 5),
        labels=(note % N_TOPICS == topic[:, None]).astype(np.float32).ravel(),
        queries=lists_of(NUMBERS([TOPICS[t] for t in topic], 99)),
        note=note.ravel(),
    )


NOTES = note_texts()
FIT, VALIDATION = requests(150, 1), requests(40, 2)
RANDOM = metric_on(VALIDATION)(np.zeros(VALIDATION.n_candidates))


def found_for(data: TextRequests) -> bi_encoder.FoundNotes:
    """Ten notes of any topic for each request."""
    draw = np.random.default_rng(3)
    lists = [draw.choice(N_NOTES, 10, replace=False) for _ in range(data.n_requests)]
    return bi_encoder.FoundNotes.without_clicked(lists, data)


FOUND = found_for(FIT)


def learner(recipe: TextRecipe):
    sizes = N_VOCABULARY, NOTES.special
    torch.manual_seed(1)
    if isinstance(recipe, BiEncoderRecipe):
        model = bi_encoder.new_model(recipe, *sizes)
        return bi_encoder.BiEncoderLearner(model, NOTES, FIT, VALIDATION, FOUND, recipe, CPU)
    model = cross_encoder.new_model(recipe, *sizes)
    return cross_encoder.CrossEncoderLearner(model, NOTES, FIT, VALIDATION, recipe, CPU)


def trained(recipe: TextRecipe, fit: TextRequests = FIT):
    if isinstance(recipe, BiEncoderRecipe):
        found = FOUND if fit is FIT else found_for(fit)
        model, _, history = bi_encoder.train(
            NOTES, N_VOCABULARY, fit, VALIDATION, found, recipe, device="cpu"
        )
        return model, history
    model, _, history = cross_encoder.train(
        NOTES, N_VOCABULARY, fit, VALIDATION, recipe, device="cpu"
    )
    return model, history


def scores(recipe: TextRecipe, model, data: TextRequests) -> np.ndarray:
    if isinstance(recipe, BiEncoderRecipe):
        return bi_encoder.scores(model, NOTES, data, recipe, CPU)
    return cross_encoder.scores(model, NOTES, data, recipe, CPU)


@pytest.mark.parametrize("recipe", [BI, LONGER], ids=["bi", "cross"])
def test_it_learns_which_words_mean_the_same(recipe: TextRecipe):
    model, history = trained(recipe)
    assert history.best_metric > RANDOM + 0.25
    metric = metric_on(VALIDATION)(scores(recipe, model, VALIDATION))
    assert metric == pytest.approx(history.best_metric, abs=1e-6)


@BOTH
def test_every_parameter_changes_in_one_step(recipe: TextRecipe):
    ranker = learner(recipe)
    before = {name: value.detach().clone() for name, value in ranker.model.named_parameters()}
    (optimiser,) = ranker.optimisers(recipe.training)
    requests_of_step = ranker.batches(np.random.default_rng(0))[0]
    torch.autograd.backward(ranker.loss(requests_of_step))
    optimiser.step()
    unchanged = [
        name for name, value in ranker.model.named_parameters() if torch.equal(value, before[name])
    ]
    assert unchanged == []


def test_a_fixed_temperature_stays():
    ranker = learner(replace(BI, learns_temperature=False, temperature=0.1))
    in_optimiser = ranker.optimisers(BI.training)[0].param_groups
    assert sum(len(group["params"]) for group in in_optimiser) == (
        len([*ranker.model.parameters()]) - 1
    )
    assert float(ranker.model.scale()) == pytest.approx(10)


@BOTH
def test_the_same_seed_gives_the_same_scores_and_another_others(recipe: TextRecipe):
    short = replace(recipe, training=replace(TRAINING, max_epochs=1))
    other = replace(short, training=replace(short.training, seed=8))
    runs = [scores(r, trained(r)[0], VALIDATION).tolist() for r in (short, short, other)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@BOTH
def test_an_interrupted_training_goes_on_to_the_same_scores(recipe: TextRecipe, tmp_path: Path):
    short = replace(recipe, training=replace(TRAINING, max_epochs=2))
    whole, _ = run_loop(lambda _: learner(recipe), short.training, device="cpu")

    class Killed(Exception):
        pass

    def kill(progress) -> None:
        if progress.epoch == 2:
            raise Killed

    checkpoint = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Killed):
        run_loop(
            lambda _: learner(recipe),
            short.training,
            device="cpu",
            checkpoint=checkpoint,
            on_progress=kill,
        )
    resumed, history = run_loop(
        lambda _: learner(recipe), short.training, device="cpu", checkpoint=checkpoint
    )
    assert len(history.epochs) == 2
    expected = scores(recipe, whole.model, VALIDATION)
    assert scores(recipe, resumed.model, VALIDATION).tolist() == expected.tolist()


@BOTH
def test_weights_come_back_and_transformers_reads_them(recipe: TextRecipe, tmp_path: Path):
    if isinstance(recipe, CrossEncoderRecipe):
        # Its tokenizer marks no matches.
        recipe = replace(recipe, marks_matches=False)
    ranker = learner(recipe)
    module = bi_encoder if isinstance(recipe, BiEncoderRecipe) else cross_encoder
    module.save_model(ranker.model, TOKENIZER, tmp_path)
    expected = scores(recipe, ranker.model, VALIDATION)
    assert scores(recipe, module.load_model(tmp_path), VALIDATION).tolist() == expected.tolist()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    first = VALIDATION.note[0]
    start, end = NOTES.lists.offsets[first : first + 2]
    text = tokenizer.decode(NOTES.lists.token_id[start:end].tolist())
    if module is bi_encoder:
        model = AutoModel.from_pretrained(tmp_path, local_files_only=True).eval()
        hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(dim=0)
        mine = bi_encoder.embed(
            ranker.model, NOTES, NOTES.lists, np.array([first]), ENCODER.max_note_tokens, CPU
        )
        assert np.allclose((hidden / hidden.norm()).detach().numpy(), mine[0], atol=1e-5)
    else:
        model = AutoModelForSequenceClassification.from_pretrained(
            tmp_path, local_files_only=True
        ).eval()
        query = tokenizer.decode(VALIDATION.queries.token_id[: VALIDATION.queries.offsets[1]])
        logit = model(**tokenizer(query, text, return_tensors="pt")).logits
        assert logit.item() == pytest.approx(expected[0], abs=2e-4)
    assert (tmp_path / "weights.safetensors").exists()


@BOTH
def test_a_request_alone_is_ordered_as_in_a_batch(recipe: TextRecipe):
    model = learner(recipe).model
    together = scores(recipe, model, VALIDATION)
    for number in range(10):
        alone = scores(recipe, model, VALIDATION.take(np.array([number])))
        assert alone == pytest.approx(together[5 * number : 5 * number + 5], abs=2e-4)
        assert np.argsort(-alone).tolist() == (
            np.argsort(-together[5 * number : 5 * number + 5]).tolist()
        )


@BOTH
def test_too_few_requests_are_a_sentence(recipe: TextRecipe):
    with pytest.raises(TooLittleData, match="only 10 of 10 requests in the fit fold"):
        trained(recipe, FIT.take(np.arange(10)))


def test_what_was_clicked_is_no_negative_whatever_it_comes_from():
    clicked = {
        (request, note)
        for request, note, label in zip(FIT.request_index, FIT.note, FIT.labels, strict=True)
        if label
    }
    found = FOUND
    request = np.repeat(np.arange(FIT.n_requests), np.diff(found.offsets))
    assert not clicked & set(zip(request.tolist(), found.note.tolist(), strict=True))
    assert found.n_clicked == 10 * FIT.n_requests - len(found.note) > 0

    ranker = learner(BI)
    sources = {"exposed": 0, "bm25": 0, "in_batch": 0, "masked": 0}
    for numbers in ranker.batches(np.random.default_rng(0)):
        batch = ranker._batch(numbers)
        for row, request in enumerate(numbers.tolist()):
            negatives = np.delete(batch.notes, batch.target[row])
            is_masked = np.delete(batch.is_masked[row], batch.target[row])
            assert (request, batch.notes[batch.target[row]]) in clicked
            assert not clicked & {(request, note) for note in negatives[~is_masked].tolist()}
            assert {(request, note) for note in negatives[is_masked].tolist()} <= clicked
            shown = set(FIT.note[5 * request : 5 * request + 5].tolist())
            own = [note for note in negatives[~is_masked].tolist() if note in shown]
            sources["exposed"] += len(own)
            sources["masked"] += int(is_masked.sum())
            sources["in_batch"] += len(negatives) - int(is_masked.sum()) - len(own)
    counted = ranker.negatives(np.random.default_rng(0))
    assert counted.masked == sources["masked"] > 0
    assert counted.exposed <= sources["exposed"], "a note of the request may come in by another"
    assert 0 < counted.bm25 <= FIT.n_requests
    assert counted.exposed + counted.bm25 + counted.in_batch == (
        sources["exposed"] + sources["in_batch"]
    )


def test_without_hard_negatives_there_are_the_others_of_the_batch():
    plain = replace(BI, exposed_negatives=0, bm25_negatives=0)
    counted = learner(plain).negatives(np.random.default_rng(0))
    assert (counted.exposed, counted.bm25) == (0, 0)
    assert counted.in_batch > 0


def test_the_loss_of_one_batch_by_hand():
    ranker = learner(BI)
    ranker.model.eval()
    batch = ranker._batch(numbers := ranker.batches(np.random.default_rng(0))[0])
    query = bi_encoder.embed(ranker.model, NOTES, FIT.queries, numbers, 8, CPU)
    note = bi_encoder.embed(ranker.model, NOTES, NOTES.lists, batch.notes, 12, CPU)
    score = query.astype(float) @ note.astype(float).T / BI.temperature
    score[batch.is_masked] = -np.inf
    row = np.arange(len(numbers))
    expected = np.log(np.exp(score).sum(axis=1)) - score[row, batch.target]
    assert ranker.loss(numbers).item() == pytest.approx(expected.mean(), rel=1e-4)
    assert np.linalg.norm(note, axis=1) == pytest.approx(np.ones(len(note)), abs=1e-5)


def test_the_lists_of_a_cross_encoder_hold_both_kinds_and_are_drawn_anew():
    ranker = learner(CROSS)
    order = np.random.default_rng(0)
    clicked = set(zip(FIT.request_index[FIT.labels > 0], FIT.note[FIT.labels > 0], strict=True))
    shown = set(zip(FIT.request_index, FIT.note, strict=True))
    drawn_lists = []
    for _ in range(2):
        assert sorted(np.concatenate(ranker.batches(order)).tolist()) == list(range(150))
        epoch = ranker._drawn()
        drawn_lists.append(epoch.note.tolist())
        request = np.repeat(np.arange(150), np.diff(epoch.offsets))
        pairs_drawn = list(zip(request, epoch.note, strict=True))
        is_clicked = [pair in clicked for pair in pairs_drawn]
        assert epoch.label.tolist() == [float(value) for value in is_clicked]
        is_shown = np.array([pair in shown for pair in pairs_drawn])
        assert np.bincount(request[is_shown]).tolist() == [4] * 150
        of_shown = np.add.reduceat(epoch.label[is_shown], np.arange(0, 600, 4))
        assert ((of_shown > 0) & (of_shown < 4)).all()
    assert drawn_lists[0] != drawn_lists[1]
    counted = ranker.negatives(np.random.default_rng(0))
    assert counted["exposed"] < 450
    assert 0.8 * 300 < counted["of_other_requests"] <= 300


def test_rows_are_drawn_from_the_eligible_of_each_request():
    offsets = np.array([0, 3, 3, 7])
    eligible = np.array([True, False, True, True, True, True, False])
    seen = set()
    for seed in range(30):
        rows, at = drawn(np.random.default_rng(seed), offsets, eligible, 2)
        assert at.tolist() == [0, 2, 2, 4]
        assert set(rows[:2].tolist()) == {0, 2}
        seen |= set(rows[2:].tolist())
        assert len(set(rows.tolist())) == 4
    assert seen == {3, 4, 5}


def test_batches_by_length_hold_every_row_once_within_their_budget():
    length = np.random.default_rng(0).integers(1, 50, 300)
    parts = list(by_length(length, 200))
    assert sorted(np.concatenate(parts).tolist()) == list(range(300))
    for part in parts:
        assert len(part) * length[part].max() <= 200
    assert [part.tolist() for part in by_length(np.array([900]), 200)] == [[0]]


class TestEmbeddings:
    def model(self) -> bi_encoder.BiEncoder:
        return learner(BI).model

    def test_a_killed_run_goes_on_with_the_next_shard(self, tmp_path: Path, monkeypatch):
        model = self.model()
        straight = bi_encoder.embed_notes(
            model, NOTES, N_NOTES, 12, tmp_path / "straight", device="cpu", shard_size=30
        )
        killed = tmp_path / "killed"

        class Killed(Exception):
            pass

        def kill(n_done: int) -> None:
            if n_done > 60:
                raise Killed

        with pytest.raises(Killed):
            bi_encoder.embed_notes(
                model, NOTES, N_NOTES, 12, killed, device="cpu", shard_size=30, report=kill
            )
        done = sorted(path.name for path in killed.iterdir())
        assert done == ["shard-00000.npy", "shard-00001.npy", "shard-00002.npy"]
        embedded: list[np.ndarray] = []
        embed = bi_encoder.embed

        def counting(model, notes, texts, rows, *more):
            embedded.append(rows)
            return embed(model, notes, texts, rows, *more)

        monkeypatch.setattr(bi_encoder, "embed", counting)
        whole = bi_encoder.embed_notes(
            model, NOTES, N_NOTES, 12, killed, device="cpu", shard_size=30
        )
        assert np.concatenate(embedded).tolist() == list(range(90, N_NOTES))
        assert [path.name for path in killed.iterdir()] == [bi_encoder.EMBEDDINGS]
        assert whole.read_bytes() == straight.read_bytes()

    def test_they_are_half_precision_in_the_order_of_the_notes(self, tmp_path: Path):
        model = self.model()
        path = bi_encoder.embed_notes(model, NOTES, 50, 12, tmp_path, device="cpu", shard_size=7)
        stored = np.load(path, mmap_mode="r")
        assert (stored.dtype, stored.shape) == (np.float16, (50, 32))
        rows = np.arange(50)
        plain = bi_encoder.embed(model, NOTES, NOTES.lists, rows, 12, CPU)
        assert np.allclose(stored, plain, atol=1e-3)


class TestCheckpoint:
    @pytest.fixture
    def checkpoint(self, tmp_path: Path, monkeypatch) -> str:
        """A local folder with a BERT of its own, as a user has one."""
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        folder = tmp_path / "bert"
        ranker = learner(replace(BI, encoder=replace(ENCODER, width=16)))
        ranker.model.bert.save_pretrained(folder)
        (other := tmp_path / "tokenizer").mkdir()
        bi_encoder.save_model(ranker.model, TOKENIZER, other)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (folder / name).write_bytes((other / name).read_bytes())
        return str(folder)

    @BOTH
    def test_training_starts_from_its_weights(self, recipe: TextRecipe, checkpoint: str):
        tokenizer, special = checkpoint_tokenizer(checkpoint)
        assert special == NOTES.special
        assert tokenizer.get_vocab() == TOKENIZER.get_vocab()
        chosen = recipes.from_checkpoint(recipe, checkpoint)
        assert chosen.encoder.checkpoint == checkpoint
        module = bi_encoder if isinstance(recipe, BiEncoderRecipe) else cross_encoder
        bert = module.new_model(chosen, N_VOCABULARY, special).bert
        stored = BertModel.from_pretrained(checkpoint, add_pooling_layer=False)
        mine = bert if module is bi_encoder else bert.bert
        for name, value in stored.state_dict().items():
            assert torch.equal(mine.state_dict()[name], value), name

    def test_another_kind_or_vocabulary_is_refused(self, checkpoint: str, tmp_path: Path):
        with pytest.raises(ValueError, match="its tokenizer 9999"):
            encoder_config(replace(ENCODER, checkpoint=checkpoint), 9999, NOTES.special)
        (tmp_path / "gpt").mkdir()
        (tmp_path / "gpt" / "config.json").write_text('{"model_type": "gpt2"}')
        with pytest.raises(ValueError, match="is a gpt2; a BERT is needed"):
            encoder_config(Encoder(checkpoint=str(tmp_path / "gpt")), 9, NOTES.special)

    def test_weights_that_run_code_are_not_read(self, checkpoint: str):
        folder = Path(checkpoint)
        model = BertModel(BertConfig.from_pretrained(checkpoint), add_pooling_layer=False)
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
        chosen = replace(BI, encoder=Encoder(checkpoint=checkpoint))
        with pytest.raises(OSError, match="safetensors"):
            bi_encoder.new_model(chosen, N_VOCABULARY, NOTES.special)


def test_token_lists_may_be_memory_mapped(tmp_path: Path):
    np.save(tmp_path / "ids.npy", NOTES.lists.token_id.astype(np.uint16))
    mapped = TokenLists(np.load(tmp_path / "ids.npy", mmap_mode="r"), NOTES.lists.offsets)
    model = learner(BI).model
    rows = np.arange(20)
    assert np.array_equal(
        bi_encoder.embed(model, NOTES, mapped, rows, 12, CPU),
        bi_encoder.embed(model, NOTES, NOTES.lists, rows, 12, CPU),
    )
