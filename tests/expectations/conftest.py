import re
from collections.abc import Callable, Iterator

import duckdb
import pytest
import valid_lake
import valid_log

from qilin_dagster.catalog import Catalog, load_catalog

World = Callable[[str, str], duckdb.DuckDBPyConnection]
WRITES = re.compile(r"(?:update|insert into|delete from|create or replace table)\s+(\w+\.\w+)")


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    return load_catalog()


@pytest.fixture(scope="session")
def valid(catalog: Catalog) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the whole log, raw and core; tests that change it use ``world``."""
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'; set threads = 1")
    valid_log.build(connection, catalog)
    yield connection
    connection.close()


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with a small lake, bias to leaderboard; tests that change it use ``world``."""
    connection = valid_lake.build(tmp_path_factory.mktemp("valid"))
    yield connection
    connection.close()


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Connection for a relation's schema after these statements; what they wrote is repaired."""
    changed: list[tuple[duckdb.DuckDBPyConnection, str]] = []

    def change(relation: str, statements: str) -> duckdb.DuckDBPyConnection:
        is_log = relation.startswith(("quarantine.", "raw.", "core.")) and (
            # Of files, which the log does not have.
            relation != "core.images"
        )
        connection: duckdb.DuckDBPyConnection = request.getfixturevalue(
            "valid" if is_log else "lake"
        )
        changed.extend((connection, written) for written in WRITES.findall(statements))
        connection.execute(statements)
        return connection

    yield change
    for connection, written in dict.fromkeys(changed):
        connection.execute(f"create or replace table {written} as from valid_{written}")
