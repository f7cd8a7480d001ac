"""Shared fixtures: the hand-written log, the real sample where it is at hand, a built lake."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.lake import Lake
from qilin_dagster.settings import REPOSITORY, Settings
from qilin_dagster.sources.published import inspect
from qilin_dagster.sources.register import register_all
from tests import published_log

REAL_DATA = REPOSITORY.parent / "shared" / "data"


def build_views(data: Path, lake: Path) -> DuckDBEngine:
    """Register the data and build every view, without Dagster."""
    engine = DuckDBEngine(Lake(lake), Settings(data=data, lake=lake))
    register_all(engine.lake, inspect(data), "auto")
    connection = engine.connect()
    for view in engine.catalog.views:
        engine.build(connection, view)
    connection.close()
    return engine


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
