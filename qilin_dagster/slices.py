"""Where a run is good: its metrics by kind of test request. Knows no Dagster.

Slices by what was clicked are chosen by the outcome: they compare runs on the same requests, and
say nothing about how hard such requests are before anybody clicks.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from models.metrics import bootstrap_bounds
from qilin_dagster.per_request import RequestMetrics

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray

CODE_VERSION = "1"
METRICS = ("mrr@10", "ndcg@10")
# The bootstrap of fewer users gives no interval worth printing.
MIN_USERS = 10

SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("slice", pa.string()),
        ("slice_value", pa.string()),
        ("run", pa.string()),
        ("kind", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("n_requests", pa.int64()),
        ("n_users", pa.int64()),
    ]
)

# One row per test request with a click; the values sort as they are meant to be read.
ATTRIBUTES = """
with train_requests as (
    select user_idx, count(*) as n_requests
    from core.requests
    where source_table = $train
    group by user_idx
),

train_notes as (
    select distinct note_idx from core.impressions where source_table = $train
),

clicked as (
    select
        i.request_id,
        count(*) filter (where t.note_idx is not null) as n_warm,
        count(*) filter (where n.note_type = 2) as n_videos,
        count(n.note_type) as n_described,
        count(*) as n_clicked
    from core.impressions as i
    left join train_notes as t on i.note_idx = t.note_idx
    left join core.notes as n on i.note_idx = n.note_idx
    where i.source_table = $test and i.is_clicked
    group by i.request_id
)

select
    r.row_number,
    case
        when r.n_impressions <= 10 then ' 1-10'
        when r.n_impressions <= 20 then '11-20'
        else '21 and more'
    end as "notes shown",
    case
        when t.n_requests is null then ' 0'
        when t.n_requests <= 3 then ' 1-3'
        when t.n_requests <= 9 then ' 4-9'
        else '10 and more'
    end as "train requests of the user",
    case
        when c.n_warm = 0 then 'none shown in train'
        when c.n_warm < c.n_clicked then 'some shown in train'
        else 'all shown in train'
    end as "clicked notes",
    case
        when c.n_described < c.n_clicked then 'not described'
        when c.n_videos = 0 then 'images'
        when c.n_videos = c.n_clicked then 'videos'
        else 'both'
    end as "form of clicked notes",
    case when r.query is not null then coalesce(r.query_source_name, 'not logged') end
        as "query source",
    case
        when length(r.query) <= 4 then ' 1-4'
        when length(r.query) <= 8 then ' 5-8'
        when length(r.query) <= 12 then ' 9-12'
        when r.query is not null then '13 and more'
    end as "query length"
from core.requests as r
inner join clicked as c on r.request_id = c.request_id
left join train_requests as t on r.user_idx = t.user_idx
where r.source_table = $test
order by r.row_number
"""


def request_attributes(connection: "duckdb.DuckDBPyConnection", task: str) -> dict[str, list[Any]]:
    """Columns of ATTRIBUTES: row_number and what each test request with a click is like."""
    columns = connection.execute(
        ATTRIBUTES, {"train": f"{task}_train", "test": f"{task}_test"}
    ).fetchnumpy()
    return {name: np.ma.getdata(column).tolist() for name, column in columns.items()}


def slices(
    connection: "duckdb.DuckDBPyConnection", task: str, requests: RequestMetrics
) -> pa.Table:
    """A row per slice, its value, run and metric, see SCHEMA; intervals (95 %) over users."""
    attributes = request_attributes(connection, task)
    row_number = np.array(attributes.pop("row_number"))
    rows: list[dict[str, object]] = []
    for name, column in attributes.items():
        for value in sorted({text for text in column if text}):
            inside = np.isin(requests.row_number, row_number[np.array(column) == value])
            rows += [
                {"task": task, "slice": name, "slice_value": value, **row}
                for row in _metrics(requests, inside)
            ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _metrics(requests: RequestMetrics, inside: "NDArray[np.bool_]") -> list[dict[str, object]]:
    n_requests, users = int(inside.sum()), requests.user_idx[inside]
    if n_requests == 0:
        return []
    n_users = len(np.unique(users))
    rows: list[dict[str, object]] = []
    for metric in METRICS:
        values_RK = requests.values[metric][inside]
        bounds = np.full((2, values_RK.shape[1]), None, dtype=object)
        if n_users >= MIN_USERS:
            bounds = np.stack(bootstrap_bounds(values_RK, groups=users)).astype(object)
        rows += [
            {
                "run": run,
                "kind": kind,
                "metric": metric,
                "value": float(values_RK[:, k].mean()),
                "low": bounds[0, k],
                "high": bounds[1, k],
                "n_requests": n_requests,
                "n_users": n_users,
            }
            for k, (run, kind) in enumerate(requests.kinds.items())
        ]
    return rows
