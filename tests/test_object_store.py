"""A pushed lake and what is pulled of it: the same tables, whole, and only what is new moves."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.errors import InputError
from qilin_dagster.lake import File, Lake, LakeError, Written
from qilin_dagster.object_store import OBJECTS, pull, push
from qilin_dagster.settings import Settings

URL = "memory://bucket/lake"


@pytest.fixture(autouse=True)
def store() -> Iterator[fsspec.AbstractFileSystem]:
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    yield filesystem
    filesystem.store.clear()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, tiny_engine: DuckDBEngine) -> DuckDBEngine:
    """A copy of the built lake that shows readers what it has."""
    lake = tmp_path_factory.mktemp("pushed") / "lake"
    shutil.copytree(tiny_engine.lake.root, lake)
    engine = DuckDBEngine(Lake(lake), Settings(data=None, lake=lake))
    engine.serve()
    return engine


def pulled(folder: Path) -> DuckDBEngine:
    lake = Lake(folder)
    engine = DuckDBEngine(lake, Settings(data=None, lake=folder))
    pull(URL, lake)
    return DuckDBEngine(lake.for_readers(), engine.settings)


def test_what_is_pulled_is_what_was_pushed(built: DuckDBEngine, tmp_path: Path) -> None:
    moved = push(built.lake, URL)
    assert moved.n_tables == len(built.lake.tables())
    assert moved.n_files > moved.n_tables / 2
    there = pulled(tmp_path / "there")
    assert there.lake.content_hash() == built.lake.content_hash()
    assert there.lake.verify() == []
    with there.connect() as theirs, built.connect() as ours:
        for relation in ("raw.search_train", "core.impressions", "bias.click_rate_by_position"):
            question = f"from {relation} order by all"
            assert str(theirs.execute(question).fetchall()) == str(
                ours.execute(question).fetchall()
            )
    # Published files came along: nothing reads where they lay.
    files = [file for t in there.lake.tables() for file in there.lake.files(there.lake.manifest(t))]
    assert files
    assert all(file.is_relative_to(tmp_path) for file in files)


def test_only_what_is_new_moves(built: DuckDBEngine, tmp_path: Path) -> None:
    assert push(built.lake, URL).n_files > 0
    assert push(built.lake, URL).n_files == 0
    pulled(tmp_path / "there")
    lake = Lake(tmp_path / "there")
    assert pull(URL, lake).n_files == 0
    # A file that lost its bytes is fetched again; the size alone would not show it.
    (some, *_) = lake.files(lake.manifest("core.requests"))
    some.write_bytes(b"x" * some.stat().st_size)
    assert pull(URL, lake, trusts=True).n_files == 0
    assert pull(URL, lake).n_files == 1
    assert lake.verify() == []


def test_readers_of_the_store_see_one_build_or_the_next(
    built: DuckDBEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A push that dies leaves what was there: objects are added, lake.json comes last."""
    pulled_first = (push(built.lake, URL), pulled(tmp_path / "first"))[1]
    other = Lake(tmp_path / "other")

    def write(folder: Path) -> Written:
        (folder / "part-0.parquet").write_bytes(b"other")
        return Written(0, ())

    other.publish("core.requests", inputs={}, code_version="1", write=write)
    filesystem = fsspec.filesystem("memory")
    put = type(filesystem).put_file

    def die(self: object, *paths: object, **options: object) -> None:
        put(self, *paths, **options)
        raise OSError("the line is dead")

    monkeypatch.setattr(type(filesystem), "put_file", die)
    with pytest.raises(LakeError, match="the line is dead"):
        push(other, URL)
    again = pulled(tmp_path / "again")
    assert again.lake.content_hash() == pulled_first.lake.content_hash()


def test_a_damaged_object_is_refused(
    built: DuckDBEngine, tmp_path: Path, store: fsspec.AbstractFileSystem
) -> None:
    push(built.lake, URL)
    some = next(path for path in store.find("/bucket/lake") if f"/{OBJECTS}/" in path)
    store.pipe_file(some, b"damaged")
    with pytest.raises(LakeError, match="is damaged"):
        pulled(tmp_path / "there")
    assert Lake(tmp_path / "there").tables() == []


def test_addresses_that_cannot_be_used_are_named(built: DuckDBEngine, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no lake at memory://nothing"):
        pull("memory://nothing", Lake(tmp_path))
    with pytest.raises(InputError, match="carrier-pigeon"):
        push(built.lake, "carrier-pigeon://roof")
    with pytest.raises(InputError, match="nothing to push"):
        push(Lake(tmp_path / "empty"), URL)


def test_a_list_that_leads_out_of_the_lake_is_refused(
    built: DuckDBEngine, tmp_path: Path, store: fsspec.AbstractFileSystem
) -> None:
    push(built.lake, URL)
    told = store.cat_file("/bucket/lake/lake.json").decode()
    for good, bad in (("core.requests", "core./requests"), ("part-0", "../../../part-0")):
        assert good in told
        store.pipe_file("/bucket/lake/lake.json", told.replace(good, bad).encode())
        with pytest.raises(InputError, match="names files outside of its lake"):
            pull(URL, Lake(tmp_path / "there"))
    store.pipe_file("/bucket/lake/lake.json", b'["a shopping list"]')
    with pytest.raises(InputError, match="is not that of a lake"):
        pull(URL, Lake(tmp_path / "there"))
    assert not (tmp_path / "there").exists()


def test_what_lay_outside_is_never_written(built: DuckDBEngine, tmp_path: Path) -> None:
    """Published files are taken where they lie, and left as they are when they have changed."""
    push(built.lake, URL)
    lake = Lake(tmp_path / "lake")
    shutil.copytree(built.lake.root, lake.root)
    data = tmp_path / "data.parquet"

    def write(folder: Path) -> Written:
        return Written(7, (), external_files=(File(str(data), *named),))

    (named,) = {
        (file.n_bytes, file.sha256)
        for file in lake.manifest("published.notes").files
        if Path(file.path).is_absolute()
    }
    data.write_bytes(b"y" * named[0])
    lake.publish("published.notes", inputs={}, code_version="1", write=write)
    pull(URL, lake)
    assert data.read_bytes() == b"y" * named[0]
    assert lake.verify() == []
