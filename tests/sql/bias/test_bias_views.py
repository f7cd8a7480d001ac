"""The bias views over the hand-written log, by hand."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests import published_log
from tests.conftest import build_views

Given = Callable[[dict[str, list[dict[str, Any]]]], duckdb.DuckDBPyConnection]


@pytest.fixture
def given(tmp_path: Path) -> Iterator[Given]:
    """A connection to all views over another hand-written log."""
    connections = []

    def build(log: dict[str, list[dict[str, Any]]]) -> duckdb.DuckDBPyConnection:
        data = published_log.write(tmp_path / "data", log)
        connections.append(build_views(data, tmp_path / "lake").connect())
        return connections[-1]

    yield build
    for connection in connections:
        connection.close()


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


def test_paper_values_of_every_table_find_their_view(tiny: duckdb.DuckDBPyConnection) -> None:
    found = tiny.execute(
        "select paper_table, measure, cut, our_value from bias.paper_values "
        "where paper_table not in ('Table 5', 'Table 6') and our_value is not null"
    ).fetchall()
    assert sorted(found) == [
        ("Section 4.1", "user_share", "age 16 to 40", 0.5),
        ("Section 4.1", "user_share", "gender female", 1.0),
        ("Section 4.1", "user_share", "platform iOS", 1.0),
        ("Section 4.1, countries", "known_user_share", "country China", 1.0),
        ("Table 2", "n_entities", "image paths", 5.0),
        ("Table 2", "n_entities", "impressions", 15.0),
        ("Table 2", "n_entities", "notes", 6.0),
        ("Table 2", "n_entities", "searches", 5.0),
        ("Table 2", "n_entities", "searches with an answer", 1.0),
        ("Table 2", "n_entities", "users", 2.0),
        ("Table 7", "click_rate", "05", 0.5),
        ("Table 7", "clicks_per_request", "05", 1.0),
        ("Table 7", "request_share", "05", 0.8),
        ("Table 8", "transition_share", "change", 0.5),
        ("Table 8", "transition_share", "repeat", 0.5),
        ("Table 9", "request_share", "active search", 0.6),
        ("Table 9", "request_share", "other", 0.4),
    ]


def test_every_group_the_paper_prints_is_a_group_of_the_view(given: Given) -> None:
    # One search per printed length and source, and a user per printed age band and platform.
    log = published_log.tables()
    log["search_train"] = [
        published_log.search(
            "search_train",
            10 + n,
            0,
            [published_log.impression("search_train", 1, 1.0, 0, 1)],
            query="x" * n,
            query_from_type=float(min(n, 8)),
        )
        for n in range(1, 13)
    ]
    log["user_feat"] = [
        published_log.user(0, age="13-15", platform="Android"),
        published_log.user(1, age="40+", location="安道尔"),
        published_log.user(2, location="澳大利亚"),
        published_log.user(3, location="冰岛"),
        published_log.user(4, location="马来西亚"),
        published_log.user(5),
    ]
    missing = given(log).execute(
        "select distinct paper_table from bias.paper_values where our_value is null "
        "and (paper_table like 'Section%' or paper_table in ('Table 2', 'Table 7', 'Table 9'))"
    )
    assert missing.fetchall() == []


def test_click_rate_by_query_length(tiny: duckdb.DuckDBPyConnection) -> None:
    # Four queries of two words, five characters with the space; one blank.
    assert tiny.execute("from bias.click_rate_by_query_length").fetchall() == [
        (0, 1, 0.2, 2, 1, 1.0, 0.5),
        (5, 4, 0.8, 8, 4, 1.0, 0.5),
    ]


def test_the_bins_of_query_length(given: Given) -> None:
    queries = ("菜", "菜谱大", "菜谱大全", "一二三四五六七八九十", "x" * 11, "x" * 12, "x" * 13)
    log = published_log.tables()
    log["search_train"] = [
        {**log["search_train"][0], "search_idx": 20 + n, "query": query}
        for n, query in enumerate(queries)
    ]
    assert given(log).execute(
        "select query_length_bin, n_requests from bias.click_rate_by_query_length"
    ).fetchall() == [(0, 1), (3, 2), (4, 1), (5, 2), (10, 1), (11, 3)]


def test_click_rate_by_query_source(tiny: duckdb.DuckDBPyConnection) -> None:
    # Not logged in one search as null, in another as NaN; each has one click in two impressions.
    assert tiny.execute("from bias.click_rate_by_query_source").fetchall() == [
        ("active search", 3, 0.6, 6, 3, 1.0, 0.5),
        ("not logged", 2, 0.4, 4, 2, 1.0, 0.5),
    ]
    assert tiny.execute("from bias.click_rate_by_query_source_official").fetchall() == [
        ("active search", 3, 0.6, 6, 3, 1.0, 0.5),
        ("other", 2, 0.4, 4, 2, 1.0, 0.5),
    ]


def test_click_rate_by_reformulation(tiny: duckdb.DuckDBPyConnection) -> None:
    # User 0: coffee becomes bread across a feed request. User 1: the same query a minute later;
    # the blank one comes two hours after that.
    assert tiny.execute("from bias.click_rate_by_reformulation").fetchall() == [
        ("change", 1, 0.5, 2, 1, 1.0, 0.5),
        ("repeat", 1, 0.5, 1, 0, 0.0, 0.0),
    ]


def test_the_classes_of_reformulation(given: Given) -> None:
    pairs = [
        ("广州批发", "广州批发市场", 60, "add"),
        ("ip设计插件", "ip设计", 60, "delete"),
        ("文案破碎感", "文案自由松弛感", 60, "change"),
        ("脸部画法", "脸部画法", 60, "repeat"),
        ("脸部画法", "画法脸脸部", 60, "repeat"),
        ("相机镜头进灰", "适马56", 60, "other"),
        ("a.b", "a[b]", 60, "change"),
        ("", "适马56", 60, "blank"),
        ("适马56", "", 60, "blank"),
        ("适马56", "适马", 1800, "delete"),
        ("适马56", "适马", 1801, None),
    ]
    # A user per pair; the later search has the smaller id, so only time orders them. It has as many
    # impressions as its place in the list, which says what pairs a class is made of.
    searches = []
    impressions: dict[str, int] = {}
    for n, (first, second, gap_s, reformulation) in enumerate(pairs, start=1):
        for search_idx, query, at_s, shown in ((99, first, 0, 1), (50, second, gap_s, n)):
            details = [
                published_log.impression("search_train", note, note + 1.0, at_s, int(note == 0))
                for note in range(shown)
            ]
            searches.append(
                published_log.search("search_train", search_idx * 100 + n, n, details, query=query)
            )
        if reformulation:
            impressions[reformulation] = impressions.get(reformulation, 0) + n
    log = published_log.tables()
    log["search_train"] = searches
    # What the other two tables need is a row each; a user of their own keeps them out of the pairs.
    for n, table in enumerate(("search_test", "dqa")):
        log[table] = [{**log[table][0], "user_idx": 90 + n}]
    assert given(log).execute(
        "select reformulation, n_impressions from bias.click_rate_by_reformulation"
    ).fetchall() == sorted(impressions.items())


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


def test_users_by_attribute(tiny: duckdb.DuckDBPyConnection) -> None:
    # User 1 has neither age nor place.
    assert tiny.execute("from bias.users_by_attribute").fetchall() == [
        ("age", "19-22", 1, 0.5, 1.0),
        ("age", "missing", 1, 0.5, None),
        ("country", "missing", 1, 0.5, None),
        ("country", "中国", 1, 0.5, 1.0),
        ("gender", "female", 2, 1.0, 1.0),
        ("platform", "iOS", 2, 1.0, 1.0),
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


def test_click_rate_by_session_position_official(given: Given) -> None:
    # Search and feed of a user share an app session: user 0 S R S, user 1 S S S R.
    log = published_log.tables()
    for table in ("recommendation_train", "recommendation_test"):
        log[table] = [{**row, "session_idx": 100 + row["user_idx"]} for row in log[table]]
    connection = given(log)
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
