"""Stage 2, views: each file of sql/ is one asset; key, parents, docs and checks come from files.

One subsettable multi-asset per schema, parents first in one process. A failed blocking check keeps
everything below it from being built, within the schema here and across schemas by Dagster.
"""

import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg

from qilin_dagster.catalog import SCHEMAS, View, column_lineage
from qilin_dagster.checks import check_results, check_specs, failed_blocking, suite_of
from qilin_dagster.expectations import Suite
from qilin_dagster.outcomes import Checked, check, record
from qilin_dagster.resources import CATALOG, Lakehouse

if TYPE_CHECKING:
    import duckdb

    from qilin_dagster.engines.duckdb import Built, DuckDBEngine

log = logging.getLogger("qilin")

PREVIEW_ROWS = 5
PREVIEW_CHARACTERS = 40

SUITES: dict[str, Suite] = {view.qualified: suite_of(view) for view in CATALOG.views}


def asset_spec(view: View) -> dg.AssetSpec:
    return dg.AssetSpec(
        key=[view.schema, view.name],
        deps=[dg.AssetKey(parent.split(".")) for parent in view.parents],
        description=f"{view.comment}\n\n```sql\n{view.path.read_text(encoding='utf-8')}\n```",
        group_name=view.schema,
        kinds={"duckdb", "table" if view.is_stored else "view"},
        code_version=view.code_version,
        skippable=True,
        metadata={"dagster/relation_identifier": view.qualified},
    )


def _views_of(schema: str) -> dg.AssetsDefinition:
    views = [view for view in CATALOG.views if view.schema == schema]

    @dg.multi_asset(
        name=f"{schema}_views",
        specs=[asset_spec(view) for view in views],
        check_specs=[spec for view in views for spec in check_specs(SUITES[view.qualified])],
        can_subset=True,
    )
    def build_views(
        context: dg.AssetExecutionContext, lakehouse: Lakehouse
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        engine = lakehouse.engine()
        connection = engine.connect()
        try:
            yield from _build(context, engine, connection, views)
        finally:
            connection.close()

    return build_views


def _build(
    context: dg.AssetExecutionContext,
    engine: "DuckDBEngine",
    connection: "duckdb.DuckDBPyConnection",
    views: list[View],
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    blocked: dict[str, str] = {}
    outcomes: list[Checked] = []
    for view in views:
        key = dg.AssetKey([view.schema, view.name])
        wanted = {c.name for c in context.selected_asset_check_keys if c.asset_key == key}
        if view.qualified in blocked:
            log.warning(
                "%s: not built, %s failed a blocking check", view.qualified, blocked[view.qualified]
            )
            continue
        if key in context.selected_asset_keys:
            started = time.perf_counter()
            built = engine.build(connection, view)
            seconds = time.perf_counter() - started
            log.info(
                "%s: %s rows, %s",
                view.qualified,
                f"{built.n_rows:,}",
                "unchanged" if built.was_current else f"{seconds:.1f} s",
            )
            yield dg.MaterializeResult(
                key,
                metadata=view_metadata(connection, view, built, seconds),
                data_version=dg.DataVersion(built.version),
            )
        if wanted:
            suite = SUITES[view.qualified]
            checked = check(engine, connection, suite, wanted)
            outcomes.append(checked)
            yield from check_results(engine.lake, suite, checked.results)
            failed = failed_blocking(checked.results)
            if failed:
                log.error("%s: blocking check failed: %s", view.qualified, ", ".join(failed))
                for descendant in engine.catalog.descendants(view.qualified):
                    blocked.setdefault(descendant, view.qualified)
    record(engine.lake, outcomes)


def view_metadata(
    connection: "duckdb.DuckDBPyConnection", view: View, built: "Built", seconds: float
) -> dict[str, dg.MetadataValue | dg.TableColumnLineage]:
    """Row count, columns with their comments, where each column comes from, and a few rows."""
    columns = [
        dg.TableColumn(name, type_, description=view.column_comments.get(name))
        for name, type_ in built.columns
    ]
    lineage = {
        column: [
            dg.TableColumnDep(dg.AssetKey(relation.split(".")), source)
            for relation, source in sorted(sources)
        ]
        for column, sources in column_lineage(view, _parent_columns(connection, view)).items()
        if sources
    }
    metadata: dict[str, dg.MetadataValue | dg.TableColumnLineage] = {
        "dagster/row_count": dg.MetadataValue.int(built.n_rows),
        "dagster/column_schema": dg.MetadataValue.table_schema(dg.TableSchema(columns)),
        "dagster/column_lineage": dg.MetadataValue.column_lineage(dg.TableColumnLineage(lineage)),
        "preview": dg.MetadataValue.md(preview(connection, view.qualified)),
        "seconds": dg.MetadataValue.float(round(seconds, 3)),
    }
    if built.n_bytes is not None:
        metadata["bytes"] = dg.MetadataValue.int(built.n_bytes)
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


def _parent_columns(
    connection: "duckdb.DuckDBPyConnection", view: View
) -> dict[str, dict[str, dict[str, str]]]:
    columns: dict[str, dict[str, dict[str, str]]] = {}
    for parent in view.parents:
        schema, _, name = parent.partition(".")
        described = connection.execute(f"describe {parent}").fetchall()
        columns.setdefault(schema, {})[name] = {column[0]: column[1] for column in described}
    return columns


raw_views, core_views, bias_views = (_views_of(schema) for schema in SCHEMAS)
