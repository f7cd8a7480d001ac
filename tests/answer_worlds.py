"""Worlds with many answers and little else, as their log and their truth."""

from pathlib import Path

import duckdb

from qilin_dagster.catalog import load_catalog
from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.lake import Lake
from qilin_dagster.settings import Settings
from qilin_dagster.sources.published import inspect
from qilin_dagster.sources.register import register_all
from qilin_dagster.sources.twin.generate import Options, draw_world, write_world
from qilin_dagster.sources.twin.targets import ANSWERS_SHOWN, ROWS, TRANSITIONS, Sizes

# Of the published rows, for all tables but the answer sample.
OTHERS = 0.01
N_NOTES = 6_000
SEARCHES, FEEDS = (
    ("search_train", "search_test", "dqa"),
    (
        "recommendation_train",
        "recommendation_test",
    ),
)


def write(folder: Path, seed: int, n_answers: int) -> None:
    """A twin's published tables and truth, with this many rows in dqa."""
    options = Options(
        OTHERS, seed, False, False, click_model="pbm", leaks=True, looks=True, promotes=0.0
    )
    world, behaviour = draw_world(options, _sizes(n_answers), lambda _: None)
    folder.mkdir(parents=True)
    write_world(folder, folder, world, behaviour, options, lambda _: None)


def connect(folder: Path, lake: Path) -> duckdb.DuckDBPyConnection:
    """A connection with core.answer_requests over this log, and ``truth`` of its requests."""
    catalog = load_catalog()
    settings = Settings(data=folder, lake=lake, threads=1)
    engine = DuckDBEngine(Lake(lake), settings, catalog)
    register_all(engine.lake, inspect(folder), "auto")
    wanted = {"core.answer_requests"}
    for view in reversed(catalog.views):
        if view.qualified in wanted:
            wanted.update(view.parents)
    connection = engine.connect()
    for view in catalog.views:
        if view.qualified in wanted:
            engine.build(connection, view)
    connection.execute(
        "create view truth as select r.request_id, t.* "
        f"from read_parquet('{folder}/truth/answers.parquet') as t "
        "inner join core.requests as r using (source_table, row_number)"
    )
    return connection


def _sizes(n_answers: int) -> Sizes:
    rows = {name: round(count * OTHERS) for name, count in ROWS.items()} | {"dqa": n_answers}
    share = {
        "S": sum(rows[name] for name in SEARCHES) / sum(ROWS[name] for name in SEARCHES),
        "R": sum(rows[name] for name in FEEDS) / sum(ROWS[name] for name in FEEDS),
    }
    return Sizes(
        notes=N_NOTES,
        users=round(0.6 * n_answers),
        rows=rows,
        shown=round(n_answers * ANSWERS_SHOWN / ROWS["dqa"]),
        transitions={name: round(n * share[name[-1]]) for name, n in TRANSITIONS.items()},
    )
