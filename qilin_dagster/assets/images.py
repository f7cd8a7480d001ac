"""Stage 2 for files instead of rows: what the images beside the data are."""

import logging

import dagster as dg

from qilin_dagster.assets.tables import Metadata, publish_from, table_asset
from qilin_dagster.lake import Manifest
from qilin_dagster.resources import Lakehouse

log = logging.getLogger("qilin")

IMAGES = "core.images"
NOTES = "core.notes"


@table_asset(
    IMAGES,
    "One row per (note_idx, image_n): an image path of a note in a part of the archive that is "
    "there, its file decoded once: size in pixels and bytes, hash of its content, or the reason "
    "why it cannot be used. image_n counts the paths of the note from 1, the cover. Without images "
    "beside the data it holds no row.",
    (NOTES,),
    kinds={"python", "table"},
)
def images(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
    import os

    import polars as pl

    from qilin_dagster.image_facts import (
        CODE_VERSION,
        build_images,
        described,
        fingerprints,
        registered_folder,
    )

    lake = lakehouse.store
    data = registered_folder(lake)
    parts = fingerprints(data)
    more_inputs = {"folder": str(data), **parts}
    earlier = lake.manifest(table)
    same = [part for part in parts if earlier and earlier.inputs.get(part) == parts[part]]
    before = None
    if same and earlier is not None and earlier.code_version == CODE_VERSION:
        of_part = pl.col("path").str.extract("^(image/[^/]+)/", 1)
        before = pl.read_parquet(lake.files(earlier)).filter(of_part.is_in(same))
    unfinished = lake.unfinished_folder(
        table,
        inputs={**lakehouse.engine().inputs((NOTES,)), **more_inputs},
        code_version=CODE_VERSION,
    )
    manifest = publish_from(
        lakehouse,
        table,
        (NOTES,),
        CODE_VERSION,
        lambda connection, folder: build_images(
            connection,
            data,
            parts,
            before,
            folder,
            unfinished,
            lakehouse.settings.threads or os.cpu_count() or 1,
        ),
        more_inputs=more_inputs,
    )
    line = described(manifest)
    (log.warning if manifest.facts["unreadable"] else log.info)("%s: %s", table, line)
    return manifest, {
        "images": dg.MetadataValue.text(line),
        "parts": dg.MetadataValue.int(len(parts)),
        "readable": dg.MetadataValue.int(manifest.facts["n_readable"]),
        "not readable": dg.MetadataValue.int(sum(manifest.facts["unreadable"].values())),
    }
