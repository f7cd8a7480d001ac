"""What the data looked like each time it was new, and what has moved since the time before.

A leaderboard can only be compared with an older one while the clicks, the places they came from,
the queries and the features are what they were. This says in words where they are not. Knows no
Dagster.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
from pyarrow import parquet

from qilin_dagster.lake import Lake, Manifest, Written, write_rows

if TYPE_CHECKING:
    import duckdb

CODE_VERSION = "1"
TABLE = "evaluation.data_drift"
# Some eighty questions are asked each time: a difference must be rarer than one in a thousand.
Z = 3.29
# A feature has moved when its mean is a tenth of its former deviation away.
LEAST_SHIFT = 0.1

SCHEMA = pa.schema(
    [
        ("profile_n", pa.int64()),
        ("data_fingerprint", pa.string()),
        ("subject", pa.string()),
        ("item", pa.string()),
        ("n_requests", pa.int64()),
        # A rate, a share, or the mean of a feature's signed logarithm.
        ("value", pa.float64()),
        ("standard_error", pa.float64()),
        # Null the first time, and where the item was not there before.
        ("previous_value", pa.float64()),
        ("is_moved", pa.bool_()),
        # What moved, as a sentence; null where nothing did.
        ("moved", pa.string()),
    ]
)

# Clicks of one request go together, so that the error is that of a ratio of sums over requests.
CLICK_RATES = """
with rates as (
    select channel, sum(n_clicks) / nullif(sum(n_impressions), 0) as rate
    from core.requests group by channel
)
select
    r.channel,
    count(*) as n_requests,
    any_value(t.rate) as rate,
    sqrt(sum(power(r.n_clicks - t.rate * r.n_impressions, 2))) / nullif(sum(r.n_impressions), 0)
        as standard_error
from core.requests as r
inner join rates as t on r.channel = t.channel
where t.rate is not null
group by r.channel
order by r.channel
"""
POSITIONS = """
select channel, position_bin, n_requests, click_rate, (click_rate_high - click_rate_low) / 3.92
from bias.click_rate_by_position
where click_rate is not null and click_rate_low is not null
order by channel, position_bin
"""
SOURCES = """
select query_source_name, sum(n_requests) over () as n_requests, request_share
from bias.click_rate_by_query_source
where request_share is not null
order by query_source_name
"""
FEATURES = """
select
    s.feature,
    (select count(distinct request_id) from features.{task}_ranking where fold = 'fit') as n,
    s.mean,
    s.deviation
from features.{task}_statistics as s
order by s.feature
"""


class Seen(NamedTuple):
    """One number of a profile; ``unit`` is what a difference is measured in, 1 for rates."""

    subject: str
    item: str
    n_requests: int
    value: float
    standard_error: float
    unit: float


def publish_drift(
    lake: Lake, connection: "duckdb.DuckDBPyConnection", inputs: dict[str, str]
) -> Manifest:
    """Add a profile of the data as it is, unless the newest one is of these very ``inputs``."""
    before = lake.manifest(TABLE)
    if (
        before is not None
        and before.code_version == CODE_VERSION
        and {name: before.inputs.get(name) for name in inputs} == inputs
    ):
        return before

    def write(folder: Path) -> Written:
        history = (
            SCHEMA.empty_table()
            if before is None
            else parquet.read_table(lake.snapshot_folder(TABLE)).cast(SCHEMA)
        )
        newest = profile(connection, history)
        moved = [row["moved"] for row in newest.to_pylist() if row["is_moved"]]
        return write_rows(pa.concat_tables([history, newest]), folder, {"moved": moved})

    named = {**inputs, "before": "nothing" if before is None else before.snapshot_id}
    return lake.publish(TABLE, inputs=named, code_version=CODE_VERSION, write=write)


def profile(connection: "duckdb.DuckDBPyConnection", history: pa.Table) -> pa.Table:
    """The data as it is beside the newest profile of ``history``, see SCHEMA."""
    rows = history.to_pylist()
    last = max((row["profile_n"] for row in rows), default=0)
    previous = {(r["subject"], r["item"]): r for r in rows if r["profile_n"] == last}
    ((fingerprint,),) = connection.execute("select fingerprint from published.data_set").fetchall()
    made = []
    for seen in look(connection):
        earlier = previous.get((seen.subject, seen.item))
        moved = None if earlier is None else _moved(seen, earlier)
        made.append(
            {
                "profile_n": last + 1,
                "data_fingerprint": fingerprint,
                "subject": seen.subject,
                "item": seen.item,
                "n_requests": seen.n_requests,
                "value": seen.value,
                "standard_error": seen.standard_error,
                "previous_value": None if earlier is None else earlier["value"],
                "is_moved": moved is not None,
                "moved": moved,
            }
        )
    return pa.Table.from_pylist(made, schema=SCHEMA)


def look(connection: "duckdb.DuckDBPyConnection") -> Iterator[Seen]:
    """Click rates, the curve by position, query sources, means of features."""
    for channel, n, rate, error in connection.execute(CLICK_RATES).fetchall():
        yield Seen("click rate", channel, n, rate, error, 1)
    for channel, place, n, rate, error in connection.execute(POSITIONS).fetchall():
        label = "11 and deeper" if place == 11 else str(place)
        yield Seen("position curve", f"{channel}, position {label}", n, rate, error, 1)
    for source, n, share in connection.execute(SOURCES).fetchall():
        error = math.sqrt(share * (1 - share) / n)
        yield Seen("query source", source or "not logged", int(n), share, error, 1)
    for task in ("search", "recommendation"):
        for feature, n, mean, deviation in connection.execute(
            FEATURES.format(task=task)
        ).fetchall():
            error = deviation / math.sqrt(max(n, 1))
            yield Seen("feature", f"{task}, {feature}", n, mean, error, deviation)


def _moved(seen: Seen, earlier: dict[str, Any]) -> str | None:
    """What moved, in words; None where chance is as good an explanation."""
    difference = seen.value - earlier["value"]
    error = math.hypot(seen.standard_error, earlier["standard_error"])
    # A rate of 0 or 1 has no error of its own; three requests more or less explain it.
    floor = 3 / max(min(seen.n_requests, earlier["n_requests"]), 1)
    if abs(difference) <= max(Z * error, floor if seen.subject != "feature" else 0):
        return None
    if seen.subject == "feature":
        if abs(difference) <= LEAST_SHIFT * seen.unit:
            return None
        by = difference / seen.unit
        return f"the mean of {seen.item} moved by {by:+.2f} deviations"
    what = {
        "click rate": f"the click rate in {seen.item}",
        "position curve": f"the click rate in {seen.item}",
        "query source": f"the share of searches from {seen.item}",
    }[seen.subject]
    return f"{what} went from {earlier['value']:.2%} to {seen.value:.2%}"
