"""The bias views over the hand-written log, by hand."""

import duckdb
import pytest


def test_engagement_by_channel(tiny: duckdb.DuckDBPyConnection) -> None:
    # Feed: requests of 3 and 2 impressions with 2 and 1 clicks, depths 2 and 17, first clicks
    # 1 and 15, one of three clicks shared. Search: 3 + 2 + 2 + 2 + 1 impressions with
    # 2 + 1 + 1 + 1 + 0 clicks, depths 5, 1, 22, 2, 1, first clicks 1, 1, 22, 1.
    assert tiny.execute("from bias.engagement_by_channel").fetchall() == [
        ("recommendation", 2, 5, 3, 9.5, 8.0, 1.5, 3 / 5, 0.0, 0.0, 1 / 3, 0.0),
        ("search", 5, 10, 5, 6.2, 6.25, 1.0, 5 / 10, 1 / 5, 1 / 5, 0.0, 0.0),
    ]


def test_engagement_by_answer_shown(tiny: duckdb.DuckDBPyConnection) -> None:
    assert tiny.execute(
        "select has_answer, n_requests, n_impressions, n_clicks, browsing_depth_mean, "
        "first_click_position_mean, like_rate from bias.engagement_by_answer_shown"
    ).fetchall() == [(False, 4, 8, 4, 7.25, 8.0, 0.25), (True, 1, 2, 1, 2.0, 1.0, 0.0)]


def test_click_rate_by_position(tiny: duckdb.DuckDBPyConnection) -> None:
    assert tiny.execute(
        "select channel, position_bin, n_impressions, n_clicks from bias.click_rate_by_position"
    ).fetchall() == [
        ("recommendation", 1, 2, 1),
        ("recommendation", 2, 1, 1),
        ("recommendation", 11, 2, 1),
        ("search", 0, 1, 0),
        ("search", 1, 4, 3),
        ("search", 2, 2, 0),
        ("search", 5, 1, 1),
        ("search", 11, 2, 1),
    ]
    # Wilson interval of 3 in 4 at z = 1.96, worked out by the textbook formula.
    low, high = 0.30064, 0.95441
    assert tiny.execute(
        "select click_rate, click_rate_low, click_rate_high from bias.click_rate_by_position "
        "where channel = 'search' and position_bin = 1"
    ).fetchall()[0] == pytest.approx((0.75, low, high), abs=1e-5)


def test_click_rate_by_session_position(tiny: duckdb.DuckDBPyConnection) -> None:
    # App session 100: searches 10, 11. 900: feed 0. 101: answers 0, 1, then search 12. 901: feed 1.
    assert tiny.execute(
        "select channel, session_position_bin, n_requests, n_impressions, n_clicks "
        "from bias.click_rate_by_session_position"
    ).fetchall() == [
        ("recommendation", 1, 2, 5, 3),
        ("search", 1, 2, 5, 3),
        ("search", 2, 2, 3, 1),
        ("search", 3, 1, 2, 1),
    ]


def test_click_rate_by_transition(tiny: duckdb.DuckDBPyConnection) -> None:
    assert tiny.execute("from bias.click_rate_by_transition").fetchall() == [
        ("R->S", 1, 0.25, 2, 1, 1.0, 0.5),
        ("S->R", 2, 0.5, 5, 3, 1.5, 0.6),
        ("S->S", 1, 0.25, 1, 0, 0.0, 0.0),
    ]


def test_paper_values_stand_beside_ours(tiny: duckdb.DuckDBPyConnection) -> None:
    values = tiny.execute(
        "select measure, cut, paper_value, our_value, difference from bias.paper_values "
        "where (measure, cut) in (('click_rate', 'search'), ('n_transitions', 'S->R'), "
        "('click_rate', 'R->R'), ('like_rate', 'search with answer'))"
    ).fetchall()
    assert sorted(values) == [
        ("click_rate", "R->R", 0.232, None, None),
        ("click_rate", "search", 0.2101, 0.5, pytest.approx(0.2899)),
        ("like_rate", "search with answer", 0.0129, 0.0, -0.0129),
        ("n_transitions", "S->R", 2387.0, 2.0, -2385.0),
    ]
