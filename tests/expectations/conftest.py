from collections.abc import Callable, Iterator

import duckdb
import pytest
from valid_log import build, relations

from qilin_dagster.catalog import Catalog, load_catalog


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    return load_catalog()


@pytest.fixture(scope="session")
def valid(catalog: Catalog) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the whole log; tests that change it use ``world``."""
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'; set threads = 1")
    build(connection, catalog)
    yield connection
    connection.close()


@pytest.fixture
def world(
    valid: duckdb.DuckDBPyConnection, catalog: Catalog
) -> Iterator[Callable[[str], duckdb.DuckDBPyConnection]]:
    """Runs statements on the valid log and gives the connection; repaired after the test."""

    def change(statements: str) -> duckdb.DuckDBPyConnection:
        valid.execute(statements)
        return valid

    yield change
    for view in relations(catalog):
        valid.execute(f"create or replace table {view.qualified} as from valid_{view.qualified}")
