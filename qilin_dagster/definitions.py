"""Everything Dagster shows: the assets in story order, their checks, jobs, schedule and sensor."""

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
from qilin_dagster.resources import Lakehouse

defs = dg.Definitions(
    assets=[
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
    ],
    jobs=[
        automation.everything,
        automation.views,
        automation.train_search,
        automation.train_recommendation,
        automation.evaluate,
    ],
    schedules=[automation.nightly_evaluation],
    sensors=[automation.data_folder],
    resources={"lakehouse": Lakehouse()},
    # One process: every step shares DuckDB's memory limit, and Great Expectations is imported once.
    executor=dg.in_process_executor,
)
