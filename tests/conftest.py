"""Shared fixtures: the hand-written log, the real sample where it is at hand, a built lake."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pytest

from models.recipes import Task
from qilin_dagster.catalog import Catalog, load_catalog
from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.features import build_features
from qilin_dagster.lake import Lake, Written
from qilin_dagster.note_appeal import build_note_appeal
from qilin_dagster.note_words import build_note_words
from qilin_dagster.settings import REPOSITORY, Settings
from qilin_dagster.sources.clock import decide_clocks
from qilin_dagster.sources.layout import TABLES
from qilin_dagster.sources.published import inspect
from qilin_dagster.sources.register import (
    register_all,
    register_clock,
    register_data_set,
    register_table,
)
from tests import published_log

REAL_DATA = REPOSITORY.parent / "shared" / "data"


# (log, *views) to a connection that has these views over that log.
Given = Callable[..., duckdb.DuckDBPyConnection]


@cache
def _catalog() -> Catalog:
    return load_catalog()


def build_views(data: Path, lake: Path) -> DuckDBEngine:
    """Register the data and build every view, without Dagster."""
    engine = DuckDBEngine(Lake(lake), Settings(data=data, lake=lake), _catalog())
    register_all(engine.lake, inspect(data), "auto")
    _build(engine, {view.qualified for view in engine.catalog.views})
    return engine


def _build(engine: DuckDBEngine, names: set[str]) -> None:
    connection = engine.connect()
    for view in engine.catalog.views:
        if view.qualified in names:
            engine.build(connection, view)
    connection.close()


@pytest.fixture(scope="session")
def real_data() -> Path:
    if not REAL_DATA.is_dir():
        pytest.skip(f"REAL ROWS NOT CHECKED: {REAL_DATA} is not there")
    return REAL_DATA


@pytest.fixture(scope="session")
def real_engine(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> DuckDBEngine:
    """A lake of all views over the real sample."""
    return build_views(real_data / "qilin_sample", tmp_path_factory.mktemp("real") / "lake")


@pytest.fixture
def real(real_engine: DuckDBEngine) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = real_engine.connect()
    yield connection
    connection.close()


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published_log.write(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture(scope="session")
def tiny_engine(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> DuckDBEngine:
    """A lake of all views over the hand-written log."""
    return build_views(tiny_data, tmp_path_factory.mktemp("tiny_lake") / "lake")


@pytest.fixture
def tiny(tiny_engine: DuckDBEngine) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = tiny_engine.connect()
    yield connection
    connection.close()


@pytest.fixture
def given(tiny_data: Path, tmp_path: Path) -> Iterator[Given]:
    """A connection to these views, and what they read, over another hand-written log."""
    connections = []

    def build(log: dict[str, list[dict[str, Any]]], *names: str) -> duckdb.DuckDBPyConnection:
        folder = tmp_path / str(len(connections))
        data, lake = published_log.write(folder / "data", log), folder / "lake"
        engine = DuckDBEngine(Lake(lake), Settings(data=data, lake=lake), _catalog())
        # The clocks of the log with every quirk, so that a table here may return nothing at all.
        register_clock(engine.lake, decide_clocks(inspect(tiny_data)))
        described = inspect(data)
        tables = {name: register_table(engine.lake, described, name) for name in TABLES}
        register_data_set(engine.lake, described, tables)
        wanted = set(names)
        for view in reversed(engine.catalog.views):
            if view.qualified in wanted:
                wanted.update(view.parents)
        _build(engine, wanted)
        connections.append(engine.connect())
        return connections[-1]

    yield build
    for connection in connections:
        connection.close()


def write_features(connection: duckdb.DuckDBPyConnection, task: Task, folder: Path) -> Written:
    """The task's feature table, with the words and the appeal it needs made for it alone."""
    with TemporaryDirectory() as own:
        store_words(connection, Path(own))
        return build_features(connection, Path(own) / "words", Path(own) / "appeal", task, folder)


def store_words(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Into ``folder`` / words and appeal, what a feature table is made with."""
    for name in ("words", "appeal"):
        (folder / name).mkdir(exist_ok=True)
    build_note_words(connection, folder / "words", print)
    build_note_appeal(connection, folder / "words", folder / "appeal", print)
