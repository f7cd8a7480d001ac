"""The report's section on the audit: alarms first with what to do, the rest folded away."""

from __future__ import annotations

from typing import Any

from qilin_dagster.report_audit import audit_section
from qilin_dagster.report_blocks import Heading, Table, Text


def row(n: int, verdict: str, subject: str = "Size and ids", **changes: Any) -> dict[str, Any]:
    return {
        "check_n": n,
        "subject": subject,
        "name": f"check_{n}",
        "about": f"Question {n}?",
        "expected": f"expectation {n}",
        "measured": f"finding {n}",
        "value": None,
        "verdict": verdict,
        "what_to_do": f"advice {n}" if verdict == "alarm" else "",
        **changes,
    }


def test_alarms_stand_by_subject_with_what_to_do_and_the_rest_is_folded() -> None:
    rows = [
        row(1, "ok"),
        row(2, "alarm"),
        row(3, "alarm", what_to_do="advice 2"),
        row(4, "unknown"),
        row(5, "alarm", "Leaks: note ids"),
    ]
    blocks = audit_section(rows, "").blocks
    (lead, *_) = [block.text for block in blocks if isinstance(block, Text)]
    assert "5 questions" in lead
    assert "3 alarms: Size and ids (2); Leaks: note ids (1)." in lead
    headings = [block.text for block in blocks if isinstance(block, Heading)]
    assert headings == ["Size and ids", "Leaks: note ids"]
    ids, leaks, met, unknown = [block for block in blocks if isinstance(block, Table)]
    assert [[cell.text for cell in cells] for cells in ids.rows] == [
        ["Question 2?", "finding 2", "advice 2"],
        ["Question 3?", "finding 3", "As above."],
    ]
    assert ids.rows[0][0].detail == "check_2"
    assert ids.rows[0][1].detail == "expected: expectation 2"
    assert [cells[2].text for cells in leaks.rows] == ["advice 5"]
    assert (ids.folded, leaks.folded) == ("", "")
    assert (met.folded, unknown.folded) == ("As expected: 1", "Nothing to compare with: 1")
    assert [cell.text for cell in met.rows[0]] == ["Question 1?", "finding 1", "expectation 1"]
    assert len({table.id for table in (ids, leaks, met, unknown)}) == 4


def test_no_alarm_is_said() -> None:
    blocks = audit_section([row(1, "ok")], "").blocks
    assert isinstance(blocks[0], Text)
    assert "No alarms." in blocks[0].text
    assert len(blocks) == 2


def test_without_the_table_the_reason_is_given() -> None:
    (block,) = audit_section([], "The table evaluation.audit has not been built.").blocks
    assert isinstance(block, Text)
    assert block.tone == "missing"
    assert "has not been built" in block.text
