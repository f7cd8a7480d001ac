"""Notes and users that train hardly knew, as a section of the report: a table and the curves."""

from __future__ import annotations

from qilin_dagster.report_blocks import (
    CHANNELS,
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
    channel_label,
    count,
    interval,
    is_number,
    missing,
    number,
    percent,
    run_label,
)
from qilin_dagster.report_charts import share_chart

TITLE = "Cold start"
TELLING = ("display_order", "random", "popularity")
ALL = "all"


def cold_start_section(numbers: Numbers) -> Section:
    relation, curves = numbers["evaluation.cold_start"], numbers["ablation.cold_start"]
    blocks: list[Block] = [
        Text(
            "What a clicked note is worth at the rank a run gives it, 1 / log2(1 + rank) down to "
            "rank 10, so that notes train had shown and notes it had not can be told apart inside "
            "one request. Which notes were clicked is known afterwards: compare runs in a row, "
            "not rows with each other."
        )
    ]
    if not relation.rows:
        blocks.append(missing(relation))
    for task in CHANNELS:
        rows = [
            row
            for row in relation.rows
            if row["task"] == task and (row["kind"] == "model" or row["run"] in TELLING)
        ]
        if rows:
            blocks += [Heading(channel_label(task), f"cold-start-{task}"), _table(task, rows)]
    blocks.append(Heading("With less to learn from", "cold-start-curves"))
    if not curves.rows:
        blocks += [
            missing(curves),
            Text(
                "The curves take two dozen trainings and are made on demand: qilin build --select "
                "ablation.cold_start,reports."
            ),
        ]
    else:
        blocks.append(
            Text(
                "Small rankers trained on nested shares of the train requests, judged on the same "
                "clicks. What knows notes by their ids knows those it met; what reads them does "
                "not have to have met them. BM25 learns from no request and stands still."
            )
        )
    for task in CHANNELS:
        of_task = [row for row in curves.rows if row["task"] == task]
        if of_task:
            blocks += _curves(task, of_task)
    return Section("cold-start", TITLE, tuple(blocks))


def _table(task: str, rows: list[Row]) -> Table:
    by_key = {(row["slice"], row["slice_value"], row["run"]): row for row in rows}
    kinds = {row["run"]: row["kind"] for row in rows}
    runs = sorted(kinds, key=lambda run: (run in TELLING, run))
    body = []
    for name, value in dict.fromkeys((row["slice"], row["slice_value"]) for row in rows):
        found = [by_key[name, value, run] for run in runs]
        label = "all clicks" if name == ALL else f"{name}: {value}"
        body.append(
            (
                Cell(label, detail=f"{count(found[0]['n_clicks'])} clicks"),
                *(
                    Cell(
                        number(row["value"], 3),
                        detail=interval(row["low"], row["high"], "–"),
                        tone=row["kind"],
                    )
                    for row in found
                ),
            )
        )
    return Table(
        f"table-cold-start-{task}",
        f"{channel_label(task)}: mean worth of a clicked note, by how well train knew the note and "
        "the user; small figures are 95% intervals, from ten users on.",
        (Column("Clicks", is_number=False), *(Column(run_label(run)) for run in runs)),
        tuple(body),
    )


def _curves(task: str, rows: list[Row]) -> list[Block]:
    title = channel_label(task)
    blocks: list[Block] = []
    chosen = [
        *((ALL, ALL),),
        *sorted(
            {
                (row["slice"], row["slice_value"])
                for row in rows
                if row["slice"] == "form"
                or (row["slice"] == "clicked note" and row["slice_value"].startswith("never"))
            }
        ),
    ]
    spec = share_chart(
        [
            {
                **row,
                "ranker": run_label(row["ranker"]),
                "panel": "all clicks" if row["slice"] == ALL else row["slice_value"],
            }
            for row in rows
            if (row["slice"], row["slice_value"]) in chosen and is_number(row["value"])
        ]
    )
    blocks.append(
        Chart(
            f"chart-cold-start-{task}",
            f"{title}: mean worth of a clicked note by the share of the train requests learnt from "
            "(logarithmic); panels by what was clicked. The table has the 95% intervals.",
            f"Line charts of five rankers over shares of train, {title.lower()}; the table below "
            "has every value.",
            spec,
        )
    )
    by_key = {
        (row["slice"], row["slice_value"], row["ranker"], row["train_share"]): row for row in rows
    }
    shares = sorted({row["train_share"] for row in rows})
    rankers = list(dict.fromkeys(row["ranker"] for row in rows))
    based_on = {row["ranker"]: row["based_on"] for row in rows}
    n_fit = {row["train_share"]: row["n_fit_requests"] for row in rows}
    body = []
    for name, value in dict.fromkeys((row["slice"], row["slice_value"]) for row in rows):
        for ranker in rankers:
            found = [by_key.get((name, value, ranker, share), {}) for share in shares]
            body.append(
                (
                    Cell("all clicks" if name == ALL else f"{name}: {value}"),
                    Cell(run_label(ranker), detail=f"knows notes by {based_on[ranker]}"),
                    *(
                        Cell(
                            number(row.get("value"), 3),
                            detail=interval(row.get("low"), row.get("high"), "–"),
                        )
                        for row in found
                    ),
                )
            )
    blocks.append(
        Table(
            f"table-cold-curves-{task}",
            f"{title}: the same by every slice; the head says how many train requests were left.",
            (
                Column("Clicks", is_number=False),
                Column("Ranker", is_number=False),
                *(Column(f"{percent(share)} ({count(n_fit[share])})") for share in shares),
            ),
            tuple(body),
            folded="Every value",
        )
    )
    return blocks
