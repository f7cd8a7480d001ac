"""Large tables in files by source table and day: what is opened, what a new day leaves alone."""

import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import fsspec
import pyarrow.parquet as pq
import pytest

from qilin_dagster.engines import partitions
from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.lake import Lake, Manifest
from qilin_dagster.object_store import pull, push
from qilin_dagster.settings import Settings
from qilin_dagster.sources.published import inspect
from qilin_dagster.sources.register import register_all
from qilin_dagster.sources.twin import write_twin
from qilin_dagster.sources.twin.days import add_day
from tests import published_log
from tests.conftest import Given
from tests.published_log import note, page, search, user

KEYS = ("source_table", "day")
DAY = date(2024, 11, 27)
NEXT = date(2024, 11, 28)
LAID_OUT = ("core.impressions", "core.requests")
URL = "memory://bucket/days"


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "LEAST_ROWS", 10)


@pytest.mark.usefixtures("small_parts")
def test_what_is_small_stays_with_its_like() -> None:
    counted = {
        ("a", DAY): 10,
        ("a", NEXT): 9,
        ("a", None): 30,  # Without a day there is no day's file, however many they are.
        ("b", DAY): 12,
        ("b", NEXT): 3,
        ("c", DAY): 6,
        ("c", NEXT): 4,
        ("d", DAY): 2,
    }
    assert partitions.layout(counted) == {
        ("a", DAY): 10,
        ("b", DAY): 12,
        ("a",): 39,
        ("c",): 10,
        (): 5,
    }
    assert partitions.layout({("a", DAY): 10}) == {("a", DAY): 10}
    assert partitions.layout({("a", DAY): 5, ("b", DAY): 4}) == {(): 9}
    assert partitions.layout({}) == {(): 0}


@pytest.mark.usefixtures("small_parts")
def test_every_row_is_in_one_part_and_a_filter_finds_it(tmp_path: Path) -> None:
    """Nulls of both columns included, and values that are no name of a folder."""
    connection = duckdb.connect()
    connection.execute(
        "create table t as select i as n, "
        "[null, 'a', 'b/c=d', 'e', 'f'][1 + i % 5] as source_table, "
        "case when i % 7 > 0 and i % 5 < 4 then date '2024-11-27' + (i % 7 // 3)::int end as day "
        "from range(200) r(i) where i % 5 < 4 or i < 40"
    )
    connection.execute(f"copy t to '{tmp_path / 'rows.parquet'}' (format parquet)")
    folder = tmp_path / "k=v" / "snapshot"
    partitions.split(connection, tmp_path / "rows.parquet", KEYS, folder, "format parquet")
    files = sorted(folder.rglob("*.parquet"))
    # Two days and the rest of two tables, and one file for all else.
    assert len(files) == 7
    types = {"n": "BIGINT", "source_table": "VARCHAR", "day": "DATE"}
    sizes = {file: file.stat().st_size for file in files}
    select = partitions.read(sizes, tmp_path / "k=v", types, n_rows=168)
    connection.execute(f"create view laid_out as {select}")
    assert connection.sql("select * from laid_out").columns == [*types]
    for where in (
        "true",
        "day is null",
        "source_table is null",
        "source_table = 'f'",
        "day = '2024-11-28' and source_table like 'b/%'",
        "day > '2024-11-27' or n < 20",
    ):
        laid_out, expected = (
            connection.sql(f"from {table} where {where} order by n").fetchall()
            for table in ("laid_out", "t")
        )
        assert laid_out == expected, where


def test_a_part_has_the_same_bytes_wherever_its_rows_stood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row groups, too: they do not end where those of the other rows did."""
    monkeypatch.setattr(partitions, "LEAST_ROWS", 10_000)
    connection = duckdb.connect()
    options = "format parquet, row_group_size 10240"
    hashes = []
    for number, (others, threads) in enumerate([(0, 1), (777, 1), (5_001, 3)]):
        connection.execute(f"set threads = {threads}")
        connection.execute(
            f"copy (select 'a' as source_table, date '{DAY}' as day, i % 11 as x, i as n "
            f"from range({others}) r(i) union all "
            f"select 'b', date '{DAY}' + (i % 4 // 3)::int, i % 7, i from range(40000) r(i)) "
            f"to '{tmp_path / 'rows.parquet'}' (format parquet, row_group_size 4096)"
        )
        folder = tmp_path / str(number)
        partitions.split(connection, tmp_path / "rows.parquet", KEYS, folder, options)
        files = [folder / f"source_table=b/day={day}/part-0.parquet" for day in (DAY, NEXT)]
        hashes.append([file.read_bytes() for file in files])
        ((n_groups,),) = connection.execute(
            f"select count(distinct row_group_id) from parquet_metadata('{files[0]}')"
        ).fetchall()
        assert n_groups == 3
    assert hashes[0] == hashes[1] == hashes[2]


@dataclass(frozen=True)
class Days:
    """A lake of two days to which a third was appended, and one of the three days from scratch."""

    appended: DuckDBEngine
    at_once: DuckDBEngine
    before: dict[str, Manifest]
    n_pushed: tuple[int, int]
    n_pulled: tuple[int, int]


def build_core(data: Path, lake: Path, threads: int) -> DuckDBEngine:
    """Both laid-out tables and what they are made from."""
    engine = DuckDBEngine(Lake(lake), Settings(data=data, lake=lake, threads=threads))
    with engine.lake.building():
        register_all(engine.lake, inspect(data), "auto")
        with engine.connect() as connection:
            for view in engine.catalog.views:
                engine.build(connection, view)
                if view.qualified == LAID_OUT[-1]:
                    break
        engine.serve()
    return engine


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Days]:
    folder = tmp_path_factory.mktemp("days")
    data = folder / "data"
    write_twin(data, scale=0.003, seed=7)
    store = fsspec.filesystem("memory")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partitions, "LEAST_ROWS", 60)
        there = Lake(folder / "there")
        add_day(data, 1)
        engine = build_core(data, folder / "lake", threads=2)
        before = {table: present(engine, table) for table in LAID_OUT}
        pushed, pulled = [push(engine.lake, URL)], [pull(URL, there)]
        add_day(data, 2)
        engine = build_core(data, folder / "lake", threads=2)
        pushed.append(push(engine.lake, URL))
        pulled.append(pull(URL, there))
        at_once = build_core(data, folder / "at_once", threads=1)
        yield Days(
            appended=engine,
            at_once=at_once,
            before=before,
            n_pushed=(pushed[0].n_files, pushed[1].n_files),
            n_pulled=(pulled[0].n_files, pulled[1].n_files),
        )
    store.store.clear()


def present(engine: DuckDBEngine, table: str) -> Manifest:
    manifest = engine.lake.manifest(table)
    assert manifest is not None
    return manifest


def test_a_day_appended_gives_what_a_build_from_scratch_gives(days: Days) -> None:
    """Byte for byte, with another number of threads."""
    for table in LAID_OUT:
        appended, at_once = present(days.appended, table), present(days.at_once, table)
        assert appended.files == at_once.files
        assert appended.n_rows == at_once.n_rows > days.before[table].n_rows
    assert days.appended.lake.content_hash() == days.at_once.lake.content_hash()
    assert days.appended.lake.verify() == []


def test_files_of_days_that_did_not_change_are_those_of_the_snapshot_before(days: Days) -> None:
    for table, before in days.before.items():
        folder = days.appended.lake.table_folder(table)
        after = present(days.appended, table)
        old = {(folder / file.path).stat().st_ino: file.sha256 for file in before.files}
        kept = [file for file in after.files if (folder / file.path).stat().st_ino in old]
        assert {file.sha256 for file in kept} <= set(old.values())
        assert after.n_kept_files == len(kept)
        # A search of the third day may begin on an earlier one. No page of the feed does.
        names = {file.path.partition("/")[2] for file in kept}
        for day in (DAY, NEXT):
            assert f"source_table=recommendation_train/day={day}/part-0.parquet" in names
        new = {file.path.partition("/")[2] for file in after.files} - names
        assert "source_table=search_train/day=2024-11-29/part-0.parquet" in new


def test_requests_stand_as_they_were_published(days: Days) -> None:
    """Whatever DuckDB thinks of the sizes of what it joins: else a day would move the others."""
    manifest = present(days.appended, "core.requests")
    for file in days.appended.lake.files(manifest):
        rows = pq.read_table(file, columns=["source_table", "row_number"], partitioning=None)
        places = list(zip(*(rows[name].to_pylist() for name in rows.column_names), strict=True))
        assert places == sorted(places)


def test_push_and_pull_move_only_what_is_new(days: Days) -> None:
    manifests = {table: present(days.appended, table) for table in days.appended.lake.tables()}
    n_files = sum(len(manifest.files) for manifest in manifests.values())
    n_kept = sum(present(days.appended, table).n_kept_files for table in LAID_OUT)
    assert n_kept > 10
    for first, second in (days.n_pushed, days.n_pulled):
        assert first > second > 0
        assert second <= n_files - n_kept


def test_former_snapshots_are_collected_and_the_files_stay(days: Days, tmp_path: Path) -> None:
    shutil.copytree(days.appended.lake.root, tmp_path / "lake", copy_function=shutil.copy2)
    lake = Lake(tmp_path / "lake")
    deleted = lake.collect_garbage(older_than_s=-1)
    former = {lake.table_folder(t) / m.snapshot_id for t, m in days.before.items()}
    assert former <= set(deleted)
    assert lake.verify() == []


@pytest.mark.parametrize(
    ("where", "n_opened"),
    [
        ("source_table = 'recommendation_train' and day = date '2024-11-28'", 1),
        ("source_table like 'rec%' and day in ('2024-11-28', '2024-11-29')", 4),
        ("source_table = 'recommendation_train' and day >= date '2024-11-28'", 2),
        ("day = '2024-11-29'", 5),
    ],
)
def test_a_filter_opens_its_files_alone(days: Days, where: str, n_opened: int) -> None:
    with days.appended.connect(["core.impressions"]) as connection:
        plan = connection.execute(
            f"explain analyze select count(distinct note_idx) from core.impressions where {where}"
        ).fetchall()[0][1]
        opened = sum(map(int, re.findall(r"Total Files Read: (\d+)", plan)))
        # What is too small for a day's file is one more, where the filter may find something in it.
        assert n_opened <= opened <= n_opened + 2
        assert len(present(days.appended, "core.impressions").files) > 2 * (n_opened + 2)
        by_files, by_time = connection.execute(
            f"select count(*) filter (where {where}), count(*) filter (where {where} "
            "and day = (select cast(min(o.exposed_at) + interval 8 hours as date) "
            "from core.impressions as o where o.request_id = i.request_id)) "
            "from core.impressions as i"
        ).fetchall()[0]
        assert by_files == by_time > 100


def test_a_day_is_that_of_the_start(days: Days) -> None:
    with days.appended.connect(LAID_OUT) as connection:
        ((n_other, n_all),) = connection.execute(
            "select count(*) filter (where day is distinct from "
            "cast(started_at + interval 8 hours as date)), count(*) from core.requests"
        ).fetchall()
        assert n_all > 1000
        assert n_other == 0
        ((n_other,),) = connection.execute(
            "select count(*) from core.impressions as i "
            "inner join core.requests as r on i.request_id = r.request_id "
            "where i.day is distinct from r.day"
        ).fetchall()
        assert n_other == 0


def test_a_day_begins_at_midnight_in_china_and_is_null_without_a_time(given: Given) -> None:
    """Noon UTC and four hours are midnight there; of two times the earlier one counts."""
    log = published_log.quiet()
    lists = {
        1: [("x", 4 * 3600 - 1)],
        2: [("x", 4 * 3600)],
        3: [(".", 4 * 3600), ("x", 60)],
        4: [("x.", math.nan)],
        5: [("x", math.nan), (".", 4 * 3600)],
    }
    log["search_train"] = [
        search(
            "search_train", n, n, [e for p, at_s in pages for e in page("search_train", p, at_s)]
        )
        for n, pages in lists.items()
    ]
    log["user_feat"] = [user(n) for n in lists]
    log["notes"] = [note(100), note(101)]
    connection = given(log, *LAID_OUT)
    expected = [(2, DAY), (4, NEXT), (6, DAY), (8, None), (10, NEXT)]
    for table in LAID_OUT:
        found = connection.execute(f"select distinct request_id, day from {table} order by 1")
        assert found.fetchall() == expected, table
