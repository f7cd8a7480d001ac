"""The request explorer: what was asked, what was shown in which order, what was clicked, and where
each run puts it. One request at a time, in the order of whichever run one likes."""

from __future__ import annotations

from collections.abc import Sequence

from qilin_dagster.report_blocks import (
    CHANNELS,
    NOTHING,
    Block,
    Cell,
    Column,
    Explored,
    Explorer,
    Numbers,
    Row,
    Section,
    Table,
    Text,
    channel_label,
    count,
    missing,
    run_label,
)

SHOWN = "shown"
# Longer queries, such as the titles that stand for one in the feed, are cut in the menu.
LABEL_CHARACTERS = 40


def explorer_sections(numbers: Numbers) -> list[Section]:
    """A section for each task, from evaluation.examples."""
    relation = numbers["evaluation.examples"]
    if not relation.rows:
        return [Section("requests-none", "Requests note by note", (missing(relation),))]
    return [
        _section(task, [row for row in relation.rows if row["task"] == task])
        for task in CHANNELS
        if any(row["task"] == task for row in relation.rows)
    ]


def _section(task: str, rows: list[Row]) -> Section:
    runs = list(dict.fromkeys(row["run"] for row in rows))
    requests = list(dict.fromkeys(row["row_number"] for row in rows))
    explored = tuple(
        _explored(task, [row for row in rows if row["row_number"] == request], runs)
        for request in requests
    )
    text = (
        f"{count(len(requests))} test requests, spread evenly over the test rows and chosen by "
        "nothing else. A figure is the place a run gives the note; clicked notes are bold. What is "
        "shown first is clicked more, whatever it is."
    )
    blocks: tuple[Block, ...] = (
        Text(text),
        Explorer(
            f"explorer-{task}",
            explored,
            ((SHOWN, "as the app showed them"), *((run, run_label(run)) for run in runs)),
        ),
    )
    return Section(f"requests-{task}", channel_label(task), blocks)


def _explored(task: str, rows: list[Row], runs: Sequence[str]) -> Explored:
    first = rows[0]
    notes = {row["pid"]: row for row in rows}
    ranks = {(row["pid"], row["run"]): row["rank"] for row in rows}
    ordered = sorted(notes.values(), key=lambda note: (note["shown_rank"] or 0, note["pid"]))
    query = first["query"] or NOTHING
    n_clicked = sum(bool(note["is_clicked"]) for note in ordered)
    label = query if len(query) <= LABEL_CHARACTERS else f"{query[:LABEL_CHARACTERS]}…"
    asked = "Asked" if task == "search" else "Titles of recent clicks"
    body = tuple(
        (
            Cell(
                note["note_title"] or NOTHING,
                tone="model" if note["is_clicked"] else "",
                image=note["cover"] or "",
                detail="clicked" if note["is_clicked"] else "",
            ),
            Cell(count(note["shown_rank"])),
            *(Cell(count(ranks.get((note["pid"], run)))) for run in runs),
        )
        for note in ordered
    )
    number = first["row_number"]
    table = Table(
        f"request-{task}-{number}",
        f"Row {count(number)} of {task}_test: {count(len(ordered))} notes, {count(n_clicked)} "
        "clicked.",
        (
            Column("Note", is_number=False),
            Column("Shown at"),
            *(Column(run_label(run)) for run in runs),
        ),
        body,
        orders=tuple(
            {
                SHOWN: note["shown_rank"],
                **{run: ranks.get((note["pid"], run)) for run in runs},
            }
            for note in ordered
        ),
    )
    return Explored(f"{count(number)}: {label}", f"{asked}: {query}", table)
