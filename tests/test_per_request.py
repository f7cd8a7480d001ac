"""Metrics by request: the same as the leaderboard's, and the same requests for every run."""

import duckdb
import numpy as np
import pytest

from models.metrics import REQUEST_METRICS
from qilin_dagster.leaderboard import ScoredRun, leaderboard
from qilin_dagster.per_request import metric_column, per_request, read_per_request
from tests.clicks import candidates

LOG = candidates(n=10)
NOISE = ScoredRun("noise", LOG.qid, LOG.pid, np.random.default_rng(1).random(len(LOG.qid)))


def test_a_row_per_run_and_request_whose_means_are_the_leaderboard() -> None:
    rows = per_request("search", LOG, [NOISE]).to_pylist()
    assert len(rows) == 7 * 10, "six anchors and a model"
    means = {
        (row["run"], row["metric"]): row["value"]
        for row in leaderboard("search", LOG, [NOISE]).to_pylist()
        if row["mode"] == "full"
    }
    for run in ("noise", "random", "oracle"):
        for metric in REQUEST_METRICS:
            values = [row[metric_column(metric)] for row in rows if row["run"] == run]
            assert np.mean(values) == pytest.approx(means[run, metric])
    (first, second, third) = [r for r in rows if r["run"] == "display_order"][:3]
    assert (first["row_number"], second["row_number"]) == (0, 1)
    assert first["user_idx"] == second["user_idx"] == 0
    assert third["user_idx"] == 1
    assert (first["kind"], first["n_candidates"], first["mrr_at_10"]) == ("anchor", 4, 1.0)
    assert first["request_auc"] == 1.0


def test_the_table_comes_back_as_arrays_of_equal_requests() -> None:
    connection = duckdb.connect()
    rows = per_request("search", LOG, [NOISE])  # noqa: F841 # DuckDB reads it by name
    connection.execute("create schema evaluation")
    # Any order of rows, as after a rewrite.
    connection.execute("create table evaluation.per_request as from rows order by mrr_at_10")
    found = read_per_request(connection, "search", ("mrr@10",))
    assert found.kinds["noise"] == "model"
    assert found.kinds["oracle"] == "anchor"
    assert found.row_number.tolist() == list(range(10))
    assert found.user_idx.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    by_run = dict(zip(found.kinds, found.values["mrr@10"].T.tolist(), strict=True))
    assert by_run["display_order"] == [1.0] * 10
    assert by_run["reverse_display_order"] == [0.25] * 10


def test_a_task_without_rows_has_no_runs() -> None:
    connection = duckdb.connect()
    rows = per_request("search", LOG, [])  # noqa: F841 # DuckDB reads it by name
    connection.execute("create schema evaluation")
    connection.execute("create table evaluation.per_request as from rows")
    assert read_per_request(connection, "recommendation", ("mrr@10",)).kinds == {}
