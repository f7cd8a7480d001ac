"""Cold start: which clicks are cold, what they are worth, and ids that a share of train lacks."""

import duckdb
import numpy as np
import pytest

from models.ranking_data import RankingData
from qilin_dagster.cold_start import _met, _only_known, cold_start, read_clicks
from qilin_dagster.leaderboard import Candidates, ScoredRun


@pytest.fixture
def connection() -> duckdb.DuckDBPyConnection:
    found = duckdb.connect()
    found.execute(
        """
        create schema core;
        create table core.requests as from (values
            (1, 'search_train', 0, 10), (2, 'search_test', 0, 10), (3, 'search_test', 1, 11)
        ) as t(request_id, source_table, row_number, user_idx);
        create table core.impressions as
        select r.request_id, r.source_table, n as note_idx, n in (3, 5) as is_clicked
        from core.requests as r, (values (1, 3), (1, 3), (1, 4), (2, 3), (2, 5), (3, 5), (3, 6))
            as i(request_id, n) where i.request_id = r.request_id;
        create table core.notes as from (values (3, 1), (4, 1), (5, 2), (6, 2))
            as t(note_idx, note_type);
        """
    )
    return found


CANDIDATES = Candidates(
    qid=np.array([0, 0, 1, 1]),
    pid=np.array([5, 3, 5, 6]),
    shown_rank=np.array([2, 1, 1, 2]),
    is_clicked=np.array([True, True, True, False]),
    train_clicks=np.zeros(4),
    train_click_rate_of_range=np.zeros(4),
    user_idx=np.array([10, 10, 11, 11]),
)


def test_clicks_are_cold_by_what_train_showed(connection: duckdb.DuckDBPyConnection) -> None:
    clicks = read_clicks(connection, "search", CANDIDATES)
    assert clicks.row.tolist() == [1, 0, 2]
    inside = {key: np.flatnonzero(mask).tolist() for key, mask in clicks.slices.items()}
    assert inside == {
        ("all", "all"): [0, 1, 2],
        ("clicked note", "never shown in train"): [1, 2],
        ("clicked note", "shown 1 to 4 times"): [0],
        ("form", "image-text"): [0],
        ("form", "video"): [1, 2],
        ("clicked note and form", "shown, image-text"): [0],
        ("clicked note and form", "never shown, video"): [1, 2],
        ("user", "met in train"): [0, 1],
        ("user", "not met in train"): [2],
    }


def test_a_click_is_worth_its_rank(connection: duckdb.DuckDBPyConnection) -> None:
    run = ScoredRun("run", CANDIDATES.qid, CANDIDATES.pid, np.array([0.0, 1.0, 5.0, 4.0]))
    rows = {
        (row["run"], row["slice"], row["slice_value"]): row
        for row in cold_start(connection, "search", CANDIDATES, [run]).to_pylist()
    }
    second = 1 / np.log2(3)
    assert rows["run", "form", "image-text"]["value"] == pytest.approx(1.0)
    assert rows["run", "form", "video"]["value"] == pytest.approx((second + 1.0) / 2)
    assert rows["random", "all", "all"]["value"] == pytest.approx((1 + second) / 2)
    assert rows["run", "all", "all"]["low"] is None, "two users are too few"
    assert rows["run", "all", "all"]["n_clicks"] == 3


def test_ids_that_a_share_of_train_lacks_are_unknown() -> None:
    def data(note: list[int], history: list[list[int]]) -> RankingData:
        return RankingData(
            request_offsets=np.array([0, len(note)]),
            labels=np.zeros(len(note), dtype=np.float32),
            dense=np.zeros((len(note), 1), dtype=np.float32),
            categorical=np.ones((len(note), 1), dtype=np.int64),
            history=np.array(history, dtype=np.int32),
            note_id=np.array(note, dtype=np.int32),
        )

    met = _met(data([1, 2], [[3, 0]]))
    assert met.tolist() == [0, 1, 2, 3]
    some = _only_known(data([2, 4, 3], [[5, 1]]), met)
    assert some.note_id.tolist() == [2, 0, 3]
    assert some.history.tolist() == [[0, 1]]
