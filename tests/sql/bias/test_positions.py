"""Views of places and ranks on the page over a hand-written log, by hand."""

import math
from typing import Any

import duckdb
import pytest

from tests import published_log
from tests.conftest import Given


def one_search(details: list[dict[str, Any]], search_idx: int = 10) -> dict[str, Any]:
    return published_log.search("search_train", search_idx, 0, details)


def strata_log() -> dict[str, list[dict[str, Any]]]:
    """Notes 1 to 5 of every form and flag at the edges of the blocks; note 99 is in no table."""

    def at(table: str, *places: tuple[int, float, int]) -> list[dict[str, Any]]:
        return [published_log.impression(table, *place, 0, click) for *place, click in places]

    searched = at(
        "search_train",
        *((1, 0.0, 0), (1, 1.0, 1), (2, 7.0, 0), (4, 8.0, 1), (99, 49.0, 1)),
        (1, math.nan, 1),
    )
    unlogged = at("search_train", (2, 1.0, 0), (3, 7.0, 0), (5, 51.0, 0))
    return {
        **published_log.quiet(),
        "notes": [
            published_log.note(1, commercial_flag=1.0),
            published_log.note(2, note_type=2.0),
            published_log.note(3, note_type=3.0, commercial_flag=7.0),
            published_log.note(4, note_type=math.nan),
            published_log.note(5, note_type=2.0, commercial_flag=math.nan),
        ],
        "search_train": [
            one_search(searched),
            {**one_search(unlogged, 11), "query_from_type": None},
        ],
        "recommendation_train": [
            published_log.feed(
                "recommendation_train",
                0,
                0,
                at("recommendation_train", (1, 50, 1), (1, 400, 0)),
            )
        ],
    }


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


def test_positions_of_click_rate_by_position(given: Given) -> None:
    # 10 is the last place of its own; a position that is not logged is at no place.
    details = published_log.page("search_train", "x.x.", begins=9)
    details.append(published_log.impression("search_train", 99, math.nan, 0, 1))
    log = {**published_log.quiet(), "search_train": [one_search(details)]}
    assert given(log, "bias.click_rate_by_position").execute(
        "select position_bin, n_impressions, n_clicks from bias.click_rate_by_position"
    ).fetchall() == [(9, 1, 1), (10, 1, 0), (11, 2, 1)]


def test_click_rate_above_last_click(tiny: duckdb.DuckDBPyConnection) -> None:
    # Last clicks: search 10 at rank 3 of 3, with x. above it; 11 and 12 at rank 2, with . above;
    # answer 0 at rank 1 and answer 1 nowhere. Feed 0 at rank 3 with .x above, feed 1 at rank 1.
    assert tiny.execute("from bias.click_rate_above_last_click").fetchall() == [
        ("recommendation", 1, 1, 0, 0.0, 1.0),
        ("recommendation", 2, 1, 1, 1.0, 0.0),
        ("search", 1, 3, 1, 1 / 3, pytest.approx(2 / 3)),
        ("search", 2, 1, 0, 0.0, 1.0),
    ]


def test_ranks_of_click_rate_above_last_click(given: Given) -> None:
    # Gaps and a deep start: thirteen notes from position 5 to 19 are ranks 1 to 13. The last click
    # is 13, so 11 and 12 are both "later". A note without a position comes last, and was clicked
    # in the other search: all of its two notes but the last are above.
    far = published_log.page("search_train", ".. .......  xx.x", begins=5)
    lost = published_log.page("search_train", "..", begins=0)
    lost.append(published_log.impression("search_train", 99, math.nan, 0, 1))
    log = {**published_log.quiet(), "search_train": [one_search(far), one_search(lost, 11)]}
    assert given(log, "bias.click_rate_above_last_click").execute(
        "select shown_rank_bin, n_impressions, n_clicks from bias.click_rate_above_last_click"
    ).fetchall() == [
        *((rank, 2, 0) for rank in (1, 2)),
        *((rank, 1, 0) for rank in range(3, 10)),
        (10, 1, 1),
        (11, 2, 1),
    ]


def test_requests_by_last_click(tiny: duckdb.DuckDBPyConnection) -> None:
    # Answer 1 has no click. Below the last click, answer 0 and feed 1 returned one note each.
    assert tiny.execute("from bias.requests_by_last_click").fetchall() == [
        ("recommendation", 1, 1, 0.5, 1.0, 0.0),
        ("recommendation", 3, 1, 0.5, 0.0, 1.0),
        ("search", 1, 1, 0.25, 1.0, 0.0),
        ("search", 2, 2, 0.5, 0.0, 1.0),
        ("search", 3, 1, 0.25, 0.0, 1.0),
    ]


def test_bins_of_requests_by_last_click(given: Given) -> None:
    # Last clicks at 10, 11 and 12 of 12: 2, 1 and 0 notes below.
    searches = [
        one_search(published_log.page("search_train", "." * n + "x" + "." * (11 - n)), n)
        for n in (9, 10, 11)
    ]
    log = {**published_log.quiet(), "search_train": searches}
    assert given(log, "bias.requests_by_last_click").execute(
        "from bias.requests_by_last_click"
    ).fetchall() == [("search", 10, 1, 1 / 3, 2.0, 0.0), ("search", 11, 2, 2 / 3, 0.5, 0.5)]


def test_requests_by_browsing_depth(given: Given) -> None:
    # Both edges of every bin; requests that returned nothing, in every other table, have no depth.
    depths = (0, 1, 2, 3, 5, 6, 10, 11, 20, 21, 50, 51, 100, 101, 300)
    searches = [
        one_search(
            [
                published_log.impression("search_train", 1, depth, 0, 1),
                published_log.impression("search_train", 2, 0.0, 0),
            ],
            depth,
        )
        for depth in depths
    ]
    log = {**published_log.quiet(), "search_train": searches}
    assert given(log, "bias.requests_by_browsing_depth").execute(
        "from bias.requests_by_browsing_depth"
    ).fetchall() == [
        ("search", 0, 1, 1 / 15, 15 / 15, 2, 1, 1.0, 0.5),
        ("search", 1, 2, 2 / 15, 14 / 15, 4, 2, 1.0, 0.5),
        ("search", 3, 2, 2 / 15, 12 / 15, 4, 2, 1.0, 0.5),
        ("search", 6, 2, 2 / 15, 10 / 15, 4, 2, 1.0, 0.5),
        ("search", 11, 2, 2 / 15, 8 / 15, 4, 2, 1.0, 0.5),
        ("search", 21, 2, 2 / 15, 6 / 15, 4, 2, 1.0, 0.5),
        ("search", 51, 2, 2 / 15, 4 / 15, 4, 2, 1.0, 0.5),
        ("search", 101, 2, 2 / 15, 2 / 15, 4, 2, 1.0, 0.5),
    ]


def test_dwell_by_position(given: Given) -> None:
    def click(table: str, position: float, dwell_s: float, is_clicked: int = 1) -> dict[str, Any]:
        return published_log.impression(table, 1, position, 0, is_clicked, page_time=dwell_s)

    # At 1: dwells of 4.9, 5 and 20 s and one not logged; a dwell without a click does not count. At
    # 0 none is logged, and a click at no place is nowhere. In the feed 0.0 is no dwell.
    details = [click("search_train", 1.0, s) for s in (20.0, 4.9, math.nan, 5.0)]
    details += [click("search_train", 1.0, 1.0, is_clicked=0), click("search_train", 0.0, math.nan)]
    details += [click("search_train", 11.0, 8.0), click("search_train", 30.0, 2.0)]
    details += [click("search_train", math.nan, 7.0)]
    feed = [click("recommendation_train", 10, s) for s in (30.0, 0.0, 10.0)]
    log = {
        **published_log.quiet(),
        "search_train": [one_search(details)],
        "recommendation_train": [published_log.feed("recommendation_train", 0, 0, feed)],
    }
    assert given(log, "bias.dwell_by_position").execute(
        "from bias.dwell_by_position"
    ).fetchall() == [
        ("recommendation", 10, 3, 2, 2 / 3, 20.0, 20.0, 0.0),
        ("search", 0, 1, 0, 0.0, None, None, None),
        ("search", 1, 4, 3, 0.75, 5.0, pytest.approx(29.9 / 3), 1 / 3),
        ("search", 11, 2, 2, 1.0, 5.0, 5.0, 0.5),
    ]


def test_click_rate_by_stratum(given: Given) -> None:
    found = given(strata_log(), "bias.click_rate_by_stratum").execute(
        "select channel, query_origin, note_form, commercial_state, position_capped, "
        "n_impressions, n_clicks, click_rate from bias.click_rate_by_stratum"
    )
    # Position 50 is the first of "all deeper"; the note at no place is left out. Note type 3 is
    # video; a flag of 7 says nothing, and of note 99 nothing is known at all.
    assert found.fetchall() == [
        ("recommendation", "no query", "image-text", "commercial", 50, 2, 1, 0.5),
        ("search", "active search", "image-text", "commercial", 0, 1, 0, 0.0),
        ("search", "active search", "image-text", "commercial", 1, 1, 1, 1.0),
        ("search", "active search", "unknown", "not commercial", 8, 1, 1, 1.0),
        ("search", "active search", "unknown", "unknown", 49, 1, 1, 1.0),
        ("search", "active search", "video", "not commercial", 7, 1, 0, 0.0),
        ("search", "not logged", "video", "not commercial", 1, 1, 0, 0.0),
        ("search", "not logged", "video", "unknown", 7, 1, 0, 0.0),
        ("search", "not logged", "video", "unknown", 50, 1, 0, 0.0),
    ]


def test_interval_of_click_rate_by_stratum(given: Given) -> None:
    # The two feed impressions of one request, taken as independent: Wilson of 1 in 2.
    assert given(strata_log(), "bias.click_rate_by_stratum").execute(
        "select wilson_low, wilson_high from bias.click_rate_by_stratum "
        "where channel = 'recommendation'"
    ).fetchall()[0] == pytest.approx((0.09453, 0.90547), abs=1e-5)


def test_click_rate_by_slot(given: Given) -> None:
    # Places 0 and 50 and deeper belong to no block. At 1 stand a commercial note and one that is
    # not; at 7 the flag of one of two is known; at 49, the end of block 7, none is.
    assert given(strata_log(), "bias.click_rate_by_slot").execute(
        "select channel, block_n, slot, n_impressions, n_clicks, commercial_share, click_rate "
        "from bias.click_rate_by_slot"
    ).fetchall() == [
        ("search", 1, 1, 2, 1, 0.5, 0.5),
        ("search", 1, 7, 2, 0, 0.0, 0.0),
        ("search", 2, 1, 1, 1, 0.0, 1.0),
        ("search", 7, 7, 1, 1, None, 1.0),
    ]
    # Wilson of 1 in 2 as above; 0 in 2 ends at z^2 / (2 + z^2).
    assert given(strata_log(), "bias.click_rate_by_slot").execute(
        "select wilson_low, wilson_high from bias.click_rate_by_slot where block_n = 1"
    ).fetchall() == [
        pytest.approx((0.09453, 0.90547), abs=1e-5),
        pytest.approx((0.0, 3.8416 / 5.8416), abs=1e-9),
    ]
