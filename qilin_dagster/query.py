"""Ad-hoc SQL over a lake: read-only by construction, whatever the statement.

The connection holds views and nothing that could be written to, can open the lake's own files and
no others, has locked settings, and runs only statements that read_only.py has looked through.
"""

import contextlib
import csv
import datetime
import json
import math
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, TextIO

import duckdb

from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.errors import InputError
from qilin_dagster.hints import in_words, no_relation
from qilin_dagster.lake import Lake
from qilin_dagster.read_only import FILE_NAME, Reading, check_statement, refuse
from qilin_dagster.settings import Settings

Format = Literal["table", "csv", "json", "parquet"]
FORMATS: tuple[Format, ...] = ("table", "csv", "json", "parquet")

BATCH_ROWS = 10_000
# What a table is drawn from, and how much of it a terminal shows.
TABLE_ROWS = 10_000
SCREEN_ROWS = 40


@dataclass(frozen=True)
class Printed:
    """How many rows were printed; incomplete where a table is cut and the rest not counted."""

    n_rows: int
    is_complete: bool = True


@dataclass(frozen=True)
class Answered:
    """What was printed, and the wall time from the statement to the last row."""

    printed: Printed
    seconds: float

    def __str__(self) -> str:
        n_rows = self.printed.n_rows
        rows = "1 row" if n_rows == 1 else f"{n_rows:,} rows"
        more = "" if self.printed.is_complete else "more than "
        return f"{more}{rows}, {self.seconds:.3f} s"


def open_sandbox(
    lake: Lake, settings: Settings, *, comments: bool = False
) -> duckdb.DuckDBPyConnection:
    """A connection with the lake's relations that can reach no file outside the lake's tables.

    ``comments`` also defines the comments, a quarter of a second that only catalog queries need.
    """
    lake = lake.for_readers()
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
    connection.execute("set autoinstall_known_extensions = false")
    connection.execute("set autoload_known_extensions = false")
    # A name that is no relation would otherwise be looked up among Python's variables.
    connection.execute("set python_enable_replacements = false")
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")
    return connection


def run_query(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.DuckDBPyRelation:
    """The rows of one SELECT (or DESCRIBE, SHOW, SUMMARIZE, EXPLAIN).

    Raises InputError for anything else, for a relation or column that is not there (with the
    nearest ones that are), and for a statement DuckDB refuses, in its words.
    """
    reading = Reading()
    try:
        reading = check_statement(connection, sql)
        _require_relations(connection, reading.relations)
        relation = connection.sql(sql)
        if relation is None:
            raise InputError("the statement returns no rows; only statements that read are run")
        # Some errors show only when columns are bound for reading.
        _ = relation.columns
    except duckdb.Error as error:
        present = relations_of(connection)
        read = [name for name in present if name in map(str.lower, reading.relations)]
        columns = {name: [column for column, _ in columns_of(connection, name)] for name in read}
        raise InputError(in_words(error, present, columns)) from error
    return relation


def write_rows(relation: duckdb.DuckDBPyRelation, format_: Format, out: TextIO) -> Printed:
    """Print the rows. csv begins with a header line; json is one array of objects.

    Raises InputError when running the statement fails half-way, and for parquet on a terminal.
    """
    try:
        match format_:
            case "table":
                return _write_table(relation, out)
            case "csv":
                n_rows = 0
                writer = csv.writer(out, lineterminator="\n")
                writer.writerow(relation.columns)
                for row in _rows(relation):
                    writer.writerow("" if value is None else _cell(value) for value in row.values())
                    n_rows += 1
                return Printed(n_rows)
            case "json":
                n_rows = 0
                for row in _rows(relation):
                    text = json.dumps(_plain(row), ensure_ascii=False, allow_nan=False)
                    out.write((",\n" if n_rows else "[") + text)
                    n_rows += 1
                out.write("]\n" if n_rows else "[]\n")
                return Printed(n_rows)
            case "parquet":
                return _write_parquet(relation, out)
    except duckdb.Error as error:
        raise InputError(str(error).strip()) from error


def answer(
    connection: duckdb.DuckDBPyConnection, sql: str, format_: Format, out: TextIO
) -> Answered:
    """Run one statement and print its rows; Ctrl-C stops it and raises KeyboardInterrupt.

    The work is done in a second thread: the first one would hear the signal only between calls.
    """
    began = time.monotonic()
    with ThreadPoolExecutor(max_workers=1) as worker:
        work = worker.submit(lambda: write_rows(run_query(connection, sql), format_, out))
        try:
            printed = work.result()
        except KeyboardInterrupt:
            while not work.done():
                # Again, for an interrupt between two calls into DuckDB is lost.
                connection.interrupt()
                wait([work], timeout=0.1)
            raise
    return Answered(printed, time.monotonic() - began)


def _write_table(relation: duckdb.DuckDBPyRelation, out: TextIO) -> Printed:
    """The rows as a box. Ran once and no further than it is drawn, so that it can be counted."""
    drawn = relation.limit(TABLE_ROWS + 1).materialize()
    n_rows = len(drawn)
    if relation.columns == ["explain_key", "explain_value"]:
        out.writelines(f"{text.rstrip()}\n" for _, text in drawn.fetchall())
        return Printed(n_rows)
    # Cut only what a terminal could not show; into a pipe everything goes.
    width = shutil.get_terminal_size().columns if out.isatty() else 10_000
    with contextlib.redirect_stdout(out):
        drawn.show(max_width=width, max_rows=SCREEN_ROWS if out.isatty() else TABLE_ROWS)
    return Printed(min(n_rows, TABLE_ROWS), is_complete=n_rows <= TABLE_ROWS)


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


def _write_parquet(relation: duckdb.DuckDBPyRelation, out: TextIO) -> Printed:
    import pyarrow.parquet as pq

    if out.isatty():
        raise InputError("parquet is binary: send it into a file, such as > result.parquet")
    reader = relation.to_arrow_reader(BATCH_ROWS)
    n_rows = 0
    with pq.ParquetWriter(out.buffer, reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)
            n_rows += batch.num_rows
    return Printed(n_rows)


def relations_of(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Names ``schema.name`` of everything of the lake the connection serves."""
    return [
        f"{schema}.{name}"
        for schema, name in connection.execute(
            "select schema_name, view_name from duckdb_views() where not internal order by all"
        ).fetchall()
    ]


def columns_of(connection: duckdb.DuckDBPyConnection, relation: str) -> list[tuple[str, str]]:
    """Names and types of a relation's columns."""
    schema, _, name = relation.partition(".")
    described = connection.execute(f'describe "{schema}"."{name}"').fetchall()
    return [(column, type_) for column, type_, *_ in described]


def _require_relations(connection: duckdb.DuckDBPyConnection, named: list[str]) -> None:
    """Raise InputError for a name that is no relation, be it a slip or a file."""
    if not named:
        return
    views = connection.execute(
        "select lower(schema_name || '.' || view_name), internal from duckdb_views()"
    ).fetchall()
    present = {name for name, _ in views}
    # DuckDB's own catalog views are found without their schema as well.
    present |= {name.partition(".")[2] for name, is_internal in views if is_internal}
    for name in named:
        if name.lower() not in present:
            if FILE_NAME.search(name):
                refuse(f"reading a file ({name})")
            raise InputError(no_relation(name, relations_of(connection)))
