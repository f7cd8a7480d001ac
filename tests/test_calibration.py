"""Calibration: shares by hand, and a model that knows the odds."""

from dataclasses import replace

import numpy as np
import pytest

from qilin_dagster.calibration import N_BINS, calibration
from qilin_dagster.leaderboard import Candidates, ScoredRun
from tests.clicks import candidates


def drawn(seed: int, n: int = 3000) -> tuple[Candidates, np.ndarray]:
    """One click in each request of four, drawn with the softmax of known scores."""
    log = candidates(n=n)
    score = np.random.default_rng(seed).normal(0, 1.5, len(log.qid))
    gumbel = score + np.random.default_rng(seed + 1).gumbel(size=len(log.qid))
    best = gumbel.reshape(n, 4).argmax(axis=1)
    is_clicked = np.zeros((n, 4), dtype=bool)
    is_clicked[np.arange(n), best] = True
    return replace(log, is_clicked=is_clicked.ravel()), score


def run(log: Candidates, score: np.ndarray) -> ScoredRun:
    return ScoredRun("m", log.qid, log.pid, score)


def test_true_odds_are_calibrated_and_exaggerated_ones_are_not() -> None:
    log, score = drawn(seed=1)
    honest = calibration("search", log, [run(log, score)]).to_pylist()
    assert [row["bin"] for row in honest] == list(range(1, N_BINS + 1))
    assert sum(row["n_candidates"] for row in honest) == 12_000
    inside = [row["low"] <= row["predicted_share"] <= row["high"] for row in honest]
    assert sum(inside) >= 8
    loud = calibration("search", log, [run(log, 4 * score)]).to_pylist()
    assert loud[-1]["predicted_share"] > loud[-1]["high"] + 0.1


def test_the_order_of_the_rows_and_a_shift_of_a_request_change_nothing() -> None:
    log, score = drawn(seed=2, n=50)
    expected = calibration("search", log, [run(log, score)])
    order = np.random.default_rng(0).permutation(len(score))
    shifted = score + 7.0 * log.qid
    moved = ScoredRun("m", log.qid[order], log.pid[order], shifted[order])
    for a, b in zip(
        expected.to_pylist(), calibration("search", log, [moved]).to_pylist(), strict=True
    ):
        assert a["predicted_share"] == pytest.approx(b["predicted_share"])
        assert a["clicked_share"] == pytest.approx(b["clicked_share"])


def test_requests_without_a_click_do_not_count() -> None:
    log, score = drawn(seed=3, n=50)
    silent = replace(log, is_clicked=log.is_clicked & (log.qid != 7))
    found = calibration("search", silent, [run(log, score)]).to_pylist()
    assert sum(row["n_candidates"] for row in found) == 4 * 49


def test_a_run_of_other_candidates_is_refused() -> None:
    log, score = drawn(seed=4, n=10)
    other = ScoredRun("m", log.qid, log.pid + 1, score)
    with pytest.raises(ValueError, match="m does not score exactly the test candidates"):
        calibration("search", log, [other])
