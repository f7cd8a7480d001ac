"""An estimated effect with its interval, and how both come out of one number a unit."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

NORMAL_95 = 1.959963984540054


@dataclass(frozen=True)
class Estimate:
    """An effect in units of its outcome, its standard error over clusters, and the 95 % interval.

    ``low`` and ``high`` are NaN where there are too few clusters for an interval.
    """

    value: float
    standard_error: float
    low: float
    high: float


def from_influence(value: float, influence_N: FloatArray, cluster_N: IntArray) -> Estimate:
    """The estimate whose error is the mean of these influences (which have mean 0).

    Units of one cluster (a user) are taken as one draw: their influences are summed before they are
    squared. With G clusters the variance is scaled by G / (G - 1).

    Source: Liang and Zeger 1986; influence functions: Newey 1990.
    """
    _, code_N = np.unique(cluster_N, return_inverse=True)
    sum_G = np.bincount(code_N, influence_N)
    n_clusters = len(sum_G)
    if n_clusters < 2:
        return Estimate(value, float("nan"), float("nan"), float("nan"))
    variance = float((sum_G**2).sum()) / len(influence_N) ** 2 * n_clusters / (n_clusters - 1)
    error = float(np.sqrt(variance))
    return Estimate(value, error, value - NORMAL_95 * error, value + NORMAL_95 * error)


def difference_of_means(
    outcome_N: FloatArray, is_treated_N: BoolArray, cluster_N: IntArray
) -> Estimate:
    """Treated less untreated, nothing adjusted for: what a naive reader would call the effect."""
    return weighted_difference(outcome_N, is_treated_N, np.ones(len(outcome_N)), cluster_N)


def weighted_difference(
    outcome_N: FloatArray, is_treated_N: BoolArray, weight_N: FloatArray, cluster_N: IntArray
) -> Estimate:
    """Difference of the two groups' weighted means; the weights are taken as known.

    Raises ValueError when a group is empty or weighs nothing.
    """
    sides = []
    for is_side_N in (is_treated_N, ~is_treated_N):
        share_N = weight_N * is_side_N
        total = float(share_N.sum())
        if total <= 0:
            raise ValueError("an effect needs units with and without the treatment")
        mean = float(share_N @ outcome_N) / total
        sides.append((mean, len(outcome_N) * share_N * (outcome_N - mean) / total))
    (treated, of_treated_N), (untreated, of_untreated_N) = sides
    return from_influence(treated - untreated, of_treated_N - of_untreated_N, cluster_N)
