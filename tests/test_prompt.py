"""The prompt of ``qilin sql``: what is typed, completed, cancelled and remembered."""

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.errors import InputError
from qilin_dagster.prompt import SqlCompleter, history_file, run_prompt
from qilin_dagster.query import open_sandbox

QILIN = Path(sys.executable).parent / "qilin"


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def typed(
    tiny_engine: DuckDBEngine, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[str, str]]:
    """Type keys (Enter is \\r, Ctrl-D \\x04) into a prompt; gives what it printed and told."""

    def type_(keys: str, shows_timing: bool = False) -> tuple[str, str]:
        with create_pipe_input() as keyboard:
            keyboard.send_text(keys)
            run_prompt(
                tiny_engine.lake,
                tiny_engine.settings,
                "csv",
                shows_timing=shows_timing,
                input=keyboard,
                output=DummyOutput(),
            )
        printed, told = capfd.readouterr()
        # Without the line of welcome.
        return printed.partition("\n")[2], told

    return type_


def test_a_statement_ends_with_a_semicolon_and_may_have_several_lines(typed) -> None:
    assert typed("select 1 as a,\r'你好; -- ' as b\r;\r\x04") == ("a,b\n1,你好; -- \n", "")
    # Not in a comment: there the line goes on.
    assert typed("select 1 as a -- ;\r, 2 as b;\r\x04") == ("a,b\n1,2\n", "")


def test_several_statements_are_answered_in_turn(typed) -> None:
    assert typed("select 1 as a; select 2 as b;\r\x04") == ("a\n1\nb\n2\n", "")


def test_a_mistake_is_told_and_the_prompt_goes_on(typed) -> None:
    printed, told = typed(
        "select n_click from core.requests;\rfrom click_rate_by_position;\rselct 1;\r"
        "create temp table t as select 1;\rselect 3 as c;\r\x04"
    )
    assert printed == "c\n3\n"
    assert "did you mean n_clicks (core.requests)?" in told
    assert "did you mean bias.click_rate_by_position?" in told
    assert "syntax error" in told
    assert "CREATE is refused" in told


def test_rows_and_wall_time_are_told_when_asked(typed) -> None:
    _, told = typed("select 1;\r.timing off\rselect 2;\r.timing on\rfrom range(3);\r\x04", True)
    first, second = told.splitlines()
    assert first.startswith("1 row, 0.")
    assert second.startswith("3 rows, 0.")


def test_dot_commands(typed, tiny_engine: DuckDBEngine) -> None:
    printed, told = typed(".help\r\x04")
    assert told == ""
    for command in (".tables", ".schema", ".format", ".timing", ".quit"):
        assert command in printed

    printed, _ = typed(".tables requ\r\x04")
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    assert any(line.startswith("core.requests One row per (request_id)") for line in lines)

    view = tiny_engine.catalog["core.sessions"]
    printed, _ = typed(".schema core.sessions\r\x04")
    words = " ".join(printed.split())
    assert view.comment in words
    assert f"n_requests BIGINT {view.column_comments['n_requests']}" in words

    assert typed(".format json\rselect 1 as a;\r\x04")[0] == '[{"a": 1}]\n'
    assert typed(".quit\rselect 1;\r\x04") == ("", "")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (".tabels", "did you mean .tables?"),
        (".wrong", ".help lists them"),
        (".schema", ".schema NAME"),
        (".schema core.reqests", "did you mean core.requests?"),
        (".tables zzz", "there is no relation zzz"),
        (".format parquet", "table, csv, json"),
        (".timing maybe", ".timing on|off"),
    ],
)
def test_a_wrong_dot_command_says_what_is_right(typed, line: str, said: str) -> None:
    printed, told = typed(f"{line}\r\x04")
    assert printed == ""
    assert said in told


def test_ctrl_c_drops_what_is_typed_and_does_not_leave(typed) -> None:
    assert typed("select wrong\x03select 1 as a;\r\x04") == ("a\n1\n", "")


def test_statements_are_remembered_outside_the_lake(
    typed, state_home: Path, tiny_engine: DuckDBEngine
) -> None:
    typed("select 41 as a;\r\x04")
    assert history_file() == state_home / "qilin" / "sql_history"
    assert "select 41 as a;" in history_file().read_text(encoding="utf-8")
    assert history_file().stat().st_mode & 0o077 == 0
    assert not list(tiny_engine.lake.root.rglob("sql_history"))
    # The key up brings it back.
    assert typed("\x1b[A\r\x04")[0] == "a\n41\n"


def test_a_state_folder_that_cannot_be_written_is_told(typed, state_home: Path) -> None:
    state_home.write_text("in the way", encoding="utf-8")
    printed, told = typed("select 1 as a;\r\x04")
    assert "nothing will be remembered" in told
    assert printed.endswith("a\n1\n")


def test_parquet_has_no_place_at_the_prompt(tiny_engine: DuckDBEngine) -> None:
    with pytest.raises(InputError, match="binary"):
        run_prompt(tiny_engine.lake, tiny_engine.settings, "parquet", shows_timing=True)


@pytest.fixture(scope="module")
def sandbox(tiny_engine: DuckDBEngine) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = open_sandbox(tiny_engine.lake, tiny_engine.settings)
    yield connection
    connection.close()


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("sel", "select"),
        ("from co", "core"),
        ("from core.req", "requests"),
        ("from reques", "core.requests"),
        ("select * from core.requests where n_cl", "n_clicks"),
        ("select * from core.requests as r where r.n_cl", "n_clicks"),
        ("from core.requests r join core.notes n on r.request_id = n.note_i", "note_idx"),
        ("from core.requests where requests.brow", "browsing_depth"),
        ("select medi", "median"),
        (".sch", ".schema"),
        (".schema core.ses", "core.sessions"),
        (".format j", "json"),
    ],
)
def test_completion(sandbox: duckdb.DuckDBPyConnection, text: str, first: str) -> None:
    found = SqlCompleter(sandbox).get_completions(Document(text), CompleteEvent())
    assert first in [completion.text for completion in found][:2]


def test_an_empty_word_is_completed_only_on_request(sandbox: duckdb.DuckDBPyConnection) -> None:
    completer = SqlCompleter(sandbox)
    document = Document("select  from core.sessions", cursor_position=7)
    assert not list(completer.get_completions(document, CompleteEvent()))
    asked = list(completer.get_completions(document, CompleteEvent(completion_requested=True)))
    assert asked[0].text == "session_id"


def test_on_a_terminal_ctrl_c_cancels_the_statement(tiny_engine: DuckDBEngine) -> None:
    """The command itself, bare, on a terminal of its own."""
    keyboard, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (40, 100))
    process = subprocess.Popen(
        [QILIN, "sql", "--lake", str(tiny_engine.lake.root)],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        # Where the tests run in the background of a shell, interrupts are ignored, and by children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        env={**os.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"},
    )
    os.close(terminal)
    seen = ""

    def until(text: str, each_second: Callable[[], None] = lambda: None) -> None:
        nonlocal seen
        deadline = time.monotonic() + 60
        while text not in seen:
            assert time.monotonic() < deadline, seen
            if select.select([keyboard], [], [], 1)[0]:
                seen += os.read(keyboard, 65536).decode(errors="replace")
            else:
                each_second()
        seen = seen.partition(text)[2]

    try:
        until("qilin>")
        os.write(keyboard, b"select count(*) from range(1000000) a, range(1000000) b;\r")
        # The line is taken: the terminal no longer marks what is pasted. An interrupt while it is
        # being taken is lost, and one presses again.
        until("\x1b[?2004l")
        until("cancelled", lambda: process.send_signal(signal.SIGINT))
        os.write(keyboard, b"select 6 * 7 as answer;\r")
        until("│     42 │")
        until("1 row, 0.")
        until("qilin>")
        os.write(keyboard, b"\x04")
        # A terminal nobody reads from does not let its program go.
        with contextlib.suppress(OSError):
            until("nothing, to the end")
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(keyboard)
