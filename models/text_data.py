"""What the text rankers learn from: requests whose queries and notes are tokens.

Shapes: R = requests, N = candidates of all requests, C = notes, P = drawn rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

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
    """The C notes that requests point to, and the tokens around them."""

    lists: TokenLists
    special: SpecialTokens


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
