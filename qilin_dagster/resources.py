"""What assets are handed: where the data and the lake are. Opens nothing by itself."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from qilin_dagster.catalog import Catalog, load_catalog
from qilin_dagster.lake import Lake
from qilin_dagster.settings import DUCKDB, Settings

if TYPE_CHECKING:
    from qilin_dagster.engines.duckdb import DuckDBEngine

CATALOG = load_catalog()


class Lakehouse(dg.ConfigurableResource[None]):
    """Data folder and lake; each left empty comes from QILIN_DATA and QILIN_LAKE."""

    data: str = ""
    lake: str = ""

    @cached_property
    def settings(self) -> Settings:
        settings = Settings.from_environment()
        if self.data:
            settings = replace(settings, data=Path(self.data).expanduser().absolute())
        if self.lake:
            settings = replace(settings, lake=Path(self.lake).expanduser().absolute())
        return settings

    @contextlib.contextmanager
    def yield_for_execution(  # type: ignore[override]  # Declared to give None, it gives self.
        self, context: dg.InitResourceContext
    ) -> Iterator["Lakehouse"]:
        """A run is one build: it waits for its turn, and readers see it when no step failed."""
        if context.run is None or context.instance is None:
            yield self  # A sensor looks and builds nothing.
            return
        with self.store.building(wait=True):
            yield self
            failures = context.instance.all_logs(
                context.run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE
            )
            if not failures and self.store.tables():
                self.engine().serve()

    @property
    def store(self) -> Lake:
        return Lake(self.settings.lake)

    @property
    def catalog(self) -> Catalog:
        return CATALOG

    def engine(self) -> "DuckDBEngine":
        # DuckDB is not needed to show the graph, and Spark only by those who name one.
        if self.settings.engine != DUCKDB:
            from qilin_dagster.engines.spark_connect import SparkConnectEngine

            return SparkConnectEngine(self.store, self.settings, CATALOG)
        from qilin_dagster.engines.duckdb import DuckDBEngine

        return DuckDBEngine(self.store, self.settings, CATALOG)
