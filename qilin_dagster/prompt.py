"""The prompt of ``qilin sql``: history, completion, several lines, Ctrl-C cancels a statement.

Everything typed goes through query.py, so the prompt can do no more than one statement can.
"""

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

import click
import duckdb
from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import PygmentsLexer
from prompt_toolkit.output import Output
from pygments.lexers.sql import SqlLexer

from qilin_dagster.errors import InputError
from qilin_dagster.hints import no_relation
from qilin_dagster.lake import Lake
from qilin_dagster.query import (
    FORMATS,
    Format,
    answer,
    columns_of,
    open_sandbox,
    relations_of,
)
from qilin_dagster.settings import Settings

COMMANDS = {
    ".tables": "[WORD]      relations, their grain; only those with WORD in the name",
    ".schema": "NAME        columns of a relation, with types and comments",
    ".format": "FORMAT      table, csv or json",
    ".timing": "on|off      rows and wall time after each statement",
    ".help": "            this",
    ".quit": "            leaves, as Ctrl-D does",
}
PROMPT, CONTINUED = "qilin> ", "  ...> "

RELATION = re.compile(r"\b(?:from|join)\s+(\w+\.\w+)(?:\s+(?:as\s+)?(?!on\b|where\b)(\w+))?", re.I)
WORD = re.compile(r"[\w.]*$")


def history_file() -> Path:
    """Where statements are remembered: the user's state folder, never the lake."""
    state = os.environ.get("XDG_STATE_HOME")
    folder = Path(state) if state else Path.home() / ".local" / "state"
    return folder / "qilin" / "sql_history"


def run_prompt(
    lake: Lake,
    settings: Settings,
    format_: Format,
    *,
    shows_timing: bool,
    input: Input | None = None,
    output: Output | None = None,
) -> None:
    """Read statements and dot-commands until Ctrl-D; ``input`` and ``output`` are the terminal."""
    if format_ == "parquet":
        raise InputError("parquet is binary and has no place at the prompt: give a statement")
    connection = open_sandbox(lake, settings, comments=True)
    try:
        prompt = Prompt(connection, format_, shows_timing=shows_timing)
        session: PromptSession[str] = PromptSession(
            message=PROMPT,
            prompt_continuation=CONTINUED,
            multiline=True,
            history=_history(history_file()),
            completer=SqlCompleter(connection),
            complete_while_typing=True,
            complete_in_thread=False,
            auto_suggest=AutoSuggestFromHistory(),
            lexer=PygmentsLexer(SqlLexer),
            key_bindings=_keys(),
            input=input,
            output=output,
        )
        click.echo(f"{lake.root}: {len(prompt.relations)} relations. Only reads. .help for help.")
        while True:
            try:
                text = session.prompt()
            except KeyboardInterrupt:
                continue
            except EOFError:
                return
            if not prompt.take(text):
                return
    finally:
        connection.close()


class Prompt:
    """What happens to a line once it is typed; knows nothing of keys."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, format_: Format, *, shows_timing: bool
    ) -> None:
        self.connection = connection
        self.format: Format = format_
        self.shows_timing = shows_timing
        self.relations = relations_of(connection)

    def take(self, text: str) -> bool:
        """Do what the text says; False when it says to leave. Mistakes are told, not raised."""
        try:
            if text.strip().startswith("."):
                return self._command(*text.split())
            self._statements(text)
        except InputError as error:
            click.echo(str(error), err=True)
        except KeyboardInterrupt:
            click.echo("cancelled", err=True)
        return True

    def _statements(self, text: str) -> None:
        try:
            statements = [s.query for s in self.connection.extract_statements(text)]
        except duckdb.Error as error:
            raise InputError(str(error).strip()) from error
        for statement in statements:
            answered = answer(self.connection, statement, self.format, sys.stdout)
            sys.stdout.flush()
            if self.shows_timing:
                click.echo(str(answered), err=True)

    def _command(self, name: str, *arguments: str) -> bool:
        match name, arguments:
            case ((".quit" | ".exit"), ()):
                return False
            case ".help", ():
                for command, told in COMMANDS.items():
                    click.echo(f"{command:<8} {told}")
                click.echo("A statement ends with ; and Enter. Tab completes, Ctrl-C cancels.")
            case ".tables", (() | (_,)):
                self._tables(*arguments)
            case ".schema", (relation,):
                self._schema(relation.rstrip(";"))
            case ".format", (chosen,):
                self._set_format(chosen)
            case ".timing", (("on" | "off") as chosen,):
                self.shows_timing = chosen == "on"
            case _ if name in COMMANDS:
                raise InputError(f"{name} {' '.join(COMMANDS[name].split())}")
            case _:
                nearest = get_close_matches(name, COMMANDS, 1)
                meant = f"did you mean {nearest[0]}?" if nearest else ".help lists them"
                raise InputError(f"there is no command {name}; {meant}")
        return True

    def _set_format(self, chosen: str) -> None:
        shown = [name for name in FORMATS if name != "parquet"]
        if chosen not in shown:
            raise InputError(f"{chosen} is no format of the prompt: {', '.join(shown)}")
        self.format = next(name for name in FORMATS if name == chosen)

    def _tables(self, word: str = "") -> None:
        comments = dict(
            self.connection.execute(
                "select schema_name || '.' || view_name, comment from duckdb_views()"
            ).fetchall()
        )
        chosen = [relation for relation in self.relations if word.lower() in relation]
        if not chosen:
            raise InputError(no_relation(word, self.relations))
        _print_pairs([(relation, comments[relation] or "") for relation in chosen], one_line=True)

    def _schema(self, relation: str) -> None:
        if relation.lower() not in self.relations:
            raise InputError(no_relation(relation, self.relations))
        schema, _, name = relation.lower().partition(".")
        ((comment,),) = self.connection.execute(
            "select comment from duckdb_views() where schema_name = ? and view_name = ?",
            [schema, name],
        ).fetchall()
        comments = dict(
            self.connection.execute(
                "select column_name, comment from duckdb_columns() "
                "where schema_name = ? and table_name = ?",
                [schema, name],
            ).fetchall()
        )
        if comment:
            click.echo("\n".join(textwrap.wrap(comment, _width())))
        columns = columns_of(self.connection, relation.lower())
        _print_pairs([(f"{column}  {type_}", comments[column] or "") for column, type_ in columns])


class SqlCompleter(Completer):
    """Relations, schemas, columns (of what the statement reads first), keywords, functions."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection
        self.relations = relations_of(connection)
        self.schemas = sorted({relation.partition(".")[0] for relation in self.relations})
        self.columns: dict[str, list[tuple[str, str]]] = {}
        self.keywords = _names(connection, "select keyword_name from duckdb_keywords()")
        self.functions = _names(
            connection,
            "select distinct function_name from duckdb_functions() "
            "where function_type in ('scalar', 'aggregate', 'macro') "
            r"and regexp_full_match(function_name, '[a-z]\w*') "
            "and not function_name similar to '(icu_)?collate_.*'",
        )

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterator[Completion]:
        before = document.text_before_cursor
        if before.startswith("."):
            yield from self._command_completions(before)
            return
        found = WORD.search(before)
        word = found[0].lower() if found else ""
        # An empty word has every completion: only when asked for with Tab.
        if not word and not complete_event.completion_requested:
            return
        qualifier, _, last = word.rpartition(".")
        for text, meta in self._candidates(document.text, qualifier):
            if text.lower().startswith(last):
                yield Completion(text, start_position=-len(last), display_meta=meta)
        if not qualifier:
            # The shortest first: it is the one the others are named after.
            for relation in sorted(self.relations, key=lambda r: (len(r.partition(".")[2]), r)):
                if word and relation.partition(".")[2].startswith(word):
                    yield Completion(relation, start_position=-len(word), display_meta="relation")

    def _command_completions(self, before: str) -> Iterator[Completion]:
        name, space, argument = before.partition(" ")
        options = {".schema": self.relations, ".format": FORMATS[:3], ".timing": ("on", "off")}
        for text in options.get(name, ()) if space else COMMANDS:
            typed = argument if space else name
            if text.startswith(typed):
                yield Completion(text, start_position=-len(typed))

    def _candidates(self, statement: str, qualifier: str) -> Iterator[tuple[str, str]]:
        """Pairs of what may stand after the qualifier (a schema, a relation, an alias) and what
        it is."""
        read = {
            (alias or name).lower(): name.lower() for name, alias in RELATION.findall(statement)
        }
        if qualifier in self.schemas:
            for relation in self.relations:
                schema, _, name = relation.partition(".")
                if schema == qualifier:
                    yield name, "relation"
            return
        if qualifier:
            # An alias, a relation with its schema, or a relation's bare name.
            bare = {name.partition(".")[2]: name for name in read.values()}
            yield from self._columns_of(read.get(qualifier) or bare.get(qualifier) or qualifier)
            return
        for relation in dict.fromkeys(read.values()):
            yield from self._columns_of(relation)
        yield from ((schema, "schema") for schema in self.schemas)
        yield from ((keyword, "keyword") for keyword in self.keywords)
        yield from ((function, "function") for function in self.functions)

    def _columns_of(self, relation: str) -> list[tuple[str, str]]:
        if relation not in self.relations:
            return []
        if relation not in self.columns:
            self.columns[relation] = columns_of(self.connection, relation)
        return self.columns[relation]


def _names(connection: duckdb.DuckDBPyConnection, sql: str) -> list[str]:
    return sorted(name for (name,) in connection.execute(sql).fetchall())


def _keys() -> KeyBindings:
    """Enter runs what is complete and else opens a line; Tab completes."""
    keys = KeyBindings()

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.complete_state and buffer.complete_state.current_completion:
            buffer.complete_state = None
        elif _is_complete(buffer):
            buffer.validate_and_handle()
        else:
            buffer.insert_text("\n")

    return keys


def _is_complete(buffer: Buffer) -> bool:
    text = buffer.text.strip()
    if text.startswith(".") or not text:
        return True
    # The last word of the text, be it in a comment, a string or the statement's end.
    tokens = duckdb.tokenize(text)
    last, kind = tokens[-1] if tokens else (0, None)
    return kind == duckdb.token_type.operator and text.encode()[last:].strip() == b";"


def _history(path: Path) -> History:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError as error:
        click.echo(f"nothing will be remembered: {error}", err=True)
        return InMemoryHistory()
    return FileHistory(str(path))


def _print_pairs(pairs: list[tuple[str, str]], *, one_line: bool = False) -> None:
    """A name and its text a line, the text wrapped (or cut) to the terminal beside the names."""
    indent = max(len(name) for name, _ in pairs) + 2
    width = max(_width() - indent, 20)
    for name, text in pairs:
        lines = textwrap.wrap(text, width) or [""]
        if one_line:
            lines = [textwrap.shorten(text, width, placeholder=" ...")]
        for n, line in enumerate(lines):
            click.echo(f"{'' if n else name:<{indent}}{line}".rstrip())


def _width() -> int:
    return shutil.get_terminal_size().columns
