"""Snapshots and manifests: what a reader may rely on."""

import json
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from qilin_dagster.lake import File, Lake, LakeError, Manifest, Written, replace_text, version_of


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
