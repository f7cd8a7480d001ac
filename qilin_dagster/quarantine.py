"""What was set aside, in words: shares against the limit, the most frequent reasons, the first row.

Which rows cannot be used, and why, is decided in ``sql/quarantine/``; this module only counts.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qilin_dagster.settings import Settings
from qilin_dagster.sources.layout import TABLES

if TYPE_CHECKING:
    import duckdb

REASONS_SHOWN = 3
# Without a limit of one's own a build stops above this share of a table, but never for so few rows:
# a share of a small sample says little.
DEFAULT_SHARE = 0.01
ALWAYS_ALLOWED = 25


@dataclass(frozen=True)
class SetAside:
    """Rows of one published table in quarantine; ``reasons`` by falling frequency, then by name.

    ``first`` is the first of them, as (file, row in the file, row in the table, reason, detail).
    """

    table: str
    n_published: int
    n_rows: int
    reasons: tuple[tuple[str, int], ...]
    first: tuple[str, int, int, str, str | None] | None

    @property
    def share(self) -> float:
        return self.n_rows / self.n_published if self.n_published else 0.0

    def is_within(self, settings: Settings) -> bool:
        """False when more rows are set aside than the settings allow."""
        if settings.max_quarantined is not None:
            return self.share <= settings.max_quarantined
        return self.n_rows <= max(ALWAYS_ALLOWED, DEFAULT_SHARE * self.n_published)

    def describe(self) -> str:
        """For example ``18 rows set aside (4.1 %): 2 unknown user, 1 negative key, 15 others``."""
        shown = self.reasons[:REASONS_SHOWN]
        counts = [f"{n:,} {reason}" for reason, n in shown]
        others = self.n_rows - sum(n for _, n in shown)
        if others:
            counts.append(f"{others:,} for other reasons")
        rows = "row" if self.n_rows == 1 else "rows"
        return f"{self.n_rows:,} {rows} set aside ({_percent(self.share)}): {', '.join(counts)}"

    def describe_first(self) -> str:
        """File, row and reason of the first row; for a table that has one."""
        assert self.first is not None, "nothing is set aside"
        file, source_row, row_number, reason, detail = self.first
        found = f" ({detail})" if detail else ""
        return (
            f"table {self.table}, file {file}, row {source_row} (row_number {row_number}): "
            f"{reason}{found}"
        )


def set_aside(connection: "duckdb.DuckDBPyConnection", table: str) -> SetAside:
    """Count the quarantine of one published table; both relations must be defined."""
    assert table in TABLES, table
    ((n_published,),) = connection.execute(f"select count(*) from published.{table}").fetchall()
    reasons = connection.execute(
        f"select reason, count(*) as n from quarantine.{table} group by reason order by n desc, 1"
    ).fetchall()
    first = connection.execute(
        "select source_file, source_row, row_number, reason, detail "
        f"from quarantine.{table} order by row_number limit 1"
    ).fetchall()
    return SetAside(
        table=table,
        n_published=n_published,
        n_rows=sum(n for _, n in reasons),
        reasons=tuple(reasons),
        first=first[0] if first else None,
    )


def limit_in_words(settings: Settings) -> str:
    """The limit as a person set it."""
    if settings.max_quarantined is not None:
        return f"{_percent(settings.max_quarantined)} of a table (--max-quarantined)"
    return f"{_percent(DEFAULT_SHARE)} of a table, or {ALWAYS_ALLOWED} rows where that is more"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 1 else "100 %"
