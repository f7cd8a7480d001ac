"""Stage 5, ablation: rankers with one thing taken from them or put in, and what it was worth.

The runs are made as those of training are, with the same seed, folds and candidates; a lake without
images has none, and says so.
"""

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import dagster as dg

from models import recipes
from models.recipes import TASKS, Recipe, Task
from qilin_dagster.assets.evaluation import publish_by_task
from qilin_dagster.assets.features import NOTE_TOKENS
from qilin_dagster.assets.tables import Metadata, publish_from, table_asset
from qilin_dagster.assets.training import CORRECTED, ranker
from qilin_dagster.lake import Manifest, write_rows
from qilin_dagster.resources import Lakehouse

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

log = logging.getLogger("qilin")

SCHEMA = "ablation"
VLMS = (recipes.vlm_search(), recipes.vlm_recommendation())
DCNS = (recipes.dcn_v2_search(), recipes.dcn_v2_recommendation())
COVER_RECIPES: tuple[Recipe, ...] = (
    *(replace(r, name=f"vlm_text_only_{r.task}", covers="none") for r in VLMS),
    *(replace(r, name=f"vlm_image_only_{r.task}", reads_text=False) for r in VLMS),
    *(replace(r, name=f"vlm_shuffled_covers_{r.task}", covers="shuffled") for r in VLMS),
    *(replace(r, name=f"dcn_v2_covers_{r.task}", covers="own") for r in DCNS),
    *(replace(r, name=f"dcn_v2_shuffled_covers_{r.task}", covers="shuffled") for r in DCNS),
)
RECIPES: tuple[Recipe, ...] = (*COVER_RECIPES, *CORRECTED)
# Those with all, or with nothing more, are in training.
BASES = tuple(f"training.{recipe.name}" for recipe in (*VLMS, *DCNS))
RUNS = (*BASES, *(f"{SCHEMA}.{recipe.name}" for recipe in COVER_RECIPES))
READS = ("core.impressions", "core.requests", "core.notes", *RUNS)

rankers = [ranker(recipe, SCHEMA) for recipe in RECIPES]


@table_asset(
    "ablation.image_worth",
    "One row per (task, comparison, slice, slice_value, metric): the paired difference of two "
    "rankers of one seed that differ in what they see of the covers, over all test requests and by "
    "form of the clicked notes and source of the query, with a 95 % interval and a sign-flip test "
    "over users.",
    READS,
    kinds={"numpy", "table"},
)
def image_worth(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
    from qilin_dagster.image_worth import CODE_VERSION, image_worth
    from qilin_dagster.leaderboard import read_candidates, read_runs

    manifest = publish_by_task(
        lakehouse,
        table,
        READS,
        CODE_VERSION,
        lambda connection, task: image_worth(
            connection,
            task,
            read_candidates(connection, task),
            read_runs(connection, task, RUNS),
        ),
    )
    return manifest, {"comparisons": dg.MetadataValue.int(manifest.n_rows)}


FEATURES = tuple(f"features.{task}_ranking" for task in TASKS)
CURVE = "propensity.by_position"
CONTEXT_RUNS = "ablation.context_runs"


@table_asset(
    CONTEXT_RUNS,
    "One row per (task, variant, seed, row_number): the metrics, in one test request with a click, "
    "of a small DCN-V2 that knows one piece of context more than the bare model, or one less than "
    "the full one; several seeds each. weighted_ndcg_at_10 weighs clicks by examination.",
    ("core.impressions", CURVE, *FEATURES),
    kinds={"pytorch"},
    on_demand=True,
)
def context_runs(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
    import pyarrow as pa

    from models.ranking_data import TooLittleData
    from qilin_dagster.context_worth import CODE_VERSION, RUNS_SCHEMA, context_runs

    settings, lake = lakehouse.settings, lakehouse.store

    def rows(connection: "duckdb.DuckDBPyConnection", task: Task) -> "pa.Table":
        folder = lake.snapshot_folder(f"features.{task}_ranking")
        try:
            return context_runs(connection, folder, task, settings.seed, settings.device, log.info)
        except TooLittleData as reason:
            log.warning("%s: %s was not trained. %s", table, task, reason)
            return RUNS_SCHEMA.empty_table()

    manifest = publish_from(
        lakehouse,
        table,
        ("core.impressions", CURVE, *FEATURES),
        CODE_VERSION,
        lambda connection, folder: write_rows(
            pa.concat_tables([rows(connection, task) for task in TASKS]), folder
        ),
        more_inputs={"seed": str(settings.seed)},
    )
    return manifest, {}


@table_asset(
    "ablation.context_worth",
    "One row per (task, context, design, metric): what a piece of context is worth to DCN-V2, put "
    "into the bare model alone, or left out of the full one: the paired difference of metrics that "
    "are means over seeds, with a 95 % interval and a sign-flip test over users. Positive is a "
    "gain.",
    (CONTEXT_RUNS,),
    kinds={"numpy", "table"},
    on_demand=True,
)
def context_worth(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
    from qilin_dagster.context_worth import CODE_VERSION, context_worth

    return publish_by_task(
        lakehouse,
        table,
        (CONTEXT_RUNS,),
        CODE_VERSION,
        lambda connection, task: context_worth(
            connection.sql(f"from {CONTEXT_RUNS}").to_arrow_table(), task
        ),
    ), {}


COLD_START_READS = (
    *("core.impressions", "core.requests", "core.notes"),
    *(NOTE_TOKENS, *FEATURES),
    *(f"training.bm25_{task}" for task in TASKS),
)


@table_asset(
    "ablation.cold_start",
    "One row per (task, ranker, train_share, slice, slice_value, metric): what a clicked note is "
    "worth at the rank a small ranker gives it that learnt from a share of the train requests, by "
    "how well train knew note and user; rankers by ids and by content. 95 % bootstrap intervals "
    "over users.",
    COLD_START_READS,
    kinds={"pytorch"},
    on_demand=True,
)
def cold_start_curves(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
    import pyarrow as pa

    from models.ranking_data import TooLittleData
    from qilin_dagster.cold_start import CODE_VERSION, CURVES_SCHEMA, cold_start_curves
    from qilin_dagster.leaderboard import read_candidates, read_runs

    settings, lake = lakehouse.settings, lakehouse.store

    def rows(connection: "duckdb.DuckDBPyConnection", task: Task) -> "pa.Table":
        bm25 = read_runs(connection, task, (f"training.bm25_{task}",))
        try:
            return cold_start_curves(
                connection,
                lake.snapshot_folder(f"features.{task}_ranking"),
                lake.snapshot_folder(NOTE_TOKENS),
                task,
                read_candidates(connection, task),
                bm25[0] if bm25 else None,
                settings.seed,
                settings.device,
                log.info,
            )
        except TooLittleData as reason:
            log.warning("%s: %s was not trained. %s", table, task, reason)
            return CURVES_SCHEMA.empty_table()

    manifest = publish_from(
        lakehouse,
        table,
        COLD_START_READS,
        CODE_VERSION,
        lambda connection, folder: write_rows(
            pa.concat_tables([rows(connection, task) for task in TASKS]), folder
        ),
        more_inputs={"seed": str(settings.seed)},
    )
    return manifest, {}


tables = [*rankers, image_worth, context_runs, context_worth, cold_start_curves]
