"""A whole build of a small log stage by stage, cheap enough to be killed 200 times.

The assets' own functions on the hand-written log, without Dagster's run and without checks, whose
start and imports cost seconds each. The rankers are the real ones at a tiny size. Views that are
not stored change nothing in the lake and are only defined. Importing this module imports all that
the stages need, so that a fork server pays for it once.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

# For the fork server; the stages import them where they use them.
import altair  # noqa: F401
import dagster as dg
import jinja2  # noqa: F401
import pandas  # noqa: F401  # By pyarrow.
import polars  # noqa: F401
import torch._dynamo  # noqa: F401  # By torch.use_deterministic_algorithms.
import vl_convert  # noqa: F401

import models.answers.bert_score
import models.bi_encoder
import models.bm25
import models.cross_encoder
import models.dcn_v2_training
import models.note_index
import models.words  # noqa: F401
import qilin_dagster.answer_effect
import qilin_dagster.answer_scores
import qilin_dagster.audit
import qilin_dagster.leaderboard
import qilin_dagster.report
import qilin_dagster.training
from models import recipes
from models.recipes import BM25Recipe, DCNV2Recipe, Encoder, Recipe, VLMRecipe
from qilin_dagster.assets import (
    ablation,
    answers,
    audit,
    evaluation,
    features,
    images,
    propensity,
    raw,
    reports,
    tables,
    training,
)
from qilin_dagster.engines import duckdb  # noqa: F401
from qilin_dagster.lake import Lake
from qilin_dagster.resources import Lakehouse
from tests import published_log

STAGES = ("published", "core", "audit", "features", "training", "evaluation", "reports", "serve")
N_SEARCHES = 12
# A launch in which nothing was edited.
UNCHANGED = SimpleNamespace(op_execution_context=SimpleNamespace(op_config={}))
LINGER_S = 0.03


def write_log(folder: Path, *, extra_note: bool) -> Path:
    """The hand-written log with searches enough to train on; two versions differ in every table."""
    tables = published_log.tables()
    last = 60 if extra_note else 59
    for number in range(N_SEARCHES):
        clicked, other = 1 + number % 5, (number + 2) % 5
        details = [
            published_log.impression("search_train", clicked, 1.0, number * last, 1),
            published_log.impression("search_train", other, 2.0, number * last),
        ]
        row = published_log.search("search_train", 100 + number, number % 2, details)
        tables["search_train"].append(row)
    if extra_note:
        tables["notes"].append(published_log.note(6))
        tables["user_feat"].append(published_log.user(2))
    return published_log.write(folder, tables)


def build(data: Path, lake: Path, start: str, reached: Connection) -> None:
    """Build from a stage on, sending the name of each as it begins, and "done" at the end.

    For a process of its own, which checks nothing and draws no charts from then on. It lingers
    where publishing waits for the disk, so that many kills fall between the steps of it.
    """
    sync = qilin_dagster.lake._sync
    qilin_dagster.lake._sync = lambda path: (
        time.sleep(LINGER_S if path.is_dir() else 0),
        sync(path),
    )
    tables.check_table = lambda engine, suite: []
    qilin_dagster.report.sections = lambda numbers, provenance: []
    qilin_dagster.report.charts_javascript = lambda: "draw();"
    qilin_dagster.report.figures = lambda connection: {"figure": b"PNG"}
    with Lake(lake).building(wait=True):
        for name, run in stages(data, lake):
            if STAGES.index(name) >= STAGES.index(start):
                reached.send(name)
                run()
    reached.send("done")


def build_views_forever(data: tuple[Path, Path], lake: Path) -> None:
    """Build the stages up to the views from one log and from the other, until killed."""
    while True:
        for path in reversed(data):
            with Lake(lake).building(wait=True):
                for name, run in stages(path, lake):
                    if name in ("published", "core", "serve"):
                        run()


def stages(data: Path, lake: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    lakehouse = Lakehouse(data=str(data), lake=str(lake))
    engine = lakehouse.engine()

    def run(*assets: dg.AssetsDefinition) -> None:
        for asset in assets:
            # Calling the asset itself would make a Dagster instance, a sixth of a second each.
            more = {"context": UNCHANGED} if asset in rankers else {}
            done = asset.op.compute_fn.decorated_fn(lakehouse=lakehouse, **more)
            if isinstance(done, Iterator):
                list(done)

    def views() -> None:
        connection = engine.connect(f"published.{name}" for name in raw.DESCRIPTIONS)
        try:
            for view in engine.catalog.views:
                if view.is_stored:
                    engine.build(connection, view)
                else:
                    engine.define_view(connection, view)
        finally:
            connection.close()

    rankers = [
        training.ranker(_tiny(recipe), schema)
        for schema, made in (("training", training.RECIPES), ("ablation", ablation.RECIPES))
        for recipe in made
    ]
    yield "published", lambda: run(raw.published_files)
    yield "core", lambda: (views(), run(images.images))
    yield "audit", lambda: run(audit.audit)
    yield "features", lambda: run(*propensity.tables, *features.tables)
    yield "training", lambda: run(*rankers)
    yield "evaluation", lambda: run(*evaluation.tables, ablation.image_worth, *answers.tables)
    yield "reports", lambda: run(reports.overview, reports.position_bias)
    yield "serve", engine.serve


def _tiny(recipe: Recipe) -> Recipe:
    """The recipe at the least size that trains on a dozen searches."""
    limits = {"min_fit_requests": 1, "min_validation_requests": 1}
    # Without images the last has nothing to train.
    if isinstance(recipe, BM25Recipe | VLMRecipe):
        return recipe
    if isinstance(recipe, DCNV2Recipe):
        smoke = recipes.dcn_v2_search_smoke()
        training = replace(smoke.training, max_epochs=2, **limits)
        return replace(smoke, name=recipe.name, task=recipe.task, training=training)
    encoder = Encoder(n_layers=1, width=16, max_query_tokens=8, max_note_tokens=8)
    return replace(
        recipe, encoder=encoder, training=replace(recipe.training, max_epochs=1, **limits)
    )
