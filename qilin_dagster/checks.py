"""Expectation suites as Dagster asset checks: one check per expectation, blocking when critical.

What an expectation means and how it is run is in expectations.py; this file only translates.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping

import dagster as dg

from qilin_dagster.catalog import View
from qilin_dagster.expectations import (
    Expectation,
    ExpectationResult,
    Suite,
    load_suite,
)
from qilin_dagster.lake import Lake, write_rows
from qilin_dagster.settings import EXPECTATIONS_ROOT

OUTCOMES = "evaluation.checks"


def suite_of(view: View) -> Suite:
    """The view's grain checks, generated from its comment, then what its suite file adds."""
    path = EXPECTATIONS_ROOT / view.schema / f"{view.name}.json"
    suite = load_suite(path) if path.exists() else Suite(view.schema, view.name, ())
    return suite.with_grain(view.grain)


def check_spec(view: View, expectation: Expectation) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        name=expectation.name,
        asset=dg.AssetKey([view.schema, view.name]),
        description=expectation.why,
        blocking=expectation.severity == "critical",
        metadata={"expectation": expectation.type},
    )


def check_results(view: View, results: Iterable[ExpectationResult]) -> list[dg.AssetCheckResult]:
    return [
        dg.AssetCheckResult(
            asset_key=dg.AssetKey([view.schema, view.name]),
            check_name=result.name,
            passed=result.success,
            severity=(
                dg.AssetCheckSeverity.ERROR
                if result.severity == "critical"
                else dg.AssetCheckSeverity.WARN
            ),
            description=result.error or result.why,
            metadata=_metadata(result),
        )
        for result in results
    ]


def _metadata(result: ExpectationResult) -> dict[str, dg.MetadataValue]:
    """Numbers at the top level, where the UI plots them over time."""
    metadata: dict[str, dg.MetadataValue] = {}
    if result.unexpected_count is not None:
        metadata["unexpected_count"] = dg.MetadataValue.int(result.unexpected_count)
    if result.element_count is not None:
        metadata["element_count"] = dg.MetadataValue.int(result.element_count)
    if result.unexpected_percent is not None:
        metadata["unexpected_percent"] = dg.MetadataValue.float(result.unexpected_percent)
    if result.observed_value is not None:
        metadata["observed"] = dg.MetadataValue.text(str(result.observed_value))
    if result.examples:
        lines = "\n".join(f"- `{example}`" for example in result.examples)
        metadata["examples"] = dg.MetadataValue.md(lines)
    return metadata


def record_outcomes(lake: Lake, outcomes: Mapping[str, Iterable[ExpectationResult]]) -> None:
    """Replace these relations' rows in ``evaluation.checks``: the latest outcome of each check."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    present = lake.manifest(OUTCOMES)
    kept = [
        row
        for path in (lake.files(present) if present else [])
        for row in pq.read_table(path).to_pylist()
        if row["asset"] not in outcomes
    ]
    fresh = [
        {
            "asset": relation,
            "check_name": result.name,
            "severity": result.severity,
            "passed": result.success,
            "element_count": result.element_count,
            "unexpected_count": result.unexpected_count,
            "observed": None if result.observed_value is None else str(result.observed_value),
            "why": result.why,
            "error": result.error,
            "examples": [str(example) for example in result.examples],
        }
        for relation, results in outcomes.items()
        for result in results
    ]
    rows = sorted(kept + fresh, key=lambda row: (row["asset"], row["check_name"]))
    if not rows:
        return
    schema = pa.schema(
        [
            ("asset", pa.string()),
            ("check_name", pa.string()),
            ("severity", pa.string()),
            ("passed", pa.bool_()),
            ("element_count", pa.int64()),
            ("unexpected_count", pa.int64()),
            ("observed", pa.string()),
            ("why", pa.string()),
            ("error", pa.string()),
            ("examples", pa.list_(pa.string())),
        ]
    )
    table = pa.Table.from_pylist(rows, schema=schema)
    content = json.dumps(rows, sort_keys=True, ensure_ascii=False)

    lake.publish(
        OUTCOMES,
        inputs={"rows": hashlib.sha256(content.encode()).hexdigest()},
        code_version="1",
        write=lambda folder: write_rows(table, folder),
    )
