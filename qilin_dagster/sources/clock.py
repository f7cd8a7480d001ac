"""Finds out what the exposure times of each table mean: the tick, and how far a clock runs ahead.

The release writes search times in seconds and feed times in milliseconds, and the search clock
shows China's wall time as if it were UTC, 8 hours ahead of the feed clock. Nothing in the release
says so, therefore it is decided here from the data, with the evidence kept beside the decision.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qilin_dagster.errors import InputError
from qilin_dagster.sources.layout import TIME_FIELD
from qilin_dagster.sources.published import DataFolder, PublishedTable, read_ticks

# Seconds since 1970 have 10 digits until 2286, milliseconds 13, microseconds 16.
MICROSECONDS_PER_TICK = ((1e11, 1_000_000), (1e14, 1_000), (1e17, 1))
CHINA_AHEAD_H = 8
# A difference farther than this from 8 h is explained by neither clock.
FARTHEST_H = 6
# No exposure lies later than this after the median of its table, or earlier than this before it,
# unless the log itself is long: then four times the span of its middle four fifths is added. Lists
# that were looked at again lie days before the log day, so the past is given more room.
LATEST_AFTER_S = 7 * 86_400
EARLIEST_BEFORE_S = 365 * 86_400
SPANS = 4


@dataclass(frozen=True)
class TableClock:
    """How the ticks of one table become UTC: ticks * microseconds_per_tick - ahead_s * 10^6.

    ``earliest_s`` and ``latest_s`` (seconds since 1970, UTC) bound the times that can belong to
    the table. They come from the table itself, by ranks, which no absurd time can move.
    """

    source_table: str
    microseconds_per_tick: int
    ahead_s: int
    earliest_s: int
    latest_s: int
    evidence: str


def decide_clocks(data: DataFolder, search_offset: str = "auto") -> list[TableClock]:
    """One clock per request table; ``search_offset`` in hours overrides the detection.

    Raises InputError when a table has no usable time or the offset is not a number.
    """
    units: dict[str, int] = {}
    seconds: dict[str, tuple[float, float, float]] = {}
    for name in TIME_FIELD:
        low, median, high = _middle_ticks(data.tables[name])
        units[name] = _microseconds_per_tick(name, median)
        per_s = units[name] / 1e6
        seconds[name] = (low * per_s, median * per_s, high * per_s)

    medians_h = {name: median / 3600 for name, (_, median, _) in seconds.items()}
    ahead_h, evidence = _search_ahead(medians_h, search_offset)
    return [
        _table_clock(name, units[name], seconds[name], ahead_h, evidence) for name in TIME_FIELD
    ]


def _table_clock(
    name: str, unit: int, middle_s: tuple[float, float, float], ahead_h: float, evidence: str
) -> TableClock:
    is_feed = name.startswith("recommendation")
    ahead_s = 0 if is_feed else round(ahead_h * 3600)
    low, median, high = middle_s
    room = SPANS * (high - low)
    unit_name = {1_000_000: "seconds", 1_000: "milliseconds", 1: "microseconds"}[unit]
    return TableClock(
        source_table=name,
        microseconds_per_tick=unit,
        ahead_s=ahead_s,
        earliest_s=round(median - ahead_s - EARLIEST_BEFORE_S - room),
        latest_s=round(median - ahead_s + LATEST_AFTER_S + room),
        evidence=f"times read as {unit_name} by their magnitude; "
        + ("taken as true UTC" if is_feed else evidence),
    )


def _search_ahead(medians_h: dict[str, float], search_offset: str) -> tuple[float, str]:
    if search_offset != "auto":
        try:
            given = float(search_offset)
        except ValueError as error:
            raise InputError(
                f"search clock offset {search_offset!r} is neither auto nor a number of hours"
            ) from error
        return given, f"clock taken as {given:g} h ahead because it was given so"
    # Both test tables hold the last hours of the same day, so without a shift their medians lie
    # within a few hours of each other.
    difference = medians_h["search_test"] - medians_h["recommendation_test"]
    measured = f"median search_test - median recommendation_test = {difference:.1f} h"
    if abs(difference) < CHINA_AHEAD_H / 2:
        return 0, f"clock taken as true UTC: {measured}, nearer to 0 than to 8"
    if abs(difference - CHINA_AHEAD_H) < FARTHEST_H:
        return CHINA_AHEAD_H, f"clock taken as 8 h ahead: {measured}, nearer to 8 than to 0"
    return 0, (
        f"UNDECIDED, clock taken as true UTC: {measured}, near neither 0 nor 8; "
        "name the offset in hours if you know it"
    )


def _middle_ticks(table: PublishedTable) -> tuple[float, float, float]:
    """The ticks a tenth, a half and nine tenths through the table, as written."""
    chunks = [pc.cast(chunk, pa.float64(), safe=False) for chunk in read_ticks(table)]
    ticks = pa.chunked_array(chunks, type=pa.float64())
    usable = ticks.filter(pc.and_kleene(pc.is_finite(ticks), pc.greater(ticks, 0)))
    if len(usable) == 0:
        raise InputError(
            f"table {table.name}: no usable {TIME_FIELD[table.name]} in any of its impressions"
        )
    low, median, high = np.quantile(usable.to_numpy(), [0.1, 0.5, 0.9])
    return float(low), float(median), float(high)


def _microseconds_per_tick(table: str, median: float) -> int:
    for limit, microseconds in MICROSECONDS_PER_TICK:
        if median < limit:
            return microseconds
    raise InputError(
        f"table {table}: median {TIME_FIELD[table]} {median:.0f} is no time in seconds, "
        "milliseconds or microseconds since 1970"
    )
