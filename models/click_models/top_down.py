"""What cascade models share: readers go down the list, note by note, and may stop.

With e_i the probability that the i-th result is examined given the clicks above,

    p_i = e_i * a_i,    e_1 = 1,
    e_{i+1} = after_click_i                                           if i was clicked,
    e_{i+1} = go_on * e_i * (1 - a_i) / (1 - e_i * a_i)               if it was not.

One pass down all lists gives the likelihood, one pass up its gradient.

Shapes: R = requests, N = exposures.
"""

import math
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from models.click_models.sessions import BoolArray, FloatArray, IntArray, Sessions

_LARGEST_P = 1 - 1e-6
_SMALLEST_P = 1e-9


def log_likelihood(
    sessions: Sessions, attraction_N: Tensor, after_click_N: Tensor, go_on: Tensor
) -> Tensor:
    """Nats of all clicks, those of selected requests given that there is one; with a gradient."""
    value: Tensor = _TopDown.apply(attraction_N, after_click_N, go_on, sessions)  # type: ignore[no-untyped-call]
    return value


def walk(
    sessions: Sessions,
    attraction: FloatArray,
    after_click: FloatArray,
    go_on: float,
    is_clicked: BoolArray,
) -> tuple[FloatArray, FloatArray]:
    """Probabilities of a click and of examination given these clicks above, (N,) each."""
    return _walk(sessions.offsets, attraction, after_click, go_on, is_clicked)


class _TopDown(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, attraction_N: Tensor, after_click_N: Tensor, go_on: Tensor, sessions: Sessions
    ) -> Tensor:
        value, by_attraction, by_after, by_go_on = _with_gradient(
            sessions.offsets,
            sessions.is_clicked,
            sessions.is_selected,
            attraction_N.detach().numpy(),
            after_click_N.detach().numpy(),
            float(go_on),
        )
        ctx.save_for_backward(
            torch.from_numpy(by_attraction),
            torch.from_numpy(by_after),
            attraction_N.new_tensor(by_go_on),
        )
        return attraction_N.new_tensor(value)

    @staticmethod
    def backward(ctx: Any, *upper: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        by_attraction_N, by_after_N, by_go_on = ctx.saved_tensors
        (by_value,) = upper
        return by_value * by_attraction_N, by_value * by_after_N, by_value * by_go_on, None


@numba.njit(cache=True)
def _walk(
    offsets: IntArray,
    attraction: FloatArray,
    after_click: FloatArray,
    go_on: float,
    is_clicked: BoolArray,
) -> tuple[FloatArray, FloatArray]:
    past, seen = np.empty(len(attraction)), np.empty(len(attraction))
    for r in range(len(offsets) - 1):
        e = 1.0
        for i in range(offsets[r], offsets[r + 1]):
            p = min(e * attraction[i], _LARGEST_P)
            past[i], seen[i] = p, e
            e = after_click[i] if is_clicked[i] else go_on * (e - p) / (1.0 - p)
    return past, seen


@numba.njit(cache=True)
def _with_gradient(
    offsets: IntArray,
    is_clicked: BoolArray,
    is_selected: BoolArray,
    attraction: FloatArray,
    after_click: FloatArray,
    go_on: float,
) -> tuple[float, FloatArray, FloatArray, float]:
    """Log-likelihood and its derivatives by attraction (N,), after_click (N,) and go_on."""
    past, seen = _walk(offsets, attraction, after_click, go_on, is_clicked)
    never = np.zeros(len(attraction), dtype=np.bool_)
    past_none, seen_none = _walk(offsets, attraction, after_click, go_on, never)
    by_attraction, by_after = np.zeros(len(attraction)), np.zeros(len(attraction))
    by_go_on, total = 0.0, 0.0
    for r in range(len(offsets) - 1):
        odds_of_none = 0.0
        if is_selected[r]:
            log_none = 0.0
            for i in range(offsets[r], offsets[r + 1]):
                log_none += math.log1p(-past_none[i])
            some = -math.expm1(min(log_none, -1e-12))
            total -= math.log(some)
            odds_of_none = (1.0 - some) / some
        # What a little more examination of the next result would add, on either path.
        by_next, by_next_none = 0.0, 0.0
        for i in range(offsets[r + 1] - 1, offsets[r] - 1, -1):
            p, e, a = past[i], seen[i], attraction[i]
            rest = 1.0 - p
            if is_clicked[i]:
                total += math.log(max(p, _SMALLEST_P))
                by_p = 1.0 / p if p > _SMALLEST_P else 0.0
                by_after[i] = by_next
                by_e = 0.0
            else:
                total += math.log(rest)
                by_p = -1.0 / rest + by_next * go_on * (e - 1.0) / rest**2
                by_e = by_next * go_on / rest
                by_go_on += by_next * (e - p) / rest
            if p >= _LARGEST_P:
                by_p = 0.0
            by_attraction[i] += by_p * e
            by_next = by_e + by_p * a
            if odds_of_none > 0.0:
                p, e = past_none[i], seen_none[i]
                rest = 1.0 - p
                by_p = -odds_of_none / rest + by_next_none * go_on * (e - 1.0) / rest**2
                by_e = by_next_none * go_on / rest
                by_go_on += by_next_none * (e - p) / rest
                if p >= _LARGEST_P:
                    by_p = 0.0
                by_attraction[i] += by_p * e
                by_next_none = by_e + by_p * a
    return total, by_attraction, by_after, by_go_on


def no_click(sessions: Sessions) -> BoolArray:
    """Flags (N,) of the path on which nothing is clicked."""
    return np.zeros(len(sessions.place), dtype=bool)
