"""What the click models fitted by gradient share: L-BFGS, and the condition of being in the log."""

from collections.abc import Callable, Sequence

import numba
import torch
from torch import Tensor

from models.click_models.sessions import BoolArray, FloatArray, IntArray, Sessions

MAX_STEPS = 150


def maximise(
    parameters: Sequence[Tensor],
    log_likelihood: Callable[[], Tensor],
) -> tuple[float, ...]:
    """Climb to a maximum in place; returns the log-likelihood at each look, in nats."""
    trace: list[float] = []
    scale = 1.0
    optimiser = torch.optim.LBFGS(
        list(parameters),
        max_iter=MAX_STEPS,
        history_size=20,
        tolerance_grad=1e-6,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )

    def look() -> Tensor:
        nonlocal scale
        optimiser.zero_grad()
        value = log_likelihood()
        if not trace:
            # L-BFGS is used to values near one; its tolerances mean that.
            scale = 1.0 / max(abs(float(value.detach())), 1.0)
        trace.append(float(value.detach()))
        loss = -value * scale
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(look)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        trace.append(float(log_likelihood()))
    return tuple(trace)


def truncated(p_N: Tensor, clicked_N: Tensor, none_R: Tensor, selected_R: Tensor) -> Tensor:
    """Nats of all clicks, those of requests in the log because of one given that there is one.

    Args:
        p_N: (N,), probability of a click given the clicks above, inside 0..1.
        none_R: (R,), log-probability of no click at all; ``selected_R`` in the same order.
    """
    clicks = torch.where(clicked_N, torch.log(p_N), torch.log1p(-p_N)).sum()
    some_R = torch.log(-torch.expm1(none_R.clamp(max=-1e-12)))
    return clicks - some_R[selected_R].sum()


def condition_on_click(
    sessions: Sessions, given_past: FloatArray, given_none: FloatArray
) -> FloatArray:
    """P(click | clicks above, the request is in the log) of each exposure, (N,).

    Until something was clicked, a request that is in the log because of a click still owes one:
    the probability is divided by that of a click from here on.

    Args:
        given_past: (N,), probability of a click given the clicks above.
        given_none: (N,), the same had nothing above been clicked.
    """
    return _conditioned(
        sessions.offsets, sessions.is_clicked, sessions.is_selected, given_past, given_none
    )


@numba.njit(cache=True)
def _conditioned(
    offsets: IntArray,
    is_clicked: BoolArray,
    is_selected: BoolArray,
    given_past: FloatArray,
    given_none: FloatArray,
) -> FloatArray:
    out = given_past.copy()
    for r in range(len(offsets) - 1):
        if not is_selected[r]:
            continue
        first = offsets[r]
        while first < offsets[r + 1] - 1 and not is_clicked[first]:
            first += 1
        none = 1.0
        for i in range(offsets[r + 1] - 1, offsets[r] - 1, -1):
            none *= 1.0 - given_none[i]
            if i <= first:
                out[i] = given_none[i] / max(1.0 - none, 1e-300)
    return out
