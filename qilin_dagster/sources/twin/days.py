"""More days of a twin's log: the requests of its first day once more, later and under other ids."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from qilin_dagster.sources.layout import TABLES, TIME_FIELD

SECONDS_A_DAY = 86_400


def add_day(data: Path, day: int) -> None:
    """Write the shards of another day, ``day`` days after the first, behind those that are there.

    Notes and users stay. So do the official labels, which are of the first day's rows; what else
    lies beside the tables (``truth``) knows the first day only.
    """
    first = {name: _first_shard(data / name) for name in TIME_FIELD}
    tables = {name: pq.read_table(path) for name, path in first.items()}
    numbers = {
        key: 1 + max(pc.max(t[key]).as_py() for t in tables.values() if key in t.column_names)
        for key in ("search_idx", "request_idx", "session_idx")
    }
    for name, table in tables.items():
        for number, field in enumerate(table.schema):
            values = table.column(number).combine_chunks()
            if field.name in numbers:
                moved = pc.add(values, day * numbers[field.name])
            elif field.name in {c.name for c in TABLES[name] if c.kind == "impressions"}:
                details = _later(values.flatten(), TIME_FIELD[name], day)
                moved = pa.ListArray.from_arrays(values.offsets, details, type=field.type)
            else:
                continue
            table = table.set_column(number, field, moved)
        pq.write_table(table, first[name].with_name(f"train-{day:05d}.parquet"), compression="zstd")


def _first_shard(folder: Path) -> Path:
    return min(folder.glob("*.parquet"))


def _later(details: pa.StructArray, time_field: str, day: int) -> pa.StructArray:
    fields = list(details.type)
    children = details.flatten()
    # Searches are timed in seconds, the feed in milliseconds.
    ticks = SECONDS_A_DAY * (1 if time_field == "search_timestamp" else 1_000)
    for number, field in enumerate(fields):
        if field.name == time_field:
            children[number] = pc.add(children[number], pa.scalar(day * ticks, field.type))
    return pa.StructArray.from_arrays(children, fields=fields)
