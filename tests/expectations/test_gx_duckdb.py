"""Great Expectations over live DuckDB views: what suites rely on gives the right verdict."""

import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
import sqlalchemy
from sqlalchemy.pool import StaticPool

from qilin_dagster.expectations import (
    EXAMPLES,
    PANDAS_ONLY,
    UNEXPECTED_ROWS,
    Expectation,
    ExpectationResult,
    Suite,
    validate,
)
from qilin_dagster.expectations_generated import with_grain
from qilin_dagster.gx_duckdb import URL, creator


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """Forty rows behind a view of one schema, and a view of another schema over it."""
    connection = duckdb.connect()
    connection.execute("create schema core; create schema other; create schema stored")
    connection.execute(
        """
        create table stored.items as
        select
            i as id,
            i % 4 as "group",
            i * 0.5 as score,
            case when i % 2 = 0 then i + 0.5 end as dwell_s,
            'item ' || i as name,
            timestamp '2024-11-27' + to_minutes(i) as at,
            i % 2 = 0 as is_even,
            [i, i + 1] as id_list,
            {'a': i} as pair
        from range(40) as r(i);
        create view core.items as select * from stored.items;
        create view other.odd as select * from core.items where not is_even;
        """
    )
    yield connection
    connection.close()


def check(connection: duckdb.DuckDBPyConnection, type_: str, /, **kwargs: Any) -> ExpectationResult:
    expectation = Expectation("it_holds", type_, kwargs, "critical", "why")
    suite = Suite("core", "items", (expectation,), grain=("id",))
    (result,) = validate(connection, suite)
    return result


def rows(connection: duckdb.DuckDBPyConnection, query: str) -> ExpectationResult:
    return check(connection, UNEXPECTED_ROWS, unexpected_rows_query=query)


def test_views_of_a_schema_are_reflected(connection: duckdb.DuckDBPyConnection) -> None:
    engine = sqlalchemy.create_engine(
        URL, creator=creator(connection, "core"), poolclass=StaticPool
    )
    inspector = sqlalchemy.inspect(engine)
    assert set(inspector.get_schema_names()) == {"core", "other", "stored"}
    assert inspector.get_view_names() == ["items"]
    assert inspector.get_view_names("other") == ["odd"]
    assert inspector.get_table_names("stored") == ["items"]
    assert inspector.has_table("items")
    assert not inspector.has_table("odd")
    types = {
        column["name"]: column["type"].compile(dialect=engine.dialect)
        for column in inspector.get_columns("items")
    }
    assert types["id"] == "BIGINT"
    assert types["at"] == "TIMESTAMP"
    assert types["id_list"] == "BIGINT[]"
    assert types["pair"] == "STRUCT(a BIGINT)"
    with pytest.raises(sqlalchemy.exc.NoSuchTableError):
        inspector.get_columns("nothing")


def test_a_result_outlives_the_pool(connection: duckdb.DuckDBPyConnection) -> None:
    engine = sqlalchemy.create_engine(
        URL, creator=creator(connection, "core"), poolclass=StaticPool
    )
    with engine.connect() as borrowed:
        first = borrowed.execute(sqlalchemy.text("select id from items order by id"))
        second = borrowed.execute(sqlalchemy.text("select count(*) from items"))
    assert [row[0] for row in first.fetchmany(2)] == [0, 1]
    assert second.fetchall() == [(40,)]


def test_the_live_connection_is_left_as_it_was(connection: duckdb.DuckDBPyConnection) -> None:
    check(connection, "expect_column_values_to_be_unique", column="id")
    assert connection.execute("select current_schema()").fetchall() == [("main",)]


HOLDS = {
    "expect_column_values_to_not_be_null": {"column": "id"},
    "expect_column_values_to_be_unique": {"column": "id"},
    "expect_compound_columns_to_be_unique": {"column_list": ["group", "score"]},
    "expect_column_values_to_be_between": {
        "column": "at",
        "min_value": "2024-11-27",
        "max_value": "2024-11-28",
    },
    "expect_column_values_to_be_in_set": {"column": "group", "value_set": [0, 1, 2, 3]},
    "expect_column_values_to_match_regex": {"column": "name", "regex": "^item [0-9]+$"},
    "expect_column_values_to_not_match_regex": {"column": "name", "regex": "x"},
    "expect_column_values_to_match_regex_list": {
        "column": "name",
        "regex_list": ["[0-4]$", "[5-9]$"],
    },
    "expect_column_values_to_match_like_pattern": {"column": "name", "like_pattern": "item %"},
    "expect_column_value_lengths_to_be_between": {
        "column": "name",
        "min_value": 6,
        "max_value": 7,
    },
    "expect_column_quantile_values_to_be_between": {
        "column": "score",
        "quantile_ranges": {"quantiles": [0.1, 0.5], "value_ranges": [[1, 3], [9, 11]]},
    },
    "expect_column_median_to_be_between": {"column": "score", "min_value": 9, "max_value": 10},
    "expect_column_mean_to_be_between": {"column": "score", "min_value": 9, "max_value": 10},
    "expect_column_stdev_to_be_between": {"column": "score", "min_value": 5, "max_value": 6},
    "expect_column_distinct_values_to_equal_set": {"column": "group", "value_set": [0, 1, 2, 3]},
    "expect_column_unique_value_count_to_be_between": {
        "column": "group",
        "min_value": 4,
        "max_value": 4,
    },
    "expect_column_pair_values_a_to_be_greater_than_b": {
        "column_A": "id",
        "column_B": "score",
        "or_equal": True,
    },
    "expect_column_pair_values_to_be_in_set": {
        "column_A": "group",
        "column_B": "is_even",
        "value_pairs_set": [[0, True], [1, False], [2, True], [3, False]],
    },
    "expect_column_values_to_be_of_type": {"column": "dwell_s", "type_": "DECIMAL(21,1)"},
    "expect_table_row_count_to_be_between": {"min_value": 40, "max_value": 40},
    "expect_column_to_exist": {"column": "group"},
}
# The same rule about other values, and how many rows of 40 break it (None: not about rows).
FAILS: dict[str, tuple[dict[str, Any], int | None]] = {
    "expect_column_values_to_not_be_null": ({"column": "dwell_s"}, 20),
    "expect_column_values_to_be_unique": ({"column": "group"}, 40),
    "expect_compound_columns_to_be_unique": ({"column_list": ["group", "is_even"]}, 40),
    "expect_column_values_to_be_between": (
        {"column": "at", "max_value": "2024-11-27T00:29:00"},
        10,
    ),
    "expect_column_values_to_be_in_set": ({"column": "group", "value_set": [0]}, 30),
    "expect_column_values_to_match_regex": ({"column": "name", "regex": "0$"}, 36),
    "expect_column_values_to_not_match_regex": ({"column": "name", "regex": "[01]$"}, 8),
    "expect_column_quantile_values_to_be_between": (
        {
            "column": "score",
            "quantile_ranges": {"quantiles": [0.5], "value_ranges": [[0, 1]]},
        },
        None,
    ),
    "expect_column_values_to_be_of_type": ({"column": "dwell_s", "type_": "BIGINT"}, None),
    "expect_table_row_count_to_be_between": ({"max_value": 39}, None),
}


@pytest.mark.parametrize("type_", HOLDS)
def test_what_holds_passes(connection: duckdb.DuckDBPyConnection, type_: str) -> None:
    result = check(connection, type_, **HOLDS[type_])
    assert result.error is None
    assert result.success


@pytest.mark.parametrize("type_", FAILS)
def test_what_does_not_hold_fails(connection: duckdb.DuckDBPyConnection, type_: str) -> None:
    kwargs, n_bad = FAILS[type_]
    result = check(connection, type_, **kwargs)
    assert result.error is None
    assert not result.success
    assert result.unexpected_count == n_bad
    if n_bad is not None:
        assert result.element_count == 40
        assert result.unexpected_percent == pytest.approx(100 * n_bad / 40)
        assert len(result.examples) == EXAMPLES
        assert result.raw["expectation_config"]["type"] == type_


@pytest.mark.parametrize("type_", FAILS)
def test_the_sql_for_a_failure_selects_the_rows_against_it(
    connection: duckdb.DuckDBPyConnection, type_: str
) -> None:
    kwargs, n_bad = FAILS[type_]
    sql = check(connection, type_, **kwargs).failing_rows_sql
    if n_bad is None:
        assert sql is None
    elif type_ != "expect_column_values_to_not_match_regex":  # no suite has one
        assert sql is not None
        assert len(connection.execute(sql).fetchall()) == n_bad


@pytest.mark.parametrize(
    ("type_", "kwargs", "n_bad"),
    [
        (
            "expect_column_pair_values_to_be_in_set",
            {"column_A": "group", "column_B": "is_even", "value_pairs_set": [[0, True]]},
            30,
        ),
        ("expect_column_pair_values_to_be_equal", {"column_A": "id", "column_B": "score"}, 39),
        (
            "expect_column_pair_values_a_to_be_greater_than_b",
            {"column_A": "score", "column_B": "id", "or_equal": True},
            39,
        ),
        (UNEXPECTED_ROWS, {"unexpected_rows_query": "select id from {batch} where id > 30"}, 9),
        (
            UNEXPECTED_ROWS,
            {"unexpected_rows_query": 'select "group" from {batch} group by 1 having max(id) > 37'},
            2,
        ),
    ],
)
def test_the_sql_of_pairs_and_queries_selects_the_rows_against_them(
    connection: duckdb.DuckDBPyConnection, type_: str, kwargs: dict[str, Any], n_bad: int
) -> None:
    result = check(connection, type_, **kwargs)
    assert result.unexpected_count == n_bad
    assert result.failing_rows_sql is not None
    assert len(connection.execute(result.failing_rows_sql).fetchall()) == n_bad


def test_what_holds_has_no_sql_of_failing_rows(connection: duckdb.DuckDBPyConnection) -> None:
    assert rows(connection, "select id from {batch} where id > 40").failing_rows_sql is None


@pytest.mark.parametrize(
    ("query", "condition"),
    [
        ("select id from {batch} where id < 0 or name = '{{'", "id < 0 or name = '{'"),
        ("select a, f(b) as c from {batch} where list_any(x, lambda p: p is null)", ...),
        ("select id from {batch} as b where b.id < 0", None),
        ("select distinct id from {batch} where id < 0", None),
        ("select id from {batch} where id not in (select id from raw.a)", None),
        ("select id from {batch} where id < 0 group by id", None),
        ("select lag(id) over (order by id) from {batch} where id < 0", None),
        ("select n from (select count(*) as n from {batch} where id < 0) as c", None),
    ],
)
def test_rules_on_single_rows_are_known_by_their_form(query: str, condition: object) -> None:
    from qilin_dagster.gx_counting import row_condition

    expected = query.partition(" where ")[2] if condition is ... else condition
    assert row_condition(query) == expected


def test_rules_on_single_rows_and_keys_share_one_scan(
    connection: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qilin_dagster import gx_duckdb

    statements: list[str] = []
    execute = gx_duckdb.Cursor.execute

    def watched(cursor: gx_duckdb.Cursor, statement: str, parameters: Any = ()) -> None:
        statements.append(statement)
        execute(cursor, statement, parameters)

    monkeypatch.setattr(gx_duckdb.Cursor, "execute", watched)
    of_rows = [
        Expectation(
            f"rule_{n}",
            UNEXPECTED_ROWS,
            {"unexpected_rows_query": f"select id from {{batch}} where id < -{n}"},
            "critical",
            "why",
        )
        for n in range(5)
    ]
    suite = with_grain(Suite("core", "items", tuple(of_rows)), ["id", "name"])
    assert all(result.success for result in validate(connection, suite))
    scans = [s for s in statements if "count(*) FILTER" in s]
    assert len(scans) == 1
    assert scans[0].count("table.rows_where") == 5
    assert "count(DISTINCT hash" in scans[0]


def test_one_broken_rule_does_not_take_down_those_it_shares_a_scan_with(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    queries = ("select id from {batch} where id < 0", "select id from {batch} where nothing < 0")
    suite = Suite(
        "core",
        "items",
        tuple(
            Expectation(f"r{n}", UNEXPECTED_ROWS, {"unexpected_rows_query": q}, "critical", "why")
            for n, q in enumerate(queries)
        ),
    )
    good, bad = validate(connection, suite)
    assert (good.success, good.error) == (True, None)
    assert bad.error is not None
    assert "nothing" in bad.error


def test_a_view_that_is_computed_once_is_checked_alike(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    suite = with_grain(Suite("core", "items", ()), ["group"])
    plain, held = (validate(connection, suite, is_computed_once=once) for once in (False, True))
    assert [(r.name, r.success, r.unexpected_count) for r in plain] == [
        (r.name, r.success, r.unexpected_count) for r in held
    ]
    left = connection.execute(
        "select count(*) from duckdb_tables() where schema_name = 'held_for_checks'"
    ).fetchall()
    assert left == [(0,)]


def test_an_empty_relation_breaks_no_rule_about_rows() -> None:
    connection = duckdb.connect()
    connection.execute(
        "create schema core; create view core.items as "
        "select 1 as id, 'a' as name, 'b' as channel where false"
    )
    for type_, kwargs in {
        "expect_column_values_to_not_be_null": {"column": "id"},
        "expect_column_values_to_be_unique": {"column": "id"},
        "expect_compound_columns_to_be_unique": {"column_list": ["id", "name"]},
        "expect_column_values_to_be_between": {"column": "id", "min_value": 2},
        "expect_column_values_to_match_regex": {"column": "name", "regex": "x"},
        "expect_column_pair_values_to_be_in_set": {
            "column_A": "name",
            "column_B": "channel",
            "value_pairs_set": [["x", "y"]],
        },
        UNEXPECTED_ROWS: {"unexpected_rows_query": "select id from {batch}"},
    }.items():
        result = check(connection, type_, **kwargs)
        assert (result.success, result.error) == (True, None), type_
    connection.close()


@pytest.mark.parametrize("type_", FAILS)
def test_results_can_be_kept_as_json(connection: duckdb.DuckDBPyConnection, type_: str) -> None:
    result = check(connection, type_, **FAILS[type_][0])
    assert json.loads(json.dumps(result.raw))["success"] is False
    json.dumps([result.examples, result.observed_value])


def test_examples_name_bad_rows_by_the_grain(connection: duckdb.DuckDBPyConnection) -> None:
    result = check(connection, "expect_column_values_to_be_between", column="id", max_value=37)
    assert result.examples == ({"id": 38}, {"id": 39})


def test_unexpected_rows_are_counted_and_shown(connection: duckdb.DuckDBPyConnection) -> None:
    result = rows(connection, "select id, name from {batch} where id >= 37")
    assert not result.success
    assert result.unexpected_count == result.observed_value == 3
    assert result.examples[0] == {"id": 37, "name": "item 37"}
    assert rows(connection, "select id from {batch} where id >= 40").success


def test_unexpected_rows_may_join_other_views(connection: duckdb.DuckDBPyConnection) -> None:
    result = rows(
        connection,
        "select i.id from {batch} as i inner join other.odd as o on i.id = o.id where o.id < 6",
    )
    assert [row["id"] for row in result.examples] == [1, 3, 5]


def test_few_of_many_unexpected_rows_are_read(connection: duckdb.DuckDBPyConnection) -> None:
    result = rows(connection, "select n from {batch}, range(250000) as t(n)")
    assert result.unexpected_count == 10_000_000
    assert len(result.examples) == EXAMPLES


@pytest.mark.parametrize(
    ("type_", "kwargs", "message"),
    [
        ("expect_column_values_to_not_be_null", {"column": "nothing"}, '"nothing"'),
        (UNEXPECTED_ROWS, {"unexpected_rows_query": "select nothing from {batch}"}, "nothing"),
        (UNEXPECTED_ROWS, {"unexpected_rows_query": "selec from {batch}"}, "Parser Error"),
        (
            "expect_column_values_to_match_regex",
            {"column": "name", "regex": "("},
            "missing",
        ),
    ],
)
def test_what_cannot_run_is_a_failure_with_its_reason(
    connection: duckdb.DuckDBPyConnection, type_: str, kwargs: dict[str, Any], message: str
) -> None:
    result = check(connection, type_, **kwargs)
    assert not result.success
    assert result.error is not None
    assert message in result.error


def test_one_that_cannot_run_leaves_the_others_their_verdict(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    kinds = [("a_good_regex", "item"), ("a_bad_regex", "("), ("a_wrong_regex", "x")]
    suite = Suite(
        "core",
        "items",
        tuple(
            Expectation(
                name,
                "expect_column_values_to_match_regex",
                {"column": "name", "regex": regex},
                "critical",
                "why",
            )
            for name, regex in kinds
        ),
    )
    good, bad, wrong = validate(connection, suite)
    assert good.success
    assert bad.error
    assert (wrong.success, wrong.error, wrong.unexpected_count) == (False, None, 40)


def test_only_selected_expectations_run_and_in_order(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    suite = Suite(
        "core",
        "items",
        tuple(
            Expectation(
                f"{column}_exists", "expect_column_to_exist", {"column": column}, "warning", "why"
            )
            for column in ("id", "name", "score", "group")
        ),
    )
    results = validate(connection, suite, {"group_exists", "name_exists"})
    assert [result.name for result in results] == ["name_exists", "group_exists"]
    assert validate(connection, suite, []) == []


def test_a_missing_relation_is_one_clear_error(connection: duckdb.DuckDBPyConnection) -> None:
    suite = with_grain(Suite("core", "nothing", ()), ["id"])
    with pytest.raises(Exception, match="nothing"):
        validate(connection, suite)


def test_pandas_only_types_are_those_without_sql() -> None:
    """The list in the module, against what Great Expectations itself has registered."""
    from great_expectations.exceptions.exceptions import MetricProviderError
    from great_expectations.execution_engine import SqlAlchemyExecutionEngine
    from great_expectations.expectations.registry import (
        get_expectation_impl,
        get_metric_provider,
        list_registered_expectation_implementations,
    )

    engine = SqlAlchemyExecutionEngine(connection_string="sqlite://")
    without_sql = set()
    for type_ in list_registered_expectation_implementations():
        metric = getattr(get_expectation_impl(type_), "map_metric", None)
        if metric:
            try:
                get_metric_provider(f"{metric}.condition", engine)
            except MetricProviderError:
                without_sql.add(type_)
    # These two ask SQL engines for the type of the column instead of looking at values.
    by_type = {"expect_column_values_to_be_of_type", "expect_column_values_to_be_in_type_list"}
    assert without_sql - by_type == PANDAS_ONLY


def test_validation_is_silent_and_local(
    connection: duckdb.DuckDBPyConnection,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a validation opened a socket")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        check(connection, "expect_column_values_to_be_unique", column="group")
        rows(connection, "select id from {batch} where id > 3")
    assert capfd.readouterr() == ("", "")
    assert caplog.messages == []
    assert list(tmp_path.iterdir()) == []
