"""Metrics of every run in every test request: what comparisons and slices are made from.

Knows no Dagster.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from models.metrics import REQUEST_METRICS
from qilin_dagster.leaderboard import Candidates, ScoredRun, metrics_of, rankings

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray

CODE_VERSION = "1"
TABLE = "evaluation.per_request"


def metric_column(metric: str) -> str:
    """Name of a metric's column: `mrr@10` is `mrr_at_10`."""
    return metric.replace("@", "_at_")


SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("run", pa.string()),
        ("kind", pa.string()),
        ("row_number", pa.int64()),
        ("user_idx", pa.int64()),
        ("n_candidates", pa.int64()),
        *((metric_column(metric), pa.float64()) for metric in REQUEST_METRICS),
        # Null where the candidates are all clicked or none is.
        ("request_auc", pa.float64()),
    ]
)


def per_request(task: str, candidates: Candidates, runs: list[ScoredRun]) -> pa.Table:
    """A row per run, anchors included, and test request with a click, in the full mode.

    Raises ValueError when no test request has a click.
    """
    parts = []
    for kind, run in rankings(candidates, runs):
        result = metrics_of(candidates, run, "full")
        n_requests = len(result.qid)
        columns = {
            "task": [task] * n_requests,
            "run": [run.name] * n_requests,
            "kind": [kind] * n_requests,
            "row_number": result.qid,
            "user_idx": candidates.users(result.qid),
            "n_candidates": result.n_candidates,
            **{metric_column(name): values for name, values in result.per_request.items()},
            "request_auc": pa.array(result.request_auc, from_pandas=True),
        }
        parts.append(pa.table(columns, schema=SCHEMA))
    return pa.concat_tables(parts)


@dataclass(frozen=True)
class RequestMetrics:
    """The table of one task as arrays: R requests, the same ones for each of K runs.

    Attributes:
        kinds: run -> model or anchor, K entries.
        row_number, user_idx: int64 (R,).
        values: metric -> float64 (R, K), in 0..1.
    """

    kinds: dict[str, str]
    row_number: "NDArray[np.int64]"
    user_idx: "NDArray[np.int64]"
    values: "dict[str, NDArray[np.float64]]"


def read_per_request(
    connection: "duckdb.DuckDBPyConnection", task: str, metrics: tuple[str, ...]
) -> RequestMetrics:
    """The metrics of all runs of a task, runs and requests in ascending order."""
    columns = [metric_column(metric) for metric in metrics]
    rows = connection.execute(
        f"select run, kind, row_number, user_idx, {', '.join(columns)} from {TABLE} "
        "where task = $1 order by run, row_number",
        [task],
    ).fetchnumpy()
    kinds = dict(zip(rows["run"].tolist(), rows["kind"].tolist(), strict=True))
    by_run = {name: np.ma.getdata(rows[name]).reshape(max(1, len(kinds)), -1) for name in rows}
    return RequestMetrics(
        kinds=kinds,
        row_number=by_run["row_number"][0],
        user_idx=by_run["user_idx"][0],
        values={
            metric: np.ascontiguousarray(by_run[column].T)
            for metric, column in zip(metrics, columns, strict=True)
        },
    )
