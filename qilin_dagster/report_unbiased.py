"""Runs judged with the position taken out, as a section of the report."""

from __future__ import annotations

from typing import Any

from qilin_dagster.report_blocks import (
    CHANNELS,
    NOTHING,
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
    is_number,
    missing,
    number,
    percent,
    run_label,
)

TITLE = "Judged without the position"
# Judge and metric of each column, with its head.
COLUMNS = (
    ("raw", "ndcg@10", "Raw NDCG"),
    ("snips", "ndcg@10", "Weighted NDCG"),
    ("raw", "dcg@10", "Raw DCG"),
    ("ips", "dcg@10", "IPS DCG"),
    ("snips", "dcg@10", "SNIPS DCG"),
    ("adjacent_pairs", "pair_accuracy", "Neighbours"),
    ("moved_notes", "pair_accuracy", "Moved notes"),
    ("attraction", "ndcg@10", "Attraction"),
)
READING = (
    "Raw clicks reward the old order. A note shown first is clicked more because it is looked at "
    "more, so the shown order itself scores high, and a ranker that learns from such clicks "
    "learns some of it: it can win on raw clicks and know less of the notes.",
    "Weighted clicks count a click at a place by one over how far the place is examined. IPS is "
    "unbiased for DCG where the curve is right and nothing is clipped; SNIPS divides by the mean "
    "weight and varies less. NDCG normalises itself within each request. Metrics of the first "
    "click, such as MRR, cannot be weighed so, and are not shown.",
    "Neighbours: of notes that stood next to each other, one clicked, the share a run "
    "puts in order, pairs with the upper and with the lower note clicked counting half each. The "
    "shown order and its reverse get exactly one half: what is above that is knowledge of notes, "
    "or a leak of the labels, as in the rule of id blocks.",
    "Moved notes: one note shown in two requests at different places and clicked in "
    "one. Few, and a ranker that knows the asker moves a note for a reason; read the number first.",
    "A run that gains on raw clicks and loses in the columns beside it has learnt the old order. "
    "A run that gains in all of them is better. Where intervals are wide, neither is shown.",
)


def unbiased_section(numbers: Numbers) -> Section:
    relation = numbers["evaluation.unbiased"]
    if not relation.rows:
        return Section("unbiased", TITLE, (missing(relation),))
    blocks: list[Block] = [
        Text(
            "The same runs on the same test requests, judged in ways that the place of a note "
            "moves less or not at all. Rankers trained with an allowance for position stand here "
            "and not on the leaderboard, which they are not made to win."
        ),
        Bullets(READING),
    ]
    for task in CHANNELS:
        rows = [row for row in relation.rows if row["task"] == task]
        if rows:
            blocks += _task(task, rows)
    return Section("unbiased", TITLE, tuple(blocks))


def _task(task: str, rows: list[Row]) -> list[Block]:
    by_key = {(row["judged_by"], row["metric"], row["run"]): row for row in rows}
    shown = [column for column in COLUMNS if any(key[:2] == column[:2] for key in by_key)]
    kinds = {row["run"]: row["kind"] for row in rows}

    def height(run: str) -> float:
        value: Any = by_key.get(("raw", "ndcg@10", run), {}).get("value")
        return float(value) if is_number(value) else 0.0

    runs = sorted(kinds, key=lambda run: (-height(run), run))
    body = tuple(
        (
            Cell(run_label(run), tone=kinds[run]),
            *(
                Cell(
                    number(row.get("value"), 3),
                    detail=interval(row.get("low"), row.get("high"), "–"),
                )
                for row in (by_key.get((judge, metric, run), {}) for judge, metric, _ in shown)
            ),
        )
        for run in runs
    )
    title = channel_label(task)
    return [
        Heading(title, f"unbiased-{task}"),
        Text(_rests_on(rows)),
        Text(_first_by(rows, shown), tone="note"),
        Table(
            f"table-unbiased-{task}",
            f"{title}: models and anchors by each judge, in the order of raw clicks. DCG and NDCG "
            "go down to rank 10; small figures are 95% intervals over users.",
            (Column("Run", is_number=False), *(Column(head) for _, _, head in shown)),
            body,
        ),
    ]


def _rests_on(rows: list[Row]) -> str:
    """How much each judge has to go by."""
    of = {row["judged_by"]: row for row in rows}
    said = [f"{count(of['raw']['n_judged'])} clicks in {count(of['raw']['n_requests'])} requests."]
    if "ips" in of:
        row = of["ips"]
        said.append(
            f"Weighted, they are worth {count(row['n_effective'])} clicks of one weight; "
            f"examination below {number(row['clip'])} counts as that, which is so for "
            f"{percent(row['clipped_share'])} of them."
        )
    else:
        said.append("No curve of examination was estimated, so no click can be weighed.")
    said += [
        f"{count(of[judge]['n_judged'])} {what}."
        for judge, what in (
            ("adjacent_pairs", "pairs of neighbours"),
            ("moved_notes", "pairs of showings of a note that moved"),
        )
        if judge in of
    ]
    if "attraction" in of:
        said.append(
            "These rows are a twin's: attraction is what was planted, and no log would tell it."
        )
    return " ".join(said)


def _first_by(rows: list[Row], shown: list[tuple[str, str, str]]) -> str:
    """Which model stands first by each judge."""
    said = []
    for judge, metric, head in shown:
        models = [
            row
            for row in rows
            if (row["judged_by"], row["metric"], row["kind"]) == (judge, metric, "model")
            and is_number(row["value"])
        ]
        if models:
            best = max(models, key=lambda row: (float(row["value"]), row["run"]))
            said.append(f"{head}: {run_label(best['run'])}")
    if not said:
        return f"No model was judged: {NOTHING}"
    return f"Highest model by each judge, told apart or not. {'; '.join(said)}."
