"""What is generated from grains and names: which columns are meant, and that each kind can fail."""

import dataclasses

import duckdb
import pytest
from conftest import World

from qilin_dagster.checks import suite_of
from qilin_dagster.expectations import Suite, SuiteError, validate
from qilin_dagster.expectations_generated import (
    grain_expectations,
    meaning_expectations,
    with_grain,
    with_meaning,
)
from qilin_dagster.resources import CATALOG

COLUMNS = {
    "place": "1",
    "n_impressions": "10",
    "n_clicks": "5",
    "click_rate": "0.5::double",
    "click_rate_low": "0.4::double",
    "click_rate_high": "0.6::double",
    "video_share": "1.0::double",
    "gap_s": "0.0::double",
    "is_answered": "true",
    "difference": "-3.5",
}
ANSWERS = [view for view in CATALOG.views if view.schema == "bias"]


def failed(rows: list[dict[str, str]]) -> set[str]:
    """Names of the generated expectations that fail on a relation of these rows."""
    connection = duckdb.connect()
    selects = [
        "select " + ", ".join(f"{value} as {name}" for name, value in (COLUMNS | row).items())
        for row in rows
    ]
    connection.execute(f"create schema bias; create table bias.b as {' union all '.join(selects)}")
    suite = with_meaning(Suite("bias", "b", (), grain=("place",)), list(COLUMNS))
    results = validate(connection, suite)
    connection.close()
    assert [result.error for result in results if result.error] == []
    return {result.name for result in results if not result.success}


def test_each_kind_of_name_has_one_expectation() -> None:
    assert [e.name for e in meaning_expectations(list(COLUMNS))] == [
        "counts_are_not_negative",
        "shares_and_rates_are_in_0_to_1",
        "seconds_are_not_negative",
        "flags_are_booleans",
        "bounds_enclose_their_value",
        "clicks_do_not_exceed_impressions",
    ]
    assert meaning_expectations(["channel", "difference", "median_position"]) == []


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"n_clicks": "-1"}, "counts_are_not_negative"),
        ({"video_share": "1.01"}, "shares_and_rates_are_in_0_to_1"),
        ({"video_share": "-0.01"}, "shares_and_rates_are_in_0_to_1"),
        ({"video_share": "'nan'::double"}, "shares_and_rates_are_in_0_to_1"),
        ({"gap_s": "-1.0"}, "seconds_are_not_negative"),
        ({"gap_s": "'nan'::double"}, "seconds_are_not_negative"),
        ({"is_answered": "1"}, "flags_are_booleans"),
        ({"click_rate_low": "0.51"}, "bounds_enclose_their_value"),
        ({"click_rate_high": "0.49"}, "bounds_enclose_their_value"),
        ({"click_rate": "null"}, "bounds_enclose_their_value"),
        ({"n_clicks": "11"}, "clicks_do_not_exceed_impressions"),
    ],
)
def test_each_kind_can_fail(changes: dict[str, str], name: str) -> None:
    assert failed([changes]) == {name}


def test_what_is_absent_breaks_no_promise() -> None:
    absent = dict.fromkeys(COLUMNS, "null") | {"place": "2"}
    assert failed([{}, absent]) == set()


@pytest.mark.parametrize("view", ANSWERS, ids=lambda view: view.qualified)
def test_every_answer_keeps_and_can_break_the_promises_of_its_names(view, world: World) -> None:
    suite = with_meaning(Suite(view.schema, view.name, ()), list(view.column_comments))
    names = {expectation.name for expectation in suite.expectations}
    assert names <= {expectation.name for expectation in suite_of(view).expectations}
    values: dict[str, str] = {}
    for name in view.column_comments:
        if name.startswith("n_"):
            values[name] = "-1" if name == "n_clicks" else "-2"
        elif name.endswith(("_rate", "_share")):
            values[name] = "2"
        elif name.endswith("_s"):
            values[name] = "-1"
    for name in view.column_comments:
        if name.endswith("_low") and name.removesuffix("_low") not in values:
            values[name] = "9e9"
    if not values:
        assert names <= {"flags_are_booleans"}
        return
    changes = ", ".join(f"{name} = {value}" for name, value in values.items())
    connection = world(view.qualified, f"update {view.qualified} set {changes}")
    results = validate(connection, suite)
    # A flag cannot be given another type in place; that this kind can fail is shown above.
    assert {r.name for r in results if r.success} == names & {"flags_are_booleans"}


def test_the_grain_is_generated() -> None:
    one = grain_expectations("core.notes", ["note_idx"])
    assert [(e.name, e.type, e.kwargs) for e in one] == [
        (
            "note_idx_is_never_null",
            "expect_column_values_to_not_be_null",
            {"column": "note_idx"},
        ),
        ("one_row_per_note_idx", "expect_column_values_to_be_unique", {"column": "note_idx"}),
    ]
    two = grain_expectations("core.impressions", ["request_id", "impression_n"])
    assert [e.name for e in two] == [
        "request_id_is_never_null",
        "impression_n_is_never_null",
        "one_row_per_request_id_and_impression_n",
    ]
    assert two[-1].type == "expect_compound_columns_to_be_unique"
    assert {e.severity for e in (*one, *two)} == {"critical"}


def test_a_grain_has_a_column() -> None:
    with pytest.raises(SuiteError, match=r"core\.notes: a grain needs at least one column"):
        grain_expectations("core.notes", [])


def test_the_grain_is_not_written_again() -> None:
    (expectation,) = grain_expectations("core.notes", ["note_idx"])[:1]
    again = dataclasses.replace(expectation, name="here_again")
    with pytest.raises(SuiteError, match="here_again repeats note_idx_is_never_null"):
        with_grain(Suite("core", "notes", (again,)), ["note_idx"])
