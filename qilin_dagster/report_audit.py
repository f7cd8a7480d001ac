"""The report's section on the audit: alarms with what to do, by subject; the rest folded away."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from qilin_dagster.report_blocks import (
    Block,
    Cell,
    Column,
    Heading,
    Row,
    Section,
    Table,
    Text,
    count,
)

AUDIT_QUERY = "from evaluation.audit order by check_n"
MEANING = (
    "An alarm stops no build: it says what results on this data would suffer from, and what to do. "
    "What this project computes already avoids the leaks. An AUC is the chance that a clicked "
    "impression has the higher value than one that was not clicked: 0.5 knows nothing of the "
    "clicks, 1 knows them all."
)


def audit_section(rows: Sequence[Row], why_empty: str) -> Section:
    """The section for the rows of ``evaluation.audit``, in their order."""
    title = "What to know about the data"
    if not rows:
        missing = Text(f"Nothing to show here yet. {why_empty}", tone="missing")
        return Section("audit", title, (missing,))
    alarms, met, unknown = (
        [row for row in rows if row["verdict"] == verdict] for verdict in ("alarm", "ok", "unknown")
    )
    by_subject = {
        subject: list(group) for subject, group in groupby(alarms, lambda row: str(row["subject"]))
    }
    told = "; ".join(f"{subject} ({count(len(of))})" for subject, of in by_subject.items())
    number = f"{count(len(alarms))} alarm{'' if len(alarms) == 1 else 's'}"
    blocks: list[Block] = [
        Text(
            f"{count(len(rows))} questions were asked of the data. "
            + (f"{number}: {told}. " if alarms else "No alarms. ")
            + f"{count(len(met))} are as expected, {count(len(unknown))} have nothing to be "
            "compared with."
        )
    ]
    if alarms:
        blocks.append(Text(MEANING, tone="note"))
    for subject, of in by_subject.items():
        subject_id = f"audit-{_slug(subject)}"
        blocks.append(Heading(subject, subject_id))
        blocks.append(_alarms(subject_id, of))
    if met:
        blocks.append(
            _quiet("audit-ok", f"As expected: {count(len(met))}", "Met what was expected.", met)
        )
    if unknown:
        blocks.append(
            _quiet(
                "audit-unknown",
                f"Nothing to compare with: {count(len(unknown))}",
                "Measured, but not judged: nothing is published, or there are too few rows.",
                unknown,
            )
        )
    return Section("audit", title, tuple(blocks))


def _alarms(subject_id: str, rows: list[Row]) -> Table:
    """Alarms of a subject; what several of them ask for is said once."""
    body, before = [], None
    for row in rows:
        advice = str(row["what_to_do"])
        body.append(
            (
                Cell(str(row["about"]), detail=str(row["name"]), tone="prose"),
                Cell(str(row["measured"]), detail=f"expected: {row['expected']}", tone="prose"),
                Cell("As above." if advice == before else advice, tone="prose"),
            )
        )
        before = advice
    return Table(
        f"{subject_id}-alarms",
        f"Alarms: {count(len(rows))}.",
        (
            Column("Question", is_number=False),
            Column("Found", is_number=False),
            Column("What to do", is_number=False),
        ),
        tuple(body),
    )


def _quiet(table_id: str, folded: str, caption: str, rows: list[Row]) -> Table:
    return Table(
        table_id,
        caption,
        (
            Column("Question", is_number=False),
            Column("Found", is_number=False),
            Column("Expected", is_number=False),
        ),
        tuple(
            (
                Cell(str(row["about"]), detail=f"{row['subject']}: {row['name']}", tone="prose"),
                Cell(str(row["measured"]), tone="prose"),
                Cell(str(row["expected"]), tone="prose"),
            )
            for row in rows
        ),
        folded=folded,
    )


def _slug(subject: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in subject.lower()).split())
