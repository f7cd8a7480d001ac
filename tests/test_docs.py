"""README and docs tell the truth about commands, files, settings and schemas."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

from qilin_dagster.catalog import load_catalog
from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.lake import Lake
from qilin_dagster.settings import REPOSITORY, SQL_ROOT, Settings
from qilin_dagster.sources.published import inspect
from qilin_dagster.sources.register import register_all

DOCS = {
    path.relative_to(REPOSITORY).as_posix(): path.read_text(encoding="utf-8")
    for path in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")))
}
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
SETTINGS = (REPOSITORY / "qilin_dagster" / "settings.py").read_text(encoding="utf-8")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
QILIN = Path(sys.executable).parent / "qilin"
COMMANDS = sorted(set(re.findall(r"^\| `qilin ([\w-]+)", README, flags=re.MULTILINE)))


def code_blocks(language: str, text: str = README) -> list[str]:
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    return [block for name, block in fences if name == language]


COMMAND_LINES = [
    pytest.param(words, id=f"{path}: {line}")
    for path, text in DOCS.items()
    for block in code_blocks("sh", text)
    for line in block.splitlines()
    if (words := shlex.split(line, comments=True))
]


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
        for text in DOCS.values()
        for block in code_blocks("sh", text)
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


@cache
def help_of(*command: str) -> str:
    told = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True)
    return told.stdout


@pytest.mark.parametrize("words", COMMAND_LINES)
def test_every_command_line_of_the_docs_can_be_given(words: list[str]) -> None:
    """Each is parsed by what it names: unknown programs, commands, options and settings fail."""
    match words:
        case ["qilin", command, *rest]:
            assert command in COMMANDS
            offered = help_of(str(QILIN), command)
            for word in rest:
                if word.startswith("--"):
                    assert word in offered, word
            if "-f" in rest:
                asked = rest[rest.index("-f") + 1]
                assert asked.startswith("my_") or (REPOSITORY / asked).exists()
            if "--select" in rest:
                from qilin_dagster.build import selected_keys

                assert selected_keys((rest[rest.index("--select") + 1],))
        case ["make", target]:
            makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
            assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)
        case ["dg", "dev"]:
            assert (QILIN.parent / "dg").exists()
        case ["hf", "download", _, *rest]:
            offered = help_of(str(QILIN.parent / "hf"), "download")
            for word in rest:
                if word.startswith("--"):
                    assert word in offered, word
        case ["export", setting]:
            name, _, value = setting.partition("=")
            assert re.search(rf'"{name}"', SETTINGS), name
            assert value
        case ["pip", "install", "-e", what] | ["uv", "pip", "install", _, "-e", what]:
            extras = re.findall(r"\[(\w+)\]", what)
            assert set(extras) <= set(PROJECT["project"]["optional-dependencies"])
        case ["uv", "venv", _]:
            pass  # Another project's command, of one word.
        case _:
            pytest.fail(f"nothing here knows how to read {shlex.join(words)}")


@pytest.mark.parametrize("path", DOCS)
def test_every_link_leads_to_a_file(path: str) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", DOCS[path])
    for link in links:
        if not link.startswith("http"):
            assert (REPOSITORY / path).parent.joinpath(link).exists(), link


def test_every_setting_is_told_and_every_told_one_exists() -> None:
    told = set(re.findall(r"QILIN_[A-Z_]+[A-Z]", "".join(DOCS.values())))
    # A key is read where it is used, and kept nowhere.
    read = "".join(
        path.read_text(encoding="utf-8") for path in (REPOSITORY / "qilin_dagster").rglob("*.py")
    )
    known = set(re.findall(r'"(QILIN_[A-Z_]+)"', read))
    assert known - told <= {"QILIN_SEARCH_CLOCK_OFFSET"}, "an option of build, and told there"
    assert told <= known


def test_every_job_and_sensor_is_told() -> None:
    from qilin_dagster.definitions import defs

    repository = defs.get_repository_def()
    told = DOCS["docs/living_with_it.md"]
    jobs = [job.name for job in repository.get_all_jobs() if not job.name.startswith("__")]
    for name in (
        *jobs,
        *(sensor.name for sensor in repository.sensor_defs),
        *(schedule.name for schedule in repository.schedule_defs),
    ):
        assert f"`{name}`" in told, name


def test_the_view_of_the_docs_can_be_added(tiny_data: Path, tmp_path: Path) -> None:
    (sql,) = code_blocks("sql", DOCS["docs/add_a_view.md"])
    root = shutil.copytree(SQL_ROOT, tmp_path / "sql")
    (root / "bias" / "click_rate_by_platform.sql").write_text(sql, encoding="utf-8")
    catalog = load_catalog(root)
    view = next(v for v in catalog.views if v.name == "click_rate_by_platform")
    assert view.grain == ("channel", "platform")
    engine = DuckDBEngine(
        Lake(tmp_path / "lake"), Settings(data=tiny_data, lake=tmp_path / "lake"), catalog
    )
    register_all(engine.lake, inspect(tiny_data), "auto")
    connection = engine.connect()
    try:
        for one in catalog.views:
            if one.schema != "bias" or one is view:
                engine.build(connection, one)
        assert connection.execute("from bias.click_rate_by_platform").fetchall()
    finally:
        connection.close()


def test_the_files_of_a_new_model_are_where_the_docs_say() -> None:
    for path in re.findall(r"`((?:models|qilin_dagster|tests)/[\w./]+)`", "".join(DOCS.values())):
        assert (REPOSITORY / path).exists(), path


def test_the_picture_is_small_and_there() -> None:
    (picture,) = re.findall(r"!\[[^]]{40,}\]\(([^)]+)\)", README)
    assert (REPOSITORY / picture).stat().st_size < 200_000
    assert "synthetic twin" in README.split(picture)[1][:120]
