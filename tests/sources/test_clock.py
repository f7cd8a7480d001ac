"""The tick and the offset of each table's clock, decided from the data."""

from pathlib import Path

import pytest

from qilin_dagster.errors import InputError
from qilin_dagster.sources.clock import decide_clocks
from qilin_dagster.sources.published import DataFolder, inspect
from tests import published_log as log


def data_with(tmp_path: Path, *, search_shift_s: float = 0, feed_factor: float = 1) -> DataFolder:
    """The hand-written log with its search clock moved and its feed ticks scaled."""
    tables = log.tables()
    for name, rows in tables.items():
        for row in rows:
            for column in ("search_result_details_with_idx", "rec_result_details_with_idx"):
                for entry in row.get(column, []):
                    if name.startswith("recommendation"):
                        scaled = entry["request_timestamp"] * feed_factor
                        entry["request_timestamp"] = int(scaled)
                    else:
                        moved = entry["search_timestamp"] + search_shift_s
                        entry["search_timestamp"] = moved
    return inspect(log.write(tmp_path / "data", tables))


def clocks(data: DataFolder, offset: str = "auto") -> dict[str, tuple[int, int]]:
    return {
        clock.source_table: (clock.microseconds_per_tick, clock.ahead_s)
        for clock in decide_clocks(data, offset)
    }


def test_units_by_magnitude_and_eight_hours_by_the_test_tables(tmp_path: Path) -> None:
    assert clocks(data_with(tmp_path)) == {
        "search_train": (1_000_000, 28_800),
        "search_test": (1_000_000, 28_800),
        "recommendation_train": (1_000, 0),
        "recommendation_test": (1_000, 0),
        "dqa": (1_000_000, 28_800),
    }


def test_a_clock_that_is_right_is_left_alone(tmp_path: Path) -> None:
    data = data_with(tmp_path, search_shift_s=-8 * 3600)
    assert clocks(data)["search_test"] == (1_000_000, 0)


def test_a_feed_in_seconds_is_read_in_seconds(tmp_path: Path) -> None:
    data = data_with(tmp_path, feed_factor=0.001)
    assert clocks(data)["recommendation_test"] == (1_000_000, 0)
    assert clocks(data)["search_test"] == (1_000_000, 28_800)


def test_what_fits_neither_is_said(tmp_path: Path) -> None:
    decided = decide_clocks(data_with(tmp_path, search_shift_s=30 * 3600))
    assert {clock.ahead_s for clock in decided} == {0}
    assert "UNDECIDED" in next(c.evidence for c in decided if c.source_table == "dqa")


def test_a_given_offset_decides(tmp_path: Path) -> None:
    assert clocks(data_with(tmp_path), "5.5")["dqa"] == (1_000_000, 19_800)


@pytest.mark.parametrize("offset", ["eight", ""])
def test_an_offset_that_is_no_number_is_named(tmp_path: Path, offset: str) -> None:
    with pytest.raises(InputError, match="neither auto nor a number of hours"):
        decide_clocks(data_with(tmp_path), offset)


def test_ticks_of_no_known_unit_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"recommendation_train.*no time in seconds"):
        decide_clocks(data_with(tmp_path, feed_factor=1e6))


def test_the_real_sample_has_the_eight_hours(real_data: Path) -> None:
    decided = clocks(inspect(real_data / "qilin_sample"))
    assert decided["search_train"] == (1_000_000, 28_800)
    assert decided["recommendation_train"] == (1_000, 0)


def test_absurd_times_move_neither_the_clock_nor_its_bounds(tmp_path: Path) -> None:
    good = decide_clocks(data_with(tmp_path / "good"))
    tables = log.tables()
    for value in (1, 4_102_444_800_000, 2**62):
        request = log.tables()["recommendation_train"][0]
        request["rec_result_details_with_idx"][0]["request_timestamp"] = value
        tables["recommendation_train"] += [log.tables()["recommendation_train"][0]] * 9 + [request]
    bad = decide_clocks(inspect(log.write(tmp_path / "bad", tables)))
    for before, after in zip(good, bad, strict=True):
        assert (after.microseconds_per_tick, after.ahead_s) == (
            before.microseconds_per_tick,
            before.ahead_s,
        )
        # Days at most: the log of a few rows has its own spread.
        assert abs(after.latest_s - before.latest_s) < 7 * 86_400
        assert abs(after.earliest_s - before.earliest_s) < 7 * 86_400


def test_times_are_bounded_by_the_log_and_not_by_the_day_it_is_read(tmp_path: Path) -> None:
    for clock in decide_clocks(data_with(tmp_path)):
        assert clock.earliest_s < log.NOON - 300 * 86_400
        assert log.NOON + 7 * 86_400 < clock.latest_s < log.NOON + 20 * 86_400
