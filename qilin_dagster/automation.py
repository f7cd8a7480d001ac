"""When things run by themselves, and who hears of it when they fail.

A sensor on the data folder, a nightly re-evaluation, and conditions by which whatever lies below
follows what was built; the last never below a failed blocking check.
"""

import json
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import dagster as dg
from pydantic import Field

from models.recipes import TASKS
from qilin_dagster.assets.tables import ON_DEMAND
from qilin_dagster.assets.training import RECIPES
from qilin_dagster.resources import Lakehouse

# Dear, and made only where somebody asked for it; from then on it follows its parents.
DEAR = dg.AssetSelection.tag(ON_DEMAND, "")

everything = dg.define_asset_job(
    "everything",
    selection=dg.AssetSelection.all() - DEAR,
    description="From the published files to the report, but for what is made on demand.",
)
views = dg.define_asset_job(
    "views",
    selection=dg.AssetSelection.groups("published", "quarantine", "raw", "core", "bias"),
    description="The published files and all SQL views with their checks; no model.",
)
train_search, train_recommendation = (
    dg.define_asset_job(
        f"train_{task}",
        selection=dg.AssetSelection.assets(
            *(dg.AssetKey(["training", recipe.name]) for recipe in RECIPES if recipe.task == task)
        ),
        description=f"The rankers of the {task} task, from the feature tables as they are; what is "
        "changed in the launchpad makes another run, never mixed up with that of the recipe.",
    )
    for task in TASKS
)
# What is made again every night.
NIGHTLY = ("evaluation", "reports")
evaluate = dg.define_asset_job(
    "evaluate",
    selection=dg.AssetSelection.groups(*NIGHTLY),
    description="The leaderboard and the report, from the runs and tables as they are.",
)


class Rehearsal(dg.Config):
    """What the smoke job builds."""

    scale: float = Field(default=0.002, gt=0, description="Size of the twin; 1.0 is the real log.")


@dg.op(description="Writes a twin, builds everything on it with the smallest rankers, looks at it.")
def rehearse(context: dg.OpExecutionContext, config: Rehearsal) -> None:
    from qilin_dagster.rehearsal import RehearsalError, rehearse_in

    with TemporaryDirectory(prefix="qilin-smoke-") as folder:
        try:
            found = rehearse_in(Path(folder), config.scale, context.log.info)
        except RehearsalError as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
    context.add_output_metadata(found)


@dg.job(
    description="Is this installation able to do all of it? A tiny twin in a lake of its own, "
    "deleted afterwards, with the smallest rankers: some minutes. The lake is not touched.",
)
def smoke() -> None:
    rehearse()


nightly_evaluation = dg.ScheduleDefinition(
    name="nightly_evaluation",
    job=evaluate,
    cron_schedule="0 3 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Evaluates again every night at 03:00 UTC; unchanged runs cost nothing.",
)

# What the nightly evaluation makes is a day old at most; a second night without it is a fault.
FRESH = dg.FreshnessPolicy.time_window(
    fail_window=timedelta(hours=50), warn_window=timedelta(hours=26)
)
# Built when a parent was, once all of its blocking checks have passed.
FOLLOW = (
    dg.AutomationCondition.eager() & dg.AutomationCondition.all_deps_blocking_checks_passed()
).ignore(DEAR)
FOLLOW_ONCE_ASKED_FOR = FOLLOW & ~dg.AutomationCondition.missing()

follow_parents = dg.AutomationConditionSensorDefinition(
    "follow_parents",
    target=dg.AssetSelection.all(),
    minimum_interval_seconds=120,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Builds what lies below a table that was built, unless one of the blocking checks "
    "above failed. What has not changed costs nothing.",
)


@dg.sensor(
    job=everything,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Builds everything when the data folder, or the parts of the image archive in it, "
    "have changed and have stopped changing.",
)
def data_folder(
    context: dg.SensorEvaluationContext, lakehouse: Lakehouse
) -> dg.RunRequest | dg.SkipReason:
    """Waits for two equal looks a minute apart, so that a half-copied folder starts nothing."""
    from qilin_dagster.errors import InputError
    from qilin_dagster.sources.published import inspect, quick_fingerprint
    from qilin_dagster.sources.register import is_registered

    data = lakehouse.settings.data
    if data is None:
        return dg.SkipReason("no data folder is set: start with QILIN_DATA=DIR")
    if not data.is_dir():
        return dg.SkipReason(f"the data folder {data} does not exist")
    seen = json.loads(context.cursor) if context.cursor else {"built": None, "last": None}
    fingerprint = quick_fingerprint(data)
    if seen["built"] is None and is_registered(lakehouse.store, data):
        seen["built"] = fingerprint
    unchanged_since_last_look = seen["last"] == fingerprint
    seen["last"] = fingerprint
    context.update_cursor(json.dumps(seen))
    if seen["built"] == fingerprint:
        return dg.SkipReason(f"{data} is as it was when it was last built")
    if not unchanged_since_last_look:
        return dg.SkipReason(f"{data} is new or changing; building when it holds still")
    try:
        inspect(data)
    except InputError as error:
        return dg.SkipReason(f"{data} cannot be built: {error}")
    seen["built"] = fingerprint
    context.update_cursor(json.dumps(seen))
    return dg.RunRequest(run_key=fingerprint)


@dg.run_failure_sensor(
    name="tell_of_failures",
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells of a failed run where QILIN_NOTIFY says: a web address that takes JSON, or "
    "a command that reads it. Without that, nobody is told.",
)
def tell_of_failures(
    context: dg.RunFailureSensorContext, lakehouse: Lakehouse
) -> dg.SkipReason | None:
    from qilin_dagster.notifier import Failure, notify

    where = lakehouse.settings.notify
    run = context.dagster_run
    if where is None:
        return dg.SkipReason("nobody is to be told: QILIN_NOTIFY is not set")
    steps = tuple(
        f"{event.step_key}: {_in_words(event)}" for event in context.get_step_failure_events()
    )
    said = f"in {len(steps)} step{'s' * (len(steps) > 1)}; {steps[0]}" if steps else ""
    notify(
        where,
        Failure(
            text=f"qilin: the run {run.run_id[:8]} of {run.job_name} failed "
            + (said or f"outside its steps: {context.failure_event.message}"),
            job=run.job_name,
            run_id=run.run_id,
            lake=lakehouse.settings.lake_url or str(lakehouse.settings.lake),
            steps=steps,
        ),
    )
    return None


def _in_words(event: dg.DagsterEvent) -> str:
    """What a step failed of: its own words where it has some."""
    data = event.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return data.user_failure_data.description
    error = data.error.cause or data.error if data.error else None
    return error.message.strip() if error else "failed"
