"""Ranking metrics under position bias: clicks weighed by examination, and gains that are known.

A click at a place that is examined with probability e stands for 1 / e of them (inverse propensity
scoring, Joachims, Swaminathan and Schnabel, WSDM 2017). Self-normalised, the weights of all clicks
are divided by their mean, which takes most of the variance and a little bias (Swaminathan and
Joachims, NIPS 2015). The effective sample size says how many equally weighted clicks are left.

Shapes: N = candidates of all requests, R = requests.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.metrics import FloatArray


@dataclass(frozen=True)
class WeightedMetric:
    """DCG@k of the clicks of each request, raw and weighed.

    Attributes:
        raw: mean over requests.
        ips: mean over requests, clicks weighed by 1 / examination.
        snips: the same, weights divided by their mean over clicks.
        raw_per_request, ips_per_request: (R,), for intervals.
        n_effective: (sum of weights)^2 / sum of squared weights, over clicks.
        n_clicks: clicks that were weighed.
    """

    raw: float
    ips: float
    snips: float
    raw_per_request: FloatArray
    ips_per_request: FloatArray
    n_effective: float
    n_clicks: int


def discount(request: NDArray[np.int64], score: FloatArray, k: int) -> FloatArray:
    """1 / log2(1 + rank) of each candidate in its request, 0 beyond rank k, ties by the mean, (N,).

    Requests are numbered from 0.
    """
    order = np.lexsort((-score, request))
    sorted_request, sorted_score = request[order], score[order]
    starts = np.searchsorted(sorted_request, sorted_request, side="left")
    rank = np.arange(len(order)) - starts + 1
    value = np.where(rank <= k, 1.0 / np.log2(1.0 + rank), 0.0)
    new = np.ones(len(order), dtype=bool)
    new[1:] = (np.diff(sorted_request) != 0) | (np.diff(sorted_score) != 0)
    tie = np.cumsum(new) - 1
    mean = np.bincount(tie, value) / np.bincount(tie) if len(order) else value
    out = np.empty(len(order))
    out[order] = mean[tie] if len(order) else mean
    return out


def weighted_dcg(
    request: NDArray[np.int64],
    score: FloatArray,
    is_clicked: NDArray[np.bool_],
    examination: FloatArray,
    *,
    k: int = 10,
    clip: float = 0.1,
) -> WeightedMetric:
    """DCG@k of a ranking, clicks counted and weighed; examination below ``clip`` counts as it."""
    n_R = int(request.max()) + 1 if len(request) else 0
    weight = np.where(is_clicked, 1.0 / np.maximum(examination, clip), 0.0)
    at = discount(request, score, k)
    raw = np.bincount(request, at * is_clicked, minlength=n_R).astype(np.float64)
    ips = np.bincount(request, at * weight, minlength=n_R).astype(np.float64)
    n_clicks = int(is_clicked.sum())
    mean_weight = float(weight.sum()) / max(n_clicks, 1)
    squares = float((weight**2).sum())
    return WeightedMetric(
        float(raw.mean()) if n_R else 0.0,
        float(ips.mean()) if n_R else 0.0,
        float(ips.mean()) / mean_weight if n_clicks else 0.0,
        raw,
        ips,
        float(weight.sum()) ** 2 / squares if squares else 0.0,
        n_clicks,
    )


def graded_ndcg(
    request: NDArray[np.int64], score: FloatArray, gain: FloatArray, *, k: int = 10
) -> FloatArray:
    """NDCG@k of each request for gains of any size 0 or more, (R,); NaN where all gains are 0."""
    n_R = int(request.max()) + 1 if len(request) else 0
    found = np.bincount(request, discount(request, score, k) * gain, minlength=n_R)
    best = np.bincount(request, discount(request, gain, k) * gain, minlength=n_R)
    return np.where(best > 0, found / np.maximum(best, 1e-300), np.nan)
