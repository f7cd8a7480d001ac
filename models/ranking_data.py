"""The arrays a ranker learns from: whole requests, their candidates in rows.

Shapes: R = requests, N = candidates of all requests, D = dense features, F = categorical fields,
H = length of the history.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.counterfactual import graded_ndcg, rank_worth
from models.metrics import REQUEST_METRICS, FloatArray, ranking_metrics
from models.recipes import Training

IdArray = NDArray[np.int32] | NDArray[np.int64]


NO_EXPOSURE = "a correction for position needs to know where the candidates stood"


class TooLittleData(ValueError):
    """There is not enough to train or validate on; the message is a sentence for the user."""


@dataclass(frozen=True, kw_only=True)
class Requests:
    """Requests with what became of their candidates.

    Attributes:
        request_offsets: int64 (R + 1,); request r has the rows offsets[r] .. offsets[r + 1] - 1.
        labels: float32 (N,), 1 clicked, 0 not.
        exposure: where the candidates stood, or None where training does not ask.

    Raises:
        ValueError: shapes that do not fit, labels outside 0..1, examination that is not above 0;
            the message names the array and the row.
    """

    request_offsets: NDArray[np.int64]
    labels: NDArray[np.float32]
    exposure: "Exposure | None" = None

    def __post_init__(self) -> None:
        offsets = self.request_offsets
        if offsets.ndim != 1 or len(offsets) == 0 or offsets[0] != 0:
            raise ValueError("request_offsets must have one dimension and begin with 0")
        if (np.diff(offsets) < 0).any():
            first = int(np.flatnonzero(np.diff(offsets) < 0)[0])
            raise ValueError(f"request_offsets falls after request {first}")
        require_shape("labels", self.labels, 1, int(offsets[-1]))
        _require(self.labels, (self.labels >= 0) & (self.labels <= 1), "labels", "in 0..1")
        if self.exposure is not None:
            require_shape("examination", self.exposure.examination, 1, self.n_candidates)
            is_good = self.exposure.examination > 0
            _require(self.exposure.examination, is_good, "examination", "above 0")

    @property
    def n_requests(self) -> int:
        return len(self.request_offsets) - 1

    @property
    def n_candidates(self) -> int:
        return int(self.request_offsets[-1])

    @property
    def request_index(self) -> NDArray[np.int64]:
        """The request of each candidate, (N,)."""
        return np.repeat(np.arange(self.n_requests), np.diff(self.request_offsets))

    @property
    def has_choice(self) -> NDArray[np.bool_]:
        """Which requests have both a clicked and an unclicked note, (R,)."""
        n_R = np.diff(self.request_offsets)
        n_clicked_R = np.bincount(
            self.request_index, weights=self.labels > 0, minlength=self.n_requests
        )
        return (n_clicked_R > 0) & (n_clicked_R < n_R)


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """Where candidates stood: for losses that allow for it, never an input of scoring.

    Attributes:
        place: int64 (N,), the place of the page as a number, from 0.
        examination: float32 (N,), of that place relative to the first, above 0.
        attraction: float32 (N,), mean attraction of what stood at that place.
        n_places: how many places there are.
        trust: float32 (N,) in 0..1, probability that an examined note that does not attract is
            clicked at that place; None where it is not asked for.
    """

    place: NDArray[np.int64]
    examination: NDArray[np.float32]
    attraction: NDArray[np.float32]
    n_places: int
    trust: NDArray[np.float32] | None = None

    def rows(self, rows: NDArray[np.int64]) -> "Exposure":
        return Exposure(
            place=self.place[rows],
            examination=self.examination[rows],
            attraction=self.attraction[rows],
            n_places=self.n_places,
            trust=None if self.trust is None else self.trust[rows],
        )

    def require_trust(self) -> NDArray[np.float32]:
        """Trust; raises ValueError where it is not known."""
        if self.trust is None:
            raise ValueError("an affine correction needs to know the trust in places")
        return self.trust


@dataclass(frozen=True, kw_only=True)
class RankingData(Requests):
    """Requests with their candidates as features.

    Attributes:
        dense: float32 (N, D), scaled to about unit size, finite.
        categorical: int32 or int64 (N, F), ids from 1; 0 = unknown.
        history: int32 (R, H), notes the user clicked before the request; 0 = none or unknown.
        note_id: int32 (N,), the candidate in the vocabulary of the history; 0 = unknown.

    Raises:
        ValueError: as `Requests`, and for dense values that are not finite and negative ids.
    """

    dense: NDArray[np.float32]
    categorical: IdArray
    history: IdArray
    note_id: IdArray

    def __post_init__(self) -> None:
        super().__post_init__()
        n_N, n_R = self.n_candidates, self.n_requests
        for name, array, n_dim, n_rows in (
            ("dense", self.dense, 2, n_N),
            ("categorical", self.categorical, 2, n_N),
            ("history", self.history, 2, n_R),
            ("note_id", self.note_id, 1, n_N),
        ):
            require_shape(name, array, n_dim, n_rows)
        _require(self.dense, np.isfinite(self.dense), "dense", "finite")
        for name, ids in (
            ("categorical", self.categorical),
            ("history", self.history),
            ("note_id", self.note_id),
        ):
            if ids.dtype.kind not in "iu":
                raise ValueError(f"{name} must be integers, not {ids.dtype}")
            _require(ids, ids >= 0, name, "0 or more")

    def take(self, requests: NDArray[np.int64] | NDArray[np.bool_]) -> "RankingData":
        """The given requests with all their candidates: a fold. By index or by mask, (R,)."""
        index = np.arange(self.n_requests)[requests]
        rows, offsets = rows_of_requests(self.request_offsets, index)
        return RankingData(
            request_offsets=offsets,
            labels=self.labels[rows],
            dense=self.dense[rows],
            categorical=self.categorical[rows],
            history=self.history[index],
            note_id=self.note_id[rows],
            exposure=None if self.exposure is None else self.exposure.rows(rows),
        )


def rows_of_requests(
    request_offsets: NDArray[np.int64], requests: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the given requests' candidates, in that order, and the offsets among them."""
    n_rows = request_offsets[requests + 1] - request_offsets[requests]
    offsets = np.concatenate([[0], np.cumsum(n_rows)]).astype(np.int64)
    shift = np.repeat(request_offsets[requests] - offsets[:-1], n_rows)
    return np.arange(offsets[-1]) + shift, offsets


def metric_on(data: Requests, metric: str = "mrr@10") -> Callable[[FloatArray], float]:
    """A function from scores (N,) of these candidates to a mean over the requests with a click.

    The metric is the report's own, ties in expectation; any name of `REQUEST_METRICS`, or `gauc`.

    Raises:
        ValueError: an unknown metric.
        TooLittleData: no request has a click.
    """
    if metric not in (*REQUEST_METRICS, "gauc"):
        raise ValueError(f"unknown metric {metric!r}: one of {', '.join(REQUEST_METRICS)}, gauc")
    qid_N, row_N = data.request_index, np.arange(data.n_candidates)
    is_hit_N = data.labels > 0
    if not is_hit_N.any():
        raise TooLittleData("Too little data to validate on: no request has a clicked note.")

    def value(score_N: FloatArray) -> float:
        result = ranking_metrics(qid_N, row_N, score_N, qid_N[is_hit_N], row_N[is_hit_N])
        return result.means[metric]

    return value


def weighted_on(data: Requests) -> Callable[[FloatArray], float]:
    """Mean NDCG@10 with clicks weighed by one over examination: raw clicks would choose the epoch
    that knows the old order best. Where trust is known, mean DCG@10 of affine corrections, which
    may be below 0 and so have no best order to divide by.

    Raises:
        ValueError: it is not known where the candidates stood.
        TooLittleData: no request has a click.
    """
    if data.exposure is None:
        raise ValueError(NO_EXPOSURE)
    if not (data.labels > 0).any():
        raise TooLittleData("Too little data to validate on: no request has a clicked note.")
    request = data.request_index
    examination = data.exposure.examination.astype(np.float64)
    if data.exposure.trust is not None:
        floor = examination * data.exposure.trust
        affine = (data.labels - floor) / (examination - floor)

        def mean_dcg(score_N: FloatArray) -> float:
            return float((rank_worth(request, score_N)["dcg@10"] * affine).sum() / data.n_requests)

        return mean_dcg
    gain = data.labels / examination

    def value(score_N: FloatArray) -> float:
        return float(np.nanmean(graded_ndcg(request, score_N, gain)))

    return value


def validation_metric(data: Requests, training: Training) -> Callable[[FloatArray], float]:
    """What chooses the epoch: MRR@10 of the clicks, or their weighted NDCG@10 where training
    allows for position; errors as `metric_on` and `weighted_on`."""
    return metric_on(data) if training.correction is None else weighted_on(data)


def require_enough(fit: "Requests", validation: "Requests", training: Training) -> None:
    """Raise TooLittleData unless both folds have as many requests as the training needs, with both
    clicked and unclicked notes."""
    _require_choice(fit, training.min_fit_requests, "train")
    _require_choice(validation, training.min_validation_requests, "validate")


def _require_choice(data: Requests, n_needed: int, purpose: Literal["train", "validate"]) -> None:
    n_found = int(np.count_nonzero(data.has_choice))
    if n_found < n_needed:
        found = {0: "none", 1: "only 1"}.get(n_found, f"only {n_found:,}")
        raise TooLittleData(
            f"Too little data to {purpose}: {found} of {data.n_requests:,} requests in the "
            f"{'fit' if purpose == 'train' else 'validation'} fold "
            f"{'has' if n_found < 2 else 'have'} both clicked and unclicked notes, and at least "
            f"{n_needed:,} are needed."
        )


def require_shape(name: str, array: NDArray[np.generic], n_dim: int, n_rows: int) -> None:
    """Raise ValueError unless the array has so many dimensions and rows."""
    if array.ndim != n_dim or len(array) != n_rows:
        raise ValueError(
            f"{name} has shape {array.shape}: {n_rows} rows in {n_dim} dimensions needed"
        )


def _require(array: NDArray[np.generic], is_good: NDArray[np.bool_], name: str, what: str) -> None:
    if not is_good.all():
        row = int(np.argwhere(~is_good)[0][0])
        raise ValueError(f"{name} must be {what}: row {row} is {array[row]}")
