"""How much of what was clicked a first stage finds among all notes. Knows no Dagster.

Not to be mixed with the leaderboard, whose runs order the notes that were shown: here a run picks
its own notes out of all. What was never shown cannot be clicked, so a good note that the platform
did not show counts as a miss, and recall compares first stages but says nothing by itself.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from models.metrics import bootstrap_interval
from qilin_dagster.leaderboard import Candidates

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROTOCOL = "full corpus, clicked notes"
RECALL_AT = (100, 500)
CODE_VERSION = "1"

SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("run", pa.string()),
        ("protocol", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("n_requests", pa.int64()),
        ("n_notes", pa.int64()),
    ]
)


def retrieval(
    candidates: Candidates,
    qid: "NDArray[np.int64]",
    found: "list[NDArray[np.int64]]",
    n_notes: int,
) -> list[dict[str, Any]]:
    """Recall of the clicked notes in the found ones, means over requests with 95 % intervals.

    Args:
        candidates: says which notes were clicked; one that is not among all notes is never found.
        qid: int64 (R,), ascending; requests without a click do not count.
        found: for each request the note_idx of what was found, best first.
        n_notes: how many notes were searched.

    Returns:
        For each of RECALL_AT a row of SCHEMA, without task and run; none when nothing was clicked.
    """
    clicked = candidates.is_clicked
    start = np.searchsorted(candidates.qid[clicked], qid, side="left")
    end = np.searchsorted(candidates.qid[clicked], qid, side="right")
    pid = candidates.pid[clicked]
    relevant = [pid[a:b] for a, b in zip(start, end, strict=True)]
    pairs = [pair for pair in zip(relevant, found, strict=True) if len(pair[0])]
    rows = []
    for k in RECALL_AT if pairs else ():
        recall = bootstrap_interval([np.isin(notes, best[:k]).mean() for notes, best in pairs])
        rows.append(
            {
                "protocol": PROTOCOL,
                "metric": f"recall@{k}",
                "value": recall.mean,
                "low": recall.low,
                "high": recall.high,
                "n_requests": len(pairs),
                "n_notes": n_notes,
            }
        )
    return rows


def retrieval_table(rows: list[dict[str, Any]]) -> pa.Table:
    """Rows of all runs, with task and run, as the table evaluation.retrieval."""
    return pa.Table.from_pylist(rows, schema=SCHEMA)
