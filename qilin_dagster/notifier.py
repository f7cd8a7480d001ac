"""Tells somebody that a run failed: by a web hook or a command that QILIN_NOTIFY names.

Nothing is told, and nothing leaves the machine, unless it is set. Knows no Dagster.
"""

import json
import shlex
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import asdict, dataclass

from qilin_dagster.errors import InputError

TIMEOUT_S = 20


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A run that failed: ``text`` says it in one line, ``steps`` are lines of what went wrong."""

    text: str
    job: str
    run_id: str
    lake: str
    steps: tuple[str, ...]


def notify(where: str, failure: Failure) -> None:
    """Hand the failure on as JSON: a POST to an http(s) address, else to the command's input.

    The member ``text`` is what chat services show.

    Raises:
        InputError: the address did not take it, or the command cannot be run or failed.
    """
    body = json.dumps(asdict(failure), ensure_ascii=False).encode()
    if where.startswith(("http://", "https://")):
        _post(where, body)
    else:
        _run(where, body)


def _post(address: str, body: bytes) -> None:
    request = urllib.request.Request(
        address, data=body, headers={"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):
            pass
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        # The address may hold a secret.
        host = urllib.parse.urlparse(address).hostname
        raise InputError(f"QILIN_NOTIFY: {host} did not take the message: {error}") from error


def _run(command: str, body: bytes) -> None:
    try:
        words = shlex.split(command)
        done = subprocess.run(words, input=body, capture_output=True, timeout=TIMEOUT_S)
    except (ValueError, OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"QILIN_NOTIFY: {command} cannot be run: {error}") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        raise InputError(f"QILIN_NOTIFY: {command} failed with {done.returncode}: {said}")
