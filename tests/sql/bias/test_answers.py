"""Views of engagement and of the answer module over a hand-written log, by hand."""

import duckdb
import pytest

from tests import published_log
from tests.conftest import Given


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


def test_abandonment_by_answer_shown(tiny: duckdb.DuckDBPyConnection) -> None:
    # Answer 0 was clicked, answer 1 was not. Wilson of 1 in 1 begins at 1 / (1 + z^2); 0 in 1 is
    # its mirror.
    low = 1 / 4.8416
    assert tiny.execute("from bias.abandonment_by_answer_shown").fetchall() == [
        (False, 1, 1, 1.0, pytest.approx(low), pytest.approx(1.0), 1.0, None),
        (True, 1, 0, 0.0, pytest.approx(0.0), pytest.approx(1 - low), None, 2.0),
    ]


def test_rates_of_abandonment_by_answer_shown(given: Given) -> None:
    # Answered: one left at depth 7, three clicked at depths 1, 2 and 6. Not answered: one returned
    # nothing, so it was left, at no depth. Searches outside the answer sample do not count.
    answered = published_log.tables()["dqa"][0]
    log = published_log.quiet()
    log["search_train"] = published_log.tables()["search_train"]
    log["dqa"] = [
        {**answered, "search_idx": n, "search_result_details_with_idx": page}
        for n, page in enumerate(
            published_log.page("dqa", picture) for picture in (".......", "x", "x.", ".....x")
        )
    ]
    log["dqa"].append(
        {**answered, "search_idx": 4, "search_result_details_with_idx": [], "dqa_output": "-1"}
    )
    view = given(log, "bias.abandonment_by_answer_shown")
    assert view.execute(
        "select has_answer, n_requests, n_abandoned, abandonment_rate, abandoned_depth_mean, "
        "clicked_depth_mean from bias.abandonment_by_answer_shown"
    ).fetchall() == [(False, 1, 1, 1.0, None, None), (True, 4, 1, 0.25, 7.0, 3.0)]
    # Wilson of 1 in 4 at z = 1.96: the mirror of 3 in 4.
    assert view.execute(
        "select abandonment_rate_low, abandonment_rate_high from bias.abandonment_by_answer_shown "
        "where has_answer"
    ).fetchall()[0] == pytest.approx((1 - 0.95441, 1 - 0.30064), abs=1e-5)


def test_click_rate_by_answer_stratum(tiny: duckdb.DuckDBPyConnection) -> None:
    # Without an answer, from active search and of five characters: search 10, with two clicks in
    # three down to 5, and answer 1, without a click at 1. The others stand alone.
    assert tiny.execute("from bias.click_rate_by_answer_stratum").fetchall() == [
        (False, "active search", 5, 2, 4, 2, 3.0, 1.0, 1.0, 0.5),
        (False, "not logged", 0, 1, 2, 1, 22.0, 22.0, 1.0, 0.5),
        (False, "not logged", 5, 1, 2, 1, 1.0, 1.0, 1.0, 0.5),
        (True, "active search", 5, 1, 2, 1, 2.0, 1.0, 1.0, 0.5),
    ]


def test_an_empty_stratum_of_click_rate_by_answer_stratum_has_no_rate(given: Given) -> None:
    # The searches returned nothing: requests without impressions, and 0 clicks in 0.
    assert given(published_log.quiet(), "bias.click_rate_by_answer_stratum").execute(
        "from bias.click_rate_by_answer_stratum"
    ).fetchall() == [
        (False, "active search", 5, 1, 0, 0, None, None, 0.0, None),
        (False, "not logged", 0, 1, 0, 0, None, None, 0.0, None),
        (True, "active search", 5, 1, 0, 0, None, None, 0.0, None),
    ]
