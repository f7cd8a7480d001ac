"""Plots of the report as Vega-Lite specifications, in colours by name: `var(--name)`.

A browser takes the names from the page's style sheet, so one plot serves light, dark and print.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any

from qilin_dagster.report_blocks import (
    CHANNELS,
    Row,
    bin_label,
    channel_label,
    interval,
    is_number,
    metric_label,
    percent_interval,
    run_label,
)

# The page sets these as CSS variables for light and dark; a PNG has no style sheet and is light.
LIGHT = {
    "search": "#1d6a8a",
    "recommendation": "#c2502f",
    "ink": "#1c1f23",
    "muted": "#646b73",
    "line": "#dcdfe3",
    "paper": "#ffffff",
}
DARK = {
    "search": "#62b8d8",
    "recommendation": "#f2916f",
    "ink": "#e6e7e9",
    "muted": "#9aa1a9",
    "line": "#343a41",
    "paper": "#15181b",
}
FONT = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"


def position_chart(rows: Sequence[Row]) -> dict[str, Any] | None:
    """Click rate by position; None when no row has a rate."""
    return _curve_chart(rows, "position_bin", "Position in the list the app returned", "Position")


def session_position_chart(rows: Sequence[Row]) -> dict[str, Any] | None:
    """Click rate by order in the app session; None when no row has a rate."""
    return _curve_chart(
        rows,
        "session_position_bin",
        "Order of the request in its app session",
        "Order in session",
    )


def _colour(name: str) -> str:
    return f"var(--{name})"


def printed_spec(spec: dict[str, Any]) -> dict[str, Any]:
    """The same chart for paper: colours of the light page, a fixed width, a background."""
    text = json.dumps(spec)
    for name, value in LIGHT.items():
        text = text.replace(_colour(name), value)
    printed: dict[str, Any] = json.loads(text)
    printed |= {"width": 620, "background": LIGHT["paper"], "padding": 16, "autosize": "pad"}
    return printed


def _curve_chart(
    rows: Sequence[Row], column: str, axis_title: str, short_title: str
) -> dict[str, Any] | None:
    import altair as alt

    points = [
        {
            "channel": channel_label(row["channel"]),
            "bin": row[column],
            "label": bin_label(row[column]),
            # The two channels stand a little apart so that intervals do not cover each other.
            "x": row[column] + (0.09 if row["channel"] == "recommendation" else -0.09),
            "rate": float(row["click_rate"]),
            "low": float(row["click_rate_low"]),
            "high": float(row["click_rate_high"]),
            "n_clicks": int(row["n_clicks"]),
            "n_impressions": int(row["n_impressions"]),
            "interval": percent_interval(row["click_rate_low"], row["click_rate_high"]),
        }
        for row in rows
        if row[column] is not None
        and all(is_number(row[c]) for c in ("click_rate", "click_rate_low", "click_rate_high"))
    ]
    if not points:
        return None
    # The wide interval of a rare place must not flatten the curve: it may leave the plot.
    highs = [point["high"] for point in points if 1 <= point["bin"] <= 10]
    top = min(1.0, 1.06 * max([*highs, *(point["rate"] for point in points)]))
    channels = [channel_label(channel) for channel in CHANNELS]
    first = min(point["bin"] for point in points)
    colour = alt.Color(
        "channel:N",
        scale=alt.Scale(domain=channels, range=[_colour(channel) for channel in CHANNELS]),
        legend=alt.Legend(title=None, orient="top", symbolOpacity=1, offset=10),
    )
    base = alt.Chart(alt.InlineData(values=points)).encode(
        x=alt.X(
            "x:Q",
            title=axis_title,
            scale=alt.Scale(domain=[first - 0.4, 11.4], nice=False),
            axis=alt.Axis(
                values=list(range(first, 12)),
                labelExpr="datum.value == 11 ? '>10' : format(datum.value, 'd')",
                grid=False,
            ),
        ),
        color=colour,
    )
    rate = alt.Y(
        "rate:Q",
        title="Click rate",
        scale=alt.Scale(domain=[0, top], nice=False),
        axis=alt.Axis(format=".0%", tickCount=5),
    )
    intervals = base.mark_rule(strokeWidth=5, opacity=0.28, clip=True).encode(
        y=alt.Y("low:Q", title="Click rate"), y2="high:Q"
    )
    # Neither the card on top nor the pool of deep places is a next step of the curve.
    line = (
        base.transform_filter("datum.bin >= 1 && datum.bin <= 10")
        .mark_line(strokeWidth=1.6)
        .encode(y=rate)
    )
    dots = base.mark_point(filled=True, size=62, opacity=1).encode(
        y=rate,
        shape=alt.Shape("channel:N", scale=alt.Scale(domain=channels, range=["circle", "square"])),
        tooltip=[
            alt.Tooltip("channel:N", title="Channel"),
            alt.Tooltip("label:N", title=short_title),
            alt.Tooltip("rate:Q", title="Click rate", format=".2%"),
            alt.Tooltip("interval:N", title="95% interval"),
            alt.Tooltip("n_clicks:Q", title="Clicks", format=","),
            alt.Tooltip("n_impressions:Q", title="Impressions", format=","),
        ],
    )
    return _finished(alt.layer(intervals, line, dots).properties(height=300))


def leaderboard_chart(
    task: str, rows: Sequence[Row], runs: Sequence[str], headline: str
) -> dict[str, Any]:
    import altair as alt

    points = [
        {
            "run": run_label(row["run"]),
            "kind": row["kind"],
            "metric": row["metric"],
            "metric_label": metric_label(row["metric"]),
            "value": float(row["value"]),
            "low": float(row["low"]) if is_number(row["low"]) else None,
            "high": float(row["high"]) if is_number(row["high"]) else None,
            "interval": interval(row["low"], row["high"]) or "not computed",
            "n_requests": int(row["n_requests"]) if is_number(row["n_requests"]) else None,
        }
        for row in rows
        if is_number(row["value"])
    ]
    models = [run_label(row["run"]) for row in rows if row["kind"] == "model"]
    weight: Any = {
        "condition": {"test": f"indexof({json.dumps(models)}, datum.label) >= 0", "value": 700},
        "value": 400,
    }
    colour = alt.Color(
        "kind:N",
        legend=None,
        scale=alt.Scale(domain=["anchor", "model"], range=[_colour("muted"), _colour(task)]),
    )
    metric = alt.param(name="metric", value=headline)
    base = (
        alt.Chart(alt.InlineData(values=points))
        .transform_filter("datum.metric == metric")
        .encode(
            y=alt.Y(
                "run:N",
                title=None,
                sort=[run_label(run) for run in runs],
                axis=alt.Axis(
                    labelFontWeight=weight, labelColor=_colour("ink"), labelLimit=190, ticks=False
                ),
            ),
            color=colour,
        )
    )
    value = alt.X(
        "value:Q",
        title=None,
        scale=alt.Scale(domain=[0, 1], nice=False),
        axis=alt.Axis(values=[0, 0.2, 0.4, 0.6, 0.8, 1], format=".1f", labelFlush=False),
    )
    intervals = base.mark_rule(strokeWidth=6, opacity=0.3).encode(
        x=alt.X("low:Q", title=None), x2="high:Q"
    )
    dots = base.mark_point(filled=True, size=64, opacity=1).encode(
        x=value,
        shape=alt.Shape(
            "kind:N",
            legend=None,
            scale=alt.Scale(domain=["anchor", "model"], range=["circle", "diamond"]),
        ),
        tooltip=[
            alt.Tooltip("run:N", title="Run"),
            alt.Tooltip("kind:N", title="Kind"),
            alt.Tooltip("metric_label:N", title="Metric"),
            alt.Tooltip("value:Q", title="Value", format=".4f"),
            alt.Tooltip("interval:N", title="95% interval"),
            alt.Tooltip("n_requests:Q", title="Requests", format=","),
        ],
    )
    # The values stand in one column beyond the right edge.
    texts = base.mark_text(align="right", dx=52, fontSize=12).encode(
        x=alt.value("width"), text=alt.Text("value:Q", format=".3f")
    )
    chart = alt.layer(intervals, dots, texts).add_params(metric)
    return _finished(chart.properties(height=27 * len(runs)))


def _finished(chart: Any) -> dict[str, Any]:
    """Width of its container, the page's type and colours, no address of any server."""
    quiet = {
        "labelColor": _colour("muted"),
        "titleColor": _colour("muted"),
        "gridColor": _colour("line"),
        "domainColor": _colour("line"),
        "tickColor": _colour("line"),
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 10,
        "labelPadding": 6,
    }
    config = {
        "font": FONT,
        "background": "transparent",
        "view": {"stroke": None},
        "axis": quiet,
        "axisY": {"domain": False, "ticks": False},
        "legend": {"labelColor": _colour("ink"), "labelFontSize": 13, "symbolSize": 90},
        "text": {"color": _colour("ink")},
    }
    spec: dict[str, Any] = chart.properties(width="container").to_dict()
    spec.pop("$schema")
    return spec | {"config": config, "autosize": {"type": "fit-x", "contains": "padding"}}


@functools.cache
def charts_javascript() -> str:
    """Vega, Vega-Lite and vega-embed as one script: 0.9 MB, embedded once."""
    import vl_convert

    script: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]
    if "</script" in script.lower() or "<!--" in script:
        raise ValueError("the bundled chart script cannot be embedded in a page as it is")
    return script
