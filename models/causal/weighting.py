"""Inverse propensity weighting with weights that sum to one (Hajek)."""

import numpy as np

from models.causal.estimate import (
    BoolArray,
    Estimate,
    FloatArray,
    IntArray,
    weighted_difference,
)


def weights(is_treated_N: BoolArray, propensity_N: FloatArray, *, on_treated: bool) -> FloatArray:
    """What each unit counts: all units stand for all (ATE), or for the treated (ATT)."""
    odds_N = propensity_N / (1 - propensity_N)
    if on_treated:
        return np.where(is_treated_N, 1.0, odds_N)
    return np.where(is_treated_N, 1 / propensity_N, 1 / (1 - propensity_N))


def effect(
    outcome_N: FloatArray,
    is_treated_N: BoolArray,
    propensity_N: FloatArray,
    cluster_N: IntArray,
    *,
    on_treated: bool,
) -> Estimate:
    """Weighted difference of means; the propensities are taken as known, which widens intervals.

    Source: Hajek 1971; Hirano, Imbens and Ridder 2003.
    """
    weight_N = weights(is_treated_N, propensity_N, on_treated=on_treated)
    return weighted_difference(outcome_N, is_treated_N, weight_N, cluster_N)


def effective_size(weight_N: FloatArray) -> float:
    """How many equally weighted units the weights are worth (Kish 1965)."""
    return float(weight_N.sum() ** 2 / (weight_N**2).sum())
