"""Everything Dagster shows: the assets in story order, their checks, jobs, schedule and sensors."""

from collections.abc import Sequence

import dagster as dg

from qilin_dagster import automation
from qilin_dagster.assets import (
    ablation,
    answers,
    audit,
    evaluation,
    features,
    images,
    propensity,
    raw,
    reports,
    training,
    views,
)
from qilin_dagster.assets.tables import ON_DEMAND
from qilin_dagster.resources import Lakehouse

ASSETS: Sequence[dg.AssetsDefinition] = [
    raw.published_files,
    views.quarantine_views,
    views.raw_views,
    views.core_views,
    images.images,
    audit.audit,
    views.bias_views,
    *propensity.tables,
    *features.tables,
    *training.rankers,
    *evaluation.tables,
    *ablation.tables,
    *answers.tables,
    reports.overview,
    reports.position_bias,
]

# Whom to ask about a group: those who keep the data, read the log, make rankers, judge them.
OWNERS = {
    **dict.fromkeys(("published", "quarantine", "raw", "core"), "team:data"),
    **dict.fromkeys(("bias", "propensity"), "team:analysis"),
    **dict.fromkeys(("features", "training", "ablation"), "team:ranking"),
    **dict.fromkeys(("evaluation", "reports"), "team:evaluation"),
}


def _lived_with(spec: dg.AssetSpec) -> dg.AssetSpec:
    """With its owner, when it is built by itself, and how old it may be."""
    group = spec.group_name or ""
    follow = automation.FOLLOW_ONCE_ASKED_FOR if ON_DEMAND in spec.tags else automation.FOLLOW
    return spec.replace_attributes(
        owners=[OWNERS[group]],
        # The published files follow the data folder, by its sensor.
        automation_condition=None if group == "published" else follow,
        freshness_policy=automation.FRESH if group in automation.NIGHTLY else None,
    )


defs = dg.Definitions(
    assets=dg.map_asset_specs(_lived_with, ASSETS),
    jobs=[
        automation.everything,
        automation.views,
        automation.train_search,
        automation.train_recommendation,
        automation.evaluate,
        automation.smoke,
    ],
    schedules=[automation.nightly_evaluation],
    sensors=[automation.data_folder, automation.follow_parents, automation.tell_of_failures],
    resources={"lakehouse": Lakehouse()},
    # One process: every step shares DuckDB's memory limit, and Great Expectations is imported once.
    executor=dg.in_process_executor,
)
