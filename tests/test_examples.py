"""Example requests: spread over the test rows, with the ranks the scores give."""

import duckdb

from qilin_dagster.examples import N_REQUESTS, examples
from qilin_dagster.leaderboard import ScoredRun, read_candidates


def test_the_real_rows_note_by_note(real_engine) -> None:
    connection: duckdb.DuckDBPyConnection = real_engine.connect()
    candidates = read_candidates(connection, "search")
    shown_last_first = ScoredRun(
        "m", candidates.qid, candidates.pid, candidates.shown_rank.astype(float)
    )
    rows = examples(connection, "search", [shown_last_first]).to_pylist()
    numbers = sorted({row["row_number"] for row in rows})
    # The sample has fewer test requests than that.
    expected = min(N_REQUESTS, len(set(candidates.qid.tolist())))
    assert len(numbers) == expected >= 3
    assert (numbers[0], numbers[-1]) == (candidates.qid.min(), candidates.qid.max())
    first = [row for row in rows if row["row_number"] == numbers[0]]
    assert len(first) == (candidates.qid == numbers[0]).sum()
    assert [row["rank"] for row in first] == list(range(len(first), 0, -1))
    of_log = dict(
        zip(
            zip(candidates.qid.tolist(), candidates.pid.tolist(), strict=True),
            candidates.is_clicked.tolist(),
            strict=True,
        )
    )
    assert all(row["is_clicked"] == of_log[row["row_number"], row["pid"]] for row in rows)
    assert all(row["query"] for row in rows)
    assert len({(row["row_number"], row["query"]) for row in rows}) == expected


def test_without_a_run_there_are_no_examples(tiny: duckdb.DuckDBPyConnection) -> None:
    assert examples(tiny, "search", []).num_rows == 0
