"""The audit of a data set: what is wrong with it, and what to do, check by check.

Every check is a query over a connection that has the published tables and core.impressions and
core.requests. A lake that has built these is audited as it is; ``qilin audit`` registers a data
folder in a temporary lake and builds them in memory. The data folder is never written to.
"""

import tempfile
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qilin_dagster.audit_leaks import OUTCOMES, check_leaks
from qilin_dagster.audit_log import check_log
from qilin_dagster.audit_model import (
    COLUMNS,
    LOG_TABLES,
    SUBJECTS,
    Check,
    Findings,
    read_expected,
)
from qilin_dagster.errors import InputError
from qilin_dagster.lake import LakeError
from qilin_dagster.settings import Settings

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from qilin_dagster.catalog import View
    from qilin_dagster.engines.duckdb import DuckDBEngine

WIDTH = 100
WORDS = {"alarm": "ALARM", "ok": "ok", "unknown": "-"}
VERDICTS = ("alarm", "ok", "unknown")
CORE = ("core.impressions", "core.requests")


@dataclass(frozen=True)
class Audit:
    """The checks of one data set, by subject."""

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

    def to_arrow(self) -> "pa.Table":
        """One row per check, numbered in the order they are told."""
        import pyarrow as pa

        schema = pa.schema(
            [
                ("check_n", pa.int64()),
                *((name, pa.string()) for name in ("subject", "name", "about", "expected")),
                ("measured", pa.string()),
                ("value", pa.float64()),
                *((name, pa.string()) for name in ("verdict", "what_to_do")),
            ]
        )
        rows = [{"check_n": n, **asdict(check)} for n, check in enumerate(self.checks, 1)]
        return pa.Table.from_pylist(rows, schema=schema)


def run_audit(settings: Settings, overrides: Path | None = None) -> Audit:
    """Audit the settings' data folder.

    Raises InputError when the folder, one of its files or the expected values cannot be read.
    """
    import duckdb

    from qilin_dagster.engines.duckdb import DuckDBEngine
    from qilin_dagster.lake import Lake
    from qilin_dagster.sources.published import inspect
    from qilin_dagster.sources.register import register_all

    expected = read_expected(overrides)
    data = inspect(settings.data_folder())
    with tempfile.TemporaryDirectory(prefix="qilin-audit-") as folder:
        settings = replace(settings, lake=Path(folder))
        engine = DuckDBEngine(Lake(Path(folder)), settings)
        register_all(engine.lake, data, settings.search_clock_offset)
        try:
            return audit_lake(engine, expected)
        except duckdb.Error as error:
            raise InputError(f"data folder {data.path} cannot be audited: {error}") from error


def audit_lake(engine: "DuckDBEngine", expected: dict[str, dict[str, Any]]) -> Audit:
    """Audit the data registered in the engine's lake; nothing in the lake is changed.

    Core tables that the lake lacks, or has from other files, are made in memory for the audit.
    """
    connection = engine.connect()
    try:
        _define_core(connection, engine)
        name, is_twin = connection.execute(
            "select name, is_twin from published.data_set"
        ).fetchall()[0]
        found = Findings(expected, is_full_size=False, is_twin=bool(is_twin))
        n_requests = connection.execute(
            "select " + " + ".join(f"(select count(*) from published.{t})" for t in LOG_TABLES)
        ).fetchall()[0][0]
        n_expected = sum(found.number("rows", table) for table in LOG_TABLES)
        found.is_full_size = n_requests >= found.number("judge", "full_size_share") * n_expected
        for statement in (ASKED, EXPOSURES, LISTS):
            connection.execute(statement)
        check_leaks(connection, found)
        check_log(connection, found)
    finally:
        connection.close()
    order = {subject: n for n, subject in enumerate(SUBJECTS)}
    return Audit(name, tuple(sorted(found.checks, key=lambda check: order[check.subject])))


def _define_core(connection: "duckdb.DuckDBPyConnection", engine: "DuckDBEngine") -> None:
    """See to it that the connection's core tables are those of the registered files.

    The audit judges what was published: nothing is set aside, so a lake with rows in quarantine
    has its core made anew, too.
    """
    catalog = engine.catalog
    needed = {
        view.qualified
        for view in catalog.views
        if any(core in (view.qualified, *catalog.descendants(view.qualified)) for core in CORE)
    }
    fresh: set[str] = set()
    for view in catalog.views:
        if view.qualified not in needed:
            continue
        connection.execute(f"create schema if not exists {view.schema}")
        if view.schema == "quarantine" and view.is_stored:
            if not _is_built_and_empty(engine, view):
                fresh.add(view.qualified)
                empty = f"select * from ({view.select}) where false"
                connection.execute(f"create or replace view {view.qualified} as {empty}")
        elif not view.is_stored:
            engine.define_view(connection, view)
            if fresh.intersection(view.parents):
                fresh.add(view.qualified)
        elif fresh.intersection(view.parents) or not engine.lake.is_current(
            view.qualified, engine.inputs(view.parents), view.code_version
        ):
            fresh.add(view.qualified)
            connection.execute(f"drop view if exists {view.qualified}")
            connection.execute(f"create table {view.qualified} as {view.select}")


def _is_built_and_empty(engine: "DuckDBEngine", view: "View") -> bool:
    manifest = engine.lake.manifest(view.qualified)
    try:
        inputs = engine.inputs(view.parents)
    except LakeError:
        return False
    return (
        manifest is not None
        and manifest.n_rows == 0
        and engine.lake.is_current(view.qualified, inputs, view.code_version)
    )


# One row per request; a request that is there twice is taken once. Parts as in audit_leaks.PARTS.
ASKED = """
create or replace temp table asked as
select distinct on (request_id) request_id, source_table, channel, split,
    (case source_table
        when 'search_train' then 0 when 'search_test' then 1
        when 'recommendation_train' then 2 when 'recommendation_test' then 3
        else 4 + row_number % 2
    end)::tinyint as part,
    row_number, published_idx, user_idx, app_session_idx, query_source, started_at, history_list
from core.requests
order by request_id, row_number
"""
# One row per impression, with what checks ask of it.
EXPOSURES = f"""
create or replace temp table exposures as
select
    i.request_id,
    i.impression_n::int as impression_n,
    a.part,
    i."position",
    i.shown_rank::int as shown_rank,
    i.note_idx,
    i.exposed_at,
    coalesce(i.is_clicked, false) as is_clicked,
    i.is_repeat,
    coalesce(list_contains(a.history_list, i.note_idx), false) as in_history,
    {", ".join(f"{sql} as has_{outcome}" for outcome, sql in OUTCOMES.items())}
from core.impressions as i
inner join asked as a on i.request_id = a.request_id
"""
# One row per request with impressions: their counts, and those of display neighbours of which one
# was clicked, whose published order is straight (as displayed) or swapped.
LISTS = f"""
create or replace temp table lists as
with shown as (
    select *,
        lead("position") over display as next_position,
        lead(impression_n) over display as next_n,
        lead(is_clicked) over display as next_clicked
    from exposures
    window display as (partition by request_id order by shown_rank)
),
counted as (
    select request_id,
        count(*) as n,
        count_if(is_clicked) as n_clicked,
        max(impression_n) as n_entries,
        coalesce(sum(shown_rank) filter (where is_clicked), 0) as sum_rank,
        coalesce(sum(impression_n) filter (where is_clicked), 0) as sum_entry,
        epoch(max(exposed_at)) - epoch(min(exposed_at)) as span_s,
        count_if(is_repeat) as n_repeats,
        count_if(in_history) as n_in_history,
        count_if(in_history and is_clicked) as n_in_history_clicked,
        {
    ", ".join(
        f"count_if(has_{o}) as n_{o}, count_if(has_{o} and is_clicked) as n_{o}_clicked"
        for o in OUTCOMES
    )
},
        count_if("position" is null) as n_no_place,
        count_if("position" < 0) as n_negative_place,
        count_if("position" = 0) as n_place_zero,
        min("position") as first_place,
        max("position") as last_place,
        count_if(next_position - "position" > 1) as n_gaps,
        count(next_position - "position") as n_steps,
        -- A page loaded twice counts its places from 1 again.
        count_if(next_position = "position") as n_same_place,
        count_if(is_clicked <> next_clicked and next_n > impression_n) as n_straight,
        count_if(next_clicked and not is_clicked and next_n > impression_n) as n_straight_later,
        count_if(is_clicked <> next_clicked and next_n < impression_n) as n_swapped,
        count_if(is_clicked and not next_clicked and next_n < impression_n) as n_swapped_later
    from shown group by request_id
)
select c.*, a.source_table, a.part
from counted as c inner join asked as a on c.request_id = a.request_id
"""


def format_audit(audit: Audit) -> str:
    """The audit as a person reads it: alarms with what to do, then every subject."""
    n_ok = sum(check.verdict == "ok" for check in audit.checks)
    n_alarms = len(audit.alarms)
    lines = [
        f"Audit of {audit.data}",
        f"{len(audit.checks)} checks: {n_alarms} alarm{'s' if n_alarms != 1 else ''}, {n_ok} ok, "
        f"{len(audit.checks) - n_ok - n_alarms} with nothing to compare with (-)",
        "AUC is the chance that a clicked impression has the higher value: 0.5 knows no clicks.",
        "",
    ]
    if audit.alarms:
        lines += ["ALARMS, and what to do", "=" * WIDTH]
        for advice, checks in by_advice(audit.alarms):
            shared = {check.expected for check in checks}
            for check in checks:
                own = f" (expected: {check.expected})" if len(shared) > 1 else ""
                lines += _wrapped(f"{check.name}: ", check.measured + own, "  ")
            if len(shared) == 1:
                lines += _wrapped("  expected: ", checks[0].expected, "  ")
            lines += _wrapped("  do: ", advice, "  ")
            lines.append("")
    for subject, group in groupby(audit.checks, lambda check: check.subject):
        lines += [subject, "-" * WIDTH]
        quiet = []
        for check in sorted(group, key=lambda check: VERDICTS.index(check.verdict)):
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


def by_advice(alarms: Sequence[Check]) -> list[tuple[str, list[Check]]]:
    """Alarms that ask for the same thing, told together."""
    grouped: dict[str, list[Check]] = {}
    for check in alarms:
        grouped.setdefault(check.what_to_do, []).append(check)
    return list(grouped.items())


def _wrapped(head: str, text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        head + text, WIDTH, subsequent_indent=indent + "  ", break_on_hyphens=False
    )
