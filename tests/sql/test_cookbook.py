"""Every query of the cookbook runs where its user would run it, and some are worked out by hand."""

import io
import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from qilin_dagster.assets.views import SUITES
from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.expectations import ExpectationResult
from qilin_dagster.outcomes import Checked, record
from qilin_dagster.query import open_sandbox, run_query, write_rows
from qilin_dagster.settings import SQL_ROOT

FILES = sorted((SQL_ROOT / "cookbook").glob("*.sql"))


@pytest.fixture(scope="module")
def sandbox(tiny_engine: DuckDBEngine) -> duckdb.DuckDBPyConnection:
    failed = ExpectationResult(
        "positions_are_not_negative", False, "critical", "A sentinel.", 15, 1, 6.7, None,
        ({"position": -1},), None, None, {},
    )  # fmt: skip
    record(tiny_engine.lake, [Checked(SUITES["core.impressions"], None, [failed])])
    return open_sandbox(tiny_engine.lake, tiny_engine.settings, comments=True)


def ask(sandbox: duckdb.DuckDBPyConnection, name: str) -> list[dict[str, Any]]:
    out = io.StringIO()
    text = (SQL_ROOT / "cookbook" / f"{name}.sql").read_text(encoding="utf-8")
    write_rows(run_query(sandbox, text), "json", out)
    rows: list[dict[str, Any]] = json.loads(out.getvalue())
    return rows


def test_there_are_enough_to_start_from() -> None:
    assert len(FILES) >= 20


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_it_runs_and_begins_with_its_question(
    path: Path, sandbox: duckdb.DuckDBPyConnection
) -> None:
    assert path.read_text(encoding="utf-8").splitlines()[0].partition("?")[1] == "?"
    assert ask(sandbox, path.stem), "a query that finds nothing in a log with every quirk"


def test_by_hand(sandbox: duckdb.DuckDBPyConnection) -> None:
    without = {
        row["source_table"]: row["n_without_click"]
        for row in ask(sandbox, "requests_without_click")
    }
    assert without == {
        "dqa": 1, "recommendation_test": 0, "recommendation_train": 0, "search_test": 0,
        "search_train": 0,
    }  # fmt: skip
    # Feed 0 shows note 1 twice; the second showing is clicked.
    assert [
        (row["n_impressions"], row["click_rate"])
        for row in ask(sandbox, "repeated_impressions")
        if row["is_repeat"]
    ] == [(1, 1.0)]
    # Search 10 has places 1, 2 and 5: two of five missing. Five searches in all.
    (feed, search) = ask(sandbox, "position_gaps")
    assert (search["n_requests"], search["share_with_gap"]) == (5, 1 / 5)
    assert search["mean_share_missing"] == pytest.approx(0.4 / 5)
    # Feed 1 shows places 15 and 17, of three.
    assert feed["mean_share_missing"] == pytest.approx((1 / 3) / 2)
    # Requests begin at noon UTC or shortly after, or at 14:00: 20:00 and 22:00 in China.
    assert [
        (row["channel"], row["hour_in_china"], row["n_requests"])
        for row in ask(sandbox, "click_rate_by_hour")
    ] == [
        ("recommendation", 20, 1),
        ("recommendation", 22, 1),
        ("search", 20, 4),
        ("search", 22, 1),
    ]
    # Of the clicked test notes, 5 was shown in search before, 3 never in the feed.
    assert {row["channel"]: row["cold_share"] for row in ask(sandbox, "cold_notes")} == {
        "recommendation": 1.0,
        "search": 0.0,
    }
    # Note 2 of search 10 stands between its two clicks, and place 0 of search 11 above its one.
    skips = {row["channel"]: row for row in ask(sandbox, "skip_above")}
    assert skips["search"]["n_above"] == 3 + 2 + 2 + 1
    assert skips["search"]["skipped_per_request"] == pytest.approx(3 / 4)
