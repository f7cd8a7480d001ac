"""Finds and checks the files of a data folder in the published layout. Copies and changes nothing.

Two layouts are read: a folder of ``*.parquet`` shards per table, and what ``datasets.save_to_disk``
writes (``*.arrow`` files, in the table's folder or in its split folders). Everything that makes a
folder unusable raises one InputError that names every fault by file, table and column.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from qilin_dagster.errors import InputError
from qilin_dagster.sources.layout import (
    IMAGE_FOLDER,
    IMPRESSION_FIELDS,
    QRELS_FILES,
    TABLES,
    TIME_FIELD,
    Column,
)

MAX_FAULTS_SHOWN = 12


@dataclass(frozen=True)
class Shard:
    """One data file of a table."""

    path: Path
    n_rows: int

    @property
    def is_arrow(self) -> bool:
        return self.path.suffix == ".arrow"


@dataclass(frozen=True)
class PublishedTable:
    """A table of the data folder: its shards in order, and the columns they have."""

    name: str
    shards: tuple[Shard, ...]
    columns: frozenset[str]

    @property
    def n_rows(self) -> int:
        return sum(shard.n_rows for shard in self.shards)


@dataclass(frozen=True)
class DataFolder:
    """A data folder whose layout was found usable; ``remarks`` say what of it is not read."""

    path: Path
    tables: dict[str, PublishedTable]
    qrels: dict[str, Path]
    remarks: tuple[str, ...] = ()

    @property
    def twin(self) -> dict[str, object] | None:
        """What twin.json says when the folder is a synthetic twin; only report titles ask."""
        return _read_twin(self.path)

    @property
    def display_name(self) -> str:
        """Name for titles: the folder's, or the twin's scale and seed."""
        twin = self.twin
        if twin is None:
            return self.path.name
        return f"synthetic twin, scale {twin['scale']}, seed {twin['seed']}"


def inspect(data: Path) -> DataFolder:
    """Check the layout by the files' footers; reads no rows. Raises InputError with every fault."""
    if not data.is_dir():
        raise InputError(
            f"data folder {data} does not exist"
            if not data.exists()
            else f"{data} is a file, not a data folder"
        )
    faults = list(_links_out_of(data))
    if faults:
        raise InputError("\n".join(faults[:MAX_FAULTS_SHOWN]))
    _read_twin(data)
    tables = {}
    for name, columns in TABLES.items():
        try:
            tables[name] = _inspect_table(data / name, name, columns, faults)
        except InputError as error:
            faults.append(str(error))
    if faults:
        shown = faults[:MAX_FAULTS_SHOWN]
        if len(faults) > len(shown):
            shown.append(f"... and {len(faults) - len(shown)} more")
        raise InputError("\n".join(shown))
    remarks = [
        f"table {name}: column {column} is not part of the layout and is not read"
        for name, table in tables.items()
        for column in sorted(table.columns - {column.name for column in TABLES[name]})
    ]
    return DataFolder(data, tables, _find_qrels(data), tuple(remarks))


def quick_fingerprint(data: Path) -> str:
    """Hash of names, sizes and times of the data files: cheap enough to ask every minute.

    Of the image archive, whose millions of files would take minutes, the names and the times of the
    parts: a part's time changes while notes' folders are put into it.
    """
    digest = hashlib.sha256()
    for table in TABLES:
        for path in _find_files(data / table):
            # A link that leads nowhere is looked at, too: inspect says what is wrong with it.
            stat = path.stat() if path.exists() else path.lstat()
            digest.update(f"{table}/{path.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    for path in _find_qrels(data).values():
        stat = path.stat()
        digest.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    for part in image_parts(data):
        changed = (data / part).stat().st_mtime_ns
        digest.update(f"{part} {changed}\n".encode())
    return digest.hexdigest()[:16]


def image_parts(data: Path) -> list[str]:
    """The parts of the image archive that are there, as ``image/part_3``, by name."""
    folder = data / IMAGE_FOLDER
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(f"{IMAGE_FOLDER}/{entry.name}" for entry in entries if entry.is_dir())


def read_ticks(table: PublishedTable) -> Iterator[pa.Array]:
    """Exposure times as written, leaf column only, a row group at a time; nulls and NaN kept."""
    field = TIME_FIELD[table.name]
    for shard in table.shards:
        if shard.is_arrow:
            for batch in read_arrow_batches(shard.path):
                details = batch.column(_details_column(table.name))
                yield details.flatten().field(field)
        else:
            parquet = pq.ParquetFile(shard.path)
            leaves = [parquet.schema.column(i).path for i in range(len(parquet.schema))]
            leaf = next(path for path in leaves if path.split(".")[-1] == field)
            for group in range(parquet.num_row_groups):
                read = parquet.read_row_group(group, columns=[leaf]).column(0)
                for chunk in read.chunks:
                    yield chunk.flatten().field(0)


def find_damage(table: PublishedTable) -> str | None:
    """The first value of the table's files that cannot be decoded, in words; None if all can.

    Reads everything: for the moment when something else has already failed to.
    """
    for shard in table.shards:
        if shard.is_arrow:
            continue
        parquet = pq.ParquetFile(shard.path)
        n_before = 0
        for group in range(parquet.num_row_groups):
            for column in TABLES[table.name]:
                if column.name not in table.columns:
                    continue
                where = f"table {table.name}: column {column.name} of {shard.path}"
                try:
                    read = parquet.read_row_group(group, columns=[column.name]).column(0)
                except (pa.ArrowInvalid, OSError) as error:
                    last = n_before + parquet.metadata.row_group(group).num_rows - 1
                    reason = str(error).splitlines()[0]
                    return (
                        f"{where} cannot be decoded in rows {n_before} to {last}: {reason}; the "
                        "file is damaged: fetch it again"
                    )
                row = _first_not_utf8(read)
                if row is not None:
                    return (
                        f"{where} is not valid UTF-8 in row {n_before + row}; write the text anew "
                        "as UTF-8, or the row without it"
                    )
            n_before += parquet.metadata.row_group(group).num_rows
    return None


def _first_not_utf8(column: pa.ChunkedArray) -> int | None:
    """Row of the first text, alone or in a list, that is not UTF-8; None where all is."""
    n_before = 0
    for chunk in column.chunks:
        try:
            chunk.validate(full=True)
        except pa.ArrowInvalid:
            for row in range(len(chunk)):
                try:
                    chunk[row].as_py()
                except UnicodeDecodeError:
                    return n_before + row
        n_before += len(chunk)
    return None


def read_arrow_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Record batches of an Arrow file, stream format (``datasets``) or file format."""
    with pa.memory_map(str(path)) as source:
        try:
            yield from pa.ipc.open_stream(source)
        except pa.ArrowInvalid:
            source.seek(0)
            reader = pa.ipc.open_file(source)
            for i in range(reader.num_record_batches):
                yield reader.get_batch(i)


def _details_column(table: str) -> str:
    return next(column.name for column in TABLES[table] if column.kind == "impressions")


def _find_files(folder: Path) -> list[Path]:
    parquet = sorted(folder.glob("*.parquet"))
    # save_to_disk writes <table>/data-*.arrow, or <table>/<split>/data-*.arrow for a dict.
    return parquet or sorted(folder.glob("*.arrow")) or sorted(folder.glob("*/*.arrow"))


def _links_out_of(data: Path) -> Iterator[str]:
    """Files that would be read and lie elsewhere: a data set chooses no path on this machine."""
    inside = Path(os.path.realpath(data))
    tables = [path for table in TABLES for path in (data / table, *_find_files(data / table))]
    for path in (*tables, *_find_qrels(data).values(), data / "twin.json"):
        target = Path(os.path.realpath(path))
        if not target.is_relative_to(inside):
            yield (
                f"{path} is a link to {target}, outside the data folder {data}, and is not "
                "followed; put the file itself there"
            )


def _read_twin(data: Path) -> dict[str, object] | None:
    path = data / "twin.json"
    if not path.is_file():
        return None
    try:
        twin = json.loads(path.read_text(encoding="utf-8"))
        is_twin = all(type(twin[name]) in (int, float) for name in ("scale", "seed"))
    except (ValueError, TypeError, KeyError, RecursionError, OSError):
        is_twin = False
    if not is_twin:
        raise InputError(
            f"{path} does not describe a twin: an object with the numbers scale and seed is "
            "needed; if the folder is no twin, delete the file"
        )
    return dict(twin)


def _find_qrels(data: Path) -> dict[str, Path]:
    found = {}
    for table, name in QRELS_FILES.items():
        for path in (data / name, data / "qrels" / name):
            if path.is_file():
                found[table] = path
                break
    return found


def _inspect_table(
    folder: Path, name: str, columns: tuple[Column, ...], faults: list[str]
) -> PublishedTable:
    if not folder.is_dir():
        raise InputError(f"table {name} is missing: no folder {folder}")
    if not os.access(folder, os.R_OK | os.X_OK):
        # Listed, it would look empty.
        raise InputError(f"table {name}: this user may not read the folder {folder}")
    paths = _find_files(folder)
    if not paths:
        raise InputError(f"table {name} is empty: no .parquet or .arrow file in {folder}")
    shards = []
    first: pa.Schema | None = None
    for path in paths:
        schema, n_rows = _read_footer(path, name)
        shards.append(Shard(path, n_rows))
        if first is None:
            first = schema
        faults.extend(_schema_faults(path, name, columns, schema))
        faults.extend(_mixture_faults(path, paths[0], name, columns, schema, first))
    if sum(shard.n_rows for shard in shards) == 0:
        raise InputError(f"table {name} has no rows: {folder}")
    assert first is not None
    return PublishedTable(name, tuple(shards), frozenset(first.names))


def _mixture_faults(
    path: Path,
    first_path: Path,
    table: str,
    columns: tuple[Column, ...],
    schema: pa.Schema,
    first: pa.Schema,
) -> Iterator[str]:
    """Shards are read under the types of the first: another type would be cast without a word."""
    both = f"{path.name} and {first_path.name}"
    odd = sorted(set(schema.names) ^ set(first.names))
    if odd:
        yield f"table {table}: {both} have different columns: {', '.join(odd)}"
    for column in columns:
        if column.name in odd or column.name not in schema.names:
            continue
        types = [s.field(column.name).type for s in (schema, first)]
        if types[0] != types[1]:
            yield (
                f"table {table}: column {column.name} has type {types[0]} in {path.name} and "
                f"{types[1]} in {first_path.name}; write all files of a table with one schema"
            )


def _read_footer(path: Path, table: str) -> tuple[pa.Schema, int]:
    try:
        if path.suffix == ".arrow":
            batches = read_arrow_batches(path)
            head = next(batches, None)
            if head is None:
                return pa.schema([]), 0
            return head.schema, head.num_rows + sum(batch.num_rows for batch in batches)
        parquet = pq.ParquetFile(path)
        return parquet.schema_arrow, parquet.metadata.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        kind = "an Arrow" if path.suffix == ".arrow" else "a Parquet"
        reason = str(error).splitlines()[0]
        raise InputError(
            f"table {table}: {path} cannot be read as {kind} file: {reason}"
        ) from error


def _schema_faults(
    path: Path, table: str, columns: tuple[Column, ...], schema: pa.Schema
) -> Iterator[str]:
    for column in columns:
        if column.name not in schema.names:
            if not column.is_optional:
                yield f"table {table}: column {column.name} is missing in {path}"
            continue
        type_ = schema.field(column.name).type
        if not _is_kind(column, type_):
            yield (
                f"table {table}: column {column.name} has type {type_} in {path}; "
                f"expected {_describe(column)}"
            )
        elif column.kind == "impressions":
            yield from _struct_faults(path, table, column.name, type_.value_type)


def _struct_faults(path: Path, table: str, column: str, struct: pa.StructType) -> Iterator[str]:
    present = {struct.field(i).name: struct.field(i).type for i in range(struct.num_fields)}
    for name in (*IMPRESSION_FIELDS, TIME_FIELD[table]):
        if name not in present:
            yield f"table {table}: field {column}.{name} is missing in {path}"
        elif not _is_number(present[name]):
            yield (
                f"table {table}: field {column}.{name} has type {present[name]} in {path}; "
                "expected a number"
            )


def _is_kind(column: Column, type_: pa.DataType) -> bool:
    match column.kind:
        case "number":
            return _is_number(type_)
        case "text":
            return _is_text(type_)
        case "numbers":
            return _is_list(type_) and _is_number(type_.value_type)
        case "texts":
            return _is_list(type_) and _is_text(type_.value_type)
        case "pairs":
            inner = type_.value_type if _is_list(type_) else None
            return inner is not None and (
                pa.types.is_null(inner) or (_is_list(inner) and _is_number(inner.value_type))
            )
        case "impressions":
            return _is_list(type_) and pa.types.is_struct(type_.value_type)


def _describe(column: Column) -> str:
    return {
        "number": "a number",
        "text": "text",
        "numbers": "a list of numbers",
        "texts": "a list of texts",
        "pairs": "a list of [note_idx, score] pairs",
        "impressions": "a list of structs",
    }[column.kind]


def _is_number(type_: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_integer(type_) or types.is_floating(type_) or types.is_null(type_))


def _is_text(type_: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_string(type_)
        or types.is_large_string(type_)
        or types.is_string_view(type_)
        or types.is_null(type_)
    )


def _is_list(type_: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_)
    )
