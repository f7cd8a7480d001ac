"""What assets are handed: where the data and the lake are. Opens nothing by itself."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from qilin_dagster.catalog import Catalog, load_catalog
from qilin_dagster.errors import InputError
from qilin_dagster.lake import Lake, LakeError
from qilin_dagster.settings import DUCKDB, Settings
from qilin_dagster.working_copy import bring_up_to_date, push_built

if TYPE_CHECKING:
    from qilin_dagster.engines.duckdb import DuckDBEngine

CATALOG = load_catalog()


class Lakehouse(dg.ConfigurableResource[None]):
    """Data folder and lake, a folder or an address; each left empty comes from QILIN_DATA and
    QILIN_LAKE."""

    data: str = ""
    lake: str = ""

    @cached_property
    def settings(self) -> Settings:
        settings = Settings.from_environment()
        if self.data:
            settings = replace(settings, data=Path(self.data).expanduser().absolute())
        if self.lake:
            settings = settings.with_lake(self.lake)
        return settings

    @contextlib.contextmanager
    def yield_for_execution(  # type: ignore[override]  # Declared to give None, it gives self.
        self, context: dg.InitResourceContext
    ) -> Iterator["Lakehouse"]:
        """A run is one build: it waits for its turn, and readers see it when no step failed.

        A lake with an address is brought up to date first, and pushed last. Dagster lets no run
        fail of its last step; a push that did not succeed is an error in the run's log and told
        where QILIN_NOTIFY says, and the next run that succeeds pushes.
        """
        if context.run is None or context.instance is None or context.log is None:
            yield self  # A sensor looks and builds nothing.
            return
        with self.store.building(wait=True):
            bring_up_to_date(self.settings, context.log.info, to_build=True)
            yield self
            failures = context.instance.all_logs(
                context.run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE
            )
            if not failures and self.store.tables():
                self.engine().serve()
                self._push(context.run, context.log)

    def _push(self, run: dg.DagsterRun, log: dg.DagsterLogManager) -> None:
        try:
            push_built(self.settings, log.info)
        except (InputError, LakeError) as error:
            from qilin_dagster.notifier import Failure, notify

            log.error(f"not pushed: {error}")
            if self.settings.notify is not None:
                notify(
                    self.settings.notify,
                    Failure(
                        text=f"qilin: the run {run.run_id[:8]} of {run.job_name} succeeded and was "
                        f"not pushed: {error}",
                        job=run.job_name,
                        run_id=run.run_id,
                        lake=str(self.settings.lake_url),
                        steps=(),
                    ),
                )

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
