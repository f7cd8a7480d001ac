"""A small lake on which every expectation holds, from bias to the leaderboard: a twin's, as tables.

Raw is that of the twin; runs are scores drawn at random, so that nothing is trained.
"""

from pathlib import Path

import duckdb

from qilin_dagster.assets.training import RECIPES
from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.features import TASKS, build_features, statistics_rows, vocabulary_rows
from qilin_dagster.leaderboard import ScoredRun, leaderboard, read_candidates
from qilin_dagster.sources.twin import write_twin
from tests.conftest import build_views

SCALE = 0.004
SCHEMAS = ("core", "bias", "features", "training", "evaluation")


def build(folder: Path) -> duckdb.DuckDBPyConnection:
    """A connection with every relation; those of SCHEMAS are tables, with a copy to repair from."""
    write_twin(folder / "data", scale=SCALE, seed=5)
    engine = build_views(folder / "data", folder / "lake")
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'; set threads = 1")
    engine.define(connection)
    for schema in ("held", *(f"valid_{schema}" for schema in SCHEMAS)):
        connection.execute(f"create schema {schema}")
    _store_core(connection, engine)
    for schema in SCHEMAS[2:]:
        connection.execute(f"create schema {schema}")
    for task in TASKS:
        _store_features(connection, task, folder)
    _store_runs(connection)
    for relation in relations(connection):
        connection.execute(f"create table valid_{relation} as from {relation}")
    return connection


def relations(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Names of all relations of SCHEMAS."""
    rows = connection.execute(
        "select schema_name || '.' || table_name from duckdb_tables() "
        f"where schema_name in {SCHEMAS} order by all"
    ).fetchall()
    return [name for (name,) in rows]


def _store_core(connection: duckdb.DuckDBPyConnection, engine: DuckDBEngine) -> None:
    """Views of core and bias become tables, so that a test can break one without the others."""
    for view in engine.catalog.views:
        if view.schema != "raw":
            connection.execute(f"create table held.{view.name} as from {view.qualified}")
            connection.execute(f"drop view {view.qualified}")
            connection.execute(f"create table {view.qualified} as from held.{view.name}")
            connection.execute(f"drop table held.{view.name}")


def _store_features(connection: duckdb.DuckDBPyConnection, task: str, folder: Path) -> None:
    folder = folder / task
    folder.mkdir()
    build_features(connection, next(name for name in TASKS if name == task), folder)
    vocabularies, statistics = vocabulary_rows(folder), statistics_rows(folder)  # noqa: F841
    connection.execute(
        f"create table features.{task}_ranking as from read_parquet('{folder}/part-0.parquet')"
    )
    connection.execute(f"create table features.{task}_vocabularies as from vocabularies")
    connection.execute(f"create table features.{task}_statistics as from statistics")


def _store_runs(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("select setseed(0.5)")
    for recipe in RECIPES:
        connection.execute(
            f"""
            create table training.{recipe.name} as
            select r.row_number as qid, i.note_idx as pid, random() as score,
                min(i.shown_rank) as shown_rank
            from core.impressions as i join core.requests as r using (request_id)
            where r.source_table = '{recipe.task}_test'
            group by all
            """
        )
    parts = []
    for task in TASKS:
        runs = []
        for recipe in (recipe for recipe in RECIPES if recipe.task == task):
            scores = connection.execute(
                f"select qid, pid, score from training.{recipe.name}"
            ).fetchnumpy()
            runs.append(ScoredRun(recipe.name, scores["qid"], scores["pid"], scores["score"]))
        parts.append(leaderboard(task, read_candidates(connection, task), runs))
    first, second = parts  # noqa: RUF059 # DuckDB reads them by name
    connection.execute("create table evaluation.leaderboard as from first union all from second")
