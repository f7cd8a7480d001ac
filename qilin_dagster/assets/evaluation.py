"""Stage 5, evaluation: every run of both tasks beside the anchors, in both metric modes; which
differences are real; where a run is good; what was said before."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import dagster as dg

from models.recipes import TASKS
from qilin_dagster.assets.features import NOTE_IMAGES
from qilin_dagster.assets.tables import Metadata, publish_from, table_asset
from qilin_dagster.assets.training import CORRECTED, RECIPES
from qilin_dagster.lake import Manifest, write_rows
from qilin_dagster.resources import Lakehouse

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

RUNS = tuple(f"training.{recipe.name}" for recipe in RECIPES)
READS = ("core.impressions", "core.requests", *RUNS)
# Trained with an allowance for position: no rivals on raw clicks, so not on the leaderboard.
CORRECTED_RUNS = tuple(f"ablation.{recipe.name}" for recipe in CORRECTED)
UNBIASED_READS = (*READS, *CORRECTED_RUNS, "propensity.by_position")
PER_REQUEST = "evaluation.per_request"
SLICES_READ = ("core.impressions", "core.requests", "core.notes", PER_REQUEST)
COLD_START_READS = (*READS, "core.notes")
EXAMPLES_READ = (*READS, "core.notes", NOTE_IMAGES)
DRIFT_READS = (
    *("published.data_set", "core.requests", "bias.click_rate_by_position"),
    "bias.click_rate_by_query_source",
    *(f"features.{task}_{name}" for task in TASKS for name in ("ranking", "statistics")),
)
# They look for notes in the whole corpus, too.
FIRST_STAGES = ("training.bm25_search", "training.bi_encoder_search")
HEADLINE = ("mrr@10", "map@10", "ndcg@10", "gauc")
NUMPY_TABLE = {"numpy", "table"}


@table_asset(
    "evaluation.leaderboard",
    "One row per (task, mode, run, metric): models and anchors with 95 % bootstrap "
    "intervals over users. Mode full: all requests, ties in expectation; mode official: as the "
    "public evaluator, the first 1,000 rows. A model means something beside its anchors only.",
    READS,
    kinds=NUMPY_TABLE,
)
def leaderboard(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
    from qilin_dagster.leaderboard import CODE_VERSION, leaderboard, read_candidates, read_runs

    manifest = publish_by_task(
        lakehouse,
        table,
        READS,
        CODE_VERSION,
        lambda connection, task: leaderboard(
            task, read_candidates(connection, task), read_runs(connection, task, RUNS)
        ),
    )
    connection = lakehouse.engine().connect([table])
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
    return manifest, metadata


@table_asset(
    PER_REQUEST,
    "One row per (task, run, row_number): the metrics of a model or an anchor in one test request "
    "with a click, in the mode full; for one's own comparisons and slices, and for export. "
    "mrr_at_10 is the column of mrr@10.",
    READS,
    compared_with=("evaluation.leaderboard",),
    kinds=NUMPY_TABLE,
)
def per_request(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
    from qilin_dagster.leaderboard import read_candidates, read_runs
    from qilin_dagster.per_request import CODE_VERSION, per_request

    return publish_by_task(
        lakehouse,
        table,
        READS,
        CODE_VERSION,
        lambda connection, task: per_request(
            task, read_candidates(connection, task), read_runs(connection, task, RUNS)
        ),
    ), {}


@table_asset(
    "evaluation.comparisons",
    "One row per (task, metric, run_a, run_b): the paired difference of two models, or of a model "
    "and an anchor, over the same test requests, with a 95 % interval and a sign-flip test over "
    "users; p_holm is adjusted for all pairs of the task and metric.",
    (PER_REQUEST,),
    kinds=NUMPY_TABLE,
)
def comparisons(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
    from qilin_dagster.comparisons import CODE_VERSION, METRICS, comparisons
    from qilin_dagster.per_request import read_per_request

    return publish_by_task(
        lakehouse,
        table,
        (PER_REQUEST,),
        CODE_VERSION,
        lambda connection, task: comparisons(task, read_per_request(connection, task, METRICS)),
    ), {}


@table_asset(
    "evaluation.unbiased",
    "One row per (task, judged_by, metric, run): models and anchors judged by raw clicks, by "
    "clicks weighed by examination (ips, snips), by pairs that cancel the place and, on a twin, by "
    "the planted attraction of the notes, with 95 % bootstrap intervals over users. n_judged "
    "counts clicks, pairs or candidates; n_effective is what weights leave of the clicks.",
    UNBIASED_READS,
    kinds=NUMPY_TABLE,
)
def unbiased(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
    from qilin_dagster.image_facts import registered_folder
    from qilin_dagster.lake import sha256_of
    from qilin_dagster.leaderboard import read_candidates, read_runs
    from qilin_dagster.unbiased import CODE_VERSION, twin_truth, unbiased

    # The truth is read here, after all runs are made, and nowhere before.
    truth = twin_truth(registered_folder(lakehouse.store))
    manifest = publish_by_task(
        lakehouse,
        table,
        UNBIASED_READS,
        CODE_VERSION,
        lambda connection, task: unbiased(
            connection,
            task,
            read_candidates(connection, task),
            read_runs(connection, task, (*RUNS, *CORRECTED_RUNS)),
            truth,
        ),
        more_inputs={} if truth is None else {"truth": sha256_of(truth)},
    )
    return manifest, {"judged by the truth": dg.MetadataValue.bool(truth is not None)}


@table_asset(
    "evaluation.slices",
    "One row per (task, slice, slice_value, run, metric): the metrics of models and anchors over "
    "the test requests of one kind, with 95 % bootstrap intervals over users; none below ten "
    "users. Slices by what was clicked are chosen by the outcome.",
    SLICES_READ,
    kinds=NUMPY_TABLE,
)
def slices(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
    from qilin_dagster.per_request import read_per_request
    from qilin_dagster.slices import CODE_VERSION, METRICS, slices

    return publish_by_task(
        lakehouse,
        table,
        SLICES_READ,
        CODE_VERSION,
        lambda connection, task: slices(
            connection, task, read_per_request(connection, task, METRICS)
        ),
    ), {}


@table_asset(
    "evaluation.cold_start",
    "One row per (task, run, slice, slice_value, metric): what a clicked note is worth at the rank "
    "a run gives it, over clicks on notes and of users that train showed often, seldom or never, "
    "and by form, with 95 % bootstrap intervals over users. Slices are chosen by the outcome.",
    COLD_START_READS,
    kinds=NUMPY_TABLE,
)
def cold_start(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
    from qilin_dagster.cold_start import CODE_VERSION, cold_start
    from qilin_dagster.leaderboard import read_candidates, read_runs

    return publish_by_task(
        lakehouse,
        table,
        COLD_START_READS,
        CODE_VERSION,
        lambda connection, task: cold_start(
            connection,
            task,
            read_candidates(connection, task),
            read_runs(connection, task, RUNS),
        ),
    ), {}


@table_asset(
    "evaluation.calibration",
    "One row per (task, run, bin): a tenth of the candidates by their predicted share of the "
    "request's clicks (softmax of the scores), beside the share they had. Scores on another scale, "
    "such as BM25's, rank only.",
    READS,
    kinds=NUMPY_TABLE,
)
def calibration(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
    from qilin_dagster.calibration import CODE_VERSION, calibration
    from qilin_dagster.leaderboard import read_candidates, read_runs

    return publish_by_task(
        lakehouse,
        table,
        READS,
        CODE_VERSION,
        lambda connection, task: calibration(
            task, read_candidates(connection, task), read_runs(connection, task, RUNS)
        ),
    ), {}


@table_asset(
    "evaluation.examples",
    "One row per (task, row_number, pid, run): the notes of a few test requests, spread evenly "
    "over the test rows, with their titles, covers, clicks, and the score and rank each run gives "
    "them.",
    EXAMPLES_READ,
    kinds={"table"},
)
def examples(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
    from qilin_dagster.examples import CODE_VERSION, examples
    from qilin_dagster.leaderboard import read_runs
    from qilin_dagster.note_images import read_note_images

    manifest = lakehouse.store.manifest(NOTE_IMAGES)
    assert manifest is not None
    images = read_note_images(lakehouse.store.snapshot_folder(NOTE_IMAGES), manifest.facts)
    return publish_by_task(
        lakehouse,
        table,
        EXAMPLES_READ,
        CODE_VERSION,
        lambda connection, task: examples(
            connection, task, read_runs(connection, task, RUNS), images
        ),
    ), {}


@table_asset(
    "evaluation.retrieval",
    "One row per (task, run, protocol, metric): recall of the clicked notes among the first notes "
    "a run finds in the whole corpus, with 95 % bootstrap intervals over requests. Another "
    "question than the leaderboard's, whose runs order the notes that were shown.",
    FIRST_STAGES,
    kinds=NUMPY_TABLE,
)
def retrieval(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
    from qilin_dagster.retrieval import CODE_VERSION, retrieval_table

    manifests = {run: lakehouse.store.manifest(run) for run in FIRST_STAGES}
    rows = [
        {"task": "search", "run": run.removeprefix("training.").removesuffix("_search"), **row}
        for run, manifest in manifests.items()
        for row in (manifest.facts.get("retrieval", []) if manifest else [])
    ]
    manifest = lakehouse.store.publish(
        table,
        inputs=lakehouse.engine().inputs(FIRST_STAGES),
        code_version=CODE_VERSION,
        write=lambda folder: write_rows(retrieval_table(rows), folder),
    )
    return manifest, {f"{row['run']} {row['metric']}": row["value"] for row in rows}


@table_asset(
    "evaluation.history",
    "One row per (evaluation_n, task, run, metric): what the leaderboard, mode full, said each "
    "time it was made anew. Says how often the test requests were looked at, and whether a metric "
    "left its interval.",
    ("evaluation.leaderboard",),
    kinds={"table"},
)
def history(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
    from qilin_dagster.evaluation_history import publish_history

    connection = lakehouse.engine().connect(["evaluation.leaderboard", "published.data_set"])
    try:
        manifest = publish_history(lakehouse.store, connection)
    finally:
        connection.close()
    return manifest, {"evaluations of this data": manifest.facts["n_evaluations"]}


@table_asset(
    "evaluation.data_drift",
    "One row per (profile_n, subject, item): a click rate, a place of the position curve, the "
    "share of a query source or the mean of a feature, each time the data was new, beside the "
    "time before, and what moved in words.",
    DRIFT_READS,
    kinds=NUMPY_TABLE,
)
def drift(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
    from qilin_dagster.data_drift import publish_drift

    engine = lakehouse.engine()
    connection = engine.connect(DRIFT_READS)
    try:
        manifest = publish_drift(lakehouse.store, connection, engine.inputs(DRIFT_READS))
    finally:
        connection.close()
    moved = manifest.facts["moved"]
    said = "\n".join(f"- {line}" for line in moved) or "nothing, or there was nothing before"
    return manifest, {
        "moved": dg.MetadataValue.md(said),
        "moved items": dg.MetadataValue.int(len(moved)),
    }


tables = [
    leaderboard,
    per_request,
    comparisons,
    unbiased,
    slices,
    cold_start,
    calibration,
    examples,
    retrieval,
    history,
    drift,
]


def publish_by_task(
    lakehouse: Lakehouse,
    table: str,
    reads: tuple[str, ...],
    code_version: str,
    rows_of_task: "Callable[[duckdb.DuckDBPyConnection, str], pa.Table]",
    *,
    more_inputs: Mapping[str, str] | None = None,
) -> Manifest:
    """Publish a table made of one part for each task."""
    import pyarrow as pa

    return publish_from(
        lakehouse,
        table,
        reads,
        code_version,
        lambda connection, folder: write_rows(
            pa.concat_tables([rows_of_task(connection, task) for task in TASKS]), folder
        ),
        more_inputs=more_inputs,
    )


def _as_markdown(rows: list[tuple[str, str, str, str, float, float, float]]) -> str:
    lines: list[str] = []
    for task in TASKS:
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
