"""Slices on the twin: what falls into which, and that nothing is lost."""

from pathlib import Path

import duckdb
import numpy as np
import pytest

from qilin_dagster.leaderboard import ScoredRun, read_candidates
from qilin_dagster.per_request import per_request, read_per_request
from qilin_dagster.slices import ATTRIBUTES, METRICS, slices
from qilin_dagster.sources.twin import write_twin
from tests.conftest import build_views


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    folder: Path = tmp_path_factory.mktemp("twin")
    write_twin(folder / "data", scale=0.01, seed=3)
    connection = build_views(folder / "data", folder / "lake").connect()
    candidates = read_candidates(connection, "search")
    noise = np.random.default_rng(1).random(len(candidates.qid))
    runs = [ScoredRun("noise", candidates.qid, candidates.pid, noise)]
    rows = per_request("search", candidates, runs)  # noqa: F841 # DuckDB reads it by name
    connection.execute("create schema if not exists evaluation")
    connection.execute("create table memory.evaluation.per_request as from rows")
    return connection


def test_every_request_is_in_one_value_of_each_slice(
    evaluated: duckdb.DuckDBPyConnection,
) -> None:
    requests = read_per_request(evaluated, "search", METRICS)
    rows = slices(evaluated, "search", requests).to_pylist()
    names = {row["slice"] for row in rows}
    assert len(names) == 6
    for name in names:
        for run in ("noise", "oracle"):
            of_run = [
                row
                for row in rows
                if (row["slice"], row["run"], row["metric"]) == (name, run, "mrr@10")
            ]
            total = sum(row["n_requests"] for row in of_run)
            assert total == len(requests.row_number)
            mean = sum(row["n_requests"] * row["value"] for row in of_run) / total
            k = list(requests.kinds).index(run)
            assert mean == pytest.approx(requests.values["mrr@10"][:, k].mean())


def test_attributes_by_plain_python(evaluated: duckdb.DuckDBPyConnection) -> None:
    log = evaluated.execute(
        "select r.row_number, r.user_idx, r.query, i.note_idx, i.is_clicked "
        "from core.requests as r inner join core.impressions as i using (request_id) "
        "where r.source_table = 'search_test'"
    ).fetchall()
    train = evaluated.execute(
        "select r.user_idx, r.request_id, i.note_idx from core.requests as r "
        "inner join core.impressions as i using (request_id) where r.source_table = 'search_train'"
    ).fetchall()
    seen_notes = {note for _, _, note in train}
    searches: dict[int, set[int]] = {}
    for user, request, _ in train:
        searches.setdefault(user, set()).add(request)
    names = [
        column[0]
        for column in evaluated.execute(
            ATTRIBUTES, {"train": "search_train", "test": "search_test"}
        ).description
    ]
    found = {row[0]: dict(zip(names, row, strict=True)) for row in evaluated.fetchall()}
    for number, attributes in found.items():
        shown = [row for row in log if row[0] == number]
        clicked = [row[3] in seen_notes for row in shown if row[4]]
        expected = "none" if not any(clicked) else "all" if all(clicked) else "some"
        assert attributes["clicked notes"] == f"{expected} shown in train"
        n_letters = len(shown[0][2])
        bounds = {" 1-4": (1, 4), " 5-8": (5, 8), " 9-12": (9, 12), "13 and more": (13, 999)}
        low, high = bounds[attributes["query length"]]
        assert low <= n_letters <= high
        n_before = len(searches.get(shown[0][1], ()))
        bounds = {" 0": (0, 0), " 1-3": (1, 3), " 4-9": (4, 9), "10 and more": (10, 10**9)}
        low, high = bounds[attributes["train requests of the user"]]
        assert low <= n_before <= high
    assert len(found) == len({row[0] for row in log if row[4]})


def test_few_users_have_no_interval(evaluated: duckdb.DuckDBPyConnection) -> None:
    rows = slices(evaluated, "search", read_per_request(evaluated, "search", METRICS)).to_pylist()
    assert {row["low"] is None for row in rows if row["n_users"] < 10} <= {True}
    assert {row["low"] is None for row in rows if row["n_users"] >= 10} == {False}
