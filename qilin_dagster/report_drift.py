"""The report's section on what moved since the data was last new, from evaluation.data_drift."""

from __future__ import annotations

from qilin_dagster.report_blocks import (
    Block,
    Bullets,
    Cell,
    Column,
    Relation,
    Row,
    Section,
    Table,
    Text,
    count,
    missing,
    number,
    percent,
)

TITLE = "What moved since the last data"


def drift_section(relation: Relation) -> Section:
    """What the newest profile says beside the one before it."""
    if not relation.rows:
        return Section("drift", TITLE, (missing(relation),))
    newest = max(row["profile_n"] for row in relation.rows)
    rows = [row for row in relation.rows if row["profile_n"] == newest]
    if newest == 1:
        text = (
            f"{count(len(rows))} numbers of this data are on record: click rates, the curve by "
            "position, query sources, means of features. There is nothing before to compare with."
        )
        return Section("drift", TITLE, (Text(text),))
    moved = [row for row in rows if row["is_moved"]]
    text = (
        f"{count(len(moved))} of {count(len(rows))} numbers are further from those of the data "
        "before than chance explains (one in a thousand; features: a tenth of their deviation)."
    )
    blocks: list[Block] = [Text(text)]
    if moved:
        blocks.append(Bullets(tuple(str(row["moved"]) for row in moved)))
    blocks.append(
        Table(
            "table-drift",
            "The data now and before: rates and shares, and means of features as the logarithm "
            "they were scaled by.",
            (
                Column("What", is_number=False),
                Column("Now"),
                Column("Before"),
                Column("Requests"),
                Column("Moved", is_number=False),
            ),
            tuple(
                (
                    Cell(row["item"], detail=row["subject"]),
                    Cell(_shown(row, "value")),
                    Cell(_shown(row, "previous_value")),
                    Cell(count(row["n_requests"])),
                    Cell("moved" if row["is_moved"] else "", tone="warned"),
                )
                for row in rows
            ),
            folded="All of them",
        )
    )
    return Section("drift", TITLE, tuple(blocks))


def _shown(row: Row, column: str) -> str:
    return number(row[column], 3) if row["subject"] == "feature" else percent(row[column], 2)
