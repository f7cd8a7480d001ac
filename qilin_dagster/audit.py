"""What ``qilin audit`` does: asks a data folder, before any build, what is wrong with it.

The data is registered in a temporary lake, only the impressions and requests are built there, and
every check is a query over them. The data folder is never written to.
"""

import tempfile
import textwrap
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from qilin_dagster.audit_leaks import COLUMNS, check_leaks
from qilin_dagster.audit_log import LOG_TABLES, check_log
from qilin_dagster.audit_model import Check, Findings, read_expected
from qilin_dagster.errors import InputError
from qilin_dagster.settings import Settings

WIDTH = 100
WORDS = {"alarm": "ALARM", "ok": "ok", "unknown": "-"}


@dataclass(frozen=True)
class Audit:
    """The checks of one data folder, in the order they are told."""

    data: str
    checks: tuple[Check, ...]

    @property
    def alarms(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.verdict == "alarm")

    def to_json(self) -> dict[str, Any]:
        return {
            "data": self.data,
            "n_alarms": len(self.alarms),
            "checks": [asdict(check) for check in self.checks],
        }


def run_audit(settings: Settings, overrides: Path | None = None) -> Audit:
    """Audit the settings' data folder.

    Raises InputError when the folder, one of its files or the expected values cannot be read.
    """
    import duckdb

    from qilin_dagster.engines.duckdb import DuckDBEngine
    from qilin_dagster.lake import Lake
    from qilin_dagster.sources.clock import decide_clocks
    from qilin_dagster.sources.published import inspect
    from qilin_dagster.sources.register import register_all

    expected = read_expected(overrides)
    data = inspect(settings.data_folder())
    found = Findings(expected, is_full_size=False)
    n_requests = sum(data.tables[table].n_rows for table in LOG_TABLES)
    n_expected = sum(found.number("rows", table) for table in LOG_TABLES)
    found.is_full_size = n_requests >= found.number("judge", "full_size_share") * n_expected
    with tempfile.TemporaryDirectory(prefix="qilin-audit-") as folder:
        settings = replace(settings, lake=Path(folder))
        engine = DuckDBEngine(Lake(Path(folder)), settings)
        clocks = decide_clocks(data, settings.search_clock_offset)
        register_all(engine.lake, data, settings.search_clock_offset)
        connection = engine.connect()
        try:
            for name in ("core.impressions", "core.requests"):
                engine.build(connection, engine.catalog[name])
            connection.execute(EXPOSURES)
            check_log(connection, found, data, clocks)
            check_leaks(connection, found)
        except duckdb.Error as error:
            raise InputError(f"data folder {data.path} cannot be audited: {error}") from error
        finally:
            connection.close()
    return Audit(data.display_name, tuple(found.checks))


# One row per impression with what every check asks for; the answer sample, which has no test of its
# own, is learnt on one half of its rows and judged on the other.
EXPOSURES = """
create or replace temp table exposures as
select
    i.request_id,
    i.impression_n,
    i.source_table,
    case
        when r.channel = 'recommendation' then 'feed'
        when i.source_table = 'dqa' then 'dqa'
        else 'search'
    end as task,
    case when i.source_table = 'dqa' then r.row_number % 2 = 0 else r.split = 'train' end
        as is_learnt_on,
    r.row_number,
    r.user_idx,
    r.query_source,
    i."position",
    i.shown_rank,
    i.note_idx,
    i.exposed_at,
    coalesce(i.is_clicked, false) as is_clicked,
    i.is_repeat,
    coalesce(list_contains(r.history_list, i.note_idx), false) as in_history
from core.impressions as i
inner join core.requests as r
    on i.request_id = r.request_id and i.source_table = r.source_table
"""


def format_audit(audit: Audit) -> str:
    """The audit as a person reads it: alarms with what to do, then every subject."""
    n_ok = sum(check.verdict == "ok" for check in audit.checks)
    n_alarms = len(audit.alarms)
    lines = [
        f"Audit of {audit.data}",
        f"{len(audit.checks)} checks: {n_alarms} alarm{'s' if n_alarms != 1 else ''}, {n_ok} ok, "
        f"{len(audit.checks) - n_ok - n_alarms} with nothing to compare with (-)",
        "",
    ]
    if audit.alarms:
        lines += ["ALARMS, and what to do", "=" * WIDTH]
        for advice, checks in _by_advice(audit.alarms):
            shared = {check.expected for check in checks}
            for check in checks:
                own = f" (expected: {check.expected})" if len(shared) > 1 else ""
                lines += _wrapped(f"{check.name}: ", check.measured + own, "  ")
            if len(shared) == 1:
                lines += _wrapped("  expected: ", checks[0].expected, "  ")
            lines += _wrapped("  do: ", advice, "  ")
            lines.append("")
    for subject, group in groupby(sorted(audit.checks, key=_place(audit)), lambda c: c.subject):
        lines += [subject, "-" * WIDTH]
        quiet = []
        for check in group:
            if subject == COLUMNS and check.verdict == "ok":
                quiet.append(check)
                continue
            lines += _wrapped(f"{WORDS[check.verdict]:<6}{check.name}: ", check.measured, " " * 6)
            if check.verdict != "alarm":
                lines += _wrapped("      expected: ", check.expected, " " * 6)
        if quiet:
            lines += _wrapped(
                f"ok    {len(quiet)} more columns within their bound: ",
                ", ".join(check.name.removeprefix("auc.") for check in quiet),
                " " * 6,
            )
        lines.append("")
    return "\n".join(lines).rstrip()


def _place(audit: Audit) -> Any:
    """Subjects in the order they were asked, alarms first within each."""
    subjects = list(dict.fromkeys(check.subject for check in audit.checks))
    verdicts = ("alarm", "ok", "unknown")
    return lambda check: (subjects.index(check.subject), verdicts.index(check.verdict))


def _by_advice(alarms: tuple[Check, ...]) -> list[tuple[str, list[Check]]]:
    """Alarms that ask for the same thing, told together."""
    grouped: dict[str, list[Check]] = {}
    for check in alarms:
        grouped.setdefault(check.what_to_do, []).append(check)
    return list(grouped.items())


def _wrapped(head: str, text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        head + text, WIDTH, subsequent_indent=indent + "  ", break_on_hyphens=False
    )
