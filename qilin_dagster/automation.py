"""When things run by themselves: jobs, the schedule of re-evaluation, the sensor on the data."""

import json

import dagster as dg

from models.recipes import TASKS
from qilin_dagster.assets.training import RECIPES
from qilin_dagster.resources import Lakehouse

everything = dg.define_asset_job(
    "everything",
    selection=dg.AssetSelection.all(),
    description="From the published files to the report.",
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
        description=f"The rankers of the {task} task, from the feature tables as they are.",
    )
    for task in TASKS
)
evaluate = dg.define_asset_job(
    "evaluate",
    selection=dg.AssetSelection.groups("evaluation", "reports"),
    description="The leaderboard and the report, from the runs and tables as they are.",
)

nightly_evaluation = dg.ScheduleDefinition(
    name="nightly_evaluation",
    job=evaluate,
    cron_schedule="0 3 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Evaluates again every night at 03:00 UTC; unchanged runs cost nothing.",
)


@dg.sensor(
    job=everything,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Builds everything when the data folder has changed and has stopped changing.",
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
