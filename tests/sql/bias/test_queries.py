"""Views of queries and their rewording over a hand-written log, by hand."""

import duckdb

from tests import published_log
from tests.conftest import Given


def test_click_rate_by_query_length(tiny: duckdb.DuckDBPyConnection) -> None:
    # Four queries of two words, five characters with the space; one blank.
    assert tiny.execute("from bias.click_rate_by_query_length").fetchall() == [
        (0, 1, 0.2, 2, 1, 1.0, 0.5),
        (5, 4, 0.8, 8, 4, 1.0, 0.5),
    ]


def test_bins_of_click_rate_by_query_length(given: Given) -> None:
    queries = ("菜", "菜谱大", "菜谱大全", "一二三四五六七八九十", "x" * 11, "x" * 12, "x" * 13)
    log = published_log.tables()
    log["search_train"] = [
        {**log["search_train"][0], "search_idx": 20 + n, "query": query}
        for n, query in enumerate(queries)
    ]
    assert given(log, "bias.click_rate_by_query_length").execute(
        "select query_length_bin, n_requests from bias.click_rate_by_query_length"
    ).fetchall() == [(0, 1), (3, 2), (4, 1), (5, 2), (10, 1), (11, 3)]


def test_click_rate_by_query_length_official(tiny: duckdb.DuckDBPyConnection) -> None:
    # The blank query of search 12 is the text -1: two characters.
    assert tiny.execute("from bias.click_rate_by_query_length_official").fetchall() == [
        (3, 1, 0.2, 2, 1, 1.0, 0.5),
        (5, 4, 0.8, 8, 4, 1.0, 0.5),
    ]


def test_bins_of_click_rate_by_query_length_official(given: Given) -> None:
    # Three more queries join the shortest; the other bins are those of query_length.
    queries = ("", "菜", "菜谱大", "菜谱大全", "一二三四五六七八九十", "x" * 11)
    log = published_log.tables()
    log["search_train"] = [
        {**log["search_train"][0], "search_idx": 20 + n, "query": query}
        for n, query in enumerate(queries)
    ]
    view = "bias.click_rate_by_query_length_official"
    assert given(log, view).execute(
        f"select query_length_bin, n_requests from {view}"
    ).fetchall() == [(3, 4), (4, 1), (5, 2), (10, 1), (11, 1)]


def test_click_rate_by_query_source(tiny: duckdb.DuckDBPyConnection) -> None:
    # Not logged in one search as null, in another as NaN; each has one click in two impressions.
    assert tiny.execute("from bias.click_rate_by_query_source").fetchall() == [
        ("active search", 3, 0.6, 6, 3, 1.0, 0.5),
        ("not logged", 2, 0.4, 4, 2, 1.0, 0.5),
    ]


def test_click_rate_by_query_source_official(tiny: duckdb.DuckDBPyConnection) -> None:
    # What is not logged counts as other.
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


def test_classes_of_click_rate_by_reformulation(given: Given) -> None:
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
    assert given(log, "bias.click_rate_by_reformulation").execute(
        "select reformulation, n_impressions from bias.click_rate_by_reformulation"
    ).fetchall() == sorted(impressions.items())


def test_click_rate_by_reformulation_official(tiny: duckdb.DuckDBPyConnection) -> None:
    # The only blank query stands two hours apart from the one before, so nothing changes.
    assert tiny.execute("from bias.click_rate_by_reformulation_official").fetchall() == [
        ("change", 1, 0.5, 2, 1, 1.0, 0.5),
        ("repeat", 1, 0.5, 1, 0, 0.0, 0.0),
    ]


def test_blanks_of_click_rate_by_reformulation_official(given: Given) -> None:
    # A blank is the text -1: against itself a repeat, a part of x-1, and in common with 1a the 1.
    pairs = [
        ("", "", "repeat"), ("", "x-1", "add"), ("x-1", "", "delete"),
        ("1a", "", "change"), ("", "适马56", "other"), ("适马56", "", "other"),
    ]  # fmt: skip
    log = published_log.quiet()
    log["search_train"] = [
        published_log.search(
            "search_train",
            10 * user + n,
            user,
            published_log.page("search_train", "x", at_s=60 * n),
            query=query,
        )
        for user, (*queries, _) in enumerate(pairs)
        for n, query in enumerate(queries)
    ]
    views = ("bias.click_rate_by_reformulation_official", "bias.click_rate_by_reformulation")
    connection = given(log, *views)
    assert connection.execute(
        "select reformulation, n_transitions from bias.click_rate_by_reformulation_official"
    ).fetchall() == [("add", 1), ("change", 1), ("delete", 1), ("other", 2), ("repeat", 1)]
    assert connection.execute(
        "select reformulation, n_transitions from bias.click_rate_by_reformulation"
    ).fetchall() == [("blank", 6)]
