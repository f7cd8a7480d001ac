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
COLUMNS = (Column("Question", is_number=False), Column("Found", is_number=False))
EXPECTED = Column("Expected", is_number=False)


def audit_section(rows: Sequence[Row], why_empty: str) -> Section:
    """The section for the rows of ``evaluation.audit``, in their order."""
    title = "What to know about the data"
    if not rows:
        missing = Text(f"Nothing to show here yet. {why_empty}", tone="missing")
        return Section("audit", title, (missing,))
    by_verdict = {
        verdict: [row for row in rows if row["verdict"] == verdict]
        for verdict in ("alarm", "ok", "unknown")
    }
    alarms = by_verdict["alarm"]
    subjects = list(dict.fromkeys(str(row["subject"]) for row in alarms))
    blocks: list[Block] = [
        Text(
            f"{count(len(rows))} questions were asked of the data: "
            + (
                f"{count(len(alarms))} alarms, about {'; '.join(subjects)}. "
                if alarms
                else "no alarms. "
            )
            + f"{count(len(by_verdict['ok']))} are as expected, "
            f"{count(len(by_verdict['unknown']))} have nothing to be compared with."
        )
    ]
    if alarms:
        blocks.append(
            Text(
                "An alarm stops no build. It says what results on this data would suffer from, "
                "and what to do; what this project computes already heeds the leaks.",
                tone="note",
            )
        )
    for subject, group in groupby(alarms, lambda row: str(row["subject"])):
        subject_id = f"audit-{_slug(subject)}"
        blocks.append(Heading(subject, subject_id))
        by_advice: dict[str, list[Row]] = {}
        for row in group:
            by_advice.setdefault(str(row["what_to_do"]), []).append(row)
        for n, (advice, asked) in enumerate(by_advice.items(), 1):
            blocks.append(Text(f"To do: {advice}"))
            blocks.append(_alarms(f"{subject_id}-{n}", asked))
    if by_verdict["ok"]:
        blocks.append(
            _folded("audit-ok", "As expected", "Checks that met what was expected.", by_verdict)
        )
    if by_verdict["unknown"]:
        blocks.append(
            _folded(
                "audit-unknown",
                "Nothing to compare with",
                "Measured, but not judged: nothing is published, or too few rows to tell.",
                by_verdict,
            )
        )
    return Section("audit", title, tuple(blocks))


def _alarms(table_id: str, rows: list[Row]) -> Table:
    """Alarms that ask for the same thing; what they all expected is said once."""
    expected = {str(row["expected"]) for row in rows}
    shared = len(expected) == 1
    number = f"{count(len(rows))} alarm{'' if len(rows) == 1 else 's'}"
    return Table(
        table_id,
        f"{number}. Expected: {expected.pop()}." if shared else f"{number}.",
        COLUMNS if shared else (*COLUMNS, EXPECTED),
        tuple(
            (
                Cell(str(row["about"]), detail=str(row["name"]), tone="prose"),
                Cell(str(row["measured"]), tone="prose"),
                *(() if shared else (Cell(str(row["expected"]), tone="prose"),)),
            )
            for row in rows
        ),
    )


def _folded(table_id: str, title: str, caption: str, by_verdict: dict[str, list[Row]]) -> Table:
    rows = by_verdict[table_id.removeprefix("audit-")]
    return Table(
        table_id,
        caption,
        (*COLUMNS, EXPECTED),
        tuple(
            (
                Cell(str(row["about"]), detail=f"{row['subject']}: {row['name']}", tone="prose"),
                Cell(str(row["measured"]), tone="prose"),
                Cell(str(row["expected"]), tone="prose"),
            )
            for row in rows
        ),
        folded=f"{title}: {count(len(rows))}",
    )


def _slug(subject: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in subject.lower()).split())
