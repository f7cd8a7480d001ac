"""What the text rankers learn from: requests whose queries and notes are tokens.

Shapes: R = requests, N = candidates of all requests, C = notes, P = drawn rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.losses import corrected_clicks, ranking_loss
from models.ranking_data import NO_EXPOSURE, Requests, require_shape, rows_of_requests
from models.recipes import Training
from models.tokens import SpecialTokens, TokenLists

IntArray = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class TextRequests(Requests):
    """Requests with a query each; the candidates are rows of the notes.

    Attributes:
        queries: R token lists.
        note: int64 (N,), 0..C-1.

    Raises:
        ValueError: as `Requests`, and for another number of queries than of requests.
    """

    queries: TokenLists
    note: IntArray

    def __post_init__(self) -> None:
        super().__post_init__()
        require_shape("note", self.note, 1, self.n_candidates)
        if len(self.queries) != self.n_requests:
            raise ValueError(f"{len(self.queries)} queries for {self.n_requests} requests")

    def take(self, requests: IntArray | NDArray[np.bool_]) -> "TextRequests":
        """The given requests with all their candidates: a fold. By index or by mask, (R,)."""
        index = np.arange(self.n_requests)[requests]
        rows, offsets = rows_of_requests(self.request_offsets, index)
        return TextRequests(
            request_offsets=offsets,
            labels=self.labels[rows],
            queries=lists_taken(self.queries, index),
            note=self.note[rows],
            exposure=None if self.exposure is None else self.exposure.rows(rows),
        )


@dataclass(frozen=True)
class NoteTexts:
    """The C notes that requests point to, and the tokens around them.

    ``visual`` is float32 (C, K), inputs of what their covers look like; None where none are used.
    """

    lists: TokenLists
    special: SpecialTokens
    visual: NDArray[np.float32] | None = None

    @property
    def n_visual(self) -> int:
        """K, or 0."""
        return 0 if self.visual is None else int(self.visual.shape[1])


def lists_taken(lists: TokenLists, rows: IntArray) -> TokenLists:
    """The lists of these rows, in that order."""
    at, offsets = rows_of_requests(lists.offsets, rows)
    return TokenLists(lists.token_id[at], offsets)


def clicks_counted(fit: Requests, training: Training) -> NDArray[np.float32] | None:
    """What the clicks of a fold count as, float32 (N,); None where they count as they are.

    Raises:
        ValueError: a correction that learns places along with the ranking, which a text ranker has
            no input for, or counts below 0 what was not clicked, of which it draws a few only;
            candidates of whom it is not known where they stood.
    """
    correction = training.correction
    if correction is None:
        return None
    if correction.method not in ("ips", "doubly_robust"):
        raise ValueError(
            "a text ranker has no input for places, draws few of the notes that were not clicked, "
            f"and cannot learn by {correction.method}: take ips or doubly_robust"
        )
    if fit.exposure is None:
        raise ValueError(NO_EXPOSURE)
    counted: NDArray[np.float32] = corrected_clicks(
        torch.tensor(fit.labels, dtype=torch.float32),
        torch.tensor(fit.exposure.examination, dtype=torch.float32),
        clip=correction.clip,
        attraction_B=torch.tensor(fit.exposure.attraction, dtype=torch.float32)
        if correction.method == "doubly_robust"
        else None,
    ).numpy()
    return counted


def drawn(
    order: np.random.Generator, offsets: IntArray, is_eligible: NDArray[np.bool_], n: int
) -> tuple[IntArray, IntArray]:
    """Up to n of each request's eligible rows, drawn without putting back.

    Returns:
        The rows, int64 (P,), request after request, and the offsets of the requests, (R + 1,).
    """
    n_requests = len(offsets) - 1
    request = np.repeat(np.arange(n_requests), np.diff(offsets))
    rows = np.flatnonzero(is_eligible)
    rows = rows[np.lexsort((order.random(len(rows)), request[rows]))]
    n_eligible = np.bincount(request[rows], minlength=n_requests)
    first = np.repeat(np.cumsum(n_eligible) - n_eligible, n_eligible)
    rows = rows[np.arange(len(rows)) - first < n]
    n_drawn = np.bincount(request[rows], minlength=n_requests)
    return rows, np.concatenate([[0], np.cumsum(n_drawn)])


@dataclass(frozen=True)
class DrawnLists:
    """The pairs drawn for one epoch, request after request.

    Attributes:
        offsets: int64 (R + 1,).
        note: int64, rows of the notes.
        label: float32, 1 clicked, 0 not.
        counted: float32, what `clicks_counted` makes of the label, or None.
    """

    offsets: IntArray
    note: IntArray
    label: NDArray[np.float32]
    counted: NDArray[np.float32] | None = None

    def pairs(self, requests: IntArray) -> "DrawnPairs":
        """The pairs of these requests, in their order."""
        rows, offsets = rows_of_requests(self.offsets, requests)
        request = np.repeat(np.arange(len(requests)), np.diff(offsets))
        place = np.arange(len(rows)) - offsets[:-1][request]
        return DrawnPairs(
            requests[request],
            self.note[rows],
            self.label[rows],
            None if self.counted is None else self.counted[rows],
            request,
            place,
            len(requests),
        )


@dataclass(frozen=True)
class DrawnPairs:
    """The B pairs of a batch.

    Attributes:
        fit_request: int64 (B,), the request in its fold.
        note: int64 (B,), row of the notes.
        label: float32 (B,), 1 clicked, 0 not.
        counted: float32 (B,), as in `DrawnLists`, or None.
        request, place: int64 (B,), the request in the batch and the place in its list, from 0.
        n_requests: of the batch.
    """

    fit_request: IntArray
    note: IntArray
    label: NDArray[np.float32]
    counted: NDArray[np.float32] | None
    request: IntArray
    place: IntArray
    n_requests: int

    def loss(self, training: Training, score_B: Tensor) -> Tensor:
        """What these scores lose, see `models.losses`."""
        label_B, request_B, place_B = (
            torch.from_numpy(array).to(score_B.device)
            for array in (self.label, self.request, self.place)
        )
        lists = (label_B, request_B, place_B, self.n_requests)
        if self.counted is None or training.correction is None:
            return ranking_loss(training.loss, score_B, *lists)
        return ranking_loss(
            training.loss,
            score_B,
            *lists,
            corrected_B=torch.from_numpy(self.counted).to(score_B.device),
            self_normalised=training.correction.self_normalised,
        )


def drawn_lists(
    order: np.random.Generator,
    fit: TextRequests,
    n_notes: int,
    list_size: int,
    other_negatives: int,
    counted: NDArray[np.float32] | None = None,
) -> DrawnLists:
    """Of each request a clicked note, an unclicked one and others, up to list_size; and up to
    other_negatives notes that other requests showed and this one did not.

    ``counted`` (N,) is what `clicks_counted` makes of the fold; a note of another request counts 0.
    """
    clicked, _ = drawn(order, fit.request_offsets, fit.labels > 0, 1)
    unclicked, _ = drawn(order, fit.request_offsets, fit.labels == 0, 1)
    is_open = np.ones(fit.n_candidates, dtype=bool)
    is_open[clicked] = is_open[unclicked] = False
    more, _ = drawn(order, fit.request_offsets, is_open, max(0, list_size - 2))
    rows = np.concatenate([clicked, unclicked, more])
    # Rows of any request; what the request itself showed is not taken for another's.
    other = order.integers(0, fit.n_candidates, (fit.n_requests, other_negatives))
    of_request = np.repeat(np.arange(fit.n_requests), other_negatives)
    note = fit.note[other.ravel()]
    shown = fit.request_index * n_notes + fit.note
    is_foreign = ~np.isin(of_request * n_notes + note, shown)
    request = np.concatenate([fit.request_index[rows], of_request[is_foreign]])
    by_request = np.argsort(request, kind="stable")
    none = np.zeros(int(is_foreign.sum()), dtype=np.float32)
    label = np.concatenate([fit.labels[rows], none])
    n_drawn = np.bincount(request, minlength=fit.n_requests)
    return DrawnLists(
        offsets=np.concatenate([[0], np.cumsum(n_drawn)]),
        note=np.concatenate([fit.note[rows], note[is_foreign]])[by_request],
        label=label[by_request],
        counted=None if counted is None else np.concatenate([counted[rows], none])[by_request],
    )


def adamw(model: nn.Module, training: Training) -> Sequence[torch.optim.Optimizer]:
    """AdamW over every trainable parameter; decay shrinks matrices, not biases and scales."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {
            "params": [parameter for parameter in trained if parameter.ndim > 1],
            "weight_decay": training.weight_decay,
        },
        {
            "params": [parameter for parameter in trained if parameter.ndim < 2],
            "weight_decay": 0.0,
        },
    ]
    return [torch.optim.AdamW(groups, lr=training.learning_rate)]
