"""The section of the report on what was set aside. Knows no DuckDB."""

from __future__ import annotations

from collections.abc import Sequence

from qilin_dagster.report_blocks import (
    NOTHING,
    Block,
    Cell,
    Column,
    Row,
    Section,
    Table,
    Text,
    count,
)

# One row per published table and reason.
QUERY = """
    select
        source_table,
        reason,
        count(*) as n_rows,
        arg_min(source_file, row_number) as first_file,
        arg_min(source_row, row_number) as first_row
    from quarantine.all_rows
    group by source_table, reason
    order by source_table, n_rows desc, reason
"""
MOST_ROWS = 30


def quarantine(rows: Sequence[Row], why_not_built: str) -> Section:
    """What was set aside, from the rows of ``QUERY``; ``why_not_built`` says why they lack."""
    blocks: list[Block]
    if why_not_built:
        blocks = [Text(f"Nothing to show here yet. {why_not_built}", tone="missing")]
    elif not rows:
        blocks = [Text("Every published row could be used; none was set aside.")]
    else:
        blocks = _blocks(rows)
    return Section("quarantine", "Rows set aside", tuple(blocks))


def _blocks(rows: Sequence[Row]) -> list[Block]:
    n_rows = sum(int(row["n_rows"]) for row in rows)
    is_one = n_rows == 1
    shown = sorted(rows, key=lambda row: (-int(row["n_rows"]), row["source_table"], row["reason"]))
    blocks: list[Block] = [
        Text(
            f"{count(n_rows)} published {'row' if is_one else 'rows'} cannot be used and "
            f"{'is' if is_one else 'are'} in no number of this page. A request with one impression "
            "that cannot be is set aside whole: without it, it would be another request."
        ),
        Table(
            "quarantine-by-reason",
            "Rows set aside by published table and reason. The published files keep them.",
            (
                Column("Table", is_number=False),
                Column("Reason", is_number=False),
                Column("Rows"),
                Column("First in file", is_number=False),
                Column("At row"),
            ),
            tuple(
                (
                    Cell(str(row["source_table"])),
                    Cell(str(row["reason"])),
                    Cell(count(row["n_rows"])),
                    Cell(str(row["first_file"] or NOTHING)),
                    Cell(count(row["first_row"])),
                )
                for row in shown[:MOST_ROWS]
            ),
        ),
    ]
    if len(shown) > MOST_ROWS:
        blocks.append(
            Text(
                f"{len(shown) - MOST_ROWS} rarer reasons are not shown; quarantine.all_rows has "
                "every row.",
                tone="note",
            )
        )
    return blocks
