"""Comparisons: which pairs, whose difference, and what many tests at once cost."""

import numpy as np
import pytest

from models.metrics import paired_randomisation_test
from qilin_dagster.comparisons import ANCHORS, METRICS, adjust_for_their_number, comparisons
from qilin_dagster.per_request import RequestMetrics

N = 300


def requests(**runs: np.ndarray) -> RequestMetrics:
    """Anchors, all at chance, and the given models; two requests a user."""
    chance = np.full(N, 0.5)
    columns = {**dict.fromkeys(ANCHORS, chance), "oracle": np.ones(N), **runs}
    return RequestMetrics(
        kinds={name: "model" if name in runs else "anchor" for name in columns},
        row_number=np.arange(N),
        user_idx=np.arange(N) // 2,
        values={metric: np.stack(list(columns.values()), axis=1) for metric in METRICS},
    )


def rows(table, metric: str = "mrr@10") -> dict[tuple[str, str], dict]:
    return {
        (row["run_a"], row["run_b"]): row for row in table.to_pylist() if row["metric"] == metric
    }


def test_models_stand_against_each_other_and_the_anchors_the_better_one_first() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, N)
    found = rows(comparisons("search", requests(weak=0.5 + noise, strong=0.8 + noise)))
    models = [("strong", "weak")]
    anchors = [(model, anchor) for model in ("strong", "weak") for anchor in ANCHORS]
    assert list(found) == models + anchors, "the oracle is no rival"
    row = found["strong", "weak"]
    assert row["difference"] == pytest.approx(0.3)
    assert row["low"] == pytest.approx(0.3)
    assert (row["mean_a"] - row["mean_b"]) == pytest.approx(0.3)
    assert row["is_resolvable"]
    assert row["kind_b"] == "model"
    row = found["weak", "random"]
    assert row["low"] < row["difference"] < row["high"]
    assert row["kind_b"] == "anchor"


def test_the_test_is_that_of_users_and_its_p_value_is_adjusted() -> None:
    draws = np.random.default_rng(3).normal(0, 0.1, N)
    draws += 0.0125 - draws.mean()
    data = requests(model=0.5 + draws)
    found = rows(comparisons("search", data))
    row = found["model", "random"]
    expected = paired_randomisation_test(0.5 + draws, np.full(N, 0.5), groups=data.user_idx)
    assert row["p_value"] == expected
    # The same test four times, once an anchor.
    assert row["p_holm"] == pytest.approx(min(1.0, 4 * expected))
    assert 0.05 / 4 < expected < 0.05, "it would count alone, and does not among four"
    assert row["low"] > 0
    assert not row["is_resolvable"]


def test_what_the_sample_could_see_is_2_8_standard_errors() -> None:
    draws = np.random.default_rng(4).normal(0, 0.1, N)
    row = rows(comparisons("search", requests(model=0.5 + draws)))["model", "random"]
    by_user = draws.reshape(-1, 2).mean(axis=1)
    error = by_user.std(ddof=1) / np.sqrt(N / 2)
    assert row["smallest_seen"] == pytest.approx(2.8 * error, rel=0.1)


def test_without_a_model_nothing_is_compared() -> None:
    assert comparisons("search", requests()).num_rows == 0


def test_under_no_effect_a_family_of_tests_seldom_finds_one() -> None:
    rng = np.random.default_rng(5)
    n_found = 0
    for _ in range(20):
        models = {f"m{i}": 0.5 + rng.normal(0, 0.1, N) for i in range(4)}
        found = rows(comparisons("search", requests(**models)))
        n_found += any(row["is_resolvable"] for row in found.values())
    # Five in a hundred are expected at most; of twenty, five or more come in 3 of a thousand times.
    assert n_found < 5


def test_differences_tested_together_are_adjusted_for_their_number() -> None:
    """Holm by hand: 3 * .01, then 2 * .02, then .04 or what the one before has."""
    rows = [
        {"p_value": p, "low": low, "high": 0.2, "p_holm": None, "is_told_apart": None}
        for p, low in ((0.02, 0.1), (0.01, 0.1), (0.04, -0.1), (None, None))
    ]
    adjust_for_their_number(rows)
    assert [row["p_holm"] for row in rows] == [
        pytest.approx(0.04),
        pytest.approx(0.03),
        pytest.approx(0.04),
        None,
    ]
    # The third interval holds zero, and the last was not tested.
    assert [row["is_told_apart"] for row in rows] == [True, True, False, None]
