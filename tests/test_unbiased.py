"""Runs judged without the position: what each judge sees, and what it is blind to."""

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qilin_dagster.leaderboard import Candidates, ScoredRun, scores_of
from qilin_dagster.unbiased import twin_truth, unbiased

N, LENGTH = 400, 5
EXAMINATION = 1 / np.arange(1, LENGTH + 1)


def world(tmp_path: Path) -> tuple[duckdb.DuckDBPyConnection, Candidates, np.ndarray, Path]:
    """Lists in random order, clicked by attraction and place; and the truth beside them."""
    draw = np.random.default_rng(0)
    attraction = draw.uniform(0.05, 0.9, (N, LENGTH))
    clicked = draw.random((N, LENGTH)) < attraction * EXAMINATION
    clicked[~clicked.any(axis=1), 0] = True
    qid = np.repeat(np.arange(N), LENGTH)
    shown = np.tile(np.arange(1, LENGTH + 1), N)
    pid = draw.permutation(N * LENGTH) % 900
    keep = np.unique(qid * 1000 + pid, return_index=True)[1]
    candidates = Candidates(
        *(array[keep] for array in (qid, pid, shown, clicked.ravel())),
        train_clicks=np.zeros(len(keep)),
        train_click_rate_of_range=np.zeros(len(keep)),
        user_idx=qid[keep] // 2,
    )
    table = pa.table(
        {
            "source_table": ["search_test"] * len(keep),
            "row_number": candidates.qid,
            "note_idx": candidates.pid,
            "attraction": attraction.ravel()[keep],
        }
    )
    (tmp_path / "truth").mkdir()
    pq.write_table(table, tmp_path / "truth" / "impressions.parquet")
    connection = duckdb.connect()
    connection.execute("create schema core; create schema propensity")
    rows = pa.table(
        {
            "request_id": candidates.qid,
            "note_idx": candidates.pid,
            "position": candidates.shown_rank,
        }
    )
    connection.register("rows", rows)
    connection.execute("create table core.impressions as from rows")
    connection.execute(
        "create table core.requests as select distinct request_id, request_id as row_number, "
        "'search_test' as source_table from rows"
    )
    connection.execute(
        "create table propensity.by_position as select 'search' as channel, 'all pages' as "
        "surface, 'mixed position-based' as estimator, k as position_from, 1 / k as estimate, "
        "100 as n_impressions, 30 as n_clicks from range(1, 6) as t(k)"
    )
    return connection, candidates, attraction.ravel()[keep], tmp_path


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str, str], dict]:
    connection, candidates, attraction, folder = world(tmp_path_factory.mktemp("world"))
    runs = [
        ScoredRun("knows_notes", candidates.qid, candidates.pid, attraction),
        ScoredRun("knows_places", candidates.qid, candidates.pid, 1 / candidates.shown_rank),
    ]
    (folder / "twin.json").write_text("{}", encoding="utf-8")
    table = unbiased(connection, "search", candidates, runs, twin_truth(folder))
    return {(row["judged_by"], row["metric"], row["run"]): row for row in table.to_pylist()}


def test_who_knows_places_wins_on_raw_clicks_and_loses_on_all_others(judged: dict) -> None:
    def gain(judge: str, metric: str) -> float:
        one, other = (judged[judge, metric, run] for run in ("knows_notes", "knows_places"))
        return one["value"] - other["value"]

    assert gain("raw", "dcg@10") < 0
    for judge, metric in (
        ("ips", "dcg@10"),
        ("snips", "dcg@10"),
        ("adjacent_pairs", "pair_accuracy"),
        ("attraction", "ndcg@10"),
    ):
        assert gain(judge, metric) > 0, judge
    assert judged["attraction", "ndcg@10", "knows_notes"]["value"] == 1.0


def test_the_shown_order_gets_one_half_of_its_neighbours(judged: dict) -> None:
    for run in ("display_order", "reverse_display_order", "random", "knows_places"):
        row = judged["adjacent_pairs", "pair_accuracy", run]
        assert row["value"] == row["low"] == row["high"] == 0.5
    assert judged["adjacent_pairs", "pair_accuracy", "knows_notes"]["low"] > 0.55


def test_weights_state_what_they_cost(judged: dict) -> None:
    row = judged["snips", "dcg@10", "knows_notes"]
    assert row["low"] < row["value"] < row["high"]
    assert 0 < row["n_effective"] < row["n_judged"]
    assert row["clip"] == 0.1
    assert row["clipped_share"] == 0.0
    assert judged["raw", "dcg@10", "knows_notes"]["n_effective"] is None
    # On the scale of raw: with equal weights they would be the same.
    assert row["value"] == pytest.approx(judged["raw", "dcg@10", "knows_notes"]["value"], rel=0.2)


def test_without_a_curve_and_truth_only_what_needs_neither_is_judged(tmp_path: Path) -> None:
    connection, candidates, _, folder = world(tmp_path)
    assert twin_truth(folder) is None, "no twin.json: whatever lies in truth/ is not read"
    connection.execute("delete from propensity.by_position")
    table = unbiased(connection, "search", candidates, [], None)
    assert set(table["judged_by"].to_pylist()) == {"raw", "adjacent_pairs", "moved_notes"}
    few = ScoredRun("few", candidates.qid[:3], candidates.pid[:3], np.ones(3))
    with pytest.raises(ValueError, match="few lacks"):
        scores_of(few, candidates)
