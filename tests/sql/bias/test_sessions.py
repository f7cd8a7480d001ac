"""Views of order, time and what follows what over a hand-written log, by hand."""

from typing import Any

import duckdb
import numpy as np
import pytest

from tests import published_log
from tests.conftest import Given


def clicked_page(table: str, minute: int, notes: list[int]) -> list[dict[str, Any]]:
    """These notes clicked, and note 1 shown below them."""
    return published_log.page(table, "x" * len(notes) + ".", 60 * minute, notes=[*notes, 1])


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


def test_click_rate_by_session_position_official(given: Given) -> None:
    # Search and feed of a user share an app session: user 0 S R S, user 1 S S S R.
    log = published_log.tables()
    for table in ("recommendation_train", "recommendation_test"):
        log[table] = [{**row, "session_idx": 100 + row["user_idx"]} for row in log[table]]
    connection = given(
        log,
        "bias.click_rate_by_session_position",
        "bias.click_rate_by_session_position_official",
    )
    assert connection.execute(
        "select channel, channel_session_position_bin, n_requests, n_impressions, n_clicks "
        "from bias.click_rate_by_session_position_official"
    ).fetchall() == [
        ("recommendation", 1, 2, 5, 3),
        ("search", 1, 2, 5, 3),
        ("search", 2, 2, 3, 1),
        ("search", 3, 1, 2, 1),
    ]
    assert connection.execute(
        "select channel, session_position_bin, n_requests from bias.click_rate_by_session_position"
    ).fetchall() == [
        ("recommendation", 2, 1),
        ("recommendation", 4, 1),
        ("search", 1, 2),
        ("search", 2, 1),
        ("search", 3, 2),
    ]


def test_click_rate_by_transition(tiny: duckdb.DuckDBPyConnection) -> None:
    assert tiny.execute("from bias.click_rate_by_transition").fetchall() == [
        ("R->S", 1, 0.25, 2, 1, 1.0, 0.5),
        ("S->R", 2, 0.5, 5, 3, 1.5, 0.6),
        ("S->S", 1, 0.25, 1, 0, 0.0, 0.0),
    ]


def test_click_rate_by_transition_official(given: Given) -> None:
    # By the clocks as written, the searches of a user all come before the feed: 10 and 11 are 1,200
    # s apart, answers 0 and 1 are 60 s apart. In the feed 1,800 ms after is a pair, 1,801 is not.
    log = published_log.tables()
    log["recommendation_train"] = [
        published_log.feed(
            "recommendation_train",
            idx,
            0,
            published_log.page("recommendation_train", "x..", at_s=at_s),
        )
        for idx, at_s in ((5, 600), (4, 601.8), (6, 603.601))
    ]
    connection = given(
        log, "bias.click_rate_by_transition", "bias.click_rate_by_transition_official"
    )
    assert connection.execute("from bias.click_rate_by_transition_official").fetchall() == [
        ("R->R", 1, 1 / 3, 3, 1, 1.0, 1 / 3),
        ("S->S", 2, 2 / 3, 3, 1, 0.5, 1 / 3),
    ]
    # Mended: 10 S->R->R->R->S 11; answers 0 S->S 1; search 12 S->R.
    assert connection.execute(
        "select transition, n_transitions from bias.click_rate_by_transition"
    ).fetchall() == [("R->R", 2), ("R->S", 1), ("S->R", 2), ("S->S", 1)]


def test_click_rate_by_hour(tiny: duckdb.DuckDBPyConnection) -> None:
    # Noon UTC is 20 h in China. Search 12 and feed 1 begin two hours later, all others before 21 h.
    assert tiny.execute(
        "select channel, hour_of_day, n_requests, n_impressions, n_clicks, click_rate "
        "from bias.click_rate_by_hour"
    ).fetchall() == [
        ("recommendation", 20, 1, 3, 2, 2 / 3),
        ("recommendation", 22, 1, 2, 1, 0.5),
        ("search", 20, 4, 8, 4, 0.5),
        ("search", 22, 1, 2, 1, 0.5),
    ]


def test_midnight_of_click_rate_by_hour(given: Given) -> None:
    # 16:00 UTC is midnight in China; a request begins with its earliest note, wherever it stands.
    # Requests that returned nothing are set aside and began at no hour.
    details = published_log.page("search_train", ".x", at_s=4 * 3600)
    details[1]["search_timestamp"] -= 1
    log = published_log.quiet()
    log["search_train"] = [published_log.search("search_train", 10, 0, details)]
    log["recommendation_train"] = [
        published_log.feed(
            "recommendation_train",
            0,
            0,
            published_log.page("recommendation_train", "x", at_s=4 * 3600),
        )
    ]
    assert given(log, "bias.click_rate_by_hour").execute(
        "select channel, hour_of_day, n_requests from bias.click_rate_by_hour"
    ).fetchall() == [("recommendation", 0, 1), ("search", 23, 1)]


def test_topic_shift_by_transition(given: Given) -> None:
    # Topics at level 1 and 2: notes 1 (A, a), 2 (A, b), 3 (B, none), 4 (none, none).
    # Users of two searches: 1, 2 then 1; 3 then 1, 3; 3 then 3; 4 then 1. The last has no topic to
    # compare. Level 1: agreement 1, 1/2, 1: mean 5/6. Earlier requests hold A 1/3 and B 2/3 of the
    # time, later ones A and B 1/2 each: by chance 1/2 * 1/3 + 1/2 * 2/3 = 1/2. Level 2 is left with
    # the first user: a click on 1 or 2, then on 1, agree in 1/2, as they do by chance.
    # In the feed, A then B: nothing in common, by chance neither; no second topic to compare.
    log = published_log.quiet()
    topics = {1: ("A", "a"), 2: ("A", "b"), 3: ("B", "None"), 4: ("nan", "nan")}
    log["notes"] = [
        published_log.note(idx, taxonomy1_id=first, taxonomy2_id=second)
        for idx, (first, second) in topics.items()
    ]
    users = [([1, 2], [1]), ([3], [1, 3]), ([3], [3]), ([4], [1])]
    log["search_train"] = [
        published_log.search(
            "search_train", 10 * user + n, user, clicked_page("search_train", n, notes)
        )
        for user, requests in enumerate(users)
        for n, notes in enumerate(requests)
    ]
    log["recommendation_train"] = [
        published_log.feed(
            "recommendation_train", n, 50, clicked_page("recommendation_train", n, notes)
        )
        for n, notes in enumerate(([1], [3]))
    ]
    assert given(log, "bias.topic_shift_by_transition").execute(
        "from bias.topic_shift_by_transition"
    ).fetchall() == [
        ("R->R", 1, 1, 0.0, 0.0, None),
        ("S->S", 1, 3, pytest.approx(5 / 6), 0.5, pytest.approx(5 / 3)),
        ("S->S", 2, 1, 0.5, 0.5, 1.0),
    ]


def test_query_overlap_of_feed(given: Given) -> None:
    # The query has three characters, two of them the same. Of these note 1 names two, note 2 none,
    # note 3 all; note 0 has no title and note 99 is in no table. That of notes is a sample, as note
    # 200 says: in a whole one an unknown note would set its request aside.
    # User 0: feed (1 x, 2), the search, feed (3 x, 1, 0, 99). User 1: search, feed (2), search: the
    # feed is after the one and before the other. User 2: feed (3) after a blank query.
    # User 3: half an hour and a second after the search, the feed (3) is another session.
    # User 4: two searches in a row, whose own notes are no feed.
    log = published_log.quiet()
    titles = {0: "nan", 1: "咖啡", 2: "面包", 3: "一馆咖", 200: "茶"}
    log["notes"] = [published_log.note(idx, note_title=title) for idx, title in titles.items()]
    log["search_train"] = [
        published_log.search(
            "search_train",
            idx,
            user,
            published_log.page("search_train", "x", at_s, notes=[3]),
            query=query,
        )
        for idx, user, at_s, query in (
            *((10, 0, 60, "咖咖馆"), (11, 1, 0, "咖咖馆"), (12, 1, 120, "包子")),
            *((13, 2, 0, ""), (14, 3, 0, "咖咖馆")),
            *((15, 4, 0, "咖咖馆"), (16, 4, 60, "咖咖馆")),
        )
    ]
    log["recommendation_train"] = [
        published_log.feed(
            "recommendation_train",
            idx,
            user,
            published_log.page("recommendation_train", picture, at_s, notes=notes),
        )
        for idx, user, at_s, picture, notes in (
            (0, 0, 0, "x.", [1, 2]),
            (1, 0, 120, "x...", [3, 1, 0, 99]),
            (2, 1, 60, ".", [2]),
            (3, 2, 60, ".", [3]),
            (4, 3, 1801, ".", [3]),
        )
    ]
    # After, not clicked: note 1 for user 0 (2/3) and note 2 for user 1 (0). Before, not clicked:
    # note 2 for user 0 (0) and for user 1, whose next query shares one character of two (1/2).
    assert given(log, "bias.query_overlap_of_feed").execute(
        "from bias.query_overlap_of_feed"
    ).fetchall() == [
        ("after", False, 2, pytest.approx(1 / 3)),
        ("after", True, 1, 1.0),
        ("before", False, 2, 0.25),
        ("before", True, 1, pytest.approx(2 / 3)),
    ]


def test_session_effect(given: Given) -> None:
    # Some users click both notes of the first search and one of two in the second, others one of
    # four in each of three. Unadjusted, late searches are those of the others.
    log = published_log.quiet()
    kinds = (["xx", "x."], ["x...", ".x..", "..x."])
    # Five users of each kind: below ten nothing is said.
    pictures = {user: kinds[user % 2] for user in range(10)}
    log["search_train"] = [
        published_log.search(
            "search_train",
            10 * user + n,
            user,
            published_log.page("search_train", picture, 60 * n, notes=range(len(picture))),
        )
        for user, found in pictures.items()
        for n, picture in enumerate(found)
    ]
    rows = {
        row[0]: row[1:]
        for row in given(log, "bias.session_effect")
        .execute(
            "select adjusted_for, n_requests, n_users, change_per_step, change_per_step_low "
            "from bias.session_effect where channel = 'search'"
        )
        .fetchall()
    }
    # Steps 0, 1 and 0, 1, 2, their mean 0.8; rates 1, 1/2 and 1/4 three times, their mean 0.45.
    # Sum of products -0.55, of squares 2.8.
    assert rows["nothing"][:3] == (25, 10, pytest.approx(-0.55 / 2.8))
    assert rows["nothing"][3] < -0.55 / 2.8
    # Within the first: steps -1/2, 1/2, rates 1/4, -1/4; in the others no change: -0.25 / 2.5.
    # Errors summed by user: -0.2 and 0.2; over squares of 12.5 in all, ten users.
    assert rows["user"][:3] == (20, 10, pytest.approx(-0.1))
    assert rows["user"][3] == pytest.approx(-0.1 - 1.96 * np.sqrt(10 * 0.04 * 10 / 9) / 12.5)
    assert rows["user, query source"][2] == pytest.approx(-0.1)
    assert rows["session, query source, places"][:2] == (20, 10)
