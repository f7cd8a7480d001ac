"""The data checks as a person reads them: what failed first, with its rows and the SQL for all.

The same section stands in the report and, alone, on a page beside ``evaluation.checks``, which is
written with every build: a check in Dagster links to its place there. Each check has an anchor,
``check-<relation>-<name>``, and each relation, ``check-<relation>``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from pathlib import Path

from qilin_dagster.report_blocks import (
    NOTHING,
    Block,
    Cell,
    Column,
    Heading,
    Row,
    Section,
    Table,
    Text,
    count,
    number,
)

TEMPLATES = Path(__file__).parent / "templates"
TITLE = "Data checks"
OUTCOMES = {True: "passed", False: "failed", None: "did not run"}


def anchor(relation: str, check_name: str = "") -> str:
    """Target of links to a relation's checks, or to one of them."""
    return f"check-{relation}-{check_name}" if check_name else f"check-{relation}"


def checks_section(rows: Sequence[Row], why_empty: str = "") -> Section:
    """All checks by relation; those that failed come first, errors before warnings."""
    if not rows:
        missing = f"Nothing to show here yet. {why_empty}"
        return Section("checks", TITLE, (Text(missing, tone="missing"),))
    ordered = sorted(rows, key=lambda row: (str(row["asset"]), str(row["check_name"])))
    failed = sorted(
        (row for row in ordered if row["passed"] is False),
        key=lambda row: (_is_warning(row), str(row["asset"]), str(row["check_name"])),
    )
    blocks: list[Block] = [Text(outcome_sentence(rows))]
    for row in failed:
        blocks.extend(_failure(row))
    shown = {anchor(row["asset"], row["check_name"]) for row in failed}
    for relation, group in groupby(ordered, key=lambda row: str(row["asset"])):
        blocks.append(_relation_table(relation, list(group), shown))
    return Section("checks", TITLE, tuple(blocks))


def outcome_sentence(rows: Sequence[Row]) -> str:
    """How many checks there are, and how they went."""
    failed = [row for row in rows if row["passed"] is False]
    n_warnings = sum(_is_warning(row) for row in failed)
    n_unknown = sum(row["passed"] is None for row in rows)
    n_passed = len(rows) - len(failed) - n_unknown
    sentence = (
        f"{count(len(rows))} check{'' if len(rows) == 1 else 's'}: {count(n_passed)} passed, "
        f"{count(len(failed) - n_warnings)} failed as errors, "
        f"{count(n_warnings)} failed as warnings"
    )
    return f"{sentence}, {count(n_unknown)} did not run." if n_unknown else f"{sentence}."


def checks_page(rows: Sequence[Row], *, data_name: str, is_twin: bool, written: datetime) -> str:
    """One self-contained HTML page of all checks."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("checks.html.j2").render(
        section=checks_section(rows), data_name=data_name, is_twin=is_twin, written=written
    )


def _failure(row: Row) -> list[Block]:
    """A failed check in full: why it is checked, what was found, and the rows."""
    relation, name = str(row["asset"]), str(row["check_name"])
    blocks: list[Block] = [
        Heading(f"{relation}: {name}", anchor(relation, name)),
        Text(f"{_kind(row)}. {_found(row)}", tone=_tone(row)),
        Text(str(row["why"] or NOTHING)),
    ]
    examples = [json.loads(example) for example in row.get("examples") or ()]
    if examples:
        columns = list(dict.fromkeys(column for example in examples for column in example))
        blocks.append(
            Table(
                f"{anchor(relation, name)}-rows",
                f"The first rows that fail {name}.",
                tuple(Column(column, is_number=False) for column in columns),
                tuple(
                    tuple(Cell(_short(example.get(column)), tone="code") for column in columns)
                    for example in examples
                ),
            )
        )
    if row.get("failing_rows_sql"):
        blocks.append(Text("All of them, for qilin sql:", tone="note"))
        blocks.append(Text(str(row["failing_rows_sql"]), tone="code"))
    return blocks


def _relation_table(relation: str, rows: list[Row], shown: set[str]) -> Table:
    """Every check of a relation with its reason; what failed has its own anchor above."""
    n_failed = sum(row["passed"] is False for row in rows)
    n_unknown = sum(row["passed"] is None for row in rows)
    outcome = f"{n_failed} failed" if n_failed else f"{n_unknown} did not run" if n_unknown else ""
    checks = f"{count(len(rows))} check{'' if len(rows) == 1 else 's'}"
    return Table(
        anchor(relation),
        f"What is expected of {relation}, and how it went.",
        (
            Column("Check", is_number=False),
            Column("Outcome", is_number=False),
            Column("Rows against"),
            Column("Why it is checked", is_number=False),
        ),
        tuple(
            (
                Cell(
                    _sentence(str(row["check_name"])),
                    id="" if (target := anchor(relation, row["check_name"])) in shown else target,
                ),
                Cell(OUTCOMES[row["passed"]], detail=_kind(row).lower(), tone=_tone(row)),
                Cell(
                    count(row["unexpected_count"]),
                    detail=f"of {count(row['element_count'])}" if row.get("element_count") else "",
                ),
                Cell(str(row.get("error") or row["why"] or NOTHING), tone="prose"),
            )
            for row in rows
        ),
        folded=f"{relation}: {checks}, {outcome or 'all passed'}",
    )


def _found(row: Row) -> str:
    if row.get("error"):
        return f"It could not be run: {row['error']}"
    n = row["unexpected_count"]
    if n is None:
        return f"Found: {row['observed'] or NOTHING}."
    percent = row.get("unexpected_percent")
    share = f", {number(percent, 3)}% of {count(row['element_count'])}" if percent else ""
    observed = row.get("observed")
    more = "" if observed in (None, str(n)) else f" Observed: {observed}."
    return f"Rows against it: {count(n)}{share}.{more}"


def _is_warning(row: Row) -> bool:
    return str(row["severity"]).lower().startswith("warn")


def _kind(row: Row) -> str:
    return "Warning" if _is_warning(row) else "Error"


def _tone(row: Row) -> str:
    if row["passed"] is not False:
        return ""
    return "warned" if _is_warning(row) else "failed"


def _sentence(name: str) -> str:
    return name.replace("_", " ")


def _short(value: object, length: int = 60) -> str:
    text = NOTHING if value is None else str(value)
    return text if len(text) <= length else text[: length - 1] + "…"
