"""The paper beside these rows: its tables and figures, and whether ours come close enough."""

from __future__ import annotations

from qilin_dagster.report_blocks import (
    CHANNELS,
    MEASURE_LABELS,
    TRANSITION_LABELS,
    Block,
    Cell,
    Chart,
    Column,
    Heading,
    Numbers,
    Row,
    Section,
    Table,
    Text,
    bin_label,
    channel_label,
    cut_label,
    difference_text,
    is_number,
    measured,
    missing,
    percent,
    signed,
    slug,
)
from qilin_dagster.report_charts import (
    form_chart,
    position_chart,
    session_position_chart,
    video_share_chart,
)

PAPER_TABLE_TITLES = {
    "Section 4.1": "Section 4.1: users",
    "Section 4.1, countries": "Section 4.1: countries of users",
    "Figures 3c and 3d": "Figures 3c and 3d: share of video",
    "Table 2": "Table 2: size",
    "Table 5": "Table 5: engagement",
    "Table 6": "Table 6: transitions",
    "Table 7": "Table 7: query length in characters",
    "Table 8": "Table 8: how a query follows another",
    "Table 9": "Table 9: query source",
}


def paper_beside_ours(numbers: Numbers, is_twin: bool) -> Section:
    relation = numbers["bias.paper_values"]
    title = "The paper beside these rows"
    if not relation.rows:
        return Section("paper", title, (missing(relation), *figures(numbers)))
    blocks: list[Block] = []
    if is_twin:
        blocks.append(
            Text(
                "A twin is calibrated to these very tables: agreement only shows that the "
                "calibration holds. It confirms nothing about the real log.",
                tone="note",
            )
        )
    else:
        blocks.append(
            Text(
                "Values printed in the paper (arXiv 2503.00501) beside the same measures on the "
                "rows read here. On the full release the two should agree to the printed digits "
                "or differ for a known reason; on fewer rows, the difference is sampling too."
            )
        )
    blocks.append(Text(verdict(relation.rows)))
    blocks += figures(numbers)
    for paper_table in dict.fromkeys(row["paper_table"] for row in relation.rows):
        rows = [row for row in relation.rows if row["paper_table"] == paper_table]
        cuts = sorted({row["cut"] for row in rows}, key=_cut_order)
        measures = sorted({row["measure"] for row in rows}, key=_measure_order)
        blocks.append(
            Heading(PAPER_TABLE_TITLES.get(paper_table, paper_table), slug(f"paper {paper_table}"))
        )
        if len(measures) < len(cuts):
            # Many groups and few measures: a group a row reads better than a group a column.
            blocks.append(_paper_table_by_group(paper_table, rows, measures))
            continue
        for start in range(0, len(cuts), 2):
            blocks.append(_paper_table(paper_table, rows, measures, cuts[start : start + 2]))
    return Section("paper", title, tuple(blocks))


def verdict(rows: tuple[Row, ...]) -> str:
    """How many of the printed numbers ours agree with, and which do not."""
    judged = [row for row in rows if row["is_within"] is not None]
    if not judged:
        return (
            "These rows are a part of the log, which is not expected to agree with the whole, so "
            "no difference below is judged."
        )
    outside = [row for row in judged if not row["is_within"]]
    expectations = sorted({row["expectation"] for row in judged})
    opening = (
        f"{len(judged) - len(outside)} of {len(judged)} printed numbers are as close as expected "
        f"({' or '.join(expectations)})."
    )
    left = len(rows) - len(judged)
    if left:
        opening += f" {left} counts are of another size and are not judged."
    if not outside:
        return opening
    names = "; ".join(
        f"{row['paper_table']}: {MEASURE_LABELS.get(row['measure'], 'value').lower()} of "
        f"{cut_label(row['cut']).lower()}"
        for row in outside
    )
    return f"{opening} Not so close: {names}."


def figures(numbers: Numbers) -> list[Block]:
    """The paper's Figures 3a to 3f from these rows. It prints nearly no values to compare with."""
    position = numbers["bias.click_rate_by_position"]
    order = numbers["bias.click_rate_by_session_position_official"]
    video = numbers["bias.video_share_by_position"]
    form = numbers["bias.click_rate_by_note_form"]
    drawn = [
        (
            "3a",
            position,
            "Click rate by position. The paper's curve dips at 3 in search and at 6 in the feed.",
            position_chart(position.rows),
            _in_words(position.rows, "position_bin", "click_rate"),
        ),
        (
            "3b",
            order,
            "Click rate by order in the app session, numbered within a channel as in the paper.",
            session_position_chart(order.rows, "channel_session_position_bin"),
            _in_words(order.rows, "channel_session_position_bin", "click_rate"),
        ),
        (
            "3c and 3d",
            video,
            "Share of video by position. In the paper 21 % of search impressions and 41 % of those "
            "of the feed are video.",
            video_share_chart(video.rows),
            _in_words(video.rows, "position_bin", "video_share"),
        ),
        *(
            (
                name,
                form,
                f"{channel_label(channel)}: click rate by position and form. In the paper "
                "image-text stands above video.",
                form_chart(form.rows, channel),
                _in_words(
                    [row for row in form.rows if row["channel"] == channel],
                    "position_bin",
                    "click_rate",
                    split="note_form",
                ),
            )
            for name, channel in (("3e", "search"), ("3f", "recommendation"))
        ),
    ]
    blocks: list[Block] = [Heading("Figures 3a to 3f", "paper-figures")]
    for name, relation, caption, spec, words in drawn:
        if spec is None:
            blocks.append(Text(f"Figure {name}: {relation.why_empty}", tone="missing"))
        else:
            chart_id = f"chart-figure-{slug(name)}"
            blocks.append(Chart(chart_id, f"Figure {name}. {caption}", words, spec))
    return blocks


def _in_words(
    rows: list[Row] | tuple[Row, ...], column: str, value: str, split: str = "channel"
) -> str:
    parts = []
    for name in dict.fromkeys(row[split] for row in rows):
        points = ", ".join(
            f"{bin_label(row[column])}: {percent(row[value])}"
            for row in sorted((r for r in rows if r[split] == name), key=lambda r: r[column])
        )
        parts.append(f"{cut_label(name)} {points}.")
    return f"Line chart of {value.replace('_', ' ')}. {' '.join(parts)}"


def _tone(row: Row) -> str:
    return "warned" if row.get("is_within") is False else ""


def _cut_order(cut: str) -> tuple[int, str]:
    known = (*CHANNELS, "search without answer", "search with answer", *TRANSITION_LABELS)
    return (known.index(cut) if cut in known else len(known), cut)


def _measure_order(measure: str) -> tuple[int, str]:
    known = tuple(MEASURE_LABELS)
    return (known.index(measure) if measure in known else len(known), measure)


def _paper_table(paper_table: str, rows: list[Row], measures: list[str], cuts: list[str]) -> Table:
    columns = [Column("Measure", is_number=False)]
    for cut in cuts:
        columns += [
            Column(title, group=cut_label(cut)) for title in ("Paper", "Here", "Difference")
        ]
    by_key = {(row["measure"], row["cut"]): row for row in rows}
    body = []
    for measure in measures:
        cells = [Cell(MEASURE_LABELS.get(measure, measure))]
        for cut in cuts:
            row = by_key.get((measure, cut), {})
            relative = row.get("relative_difference")
            cells += [
                Cell(measured(measure, row.get("paper_value")), tone="muted"),
                Cell(measured(measure, row.get("our_value"))),
                Cell(
                    difference_text(measure, row.get("difference")),
                    detail=""
                    if measure.startswith("n_") or not is_number(relative)
                    else signed(percent(relative)),
                    tone=_tone(row),
                ),
            ]
        body.append(tuple(cells))
    names = " and ".join(cut_label(cut) for cut in cuts)
    return Table(
        f"paper-{slug(paper_table)}-{'-'.join(slug(cut) for cut in cuts)}",
        f"{paper_table}: {names}. Small figures are relative differences; pp: percentage points; "
        "coloured: not as close as expected.",
        tuple(columns),
        tuple(body),
    )


def _paper_table_by_group(paper_table: str, rows: list[Row], measures: list[str]) -> Table:
    columns = [Column("Group", is_number=False)]
    for measure in measures:
        columns += [
            Column(title, group=MEASURE_LABELS.get(measure, measure))
            for title in ("Paper", "Here", "Difference")
        ]
    by_key = {(row["measure"], row["cut"]): row for row in rows}
    body = []
    for cut in dict.fromkeys(row["cut"] for row in rows):
        cells = [Cell(cut_label(cut))]
        for measure in measures:
            row = by_key.get((measure, cut), {})
            cells += [
                Cell(measured(measure, row.get("paper_value")), tone="muted"),
                Cell(measured(measure, row.get("our_value"))),
                Cell(difference_text(measure, row.get("difference")), tone=_tone(row)),
            ]
        body.append(tuple(cells))
    return Table(
        f"paper-{slug(paper_table)}-by-group",
        f"{paper_table}: the paper's numbers beside those of these rows; pp: percentage points; "
        "coloured: not as close as expected.",
        tuple(columns),
        tuple(body),
    )
