"""Every expectation holds on valid data, and one change breaks it and nothing else."""

from collections.abc import Callable

import breaking
import breaking_lake
import dagster as dg
import duckdb
import pytest

from qilin_dagster.checks import suite_of, table_suite
from qilin_dagster.definitions import defs
from qilin_dagster.expectations import ExpectationResult, Suite, load_suites, validate
from qilin_dagster.expectations_generated import with_grain
from qilin_dagster.resources import CATALOG
from qilin_dagster.settings import EXPECTATIONS_ROOT

World = Callable[[str, str], duckdb.DuckDBPyConnection]

BREAKS = breaking.BREAKS | breaking_lake.BREAKS
SUITES = load_suites(EXPECTATIONS_ROOT)
# Tables that share a file share its rules: they are broken in one of them.
FILES = {SUITES[relation].file: SUITES[relation] for relation in BREAKS}
WRITTEN = [(relation, e.name) for relation in BREAKS for e in SUITES[relation].expectations]
LOG = [view.qualified for view in CATALOG.views if view.schema in ("raw", "core")]
VIEWS = [view.qualified for view in CATALOG.views]
TABLES = [relation for relation in SUITES if relation not in VIEWS]


def failures(results: list[ExpectationResult]) -> set[str]:
    errors = {result.name: result.error for result in results if result.error}
    assert not errors, "an expectation that cannot run proves nothing"
    return {result.name for result in results if not result.success}


def full_suite(relation: str) -> Suite:
    if relation in VIEWS:
        return suite_of(CATALOG[relation])
    node = defs.resolve_asset_graph().get(dg.AssetKey(relation.split(".")))
    assert node.description is not None
    return table_suite(relation, node.description)


def grain_of(relation: str) -> Suite:
    suite = full_suite(relation)
    return with_grain(Suite(suite.schema, suite.table, ()), suite.grain)


def test_every_view_and_every_table_of_python_has_a_suite() -> None:
    # The audit is checks itself: each of its rows says how one went.
    audit = {"evaluation.audit"}
    checked = {".".join(key.asset_key.path) for key in defs.resolve_asset_graph().asset_check_keys}
    tables = {
        ".".join(key.path)
        for key in defs.resolve_asset_graph().get_all_asset_keys()
        if key.path[0] in ("propensity", "features", "training", "evaluation", "ablation")
        or key.path == ["core", "images"]
    } - audit
    assert set(LOG) | tables <= set(SUITES)
    assert set(SUITES) <= checked - audit == set(VIEWS) | tables


def test_every_expectation_has_one_breaking_change_and_no_other_has() -> None:
    assert {suite.file for suite in SUITES.values()} == set(FILES)
    assert {(relation, name) for relation, names in BREAKS.items() for name in names} == set(
        WRITTEN
    )


@pytest.mark.parametrize("relation", [*VIEWS, *TABLES])
def test_all_hold_on_valid_data(relation: str, world: World) -> None:
    assert failures(validate(world(relation, ""), full_suite(relation))) == set()


@pytest.mark.parametrize(("relation", "name"), WRITTEN, ids=map(".".join, WRITTEN))
def test_it_fails_on_what_it_fears(relation: str, name: str, world: World) -> None:
    breaking = BREAKS[relation][name]
    names = {name} | breaking.also
    results = validate(world(relation, breaking.sql), full_suite(relation), names)
    assert failures(results) == names


@pytest.mark.slow
@pytest.mark.parametrize(("relation", "name"), WRITTEN, ids=map(".".join, WRITTEN))
def test_nothing_else_fails_with_it(relation: str, name: str, world: World) -> None:
    breaking = BREAKS[relation][name]
    results = validate(world(relation, breaking.sql), full_suite(relation))
    assert failures(results) == {name} | breaking.also


def one_row(relation: str) -> str:
    """SQL that gives the relation a row where valid data has none: nothing is set aside there."""
    if not relation.startswith("quarantine."):
        return ""
    grain = grain_of(relation).grain
    return f"insert into {relation} ({', '.join(grain)}) values ({', '.join(['1'] * len(grain))});"


@pytest.mark.parametrize("relation", [*VIEWS, *(name for name in BREAKS if name not in VIEWS)])
def test_a_repeated_row_breaks_the_grain(relation: str, world: World) -> None:
    repeat = f"insert into {relation} select * from {relation} limit 1"
    connection = world(relation, one_row(relation) + repeat)
    suite = grain_of(relation)
    assert failures(validate(connection, suite)) == {f"one_row_per_{'_and_'.join(suite.grain)}"}


@pytest.mark.parametrize("relation", [*VIEWS, *(name for name in BREAKS if name not in VIEWS)])
def test_a_missing_key_breaks_the_grain(relation: str, world: World) -> None:
    suite = grain_of(relation)
    world(relation, one_row(relation))
    for column in suite.grain:
        connection = world(
            relation,
            f"update {relation} set {column} = null where rowid = "
            f"(select min(rowid) from {relation} where {column} is not null)",
        )
    assert failures(validate(connection, suite)) == {
        f"{column}_is_never_null" for column in suite.grain
    }
