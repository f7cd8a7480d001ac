"""The doctor names what stands in the way and what to do, and finds nothing where nothing is."""

import importlib.metadata
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from qilin_dagster import doctor
from qilin_dagster.doctor import Finding, examine, format_findings
from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.lake import Lake
from qilin_dagster.settings import REPOSITORY, Settings
from tests import published_log as log


def found(settings: Settings, about: str) -> Finding:
    return next(finding for finding in examine(settings) if finding.about == about)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=None, lake=tmp_path / "lake")


def test_on_this_machine_nothing_stands_in_the_way(settings: Settings) -> None:
    findings = examine(settings)
    assert [one.about for one in findings if one.verdict == "fault"] == []
    assert "duckdb" in found(settings, "packages").found
    assert "nothing stands in the way" in format_findings(findings)
    for one in findings:
        assert one.verdict == "ok" or one.what_to_do, one


def test_a_package_that_is_missing_or_of_another_version_is_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        importlib.metadata,
        "requires",
        lambda name: ["no-such-package>=1", "duckdb>=99", 'other; extra == "dev"'],
    )
    packages = found(settings, "packages")
    assert packages.verdict == "fault"
    assert "no-such-package is missing" in packages.found
    assert "not >=99" in packages.found
    assert "other" not in packages.found


def test_little_memory_and_little_disk_are_said(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "BUILD_GIGABYTES_OF_MEMORY", 1e6)
    monkeypatch.setattr(doctor, "BUILD_GIGABYTES_OF_DISK", 1e9)
    assert "QILIN_MEMORY_LIMIT" in found(settings, "memory").what_to_do
    assert found(settings, "disk of the lake").verdict == "note"
    usage = shutil.disk_usage(settings.lake.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
    assert found(settings, "disk of the lake").verdict == "fault"


def test_a_gpu_that_was_asked_for_and_is_not_there_is_a_fault(settings: Settings) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("A GPU IS HERE: its absence is not checked")
    assert found(settings, "gpu").verdict == "note"
    assert found(replace(settings, device="cuda"), "gpu").verdict == "fault"


class TestData:
    def test_a_good_folder_is_counted(self, settings: Settings, tiny_data: Path) -> None:
        data = found(replace(settings, data=tiny_data), "data folder")
        assert data.verdict == "ok"
        assert "7 requests, 6 notes, 2 users" in data.found

    def test_each_fault_of_a_folder_is_one(self, settings: Settings, tmp_path: Path) -> None:
        data = log.write(tmp_path / "data")
        shutil.rmtree(data / "dqa")
        (data / "notes" / "train-00000-of-00001.parquet").write_bytes(b"no parquet")
        faults = [
            finding.found
            for finding in examine(replace(settings, data=data))
            if finding.verdict == "fault"
        ]
        assert len(faults) == 2
        assert any("dqa" in fault for fault in faults)

    def test_parts_of_the_image_archive_are_counted_and_odd_names_said(
        self, settings: Settings, tmp_path: Path
    ) -> None:
        given = replace(settings, data=log.write(tmp_path / "data"))
        assert "optional" in found(given, "images").what_to_do
        for part in ("part_0", "part_12"):
            (tmp_path / "data" / "image" / part).mkdir(parents=True)
        assert found(given, "images").found == "2 parts of the archive"
        (tmp_path / "data" / "image" / "images").mkdir()
        assert "image/images is no part_<n>" in found(given, "images").found


class TestLake:
    def test_a_whole_lake_is_well_and_one_without_an_end_is_not(
        self, tiny_engine: DuckDBEngine, settings: Settings, tmp_path: Path
    ) -> None:
        shutil.copytree(tiny_engine.lake.root, settings.lake)
        (settings.lake / "lake.json").unlink(missing_ok=True)
        unfinished = found(settings, "lake")
        assert unfinished.verdict == "fault"
        assert "goes on where it stopped" in unfinished.what_to_do
        DuckDBEngine(Lake(settings.lake), settings).serve()
        assert found(settings, "lake").verdict == "ok"

    def test_settings_of_an_older_version_are_noted(
        self, tiny_engine: DuckDBEngine, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("DAGSTER_HOME", raising=False)
        shutil.copytree(tiny_engine.lake.root, settings.lake)
        Lake(settings.lake).serve()
        (settings.lake / ".dagster").mkdir()
        present = settings.lake / ".dagster" / "dagster.yaml"
        shutil.copy(REPOSITORY / "dagster.yaml", present)
        assert [one for one in examine(settings) if one.about == "runs"] == []
        present.write_text("telemetry: {}", encoding="utf-8")
        assert "delete it" in found(settings, "runs").what_to_do

    def test_a_damaged_lake_is_named(self, tiny_engine: DuckDBEngine, settings: Settings) -> None:
        shutil.copytree(tiny_engine.lake.root, settings.lake)
        manifest = settings.lake / "core" / "impressions" / "manifest.json"
        manifest.write_text("{", encoding="utf-8")
        damaged = found(settings, "lake")
        assert damaged.verdict == "fault"
        assert "core" in damaged.found


def test_the_exit_code_tells_a_script(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(Path(sys.executable).parent / "qilin", "doctor", "--json"),
            *("--data", tmp_path / "nowhere", "--lake", tmp_path / "lake"),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    findings = json.loads(done.stdout)["findings"]
    assert {"python", "packages", "memory", "gpu", "data folder", "lake"} <= {
        finding["about"] for finding in findings
    }
