"""What survives: killed builds, two builds at once, readers during builds, a full disk."""

import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import pytest

from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.lake import LOCK, SPILL, STAGING, Lake, LakeBusyError, LakeError
from qilin_dagster.query import open_sandbox
from qilin_dagster.settings import REPOSITORY, Settings
from tests import build_stages
from tests.build_stages import STAGES
from tests.test_cli import QILIN, qilin

N_KILLS = 200
KILLS_A_ROUND = 20
N_COMMAND_KILLS = 5
N_READS = 1_000
READS_A_CONNECTION = 4

# One answer over tables of every stage; the two logs differ in all of its columns.
READ = """
select
    (select fingerprint from published.data_set),
    (select count(*) from core.notes),
    (select count(*) from core.users),
    (select sum(epoch(started_at)) from core.requests),
    (select sum(epoch(exposed_at)) from core.impressions),
    (select sum(duration_s) from core.sessions)
"""


class Logs(NamedTuple):
    """Two logs; of each the content of a lake nobody disturbed, and what readers see in it."""

    data: tuple[Path, Path]
    content: tuple[str, str]
    answers: tuple[tuple[object, ...], tuple[object, ...]]
    seconds: dict[str, float]


@pytest.fixture(scope="module")
def fork_server() -> multiprocessing.context.ForkServerContext:
    """Children with every import done, which is most of a small build's time."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.build_stages"])
    return context


@pytest.fixture(scope="module")
def logs(fork_server, tmp_path_factory: pytest.TempPathFactory) -> Logs:
    folder = tmp_path_factory.mktemp("logs")
    data = (
        build_stages.write_log(folder / "a", extra_note=False),
        build_stages.write_log(folder / "b", extra_note=True),
    )
    content, answers, seconds = [], [], {}
    for number, path in enumerate(data):
        lake = folder / f"lake-{number}"
        seconds = _build(fork_server, path, lake)
        assert Lake(lake).verify() == []
        content.append(Lake(lake).for_readers().content_hash())
        answers.append(_read(lake))
    assert all(a != b for a, b in zip(*answers, strict=True))
    return Logs(data, tuple(content), tuple(answers), seconds)


def _build(context, data: Path, lake: Path, start: str = STAGES[0]) -> dict[str, float]:
    """Build in a process of its own, from a stage on; returns the seconds each stage took."""
    process, reached = _start(context, data, lake, start)
    begun = []
    with contextlib.suppress(EOFError):
        while True:
            begun.append((reached.recv(), time.perf_counter()))
    process.join()
    assert process.exitcode == 0
    assert begun[-1][0] == "done"
    return {
        name: end - begin for (name, begin), (_, end) in zip(begun[:-1], begun[1:], strict=True)
    }


def _start(context, data: Path, lake: Path, start: str):
    reached, sender = context.Pipe(duplex=False)
    process = context.Process(target=build_stages.build, args=(data, lake, start, sender))
    process.start()
    sender.close()
    return process, reached


def _read(lake: Path) -> tuple[object, ...]:
    connection = open_sandbox(Lake(lake), Settings(data=None, lake=lake, threads=1))
    try:
        return connection.execute(READ).fetchall()[0]
    finally:
        connection.close()


def _read_on(lake: Path, pause_s: float, seen: Connection) -> None:
    """Read until killed, sending every answer, or the error instead of one."""
    while True:
        try:
            seen.send(_read(lake))
        except Exception as error:  # noqa: BLE001  # Whatever it is, the test must hear of it.
            seen.send(repr(error))
        time.sleep(pause_s)


@contextlib.contextmanager
def _reader(context, lake: Path, pause_s: float) -> Iterator[list[object]]:
    """The answers of a process that reads all the while."""
    seen, sender = context.Pipe(duplex=False)
    process = context.Process(target=_read_on, args=(lake, pause_s, sender))
    process.start()
    sender.close()
    answers: list[object] = []
    try:
        yield answers
    finally:
        process.kill()
        process.join()
        with contextlib.suppress(EOFError):
            while True:
                answers.append(seen.recv())


def _assert_whole(lake: Path) -> None:
    """No fault in any table, and what readers see is of one build."""
    assert Lake(lake).verify() == []
    served = Lake(lake).for_readers()
    assert DuckDBEngine(served, Settings(data=None, lake=lake)).behind() == []


def _assert_nothing_left(lake: Path) -> None:
    """No staged files, no spill, no names aside: nothing but tables, and who builds is nobody."""
    left = [*lake.glob(f"{STAGING}/*"), *lake.glob(f"{SPILL}/*"), *lake.rglob(".*.aside.*")]
    assert left == []
    assert (lake / LOCK).read_text(encoding="utf-8") == ""


@pytest.mark.slow
def test_whatever_instant_a_build_is_killed_at_the_lake_is_whole(
    fork_server, logs: Logs, tmp_path: Path
) -> None:
    """Every round turns the lake from one log to the other, through 20 builds that are killed."""
    lake, draw, died_in = tmp_path / "lake", random.Random(7), Counter[str]()
    _build(fork_server, logs.data[0], lake)
    started = time.perf_counter()
    with _reader(fork_server, lake, pause_s=0.3) as answers:
        number = 0
        while died_in.total() < N_KILLS:
            number += 1
            data, before = logs.data[number % 2], logs.answers[(number + 1) % 2]
            start = STAGES[0]
            # In order, so that a killed build's work is gone on with and later stages are reached.
            for stage in sorted(draw.choices(STAGES, k=KILLS_A_ROUND), key=STAGES.index):
                process, reached = _start(fork_server, data, lake, start)
                at = reached.recv()
                while STAGES.index(at) < STAGES.index(stage):
                    at = reached.recv()
                time.sleep(draw.uniform(0, logs.seconds[stage]))
                process.kill()
                process.join()
                with contextlib.suppress(EOFError):
                    while True:
                        at = reached.recv()
                _assert_whole(lake)
                if process.exitcode != -signal.SIGKILL:
                    break  # It was done already.
                died_in[at] += 1
                start = at
                assert _read(lake) in (before, logs.answers[number % 2])
            _build(fork_server, data, lake)
            _assert_whole(lake)
            _assert_nothing_left(lake)
            assert Lake(lake).for_readers().content_hash() == logs.content[number % 2]
            assert _read(lake) == logs.answers[number % 2]
    print(f"\n{dict(died_in)}; {len(answers)} reads, {time.perf_counter() - started:.0f} s")
    assert set(answers) <= set(logs.answers)
    assert set(STAGES) <= set(died_in)
