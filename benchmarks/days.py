"""What files by source table and day cost and save: a log of days, one more day, a query of a day.

    python benchmarks/days.py --data TWIN [--days 3]

The twin's requests are repeated, a day later each time. The lake of all days but one is built, then
the last day comes as new shards and the lake is built again; then all days from scratch, and that
once more with one file a table. Published Parquet to all stored tables of quarantine, core and
bias, each build a process of its own, imports included; checks are not run.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from qilin_dagster.engines import partitions
from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.lake import Lake
from qilin_dagster.object_store import push
from qilin_dagster.settings import Settings
from qilin_dagster.sources.published import inspect
from qilin_dagster.sources.register import register_all
from qilin_dagster.sources.twin.days import add_day

TABLES = ("core.impressions", "core.requests")
NEVER = 1 << 60


def build(data: Path, lake: Path, least_rows: int, told: Path) -> None:
    """Build, and tell the CPU seconds of the tables that are laid out."""
    partitions.LEAST_ROWS = least_rows
    engine = DuckDBEngine(Lake(lake), replace(Settings.from_environment(), data=data, lake=lake))
    seconds = {}
    with engine.lake.building():
        register_all(engine.lake, inspect(data), "auto")
        with engine.connect() as connection:
            for view in engine.catalog.views:
                started = time.process_time()
                if view.is_stored:
                    engine.build(connection, view)
                else:
                    engine.define_view(connection, view)
                seconds[view.qualified] = time.process_time() - started
        engine.serve()
    told.write_text(json.dumps({table: seconds[table] for table in TABLES}))


def measure(data: Path, lake: Path, least_rows: int = partitions.LEAST_ROWS) -> str:
    """Columns of a row: CPU seconds of all and of each table, peak memory, files, bytes."""
    with tempfile.NamedTemporaryFile() as told:
        arguments = ["--build", data, lake, str(least_rows), told.name]
        child = subprocess.Popen([sys.executable, __file__, *arguments])
        _, status, usage = os.wait4(child.pid, 0)
        if status != 0:
            raise SystemExit(f"the build of {data} failed")
        seconds = json.loads(Path(told.name).read_text())
    cells = [f"{usage.ru_utime + usage.ru_stime:.1f}", f"{usage.ru_maxrss / 1024:.0f}"]
    for table in TABLES:
        store = Lake(lake)
        manifest = store.manifest(table)
        assert manifest is not None
        folder = store.table_folder(table)
        # A file kept is one with the snapshot before.
        n_new_bytes = sum(
            file.n_bytes for file in manifest.files if (folder / file.path).stat().st_nlink == 1
        )
        n_files, n_bytes = len(manifest.files), sum(file.n_bytes for file in manifest.files)
        cells.append(
            f"{seconds[table]:.2f} CPU s, {manifest.n_kept_files} of {n_files} files kept, "
            f"{n_new_bytes / 1e6:.1f} of {n_bytes / 1e6:.1f} MB new"
        )
    return " | ".join(cells)


def opened(lake: Path, where: str) -> str:
    """How many files of core.impressions a query with this filter opens."""
    engine = DuckDBEngine(Lake(lake), replace(Settings.from_environment(), lake=lake))
    manifest = engine.lake.manifest("core.impressions")
    assert manifest is not None
    question = f"select count(distinct note_idx) from core.impressions where {where}"
    with engine.connect(["core.impressions"]) as connection:
        ((_, plan),) = connection.execute(f"explain analyze {question}").fetchall()
    n_opened = sum(map(int, re.findall(r"Total Files Read: (\d+)", plan)))
    return f"{where}: {n_opened} of {len(manifest.files)} files opened"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--build", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.build:
        data, lake, least_rows, told = options.build
        build(Path(data), Path(lake), int(least_rows), Path(told))
        return
    with tempfile.TemporaryDirectory() as folder:
        data, lake, whole = (Path(folder) / name for name in ("data", "lake", "whole"))
        shutil.copytree(options.data, data)
        for day in range(1, options.days - 1):
            add_day(data, day)
        print(f"| step | CPU s | peak MB | {' | '.join(TABLES)} |\n|---|---|---|---|---|")
        print(f"| {options.days - 1} days | {measure(data, lake)} |", flush=True)
        url = f"file://{folder}/store"
        first = push(Lake(lake), url)
        add_day(data, options.days - 1)
        print(f"| one more day | {measure(data, lake)} |", flush=True)
        second = push(Lake(lake), url)
        print(f"| {options.days} days | {measure(data, Path(folder) / 'again')} |", flush=True)
        print(f"| the same, one file a table | {measure(data, whole, NEVER)} |\n", flush=True)
        same = Lake(lake).content_hash() == Lake(Path(folder) / "again").content_hash()
        print(f"appended and from scratch are {'equal' if same else 'NOT EQUAL'}, file for file")
        print(f"pushed first: {first}\npushed with the day: {second}")
        for where in (
            "source_table = 'recommendation_train' and day = '2024-11-28'",
            "day = '2024-11-28'",
            "source_table = 'dqa'",
        ):
            print(opened(lake, where), f"(one file a table: {opened(whole, where).split(': ')[1]})")


if __name__ == "__main__":
    main()
