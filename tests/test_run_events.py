"""The record of events: Dagster's files, however many events they take."""

import shutil
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from sqlalchemy import create_engine

from qilin_dagster import run_events
from qilin_dagster.settings import REPOSITORY


@dg.asset(check_specs=[dg.AssetCheckSpec("holds", asset="made")])
def made() -> dg.MaterializeResult:
    return dg.MaterializeResult(
        metadata={"rows": 3}, check_results=[dg.AssetCheckResult(passed=True, check_name="holds")]
    )


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(REPOSITORY / "dagster.yaml", tmp_path / "dagster.yaml")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    return tmp_path


def test_dagsters_own_class_reads_what_was_written(home: Path) -> None:
    with dg.DagsterInstance.get() as instance:
        storage = instance.event_log_storage
        assert isinstance(storage, run_events.KeptSqliteEventLog)
        run = dg.materialize([made], instance=instance)
        # The UI follows a run by its file, so each event has to reach it, not SQLite's log alone.
        file = Path(storage.path_for_shard(run.run_id))
        before = file.read_bytes()
        instance.report_engine_event("one more", run.dagster_run)
        assert file.read_bytes() != before
        written = instance.all_logs(run.run_id)
    (home / "dagster.yaml").unlink()
    with dg.DagsterInstance.get() as instance:
        assert type(instance.event_log_storage) is SqliteEventLogStorage
        assert instance.all_logs(run.run_id) == written
        materialization = instance.get_latest_materialization_event(dg.AssetKey("made"))
        assert materialization is not None
        assert materialization.run_id == run.run_id
        checks = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(dg.AssetKey("made"), "holds"), limit=5
        )
    assert [check.run_id for check in checks] == [run.run_id]


def test_an_engine_is_made_for_a_file_not_for_an_event(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_for: list[str] = []

    def counted(url: str, **options: object):
        made_for.append(url)
        return create_engine(url, **options)

    monkeypatch.setattr(run_events, "create_engine", counted)
    monkeypatch.setattr(run_events, "MOST_ENGINES", 2)
    with dg.DagsterInstance.get() as instance:
        storage = instance.event_log_storage
        assert isinstance(storage, run_events.KeptSqliteEventLog)
        runs = [dg.materialize([made], instance=instance).run_id for _ in range(2)]
        assert len(made_for) == len(set(made_for)) == 3
        assert set(storage._engines) == {"index", runs[1]}
        assert len(instance.all_logs(runs[0])) > 10
        assert set(storage._engines) == {"index", runs[0]}
