"""What images are worth: rankers that see covers against the same rankers that do not.

All runs of a comparison have the same seed, folds and candidates; they differ in what they see.
Knows no Dagster.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from qilin_dagster.comparisons import adjust_for_their_number, paired_difference
from qilin_dagster.leaderboard import Candidates, ScoredRun
from qilin_dagster.per_request import metric_column, per_request
from qilin_dagster.slices import request_attributes

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray

CODE_VERSION = "2"
METRICS = ("mrr@10", "map@10", "ndcg@10")
ALL = "all"
# By what was clicked, and by where the query came from.
SLICES = ("form of clicked notes", "query source")
COVER_ON = "cover on, against off"
# A model may gain from covers that show nothing: only this tells what they show.
OWN_COVER = "own cover, against another note's"


@dataclass(frozen=True)
class Comparison:
    """Two runs that differ in one thing; what the difference says of images."""

    name: str
    run: str
    against: str


COMPARISONS = (
    Comparison(COVER_ON, "vlm", "vlm_text_only"),
    Comparison(OWN_COVER, "vlm", "vlm_shuffled_covers"),
    Comparison("covers of other notes, against none", "vlm_shuffled_covers", "vlm_text_only"),
    Comparison("cover alone, against a random order", "vlm_image_only", "random"),
    Comparison("text and cover, against the cover alone", "vlm", "vlm_image_only"),
    Comparison("looks of covers in DCN-V2, against none", "dcn_v2_covers", "dcn_v2"),
    Comparison("looks of other covers in DCN-V2", "dcn_v2_shuffled_covers", "dcn_v2"),
)

SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("comparison", pa.string()),
        ("slice", pa.string()),
        ("slice_value", pa.string()),
        ("metric", pa.string()),
        ("run", pa.string()),
        ("against", pa.string()),
        ("mean", pa.float64()),
        ("mean_against", pa.float64()),
        ("difference", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("p_value", pa.float64()),
        ("p_holm", pa.float64()),
        ("is_told_apart", pa.bool_()),
        ("n_requests", pa.int64()),
        ("n_users", pa.int64()),
    ]
)


def image_worth(
    connection: "duckdb.DuckDBPyConnection",
    task: str,
    candidates: Candidates,
    runs: list[ScoredRun],
) -> pa.Table:
    """A row per comparison, slice and metric, see SCHEMA; none of a run that was not trained.

    Differences are paired by request. Intervals (95 %, bootstrap) and tests (sign flips) take users
    with all their requests, and need ten of them; p_holm is adjusted over the comparisons of all
    requests of a task and metric, and null elsewhere.
    """
    names = {run.name for run in runs}
    wanted = [
        c for c in COMPARISONS if c.run in names and (c.against in names or c.against == "random")
    ]
    if not wanted:
        return SCHEMA.empty_table()
    table = per_request(task, candidates, runs)
    values = {
        (run, metric): np.asarray(table.filter(pa.compute.equal(table["run"], run))[column])
        for run in {*names, "random"}
        for metric, column in ((metric, metric_column(metric)) for metric in METRICS)
    }
    one = table.filter(pa.compute.equal(table["run"], "random"))
    row_number, user_idx = np.asarray(one["row_number"]), np.asarray(one["user_idx"])
    kinds: list[tuple[str, str, NDArray[np.bool_]]] = [
        (ALL, ALL, np.ones(len(row_number), dtype=bool))
    ]
    attributes = request_attributes(connection, task)
    for name in SLICES:
        of_row = dict(zip(attributes["row_number"], attributes[name], strict=True))
        found = np.array([of_row.get(row) or "" for row in row_number.tolist()])
        kinds += [(name, value, found == value) for value in sorted({*found.tolist()} - {""})]
    rows: list[dict[str, Any]] = [
        {
            "task": task,
            "comparison": c.name,
            "slice": name,
            "slice_value": value,
            "metric": metric,
            "run": c.run,
            "against": c.against,
            **paired_difference(
                values[c.run, metric][inside], values[c.against, metric][inside], user_idx[inside]
            ),
        }
        for metric in METRICS
        for name, value, inside in kinds
        for c in wanted
    ]
    for metric in METRICS:
        adjust_for_their_number(
            [row for row in rows if (row["metric"], row["slice"]) == (metric, ALL)]
        )
    return pa.Table.from_pylist(rows, schema=SCHEMA)
