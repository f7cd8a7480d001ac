"""QILIN_MEMORY_LIMIT binds: a build that does not fit spills, gives the same bytes, leaves nothing.

Linux only: peak memory is read from /proc, since what ``resource`` says is inherited from the
parent.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.lake import SPILL, Lake
from qilin_dagster.settings import Settings
from qilin_dagster.sources.published import inspect
from qilin_dagster.sources.register import register_all
from qilin_dagster.sources.twin import write_twin

# Between what core.requests cannot do without (less than 26) and what it takes when it may (44).
LIMIT_MB = 36
# What the process needs beside DuckDB's buffers: compressors of the columns being written, Python.
# With the limit it grows by 43 to 45 MB, without by 56 to 59.
BESIDE_MB = 12
LAST = "core.requests"


def _peak_mb() -> float:
    """Most memory this process has held so far."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _build_to_the_texts(data: Path, lake: Path, limit: str, spill: str) -> dict[str, object]:
    """All relations up to the widest table; ``spill`` is the most that may go to disk."""
    settings = Settings(data=data, lake=lake, threads=1, memory_limit=limit)
    engine = DuckDBEngine(Lake(lake), settings)
    register_all(engine.lake, inspect(data), "auto")
    with engine.connect() as connection:
        before = _peak_mb()
        connection.execute(f"set max_temp_directory_size = '{spill}'")
        for view in engine.catalog.views:
            engine.build(connection, view)
            if view.qualified == LAST:
                break
    return {"content": engine.lake.content_hash(), "grown_mb": _peak_mb() - before}


def _in_a_process(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", __name__, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_build_within_a_limit_spills_and_leaves_nothing(tmp_path: Path) -> None:
    write_twin(tmp_path / "twin", scale=0.05, seed=3)
    free = _in_a_process(tmp_path / "twin", tmp_path / "free", "4GB", "1GB")
    bound = _in_a_process(tmp_path / "twin", tmp_path / "bound", f"{LIMIT_MB}MB", "1GB")
    stuck = _in_a_process(tmp_path / "twin", tmp_path / "stuck", f"{LIMIT_MB}MB", "0KB")
    assert "Out of Memory" in stuck.stderr
    assert bound.returncode == free.returncode == 0, bound.stderr
    unlimited, limited = json.loads(free.stdout), json.loads(bound.stdout)
    assert limited["content"] == unlimited["content"]
    assert limited["grown_mb"] < unlimited["grown_mb"]
    assert limited["grown_mb"] < LIMIT_MB + BESIDE_MB
    for lake in ("free", "bound", "stuck"):
        assert list((tmp_path / lake / SPILL).glob("*")) == []


if __name__ == "__main__":
    data, lake, limit, spill = sys.argv[1:]
    print(json.dumps(_build_to_the_texts(Path(data), Path(lake), limit, spill)))
