"""Writes sql/README.md from the files of sql/: every view, its grain, its question, its parents.

``python -m qilin_dagster.catalog_page`` writes it, with ``--check`` it only says whether it is up
to date (exit code 1 when not).
"""

import sys
from itertools import groupby
from pathlib import Path

from qilin_dagster.catalog import View, head_comment, load_catalog
from qilin_dagster.settings import SQL_ROOT

PAGE = "README.md"
HEAD = """\
<!-- Made from the files beside it by `make docs`; change those. -->

# The catalog

One file is one view: its path is its name, its first line is its question, its comments are in the
database (`describe`, `duckdb_columns()`, `.schema` at the prompt of `qilin sql`). A *table* is
stored when built, a *view* is computed when asked.
"""
COOKBOOK = """\
## Cookbook

Queries to start from: `qilin sql -f sql/cookbook/<name>.sql`.
"""


def catalog_page(root: Path) -> str:
    """The page as Markdown. Raises CatalogError as load_catalog does."""
    parts = [HEAD]
    views = load_catalog(root).views
    for schema, members in groupby(views, key=lambda view: view.schema):
        rows = [_row(view) for view in sorted(members, key=lambda view: view.name)]
        parts.append(f"## {schema}\n")
        parts.append(_table(("relation", "question", "one row per", "kind", "reads"), rows))
    parts.append(COOKBOOK)
    recipes = sorted((root / "cookbook").glob("*.sql"))
    parts.append(
        _table(
            ("query", "question"), [(_link(root, path), head_comment(path)[0]) for path in recipes]
        )
    )
    return "\n".join(parts)


def _row(view: View) -> tuple[str, ...]:
    return (
        _link(view.path.parent.parent, view.path),
        view.question,
        ", ".join(view.grain),
        "table" if view.is_stored else "view",
        ", ".join(view.parents),
    )


def _link(root: Path, path: Path) -> str:
    return f"[{path.stem}]({path.relative_to(root).as_posix()})"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(
        "| " + " | ".join(c.replace("|", "\\|") for c in line) + " |\n" for line in lines
    )


def main(arguments: list[str]) -> int:
    """Write the page, or check it; returns the exit code."""
    page, target = catalog_page(SQL_ROOT), SQL_ROOT / PAGE
    if arguments == ["--check"]:
        if target.is_file() and target.read_text(encoding="utf-8") == page:
            return 0
        print(f"sql/{PAGE} is not up to date: run make docs", file=sys.stderr)
        return 1
    if arguments:
        print("usage: python -m qilin_dagster.catalog_page [--check]", file=sys.stderr)
        return 2
    target.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
