"""What click models learn from: lists of results in the order of display, with their clicks.

Shapes: R = requests, N = exposures of all requests, F = covariates, K = places.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Sessions:
    """Requests with what was shown, top to bottom, and what was clicked.

    Attributes:
        offsets: int64 (R + 1,); request r has the rows offsets[r] .. offsets[r + 1] - 1.
        place: int64 (N,), the place of the page as a number in 0..K-1; examination depends on it.
        is_clicked: bool (N,).
        covariates: float64 (N, F), what the attraction of a note depends on, a 1 included.
        is_selected: bool (R,), the request is in the log only because something was clicked.
        user: int64 (R,), whose requests stand or fall together in intervals.
        place_names: K names.
        covariate_names: F names.
        reference: the place whose examination is 1; the others are relative to it.

    Raises:
        ValueError: shapes that do not fit, a selected request without a click.
    """

    offsets: IntArray
    place: IntArray
    is_clicked: BoolArray
    covariates: FloatArray
    is_selected: BoolArray
    user: IntArray
    place_names: Sequence[str]
    covariate_names: Sequence[str]
    reference: int = field(default=0)

    def __post_init__(self) -> None:
        n_R, n_N = len(self.offsets) - 1, int(self.offsets[-1])
        for name, array, n_rows in (
            ("place", self.place, n_N),
            ("is_clicked", self.is_clicked, n_N),
            ("covariates", self.covariates, n_N),
            ("is_selected", self.is_selected, n_R),
            ("user", self.user, n_R),
        ):
            if len(array) != n_rows:
                raise ValueError(f"{name} has {len(array)} rows, {n_rows} are needed")
        if self.covariates.shape[1] != len(self.covariate_names):
            raise ValueError("covariates and covariate_names differ in number")
        if n_R and (np.diff(self.offsets) < 1).any():
            raise ValueError("a request without an exposure says nothing: leave it out")
        if not np.isfinite(self.covariates).all():
            raise ValueError("covariates must be finite")
        if n_N and not (self.place.min() >= 0 and self.place.max() < self.n_places):
            raise ValueError(f"places must lie in 0..{self.n_places - 1}")
        empty = np.flatnonzero(self.is_selected & (self.n_clicks == 0))
        if len(empty):
            raise ValueError(
                f"request {empty[0]} has no click, and is said to be there because of one"
            )

    @property
    def n_requests(self) -> int:
        return len(self.offsets) - 1

    @property
    def n_places(self) -> int:
        return len(self.place_names)

    @property
    def request(self) -> IntArray:
        """The request of each exposure, (N,)."""
        return np.repeat(np.arange(self.n_requests), np.diff(self.offsets))

    @property
    def rank(self) -> IntArray:
        """The running number of each exposure in its request from 1, (N,)."""
        return np.arange(len(self.place)) - self.offsets[self.request] + 1

    @property
    def n_clicks(self) -> IntArray:
        """Clicks of each request, (R,)."""
        return np.bincount(self.request, self.is_clicked, minlength=self.n_requests).astype(int)

    def mean_by_place(self, value: FloatArray | BoolArray) -> FloatArray:
        """Mean over the exposures at each place, (K,); NaN where nothing was shown."""
        count = np.bincount(self.place, minlength=self.n_places)
        total = np.bincount(self.place, value, minlength=self.n_places)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    def take(self, requests: IntArray | BoolArray) -> "Sessions":
        """Some requests, whole; by index or by mask, (R,)."""
        index = np.arange(self.n_requests)[requests]
        length = np.diff(self.offsets)[index]
        offsets = np.concatenate([[0], np.cumsum(length)])
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[index] - offsets[:-1], length)
        return Sessions(
            offsets=offsets,
            place=self.place[rows],
            is_clicked=self.is_clicked[rows],
            covariates=self.covariates[rows],
            is_selected=self.is_selected[index],
            user=self.user[index],
            place_names=self.place_names,
            covariate_names=self.covariate_names,
            reference=self.reference,
        )

    def with_covariates(self, names: Sequence[str]) -> "Sessions":
        """The same lists, and of the covariates only these."""
        columns = [list(self.covariate_names).index(name) for name in names]
        return Sessions(
            **{
                **{name: getattr(self, name) for name in self.__dataclass_fields__},
                "covariates": np.ascontiguousarray(self.covariates[:, columns]),
                "covariate_names": tuple(names),
            }
        )


def relative_rank(rank: IntArray, n: IntArray) -> FloatArray:
    """How high a result stands in its list, in deviations: the expected normal score (Blom 1958).

    The best of n draws from a normal distribution lies higher the larger n is. A ranker puts what
    it takes for the best first, so attraction follows this number, and not the place as such: the
    same place is high up in a long list and low down in a short one, and in a list that begins on
    a later page the first result stands far down. That is what tells place from attraction apart.
    """
    score = torch.special.ndtri(torch.from_numpy((rank - 0.375) / (n + 0.25)))
    return np.asarray(-score.numpy())
