"""The training loop: same seed, same scores; whole requests; stops and says what it did."""

import itertools
import math
import signal
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic import ranking_data

from models import loop
from models.dcn_v2 import DCNV2Config
from models.dcn_v2_training import _batches, score, train
from models.loop import Progress, TrainingHistory
from models.ranking_data import TooLittleData, metric_on
from models.recipes import dcn_v2_recommendation_smoke, dcn_v2_search_smoke

RECIPE = dcn_v2_search_smoke()
CONFIG = DCNV2Config(
    architecture=RECIPE.architecture,
    cardinalities=(6, 6),
    n_dense=4,
    n_notes=41,
    has_history=True,
)
FIT, VALIDATION = ranking_data(200, "product", seed=1), ranking_data(60, "product", seed=2)


def test_the_same_seed_gives_the_same_scores_and_another_seed_others():
    runs = []
    for seed in (7, 7, 8):
        torch.rand(seed)  # the caller's random state must not matter
        training = replace(RECIPE.training, seed=seed, max_epochs=2)
        model, history = train(CONFIG, FIT, VALIDATION, training, device="cpu")
        runs.append((score(model, VALIDATION, device="cpu").tolist(), history.best_metric))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_the_callers_random_state_and_settings_are_left_alone():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    train(CONFIG, FIT, VALIDATION, replace(RECIPE.training, max_epochs=1), device="cpu")
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("recipe", [dcn_v2_search_smoke(), dcn_v2_recommendation_smoke()])
def test_a_smoke_recipe_learns_in_seconds(recipe):
    config = replace(CONFIG, architecture=recipe.architecture)
    fit = ranking_data(600, "product", seed=3)
    _, history = train(config, fit, VALIDATION, recipe.training, device="cpu")
    assert sum(epoch.seconds for epoch in history.epochs) < 30
    random = metric_on(VALIDATION)(np.zeros(VALIDATION.n_candidates))
    assert history.best_metric > random + 0.1
    assert history.epochs[-1].loss < history.epochs[0].loss


def test_the_best_epoch_on_validation_is_kept_not_the_last():
    values = iter([0.3, 0.9, 0.5, 0.4, 0.2, 0.1])
    seen = []

    def metric(scores):
        seen.append(scores)
        return next(values)

    training = replace(RECIPE.training, max_epochs=6, patience=3)
    model, history = train(
        CONFIG, FIT, VALIDATION, training, validation_metric=metric, device="cpu"
    )
    assert (history.best_epoch, history.best_metric) == (2, 0.9)
    assert history.stopped_early
    assert [epoch.epoch for epoch in history.epochs] == [1, 2, 3, 4, 5]
    assert score(model, VALIDATION, device="cpu").tolist() == seen[1].tolist()
    assert seen[1].tolist() != seen[4].tolist()


def test_history_and_progress_tell_what_happened():
    told: list[Progress] = []
    training = replace(RECIPE.training, max_epochs=2, candidates_per_batch=64)
    _, history = train(CONFIG, FIT, VALIDATION, training, device="cpu", on_progress=told.append)
    assert history.n_fit_requests == 200
    assert history.n_validation_requests == 60
    assert (history.seed, history.device) == (training.seed, "cpu")
    assert [epoch.n_steps for epoch in history.epochs] == [25, 25]
    assert [(p.epoch, p.step) for p in told] == [
        (1, 10), (1, 20), (1, 25), (2, 10), (2, 20), (2, 25)
    ]  # fmt: skip
    last = told[-1]
    assert last.validation_metric == history.epochs[-1].validation_metric
    assert last.loss == history.epochs[-1].loss
    assert told[0].validation_metric is None
    assert told[0].n_steps == 25
    assert told[0].loss == pytest.approx(math.log(8), rel=0.2), "about a uniform choice of eight"


def test_batches_hold_whole_requests_up_to_the_limit():
    rng = np.random.default_rng(0)
    n_rows = rng.integers(1, 30, size=200)
    n_rows[50] = 400
    offsets = np.concatenate([[0], np.cumsum(n_rows)])
    order = rng.permutation(200)
    batches = list(_batches(offsets, order, 100))
    assert np.concatenate(batches).tolist() == order.tolist()
    for batch, following in itertools.pairwise(batches):
        size = n_rows[batch].sum()
        assert size <= 100 or len(batch) == 1
        assert size + n_rows[following[0]] > 100, "no batch is smaller than it must be"
    assert list(_batches(offsets, order[:0], 100)) == []


def test_each_epoch_sees_the_requests_in_another_order():
    # A model that does not move and hides nothing: only the order can change the running loss.
    architecture = replace(
        RECIPE.architecture, dropout=0.0, field_unknown_rate=0.0, note_unknown_rate=0.0
    )
    training = replace(
        RECIPE.training,
        max_epochs=2,
        candidates_per_batch=64,
        learning_rate=0.0,
        table_learning_rate=0.0,
        weight_decay=0.0,
    )
    told: list[Progress] = []
    config = replace(CONFIG, architecture=architecture)
    train(config, FIT, VALIDATION, training, device="cpu", on_progress=told.append)
    loss = {(p.epoch, p.step): p.loss for p in told}
    assert loss[1, 25] == pytest.approx(loss[2, 25], abs=1e-5)
    assert loss[1, 10] != pytest.approx(loss[2, 10], abs=1e-4)


def test_too_little_data_is_said_in_a_sentence():
    few = FIT.take(np.arange(6))
    with pytest.raises(TooLittleData) as caught:
        train(CONFIG, few, VALIDATION, RECIPE.training, device="cpu")
    assert str(caught.value) == (
        "Too little data to train: only 6 of 6 requests in the fit fold have both clicked and "
        "unclicked notes, and at least 50 are needed."
    )
    unclicked = replace(FIT, labels=np.zeros_like(FIT.labels))
    with pytest.raises(TooLittleData, match="train: none of 200 requests in the fit fold has both"):
        train(CONFIG, unclicked, VALIDATION, RECIPE.training, device="cpu")
    with pytest.raises(TooLittleData, match="validate: only 1 of 1 requests in the validation"):
        train(CONFIG, FIT, VALIDATION.take(np.array([0])), RECIPE.training, device="cpu")


def test_requests_without_a_choice_are_left_out_of_the_listwise_fit():
    labels = FIT.labels.copy()
    labels[:80] = 1.0
    mixed = replace(FIT, labels=labels)
    training = replace(RECIPE.training, max_epochs=1)
    _, listwise = train(CONFIG, mixed, VALIDATION, training, device="cpu")
    assert listwise.n_fit_requests == 190
    _, pointwise = train(
        CONFIG, mixed, VALIDATION, replace(training, loss="pointwise"), device="cpu"
    )
    assert pointwise.n_fit_requests == 200


def test_a_diverging_loss_is_an_error_not_a_result():
    huge = replace(FIT, dense=FIT.dense * np.float32(1e18))
    with pytest.raises((FloatingPointError, ValueError), match=r"loss is|NaN"):
        train(CONFIG, huge, VALIDATION, RECIPE.training, device="cpu")


def test_scores_do_not_depend_on_the_other_requests():
    training = replace(RECIPE.training, max_epochs=1)
    model, _ = train(CONFIG, FIT, VALIDATION, training, device="cpu")
    together = score(model, VALIDATION, device="cpu")
    alone = score(model, VALIDATION.take(np.array([3])), device="cpu")
    assert together.dtype == np.float64
    assert np.allclose(together[24:32], alone, atol=1e-5)
    assert score(model, VALIDATION.take(np.array([], dtype=np.int64)), device="cpu").shape == (0,)


@pytest.mark.filterwarnings("error")
def test_columns_of_a_data_frame_are_taken_as_they_come():
    plain, _ = train(CONFIG, FIT, VALIDATION, replace(RECIPE.training, max_epochs=1), device="cpu")
    read_only = VALIDATION.labels.copy()
    read_only.flags.writeable = False
    strange = replace(
        VALIDATION,
        labels=read_only,
        dense=np.asfortranarray(VALIDATION.dense)[::-1][::-1],
        categorical=VALIDATION.categorical.astype(np.uint32),
        note_id=VALIDATION.note_id.astype(np.int64),
        history=VALIDATION.history.astype(np.uint8),
    )
    expected = score(plain, VALIDATION, device="cpu")
    assert score(plain, strange, device="cpu").tolist() == expected.tolist()


class Stopped(Exception):
    pass


def stop_at(epoch: int, step: int, how: Callable[[], None]) -> Callable[[Progress], None]:
    def stop(progress: Progress) -> None:
        if (progress.epoch, progress.step, progress.validation_metric) == (epoch, step, None):
            how()

    return stop


def give_up() -> None:
    raise Stopped


def same_but_for_seconds(history: TrainingHistory) -> TrainingHistory:
    return replace(history, epochs=tuple(replace(e, seconds=0.0) for e in history.epochs))


LONG = replace(RECIPE.training, max_epochs=3, candidates_per_batch=64, warmup_updates=20)


@pytest.mark.parametrize("batches_per_update", [1, 3])
def test_a_training_goes_on_where_it_was_interrupted(tmp_path, monkeypatch, batches_per_update):
    training = replace(LONG, batches_per_update=batches_per_update)
    whole, expected = train(CONFIG, FIT, VALIDATION, training, device="cpu")
    checkpoint = tmp_path / "checkpoint.safetensors"
    # Killed twice, after it saved in the middle of an epoch.
    monkeypatch.setattr(loop, "SECONDS_PER_CHECKPOINT", 0.0)
    for epoch in (1, 2):
        with pytest.raises(Stopped):
            train(
                CONFIG, FIT, VALIDATION, training, device="cpu", checkpoint=checkpoint,
                on_progress=stop_at(epoch, 20, give_up),
            )  # fmt: skip
    steps: list[int] = []
    resumed, history = train(
        CONFIG, FIT, VALIDATION, training, device="cpu", checkpoint=checkpoint,
        on_progress=lambda progress: steps.append((progress.epoch, progress.step)),
    )  # fmt: skip
    assert steps[0] == (2, 20), "it does not begin anew"
    assert same_but_for_seconds(history) == same_but_for_seconds(expected)
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_heard_after_the_step_and_the_checkpoint(tmp_path, number):
    whole, _ = train(CONFIG, FIT, VALIDATION, LONG, device="cpu")
    checkpoint = tmp_path / "checkpoint.safetensors"
    heard = []
    before = signal.signal(number, lambda *_: heard.append(checkpoint.exists()))
    try:
        ask = stop_at(2, 10, lambda: signal.raise_signal(number))
        with pytest.raises(KeyboardInterrupt, match="its checkpoint is written"):
            train(
                CONFIG, FIT, VALIDATION, LONG, device="cpu", checkpoint=checkpoint, on_progress=ask
            )
        assert heard == [True], "the caller's own handler is called, once all is safe"
    finally:
        signal.signal(number, before)
    resumed, _ = train(CONFIG, FIT, VALIDATION, LONG, device="cpu", checkpoint=checkpoint)
    assert score(resumed, VALIDATION).tolist() == score(whole, VALIDATION).tolist()


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    checkpoint = tmp_path / "checkpoint.safetensors"
    training = replace(LONG, max_epochs=1)
    train(CONFIG, FIT, VALIDATION, training, device="cpu", checkpoint=checkpoint)
    with pytest.raises(ValueError, match="another recipe"):
        train(CONFIG, FIT, VALIDATION, LONG, device="cpu", checkpoint=checkpoint)
    wider = replace(CONFIG, architecture=replace(CONFIG.architecture, hidden=(48,)))
    with pytest.raises(ValueError, match="another model"):
        train(wider, FIT, VALIDATION, training, device="cpu", checkpoint=checkpoint)


def test_batches_of_one_update_count_as_one_batch():
    # No chance in the model, so that only the order of the sums differs.
    architecture = replace(
        RECIPE.architecture, dropout=0.0, field_unknown_rate=0.0, note_unknown_rate=0.0
    )
    config = replace(CONFIG, architecture=architecture)
    found = []
    for size, together in ((64, 4), (256, 1), (64, 1)):
        training = replace(
            LONG, max_epochs=1, candidates_per_batch=size, batches_per_update=together
        )
        model, _ = train(config, FIT.take(np.arange(128)), VALIDATION, training, device="cpu")
        found.append(score(model, VALIDATION))
    assert np.allclose(found[0], found[1], atol=1e-3)
    assert not np.allclose(found[0], found[2], atol=0.05)


def test_half_precision_is_close_and_not_equal():
    found = []
    for precision in ("fp32", "bf16"):
        training = replace(RECIPE.training, max_epochs=2, precision=precision)
        _, history = train(CONFIG, FIT, VALIDATION, training, device="cpu")
        found.append(history.epochs[-1].loss)
    assert found[0] != found[1]
    assert found[0] == pytest.approx(found[1], rel=0.02)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: the GPU path was not run")
def test_a_gpu_gives_the_same_scores_twice():
    training = replace(RECIPE.training, max_epochs=2)
    runs = []
    for _ in range(2):
        model, history = train(CONFIG, FIT, VALIDATION, training, device="cuda")
        assert history.device == "cuda"
        runs.append(score(model, VALIDATION, device="cuda"))
    assert np.array_equal(runs[0], runs[1])
