"""The audit: day-one questions asked of the published data, before anyone trusts a number on it.

Alarms are warnings and stop nothing: a leak such as the numbering of notes is a fact about the
release that every build on it must live with, and what is built here already avoids it. Rows that
would make later results wrong are stopped by the blocking checks of raw and core.
"""

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from qilin_dagster.assets.tables import WRITER, written_in
from qilin_dagster.audit_model import EXPECTED, SUBJECTS, read_expected
from qilin_dagster.lake import Written, write_rows
from qilin_dagster.resources import Lakehouse
from qilin_dagster.sources.layout import TABLES

if TYPE_CHECKING:
    import duckdb

log = logging.getLogger("qilin")

AUDIT = "evaluation.audit"
KEY = dg.AssetKey(["evaluation", "audit"])
READS = (
    *(f"published.{name}" for name in (*TABLES, "data_set", "clock", "qrels")),
    *("core.impressions", "core.requests"),
)
# Raise when a check is added or asks otherwise.
CODE_VERSION = "1"
# One asset check per subject of the audit.
CHECKS = {subject: subject.lower().replace(": ", "_").replace(" ", "_") for subject in SUBJECTS}
PLOTTED = ("id_block_rule.search", "id_block_rule.feed", "id_block_rule.dqa")


@dg.asset(
    key=KEY,
    deps=[dg.AssetKey(relation.split(".")) for relation in READS],
    group_name="evaluation",
    kinds={"duckdb", "table"},
    pool=WRITER,
    metadata=written_in(__file__),
    description="One row per check of the data: leaks, labels, clocks, ids, types, missing values "
    "and cold start, each with its question, the expected and the measured value, a verdict (ok, "
    "alarm, or unknown where there is nothing to compare with) and what to do.",
    check_specs=[
        dg.AssetCheckSpec(
            name, asset=KEY, description=f"The audit raises no alarm about: {subject}."
        )
        for subject, name in CHECKS.items()
    ],
)
def audit(
    lakehouse: Lakehouse,
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    engine = lakehouse.engine()
    expected = hashlib.sha256(EXPECTED.read_bytes()).hexdigest()
    manifest = lakehouse.store.publish(
        AUDIT,
        inputs={**engine.inputs(READS), "expected": expected},
        code_version=CODE_VERSION,
        write=lambda folder: _write(lakehouse, folder),
    )
    connection = engine.connect([AUDIT])
    try:
        yield dg.MaterializeResult(
            metadata=_metadata(connection), data_version=dg.DataVersion(manifest.snapshot_id)
        )
        yield from _check_results(connection)
    finally:
        connection.close()


def _write(lakehouse: Lakehouse, folder: Path) -> Written:
    from qilin_dagster.audit import audit_lake

    result = audit_lake(lakehouse.engine(), read_expected(None))
    log.info("%s: %s checks, %s alarms", AUDIT, len(result.checks), len(result.alarms))
    return write_rows(result.to_arrow(), folder)


def _metadata(connection: "duckdb.DuckDBPyConnection") -> dict[str, dg.MetadataValue]:
    """Numbers at the top level, where the UI plots them over time, and the alarms as a table."""
    counts = dict(
        connection.execute(f"select verdict, count(*) from {AUDIT} group by verdict").fetchall()
    )
    metadata: dict[str, dg.MetadataValue] = {
        "dagster/row_count": dg.MetadataValue.int(sum(counts.values())),
        **{f"n_{v}": dg.MetadataValue.int(counts.get(v, 0)) for v in ("alarm", "ok", "unknown")},
        "alarms": dg.MetadataValue.md(_alarms(connection)),
    }
    for name, value in connection.execute(
        f"select name, value from {AUDIT} where list_contains(?, name) and value is not null",
        [list(PLOTTED)],
    ).fetchall():
        metadata[f"auc {name}"] = dg.MetadataValue.float(value)
    return metadata


def _alarms(connection: "duckdb.DuckDBPyConnection") -> str:
    rows = connection.execute(
        f"select name, measured, what_to_do from {AUDIT} where verdict = 'alarm' order by check_n"
    ).fetchall()
    if not rows:
        return "no alarms"
    lines = ["| check | found | what to do |", "|---|---|---|"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _check_results(connection: "duckdb.DuckDBPyConnection") -> list[dg.AssetCheckResult]:
    results = []
    for subject, name in CHECKS.items():
        rows = connection.execute(
            f"select name, verdict from {AUDIT} where subject = ? order by check_n", [subject]
        ).fetchall()
        alarms = [check for check, verdict in rows if verdict == "alarm"]
        results.append(
            dg.AssetCheckResult(
                check_name=name,
                passed=not alarms,
                severity=dg.AssetCheckSeverity.WARN,
                description=f"{len(alarms)} of {len(rows)}: {', '.join(alarms)}"
                if alarms
                else f"no alarm in {len(rows)} checks",
                metadata={
                    "n_alarms": dg.MetadataValue.int(len(alarms)),
                    "n_checks": dg.MetadataValue.int(len(rows)),
                },
            )
        )
    return results
