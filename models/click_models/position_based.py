"""Position-based model: p = examination_k * attraction_g (Richardson et al., WWW 2007; eq. 3 of
Chuklin, Markov and de Rijke 2015).

A table for places and a table for groups of notes: a note, or notes of one kind at one height of
the ranker's list. It is fitted by EM (Chuklin et al., section 4.1) and by gradient; both climb the
same likelihood, conditional on the selection of requests with a click. Only products are seen, so
the curve exists where groups link the places (`linked_places`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from models.click_models.curve import Curve
from models.click_models.expectation_maximisation import (
    climb,
    hidden_lists,
    logistic,
    logit,
)
from models.click_models.gradient import condition_on_click, maximise, truncated
from models.click_models.sessions import BoolArray, FloatArray, IntArray, Sessions

START = 0.5
_LARGEST_P = 1 - 1e-6


@dataclass(frozen=True)
class PositionBased:
    """A fitted model: examination (K,) as probabilities, attraction (G,), the climb's trace."""

    curve: Curve
    examination: FloatArray
    attraction: FloatArray
    log_likelihood: float
    trace: tuple[float, ...]

    def click_probability(self, sessions: Sessions, group: IntArray) -> FloatArray:
        """P(click | clicks above, the request is in the log), (N,)."""
        p = np.minimum(self.examination[sessions.place] * self.attraction[group], _LARGEST_P)
        return condition_on_click(sessions, p, p)


def fit_em(sessions: Sessions, group: IntArray, n_groups: int) -> PositionBased:
    """By EM. A group nobody met has the attraction of the start.

    Args:
        group: (N,), the group of each exposure, in 0..n_groups-1.
    """
    n_K, place, clicked = sessions.n_places, sessions.place, sessions.is_clicked
    request = sessions.request

    def one_pass(parameters: FloatArray) -> tuple[FloatArray, float]:
        examination, attraction = logistic(parameters[:n_K])[place], logistic(parameters[n_K:])
        attraction = attraction[group]
        p = np.minimum(examination * attraction, _LARGEST_P)
        hidden, value = hidden_lists(sessions, p)
        unclicked = np.where(clicked, 0.0, 1.0) + hidden[request]
        weight = 1.0 + hidden[request]
        seen = clicked + unclicked * examination * (1 - attraction) / (1 - p)
        liked = clicked + unclicked * attraction * (1 - examination) / (1 - p)
        return np.concatenate(
            [
                _updated(parameters[:n_K], place, seen, weight),
                _updated(parameters[n_K:], group, liked, weight),
            ]
        ), value

    start = np.full(n_K + n_groups, logit(np.array([START]))[0])
    end = climb(one_pass, start, sessions.n_requests)
    said = [] if end.converged else [f"EM was still rising after {end.n_passes} passes."]
    return _fitted(
        sessions,
        group,
        n_groups,
        logistic(end.parameters[:n_K]),
        logistic(end.parameters[n_K:]),
        end.trace,
        said,
    )


def fit_gradient(sessions: Sessions, group: IntArray, n_groups: int) -> PositionBased:
    """By L-BFGS on the logits of both tables; ``group`` as in `fit_em`."""
    place_N = torch.from_numpy(sessions.place)
    group_N = torch.from_numpy(group)
    clicked_N = torch.from_numpy(sessions.is_clicked)
    request_N = torch.from_numpy(sessions.request)
    selected_R = torch.from_numpy(sessions.is_selected)
    examination_K = torch.zeros(sessions.n_places, dtype=torch.float64, requires_grad=True)
    attraction_G = torch.zeros(n_groups, dtype=torch.float64, requires_grad=True)

    def log_likelihood() -> torch.Tensor:
        p_N = torch.sigmoid(examination_K)[place_N] * torch.sigmoid(attraction_G)[group_N]
        p_N = p_N.clamp(1e-9, _LARGEST_P)
        none_N = torch.log1p(-p_N)
        none_R = torch.zeros(len(selected_R), dtype=torch.float64).index_add(0, request_N, none_N)
        # Tables that no click moves stay where they are; 1e-3 of a nat holds them there.
        hold = 1e-3 * ((examination_K**2).sum() + (attraction_G**2).sum())
        return truncated(p_N, clicked_N, none_R, selected_R) - hold

    trace = maximise([examination_K, attraction_G], log_likelihood)
    with torch.no_grad():
        return _fitted(
            sessions,
            group,
            n_groups,
            torch.sigmoid(examination_K).numpy(),
            torch.sigmoid(attraction_G).numpy(),
            trace,
            [],
        )


def linked_places(place: IntArray, group: IntArray, n_places: int, n_groups: int) -> IntArray:
    """The component of each place in the graph of places and groups, (K,): examination can be
    compared within a component only. A place never shown is a component of its own."""
    root = np.arange(n_places + n_groups)

    def find(node: int) -> int:
        while root[node] != node:
            root[node] = root[root[node]]
            node = int(root[node])
        return node

    pairs = np.unique(place * n_groups + group)
    for pair in pairs.tolist():
        root[find(pair // n_groups)] = find(n_places + pair % n_groups)
    return np.unique([find(k) for k in range(n_places)], return_inverse=True)[1]


def _updated(old: FloatArray, index: IntArray, hits: FloatArray, weight: FloatArray) -> FloatArray:
    count = np.bincount(index, weight, minlength=len(old))
    share = np.bincount(index, hits, minlength=len(old)) / np.maximum(count, 1e-12)
    return np.where(count > 0, logit(share), old)


def _fitted(
    sessions: Sessions,
    group: IntArray,
    n_groups: int,
    examination: FloatArray,
    attraction: FloatArray,
    trace: tuple[float, ...],
    said: Sequence[str],
) -> PositionBased:
    shown: BoolArray = np.bincount(sessions.place, minlength=sessions.n_places) > 0
    part = linked_places(sessions.place, group, sessions.n_places, n_groups)
    linked = shown & (part == part[sessions.reference])
    warnings = list(said)
    if (shown & ~linked).any():
        apart = ", ".join(str(sessions.place_names[k]) for k in np.flatnonzero(shown & ~linked)[:8])
        warnings.append(
            f"No group of notes links positions {apart} with the reference: no estimate for them."
        )
    relative = np.where(linked, examination / examination[sessions.reference], np.nan)
    return PositionBased(
        Curve.without_interval(relative, warnings), examination, attraction, trace[-1], trace
    )
