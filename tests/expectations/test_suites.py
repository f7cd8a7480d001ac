"""Suite files: every way to write one wrong is an error that names the file and the entry."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import duckdb
import pytest
import sqlglot
from sqlglot import exp

from qilin_dagster.definitions import defs
from qilin_dagster.expectations import (
    PANDAS_ONLY,
    UNEXPECTED_ROWS,
    Expectation,
    Suite,
    SuiteError,
    check_suite,
    load_suite,
    load_suites,
    validate,
)
from qilin_dagster.settings import EXPECTATIONS_ROOT

Write = Callable[..., Path]


def entry(**changes: object) -> dict[str, object]:
    good: dict[str, object] = {
        "name": "position_is_never_null",
        "type": "expect_column_values_to_not_be_null",
        "kwargs": {"column": "position"},
        "severity": "critical",
        "meta": {"why": "A reason."},
    }
    return {key: value for key, value in (good | changes).items() if value is not ...}


def rows_entry(query: str) -> dict[str, object]:
    return entry(type=UNEXPECTED_ROWS, kwargs={"unexpected_rows_query": query})


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(*entries: object, table: object = "core.impressions", **more: object) -> Path:
        path = tmp_path / "core" / "impressions.json"
        path.parent.mkdir(exist_ok=True)
        content = {"table": table, "expectations": list(entries)} | more
        path.write_text(json.dumps(content))
        return path

    return write


def test_a_file_is_read_as_written(write: Write) -> None:
    suite = load_suite(write(entry()))
    assert suite.qualified == "core.impressions"
    assert suite.expectations == (
        Expectation(
            name="position_is_never_null",
            type="expect_column_values_to_not_be_null",
            kwargs={"column": "position"},
            severity="critical",
            why="A reason.",
        ),
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (entry(name=...), "entry 1: lacks name"),
        (entry(name="Bad Name"), "name must be snake_case"),
        (entry(type=...), r"entry 1 \(position_is_never_null\): lacks type"),
        (entry(type=7), "type must be text"),
        (entry(kwargs=...), "lacks kwargs"),
        (entry(kwargs=[]), "kwargs must be an object"),
        (entry(severity=...), "lacks severity"),
        (entry(severity="fatal"), "severity must be critical or warning"),
        (entry(meta=...), "lacks meta"),
        (entry(meta={}), "meta: lacks why"),
        (entry(meta={"why": " "}), "why must say which mistake"),
        (entry(meta={"why": "x", "wy": "x"}), "meta: unknown 'wy'"),
        (entry(severty="critical"), "unknown 'severty'"),
        ("text", "entry 1: must be an object"),
        (rows_entry("select * from core.impressions"), r"must select from \{batch\}"),
        *[(entry(type=type_), "exists for pandas only") for type_ in sorted(PANDAS_ONLY)],
    ],
)
def test_a_wrong_entry_is_refused_at_load(write: Write, wrong: object, message: str) -> None:
    with pytest.raises(SuiteError, match=r"^expectations/core/impressions\.json.*" + message):
        load_suite(write(wrong))


def test_a_name_is_used_once(write: Write) -> None:
    with pytest.raises(SuiteError, match="the name position_is_never_null is used twice"):
        load_suite(write(entry(), entry(kwargs={"column": "note_idx"})))


def test_a_rule_is_written_once(write: Write) -> None:
    with pytest.raises(SuiteError, match="the_same_again repeats position_is_never_null"):
        load_suite(write(entry(), entry(name="the_same_again")))


def test_a_file_is_for_the_table_of_its_path(write: Write) -> None:
    with pytest.raises(
        SuiteError, match=r"says it is for 'core\.requests', not for core\.impressions"
    ):
        load_suite(write(entry(), table="core.requests"))


def test_a_file_has_nothing_else(write: Write) -> None:
    with pytest.raises(SuiteError, match="unknown 'grain'"):
        load_suite(write(entry(), grain=["request_id"]))


def test_a_broken_file_is_named(write: Write) -> None:
    path = write()
    path.write_text("{")
    with pytest.raises(SuiteError, match=r"expectations/core/impressions\.json: not JSON"):
        load_suite(path)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            entry(type="expect_column_values_to_not_be_nul"),
            "no expectation type .* did you mean expect_column_values_to_not_be_null",
        ),
        (entry(kwargs={"colum": "position"}), "colum"),
        (entry(kwargs={}), "column"),
        (entry(kwargs={"column": "position", "mostly": 2}), "mostly"),
        (rows_entry("select {x from {batch}"), "brace"),
    ],
)
def test_what_great_expectations_does_not_know_is_refused(
    write: Write, wrong: dict[str, object], message: str
) -> None:
    suite = load_suite(write(wrong))
    with pytest.raises(
        SuiteError, match=rf"impressions\.json: position_is_never_null: (?s:.*){message}"
    ):
        check_suite(suite)


def test_a_misspelt_type_stops_the_validation_of_all(valid: duckdb.DuckDBPyConnection) -> None:
    good = Expectation(
        "good", "expect_column_values_to_not_be_null", {"column": "note_idx"}, "critical", "w"
    )
    bad = Expectation("bad", "expect_colum_to_exist", {"column": "note_idx"}, "critical", "w")
    with pytest.raises(SuiteError, match="bad: no expectation type"):
        validate(valid, Suite("core", "notes", (good, bad)), ["good"])


def test_an_unknown_name_is_refused(valid: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(SuiteError, match="no expectation is called nothing"):
        validate(valid, Suite("core", "notes", ()), ["nothing"])


def test_reading_suites_imports_neither_great_expectations_nor_sqlalchemy() -> None:
    program = (
        "import sys; from qilin_dagster.expectations import load_suites;"
        "from qilin_dagster.settings import EXPECTATIONS_ROOT;"
        "assert load_suites(EXPECTATIONS_ROOT);"
        "assert not {'great_expectations', 'sqlalchemy', 'duckdb'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("suite", load_suites(EXPECTATIONS_ROOT).values(), ids=lambda s: s.file)
def test_every_suite_can_be_checked(suite: Suite) -> None:
    check_suite(suite)


@pytest.mark.parametrize(
    "suite", load_suites(EXPECTATIONS_ROOT).values(), ids=lambda suite: suite.qualified
)
def test_a_suite_reads_only_what_is_built_before_its_relation(suite: Suite) -> None:
    """Checks run right after their relation: raw is there by then, others only as parents."""
    graph = defs.resolve_asset_graph()
    ready = {suite.qualified} | {
        ".".join(key.path)
        for key in graph.get_all_asset_keys()
        if key.path[0] in ("published", "quarantine", "raw")
    }
    keys = [dg.AssetKey(suite.qualified.split("."))]
    while keys:
        parents = graph.get(keys.pop()).parent_keys
        keys += [key for key in parents if ".".join(key.path) not in ready]
        ready |= {".".join(key.path) for key in parents}
    read_by_all: set[str] = set()
    for expectation in suite.expectations:
        if expectation.type == UNEXPECTED_ROWS:
            query = expectation.kwargs["unexpected_rows_query"].replace("{batch}", "batch")
            tables = sqlglot.parse_one(query, read="duckdb").find_all(exp.Table)
            read = {f"{table.db}.{table.name}" for table in tables if table.db}
            assert read <= ready, expectation.name
            read_by_all |= read
    # What is read decides whether a recorded outcome still stands.
    assert set(suite.reads) == read_by_all - {suite.qualified}


@pytest.mark.parametrize("suite", load_suites(EXPECTATIONS_ROOT).values(), ids=lambda s: s.file)
def test_every_why_is_a_sentence(suite: Suite) -> None:
    for expectation in suite.expectations:
        assert re.fullmatch(r"\S.{20,200}\.", expectation.why), expectation.name


def test_the_readme_counts_the_expectations() -> None:
    readme = (EXPECTATIONS_ROOT / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([\w/]+\.json)` \| (\d+) \| (\d+) \|", readme, re.MULTILINE)
    written = {
        (
            suite.file.removeprefix("expectations/"),
            str(len(suite.expectations)),
            str(sum(e.severity == "critical" for e in suite.expectations)),
        )
        for suite in load_suites(EXPECTATIONS_ROOT).values()
    }
    assert sorted(listed) == sorted(written)


def test_tables_share_a_file_and_fill_its_placeholders(tmp_path: Path) -> None:
    path = tmp_path / "core" / "shared.json"
    path.parent.mkdir()
    query = "select id from {batch} where task = '{task}'"
    content = {
        "tables": {"core.a": {"task": "search"}, "core.b": {"task": "feed"}},
        "expectations": [rows_entry(query)],
    }
    path.write_text(json.dumps(content))
    suites = load_suites(tmp_path)
    assert [suite.file for suite in suites.values()] == ["expectations/core/shared.json"] * 2
    assert [suite.expectations[0].kwargs["unexpected_rows_query"] for suite in suites.values()] == [
        "select id from {batch} where task = 'search'",
        "select id from {batch} where task = 'feed'",
    ]
    assert suites["core.a"].version != suites["core.b"].version
    (tmp_path / "core" / "a.json").write_text(
        json.dumps({"table": "core.a", "expectations": [entry()]})
    )
    with pytest.raises(
        SuiteError, match=r"core\.a has a suite in expectations/core/a\.json already"
    ):
        load_suites(tmp_path)


def test_a_shared_file_is_for_tables_of_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "core" / "shared.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"tables": {"raw.a": {}}, "expectations": []}))
    with pytest.raises(SuiteError, match=r"shared\.json: raw\.a is not of the schema core"):
        load_suites(tmp_path)
