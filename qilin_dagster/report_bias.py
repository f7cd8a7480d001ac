"""The bias lab on the page: every view of sql/bias under its question, with what it assumes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qilin_dagster.catalog import View
from qilin_dagster.report_blocks import (
    CHANNELS,
    MEASURE_LABELS,
    NOTHING,
    TRANSITION_LABELS,
    Block,
    Cell,
    Chart,
    Column,
    Heading,
    Numbers,
    Relation,
    Row,
    Section,
    Table,
    Text,
    bin_label,
    channel_label,
    count,
    cut_label,
    difference_text,
    is_number,
    measured,
    missing,
    number,
    percent,
    percent_interval,
    slug,
)
from qilin_dagster.report_charts import (
    hour_chart,
    position_chart,
    rates_chart,
    session_position_chart,
)

# Which questions stand together; a test holds this to the files of sql/bias.
TOPICS = {
    "Place on the page": (
        *("click_rate_by_stratum", "click_rate_by_slot", "click_rate_by_grid_column"),
        *("clicks_by_column", "click_rate_above_last_click", "requests_by_last_click"),
        *("requests_by_browsing_depth", "dwell_by_position", "click_rate_of_repeats"),
    ),
    "Sessions and channels": (
        *("click_rate_by_hour", "topic_shift_by_transition", "query_overlap_of_feed"),
        *("click_rate_by_transition_official", "session_effect"),
    ),
    "Queries and answers": (
        *("click_rate_by_query_source", "click_rate_by_query_length"),
        *("click_rate_by_reformulation", "abandonment_by_answer_shown"),
        *("click_rate_by_answer_stratum", "click_rate_by_query_source_official"),
        *("click_rate_by_query_length_official", "click_rate_by_reformulation_official"),
    ),
    "Notes and users": (
        *("click_rate_by_warmth", "popularity_concentration", "click_rate_by_history"),
        *("click_rate_by_user_decile", "users_by_attribute", "dataset_sizes"),
    ),
}
# Told elsewhere on the page: in sections of their own, or beside the paper.
TOLD_ELSEWHERE = (
    *("click_rate_by_position", "click_rate_by_session_position", "engagement_by_channel"),
    *("engagement_by_answer_shown", "click_rate_by_transition", "paper_values"),
    *("click_rate_by_note_form", "video_share_by_position"),
    "click_rate_by_session_position_official",
)
# A longer table is no reading; qilin sql has all of it.
MOST_ROWS = 60


def bias_lab(numbers: Numbers, views: dict[str, View]) -> list[Section]:
    """A section for each topic; in it each view under its question, with what it assumes."""
    sections = []
    for topic, names in TOPICS.items():
        blocks: list[Block] = []
        for name in names:
            relation = numbers[f"bias.{name}"]
            view = views[f"bias.{name}"]
            blocks.append(Heading(view.question, f"bias-{slug(name)}"))
            blocks += [Text(paragraph) for paragraph in view.assumptions]
            if (drawn := view_chart(view, relation)) is not None:
                blocks.append(drawn)
            blocks += [view_table(view, relation)] if relation.rows else [missing(relation)]
            if name == "click_rate_by_hour" and (spec := hour_chart(relation.rows)) is not None:
                words = "Line chart of click rate by hour; the table above has every value."
                caption = (
                    "Click rate by hour, with 95% intervals; requests are taken as independent."
                )
                blocks.append(Chart("chart-hours", caption, words, spec))
        sections.append(Section(f"lab-{slug(topic)}", topic, tuple(blocks)))
    return sections


def view_chart(view: View, relation: Relation) -> Chart | None:
    """The click rate of each group, where the view has one and its groups are few."""
    groups = [name for name in view.grain if name != "channel"]
    if len(groups) != 1 or view.name == "click_rate_by_hour" or len(relation.rows) > MOST_ROWS:
        return None
    (group,) = groups
    rows = [row for row in relation.rows if is_number(row.get("click_rate"))]
    if not rows:
        return None
    points: list[dict[str, Any]] = [
        {
            "label": _shown(view, group, row[group]),
            "series": channel_label(row["channel"]) if "channel" in row else "",
            "rate": float(row["click_rate"]),
            "low": _limit(row, "low"),
            "high": _limit(row, "high"),
            "interval": _limits("click_rate", row) or "not computed",
            "n": f"{count(row.get('n_impressions'))} impressions",
        }
        for row in rows
    ]
    labels = list(dict.fromkeys(point["label"] for point in points))
    words = "; ".join(
        f"{point['label']}{' in ' + str(point['series']).lower() if point['series'] else ''} "
        f"{percent(point['rate'])}"
        for point in points
    )
    spans = "; bars are 95% intervals" if any(point["low"] for point in points) else ""
    return Chart(
        f"chart-{slug(view.name)}",
        f"Click rate by {group.removesuffix('_bin').replace('_', ' ')}{spans}.",
        f"Dot plot of click rate: {words}.",
        rates_chart(points, labels, "Click rate"),
    )


def _limit(row: Row, end: str) -> float | None:
    """An end of the interval of the click rate, if the view has one."""
    for name in (f"click_rate_{end}", f"wilson_{end}"):
        if is_number(row.get(name)):
            return float(row[name])
    return None


def view_table(view: View, relation: Relation) -> Block:
    """The rows of a view: its grain in words, other columns by what their names mean."""
    if len(relation.rows) > MOST_ROWS:
        return Text(
            f"{count(len(relation.rows))} rows: too many for a page. Ask for what you need, as in "
            f'qilin sql "from {view.qualified} limit 10".'
        )
    columns = [name for name in relation.rows[0] if not name.endswith(("_low", "_high"))]
    body = tuple(
        tuple(Cell(_shown(view, name, row[name]), detail=_limits(name, row)) for name in columns)
        for row in relation.rows
    )
    return Table(
        f"table-{slug(view.name)}",
        f"{view.qualified}. {view.comment} {_spans(relation)}".strip(),
        tuple(
            Column(name.removeprefix("n_").replace("_", " "), is_number=not _is_word(view, name))
            for name in columns
        ),
        body,
        folded="The rows" if len(relation.rows) > 24 else "",
    )


def _is_word(view: View, name: str) -> bool:
    return name in view.grain and not name.endswith(("_bin", "_n", "slot", "_row", "_day"))


def _shown(view: View, name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or isinstance(value, str):
        return NOTHING if value is None else cut_label(value)
    if name.endswith("_bin"):
        return bin_label(value)
    if name in view.grain:
        return str(value)
    if isinstance(value, int):
        return count(value)
    if name.endswith(("_rate", "_share", "_expected")):
        return percent(value, 2)
    return number(value, 3 if name == "gini" or name.endswith("overlap_mean") else 2)


def _limits(name: str, row: Row) -> str:
    """The interval of a rate, as a small second line."""
    for low, high in ((f"{name}_low", f"{name}_high"), ("wilson_low", "wilson_high")):
        if low in row and (name == "click_rate" or not low.startswith("wilson")):
            return percent_interval(row[low], row[high])
    return ""


def _spans(relation: Relation) -> str:
    has_limits = any(name.endswith("_low") for name in relation.rows[0])
    return "Small figures are 95% intervals." if has_limits else ""


def positions(numbers: Numbers) -> Section:
    relation = numbers["bias.click_rate_by_position"]
    spec = position_chart(relation.rows)
    title = "Click rate by position"
    if spec is None:
        return Section("positions", title, (missing(relation),))
    has_top_card = any(row["position_bin"] == 0 for row in relation.rows)
    return Section(
        "positions",
        title,
        (
            Text(
                "The rate at which a returned note is clicked, by the place the app gave it (the "
                "paper's Figure 3a). It mixes three things: how often users look at a place, what "
                "the app's ranker put there, and what kind of card it is. It is not an examination "
                "probability; that takes a model."
            ),
            Chart(
                "chart-positions",
                "Click rate by position, with 95% intervals that take requests as independent. "
                + ("Position 0 is a card placed on top; " if has_top_card else "")
                + ">10 pools all deeper places.",
                _curve_description("position", relation.rows, "position_bin"),
                spec,
            ),
            _curve_table("position", "Position", relation.rows, "position_bin", "n_impressions"),
        ),
    )


def session_positions(numbers: Numbers) -> Section:
    relation = numbers["bias.click_rate_by_session_position"]
    spec = session_position_chart(relation.rows)
    title = "Click rate along a session"
    if spec is None:
        return Section("session-positions", title, (missing(relation),))
    return Section(
        "session-positions",
        title,
        (
            Text(
                "The same rate by the order of the request in its app session (the paper's Figure "
                "3b). A tenth request exists only in long sessions, so the curve mixes what "
                "happens along a session with who stays long."
            ),
            Chart(
                "chart-session-positions",
                "Click rate by order of the request in its app session, with 95% intervals; "
                ">10 pools all later requests.",
                _curve_description("session order", relation.rows, "session_position_bin"),
                spec,
            ),
            _curve_table(
                "session-position",
                "Order in session",
                relation.rows,
                "session_position_bin",
                "n_requests",
            ),
        ),
    )


def _curve_description(name: str, rows: Sequence[Row], column: str) -> str:
    """The chart in words: every rate, so that nothing is only in the picture."""
    parts = []
    for channel in CHANNELS:
        bins = sorted((r for r in rows if r["channel"] == channel), key=lambda row: row[column])
        if bins:
            points = ", ".join(
                f"{bin_label(row[column])}: {percent(row['click_rate'])}" for row in bins
            )
            parts.append(f"{channel_label(channel)} {points}.")
    return f"Line chart of click rate by {name}. {' '.join(parts)}"


def _curve_table(table_id: str, title: str, rows: Sequence[Row], column: str, n: str) -> Table:
    present = [c for c in CHANNELS if any(row["channel"] == c for row in rows)]
    columns = [Column(title)]
    n_title = {"n_impressions": "Impressions", "n_requests": "Requests"}[n]
    for channel in present:
        group = channel_label(channel)
        columns += [Column(head, group=group) for head in ("Click rate", "95% interval", n_title)]
    by_key = {(row["channel"], row[column]): row for row in rows}
    body = []
    for value in sorted({row[column] for row in rows}):
        cells = [Cell(bin_label(value))]
        for channel in present:
            row = by_key.get((channel, value), {})
            limits = percent_interval(row.get("click_rate_low"), row.get("click_rate_high"))
            cells.append(Cell(percent(row.get("click_rate"))))
            cells.append(Cell(limits or NOTHING))
            cells.append(Cell(count(row.get(n)), tone="muted"))
        body.append(tuple(cells))
    return Table(
        f"table-{table_id}",
        f"Click rate by {title.lower()}.",
        tuple(columns),
        tuple(body),
        folded="The numbers behind this plot",
    )


def answers(numbers: Numbers) -> Section:
    relation = numbers["bias.engagement_by_answer_shown"]
    title = "With and without a direct answer"
    by_shown = {bool(row["has_answer"]): row for row in relation.rows}
    if not by_shown:
        return Section("answers", title, (missing(relation),))
    blocks: list[Block] = [
        Text(
            "This is a raw difference, not an effect of the answer. Answers go to other queries "
            "than those without one, and users of the direct answer table were sampled because "
            "they engaged with answers, which happens after the answer is shown."
        )
    ]
    names = {True: "Answer shown", False: "No answer"}
    if len(by_shown) < 2:
        only = next(iter(by_shown))
        blocks.append(
            Text(
                f"Only one side has rows here ({names[only].lower()}), so nothing can be compared.",
                tone="missing",
            )
        )
    blocks.append(
        engagement_table(
            "engagement-by-answer-shown",
            "Searches that showed a direct answer beside those that did not.",
            [(names[shown], by_shown[shown]) for shown in (True, False) if shown in by_shown],
            with_difference=len(by_shown) == 2,
        )
    )
    return Section("answers", title, tuple(blocks))


def transitions(numbers: Numbers) -> Section:
    relation = numbers["bias.click_rate_by_transition"]
    title = "From one request to the next"
    if not relation.rows:
        return Section("transitions", title, (missing(relation),))
    order = {name: n for n, name in enumerate(TRANSITION_LABELS)}
    rows = sorted(relation.rows, key=lambda row: order.get(row["transition"], len(order)))
    shares = [float(row["transition_share"] or 0) for row in rows]
    body = tuple(
        (
            Cell(cut_label(str(row["transition"]))),
            Cell(count(row["n_transitions"])),
            Cell(percent(row["transition_share"]), bar=share),
            Cell(number(row["clicks_per_request"])),
            Cell(percent(row["click_rate"])),
        )
        for row, share in zip(rows, shares, strict=True)
    )
    return Section(
        "transitions",
        title,
        (
            Text(
                "Consecutive requests of one user within a 30-minute session over both channels "
                "(the paper's Table 6). Clicks are those of the second request."
            ),
            Table(
                "click-rate-by-transition",
                "How often one channel follows another, and the clicks that follow.",
                (
                    Column("Transition", is_number=False),
                    Column("Pairs"),
                    Column("Share"),
                    Column("Clicks per request"),
                    Column("Click rate"),
                ),
                body,
            ),
        ),
    )


ENGAGEMENT_MEASURES = (
    *("browsing_depth_mean", "first_click_position_mean", "clicks_per_request", "click_rate"),
    *("like_rate", "collect_rate", "share_rate", "comment_rate", "n_requests"),
)


def engagement_table(
    table_id: str, caption: str, groups: list[tuple[str, Row]], with_difference: bool = False
) -> Table:
    columns = [Column("Measure", is_number=False), *(Column(title) for title, _ in groups)]
    if with_difference:
        columns.append(Column("Raw difference"))
    body = []
    for measure in ENGAGEMENT_MEASURES:
        values: list[Any] = [row.get(measure) for _, row in groups]
        cells = [Cell(MEASURE_LABELS[measure]), *(Cell(measured(measure, v)) for v in values)]
        if with_difference:
            known = [float(value) for value in values if is_number(value)]
            difference = known[0] - known[1] if len(known) == 2 else None
            cells.append(Cell(difference_text(measure, difference)))
        body.append(tuple(cells))
    return Table(table_id, caption, tuple(columns), tuple(body))
