"""core.images: parts that are there, what is wrong with their files, and what is not done twice."""

import os
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from qilin_dagster import image_facts
from qilin_dagster.assets import images
from qilin_dagster.image_facts import described, fingerprints, registered_folder
from qilin_dagster.lake import Manifest
from qilin_dagster.resources import Lakehouse
from tests import published_log
from tests.conftest import build_views

Build = Callable[[], Manifest]


def paths_of(note_idx: int, n: int) -> list[str]:
    return [f"image/part_{note_idx % 2}/{note_idx}/{number}.jpg" for number in range(n)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six notes: two with two images in part 0, one with one in part 1, which is not there."""
    tables = published_log.tables()
    names = {0: paths_of(0, 2), 1: paths_of(1, 1), 2: paths_of(2, 2)}
    for note in tables["notes"]:
        note["image_path"] = names.get(note["note_idx"], [])
    data = published_log.write(tmp_path / "data", tables)
    for note in (0, 2):
        for number, path in enumerate(names[note]):
            (data / path).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8 + note, 6), (number * 90, note, 7)).save(data / path)
    return data


@pytest.fixture
def build(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    build_views(data, tmp_path / "lake")
    lakehouse = Lakehouse(data=str(data), lake=str(tmp_path / "lake"))
    monkeypatch.setattr("qilin_dagster.assets.tables.check_table", lambda engine, suite: [])

    def build() -> Manifest:
        images.images.op.compute_fn.decorated_fn(lakehouse=lakehouse)
        manifest = lakehouse.store.manifest("core.images")
        assert manifest is not None
        return manifest

    return build


def rows(manifest: Manifest, tmp_path: Path) -> list[dict]:
    folder = tmp_path / "lake" / "core" / "images" / manifest.snapshot_id
    return pl.read_parquet(folder / "part-0.parquet").sort("note_idx", "image_n").to_dicts()


def test_without_images_there_is_no_row_and_nobody_fails(tiny_engine, tmp_path: Path) -> None:
    folder = registered_folder(tiny_engine.lake)
    assert fingerprints(folder) == {}
    written = image_facts.build_images(
        tiny_engine.connect(), folder, {}, None, tmp_path, tmp_path / "left", 1
    )
    assert written.n_rows == 0
    assert written.facts["n_readable"] == 0
    assert [name for name, _ in written.columns][:3] == ["note_idx", "image_n", "path"]


def test_missing_corrupt_and_absent_images_are_counted_and_harmless(
    data: Path, build: Build, tmp_path: Path
) -> None:
    (data / paths_of(0, 2)[1]).write_bytes(b"not found")
    (data / paths_of(2, 2)[0]).unlink()
    manifest = build()
    found = rows(manifest, tmp_path)
    assert [(row["note_idx"], row["image_n"], row["is_readable"]) for row in found] == [
        (0, 1, True),
        (0, 2, False),
        (2, 1, False),
        (2, 2, True),
    ]
    assert (found[0]["width"], found[0]["height"]) == (8, 6)
    assert described(manifest) == (
        "2 of 5 named images can be read; 1 are in parts that are not there; "
        "1: file is not an image; 1: image is missing"
    )


def test_a_link_out_of_the_folder_and_a_bomb_are_refused(
    data: Path, build: Build, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.jpg"
    Image.new("RGB", (8, 8)).save(secret)
    first, second = (data / path for path in paths_of(0, 2))
    first.unlink()
    first.symlink_to(secret)
    Image.new("1", (9000, 9000)).save(second, format="PNG")
    reasons = [row["reason"] for row in rows(build(), tmp_path)][:2]
    assert reasons == ["image path leaves the folder by a link", "image has too many pixels"]


def test_what_has_not_changed_is_not_looked_into_again(
    data: Path, build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = build()
    looked: list[str] = []
    verify = image_facts.verify_images

    def noted(folder, paths, n_threads):
        paths = list(paths)
        looked.extend(path for _, _, path in paths)
        return verify(folder, paths, n_threads)

    monkeypatch.setattr(image_facts, "verify_images", noted)
    assert build() == before
    assert looked == []
    # The other part arrives: only its images are looked at.
    (path,) = paths_of(1, 1)
    (data / path).parent.mkdir(parents=True)
    Image.new("RGB", (5, 5)).save(data / path)
    after = build()
    assert looked == [path]
    assert after.facts["n_reused"] == 4
    assert after.facts["n_readable"] == 5
    # A file of the same size at another time is another file.
    changed = data / paths_of(0, 1)[0]
    Image.new("RGB", (8, 6), (1, 2, 3)).save(changed)
    os.utime(changed, (1, 1))
    looked.clear()
    build()
    assert sorted(looked) == sorted(paths_of(0, 2) + paths_of(2, 2))


def test_a_killed_verification_goes_on_where_it_stopped(
    data: Path, build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_facts, "IMAGES_AT_ONCE", 2)
    verify = image_facts.verify_images
    looked: list[str] = []

    def killed_at_the_third(folder, paths, n_threads):
        for facts in verify(folder, paths, n_threads):
            looked.append(facts.path)
            if len(looked) == 3:
                raise KeyboardInterrupt
            yield facts

    monkeypatch.setattr(image_facts, "verify_images", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        build()
    build()
    assert len(looked) == 5, "two were kept, the third is looked at twice"
