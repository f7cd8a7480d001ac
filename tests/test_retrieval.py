"""Recall of clicked notes in the whole corpus, by hand."""

import numpy as np
import pytest

from qilin_dagster.leaderboard import Candidates
from qilin_dagster.retrieval import PROTOCOL, SCHEMA, retrieval, retrieval_table


def candidates(rows: list[tuple[int, int, bool]]) -> Candidates:
    qid, pid, is_clicked = (np.array(column) for column in zip(*rows, strict=True))
    none = np.zeros(len(rows))
    rank, user = none.astype(np.int64), qid
    return Candidates(qid, pid, rank, is_clicked.astype(bool), none, none, user)


def test_recall_by_hand() -> None:
    shown = candidates([(0, 5, True), (0, 6, True), (1, 7, False), (3, 8, True), (3, 5, False)])
    rows = retrieval(
        shown,
        np.array([0, 1, 3]),
        # Of request 0 one note in the first 100 and one behind; request 3 finds its note last.
        [
            np.concatenate([[6], np.arange(1000, 1100), [5]]),
            np.array([7]),
            np.concatenate([np.arange(1000, 1499), [8], [9]]),
        ],
        n_notes=2000,
    )
    assert [(row["metric"], row["value"]) for row in rows] == [
        ("recall@100", pytest.approx((0.5 + 0) / 2)),
        ("recall@500", pytest.approx((1 + 1) / 2)),
    ]
    assert {row["n_requests"] for row in rows} == {2}, "a request without a click does not count"
    table = retrieval_table([{"task": "search", "run": "bm25", **row} for row in rows])
    assert table.schema == SCHEMA
    assert set(table["protocol"].to_pylist()) == {PROTOCOL}
    assert table["n_notes"].to_pylist() == [2000, 2000]


def test_nothing_found_is_zero_and_nothing_clicked_is_no_row() -> None:
    shown = candidates([(0, 5, True), (1, 6, False)])
    nothing = np.zeros(0, dtype=np.int64)
    rows = retrieval(shown, np.array([0, 1]), [nothing, nothing], n_notes=10)
    assert [row["value"] for row in rows] == [0.0, 0.0]
    assert retrieval(candidates([(0, 5, False)]), np.array([0]), [nothing], n_notes=10) == []
    assert retrieval_table([]).num_rows == 0
