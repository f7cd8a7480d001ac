"""Reads sql/: each file's name, kind, parents, grain and comments. Runs nothing.

A file is plain DuckDB DDL: one ``create or replace view|table <schema>.<name> as <select>`` and the
``comment on`` statements of the same object. Its path gives its name, its SELECT gives its parents
(a name with a schema is another relation, a bare name is a CTE of the same file). The comment of a
table begins with its grain; of a large one it ends with the columns that its files go by.
"""

import hashlib
import re
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import takewhile
from pathlib import Path

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokens import Token, TokenType  # type: ignore[attr-defined]

from qilin_dagster.settings import SQL_ROOT

SCHEMAS = ("quarantine", "raw", "core", "bias")
GRAIN = re.compile(r"^One row per \(([^)]+)\): ")
PARTITIONS = re.compile(r" Files by \(([^)]+)\)\.$")


class CatalogError(Exception):
    """A file under sql/ breaks a rule of the catalog; the message names the file."""


@dataclass(frozen=True)
class View:
    """One file of sql/, read but not run."""

    schema: str
    name: str
    path: Path
    is_stored: bool
    is_ordered: bool
    select: str
    parents: tuple[str, ...]
    comment: str
    column_comments: dict[str, str]
    code_version: str
    # Columns by whose values a large stored table is laid out in files.
    partitions: tuple[str, ...] = ()

    @property
    def qualified(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def question(self) -> str:
        """What the view answers: the first line of its head comment."""
        return head_comment(self.path)[0]

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What the head comment says after the question, by paragraph."""
        paragraphs = "\n".join(head_comment(self.path)[1:]).split("\n\n")
        return tuple(" ".join(paragraph.split()) for paragraph in paragraphs if paragraph.strip())

    @property
    def grain(self) -> tuple[str, ...]:
        """Columns that tell one row from another, from the first sentence of the comment."""
        match = GRAIN.match(self.comment)
        assert match, "load_catalog refuses a comment without a grain"
        return tuple(column.strip() for column in match[1].split(","))

    @property
    def ddl(self) -> str:
        """The definition any DuckDB can replay, without its comments."""
        return f"create or replace view {self.qualified} as\n{self.select};"


@dataclass(frozen=True)
class Catalog:
    """All views, parents first."""

    views: tuple[View, ...]

    def __getitem__(self, qualified: str) -> View:
        for view in self.views:
            if view.qualified == qualified:
                return view
        raise KeyError(qualified)

    def __contains__(self, qualified: str) -> bool:
        return any(view.qualified == qualified for view in self.views)

    def descendants(self, qualified: str) -> set[str]:
        """Names of all views that read this relation, directly or through others."""
        found: set[str] = {qualified}
        for view in self.views:
            if found.intersection(view.parents):
                found.add(view.qualified)
        return found - {qualified}

    def sources(self) -> set[str]:
        """Parents that no file of sql/ defines: what the readers of published data must give."""
        names = {view.qualified for view in self.views}
        return {parent for view in self.views for parent in view.parents} - names


def load_catalog(root: Path = SQL_ROOT) -> Catalog:
    """Read every ``<root>/<schema>/<view>.sql`` of the schemas in ``SCHEMAS``.

    Raises CatalogError naming the file that breaks a rule.
    """
    views = {
        view.qualified: view
        for schema in SCHEMAS
        for view in (_read(path) for path in sorted((root / schema).glob("*.sql")))
    }
    try:
        order = list(
            TopologicalSorter({name: view.parents for name, view in views.items()}).static_order()
        )
    except CycleError as error:
        raise CatalogError(f"views read each other in a circle: {error.args[1]}") from error
    # Story order where parents leave a choice: all of quarantine, then raw, core, bias.
    rank = {name: (SCHEMAS.index(views[name].schema), order.index(name)) for name in views}
    return Catalog(tuple(views[name] for name in sorted(views, key=rank.__getitem__)))


def head_comment(path: Path) -> list[str]:
    """Lines of the comment a file of sql/ begins with; the first one is its question."""
    lines = path.read_text(encoding="utf-8").splitlines()
    head = takewhile(lambda line: line.startswith("--"), lines)
    return [line.removeprefix("--").strip() for line in head] or [""]


def view_names(root: Path = SQL_ROOT) -> list[str]:
    """Names ``schema.view`` of all views, from their paths alone."""
    return [
        f"{schema}.{p.stem}" for schema in SCHEMAS for p in sorted((root / schema).glob("*.sql"))
    ]


def _read(path: Path) -> View:
    text = path.read_text(encoding="utf-8")
    schema, name = path.parent.name, path.stem
    where = f"sql/{schema}/{path.name}"
    dialect = sqlglot.Dialect.get_or_raise("duckdb")
    try:
        first, *others = _statements(dialect.tokenize(text))
        (create,) = dialect.parser().parse(first, text)
    except (SqlglotError, ValueError) as error:
        raise CatalogError(f"{where}: {error}") from error
    if not isinstance(create, exp.Create) or not all(_is_comment(tokens) for tokens in others):
        raise CatalogError(f"{where}: expected one create statement and comments, nothing else")
    table = create.this
    if (table.db, table.name) != (schema, name):
        raise CatalogError(f"{where}: creates {table.db}.{table.name}, not {schema}.{name}")
    if not create.args.get("replace") or create.kind not in ("VIEW", "TABLE"):
        raise CatalogError(f"{where}: must say create or replace view (or table)")

    comment = ""
    column_comments: dict[str, str] = {}
    for tokens in others:
        _, _, kind, *target, _, sentence = (token.text for token in tokens)
        # Target is the tokens of schema.name, or of schema.name.column.
        if kind.upper() == "COLUMN":
            if target[:-1] != [schema, ".", name, "."]:
                raise CatalogError(f"{where}: comments on a column of another view: {target}")
            column_comments[target[-1]] = sentence
        elif kind.upper() == create.kind and target == [schema, ".", name]:
            comment = sentence
        else:
            raise CatalogError(f"{where}: comment on {kind} {''.join(target)}")
    if not GRAIN.match(comment):
        raise CatalogError(f"{where}: its comment must begin 'One row per (a, b): ...'")
    by = PARTITIONS.search(comment)
    if by is not None and create.kind != "TABLE":
        raise CatalogError(f"{where}: a view has no files; it cannot say 'Files by (...)'")
    partitions = tuple(column.strip() for column in by[1].split(",")) if by else ()
    if unknown := set(partitions) - set(column_comments):
        raise CatalogError(f"{where}: files by {', '.join(unknown)}, which is no column of it")

    parents = {f"{t.db}.{t.name}" for t in create.expression.find_all(exp.Table) if t.db}
    # The SELECT as written: sqlglot's own rendering is never what DuckDB runs.
    start = next(token.end + 1 for token in first if token.token_type is TokenType.ALIAS)
    return View(
        schema=schema,
        name=name,
        path=path,
        is_stored=create.kind == "TABLE",
        is_ordered=create.expression.args.get("order") is not None,
        select=text[start : first[-1].end + 1].strip(),
        parents=tuple(sorted(parents)),
        comment=comment,
        column_comments=column_comments,
        code_version=hashlib.sha256(text.encode()).hexdigest()[:12],
        partitions=partitions,
    )


def _statements(tokens: list[Token]) -> list[list[Token]]:
    """Tokens of each statement. Comments are read from these: parsing them would cost as much as
    all SELECTs together, in every process that loads the definitions."""
    statements: list[list[Token]] = [[]]
    for token in tokens:
        if token.token_type is TokenType.SEMICOLON:
            statements.append([])
        else:
            statements[-1].append(token)
    return [statement for statement in statements if statement]


def _is_comment(tokens: list[Token]) -> bool:
    words = [token.text.upper() for token in tokens]
    return words[:2] == ["COMMENT", "ON"] and words[-2] == "IS"


def column_lineage(
    view: View, schema: dict[str, dict[str, dict[str, str]]]
) -> dict[str, set[tuple[str, str]]]:
    """For each column, the (relation, column) pairs of the parents it is computed from.

    ``schema`` gives the parents' columns and types: schema -> relation -> column -> type.
    """
    # sqlglot's optimizer is a third of its import time and needed only while building.
    from sqlglot.lineage import lineage

    nodes = lineage(None, view.select, schema, dialect="duckdb", trim_selects=False)
    assert isinstance(nodes, dict)
    return {
        column: {
            (f"{leaf.source.db}.{leaf.source.name}", exp.to_column(leaf.name).name)
            for leaf in node.walk()
            if isinstance(leaf.source, exp.Table) and not leaf.downstream
        }
        for column, node in nodes.items()
    }
