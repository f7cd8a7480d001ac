"""Suites of expectations as files: read them, check them, validate a relation against them.

A file ``expectations/<schema>/<table>.json`` holds judgement only: what must not be in the data,
how bad it is, and why. What the grain and the names of columns promise is not written there but
generated (``expectations_generated.py``). Great Expectations takes seconds to import, so reading a
file does without it; whatever needs it is checked before the first row is looked at.
"""

import dataclasses
import difflib
import hashlib
import importlib
import json
import re
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import duckdb
    from great_expectations.datasource.fluent.interfaces import Batch
    from great_expectations.expectations.expectation import Expectation as GXExpectation

Severity = Literal["critical", "warning"]

UNEXPECTED_ROWS = "unexpected_rows_expectation"
UNIQUE = ("expect_column_values_to_be_unique", "expect_compound_columns_to_be_unique")
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
SCHEMAS = (
    *("published", "quarantine", "raw", "core", "bias"),
    *("propensity", "features", "training", "evaluation", "ablation"),
)
RELATION = re.compile(rf"\b(?:{'|'.join(SCHEMAS)})\.[a-z_0-9]+")
# Where the rows of a view stand while they are checked.
HELD = "held_for_checks"
# Raise when the same suite may find something else in the same rows.
CODE_VERSION = "1"
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
    """What is expected of one relation; bad rows are named by the columns of ``grain``.

    ``file`` is where it is written, from the root of the repository.
    """

    schema: str
    table: str
    expectations: tuple[Expectation, ...]
    grain: tuple[str, ...] = ()
    file: str = ""

    @property
    def qualified(self) -> str:
        return f"{self.schema}.{self.table}"

    @property
    def reads(self) -> tuple[str, ...]:
        """Other relations that its queries name."""
        names = {
            name
            for expectation in self.expectations
            for name in RELATION.findall(str(expectation.kwargs.get("unexpected_rows_query", "")))
        }
        return tuple(sorted(names - {self.qualified}))

    @property
    def version(self) -> str:
        """Sixteen hex digits that change with any rule."""
        rules = [dataclasses.astuple(expectation) for expectation in self.expectations]
        text = json.dumps([CODE_VERSION, self.qualified, self.grain, rules], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def with_generated(
        self, generated: Sequence[Expectation], grain: Sequence[str] = ()
    ) -> "Suite":
        """This suite with generated expectations before its own, and the grain they are of."""
        suite = dataclasses.replace(
            self, expectations=(*generated, *self.expectations), grain=tuple(grain) or self.grain
        )
        _refuse_repeats(suite)
        return suite


@dataclass(frozen=True)
class ExpectationResult:
    """How one expectation went.

    ``error`` says why it could not be run, which is a failure. ``examples`` are a few bad rows,
    as far as the expectation can name them; ``failing_rows_sql`` selects all of them, where there
    are any and its type says which. ``raw`` is the result as Great Expectations gives it, empty
    when the outcome was recorded before.
    """

    name: str
    success: bool
    severity: Severity
    why: str
    element_count: int | None
    unexpected_count: int | None
    unexpected_percent: float | None
    observed_value: Any
    examples: tuple[dict[str, Any], ...]
    failing_rows_sql: str | None
    error: str | None
    raw: dict[str, Any]


def load_suite(path: Path) -> Suite:
    """Read ``.../<schema>/<table>.json``; raises SuiteError naming the file and the entry."""
    (suite,) = load_file(path)
    return suite


def load_file(path: Path) -> list[Suite]:
    """Read the suites of a file: of the table in its path, or of all tables that share it.

    A shared file has ``tables`` instead of ``table``: each with the words that stand for the
    placeholders of its queries, ``{"features.search_ranking": {"task": "search"}, ...}``.
    """
    schema = path.parent.name
    where = f"expectations/{schema}/{path.name}"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SuiteError(f"{where}: not JSON: {error}") from error
    is_shared = isinstance(content, dict) and "tables" in content
    _expect_keys(content, {"tables" if is_shared else "table", "expectations"}, where)
    if not is_shared and content["table"] != f"{schema}.{path.stem}":
        raise SuiteError(
            f"{where}: says it is for {content['table']!r}, not for {schema}.{path.stem}"
        )
    if not isinstance(content["expectations"], list):
        raise SuiteError(f"{where}: expectations must be a list")
    suites = []
    for qualified, words in (content["tables"] if is_shared else {content["table"]: {}}).items():
        if not qualified.startswith(f"{schema}."):
            raise SuiteError(f"{where}: {qualified} is not of the schema {schema}")
        suite = Suite(
            schema=schema,
            table=qualified.removeprefix(f"{schema}."),
            expectations=tuple(
                _read_entry(_filled(entry, words), f"{where}, entry {number}")
                for number, entry in enumerate(content["expectations"], start=1)
            ),
            file=where,
        )
        _refuse_repeats(suite)
        suites.append(suite)
    return suites


def load_suites(root: Path) -> dict[str, Suite]:
    """Every suite under ``root`` by ``<schema>.<table>``; a table in two files is a SuiteError."""
    suites: dict[str, Suite] = {}
    for path in sorted(root.glob("*/*.json")):
        for suite in load_file(path):
            if suite.qualified in suites:
                other = suites[suite.qualified].file
                raise SuiteError(f"{suite.file}: {suite.qualified} has a suite in {other} already")
            suites[suite.qualified] = suite
    return suites


def check_suite(suite: Suite) -> None:
    """Raise SuiteError where Great Expectations knows no such type or no such keyword."""
    _build(suite, suite.expectations)


def validate(
    connection: "duckdb.DuckDBPyConnection",
    suite: Suite,
    names: Collection[str] | None = None,
    *,
    is_computed_once: bool = False,
) -> list[ExpectationResult]:
    """Check the suite's relation on this connection; results come in the order of the suite.

    ``names`` selects expectations. An expectation that cannot be run is a failed result with
    its error, not an exception. ``is_computed_once`` keeps the rows in memory while they are
    checked: for a view that takes long and gives few rows.
    """
    check_suite(suite)
    known = {expectation.name for expectation in suite.expectations}
    unknown = sorted(set(names or ()) - known)
    if unknown:
        raise SuiteError(f"{suite.file}: no expectation is called {', '.join(unknown)}")
    selected = [e for e in suite.expectations if names is None or e.name in names]
    if not selected:
        return []
    if not is_computed_once:
        return _validate(_batch(connection, suite, suite.schema), suite, selected)
    held = f'{HELD}."{suite.table}"'
    connection.execute(f"create schema if not exists {HELD}")
    connection.execute(f"create or replace table {held} as from {suite.qualified}")
    try:
        return _validate(_batch(connection, suite, HELD), suite, selected)
    finally:
        connection.execute(f"drop table {held}")


def _validate(
    batch: "Batch", suite: Suite, selected: Sequence[Expectation]
) -> list[ExpectationResult]:
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
    return [_result(suite, expectation, results[expectation.name]) for expectation in selected]


def failing_rows_sql(suite: Suite, expectation: Expectation) -> str | None:
    """SELECT of the rows that break the expectation; None for a type that is not about rows."""
    if expectation.type == UNEXPECTED_ROWS:
        query: str = expectation.kwargs["unexpected_rows_query"]
        return query.format(batch=suite.qualified)
    condition = _failing_condition(expectation.type, expectation.kwargs)
    if condition is None:
        return None
    kwargs = expectation.kwargs
    columns = kwargs.get("column_list") or [
        kwargs[name] for name in ("column", "column_A", "column_B") if name in kwargs
    ]
    shown = ", ".join(f'"{name}"' for name in dict.fromkeys((*suite.grain, *columns)))
    return f"select {shown} from {suite.qualified} {condition}"


def _failing_condition(type_: str, kwargs: Mapping[str, Any]) -> str | None:
    """What stands behind FROM to select what breaks a rule of this type; nulls break only one."""
    column, a, b = (f'"{kwargs.get(name)}"' for name in ("column", "column_A", "column_B"))
    if type_ == "expect_column_values_to_not_be_null":
        return f"where {column} is null"
    if type_ == "expect_column_values_to_be_between":
        above = "<=" if kwargs.get("strict_min") else "<"
        below = ">=" if kwargs.get("strict_max") else ">"
        sides = [
            f"{column} {sign} {_literal(kwargs[end])}"
            for end, sign in (("min_value", above), ("max_value", below))
            if kwargs.get(end) is not None
        ]
        return f"where {' or '.join(sides)}"
    if type_ == "expect_column_values_to_be_in_set":
        return f"where {column} not in ({', '.join(map(_literal, kwargs['value_set']))})"
    if type_ == "expect_column_values_to_match_regex":
        return f"where not regexp_matches({column}, {_literal(kwargs['regex'])})"
    if type_ == "expect_column_pair_values_to_be_in_set":
        pairs = (
            f"({_literal(first)}, {_literal(second)})"
            for first, second in kwargs["value_pairs_set"]
        )
        return f"where ({a}, {b}) not in ({', '.join(pairs)})"
    if type_ == "expect_column_pair_values_to_be_equal":
        return f"where {a} <> {b}"
    if type_ == "expect_column_pair_values_a_to_be_greater_than_b":
        return f"where {a} {'<' if kwargs.get('or_equal') else '<='} {b}"
    if type_ in UNIQUE:
        key = kwargs.get("column_list") or [kwargs["column"]]
        names = ", ".join(f'"{name}"' for name in key)
        is_key = " or ".join(f'"{name}" is not null' for name in key)
        return f"where {is_key} qualify count(*) over (partition by {names}) > 1"
    return None


def _literal(value: object) -> str:
    if isinstance(value, bool | int | float):
        return str(value).lower()
    return "'" + str(value).replace("'", "''") + "'"


def _filled(entry: object, words: Mapping[str, str]) -> object:
    """The entry with its placeholders replaced; ``{batch}`` stays, and so do doubled braces."""
    text = json.dumps(entry, ensure_ascii=False)
    for placeholder, word in words.items():
        text = text.replace(f"{{{placeholder}}}", word)
    return json.loads(text)


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


def load_great_expectations() -> None:
    """Import it without PySpark, which it takes wherever it finds it, for nothing here.

    PySpark would cost a second, and in a process whose main module has no file (python -c) it
    believes to be among its own tests and ends the process.
    """
    if "great_expectations" in sys.modules:
        return
    hidden = {
        name: sys.modules.pop(name)
        for name in [*sys.modules]
        if name.partition(".")[0] == "pyspark"
    }
    # As the import system says it: there is none.
    sys.modules["pyspark"] = None  # type: ignore[assignment]
    try:
        importlib.import_module("great_expectations")
    finally:
        del sys.modules["pyspark"]
        sys.modules.update(hidden)


def _build(
    suite: Suite, expectations: Iterable[Expectation], *, only_count: bool = False
) -> "list[GXExpectation]":
    """Great Expectations' own objects, one by one: given together, a misspelt one is dropped."""
    load_great_expectations()
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
        type_, kwargs = (
            _counting(expectation) if only_count else (expectation.type, expectation.kwargs)
        )
        try:
            configuration = ExpectationConfiguration(
                type=type_,
                kwargs=dict(kwargs),
                meta={"name": expectation.name, "why": expectation.why},
                severity=FailureSeverity(expectation.severity),
            )
            built.append(configuration.to_domain_obj())
        except (GreatExpectationsError, ValueError, TypeError) as error:
            raise SuiteError(f"{where}: {' '.join(str(error).split())}") from error
    return built


def _counting(expectation: Expectation) -> tuple[str, dict[str, Any]]:
    """Type and keywords that count the same; the same expectation where none is cheaper."""
    from qilin_dagster.gx_counting import (
        CountRepeatedKeys,
        CountRowsWhere,
        CountUnexpectedRows,
        row_condition,
    )

    # Great Expectations registers a class by itself, under its name in snake case.
    if expectation.type == UNEXPECTED_ROWS:
        condition = row_condition(expectation.kwargs["unexpected_rows_query"])
        if condition is not None:
            rows = CountRowsWhere(condition=condition)
            return rows.expectation_type, {"condition": condition}
        counted = CountUnexpectedRows(unexpected_rows_query="{batch}")
        return counted.expectation_type, expectation.kwargs
    key = expectation.kwargs.get("column_list") or [expectation.kwargs.get("column")]
    if expectation.type in UNIQUE and len(expectation.kwargs) == 1:
        return CountRepeatedKeys(key_columns=key).expectation_type, {"key_columns": key}
    return expectation.type, expectation.kwargs


def _batch(connection: "duckdb.DuckDBPyConnection", suite: Suite, schema: str) -> "Batch":
    """The relation of the suite's name in this schema, as Great Expectations sees it."""
    load_great_expectations()
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
    # Each step below would write the whole configuration anew, as YAML, for nobody.
    context.variables.save = lambda: None  # type: ignore[method-assign]
    source = context.data_sources.add_sql(  # type: ignore[call-arg]  # its stub forgets kwargs
        name="duckdb",
        connection_string=URL,
        kwargs={"creator": creator(connection, schema), "poolclass": StaticPool},
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
        configuration = by_name[expectation.name]["expectation_config"]
        configuration["type"] = expectation.type
        if only_count:
            # How it was counted is ours to know; the result is of the rule as it is written.
            batch_id = {"batch_id": suite.qualified}
            configuration["kwargs"] = batch_id | expectation.kwargs
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


def _examples(result: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """A few bad rows by column; a type that names no rows gives its values alone."""
    rows = (result.get("details") or {}).get("unexpected_rows")
    found = (
        rows or result.get("partial_unexpected_index_list") or result.get("partial_unexpected_list")
    )
    return tuple(
        row if isinstance(row, dict) else {"value": row} for row in (found or ())[:EXAMPLES]
    )


def _result(suite: Suite, expectation: Expectation, raw: dict[str, Any]) -> ExpectationResult:
    result = raw.get("result") or {}
    error = _error(raw)
    success = bool(raw["success"]) and error is None
    unexpected_count = result.get("unexpected_count")
    if expectation.type == UNEXPECTED_ROWS:
        unexpected_count = result.get("observed_value")
    return ExpectationResult(
        name=expectation.name,
        success=success,
        severity=expectation.severity,
        why=expectation.why,
        element_count=result.get("element_count"),
        unexpected_count=unexpected_count,
        unexpected_percent=result.get("unexpected_percent"),
        observed_value=result.get("observed_value"),
        examples=_examples(result),
        failing_rows_sql=None if success or error else failing_rows_sql(suite, expectation),
        error=error,
        raw=raw,
    )
