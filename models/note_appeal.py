"""Which notes are clicked more than their neighbours on the page, as far as their words tell.

A ridge regression of clicks on the pairs of neighbouring words of the note. A click is compared
with its request's share of clicks, so that neither the query, nor the user, nor the length of the
page counts. What a note gets is foretold by a regression that saw no click on it (cross-fitting,
Chernozhukov et al. 2018): otherwise a ranker that is told the appeal of the notes it learns from
would be told their clicks.

Shapes: C = notes, N = exposures, B = buckets of word pairs, P = word pairs of some notes.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import LinearOperator, cg

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

N_FOLDS = 5
# Pairs that fall together cost little: most are rare.
N_BUCKETS = 2**16
# In clicks: the penalty that foretells the notes of the first fold best is taken for all.
PENALTIES = (300.0, 1_000.0, 3_000.0, 10_000.0)
# More notes teach nothing that so many do not, and take as much more memory.
MOST_NOTES = 200_000
NOTES_AT_ONCE = 50_000
# What differs between machines is far below.
DECIMALS = 6


def click_surplus(request_N: IntArray, clicked_N: NDArray[np.bool_]) -> FloatArray:
    """Each click, 1 or 0, less its request's share of clicks; NaN where all or none were clicked.

    Args:
        request_N: int64 (N,), numbers of requests from 0.
    """
    clicks_N = clicked_N.astype(np.float64)
    share = np.bincount(request_N, clicks_N) / np.maximum(np.bincount(request_N), 1)
    share_N = share[request_N]
    return np.where((share_N > 0) & (share_N < 1), clicks_N - share_N, np.nan)


def note_appeal(
    offsets: IntArray,
    word_id: NDArray[np.integer],
    surplus_C: FloatArray,
    n_exposures_C: IntArray,
    report: Callable[[str], None],
) -> FloatArray:
    """How much more than its neighbours each note is clicked, clicks an exposure, float64 (C,).

    Args:
        offsets: int64 (C + 1,); note i has word_id[offsets[i]:offsets[i + 1]].
        word_id: numbers of words.
        surplus_C: sums of `click_surplus` over the exposures of each note.
        n_exposures_C: of which so many were counted.
        report: told what was chosen.

    Returns:
        0 for all where no note was shown in two folds.
    """
    n_C = len(offsets) - 1
    shown = np.flatnonzero(n_exposures_C > 0)[:MOST_NOTES]
    fold = shown % N_FOLDS
    if len(np.unique(fold)) < N_FOLDS:
        return np.zeros(n_C)
    pairs = _pairs(offsets, word_id, shown)
    surplus, weight = surplus_C[shown], n_exposures_C[shown].astype(np.float64)

    def fitted(without: int, penalty: float) -> FloatArray:
        learn = fold != without
        return _ridge(pairs[learn], surplus[learn], weight[learn], penalty)

    judged = fold == 0
    mean = surplus[judged] / weight[judged]
    tried = [fitted(0, penalty) for penalty in PENALTIES]
    losses = [
        float((weight[judged] * (mean - pairs[judged] @ one) ** 2).sum() / weight[judged].sum())
        for one in tried
    ]
    best = int(np.argmin(losses))
    nothing = float((weight[judged] * mean**2).sum() / weight[judged].sum())
    report(
        f"penalty {PENALTIES[best]:,.0f}: the words explain {1 - losses[best] / nothing:.2%} of "
        "what notes are clicked more or less than their neighbours"
    )
    others = [fitted(without, PENALTIES[best]) for without in range(1, N_FOLDS)]
    by_fold = np.stack([tried[best], *others], axis=1)
    own = np.full(n_C, -1)
    own[shown] = fold
    found = np.empty(n_C)
    for start in range(0, n_C, NOTES_AT_ONCE):
        rows = np.arange(start, min(start + NOTES_AT_ONCE, n_C))
        foretold = _pairs(offsets, word_id, rows) @ by_fold
        alone = foretold[np.arange(len(rows)), np.maximum(own[rows], 0)]
        found[rows] = np.where(own[rows] >= 0, alone, foretold.mean(axis=1))
    return np.round(found, DECIMALS)


def _pairs(offsets: IntArray, word_id: NDArray[np.integer], rows: IntArray) -> csr_matrix:
    """1 where a note holds a pair of neighbouring words, (len(rows), B)."""
    length = np.diff(offsets)[rows]
    ends = np.cumsum(length)
    at = np.repeat(offsets[rows] - ends + length, length) + np.arange(length.sum())
    word = np.asarray(word_id[at], dtype=np.int64)
    row = np.repeat(np.arange(len(rows)), length)
    is_pair = row[1:] == row[:-1]
    bucket = (word[:-1] * 1_000_003 + word[1:] * 7_919) % N_BUCKETS
    found = csr_matrix(
        (np.ones(int(is_pair.sum())), (row[:-1][is_pair], bucket[is_pair])),
        shape=(len(rows), N_BUCKETS),
    )
    found.sum_duplicates()
    found.data[:] = 1.0
    return found


def _ridge(
    pairs: csr_matrix, surplus: FloatArray, weight: FloatArray, penalty: float
) -> FloatArray:
    """argmin sum weight (surplus / weight - pairs b)^2 + penalty |b|^2, (B,), by conjugate
    gradients."""
    across = pairs.T.tocsr()
    system = LinearOperator(
        (N_BUCKETS, N_BUCKETS),
        matvec=lambda b: across @ (weight * (pairs @ b)) + penalty * b,
        dtype=np.float64,
    )
    found, _ = cg(system, across @ surplus, rtol=1e-5, maxiter=100)
    return np.asarray(found)
