"""What the text rankers learn from: requests whose queries and notes are tokens.

Shapes: R = requests, N = candidates of all requests, C = notes, P = drawn rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.losses import ranking_loss
from models.ranking_data import Requests, require_shape, rows_of_requests
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
    """

    offsets: IntArray
    note: IntArray
    label: NDArray[np.float32]

    def pairs(self, requests: IntArray) -> "DrawnPairs":
        """The pairs of these requests, in their order."""
        rows, offsets = rows_of_requests(self.offsets, requests)
        request = np.repeat(np.arange(len(requests)), np.diff(offsets))
        place = np.arange(len(rows)) - offsets[:-1][request]
        return DrawnPairs(
            requests[request], self.note[rows], self.label[rows], request, place, len(requests)
        )


@dataclass(frozen=True)
class DrawnPairs:
    """The B pairs of a batch.

    Attributes:
        fit_request: int64 (B,), the request in its fold.
        note: int64 (B,), row of the notes.
        label: float32 (B,), 1 clicked, 0 not.
        request, place: int64 (B,), the request in the batch and the place in its list, from 0.
        n_requests: of the batch.
    """

    fit_request: IntArray
    note: IntArray
    label: NDArray[np.float32]
    request: IntArray
    place: IntArray
    n_requests: int

    def loss(self, kind: Literal["pointwise", "listwise"], score_B: Tensor) -> Tensor:
        """What these scores lose, see `models.losses`."""
        label_B, request_B, place_B = (
            torch.from_numpy(array).to(score_B.device)
            for array in (self.label, self.request, self.place)
        )
        return ranking_loss(kind, score_B, label_B, request_B, place_B, self.n_requests)


def drawn_lists(
    order: np.random.Generator,
    fit: TextRequests,
    n_notes: int,
    list_size: int,
    other_negatives: int,
) -> DrawnLists:
    """Of each request a clicked note, an unclicked one and others, up to list_size; and up to
    other_negatives notes that other requests showed and this one did not."""
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
    label = np.concatenate([fit.labels[rows], np.zeros(int(is_foreign.sum()), dtype=np.float32)])
    n_drawn = np.bincount(request, minlength=fit.n_requests)
    return DrawnLists(
        offsets=np.concatenate([[0], np.cumsum(n_drawn)]),
        note=np.concatenate([fit.note[rows], note[is_foreign]])[by_request],
        label=label[by_request],
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
