"""What ``qilin build`` does: one Dagster run in this process, kept where the UI finds it."""

import contextlib
import difflib
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qilin_dagster.errors import InputError
from qilin_dagster.lake import Lake, LakeError
from qilin_dagster.settings import DUCKDB, REPOSITORY, Settings
from qilin_dagster.sources.clock import decide_clocks
from qilin_dagster.sources.layout import TABLES
from qilin_dagster.sources.published import inspect
from qilin_dagster.sources.register import read_qrels
from qilin_dagster.working_copy import bring_up_to_date, push_built

if TYPE_CHECKING:
    import dagster as dg

log = logging.getLogger("qilin")

# Errors whose message is written for the person who can mend them.
EXPLAINED = ("InputError", "LakeError", "LakeBusyError", "MissingRelationError")


@dataclass(frozen=True)
class Outcome:
    """How a build ended: lines for the person, and the report's path when one was made."""

    succeeded: bool
    lines: tuple[str, ...]
    report: Path | None


def selected_keys(selects: tuple[str, ...]) -> "list[dg.AssetKey] | None":
    """Asset keys of ``--select``: groups (raw) and keys (core.requests or core/requests).

    None for all but what is made on demand, see `default_keys`. What is in raw brings the
    published files with it, which it reads, and the quarantine, whose rows it leaves out: of other
    data they would be others. Raises InputError naming what is no group and no key.
    """
    from qilin_dagster.definitions import defs

    names = [name.strip() for select in selects for name in select.split(",") if name.strip()]
    if not names:
        return None
    graph = defs.resolve_asset_graph()
    groups: dict[str, list[dg.AssetKey]] = {}
    for key in graph.get_all_asset_keys():
        groups.setdefault(graph.get(key).group_name or "", []).append(key)
    keys = {".".join(key.path): key for key in graph.get_all_asset_keys()}
    selected: list[dg.AssetKey] = []
    for name in names:
        if name in groups:
            selected += groups[name]
        elif name.replace("/", ".") in keys:
            selected.append(keys[name.replace("/", ".")])
        else:
            close = difflib.get_close_matches(name.replace("/", "."), [*groups, *keys], n=1)
            hint = f"; did you mean {close[0]}?" if close else f"; groups: {', '.join(groups)}"
            raise InputError(f"--select {name}: no group and no key of this name{hint}")
    if any(key.path[0] == "raw" for key in selected):
        before = [*groups["published"], *groups["quarantine"]]
        selected += [key for key in before if key not in selected]
    return selected


def default_keys(lake: Lake) -> "list[dg.AssetKey]":
    """Everything but what is made on demand and was never asked for: once it is in the lake, it
    follows the data as the rest does."""
    from qilin_dagster.assets.tables import ON_DEMAND
    from qilin_dagster.definitions import defs

    graph = defs.resolve_asset_graph()
    return [
        key
        for key in graph.get_all_asset_keys()
        if ON_DEMAND not in graph.get(key).tags or lake.manifest(".".join(key.path)) is not None
    ]


def run_build(
    settings: Settings,
    keys: "list[dg.AssetKey] | None",
    *,
    wait: bool = False,
    is_smoke: bool = False,
) -> Outcome:
    """Run the selected assets with their checks; readers see the result when all succeeded.

    With ``is_smoke`` the rankers are the smallest ones, which train in seconds.
    A lake with an address is brought up to date from it first and pushed there last; a build that
    could not be pushed has not succeeded. Raises InputError before anything is written when the
    data folder is unusable, LakeError when the address is, and LakeBusyError when another process
    builds the lake and ``wait`` is not set.
    """

    from qilin_dagster.definitions import defs
    from qilin_dagster.engines.duckdb import DuckDBEngine

    reads_data = keys is None or any(key.path[0] == "published" for key in keys)
    if settings.engine != DUCKDB:
        from qilin_dagster.engines.spark_connect import require_server

        require_server(settings.engine)
    if reads_data:
        _require_usable(settings)
    _set_environment(settings)
    lake = Lake(settings.lake)
    job = defs.resolve_implicit_global_asset_job_def()
    not_pushed = None
    with lake.building(wait=wait):
        bring_up_to_date(settings, log.info, to_build=True)
        with _run_storage(settings.lake) as instance:
            result = job.execute_in_process(
                instance=instance,
                asset_selection=default_keys(lake) if keys is None else keys,
                raise_on_error=False,
                # The event log keeps everything; the terminal shows the lines of this project only.
                run_config={
                    "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                    "ops": _smoke_config(keys) if is_smoke else {},
                },
                # A build that is killed at a terminal is for the person there to begin again.
                tags={
                    "qilin/data": str(settings.data),
                    "qilin/lake": settings.lake_url or str(settings.lake),
                    "dagster/max_retries": "0",
                },
            )
        if result.success and lake.tables() and not lake.is_served():
            # Dagster keeps the errors of a run's last step, showing readers the tables, to itself.
            DuckDBEngine(lake, settings).serve()
        if result.success:
            try:
                push_built(settings, log.info)
            except (InputError, LakeError) as error:
                not_pushed = f"not pushed: {error}"
    builds_quarantine = keys is None or any(key.path[0] == "quarantine" for key in keys)
    lines = [
        *_failures(result, settings),
        *_checks(result),
        *(_set_aside(settings, result.success) if builds_quarantine else []),
    ]
    if not result.success and lake.for_readers().tables():
        lines.append(f"readers of {lake.root} keep the last build that succeeded")
    manifest = lake.manifest("reports.overview")
    wants_report = keys is None or any(key.path[0] == "reports" for key in keys)
    report = (
        lake.snapshot_folder("reports.overview") / "index.html"
        if result.success and manifest is not None and wants_report
        else None
    )
    if not_pushed is not None:
        lines.append(not_pushed)
    return Outcome(result.success and not_pushed is None, tuple(lines), report)


def _smoke_config(keys: "list[dg.AssetKey] | None") -> dict[str, Any]:
    """What the launchpad would say of the selected rankers to make them the smallest ones."""
    from qilin_dagster.assets import ablation, training
    from qilin_dagster.assets.hyper_parameters import smoke_of

    return {
        f"{schema}__{recipe.name}": {"config": smoke_of(recipe)}
        for schema, made in (("training", training.RECIPES), ("ablation", ablation.RECIPES))
        for recipe in made
        if keys is None or any(key.path == [schema, recipe.name] for key in keys)
    }


def _require_usable(settings: Settings) -> None:
    """Everything that makes a data folder unusable, asked before the first file is written."""
    data = inspect(settings.data_folder())
    decide_clocks(data, settings.search_clock_offset)
    read_qrels(data)


def _set_environment(settings: Settings) -> None:
    """Hand the settings to the assets the way the UI's processes get them.

    The lake is handed over as its folder: where it has an address, this build sees to that.
    """
    values = {
        "QILIN_DATA": settings.data,
        "QILIN_LAKE": settings.lake,
        "QILIN_ENGINE": settings.engine,
        "QILIN_SEED": settings.seed,
        "QILIN_THREADS": settings.threads,
        "QILIN_MEMORY_LIMIT": settings.memory_limit,
        "QILIN_SEARCH_CLOCK_OFFSET": settings.search_clock_offset,
        "QILIN_DEVICE": settings.device,
        "QILIN_MAX_QUARANTINED": settings.max_quarantined,
        "QILIN_STRICT": int(settings.is_strict),
    }
    for name, value in values.items():
        if value is not None:
            os.environ[name] = str(value)


@contextlib.contextmanager
def _run_storage(lake: Path) -> "Iterator[dg.DagsterInstance]":
    """DAGSTER_HOME, by default inside the lake, so that runs are kept beside what they made."""
    import dagster as dg
    from sqlalchemy.exc import OperationalError

    home = Path(os.environ.get("DAGSTER_HOME") or lake / ".dagster").absolute()
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not (home / "dagster.yaml").exists():
            shutil.copy(REPOSITORY / "dagster.yaml", home / "dagster.yaml")
        os.environ["DAGSTER_HOME"] = str(home)
        with dg.DagsterInstance.get() as instance:
            yield instance
    except (OperationalError, OSError) as error:
        reason = error.orig if isinstance(error, OperationalError) else error
        raise LakeError(
            f"Dagster cannot write its record of runs in {home}: {reason}; "
            "make room or name another folder with DAGSTER_HOME. "
            "Readers of the lake keep the last complete build"
        ) from error


def _failures(result: "dg.ExecuteInProcessResult", settings: Settings) -> list[str]:
    """What went wrong in each failed step; a fault of the program also says where."""
    lines = []
    for event in result.all_events:
        if not event.is_step_failure:
            continue
        error = event.step_failure_data.error
        description = event.step_failure_data.user_failure_data
        step = (event.step_key or "").replace("__", ".")
        if description is not None and description.description:
            lines.append(f"{step}: {description.description}")
        elif error is not None and error.cls_name != "DagsterAssetCheckFailedError":
            cause = error.cause or error
            if cause.cls_name in EXPLAINED:
                # The message alone says what to do; its class before the colon does not.
                lines.append(f"{step}: {cause.message.partition(': ')[2].strip()}")
            elif cause.cls_name == "OutOfMemoryException":
                limit = settings.memory_limit or "60 % of this machine's memory"
                lines.append(
                    f"{step}: DuckDB needs more memory than {limit}; set QILIN_MEMORY_LIMIT to "
                    "more, or QILIN_THREADS to fewer threads, which need less each: "
                    f"{cause.message.partition(': ')[2].splitlines()[0].strip()}"
                )
            else:
                lines.append(f"{step} failed: {cause.message.strip()}")
                lines.extend(line.rstrip() for line in (cause.stack or [])[-2:])
    return lines


def _set_aside(settings: Settings, succeeded: bool) -> list[str]:
    """One line for each published table with rows set aside."""
    from qilin_dagster.engines.duckdb import DuckDBEngine
    from qilin_dagster.quarantine import set_aside

    engine = DuckDBEngine(Lake(settings.lake), settings)
    connection = engine.open()
    try:
        present = engine.define(
            connection, [f"{schema}.{t}" for schema in ("published", "quarantine") for t in TABLES]
        )
        counts = [
            set_aside(connection, table)
            for table in TABLES
            if present.issuperset({f"published.{table}", f"quarantine.{table}"})
        ]
    finally:
        connection.close()
    lines = []
    for found in counts:
        if found.n_rows:
            # A build that stopped is shown to no reader: the first row has to do.
            more = (
                f'see qilin sql "from quarantine.{found.table}"'
                if succeeded
                else f"first {found.describe_first()}"
            )
            lines.append(f"quarantine.{found.table}: {found.describe()}; {more}")
    return lines


def _checks(result: "dg.ExecuteInProcessResult") -> list[str]:
    evaluations = result.get_asset_check_evaluations()
    failed = [evaluation for evaluation in evaluations if not evaluation.passed]
    lines = []
    for evaluation in sorted(failed, key=lambda e: (e.severity.value, e.asset_key.path)):
        count = evaluation.metadata.get("unexpected_count")
        seen = f" ({count.value:,} rows)" if count is not None else ""
        lines.append(
            f"{evaluation.severity.value.lower()}: {'.'.join(evaluation.asset_key.path)} "
            f"{evaluation.check_name}{seen}: {evaluation.description}"
        )
    if evaluations:
        lines.append(f"{len(evaluations) - len(failed)} of {len(evaluations)} checks passed")
    return lines
