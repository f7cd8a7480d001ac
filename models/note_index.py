"""The notes nearest to a query among all, by the package faiss.

Up to EXACT_BELOW notes every note is compared; above, only those in the cells nearest to the query
(inverted file), as many cells as give the wanted share of what an exact search finds, measured on
some of the queries at hand.

Shapes: C = notes, H = width, R = queries, K = notes wanted for each.
"""

from dataclasses import dataclass
from typing import Final

import faiss
import numpy as np
from numpy.typing import NDArray

EXACT_BELOW: Final = 500_000
# Notes copied into memory at once as float32.
NOTES_AT_ONCE: Final = 65_536
N_MEASURED_QUERIES: Final = 200
LEAST_SHARE: Final = 0.97
SEED: Final = 1234


@dataclass(frozen=True)
class Found:
    """What a search found, and how.

    Attributes:
        rows: int64 (R, K), notes by score, best first; -1 where there are fewer notes.
        score: float32 (R, K), inner products.
        method: ``exact``, or ``inverted file`` with its cells.
        share_of_exact: mean share of an exact search's K notes that are found; 1 when exact.
    """

    rows: NDArray[np.int64]
    score: NDArray[np.float32]
    method: str
    share_of_exact: float


def nearest(
    note_CH: NDArray[np.float16] | NDArray[np.float32],
    query_RH: NDArray[np.float32],
    k: int,
    *,
    exact_below: int = EXACT_BELOW,
) -> Found:
    """The k notes of highest inner product with each query.

    Args:
        note_CH: embeddings of unit length; may be memory-mapped.
        query_RH: embeddings of unit length.
        k: at least 1.
        exact_below: number of notes from which on not every note is compared.
    """
    queries = np.ascontiguousarray(query_RH, dtype=np.float32)
    if len(note_CH) < exact_below:
        score, rows = _exact(note_CH, queries, k)
        return Found(rows, score, "exact", 1.0)
    n_cells = int(4 * np.sqrt(len(note_CH)))
    index = _inverted_file(note_CH, n_cells)
    measured = queries[:: max(1, len(queries) // N_MEASURED_QUERIES)][:N_MEASURED_QUERIES]
    _, wanted = _exact(note_CH, measured, k)
    share, n_probed = 0.0, 4
    while share < LEAST_SHARE and n_probed < n_cells:
        n_probed = min(2 * n_probed, n_cells)
        index.nprobe = n_probed
        share = _share(index.search(measured, k)[1], wanted)
    score, rows = index.search(queries, k)
    return Found(rows, score, f"inverted file, {n_probed} of {n_cells} cells", share)


def _exact(
    note_CH: NDArray[np.float16] | NDArray[np.float32], queries: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Part by part, so that the notes are in memory as they are stored, in half precision."""
    score = np.full((len(queries), k), -np.inf, dtype=np.float32)
    rows = np.full((len(queries), k), -1, dtype=np.int64)
    for start in range(0, len(note_CH), NOTES_AT_ONCE):
        index = faiss.IndexFlatIP(note_CH.shape[1])
        index.add(note_CH[start : start + NOTES_AT_ONCE].astype(np.float32))
        part_score, part_rows = index.search(queries, min(k, index.ntotal))
        score = np.concatenate([score, part_score], axis=1)
        rows = np.concatenate([rows, part_rows + start], axis=1)
        # Equal scores by ascending row, however the notes were cut into parts.
        best = np.lexsort((rows, -score), axis=1)[:, :k]
        score = np.take_along_axis(score, best, axis=1)
        rows = np.take_along_axis(rows, best, axis=1)
    return score, rows


def _inverted_file(
    note_CH: NDArray[np.float16] | NDArray[np.float32], n_cells: int
) -> "faiss.IndexIVF":
    described = f"IVF{n_cells},SQfp16"
    index = faiss.index_factory(note_CH.shape[1], described, faiss.METRIC_INNER_PRODUCT)
    assert isinstance(index, faiss.IndexIVF)
    draw = np.random.default_rng(SEED)
    n_trained = min(len(note_CH), 40 * n_cells)
    some = np.sort(draw.choice(len(note_CH), n_trained, replace=False))
    index.train(np.asarray(note_CH[some], dtype=np.float32))
    for start in range(0, len(note_CH), NOTES_AT_ONCE):
        index.add(note_CH[start : start + NOTES_AT_ONCE].astype(np.float32))
    return index


def _share(found: NDArray[np.int64], wanted: NDArray[np.int64]) -> float:
    return float(np.mean([np.isin(w, f).mean() for f, w in zip(found, wanted, strict=True)]))
