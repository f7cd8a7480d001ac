"""Everything Dagster shows: the assets in story order, their checks, jobs, schedule and sensors."""

import dagster as dg

from qilin_dagster.assets import raw, views
from qilin_dagster.resources import Lakehouse

defs = dg.Definitions(
    assets=[
        raw.published_files,
        views.raw_views,
        views.core_views,
        views.bias_views,
    ],
    resources={"lakehouse": Lakehouse()},
    # One process: every step shares DuckDB's memory limit, and Great Expectations is imported once.
    executor=dg.in_process_executor,
)
