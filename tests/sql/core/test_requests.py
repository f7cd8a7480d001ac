"""core.requests, core.sessions and core.transitions over the hand-written log."""

import math
from datetime import datetime

import duckdb

from tests import published_log
from tests.conftest import Given


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


def test_exactly_half_an_hour_is_still_the_same_session(given: Given) -> None:
    # Users 0 and 1, the second a second later.
    log = published_log.quiet()
    log["search_train"] = [
        published_log.search(
            "search_train", idx, user, published_log.page("search_train", "x", at_s=at_s)
        )
        for idx, user, at_s in ((10, 0, 0), (11, 0, 1800), (12, 1, 0), (13, 1, 1801))
    ]
    assert given(log, "core.sessions").execute(
        "select user_idx, n_requests from core.sessions order by user_idx, started_at"
    ).fetchall() == [(0, 2), (1, 1), (1, 1)]


def test_names_of_query_sources(given: Given) -> None:
    # The eight of the paper in its order; a code beyond them is not logged, nor is 0, -1 or NaN.
    codes = (*range(1, 10), 0, -1, math.nan, None)
    log = published_log.quiet()
    log["search_train"] = [
        published_log.search("search_train", idx, 0, [], query_from_type=code)
        for idx, code in enumerate(codes)
    ]
    connection = given(log, "core.requests")
    assert connection.execute(
        "select query_source_name from core.requests where source_table = 'search_train' "
        "order by request_id"
    ).fetchall() == [
        ("active search",),
        ("auto-completion",),
        ("search history",),
        ("suggestion on the result page",),
        ("suggestion inside a result",),
        ("filter",),
        ("hot list",),
        ("other",),
        *[("not logged",)] * 5,
    ]
    assert connection.execute(
        "select distinct query_source_name from core.requests where channel = 'recommendation'"
    ).fetchall() == [(None,)]


def test_engagement_counts_with_a_click_only(given: Given) -> None:
    # The first is liked, collected and shared; the second, not clicked, is all four and does not
    # count; the third has one comment and two shares, which are one.
    details = published_log.page("search_train", "x.x")
    details[0] |= {"like": 1, "collect": 1, "share": 1}
    details[1] |= {"like": 1, "collect": 1, "comment": 1, "share": 1}
    details[2] |= {"comment": 1, "share": 2}
    log = published_log.quiet()
    log["search_train"] = [published_log.search("search_train", 10, 0, details)]
    assert given(log, "core.requests").execute(
        "select request_id, n_likes, n_collects, n_comments, n_shares from core.requests "
        "where source_table in ('search_train', 'search_test') order by request_id"
    ).fetchall() == [(20, 1, 1, 1, 2), (182, 0, 0, 0, 0)]


def test_last_click_rank_and_whole_pages(given: Given) -> None:
    twice = published_log.page("search_train", ".x")
    twice[1]["position"] = 1.0
    lost = published_log.page("search_train", "x.x")
    lost[0]["position"] = math.nan
    pages = (
        published_log.page("search_train", ".x."),
        published_log.page("search_train", ".x.")[::-1],
        published_log.page("search_train", "..", begins=1),
        published_log.page("search_train", "x x"),
        published_log.page("search_train", "x.", begins=0),
        published_log.page("search_train", ".x", begins=21),
        twice,
        lost,
        [],
    )
    log = published_log.quiet()
    log["search_train"] = [
        published_log.search("search_train", idx, 0, details) for idx, details in enumerate(pages)
    ]
    assert given(log, "core.requests").execute(
        "select last_click_rank, is_whole_page from core.requests "
        "where source_table = 'search_train' order by request_id"
    ).fetchall() == [
        (2, True),
        # The order of the list says nothing.
        (2, True),
        # No click.
        (None, True),
        # A gap, a card on top, a later page, a place shown twice.
        (2, False),
        (1, False),
        (2, False),
        (2, False),
        # Without a position the note stands last, and the page is not known to be whole.
        (3, False),
        # Nothing returned.
        (None, None),
    ]
