"""Augmented inverse propensity weighting, and the partially linear model, on cross-fitted nuisance.

Right when either the propensities or the expected outcomes are: what one of them misses, the other
may still take away.
"""

from dataclasses import dataclass

import numpy as np

from models.causal.estimate import BoolArray, Estimate, FloatArray, IntArray, from_influence


def effect(
    outcome_N: FloatArray,
    is_treated_N: BoolArray,
    propensity_N: FloatArray,
    treated_N: FloatArray,
    untreated_N: FloatArray,
    cluster_N: IntArray,
    *,
    among_N: BoolArray | None = None,
) -> Estimate:
    """Mean effect over all units (ATE), or over those ``among_N``, a choice made by covariates.

    Source: Robins, Rotnitzky and Zhao 1994; cross-fitting: Chernozhukov et al. 2018.
    """
    score_N = scores(outcome_N, is_treated_N, propensity_N, treated_N, untreated_N)
    share_N = np.ones(len(score_N)) if among_N is None else among_N.astype(np.float64)
    value = float(share_N @ score_N) / float(share_N.sum())
    return from_influence(value, share_N * (score_N - value) / share_N.mean(), cluster_N)


def effect_on_treated(
    outcome_N: FloatArray,
    is_treated_N: BoolArray,
    propensity_N: FloatArray,
    untreated_N: FloatArray,
    cluster_N: IntArray,
) -> Estimate:
    """Mean effect over the treated (ATT).

    Source: Chernozhukov et al. 2018, section 5.1 (their equation 5.4).
    """
    share = float(is_treated_N.mean())
    residual_N = outcome_N - untreated_N
    weight_N = np.where(is_treated_N, 1.0, -propensity_N / (1 - propensity_N))
    score_N = weight_N * residual_N / share
    value = float(score_N.mean())
    return from_influence(value, score_N - is_treated_N * value / share, cluster_N)


def scores(
    outcome_N: FloatArray,
    is_treated_N: BoolArray,
    propensity_N: FloatArray,
    treated_N: FloatArray,
    untreated_N: FloatArray,
) -> FloatArray:
    """The uncentred score of each unit, whose mean is the effect."""
    correction_N = np.where(
        is_treated_N,
        (outcome_N - treated_N) / propensity_N,
        -(outcome_N - untreated_N) / (1 - propensity_N),
    )
    return treated_N - untreated_N + correction_N


@dataclass(frozen=True)
class PartiallyLinear:
    """Effect taken as the same for all; what the sensitivity analysis starts from.

    ``partial_r2`` is the share of the outcome's residual variance that the treatment explains.
    """

    estimate: Estimate
    partial_r2: float
    degrees_of_freedom: int


def partially_linear(
    outcome_N: FloatArray,
    is_treated_N: BoolArray,
    expected_N: FloatArray,
    propensity_N: FloatArray,
    cluster_N: IntArray,
) -> PartiallyLinear:
    """Residual on residual: outcome less its expectation, treatment less its propensity.

    Source: Robinson 1988; Chernozhukov et al. 2018, equation 4.4.
    """
    residual_N = outcome_N - expected_N
    surprise_N = is_treated_N - propensity_N
    value = float(surprise_N @ residual_N / (surprise_N @ surprise_N))
    left_N = residual_N - value * surprise_N
    influence_N = surprise_N * left_N / float(np.mean(surprise_N**2))
    total = float(residual_N @ residual_N)
    r2 = 1 - float(left_N @ left_N) / total if total > 0 else 0.0
    n_clusters = len(np.unique(cluster_N))
    return PartiallyLinear(
        from_influence(value, influence_N, cluster_N), max(r2, 0.0), max(n_clusters - 2, 1)
    )
