"""Stage 5, evaluation: every run of both tasks beside the anchors, in both metric modes; which
differences are real; where a run is good; what was said before."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import dagster as dg

from qilin_dagster.assets.training import RECIPES
from qilin_dagster.checks import check_specs, check_table, table_suite
from qilin_dagster.expectations import Suite
from qilin_dagster.lake import Manifest, write_rows
from qilin_dagster.resources import Lakehouse

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

log = logging.getLogger("qilin")

TASKS = ("search", "recommendation")
RUNS = tuple(f"training.{recipe.name}" for recipe in RECIPES)
READS = ("core.impressions", "core.requests", *RUNS)
PER_REQUEST = "evaluation.per_request"
SLICES_READ = ("core.impressions", "core.requests", "core.notes", PER_REQUEST)
# They look for notes in the whole corpus, too.
FIRST_STAGES = ("training.bm25_search", "training.bi_encoder_search")
HEADLINE = ("mrr@10", "map@10", "ndcg@10", "gauc")


DESCRIPTION = (
    "One row per (task, mode, run, metric): models and anchors with 95 % bootstrap "
    "intervals over users. Mode full: all requests, ties in expectation; mode official: as the "
    "public evaluator, the first 1,000 rows. A model means something beside its anchors only."
)
SUITE = table_suite("evaluation.leaderboard", DESCRIPTION)


@dg.asset(
    key=["evaluation", "leaderboard"],
    deps=[dg.AssetKey(relation.split(".")) for relation in READS],
    group_name="evaluation",
    kinds={"numpy", "table"},
    description=DESCRIPTION,
    check_specs=check_specs(SUITE),
)
def leaderboard(lakehouse: Lakehouse) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster asks for it bare
    from qilin_dagster.leaderboard import CODE_VERSION, leaderboard, read_candidates, read_runs

    manifest = _publish(
        lakehouse,
        SUITE,
        READS,
        CODE_VERSION,
        lambda connection, task: leaderboard(
            task, read_candidates(connection, task), read_runs(connection, task, RUNS)
        ),
    )
    connection = lakehouse.engine().connect(["evaluation.leaderboard"])
    try:
        rows = connection.execute(
            "select task, run, kind, metric, value, low, high from evaluation.leaderboard "
            "where mode = 'full'"
        ).fetchall()
    finally:
        connection.close()
    metadata: dict[str, dg.MetadataValue] = {"leaderboard": dg.MetadataValue.md(_as_markdown(rows))}
    for task, run, kind, metric, value, *_ in rows:
        # Numbers at the top level are plotted over time in the UI.
        if metric == "mrr@10" and (kind == "model" or run in ("random", "display_order")):
            metadata[f"{task} {run} mrr@10"] = dg.MetadataValue.float(value)
    return _result(lakehouse, SUITE, manifest, metadata)


RETRIEVAL_DESCRIPTION = (
    "One row per (task, run, protocol, metric): recall of the clicked notes among the first notes "
    "a run finds in the whole corpus, with 95 % bootstrap intervals over requests. Another "
    "question than the leaderboard's, whose runs order the notes that were shown."
)
RETRIEVAL_SUITE = table_suite("evaluation.retrieval", RETRIEVAL_DESCRIPTION)


@dg.asset(
    key=["evaluation", "retrieval"],
    deps=[dg.AssetKey(run.split(".")) for run in FIRST_STAGES],
    group_name="evaluation",
    kinds={"numpy", "table"},
    description=RETRIEVAL_DESCRIPTION,
    check_specs=check_specs(RETRIEVAL_SUITE),
)
def retrieval(lakehouse: Lakehouse) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster asks for it bare
    from qilin_dagster.retrieval import CODE_VERSION, retrieval_table

    manifests = {run: lakehouse.store.manifest(run) for run in FIRST_STAGES}
    rows = [
        {"task": "search", "run": run.removeprefix("training.").removesuffix("_search"), **row}
        for run, manifest in manifests.items()
        for row in (manifest.facts.get("retrieval", []) if manifest else [])
    ]
    manifest = lakehouse.store.publish(
        "evaluation.retrieval",
        inputs=lakehouse.engine().inputs(FIRST_STAGES),
        code_version=CODE_VERSION,
        write=lambda folder: write_rows(retrieval_table(rows), folder),
    )
    numbers: dict[str, dg.MetadataValue] = {
        f"{row['run']} {row['metric']}": dg.MetadataValue.float(row["value"]) for row in rows
    }
    return _result(lakehouse, RETRIEVAL_SUITE, manifest, numbers)


PER_REQUEST_DESCRIPTION = (
    "One row per (task, run, row_number): the metrics of a model or an anchor in one test request "
    "with a click, in the mode full; for one's own comparisons and slices, and for export. "
    "mrr_at_10 is the column of mrr@10."
)
PER_REQUEST_SUITE = table_suite("evaluation.per_request", PER_REQUEST_DESCRIPTION)


@dg.asset(
    key=["evaluation", "per_request"],
    # The last is compared with by a check, and nothing is made from it.
    deps=[dg.AssetKey(relation.split(".")) for relation in (*READS, "evaluation.leaderboard")],
    group_name="evaluation",
    kinds={"numpy", "table"},
    description=PER_REQUEST_DESCRIPTION,
    check_specs=check_specs(PER_REQUEST_SUITE),
)
def per_request(lakehouse: Lakehouse) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster asks for it bare
    from qilin_dagster.leaderboard import read_candidates, read_runs
    from qilin_dagster.per_request import CODE_VERSION, per_request

    manifest = _publish(
        lakehouse,
        PER_REQUEST_SUITE,
        READS,
        CODE_VERSION,
        lambda connection, task: per_request(
            task, read_candidates(connection, task), read_runs(connection, task, RUNS)
        ),
    )
    return _result(lakehouse, PER_REQUEST_SUITE, manifest)


COMPARISONS_DESCRIPTION = (
    "One row per (task, metric, run_a, run_b): the paired difference of two models, or of a model "
    "and an anchor, over the same test requests, with a 95 % interval and a sign-flip test over "
    "users; p_holm is adjusted for all pairs of the task and metric."
)
COMPARISONS_SUITE = table_suite("evaluation.comparisons", COMPARISONS_DESCRIPTION)


@dg.asset(
    key=["evaluation", "comparisons"],
    deps=[dg.AssetKey(PER_REQUEST.split("."))],
    group_name="evaluation",
    kinds={"numpy", "table"},
    description=COMPARISONS_DESCRIPTION,
    check_specs=check_specs(COMPARISONS_SUITE),
)
def comparisons(lakehouse: Lakehouse) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster asks for it bare
    from qilin_dagster.comparisons import CODE_VERSION, METRICS, comparisons
    from qilin_dagster.per_request import read_per_request

    manifest = _publish(
        lakehouse,
        COMPARISONS_SUITE,
        (PER_REQUEST,),
        CODE_VERSION,
        lambda connection, task: comparisons(task, read_per_request(connection, task, METRICS)),
    )
    return _result(lakehouse, COMPARISONS_SUITE, manifest)


SLICES_DESCRIPTION = (
    "One row per (task, slice, slice_value, run, metric): the metrics of models and anchors over "
    "the test requests of one kind, with 95 % bootstrap intervals over users; none below ten "
    "users. Slices by what was clicked are chosen by the outcome."
)
SLICES_SUITE = table_suite("evaluation.slices", SLICES_DESCRIPTION)


@dg.asset(
    key=["evaluation", "slices"],
    deps=[dg.AssetKey(relation.split(".")) for relation in SLICES_READ],
    group_name="evaluation",
    kinds={"numpy", "table"},
    description=SLICES_DESCRIPTION,
    check_specs=check_specs(SLICES_SUITE),
)
def slices(lakehouse: Lakehouse) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster asks for it bare
    from qilin_dagster.per_request import read_per_request
    from qilin_dagster.slices import CODE_VERSION, METRICS, slices

    manifest = _publish(
        lakehouse,
        SLICES_SUITE,
        SLICES_READ,
        CODE_VERSION,
        lambda connection, task: slices(
            connection, task, read_per_request(connection, task, METRICS)
        ),
    )
    return _result(lakehouse, SLICES_SUITE, manifest)


CALIBRATION_DESCRIPTION = (
    "One row per (task, run, bin): a tenth of the candidates by their predicted share of the "
    "request's clicks (softmax of the scores), beside the share they had. Scores on another scale, "
    "such as BM25's, rank only."
)
CALIBRATION_SUITE = table_suite("evaluation.calibration", CALIBRATION_DESCRIPTION)


@dg.asset(
    key=["evaluation", "calibration"],
    deps=[dg.AssetKey(relation.split(".")) for relation in READS],
    group_name="evaluation",
    kinds={"numpy", "table"},
    description=CALIBRATION_DESCRIPTION,
    check_specs=check_specs(CALIBRATION_SUITE),
)
def calibration(lakehouse: Lakehouse) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster asks for it bare
    from qilin_dagster.calibration import CODE_VERSION, calibration
    from qilin_dagster.leaderboard import read_candidates, read_runs

    manifest = _publish(
        lakehouse,
        CALIBRATION_SUITE,
        READS,
        CODE_VERSION,
        lambda connection, task: calibration(
            task, read_candidates(connection, task), read_runs(connection, task, RUNS)
        ),
    )
    return _result(lakehouse, CALIBRATION_SUITE, manifest)


EXAMPLES_DESCRIPTION = (
    "One row per (task, row_number, pid, run): the notes of a few test requests, spread evenly "
    "over the test rows, with their titles, clicks, and the score and rank each run gives them."
)
EXAMPLES_SUITE = table_suite("evaluation.examples", EXAMPLES_DESCRIPTION)


@dg.asset(
    key=["evaluation", "examples"],
    deps=[dg.AssetKey(relation.split(".")) for relation in (*READS, "core.notes")],
    group_name="evaluation",
    kinds={"table"},
    description=EXAMPLES_DESCRIPTION,
    check_specs=check_specs(EXAMPLES_SUITE),
)
def examples(lakehouse: Lakehouse) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster asks for it bare
    from qilin_dagster.examples import CODE_VERSION, examples
    from qilin_dagster.leaderboard import read_runs

    manifest = _publish(
        lakehouse,
        EXAMPLES_SUITE,
        (*READS, "core.notes"),
        CODE_VERSION,
        lambda connection, task: examples(connection, task, read_runs(connection, task, RUNS)),
    )
    return _result(lakehouse, EXAMPLES_SUITE, manifest)


HISTORY_DESCRIPTION = (
    "One row per (evaluation_n, task, run, metric): what the leaderboard, mode full, said each "
    "time it was made anew. Says how often the test requests were looked at, and whether a metric "
    "left its interval."
)
HISTORY_SUITE = table_suite("evaluation.history", HISTORY_DESCRIPTION)


@dg.asset(
    key=["evaluation", "history"],
    deps=[dg.AssetKey(["evaluation", "leaderboard"])],
    group_name="evaluation",
    kinds={"table"},
    description=HISTORY_DESCRIPTION,
    check_specs=check_specs(HISTORY_SUITE),
)
def history(lakehouse: Lakehouse) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster asks for it bare
    from qilin_dagster.evaluation_history import publish_history

    connection = lakehouse.engine().connect(["evaluation.leaderboard", "published.data_set"])
    try:
        manifest = publish_history(lakehouse.store, connection)
    finally:
        connection.close()
    n_looks = dg.MetadataValue.int(manifest.facts["n_evaluations"])
    return _result(lakehouse, HISTORY_SUITE, manifest, {"evaluations of this data": n_looks})


tables = [
    leaderboard,
    per_request,
    comparisons,
    slices,
    calibration,
    examples,
    retrieval,
    history,
]


def _publish(
    lakehouse: Lakehouse,
    suite: Suite,
    reads: tuple[str, ...],
    code_version: str,
    rows_of_task: "Callable[[duckdb.DuckDBPyConnection, str], pa.Table]",
) -> Manifest:
    """Publish a table made of one part for each task."""
    import pyarrow as pa

    engine = lakehouse.engine()
    connection = engine.connect(reads)
    try:
        return lakehouse.store.publish(
            suite.qualified,
            inputs=engine.inputs(reads),
            code_version=code_version,
            write=lambda folder: write_rows(
                pa.concat_tables([rows_of_task(connection, task) for task in TASKS]), folder
            ),
        )
    finally:
        connection.close()


def _result(
    lakehouse: Lakehouse,
    suite: Suite,
    manifest: Manifest,
    metadata: dict[str, dg.MetadataValue] | None = None,
) -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(
        metadata={"dagster/row_count": dg.MetadataValue.int(manifest.n_rows), **(metadata or {})},
        data_version=dg.DataVersion(manifest.snapshot_id),
        check_results=check_table(lakehouse.engine(), suite),
    )


def _as_markdown(rows: list[tuple[str, str, str, str, float, float, float]]) -> str:
    lines: list[str] = []
    for task in ("search", "recommendation"):
        values = {
            (run, metric): (value, low, high)
            for row_task, run, _, metric, value, low, high in rows
            if row_task == task
        }
        names = list(dict.fromkeys(row[1] for row in rows if row[0] == task))
        lines += [
            f"**{task}**, all test requests",
            "",
            "| run | " + " | ".join(HEADLINE) + " |",
            "|---" * (len(HEADLINE) + 1) + "|",
        ]
        lines += [
            f"| {name} | "
            + " | ".join(_interval(values.get((name, metric))) for metric in HEADLINE)
            + " |"
            for name in names
        ]
        lines.append("")
    return "\n".join(lines)


def _interval(value: tuple[float | None, float | None, float | None] | None) -> str:
    if value is None or value[0] is None:
        return ""
    point, low, high = value
    return f"{point:.4f}" if low is None else f"{point:.4f} [{low:.4f}, {high:.4f}]"
