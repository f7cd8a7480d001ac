"""What all tables that Python makes have in common as assets: grain, checks, what the UI shows."""

import contextlib
import errno
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from qilin_dagster.checks import check_specs, check_table, table_suite
from qilin_dagster.expectations import Suite
from qilin_dagster.lake import Manifest, Written
from qilin_dagster.resources import Lakehouse

if TYPE_CHECKING:
    import duckdb

# Tag of assets that a build of everything makes only where the lake has them already.
ON_DEMAND = "qilin/on_demand"
Metadata = Mapping[str, Any]
# Publishes the table of this name; returns its manifest and what the UI is to show besides.
Make = Callable[[Lakehouse, str], tuple[Manifest, Metadata]]
# The same with what the launchpad says.
MakeRanker = Callable[[Lakehouse, str, Mapping[str, Any]], tuple[Manifest, Metadata]]

# Pools of one place each, see dagster.yaml: runs that write wait for each other, and so do runs
# that train, which would share memory and cores otherwise.
WRITER = "writer"
TRAINING = "training"

PREVIEW_ROWS = 5
PREVIEW_CHARACTERS = 40

# Faults of a disk or a network folder that are often gone a minute later.
PASSING = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EBUSY, errno.EINTR)
RETRIES = 2
RETRY_AFTER_S = 60


def publish_from(
    lakehouse: Lakehouse,
    table: str,
    reads: tuple[str, ...],
    code_version: str,
    write: "Callable[[duckdb.DuckDBPyConnection, Path], Written]",
    *,
    more_inputs: Mapping[str, str] | None = None,
) -> Manifest:
    """Publish what ``write`` makes of these relations, unless the lake has it already.

    ``more_inputs`` are settings that it depends on besides.
    """
    engine = lakehouse.engine()
    connection = engine.connect(reads)
    try:
        return lakehouse.store.publish(
            table,
            inputs={**engine.inputs(reads), **(more_inputs or {})},
            code_version=code_version,
            write=lambda folder: write(connection, folder),
        )
    finally:
        connection.close()


def table_asset(
    table: str,
    description: str,
    reads: Sequence[str],
    *,
    compared_with: Sequence[str] = (),
    kinds: set[str],
    on_demand: bool = False,
) -> Callable[[Make], dg.AssetsDefinition]:
    """Make an asset of a function that publishes a table.

    Args:
        table: its name, ``<schema>.<table>``.
        description: begins with the grain, "One row per (a, b): ...".
        reads: relations it is made from.
        compared_with: relations that its checks read, and nothing is made from.
        kinds: what the UI shows as made with.
        on_demand: dear, and left out of a build of everything until it was asked for once.
    """

    suite = table_suite(table, description)

    def asset_of(make: Make) -> dg.AssetsDefinition:
        @dg.asset(
            key=table.split("."),
            deps=[dg.AssetKey(relation.split(".")) for relation in (*reads, *compared_with)],
            group_name=suite.schema,
            kinds=kinds,
            description=description,
            tags={ON_DEMAND: ""} if on_demand else None,
            check_specs=check_specs(suite),
            # What is dear is so because it trains.
            pool=TRAINING if on_demand else WRITER,
            metadata=written_in(make.__code__.co_filename, make.__code__.co_firstlineno),
        )
        def asset(lakehouse: Lakehouse) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster asks for it bare
            return _materialized(lakehouse, suite, lambda: make(lakehouse, table))

        return asset

    return asset_of


def ranker_asset(
    table: str,
    description: str,
    reads: Sequence[str],
    *,
    hyper_parameters: Mapping[str, dg.Field],
    kinds: set[str],
) -> Callable[[MakeRanker], dg.AssetsDefinition]:
    """As `table_asset`, for a table that is trained: with what may be changed in the launchpad.

    The function gets the launchpad's values besides. A training waits for another one.
    """

    suite = table_suite(table, description)

    def asset_of(make: MakeRanker) -> dg.AssetsDefinition:
        @dg.asset(
            key=table.split("."),
            deps=[dg.AssetKey(relation.split(".")) for relation in reads],
            group_name=suite.schema,
            kinds=kinds,
            description=description,
            check_specs=check_specs(suite),
            pool=TRAINING,
            metadata=written_in(make.__code__.co_filename, make.__code__.co_firstlineno),
            config_schema=dict(hyper_parameters),
        )
        def asset(context: dg.AssetExecutionContext, lakehouse: Lakehouse) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster asks for it bare
            config = context.op_execution_context.op_config
            return _materialized(lakehouse, suite, lambda: make(lakehouse, table, config))

        return asset

    return asset_of


def written_in(path: str | Path, line: int | None = None) -> dict[str, Any]:
    """Where an asset is written down, as the UI links to it."""
    with warnings.catch_warnings():
        # Dagster may still change how it is told.
        warnings.simplefilter("ignore", dg.BetaWarning)
        reference = dg.LocalFileCodeReference(file_path=str(path), line_number=line)
        return {
            "dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[reference])
        }


def _materialized(
    lakehouse: Lakehouse, suite: Suite, make: Callable[[], tuple[Manifest, Metadata]]
) -> dg.MaterializeResult[None]:
    started = time.monotonic()
    with retried():
        manifest, metadata = make()
    seconds = time.monotonic() - started
    return dg.MaterializeResult(
        metadata={**table_metadata(lakehouse, manifest, seconds), **metadata},
        data_version=dg.DataVersion(manifest.snapshot_id),
        check_results=check_table(lakehouse.engine(), suite),
    )


def table_metadata(
    lakehouse: Lakehouse, manifest: Manifest, seconds: float
) -> dict[str, dg.MetadataValue]:
    """Rows, seconds and bytes, which the UI plots; columns, and a few rows."""
    columns = [dg.TableColumn(name, type_) for name, type_ in manifest.columns]
    metadata: dict[str, dg.MetadataValue] = {
        "dagster/row_count": dg.MetadataValue.int(manifest.n_rows),
        "dagster/column_schema": dg.MetadataValue.table_schema(dg.TableSchema(columns)),
        "seconds": dg.MetadataValue.float(round(seconds, 3)),
        "bytes": dg.MetadataValue.int(sum(file.n_bytes for file in manifest.files)),
    }
    if manifest.n_rows:
        connection = lakehouse.engine().connect([manifest.table])
        try:
            metadata["preview"] = dg.MetadataValue.md(preview(connection, manifest.table))
        finally:
            connection.close()
    return metadata


def preview(connection: "duckdb.DuckDBPyConnection", relation: str) -> str:
    """The first rows as a Markdown table, long values cut."""
    cursor = connection.execute(f"select * from {relation} limit {PREVIEW_ROWS}")
    names = [column[0] for column in cursor.description]
    rows = [[_short(value) for value in row] for row in cursor.fetchall()]
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _short(value: object) -> str:
    text = "" if value is None else str(value)
    text = text.replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")
    return text if len(text) <= PREVIEW_CHARACTERS else text[: PREVIEW_CHARACTERS - 1] + "…"


@contextlib.contextmanager
def retried() -> Iterator[None]:
    """Try a step again after what may pass by itself, and after nothing else.

    That is a disk or a network folder that did not answer, and a GPU that another program filled.
    Bad data, a full disk and faults of the program are the same the next time.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in PASSING:
            raise
        raise dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=RETRY_AFTER_S) from error
    except RuntimeError as error:
        # Not by its class, which is torch's: most steps never import it.
        if type(error).__name__ != "OutOfMemoryError":
            raise
        raise dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=RETRY_AFTER_S) from error
