"""Whether the two groups are comparable: balance of covariates, overlap of propensities."""

from dataclasses import dataclass

import numpy as np

from models.causal.estimate import BoolArray, FloatArray

N_BINS = 10
GOOD_BALANCE = 0.1  # standard deviations (Austin 2009)


def standardised_differences(
    covariates_NP: FloatArray, is_treated_N: BoolArray, weight_N: FloatArray | None = None
) -> FloatArray:
    """Difference of the groups' means in standard deviations, float64 (P,); 0 if all are equal.

    The standard deviation is of both groups before weighting, so that before and after compare.
    Source: Rosenbaum and Rubin 1985; Austin 2009.
    """
    spread_P = np.sqrt(
        (covariates_NP[is_treated_N].var(axis=0) + covariates_NP[~is_treated_N].var(axis=0)) / 2
    )
    treated_P, untreated_P = group_means(covariates_NP, is_treated_N, weight_N)
    gap_P = treated_P - untreated_P
    differences_P: FloatArray = np.zeros_like(gap_P)
    np.divide(gap_P, spread_P, out=differences_P, where=spread_P > 1e-12)
    return differences_P


def group_means(
    covariates_NP: FloatArray, is_treated_N: BoolArray, weight_N: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Weighted means of the treated and of the untreated, float64 (P,) each."""
    weights = np.ones(len(is_treated_N)) if weight_N is None else weight_N
    treated_N, untreated_N = weights * is_treated_N, weights * ~is_treated_N
    return (
        treated_N @ covariates_NP / treated_N.sum(),
        untreated_N @ covariates_NP / untreated_N.sum(),
    )


@dataclass(frozen=True)
class OverlapBin:
    """Units of one tenth of the range of propensities; the mean propensity is NaN without any."""

    low: float
    high: float
    n_treated: int
    n_untreated: int
    mean_propensity: float


def overlap(propensity_N: FloatArray, is_treated_N: BoolArray) -> list[OverlapBin]:
    """Units by propensity: where a bin has one kind only, its effect is a guess of the model."""
    bin_N = np.minimum((propensity_N * N_BINS).astype(np.int64), N_BINS - 1)
    found = []
    for number in range(N_BINS):
        inside_N = bin_N == number
        found.append(
            OverlapBin(
                low=number / N_BINS,
                high=(number + 1) / N_BINS,
                n_treated=int((inside_N & is_treated_N).sum()),
                n_untreated=int((inside_N & ~is_treated_N).sum()),
                mean_propensity=float(propensity_N[inside_N].mean())
                if inside_N.any()
                else float("nan"),
            )
        )
    return found
