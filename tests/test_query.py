"""Ad-hoc SQL: what it prints, and that it can do nothing but read the lake."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.errors import InputError
from qilin_dagster.lake import Lake
from qilin_dagster.query import Format, answer, open_sandbox, run_query, write_rows
from qilin_dagster.read_only import REFUSED_FUNCTIONS, check_statement
from qilin_dagster.settings import Settings


@pytest.fixture(scope="module")
def sandbox(tiny_engine: DuckDBEngine) -> duckdb.DuckDBPyConnection:
    return open_sandbox(tiny_engine.lake, tiny_engine.settings)


@pytest.fixture(scope="module")
def state(sandbox: duckdb.DuckDBPyConnection, tiny_engine: DuckDBEngine) -> list[object]:
    return state_of(sandbox, tiny_engine)


def ask(sandbox: duckdb.DuckDBPyConnection, sql: str, format_: Format = "csv") -> str:
    out = io.StringIO()
    write_rows(run_query(sandbox, sql), format_, out)
    return out.getvalue()


MIXED = (
    "select 1 as n, 'a,\"b\"' as text, null as nothing, [1, 2] as xs, {'k': 1.5} as s, "
    "'nan'::double as no_number, timestamp '2024-11-27 12:00:00' as at, true as yes, "
    "sum(1) as total"
)


def test_csv_has_a_header_and_then_rows(sandbox: duckdb.DuckDBPyConnection) -> None:
    assert list(csv.reader(io.StringIO(ask(sandbox, MIXED)))) == [
        ["n", "text", "nothing", "xs", "s", "no_number", "at", "yes", "total"],
        ["1", 'a,"b"', "", "[1, 2]", '{"k": 1.5}', "", "2024-11-27T12:00:00", "true", "1"],
    ]


def test_json_is_one_array_of_objects(sandbox: duckdb.DuckDBPyConnection) -> None:
    assert json.loads(ask(sandbox, MIXED, "json")) == [
        {
            "n": 1,
            "text": 'a,"b"',
            "nothing": None,
            "xs": [1, 2],
            "s": {"k": 1.5},
            "no_number": None,
            "at": "2024-11-27T12:00:00",
            "yes": True,
            "total": 1,
        }
    ]
    assert json.loads(ask(sandbox, "select 1 where false", "json")) == []
    assert json.loads(ask(sandbox, "select 1 as a, 2 as a", "json")) == [{"a": 1, "a_2": 2}]


def test_parquet_is_the_rows(sandbox: duckdb.DuckDBPyConnection) -> None:
    buffer = io.BytesIO()
    out = io.TextIOWrapper(buffer)
    write_rows(run_query(sandbox, "from core.requests"), "parquet", out)
    assert pq.read_table(io.BytesIO(buffer.getvalue())).num_rows == 7


def test_table_shows_every_column_in_a_pipe(
    sandbox: duckdb.DuckDBPyConnection, capfd: pytest.CaptureFixture[str]
) -> None:
    import sys

    write_rows(run_query(sandbox, "from core.requests"), "table", sys.stdout)
    shown = capfd.readouterr().out
    assert "history_list" in shown
    assert "app_session_idx" in shown


@pytest.mark.parametrize(
    "sql",
    [
        "describe core.requests",
        "show all tables",
        "summarize core.requests",
        "explain from core.requests",
        "explain analyze select count(*) from core.requests",
        "with a as (select 1 as x) select * from a",
        "pivot (select 1 as x) on x",
        "from core.requests limit 1 -- a comment",
        "select 1;",
        "from (pivot core.requests on channel in ('search'))",
        "pivot core.requests on channel using sum(n_clicks) group by split",
        "with \"a\" as (select 'x/y' as p) from a",
        "WITH A AS (select 1 as x) from a",
        "with recursive r as (select 1 as n union all select n + 1 from r where n < 3) from r",
        "from CORE.Requests",
        "from memory.core.requests",
        "from core.requests using sample 2 rows",
        "select n_clicks.greatest(1) as n from core.requests",
        "from range(3) as t(i) positional join range(3) as u(j)",
        "values (1), (2)",
        "table core.requests",
        "show tables",
        "show databases",
        "describe select 1",
        "explain (format json) from core.requests",
        "-- first\n/* then */ explain from core.requests",
        "from information_schema.tables",
        "from duckdb_views",
        "select column_name from duckdb_columns() limit 1",
        "unpivot (select 1 as a, 2 as b) on a, b",
        "select * exclude (history_list) from core.requests",
        "select columns('n_.*') from core.requests",
    ],
)
def test_whatever_reads_is_run(sandbox: duckdb.DuckDBPyConnection, sql: str) -> None:
    assert ask(sandbox, sql).count("\n") >= (1 if sql == "show tables" else 2)


# The statement, and what the refusal has to say. SPOT is a path that must stay empty, SECRET a file
# outside the lake, LAKEFILE one of its own, MANIFEST another.
READS = "qilin sql only reads"
HOSTILE = [
    # Writing.
    ("create table t as select 1", f"CREATE is refused: {READS}"),
    ("create temp table t as select 1", f"CREATE is refused: {READS}"),
    ("create view v as select 1", f"CREATE is refused: {READS}"),
    ("create temporary view v as select 1", f"CREATE is refused: {READS}"),
    ("create or replace macro m(x) as x + 1", f"CREATE is refused: {READS}"),
    ("create macro m() as table select 1", f"CREATE is refused: {READS}"),
    ("create sequence s", f"CREATE is refused: {READS}"),
    ("create type mood as enum ('a')", f"CREATE is refused: {READS}"),
    ("create secret (type s3, key_id 'x')", f"CREATE is refused: {READS}"),
    ("create schema s", f"CREATE is refused: {READS}"),
    ("insert into core.requests select 1", f"INSERT is refused: {READS}"),
    ("update core.requests set n_clicks = 0", f"UPDATE is refused: {READS}"),
    ("delete from core.requests", f"DELETE is refused: {READS}"),
    ("truncate core.requests", f"DELETE is refused: {READS}"),
    ("drop view core.requests", f"DROP is refused: {READS}"),
    ("alter view core.requests rename to x", f"ALTER is refused: {READS}"),
    ("comment on view core.requests is 'x'", f"is refused: {READS}"),
    ("with a as (insert into core.users select 1 returning *) from a", "INSERT is refused"),
    ("with a as (delete from core.users returning *) select 1", "DELETE is refused"),
    ("with a as (update core.users set user_idx = 0 returning *) from a", "UPDATE is refused"),
    ("select (with a as (delete from core.users returning *) select 1)", "DELETE is refused"),
    ("explain analyze with a as (delete from core.users returning *) from a", "DELETE is refused"),
    # Files and databases.
    ("copy core.requests to 'SPOT'", f"COPY is refused: {READS}"),
    ("copy (select 1) to 'SPOT' (format csv)", f"COPY is refused: {READS}"),
    ("export database 'SPOT'", f"EXPORT is refused: {READS}"),
    ("import database 'SPOT'", f"is refused: {READS}"),
    ("attach 'SPOT' as x", f"ATTACH is refused: {READS}"),
    ("attach ':memory:' as x", f"ATTACH is refused: {READS}"),
    ("detach memory", f"DETACH is refused: {READS}"),
    ("use core", f"is refused: {READS}"),
    ("select * from read_csv('SECRET')", "the table function read_csv is refused"),
    ("select * from read_text('SECRET')", "the table function read_text is refused"),
    ("select * from READ_TEXT('SECRET')", "the table function read_text is refused"),
    ("from \"read_text\"('SECRET')", "the table function read_text is refused"),
    ("from system.main.read_text('SECRET')", "the table function read_text is refused"),
    ("from read_text /* x */ ('SECRET')", "the table function read_text is refused"),
    ("from read_blob('SECRET')", "the table function read_blob is refused"),
    ("from read_json('SECRET')", "the table function read_json is refused"),
    ("from sniff_csv('SECRET')", "the table function sniff_csv is refused"),
    ("from parquet_metadata('LAKEFILE')", "the table function parquet_metadata is refused"),
    ("from parquet_schema('LAKEFILE')", "the table function parquet_schema is refused"),
    ("from read_parquet('LAKEFILE')", "the table function read_parquet is refused"),
    ("from parquet_scan('LAKEFILE')", "the table function parquet_scan is refused"),
    ("from read_text('MANIFEST')", "the table function read_text is refused"),
    ("from glob('/etc/*')", "the table function glob is refused"),
    ("select * from 'SECRET'", "reading a file"),
    ("select * from 'LAKEFILE'", "reading a file"),
    ('from "LAKEFILE"', "reading a file"),
    ("describe 'LAKEFILE'", "reading a file"),
    ("summarize 'LAKEFILE'", "reading a file"),
    ('show "LAKEFILE"', "there is no relation"),
    ('from core."LAKEFILE"', "reading a file"),
    ('with "LAKEFILE" as (select 1) from "LAKEFILE"', "reading a file"),
    ('select (with "LAKEFILE" as (select 1) select 1), * from "LAKEFILE"', "reading a file"),
    ("from (select 1) where 1 in (select a from 'LAKEFILE' as t(a))", "reading a file"),
    ("from core.users union all from 'LAKEFILE'", "reading a file"),
    ("from core.users as u, lateral (from read_csv('SECRET'))", "function read_csv is refused"),
    ("with recursive r as (select 1 union all from read_text('SECRET')) from r", "read_text"),
    ("select exists(from read_text('SECRET'))", "the table function read_text is refused"),
    ("select list_transform([1], lambda x: (select 1 from read_text('SECRET')))", "read_text"),
    ("pivot read_csv('SECRET') on a", "the function read_csv is refused"),
    ("pivot (from read_text('SECRET')) on a", "the function read_text is refused"),
    ("pivot 'LAKEFILE' on channel", f"without its values is refused: {READS}"),
    ('pivot "LAKEFILE" on channel', f"without its values is refused: {READS}"),
    ("pivot 'LAKEFILE' on channel in ('a')", "reading a file"),
    ("with a as (delete from core.users returning *) pivot a on user_idx", "DELETE is refused"),
    # The network and extensions.
    ("select * from read_csv('http://127.0.0.1/x')", "the table function read_csv is refused"),
    ("from 'https://example.org/x.parquet'", "reading a file"),
    ("from 's3://bucket/x.parquet'", "reading a file"),
    ("install httpfs", f"LOAD is refused: {READS}"),
    ("load httpfs", f"LOAD is refused: {READS}"),
    ("from sqlite_scan('SPOT', 't')", "the table function sqlite_scan is refused"),
    # Settings and the session.
    ("set memory_limit = '1GB'", f"is refused: {READS}"),
    ("set enable_external_access = true", f"is refused: {READS}"),
    ("set variable x = 1", f"is refused: {READS}"),
    ("reset lock_configuration", f"is refused: {READS}"),
    ("pragma enable_profiling", f"is refused: {READS}"),
    ("pragma memory_limit = '1GB'", f"is refused: {READS}"),
    ("call pragma_version()", f"CALL is refused: {READS}"),
    ("checkpoint", f"is refused: {READS}"),
    ("vacuum", f"VACUUM is refused: {READS}"),
    ("analyze", f"is refused: {READS}"),
    ("begin transaction", f"TRANSACTION is refused: {READS}"),
    ("prepare p as select 1", f"PREPARE is refused: {READS}"),
    ("execute p", f"EXECUTE is refused: {READS}"),
    ("deallocate p", f"is refused: {READS}"),
    # SQL inside text.
    ("from query('select 1')", "the table function query is refused"),
    ("from query_table('LAKEFILE')", "the table function query_table is refused"),
    ("from query_table(['core.users'])", "the table function query_table is refused"),
    ("from histogram('LAKEFILE', user_idx)", "the table function histogram is refused"),
    ("from json_execute_serialized_sql('{}')", "json_execute_serialized_sql is refused"),
    ("select json_serialize_plan('select 1')", "the function json_serialize_plan is refused"),
    # The environment and Python.
    ("select getenv('HOME')", "the function getenv is refused"),
    ("select 'HOME'.getenv()", "the function getenv is refused"),
    ("from range(1) order by GetEnv('HOME')", "the function getenv is refused"),
    ("pivot (select getenv('HOME') as h) on h", "the function getenv is refused"),
    ("select write_log('x')", "the function write_log is refused"),
    ("from python_variable", "there is no relation python_variable"),
    ("from sandbox", "there is no relation sandbox"),
    ("from duckdb_secrets()", "the table function duckdb_secrets is refused"),
    ("from arrow_scan(1, 2, 3)", "the table function arrow_scan is refused"),
    # More than one statement, and disguises.
    ("select 1; copy core.requests to 'SPOT'", "expected one statement, found 2"),
    ("select 1 /* ; */ ; -- x\n copy core.requests to 'SPOT'", "expected one statement, found 2"),
    ("/* select 1 */ copy core.requests to 'SPOT'", f"COPY is refused: {READS}"),
    ("-- select\ncopy core.requests to 'SPOT'", f"COPY is refused: {READS}"),
    ("explain analyze copy core.requests to 'SPOT'", f"COPY is refused: {READS}"),
    ("explain analyze create table t as select 1", f"CREATE is refused: {READS}"),
    ("explain (analyze) copy core.requests to 'SPOT'", f"COPY is refused: {READS}"),
    ("explain (analyze, format json) copy core.users to 'SPOT'", f"COPY is refused: {READS}"),
    ("/* explain */ explain analyze copy core.users to 'SPOT'", f"COPY is refused: {READS}"),
    ("explain from read_text('SECRET')", "the table function read_text is refused"),
    ("explain analyze from 'LAKEFILE'", "reading a file"),
    ("explain /**/ analyze copy core.requests to 'SPOT'", "syntax error"),
    ("", "expected one statement, found 0"),
]


@pytest.mark.parametrize(("sql", "said"), HOSTILE, ids=[sql for sql, _ in HOSTILE])
def test_whatever_does_not_is_refused(
    sandbox: duckdb.DuckDBPyConnection,
    state: list[object],
    tiny_engine: DuckDBEngine,
    sql: str,
    said: str,
    tmp_path: Path,
) -> None:
    python_variable = duckdb.connect().sql("select 42 as leaked")
    assert python_variable.columns == ["leaked"]
    (tmp_path / "secret").write_text("a,b\n1,2\n", encoding="utf-8")
    table = tiny_engine.lake.manifest("core.requests")
    assert table is not None
    places = {
        "SPOT": tmp_path / "spot",
        "SECRET": tmp_path / "secret",
        "LAKEFILE": tiny_engine.lake.files(table)[0],
        "MANIFEST": tiny_engine.lake.table_folder("core.requests") / "manifest.json",
    }
    for name, place in places.items():
        sql = sql.replace(name, str(place))
    with pytest.raises(InputError) as refused:
        ask(sandbox, sql)
    assert said in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
    assert state_of(sandbox, tiny_engine) == state
    # The connection answers on.
    assert ask(sandbox, "select count(*) as n from core.requests") == "n\n7\n"


def test_none_of_them_left_a_function(sandbox: duckdb.DuckDBPyConnection) -> None:
    assert ask(sandbox, "select count(*) as n from duckdb_functions() where not internal") == (
        "n\n0\n"
    )


def state_of(sandbox: duckdb.DuckDBPyConnection, engine: DuckDBEngine) -> list[object]:
    """All a statement could have changed: the lake's files and what the connection holds."""
    files = [
        (path, path.stat().st_mtime_ns)
        for path in sorted(engine.lake.root.rglob("*"))
        if path.is_file()
    ]
    held = sandbox.execute(
        "select (select list(name order by name) from duckdb_settings()), "
        "(select list(value order by name) from duckdb_settings()), "
        "(select list(view_name order by view_name) from duckdb_views()), "
        "(select count(*) from duckdb_tables()), (select count(*) from duckdb_databases()), "
        "(select count(*) from duckdb_schemas()), (select count(*) from duckdb_types()), "
        "(select count(*) from duckdb_sequences()), "
        "(select count(*) from duckdb_variables()), "
        "(select count(*) from duckdb_prepared_statements())"
    ).fetchall()
    return [files, held]


def test_the_engine_alone_keeps_to_the_files_of_the_lake(
    sandbox: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    """The first barrier holds without the second."""
    python_variable = duckdb.connect().sql("select 42 as leaked")
    assert python_variable.columns == ["leaked"]
    (tmp_path / "secret.csv").write_text("a\n1\n", encoding="utf-8")
    for sql in (
        f"from read_csv('{tmp_path}/secret.csv')",
        f"from '{tmp_path}/secret.csv'",
        f"copy (select 1) to '{tmp_path}/spot.csv'",
        f"attach '{tmp_path}/x.duckdb'",
        "from python_variable",
        "set enable_external_access = true",
        "set python_enable_replacements = true",
        "set allowed_paths = ['/']",
        "load httpfs",
        "insert into core.requests select * from core.requests",
    ):
        with pytest.raises(duckdb.Error):
            sandbox.sql(sql).fetchall()
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


def test_every_function_with_effects_has_been_thought_of(
    sandbox: duckdb.DuckDBPyConnection,
) -> None:
    """A newer DuckDB may bring functions that do something; they must be sorted in here first."""
    harmless = {
        "current_connection_id", "current_query", "current_query_id", "current_transaction_id",
        "error", "gen_random_uuid", "random", "setseed", "sleep_ms", "stats", "uuid", "uuidv4",
        "uuidv7", "vector_type",
    }  # fmt: skip
    found = sandbox.execute(
        "select distinct function_name from duckdb_functions() where has_side_effects"
    ).fetchall()
    assert {name for (name,) in found} - harmless <= REFUSED_FUNCTIONS


def test_the_parse_tree_is_understood_for_every_view(
    sandbox: duckdb.DuckDBPyConnection, tiny_engine: DuckDBEngine
) -> None:
    for view in tiny_engine.catalog.views:
        reading = check_statement(sandbox, view.select)
        assert set(reading.relations) == set(view.parents), view.qualified


def test_a_file_of_the_lake_cannot_be_overwritten(
    sandbox: duckdb.DuckDBPyConnection, tiny_engine: DuckDBEngine
) -> None:
    manifest = tiny_engine.lake.manifest("core.requests")
    assert manifest is not None
    (path,) = tiny_engine.lake.files(manifest)
    before = path.read_bytes()
    for sql in (
        f"copy (select 1) to '{path}' (use_tmp_file false)",
        f"explain analyze copy (select 1) to '{path}' (use_tmp_file false)",
        f"explain /* x */ analyze copy (select 1) to '{path}' (use_tmp_file false)",
    ):
        with pytest.raises(InputError):
            ask(sandbox, sql)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("select n_click from core.requests", "did you mean n_clicks (core.requests)?"),
        ("select r.n_click from core.requests as r", "did you mean n_clicks (core.requests)?"),
        ("select * exclude (n_click) from core.requests", "did you mean n_clicks (core.reque"),
        ("select 1 from core.users order by user_id", "did you mean user_idx (core.users)?"),
        (
            "select request_i from core.requests as a join core.impressions as b using (channel)",
            "did you mean request_id (core.impressions, core.requests)?",
        ),
        ("with a as (select 1 as total) select totl from a", "did you mean total?"),
        ("select zzz from core.sessions", "core.sessions: session_id, user_idx, "),
        ("from click_rate_by_position", "did you mean bias.click_rate_by_position?"),
        ("from raw.requests", "did you mean core.requests?"),
        ("from core.reqests", "did you mean core.requests?"),
        ("from CORE.REQESTS", "did you mean core.requests?"),
        ("from requsts", "did you mean core.requests?"),
        ("from notes", "did you mean core.notes, published.notes or raw.notes?"),
        ("pivot notes on note_type", "did you mean core.notes, published.notes or raw.notes?"),
        ("from memory.core.reqests", "did you mean core.requests?"),
        ("from paper", "did you mean bias.paper_values?"),
        ("from nothing_like_it", "show all tables lists those there are"),
        ("select requests.zz from bias.paper_values", "Referenced table"),
        ("selct 1", "syntax error"),
    ],
)
def test_a_slip_names_the_nearest(sandbox: duckdb.DuckDBPyConnection, sql: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        ask(sandbox, sql)
    assert said in str(error.value)


def test_a_relation_not_built_says_how_to_build_it(tmp_path: Path, tiny_data: Path) -> None:
    from qilin_dagster.sources.published import inspect
    from qilin_dagster.sources.register import register_all

    lake = Lake(tmp_path / "lake")
    register_all(lake, inspect(tiny_data), "auto")
    sandbox = open_sandbox(lake, Settings(data=None, lake=lake.root))
    assert ask(sandbox, "select count(*) as n from published.notes") == "n\n6\n"
    with pytest.raises(InputError, match="qilin build"):
        ask(sandbox, "from core.requests")
    with pytest.raises(InputError, match=r"core\.requests is a relation .* qilin build"):
        ask(sandbox, "from requests")


def test_what_does_not_fit_into_memory_is_spilled_and_cleaned_up(
    tiny_engine: DuckDBEngine, tmp_path: Path
) -> None:
    big = "select count(*) as n from (select distinct i, md5(i::varchar) from range(2000000) t(i))"
    folders = {None: tiny_engine.lake.root / ".spill", tmp_path / "spill": tmp_path / "spill"}
    for spill, folder in folders.items():
        settings = replace(tiny_engine.settings, memory_limit="80MB", threads=1, spill=spill)
        sandbox = open_sandbox(tiny_engine.lake, settings)
        assert ask(sandbox, big) == "n\n2000000\n"
        assert len(list(folder.iterdir())) == 1
        limit = sandbox.execute("select current_setting('memory_limit')").fetchall()[0][0]
        assert limit == "76.2 MiB"
        sandbox.close()
        assert list(folder.iterdir()) == []


def test_rows_are_counted(sandbox: duckdb.DuckDBPyConnection) -> None:
    for format_ in ("table", "csv", "json", "parquet"):
        out = io.TextIOWrapper(io.BytesIO())
        assert write_rows(run_query(sandbox, "from core.requests"), format_, out).n_rows == 7
    told = answer(sandbox, "from range(20000)", "table", io.StringIO())
    assert str(told).startswith("more than 10,000 rows, 0.")
    assert str(answer(sandbox, "select 1", "csv", io.StringIO())).startswith("1 row, 0.")


def test_a_plan_is_printed_as_it_is(sandbox: duckdb.DuckDBPyConnection) -> None:
    told = ask(sandbox, "explain from core.requests", "table")
    assert "\n" in told
    assert "\\n" not in told
    assert "explain_key" not in told


def test_no_lake_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no lake in"):
        open_sandbox(Lake(tmp_path / "lake"), Settings(data=None, lake=tmp_path / "lake"))
    assert not (tmp_path / "lake").exists()
