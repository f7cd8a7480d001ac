"""core.impressions over the hand-written log."""

from datetime import datetime

import duckdb

SEARCH_10, SEARCH_11, SEARCH_12, FEED_0, FEED_1 = 20, 22, 24, 1, 3
ANSWER_0, ANSWER_1 = 0, 2


def rows(connection: duckdb.DuckDBPyConnection, columns: str, request_id: int) -> list[tuple]:
    return connection.execute(
        f"select {columns} from core.impressions where request_id = {request_id} "
        "order by impression_n"
    ).fetchall()


def test_every_published_impression_is_a_row(tiny: duckdb.DuckDBPyConnection) -> None:
    assert tiny.execute(
        "select source_table, count(*) from core.impressions group by 1 order by 1"
    ).fetchall() == [
        ("dqa", 3),
        ("recommendation_test", 2),
        ("recommendation_train", 3),
        ("search_test", 2),
        ("search_train", 5),
    ]


def test_absent_dwell_is_null_in_every_table(tiny: duckdb.DuckDBPyConnection) -> None:
    assert rows(tiny, "is_clicked, dwell_s", SEARCH_10) == [(True, 5.5), (False, 3.0), (True, None)]
    assert rows(tiny, "is_clicked, dwell_s", FEED_0) == [(False, None), (True, None), (True, 30.0)]
    assert rows(tiny, "is_clicked, dwell_s", ANSWER_0) == [(True, 7.0), (False, None)]


def test_seconds_ahead_and_milliseconds_become_the_same_utc(
    tiny: duckdb.DuckDBPyConnection,
) -> None:
    assert rows(tiny, "exposed_at", SEARCH_10)[0] == (datetime(2024, 11, 27, 12, 0),)
    assert rows(tiny, "exposed_at", FEED_0)[0] == (datetime(2024, 11, 27, 12, 10),)
    assert rows(tiny, "exposed_at", ANSWER_1) == [(datetime(2024, 11, 27, 12, 1),)]


def test_shown_rank_counts_over_gaps_zero_and_later_pages(tiny: duckdb.DuckDBPyConnection) -> None:
    position = '"position", shown_rank'
    assert rows(tiny, position, SEARCH_10) == [(1, 1), (2, 2), (5, 3)]
    assert rows(tiny, position, SEARCH_11) == [(0, 1), (1, 2)]
    assert rows(tiny, position, SEARCH_12) == [(21, 1), (22, 2)]


def test_a_note_that_comes_back_keeps_its_row_and_is_marked(
    tiny: duckdb.DuckDBPyConnection,
) -> None:
    assert rows(tiny, 'note_idx, "position", shown_rank, is_clicked, is_repeat', FEED_0) == [
        (1, 1, 1, False, False),
        (2, 2, 3, True, False),
        (1, 1, 2, True, True),
    ]


def test_feedback_is_boolean(tiny: duckdb.DuckDBPyConnection) -> None:
    feedback = "is_liked, is_collected, is_commented, is_shared"
    assert rows(tiny, feedback, SEARCH_10)[0] == (True, False, False, False)
    assert rows(tiny, feedback, SEARCH_12)[1] == (False, True, False, False)
    assert rows(tiny, feedback, FEED_1)[0] == (False, False, False, True)
