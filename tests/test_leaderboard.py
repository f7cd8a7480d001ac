"""The leaderboard: anchors as they should be, candidates as the log has them."""

import numpy as np
import pytest

from models.metrics import ranking_metrics
from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.leaderboard import Candidates, ScoredRun, leaderboard, read_candidates
from tests.clicks import candidates


def values(table, mode: str = "full", metric: str = "mrr@10") -> dict[str, float]:
    return {
        row["run"]: row["value"]
        for row in table.to_pylist()
        if row["mode"] == mode and row["metric"] == metric
    }


def test_anchors_say_what_they_are() -> None:
    found = values(leaderboard("search", candidates(), []))
    assert found == {
        "random": pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4),
        "display_order": 1.0,
        "reverse_display_order": 0.25,
        # Constant here: in expectation a constant is chance.
        "popularity": pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4),
        "id_block_rule": 1.0,
        "oracle": 1.0,
    }


def test_a_model_stands_beside_the_anchors_with_its_interval() -> None:
    log = candidates(clicked_first=False)
    run = ScoredRun("m", log.qid, log.pid, -log.shown_rank.astype(float))
    table = leaderboard("search", log, [run])
    assert values(table)["m"] == values(table)["display_order"] == 0.25
    (row,) = [
        row
        for row in table.to_pylist()
        if (row["run"], row["mode"], row["metric"]) == ("m", "full", "mrr@10")
    ]
    assert (row["kind"], row["task"], row["n_requests"], row["n_missing"]) == (
        "model",
        "search",
        40,
        0,
    )
    assert row["low"] == row["high"] == 0.25


def test_a_run_that_lacks_requests_is_not_forgiven() -> None:
    log = candidates()
    half = log.qid < 20
    table = leaderboard(
        "search", log, [ScoredRun("half", log.qid[half], log.pid[half], np.zeros(80))]
    )
    assert values(table)["half"] == pytest.approx(values(table)["random"] / 2)
    assert {row["n_missing"] for row in table.to_pylist() if row["run"] == "half"} == {20}


def test_a_metric_that_is_undefined_is_null() -> None:
    log = candidates()
    everything = Candidates(
        qid=log.qid,
        pid=log.pid,
        shown_rank=log.shown_rank,
        is_clicked=np.ones(len(log.qid), dtype=bool),
        train_clicks=log.train_clicks,
        train_click_rate_of_range=log.train_click_rate_of_range,
        user_idx=log.user_idx,
    )
    assert values(leaderboard("search", everything, []), metric="auc")["random"] is None


def test_candidates_of_the_real_sample(real_engine: DuckDBEngine) -> None:
    found = read_candidates(real_engine.connect(), "search")
    assert len(found.qid) == 72 + 7 + 22 + 11 + 78
    assert found.is_clicked.sum() == 9 + 3 + 7 + 1 + 4
    assert sorted(set(found.qid.tolist())) == [0, 1, 2, 3, 4]
    # Display order by the evaluator's own code, from the published positions.
    shown = ranking_metrics(
        found.qid,
        found.pid,
        -found.shown_rank.astype(float),
        found.qid[found.is_clicked],
        found.pid[found.is_clicked],
    )
    # First clicks at shown ranks 1, 3, 1, 9 and, in the last, beyond 10.
    assert shown.means["mrr@10"] == pytest.approx((1 + 1 / 3 + 1 + 1 / 9 + 0) / 5)


def test_a_note_that_comes_back_is_one_candidate(tiny_engine: DuckDBEngine) -> None:
    connection = tiny_engine.connect()
    connection.execute(
        "create or replace view core.requests as select * replace ('recommendation_test' as "
        f"source_table) from read_parquet('{_part(tiny_engine, 'core.requests')}') "
        "where request_id = 1"
    )
    found = read_candidates(connection, "recommendation")
    assert dict(zip(found.pid.tolist(), found.is_clicked.tolist(), strict=True)) == {
        1: True,
        2: True,
    }
    assert dict(zip(found.pid.tolist(), found.shown_rank.tolist(), strict=True)) == {1: 1, 2: 3}


def _part(engine: DuckDBEngine, table: str) -> str:
    manifest = engine.lake.manifest(table)
    assert manifest is not None
    return str(engine.lake.files(manifest)[0])
