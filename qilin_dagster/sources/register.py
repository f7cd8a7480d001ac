"""Registers a data folder in the lake: published files by hash, clocks and label files as tables.

Published Parquet stays where it is (its manifest names and hashes it); only Arrow files, which
DuckDB cannot read, are copied into the lake as Parquet.
"""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from qilin_dagster.errors import InputError
from qilin_dagster.lake import File, Lake, Manifest, Written, sha256_of
from qilin_dagster.sources.clock import TableClock, decide_clocks
from qilin_dagster.sources.layout import TABLES
from qilin_dagster.sources.published import DataFolder, PublishedTable, read_arrow_batches

# Raise when what a registered table consists of changes.
READER_VERSION = "1"


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


def _write_table(
    table: PublishedTable, external: tuple[File, ...]
) -> Callable[[Path], Written]:
    def write(folder: Path) -> Written:
        shard_rows = [shard.n_rows for shard in table.shards]
        facts = {"shard_rows": shard_rows, "published_rows": table.n_rows}
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


def register_clock(lake: Lake, data: DataFolder, search_offset: str) -> tuple[Manifest,
                                                                              list[TableClock]]:
    """Publish ``published.clock``: one row per request table with its tick and offset."""
    clocks = decide_clocks(data, search_offset)
    rows = pa.Table.from_pylist(
        [
            {
                "source_table": clock.source_table,
                "microseconds_per_tick": clock.microseconds_per_tick,
                "ahead_s": clock.ahead_s,
                "evidence": clock.evidence,
            }
            for clock in clocks
        ]
    )
    decision = {clock.source_table: f"{clock.microseconds_per_tick} {clock.ahead_s} "
                f"{clock.evidence}" for clock in clocks}
    manifest = lake.publish(
        "published.clock",
        inputs=decision,
        code_version=READER_VERSION,
        write=lambda folder: _write_rows(rows, folder, {"evidence": decision}),
    )
    return manifest, clocks


def register_qrels(lake: Lake, data: DataFolder) -> Manifest:
    """Publish ``published.qrels``: the official label files, empty where none was given.

    Raises InputError for a file that is not two columns of numbers named qid and pid.
    """
    parts = []
    for source_table, path in data.qrels.items():
        try:
            labels = pa_csv.read_csv(path)
            qid, pid = (pa.chunked_array(labels[name]).cast(pa.int64()) for name in ("qid", "pid"))
        except (pa.ArrowInvalid, KeyError) as error:
            raise InputError(
                f"label file {path} must be a CSV with whole numbers in columns qid,pid: {error}"
            ) from error
        table = pa.repeat(pa.scalar(source_table), len(labels))
        parts.append(pa.table({"source_table": table, "row_number": qid, "note_idx": pid}))
    schema = pa.schema(
        [("source_table", pa.string()), ("row_number", pa.int64()), ("note_idx", pa.int64())]
    )
    rows = pa.concat_tables([schema.empty_table(), *parts])
    return lake.publish(
        "published.qrels",
        inputs={name: sha256_of(path) for name, path in data.qrels.items()},
        code_version=READER_VERSION,
        write=lambda folder: _write_rows(rows, folder, {"files": sorted(data.qrels)}),
    )


def register_all(lake: Lake, data: DataFolder, search_offset: str) -> dict[str, Manifest]:
    """Register everything a data folder gives, published tables first."""
    manifests = {name: register_table(lake, data, name) for name in TABLES}
    manifests["clock"], _ = register_clock(lake, data, search_offset)
    manifests["qrels"] = register_qrels(lake, data)
    return manifests


def _write_rows(rows: pa.Table, folder: Path, facts: dict[str, object]) -> Written:
    pq.write_table(rows, folder / "part-0.parquet", compression="zstd")
    return Written(rows.num_rows, _columns(rows.schema), facts)


def _columns(schema: pa.Schema) -> tuple[tuple[str, str], ...]:
    return tuple((field.name, str(field.type)) for field in schema)
