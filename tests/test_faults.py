"""What survives: killed builds, two builds at once, readers during builds, a full disk, files
that may not be read or written."""

import contextlib
import ctypes
import itertools
import json
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

import duckdb
import pyarrow.parquet as pq
import pytest

from models.recipes import TASKS, Task
from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.lake import LOCK, SERVED, SPILL, STAGING, Lake, LakeError
from qilin_dagster.settings import REPOSITORY, Settings
from qilin_dagster.sources.published import inspect
from qilin_dagster.sources.register import register_all
from qilin_dagster.sources.twin import write_twin
from tests import build_stages, published_log
from tests.build_stages import STAGES
from tests.conftest import build_views, write_features
from tests.test_cli import QILIN, qilin

N_KILLS = 200
# Of a round, by the stage they are meant for: more where more is published and less is worked out.
KILLS = (
    *[("published", 9), ("core", 16), ("audit", 4), ("features", 14)],
    *[("training", 9), ("evaluation", 5), ("reports", 4), ("serve", 6)],
)
N_COMMAND_KILLS = 5
N_READS = 1_000
READS_A_CONNECTION = 10

READ_FROM = (
    *("published.data_set", "core.notes", "core.users", "core.requests"),
    *("core.impressions", "core.sessions"),
)
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
    lakes: tuple[Path, Path]
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
    lakes, content, answers, seconds = (folder / "lake-a", folder / "lake-b"), [], [], {}
    for path, lake in zip(data, lakes, strict=True):
        seconds = _build(fork_server, path, lake)
        assert Lake(lake).verify() == []
        content.append(Lake(lake).for_readers().content_hash())
        answers.append(_read(lake))
    assert all(a != b for a, b in zip(*answers, strict=True))
    return Logs(data, lakes, tuple(content), tuple(answers), seconds)


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
    return {name: end - begin for (name, begin), (_, end) in itertools.pairwise(begun)}


def _start(context, data: Path, lake: Path, start: str):
    reached, sender = context.Pipe(duplex=False)
    process = context.Process(target=build_stages.build, args=(data, lake, start, sender))
    process.start()
    sender.close()
    return process, reached


def _open(lake: Path) -> duckdb.DuckDBPyConnection:
    """As every reader does, but with the relations of READ alone."""
    served = Lake(lake).for_readers()
    return DuckDBEngine(served, Settings(data=None, lake=lake, threads=1)).connect(READ_FROM)


def _read(lake: Path) -> tuple[object, ...]:
    connection = _open(lake)
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
    """Every round turns a lake from one log to the other, through 67 builds that are killed."""
    draw, died_in, seen = random.Random(7), Counter[str](), Counter[object]()
    started = time.perf_counter()
    for number in itertools.count():
        if died_in.total() == N_KILLS:
            break
        # Each a lake of its own: in an old one the snapshots to be made would be there already.
        lake = shutil.copytree(logs.lakes[number % 2], tmp_path / f"lake-{number}")
        new, start = (number + 1) % 2, STAGES[0]
        with _reader(fork_server, lake, pause_s=0.5) as answers:
            # In order, so that a killed build's work is gone on with and later stages are reached.
            for stage in (name for name, n_kills in KILLS for _ in range(n_kills)):
                if died_in.total() == N_KILLS:
                    break
                if STAGES.index(stage) < STAGES.index(start):
                    continue  # It was over sooner than planned; later stages have kills of theirs.
                process, reached = _start(fork_server, logs.data[new], lake, start)
                at = reached.recv()
                while STAGES.index(at) < STAGES.index(stage):
                    at = reached.recv()
                # Not beyond the stage: on a busy machine all kills would gather in the last one.
                reached.poll(draw.uniform(0, logs.seconds[stage]))
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
                assert Lake(lake).for_readers().content_hash() in logs.content
            _build(fork_server, logs.data[new], lake)
            _assert_whole(lake)
            _assert_nothing_left(lake)
            assert Lake(lake).for_readers().content_hash() == logs.content[new]
            assert _read(lake) == logs.answers[new]
        seen.update(answers)
        assert set(seen) <= set(logs.answers)
    print(f"\n{dict(died_in)}; {seen.total()} reads, {time.perf_counter() - started:.0f} s")
    assert set(STAGES) <= set(died_in)


@pytest.mark.slow
def test_a_killed_command_is_gone_on_with(logs: Logs, tmp_path: Path) -> None:
    """The real command, checks and Dagster's record included, killed while it changes the lake."""
    lake, draw = tmp_path / "lake", random.Random(11)
    parts = ("--lake", lake, "--select", "raw,core")
    assert qilin("build", "--data", logs.data[0], *parts).returncode == 0
    before = _read(lake)
    expected = tmp_path / "undisturbed"
    assert qilin("build", "--data", logs.data[1], *parts[2:], "--lake", expected).returncode == 0
    n_killed = 0
    while n_killed < N_COMMAND_KILLS:
        command = [QILIN, "build", "--data", logs.data[1], *parts]
        process = subprocess.Popen(
            command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        # Imports change nothing: count from the moment the build has the lake.
        while (lake / LOCK).read_text(encoding="utf-8").find(f" {process.pid} ") < 0:
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 4))
        process.kill()
        process.wait()
        n_killed += 1
        _assert_whole(lake)
        assert _read(lake) in (before, _read(expected))
    done = qilin("build", "--data", logs.data[1], *parts)
    assert done.returncode == 0, done.stderr
    assert qilin("verify", "--lake", lake).stdout == qilin("verify", "--lake", expected).stdout
    assert _read(lake) == _read(expected) != before
    _assert_nothing_left(lake)


@pytest.mark.slow
def test_readers_never_fail_while_the_lake_is_built_again_and_again(
    fork_server, logs: Logs, tmp_path: Path
) -> None:
    lake = shutil.copytree(logs.lakes[0], tmp_path / "lake")
    builder = fork_server.Process(target=build_stages.build_views_forever, args=(logs.data, lake))
    builder.start()
    seen: Counter[object] = Counter()
    started = time.perf_counter()
    try:
        for _ in range(N_READS // READS_A_CONNECTION):
            connection = _open(lake)
            for _ in range(READS_A_CONNECTION):
                seen[connection.execute(READ).fetchall()[0]] += 1
            connection.close()
        assert builder.is_alive()
    finally:
        builder.kill()
        builder.join()
    print(f"\n{seen.total()} reads in {time.perf_counter() - started:.0f} s: {seen.values()}")
    assert set(seen) == set(logs.answers)


def test_a_second_build_is_refused_by_name(tmp_path: Path) -> None:
    data = published_log.write(tmp_path / "data")
    lake = Lake(tmp_path / "lake")
    with lake.building():
        done = qilin("build", "--data", data, "--lake", lake.root)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"process {os.getpid()} on " in done.stderr
    assert "one build at a time" in done.stderr
    assert lake.tables() == []


@contextlib.contextmanager
def _small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("FULL DISK NOT CHECKED: this user may not mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_leaves_the_old_state_and_says_so(tmp_path: Path) -> None:
    data = build_stages.write_log(tmp_path / "data", extra_note=False)
    other = build_stages.write_log(tmp_path / "other", extra_note=True)
    with _small_disk(tmp_path / "disk", "4m") as disk:
        lake, ballast = Lake(disk / "lake"), disk / "ballast"
        _build_views(data, lake.root)
        before, content = _read(lake.root), lake.for_readers().content_hash()
        refused_at = []
        for kilobytes_left in (0, 8, 40, 80):
            n_bytes = shutil.disk_usage(disk).free - kilobytes_left * 1024
            ballast.write_bytes(bytes(n_bytes))
            with pytest.raises(LakeError, match="No space left on device") as refused:
                _build_views(other, lake.root)
            said = str(refused.value)
            assert f"into the lake {lake.root}" in said
            assert "0 MB free" in said
            assert "qilin gc" in said
            refused_at.append(said.split()[2])
            assert lake.verify() == []
            assert lake.for_readers().content_hash() == content
            assert _read(lake.root) == before
            left = [*lake.root.glob(f"{STAGING}/*"), *lake.root.rglob(".*.aside.*")]
            assert left == []
            ballast.unlink()
        assert len(set(refused_at)) > 2
        _build_views(other, lake.root)
        assert _read(lake.root) != before
        assert lake.verify() == []


def test_a_disk_that_cannot_be_written_is_named_and_read(tmp_path: Path) -> None:
    data = published_log.write(tmp_path / "data")
    with _small_disk(tmp_path / "disk", "5m") as disk:
        _build_views(data, disk / "lake")
        before = _read(disk / "lake")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        done = qilin("build", "--data", data, "--lake", disk / "lake")
        assert done.returncode == 2
        assert f"cannot write the lock file into the lake {disk / 'lake'}: Read-only" in done.stderr
        assert "name a folder you may write to with --lake" in done.stderr
        assert "Traceback" not in done.stderr
        assert _read(disk / "lake") == before
        assert qilin("verify", "--lake", disk / "lake").returncode == 0


# Runs commands one by one, taking a permission from a path for each; prints what each came to.
COMMANDS_WITHOUT_PERMISSION = """
import json, os, sys
from click.testing import CliRunner
from qilin_dagster.cli import main
for path, taken, command in json.load(sys.stdin):
    mode = os.stat(path).st_mode
    os.chmod(path, mode & ~taken)
    done = CliRunner().invoke(main, command)
    os.chmod(path, mode)
    print(json.dumps([done.exit_code, done.output, repr(done.exception)]))
"""
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2


def _obey_permissions() -> None:
    """Before another program starts in this process: root, too, may do what permissions say."""
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def _without_permissions(commands: list[tuple[Path, int, list[object]]]) -> list[tuple[int, str]]:
    """Exit code and output of each command, with permissions taken from a path for its time."""
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS_WITHOUT_PERMISSION],
        input=json.dumps(commands, default=str),
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        preexec_fn=_obey_permissions,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(exception.startswith(("None", "SystemExit(")) for _, _, exception in found), found
    return [(code, output) for code, output, _ in found]


def test_what_this_user_may_not_read_or_write_is_named(tmp_path: Path) -> None:
    data = build_stages.write_log(tmp_path / "data", extra_note=False)
    other = build_stages.write_log(tmp_path / "other", extra_note=True)
    lake = Lake(tmp_path / "lake")
    _build_views(data, lake.root)
    before = _read(lake.root)
    build = ["build", "--data", other, "--lake", lake.root, "--select", "published"]
    ask = ["sql", "--lake", lake.root, "select count(*) from core.requests"]
    write, read = 0o222, 0o777
    shard = next((other / "dqa").iterdir())
    read_by_lake = next((data / "notes").iterdir())
    cases: list[tuple[Path, int, list[object], int, str]] = [
        (lake.root / "published" / "notes", write, build, 1, "cannot write published.notes into"),
        (lake.root / STAGING, write, build, 1, "cannot write published.notes into the lake"),
        (lake.root / LOCK, write, build, 2, "cannot write the lock file into the lake"),
        (shard, read, build, 2, f"table dqa: {shard} cannot be read as a Parquet file: [Errno 13]"),
        (shard.parent, read, build, 2, f"may not read the folder {shard.parent}"),
        (other, read, build, 2, f"Path '{other}' is not readable"),
        (lake.root / SERVED, read, ask, 2, f"cannot read the lake {lake.root}: [Errno 13]"),
        (read_by_lake, read, ask, 2, "a file of published.notes cannot be read: IO Error"),
        # All steps succeed, and readers cannot be shown what they made.
        (lake.root, write, build, 2, "cannot write catalog.duckdb into the lake"),
    ]
    done = _without_permissions([(path, taken, command) for path, taken, command, *_ in cases])
    for (path, _, command, code, said), (found, output) in zip(cases, done, strict=True):
        assert (found, said in output) == (code, True), (path, output)
        if command is build and path.is_relative_to(lake.root):
            assert "Permission denied; name a folder you may write to with --lake" in output
    assert _read(lake.root) == before
    assert lake.verify() == []


def _build_views(data: Path, lake: Path) -> DuckDBEngine:
    """All views as one build."""
    with Lake(lake).building():
        engine = build_views(data, lake)
        engine.serve()
    return engine


def test_one_thread_and_two_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files and tables of several row groups; whole builds are compared in the test of killed
    ones."""
    monkeypatch.setattr("qilin_dagster.engines.duckdb.ROW_GROUP_ROWS", 2048)
    write_twin(tmp_path / "twin", scale=0.01, seed=3)
    for path in (tmp_path / "twin").glob("*/*.parquet"):
        pq.write_table(pq.read_table(path), path, row_group_size=200)
    content = set()
    for number, threads in enumerate((1, 2)):
        lake = Lake(tmp_path / f"lake-{number}")
        settings = Settings(data=tmp_path / "twin", lake=lake.root, threads=threads)
        engine = DuckDBEngine(lake, settings)
        register_all(lake, inspect(tmp_path / "twin"), "auto")
        connection = engine.connect()
        for view in engine.catalog.views:
            engine.build(connection, view)
        for task in TASKS:
            _publish_features(lake, connection, task)
        views = [view.qualified for view in engine.catalog.views if not view.is_stored]
        answers = tuple(
            repr(connection.execute(f"from {view} order by all").fetchall())
            for view in views
            if view.startswith("bias.")
        )
        connection.close()
        content.add((lake.content_hash(), answers))
    assert len(content) == 1


def _publish_features(lake: Lake, connection: duckdb.DuckDBPyConnection, task: Task) -> None:
    lake.publish(
        f"features.{task}_ranking",
        inputs={},
        code_version="1",
        write=lambda folder: write_features(connection, task, folder),
    )
