"""Views of notes, their form and how often they come over a hand-written log, by hand."""

import math

import duckdb
import pytest

from tests import published_log
from tests.conftest import Given


def test_click_rate_by_note_form(tiny: duckdb.DuckDBPyConnection) -> None:
    # Note 1 is the only video.
    assert tiny.execute(
        "select channel, note_form, position_bin, n_impressions, n_clicks "
        "from bias.click_rate_by_note_form"
    ).fetchall() == [
        ("recommendation", "image-text", 2, 1, 1),
        ("recommendation", "image-text", 11, 2, 1),
        ("recommendation", "video", 1, 2, 1),
        ("search", "image-text", 0, 1, 0),
        ("search", "image-text", 1, 2, 1),
        ("search", "image-text", 2, 2, 0),
        ("search", "image-text", 5, 1, 1),
        ("search", "image-text", 11, 2, 1),
        ("search", "video", 1, 2, 2),
    ]
    # Wilson interval of 1 in 2 at z = 1.96, worked out by the textbook formula.
    assert tiny.execute(
        "select click_rate, wilson_low, wilson_high from bias.click_rate_by_note_form "
        "where channel = 'recommendation' and position_bin = 1"
    ).fetchall()[0] == pytest.approx((0.5, 0.09453, 0.90547), abs=1e-5)


def test_forms_and_bins_of_click_rate_by_note_form(given: Given) -> None:
    # 10 is the last place of its own. Every type but 1 is video; a note without a type, or in no
    # table, has no form and is no part of the share either.
    log = published_log.quiet()
    types = {1: 1.0, 2: 2.0, 3: 3.0, 4: math.nan}
    log["notes"] = [published_log.note(idx, note_type=type_) for idx, type_ in types.items()]
    log["search_train"] = [
        published_log.search(
            "search_train",
            10,
            0,
            published_log.page("search_train", "x.x.xx", begins=10, notes=[1, 2, 3, 1, 4, 99]),
        ),
        published_log.search(
            "search_train", 11, 0, published_log.page("search_train", ".", begins=60, notes=[1])
        ),
    ]
    connection = given(log, "bias.click_rate_by_note_form", "bias.video_share_by_position")
    assert connection.execute(
        "select note_form, position_bin, n_impressions, n_clicks from bias.click_rate_by_note_form"
    ).fetchall() == [("image-text", 10, 1, 1), ("image-text", 11, 2, 0), ("video", 11, 2, 1)]
    assert connection.execute("from bias.video_share_by_position").fetchall() == [
        ("search", 10, 1, 0, 0.0),
        ("search", 11, 4, 2, 0.5),
    ]


def test_video_share_by_position(tiny: duckdb.DuckDBPyConnection) -> None:
    assert tiny.execute("from bias.video_share_by_position").fetchall() == [
        ("recommendation", 1, 2, 2, 1.0),
        ("recommendation", 2, 1, 0, 0.0),
        ("recommendation", 11, 2, 0, 0.0),
        ("search", 0, 1, 0, 0.0),
        ("search", 1, 4, 2, 0.5),
        ("search", 2, 2, 0, 0.0),
        ("search", 5, 1, 0, 0.0),
        ("search", 11, 2, 0, 0.0),
    ]


def test_dataset_sizes(tiny: duckdb.DuckDBPyConnection) -> None:
    # Note 4 has no image path, the other five have one.
    assert tiny.execute("from bias.dataset_sizes").fetchall() == [
        ("image paths", 5),
        ("impressions", 15),
        ("notes", 6),
        ("searches", 5),
        ("searches with an answer", 1),
        ("users", 2),
    ]


def test_click_rate_by_history(tiny: duckdb.DuckDBPyConnection) -> None:
    # Searches and answers come after clicks on notes 2 and 3: shown at 2 and, clicked, 5 in search
    # 10, at 2 and 1 in the answers. The other six stand at 1, 0, 1, 21, 22, 1, with four clicks.
    # The feed comes after a click on note 1, shown twice at 1; the others at 2, 15, 17.
    assert tiny.execute("from bias.click_rate_by_history").fetchall() == [
        ("recommendation", False, 3, 2, 2 / 3, 34 / 3),
        ("recommendation", True, 2, 1, 0.5, 1.0),
        ("search", False, 6, 4, 4 / 6, 46 / 6),
        ("search", True, 4, 1, 0.25, 2.5),
    ]


def test_no_history_of_click_rate_by_history(given: Given) -> None:
    # A history that is missing or empty holds no note. Places that are not logged have no part in
    # the mean: in search it is that of the one at 4, in the feed there is none.
    lost = [published_log.impression("search_train", 1, math.nan, 0, 1)]
    placed = published_log.page("search_train", ".", begins=4)
    unplaced = published_log.page("recommendation_train", "x")
    unplaced[0]["position"] = None
    log = published_log.quiet()
    log["search_train"] = [
        published_log.search("search_train", 10, 0, lost, recent_clicked_note_idxs=None),
        published_log.search("search_train", 11, 0, lost + placed, recent_clicked_note_idxs=[]),
    ]
    log["recommendation_train"] = [published_log.feed("recommendation_train", 0, 0, unplaced)]
    assert given(log, "bias.click_rate_by_history").execute(
        "from bias.click_rate_by_history"
    ).fetchall() == [
        ("recommendation", False, 1, 1, 1.0, None),
        ("search", False, 3, 2, 2 / 3, 4.0),
    ]


def test_click_rate_by_warmth(given: Given) -> None:
    # Train searches show note 1 twice, clicked once, and note 2 without a click. Notes 3 and 4 are
    # clicked in the feed and in the answer sample only, which train of search does not know.
    # Test searches: 1 x, 1, 2, 3, 4 x. The feed's test request shows 3, which its train knows.
    log = published_log.quiet()
    train, test, answers, feed_train, feed_test = (
        published_log.page(table, picture, notes=notes)
        for table, picture, notes in (
            ("search_train", ".x.", [1, 1, 2]),
            ("search_test", "x...x", [1, 1, 2, 3, 4]),
            ("dqa", "x", [4]),
            ("recommendation_train", "x", [3]),
            ("recommendation_test", ".", [3]),
        )
    )
    log["search_train"][0]["search_result_details_with_idx"] = train
    log["search_test"][0]["search_result_details_with_idx"] = test
    log["dqa"][0]["search_result_details_with_idx"] = answers
    log["recommendation_train"][0]["rec_result_details_with_idx"] = feed_train
    log["recommendation_test"][0]["rec_result_details_with_idx"] = feed_test
    assert given(log, "bias.click_rate_by_warmth").execute(
        "from bias.click_rate_by_warmth"
    ).fetchall() == [
        ("recommendation", "clicked", 1, 1, 0, 1.0, None, 0.0),
        ("search", "clicked", 1, 2, 1, 2 / 5, 1 / 2, 1 / 2),
        ("search", "shown", 1, 1, 0, 1 / 5, 0.0, 0.0),
        ("search", "unseen", 2, 2, 1, 2 / 5, 1 / 2, 1 / 2),
    ]


def test_popularity_concentration(given: Given) -> None:
    # The Gini coefficient of x1 <= ... <= xn is 2 (x1 + 2 x2 + ... + n xn) / (n sum) - (n + 1) / n.
    # Feed: notes of 1, 1, 2, 4 impressions: 2 * 25 / 32 - 5 / 4 = 5 / 16; a hundredth and a tenth
    # of four notes are both one note. Clicks 1 and 2 on two notes: 2 * 5 / 6 - 3 / 2 = 1 / 6.
    # Search: eleven notes, eight of 1, two of 2, one of 3: 2 * 107 / 165 - 12 / 11 = 34 / 165. A
    # tenth is two notes: the one of 3 and one of the two that tie. Three clicked once: all alike.
    log = published_log.quiet()
    log["recommendation_train"][0]["rec_result_details_with_idx"] = published_log.page(
        "recommendation_train", "x....xx.", notes=[1, 2, 3, 3, 4, 4, 4, 4]
    )
    log["search_train"][0]["search_result_details_with_idx"] = published_log.page(
        "search_train", "x.xx...........", notes=[1, 1, 2, 3, 1, 2, 3, *range(4, 12)]
    )
    assert given(log, "bias.popularity_concentration").execute(
        "from bias.popularity_concentration"
    ).fetchall() == [
        ("recommendation", "click", 2, 3, pytest.approx(1 / 6), 2 / 3, 2 / 3, 0.5),
        ("recommendation", "impression", 4, 8, 5 / 16, 0.5, 0.5, 0.5),
        ("search", "click", 3, 3, pytest.approx(0.0), 1 / 3, 1 / 3, 1.0),
        ("search", "impression", 11, 15, pytest.approx(34 / 165), 3 / 15, 5 / 15, 8 / 11),
    ]
