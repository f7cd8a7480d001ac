"""Small ranking problems whose answer is known."""

import numpy as np
from numpy.typing import NDArray

from models.ranking_data import RankingData


def ranking_data(
    n_requests: int,
    score_of: str,
    *,
    seed: int = 0,
    n_candidates: int = 8,
) -> RankingData:
    """Requests whose two best candidates are clicked; `score_of` says what decides.

    product     the product of two dense features; alone each of them says nothing
    category    a pair of categorical ids, through a fixed random table
    history     whether the candidate is of the kind (even or odd id) that the user clicked before
    noise       nothing that a model can see
    """
    rng = np.random.default_rng(seed)
    n = n_requests * n_candidates
    dense = rng.normal(size=(n, 4)).astype(np.float32)
    categorical = rng.integers(1, 6, size=(n, 2)).astype(np.int32)
    note_id = rng.integers(1, 41, size=n).astype(np.int32)
    taste = rng.integers(0, 2, size=n_requests)
    history = (2 * rng.integers(1, 20, size=(n_requests, 5)) + taste[:, None]).astype(np.int32)
    history[:, 4] = 0
    table = np.random.default_rng(99).normal(size=(6, 6))
    utility = {
        "product": dense[:, 0] * dense[:, 1],
        "category": table[categorical[:, 0], categorical[:, 1]],
        "history": (note_id % 2 == np.repeat(taste, n_candidates)).astype(float),
        "noise": np.zeros(n),
    }[score_of]
    utility = utility + 0.3 * rng.normal(size=n)
    return RankingData(
        request_offsets=np.arange(0, n + 1, n_candidates),
        labels=best_two(utility, n_requests),
        dense=dense,
        categorical=categorical,
        history=history,
        note_id=note_id,
    )


def best_two(utility: NDArray[np.float64], n_requests: int) -> NDArray[np.float32]:
    place = np.argsort(np.argsort(-utility.reshape(n_requests, -1), axis=1), axis=1)
    return (place < 2).astype(np.float32).ravel()
