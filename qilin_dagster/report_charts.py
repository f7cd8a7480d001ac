"""Plots of the report as Vega-Lite specifications, in colours by name: `var(--name)`.

A browser takes the names from the page's style sheet, so one plot serves light, dark and print.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any

from qilin_dagster.report_blocks import (
    Row,
    bin_label,
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
    "text": "#4a7a3d",
    "video": "#7b55a8",
    "ink": "#1c1f23",
    "muted": "#646b73",
    "line": "#dcdfe3",
    "paper": "#ffffff",
}
DARK = {
    "search": "#62b8d8",
    "recommendation": "#f2916f",
    "text": "#93c47d",
    "video": "#b9a0e0",
    "ink": "#e6e7e9",
    "muted": "#9aa1a9",
    "line": "#343a41",
    "paper": "#15181b",
}
# Of plots below or beside each other, in pixels of a page that is wide enough.
PANEL_WIDTH = 560
FONT = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"


# How the series of a curve are drawn: value in the table, label, colour, shape.
CHANNEL_SERIES = (
    ("search", "Search", "search", "circle"),
    ("recommendation", "Recommendation", "recommendation", "square"),
)
FORM_SERIES = (
    ("image-text", "Image-text", "text", "circle"),
    ("video", "Video", "video", "square"),
)
Series = tuple[tuple[str, str, str, str], ...]


def position_chart(rows: Sequence[Row]) -> dict[str, Any] | None:
    """Click rate by position; None when no row has a rate."""
    return curve_chart(rows, "position_bin", "Position in the list the app returned", "Position")


def session_position_chart(
    rows: Sequence[Row], column: str = "session_position_bin"
) -> dict[str, Any] | None:
    """Click rate by order in the app session; None when no row has a rate."""
    return curve_chart(rows, column, "Order of the request in its app session", "Order in session")


def video_share_chart(rows: Sequence[Row]) -> dict[str, Any] | None:
    """Share of video by position; None when no row has a share."""
    return curve_chart(
        rows,
        "position_bin",
        "Position in the list the app returned",
        "Position",
        y=("video_share", "Share of video"),
        limits=None,
        n=("n_videos", "Videos"),
    )


def form_chart(rows: Sequence[Row], channel: str) -> dict[str, Any] | None:
    """Click rate of a channel by position and note form; None when no row has a rate."""
    return curve_chart(
        [row for row in rows if row["channel"] == channel],
        "position_bin",
        "Position in the list the app returned",
        "Position",
        limits=("wilson_low", "wilson_high"),
        series=("note_form", FORM_SERIES),
    )


def hour_chart(rows: Sequence[Row]) -> dict[str, Any] | None:
    """Click rate by hour of the day; None when no row has a rate."""
    return curve_chart(rows, "hour_of_day", "Hour of China's clock", "Hour", pooled=False)


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


def curve_chart(
    rows: Sequence[Row],
    column: str,
    axis_title: str,
    short_title: str,
    *,
    y: tuple[str, str] = ("click_rate", "Click rate"),
    limits: tuple[str, str] | None = ("click_rate_low", "click_rate_high"),
    n: tuple[str, str] = ("n_clicks", "Clicks"),
    series: tuple[str, Series] = ("channel", CHANNEL_SERIES),
    pooled: bool = True,
    most: float = 1.0,
) -> dict[str, Any] | None:
    """A rate by bin, a line for each series, with intervals; None when no row has a rate.

    ``y`` and ``n`` are (column, title); ``limits`` the columns of the interval, if any. In
    ``pooled`` bins 11 stands for all beyond 10 and 0 for a card on top: neither is on the line.
    The plot ends at ``most``.
    """
    import altair as alt

    value, y_title = y
    split, drawn = series
    labels = {name: label for name, label, _, _ in drawn}
    needed = (value, *(limits or ()))
    points = [
        {
            "series": labels[row[split]],
            "bin": row[column],
            "label": bin_label(row[column]) if pooled else str(row[column]),
            # The series stand a little apart so that intervals do not cover each other.
            "x": row[column] + (-0.09 if row[split] == drawn[0][0] else 0.09),
            "rate": float(row[value]),
            "low": float(row[limits[0]]) if limits else None,
            "high": float(row[limits[1]]) if limits else None,
            "n": int(row[n[0]]),
            "n_impressions": int(row["n_impressions"]),
            "interval": percent_interval(row[limits[0]], row[limits[1]]) if limits else "",
        }
        for row in rows
        if row[column] is not None
        and row[split] in labels
        and all(is_number(row[c]) for c in needed)
    ]
    if not points:
        return None
    # The wide interval of a rare place must not flatten the curve: it may leave the plot.
    highs = [
        point["high"] for point in points if limits and (not pooled or 1 <= point["bin"] <= 10)
    ]
    top = min(most, 1.06 * max([*highs, *(point["rate"] for point in points)]))
    first = min(point["bin"] for point in points)
    last = 11 if pooled else max(point["bin"] for point in points)
    domain = [label for _, label, _, _ in drawn]
    colour = alt.Color(
        "series:N",
        scale=alt.Scale(domain=domain, range=[_colour(colour) for _, _, colour, _ in drawn]),
        legend=alt.Legend(title=None, orient="top", symbolOpacity=1, offset=10),
    )
    pool_label = "datum.value == 11 ? '>10' : format(datum.value, 'd')"
    base = alt.Chart(alt.InlineData(values=points)).encode(
        x=alt.X(
            "x:Q",
            title=axis_title,
            scale=alt.Scale(domain=[first - 0.4, last + 0.4], nice=False),
            axis=alt.Axis(
                values=list(range(first, last + 1)),
                labelExpr=pool_label if pooled else "format(datum.value, 'd')",
                grid=False,
            ),
        ),
        color=colour,
    )
    rate = alt.Y(
        "rate:Q",
        title=y_title,
        scale=alt.Scale(domain=[0, top], nice=False),
        axis=alt.Axis(format=".0%", tickCount=5),
    )
    intervals = base.mark_rule(strokeWidth=5, opacity=0.28, clip=True).encode(
        y=alt.Y("low:Q", title=y_title), y2="high:Q"
    )
    # Neither the card on top nor the pool of deep places is a next step of the curve.
    on_line = base.transform_filter("datum.bin >= 1 && datum.bin <= 10") if pooled else base
    line = on_line.mark_line(strokeWidth=1.6).encode(y=rate)
    shapes = [shape for _, _, _, shape in drawn]
    tooltip = [
        alt.Tooltip("series:N", title=split.replace("_", " ").capitalize()),
        alt.Tooltip("label:N", title=short_title),
        alt.Tooltip("rate:Q", title=y_title, format=".2%"),
        *([alt.Tooltip("interval:N", title="95% interval")] if limits else []),
        alt.Tooltip("n:Q", title=n[1], format=","),
        alt.Tooltip("n_impressions:Q", title="Impressions", format=","),
    ]
    dots = base.mark_point(filled=True, size=62, opacity=1).encode(
        y=rate,
        shape=alt.Shape("series:N", scale=alt.Scale(domain=domain, range=shapes)),
        tooltip=tooltip,
    )
    layers = [*([intervals] if limits else []), line, dots]
    return _finished(alt.layer(*layers).properties(height=300))


def rates_chart(
    points: Sequence[dict[str, Any]], labels: Sequence[str], title: str
) -> dict[str, Any]:
    """A rate for each label, a dot and an interval for each channel that has one.

    ``points`` hold label, series (a channel's label, or nothing), rate, low, high (or None), and
    the words of a tooltip: interval, n_clicks. A click on the legend shows one channel alone.
    """
    import altair as alt

    drawn = [label for _, label, _, _ in CHANNEL_SERIES]
    is_split = any(point["series"] for point in points)
    top = min(1.0, 1.06 * max(point["high"] or point["rate"] for point in points))
    chosen = alt.selection_point(name="chosen", fields=["series"], bind="legend")
    apart: dict[str, Any] = {"yOffset": alt.YOffset("series:N", sort=drawn)} if is_split else {}
    base = alt.Chart(alt.InlineData(values=list(points))).encode(
        y=alt.Y(
            "label:N",
            title=None,
            sort=list(labels),
            axis=alt.Axis(labelColor=_colour("ink"), labelLimit=190, ticks=False),
        ),
        color=alt.Color(
            "series:N",
            scale=alt.Scale(
                domain=drawn if is_split else [""],
                range=[_colour(c) for _, _, c, _ in CHANNEL_SERIES]
                if is_split
                else [_colour("search")],
            ),
            legend=alt.Legend(title=None, orient="top", symbolOpacity=1, offset=10)
            if is_split
            else None,
        ),
        opacity=alt.condition(chosen, alt.value(1), alt.value(0.12)),
        **apart,
    )
    rate = alt.X(
        "rate:Q",
        title=title,
        scale=alt.Scale(domain=[0, top], nice=False),
        axis=alt.Axis(format=".0%", tickCount=6),
    )
    intervals = base.mark_rule(strokeWidth=5).encode(
        x=alt.X("low:Q", title=title),
        x2="high:Q",
        opacity=alt.condition(chosen, alt.value(0.28), alt.value(0.06)),
    )
    dots = base.mark_point(filled=True, size=62).encode(
        x=rate,
        tooltip=[
            alt.Tooltip("label:N", title="Group"),
            *([alt.Tooltip("series:N", title="Channel")] if is_split else []),
            alt.Tooltip("rate:Q", title=title, format=".2%"),
            alt.Tooltip("interval:N", title="95% interval"),
            alt.Tooltip("n:N", title="Out of"),
        ],
    )
    height = (30 if is_split else 24) * len(labels)
    return _finished(alt.layer(intervals, dots).add_params(chosen).properties(height=height))


def history_chart(rows: Sequence[Row], metric: str) -> dict[str, Any]:
    """A metric of each model at each evaluation, with its interval; a click shows one model."""
    import altair as alt

    points: list[dict[str, Any]] = [
        {
            "run": run_label(row["run"]),
            "n": int(row["evaluation_n"]),
            "value": float(row["value"]),
            "low": float(row["low"]) if is_number(row["low"]) else None,
            "high": float(row["high"]) if is_number(row["high"]) else None,
            "interval": interval(row["low"], row["high"]) or "not computed",
            "at": f"{row['evaluated_at']:%d %B %Y}",
        }
        for row in rows
        if is_number(row["value"])
    ]
    chosen = alt.selection_point(name="chosen", fields=["run"], bind="legend")
    numbers = sorted({point["n"] for point in points})
    base = alt.Chart(alt.InlineData(values=points)).encode(
        x=alt.X(
            "n:O",
            title="Evaluation",
            axis=alt.Axis(values=numbers, labelAngle=0, grid=False),
        ),
        color=alt.Color(
            "run:N",
            legend=alt.Legend(title=None, orient="top", symbolOpacity=1, offset=10),
            scale=alt.Scale(
                range=[_colour(c) for c in ("search", "recommendation", "text", "video", "muted")]
            ),
        ),
        opacity=alt.condition(chosen, alt.value(1), alt.value(0.12)),
    )
    value = alt.Y("value:Q", title=metric_label(metric), scale=alt.Scale(zero=False))
    intervals = base.mark_rule(strokeWidth=5).encode(
        y=alt.Y("low:Q", title=metric_label(metric)),
        y2="high:Q",
        opacity=alt.condition(chosen, alt.value(0.2), alt.value(0.05)),
    )
    dots = base.mark_line(point=alt.OverlayMarkDef(filled=True, size=60)).encode(
        y=value,
        tooltip=[
            alt.Tooltip("run:N", title="Run"),
            alt.Tooltip("n:O", title="Evaluation"),
            alt.Tooltip("at:N", title="On"),
            alt.Tooltip("value:Q", title="Value", format=".4f"),
            alt.Tooltip("interval:N", title="95% interval"),
        ],
    )
    return _finished(alt.layer(intervals, dots).add_params(chosen).properties(height=260))


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


def effects_chart(points: Sequence[Row]) -> dict[str, Any]:
    """Estimates with their intervals, a line for each, in the order given; ``kind`` is raw or
    adjusted."""
    import altair as alt

    base = alt.Chart(alt.InlineData(values=list(points))).encode(
        y=alt.Y(
            "estimator:N",
            title=None,
            sort=[point["estimator"] for point in points],
            axis=alt.Axis(labelColor=_colour("ink"), labelLimit=260, ticks=False),
        ),
        color=alt.Color(
            "kind:N",
            legend=None,
            scale=alt.Scale(
                domain=["raw", "adjusted"], range=[_colour("muted"), _colour("search")]
            ),
        ),
    )
    none = (
        alt.Chart(alt.InlineData(values=[{"value": 0}]))
        .mark_rule(strokeDash=[3, 3], color=_colour("muted"))
        .encode(x="value:Q")
    )
    intervals = base.mark_rule(strokeWidth=5, opacity=0.3).encode(
        x=alt.X("low:Q", title="Clicks more (right) or fewer (left) with an answer"), x2="high:Q"
    )
    dots = base.mark_point(filled=True, size=62, opacity=1).encode(
        x="value:Q",
        tooltip=[
            alt.Tooltip("estimator:N", title="Estimator"),
            alt.Tooltip("value:Q", title="Effect", format=".3f"),
            alt.Tooltip("low:Q", title="Low", format=".3f"),
            alt.Tooltip("high:Q", title="High", format=".3f"),
        ],
    )
    chart = alt.layer(none, intervals, dots)
    return _finished(chart.properties(height=24 * len(points)))


def difference_chart(rows: Sequence[Row], metric_title: str) -> dict[str, Any]:
    """Differences by context, alone and left out, a panel for each task (``panel``)."""
    import altair as alt

    points = [
        {
            "panel": row["panel"],
            "context": row["context"],
            "design": row["design"],
            "difference": float(row["difference"]),
            "low": float(row["low"]) if is_number(row["low"]) else None,
            "high": float(row["high"]) if is_number(row["high"]) else None,
            "interval": interval(row["low"], row["high"]) or "not computed",
        }
        for row in rows
    ]
    contexts = list(dict.fromkeys(point["context"] for point in points))
    designs = ["alone", "left out"]
    colour = alt.Color(
        "design:N",
        scale=alt.Scale(domain=designs, range=[_colour("search"), _colour("recommendation")]),
        legend=alt.Legend(title=None, orient="top", symbolOpacity=1, offset=10),
    )
    panels = []
    for panel in dict.fromkeys(point["panel"] for point in points):
        base = alt.Chart(
            alt.InlineData(values=[point for point in points if point["panel"] == panel])
        ).encode(
            y=alt.Y(
                "context:N",
                title=None,
                sort=contexts,
                axis=alt.Axis(labelLimit=220, ticks=False, labelColor=_colour("ink")),
            ),
            yOffset=alt.YOffset("design:N", sort=designs),
            color=colour,
        )
        zero = alt.Chart(alt.InlineData(values=[{"zero": 0}])).mark_rule(
            color=_colour("muted"), strokeDash=[3, 3]
        )
        intervals = base.mark_rule(strokeWidth=5, opacity=0.3).encode(
            x=alt.X("low:Q", title=f"{panel}: change of {metric_title}"), x2="high:Q"
        )
        dots = base.mark_point(filled=True, size=64, opacity=1).encode(
            x=alt.X("difference:Q", title=f"{panel}: change of {metric_title}"),
            shape=alt.Shape(
                "design:N", scale=alt.Scale(domain=designs, range=["circle", "diamond"])
            ),
            tooltip=[
                alt.Tooltip("context:N", title="Context"),
                alt.Tooltip("design:N", title="How"),
                alt.Tooltip("difference:Q", title="Change", format="+.4f"),
                alt.Tooltip("interval:N", title="95% interval"),
            ],
        )
        panels.append(
            alt.layer(zero.encode(x="zero:Q"), intervals, dots).properties(
                width=PANEL_WIDTH, height=34 * len(contexts)
            )
        )
    return _finished(alt.vconcat(*panels).resolve_scale(x="shared"), is_single=False)


def share_chart(rows: Sequence[Row]) -> dict[str, Any]:
    """Value by share of train, a line for each ``ranker``, a panel for each ``panel``.

    Intervals of five lines would cover each other: they stand in the table.
    """
    import altair as alt

    points = [
        {
            "panel": row["panel"],
            "ranker": row["ranker"],
            "share": float(row["train_share"]),
            "value": float(row["value"]),
            "interval": interval(row["low"], row["high"]) or "not computed",
        }
        for row in rows
    ]
    rankers = list(dict.fromkeys(point["ranker"] for point in points))
    colours = ("recommendation", "search", "text", "video", "muted")
    shapes = ["circle", "square", "diamond", "triangle-up", "cross"]
    shares = sorted({point["share"] for point in points})
    panels = []
    for panel in dict.fromkeys(point["panel"] for point in points):
        base = alt.Chart(
            alt.InlineData(values=[point for point in points if point["panel"] == panel])
        ).encode(
            x=alt.X(
                "share:Q",
                title=f"{panel}: share of train",
                scale=alt.Scale(type="log", domain=[shares[0] * 0.9, shares[-1] * 1.1]),
                axis=alt.Axis(values=shares, format=".1%", grid=False),
            ),
            color=alt.Color(
                "ranker:N",
                scale=alt.Scale(
                    domain=rankers, range=[_colour(name) for name in colours[: len(rankers)]]
                ),
                legend=alt.Legend(title=None, orient="top", symbolOpacity=1, columns=3, offset=10),
            ),
        )
        value = alt.Y(
            "value:Q",
            title=None,
            scale=alt.Scale(zero=False, nice=True),
            axis=alt.Axis(format=".2f", tickCount=5),
        )
        line = base.mark_line(strokeWidth=1.6).encode(y=value)
        dots = base.mark_point(filled=True, size=54, opacity=1).encode(
            y=value,
            shape=alt.Shape(
                "ranker:N", scale=alt.Scale(domain=rankers, range=shapes[: len(rankers)])
            ),
            tooltip=[
                alt.Tooltip("ranker:N", title="Ranker"),
                alt.Tooltip("share:Q", title="Share of train", format=".1%"),
                alt.Tooltip("value:Q", title="Worth of a click", format=".4f"),
                alt.Tooltip("interval:N", title="95% interval"),
            ],
        )
        panels.append(alt.layer(line, dots).properties(width=PANEL_WIDTH // 2, height=210))
    chart = alt.concat(*panels, columns=2).resolve_scale(y="independent")
    return _finished(chart, is_single=False)


def _finished(chart: Any, *, is_single: bool = True) -> dict[str, Any]:
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
    if not is_single:
        # Plots side by side have widths of their own; a container has one.
        spec: dict[str, Any] = chart.to_dict()
        spec.pop("$schema")
        return spec | {"config": config}
    spec = chart.properties(width="container").to_dict()
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
