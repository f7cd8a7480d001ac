"""Everything on a twin of any size, with time, processor and memory for each asset.

    python benchmarks/rehearsal.py --scale 0.1 [--images] [--smoke] [--keep FOLDER]

Writes the twin, runs ``qilin build`` as a process of its own, and looks at it every twentieth of a
second; which asset was at work when is read from Dagster's record of the run. An asset's time goes
from the end of the one before it in its step, so that the checks of a view count for the next one.
Memory is the largest resident set seen meanwhile, what earlier assets left behind included. Linux.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from pathlib import Path

EVERY_S = 0.05
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Sample:
    """The process at a moment: seconds of its processor so far, and megabytes it holds."""

    at: float
    cpu_s: float
    mb: float


@dataclass(frozen=True)
class Spent:
    asset: str
    wall_s: float
    cpu_s: float
    mb: float


def look(pid: int) -> Sample | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    lines = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    if not lines:
        return None
    # User and system time are fields 14 and 15, the name in parentheses being the second.
    cpu_s = (int(fields[11]) + int(fields[12])) / TICKS
    return Sample(time.time(), cpu_s, int(lines[0].split()[1]) / 1000)


def watch(process: subprocess.Popen[bytes], samples: list[Sample]) -> None:
    while process.poll() is None:
        if (sample := look(process.pid)) is not None:
            samples.append(sample)
        time.sleep(EVERY_S)


def intervals(home: Path) -> list[tuple[str, float, float]]:
    """(asset, from, to) of the newest run, in order of time."""
    os.environ["DAGSTER_HOME"] = str(home)
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        run = instance.get_runs(limit=1)[0]
        entries = instance.all_logs(run.run_id)
    began: dict[str, float] = {}
    found = []
    for entry in entries:
        event = entry.dagster_event
        if event is None or event.step_key is None:
            continue
        if event.is_step_start:
            began[event.step_key] = entry.timestamp
        elif event.is_step_materialization and event.asset_key is not None:
            found.append((".".join(event.asset_key.path), began[event.step_key], entry.timestamp))
            began[event.step_key] = entry.timestamp
    return found


def spent(samples: list[Sample], found: list[tuple[str, float, float]]) -> list[Spent]:
    times = [sample.at for sample in samples]
    rows = []
    for asset, start, end in found:
        first = max(bisect_left(times, start) - 1, 0)
        last = max(bisect_right(times, end), first + 1)
        within = samples[first:last]
        cpu_s = within[-1].cpu_s - within[0].cpu_s
        rows.append(Spent(asset, end - start, cpu_s, max(sample.mb for sample in within)))
    return rows


def table(rows: list[Spent], samples: list[Sample]) -> str:
    lines = ["| asset | wall s | CPU s | MB at most |", "|---|---|---|---|"]
    for row in sorted(rows, key=lambda row: -row.cpu_s):
        lines.append(f"| {row.asset} | {row.wall_s:.1f} | {row.cpu_s:.1f} | {row.mb:,.0f} |")
    wall_s = samples[-1].at - samples[0].at
    most = max(sample.mb for sample in samples)
    lines.append(f"| all | {wall_s:.0f} | {samples[-1].cpu_s:.0f} | {most:,.0f} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=0.1)
    parser.add_argument("--images", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="the smallest rankers")
    parser.add_argument("--select", help="as in qilin build")
    parser.add_argument("--keep", type=Path, help="folder for twin and lake, kept afterwards")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        data, lake = folder / "twin", folder / "lake"
        qilin = [sys.executable, "-m", "qilin_dagster.cli"]
        environment = {**os.environ, "DAGSTER_HOME": str((lake / ".dagster").absolute())}
        if not (data / "twin.json").exists():
            images = ["--images"] if given.images else []
            twin = [*qilin, "twin", str(data), "--scale", str(given.scale), *images]
            subprocess.run(twin, check=True, env=environment)
        more = [*(["--smoke"] if given.smoke else [])]
        more += ["--select", given.select] if given.select else []
        process = subprocess.Popen(
            [*qilin, "build", "--data", str(data), "--lake", str(lake), *more], env=environment
        )
        samples: list[Sample] = []
        watcher = threading.Thread(target=watch, args=(process, samples))
        watcher.start()
        code = process.wait()
        watcher.join()
        print(table(spent(samples, intervals(lake / ".dagster")), samples))
    return code


if __name__ == "__main__":
    sys.exit(main())
