"""Lists come from core tables as the reader saw them; the page says what they cannot tell."""

from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest

from qilin_dagster import propensities
from qilin_dagster.click_sessions import lists_of_ranks, read_lists
from qilin_dagster.report_positions import draw_files, main


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
    rows = propensities.Estimates([], [], [], [])
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
