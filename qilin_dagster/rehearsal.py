"""Everything once, small: a twin, all tables, the smallest rankers, the report. Knows no Dagster.

In a child process with a lake and a record of runs of its own, so that nothing of it can be taken
for what was built of the real data.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path


class RehearsalError(Exception):
    """The rehearsal did not come to its end; the message holds the last lines of it."""


def rehearse_in(
    folder: Path, scale: float, report: Callable[[str], None]
) -> dict[str, int | float | str]:
    """Build a twin of this scale with ``qilin build --smoke`` in an empty folder.

    Returns what there is to say of it: seconds, tables, bytes of the report.

    Raises:
        RehearsalError: a command failed, or there is no report.
    """
    started = time.monotonic()
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("QILIN_")
    } | {
        "QILIN_DATA": str(folder / "twin"),
        "QILIN_LAKE": str(folder / "lake"),
        "DAGSTER_HOME": str(folder / "lake" / ".dagster"),
    }
    for arguments in (
        ("twin", str(folder / "twin"), "--scale", str(scale), "--images"),
        ("build", "--smoke"),
    ):
        _command(arguments, environment, report)
    pages = list((folder / "lake" / "reports").glob("*/*/*.html"))
    if not pages:
        raise RehearsalError("the build came to its end, but there is no report")
    return {
        "seconds": round(time.monotonic() - started, 1),
        "tables": len([*(folder / "lake").glob("*/*/manifest.json")]),
        "pages": len(pages),
    }


def _command(
    arguments: tuple[str, ...], environment: dict[str, str], report: Callable[[str], None]
) -> None:
    lines: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-m", "qilin_dagster.cli", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            report(line.rstrip())
    if process.returncode != 0:
        said = "\n".join(lines[-15:])
        raise RehearsalError(f"qilin {arguments[0]} ended with {process.returncode}:\n{said}")
