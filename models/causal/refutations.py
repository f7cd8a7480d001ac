"""Attempts to prove an estimator wrong: with what must have no effect, or must change nothing.

An estimator that passes may still be wrong; one that fails is. All take the estimator as a function
of what they change, so that it is the reported one that is tried, nuisance included.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.causal.estimate import BoolArray, Estimate, FloatArray, IntArray

N_DRAWS = 10
SUBSET = 0.8


@dataclass(frozen=True)
class Refutation:
    """``expected`` is what an honest estimator gives; the interval is over the draws, or the
    estimate's own where there is one draw."""

    name: str
    expected: float
    estimate: float
    low: float
    high: float
    n_units: int
    n_draws: int

    @property
    def is_as_expected(self) -> bool:
        """Whether the interval holds what was expected."""
        return self.low <= self.expected <= self.high


def placebo_treatment(
    effect: Callable[[BoolArray], Estimate],
    is_treated_N: BoolArray,
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> Refutation:
    """The treatment dealt out anew by chance: an effect of 0 is expected.

    The interval is the mean over draws with two standard errors of it.
    """
    rng = np.random.default_rng(seed)
    values_D = np.array([effect(rng.permutation(is_treated_N)).value for _ in range(n_draws)])
    return _of_draws("placebo treatment", 0.0, values_D, len(is_treated_N))


def placebo_outcome(estimate: Estimate, n_units: int) -> Refutation:
    """An outcome that was settled before the treatment: an effect of 0 is expected."""
    return Refutation(
        "placebo outcome", 0.0, estimate.value, estimate.low, estimate.high, n_units, 1
    )


def random_common_cause(
    effect: Callable[[FloatArray], Estimate],
    n_units: int,
    original: Estimate,
    seed: int = 0,
) -> Refutation:
    """A covariate more, drawn by chance: the original estimate is expected, within its interval."""
    again = effect(np.random.default_rng(seed).standard_normal(n_units))
    return Refutation(
        "random common cause", original.value, again.value, again.low, again.high, n_units, 1
    )


def subsets(
    effect: Callable[[BoolArray], Estimate],
    cluster_N: IntArray,
    original: Estimate,
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> Refutation:
    """Four fifths of the clusters, several times: the original estimate is expected.

    The interval is the range of the draws, widened by the error that leaving out a fifth makes.
    """
    rng = np.random.default_rng(seed)
    clusters = np.unique(cluster_N)
    values_D = np.empty(n_draws)
    for draw in range(n_draws):
        kept = rng.choice(clusters, max(2, round(SUBSET * len(clusters))), replace=False)
        values_D[draw] = effect(np.isin(cluster_N, kept)).value
    return _of_draws(
        "subset of users",
        original.value,
        values_D,
        len(cluster_N),
        least=original.standard_error * np.sqrt((1 - SUBSET) / SUBSET),
    )


def _of_draws(
    name: str, expected: float, values_D: FloatArray, n_units: int, least: float = 0.0
) -> Refutation:
    mean = float(values_D.mean())
    error = max(float(values_D.std(ddof=1) / np.sqrt(len(values_D))), least)
    return Refutation(
        name, expected, mean, mean - 2 * error, mean + 2 * error, n_units, len(values_D)
    )
