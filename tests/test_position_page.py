"""Lists come from core tables as the reader saw them; the page says what they cannot tell."""

import shutil
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from models.click_models.curve import Curve
from qilin_dagster import propensities
from qilin_dagster.assets import reports
from qilin_dagster.click_sessions import ALL, PLACES, RECOMMENDED, lists_of_ranks, read_lists
from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.lake import write_rows
from qilin_dagster.report_positions import draw_files, main
from qilin_dagster.resources import Lakehouse


def test_lists_of_the_real_log_are_read_whole(real: duckdb.DuckDBPyConnection) -> None:
    for channel in ("search", "recommendation"):
        lists = read_lists(real, channel)
        requests, rows, clicks = real.execute(
            "select count(distinct request_id), count(*), count(*) filter (where is_clicked) "
            "from core.impressions where channel = $1",
            [channel],
        ).fetchall()[0]
        left_out = sum(lists.n_left_out.values())
        assert lists.sessions.n_requests + left_out == requests
        assert len(lists.note) <= rows
        assert lists.sessions.is_clicked.sum() <= clicks
        if left_out == 0:
            assert (len(lists.note), lists.sessions.is_clicked.sum()) == (rows, clicks)


def test_requests_whose_places_the_reader_did_not_see_are_left_out(
    tiny: duckdb.DuckDBPyConnection,
) -> None:
    lists = read_lists(tiny, "search")
    (n,) = tiny.execute(
        "select count(*) from (select request_id from core.impressions where channel = 'search' "
        'group by 1 having bool_or(is_repeat) or count(*) > count(distinct "position"))'
    ).fetchall()[0]
    assert sum(lists.n_left_out.values()) == n
    rank = lists.sessions.rank
    assert (np.diff(lists.sessions.place)[np.diff(rank) > 0] >= 0).all()


def test_too_few_requests_give_a_sentence_and_no_curve() -> None:
    table = pl.DataFrame({"qid": [0, 0, 1], "shown_rank": [1, 2, 1], "pid": [5, 6, 7]})
    lists = lists_of_ranks(table.with_columns(click=pl.Series([1, 0, 1])))
    rows = propensities.Estimates.none()
    propensities.estimate_channel("search", lists, 0, rows, lambda _: None)
    assert rows.by_position == []
    assert "needs 200 or more" in rows.click_models[0]["caveat"]


@pytest.mark.slow
def test_the_page_of_the_real_lists_states_its_caveats(real_data: Path, tmp_path: Path) -> None:
    files = real_data / "real_search"
    draw_files(files / "vlm_run_first500.csv", files / "qrels_first500.csv", tmp_path / "page")
    text = (tmp_path / "page" / "report.md").read_text(encoding="utf-8")
    assert "500 requests and nothing else" in text
    assert "Nobody logged what was looked at" in text
    assert "position 3 beside its neighbours" in text
    assert "No curve by harvesting" in text
    assert "In search a note at position 10 is examined" in text


def test_a_run_without_ranks_is_refused_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, qrels = tmp_path / "run.csv", tmp_path / "qrels.csv"
    run.write_text("qid,pid,score\n0,1,0.5\n", encoding="utf-8")
    qrels.write_text("qid,pid\n0,1\n", encoding="utf-8")
    assert main([str(run), str(qrels), str(tmp_path / "out")]) == 2
    assert "no column shown_rank" in capsys.readouterr().err
    assert main([str(run)]) == 2


def test_the_page_of_a_lake_is_published_by_its_asset(
    tiny_data: Path, tiny_engine: DuckDBEngine, tmp_path: Path
) -> None:
    shutil.copytree(tiny_engine.lake.root, tmp_path / "lake")
    lakehouse = Lakehouse(data=str(tiny_data), lake=str(tmp_path / "lake"))
    rows = {name: [] for name in ("by_position", *propensities.BESIDE)}
    rows["by_position"] = [
        {"channel": "search", "surface": ALL, "estimator": estimator, "position_from": place}
        | {"position_to": place, "estimate": 1 - (place - 1) / 20, "lower": 0.5, "upper": 1.0}
        | {"n_impressions": 100, "n_clicks": 20}
        for estimator in (RECOMMENDED, "click rate")
        for place in range(1, 12)
    ]
    rows["trust"] = [
        {"channel": "search", "position_from": place, "position_to": place, "n_requests": 100}
        | {"trust": 0.3 / place, "lower": 0.3 / place - 0.1, "upper": 0.3 / place + 0.1}
        for place in range(1, 11)
    ]
    schemas = {"by_position": propensities.BY_POSITION, **propensities.BESIDE}
    for name, schema in schemas.items():
        table = pa.Table.from_pylist(rows[name], schema=schema)
        lakehouse.store.publish(
            f"propensity.{name}",
            inputs={},
            code_version="1",
            write=lambda folder, table=table: write_rows(table, folder),
        )
    make = reports.position_bias.op.compute_fn.decorated_fn
    made = make(lakehouse=lakehouse)
    folder = lakehouse.store.snapshot_folder("reports.position_bias")
    assert made.metadata["report"].value == str(folder / "report.html")
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert "In search a note at position 10 is examined 55% as often" in text
    assert "Told apart from none at: Search 1, Search 2." in text
    assert "<html" in (folder / "report.html").read_text(encoding="utf-8")
    again = make(lakehouse=lakehouse)
    assert again.data_version == made.data_version, "nothing has changed"


def test_a_place_without_a_click_has_no_estimate_to_divide_by() -> None:
    nothing = np.full(len(PLACES), np.nan)
    estimate = np.full(len(PLACES), 0.5)
    estimate[3], estimate[4] = 0.0, 1e-9
    draw = np.random.default_rng(0)
    table = pl.DataFrame(
        {"qid": np.repeat(np.arange(40), 6), "shown_rank": np.tile(np.arange(1, 7), 40)}
    ).with_columns(pid=pl.int_range(240), click=pl.Series(draw.integers(0, 2, 240)))
    sessions = lists_of_ranks(table).sessions
    curve = Curve(estimate, nothing, nothing, nothing)
    rows = propensities._curve("search", ALL, "any", sessions, curve)
    assert [row["estimate"] for row in rows if row["position_from"] in (2, 3, 4, 5)] == [
        *(0.5, None, None, 0.5)
    ]
