"""The words of all notes, cut once and stored; both tasks' BM25 reads them. Knows no Dagster.

The snapshot holds the vocabulary as a table, a row per word, and beside it the words of each note
as the flat arrays of `note_lists`, so that two million notes are read by mapping them into memory:
``word_id.npy`` is int32 (T,).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qilin_dagster.lake import Written, write_rows
from qilin_dagster.note_lists import rows_of, write_note_lists

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray

    from models.bm25 import BM25Index

CODE_VERSION = "1"
TABLE = "features.note_words"


@dataclass(frozen=True)
class NoteWords:
    """C notes and their T words, by number; the arrays are memory-mapped.

    Attributes:
        note_idx: int64 (C,).
        offsets: int64 (C + 1,); note i has word_id[offsets[i]:offsets[i + 1]].
        word_id: int32 (T,), in 0..V-1.
        ids: the V words and their numbers.
    """

    note_idx: "NDArray[np.int64]"
    offsets: "NDArray[np.int64]"
    word_id: "NDArray[np.int32]"
    ids: dict[str, int]

    def numbers(self, texts: Sequence[str | None]) -> "tuple[NDArray[np.int64], NDArray[np.int64]]":
        """The words of texts, one text after the other, and where each begins and the last ends.

        -1 stands for a word that no note holds.
        """
        from models.words import tokenize

        lists = [[self.ids.get(word, -1) for word in tokenize(text or "")] for text in texts]
        offsets = np.cumsum([0, *map(len, lists)], dtype=np.int64)
        return np.fromiter(chain.from_iterable(lists), np.int64, count=offsets[-1]), offsets

    def index(self, *, k1: float = 1.5, b: float = 0.75, epsilon: float = 0.25) -> "BM25Index":
        """BM25 over all notes and, in row C, one without words for what is no known note.

        Raises:
            TooLittleData: no notes, or no words in them.
        """
        from models.bm25 import BM25Index

        offsets = np.append(self.offsets, self.offsets[-1])
        return BM25Index(self.word_id, offsets, len(self.ids), k1=k1, b=b, epsilon=epsilon)

    def rows(self, note_idx: "NDArray[np.int64]") -> "NDArray[np.int64]":
        """Where these notes stand; C for one that is not there."""
        return rows_of(self.note_idx, note_idx)


def build_note_words(
    connection: "duckdb.DuckDBPyConnection", folder: Path, report: Callable[[str], None]
) -> Written:
    """Cut title and body of every note of core.notes into words, in the order of note_key."""
    import pyarrow as pa

    from models.words import WordNumbers, number_words

    numbers = WordNumbers()
    n_notes, n_times = write_note_lists(
        connection,
        folder,
        "word_id",
        np.int32,
        lambda texts: number_words(texts, numbers),
        lambda n_done: report(f"{TABLE}: {n_done:,} notes cut into words"),
    )
    table = pa.table(
        {
            "word_id": np.arange(len(n_times), dtype=np.int32),
            "word": pa.array(numbers.words, pa.string()),
            "n_times": n_times,
        }
    )
    facts = {"n_notes": n_notes, "n_times": int(n_times.sum())}
    return write_rows(table, folder, facts)


def read_note_words(folder: Path) -> NoteWords:
    """The words in a snapshot folder of features.note_words."""
    import polars as pl

    words = pl.read_parquet(folder / "part-0.parquet", columns=["word_id", "word"])
    return NoteWords(
        note_idx=np.load(folder / "note_idx.npy", mmap_mode="r"),
        offsets=np.load(folder / "offsets.npy", mmap_mode="r"),
        # An array without elements cannot be mapped.
        word_id=np.load(folder / "word_id.npy", mmap_mode="r" if len(words) else None),
        ids=dict(zip(words["word"], words["word_id"], strict=True)),
    )
