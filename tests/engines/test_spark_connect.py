"""Both engines give the same tables from the same data, and errors say what to install or start."""

import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from qilin_dagster.build import run_build
from qilin_dagster.catalog import View
from qilin_dagster.engines import partitions
from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.errors import InputError
from qilin_dagster.lake import Lake, LakeError
from qilin_dagster.settings import REPOSITORY, Settings
from qilin_dagster.sources.published import inspect
from qilin_dagster.sources.register import register_all, register_table
from qilin_dagster.sources.twin import write_twin
from tests.conftest import build_views

pytest.importorskip("pyspark", reason="SPARK NOT CHECKED: the extra spark is not installed")
pytest.importorskip("pysail", reason="SPARK NOT CHECKED: the extra spark is not installed")

from qilin_dagster.engines.spark_connect import (
    SparkConnectEngine,
    require_server,
    spark_type,
    start_server,
)

QILIN = Path(sys.executable).parent / "qilin"
TOLERANCE = 1e-9


@pytest.fixture(scope="module")
def server() -> str:
    """The embedded server, or another Spark that is to pass the same tests."""
    named = os.environ.get("SPARK_TO_TEST")
    return named or start_server("127.0.0.1", 0, in_background=True)


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A twin with every planted fault: the quarantine is not empty."""
    path = tmp_path_factory.mktemp("spark") / "twin"
    write_twin(path, scale=0.002, seed=7, dirty=True)
    return path


@pytest.fixture(scope="module")
def by_duckdb(twin: Path, tmp_path_factory: pytest.TempPathFactory) -> DuckDBEngine:
    return build_views(twin, tmp_path_factory.mktemp("duckdb") / "lake")


@pytest.fixture(scope="module")
def by_spark(
    twin: Path, server: str, tmp_path_factory: pytest.TempPathFactory
) -> SparkConnectEngine:
    """A lake whose stored tables Spark has computed."""
    lake = tmp_path_factory.mktemp("by_spark") / "lake"
    engine = SparkConnectEngine(Lake(lake), Settings(data=twin, lake=lake, engine=server))
    register_all(engine.lake, inspect(twin), "auto")
    connection = engine.connect()
    for view in engine.catalog.views:
        if view.is_stored:
            engine.build(connection, view)
        else:
            engine.define_view(connection, view)
    connection.close()
    return engine


@pytest.fixture(scope="module")
def ours(by_duckdb: DuckDBEngine) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = by_duckdb.connect()
    yield connection
    connection.close()


def test_every_table_is_equal_row_for_row(
    by_duckdb: DuckDBEngine, by_spark: SparkConnectEngine, ours: duckdb.DuckDBPyConnection
) -> None:
    theirs = by_spark.connect()
    differences = {}
    for view in by_duckdb.catalog.views:
        if view.is_stored:
            (duckdb_made, spark_made) = (
                engine.lake.manifest(view.qualified) for engine in (by_duckdb, by_spark)
            )
            assert duckdb_made is not None
            assert spark_made is not None
            assert spark_made.facts["engine"].startswith("Spark ")
            assert spark_made.columns == duckdb_made.columns, view.qualified
            assert spark_made.n_rows == duckdb_made.n_rows, view.qualified
            rows = theirs.sql(f"from {view.qualified}").to_arrow_table()
        else:
            rows = by_spark.rows(view).toArrow()
        found = _differences(ours, view, rows)
        if found:
            differences[view.qualified] = found
    theirs.close()
    assert differences == {}
    ((n_set_aside,),) = ours.execute("select count(*) from quarantine.all_rows").fetchall()
    assert n_set_aside > 50


def test_a_difference_is_found(
    by_spark: SparkConnectEngine, ours: duckdb.DuckDBPyConnection
) -> None:
    view = by_spark.catalog["core.transitions"]
    rows = by_spark.rows(view).toArrow()
    assert len(_differences(ours, view, rows.slice(1))) == 1
    column = rows.schema.get_field_index("gap_s")
    later = [None if gap is None else gap + 1e-3 for gap in rows["gap_s"].to_pylist()]
    changed = rows.set_column(column, "gap_s", [later])
    assert len(_differences(ours, view, changed)) == 3


def _differences(
    ours: duckdb.DuckDBPyConnection, view: View, rows: object
) -> list[tuple[object, ...]]:
    """The first three rows that only one engine has, or that differ in a column."""
    ours.register("theirs", rows)
    described = ours.execute(f"describe {view.qualified}").fetchall()
    equal = []
    for name, type_, *_ in described:
        same = f'o."{name}" is not distinct from t."{name}"'
        if type_ in ("DOUBLE", "FLOAT"):
            size = f'greatest(1, abs(o."{name}"))'
            same = f'({same} or abs(o."{name}" - t."{name}") <= {TOLERANCE} * {size})'
        equal.append(same)
    grain = " and ".join(f'o."{key}" is not distinct from t."{key}"' for key in view.grain)
    return ours.execute(
        f"from (from {view.qualified} select *, true as is_there) as o "
        f"full join (from theirs select *, true as is_there) as t on {grain} "
        f"where o.is_there is null or t.is_there is null or not ({' and '.join(equal)}) limit 3"
    ).fetchall()


def test_the_engines_take_turns_on_one_lake(
    by_spark: SparkConnectEngine, twin: Path, server: str
) -> None:
    """The same inputs and code name the same snapshot, whichever engine made it."""
    engine = DuckDBEngine(by_spark.lake, replace(by_spark.settings, engine="duckdb"))
    connection = engine.connect()
    built = engine.build(connection, engine.catalog["core.requests"])
    assert built.was_current
    assert engine.behind() == []
    assert by_spark.lake.verify() == []
    # What was landed for Spark is no relation of the lake.
    relations = connection.execute("select distinct schema_name from duckdb_views()").fetchall()
    assert ("landed",) not in relations
    connection.close()


def test_large_tables_lie_in_the_same_parts_and_rows_give_the_same_files(
    by_duckdb: DuckDBEngine,
    by_spark: SparkConnectEngine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a part is, is decided in one place; how many files it has, by the server."""
    monkeypatch.setattr(partitions, "LEAST_ROWS", 60)
    view = by_spark.catalog["core.impressions"]
    for engine, name in ((by_duckdb, "duckdb"), (by_spark, "spark"), (by_spark, "again")):
        (tmp_path / name).mkdir()
        with engine.connect(view.parents) as connection:
            engine.write(connection, view, tmp_path / name)
    made = {
        name: {p.relative_to(tmp_path / name): p for p in (tmp_path / name).rglob("*.parquet")}
        for name in ("duckdb", "spark", "again")
    }
    folders = {path.parent for path in made["duckdb"]}
    assert len(folders) > 4
    assert {path.parent for path in made["spark"]} == folders
    assert made["spark"].keys() == made["again"].keys()
    for name, path in made["spark"].items():
        assert path.read_bytes() == made["again"][name].read_bytes()
    for folder in folders:
        ours, theirs = (
            duckdb.sql(
                f"from read_parquet('{tmp_path / name / folder}/*.parquet', "
                "hive_partitioning = false) order by request_id, impression_n"
            ).fetchall()
            for name in ("duckdb", "spark")
        )
        assert ours == theirs, folder


def test_only_new_shards_are_landed(twin: Path, tmp_path: Path) -> None:
    """A day that comes to the others leaves their files alone, and the rows are as landed anew."""
    data, lake = tmp_path / "data", tmp_path / "lake"
    shutil.copytree(twin, data)
    (shard,) = (data / "search_train").glob("*.parquet")
    rows = pq.read_table(shard)
    shard.unlink()
    parts = {"a": rows.slice(0, 40), "b": rows.slice(40, 20), "c": rows.slice(60)}
    settings = Settings(data=data, lake=lake, engine="sc://not-needed")

    def land(*names: str) -> tuple[SparkConnectEngine, dict[str, int]]:
        for name in names:
            pq.write_table(parts[name], data / "search_train" / f"{name}.parquet")
        engine = SparkConnectEngine(Lake(lake), settings)
        register_table(engine.lake, inspect(data), "search_train")
        engine.land()
        manifest = engine.lake.manifest("landed.search_train")
        assert manifest is not None
        return engine, {str(f): f.stat().st_ino for f in engine.lake.files(manifest)}

    _, first = land("a", "b")
    engine, second = land("c")
    assert first.items() < second.items()
    assert len(second) == 3
    # What is shared outlives the clean-up, and is whole.
    engine.lake.serve()
    engine.lake.collect_garbage(older_than_s=-1)
    assert engine.lake.verify() == []
    with engine.connect(["published.search_train"]) as connection:
        landed, expected = (
            connection.execute(f"from {relation} order by row_number").fetchall()
            for relation in (f"read_parquet({list(second)})", "published.search_train")
        )
        assert str(landed) == str(expected), "NaN is not equal to itself"
    # Rows that move are landed again: their numbers are others.
    (data / "search_train" / "a.parquet").unlink()
    _, third = land()
    assert not third.keys() & second.keys()


@pytest.mark.slow
def test_the_command_builds_and_the_expectations_pass(
    twin: Path, server: str, tmp_path: Path
) -> None:
    """Checks on what Spark made, by the command; a clean build says how many passed."""
    built = subprocess.run(
        [
            *(QILIN, "build", "--data", twin, "--lake", tmp_path / "lake", "--engine", server),
            *("--select", "quarantine,raw,core,bias", "--max-quarantined", "1"),
        ],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    assert built.returncode == 0, built.stderr
    passed = re.search(r"(\d+) of (\d+) checks passed", built.stderr)
    assert passed is not None
    assert passed[1] == passed[2]


def test_a_server_that_does_not_answer_is_named_before_anything_is_written(
    tiny_data: Path, tmp_path: Path
) -> None:
    settings = Settings(data=tiny_data, lake=tmp_path / "lake", engine="sc://127.0.0.1:9")
    with pytest.raises(InputError, match=r"answers at sc://127\.0\.0\.1:9 .* qilin spark-server"):
        run_build(settings, None)
    assert not settings.lake.exists()


def test_an_error_of_the_server_names_server_and_relation(
    by_spark: SparkConnectEngine, tmp_path: Path
) -> None:
    view = replace(
        by_spark.catalog["core.transitions"], select="select no_such as x from core.requests"
    )
    with duckdb.connect() as connection:
        connection.execute("create schema core; create view core.requests as select 1 as no_such")
        with pytest.raises(LakeError, match=r"Spark at sc://.*, core\.transitions: .*no_such"):
            by_spark.write(connection, view, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pyspark.sql.connect.session", "pysail.spark"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=r"pip install 'qilin-lakehouse\[spark\]'"):
        require_server("sc://127.0.0.1")
    with pytest.raises(InputError, match=r"pip install 'qilin-lakehouse\[spark\]'"):
        start_server("127.0.0.1", 0, in_background=True)


def test_an_engine_that_is_none_is_refused(tiny_data: Path, tmp_path: Path) -> None:
    refused = subprocess.run(
        [QILIN, "build", "--data", tiny_data, "--lake", tmp_path, "--engine", "trino://x"],
        capture_output=True,
        text=True,
    )
    assert refused.returncode == 2
    assert "--engine trino://x is no engine: duckdb, or sc://HOST:PORT" in refused.stderr


def test_types_in_the_words_of_spark() -> None:
    assert spark_type("BIGINT[]") == "ARRAY<BIGINT>"
    assert spark_type("TIMESTAMP") == "TIMESTAMP_NTZ"
    assert spark_type("HUGEINT") == "DECIMAL(38)"


def test_importing_the_client_warns_of_nothing(server: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        require_server(server)
