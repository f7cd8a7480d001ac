"""What Spark would read differently is translated by a rule, or refused with file and idiom."""

import duckdb
import pytest

from qilin_dagster.catalog import load_catalog
from qilin_dagster.engines.spark_sql import DENIED, UntranslatableError, to_spark, translate

WHERE = "sql/bias/question.sql"

# Each idiom of the deny-list as somebody would write it.
REFUSED = {
    "percentile_cont, quantile": "select quantile_cont(x, 0.5) as x from t",
    "array_agg, list": "select array_agg(x order by y) as x from t",
    "log": "select log(x) as x from t",
    "qualify": "select x from t qualify row_number() over (order by x) = 1 limit 1",
    "string_split": "select string_split(x, '') as x from t",
    "list_distinct": "select list_distinct(x) as x from t",
    "list[n]": "select x[1] as x from t",
    "a list comprehension of a bare comparison": "select [y > 0 for y in x] as x from t",
    "window exclude": (
        "select sum(x) over (order by y rows between 1 preceding and 1 following "
        "exclude current row) as x from t"
    ),
    "group by all, order by all": "select x, count(*) as n from t group by all",
    "select *": "select * from t",
    "trunc": "select trunc(x) as x from t",
    "date_diff": "select date_diff('day', x, y) as x from t",
    "date_part, extract": "select extract(dow from x) as x from t",
    "having over a column that the SELECT names anew": (
        "select k, sum(x) as x from t group by k having sum(x) > 1"
    ),
    "decimal": "select cast(x as decimal(10, 2)) as x from t",
    "sample": "select x from t using sample 10",
    "asof or positional join": "select t.x from t asof join u on t.x >= u.x",
    "pivot": "pivot t on x using sum(y)",
    "epoch_ms and the like": "select epoch_ms(x) as x from t",
    "len": "select len([x]) as x from t",
    "a function sqlglot does not know": "select hash(x) as x from t",
}


def test_every_idiom_of_the_deny_list_is_tried() -> None:
    assert [idiom for idiom, *_ in DENIED] == list(REFUSED)


@pytest.mark.parametrize("idiom", REFUSED)
def test_the_error_names_file_and_idiom(idiom: str) -> None:
    with pytest.raises(UntranslatableError) as error:
        translate(REFUSED[idiom], WHERE)
    assert str(error.value).startswith(f"{WHERE} cannot run on Spark: ")
    assert idiom in str(error.value)


@pytest.mark.parametrize("view", load_catalog().views, ids=lambda view: view.qualified)
def test_every_file_of_sql_can_be_translated(view: object) -> None:
    assert to_spark(view)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("duckdb_sql", "spark_sql"),
    [
        ("select a // b as x from t", "SELECT a DIV b AS x FROM t"),
        ("select cast(a as bigint) as x from t", "SELECT CAST(BROUND(a) AS BIGINT) AS x FROM t"),
        ("select 0.1 * a as x from t", "SELECT CAST(0.1 AS DOUBLE) * a AS x FROM t"),
        (
            "select isnan(a) as x from t",
            "SELECT CASE WHEN NOT a IS NULL THEN ISNAN(a) END AS x FROM t",
        ),
        (
            "select [f.a + n for f, n in l if f.b] as x from t",
            None,
        ),
        (
            "select [f.a + n for f, n in l] as x from t",
            "SELECT TRANSFORM(l, (f, n) -> f.a + CAST(n + 1 AS BIGINT)) AS x FROM t",
        ),
        (
            "select epoch_us(a) as x from core.t",
            "SELECT UNIX_MICROS(CAST(a AS TIMESTAMP_LTZ)) AS x FROM core__t AS t",
        ),
        (
            "with t as not materialized (select 1 as x) select x from t",
            "WITH t AS (SELECT 1 AS x) SELECT x FROM t",
        ),
    ],
)
def test_rules(duckdb_sql: str, spark_sql: str | None) -> None:
    if spark_sql is None:
        with pytest.raises(UntranslatableError, match="an index and a filter"):
            translate(duckdb_sql, WHERE)
    else:
        assert translate(duckdb_sql, WHERE) == spark_sql


def test_lists_opened_beside_a_filter_are_refused() -> None:
    with pytest.raises(UntranslatableError, match="use a CTE"):
        translate("select unnest(a) as x, unnest(b) as y from t where z", WHERE)


def test_comments_do_not_hide_an_idiom() -> None:
    duckdb.sql("select hash(1) -- fine in DuckDB")
    with pytest.raises(UntranslatableError, match="hash"):
        translate("select hash(1) as x -- fine", WHERE)
