"""The paper's numbers beside those of a hand-written log, by hand."""

import duckdb
import pytest

from tests import published_log
from tests.conftest import Given


def test_paper_values(tiny: duckdb.DuckDBPyConnection) -> None:
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
    missing = given(log, "bias.paper_values").execute(
        "select distinct paper_table from bias.paper_values where our_value is null "
        "and (paper_table like 'Section%' or paper_table in ('Table 2', 'Table 7', 'Table 9'))"
    )
    assert missing.fetchall() == []
