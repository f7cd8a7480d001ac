"""What images are worth, as a section of the report: the files, one sentence, the comparisons."""

from __future__ import annotations

from qilin_dagster.image_worth import ALL, COVER_ON, OWN_COVER
from qilin_dagster.report_blocks import (
    CHANNELS,
    HEADLINE_METRIC,
    Block,
    Bullets,
    Cell,
    Column,
    Heading,
    Numbers,
    Row,
    Section,
    Table,
    Text,
    channel_label,
    count,
    interval,
    metric_label,
    missing,
    number,
    p_value,
    signed,
)

# Files by what is wrong with them; behind a colon the reason differs from file to file.
IMAGES_QUERY = """
    select
        is_readable,
        coalesce(string_split(reason, ':')[1], '') as reason,
        count(*) as n_images,
        count(distinct note_idx) as n_notes
    from core.images group by all order by n_images desc, reason
"""


def images_section(numbers: Numbers) -> Section:
    files, worth = numbers["core.images"], numbers["ablation.image_worth"]
    blocks: list[Block] = []
    if not files.rows:
        blocks.append(missing(files))
        if files.is_built:
            blocks.append(
                Text(
                    "No part of the image archive lies beside this data, so rankers that see "
                    "covers have not been trained."
                )
            )
        blocks.append(missing(worth))
        return Section("images", "What images are worth", tuple(blocks))
    readable = sum(row["n_images"] for row in files.rows if row["is_readable"])
    named = sum(row["n_images"] for row in files.rows)
    blocks.append(
        Text(
            f"{count(readable)} of the {count(named)} images in the parts of the archive that are "
            "here can be read; each was decoded once. A note without a readable image is ranked "
            "by its text."
        )
    )
    faults = [row for row in files.rows if not row["is_readable"]]
    if faults:
        blocks.append(
            Bullets(tuple(f"{row['reason']}: {count(row['n_images'])}" for row in faults))
        )
    if not worth.rows:
        blocks.append(missing(worth))
        return Section("images", "What images are worth", tuple(blocks))
    blocks.append(Text(worth_sentence(list(worth.rows))))
    blocks += _comparisons(list(worth.rows))
    return Section("images", "What images are worth", tuple(blocks))


def worth_sentence(rows: list[Row]) -> str:
    """What covers were worth to the vision-language ranker on this data, in one sentence."""
    seen, shown = _by_task(rows, COVER_ON), _by_task(rows, OWN_COVER)
    if not seen:
        return "No vision-language ranker was trained both with and without covers."
    sentence = (
        "On this data, seeing the cover changes the "
        f"{metric_label(HEADLINE_METRIC)} of the vision-language ranker by {seen}"
    )
    if shown:
        sentence += f"; a note's own cover against the cover of another note is worth {shown}"
    return sentence + "."


def _by_task(rows: list[Row], comparison: str) -> str:
    found = {
        row["task"]: row
        for row in rows
        if (row["comparison"], row["slice"], row["metric"]) == (comparison, ALL, HEADLINE_METRIC)
    }
    return " and ".join(
        f"{_gain(found[task])} in {channel_label(task).lower()}"
        for task in CHANNELS
        if task in found
    )


def _gain(row: Row) -> str:
    by = signed(number(row["difference"], 4))
    limits = interval(row["low"], row["high"])
    if not limits:
        return f"{by} (too few users for an interval)"
    said = {
        (True, True): "a gain",
        (True, False): "a loss",
    }.get((_leaves_out_zero(row), row["difference"] > 0), "no difference to be seen")
    return f"{by} ({limits}: {said})"


def _leaves_out_zero(row: Row) -> bool:
    return row["low"] is not None and not row["low"] <= 0 <= row["high"]


def _comparisons(rows: list[Row]) -> list[Block]:
    rows = [row for row in rows if row["metric"] == HEADLINE_METRIC]
    blocks: list[Block] = []
    for task in CHANNELS:
        of_task = [row for row in rows if row["task"] == task]
        if not of_task:
            continue
        blocks.append(Heading(channel_label(task), f"images-{task}"))
        for name, is_all, folded in (
            ("all", True, ""),
            ("kinds", False, "By form of the clicked notes and by source of the query"),
        ):
            shown = [row for row in of_task if (row["slice"] == ALL) == is_all]
            if shown:
                blocks.append(_table(f"table-images-{name}-{task}", task, shown, folded))
    return blocks


def _table(table_id: str, task: str, rows: list[Row], folded: str) -> Table:
    body = tuple(
        (
            Cell(
                row["comparison"],
                detail="" if row["slice"] == ALL else f"{row['slice']}: {row['slice_value']}",
            ),
            Cell(number(row["mean"], 4)),
            Cell(number(row["mean_against"], 4)),
            Cell(
                signed(number(row["difference"], 4)),
                detail=interval(row["low"], row["high"]),
                tone="model" if _leaves_out_zero(row) else "",
            ),
            Cell(p_value(row["p_value"] if row["p_holm"] is None else row["p_holm"])),
            Cell(count(row["n_requests"])),
        )
        for row in rows
    )
    columns = (
        Column("Sees", is_number=False),
        Column(metric_label(HEADLINE_METRIC)),
        Column("against"),
        Column("Difference"),
        Column("p, not adjusted" if folded else "p, adjusted"),
        Column("Requests"),
    )
    caption = (
        f"{channel_label(task)}: rankers of one seed and the same data that differ in what they "
        "see. Differences are paired by request, small figures are 95% intervals over users."
    )
    if folded:
        caption += (
            " What was clicked is known afterwards, and among so many kinds some differ by chance."
        )
    return Table(table_id, caption, columns, body, folded=folded)
