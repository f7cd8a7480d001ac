"""Registers a data folder in the lake: published files by hash, clocks and label files as tables.

Published Parquet stays where it is (its manifest names and hashes it); only Arrow files, which
DuckDB cannot read, are copied into the lake as Parquet.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from qilin_dagster.errors import InputError
from qilin_dagster.lake import (
    File,
    Lake,
    Manifest,
    Written,
    sha256_of,
    version_of,
    write_rows,
)
from qilin_dagster.sources.clock import TableClock, decide_clocks
from qilin_dagster.sources.layout import TABLES
from qilin_dagster.sources.published import (
    DataFolder,
    PublishedTable,
    image_parts,
    inspect,
    read_arrow_batches,
)

# Raise when what a registered table consists of changes.
READER_VERSION = "2"

QRELS_SCHEMA = pa.schema(
    [("source_table", pa.string()), ("row_number", pa.int64()), ("note_idx", pa.int64())]
)


def register_table(lake: Lake, data: DataFolder, name: str) -> Manifest:
    """Publish ``published.<name>``: the table's files with their hashes, rows and columns."""
    table = data.tables[name]
    external = tuple(
        File(str(shard.path.absolute()), shard.path.stat().st_size, sha256_of(shard.path))
        for shard in table.shards
    )
    # Paths are inputs too: a folder that moved must be registered at its new place.
    return lake.publish(
        f"published.{name}",
        inputs={file.path: file.sha256 for file in external},
        code_version=READER_VERSION,
        write=_write_table(table, external),
    )


def _write_table(table: PublishedTable, external: tuple[File, ...]) -> Callable[[Path], Written]:
    def write(folder: Path) -> Written:
        shard_rows = [shard.n_rows for shard in table.shards]
        facts = {
            "shard_rows": shard_rows,
            "shard_names": [shard.path.name for shard in table.shards],
            "published_rows": table.n_rows,
        }
        if not table.shards[0].is_arrow:
            schema = pq.read_schema(table.shards[0].path)
            return Written(table.n_rows, _columns(schema), facts, external)
        for number, shard in enumerate(table.shards):
            batches = read_arrow_batches(shard.path)
            first = next(batches)
            schema = first.schema
            with pq.ParquetWriter(
                folder / f"part-{number:05d}.parquet", schema, compression="zstd"
            ) as writer:
                writer.write_batch(first)
                for batch in batches:
                    writer.write_batch(batch)
        return Written(table.n_rows, _columns(schema), facts)

    return write


def register_clock(lake: Lake, clocks: list[TableClock]) -> Manifest:
    """Publish ``published.clock``: one row per request table with its tick and offset."""
    rows = pa.Table.from_pylist(
        [
            {
                "source_table": clock.source_table,
                "microseconds_per_tick": clock.microseconds_per_tick,
                "ahead_s": clock.ahead_s,
                "earliest_s": clock.earliest_s,
                "latest_s": clock.latest_s,
                "evidence": clock.evidence,
            }
            for clock in clocks
        ]
    )
    evidence = {clock.source_table: clock.evidence for clock in clocks}
    return lake.publish(
        "published.clock",
        inputs={clock.source_table: repr(clock) for clock in clocks},
        code_version=READER_VERSION,
        write=lambda folder: write_rows(rows, folder, {"evidence": evidence}),
    )


def read_qrels(data: DataFolder) -> pa.Table:
    """The official label files as one table, empty where none is given.

    Raises InputError for a file that is not two columns of whole numbers named qid and pid, or that
    names a row its table does not have.
    """
    parts = []
    for source_table, path in data.qrels.items():
        try:
            labels = pa_csv.read_csv(path)
            qid, pid = (labels[name].cast(pa.int64()) for name in ("qid", "pid"))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, KeyError, OSError) as error:
            # Arrow's words for a missing column are about schemas.
            names = ",".join(labels.column_names) if isinstance(error, KeyError) else ""
            reason = f"its columns are {names}" if names else error
            raise InputError(
                f"label file {path} must be a CSV with whole numbers in columns qid,pid: {reason}"
            ) from error
        _require_rows(path, source_table, data.tables[source_table].n_rows, qid, pid)
        names = pa.repeat(pa.scalar(source_table), len(labels))
        parts.append(pa.table([names, qid, pid], schema=QRELS_SCHEMA))
    return pa.concat_tables([QRELS_SCHEMA.empty_table(), *parts])


def _require_rows(
    path: Path, table: str, n_rows: int, qid: pa.ChunkedArray, pid: pa.ChunkedArray
) -> None:
    """Refuse labels that name no row of the table, or no note."""
    is_row = pc.and_(pc.greater_equal(qid, 0), pc.less(qid, n_rows))
    for column, values, is_good, meant in (
        ("qid", qid, is_row, f"table {table} has the rows 0 to {n_rows - 1}"),
        ("pid", pid, pc.greater_equal(pid, 0), "a note has an id from 0 on"),
    ):
        first = pc.index(pc.fill_null(is_good, False), False).as_py()
        if first >= 0:
            # The header is line 1.
            raise InputError(
                f"label file {path}, line {first + 2}: {column} is {values[first].as_py()}, but "
                f"{meant}; is the file of another table or release?"
            )


def register_qrels(lake: Lake, qrels: pa.Table) -> Manifest:
    """Publish ``published.qrels``: the official labels, empty where none were given."""
    digest = hashlib.sha256()
    for column in qrels.columns:
        digest.update(repr(column.to_pylist()).encode())
    return lake.publish(
        "published.qrels",
        inputs={"rows": digest.hexdigest()},
        code_version=READER_VERSION,
        write=lambda folder: write_rows(qrels, folder),
    )


def register_data_set(lake: Lake, data: DataFolder, tables: dict[str, Manifest]) -> Manifest:
    """Publish ``published.data_set``: what the data is called and the hash of all its files."""
    contents = {
        f"{name} {number}": file.sha256
        for name, manifest in tables.items()
        for number, file in enumerate(manifest.files)
    }
    described = {
        "name": data.display_name,
        "is_twin": data.twin is not None,
        "fingerprint": version_of(contents, READER_VERSION),
        "note": f"read from a folder named {data.path.name}",
    }
    rows = pa.Table.from_pylist([described])
    return lake.publish(
        "published.data_set",
        inputs={name: str(value) for name, value in described.items()},
        code_version=READER_VERSION,
        write=lambda folder: write_rows(rows, folder),
    )


def register_all(lake: Lake, data: DataFolder, search_offset: str) -> dict[str, Manifest]:
    """Register everything a data folder gives.

    What can be unusable, clocks and label files, comes first, so that nothing is registered then.
    """
    clocks = decide_clocks(data, search_offset)
    qrels = read_qrels(data)
    manifests = {name: register_table(lake, data, name) for name in TABLES}
    manifests["data_set"] = register_data_set(lake, data, dict(manifests))
    manifests["clock"] = register_clock(lake, clocks)
    manifests["qrels"] = register_qrels(lake, qrels)
    return manifests


def is_registered(lake: Lake, data: Path) -> bool:
    """True when the lake was built from these files, judged by path and size, and image parts."""
    registered = {
        (file.path, file.n_bytes)
        for name in TABLES
        if (manifest := lake.manifest(f"published.{name}")) is not None
        for file in manifest.files
    }
    try:
        tables = inspect(data).tables.values()
    except InputError:
        return False
    present = {
        (str(shard.path.absolute()), shard.path.stat().st_size)
        for table in tables
        for shard in table.shards
    }
    images = lake.manifest("core.images")
    known_parts = [] if images is None else images.facts["parts"]
    return registered == present and known_parts == image_parts(data)


def _columns(schema: pa.Schema) -> tuple[tuple[str, str], ...]:
    return tuple((field.name, str(field.type)) for field in schema)
