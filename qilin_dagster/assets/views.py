"""Stage 2, views: each file of sql/ is one asset; key, parents, docs and checks come from files.

One subsettable multi-asset per schema, parents first in one process. A failed blocking check keeps
everything below it from being built, within the schema here and across schemas by Dagster. The
quarantine of a published table has one check more, which knows the limit of the settings.
"""

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import dagster as dg

from qilin_dagster.assets.tables import WRITER, preview, written_in
from qilin_dagster.catalog import SCHEMAS, View, column_lineage
from qilin_dagster.checks import check_results, check_specs, failed_blocking, suite_of
from qilin_dagster.errors import InputError
from qilin_dagster.expectations import ExpectationResult, Suite
from qilin_dagster.outcomes import Checked, check, record
from qilin_dagster.resources import CATALOG, Lakehouse
from qilin_dagster.settings import Settings
from qilin_dagster.sources.layout import TABLES

if TYPE_CHECKING:
    import duckdb

    from qilin_dagster.engines.duckdb import Built, DuckDBEngine

log = logging.getLogger("qilin")

LIMIT_CHECK = "few_rows_are_set_aside"
LIMIT_WHY = (
    "Where much cannot be used, what is left is another log, and the fault is in the source."
)

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
        metadata={
            "dagster/relation_identifier": view.qualified,
            **written_in(view.path),
        },
    )


def limit_spec(view: View) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        name=LIMIT_CHECK,
        asset=dg.AssetKey([view.schema, view.name]),
        description=LIMIT_WHY,
        blocking=True,
    )


def _is_quarantine(view: View) -> bool:
    """True for the quarantine of one published table, which every row of it can end in."""
    return view.schema == "quarantine" and view.name in TABLES


def _views_of(schema: str) -> dg.AssetsDefinition:
    views = [view for view in CATALOG.views if view.schema == schema]

    @dg.multi_asset(
        name=f"{schema}_views",
        specs=[asset_spec(view) for view in views],
        check_specs=[
            *(spec for view in views for spec in check_specs(SUITES[view.qualified])),
            *(limit_spec(view) for view in views if _is_quarantine(view)),
        ],
        can_subset=True,
        pool=WRITER,
    )
    def build_views(
        context: dg.AssetExecutionContext, lakehouse: Lakehouse
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        engine = lakehouse.engine()
        connection = engine.connect()
        try:
            yield from _build(context, lakehouse, engine, connection, views)
        finally:
            connection.close()

    return build_views


def _build(
    context: dg.AssetExecutionContext,
    lakehouse: Lakehouse,
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
            with engine.naming_damage(view.qualified):
                metadata = view_metadata(connection, view, built, seconds)
            yield dg.MaterializeResult(
                key,
                metadata=metadata,
                data_version=dg.DataVersion(built.version),
            )
        if key in context.selected_asset_keys and _is_quarantine(view):
            _refuse_if_strict(lakehouse.settings, connection, view)
        if wanted:
            suite = SUITES[view.qualified]
            checked = check(engine, connection, suite, wanted - {LIMIT_CHECK})
            if any(result.error for result in checked.results) and (
                damage := engine.find_damage(view.qualified)
            ):
                # The text of the notes is first read here; reading it twice would cost seconds.
                raise InputError(damage)
            if LIMIT_CHECK in wanted:
                limit = _check_limit(lakehouse.settings, connection, view)
                checked = replace(checked, results=[*checked.results, limit])
            outcomes.append(checked)
            yield from check_results(engine.lake, suite, checked.results)
            failed = failed_blocking(checked.results)
            if failed:
                log.error("%s: blocking check failed: %s", view.qualified, ", ".join(failed))
                for descendant in engine.catalog.descendants(view.qualified):
                    blocked.setdefault(descendant, view.qualified)
    record(engine.lake, outcomes)


def _check_limit(
    settings: Settings, connection: "duckdb.DuckDBPyConnection", view: View
) -> ExpectationResult:
    """Not an expectation of a suite: its limit is a setting, its message a sum over rows."""
    from qilin_dagster.quarantine import limit_in_words, set_aside

    found = set_aside(connection, view.name)
    is_within = found.is_within(settings)
    return ExpectationResult(
        name=LIMIT_CHECK,
        success=is_within,
        severity="critical",
        why=LIMIT_WHY,
        element_count=found.n_published,
        unexpected_count=found.n_rows,
        unexpected_percent=100 * found.share,
        observed_value=None,
        examples=tuple({"reason": reason, "n_rows": n} for reason, n in found.reasons),
        failing_rows_sql=f"from {view.qualified}" if found.n_rows else None,
        error=None if is_within else f"{found.describe()}; the limit is {limit_in_words(settings)}",
        raw={},
    )


def _refuse_if_strict(
    settings: Settings, connection: "duckdb.DuckDBPyConnection", view: View
) -> None:
    from qilin_dagster.quarantine import set_aside

    if settings.is_strict and (found := set_aside(connection, view.name)).n_rows:
        raise dg.Failure(
            description=f"{found.describe_first()}; stopped because of --strict",
            allow_retries=False,
        )


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


def _parent_columns(
    connection: "duckdb.DuckDBPyConnection", view: View
) -> dict[str, dict[str, dict[str, str]]]:
    columns: dict[str, dict[str, dict[str, str]]] = {}
    for parent in view.parents:
        schema, _, name = parent.partition(".")
        described = connection.execute(f"describe {parent}").fetchall()
        columns.setdefault(schema, {})[name] = {column[0]: column[1] for column in described}
    return columns


quarantine_views, raw_views, core_views, bias_views = (_views_of(schema) for schema in SCHEMAS)
