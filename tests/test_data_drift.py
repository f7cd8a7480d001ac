"""Drift of the data: said when it is there, in words, and not when chance explains it."""

from pathlib import Path

import duckdb
import pytest
from pyarrow import parquet

from qilin_dagster.data_drift import TABLE, publish_drift
from qilin_dagster.lake import Lake, Manifest

N = 10_000


class Log:
    """A log told by its numbers, and profiled each time it is new."""

    def __init__(self, root: Path) -> None:
        self.lake = Lake(root)
        self.n = 0

    def profile(
        self,
        rate: float = 0.2,
        third: float = 0.1,
        typed: float = 0.4,
        mean: float = 1.0,
        n: int = N,
    ) -> Manifest:
        self.n += 1
        connection = duckdb.connect()
        connection.execute(
            f"""
            create schema published; create schema core; create schema bias; create schema features;
            create table published.data_set as select 'data {self.n}' as fingerprint;
            create table core.requests as
            select 'search' as channel, 10 as n_impressions,
                case when range < {n} * {rate} then 10 else 0 end as n_clicks
            from range({n});
            create table bias.click_rate_by_position as
            select 'search' as channel, unnest([1, 3]) as position_bin, {n} as n_requests,
                unnest([0.5, {third}])::double as click_rate,
                unnest([0.5, {third}])::double - 0.01 as click_rate_low,
                unnest([0.5, {third}])::double + 0.01 as click_rate_high;
            create table bias.click_rate_by_query_source as
            select unnest(['typed', 'history']) as query_source_name,
                unnest([{typed}, 1 - {typed}])::double as request_share,
                unnest([{n} * {typed}, {n} * (1 - {typed})])::bigint as n_requests
            """
        )
        for task in ("search", "recommendation"):
            connection.execute(
                f"""
                create table features.{task}_ranking as
                select range as request_id, 'fit' as fold from range({n});
                create table features.{task}_statistics as
                select 'n_history' as feature, {mean}::double as mean, 2.0::double as deviation
                """
            )
        return publish_drift(self.lake, connection, {"core.requests": str(self.n)})

    def rows(self) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = parquet.read_table(
            self.lake.snapshot_folder(TABLE)
        ).to_pylist()
        return rows


def test_the_first_time_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    log = Log(tmp_path)
    assert log.profile().facts["moved"] == []
    rows = log.rows()
    assert {row["subject"] for row in rows} == {
        *("click rate", "position curve", "query source", "feature"),
    }
    assert all(row["previous_value"] is None and row["is_moved"] is False for row in rows)


def test_chance_moves_nothing(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.profile()
    assert log.profile(rate=0.205, third=0.11, typed=0.41, mean=1.1).facts["moved"] == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rate": 0.3}, ["the click rate in search went from 20.00% to 30.00%"]),
        ({"third": 0.2}, ["the click rate in search, position 3 went from 10.00% to 20.00%"]),
        (
            {"typed": 0.5},
            [
                "the share of searches from history went from 60.00% to 50.00%",
                "the share of searches from typed went from 40.00% to 50.00%",
            ],
        ),
        (
            {"mean": 1.5},
            [
                "the mean of search, n_history moved by +0.25 deviations",
                "the mean of recommendation, n_history moved by +0.25 deviations",
            ],
        ),
    ],
)
def test_what_moved_is_said_and_nothing_else(
    tmp_path: Path, change: dict[str, float], said: list[str]
) -> None:
    log = Log(tmp_path)
    log.profile()
    assert log.profile(**change).facts["moved"] == said
    assert [row["moved"] for row in log.rows() if row["is_moved"]] == said


def test_a_few_requests_move_nothing(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.profile(n=10)
    assert log.profile(rate=0.3, typed=0.5, n=10).facts["moved"] == []


def test_the_same_data_is_profiled_once_and_the_history_is_kept(tmp_path: Path) -> None:
    log = Log(tmp_path)
    first = log.profile()
    log.n -= 1
    assert log.profile() == first
    log.profile(rate=0.3)
    log.profile(rate=0.3)
    rows = log.rows()
    assert sorted({row["profile_n"] for row in rows}) == [1, 2, 3]
    assert [row["profile_n"] for row in rows if row["is_moved"]] == [2]
    assert {row["data_fingerprint"] for row in rows} == {"data 1", "data 2", "data 3"}
