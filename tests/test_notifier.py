"""A failed run is told of where QILIN_NOTIFY says, and nowhere else."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from qilin_dagster.automation import tell_of_failures
from qilin_dagster.errors import InputError
from qilin_dagster.notifier import Failure, notify
from qilin_dagster.resources import Lakehouse

FAILURE = Failure(text="failed", job="views", run_id="1", lake="lake", steps=("a: b",))


class Hook:
    """A web hook on this machine that keeps what it is sent."""

    def __init__(self, status: int) -> None:
        self.received: list[dict[str, Any]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.received.append(json.loads(body))
                self.send_response(status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/secret"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook(204)
    yield made
    made.server.shutdown()


def told(lakehouse: Lakehouse, *, fails: bool = True) -> Any:
    """The sensor on a run that failed of its data."""

    @dg.op
    def step() -> None:
        if fails:
            raise dg.Failure(description="table dqa is empty")

    @dg.job
    def broken() -> None:
        step()

    instance = dg.DagsterInstance.ephemeral()
    result = broken.execute_in_process(
        instance=instance,
        raise_on_error=False,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )
    with dg.build_run_status_sensor_context(
        sensor_name="tell_of_failures",
        dagster_instance=instance,
        dagster_run=result.dagster_run,
        dagster_event=result.get_run_failure_event(),
        resources={"lakehouse": lakehouse},
    ).for_run_failure() as context:
        return tell_of_failures(context)


def test_a_web_hook_gets_what_failed_in_words(
    hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QILIN_NOTIFY", hook.address)
    told(Lakehouse(lake=str(tmp_path)))
    (message,) = hook.received
    assert message["job"] == "broken"
    assert message["steps"] == ["step: table dqa is empty"]
    assert message["text"].endswith("of broken failed in 1 step; step: table dqa is empty")
    assert message["lake"] == str(tmp_path)


def test_nobody_is_told_unless_somebody_is_named(
    hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QILIN_NOTIFY", raising=False)
    assert "QILIN_NOTIFY is not set" in told(Lakehouse(lake=str(tmp_path))).skip_message
    assert hook.received == []


def test_a_command_reads_it(tmp_path: Path) -> None:
    notify(f"tee {tmp_path / 'told.json'}", FAILURE)
    assert json.loads((tmp_path / "told.json").read_text())["steps"] == ["a: b"]


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("no-such-command", "no-such-command cannot be run"),
        ("sh -c 'echo full >&2; exit 3'", "failed with 3: full"),
        ("sh -c 'unfinished", "cannot be run: No closing quotation"),
    ],
)
def test_a_command_that_fails_is_named(where: str, said: str) -> None:
    with pytest.raises(InputError, match="QILIN_NOTIFY: ") as error:
        notify(where, FAILURE)
    assert said in str(error.value)


def test_an_address_that_refuses_is_named_without_its_secret() -> None:
    hook = Hook(500)
    with pytest.raises(InputError, match=r"127\.0\.0\.1 did not take the message") as error:
        notify(hook.address, FAILURE)
    assert "secret" not in str(error.value)
    hook.server.shutdown()
