"""Dagster's launcher of runs on this machine, which also says whether a run is still at work.

Dagster's own does not, so that a run whose process was killed, by a restart of the daemon or of the
machine, counts as running for good and keeps every later one waiting. With this, the daemon's
monitor sees it, marks it as failed, and run_retries of dagster.yaml goes on where it stopped.
"""

import os

from dagster import DagsterEventType, DagsterInstance, DagsterRun, DefaultRunLauncher
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus


class WatchedRunLauncher(DefaultRunLauncher):
    """``DefaultRunLauncher``, asked about the process that executes a run."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """RUNNING while the process is there, or none has been named yet; FAILED afterwards.

        Another program that the machine gave the same number is taken for it, until it ends.
        """
        pid = worker_pid(self._instance, run.run_id)
        if pid is None or is_alive(pid):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(
            WorkerStatus.FAILED, f"its process {pid} has ended without a word"
        )


def worker_pid(instance: DagsterInstance, run_id: str) -> int | None:
    """The process that executes a run: the last one its events name."""
    pids = [
        int(str(named.value))
        for entry in instance.all_logs(run_id, of_type=DagsterEventType.ENGINE_EVENT)
        if entry.dagster_event is not None
        and (named := entry.dagster_event.engine_event_data.metadata.get("pid")) is not None
    ]
    return pids[-1] if pids else None


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # Somebody else's.
    return True
