"""Snapshots and manifests: what a reader may rely on."""

import contextlib
import errno
import json
import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from qilin_dagster.lake import (
    SERVED,
    SPILL,
    STAGING,
    File,
    Lake,
    LakeBusyError,
    LakeError,
    Manifest,
    Written,
    replace_text,
    version_of,
    write_rows,
)


def writer(text: str, n_rows: int = 1) -> Callable[[Path], Written]:
    def write(folder: Path) -> Written:
        (folder / "part-0.parquet").write_text(text, encoding="utf-8")
        return Written(n_rows, (("x", "BIGINT"),), {"said": text})

    return write


def publish(lake: Lake, text: str, *, inputs: dict[str, str] | None = None) -> Manifest:
    return lake.publish(
        "core.a", inputs=inputs or {"raw.b": text}, code_version="1", write=writer(text)
    )


def read(lake: Lake) -> str:
    manifest = lake.manifest("core.a")
    assert manifest is not None
    return lake.files(manifest)[0].read_text(encoding="utf-8")


def test_what_is_published_is_what_is_read(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    made = publish(lake, "one")
    assert lake.manifest("core.a") == made
    assert read(lake) == "one"
    assert made.files == (
        File(
            f"{made.snapshot_id}/part-0.parquet",
            3,
            "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed",
        ),
    )
    assert (made.n_rows, made.columns, made.facts) == (1, (("x", "BIGINT"),), {"said": "one"})
    assert lake.tables() == ["core.a"]


def test_the_same_inputs_and_code_are_not_written_again(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    first = publish(lake, "one", inputs={"raw.b": "v1"})
    again = publish(lake, "two", inputs={"raw.b": "v1"})
    assert again == first
    assert read(lake) == "one"
    assert lake.is_current("core.a", {"raw.b": "v1"}, "1")
    assert not lake.is_current("core.a", {"raw.b": "v1"}, "2")
    assert not lake.is_current("core.a", {"raw.b": "v2"}, "1")


def test_versions_tell_inputs_apart() -> None:
    assert version_of({"a": "1", "b": "2"}, "c") == version_of({"b": "2", "a": "1"}, "c")
    versions = {
        version_of({"a": "1"}, "c"),
        version_of({"a": "2"}, "c"),
        version_of({"b": "1"}, "c"),
        version_of({"a": "1"}, "d"),
    }
    assert len(versions) == 4


def test_a_writer_that_fails_leaves_the_old_table_and_nothing_else(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    old = publish(lake, "one")

    def fail(folder: Path) -> Written:
        (folder / "part-0.parquet").write_text("half", encoding="utf-8")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        lake.publish("core.a", inputs={"raw.b": "new"}, code_version="1", write=fail)
    assert lake.manifest("core.a") == old
    assert read(lake) == "one"
    assert list((tmp_path / ".staging").iterdir()) == []


def test_a_snapshot_left_without_manifest_is_replaced(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    left = tmp_path / "core" / "a" / version_of({"raw.b": "one"}, "1")
    left.mkdir(parents=True)
    (left / "part-0.parquet").write_text("of a dead build", encoding="utf-8")
    assert lake.manifest("core.a") is None
    publish(lake, "one")
    assert read(lake) == "one"


def test_bytes_published_before_stay_for_whoever_reads_them(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    first = publish(lake, "one")
    (path,) = lake.files(first)
    inode = path.stat().st_ino
    publish(lake, "two")
    publish(lake, "one")
    assert path.stat().st_ino == inode
    assert read(lake) == "one"


def publish_parts(lake: Lake, version: str, **parts: str) -> Manifest:
    def write(folder: Path) -> Written:
        for name, text in parts.items():
            (folder / name).mkdir()
            (folder / name / "part-0.parquet").write_text(text, encoding="utf-8")
        return Written(len(parts), (("x", "BIGINT"),))

    return lake.publish("core.a", inputs={"raw.b": version}, code_version="1", write=write)


def test_a_file_with_the_bytes_of_one_before_is_that_file(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    first = publish_parts(lake, "v1", a="one", b="two")
    assert first.n_kept_files == 0
    inodes = {path.read_text(): path.stat().st_ino for path in lake.files(first)}
    second = publish_parts(lake, "v2", a="one", b="changed", c="two")
    assert second.n_kept_files == 2
    for path in lake.files(second):
        text = path.read_text()
        assert (path.stat().st_ino == inodes.get(text)) == (text != "changed")
    lake.serve()
    assert lake.collect_garbage(older_than_s=-1) == [tmp_path / "core" / "a" / first.snapshot_id]
    assert [path.read_text() for path in lake.files(second)] == ["one", "changed", "two"]
    assert [path for path in tmp_path.rglob("*") if "aside" in path.name] == []


def test_a_file_damaged_since_is_not_gone_on_with(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    first = publish_parts(lake, "v1", a="one", b="two")
    lake.files(first)[0].write_text("0ne", encoding="utf-8")
    second = publish_parts(lake, "v2", a="one", b="two", c="three")
    assert [path.read_text() for path in lake.files(second)] == ["one", "two", "three"]


def test_a_file_system_without_links_holds_the_file_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    lake = Lake(tmp_path)
    publish_parts(lake, "v1", a="one")
    second = publish_parts(lake, "v2", a="one", b="two")
    assert second.n_kept_files == 1
    assert [path.read_text() for path in lake.files(second)] == ["one", "two"]


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    publish(lake, "one")
    path = tmp_path / "core" / "a" / "manifest.json"
    path.write_text(json.dumps({"table": "core.a"}), encoding="utf-8")
    with pytest.raises(LakeError, match=r"core/a/manifest\.json is not a manifest"):
        lake.manifest("core.a")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(LakeError, match=r"cannot write core\.a into the lake"):
        publish(Lake(tmp_path / "lake"), "one")


def test_a_lake_under_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(
        LakeError, match=r"cannot write the lock file into the lake .*Not a directory"
    ):
        publish(Lake(tmp_path / "file" / "lake"), "one")


def test_garbage_is_what_no_manifest_names_and_is_old_enough(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    old = publish(lake, "one")
    present = publish(lake, "two")
    assert lake.collect_garbage(older_than_s=3600) == []
    deleted = lake.collect_garbage(older_than_s=-1)
    assert deleted == [tmp_path / "core" / "a" / old.snapshot_id]
    assert lake.manifest("core.a") == present
    assert read(lake) == "two"


def test_unfinished_work_goes_when_its_table_is_published_or_nobody_wants_it(
    tmp_path: Path,
) -> None:
    lake = Lake(tmp_path)
    first = lake.unfinished_folder("core.a", inputs={"data": "one"}, code_version="1")
    assert first != lake.unfinished_folder("core.a", inputs={"data": "two"}, code_version="1")
    other = lake.unfinished_folder("core.b", inputs={}, code_version="1")
    for folder in (first, other):
        folder.mkdir(parents=True)
        (folder / "half").write_text("done")
    publish(lake, "one")
    assert not first.exists()
    assert lake.collect_garbage(older_than_s=3600) == []
    assert lake.collect_garbage(older_than_s=-1) == [other]


def _publish_forever(root: str, texts: tuple[str, str]) -> None:
    lake = Lake(Path(root))
    while True:
        for text in texts:
            publish(lake, text * 1000)


def test_readers_meet_whole_tables_while_two_processes_publish(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    publish(lake, "a" * 1000)
    context = multiprocessing.get_context("spawn")
    publishers = [
        context.Process(target=_publish_forever, args=(str(tmp_path), texts))
        for texts in (("a", "b"), ("c", "a"))
    ]
    for process in publishers:
        process.start()
    try:
        seen = set()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and len(seen) < 3:
            manifest = lake.manifest("core.a")
            assert manifest is not None
            text = lake.files(manifest)[0].read_text(encoding="utf-8")
            assert len(set(text)) == 1
            assert len(text) == 1000
            assert manifest.facts["said"] == text
            seen.add(text[0])
        assert seen == {"a", "b", "c"}
    finally:
        for process in publishers:
            process.kill()
            process.join()
    # Killed at any moment, the table is whole and the next publisher goes on.
    publish(lake, "z")
    assert read(lake) == "z"


def test_replace_text_leaves_no_file_of_its_own(tmp_path: Path) -> None:
    replace_text(tmp_path / "x", "1")
    replace_text(tmp_path / "x", "2")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_text(encoding="utf-8") == "2"


class TestReaders:
    """What readers see changes at once, at the end of a build, and only of one that succeeded."""

    def test_they_see_a_build_when_it_is_served(self, tmp_path: Path) -> None:
        lake = Lake(tmp_path)
        publish(lake, "one")
        before = lake.for_readers()
        with lake.building():
            publish(lake, "two")
            assert read(lake) == "two"
            assert read(lake.for_readers()) == "one"
            lake.serve()
        assert read(lake.for_readers()) == "two"
        # Who began to read before goes on with what was there.
        assert read(before) == "one"

    def test_a_build_that_fails_shows_nothing_and_goes_on_later(self, tmp_path: Path) -> None:
        lake = Lake(tmp_path)
        publish(lake, "one")
        with contextlib.suppress(RuntimeError), lake.building():
            publish(lake, "two")
            raise RuntimeError("the next step fails")
        assert read(lake.for_readers()) == "one"
        with lake.building():
            assert publish(lake, "two").facts == {"said": "two"}
            lake.serve()
        assert read(lake.for_readers()) == "two"

    def test_a_first_build_that_fails_shows_how_far_it_came(self, tmp_path: Path) -> None:
        lake = Lake(tmp_path)
        with contextlib.suppress(RuntimeError), lake.building():
            publish(lake, "one")
            assert lake.for_readers().tables() == []
            raise RuntimeError("the next step fails")
        assert read(lake.for_readers()) == "one"

    def test_their_view_cannot_be_written(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="what readers see"):
            publish(Lake(tmp_path).for_readers(), "one")

    def test_a_damaged_list_of_tables_is_named(self, tmp_path: Path) -> None:
        lake = Lake(tmp_path)
        publish(lake, "one")
        (tmp_path / SERVED).write_text("[]", encoding="utf-8")
        with pytest.raises(LakeError, match=r"lake\.json is not a list .*delete it"):
            lake.for_readers()


class TestOneBuildAtATime:
    def test_another_process_is_refused_or_waits(self, tmp_path: Path) -> None:
        context = multiprocessing.get_context("spawn")
        entered, ended = context.Event(), context.Event()
        other = context.Process(target=_build_until, args=(str(tmp_path), entered, ended))
        other.start()
        try:
            assert entered.wait(60)
            lake = Lake(tmp_path)
            said = rf"process {other.pid} on .* \(since 20.* is building .*qilin build --wait"
            with pytest.raises(LakeBusyError, match=said), lake.building():
                pass
            with pytest.raises(LakeBusyError, match=said):
                lake.collect_garbage(older_than_s=-1)
            ended.set()
            with lake.building(wait=True):
                assert read(lake) == "theirs"
        finally:
            other.kill()
            other.join()

    def test_the_lock_dies_with_its_process(self, tmp_path: Path) -> None:
        context = multiprocessing.get_context("spawn")
        entered, never = context.Event(), context.Event()
        other = context.Process(target=_build_until, args=(str(tmp_path), entered, never))
        other.start()
        assert entered.wait(60)
        other.kill()
        other.join()
        with Lake(tmp_path).building():
            pass

    def test_a_file_system_without_locks_is_named(self, tmp_path: Path, monkeypatch) -> None:
        def refuse(file, operation) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr("fcntl.flock", refuse)
        with pytest.raises(LakeError, match=r"cannot lock files \(No locks available\)"):
            publish(Lake(tmp_path), "one")


def _build_until(root: str, entered, ended) -> None:
    lake = Lake(Path(root))
    with lake.building():
        publish(lake, "theirs")
        entered.set()
        ended.wait(60)
        lake.serve()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_text("four", encoding="utf-8"), "has 4 bytes, not 3"),
        (lambda path: path.write_text("two", encoding="utf-8"), "other bytes than were written"),
        (lambda path: (path.parent / "x").write_text(""), "x belongs to no table"),
    ],
)
def test_verify_names_damage(tmp_path: Path, damage: Callable[[Path], object], said: str) -> None:
    lake = Lake(tmp_path)
    made = lake.publish(
        "reports.a", inputs={"raw.b": "1"}, code_version="1", write=page_writer("one")
    )
    assert lake.verify() == []
    damage(lake.files(made, ".html")[0])
    (fault,) = lake.verify()
    assert fault.startswith("reports.a: ")
    assert said in fault


def page_writer(text: str) -> Callable[[Path], Written]:
    def write(folder: Path) -> Written:
        (folder / "page.html").write_text(text, encoding="utf-8")
        return Written(0, (), {"said": text})

    return write


def test_verify_counts_rows_and_checks_names(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    rows = pa.table({"x": [1, 2, 3]})
    lake.publish("core.a", inputs={}, code_version="1", write=lambda f: write_rows(rows, f))
    assert lake.verify() == []
    path = tmp_path / "core" / "a" / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**manifest, "n_rows": 4}), encoding="utf-8")
    lake.serve()
    assert lake.verify() == ["core.a: has 3 rows, and 4 in its manifest"]
    path.write_text(json.dumps({**manifest, "code_version": "2"}), encoding="utf-8")
    lake.serve()
    assert "is not named by its inputs and its code" in lake.verify()[0]


def test_the_content_hash_knows_bytes_and_not_places(tmp_path: Path) -> None:
    lakes = [Lake(tmp_path / name) for name in "abc"]
    for lake, text in zip(lakes, ("one", "one", "two"), strict=True):
        publish(lake, text, inputs={"raw.b": "v1"})
        lake.publish("reports.a", inputs={}, code_version="1", write=page_writer(lake.root.name))
    hashes = [lake.for_readers().content_hash() for lake in lakes]
    assert hashes[0] == hashes[1] != hashes[2]


def test_garbage_is_counted_from_the_moment_it_was_replaced(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    old = tmp_path / "core" / "a" / publish(lake, "one").snapshot_id
    long_ago = time.time() - 86_400
    os.utime(old, (long_ago, long_ago))
    publish(lake, "two")
    # A reader may have opened it a second ago.
    assert lake.collect_garbage(older_than_s=3600) == []
    os.utime(old, (long_ago, long_ago))
    assert lake.collect_garbage(older_than_s=3600) == [old]


def test_what_readers_see_is_no_garbage(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    publish(lake, "one")
    with lake.building():
        publish(lake, "two")
        assert lake.collect_garbage(older_than_s=-1) == []
    assert read(lake.for_readers()) == "one"


def test_a_build_removes_what_dead_ones_left_and_nothing_of_the_living(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    publish(lake, "one")
    dead = subprocess.Popen(["true"])
    dead.wait()
    mine, node = lake.spill_folder(), os.uname().nodename
    elsewhere = tmp_path / SPILL / f"{dead.pid}.x.another-host"
    left = [
        tmp_path / STAGING / "core.a.x" / "part-0.parquet",
        tmp_path / SPILL / f"{dead.pid}.x.{node}" / "block",
        tmp_path / "core" / "a" / ".manifest.json.aside.x",
        tmp_path / ".lake.json.aside.x",
        tmp_path / ".catalog.duckdb.aside.x.wal",
    ]
    for path in (*left, mine / "block", elsewhere / "block"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("", encoding="utf-8")
    with lake.building():
        assert [path for path in left if path.exists()] == []
        assert not (tmp_path / SPILL / f"{dead.pid}.x.{node}").exists()
        assert mine.exists()
        assert elsewhere.exists()
    assert read(lake) == "one"


STEPS = ("mkdir", "rename", "replace", "fsync", "utime", "unlink", "rmdir")


def _publish_and_die(root: str, at: int) -> None:
    """Turn two tables to "two", killed just before the at-th change of the file system."""
    left = at

    def counted(step: Callable[..., object]) -> Callable[..., object]:
        def run(*arguments: object, **options: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(*arguments, **options)

        return run

    for step in STEPS:
        setattr(os, step, counted(getattr(os, step)))
    lake = Lake(Path(root))
    with lake.building():
        for table in ("core.a", "core.c"):
            lake.publish(table, inputs={"raw.b": "2"}, code_version="1", write=page_writer("two"))
        lake.serve()


def test_killed_before_any_change_of_the_file_system_the_lake_is_whole(tmp_path: Path) -> None:
    """Exhaustive where the killed builds of test_faults.py are random."""
    context = multiprocessing.get_context("fork")
    deaths = seen_old = 0
    while True:
        root = tmp_path / str(deaths)
        lake = Lake(root)
        with lake.building():
            for table in ("core.a", "core.c"):
                lake.publish(
                    table, inputs={"raw.b": "1"}, code_version="1", write=page_writer("one")
                )
        process = context.Process(target=_publish_and_die, args=(str(root), deaths))
        process.start()
        process.join()
        served = lake.for_readers()
        said = {served.manifest(table).facts["said"] for table in served.tables()}
        assert lake.verify() == []
        assert len(said) == 1
        seen_old += said == {"one"}
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        deaths += 1
        with lake.building():
            for table in ("core.a", "core.c"):
                lake.publish(
                    table, inputs={"raw.b": "2"}, code_version="1", write=page_writer("two")
                )
            lake.serve()
        assert {lake.for_readers().manifest(t).facts["said"] for t in lake.tables()} == {"two"}
        assert [*root.glob(f"{STAGING}/*"), *root.rglob(".*.aside.*")] == []
    assert said == {"two"}
    assert deaths > 20
    assert seen_old > 20
