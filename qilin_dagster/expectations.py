"""Suites of expectations as files: read them, check them, validate a relation against them.

A file ``expectations/<schema>/<table>.json`` holds judgement only: what must not be in the data,
how bad it is, and why. That the grain is unique and never null is not written there but generated
from the catalog (``grain_expectations``). Great Expectations takes seconds to import, so reading a
file does without it; whatever needs it is checked before the first row is looked at.
"""

import dataclasses
import difflib
import functools
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import duckdb
    from great_expectations.datasource.fluent.interfaces import Batch
    from great_expectations.execution_engine.execution_engine import ExecutionEngine
    from great_expectations.expectations.expectation import Expectation as GXExpectation

Severity = Literal["critical", "warning"]

UNEXPECTED_ROWS = "unexpected_rows_expectation"
PANDAS_ONLY = frozenset(
    {
        "expect_column_values_to_be_decreasing",
        "expect_column_values_to_be_dateutil_parseable",
        "expect_column_values_to_be_increasing",
        "expect_column_values_to_be_json_parseable",
        "expect_column_values_to_match_json_schema",
        "expect_column_values_to_match_strftime_format",
    }
)
NAME = re.compile(r"[a-z][a-z0-9_]{2,79}")
EXAMPLES = 5
# Result formats of Great Expectations: numbers alone, and numbers with up to 200 unexpected rows.
COUNTS = {"result_format": "SUMMARY", "partial_unexpected_count": 0}
ROWS = {"result_format": "COMPLETE"}


class SuiteError(ValueError):
    """A suite cannot be checked as written; the message names the file and the entry."""


@dataclass(frozen=True)
class Expectation:
    """One rule; ``type`` and ``kwargs`` in the words of Great Expectations."""

    name: str
    type: str
    kwargs: dict[str, Any]
    severity: Severity
    why: str


@dataclass(frozen=True)
class Suite:
    """What is expected of one relation; bad rows are named by the columns of ``grain``."""

    schema: str
    table: str
    expectations: tuple[Expectation, ...]
    grain: tuple[str, ...] = ()

    @property
    def qualified(self) -> str:
        return f"{self.schema}.{self.table}"

    @property
    def file(self) -> str:
        """Where the suite is written, from the root of the repository."""
        return f"expectations/{self.schema}/{self.table}.json"

    def with_grain(self, grain: Sequence[str]) -> "Suite":
        """This suite with the generated expectations of the grain before its own."""
        generated = grain_expectations(self.qualified, grain)
        suite = dataclasses.replace(
            self, expectations=(*generated, *self.expectations), grain=tuple(grain)
        )
        _refuse_repeats(suite)
        return suite


@dataclass(frozen=True)
class ExpectationResult:
    """How one expectation went.

    ``error`` says why it could not be run, which is a failure. ``examples`` are a few bad rows,
    as far as the expectation can name them. ``raw`` is the result as Great Expectations gives it.
    """

    name: str
    success: bool
    severity: Severity
    why: str
    element_count: int | None
    unexpected_count: int | None
    unexpected_percent: float | None
    observed_value: Any
    examples: tuple[Any, ...]
    error: str | None
    raw: dict[str, Any]


def load_suite(path: Path) -> Suite:
    """Read ``.../<schema>/<table>.json``; raises SuiteError naming the file and the entry."""
    schema, table = path.parent.name, path.stem
    where = f"expectations/{schema}/{path.name}"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SuiteError(f"{where}: not JSON: {error}") from error
    _expect_keys(content, {"table", "expectations"}, where)
    if content["table"] != f"{schema}.{table}":
        raise SuiteError(f"{where}: says it is for {content['table']!r}, not for {schema}.{table}")
    if not isinstance(content["expectations"], list):
        raise SuiteError(f"{where}: expectations must be a list")
    suite = Suite(
        schema=schema,
        table=table,
        expectations=tuple(
            _read_entry(entry, f"{where}, entry {number}")
            for number, entry in enumerate(content["expectations"], start=1)
        ),
    )
    _refuse_repeats(suite)
    return suite


def load_suites(root: Path) -> dict[str, Suite]:
    """Every suite under ``root`` by ``<schema>.<table>``."""
    suites = [load_suite(path) for path in sorted(root.glob("*/*.json"))]
    return {suite.qualified: suite for suite in suites}


def grain_expectations(table: str, grain_columns: Sequence[str]) -> list[Expectation]:
    """What the grain means: its columns are never null and no two rows share them."""
    if not grain_columns:
        raise SuiteError(f"{table}: a grain needs at least one column")
    expectations = [
        Expectation(
            name=f"{column}_is_never_null",
            type="expect_column_values_to_not_be_null",
            kwargs={"column": column},
            severity="critical",
            why=f"A row of {table} without its {column} cannot be told from others or joined.",
        )
        for column in grain_columns
    ]
    unique: dict[str, Any]
    if len(grain_columns) == 1:
        type_ = "expect_column_values_to_be_unique"
        unique = {"column": grain_columns[0]}
    else:
        type_ = "expect_compound_columns_to_be_unique"
        unique = {"column_list": list(grain_columns)}
    expectations.append(
        Expectation(
            name=f"one_row_per_{'_and_'.join(grain_columns)}",
            type=type_,
            kwargs=unique,
            severity="critical",
            why=f"Joins with {table} would multiply rows, and every count after them.",
        )
    )
    return expectations


def check_suite(suite: Suite) -> None:
    """Raise SuiteError where Great Expectations knows no such type or no such keyword."""
    _build(suite, suite.expectations)


def validate(
    connection: "duckdb.DuckDBPyConnection",
    suite: Suite,
    names: Collection[str] | None = None,
) -> list[ExpectationResult]:
    """Check the suite's relation on this connection; results come in the order of the suite.

    ``names`` selects expectations. An expectation that cannot be run is a failed result with
    its error, not an exception.
    """
    check_suite(suite)
    known = {expectation.name for expectation in suite.expectations}
    unknown = sorted(set(names or ()) - known)
    if unknown:
        raise SuiteError(f"{suite.file}: no expectation is called {', '.join(unknown)}")
    selected = [e for e in suite.expectations if names is None or e.name in names]
    if not selected:
        return []

    batch = _batch(connection, suite)
    # Counts first, over everything at once; only what failed is asked again for examples, so that
    # good data costs no query for rows nobody will see.
    results = _run(batch, suite, selected, COUNTS, only_count=True)
    failed = [e for e in selected if not results[e.name]["success"]]
    if len(selected) > 1:
        # One broken expectation takes down the others that shared its query.
        for expectation in [e for e in failed if _error(results[e.name])]:
            results |= _run(batch, suite, [expectation], COUNTS, only_count=True)
    failed = [e for e in selected if _has_examples(e, results[e.name])]
    for format_, group in (
        (ROWS, [e for e in failed if e.type == UNEXPECTED_ROWS]),
        (_index_format(suite.grain), [e for e in failed if e.type != UNEXPECTED_ROWS]),
    ):
        for name, result in (_run(batch, suite, group, format_) if group else {}).items():
            if not _error(result):
                results[name] = result
    return [_result(expectation, results[expectation.name]) for expectation in selected]


def _expect_keys(content: object, keys: set[str], where: str) -> None:
    if not isinstance(content, dict):
        raise SuiteError(f"{where}: must be an object with {', '.join(sorted(keys))}")
    missing, extra = sorted(keys - set(content)), sorted(set(content) - keys)
    if missing:
        raise SuiteError(f"{where}: lacks {', '.join(missing)}")
    if extra:
        raise SuiteError(f"{where}: unknown {', '.join(map(repr, extra))}")


def _read_entry(entry: object, where: str) -> Expectation:
    if isinstance(entry, dict) and isinstance(entry.get("name"), str):
        where = f"{where} ({entry['name']})"
    _expect_keys(entry, {"name", "type", "kwargs", "severity", "meta"}, where)
    assert isinstance(entry, dict)
    name, type_, kwargs = entry["name"], entry["type"], entry["kwargs"]
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise SuiteError(f"{where}: name must be snake_case, 3 to 80 characters")
    if not isinstance(type_, str):
        raise SuiteError(f"{where}: type must be text")
    if type_ in PANDAS_ONLY:
        raise SuiteError(f"{where}: {type_} exists for pandas only; write {UNEXPECTED_ROWS}")
    if not isinstance(kwargs, dict):
        raise SuiteError(f"{where}: kwargs must be an object")
    if entry["severity"] not in ("critical", "warning"):
        raise SuiteError(f"{where}: severity must be critical or warning")
    _expect_keys(entry["meta"], {"why"}, f"{where}, meta")
    why = entry["meta"]["why"]
    if not isinstance(why, str) or not why.strip():
        raise SuiteError(f"{where}: why must say which mistake this catches")
    if type_ == UNEXPECTED_ROWS and "{batch}" not in str(kwargs.get("unexpected_rows_query")):
        raise SuiteError(f"{where}: unexpected_rows_query must select from {{batch}}")
    return Expectation(name, type_, kwargs, entry["severity"], why)


def _refuse_repeats(suite: Suite) -> None:
    names: set[str] = set()
    rules: dict[str, str] = {}
    for expectation in suite.expectations:
        if expectation.name in names:
            raise SuiteError(f"{suite.file}: the name {expectation.name} is used twice")
        names.add(expectation.name)
        rule = json.dumps([expectation.type, expectation.kwargs], sort_keys=True)
        if rule in rules:
            raise SuiteError(f"{suite.file}: {expectation.name} repeats {rules[rule]}")
        rules[rule] = expectation.name


def _build(
    suite: Suite, expectations: Iterable[Expectation], *, only_count: bool = False
) -> "list[GXExpectation]":
    """Great Expectations' own objects, one by one: given together, a misspelt one is dropped."""
    from great_expectations.exceptions.exceptions import GreatExpectationsError
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
    from great_expectations.expectations.metadata_types import FailureSeverity
    from great_expectations.expectations.registry import list_registered_expectation_implementations

    known = list_registered_expectation_implementations()
    built = []
    for expectation in expectations:
        where = f"{suite.file}: {expectation.name}"
        if expectation.type not in known:
            near = difflib.get_close_matches(expectation.type, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise SuiteError(f"{where}: no expectation type {expectation.type!r}{hint}")
        is_counted = only_count and expectation.type == UNEXPECTED_ROWS
        try:
            configuration = ExpectationConfiguration(
                type=_counting_type() if is_counted else expectation.type,
                kwargs=dict(expectation.kwargs),
                meta={"name": expectation.name, "why": expectation.why},
                severity=FailureSeverity(expectation.severity),
            )
            built.append(configuration.to_domain_obj())
        except (GreatExpectationsError, ValueError, TypeError) as error:
            raise SuiteError(f"{where}: {' '.join(str(error).split())}") from error
    return built


@functools.cache
def _counting_type() -> str:
    """Name of an UnexpectedRowsExpectation that counts; as shipped it runs its query twice."""
    from great_expectations.expectations.core.unexpected_rows_expectation import (
        UnexpectedRowsExpectation,
    )

    class CountUnexpectedRows(UnexpectedRowsExpectation):
        metric_dependencies = ("unexpected_rows_query.row_count",)

        def _validate(
            self,
            metrics: dict[str, Any],
            runtime_configuration: dict[str, Any] | None = None,
            execution_engine: "ExecutionEngine[Any] | None" = None,
        ) -> dict[str, Any]:
            n_rows = metrics["unexpected_rows_query.row_count"]
            return {"success": n_rows == 0, "result": {"observed_value": n_rows}}

    # Great Expectations registers a subclass by itself, under its name in snake case.
    return CountUnexpectedRows(unexpected_rows_query="{batch}").expectation_type


def _batch(connection: "duckdb.DuckDBPyConnection", suite: Suite) -> "Batch":
    import great_expectations as gx
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )
    from sqlalchemy.pool import StaticPool

    from qilin_dagster.gx_duckdb import URL, creator

    # The default configuration would make a folder for a documentation site, and draw a bar.
    context = gx.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(),
            progress_bars=ProgressBarsConfig(globally=False),
        ),
    )
    source = context.data_sources.add_sql(  # type: ignore[call-arg]  # its stub forgets kwargs
        name="duckdb",
        connection_string=URL,
        kwargs={"creator": creator(connection, suite.schema), "poolclass": StaticPool},
    )
    asset = source.add_table_asset(name=suite.qualified, table_name=suite.table)
    return asset.add_batch_definition_whole_table("whole").get_batch()


def _run(
    batch: "Batch",
    suite: Suite,
    expectations: Sequence[Expectation],
    result_format: dict[str, Any],
    *,
    only_count: bool = False,
) -> dict[str, dict[str, Any]]:
    """Results by name. One call for many: they share scans."""
    from great_expectations.core import ExpectationSuite

    built = _build(suite, expectations, only_count=only_count)
    gx_suite = ExpectationSuite(name=suite.qualified, expectations=built)
    results: list[dict[str, Any]] = [
        json.loads(json.dumps(r.to_json_dict(), default=_plain))
        for r in batch.validate(gx_suite, result_format=result_format).results
    ]
    by_name = {result["expectation_config"]["meta"]["name"]: result for result in results}
    if set(by_name) != {e.name for e in expectations} or len(results) != len(expectations):
        raise SuiteError(
            f"{suite.file}: {len(expectations)} expectations were given to Great Expectations"
            f" and {len(results)} were checked"
        )
    for expectation in expectations:
        by_name[expectation.name]["expectation_config"]["type"] = expectation.type
    return by_name


def _plain(value: Any) -> Any:
    """What Great Expectations leaves unconverted in details: numpy scalars."""
    return value.item() if hasattr(value, "item") else str(value)


def _index_format(grain: Sequence[str]) -> dict[str, Any]:
    format_: dict[str, Any] = {
        "result_format": "SUMMARY",
        "partial_unexpected_count": EXAMPLES,
    }
    if grain:
        format_["unexpected_index_column_names"] = list(grain)
    return format_


def _has_examples(expectation: Expectation, result: Mapping[str, Any]) -> bool:
    if result["success"] or _error(result):
        return False
    return expectation.type == UNEXPECTED_ROWS or "unexpected_count" in result["result"]


def _error(result: Mapping[str, Any]) -> str | None:
    """Why the expectation could not run, or None; one reason of several, ``raw`` keeps them all."""
    info = result.get("exception_info") or {}
    entries = [info] if "raised_exception" in info else list(info.values())
    for entry in entries:
        if entry.get("raised_exception"):
            # SQLAlchemy puts the class before the message and the whole statement after it.
            message = str(entry.get("exception_message") or "unknown error")
            return re.sub(r"^\(\S+\) ", "", message.split("\n[SQL:")[0]).strip()
    return None


def _examples(result: Mapping[str, Any]) -> tuple[Any, ...]:
    rows = (result.get("details") or {}).get("unexpected_rows")
    found = (
        rows or result.get("partial_unexpected_index_list") or result.get("partial_unexpected_list")
    )
    return tuple(found or ())[:EXAMPLES]


def _result(expectation: Expectation, raw: dict[str, Any]) -> ExpectationResult:
    result = raw.get("result") or {}
    error = _error(raw)
    unexpected_count = result.get("unexpected_count")
    if expectation.type == UNEXPECTED_ROWS:
        unexpected_count = result.get("observed_value")
    return ExpectationResult(
        name=expectation.name,
        success=bool(raw["success"]) and error is None,
        severity=expectation.severity,
        why=expectation.why,
        element_count=result.get("element_count"),
        unexpected_count=unexpected_count,
        unexpected_percent=result.get("unexpected_percent"),
        observed_value=result.get("observed_value"),
        examples=_examples(result),
        error=error,
        raw=raw,
    )
