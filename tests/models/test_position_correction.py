"""Rankers that allow for position know attraction better than those that do not, where the old
ranker ordered by something that does not attract; and look worse on its clicks."""

import dataclasses

import numpy as np
import pytest

from models import recipes
from models.counterfactual import graded_ndcg
from models.dcn_v2 import DCNV2Config
from models.dcn_v2_training import score, train
from models.metrics import paired_bootstrap_interval
from models.ranking_data import Exposure, RankingData
from models.recipes import DCNV2Architecture, PositionCorrection, Training

LENGTH = 8
EXAMINATION = 1.0 / np.arange(1, LENGTH + 1)
TRAINING = Training(
    max_epochs=12, patience=12, learning_rate=2e-2, candidates_per_batch=512, weight_decay=0.0
)


# Of notes that do not attract, so many are clicked where they are examined.
TRUST = np.array([0.6, 0.4, 0.25, 0.15, 0.1, 0.0, 0.0, 0.0])


def draw(n: int, seed: int, trust: np.ndarray | None = None) -> tuple[RankingData, np.ndarray]:
    """Lists ordered by dense column 1 (mostly), clicked by column 0; and their attraction."""
    rng = np.random.default_rng(seed)
    dense = rng.normal(0, 1, (n, LENGTH, 2))
    order = np.argsort(-(dense[:, :, 1] + 0.5 * rng.normal(0, 1, (n, LENGTH))), axis=1)
    dense = np.take_along_axis(dense, order[:, :, None], axis=1)
    attraction = 1 / (1 + np.exp(-(1.2 * dense[:, :, 0] - 0.5)))
    trusted = np.zeros(LENGTH) if trust is None else trust
    is_taken = attraction + trusted * (1 - attraction)
    clicked = rng.random((n, LENGTH)) < EXAMINATION * is_taken
    place = np.tile(np.arange(LENGTH), n)
    mean = clicked.mean(axis=0) / EXAMINATION
    data = RankingData(
        request_offsets=np.arange(n + 1) * LENGTH,
        labels=clicked.ravel().astype(np.float32),
        dense=dense.reshape(-1, 2).astype(np.float32),
        categorical=np.ones((n * LENGTH, 1), dtype=np.int64),
        history=np.zeros((n, 1), dtype=np.int32),
        note_id=np.zeros(n * LENGTH, dtype=np.int32),
        exposure=Exposure(
            place=place,
            examination=EXAMINATION[place].astype(np.float32),
            attraction=mean[place].astype(np.float32),
            n_places=LENGTH,
            trust=None if trust is None else trust[place].astype(np.float32),
        ),
    )
    return data, attraction.ravel()


def ranked(
    loss: str, correction: PositionCorrection | None, trust: np.ndarray | None = None
) -> np.ndarray:
    fit, validation = draw(1_200, 1, trust)[0], draw(200, 2, trust)[0]
    config = DCNV2Config(
        architecture=DCNV2Architecture(
            embedding_dim=4, n_cross=1, hidden=(8,), dropout=0.0, field_unknown_rate=0.0
        ),
        cardinalities=(2,),
        n_dense=2,
        n_notes=1,
        has_history=False,
    )
    training = dataclasses.replace(TRAINING, loss=loss, correction=correction)
    return score(train(config, fit, validation, training)[0], draw(600, 3, trust)[0])


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["pointwise", "listwise"])
def test_corrected_rankers_beat_naive_ones_on_attraction_and_lose_on_clicks(loss: str) -> None:
    test, attraction = draw(600, 3)
    request, clicks = test.request_index, test.labels.astype(np.float64)
    naive = ranked(loss, None)
    corrections = [recipes.IPS, recipes.DOUBLY_ROBUST, recipes.POSITION_INPUT]
    for correction in [*corrections, *([recipes.DUAL_LEARNING] if loss == "listwise" else [])]:
        found = ranked(loss, correction)
        gain = paired_bootstrap_interval(
            graded_ndcg(request, found, attraction), graded_ndcg(request, naive, attraction)
        )
        assert gain.low > 0, (correction.method, gain)
        raw = paired_bootstrap_interval(
            *(np.nan_to_num(graded_ndcg(request, one, clicks)) for one in (found, naive))
        )
        assert raw.high < 0, (correction.method, raw)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["pointwise", "listwise"])
def test_where_places_are_trusted_only_the_affine_correction_is_enough(loss: str) -> None:
    test, attraction = draw(600, 3, TRUST)
    naive, weighed = ranked(loss, None, TRUST), ranked(loss, recipes.IPS, TRUST)
    affine = ranked(loss, recipes.AFFINE, TRUST)
    for other in (naive, weighed):
        gain = paired_bootstrap_interval(
            *(graded_ndcg(test.request_index, one, attraction) for one in (affine, other))
        )
        assert gain.low > 0, (loss, gain)


def test_affine_corrections_cannot_be_normalised_within_a_request() -> None:
    with pytest.raises(ValueError, match="set self_normalised to False"):
        PositionCorrection(method="affine")


def test_a_correction_without_places_is_refused() -> None:
    data = dataclasses.replace(draw(80, 1)[0], exposure=None)
    config = DCNV2Config(
        architecture=DCNV2Architecture(embedding_dim=4, n_cross=1, hidden=(8,)),
        cardinalities=(2,),
        n_dense=2,
        n_notes=1,
        has_history=False,
    )
    with pytest.raises(ValueError, match="where the candidates stood"):
        train(config, data, data, dataclasses.replace(TRAINING, correction=recipes.IPS))
    untold = draw(80, 1)[0]
    with pytest.raises(ValueError, match="trust in places"):
        train(config, untold, untold, dataclasses.replace(TRAINING, correction=recipes.AFFINE))
