"""Ad-hoc SQL over a lake: read-only by construction, whatever the statement.

The connection can open the lake's own files and nothing else, its settings are locked, and only
statements that return rows are run.
"""

import csv
import datetime
import json
import math
import re
import shutil
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Literal, TextIO

import duckdb

from qilin_dagster.catalog import load_catalog
from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.errors import InputError
from qilin_dagster.lake import Lake
from qilin_dagster.settings import Settings

Format = Literal["table", "csv", "json", "parquet"]
FORMATS: tuple[Format, ...] = ("table", "csv", "json", "parquet")

BATCH_ROWS = 10_000
TABLE_ROWS = 40
EXPLAIN = re.compile(r"^\s*explain(\s+analyze)?\s+", re.IGNORECASE)


def open_sandbox(
    lake: Lake, settings: Settings, *, comments: bool = False
) -> duckdb.DuckDBPyConnection:
    """A connection with the lake's relations that can reach no file outside the lake's tables.

    ``comments`` also defines the comments, a quarter of a second that only catalog queries need.
    """
    if not lake.tables():
        raise InputError(
            f"there is no lake in {lake.root}: build one with qilin build, or name it with --lake"
        )
    connection = DuckDBEngine(lake, settings).connect(comments=comments)
    files = [
        str(path)
        for table in lake.tables()
        if (manifest := lake.manifest(table)) is not None
        for path in lake.files(manifest)
    ]
    listed = ", ".join("'" + path.replace("'", "''") + "'" for path in files)
    connection.execute(f"set allowed_paths = [{listed}]")
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")
    return connection


def run_query(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.DuckDBPyRelation:
    """The rows of one SELECT (or DESCRIBE, SHOW, SUMMARIZE, EXPLAIN).

    Raises InputError for anything else, and for a statement DuckDB refuses, in its words.
    """
    _require_query(connection, sql)
    try:
        relation = connection.sql(sql)
        if relation is None:
            raise InputError("the statement returns no rows; only statements that read are run")
        # Some errors show only when columns are bound for reading.
        _ = relation.columns
    except duckdb.Error as error:
        raise InputError(_in_words(error)) from error
    return relation


def write_rows(relation: duckdb.DuckDBPyRelation, format_: Format, out: TextIO) -> None:
    """Print the rows. csv begins with a header line; json is one array of objects.

    Raises InputError when running the statement fails half-way, and for parquet on a terminal.
    """
    try:
        match format_:
            case "table":
                # Cut only what a terminal could not show; into a pipe everything goes.
                width = shutil.get_terminal_size().columns if out.isatty() else 10_000
                rows = TABLE_ROWS if out.isatty() else 10_000
                out.flush()
                relation.show(max_width=width, max_rows=rows)
            case "csv":
                writer = csv.writer(out, lineterminator="\n")
                writer.writerow(relation.columns)
                for row in _rows(relation):
                    writer.writerow("" if value is None else _cell(value) for value in row.values())
            case "json":
                separator = "["
                for row in _rows(relation):
                    text = json.dumps(_plain(row), ensure_ascii=False, allow_nan=False)
                    out.write(f"{separator}{text}")
                    separator = ",\n"
                out.write("]\n" if separator != "[" else "[]\n")
            case "parquet":
                _write_parquet(relation, out)
    except duckdb.Error as error:
        raise InputError(_in_words(error)) from error


def _require_query(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    try:
        statements = connection.extract_statements(sql)
        if len(statements) != 1:
            raise InputError(f"expected one statement, found {len(statements)}")
        kind = statements[0].type.name
        if kind == "EXPLAIN":
            # EXPLAIN ANALYZE runs what it explains, so that has to be a query as well.
            inner, n_replaced = EXPLAIN.subn("", sql, count=1)
            explained = connection.extract_statements(inner) if n_replaced else []
            kind = explained[0].type.name if len(explained) == 1 else "EXPLAIN of this kind"
    except duckdb.Error as error:
        raise InputError(_in_words(error)) from error
    # MULTI is what PIVOT becomes.
    if kind not in ("SELECT", "MULTI"):
        raise InputError(f"{kind} is refused: only statements that read are run")


def _rows(relation: duckdb.DuckDBPyRelation) -> Iterator[dict[str, Any]]:
    names = _unique(relation.columns)
    for batch in relation.to_arrow_reader(BATCH_ROWS):
        yield from batch.rename_columns(names).to_pylist()


def _unique(columns: list[str]) -> list[str]:
    """Column names that can be keys of one object: a repeated name gets a number."""
    seen: dict[str, int] = {}
    names = []
    for column in columns:
        seen[column] = seen.get(column, 0) + 1
        names.append(column if seen[column] == 1 else f"{column}_{seen[column]}")
    return names


def _cell(value: Any) -> str | int | float:
    plain = _plain(value)
    if isinstance(plain, dict | list):
        return json.dumps(plain, ensure_ascii=False)
    if isinstance(plain, bool):
        return str(plain).lower()
    return "" if plain is None else plain


def _plain(value: Any) -> Any:
    """A value JSON can hold; what is not a number (NaN, infinity) becomes null."""
    match value:
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case None | bool() | int() | str():
            return value
        case bytes():
            return value.hex()
        case _:
            return str(value)


def _write_parquet(relation: duckdb.DuckDBPyRelation, out: TextIO) -> None:
    import pyarrow.parquet as pq

    if out.isatty():
        raise InputError("parquet is binary: send it into a file, such as > result.parquet")
    reader = relation.to_arrow_reader(BATCH_ROWS)
    with pq.ParquetWriter(out.buffer, reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)


def _in_words(error: duckdb.Error) -> str:
    """DuckDB's message, with a hint where a relation is known but not built."""
    message = str(error).strip()
    # Quoted, and with its schema, where the schema itself is missing.
    missing = re.search(r'Table with name "?([\w.]+)"? does not exist', message)
    if missing:
        name = missing[1]
        known = [view.qualified for view in load_catalog().views]
        if name in known or name in {qualified.split(".")[1] for qualified in known}:
            schema = "" if name in known else f" (or write its schema: {_schemas(name, known)})"
            message += f"\n{name} is a relation of this project: build it with qilin build{schema}"
    return message


def _schemas(name: str, known: list[str]) -> str:
    return ", ".join(qualified for qualified in known if qualified.split(".")[1] == name)
