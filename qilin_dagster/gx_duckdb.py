"""The SQLAlchemy dialect that lets Great Expectations check relations of a live DuckDB connection.

Great Expectations has no DuckDB engine, and the public DuckDB dialects for SQLAlchemy do not work
with it: it runs a query, gives its connection back to the pool, and only then reads the rows, which
a real rollback has thrown away by then. Here commit and rollback do nothing (a check only reads)
and every DB-API cursor is a DuckDB cursor of its own, so a result outlives whatever the pool does.

The dialect calls itself "postgresql" because that name switches on the regex, LIKE, quantile and
type paths of Great Expectations, whose SQL DuckDB understands but for the ``~`` operators.

Knows nothing of suites or of this project's tables; see ``expectations.py`` for those.
"""

from collections.abc import Callable, Sequence
from typing import Any

import duckdb
import sqlalchemy
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.base import PGCompiler, PGDialect, PGIdentifierPreparer
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.types import UserDefinedType

URL = "qilin_duckdb://"


class Cursor:
    """A DB-API cursor over one DuckDB cursor; rows are read as they are asked for.

    Not all at once: Great Expectations reads 200 rows of what may be every row of a table.
    """

    arraysize = 1
    rowcount = -1

    def __init__(self, connection: duckdb.DuckDBPyConnection, schema: str):
        self._cursor = connection.cursor()
        # A DuckDB cursor is a new connection to the same database and starts without a schema.
        self._cursor.execute(f"set search_path = {_literal(schema)}")

    @property
    def description(self) -> list[Any] | None:
        return self._cursor.description

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> None:
        self._cursor.execute(statement, list(parameters))

    def executemany(self, statement: str, parameters: Sequence[Sequence[object]]) -> None:
        for row in parameters:
            self.execute(statement, row)

    def fetchone(self) -> tuple[Any, ...] | None:
        return self._cursor.fetchone()

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        return self._cursor.fetchmany(self.arraysize if size is None else size)

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._cursor.fetchall()

    def close(self) -> None:
        self._cursor.close()


class Connection:
    """A DB-API connection that borrows a DuckDB connection: it never commits, and never closes it.

    Names without a schema mean relations of ``schema``.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, schema: str):
        self._connection = connection
        self._schema = schema

    def cursor(self) -> Cursor:
        return Cursor(self._connection, self._schema)

    def commit(self) -> None:
        pass

    def rollback(self) -> None:
        pass

    def close(self) -> None:
        pass


class DBAPI:
    """What SQLAlchemy looks for in a DB-API module."""

    apilevel = "2.0"
    threadsafety = 1
    paramstyle = "qmark"
    Warning = duckdb.Warning
    Error = duckdb.Error
    InterfaceError = duckdb.Error  # DuckDB has no error of this kind
    DatabaseError = duckdb.DatabaseError
    DataError = duckdb.DataError
    OperationalError = duckdb.OperationalError
    IntegrityError = duckdb.IntegrityError
    InternalError = duckdb.InternalError
    ProgrammingError = duckdb.ProgrammingError
    NotSupportedError = duckdb.NotSupportedError


class DuckDBType(UserDefinedType[Any]):
    """A column type under DuckDB's own name, lists and structs included."""

    cache_ok = True

    def __init__(self, name: str):
        self.name = name

    def get_col_spec(self, **kw: Any) -> str:
        return self.name


class DuckDBIdentifierPreparer(PGIdentifierPreparer):
    def _requires_quotes(self, value: str) -> bool:
        return True  # DuckDB reserves other words than Postgres, and new ones in each release


class DuckDBCompiler(PGCompiler):
    def visit_custom_op_binary(self, element: Any, operator: Any, **kw: Any) -> str:
        # In DuckDB 1 `~` matches the whole string, in DuckDB 2 a part of it, as Postgres does.
        if operator.opstring in ("~", "!~"):
            text = self.process(element.left, **kw)
            pattern = self.process(element.right, **kw)
            negation = "not " if operator.opstring == "!~" else ""
            return f"{negation}regexp_matches({text}, {pattern})"
        rendered: str = super().visit_custom_op_binary(element, operator, **kw)  # type: ignore[no-untyped-call]
        return rendered


class DuckDBDialect(PGDialect):
    """Postgres as far as Great Expectations looks, DuckDB underneath."""

    name = "postgresql"
    driver = "duckdb"
    default_paramstyle = "qmark"
    preparer = DuckDBIdentifierPreparer
    statement_compiler = DuckDBCompiler
    supports_statement_cache = True

    @classmethod
    def import_dbapi(cls) -> Any:
        return DBAPI

    def initialize(self, connection: sqlalchemy.Connection) -> None:
        # The base class asks a Postgres server for these; the version only has to be recent.
        self.server_version_info = (16, 0)
        row = connection.exec_driver_sql("select current_schema()").fetchone()
        self.default_schema_name = row[0] if row else "main"

    def get_schema_names(self, connection: sqlalchemy.Connection, **kw: Any) -> list[str]:
        return _names(
            connection, "select distinct schema_name from duckdb_schemas() where not internal"
        )

    def get_table_names(
        self, connection: sqlalchemy.Connection, schema: str | None = None, **kw: Any
    ) -> list[str]:
        return _names(
            connection,
            "select table_name from duckdb_tables() where schema_name = ?",
            schema or self.default_schema_name,
        )

    def get_view_names(
        self, connection: sqlalchemy.Connection, schema: str | None = None, **kw: Any
    ) -> list[str]:
        return _names(
            connection,
            "select view_name from duckdb_views() where schema_name = ?",
            schema or self.default_schema_name,
        )

    def has_table(
        self,
        connection: sqlalchemy.Connection,
        table_name: str,
        schema: str | None = None,
        **kw: Any,
    ) -> bool:
        return table_name in (
            *self.get_table_names(connection, schema),
            *self.get_view_names(connection, schema),
        )

    def get_columns(
        self,
        connection: sqlalchemy.Connection,
        table_name: str,
        schema: str | None = None,
        **kw: Any,
    ) -> list[Any]:
        schema = schema or self.default_schema_name
        if not self.has_table(connection, table_name, schema):
            raise NoSuchTableError(f"{schema}.{table_name}")
        # Not duckdb_columns(): that one opens the files behind every view of the database.
        rows = connection.exec_driver_sql(
            f"describe {_identifier(str(schema))}.{_identifier(table_name)}"
        ).fetchall()
        return [
            {"name": row[0], "type": DuckDBType(row[1]), "nullable": True, "default": None}
            for row in rows
        ]

    def get_pk_constraint(
        self,
        connection: sqlalchemy.Connection,
        table_name: str,
        schema: str | None = None,
        **kw: Any,
    ) -> Any:
        return {"constrained_columns": [], "name": None}


def creator(connection: duckdb.DuckDBPyConnection, schema: str) -> Callable[[], Connection]:
    """For ``sqlalchemy.create_engine(URL, creator=...)``: hands out the live connection."""

    def create() -> Connection:
        return Connection(connection, schema)

    return create


def _names(connection: sqlalchemy.Connection, query: str, *parameters: object) -> list[str]:
    return [row[0] for row in connection.exec_driver_sql(query, parameters).fetchall()]


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


registry.register(URL.removesuffix("://"), __name__, DuckDBDialect.__name__)
