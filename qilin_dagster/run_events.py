"""Dagster's record of events in SQLite, written over engines that are kept.

Dagster's own class makes an engine and a connection for each of the some 2,500 events of a build
and closes them again: SQLAlchemy compiles every statement anew and SQLite folds its log back into
the file each time, which took a third of the build of a small log. Files and tables are the same:
either class reads what the other wrote.
"""

import contextlib
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dagster import StringSource
from dagster._core.storage.event_log.sqlite.sqlite_event_log import (
    INDEX_SHARD_NAME,
    SqliteEventLogStorage,
)
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, NullPool, QueuePool, create_engine, event

# A build writes the file of one run, a page of the UI reads those of a few.
MOST_ENGINES = 8
# What Dagster waits for another process that writes.
BUSY_S = 30


class KeptSqliteEventLog(SqliteEventLogStorage):
    """``SqliteEventLogStorage`` with an engine for each file instead of one for each event.

    The connection to the index is kept too. That to a run's file is closed after each event as
    before: the UI follows a run by the file's changes, which SQLite writes on closing.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        super().__init__(base_dir, inst_data)

    @classmethod
    def config_type(cls) -> Any:
        return {"home": StringSource}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> "KeptSqliteEventLog":
        # Where Dagster's own class keeps them.
        return cls(str(Path(config_value["home"]) / "history" / "runs"), inst_data)

    @contextlib.contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            engine = self._engine(shard)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.begin() as connection:
                yield connection

    def _engine(self, shard: str) -> Engine:
        if shard in self._engines:
            self._engines.move_to_end(shard)
            return self._engines[shard]
        engine = create_engine(
            self.conn_string_for_shard(shard),
            poolclass=QueuePool if shard == INDEX_SHARD_NAME else NullPool,
            connect_args={"timeout": BUSY_S},
        )
        event.listen(engine, "connect", _sync_at_checkpoints)
        self._engines[shard] = engine
        if len(self._engines) > MOST_ENGINES:
            oldest = next(name for name in self._engines if name != INDEX_SHARD_NAME)
            self._engines.pop(oldest).dispose()
        return engine

    def dispose(self) -> None:
        while self._engines:
            self._engines.popitem()[1].dispose()
        super().dispose()


def _sync_at_checkpoints(connection: Any, _: Any) -> None:
    """Safe with SQLite's write-ahead log: a loss of power costs the last events, no file."""
    connection.execute("PRAGMA synchronous=NORMAL")
