"""Examination by place, as an estimator found it, and what keeps it from being known."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.click_models.likelihood import Maximum
from models.click_models.sessions import FloatArray, Sessions

Z95 = 1.959964
# A place of which covariates explain so much of the information cannot be told from attraction.
ENTANGLED = 0.9
# Standard error of log examination above which a place is as good as unknown.
UNKNOWN = 0.25


@dataclass(frozen=True)
class Curve:
    """Examination relative to the reference place.

    Attributes:
        estimate: (K,), NaN where nothing was shown.
        lower, upper: (K,), 95 % interval; NaN where the estimator has none.
        log_error: (K,), standard error of the logarithm; NaN where the estimator has none.
        warnings: sentences about what the data cannot tell.
    """

    estimate: FloatArray
    lower: FloatArray
    upper: FloatArray
    log_error: FloatArray
    warnings: tuple[str, ...] = ()

    @classmethod
    def of_logarithm(
        cls, log: FloatArray, log_error: FloatArray, warnings: Sequence[str] = ()
    ) -> "Curve":
        """With intervals that are symmetric in the logarithm; NaN where ``log`` is."""
        log_error = np.where(np.isnan(log), np.nan, log_error)
        lower, upper = np.exp(log - Z95 * log_error), np.exp(log + Z95 * log_error)
        return cls(np.exp(log), lower, upper, log_error, tuple(warnings))

    @classmethod
    def without_interval(cls, estimate: FloatArray, warnings: Sequence[str] = ()) -> "Curve":
        unknown = np.full(len(estimate), np.nan)
        return cls(estimate, unknown, unknown, unknown, tuple(warnings))


def curve_at(sessions: Sessions, maximum: Maximum) -> Curve:
    """The curve of a likelihood's maximum; intervals are symmetric in the logarithm."""
    n_K = sessions.n_places
    log, error = maximum.parameters[:n_K].copy(), np.sqrt(np.diag(maximum.covariance)[:n_K])
    log[np.bincount(sessions.place, minlength=n_K) == 0] = np.nan
    return Curve.of_logarithm(log, error, warnings(sessions, maximum))


def warnings(sessions: Sessions, maximum: Maximum) -> tuple[str, ...]:
    """What a reader of the curve must be told, in sentences; empty where all is well."""
    said = []
    n_K = sessions.n_places
    names = sessions.place_names
    if not maximum.converged:
        said.append(f"The likelihood was still rising after {len(maximum.trace)} passes.")
    shown = np.bincount(sessions.place, minlength=n_K) > 0
    if not shown.all():
        said.append(f"Nothing was shown at {_listed(names, ~shown)}.")
    free = np.flatnonzero(maximum.is_free[:n_K])
    error = np.sqrt(np.diag(maximum.covariance)[:n_K])
    unknown = np.zeros(n_K, dtype=bool)
    unknown[free] = error[free] > UNKNOWN
    if unknown.any():
        said.append(
            f"Too few clicks to know {_listed(names, unknown)}: the interval spans more than a "
            f"factor of {np.exp(2 * Z95 * UNKNOWN):.1f}."
        )
    others = np.flatnonzero(maximum.is_free[n_K:]) + n_K
    if len(others) and len(free):
        information = maximum.information
        own = information[np.ix_(free, free)]
        cross = information[np.ix_(free, others)]
        rest = information[np.ix_(others, others)] + 1e-9 * np.eye(len(others))
        left = own - cross @ np.linalg.solve(rest, cross.T)
        # The worst direction of the curve: how much of what the clicks say of it is left when
        # attraction is unknown, too.
        scale = np.sqrt(np.maximum(np.diag(own), 1e-12))
        share = 1.0 - np.diag(left) / scale**2
        entangled = np.zeros(n_K, dtype=bool)
        entangled[free] = share > ENTANGLED
        if entangled.any():
            said.append(
                f"At {_listed(names, entangled)} place and attraction go together so closely that "
                "the curve rests on the form of the model, not on the data."
            )
    within = _spread_within_place(sessions)
    if within is not None and within < 0.02:
        said.append(
            "The rank in the list follows from the place almost everywhere: nothing tells "
            "examination from attraction."
        )
    return tuple(said)


def _spread_within_place(sessions: Sessions) -> float | None:
    """Share of the variance of the relative rank that lies within places; None without it."""
    if "relative_rank" not in sessions.covariate_names:
        return None
    value = sessions.covariates[:, list(sessions.covariate_names).index("relative_rank")]
    count = np.bincount(sessions.place, minlength=sessions.n_places)
    total = np.bincount(sessions.place, value, minlength=sessions.n_places)
    mean = total / np.maximum(count, 1)
    return float(((value - mean[sessions.place]) ** 2).sum() / ((value - value.mean()) ** 2).sum())


def _listed(names: Sequence[str], chosen: np.ndarray) -> str:
    found = [names[k] for k in np.flatnonzero(chosen).tolist()]
    shown = ", ".join(found[:8])
    more = f" and {len(found) - 8} more" if len(found) > 8 else ""
    return f"position {shown}{more}" if len(found) == 1 else f"positions {shown}{more}"
