"""Text rankers that weigh clicks by the examination of their place; what cannot be corrected."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models import recipes
from models.dcn_v2 import DCNV2Config
from models.dcn_v2_training import DCNV2Learner
from models.losses import ranking_loss
from models.ranking_data import Exposure, validation_metric
from models.recipes import PositionCorrection
from models.text_data import clicks_counted, drawn_lists
from tests.models import test_text_rankers as rankers
from tests.models.test_position_correction import TRAINING, draw

IPS = replace(recipes.IPS, self_normalised=False)


def exposed(n: int, seed: int):
    """Requests whose even places are examined, and the odd ones half of the time."""
    data = rankers.requests(n, seed)
    place = np.arange(data.n_candidates) % 2
    exposure = Exposure(
        place=place,
        examination=np.where(place == 0, 1.0, 0.5).astype(np.float32),
        attraction=np.full(len(place), 0.3, dtype=np.float32),
        n_places=2,
    )
    return replace(data, exposure=exposure)


def test_a_click_counts_by_one_over_the_examination_of_its_place() -> None:
    fit = exposed(30, 1)
    assert clicks_counted(fit, rankers.TRAINING) is None
    counted = clicks_counted(fit, replace(rankers.TRAINING, correction=IPS))
    assert counted is not None
    np.testing.assert_allclose(counted, fit.labels / fit.exposure.examination)
    robust = replace(recipes.DOUBLY_ROBUST, clip=0.1)
    counted = clicks_counted(fit, replace(rankers.TRAINING, correction=robust))
    e, m = fit.exposure.examination, 0.3
    np.testing.assert_allclose(counted, m + (fit.labels - e * m) / e, rtol=1e-5)


def test_notes_of_other_requests_count_as_not_clicked() -> None:
    fit = exposed(40, 1)
    counted = clicks_counted(fit, replace(rankers.TRAINING, correction=IPS))
    lists = drawn_lists(np.random.default_rng(0), fit, rankers.N_NOTES, 4, 3, counted)
    assert lists.counted is not None
    assert ((lists.counted > 0) == (lists.label > 0)).all()
    assert set(lists.counted[lists.label > 0].tolist()) == {1.0, 2.0}
    pairs = lists.pairs(np.array([3, 7]))
    score = torch.zeros(len(pairs.label))
    training = replace(rankers.TRAINING, correction=IPS, loss="pointwise")
    by_hand = (np.log(2.0) * np.ones(len(pairs.label))).mean()
    assert float(pairs.loss(training, score)) == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("loss", ["pointwise", "listwise"])
def test_the_shared_loss_weighs_the_bi_encoder_s_clicks(loss: str) -> None:
    recipe = recipes.corrected(
        replace(rankers.BI, training=replace(rankers.TRAINING, loss=loss, max_epochs=1)),
        recipes.IPS,
    )
    assert recipe.name == "bi"  # It names no task to stand before.
    learner = _bi_learner(recipe, exposed(40, 1))
    plain = _bi_learner(replace(recipe, training=replace(recipe.training, correction=None)), None)
    requests = learner.batches(np.random.default_rng(3))[0]
    plain.batches(np.random.default_rng(3))
    batch = learner._batch(requests)
    assert set(batch.counted.tolist()) == {1.0, 2.0}
    weighed, unweighed = (one.loss(requests).item() for one in (learner, plain))
    assert np.isfinite(weighed)
    assert weighed != pytest.approx(unweighed, rel=1e-4)


def _bi_learner(recipe, fit):
    from models.bi_encoder import BiEncoderLearner, FoundNotes, new_model

    torch.manual_seed(0)
    notes = rankers.note_texts()
    fit = rankers.requests(40, 1) if fit is None else fit
    none = FoundNotes.without_clicked([np.zeros(0, dtype=np.int64)] * fit.n_requests, fit)
    model = new_model(recipe, rankers.N_VOCABULARY, notes.special)
    return BiEncoderLearner(model, notes, fit, fit, none, recipe, rankers.CPU)


def test_corrections_that_a_text_ranker_cannot_take_are_refused_in_words() -> None:
    fit = exposed(30, 1)
    for method in ("position_input", "dual_learning", "affine"):
        correction = PositionCorrection(method=method, self_normalised=False)
        with pytest.raises(ValueError, match="take ips or doubly_robust"):
            clicks_counted(fit, replace(rankers.TRAINING, correction=correction))
    with pytest.raises(ValueError, match="where the candidates stood"):
        clicks_counted(rankers.requests(30, 1), replace(rankers.TRAINING, correction=IPS))
    same = replace(rankers.BI, training=replace(rankers.TRAINING, correction=recipes.IPS))
    with pytest.raises(ValueError, match="set self_normalised to False"):
        _bi_learner(same, fit)


def test_uncorrected_pairs_lose_what_they_always_lost() -> None:
    fit = rankers.requests(30, 1)
    pairs = drawn_lists(np.random.default_rng(0), fit, rankers.N_NOTES, 4, 1).pairs(np.arange(5))
    score = torch.randn(len(pairs.label), generator=torch.Generator().manual_seed(0))
    lists = (torch.from_numpy(pairs.request), torch.from_numpy(pairs.place), 5)
    plain = ranking_loss("listwise", score, torch.from_numpy(pairs.label), *lists)
    assert float(pairs.loss(rankers.TRAINING, score)) == float(plain)


def test_the_epoch_is_chosen_by_weighted_clicks_where_training_weighs_them() -> None:
    data = exposed(30, 1)
    score = -np.arange(data.n_candidates, dtype=np.float64)
    plain = validation_metric(data, rankers.TRAINING)(score)
    weighed = validation_metric(data, replace(rankers.TRAINING, correction=IPS))(score)
    assert plain != weighed


@pytest.mark.parametrize("method", ["ips", "doubly_robust", "position_input", "dual_learning"])
def test_only_what_learns_places_has_a_table_of_them(method: str) -> None:
    data = draw(20, 1)[0]
    config = DCNV2Config(
        architecture=recipes.DCNV2Architecture(embedding_dim=4, n_cross=1, hidden=(8,)),
        cardinalities=(2,),
        n_dense=2,
        n_notes=1,
    )
    training = replace(TRAINING, correction=PositionCorrection(method=method))
    learner = DCNV2Learner(config, data, data, lambda score: 0.0, training, torch.device("cpu"))
    names = {name for name, _ in learner.model.named_parameters()}
    has_places = any(name.startswith("positions.") for name in names)
    assert has_places == (method in ("position_input", "dual_learning"))
    learner.loss(np.arange(10)).backward()
    if has_places:
        assert learner.model.positions.logit.weight.grad is not None
