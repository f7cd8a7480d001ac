"""Effect on the treated by comparison with the untreated that are most like them.

Matching is with replacement, on the logit of the propensity, within a caliper and, if asked, only
inside a stratum (exact matching on it): a pair can be looked at, which no weight can.
"""

from dataclasses import dataclass

import numpy as np

from models.causal.estimate import (
    BoolArray,
    Estimate,
    FloatArray,
    IntArray,
    from_influence,
    weighted_difference,
)

CALIPER = 0.2  # standard deviations of the logit (Austin 2011)


@dataclass(frozen=True)
class Matches:
    """``weight_N``: 1 for a treated unit with a match, and for an untreated one how often it is
    used. ``n_unmatched``: treated units without an untreated one nearby."""

    weight_N: FloatArray
    n_unmatched: int


def match(
    is_treated_N: BoolArray,
    propensity_N: FloatArray,
    stratum_N: IntArray | None = None,
    n_neighbours: int = 1,
) -> Matches:
    """For each treated unit the nearest untreated ones, each counting 1 / n_neighbours.

    Source: Rosenbaum and Rubin 1985; with replacement: Abadie and Imbens 2006.
    """
    logit_N = np.log(propensity_N / (1 - propensity_N))
    caliper = CALIPER * float(logit_N.std())
    weight_N = np.zeros(len(logit_N))
    n_unmatched = 0
    strata_N = np.zeros(len(logit_N), dtype=np.int64) if stratum_N is None else stratum_N
    for stratum in np.unique(strata_N):
        here_N = strata_N == stratum
        treated = np.flatnonzero(here_N & is_treated_N)
        others = np.flatnonzero(here_N & ~is_treated_N)
        others = others[np.argsort(logit_N[others], kind="stable")]
        if len(others) == 0:
            n_unmatched += len(treated)
            continue
        nearest = _nearest(logit_N[others], logit_N[treated], n_neighbours)
        for unit, found in zip(treated, nearest, strict=True):
            close = found[np.abs(logit_N[others[found]] - logit_N[unit]) <= caliper]
            if len(close) == 0:
                n_unmatched += 1
                continue
            weight_N[unit] = 1.0
            weight_N[others[close]] += 1.0 / len(close)
    return Matches(weight_N, n_unmatched)


def effect_on_treated(
    outcome_N: FloatArray, is_treated_N: BoolArray, matches: Matches, cluster_N: IntArray
) -> Estimate:
    """Mean over matched treated units of outcome less that of their matches.

    Raises ValueError when nothing is matched. The error takes the matches as given.
    """
    return weighted_difference(outcome_N, is_treated_N, matches.weight_N, cluster_N)


def exact(
    outcome_N: FloatArray, is_treated_N: BoolArray, stratum_N: IntArray, cluster_N: IntArray
) -> Estimate:
    """Effect over the strata that hold both kinds, by their size: nothing is modelled.

    Raises ValueError when no stratum holds both. Source: Rubin 1973 (subclassification).
    """
    _, code_N = np.unique(stratum_N, return_inverse=True)
    n_S = np.bincount(code_N)
    n_treated_S = np.bincount(code_N, is_treated_N)
    usable_S = (n_treated_S > 0) & (n_treated_S < n_S)
    if not usable_S.any():
        raise ValueError("no stratum holds units with and without the treatment")
    usable_N = usable_S[code_N]
    share_S = np.where(usable_S, n_treated_S / n_S, 0.5)
    sign_N = np.where(is_treated_N, 1 / share_S[code_N], -1 / (1 - share_S[code_N])) * usable_N
    mean = {}
    for side in (True, False):
        rows_N = is_treated_N == side
        total_S = np.bincount(code_N[rows_N], outcome_N[rows_N], minlength=len(n_S))
        mean[side] = total_S / np.maximum(np.bincount(code_N[rows_N], minlength=len(n_S)), 1)
    own_N = np.where(is_treated_N, mean[True][code_N], mean[False][code_N])
    difference_N = (mean[True] - mean[False])[code_N]
    value = float(difference_N[usable_N].mean())
    influence_N = sign_N * (outcome_N - own_N) + usable_N * (difference_N - value)
    return from_influence(value, influence_N / usable_N.mean(), cluster_N)


def _nearest(sorted_M: FloatArray, asked_T: FloatArray, k: int) -> list[IntArray]:
    """Indices of the k values of ``sorted_M`` nearest to each asked one."""
    k = min(k, len(sorted_M))
    at_T = np.searchsorted(sorted_M, asked_T)
    found = []
    for at, value in zip(at_T.tolist(), asked_T.tolist(), strict=True):
        window = np.arange(max(0, at - k), min(len(sorted_M), at + k))
        order = np.argsort(np.abs(sorted_M[window] - value), kind="stable")
        found.append(window[order[:k]])
    return found
