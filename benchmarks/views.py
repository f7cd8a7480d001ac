"""What the SQL costs: published Parquet to all views, and each bias view on a built lake.

    python benchmarks/views.py --scales 0.1 1
    python benchmarks/views.py --data TWIN [TWIN ...] --memory-limit 2GB

Twins of the scales are written into a temporary folder first; --data names some that are there.
The build runs in a process of its own, so that its CPU seconds and peak memory are its own,
process start and imports included; checks are not run. The paper's statistics are made once more
from the published files alone, in memory, without a lake. Answers are the median of five, on a
connection that has them defined.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.lake import Lake
from qilin_dagster.settings import Settings
from qilin_dagster.sources.published import inspect
from qilin_dagster.sources.register import register_all

REPEATS = 5


def build(data: Path, lake: Path) -> None:
    """Published Parquet to all stored tables and views."""
    engine = DuckDBEngine(Lake(lake), Settings.from_environment())
    register_all(engine.lake, inspect(data), "auto")
    connection = engine.connect()
    for view in engine.catalog.views:
        engine.build(connection, view)
    connection.close()
    engine.export_catalog()


def paper_statistics(data: Path, lake: Path) -> None:
    """The paper's statistics from the published files: what a build stores is kept in memory."""
    engine = DuckDBEngine(Lake(lake), Settings.from_environment())
    register_all(engine.lake, inspect(data), "auto")
    needed = {"bias.paper_values"}
    for view in reversed(engine.catalog.views):
        if view.qualified in needed:
            needed |= set(view.parents)
    views = [view for view in engine.catalog.views if view.qualified in needed]
    with engine.connect() as connection:
        for view in views:
            connection.execute(f"create schema if not exists {view.schema}")
            if not view.is_stored:
                connection.execute(view.ddl)
                continue
            # Only columns that a reader names: the texts would take more memory than all others.
            readers = " ".join(
                reader.select for reader in views if view.qualified in reader.parents
            )
            described = connection.execute(f"describe {view.select}").fetchall()
            named = [f'"{name}"' for name, *_ in described if re.search(rf"\b{name}\b", readers)]
            columns = ", ".join(named) or "*"
            connection.execute(
                f"create table {view.qualified} as select {columns} from ({view.select})"
            )
        connection.execute("from bias.paper_values").fetchall()


def measure(step: str, data: Path, lake: Path) -> tuple[float, float, float]:
    """CPU seconds, wall seconds and peak memory in MB of a step as a process."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, __file__, f"--{step}", data, lake])
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{step} of {data} failed")
    wall = time.perf_counter() - started
    return usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024


def measure_answers(lake: Path) -> dict[str, tuple[float, float]]:
    """For each bias view, the median wall and CPU milliseconds of reading it."""
    engine = DuckDBEngine(Lake(lake), Settings.from_environment())
    connection = engine.connect()
    answers = {}
    for view in engine.catalog.views:
        if view.schema != "bias":
            continue
        walls, cpus = [], []
        for _ in range(REPEATS):
            wall, cpu = time.perf_counter(), time.process_time()
            connection.execute(f"from {view.qualified}").fetchall()
            walls.append(time.perf_counter() - wall)
            cpus.append(time.process_time() - cpu)
        answers[view.qualified] = (
            1000 * statistics.median(walls),
            1000 * statistics.median(cpus),
        )
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scales", nargs="+", type=float, default=[])
    parser.add_argument("--data", nargs="+", type=Path, default=[])
    parser.add_argument("--memory-limit", help="As QILIN_MEMORY_LIMIT, such as 2GB.")
    parser.add_argument("--build", nargs=2, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--paper", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.build:
        build(*options.build)
        return
    if options.paper:
        paper_statistics(*options.paper)
        return
    if options.memory_limit:
        os.environ["QILIN_MEMORY_LIMIT"] = options.memory_limit
    print(
        f"{os.cpu_count()} processors, memory limit {options.memory_limit or 'the default'}; "
        "published Parquet to all views, checks not run\n"
    )
    print("| data | step | published MB | CPU s | wall s | peak MB | lake MB |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        lake = Path(folder)
        for number, data in enumerate([*_twins(options.scales, lake), *options.data]):
            lake = Path(folder) / f"lake-{number}"
            for step in ("build", "paper"):
                place = lake if step == "build" else Path(folder) / f"memory-{number}"
                cpu, wall, peak = measure(step, data, place)
                sizes = [_megabytes(data, "*/*.parquet"), _megabytes(place, "[!.]*/**/*.parquet")]
                print(
                    f"| {data.name} | {step} | {sizes[0]:.0f} | {cpu:.1f} | {wall:.1f} | "
                    f"{peak:.0f} | {sizes[1]:.0f} |",
                    flush=True,
                )
        print(f"\n| view of {data.name} | wall ms | CPU ms |\n|---|---|---|")
        for view, (wall, cpu) in measure_answers(lake).items():
            print(f"| {view} | {wall:.0f} | {cpu:.0f} |")


def _twins(scales: list[float], folder: Path) -> Iterator[Path]:
    """A twin of each scale, written by a process of its own: peak memory is inherited."""
    for scale in scales:
        data = folder / f"twin-{scale:g}"
        arguments = ["twin", data, "--scale", str(scale), "--seed", "1"]
        command = [sys.executable, "-m", "qilin_dagster.cli", *map(str, arguments)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        yield data


def _megabytes(folder: Path, pattern: str) -> float:
    return sum(path.stat().st_size for path in folder.glob(pattern)) / 1e6


if __name__ == "__main__":
    main()
