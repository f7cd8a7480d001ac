"""Numbers that stand for the texts of all notes, as flat arrays in a snapshot folder; the words
and the tokens of notes are such. Knows no Dagster.

- ``note_idx.npy`` int64 (C,), the notes in the order of note_key. The order decides ties, and that
  of the published ids would give clicks away;
- ``offsets.npy`` int64 (C + 1,), where the numbers of each note begin;
- ``<name>.npy`` (T,), the numbers of all notes one after the other.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.array_file import array_file

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import DTypeLike, NDArray

    IntArray = NDArray[np.int64]

# Enough for the cost of a call not to show; the texts of so many notes are in memory at once.
NOTES_AT_ONCE = 10_000
NOTES_PER_REPORT = 200_000


def write_note_lists(
    connection: "duckdb.DuckDBPyConnection",
    folder: Path,
    name: str,
    dtype: "DTypeLike",
    numbers_of: "Callable[[list[str]], tuple[NDArray[np.integer], IntArray]]",
    report: Callable[[int], None],
) -> "tuple[int, IntArray]":
    """Write the three arrays for title and body of every note of core.notes.

    Args:
        name: of the file of the numbers.
        dtype: of the numbers.
        numbers_of: from texts to their numbers, one text after the other, and how many each has.
        report: told now and then how many notes are done.

    Returns:
        C, and how often each number stands in the notes, int64 (largest number + 1,).
    """
    note_idx, n_numbers = [np.zeros(0, dtype=np.int64)], [np.zeros(1, dtype=np.int64)]
    n_times = np.zeros(0, dtype=np.int64)
    notes = connection.execute(
        "select note_idx, concat_ws(' ', note_title, note_content) from core.notes "
        "order by note_key, note_idx"
    )
    with array_file(folder / f"{name}.npy", dtype) as append:
        while rows := notes.fetchmany(NOTES_AT_ONCE):
            numbers, n_of_note = numbers_of([text for _, text in rows])
            append(numbers)
            note_idx.append(np.array([note for note, _ in rows], dtype=np.int64))
            n_numbers.append(n_of_note)
            counted = np.bincount(numbers, minlength=len(n_times))
            counted[: len(n_times)] += n_times
            n_times = counted
            n_done = sum(map(len, note_idx))
            if n_done % NOTES_PER_REPORT == 0:
                report(n_done)
    np.save(folder / "note_idx.npy", np.concatenate(note_idx))
    np.save(folder / "offsets.npy", np.cumsum(np.concatenate(n_numbers), dtype=np.int64))
    return sum(map(len, note_idx)), n_times


def rows_of(known: "IntArray", note_idx: "IntArray") -> "IntArray":
    """Where these notes stand among the known C; C for one that is not there."""
    order = np.argsort(known)
    place = np.searchsorted(known, note_idx, sorter=order)
    row = np.append(order, len(order))[place]
    is_known = np.append(known, -1)[row] == note_idx
    return np.where(is_known, row, len(order))
