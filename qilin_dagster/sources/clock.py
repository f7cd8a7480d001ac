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


@dataclass(frozen=True)
class TableClock:
    """How the ticks of one table become UTC: ticks * microseconds_per_tick - ahead_s * 10^6."""

    source_table: str
    microseconds_per_tick: int
    ahead_s: int
    evidence: str


def decide_clocks(data: DataFolder, search_offset: str = "auto") -> list[TableClock]:
    """One clock per request table; ``search_offset`` in hours overrides the detection.

    Raises InputError when a table has no usable time or the offset is not a number.
    """
    units: dict[str, int] = {}
    medians_h: dict[str, float] = {}
    for name in TIME_FIELD:
        median = _median_ticks(data.tables[name])
        units[name] = _microseconds_per_tick(name, median)
        medians_h[name] = median * units[name] / 3.6e9

    ahead_h, evidence = _search_ahead(medians_h, search_offset)
    names = {1_000_000: "seconds", 1_000: "milliseconds", 1: "microseconds"}
    return [
        TableClock(
            source_table=name,
            microseconds_per_tick=unit,
            ahead_s=0 if name.startswith("recommendation") else round(ahead_h * 3600),
            evidence=f"times read as {names[unit]} by their magnitude; "
            + ("taken as true UTC" if name.startswith("recommendation") else evidence),
        )
        for name, unit in units.items()
    ]


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


def _median_ticks(table: PublishedTable) -> float:
    chunks = [pc.cast(chunk, pa.float64(), safe=False) for chunk in read_ticks(table)]
    ticks = pa.chunked_array(chunks, type=pa.float64())
    usable = ticks.filter(pc.and_kleene(pc.is_finite(ticks), pc.greater(ticks, 0)))
    if len(usable) == 0:
        raise InputError(
            f"table {table.name}: no usable {TIME_FIELD[table.name]} in any of its impressions"
        )
    return float(np.median(usable.to_numpy()))


def _microseconds_per_tick(table: str, median: float) -> int:
    for limit, microseconds in MICROSECONDS_PER_TICK:
        if median < limit:
            return microseconds
    raise InputError(
        f"table {table}: median {TIME_FIELD[table]} {median:.0f} is no time in seconds, "
        "milliseconds or microseconds since 1970"
    )
