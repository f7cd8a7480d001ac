"""What all tables that Python makes have in common as assets: grain, checks, what the UI shows."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from qilin_dagster.checks import check_specs, check_table, table_suite
from qilin_dagster.lake import Manifest, Written
from qilin_dagster.resources import Lakehouse

if TYPE_CHECKING:
    import duckdb

# Tag of assets that a build of everything makes only where the lake has them already.
ON_DEMAND = "qilin/on_demand"
Metadata = Mapping[str, Any]
# Publishes the table of this name; returns its manifest and what the UI is to show besides.
Make = Callable[[Lakehouse, str], tuple[Manifest, Metadata]]


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
        )
        def asset(lakehouse: Lakehouse) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster asks for it bare
            manifest, metadata = make(lakehouse, table)
            return dg.MaterializeResult(
                metadata={"dagster/row_count": dg.MetadataValue.int(manifest.n_rows), **metadata},
                data_version=dg.DataVersion(manifest.snapshot_id),
                check_results=check_table(lakehouse.engine(), suite),
            )

        return asset

    return asset_of
