"""The latest outcome of every check, kept in the lake: ``evaluation.checks``. Knows no Dagster.

A row per check says how it went and on which version of the data. Beside the rows, the snapshot
holds ``validations/<schema>.<table>.json``: the relation's results in the form that Great
Expectations calls ExpectationSuiteValidationResult, and can load. Above the snapshots stands
``checks.html``, the same for a person.
"""

import dataclasses
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qilin_dagster.expectations import ExpectationResult, Suite, validate
from qilin_dagster.lake import Lake, LakeError, Written, replace_text, version_of, write_rows

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from qilin_dagster.engines.duckdb import DuckDBEngine

OUTCOMES = "evaluation.checks"
VALIDATIONS = "validations"
# Raise when the same outcomes are kept in another form.
CODE_VERSION = "2"


@dataclasses.dataclass(frozen=True)
class Checked:
    """A suite's results on one version of its relation and of all that its rules read."""

    suite: Suite
    version: str | None
    results: Sequence[ExpectationResult]


def data_version(engine: "DuckDBEngine", suite: Suite) -> str | None:
    """Names the rules and the rows they are about; None when a relation they read is not there."""
    try:
        inputs = engine.inputs((suite.qualified, *suite.reads))
    except LakeError:
        return None
    return version_of(inputs, suite.version)


def check(
    engine: "DuckDBEngine",
    connection: "duckdb.DuckDBPyConnection",
    suite: Suite,
    names: Collection[str] | None = None,
) -> Checked:
    """Outcomes of these expectations, all by default: recorded ones while nothing has changed."""
    wanted = {e.name for e in suite.expectations} if names is None else set(names)
    version = data_version(engine, suite)
    recorded = _recorded(engine.lake, suite, version) if version else {}
    if wanted <= set(recorded):
        return Checked(suite, version, [r for name, r in recorded.items() if name in wanted])
    catalog = engine.catalog
    # An answer is a few rows computed from millions: once for all its checks.
    is_answer = suite.schema == "bias" and not (
        suite.qualified in catalog and catalog[suite.qualified].is_stored
    )
    results = validate(connection, suite, wanted, is_computed_once=is_answer)
    return Checked(suite, version, results)


def record(lake: Lake, checked: Sequence[Checked]) -> None:
    """Make these the latest outcomes; those of other relations and of other checks stay."""
    present = _rows(lake)
    suites = {
        c.suite.qualified: {e.name for e in c.suite.expectations} | {r.name for r in c.results}
        for c in checked
    }
    fresh = {
        (c.suite.qualified, result.name): _row(c, result) for c in checked for result in c.results
    }
    kept = {
        (row["asset"], row["check_name"]): row
        for row in present
        if row["check_name"] in suites.get(row["asset"], {row["check_name"]})
    }
    rows = [row for _, row in sorted((kept | fresh).items())]
    if rows == present or not rows:
        return  # the page beside them says the same, too
    validations = _validations(lake, checked, suites)
    content = json.dumps(rows, sort_keys=True, ensure_ascii=False)
    lake.publish(
        OUTCOMES,
        inputs={"rows": hashlib.sha256(content.encode()).hexdigest()},
        code_version=CODE_VERSION,
        write=lambda folder: _write(folder, rows, validations),
    )
    replace_text(page_path(lake), _page(lake, rows))


def page_path(lake: Lake) -> Path:
    """The page of all checks as they are; it stays at its place when the snapshot changes."""
    return lake.table_folder(OUTCOMES) / "checks.html"


def page_of_check(lake: Lake, relation: str, check_name: str) -> str:
    """Address of one check on that page, for a browser."""
    from qilin_dagster.report_checks import anchor

    return f"{page_path(lake).as_uri()}#{anchor(relation, check_name)}"


def suite_validation_result(
    checked_suite: str, results: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Results of single expectations as one ExpectationSuiteValidationResult, in JSON."""
    n_successful = sum(bool(result["success"]) for result in results)
    return {
        "success": n_successful == len(results),
        "suite_name": checked_suite,
        "results": list(results),
        "suite_parameters": {},
        "statistics": {
            "evaluated_expectations": len(results),
            "successful_expectations": n_successful,
            "unsuccessful_expectations": len(results) - n_successful,
            "success_percent": 100 * n_successful / len(results) if results else None,
        },
        "meta": {},
        "id": None,
    }


def _page(lake: Lake, rows: list[dict[str, Any]]) -> str:
    import pyarrow.parquet as pq

    from qilin_dagster.report_checks import checks_page

    manifest = lake.manifest("published.data_set")
    name, is_twin = "data of unknown origin", False
    for path in lake.files(manifest) if manifest is not None else ():
        for row in pq.read_table(path).to_pylist():
            name, is_twin = row["name"], row["is_twin"]
    return checks_page(rows, data_name=name, is_twin=is_twin, written=datetime.now(UTC))


def _schema() -> "pa.Schema":
    import pyarrow as pa

    return pa.schema(
        [
            ("asset", pa.string()),
            ("check_name", pa.string()),
            ("severity", pa.string()),
            ("passed", pa.bool_()),
            ("type", pa.string()),
            ("element_count", pa.int64()),
            ("unexpected_count", pa.int64()),
            ("unexpected_percent", pa.float64()),
            ("observed", pa.string()),
            ("why", pa.string()),
            ("error", pa.string()),
            ("examples", pa.list_(pa.string())),
            ("failing_rows_sql", pa.string()),
            ("data_version", pa.string()),
        ]
    )


def _row(checked: Checked, result: ExpectationResult) -> dict[str, Any]:
    types = {expectation.name: expectation.type for expectation in checked.suite.expectations}
    return {
        "asset": checked.suite.qualified,
        "check_name": result.name,
        "severity": result.severity,
        "passed": result.success,
        # A check that no suite holds, as one whose limit is a setting, has no type.
        "type": types.get(result.name),
        "element_count": result.element_count,
        "unexpected_count": result.unexpected_count,
        "unexpected_percent": result.unexpected_percent,
        "observed": None if result.observed_value is None else str(result.observed_value),
        "why": result.why,
        "error": result.error,
        "examples": [json.dumps(row, ensure_ascii=False, default=str) for row in result.examples],
        "failing_rows_sql": result.failing_rows_sql,
        # What could not be run has found nothing that could stand for the next time.
        "data_version": None if result.error else checked.version,
    }


def _rows(lake: Lake) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    manifest = lake.manifest(OUTCOMES)
    if manifest is None or manifest.code_version != CODE_VERSION:
        return []
    return [row for path in lake.files(manifest) for row in pq.read_table(path).to_pylist()]


def _recorded(lake: Lake, suite: Suite, version: str) -> dict[str, ExpectationResult]:
    """Outcomes of this version by name, in the order of the suite."""
    rows = {
        row["check_name"]: row
        for row in _rows(lake)
        if row["asset"] == suite.qualified and row["data_version"] == version
    }
    return {
        expectation.name: ExpectationResult(
            name=expectation.name,
            success=row["passed"],
            severity=expectation.severity,
            why=expectation.why,
            element_count=row["element_count"],
            unexpected_count=row["unexpected_count"],
            unexpected_percent=row["unexpected_percent"],
            observed_value=row["observed"],
            examples=tuple(json.loads(example) for example in row["examples"]),
            failing_rows_sql=row["failing_rows_sql"],
            error=row["error"],
            raw={},
        )
        for expectation in suite.expectations
        if (row := rows.get(expectation.name)) is not None
    }


def _validations(
    lake: Lake, checked: Sequence[Checked], suites: Mapping[str, set[str]]
) -> dict[str, str]:
    """JSON by relation: of the present snapshot, with what was newly found put in its place."""
    present = lake.manifest(OUTCOMES)
    texts: dict[str, str] = {}
    if present is not None and present.code_version == CODE_VERSION:
        texts = {
            path.stem: path.read_text(encoding="utf-8") for path in lake.files(present, ".json")
        }
    for one in checked:
        relation = one.suite.qualified
        before = json.loads(texts[relation])["results"] if relation in texts else []
        results = {
            result["expectation_config"]["meta"]["name"]: result
            for result in [*before, *(result.raw for result in one.results if result.raw)]
        }
        kept = [results[name] for name in sorted(results) if name in suites[relation]]
        texts[relation] = json.dumps(suite_validation_result(relation, kept), ensure_ascii=False)
    return texts


def _write(folder: Path, rows: list[dict[str, Any]], validations: Mapping[str, str]) -> Written:
    import pyarrow as pa

    (folder / VALIDATIONS).mkdir()
    for relation, text in validations.items():
        (folder / VALIDATIONS / f"{relation}.json").write_text(text, encoding="utf-8")
    return write_rows(pa.Table.from_pylist(rows, schema=_schema()), folder)
