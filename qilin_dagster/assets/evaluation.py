"""Stage 5, evaluation: every run of both tasks beside the anchors, in both metric modes."""

import logging
from pathlib import Path

import dagster as dg

from qilin_dagster.assets.training import RECIPES
from qilin_dagster.checks import check_specs, check_table, table_suite
from qilin_dagster.lake import Written, write_rows
from qilin_dagster.resources import Lakehouse

log = logging.getLogger("qilin")

READS = ("core.impressions", "core.requests")
RUNS = tuple(f"training.{recipe.name}" for recipe in RECIPES)
CODE_VERSION = "1"
HEADLINE = ("mrr@10", "map@10", "ndcg@10", "gauc")


DESCRIPTION = (
    "One row per (task, mode, run, metric): models and anchors with 95 % bootstrap "
    "intervals over requests. Mode full: all requests, ties in expectation; mode official: as the "
    "public evaluator, the first 1,000 rows. A model means something beside its anchors only."
)
SUITE = table_suite("evaluation.leaderboard", DESCRIPTION)


@dg.asset(
    key=["evaluation", "leaderboard"],
    deps=[dg.AssetKey(relation.split(".")) for relation in (*READS, *RUNS)],
    group_name="evaluation",
    kinds={"numpy", "table"},
    description=DESCRIPTION,
    check_specs=check_specs(SUITE),
)
def leaderboard(lakehouse: Lakehouse) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster asks for it bare
    engine = lakehouse.engine()
    manifest = lakehouse.store.publish(
        "evaluation.leaderboard",
        inputs=engine.inputs((*READS, *RUNS)),
        code_version=CODE_VERSION,
        write=lambda folder: _write(lakehouse, folder),
    )
    connection = engine.connect(["evaluation.leaderboard"])
    try:
        rows = connection.execute(
            "select task, run, kind, metric, value, low, high from evaluation.leaderboard "
            "where mode = 'full'"
        ).fetchall()
    finally:
        connection.close()
    metadata: dict[str, dg.MetadataValue] = {
        "dagster/row_count": dg.MetadataValue.int(manifest.n_rows),
        "leaderboard": dg.MetadataValue.md(_as_markdown(rows)),
    }
    for task, run, kind, metric, value, *_ in rows:
        # Numbers at the top level are plotted over time in the UI.
        if metric == "mrr@10" and (kind == "model" or run in ("random", "display_order")):
            metadata[f"{task} {run} mrr@10"] = dg.MetadataValue.float(value)
    return dg.MaterializeResult(
        metadata=metadata,
        data_version=dg.DataVersion(manifest.snapshot_id),
        check_results=check_table(engine, SUITE),
    )


def _write(lakehouse: Lakehouse, folder: Path) -> Written:
    import pyarrow as pa

    from qilin_dagster.leaderboard import ScoredRun, read_candidates
    from qilin_dagster.leaderboard import leaderboard as score

    engine = lakehouse.engine()
    connection = engine.connect((*READS, *RUNS))
    parts = []
    try:
        for task in ("search", "recommendation"):
            runs = []
            for recipe in (recipe for recipe in RECIPES if recipe.task == task):
                scores = connection.execute(
                    f"select qid, pid, score from training.{recipe.name}"
                ).fetchnumpy()
                if len(scores["qid"]):
                    name = recipe.name.removesuffix(f"_{task}")
                    runs.append(ScoredRun(name, scores["qid"], scores["pid"], scores["score"]))
            parts.append(score(task, read_candidates(connection, task), runs))
    finally:
        connection.close()
    return write_rows(pa.concat_tables(parts), folder)


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
