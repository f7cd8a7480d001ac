"""First-stage lists: 100 pairs of note and score, as the log ships them for BM25 and a dense model.

Both are imitations: notes come from the neighbourhood of the query's cell in latent order, scores
from the range of the published ones. The dense list holds part of the exposures, as in the log.
"""

from typing import Final

import numpy as np
import pyarrow as pa

from qilin_dagster.sources.twin.blocks import Numbering
from qilin_dagster.sources.twin.clicks import Outcome
from qilin_dagster.sources.twin.draws import Flags, Floats, Ints, stream
from qilin_dagster.sources.twin.queries import Queries
from qilin_dagster.sources.twin.slots import Slots
from qilin_dagster.sources.twin.timeline import TABLES, Requests
from qilin_dagster.sources.twin.world import ANSWER_POOL, SEARCH_POOL, TEXT, Notes

LENGTH: Final = 100
WINDOW: Final = 160  # notes around the cell among which a list chooses
DENSE_EXPOSED: Final = 0.3  # share of places given to exposures of the request


def lists(
    rows: Ints,
    is_dense: bool,
    requests: Requests,
    queries: Queries,
    notes: Notes,
    slots: Slots,
    outcome: Outcome,
    numbering: Numbering,
    seed: int,
) -> pa.Array:
    """One list of ``LENGTH`` [note_idx, score] pairs per request in ``rows``."""
    part = f"retrieval {is_dense} {int(rows[0]) if len(rows) else 0}"
    rng = stream(seed, part)
    count = len(rows)
    pool = np.where(requests.table[rows] == TABLES.index("dqa"), ANSWER_POOL, SEARCH_POOL)
    low, high = notes.interval(
        pool,
        np.full(count, TEXT),
        queries.subject[rows],
        queries.aspect[rows],
        np.zeros(count, int),
    )
    width = np.minimum(np.maximum(high - low, WINDOW), len(notes))
    low = np.clip((low + high - width) // 2, 0, len(notes) - width)
    stride = np.maximum(width // LENGTH, 1)
    start = (rng.random(count) * width).astype(np.int64)
    place = start[:, None] + np.arange(LENGTH)[None, :] * stride[:, None]
    note = low[:, None] + place % width[:, None]
    if is_dense:
        note = _with_exposures(note, rows, slots, outcome, rng)
    top, spread, step = (332.0, 5.0, 0.16) if is_dense else (24.0, 4.0, 0.12)
    fall = np.cumsum(rng.exponential(step, (count, LENGTH)), axis=1)
    score: Floats = top + rng.normal(0, spread, (count, 1)) - fall * (0.6 if is_dense else 1.0)
    score = np.asarray(np.round(np.maximum(score, 3.6), 6 if is_dense else 4), dtype=float)
    pairs = np.empty((count, LENGTH, 2))
    pairs[:, :, 0] = numbering.idx[note]
    pairs[:, :, 1] = score
    inner = pa.ListArray.from_arrays(
        pa.array(np.arange(0, count * LENGTH * 2 + 1, 2, dtype=np.int32)), pa.array(pairs.ravel())
    )
    return pa.ListArray.from_arrays(
        pa.array(np.arange(0, count * LENGTH + 1, LENGTH, dtype=np.int32)), inner
    )


def _with_exposures(
    note: Ints, rows: Ints, slots: Slots, outcome: Outcome, rng: np.random.Generator
) -> Ints:
    """Put exposed notes of the request in some places, unless they are in the list already."""
    length = slots.length[rows]
    offset = rng.integers(0, 1 << 20, (len(rows), 1)) + np.arange(LENGTH)[None, :]
    use = rng.random(note.shape) < DENSE_EXPOSED
    use &= np.arange(LENGTH)[None, :] < length[:, None]  # each exposure at most once
    exposed = outcome.note[slots.starts[rows][:, None] + offset % length[:, None]]
    mixed = np.where(use, exposed, note)
    for last in (False, False, False, True):
        twice = _is_twice(mixed)
        # Undoing one place can clash with another; what still does after three turns is undone.
        use &= ~(twice.any(axis=1, keepdims=True) if last else twice)
        mixed = np.where(use, exposed, note)
    return mixed


def _is_twice(values: Ints) -> Flags:
    """Entries that occur more than once in their row."""
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    same = ordered[:, 1:] == ordered[:, :-1]
    edge = np.zeros((len(values), 1), dtype=bool)
    found = np.zeros(values.shape, dtype=bool)
    np.put_along_axis(found, order, np.hstack([edge, same]) | np.hstack([same, edge]), axis=1)
    return found
