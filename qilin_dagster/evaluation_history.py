"""What the leaderboard said each time it was made anew. Knows no Dagster.

Every evaluation looks at the same test requests; who looks often and keeps the best has learnt from
them. So how often is on record, and whether a metric left its interval since the last time.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from pyarrow import parquet

from qilin_dagster.lake import Lake, LakeError, Manifest, Written, write_rows

if TYPE_CHECKING:
    import duckdb

CODE_VERSION = "1"
TABLE = "evaluation.history"

SCHEMA = pa.schema(
    [
        ("evaluation_n", pa.int64()),
        ("evaluated_at", pa.timestamp("us", tz="UTC")),
        ("data_fingerprint", pa.string()),
        ("task", pa.string()),
        ("run", pa.string()),
        ("kind", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
    ]
)


def publish_history(lake: Lake, connection: "duckdb.DuckDBPyConnection") -> Manifest:
    """Add the leaderboard as it is to the history, unless its newest rows are of it.

    Raises LakeError without a leaderboard.
    """
    leaderboard = lake.manifest("evaluation.leaderboard")
    if leaderboard is None:
        raise LakeError("evaluation.leaderboard is not in the lake; build it first")
    before = lake.manifest(TABLE)
    if before is not None and before.inputs["evaluation.leaderboard"] == leaderboard.snapshot_id:
        return before

    def write(folder: Path) -> Written:
        history = SCHEMA.empty_table() if before is None else _read(lake)
        n_before = max(history["evaluation_n"].to_pylist(), default=0)
        newest = _newest(connection, n_before + 1, leaderboard.created_at)
        fingerprint = newest["data_fingerprint"][0].as_py()
        looks = {
            number
            for number, data in zip(
                history["evaluation_n"].to_pylist(),
                history["data_fingerprint"].to_pylist(),
                strict=True,
            )
            if data == fingerprint
        }
        facts = {"n_evaluations": len(looks) + 1}
        return write_rows(pa.concat_tables([history, newest]), folder, facts)

    return lake.publish(
        TABLE,
        inputs={
            "evaluation.leaderboard": leaderboard.snapshot_id,
            # Not by the table's own name: it would always be older than itself.
            "before": "nothing" if before is None else before.snapshot_id,
        },
        code_version=CODE_VERSION,
        write=write,
    )


def _read(lake: Lake) -> pa.Table:
    return parquet.read_table(lake.snapshot_folder(TABLE)).cast(SCHEMA)


def _newest(connection: "duckdb.DuckDBPyConnection", number: int, evaluated_at: str) -> pa.Table:
    table: pa.Table = connection.sql(
        """
        select
            $number::bigint as evaluation_n,
            $at::timestamptz as evaluated_at,
            (select fingerprint from published.data_set) as data_fingerprint,
            task, run, kind, metric, value, low, high
        from evaluation.leaderboard
        where mode = 'full'
        order by task, run, metric
        """,
        params={"number": number, "at": evaluated_at},
    ).to_arrow_table()
    return table.select(SCHEMA.names).cast(SCHEMA)
