"""What the stored tables cost on DuckDB and on Spark: the same files, the same data, both lakes.

    python benchmarks/engines.py --data TWIN [TWIN ...]
    python benchmarks/engines.py --data TWIN --engines sc://host:port
    python benchmarks/engines.py --data TWIN --days 10 --engines duckdb

Published Parquet to all stored tables of quarantine, core and bias, in a process of its own, start
and imports included; checks are not run, views are only defined. ``spark`` is the embedded server
in another process: its CPU seconds and memory are added. Of a server that is named only the
client's are known. Stages are wall seconds inside the process. With ``--days`` the twin's requests
are repeated, a day later each time, over the same notes and users.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.lake import Lake
from qilin_dagster.settings import DUCKDB, Settings
from qilin_dagster.sources.published import inspect
from qilin_dagster.sources.register import register_all
from qilin_dagster.sources.twin.days import add_day

STAGES = ("register", "land", "quarantine", "core.impressions", "core.requests", "core", "bias")


def build(data: Path, lake: Path, engine_name: str, told: Path) -> None:
    """Build, and tell the wall seconds of each stage."""
    settings = replace(Settings.from_environment(), data=data, lake=lake, engine=engine_name)
    seconds = dict.fromkeys(STAGES, 0.0)
    started = time.perf_counter()
    store = Lake(lake)
    register_all(store, inspect(data), "auto")
    seconds["register"] = time.perf_counter() - started
    if engine_name == DUCKDB:
        engine = DuckDBEngine(store, settings)
    else:
        from qilin_dagster.engines.spark_connect import SparkConnectEngine

        engine = SparkConnectEngine(store, settings)
        started = time.perf_counter()
        engine.land()
        seconds["land"] = time.perf_counter() - started
    connection = engine.connect()
    for view in engine.catalog.views:
        if not view.is_stored:
            engine.define_view(connection, view)
            continue
        started = time.perf_counter()
        engine.build(connection, view)
        stage = view.qualified if view.qualified in STAGES else view.schema
        seconds[stage] += time.perf_counter() - started
    connection.close()
    told.write_text(json.dumps(seconds))


def measure(data: Path, lake: Path, engine: str) -> tuple[float, float, float, dict[str, float]]:
    """CPU seconds, wall seconds, peak memory in MB (of server and client together), stages."""
    cpu, peak, server = 0.0, 0.0, None
    url = engine
    if engine == "spark":
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        url = f"sc://127.0.0.1:{port}"
        command = [Path(sys.executable).parent / "qilin", "spark-server", "--port", str(port)]
        server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        _wait_for(port)
    with tempfile.NamedTemporaryFile() as told:
        started = time.perf_counter()
        client = subprocess.Popen(
            [sys.executable, __file__, "--build", data, lake, url, told.name],
        )
        _, status, usage = os.wait4(client.pid, 0)
        wall = time.perf_counter() - started
        usages = [usage]
        if server is not None:
            server.send_signal(signal.SIGTERM)
            usages.append(os.wait4(server.pid, 0)[2])
        if status != 0:
            raise SystemExit(f"the build of {data} by {engine} failed")
        for used in usages:
            cpu += used.ru_utime + used.ru_stime
            peak += used.ru_maxrss / 1024
        return cpu, wall, peak, json.loads(Path(told.name).read_text())


def _wait_for(port: int) -> None:
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("the server did not start")


def _megabytes(folder: Path, pattern: str) -> float:
    return sum(path.stat().st_size for path in folder.glob(pattern)) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", type=Path, default=[])
    parser.add_argument("--days", type=int, default=1)
    parser.add_argument("--engines", nargs="+", default=[DUCKDB, "spark"])
    parser.add_argument("--build", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.build:
        data, lake, engine, told = options.build
        build(Path(data), Path(lake), engine, Path(told))
        return
    print("| data | engine | CPU s | wall s | peak MB | landed MB | tables MB | wall s of stages |")
    print("|---|---|---|---|---|---|---|---|")
    for data in options.data:
        # Beside the twin, whose files can be linked there.
        with tempfile.TemporaryDirectory(dir=data.parent) as folder:
            days = Path(folder) / "days"
            shutil.copytree(data, days, copy_function=os.link)
            for day in range(1, options.days):
                add_day(days, day)
            name = f"{data.name}, {options.days} days" if options.days > 1 else data.name
            for engine in options.engines:
                print(row(name, days, engine), flush=True)


def row(name: str, data: Path, engine: str) -> str:
    """The line of the table for one build."""
    with tempfile.TemporaryDirectory() as folder:
        lake = Path(folder)
        cpu, wall, peak, stages = measure(data, lake, engine)
        landed = _megabytes(lake, "landed/**/*.parquet")
        tables = _megabytes(lake, "[!.]*/**/*.parquet") - landed
    told = ", ".join(f"{stage} {s:.1f}" for stage, s in stages.items() if s >= 0.05)
    return (
        f"| {name} | {engine} | {cpu:.1f} | {wall:.1f} | {peak:.0f} | {landed:.0f} | "
        f"{tables:.0f} | {told} |"
    )


if __name__ == "__main__":
    main()
