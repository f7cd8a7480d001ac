"""What the EM algorithms of click models share: hidden requests, and steps that do not stand still.

Plain EM creeps: with the usual start (0.9 everywhere) and a damped step it has not moved after ten
passes. Here three plain passes make one extrapolated (SQUAREM, Varadhan and Roland, Scand. J.
Stat. 2008), taken only where the likelihood rises, until it stops rising.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.click_models.sessions import FloatArray, Sessions

MAX_PASSES = 200
# Gain of a whole round in nats per request below which a climb has ended.
TOLERANCE = 1e-5
LARGEST_LOGIT = 9.0

# Parameters in, parameters after one pass and the log-likelihood of those that came in out.
Pass = Callable[[FloatArray], tuple[FloatArray, float]]


@dataclass(frozen=True)
class Climb:
    """Where an EM algorithm ended; the trace holds the log-likelihood of each round, in nats."""

    parameters: FloatArray
    log_likelihood: float
    trace: tuple[float, ...]
    converged: bool
    n_passes: int


def climb(one_pass: Pass, start: FloatArray, n_requests: int) -> Climb:
    """Extrapolated EM from ``start`` until a round gains less than the tolerance."""
    at, converged, n_passes = start, False, 0
    trace: list[float] = []
    while n_passes < MAX_PASSES:
        first, value = one_pass(at)
        n_passes += 1
        if trace and value - trace[-1] < TOLERANCE * n_requests:
            trace.append(value)
            converged = True
            break
        trace.append(value)
        second, first_value = one_pass(first)
        n_passes += 1
        step, bend = first - at, second - 2 * first + at
        length = -np.sqrt((step @ step) / max(float(bend @ bend), 1e-30))
        if length < -1.0:
            far = np.clip(at - 2 * length * step + length**2 * bend, -LARGEST_LOGIT, LARGEST_LOGIT)
            settled, far_value = one_pass(far)
            n_passes += 1
            at = settled if far_value >= first_value else second
        else:
            at = second
    return Climb(at, trace[-1], tuple(trace), converged, n_passes)


def hidden_lists(sessions: Sessions, p: FloatArray) -> tuple[FloatArray, float]:
    """Lists without a click that stand behind each published request, and the log-likelihood.

    A request that is in the log because something was clicked was shown, without a click,
    S / (1 - S) times on average before, S = prod_i (1 - p_i): the missing data of a truncated
    likelihood (Dempster, Laird and Rubin 1977, section 4.2).

    Args:
        p: click probabilities, (N,).

    Returns:
        (R,), 0 where the request would have been published anyway; nats.
    """
    log_none = np.add.reduceat(np.log1p(-p), sessions.offsets[:-1])
    none = np.where(sessions.is_selected, np.exp(log_none), 0.0)
    some = np.maximum(1.0 - none, 1e-12)
    clicks = np.where(sessions.is_clicked, np.log(p), np.log1p(-p)).sum()
    return none / some, float(clicks - np.log(some).sum())


def logistic(value: FloatArray) -> FloatArray:
    return 1.0 / (1.0 + np.exp(-value))


def logit(probability: FloatArray) -> FloatArray:
    clipped = np.clip(probability, 1.3e-4, 1 - 1.3e-4)
    return np.log(clipped / (1 - clipped))
