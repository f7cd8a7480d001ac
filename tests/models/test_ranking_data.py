"""The arrays of a ranker are checked where they enter, and folds keep requests whole."""

from dataclasses import replace

import numpy as np
import pytest

from models.metrics import ranking_metrics
from models.ranking_data import RankingData, TooLittleData, metric_on, rows_of_requests

DATA = RankingData(
    request_offsets=np.array([0, 2, 2, 5]),
    labels=np.array([1, 0, 1, 1, 1], np.float32),
    dense=np.arange(5, dtype=np.float32)[:, None],
    categorical=np.arange(10, dtype=np.int32).reshape(5, 2),
    history=np.array([[1, 0], [2, 0], [3, 4]], np.int32),
    note_id=np.arange(5, dtype=np.int32),
)


def test_counts_and_choices():
    assert (DATA.n_requests, DATA.n_candidates) == (3, 5)
    assert DATA.request_index.tolist() == [0, 0, 2, 2, 2]
    assert DATA.has_choice.tolist() == [True, False, False]


def test_a_fold_takes_whole_requests_in_the_order_asked():
    fold = DATA.take(np.array([2, 0]))
    assert fold.request_offsets.tolist() == [0, 3, 5]
    assert fold.note_id.tolist() == [2, 3, 4, 0, 1]
    assert fold.dense[:, 0].tolist() == [2, 3, 4, 0, 1]
    assert fold.categorical[:, 1].tolist() == [5, 7, 9, 1, 3]
    assert fold.labels.tolist() == [1, 1, 1, 1, 0]
    assert fold.history.tolist() == [[3, 4], [1, 0]]
    assert DATA.take(DATA.has_choice).note_id.tolist() == [0, 1]
    assert DATA.take(np.array([], dtype=np.int64)).n_candidates == 0


def test_rows_of_requests_agree_with_slices():
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 5, size=30))])
    requests = rng.permutation(30)[:17]
    rows, sub_offsets = rows_of_requests(offsets, requests)
    slices = [np.arange(offsets[r], offsets[r + 1]) for r in requests]
    assert rows.tolist() == np.concatenate(slices).tolist()
    assert np.diff(sub_offsets).tolist() == [len(s) for s in slices]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"request_offsets": np.array([0, 3, 2, 5])}, "falls after request 1"),
        ({"request_offsets": np.array([1, 2, 2, 5])}, "begin with 0"),
        ({"labels": np.array([1, 0, 1, 1], np.float32)}, "labels has shape"),
        ({"labels": np.array([1, 0, 7, 1, 1], np.float32)}, "labels must be in 0..1: row 2"),
        ({"dense": np.array([[0], [1], [2], [np.nan], [4]], np.float32)}, "finite: row 3"),
        ({"note_id": np.array([0, 1, -1, 3, 4], np.int32)}, "note_id must be 0 or more: row 2"),
        ({"note_id": np.arange(5, dtype=np.float32)}, "note_id must be integers"),
        ({"history": np.zeros((5, 2), np.int32)}, "history has shape"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(DATA, **change)


def test_the_validation_metric_is_the_metric_of_the_report():
    rng = np.random.default_rng(1)
    score = rng.normal(size=5)
    value = metric_on(DATA, "ndcg@10")(score)
    report = ranking_metrics([0, 0, 2, 2, 2], [0, 1, 2, 3, 4], score, [0, 2, 2, 2], [0, 2, 3, 4])
    assert value == report.means["ndcg@10"]
    assert metric_on(DATA, "gauc")(np.array([2.0, 1.0, 0, 0, 0])) == 1.0


def test_metrics_need_a_click_and_a_known_name():
    with pytest.raises(ValueError, match="unknown metric"):
        metric_on(DATA, "accuracy")
    with pytest.raises(TooLittleData, match="no request has a clicked note"):
        metric_on(replace(DATA, labels=np.zeros(5, np.float32)))
