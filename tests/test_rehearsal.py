"""The smoke job: it fails in words, touches nothing of the lake, and the whole of it works."""

import os
from pathlib import Path

import pytest

from qilin_dagster.automation import smoke
from qilin_dagster.rehearsal import RehearsalError, rehearse_in

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def test_what_failed_is_said(tmp_path: Path) -> None:
    lines: list[str] = []
    with pytest.raises(RehearsalError, match="qilin twin ended with 2") as error:
        rehearse_in(tmp_path, -1.0, lines.append)
    assert lines[-1] in str(error.value)
    assert "scale" in lines[-1]


def test_the_job_tells_what_it_did_and_cleans_up(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []

    def rehearse(folder: Path, scale: float, report) -> dict[str, int]:
        seen.append(folder)
        assert folder.is_dir()
        return {"tables": 80, "scale": scale}

    monkeypatch.setattr("qilin_dagster.rehearsal.rehearse_in", rehearse)
    config = {"ops": {"rehearse": {"config": {"scale": 0.5}}}, **QUIET}
    result = smoke.execute_in_process(run_config=config)
    assert result.success
    (output,) = [event for event in result.all_events if event.is_successful_output]
    metadata = output.step_output_data.metadata
    assert (metadata["tables"].value, metadata["scale"].value) == (80, 0.5)
    assert not seen[0].exists()


def test_the_job_fails_with_the_last_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    def rehearse(folder: Path, scale: float, report) -> dict[str, int]:
        raise RehearsalError("qilin build ended with 1:\nno memory")

    monkeypatch.setattr("qilin_dagster.rehearsal.rehearse_in", rehearse)
    result = smoke.execute_in_process(run_config=QUIET, raise_on_error=False)
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "no memory" in failure.step_failure_data.user_failure_data.description


@pytest.mark.slow
def test_all_of_it_works_and_leaves_the_lake_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = tmp_path / "lake"
    monkeypatch.setenv("QILIN_LAKE", str(lake))
    monkeypatch.setenv("QILIN_DATA", str(tmp_path / "nowhere"))
    found = rehearse_in(tmp_path / "rehearsal", 0.002, print)
    assert found["pages"] > 8
    assert found["tables"] > 80
    assert not lake.exists()
    assert os.environ["QILIN_LAKE"] == str(lake)
