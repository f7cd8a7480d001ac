"""Expectation suites as Dagster asset checks: one check per expectation, blocking when critical.

What an expectation means and how it is run is in expectations.py, and where its outcome is kept in
outcomes.py; this file only translates.
"""

import functools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from qilin_dagster.catalog import GRAIN, View
from qilin_dagster.expectations import Expectation, ExpectationResult, Suite, load_suites
from qilin_dagster.expectations_generated import with_grain, with_meaning
from qilin_dagster.lake import Lake
from qilin_dagster.outcomes import check, page_of_check, record
from qilin_dagster.settings import EXPECTATIONS_ROOT

if TYPE_CHECKING:
    from qilin_dagster.engines.duckdb import DuckDBEngine


def suite_of(view: View) -> Suite:
    """What the view's comment and, for an answer, its columns promise; then its suite file."""
    suite = with_grain(_written(view.qualified), view.grain)
    return with_meaning(suite, list(view.column_comments)) if view.schema == "bias" else suite


def table_suite(table: str, description: str) -> Suite:
    """Suite of a table that Python makes; its grain is in the first sentence of the description."""
    match = GRAIN.match(description)
    assert match, f"the description of {table} must begin 'One row per (a, b): ...'"
    return with_grain(_written(table), [column.strip() for column in match[1].split(",")])


def check_specs(suite: Suite) -> list[dg.AssetCheckSpec]:
    return [_check_spec(suite, expectation) for expectation in suite.expectations]


def check_table(engine: "DuckDBEngine", suite: Suite) -> list[dg.AssetCheckResult]:
    """Check a table of the lake as it is now, and keep the outcome."""
    connection = engine.connect()
    try:
        checked = check(engine, connection, suite)
    finally:
        connection.close()
    record(engine.lake, [checked])
    return check_results(engine.lake, suite, checked.results)


def check_results(
    lake: Lake, suite: Suite, results: Iterable[ExpectationResult]
) -> list[dg.AssetCheckResult]:
    return [
        dg.AssetCheckResult(
            asset_key=dg.AssetKey([suite.schema, suite.table]),
            check_name=result.name,
            passed=result.success,
            severity=(
                dg.AssetCheckSeverity.ERROR
                if result.severity == "critical"
                else dg.AssetCheckSeverity.WARN
            ),
            description=result.error or result.why,
            metadata=_metadata(lake, suite, result),
        )
        for result in results
    ]


def failed_blocking(results: Sequence[ExpectationResult]) -> list[str]:
    return [r.name for r in results if not r.success and r.severity == "critical"]


@functools.cache
def _suites() -> dict[str, Suite]:
    return load_suites(EXPECTATIONS_ROOT)


def _written(qualified: str) -> Suite:
    schema, _, table = qualified.partition(".")
    return _suites().get(qualified) or Suite(schema, table, ())


def _check_spec(suite: Suite, expectation: Expectation) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        name=expectation.name,
        asset=dg.AssetKey([suite.schema, suite.table]),
        description=expectation.why,
        blocking=expectation.severity == "critical",
        metadata={"expectation": expectation.type},
    )


def _metadata(lake: Lake, suite: Suite, result: ExpectationResult) -> dict[str, dg.MetadataValue]:
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
        metadata["examples"] = _table(result.examples)
    if result.failing_rows_sql is not None:
        # As text, so that it can be copied from the page of the check into qilin sql.
        metadata["all failing rows"] = dg.MetadataValue.text(result.failing_rows_sql)
    metadata["page"] = dg.MetadataValue.path(page_of_check(lake, suite.qualified, result.name))
    return metadata


def _table(rows: Sequence[dict[str, Any]]) -> dg.MetadataValue:
    """Rows as a table of text; a column that a row lacks is empty there."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    return dg.MetadataValue.table(
        records=[
            dg.TableRecord({column: _text(row.get(column)) for column in columns}) for row in rows
        ],
        schema=dg.TableSchema([dg.TableColumn(column, "string") for column in columns]),
    )


def _text(value: object) -> str:
    return "" if value is None else str(value)
