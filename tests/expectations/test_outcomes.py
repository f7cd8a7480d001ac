"""What is kept of the checks: it stands while nothing changes, loads again, and can be read."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qilin_dagster import outcomes
from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.expectations import UNEXPECTED_ROWS, Expectation, Suite
from qilin_dagster.expectations_generated import with_grain
from qilin_dagster.lake import Lake, write_rows
from qilin_dagster.settings import Settings

TABLE = "features.items"


def rule(name: str, query: str, severity: str = "critical") -> Expectation:
    return Expectation(name, UNEXPECTED_ROWS, {"unexpected_rows_query": query}, severity, "Why <b>")


def publish(lake: Lake, table: str, ids: list[int]) -> None:
    rows = pa.table({"id": ids})
    lake.publish(
        table,
        inputs={"ids": str(ids)},
        code_version="1",
        write=lambda folder: write_rows(rows, folder),
    )


@pytest.fixture
def engine(tmp_path: Path) -> DuckDBEngine:
    lake = Lake(tmp_path / "lake")
    publish(lake, TABLE, [1, 2, 2, -3])
    publish(lake, "features.others", [1, 2])
    return DuckDBEngine(lake, Settings(data=None, lake=lake.root, threads=1))


SUITE = with_grain(
    Suite(
        "features",
        "items",
        (
            rule("ids_are_positive", "select id from {batch} where id < 0", "warning"),
            rule(
                "others_are_few",
                "select n from (select count(*) as n from features.others) as o "
                "cross join (select 1 from {batch} as b limit 1) as one where n > 5",
            ),
        ),
    ),
    ["id"],
)


def check(engine: DuckDBEngine, suite: Suite = SUITE, *names: str) -> outcomes.Checked:
    connection = engine.connect()
    try:
        checked = outcomes.check(engine, connection, suite, names or None)
    finally:
        connection.close()
    outcomes.record(engine.lake, [checked])
    return checked


def is_recorded(checked: outcomes.Checked) -> bool:
    return all(result.raw == {} for result in checked.results)


def kept(engine: DuckDBEngine) -> list[dict]:
    manifest = engine.lake.manifest(outcomes.OUTCOMES)
    assert manifest is not None
    return pq.read_table(engine.lake.files(manifest)[0]).to_pylist()


def test_an_outcome_stands_while_rows_and_rules_are_the_same(engine: DuckDBEngine) -> None:
    first = check(engine)
    manifest = engine.lake.manifest(outcomes.OUTCOMES)
    again = check(engine)
    assert not is_recorded(first)
    assert is_recorded(again)
    assert [(r.name, r.success, r.unexpected_count, r.examples) for r in first.results] == [
        (r.name, r.success, r.unexpected_count, r.examples) for r in again.results
    ]
    assert {r.name for r in again.results if not r.success} == {
        "one_row_per_id",
        "ids_are_positive",
    }
    assert engine.lake.manifest(outcomes.OUTCOMES) == manifest


def test_other_rows_are_checked_again(engine: DuckDBEngine) -> None:
    check(engine)
    publish(engine.lake, TABLE, [1, 2])
    again = check(engine)
    assert not is_recorded(again)
    assert all(result.success for result in again.results)


def test_other_rows_of_a_relation_that_a_rule_reads_are_checked_again(
    engine: DuckDBEngine,
) -> None:
    check(engine)
    publish(engine.lake, "features.others", list(range(9)))
    again = check(engine)
    assert not is_recorded(again)
    assert "others_are_few" in {r.name for r in again.results if not r.success}


def test_another_rule_is_checked_again(engine: DuckDBEngine) -> None:
    check(engine)
    other = with_grain(Suite("features", "items", SUITE.expectations[2:3]), ["id"])
    assert not is_recorded(check(engine, other))
    assert {row["check_name"] for row in kept(engine)} == {e.name for e in other.expectations}


def test_what_could_not_be_run_is_run_again(engine: DuckDBEngine) -> None:
    broken = Suite("features", "items", (rule("broken", "select id from {batch} where x < 0"),))
    for _ in range(2):
        (result,) = check(engine, broken).results
        assert result.error is not None
        assert result.raw


def test_one_check_alone_leaves_the_outcomes_of_the_others(engine: DuckDBEngine) -> None:
    check(engine)
    publish(engine.lake, TABLE, [1, 2])
    check(engine, SUITE, "ids_are_positive")
    assert {row["check_name"]: row["passed"] for row in kept(engine)} == {
        "id_is_never_null": True,
        "ids_are_positive": True,
        "one_row_per_id": False,
        "others_are_few": True,
    }


def test_results_are_kept_as_great_expectations_keeps_them(engine: DuckDBEngine) -> None:
    from great_expectations.core.expectation_validation_result import (
        ExpectationSuiteValidationResult,
        expectationSuiteValidationResultSchema,
    )

    check(engine)
    manifest = engine.lake.manifest(outcomes.OUTCOMES)
    assert manifest is not None
    (path,) = engine.lake.files(manifest, ".json")
    assert path.name == f"{TABLE}.json"
    loaded = expectationSuiteValidationResultSchema.load(
        json.loads(path.read_text(encoding="utf-8"))
    )
    assert isinstance(loaded, ExpectationSuiteValidationResult)
    assert not loaded.success
    assert loaded.statistics["unsuccessful_expectations"] == 2
    (failure,) = [
        r for r in loaded.results if r.expectation_config.type == UNEXPECTED_ROWS and not r.success
    ]
    assert failure.expectation_config.kwargs["unexpected_rows_query"].endswith("where id < 0")
    assert failure.result["details"]["unexpected_rows"] == [{"id": -3}]
    assert {r.expectation_config.type for r in loaded.results} == {
        "expect_column_values_to_not_be_null",
        "expect_column_values_to_be_unique",
        UNEXPECTED_ROWS,
    }


def test_the_page_shows_each_check_at_the_place_that_links_name(engine: DuckDBEngine) -> None:
    check(engine)
    page = outcomes.page_path(engine.lake).read_text(encoding="utf-8")
    for expectation in SUITE.expectations:
        address = outcomes.page_of_check(engine.lake, TABLE, expectation.name)
        place, _, anchor = address.partition("#")
        assert place == outcomes.page_path(engine.lake).as_uri()
        assert page.count(f'id="{anchor}"') == 1
    assert "select &#34;id&#34; from features.items where &#34;id&#34; is not null qualify" in page
    assert "Why &lt;b&gt;" in page
    assert "<b>" not in page
    assert page.index("items: one_row_per_id") < page.index("items: ids_are_positive")
