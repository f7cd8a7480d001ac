"""Intervals that take requests, not impressions, as independent: the same in four views."""

from math import sqrt
from typing import Any

import pytest

from tests import published_log
from tests.conftest import Given

VIEWS = (
    "bias.click_rate_by_position",
    "bias.click_rate_by_session_position",
    "bias.click_rate_by_session_position_official",
    "bias.click_rate_by_hour",
)


def interval_of(given: Given, view: str, pictures: tuple[str, ...]) -> tuple[float, ...]:
    """The one row of the view over feed requests in one bin: an hour, deep places, new sessions."""
    rows = [
        published_log.feed(
            "recommendation_train",
            idx,
            idx,
            published_log.page("recommendation_train", picture, begins=11),
        )
        for idx, picture in enumerate(pictures)
    ]
    log: dict[str, list[dict[str, Any]]] = {
        **published_log.quiet(),
        "recommendation_train": rows,
    }
    ((n, clicks, *rates),) = (
        given(log, view)
        .execute(
            "select n_impressions, n_clicks, click_rate, click_rate_low, click_rate_high "
            f"from {view} where channel = 'recommendation' and n_impressions > 0"
        )
        .fetchall()
    )
    assert (n, clicks) == (len("".join(pictures)), "".join(pictures).count("x"))
    return tuple(rates)


def wilson(rate: float, n: float, z: float = 1.96) -> tuple[float, float, float]:
    """The rate and its interval as textbooks print it."""
    middle, half = rate + z * z / (2 * n), z * sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return rate, (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


@pytest.mark.parametrize("view", VIEWS)
def test_clicks_that_go_together_widen_the_interval(given: Given, view: str) -> None:
    # Clicks 3, 0, 1 of 3, 4, 3 impressions: rate 4 / 10. What each request has more than the rate
    # gives is 3 - 1.2 = 1.8, 0 - 1.6 = -1.6, 1 - 1.2 = -0.2; squares 3.24 + 2.56 + 0.04 = 5.84; the
    # variance of the ratio is 5.84 / 10^2. Independent impressions with it: 0.24 / 0.0584 = 4.11.
    found = interval_of(given, view, ("xxx", "....", "x.."))
    assert found == pytest.approx(wilson(0.4, 0.24 / 0.0584))
    assert found == pytest.approx((0.4, 0.10438, 0.79225), abs=1e-5)


@pytest.mark.parametrize("view", VIEWS)
def test_clicks_spread_evenly_are_worth_no_more_than_the_impressions(
    given: Given, view: str
) -> None:
    # One click in every two: no variance over requests, so the four impressions count.
    assert interval_of(given, view, ("x.", ".x")) == pytest.approx(wilson(0.5, 4))
    # Clicks 1 of 3 and 1 of 2, rate 2 / 5: variance (0.2^2 + 0.2^2) / 25 would be worth 75.
    assert interval_of(given, view, ("x..", ".x")) == pytest.approx(wilson(0.4, 5))


@pytest.mark.parametrize(("picture", "rate"), [("....", 0.0), ("xxxx", 1.0)])
def test_a_rate_without_spread_takes_all_impressions(
    given: Given, picture: str, rate: float
) -> None:
    found = interval_of(given, VIEWS[0], (picture, picture))
    assert found == pytest.approx(wilson(rate, 8), abs=1e-12)
