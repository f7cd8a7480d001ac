"""What the SQL costs: published Parquet to all views, and each bias view on a built lake.

    python benchmarks/views.py --scales 0.1 1

Twins are written into a temporary folder first. The build runs in a process of its own, so that
its CPU seconds and peak memory are its own, process start and imports included; checks are not
run. Answers are the median of five, on a connection that has them defined.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
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


def measure_build(data: Path, lake: Path) -> tuple[float, float, float]:
    """CPU seconds, wall seconds and peak memory in MB of the build as a process."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, __file__, "--build", data, lake])
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"the build of {data} failed")
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
    parser.add_argument("--scales", nargs="+", type=float, default=[0.1, 1.0])
    parser.add_argument("--build", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.build:
        build(*options.build)
        return
    print(f"{os.cpu_count()} processors; published Parquet to all views, checks not run\n")
    print("| scale | published MB | CPU s | wall s | peak MB | lake MB |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for scale in options.scales:
            data, lake = Path(folder) / f"twin-{scale}", Path(folder) / f"lake-{scale}"
            # In a process of its own: a child's peak memory begins with its parent's.
            arguments = ["twin", data, "--scale", str(scale), "--seed", "1"]
            command = [sys.executable, "-m", "qilin_dagster.cli", *map(str, arguments)]
            subprocess.run(
                command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            cpu, wall, peak = measure_build(data, lake)
            sizes = [_megabytes(data, "*/*.parquet"), _megabytes(lake, "*/*/*/*.parquet")]
            print(
                f"| {scale:g} | {sizes[0]:.0f} | {cpu:.1f} | {wall:.1f} | {peak:.0f} "
                f"| {sizes[1]:.0f} |",
                flush=True,
            )
        print(f"\n| view at scale {options.scales[-1]:g} | wall ms | CPU ms |\n|---|---|---|")
        for view, (wall, cpu) in measure_answers(lake).items():
            print(f"| {view} | {wall:.0f} | {cpu:.0f} |")


def _megabytes(folder: Path, pattern: str) -> float:
    return sum(path.stat().st_size for path in folder.glob(pattern)) / 1e6


if __name__ == "__main__":
    main()
