"""A few test requests note by note: what was asked, shown and clicked, and how each run orders it.

The requests are spread evenly over the test rows and are not chosen by how well anything does.
Knows no Dagster.
"""

import base64
import io
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from qilin_dagster.leaderboard import ScoredRun

if TYPE_CHECKING:
    import duckdb

    from qilin_dagster.note_images import NoteImages

CODE_VERSION = "3"
N_REQUESTS = 12
COVER_SIDE = 84  # pixels at most; twice what the page shows, for sharp screens

SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("row_number", pa.int64()),
        ("query", pa.string()),
        ("pid", pa.int64()),
        ("note_title", pa.string()),
        # A small JPEG as a data address, for a page; null without a cover.
        ("cover", pa.string()),
        ("shown_rank", pa.int64()),
        ("is_clicked", pa.bool_()),
        ("run", pa.string()),
        ("score", pa.float64()),
        ("rank", pa.int64()),
    ]
)

CANDIDATES = """
select
    r.row_number,
    coalesce(r.query, r.pseudo_query) as query,
    i.note_idx as pid,
    any_value(n.note_title) as note_title,
    min(i.shown_rank) as shown_rank,
    coalesce(bool_or(i.is_clicked), false) as is_clicked
from core.requests as r
inner join core.impressions as i on r.request_id = i.request_id
left join core.notes as n on i.note_idx = n.note_idx
where r.source_table = $test and list_contains($rows, r.row_number)
group by all
order by r.row_number, shown_rank, pid
"""


def examples(
    connection: "duckdb.DuckDBPyConnection",
    task: str,
    runs: list[ScoredRun],
    images: "NoteImages | None" = None,
) -> pa.Table:
    """A row per candidate of the example requests and run, see SCHEMA; none without a run.

    ``rank`` is the place the run gives the note, from 1; equal scores share the better place.
    """
    numbers = np.unique(np.concatenate([np.zeros(0, np.int64), *(run.qid for run in runs)]))
    if len(numbers) == 0:
        return SCHEMA.empty_table()
    chosen = numbers[np.linspace(0, len(numbers) - 1, min(N_REQUESTS, len(numbers))).astype(int)]
    candidates = connection.execute(
        CANDIDATES, {"test": f"{task}_test", "rows": chosen.tolist()}
    ).fetchall()
    covers = {pid: _cover(images, pid) for _, _, pid, *_ in candidates}
    rows = []
    for run in runs:
        inside = np.isin(run.qid, chosen)
        pairs = zip(run.qid[inside].tolist(), run.pid[inside].tolist(), strict=True)
        score_of = dict(zip(pairs, run.score[inside].tolist(), strict=True))
        for number, query, pid, title, shown_rank, is_clicked in candidates:
            score = score_of[number, pid]
            better = [s for (other, _), s in score_of.items() if other == number and s > score]
            rows.append(
                {
                    "task": task,
                    "row_number": number,
                    "query": query,
                    "pid": pid,
                    "note_title": title,
                    "cover": covers[pid],
                    "shown_rank": shown_rank,
                    "is_clicked": is_clicked,
                    "run": run.name,
                    "score": score,
                    "rank": 1 + len(better),
                }
            )
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _cover(images: "NoteImages | None", note_idx: int) -> str | None:
    """A small picture of the note's cover as a data address."""
    image = None if images is None else images.open(note_idx)
    if image is None:
        return None
    image.thumbnail((COVER_SIDE, COVER_SIDE))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"
