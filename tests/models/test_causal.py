"""Estimators of effects: by hand where a hand can, and on draws whose effect is known."""

import numpy as np
import pytest

from models.causal import (
    balance,
    doubly_robust,
    estimate,
    matching,
    nuisance,
    refutations,
    sensitivity,
    weighting,
)
from models.causal.estimate import Estimate

EFFECT = -0.5


@pytest.fixture(scope="module")
def draws() -> dict[str, np.ndarray]:
    """Treatment and outcome both follow the first covariate; two units a cluster."""
    rng = np.random.default_rng(3)
    n = 800
    x_NP = rng.standard_normal((n, 3))
    propensity_N = 1 / (1 + np.exp(-x_NP[:, 0]))
    is_treated_N = rng.random(n) < propensity_N
    cluster_N = np.arange(n) // 2
    shared_N = np.repeat(rng.standard_normal(n // 2), 2)
    y_N = 2.0 * x_NP[:, 0] + EFFECT * is_treated_N + shared_N + rng.standard_normal(n)
    return {"x": x_NP, "p": propensity_N, "d": is_treated_N, "y": y_N, "g": cluster_N}


@pytest.fixture(scope="module")
def fitted(draws: dict[str, np.ndarray]) -> nuisance.Nuisance:
    return nuisance.cross_fit(draws["x"], draws["d"], draws["y"][:, None], draws["g"])


def test_the_raw_difference_is_wrong_and_adjusted_ones_are_not(
    draws: dict[str, np.ndarray], fitted: nuisance.Nuisance
) -> None:
    y, d, g, p = draws["y"], draws["d"], draws["g"], fitted.propensity_N
    treated, untreated = fitted.treated_NM[:, 0], fitted.untreated_NM[:, 0]
    raw = estimate.difference_of_means(y, d, g)
    assert raw.low > 0.5
    adjusted = {
        "ate": doubly_robust.effect(y, d, p, treated, untreated, g),
        "att": doubly_robust.effect_on_treated(y, d, p, untreated, g),
        "weighting": weighting.effect(y, d, p, g, on_treated=False),
        "matching": matching.effect_on_treated(y, d, matching.match(d, p, n_neighbours=3), g),
        "linear": doubly_robust.partially_linear(
            y, d, p * treated + (1 - p) * untreated, p, g
        ).estimate,
    }
    for name, one in adjusted.items():
        assert abs(one.value - EFFECT) < 4 * one.standard_error, name
        assert one.high < raw.low, name


def test_the_standard_error_takes_clusters_whole() -> None:
    # Two clusters with influences that sum to 2 and -2: variance 8 / 16 * 2 / (2 - 1) = 1.
    influence = np.array([1.0, 1.0, -1.0, -1.0])
    found = estimate.from_influence(3.0, influence, np.array([5, 5, 9, 9]))
    assert (found.value, found.standard_error) == (3.0, 1.0)
    assert found.high == pytest.approx(3 + 1.959964, abs=1e-6)
    # As four clusters: variance 4 / 16 * 4 / 3.
    apart = estimate.from_influence(3.0, influence, np.arange(4))
    assert apart.standard_error == pytest.approx((1 / 3) ** 0.5)
    assert np.isnan(estimate.from_influence(3.0, influence, np.zeros(4, int)).low)


def test_weights_stand_for_all_or_for_the_treated() -> None:
    d, p = np.array([True, False]), np.array([0.25, 0.2])
    assert weighting.weights(d, p, on_treated=False).tolist() == [4.0, 1.25]
    assert weighting.weights(d, p, on_treated=True).tolist() == [1.0, 0.25]
    assert weighting.effective_size(np.array([1.0, 1.0, 2.0])) == pytest.approx(16 / 6)


def test_exact_strata_by_hand() -> None:
    # Stratum 0: 3 - 1 = 2 over three units; stratum 1: 5 - 4 = 1 over two; stratum 2 has one side.
    y = np.array([3.0, 1.0, 1.0, 5.0, 4.0, 9.0])
    d = np.array([True, False, False, True, False, True])
    found = matching.exact(y, d, np.array([0, 0, 0, 1, 1, 2]), np.arange(6))
    assert found.value == pytest.approx((3 * 2 + 2 * 1) / 5)
    with pytest.raises(ValueError, match="no stratum"):
        matching.exact(y[:2], d[:2], np.array([0, 1]), np.arange(2))


def test_matching_takes_the_nearest_and_leaves_out_who_has_none() -> None:
    p = np.array([0.50, 0.95, 0.51, 0.30])
    found = matching.match(np.array([True, True, False, False]), p)
    assert found.weight_N.tolist() == [1.0, 0.0, 1.0, 0.0]
    assert found.n_unmatched == 1


def test_a_cluster_is_in_one_fold_and_folds_are_of_like_size() -> None:
    cluster = np.repeat(np.arange(40), 3)
    fold = nuisance.folds(cluster, 5, seed=1)
    assert all(len(set(fold[cluster == one])) == 1 for one in range(40))
    assert np.bincount(fold).tolist() == [24] * 5


def test_too_few_treated_are_refused() -> None:
    x, d = np.zeros((20, 1)), np.zeros(20, bool)
    d[0] = True
    with pytest.raises(ValueError, match="1 of 20 are treated"):
        nuisance.cross_fit(x, d, np.zeros((20, 1)), np.arange(20))


def test_balance_and_overlap(draws: dict[str, np.ndarray], fitted: nuisance.Nuisance) -> None:
    before = balance.standardised_differences(draws["x"], draws["d"])
    weight = weighting.weights(draws["d"], fitted.propensity_N, on_treated=False)
    after = balance.standardised_differences(draws["x"], draws["d"], weight)
    assert before[0] > 0.7
    assert np.abs(after).max() < balance.GOOD_BALANCE
    bins = balance.overlap(fitted.propensity_N, draws["d"])
    assert sum(one.n_treated + one.n_untreated for one in bins) == len(draws["d"])
    by_hand = balance.standardised_differences(
        np.array([[0.0, 1.0], [2.0, 1.0], [0.0, 1.0], [4.0, 1.0]]),
        np.array([True, True, False, False]),
    )
    # Means 1 and 2, variances 1 and 4; a constant differs by nothing.
    assert by_hand.tolist() == [pytest.approx(-1 / 2.5**0.5), 0.0]


def test_e_values_of_printed_examples() -> None:
    # VanderWeele and Ding 2017: a risk ratio of 3.9 (1.8 to 8.7) needs 7.26, its limit 3.0.
    assert sensitivity.e_value(3.9) == pytest.approx(7.26, abs=0.01)
    assert sensitivity.e_value(1.8) == pytest.approx(3.0, abs=0.01)
    assert sensitivity.e_value(1 / 3.9) == pytest.approx(sensitivity.e_value(3.9))
    assert np.isnan(sensitivity.e_value(-0.2))
    holds_none = Estimate(0.1, 0.1, -0.1, 0.3)
    assert sensitivity.e_values(holds_none, 1.0)[1] == 1.0
    of_rate = sensitivity.e_values(Estimate(0.2, 0.05, 0.1, 0.3), 0.4, base=0.2)
    assert of_rate == pytest.approx((sensitivity.e_value(2.0), sensitivity.e_value(1.5)))


def test_robustness_values_of_the_printed_example() -> None:
    # Cinelli and Hazlett 2020, Darfur: estimate 0.097, error 0.023, 783 degrees of freedom:
    # 13.9 %, and 7.6 % for the interval.
    darfur = Estimate(0.09731582, 0.02325654, 0.05, 0.14)
    assert sensitivity.robustness_value(darfur, 783, at_95=False) == pytest.approx(0.139, abs=1e-3)
    assert sensitivity.robustness_value(darfur, 783, at_95=True) == pytest.approx(0.076, abs=1e-3)
    assert sensitivity.robustness_value(Estimate(0.0, 1.0, -2, 2), 50, at_95=True) == 0.0


def test_refutations_accept_an_honest_estimator_and_refuse_a_biased_one(
    draws: dict[str, np.ndarray],
) -> None:
    y, d, g = draws["y"], draws["d"], draws["g"]

    def biased(dealt: np.ndarray) -> Estimate:
        found = estimate.difference_of_means(y, dealt, g)
        return Estimate(found.value + 1, found.standard_error, found.low + 1, found.high + 1)

    honest = refutations.placebo_treatment(
        lambda dealt: estimate.difference_of_means(y, dealt, g), d
    )
    assert honest.is_as_expected
    assert not refutations.placebo_treatment(biased, d).is_as_expected
    original = estimate.difference_of_means(y, d, g)

    def among(kept: np.ndarray) -> Estimate:
        return estimate.difference_of_means(y[kept], d[kept], g[kept])

    assert refutations.subsets(among, g, original).is_as_expected
    wrong = Estimate(original.value + 1, original.standard_error, 0.0, 0.0)
    assert not refutations.subsets(among, g, wrong).is_as_expected
    assert refutations.random_common_cause(lambda _: original, len(y), original).is_as_expected
    assert not refutations.placebo_outcome(Estimate(1.0, 0.1, 0.8, 1.2), 9).is_as_expected
