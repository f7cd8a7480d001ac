"""What stands under a leaderboard: which differences are real, where a run is good, whether its
scores mean what they say, some requests note by note, and how often the test was looked at."""

from __future__ import annotations

from qilin_dagster.report_blocks import (
    HEADLINE_METRIC,
    NOTHING,
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
    channel_label,
    count,
    interval,
    metric_label,
    missing,
    number,
    p_value,
    percent,
    percent_interval,
    run_label,
    signed,
)
from qilin_dagster.report_charts import history_chart

# Requests told here; the request explorer has all of them.
FEW = 3
TELLING = ("random", "display_order")


def under_the_leaderboard(numbers: Numbers, task: str) -> list[Block]:
    """Blocks of one task; a table that lacks is named in its place."""
    blocks = _looks(numbers["evaluation.history"], task)
    for name, title, blocks_of in (
        ("comparisons", "Which differences are real", _comparisons),
        ("slices", "Where a run is good", _slices),
        ("calibration", "Do the scores mean what they say", _calibration),
        ("examples", "Some requests, note by note", _examples),
    ):
        relation = numbers[f"evaluation.{name}"]
        rows = [row for row in relation.rows if row["task"] == task]
        found = [missing(relation)] if not relation.rows else blocks_of(rows, task) if rows else []
        if found:
            blocks += [Heading(title, f"{name}-{task}"), *found]
    return blocks


def retrieval(numbers: Numbers) -> Section:
    """How much of what was clicked is found among all notes."""
    title, relation = "Search among all notes", numbers["evaluation.retrieval"]
    rows = relation.rows
    if not rows:
        return Section("retrieval", title, (missing(relation),))
    metrics = sorted({row["metric"] for row in rows}, key=lambda name: int(name.split("@")[1]))
    runs = list(dict.fromkeys((row["task"], row["run"]) for row in rows))
    by_key = {(row["task"], row["run"], row["metric"]): row for row in rows}
    body = []
    for task, run in runs:
        found = [by_key.get((task, run, metric), {}) for metric in metrics]
        body.append(
            (
                Cell(run_label(run), tone="model", detail=channel_label(task)),
                *(
                    Cell(
                        percent(row.get("value")),
                        detail=percent_interval(row.get("low"), row.get("high")),
                    )
                    for row in found
                ),
            )
        )
    text = (
        f"A first stage looks for notes among all {count(rows[0]['n_notes'])}, not only among the "
        "shown ones. A note that the app did not show cannot have been clicked, so what it finds "
        "beyond the clicks counts as a miss: the values compare first stages and say little by "
        "themselves."
    )
    table = Table(
        "table-retrieval",
        f"Share of a request's clicked notes among the first found, mean of "
        f"{count(rows[0]['n_requests'])} requests; small figures are 95% intervals.",
        (Column("Run", is_number=False), *(Column(metric_label(metric)) for metric in metrics)),
        tuple(body),
    )
    return Section("retrieval", title, (Text(text), table))


def _looks(relation: Relation, task: str) -> list[Block]:
    """A warning when the test requests have been looked at more than once, and what was seen."""
    rows = relation.rows
    if not rows:
        return [missing(relation)]
    newest = max(rows, key=lambda row: row["evaluation_n"])
    same = {
        row["evaluation_n"] for row in rows if row["data_fingerprint"] == newest["data_fingerprint"]
    }
    if len(same) == 1:
        return []
    text = (
        f"These test requests have been looked at {count(len(same))} times with different runs. "
        "The best of many looks is better than the model is."
    )
    drawn = [
        row
        for row in rows
        if row["evaluation_n"] in same
        and (row["task"], row["kind"], row["metric"]) == (task, "model", HEADLINE_METRIC)
    ]
    blocks: list[Block] = [Text(text, tone="note")]
    if drawn:
        metric = metric_label(HEADLINE_METRIC)
        blocks.append(
            Chart(
                f"chart-history-{task}",
                f"{channel_label(task)}: {metric} of each model at each evaluation of this data; "
                "bars are 95% intervals.",
                f"Line chart of {metric} by evaluation: "
                + "; ".join(
                    f"{run_label(row['run'])} {number(row['value'], 3)} at {row['evaluation_n']}"
                    for row in drawn
                )
                + ".",
                history_chart(drawn, HEADLINE_METRIC),
            )
        )
    return blocks


def _comparisons(rows: list[Row], task: str) -> list[Block]:
    rows = [row for row in rows if row["metric"] == HEADLINE_METRIC]
    if not rows:
        return []
    n_apart = sum(bool(row["is_resolvable"]) for row in rows)
    smallest = max(row["smallest_seen"] for row in rows)
    text = (
        f"{count(n_apart)} of {count(len(rows))} pairs can be told apart by these "
        f"{count(rows[0]['n_requests'])} requests. Differences are paired by request; intervals "
        "and tests take users with all their requests; p is adjusted for all pairs (Holm). Of "
        f"every pair a difference of {number(smallest, 3)} would be seen four times in five."
    )
    body = tuple(
        (
            Cell(run_label(row["run_a"]), tone="model"),
            Cell(run_label(row["run_b"]), tone=row["kind_b"]),
            Cell(signed(number(row["difference"], 4)), detail=interval(row["low"], row["high"])),
            Cell(p_value(row["p_holm"])),
            Cell("yes" if row["is_resolvable"] else "no"),
        )
        for row in rows
    )
    columns = (
        Column("Run", is_number=False),
        Column("against", is_number=False),
        Column(f"Difference of {metric_label(HEADLINE_METRIC)}"),
        Column("p, adjusted"),
        Column("Told apart", is_number=False),
    )
    caption = f"{channel_label(task)}, mode full: paired differences with 95% intervals."
    return [
        Text(text),
        Table(f"table-comparisons-{task}", caption, columns, body),
    ]


def _slices(rows: list[Row], task: str) -> list[Block]:
    rows = [
        row
        for row in rows
        if row["metric"] == HEADLINE_METRIC and (row["kind"] == "model" or row["run"] in TELLING)
    ]
    if not rows:
        return []
    runs = sorted({row["run"] for row in rows}, key=lambda run: (run in TELLING, run))
    by_key = {(row["slice"], row["slice_value"], row["run"]): row for row in rows}
    kinds = {row["run"]: row["kind"] for row in rows}
    body = []
    for name, value in dict.fromkeys((row["slice"], row["slice_value"]) for row in rows):
        cells = [by_key.get((name, value, run)) for run in runs]
        some = next(cell for cell in cells if cell)
        body.append(
            (
                Cell(f"{name}: {value.strip()}", detail=f"{count(some['n_requests'])} requests"),
                *(
                    Cell(
                        number(cell["value"], 3) if cell else NOTHING,
                        detail=interval(cell["low"], cell["high"], "–") if cell else "",
                        tone=kinds[run],
                    )
                    for run, cell in zip(runs, cells, strict=True)
                ),
            )
        )
    columns = (Column("Requests", is_number=False), *(Column(run_label(run)) for run in runs))
    caption = (
        f"{channel_label(task)}, {metric_label(HEADLINE_METRIC)} over requests of one kind; small "
        "figures are 95% intervals, from ten users on. What was clicked is known afterwards: those "
        "slices compare runs, not kinds of request."
    )
    return [
        Table(
            f"table-slices-{task}",
            caption,
            columns,
            tuple(body),
            folded=f"{len(body)} kinds of request",
        ),
    ]


def _calibration(rows: list[Row], task: str) -> list[Block]:
    runs = list(dict.fromkeys(row["run"] for row in rows))
    by_key = {(row["bin"], row["run"]): row for row in rows}
    body = []
    for tenth in sorted({row["bin"] for row in rows}):
        cells: list[Cell] = [Cell(str(tenth))]
        for run in runs:
            row = by_key.get((tenth, run), {})
            cells += [
                Cell(percent(row.get("predicted_share"))),
                Cell(
                    percent(row.get("clicked_share")),
                    detail=percent_interval(row.get("low"), row.get("high")),
                ),
            ]
        body.append(tuple(cells))
    columns = [Column("Tenth")]
    for run in runs:
        columns += [
            Column("predicted", group=run_label(run)),
            Column("clicked", group=run_label(run)),
        ]
    caption = (
        f"{channel_label(task)}: candidates in tenths by predicted share of their request's clicks "
        "(softmax of the scores), beside the share they had. Scores on another scale, such as "
        "BM25's, rank and promise nothing."
    )
    return [
        Table(
            f"table-calibration-{task}",
            caption,
            tuple(columns),
            tuple(body),
            folded="Predicted and observed shares",
        ),
    ]


def _examples(rows: list[Row], task: str) -> list[Block]:
    runs = list(dict.fromkeys(row["run"] for row in rows))
    blocks: list[Block] = [
        Text(
            "Spread evenly over the test rows, chosen by nothing else. A figure is the place a run "
            "gives the note."
        ),
    ]
    for request in list(dict.fromkeys(row["row_number"] for row in rows))[:FEW]:
        of_request = [row for row in rows if row["row_number"] == request]
        rank = {(row["pid"], row["run"]): row for row in of_request}
        notes = {row["pid"]: row for row in of_request}
        body = tuple(
            (
                Cell(
                    note["note_title"] or NOTHING,
                    tone="model" if note["is_clicked"] else "",
                    image=note["cover"] or "",
                ),
                Cell("clicked" if note["is_clicked"] else ""),
                Cell(count(note["shown_rank"])),
                *(
                    Cell(count(rank[pid, run]["rank"]), detail=number(rank[pid, run]["score"], 2))
                    for run in runs
                ),
            )
            for pid, note in sorted(notes.items(), key=lambda item: item[1]["shown_rank"])
        )
        columns = (
            Column("Note", is_number=False),
            Column("", is_number=False),
            Column("Shown"),
            *(Column(run_label(run)) for run in runs),
        )
        query = of_request[0]["query"] or "no query"
        blocks.append(
            Table(
                f"table-example-{task}-{request}",
                f"Test row {request}: {query}. Small figures are scores.",
                columns,
                body,
                folded=query,
            )
        )
    return blocks
