"""core.requests, core.sessions and core.transitions over the hand-written log."""

from datetime import datetime

import duckdb


def test_requests_keep_their_published_row_and_their_counts(
    tiny: duckdb.DuckDBPyConnection,
) -> None:
    assert tiny.execute(
        "select request_id, source_table, split, row_number, published_idx, user_idx, "
        "n_impressions, n_clicks, browsing_depth, first_click_position, has_answer "
        "from core.requests order by request_id"
    ).fetchall() == [
        (0, "dqa", "dqa", 0, 0, 1, 2, 1, 2, 1, True),
        (1, "recommendation_train", "train", 0, 0, 0, 3, 2, 2, 1, None),
        (2, "dqa", "dqa", 1, 1, 1, 1, 0, 1, None, False),
        (3, "recommendation_test", "test", 0, 1, 1, 2, 1, 17, 15, None),
        (20, "search_train", "train", 0, 10, 0, 3, 2, 5, 1, False),
        (22, "search_train", "train", 1, 11, 0, 2, 1, 1, 1, False),
        (24, "search_test", "test", 0, 12, 1, 2, 1, 22, 22, False),
    ]


def test_a_query_that_nobody_typed_is_no_query(tiny: duckdb.DuckDBPyConnection) -> None:
    assert tiny.execute(
        "select request_id, query, pseudo_query, query_source from core.requests "
        "where request_id in (1, 20, 22, 24) order by 1"
    ).fetchall() == [
        (1, None, "周末去哪里 面包", None),
        (20, "上海 咖啡", None, 1),
        (22, "上海 面包", None, None),
        (24, None, None, None),
    ]


def test_history_is_newest_first_as_published(tiny: duckdb.DuckDBPyConnection) -> None:
    history = tiny.execute("select history_list from core.requests where request_id = 20")
    assert history.fetchall() == [([3, 2, 2],)]


def test_sessions_run_over_both_channels_and_end_after_half_an_hour(
    tiny: duckdb.DuckDBPyConnection,
) -> None:
    # User 0: search at 0 s, feed at 600 s, search at 1,200 s. User 1: answers at 0 and 60 s, then
    # two hours later a search and, 100 s after it, the feed.
    assert tiny.execute(
        "select session_id, user_idx, started_at, n_requests, n_searches, n_recommendations, "
        "path, duration_s from core.sessions order by user_idx, started_at"
    ).fetchall() == [
        (20, 0, datetime(2024, 11, 27, 12, 0), 3, 2, 1, "SRS", 1200.0),
        (0, 1, datetime(2024, 11, 27, 12, 0), 2, 2, 0, "SS", 60.0),
        (24, 1, datetime(2024, 11, 27, 14, 0), 2, 1, 1, "SR", 100.0),
    ]
    assert tiny.execute(
        "select request_id, session_id, session_n from core.requests order by 2, 3"
    ).fetchall() == [
        (0, 0, 1),
        (2, 0, 2),
        (20, 20, 1),
        (1, 20, 2),
        (22, 20, 3),
        (24, 24, 1),
        (3, 24, 2),
    ]


def test_transitions_credit_the_second_request(tiny: duckdb.DuckDBPyConnection) -> None:
    assert tiny.execute(
        "select request_id, previous_request_id, transition, gap_s, n_impressions, n_clicks "
        "from core.transitions order by request_id"
    ).fetchall() == [
        (1, 20, "S->R", 600.0, 3, 2),
        (2, 0, "S->S", 60.0, 1, 0),
        (3, 24, "S->R", 100.0, 2, 1),
        (22, 1, "R->S", 600.0, 2, 1),
    ]


def test_exactly_half_an_hour_is_still_the_same_session(tmp_path_factory) -> None:
    from tests import published_log as log
    from tests.conftest import build_views

    def two_searches(second_at_s: float) -> list[tuple]:
        tables = log.tables()
        tables["search_train"] = [
            log.search("search_train", i, 0, [log.impression("search_train", 1, 1.0, at, 1)])
            for i, at in ((10, 0), (11, second_at_s))
        ]
        tables["recommendation_train"][0]["user_idx"] = 1
        folder = tmp_path_factory.mktemp("gap")
        engine = build_views(log.write(folder / "data", tables), folder / "lake")
        return (
            engine.connect()
            .execute("select n_requests from core.sessions where user_idx = 0 order by started_at")
            .fetchall()
        )

    assert two_searches(1800) == [(2,)]
    assert two_searches(1801) == [(1,), (1,)]
