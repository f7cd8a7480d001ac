"""What the checks cost: every suite on a built lake, from raw to the leaderboard.

    python benchmarks/expectations.py LAKE

The lake is one that ``qilin build`` has made; relations it lacks are left out. Each pass runs in a
process of its own, so that CPU seconds and peak memory are its own, process start and the import
of Great Expectations included. The first pass checks everything, as after new data; the second
finds every outcome recorded, as after a build that changed nothing. The lake is not written: what
is recorded goes into a copy of its manifests.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import dagster as dg

from qilin_dagster.assets.audit import AUDIT
from qilin_dagster.checks import suite_of, table_suite
from qilin_dagster.definitions import defs
from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.expectations import Suite
from qilin_dagster.lake import Lake
from qilin_dagster.outcomes import OUTCOMES, check, record
from qilin_dagster.resources import CATALOG
from qilin_dagster.settings import Settings


def suites() -> list[Suite]:
    """Of every relation that has checks, parents first."""
    graph = defs.resolve_asset_graph()
    checked = {key.asset_key for key in graph.asset_check_keys}
    found = [suite_of(view) for view in CATALOG.views]
    views = {suite.qualified for suite in found}
    for key in graph.toposorted_asset_keys:
        name = ".".join(key.path)
        # The checks of the audit are no expectations.
        if key in checked and name not in views and name != AUDIT:
            found.append(table_suite(name, graph.get(dg.AssetKey(key.path)).description or ""))
    return found


def run(lake: Path) -> None:
    """Check all that the lake holds; prints one JSON line of seconds and counts per schema."""
    engine = DuckDBEngine(Lake(lake), Settings.from_environment())
    connection = engine.connect()
    rows = connection.execute(
        "select table_schema || '.' || table_name from information_schema.tables"
    ).fetchall()
    present = {name for (name,) in rows}
    spent: dict[str, list[float]] = defaultdict(lambda: [0, 0, 0, 0])
    done = []
    for suite in suites():
        if suite.qualified not in present:
            continue
        wall, cpu = time.perf_counter(), time.process_time()
        checked = check(engine, connection, suite)
        n_failed = sum(not result.success for result in checked.results)
        for place, value in enumerate(
            (
                len(checked.results),
                n_failed,
                time.process_time() - cpu,
                time.perf_counter() - wall,
            )
        ):
            spent[suite.schema][place] += value
        done.append(checked)
    connection.close()
    record(engine.lake, done)
    print(json.dumps(spent))


def measure(lake: Path) -> tuple[float, float, float, dict[str, list[float]]]:
    """CPU seconds, wall seconds and peak memory in MB of one pass, and its part per schema."""
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen([sys.executable, __file__, "--run", str(lake)], stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            raise SystemExit(f"the checks of {lake} could not be run")
        out.seek(0)
        spent = json.loads(out.read().splitlines()[-1])
    wall = time.perf_counter() - started
    return usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024, spent


def linked_copy(lake: Path, copy: Path) -> None:
    """The lake's manifests, and links to its snapshots; no recorded outcomes."""
    for manifest in lake.glob("[!.]*/*/manifest.json"):
        table = manifest.parent.relative_to(lake)
        if ".".join(table.parts) == OUTCOMES:
            continue
        (copy / table).mkdir(parents=True)
        shutil.copy(manifest, copy / table / "manifest.json")
        for snapshot in manifest.parent.iterdir():
            if snapshot.is_dir():
                (copy / table / snapshot.name).symlink_to(snapshot, target_is_directory=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lake", type=Path, nargs="?")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run(options.run)
        return
    if options.lake is None:
        parser.error("name the folder of a built lake")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "lake"
        linked_copy(options.lake.absolute(), copy)
        passes = {name: measure(copy) for name in ("everything new", "nothing changed")}
    print(f"{os.cpu_count()} processors; process start and imports included\n")
    print("| pass | CPU s | wall s | peak MB |")
    print("|---|---|---|---|")
    for name, (cpu, wall, peak, _) in passes.items():
        print(f"| {name} | {cpu:.1f} | {wall:.1f} | {peak:.0f} |")
    print("\n| schema | checks | failed | CPU s | wall s |\n|---|---|---|---|---|")
    for schema, (n, n_failed, cpu, wall) in passes["everything new"][3].items():
        print(f"| {schema} | {n:.0f} | {n_failed:.0f} | {cpu:.1f} | {wall:.1f} |")


if __name__ == "__main__":
    main()
