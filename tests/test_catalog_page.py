"""sql/README.md says what the files of sql/ say."""

import re
from pathlib import Path

import pytest

from qilin_dagster import catalog_page as page_module
from qilin_dagster.catalog import SCHEMAS, load_catalog
from qilin_dagster.catalog_page import catalog_page, main
from qilin_dagster.settings import SQL_ROOT

PAGE = SQL_ROOT / "README.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == catalog_page(SQL_ROOT), "run make docs"


def test_every_view_and_recipe_is_on_it_and_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", PAGE.read_text(encoding="utf-8"))
    files = [view.path for view in load_catalog().views] + list(SQL_ROOT.glob("cookbook/*.sql"))
    assert sorted(links) == sorted(path.relative_to(SQL_ROOT).as_posix() for path in files)


def test_a_view_added_is_a_stale_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for schema in SCHEMAS:
        (tmp_path / schema).mkdir()
    schema = SCHEMAS[-1]
    monkeypatch.setattr(page_module, "SQL_ROOT", tmp_path)
    assert main(["--check"]) == 1
    assert "make docs" in capsys.readouterr().err
    assert main([]) == 0
    assert main(["--check"]) == 0
    (tmp_path / schema / "a.sql").write_text(
        f"-- Is a | b so?\ncreate or replace table {schema}.a as select x, y from core.b;\n"
        f"comment on table {schema}.a is 'One row per (x, y): a thing.';\n",
        encoding="utf-8",
    )
    assert main(["--check"]) == 1
    assert main([]) == 0
    assert f"| [a]({schema}/a.sql) | Is a \\| b so? | x, y | table | core.b |" in (
        tmp_path / "README.md"
    ).read_text(encoding="utf-8")
    assert main(["--chek"]) == 2
