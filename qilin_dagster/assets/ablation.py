"""Stage 5, ablation: rankers with one thing taken from them or put in, and what it was worth.

The runs are made as those of training are, with the same seed, folds and candidates; a lake without
images has none, and says so.
"""

from dataclasses import replace

import dagster as dg

from models import recipes
from models.recipes import Recipe
from qilin_dagster.assets.evaluation import publish_by_task
from qilin_dagster.assets.tables import Metadata, table_asset
from qilin_dagster.assets.training import ranker
from qilin_dagster.lake import Manifest
from qilin_dagster.resources import Lakehouse

SCHEMA = "ablation"
VLMS = (recipes.vlm_search(), recipes.vlm_recommendation())
DCNS = (recipes.dcn_v2_search(), recipes.dcn_v2_recommendation())
RECIPES: tuple[Recipe, ...] = (
    *(replace(r, name=f"vlm_text_only_{r.task}", covers="none") for r in VLMS),
    *(replace(r, name=f"vlm_image_only_{r.task}", reads_text=False) for r in VLMS),
    *(replace(r, name=f"vlm_shuffled_covers_{r.task}", covers="shuffled") for r in VLMS),
    *(replace(r, name=f"dcn_v2_covers_{r.task}", covers="own") for r in DCNS),
    *(replace(r, name=f"dcn_v2_shuffled_covers_{r.task}", covers="shuffled") for r in DCNS),
)
# Those with all, or with nothing more, are in training.
BASES = tuple(f"training.{recipe.name}" for recipe in (*VLMS, *DCNS))
RUNS = (*BASES, *(f"{SCHEMA}.{recipe.name}" for recipe in RECIPES))
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


tables = [*rankers, image_worth]
