"""Expectations of Great Expectations that only count, for the first look at a relation.

As shipped, a rule in SQL runs its query twice (to count and to show), and uniqueness is a window
over every row. Here both are aggregates, which Great Expectations puts into one SELECT with all
other aggregates of the relation: one scan for the nulls, the ranges, the keys and the rules on
single rows. What fails is asked again as shipped, for its examples; so a verdict against the data
is never one of these.

Importing this registers the types with Great Expectations.
"""

import re
from typing import Any

import sqlalchemy as sa
from great_expectations.core.metric_domain_types import MetricDomainTypes
from great_expectations.core.metric_function_types import MetricPartialFunctionTypes
from great_expectations.execution_engine.execution_engine import ExecutionEngine
from great_expectations.execution_engine.sqlalchemy_execution_engine import (
    SqlAlchemyExecutionEngine,
)
from great_expectations.expectations.core.unexpected_rows_expectation import (
    UnexpectedRowsExpectation,
)
from great_expectations.expectations.expectation import BatchExpectation
from great_expectations.expectations.metrics.metric_provider import metric_partial
from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider

# A query about single rows of the batch: its condition can be counted beside others.
ROW_QUERY = re.compile(
    r"select (?!distinct)(?P<columns>.+?) from \{batch\} where (?P<condition>.+)"
)
NOT_OF_ROWS = re.compile(
    r"\b(select|from|join|group|having|qualify|window|order|limit|union|over)\b", re.IGNORECASE
)


def row_condition(query: str) -> str | None:
    """The condition when the query asks for single rows of the batch alone, else None."""
    match = ROW_QUERY.fullmatch(" ".join(query.split()))
    if match is None or NOT_OF_ROWS.search(match["columns"] + " " + match["condition"]):
        return None
    return match["condition"].format()  # a literal brace is doubled in a query


class RowsWhere(TableMetricProvider):
    """How many rows of the table meet a condition."""

    metric_name = "table.rows_where"
    value_keys = ("condition",)

    @metric_partial(
        engine=SqlAlchemyExecutionEngine,
        partial_fn_type=MetricPartialFunctionTypes.AGGREGATE_FN,
        domain_type=MetricDomainTypes.TABLE,
    )
    def _sqlalchemy(
        cls,
        execution_engine: SqlAlchemyExecutionEngine,
        metric_domain_kwargs: dict[str, Any],
        metric_value_kwargs: dict[str, Any],
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any],
    ) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        condition: sa.ColumnElement[bool] = sa.literal_column(
            f"({metric_value_kwargs['condition']})"
        )
        return sa.func.count().filter(condition), metric_domain_kwargs, {}


class RepeatedKeys(TableMetricProvider):
    """How many rows have a key, less how many keys there are; 0 says that no key repeats.

    Keys are compared by a hash of 64 bits: a value above 0 may, once in a million tables of a
    million rows, be two keys of one hash, and has to be asked again.
    """

    metric_name = "table.repeated_keys"
    value_keys = ("key_columns",)

    @metric_partial(
        engine=SqlAlchemyExecutionEngine,
        partial_fn_type=MetricPartialFunctionTypes.AGGREGATE_FN,
        domain_type=MetricDomainTypes.TABLE,
    )
    def _sqlalchemy(
        cls,
        execution_engine: SqlAlchemyExecutionEngine,
        metric_domain_kwargs: dict[str, Any],
        metric_value_kwargs: dict[str, Any],
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any],
    ) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        columns: list[sa.ColumnClause[Any]] = [
            sa.column(name) for name in metric_value_kwargs["key_columns"]
        ]
        is_key = sa.or_(*(column.is_not(None) for column in columns))
        n_keys = sa.func.count(sa.distinct(sa.func.hash(*columns))).filter(is_key)
        return sa.func.count().filter(is_key) - n_keys, metric_domain_kwargs, {}


class CountUnexpectedRows(UnexpectedRowsExpectation):
    """Counts what the query selects and reads none of it."""

    metric_dependencies = ("unexpected_rows_query.row_count",)

    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any] | None = None,
        execution_engine: ExecutionEngine[Any] | None = None,
    ) -> dict[str, Any]:
        n_rows = metrics["unexpected_rows_query.row_count"]
        return {"success": n_rows == 0, "result": {"observed_value": n_rows}}


class CountRowsWhere(BatchExpectation):
    """Counts the rows of the batch that meet a condition, in one scan with its like."""

    condition: str

    metric_dependencies = ("table.rows_where",)
    success_keys = ("condition",)

    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any] | None = None,
        execution_engine: ExecutionEngine[Any] | None = None,
    ) -> dict[str, Any]:
        n_rows = metrics["table.rows_where"]
        return {"success": n_rows == 0, "result": {"observed_value": n_rows}}


class CountRepeatedKeys(BatchExpectation):
    """Says whether any key repeats, in one scan with its like."""

    key_columns: list[str]

    metric_dependencies = ("table.repeated_keys", "table.row_count")
    success_keys = ("key_columns",)

    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any] | None = None,
        execution_engine: ExecutionEngine[Any] | None = None,
    ) -> dict[str, Any]:
        n_repeats = metrics["table.repeated_keys"]
        return {
            "success": n_repeats == 0,
            "result": {
                "element_count": metrics["table.row_count"],
                "unexpected_count": n_repeats,
                "unexpected_percent": 0.0 if n_repeats == 0 else None,
            },
        }
