"""What assets are handed: where the data and the lake are. Opens nothing by itself."""

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from qilin_dagster.catalog import Catalog, load_catalog
from qilin_dagster.lake import Lake
from qilin_dagster.settings import Settings

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

    @property
    def store(self) -> Lake:
        return Lake(self.settings.lake)

    @property
    def catalog(self) -> Catalog:
        return CATALOG

    def engine(self) -> "DuckDBEngine":
        # DuckDB is not needed to show the graph.
        from qilin_dagster.engines.duckdb import DuckDBEngine

        return DuckDBEngine(self.store, self.settings, CATALOG)
