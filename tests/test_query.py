"""Ad-hoc SQL: what it prints, and that it can do nothing but read the lake."""

import csv
import io
import json
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.errors import InputError
from qilin_dagster.lake import Lake
from qilin_dagster.query import Format, open_sandbox, run_query, write_rows
from qilin_dagster.settings import Settings


@pytest.fixture(scope="module")
def sandbox(tiny_engine: DuckDBEngine) -> duckdb.DuckDBPyConnection:
    return open_sandbox(tiny_engine.lake, tiny_engine.settings)


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
    ],
)
def test_whatever_reads_is_run(sandbox: duckdb.DuckDBPyConnection, sql: str) -> None:
    assert ask(sandbox, sql).count("\n") >= 2


HOSTILE = [
    "create table t as select 1",
    "create view v as select 1",
    "insert into core.requests select 1",
    "update core.requests set n_clicks = 0",
    "delete from core.requests",
    "drop view core.requests",
    "alter view core.requests rename to x",
    "copy core.requests to 'SPOT'",
    "copy (select 1) to 'SPOT' (format csv)",
    "export database 'SPOT'",
    "import database 'SPOT'",
    "attach 'SPOT' as x",
    "detach memory",
    "install httpfs",
    "load httpfs",
    "set memory_limit = '1GB'",
    "set enable_external_access = true",
    "reset lock_configuration",
    "pragma enable_profiling",
    "call pragma_version()",
    "checkpoint",
    "vacuum",
    "begin transaction",
    "prepare p as select 1",
    "execute p",
    "explain analyze copy core.requests to 'SPOT'",
    "explain analyze create table t as select 1",
    "explain (analyze) copy core.requests to 'SPOT'",
    "select 1; copy core.requests to 'SPOT'",
    "select * from read_csv('/etc/passwd')",
    "select * from read_text('/etc/passwd')",
    "select * from '/etc/passwd'",
    "select * from glob('/etc/*')",
    "select * from read_parquet('SPOT.parquet')",
    "select * from read_csv('http://127.0.0.1/x')",
    "select getenv('HOME')",
    "select * from sqlite_scan('SPOT', 't')",
    "",
]


@pytest.mark.parametrize("sql", HOSTILE)
def test_whatever_does_not_is_refused(
    sandbox: duckdb.DuckDBPyConnection, sql: str, tmp_path: Path
) -> None:
    spot = tmp_path / "spot"
    with pytest.raises(InputError):
        ask(sandbox, sql.replace("SPOT", str(spot)))
    assert list(tmp_path.iterdir()) == []
    # The connection answers on, and the lake is as it was.
    assert ask(sandbox, "select count(*) as n from core.requests") == "n\n7\n"


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


def test_a_misspelt_column_gets_candidates(sandbox: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(InputError, match="n_clicks"):
        ask(sandbox, "select n_click from core.requests")


def test_a_relation_not_built_says_how_to_build_it(tmp_path: Path, tiny_data: Path) -> None:
    from qilin_dagster.sources.published import inspect
    from qilin_dagster.sources.register import register_all

    lake = Lake(tmp_path / "lake")
    register_all(lake, inspect(tiny_data), "auto")
    sandbox = open_sandbox(lake, Settings(data=None, lake=lake.root))
    assert ask(sandbox, "select count(*) as n from published.notes") == "n\n6\n"
    with pytest.raises(InputError, match="qilin build"):
        ask(sandbox, "from core.requests")


def test_no_lake_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no lake in"):
        open_sandbox(Lake(tmp_path / "lake"), Settings(data=None, lake=tmp_path / "lake"))
    assert not (tmp_path / "lake").exists()
