"""What context is worth, as a section of the report: one chart, and every difference."""

from __future__ import annotations

from qilin_dagster.report_blocks import (
    CHANNELS,
    Block,
    Cell,
    Chart,
    Column,
    Numbers,
    Row,
    Section,
    Table,
    Text,
    channel_label,
    count,
    interval,
    missing,
    number,
    p_value,
    signed,
)
from qilin_dagster.report_charts import difference_chart

TITLE = "What context is worth"
METRIC, METRIC_TITLE = "ndcg@10", "NDCG@10"
WEIGHTED, WEIGHTED_TITLE = "weighted_ndcg@10", "NDCG@10 of weighted clicks"
TOGETHER = "all together"


def context_section(numbers: Numbers) -> Section:
    relation = numbers["ablation.context_worth"]
    if not relation.rows:
        return Section(
            "context",
            TITLE,
            (
                missing(relation),
                Text(
                    "The comparison takes some eighty trainings and is made on demand: qilin build "
                    "--select ablation.context_runs,ablation.context_worth,reports."
                ),
            ),
        )
    rows = list(relation.rows)
    n_seeds = max(row["n_seeds"] for row in rows)
    blocks: list[Block] = [
        Text(
            "A small DCN-V2 that knows the note, its match with the query and who asks, with one "
            "piece of context put in, and the model with all of them, with one left out. Every "
            f"model was trained with {count(n_seeds)} seeds on the same requests; differences are "
            "of means over seeds, paired by request, with intervals and tests over users. A piece "
            "that gains alone and loses nothing when left out is told by the others."
        ),
    ]
    tasks = [task for task in CHANNELS if any(row["task"] == task for row in rows)]
    blocks.append(
        Chart(
            "chart-context",
            f"Change of {METRIC_TITLE} by a piece of context: put into the bare model alone, and "
            "what leaving it out of the full model costs; bars are 95% intervals over users.",
            "Dot plot of differences by context; the tables below have every value.",
            difference_chart(
                [
                    {**row, "panel": channel_label(row["task"])}
                    for row in rows
                    if row["metric"] == METRIC and row["context"] != TOGETHER
                ],
                METRIC_TITLE,
            ),
        )
    )
    for task in tasks:
        of_task = [row for row in rows if row["task"] == task]
        blocks.append(_table(task, of_task))
    blocks.append(
        Text(
            "Weighted clicks count by one over the examination of their place: a piece that gains "
            "on raw clicks alone helps to know the old order. The place is told in training only. "
            "Counters of notes are of an unknown day and may hold the test evening: their gain is "
            "a leak until their day is known.",
            tone="note",
        )
    )
    return Section("context", TITLE, tuple(blocks))


def _table(task: str, rows: list[Row]) -> Table:
    by_key = {(row["context"], row["design"], row["metric"]): row for row in rows}
    body = []
    for context, design in dict.fromkeys((row["context"], row["design"]) for row in rows):
        plain = by_key[context, design, METRIC]
        body.append(
            (
                Cell(context),
                Cell(design.replace(" ", "\u00a0") if design != TOGETHER else "against bare"),
                _difference(plain),
                Cell(p_value(plain["p_value"] if plain["p_holm"] is None else plain["p_holm"])),
                Cell(number(plain["seed_deviation"], 4)),
                _difference(by_key.get((context, design, WEIGHTED), {})),
            )
        )
    n_requests = max(row["n_requests"] for row in rows)
    return Table(
        f"table-context-{task}",
        f"{channel_label(task)}: what each piece is worth over {count(n_requests)} test requests; "
        "small figures are 95% intervals over users, p is adjusted over the pieces of a design.",
        (
            Column("Context", is_number=False),
            Column("How", is_number=False),
            Column(f"Change of {METRIC_TITLE}"),
            Column("p"),
            Column("Deviation over seeds"),
            Column(f"Change of {WEIGHTED_TITLE}"),
        ),
        tuple(body),
    )


def _difference(row: Row) -> Cell:
    low, high = row.get("low"), row.get("high")
    is_apart = low is not None and high is not None and not low <= 0 <= high
    return Cell(
        signed(number(row.get("difference"), 4)),
        detail=interval(low, high),
        tone="model" if is_apart else "",
    )
