"""Intervention harvesting: the same note at different places, taken for an experiment.

Two estimators over notes (or other units) shown at several places, of Agarwal et al., "Estimating
Position Bias without Intrusive Interventions" (WSDM 2019):

- all pairs (eq. 9): for every two places, the units shown at both have the same mean attraction at
  both, so clicks at k are binomial with p_k * r_{kk'}, r free; likelihood over all pairs;
- adjacent pairs (section 3.2): p_{k+1} / p_k from units shown at both, chained.

Both believe that a unit's rank changes for reasons that have nothing to do with how attractive it
is *there and then*. A ranker that knows the user breaks that: the note stands first where it fits.
They need overlap: the graph of places, linked by units shown at both, is measured first; a place
that it does not link with the reference has no estimate, and where it links none there is no curve.

Shapes: N = exposures, U = units, K = places.
"""

from dataclasses import dataclass

import numpy as np

from models.click_models.curve import Curve
from models.click_models.sessions import FloatArray, IntArray, Sessions

# Units shown at both of two places below which the two count as not linked.
MIN_UNITS = 10
N_RESAMPLES = 30


class NotConnected(ValueError):
    """Places cannot be compared through the units; the message is a sentence for the user."""


@dataclass(frozen=True)
class Overlap:
    """Units shown at both of two places.

    Attributes:
        n_units: (K, K), the diagonal counts units shown at the place.
        component: (K,), places with the same number can be compared.
        unreached: names of places shown that cannot be compared with the reference.
    """

    n_units: IntArray
    component: IntArray
    unreached: tuple[str, ...]


def overlap(sessions: Sessions, unit: IntArray, *, min_units: int = MIN_UNITS) -> Overlap:
    """The graph of places. ``unit`` (N,) says what was shown, numbers from 0."""
    present = _Cells.of(sessions, unit).table(np.ones(len(unit))) > 0
    n_units = (present.T.astype(np.float64) @ present).round().astype(np.int64)
    linked = n_units >= min_units
    component = np.arange(len(n_units))
    for _ in range(len(n_units)):
        lowest = np.where(linked, component[None, :], len(n_units)).min(axis=1)
        lower = np.minimum(component, lowest)
        if (lower == component).all():
            break
        component = lower
    shown = np.bincount(sessions.place, minlength=sessions.n_places) > 0
    apart = shown & (component != component[sessions.reference])
    return Overlap(
        n_units, component, tuple(sessions.place_names[k] for k in np.flatnonzero(apart).tolist())
    )


@dataclass(frozen=True)
class Harvest:
    """Examination by place from all pairs of places, and from neighbouring places, chained."""

    all_pairs: Curve
    adjacent_pairs: Curve


def harvest(sessions: Sessions, unit: IntArray, asked: FloatArray, seed: int) -> Harvest:
    """Both curves, with intervals from the same resampled users: counting costs most of it.

    Args:
        unit: (N,), what was shown.
        asked: (R,), how many lists, counting those that were not published for want of a click,
            stand behind each request; ones where nothing was left out.
        seed: of the bootstrap over users.

    Raises:
        NotConnected: no place is linked with the reference through ten units or more.
    """
    found = overlap(sessions, unit)
    places = ", ".join(found.unreached[:8])
    more = f" and {len(found.unreached) - 8} more" if len(found.unreached) > 8 else ""
    said = [
        f"Fewer than {MIN_UNITS} units link positions {places}{more} with the rest: no estimate."
    ]
    reached = (found.component == found.component[sessions.reference]) & (
        np.diag(found.n_units) > 0
    )
    if reached.sum() < 2:
        raise NotConnected(
            f"No curve by harvesting: fewer than {MIN_UNITS} units were shown both at the "
            "reference place and at another. What is shown at different places has to overlap; "
            "take broader units or more requests."
        )
    request = sessions.request
    users, user = np.unique(sessions.user, return_inverse=True)
    rng = np.random.default_rng(seed)
    cells = _Cells.of(sessions, unit)

    def at(weight_R: FloatArray) -> FloatArray:
        counts = _Counts(
            cells.table((weight_R * asked)[request])[:, reached],
            cells.table(weight_R[request] * sessions.is_clicked)[:, reached],
        )
        log = np.full((2, sessions.n_places), np.nan)
        log[:, reached] = _fit_pairs(counts), _chain(counts)
        return np.asarray(log - log[:, [sessions.reference]])

    logs = at(np.ones(sessions.n_requests))
    draws = np.stack(
        [
            at(rng.multinomial(len(users), np.full(len(users), 1 / len(users)))[user].astype(float))
            for _ in range(N_RESAMPLES)
        ]
    )
    warnings = said if found.unreached else ()
    errors = draws.std(axis=0, ddof=1)
    return Harvest(*(Curve.of_logarithm(*one, warnings) for one in zip(logs, errors, strict=True)))


@dataclass(frozen=True)
class _Counts:
    shown: FloatArray  # (U, K)
    clicks: FloatArray  # (U, K)


@dataclass(frozen=True)
class _Cells:
    """Where the exposures of units shown at two places or more stand in a table (U, K).

    ``rows`` are these exposures, ``at`` their cells as row * K + place; found once, because a
    bootstrap fills the table again and again.
    """

    rows: IntArray
    at: IntArray
    shape: tuple[int, int]

    @classmethod
    def of(cls, sessions: Sessions, unit: IntArray) -> "_Cells":
        n_K = sessions.n_places
        cell, index = np.unique(unit * n_K + sessions.place, return_inverse=True)
        _, row, n_places = np.unique(cell // n_K, return_inverse=True, return_counts=True)
        several = n_places[row] > 1
        _, row = np.unique(cell[several] // n_K, return_inverse=True)
        at = np.full(len(cell), -1)
        at[several] = row * n_K + cell[several] % n_K
        rows = np.flatnonzero(several[index])
        return cls(rows, at[index[rows]], (int(row.max()) + 1 if len(row) else 0, n_K))

    def table(self, weight: FloatArray) -> FloatArray:
        """Sums of the weights (N,) of exposures by unit and place, (U, K)."""
        n = self.shape[0] * self.shape[1]
        found = np.bincount(self.at, weight[self.rows], minlength=n).reshape(self.shape)
        return found.astype(np.float64)


def _rates(counts: _Counts) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Per pair (k, k'): clicks and misses at k per unit shown at both, and how many units."""
    present = (counts.shown > 0).astype(np.float64)
    rate = np.divide(counts.clicks, counts.shown, where=counts.shown > 0, out=counts.clicks * 0.0)
    both = present.T @ present
    clicks = rate.T @ present
    return clicks, both - clicks, both


def _fit_pairs(counts: _Counts) -> FloatArray:
    """Log examination (K,) by alternating closed steps on the likelihood of all pairs.

    With q = p_k r_{kk'} small or large the likelihood is binomial; its score for log p_k is
    sum (clicks - n q) / (1 - q), solved by Newton steps in log p and log r in turn.
    """
    clicks, misses, _ = _rates(counts)
    np.fill_diagonal(clicks, 0.0)
    np.fill_diagonal(misses, 0.0)
    total = clicks + misses
    n_K = len(clicks)
    log_p = np.zeros(n_K)
    pooled = (clicks.sum(axis=1) + 1e-9) / np.maximum(total.sum(axis=1), 1e-9)
    log_r = np.log(np.minimum(np.add.outer(pooled, pooled) / 2, 0.9))
    for _ in range(300):
        q = np.minimum(np.exp(log_p[:, None] + log_r), 0.999)
        slope = (clicks - total * q) / (1 - q)
        bend = total * q / (1 - q)
        pair_slope, pair_bend = slope + slope.T, bend + bend.T
        log_r = log_r + np.where(pair_bend > 0, pair_slope / np.maximum(pair_bend, 1e-12), 0.0)
        q = np.minimum(np.exp(log_p[:, None] + log_r), 0.999)
        slope = ((clicks - total * q) / (1 - q)).sum(axis=1)
        bend = (total * q / (1 - q)).sum(axis=1)
        step = np.where(bend > 0, slope / np.maximum(bend, 1e-12), 0.0)
        log_p = log_p + np.clip(step, -0.5, 0.5)
        log_p -= log_p[0]
        if np.abs(step).max() < 1e-7:
            break
    return log_p


def _chain(counts: _Counts) -> FloatArray:
    clicks, _, _ = _rates(counts)
    log_p = np.zeros(len(clicks))
    for k in range(1, len(clicks)):
        ratio = max(clicks[k, k - 1], 1e-9) / max(clicks[k - 1, k], 1e-9)
        log_p[k] = log_p[k - 1] + np.log(ratio)
    return log_p
