"""Views of columns and repeats over a hand-written log, by hand."""

from typing import Any

import duckdb
import pytest

from tests import published_log
from tests.conftest import Given


def feed(request_idx: int, details: list[dict[str, Any]]) -> dict[str, Any]:
    return published_log.feed("recommendation_train", request_idx, request_idx, details)


def feeds(*pictures: str) -> dict[str, list[dict[str, Any]]]:
    """A feed request per picture, from position 1."""
    rows = [
        feed(idx, published_log.page("recommendation_train", picture))
        for idx, picture in enumerate(pictures)
    ]
    return {**published_log.quiet(), "recommendation_train": rows}


def test_click_rate_by_grid_column(given: Given) -> None:
    # Whole pages: x..x, of four, and one of twenty-two with clicks at 1, 20 and 21, of which the
    # rows beyond the tenth are left out. Not whole: a deep start, a gap, a place shown twice.
    twice = published_log.page("recommendation_train", "xx")
    twice[1]["position"] = 1
    log = feeds("x..x", "x" + "." * 18 + "xx.", "x x")
    log["recommendation_train"] += [
        feed(90, published_log.page("recommendation_train", "xx", begins=2)),
        feed(91, twice),
    ]
    view = given(log, "bias.click_rate_by_grid_column")
    assert view.execute(
        "select channel, grid_row, grid_column, n_impressions, n_clicks, click_rate "
        "from bias.click_rate_by_grid_column where grid_row < 3 or n_clicks > 0"
    ).fetchall() == [
        ("recommendation", 1, "left", 2, 2, 1.0),
        ("recommendation", 1, "right", 2, 0, 0.0),
        ("recommendation", 2, "left", 2, 0, 0.0),
        ("recommendation", 2, "right", 2, 1, 0.5),
        ("recommendation", 10, "right", 1, 1, 1.0),
    ]
    assert view.execute(
        "select count(*), max(grid_row) from bias.click_rate_by_grid_column"
    ).fetchall() == [(20, 10)]
    # Wilson of 1 in 2.
    assert view.execute(
        "select wilson_low, wilson_high from bias.click_rate_by_grid_column "
        "where grid_row = 2 and grid_column = 'right'"
    ).fetchall()[0] == pytest.approx((0.09453, 0.90547), abs=1e-5)


def test_clicks_by_column(given: Given) -> None:
    # Whole pages: clicks at 1, 3, 4 (left, left, right), at 1, 2 (left, right) and at 1, 3 (both
    # left): 7 clicks, 5 left, 4 pairs of which 2 switch. One click makes no pair.
    # Not whole: 2, 4 (both right), then 0, 1, 2 of which 0 is in no column (left, right): 4 clicks,
    # 1 left, 2 pairs of which 1 switches. Of clicks at 0 and 1 only one is in a column.
    log = feeds("x.xx", "xx", "x.x.", ".x", " x x")
    log["recommendation_train"] += [
        feed(90, published_log.page("recommendation_train", "xxx", begins=0)),
        feed(91, published_log.page("recommendation_train", "xx", begins=0)),
    ]
    assert given(log, "bias.clicks_by_column").execute("from bias.clicks_by_column").fetchall() == [
        ("recommendation", False, 2, 4, 1, 0.5, 2, 1, 0.5, pytest.approx(2 * 1 / 4 * 3 / 4)),
        ("recommendation", True, 3, 7, 2, 2 / 3, 4, 2, 0.5, pytest.approx(2 * 5 / 7 * 2 / 7)),
    ]


def test_a_repeat_in_clicks_by_column_is_a_click_of_its_own(given: Given) -> None:
    # The same note at the same place, clicked twice: a pair that cannot switch, on no whole page.
    again = [
        published_log.impression("recommendation_train", 1, 1, at_s, 1) for at_s in (0, 28_800)
    ]
    log = {**published_log.quiet(), "recommendation_train": [feed(0, again)]}
    assert given(log, "bias.clicks_by_column").execute("from bias.clicks_by_column").fetchall() == [
        ("recommendation", False, 1, 2, 0, 0.0, 1, 0, 0.0, 0.0)
    ]


def test_click_rate_of_repeats(tiny: duckdb.DuckDBPyConnection) -> None:
    # In feed 0, note 1 is shown without a click, then clicked. The answers and searches show every
    # note once; notes 1 and 5 in several requests.
    assert tiny.execute("from bias.click_rate_of_repeats").fetchall() == [
        ("recommendation", "again without one", 1, 1, 1.0),
        ("recommendation", "first of several", 1, 0, 0.0),
        ("recommendation", "once", 3, 2, 2 / 3),
        ("search", "once", 10, 5, 0.5),
    ]


def test_showings_of_click_rate_of_repeats(given: Given) -> None:
    # By time, not by place in the list: note 1 is clicked, not, clicked; note 2 not, clicked, not.
    # No note is shown once.
    showings = [(1, 9, 1), (2, 0, 0), (1, 0, 1), (2, 9, 0), (1, 5, 0), (2, 5, 1)]
    details = [
        published_log.impression("recommendation_train", note_idx, note_idx, at_s, click)
        for note_idx, at_s, click in showings
    ]
    log = {**published_log.quiet(), "recommendation_train": [feed(0, details)]}
    assert given(log, "bias.click_rate_of_repeats").execute(
        "from bias.click_rate_of_repeats"
    ).fetchall() == [
        ("recommendation", "again after a click", 3, 1, 1 / 3),
        ("recommendation", "again without one", 1, 1, 1.0),
        ("recommendation", "first of several", 2, 1, 0.5),
        ("recommendation", "once", 0, 0, None),
    ]
