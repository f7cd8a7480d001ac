"""Ranking metrics under position bias: clicks weighed by examination, pairs that cancel the place,
and gains that are known.

A click at a place that is examined with probability e stands for 1 / e of them (inverse propensity
scoring, Joachims, Swaminathan and Schnabel, WSDM 2017). That is unbiased for metrics that are sums
over clicks, as DCG and precision are, and for no other: not for reciprocal ranks of the first
click. Self-normalised, the weights of all clicks are divided by their mean, which takes most of the
variance and adds a little bias (Swaminathan and Joachims, NIPS 2015). The effective sample size
says how many equally weighted clicks are left.

Shapes: N = candidates of all requests, R = requests, P = pairs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.causal.weighting import effective_size
from models.metrics import FloatArray

# Sums over clicks: what a click at a rank is worth.
ADDITIVE = ("dcg@10", "precision@10")
_K = 10


@dataclass(frozen=True)
class ClickWeights:
    """What each click counts as, and how much of the sample is left by it.

    Attributes:
        weight: (N,), 1 / examination at a click, 0 elsewhere.
        n_clicks: clicks that were weighed.
        n_effective: (sum of weights)^2 / sum of squared weights, over clicks; 0 without one.
        clipped_share: share of the clicks whose examination was below the clip.
    """

    weight: FloatArray
    n_clicks: int
    n_effective: float
    clipped_share: float


def click_weights(
    is_clicked: NDArray[np.bool_], examination: FloatArray, *, clip: float
) -> ClickWeights:
    """Weights of clicks; examination below ``clip`` counts as it."""
    weight = np.where(is_clicked, 1.0 / np.maximum(examination, clip), 0.0)
    n_clicks = int(is_clicked.sum())
    return ClickWeights(
        weight,
        n_clicks,
        effective_size(weight) if n_clicks else 0.0,
        float((examination[is_clicked] < clip).mean()) if n_clicks else 0.0,
    )


def rank_worth(request: NDArray[np.int64], score: FloatArray) -> dict[str, FloatArray]:
    """What a click on each candidate is worth by each of `ADDITIVE`, (N,), ties by the mean.

    Requests are numbered from 0.
    """
    order = np.lexsort((-score, request))
    sorted_request, sorted_score = request[order], score[order]
    rank = np.arange(len(order)) - np.searchsorted(sorted_request, sorted_request) + 1
    new = np.ones(len(order), dtype=bool)
    new[1:] = (np.diff(sorted_request) != 0) | (np.diff(sorted_score) != 0)
    tie = np.cumsum(new) - 1
    found = {}
    for name, value in (
        ("dcg@10", 1.0 / np.log2(1.0 + rank)),
        ("precision@10", np.full(len(rank), 1 / _K)),
    ):
        value = np.where(rank <= _K, value, 0.0)
        mean = np.bincount(tie, value) / np.bincount(tie) if len(order) else value
        out = np.empty(len(order))
        out[order] = mean[tie] if len(order) else mean
        found[name] = out
    return found


def graded_ndcg(request: NDArray[np.int64], score: FloatArray, gain: FloatArray) -> FloatArray:
    """NDCG@10 of each request for gains of any size 0 or more, (R,); NaN where all gains are 0.

    Of clicks weighed by 1 / examination it is self-normalised within each request.
    """
    n_R = int(request.max()) + 1 if len(request) else 0
    found = np.bincount(request, rank_worth(request, score)["dcg@10"] * gain, minlength=n_R)
    best = np.bincount(request, rank_worth(request, gain)["dcg@10"] * gain, minlength=n_R)
    return np.where(best > 0, found / np.maximum(best, 1e-300), np.nan)


@dataclass(frozen=True)
class ClickPairs:
    """Two exposures at different places of which one was clicked.

    Attributes:
        clicked, other: int64 (P,), rows of the candidates.
        is_upper: (P,), the clicked one stood above the other.
    """

    clicked: NDArray[np.int64]
    other: NDArray[np.int64]
    is_upper: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.clicked)


def adjacent_pairs(
    request: NDArray[np.int64], shown_rank: NDArray[np.int64], is_clicked: NDArray[np.bool_]
) -> ClickPairs:
    """Neighbours of the shown list, one clicked and one not: seen about equally often."""
    order = np.lexsort((shown_rank, request))
    upper, lower = order[:-1], order[1:]
    is_pair = (
        (request[upper] == request[lower])
        & (shown_rank[lower] == shown_rank[upper] + 1)
        & (is_clicked[upper] != is_clicked[lower])
    )
    return _pairs(upper[is_pair], lower[is_pair], is_clicked)


def moved_pairs(
    note: NDArray[np.int64], shown_rank: NDArray[np.int64], is_clicked: NDArray[np.bool_]
) -> ClickPairs:
    """Showings of one note in two requests, at neighbouring ones of its places, clicked once."""
    order = np.lexsort((shown_rank, note))
    upper, lower = order[:-1], order[1:]
    is_pair = (
        (note[upper] == note[lower])
        & (shown_rank[lower] > shown_rank[upper])
        & (is_clicked[upper] != is_clicked[lower])
    )
    return _pairs(upper[is_pair], lower[is_pair], is_clicked)


def _pairs(
    upper: NDArray[np.int64], lower: NDArray[np.int64], is_clicked: NDArray[np.bool_]
) -> ClickPairs:
    is_upper = is_clicked[upper]
    return ClickPairs(np.where(is_upper, upper, lower), np.where(is_upper, lower, upper), is_upper)


def pairs_in_order(pairs: ClickPairs, score: FloatArray) -> FloatArray:
    """1 where the clicked one of a pair scores higher, 1/2 where both score alike, else 0, (P,)."""
    difference = score[pairs.clicked] - score[pairs.other]
    return np.asarray((np.sign(difference) + 1.0) / 2.0)


def relative_place(request: NDArray[np.int64], score: FloatArray) -> FloatArray:
    """How high a candidate stands in its own list, (N,): the share of it that scores lower, ties
    half. Scores of two requests cannot be compared; places in two lists can."""
    order = np.lexsort((score, request))
    sorted_request, sorted_score = request[order], score[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (np.diff(sorted_request) != 0) | (np.diff(sorted_score) != 0)
    tie = np.cumsum(new) - 1
    starts = np.searchsorted(sorted_request, sorted_request)
    ends = np.searchsorted(sorted_request, sorted_request, side="right")
    below = np.arange(len(order)) - starts
    mean = np.bincount(tie, below) / np.bincount(tie) if len(order) else below
    out = np.empty(len(order))
    out[order] = (mean[tie] if len(order) else mean) / np.maximum(ends - starts - 1, 1)
    return out
