"""Every expectation holds on a valid log, and one change breaks it and nothing else."""

from collections.abc import Callable

import duckdb
import pytest
from breaking import BREAKS
from valid_log import relations, suite_of

from qilin_dagster.catalog import Catalog, load_catalog
from qilin_dagster.expectations import ExpectationResult, Suite, load_suites, validate
from qilin_dagster.settings import EXPECTATIONS_ROOT

World = Callable[[str], duckdb.DuckDBPyConnection]

SUITES = load_suites(EXPECTATIONS_ROOT)
WRITTEN = [
    (relation, expectation.name)
    for relation, suite in SUITES.items()
    for expectation in suite.expectations
]
RELATIONS = [view.qualified for view in relations(load_catalog())]


def failures(results: list[ExpectationResult]) -> set[str]:
    errors = {result.name: result.error for result in results if result.error}
    assert not errors, "an expectation that cannot run proves nothing"
    return {result.name for result in results if not result.success}


def full_suite(catalog: Catalog, relation: str) -> Suite:
    return suite_of(catalog[relation])


def test_every_raw_and_core_relation_has_a_suite() -> None:
    assert sorted(SUITES) == sorted(RELATIONS)


def test_every_expectation_has_one_breaking_change_and_no_other_has() -> None:
    assert {(relation, name) for relation, names in BREAKS.items() for name in names} == set(
        WRITTEN
    )


@pytest.mark.parametrize("relation", RELATIONS)
def test_all_hold_on_a_valid_log(
    relation: str, valid: duckdb.DuckDBPyConnection, catalog: Catalog
) -> None:
    assert failures(validate(valid, full_suite(catalog, relation))) == set()


@pytest.mark.parametrize(("relation", "name"), WRITTEN, ids=map(".".join, WRITTEN))
def test_it_fails_on_what_it_fears(
    relation: str, name: str, world: World, catalog: Catalog
) -> None:
    breaking = BREAKS[relation][name]
    names = {name} | breaking.also
    assert failures(validate(world(breaking.sql), full_suite(catalog, relation), names)) == names


@pytest.mark.slow
@pytest.mark.parametrize(("relation", "name"), WRITTEN, ids=map(".".join, WRITTEN))
def test_nothing_else_fails_with_it(
    relation: str, name: str, world: World, catalog: Catalog
) -> None:
    breaking = BREAKS[relation][name]
    results = validate(world(breaking.sql), full_suite(catalog, relation))
    assert failures(results) == {name} | breaking.also


@pytest.mark.parametrize("relation", RELATIONS)
def test_a_repeated_row_breaks_the_grain(relation: str, world: World, catalog: Catalog) -> None:
    view = catalog[relation]
    connection = world(f"insert into {relation} select * from {relation} limit 1")
    grain = Suite(view.schema, view.name, ()).with_grain(view.grain)
    results = validate(connection, grain)
    assert failures(results) == {f"one_row_per_{'_and_'.join(view.grain)}"}


@pytest.mark.parametrize("relation", RELATIONS)
def test_a_missing_key_breaks_the_grain(relation: str, world: World, catalog: Catalog) -> None:
    view = catalog[relation]
    for column in view.grain:
        connection = world(
            f"update {relation} set {column} = null where rowid = "
            f"(select min(rowid) from {relation} where {column} is not null)"
        )
    grain = Suite(view.schema, view.name, ()).with_grain(view.grain)
    results = validate(connection, grain)
    assert failures(results) == {f"{column}_is_never_null" for column in view.grain}
