"""Views of users over a hand-written log, by hand."""

from typing import Any

import duckdb

from tests import published_log
from tests.conftest import Given


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


def test_click_rate_by_user_decile(given: Given) -> None:
    # Pages of 50 with 1 to 11 clicks for users 1 to 11. User 14 has 6 clicks too, in two requests
    # of 25, and comes after user 6. User 13 has 49 impressions and is not here. Twelve users in
    # tenths: the first two hold two each. 72 clicks in all.
    def search(search_idx: int, user_idx: int, n_clicks: int, n: int) -> dict[str, Any]:
        details = published_log.page("search_train", "x" * n_clicks + "." * (n - n_clicks))
        return published_log.search("search_train", search_idx, user_idx, details)

    log = published_log.quiet()
    log["search_train"] = [search(n, n, n, 50) for n in range(1, 12)]
    log["search_train"] += [search(13, 13, 49, 49), search(14, 14, 6, 25), search(15, 14, 0, 25)]
    # In the feed one user, who never clicked: a tenth without a share.
    log["recommendation_train"] = [
        published_log.feed(
            "recommendation_train", 1, 1, published_log.page("recommendation_train", "." * 50)
        )
    ]
    assert given(log, "bias.click_rate_by_user_decile").execute(
        "from bias.click_rate_by_user_decile"
    ).fetchall() == [
        ("recommendation", 1, 1, 1, 50, 0, 0.0, None),
        ("search", 1, 2, 2, 100, 3, 0.03, 3 / 72),
        ("search", 2, 2, 2, 100, 7, 0.07, 7 / 72),
        ("search", 3, 1, 1, 50, 5, 0.1, 5 / 72),
        ("search", 4, 1, 1, 50, 6, 0.12, 6 / 72),
        ("search", 5, 1, 2, 50, 6, 0.12, 6 / 72),
        *(("search", n - 1, 1, 1, 50, n, n / 50, n / 72) for n in range(7, 12)),
    ]
