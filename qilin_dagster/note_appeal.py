"""What the words of a note tell of the clicks it gets, learned from both tasks. Knows no Dagster.

Only the fit fold teaches: neither the validation hours nor the test evening.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.recipes import TASKS, Task
from qilin_dagster.folds import requests_in_folds
from qilin_dagster.lake import Written, write_rows
from qilin_dagster.note_words import read_note_words

if TYPE_CHECKING:
    import duckdb
    import polars as pl

CODE_VERSION = "1"
TABLE = "features.note_appeal"


def build_note_appeal(
    connection: "duckdb.DuckDBPyConnection",
    note_words: Path,
    folder: Path,
    report: Callable[[str], None],
) -> Written:
    """Write the appeal of every note of core.notes, in the order of note_key.

    Reads core.impressions, core.requests, core.notes, and the snapshot of features.note_words.
    """
    import pyarrow as pa

    from models.note_appeal import click_surplus, note_appeal

    words = read_note_words(note_words)
    n_notes = len(words.note_idx)
    # A row more for exposures of no known note.
    surplus, n_exposures = np.zeros(n_notes + 1), np.zeros(n_notes + 1, dtype=np.int64)
    for task in TASKS:
        shown = _fit_exposures(connection, task)
        request = np.unique(shown["request_id"].to_numpy(), return_inverse=True)[1]
        of_exposure = click_surplus(request, shown["is_clicked"].to_numpy())
        counts = ~np.isnan(of_exposure)
        row = words.rows(shown["note_idx"].to_numpy())[counts]
        surplus += np.bincount(row, of_exposure[counts], minlength=n_notes + 1)
        n_exposures += np.bincount(row, minlength=n_notes + 1)
    appeal = note_appeal(
        words.offsets,
        words.word_id,
        surplus[:-1],
        n_exposures[:-1],
        lambda said: report(f"{TABLE}: {said}"),
    )
    table = pa.table(
        {
            "note_idx": np.asarray(words.note_idx),
            "note_appeal": appeal,
            "n_exposures": n_exposures[:-1],
        }
    )
    return write_rows(table, folder, {"n_taught": int((n_exposures[:-1] > 0).sum())})


def _fit_exposures(connection: "duckdb.DuckDBPyConnection", task: Task) -> "pl.DataFrame":
    """(request_id, note_idx, is_clicked) of the fit fold, in a fixed order."""
    import polars as pl

    requests = requests_in_folds(connection, task).filter(pl.col("fold") == "fit")
    shown: pl.DataFrame = connection.sql(
        "select request_id, note_idx, coalesce(max(is_clicked), false) as is_clicked "
        f"from core.impressions where channel = '{task}' and source_table <> 'dqa' "
        "group by 1, 2 order by 1, 2"
    ).pl()
    fit = requests.select("request_id")
    return shown.join(fit, on="request_id", how="semi", maintain_order="left")
