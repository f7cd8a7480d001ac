"""Stage 3, propensity: how far a place is examined, by click models."""

import logging

import dagster as dg

from qilin_dagster.assets.tables import Metadata, publish_from, table_asset
from qilin_dagster.lake import Manifest, write_rows
from qilin_dagster.resources import Lakehouse

log = logging.getLogger("qilin")

READS = ("core.impressions", "core.requests", "core.notes")
BY_POSITION = "propensity.by_position"
NUMPY_TABLE = {"numpy", "table"}


@table_asset(
    BY_POSITION,
    "One row per (channel, surface, estimator, position_from): examination of a place relative to "
    "position 1, estimated from clicks in several ways, with 95 % intervals where the estimator "
    "has them. 'mixed position-based' on 'all pages' is the curve to use; 'click rate' is no "
    "examination.",
    READS,
    kinds=NUMPY_TABLE,
)
def by_position(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
    from qilin_dagster.propensities import CODE_VERSION, build_propensities

    seed = lakehouse.settings.seed
    manifest = publish_from(
        lakehouse,
        table,
        READS,
        CODE_VERSION,
        lambda connection, folder: build_propensities(connection, seed, folder, log.info),
        more_inputs={"seed": str(seed)},
    )
    return manifest, {"left out": dg.MetadataValue.json(manifest.facts["left_out"])}


def _beside(name: str, description: str) -> dg.AssetsDefinition:
    """A table that was made along with by_position, read from beside it."""

    @table_asset(f"propensity.{name}", description, (BY_POSITION,), kinds={"table"})
    def beside(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
        from qilin_dagster.propensities import CODE_VERSION, read_beside

        lake = lakehouse.store
        return lake.publish(
            table,
            inputs=lakehouse.engine().inputs((BY_POSITION,)),
            code_version=CODE_VERSION,
            write=lambda folder: write_rows(
                read_beside(lake.snapshot_folder(BY_POSITION), name), folder
            ),
        ), {}

    return beside


tables = [
    by_position,
    _beside(
        "click_models",
        "One row per (channel, surface, estimator): what a click model foretells of users it has "
        "not seen, nats per request and perplexity per exposure given the clicks above, and what "
        "it cannot tell.",
    ),
    _beside(
        "bias_factors",
        "One row per (channel, factor): what besides the place moves clicks, as odds of attraction "
        "or as a ratio of examination, with 95 % intervals, from the recommended click model.",
    ),
    _beside(
        "overlap",
        "One row per (channel, position_from, other_position_from): notes shown at both of two "
        "places, in different requests: what intervention harvesting has to go by.",
    ),
    _beside(
        "trust",
        "One row per (channel, position_from): how often a note that is examined at an upper place "
        "and does not attract is clicked all the same, relative to places below the tenth, with "
        "95 % intervals. What an affine correction takes away.",
    ),
]
