"""What runs by itself: never below a failed check, never two writers, nothing for ever."""

import errno
import os
from pathlib import Path

import dagster as dg
import pytest
import yaml

from qilin_dagster.assets.tables import ON_DEMAND, RETRIES, TRAINING, WRITER, retried
from qilin_dagster.automation import NIGHTLY, data_folder
from qilin_dagster.definitions import defs
from qilin_dagster.errors import InputError
from qilin_dagster.resources import Lakehouse
from qilin_dagster.run_launcher import WatchedRunLauncher, is_alive, worker_pid
from qilin_dagster.settings import REPOSITORY
from tests import published_log as log

GRAPH = defs.resolve_asset_graph()


def keys(*groups: str) -> set[dg.AssetKey]:
    return {key for key in GRAPH.get_all_asset_keys() if GRAPH.get(key).group_name in groups}


def test_every_asset_is_in_a_pool_of_one() -> None:
    settings = yaml.safe_load((REPOSITORY / "dagster.yaml").read_text(encoding="utf-8"))
    # By run: a pool that steps claim one by one would stay claimed by a build that was killed.
    assert settings["concurrency"]["pools"] == {"granularity": "run", "default_limit": 1}
    for key in GRAPH.get_all_asset_keys():
        is_trained = key in keys("training") or (
            key in keys("ablation") and key.path[-1] != "image_worth"
        )
        assert GRAPH.get(key).pools == {TRAINING if is_trained else WRITER}, key


def test_what_the_night_makes_has_a_date_of_expiry_and_all_below_the_data_follows() -> None:
    for key in GRAPH.get_all_asset_keys():
        node = GRAPH.get(key)
        assert (node.freshness_policy is not None) == (key in keys(*NIGHTLY)), key
        assert (node.automation_condition is None) == (key in keys("published")), key


def materialized(instance: dg.DagsterInstance, *wanted: dg.AssetKey) -> None:
    for key in wanted:
        instance.report_runless_asset_event(dg.AssetMaterialization(key))


def checked(
    instance: dg.DagsterInstance, key: dg.AssetKey, name: str, *, passed: bool, blocking: bool
) -> None:
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=key,
            check_name=name,
            passed=passed,
            severity=dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN,
            blocking=blocking,
        )
    )


def test_nothing_is_built_below_a_failed_blocking_check() -> None:
    instance = dg.DagsterInstance.ephemeral()
    labels = dg.AssetKey(["core", "relevance_labels"])
    # The features of both tasks; what made the words is left out, to be quick.
    children = GRAPH.get(labels).child_keys
    parents = {parent for child in children for parent in GRAPH.get(child).parent_keys}
    checks = {check for check in GRAPH.asset_check_keys if GRAPH.get(check).blocking}
    assert children
    assert any(check.asset_key == labels for check in checks)

    def build(*wanted: dg.AssetKey, broken: dg.AssetKey | None = None) -> None:
        materialized(instance, *wanted)
        for check in checks:
            if check.asset_key in wanted:
                passed = check.asset_key != broken
                checked(instance, check.asset_key, check.name, passed=passed, blocking=True)

    def requested(cursor: object = None) -> tuple[set[dg.AssetKey], object]:
        result = dg.evaluate_automation_conditions(
            defs, instance, asset_selection=dg.AssetSelection.assets(*children), cursor=cursor
        )
        return {key for key in children if result.get_num_requested(key)}, result.cursor

    build(*parents, *children)
    _, cursor = requested()
    build(labels, broken=labels)
    below, cursor = requested(cursor)
    assert below == set(), "a failed blocking check stops all of it"
    build(labels)
    below, cursor = requested(cursor)
    assert below == set(children), "and it goes on when the check passes"
    build(*children)
    assert requested(cursor)[0] == set()


def test_what_is_dear_is_made_once_it_was_asked_for_and_holds_nothing_up() -> None:
    instance = dg.DagsterInstance.ephemeral()
    dear = dg.AssetKey(["ablation", "cold_start"])
    assert ON_DEMAND in GRAPH.get(dear).tags
    overview = dg.AssetKey(["reports", "overview"])
    assert dear in GRAPH.get(overview).parent_keys
    for job in ("everything", "evaluate"):
        assert dear not in defs.resolve_job_def(job).asset_layer.executable_asset_keys
    parents = {*GRAPH.get(dear).parent_keys, *GRAPH.get(overview).parent_keys}
    parents -= {key for key in parents if ON_DEMAND in GRAPH.get(key).tags}
    checks = [c for c in GRAPH.asset_check_keys if GRAPH.get(c).blocking]

    def build(*wanted: dg.AssetKey) -> None:
        materialized(instance, *wanted)
        for check in checks:
            if check.asset_key in wanted:
                checked(instance, check.asset_key, check.name, passed=True, blocking=True)

    def requested(cursor: object = None) -> tuple[set[dg.AssetKey], object]:
        selection = dg.AssetSelection.assets(dear, overview)
        result = dg.evaluate_automation_conditions(
            defs, instance, asset_selection=selection, cursor=cursor
        )
        return {k for k in (dear, overview) if result.get_num_requested(k)}, result.cursor

    build(*parents, overview)
    _, cursor = requested()
    build(*parents)
    below, cursor = requested(cursor)
    assert below == {overview}, "the report does not wait for what nobody asked for"
    build(dear, overview)
    _, cursor = requested(cursor)
    build(*parents)
    assert requested(cursor)[0] == {dear, overview}, "once it is there, it follows"


class TestPartsOfTheImageArchive:
    @pytest.fixture
    def look(self, tmp_path: Path):
        data = log.write(tmp_path / "data")
        cursor: str | None = None

        def look() -> dg.SensorEvaluationContext:
            nonlocal cursor
            lakehouse = Lakehouse(data=str(data), lake=str(tmp_path / "lake"))
            with dg.build_sensor_context(
                cursor=cursor, resources={"lakehouse": lakehouse}
            ) as context:
                outcome = data_folder.evaluate_tick(context)
            cursor = outcome.cursor
            return outcome

        return data, look

    def test_a_new_part_is_built_once_it_holds_still(self, look) -> None:
        data, look = look
        look()
        assert len(look().run_requests) == 1
        assert look().run_requests == []
        part = data / "image" / "part_3"
        part.mkdir(parents=True)
        assert look().run_requests == []
        (part / "12").mkdir()
        os.utime(part, ns=(1, 2))
        assert "changing" in look().skip_message, "it is still being unpacked"
        assert len(look().run_requests) == 1
        assert look().run_requests == []

    def test_a_lake_without_the_part_is_behind(self, look, tmp_path: Path) -> None:
        from qilin_dagster.lake import Lake
        from qilin_dagster.sources.published import inspect
        from qilin_dagster.sources.register import is_registered, register_all

        data, _ = look
        lake = Lake(tmp_path / "lake")
        register_all(lake, inspect(data), "auto")
        assert is_registered(lake, data)
        (data / "image" / "part_0").mkdir(parents=True)
        assert not is_registered(lake, data)


class TestRetries:
    @pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
    def test_a_disk_that_did_not_answer_is_asked_again(self, number: int) -> None:
        with pytest.raises(dg.RetryRequested) as asked, retried():
            raise OSError(number, "try again")
        assert asked.value.max_retries == RETRIES

    @pytest.mark.parametrize(
        "error",
        [
            InputError("table dqa is empty"),
            OSError(errno.ENOSPC, "no space left"),
            FileNotFoundError(errno.ENOENT, "gone"),
            ValueError("bad data"),
            RuntimeError("a fault of the program"),
        ],
    )
    def test_bad_data_and_faults_are_not(self, error: Exception) -> None:
        with pytest.raises(type(error)) as raised, retried():
            raise error
        assert raised.value is error

    def test_a_full_gpu_is_asked_again(self) -> None:
        # Of the name of torch's, which would cost seconds to import.
        full = type("OutOfMemoryError", (RuntimeError,), {})
        with pytest.raises(dg.RetryRequested), retried():
            raise full("CUDA out of memory")


class TestLostRuns:
    """The launcher knows a run whose process is gone."""

    def run(self, instance: dg.DagsterInstance) -> dg.DagsterRun:
        @dg.job
        def some() -> None:
            pass

        return some.execute_in_process(
            instance=instance,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        ).dagster_run

    def test_a_process_that_is_there_is_at_work(self) -> None:
        with dg.DagsterInstance.ephemeral() as instance:
            run = self.run(instance)
            assert worker_pid(instance, run.run_id) == os.getpid()
            launcher = WatchedRunLauncher()
            launcher.register_instance(instance)
            assert launcher.supports_check_run_worker_health
            assert launcher.check_run_worker_health(run).status.value == "RUNNING"

    def test_a_process_that_is_gone_has_failed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        assert not is_alive(child)
        assert is_alive(1)
        monkeypatch.setattr("qilin_dagster.run_launcher.worker_pid", lambda *_: child)
        with dg.DagsterInstance.ephemeral() as instance:
            launcher = WatchedRunLauncher()
            launcher.register_instance(instance)
            found = launcher.check_run_worker_health(self.run(instance))
        assert found.status.value == "FAILED"
        assert str(child) in (found.msg or "")


def test_the_jobs_are_those_of_the_readme() -> None:
    jobs = {job.name for job in defs.resolve_all_job_defs() if not job.name.startswith("__")}
    assert jobs == {
        *("everything", "views", "train_search", "train_recommendation", "evaluate", "smoke"),
    }
