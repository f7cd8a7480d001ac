"""A weighted sum finds what each score is worth, on clicks as they are and corrected ones."""

from dataclasses import replace

import numpy as np
import pytest

from models import interpolation
from models.ranking_data import Exposure, Requests, metric_on
from models.recipes import PositionCorrection, Training

LENGTH = 10


def drawn(n: int, seed: int, examination: np.ndarray | None = None) -> tuple[np.ndarray, Requests]:
    """Scores (N, 3) and clicks drawn from 1.5 times the first less 0.5 times the second; the third
    only says where a note stood."""
    rng = np.random.default_rng(seed)
    score = rng.normal(0, 1, (n * LENGTH, 3)) * (1, 3, 1) + (0, 5, 0)
    place = np.tile(np.arange(LENGTH), n)
    score[:, 2] = -place
    appeal = 1.5 * score[:, 0] - 0.5 * (score[:, 1] - 5) / 3
    clicked = rng.random(n * LENGTH) < 1 / (1 + np.exp(2 - appeal))
    exposure = None
    if examination is not None:
        clicked &= rng.random(n * LENGTH) < examination[place]
        exposure = Exposure(
            place=place,
            examination=examination[place].astype(np.float32),
            attraction=np.full(len(place), 0.2, dtype=np.float32),
            n_places=LENGTH,
        )
    return score, Requests(
        request_offsets=np.arange(n + 1) * LENGTH,
        labels=clicked.astype(np.float32),
        exposure=exposure,
    )


def test_the_weights_are_those_that_the_clicks_were_drawn_by() -> None:
    score, requests = drawn(3_000, 1)
    weighed = interpolation.fit(score, requests, Training())
    first, second, third = weighed.weight_K
    assert second / first == pytest.approx(-0.5 / 1.5, abs=0.05)
    assert abs(third / first) < 0.05
    unseen, test = drawn(1_000, 2)
    metric = metric_on(test)
    assert metric(weighed(unseen)) > metric(unseen[:, 0]) > metric(unseen[:, 1])


def test_a_score_that_is_the_same_everywhere_changes_nothing() -> None:
    score, requests = drawn(200, 1)
    score[:, 1] = 7.0
    weighed = interpolation.fit(score, requests, Training())
    assert weighed.weight_K[1] == 0.0
    assert np.isfinite(weighed(score)).all()


def test_corrected_clicks_do_not_weigh_the_place() -> None:
    examination = 1 / np.arange(1, LENGTH + 1)
    score, requests = drawn(3_000, 1, examination)
    naive = interpolation.fit(score, requests, Training())
    correction = PositionCorrection(method="ips", clip=0.05, self_normalised=False)
    corrected = interpolation.fit(score, requests, replace(Training(), correction=correction))
    assert naive.weight_K[2] / naive.weight_K[0] > 0.5
    assert abs(corrected.weight_K[2] / corrected.weight_K[0]) < 0.15
