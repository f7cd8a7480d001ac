"""The README tells the truth about commands, files and schemas."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.settings import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
QILIN = Path(sys.executable).parent / "qilin"
COMMANDS = sorted(set(re.findall(r"^\| `qilin ([\w-]+)", README, flags=re.MULTILINE)))


def code_blocks(language: str) -> list[str]:
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
    return [block for name, block in fences if name == language]


def test_every_command_is_in_the_readme() -> None:
    told = subprocess.run([QILIN, "--help"], capture_output=True, text=True, check=True).stdout
    listed = re.findall(r"^  ([\w-]+)  ", told.split("Commands:")[1], flags=re.MULTILINE)
    assert sorted(listed) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_named_in_the_readme_exists(command: str) -> None:
    told = subprocess.run(
        [QILIN, command, "--help"], capture_output=True, text=True, check=True
    ).stdout
    for line in README.splitlines():
        for used in re.findall(rf"qilin {command} ([^`|]*)", line):
            for option in re.findall(r"--[a-z-]+", used):
                assert option in told, line


def test_every_make_target_exists() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)


def test_the_tree_is_on_the_disk() -> None:
    (tree,) = [block for block in code_blocks("") if "qilin_dagster/\n" in block]
    for line in tree.splitlines():
        names = re.split(r"\s{2,}", line.strip())[0]
        folder = "qilin_dagster" if line.startswith("  ") else ""
        # sql/{raw,core}/<view>.sql stands for the folder sql.
        for name in re.split(r",\s*", re.sub(r"[{<].*", "", names)):
            path = name.rstrip("/")
            assert (REPOSITORY / folder / path).exists(), name


def test_every_schema_of_sql_is_described() -> None:
    for schema in ("quarantine", "raw", "core", "bias"):
        assert f"| `{schema}` |" in README


def test_the_sql_examples_run(tiny_engine: DuckDBEngine) -> None:
    statements = [
        shlex.split(line, comments=True)[-1]
        for block in code_blocks("sh")
        for line in block.splitlines()
        if line.startswith("qilin sql") and '"' in line
    ]
    assert len(statements) >= 3
    connection = tiny_engine.connect(comments=True)
    for statement in statements:
        # A clean log has nothing set aside.
        assert connection.sql(statement).fetchall() or "quarantine" in statement


def test_the_python_example_runs(
    tiny_engine: DuckDBEngine, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QILIN_LAKE", str(tiny_engine.lake.root))
    (example,) = code_blocks("python")
    exec(compile(example, "README.md", "exec"), {})
    assert "request_id" in capfd.readouterr().out


def test_the_first_look_runs(tiny_engine: DuckDBEngine, tmp_path: Path) -> None:
    looked = subprocess.run(
        [sys.executable, REPOSITORY / "examples" / "first_look.py"],
        cwd=tmp_path,
        env={**os.environ, "QILIN_LAKE": str(tiny_engine.lake.root), "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    for word in ("position_bin", "shape: ", "Click rate in search by position", "#####"):
        assert word in looked.stdout
    assert "examples/first_look.py" in README
