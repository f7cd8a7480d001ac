"""`torchrun -m qilin_dagster.train`: two processes train what a build then finds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qilin_dagster.lake import Lake
from qilin_dagster.settings import REPOSITORY
from qilin_dagster.sources.twin import write_twin

BIN = Path(sys.executable).parent


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def test_a_ranker_that_there_is_not_is_named(tmp_path: Path) -> None:
    refused = run(sys.executable, "-m", "qilin_dagster.train", "dcn_v3", "--lake", tmp_path)
    assert refused.returncode == 2
    assert "training.dcn_v3 is no ranker; there are training." in refused.stderr
    assert "training.bm25_search" not in refused.stderr, "which learns nothing"


@pytest.mark.slow
def test_two_processes_train_what_a_build_then_finds(tmp_path: Path) -> None:
    data, lake = tmp_path / "data", tmp_path / "lake"
    write_twin(data, scale=0.004, seed=7)
    select = "quarantine,raw,core,features"
    built = run(BIN / "qilin", "build", "--data", data, "--lake", lake, "--select", select)
    assert built.returncode == 0, built.stderr
    torchrun = (BIN / "torchrun", "--standalone", "--nproc-per-node", 2)
    trained = run(*torchrun, "-m", "qilin_dagster.train", "dcn_v2_search", QILIN_LAKE=str(lake))
    assert trained.returncode == 0, trained.stderr
    manifest = Lake(lake).manifest("training.dcn_v2_search")
    assert manifest is not None
    history = manifest.facts["history"]
    assert history["n_fit_requests"] > 50
    # Once, by the main process: nothing is left aside.
    assert not list(lake.glob(".unfinished/*"))
    assert not list(lake.glob(".staging/*"))
    # What is learnt hangs on how the batches were cut, so a build of that number has it.
    found = run(
        *(BIN / "qilin", "build", "--lake", lake, "--select", "training.dcn_v2_search"),
        QILIN_PROCESSES="2",
    )
    assert found.returncode == 0, found.stderr
    after = Lake(lake).manifest("training.dcn_v2_search")
    assert after is not None
    assert after.to_json() == manifest.to_json(), "nothing was trained anew"
