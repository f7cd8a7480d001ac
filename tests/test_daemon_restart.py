"""The daemon as it runs: killed in the middle of a run and started anew; two writers at once."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import dagster as dg
import pytest
import yaml

from qilin_dagster.lake import Lake
from qilin_dagster.settings import REPOSITORY
from tests import published_log as log

T = TypeVar("T")
BIN = Path(sys.executable).parent
PATIENCE_S = 600


def until(look: Callable[[], T | None], what: str) -> T:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.2)
    pytest.fail(f"{what} did not come within {PATIENCE_S} s")


class Home:
    """A lake, a record of runs, and daemons over them."""

    def __init__(self, folder: Path) -> None:
        self.data = log.write(folder / "data")
        self.lake = Lake(folder / "lake")
        self.home = folder / "home"
        self.home.mkdir()
        settings = yaml.safe_load((REPOSITORY / "dagster.yaml").read_text(encoding="utf-8"))
        # The repository's, looked at more often.
        settings["run_monitoring"]["poll_interval_seconds"] = 2
        # As somebody with more memory would set it: then only the pools keep runs apart.
        settings["concurrency"]["runs"]["max_concurrent_runs"] = 3
        (self.home / "dagster.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("QILIN")},
            "DAGSTER_HOME": str(self.home),
            "QILIN_DATA": str(self.data),
            "QILIN_LAKE": str(self.lake.root),
        }
        self.daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        # In a session of its own, so that it can be killed with all it started and nothing else.
        daemon = subprocess.Popen(
            [BIN / "dagster-daemon", "run", "-w", "workspace.yaml"],
            cwd=REPOSITORY,
            env=self.environment,
            stdout=(self.home / "daemon.log").open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.daemons.append(daemon)
        return daemon

    def kill(self, daemon: subprocess.Popen[bytes]) -> None:
        os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()

    def launch(self, job: str) -> None:
        self._dagster("job", "launch", "-j", job)

    def stop(self, sensor: str) -> None:
        self._dagster("sensor", "stop", sensor)

    def _dagster(self, *arguments: str) -> None:
        subprocess.run(
            [BIN / "dagster", *arguments, "-w", "workspace.yaml"],
            cwd=REPOSITORY,
            env=self.environment,
            check=True,
            capture_output=True,
        )


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    for daemon in made.daemons:
        if daemon.poll() is None:
            made.kill(daemon)


@pytest.mark.slow
def test_a_run_whose_daemon_was_killed_goes_on_where_it_stopped(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = tmp_path / "undisturbed"
    subprocess.run(
        [BIN / "qilin", "build", "--select", "raw,core,bias", "--lake", undisturbed],
        env={**home.environment, "DAGSTER_HOME": str(tmp_path / "other")},
        check=True,
        capture_output=True,
    )
    # Dagster's commands read it from the environment.
    monkeypatch.setenv("DAGSTER_HOME", str(home.home))
    # Runs of theirs would only come in between.
    for sensor in ("data_folder", "follow_parents"):
        home.stop(sensor)
    daemon = home.start()
    with dg.DagsterInstance.get() as instance:
        home.launch("views")

        def runs(*statuses: dg.DagsterRunStatus) -> list[dg.DagsterRun]:
            every = instance.get_runs(dg.RunsFilter(job_name="views"))
            return [run for run in every if not statuses or run.status in statuses]

        (run,) = runs()
        until(lambda: home.lake.manifest("core.requests"), "the middle of the run")
        home.kill(daemon)
        assert runs()[0].status == dg.DagsterRunStatus.STARTED, "nobody is left to say it failed"
        done = {step.step_key for step in instance.get_run_step_stats(run.run_id) if step.end_time}
        assert done, "it was killed before anything was done"
        assert home.lake.for_readers().tables() == [], "readers see whole builds only"

        home.start()
        (again,) = until(lambda: runs(dg.DagsterRunStatus.SUCCESS), "the run that goes on")
        assert again.parent_run_id == run.run_id
        assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE
        repeated = {step.step_key for step in instance.get_run_step_stats(again.run_id)}
        assert not done & repeated, "what was done is not done again"
    assert home.lake.verify() == []
    assert home.lake.for_readers().content_hash() == (
        Lake(undisturbed).for_readers().content_hash()
    )


@pytest.mark.slow
def test_two_writers_wait_for_each_other(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(home.home))
    for sensor in ("data_folder", "follow_parents"):
        home.stop(sensor)
    # On a lake without tables they fail soon; that they do not overlap is what is asked.
    home.launch("evaluate")
    home.start()
    at_work: list[int] = []
    with dg.DagsterInstance.get() as instance:
        # Dagster learns of a pool from the first run that needs it, and holds back later ones.
        until(lambda: all(run.is_finished for run in instance.get_runs()), "the first run")
        before = {run.run_id for run in instance.get_runs()}
        home.launch("evaluate")
        home.launch("evaluate")

        def are_done() -> bool:
            runs = instance.get_runs()
            at_work.append(
                sum(
                    run.status in (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED)
                    for run in runs
                )
            )
            return all(run.is_finished for run in runs)

        until(are_done, "the end of both runs")
        first, second = sorted(
            (
                instance.get_run_stats(run.run_id)
                for run in instance.get_runs()
                if run.run_id not in before
            ),
            key=lambda stats: stats.start_time,
        )
    assert max(at_work) == 1
    assert second.start_time >= first.end_time
