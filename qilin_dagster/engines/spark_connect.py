"""Runs the stored tables of sql/ on Spark, over Spark Connect: it computes, this publishes.

The cluster is one that the user names (``sc://host:port``); the client is pure Python. It reads
and writes the Parquet files of the lake, which must therefore lie where the server sees them under
the same paths. Snapshots, manifests and their names are those of the DuckDB engine, so that a lake
begun with one engine is gone on with by the other; views, checks and readers stay with DuckDB.

Published tables are landed first: written once more as Parquet under the contract's types, each row
with its place in its file, which no function of SQL gives on every Spark server.
"""

import contextlib
import functools
import logging
import os
import shutil
import socket
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import duckdb
import sqlglot
from sqlglot import exp

from qilin_dagster.catalog import View
from qilin_dagster.engines import partitions
from qilin_dagster.engines.duckdb import (
    PARQUET,
    DuckDBEngine,
    MissingRelationError,
    published_select,
    write_select,
)
from qilin_dagster.engines.partitions import literal
from qilin_dagster.engines.spark_sql import spark_name, to_spark
from qilin_dagster.errors import InputError
from qilin_dagster.lake import LANDED, LakeError, Manifest, Written, version_of
from qilin_dagster.sources.layout import TABLES

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.connect.session import SparkSession

DEFAULT_PORT = 15002
# Raise when landed files change.
LANDED_VERSION = "1"
# Apache Spark's reader knows the encodings of the first version only.
LANDED_PARQUET = PARQUET.replace("parquet_version v2", "parquet_version v1")
# Of a part of a partitioned table: some 100 MB of core.requests.
ROWS_A_FILE = 1_000_000
INSTALL = "pip install 'qilin-lakehouse[spark]'"
SECONDS_TO_ANSWER = 5


def require_server(url: str) -> None:
    """Refuse, before anything is written, a Spark that cannot be asked: InputError says why."""
    _client()
    parts = urlsplit(url)
    try:
        address = (parts.hostname or "", parts.port or DEFAULT_PORT)
        socket.create_connection(address, SECONDS_TO_ANSWER).close()
    except (OSError, ValueError) as error:
        # The client itself would go on trying for minutes.
        raise InputError(
            f"no Spark Connect server answers at {url} ({error}): start the cluster's, or "
            "qilin spark-server to try it on this machine"
        ) from error


def start_server(host: str, port: int, *, in_background: bool) -> str:
    """Start the embedded server (Sail, which needs no Java) and return its URL.

    It lives as long as this process. In the foreground the call returns when it is stopped. Raises
    InputError when it is not installed or the port is taken.
    """
    try:
        from pysail.spark import SparkConnectServer
    except ImportError as error:
        raise InputError(f"the embedded Spark server is not installed: {INSTALL}") from error
    server = SparkConnectServer(host, port)
    try:
        server.start(background=in_background)
    except (OSError, RuntimeError) as error:
        raise InputError(f"cannot serve Spark at {host}:{port}: {error}") from error
    _servers.append(server)
    bound = server.listening_address
    return f"sc://{bound[0]}:{bound[1]}" if bound else ""


# A server stops when nothing holds it.
_servers: list[Any] = []


class SparkConnectEngine(DuckDBEngine):
    """The lake and the catalog, stored tables computed by the Spark that the settings name."""

    @functools.cached_property
    def session(self) -> "SparkSession":
        """A session of its own on the server, in UTC and with errors for overflows."""
        builder = _client()
        with self._naming_spark("a session"):
            session: SparkSession = builder.remote(self.settings.engine).create()
            session.conf.set("spark.sql.session.timeZone", "UTC")
            session.conf.set("spark.sql.ansi.enabled", "true")
        return session

    @contextlib.contextmanager
    def _naming_spark(self, what: str) -> Iterator[None]:
        """Turn an error of the server into one that says where it was asked what."""
        import grpc
        from pyspark.errors import PySparkException

        try:
            yield
        except (PySparkException, grpc.RpcError) as error:
            # What follows the first line is the whole plan.
            reason = str(error).strip().splitlines()[0]
            raise LakeError(f"Spark at {self.settings.engine}, {what}: {reason}") from error

    @functools.cached_property
    def _defined(self) -> dict[str, str]:
        """Versions of the relations defined on the session."""
        return {}

    def write(self, connection: duckdb.DuckDBPyConnection, view: View, folder: Path) -> Written:
        """Compute the view on Spark and write its rows into the folder as zstd Parquet files.

        The columns get the types that DuckDB would give them.
        """
        described = connection.execute(f"describe {view.select}").fetchall()
        with self._naming_spark(view.qualified):
            rows = self.rows(view)
            typed = rows.select(
                [rows[name].cast(spark_type(type_)) for name, type_, *_ in described]
            )
            whole = folder / "rows" if view.partitions else folder
            self._write_files(typed, whole)
            if not list(whole.glob("*.parquet")):
                if typed.limit(1).count():
                    raise LakeError(
                        f"Spark at {self.settings.engine} wrote {view.qualified} where this "
                        f"machine does not see it: the lake {self.lake.root} must lie on storage "
                        "that both have under this path"
                    )
                return write_select(connection, f"select * from ({view.select}) limit 0", folder)
            if view.partitions:
                self._split(connection, view, whole, folder)
        files = f"read_parquet({literal(folder / '**/*.parquet')}, hive_partitioning = false)"
        ((n_rows,),) = connection.execute(f"select count(*) from {files}").fetchall()
        columns = connection.execute(f"describe select * from {files}").fetchall()
        return Written(
            n_rows=n_rows,
            columns=tuple((name, type_) for name, type_, *_ in columns),
            facts={"engine": f"Spark {self.session.version}"},
        )

    def _write_files(self, rows: "DataFrame", folder: Path) -> None:
        """Write the rows into the folder, its files numbered in the order of their names."""
        folder.mkdir(parents=True, exist_ok=True)
        rows.write.mode("append").option("compression", "zstd").parquet(str(folder))
        for left in [path for path in folder.iterdir() if path.is_file()]:
            if left.suffix != ".parquet" or left.name.startswith((".", "_")):
                left.unlink()  # Marks and checksums of Hadoop.
        for number, part in enumerate(sorted(folder.glob("*.parquet"))):
            os.rename(part, folder / f"part-{number:05d}.parquet")

    def _split(
        self, connection: duckdb.DuckDBPyConnection, view: View, whole: Path, folder: Path
    ) -> None:
        """Lay the files of one folder out in another as the DuckDB engine does; the former goes.

        Which rows a file has, and in which order, is told by the grain: a part whose rows did not
        change has the same files again.
        """
        source = f"read_parquet({literal(whole / '*.parquet')})"
        parts = partitions.parts_of(connection, source, view.partitions)
        rows = self.session.read.parquet(*(str(file) for file in sorted(whole.iterdir())))
        for part, n_rows in parts.items():
            n_files = 1 + n_rows // ROWS_A_FILE
            own = rows.where(partitions.condition(view.partitions, part, parts))
            own = own.repartition(n_files, view.grain[0]).sortWithinPartitions(*view.grain)
            self._write_files(own, folder / partitions.folder_of(view.partitions, part))
        shutil.rmtree(whole)

    def rows(self, view: View) -> "DataFrame":
        """The rows of a view on Spark, not yet computed; what it reads is landed and defined."""
        for parent in view.parents:
            self._define_on_spark(parent)
        return self.session.sql(to_spark(view))

    def _define_on_spark(self, relation: str) -> None:
        version = self.version(relation)
        if self._defined.get(relation) == version:
            return
        if relation in self.catalog and not self.catalog[relation].is_stored:
            rows = self.rows(self.catalog[relation])
        else:
            schema, _, name = relation.partition(".")
            is_landed = schema == "published" and name in TABLES
            manifest = self._land(name) if is_landed else self._stored(relation)
            if relation in self.catalog and "engine" not in manifest.facts:
                # Made by DuckDB, whose encoding of doubles (BYTE_STREAM_SPLIT) the faster reader of
                # Apache Spark does not know.
                self.session.conf.set("spark.sql.parquet.enableVectorizedReader", "false")
            rows = self.session.read.parquet(*(str(file) for file in self.lake.files(manifest)))
        rows.createOrReplaceTempView(spark_name(relation))
        self._defined[relation] = version

    def _stored(self, relation: str) -> Manifest:
        manifest = self.lake.manifest(relation)
        if manifest is None:
            raise MissingRelationError(
                f"{relation} is not in the lake {self.lake.root}; build it first"
            )
        return manifest

    def land(self) -> None:
        """Land all published tables that the lake has, those already there for nothing."""
        for table in TABLES:
            if self.lake.manifest(f"published.{table}") is not None:
                self._land(table)

    def _land(self, table: str) -> Manifest:
        """The published table with its row numbers, a file a shard, written by DuckDB.

        Shards that were landed before at the same place of the table stay as they are: a new day
        of files costs its own size.
        """
        published = self._stored(f"published.{table}")
        inputs = {published.table: published.snapshot_id}
        before = self.lake.manifest(f"{LANDED}.{table}")
        known, files = {}, {}
        if before is not None and before.code_version == LANDED_VERSION:
            known = {(s["sha256"], s["first_row"]): s["path"] for s in before.facts["shards"]}
            files = {file.path: file for file in before.files}
        snapshot_id = version_of(inputs, LANDED_VERSION)

        def write(folder: Path) -> Written:
            shards, kept, first_row = [], [], 0
            connection = self.open()
            try:
                for number, file in enumerate(self.lake.files(published)):
                    sha256 = published.files[number].sha256
                    n_rows = published.facts["shard_rows"][number]
                    path = known.get((sha256, first_row))
                    if path is None:
                        path = f"{snapshot_id}/part-{number:05d}.parquet"
                        names = [published.facts["shard_names"][number]]
                        facts = {"shard_rows": [n_rows], "shard_names": names}
                        one = published_select(table, [file], replace(published, facts=facts))
                        target = literal(folder / Path(path).name)
                        connection.execute(
                            f"copy (select * replace (row_number + {first_row} as row_number) "
                            f"from ({one})) to {target} ({LANDED_PARQUET})"
                        )
                    else:
                        kept.append(files[path])
                    shards.append({"sha256": sha256, "first_row": first_row, "path": path})
                    first_row += n_rows
                select = published_select(table, self.lake.files(published), published)
                described = connection.execute(f"describe {select}").fetchall()
            finally:
                connection.close()
            columns = tuple((name, type_) for name, type_, *_ in described)
            return Written(first_row, columns, {"shards": shards}, tuple(kept))

        with self.naming_damage(published.table):
            return self.lake.publish(
                f"{LANDED}.{table}", inputs=inputs, code_version=LANDED_VERSION, write=write
            )


def spark_type(duckdb_type: str) -> str:
    """A DuckDB type in Spark's words; times have no zone, as in the lake's files."""
    parsed = sqlglot.exp.DataType.build(duckdb_type, dialect="duckdb")
    for part in parsed.find_all(exp.DataType):
        if part.this is exp.DType.TIMESTAMP:
            part.set("this", exp.DType.TIMESTAMPNTZ)
        if part.this is exp.DType.INT128:
            # HUGEINT, what a sum of whole numbers is.
            part.set("this", exp.DType.DECIMAL)
            part.set("expressions", [exp.DataTypeParam(this=exp.Literal.number(38))])
    return parsed.sql("spark")


@contextlib.contextmanager
def _main_module_with_a_file() -> Iterator[None]:
    """The client takes a process whose main module has none (python -c, a worker of a test run) for
    one of its own tests, and ends it."""
    main = sys.modules["__main__"]
    if hasattr(main, "__file__"):
        yield
        return
    main.__file__ = __file__
    try:
        yield
    finally:
        del main.__file__


def _client() -> Any:
    """The session builder of the client, or InputError that says what to install."""
    try:
        with _main_module_with_a_file(), warnings.catch_warnings():
            # It warns of pandas 3, which nothing here hands to it.
            warnings.simplefilter("ignore", FutureWarning)
            from pyspark.sql.connect.session import SparkSession
        # It would print each error of the server with its plan, as one line of JSON.
        logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)
    except ImportError as error:
        raise InputError(f"--engine sc://... needs the Spark client: {INSTALL}") from error
    return SparkSession.builder
