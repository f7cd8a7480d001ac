"""Runs the catalog over the lake with DuckDB: private in-memory connections, no shared file.

Each connection defines its relations anew: stored tables from their manifests, published tables
from the files their manifests name, views from sql/. A few cost tens of milliseconds, all of them a
quarter of a second; there is nothing to lock. Which relation means what is in sql/; what a manifest
is, in lake.py.
"""

import contextlib
import errno
import functools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb

from qilin_dagster.catalog import Catalog, View, load_catalog
from qilin_dagster.engines import partitions
from qilin_dagster.engines.partitions import PART, literal, literal_list
from qilin_dagster.errors import InputError
from qilin_dagster.lake import (
    LANDED,
    Lake,
    LakeError,
    Manifest,
    Written,
    aside_of,
    os_error_in,
    version_of,
)
from qilin_dagster.settings import Settings
from qilin_dagster.sources.layout import TABLES, Column
from qilin_dagster.sources.published import PublishedTable, Shard, find_damage

CATALOG_FILE = "catalog.duckdb"
# Rows of a row group: small enough that a query with a filter skips most of a big table.
ROW_GROUP_ROWS = 122_880
# Version 2 encodes ids and times as differences: smaller, and faster to write and to read. A
# dictionary of more values than this costs more than it saves.
PARQUET = (
    "format parquet, compression zstd, parquet_version v2, dictionary_size_limit 1000, "
    f"row_group_size {ROW_GROUP_ROWS}"
)
# Errors that no byte of a published file can be the cause of; for one it may raise any other.
NOT_OF_THE_DATA = (
    *(duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException),
    *(duckdb.OutOfMemoryException, duckdb.InterruptException),
)


@dataclass(frozen=True)
class Built:
    """What building one view came to; ``was_current`` means nothing had to be done."""

    n_rows: int
    columns: tuple[tuple[str, str], ...]
    version: str
    was_current: bool
    n_bytes: int | None


class MissingRelationError(LakeError):
    """A view reads something the lake does not hold yet."""


class DuckDBEngine:
    """The lake and the catalog through DuckDB."""

    def __init__(self, lake: Lake, settings: Settings, catalog: Catalog | None = None):
        self.lake = lake
        self.settings = settings
        self.catalog = catalog if catalog is not None else _catalog()

    def open(self) -> duckdb.DuckDBPyConnection:
        """An empty in-memory connection within the settings' limits, in UTC."""
        connection = duckdb.connect()
        spill = self.lake.spill_folder(self.settings.spill)
        # DuckDB makes the last folder of the path when it spills, and deletes it when it closes.
        with contextlib.suppress(OSError):
            # A lake that cannot be written is still read; only a query that spills fails then.
            if self.lake.root.is_dir():
                spill.parent.mkdir(parents=True, exist_ok=True)
        settings = {
            "memory_limit": self.settings.memory_limit or f"{_machine_gigabytes() * 0.6:.1f}GB",
            # Not in the current folder, which is where DuckDB would put it.
            "temp_directory": str(spill),
            "TimeZone": "UTC",
            # Both would fetch and run code from the network when a query seems to need it.
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            # A table with a scan per column, as quarantine.notes, opens each file once.
            "parquet_metadata_cache": "true",
        }
        for name, value in settings.items():
            try:
                connection.execute(f"set {name} = {literal(value)}")
            except duckdb.Error as error:
                connection.close()
                raise InputError(f"{name} = {value!r} cannot be used: {error}") from error
        if self.settings.threads:
            connection.execute(f"set threads = {self.settings.threads}")
        # DuckDB prints a bar into pipes too, which would break machine-readable output.
        connection.execute("set enable_progress_bar = false")
        return connection

    def connect(
        self, relations: Iterable[str] | None = None, *, comments: bool = False
    ) -> duckdb.DuckDBPyConnection:
        """A connection with the relations named, or all, as far as the lake can serve them now.

        A view whose parents are not built yet is left out; asking for it then fails by name. All
        of them take a quarter of a second. ``comments`` also replays the comments (some 10 ms a
        hundred columns).
        """
        connection = self.open()
        try:
            self.define(connection, relations, comments=comments)
        except BaseException:
            connection.close()
            raise
        return connection

    def define(
        self,
        connection: duckdb.DuckDBPyConnection,
        relations: Iterable[str] | None = None,
        *,
        comments: bool = False,
    ) -> set[str]:
        """Define the relations named and what they are made from, or all; returns their names."""
        wanted = None if relations is None else self._read_by(relations)
        present: set[str] = set()
        for table in self.lake.tables():
            is_wanted = table in wanted if wanted is not None else not table.startswith(LANDED)
            if not is_wanted:
                continue
            manifest = self.lake.manifest(table)
            if manifest is not None and self.lake.files(manifest):
                self.define_stored(connection, manifest)
                present.add(table)
        for view in self.catalog.views:
            if wanted is not None and view.qualified not in wanted:
                continue
            if not view.is_stored and present.issuperset(view.parents):
                self.define_view(connection, view)
                present.add(view.qualified)
        if comments:
            for view in self.catalog.views:
                if view.qualified in present:
                    _comment(connection, view)
        return present

    def _read_by(self, relations: Iterable[str]) -> set[str]:
        """The relations and, through views, what reading them reads."""
        wanted = set(relations)
        for view in reversed(self.catalog.views):
            if view.qualified in wanted and not view.is_stored:
                wanted.update(view.parents)
        return wanted

    def define_stored(self, connection: duckdb.DuckDBPyConnection, manifest: Manifest) -> None:
        """Define a stored or published table from its manifest; a file gone is a LakeError."""
        schema, _, name = manifest.table.partition(".")
        files = self.lake.files(manifest)
        if schema == "published" and name in TABLES:
            select = published_select(name, files, manifest)
        else:
            folder = self.lake.table_folder(manifest.table)
            sizes = {
                folder / file.path: file.n_bytes
                for file in manifest.files
                if file.path.endswith(".parquet")
            }
            select = partitions.read(sizes, folder, dict(manifest.columns), manifest.n_rows)
        connection.execute(f"create schema if not exists {schema}")
        try:
            connection.execute(f"create or replace view {manifest.table} as {select}")
        except duckdb.IOException as error:
            reason = str(error).splitlines()[0]
            raise LakeError(
                f"a file of {manifest.table} cannot be read: {reason}; qilin verify names every "
                "fault of a lake"
            ) from error

    def define_view(self, connection: duckdb.DuckDBPyConnection, view: View) -> None:
        """Define a view of the catalog; a stale stored parent gives a LakeError that says so."""
        connection.execute(f"create schema if not exists {view.schema}")
        try:
            connection.execute(view.ddl)
        except duckdb.Error as error:
            raise LakeError(
                f"{view.qualified} does not fit the tables in the lake {self.lake.root} "
                f"(built by another version? run qilin build): {error}"
            ) from error

    def version(self, relation: str) -> str:
        """Version of a relation: its snapshot when stored, else of its code and its parents."""
        if relation in self.catalog and not self.catalog[relation].is_stored:
            view = self.catalog[relation]
            return version_of({p: self.version(p) for p in view.parents}, view.code_version)
        manifest = self.lake.manifest(relation)
        if manifest is None:
            raise MissingRelationError(
                f"{relation} is not in the lake {self.lake.root}; build it first"
            )
        return manifest.snapshot_id

    def inputs(self, parents: tuple[str, ...]) -> dict[str, str]:
        """Versions of these relations, as a manifest records them."""
        return {parent: self.version(parent) for parent in parents}

    def build(self, connection: duckdb.DuckDBPyConnection, view: View) -> Built:
        """Bring one view up to date and define it on the connection, whose parents are defined.

        A stored table is written as a snapshot unless the present one was made by the same code
        from the same inputs; a view is defined and described. Comments are not replayed. Raises
        InputError when a published file it reads is damaged.
        """
        with self.naming_damage(view.qualified):
            return self._build(connection, view)

    @contextlib.contextmanager
    def naming_damage(self, relation: str) -> Iterator[None]:
        """Turn an error of DuckDB over damaged published files into an InputError that names the
        file, the column and the row."""
        try:
            yield
        except NOT_OF_THE_DATA:
            raise
        except duckdb.Error as error:
            damage = self.find_damage(relation)
            if damage is None:
                raise
            raise InputError(damage) from error

    def find_damage(self, relation: str) -> str | None:
        """What cannot be decoded in the published files the relation is made from; slow."""
        for table in TABLES:
            manifest = self.lake.manifest(f"published.{table}")
            if manifest is None or relation not in self.catalog.descendants(manifest.table):
                continue
            shards = tuple(
                Shard(path, n_rows)
                for path, n_rows in zip(
                    self.lake.files(manifest), manifest.facts["shard_rows"], strict=True
                )
            )
            columns = frozenset(name for name, _ in manifest.columns)
            damage = find_damage(PublishedTable(table, shards, columns))
            if damage is not None:
                return damage
        return None

    def _build(self, connection: duckdb.DuckDBPyConnection, view: View) -> Built:
        inputs = self.inputs(view.parents)
        if not view.is_stored:
            self.define_view(connection, view)
            described = connection.execute(f"describe {view.qualified}").fetchall()
            counted = connection.execute(f"select count(*) from {view.qualified}").fetchall()
            return Built(
                n_rows=counted[0][0],
                columns=tuple((name, type_) for name, type_, *_ in described),
                version=version_of(inputs, view.code_version),
                was_current=False,
                n_bytes=None,
            )
        was_current = self.lake.is_current(view.qualified, inputs, view.code_version)
        with contextlib.nullcontext() if view.is_ordered else _in_the_order_written(connection):
            manifest = self.lake.publish(
                view.qualified,
                inputs=inputs,
                code_version=view.code_version,
                write=lambda folder: self.write(connection, view, folder),
            )
        self.define_stored(connection, manifest)
        return Built(
            n_rows=manifest.n_rows,
            columns=manifest.columns,
            version=manifest.snapshot_id,
            was_current=was_current,
            n_bytes=sum(file.n_bytes for file in manifest.files),
        )

    def write(self, connection: duckdb.DuckDBPyConnection, view: View, folder: Path) -> Written:
        """Write the rows of a stored view into the folder, in files by its partitions."""
        written = write_select(connection, view.select, folder)
        if view.partitions:
            rows = (folder / PART).rename(folder / "rows.parquet")
            partitions.split(connection, rows, view.partitions, folder, PARQUET)
        return written

    def serve(self) -> None:
        """Show readers, <lake>/catalog.duckdb included, everything as it is now."""
        self.export_catalog()
        self.lake.serve()

    def behind(self) -> list[str]:
        """Stored tables made from another version of a relation than the present, and of which.

        Not a fault: a build of parts leaves what it was not asked for as it was.
        """
        found = []
        for table in self.lake.tables():
            manifest = self.lake.manifest(table)
            for parent, version in (manifest.inputs if manifest else {}).items():
                try:
                    is_behind = self.version(parent) != version
                except MissingRelationError:
                    is_behind = False  # Not a relation: a file, a recipe.
                if is_behind:
                    found.append(f"{table} is older than {parent}")
        return found

    def export_catalog(self) -> Path:
        """Write <lake>/catalog.duckdb: views and comments for other DuckDB tools, no data."""
        target = self.lake.root / CATALOG_FILE
        aside = aside_of(target)
        try:
            connection = duckdb.connect(str(aside))
            try:
                # One transaction: else every definition and every comment is synced to disk.
                connection.begin()
                self.define(connection, comments=True)
                connection.commit()
            finally:
                connection.close()
            os.replace(aside, target)
        except (duckdb.Error, LakeError, OSError) as error:
            refused = os_error_in(error, errno.ENOSPC, errno.EACCES, errno.EROFS)
            if refused is None:
                raise
            raise self.lake.cannot_write(CATALOG_FILE, refused) from error
        finally:
            for left in (aside, aside.with_name(f"{aside.name}.wal")):
                left.unlink(missing_ok=True)
        return target


@functools.cache
def _catalog() -> Catalog:
    """The project's own SQL, read once a process: a fifth of a second."""
    return load_catalog()


@contextlib.contextmanager
def _in_the_order_written(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Rows that nothing sorts are written as those of the left sides of their joins come.

    Several threads would come to them in another order each time; wide rows are cheaper written by
    one than sorted. DuckDB would also change the sides of a join where it guesses that the other is
    smaller; it guesses badly of tables of many files, and would hold the wide side in memory.
    """
    for_now = {"threads": 1, "disabled_optimizers": "build_side_probe_side"}
    (before,) = connection.execute(
        f"select {', '.join(f'current_setting({literal(name)})' for name in for_now)}"
    ).fetchall()
    try:
        for name, value in for_now.items():
            connection.execute(f"set {name} = {literal(value)}")
        yield
    finally:
        for name, value in zip(for_now, before, strict=True):
            connection.execute(f"set {name} = {literal(value)}")


def write_select(connection: duckdb.DuckDBPyConnection, select: str, folder: Path) -> Written:
    """Write a SELECT's rows into the folder as one zstd Parquet file."""
    path = folder / PART
    copied = connection.execute(f"copy ({select}) to {literal(path)} ({PARQUET})").fetchall()
    described = connection.execute(
        f"describe select * from read_parquet({literal(path)})"
    ).fetchall()
    return Written(
        n_rows=copied[0][0], columns=tuple((name, type_) for name, type_, *_ in described)
    )


def published_select(name: str, files: list[Path], manifest: Manifest) -> str:
    """The published table under the contract's types, with each row's place in it and its file."""
    types = dict(manifest.columns)
    offsets, total = [], 0
    for n_rows in manifest.facts["shard_rows"]:
        offsets.append(str(total))
        total += n_rows
    columns = [_published_column(column, types.get(column.name)) for column in TABLES[name]]
    # A shard copied from Arrow has another name in the lake than where its rows can be looked up.
    shards = [Path(shard) for shard in manifest.facts.get("shard_names", files)]
    file_n = "file_index::bigint + 1"
    return (
        f"select [{', '.join(offsets)}][{file_n}] + file_row_number::bigint as row_number, "
        f"{literal_list(shards)}[{file_n}] as source_file, "
        f"file_row_number::bigint as source_row, {', '.join(columns)} "
        # Writers leave NaN out of a column's least and greatest value, from which DuckDB would
        # conclude that there is none and drop the isnan of the SQL.
        f"from read_parquet({literal_list(files)}, can_have_nan = true)"
    )


def _published_column(column: Column, arrow_type: str | None) -> str:
    """One column as the contract has it; ``arrow_type`` is the file's, None where it has none."""
    name = column.name
    if arrow_type is None:
        return f"null::{column.type} as {name}"
    if column.type is None:
        return name
    is_exact = not any(word in arrow_type for word in ("float", "double", "uint64"))
    if column.type == "BIGINT" and not is_exact:
        # A fraction, NaN or a number too large is no key: null, and set aside for that.
        return f"{_whole(name)} as {name}"
    if column.type == "BIGINT[]" and not is_exact:
        return f"list_transform({name}, lambda x: {_whole('x')}) as {name}"
    return f"{name}::{column.type} as {name}"


def _whole(number: str) -> str:
    return f"case when {number} = trunc({number}) then try_cast({number} as bigint) end"


def _comment(connection: duckdb.DuckDBPyConnection, view: View) -> None:
    statements = [f"comment on view {view.qualified} is {literal(view.comment)}"]
    statements += [
        f'comment on column {view.qualified}."{column}" is {literal(sentence)}'
        for column, sentence in view.column_comments.items()
    ]
    connection.execute(";".join(statements))


def _machine_gigabytes() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
