"""The ``qilin`` command. Reads options, calls, prints; imports what a command needs when it runs.

Exit codes: 0 done, 1 a check failed or a build step failed, 2 the command or its input is unusable.
"""

import json
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, Literal, NoReturn, ParamSpec

import click

from qilin_dagster.errors import InputError
from qilin_dagster.settings import Settings, engine_named, lake_at

P = ParamSpec("P")

LAKE_HELP = "Folder of the lake, or its address. [default: QILIN_LAKE or .qilin/lake]"


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"qilin: {message}", err=True)
    raise SystemExit(code)


def _explains_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Turn the errors a person can mend into one message and exit code 2."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        from qilin_dagster.lake import LakeError

        try:
            command(*args, **kwargs)
        except (InputError, LakeError) as error:
            _fail(str(error), 2)
        except BrokenPipeError:
            # The reader, such as head, has seen enough.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    return run


def _settings(lake: str | None = None, data: Path | None = None) -> Settings:
    settings = Settings.from_environment()
    if lake is not None:
        settings = settings.with_lake(lake)
    if data is not None:
        settings = replace(settings, data=data.expanduser().absolute())
    return settings


def _settings_to_read(lake: str | None) -> Settings:
    """Settings with the lake up to date, where it has an address."""
    from qilin_dagster.working_copy import bring_up_to_date

    settings = _settings(lake)
    bring_up_to_date(settings, lambda line: click.echo(f"note: {line}", err=True))
    return settings


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="qilin-lakehouse", prog_name="qilin")
def main() -> None:
    """The Qilin lakehouse: views, features, rankers and reports from the published log."""


@main.command()
@click.argument("out", required=False, type=click.Path(path_type=Path))
@click.option("--scale", default=0.01, show_default=True, help="1.0 is the size of the real log.")
@click.option("--seed", default=7, show_default=True, help="Another seed is another world.")
@click.option("--images", is_flag=True, help="Also write cover images.")
@click.option("--dirty", is_flag=True, help="Plant bad rows, listed in truth/ with their reasons.")
@click.option(
    "--clicks",
    "click_model",
    default="pbm",
    show_default=True,
    type=click.Choice(["pbm", "cascade", "mixed"]),
    help="Click model; only pbm is calibrated.",
)
@click.option("--no-leaks", is_flag=True, help="Ids, counters and list order know no clicks.")
@click.option("--no-looks", is_flag=True, help="Images are noise: nothing is gained from them.")
@click.option(
    "--promotes",
    default=0.0,
    show_default=True,
    help="How far the platform's ranker prefers notes with many images, which nobody else does.",
)
@click.option(
    "--describe",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Instead: print the paper's values beside those of the twin in DIR.",
)
@_explains_errors
def twin(
    out: Path | None,
    scale: float,
    seed: int,
    images: bool,
    dirty: bool,
    click_model: Literal["pbm", "cascade", "mixed"],
    no_leaks: bool,
    no_looks: bool,
    promotes: float,
    describe: Path | None,
) -> None:
    """Write a synthetic twin of the published data into OUT, with its truth beside it."""
    from qilin_dagster.sources.twin import describe_twin, write_twin

    if (out is None) == (describe is None):
        raise InputError("name the folder OUT to write, or --describe DIR")
    try:
        if describe is not None:
            click.echo(describe_twin(describe))
            return
        assert out is not None
        write_twin(
            out,
            scale=scale,
            seed=seed,
            images=images,
            dirty=dirty,
            click_model=click_model,
            leaks=not no_leaks,
            looks=not no_looks,
            promotes=promotes,
            progress=lambda line: click.echo(line, err=True),
        )
    except (ValueError, OSError) as error:
        raise InputError(str(error)) from error
    click.echo(str(out))


@main.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder with the published tables. [default: QILIN_DATA]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--expect",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="TOML with the expected values to change; see expectations/audit.toml.",
)
@_explains_errors
def audit(data: Path | None, as_json: bool, expect: Path | None) -> None:
    """Audit a data folder before any build: leaks, labels, clocks. Exit code 1 on an alarm."""
    from qilin_dagster.audit import format_audit, run_audit

    result = run_audit(_settings(data=data), expect)
    click.echo(
        json.dumps(result.to_json(), ensure_ascii=False) if as_json else format_audit(result)
    )
    if result.alarms:
        raise SystemExit(1)


@main.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder with the published tables. [default: QILIN_DATA]",
)
@click.option("--lake", help=LAKE_HELP)
@click.option(
    "--select",
    "selects",
    multiple=True,
    help="Groups or keys, comma-separated, such as raw,core or core.requests; repeatable.",
)
@click.option(
    "--engine",
    default=None,
    metavar="ENGINE",
    help="duckdb, or sc://HOST:PORT: Spark computes the stored tables. [default: duckdb]",
)
@click.option(
    "--search-clock-offset",
    default=None,
    metavar="HOURS",
    help="Hours the search clock runs ahead of UTC. [default: detected]",
)
@click.option(
    "--wait", is_flag=True, help="If another build is at work on the lake, wait until it ends."
)
@click.option(
    "--max-quarantined",
    default=None,
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Stop when more of a table cannot be used. [default: 0.01, or 25 rows if that is more]",
)
@click.option(
    "--strict", is_flag=True, help="Stop at the first row that cannot be used, and name it."
)
@click.option(
    "--smoke", is_flag=True, help="Train the smallest rankers, in seconds each: to try it out."
)
@_explains_errors
def build(
    data: Path | None,
    lake: str | None,
    selects: tuple[str, ...],
    engine: str | None,
    search_clock_offset: str | None,
    wait: bool,
    max_quarantined: float | None,
    strict: bool,
    smoke: bool,
) -> None:
    """Build the lake: published files, views, features, rankers, evaluation, report."""
    from qilin_dagster.build import run_build, selected_keys

    settings = _settings(lake, data)
    if engine is not None:
        settings = replace(settings, engine=engine_named(engine, "--engine "))
    if search_clock_offset is not None:
        settings = replace(settings, search_clock_offset=search_clock_offset)
    if max_quarantined is not None:
        settings = replace(settings, max_quarantined=max_quarantined)
    if strict:
        settings = replace(settings, is_strict=True)
    log_to_stderr()
    outcome = run_build(settings, selected_keys(selects), wait=wait, is_smoke=smoke)
    for line in outcome.lines:
        click.echo(line, err=True)
    if outcome.report is not None:
        click.echo(str(outcome.report))
    if not outcome.succeeded:
        raise SystemExit(1)


@main.command()
@click.argument("statement", required=False)
@click.option(
    "-f",
    "--file",
    "file",
    type=click.File("r", encoding="utf-8"),
    help="Read the statement from FILE; - is standard input.",
)
@click.option(
    "--format",
    "format_",
    default="table",
    show_default=True,
    type=click.Choice(["table", "csv", "json", "parquet"]),
)
@click.option(
    "--timing/--no-timing",
    default=None,
    help="Print rows and wall time on stderr. [default: at the prompt only]",
)
@click.option("--lake", help=LAKE_HELP)
@_explains_errors
def sql(
    statement: str | None, file: Any, format_: str, timing: bool | None, lake: str | None
) -> None:
    """Ask the lake in SQL: one STATEMENT, or a prompt when there is none. Only reads."""
    from qilin_dagster.lake import Lake
    from qilin_dagster.query import FORMATS, answer, open_sandbox

    if statement is not None and file is not None:
        raise InputError("give the statement or -f FILE, not both")
    settings = _settings_to_read(lake)
    chosen = next(name for name in FORMATS if name == format_)
    if statement is None and file is None and sys.stdin.isatty():
        if not sys.stdout.isatty():
            raise InputError("the prompt needs a terminal; to write into a file, give a statement")
        from qilin_dagster.prompt import run_prompt

        run_prompt(Lake(settings.lake), settings, chosen, shows_timing=timing is not False)
        return
    text = statement if statement is not None else (file or sys.stdin).read()
    if not text.strip():
        raise InputError(
            'give one statement, as in qilin sql "from core.requests limit 5" or qilin sql -f FILE'
        )
    asks_the_catalog = "duckdb_" in text.lower()
    connection = open_sandbox(Lake(settings.lake), settings, comments=asks_the_catalog)
    try:
        answered = answer(connection, text, chosen, sys.stdout)
    except KeyboardInterrupt:
        _fail("cancelled", 130)
    finally:
        connection.close()
    if timing:
        sys.stdout.flush()
        click.echo(str(answered), err=True)


@main.command()
@click.argument(
    "runs", nargs=-1, required=True, metavar="RUN [RUN2]", type=click.Path(path_type=Path)
)
@click.option(
    "--qrels",
    required=True,
    type=click.Path(path_type=Path),
    help="CSV or Parquet with columns qid,pid; qid is the row of the test table.",
)
@click.option(
    "--mode",
    default="full",
    show_default=True,
    type=click.Choice(["full", "official"]),
    help="full: all requests, ties in expectation. official: as the public evaluator.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@_explains_errors
def evaluate(runs: tuple[Path, ...], qrels: Path, mode: str, as_json: bool) -> None:
    """Evaluate run files (columns qid,pid,score) beside their anchors; two are also compared."""
    from qilin_dagster.evaluation import (
        compare,
        format_comparison,
        format_report,
        read_qrels,
        read_run,
        to_json,
    )
    from qilin_dagster.evaluation import evaluate as evaluate_run

    if len(runs) > 2:
        raise InputError(f"one run or two, not {len(runs)}")
    chosen: Literal["full", "official"] = "official" if mode == "official" else "full"
    labels = read_qrels(qrels)
    read = [read_run(path) for path in runs]
    reports = [evaluate_run(run, labels, chosen) for run in read]
    comparison = compare(read[0], read[1], labels, chosen) if len(read) == 2 else None
    if as_json:
        result = {"reports": [to_json(report) for report in reports]}
        if comparison is not None:
            result["comparison"] = [to_json(comparison)]
        click.echo(json.dumps(result, ensure_ascii=False))
        return
    for report in reports:
        click.echo(format_report(report))
    if comparison is not None:
        click.echo(format_comparison(comparison))


@main.command()
@click.option("--lake", help=LAKE_HELP)
@click.option("--open", "open_", is_flag=True, help="Open it in the browser.")
@_explains_errors
def report(lake: str | None, open_: bool) -> None:
    """Print the path of the newest report, a site of pages that needs no network."""
    from qilin_dagster.lake import Lake

    folder = Lake(_settings_to_read(lake).lake).for_readers().snapshot_folder("reports.overview")
    path = folder / "index.html"
    if open_:
        click.launch(str(path))
    click.echo(str(path))


@main.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder with the published tables. [default: QILIN_DATA]",
)
@click.option("--lake", help=LAKE_HELP)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@_explains_errors
def doctor(data: Path | None, lake: str | None, as_json: bool) -> None:
    """Look at installation, machine, data and lake, and say what to do. Exit code 1 on a fault."""
    from dataclasses import asdict

    from qilin_dagster.doctor import examine, format_findings

    findings = examine(_settings(lake, data))
    if as_json:
        click.echo(json.dumps({"findings": [asdict(one) for one in findings]}, ensure_ascii=False))
    else:
        click.echo(format_findings(findings))
    if any(finding.verdict == "fault" for finding in findings):
        raise SystemExit(1)


@main.command()
@click.option("--lake", help=LAKE_HELP)
@_explains_errors
def verify(lake: str | None) -> None:
    """Read every byte of the lake and name what is damaged. Exit code 1 if anything is."""
    from qilin_dagster.engines.duckdb import DuckDBEngine
    from qilin_dagster.lake import Lake

    settings = _settings_to_read(lake)
    store = Lake(settings.lake)
    if not store.tables():
        raise InputError(f"there is no lake in {settings.lake}")
    faults = store.verify()
    for fault in faults:
        click.echo(f"fault: {fault}", err=True)
    if faults:
        raise SystemExit(1)
    served = store.for_readers()
    for line in DuckDBEngine(served, settings).behind():
        click.echo(f"note: {line}; build it to bring it up to date", err=True)
    if not served.tables():
        click.echo("note: no build has ended yet; readers see nothing", err=True)
    click.echo(f"{len(served.tables())} tables whole, content {served.content_hash()}")


@main.command()
@click.option("--lake", help=LAKE_HELP)
@click.option(
    "--older-than",
    default=60.0,
    show_default=True,
    metavar="MINUTES",
    help="Keep those replaced later, which a reader may still have open.",
)
@_explains_errors
def gc(lake: str | None, older_than: float) -> None:
    """Delete snapshots that no table uses any more."""
    from qilin_dagster.lake import Lake

    settings = _settings(lake)
    if not settings.lake.is_dir():
        raise InputError(f"there is no lake in {settings.lake}")
    deleted = Lake(settings.lake).collect_garbage(older_than_s=older_than * 60)
    for path in deleted:
        click.echo(f"deleted {path.relative_to(settings.lake)}", err=True)
    click.echo(f"{len(deleted)} snapshots deleted")


@main.command()
@click.argument("url")
@click.option("--lake", help=LAKE_HELP)
@_explains_errors
def push(url: str, lake: str | None) -> None:
    """Copy what readers see to object storage, such as s3://bucket/lake; only what is new moves."""
    from qilin_dagster.lake import Lake
    from qilin_dagster.object_store import push

    settings = _settings_to_read(lake)
    if settings.lake_url == lake_at(url)[1] is not None:
        raise InputError(f"the lake lives at {url}: qilin build pushes what it has built there")
    click.echo(str(push(Lake(settings.lake), url)))


@main.command()
@click.argument("url")
@click.option("--lake", help=LAKE_HELP)
@_explains_errors
def pull(url: str, lake: str | None) -> None:
    """Make the lake what was pushed to URL last; only what is new moves."""
    from qilin_dagster.engines.duckdb import DuckDBEngine
    from qilin_dagster.lake import Lake
    from qilin_dagster.object_store import pull

    settings = _settings(lake)
    if settings.lake_url is not None:
        raise InputError("qilin pull makes a lake in a folder: name it with --lake DIR")
    store = Lake(settings.lake)
    with store.building():
        moved = pull(url, store)
        DuckDBEngine(store.for_readers(), settings).export_catalog()
    click.echo(str(moved))


@main.command("spark-server")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", default=15002, show_default=True, help="Port to listen at.")
@_explains_errors
def spark_server(host: str, port: int) -> None:
    """Serve Spark Connect on this machine, for trial and tests; Ctrl-C stops it. Needs no Java."""
    from qilin_dagster.engines.spark_connect import start_server

    click.echo(f"qilin build --engine sc://{host}:{port}", err=True)
    start_server(host, port, in_background=False)


def log_to_stderr() -> None:
    """Show the lines of this project as they come."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(relativeCreated)8.0f ms  %(message)s"))
    log = logging.getLogger("qilin")
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False


def entry() -> None:
    """The command as a process of its own."""
    code: int | str | None = 0
    try:
        main()
    except SystemExit as stop:
        code = stop.code
    sys.stdout.flush()
    sys.stderr.flush()
    # Libraries that keep a DuckDB connection to the very end make the interpreter print pages of
    # "leaked" lines while it shuts down; everything is written by now, so leave without that.
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    entry()
