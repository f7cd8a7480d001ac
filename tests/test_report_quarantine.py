"""The report's section on rows set aside: nothing, some, many, and not built."""

from typing import Any

from qilin_dagster.report_blocks import Section, Table, Text
from qilin_dagster.report_quarantine import MOST_ROWS, QUERY, quarantine


def row(table: str, reason: str, n_rows: int) -> dict[str, Any]:
    return {
        "source_table": table,
        "reason": reason,
        "n_rows": n_rows,
        "first_file": "a.parquet",
        "first_row": 3,
    }


def words(section: Section) -> str:
    return " ".join(block.text for block in section.blocks if isinstance(block, Text))


def test_a_clean_log_says_so() -> None:
    assert words(quarantine([], "")) == "Every published row could be used; none was set aside."


def test_a_quarantine_that_was_not_built_is_not_a_clean_one() -> None:
    (block,) = quarantine([], "It has not been built.").blocks
    assert isinstance(block, Text)
    assert block.tone == "missing"


def test_the_most_frequent_reason_comes_first_with_its_place() -> None:
    section = quarantine([row("dqa", "negative key", 1), row("notes", "unknown form", 1200)], "")
    assert words(section).startswith("1,201 published rows cannot be used")
    (table,) = [block for block in section.blocks if isinstance(block, Table)]
    assert [cell.text for cell in table.rows[0]] == [
        *("notes", "unknown form", "1,200", "a.parquet", "3")
    ]


def test_one_row_is_one_row() -> None:
    text = words(quarantine([row("dqa", "negative key", 1)], ""))
    assert text.startswith("1 published row cannot be used and is in no number")


def test_a_long_tail_is_named_and_not_shown() -> None:
    section = quarantine([row("dqa", f"reason {n:02}", 1) for n in range(MOST_ROWS + 2)], "")
    (table,) = [block for block in section.blocks if isinstance(block, Table)]
    assert len(table.rows) == MOST_ROWS
    assert "2 rarer reasons are not shown" in words(section)


def test_its_query_finds_what_the_quarantine_holds(tiny: Any) -> None:
    assert tiny.execute(QUERY).fetchall() == []
    assert [column[0] for column in tiny.description] == list(row("", "", 0))
