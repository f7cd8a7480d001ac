"""Stage 1, the published files: found, checked, counted and hashed; the tables SQL starts from."""

import logging
import time
from collections.abc import Iterator

import dagster as dg

from qilin_dagster.assets.tables import WRITER, retried, written_in
from qilin_dagster.resources import Lakehouse
from qilin_dagster.sources.layout import TABLES

log = logging.getLogger("qilin")

DESCRIPTIONS = {
    "notes": "The published notes: text, form, taxonomy, counters, image paths.",
    "user_feat": "The published users: demographics and 40 anonymous dense features.",
    "search_train": "The published search requests before the split.",
    "search_test": "The published search requests after the split.",
    "recommendation_train": "The published feed requests before the split.",
    "recommendation_test": "The published feed requests after the split.",
    "dqa": "The published search requests of the direct-answer sample.",
    "data_set": "What the data is called, whether it is a twin, and the hash of its files.",
    "clock": "The tick and the offset of each table's clock, decided from the data, with evidence.",
    "qrels": "The official label files beside the data, empty where none was given.",
}


@dg.multi_asset(
    name="published_files",
    specs=[
        dg.AssetSpec(
            ["published", name],
            description=description,
            group_name="published",
            kinds={"parquet"},
            metadata=written_in(__file__),
        )
        for name, description in DESCRIPTIONS.items()
    ],
    pool=WRITER,
)
def published_files(lakehouse: Lakehouse) -> Iterator[dg.MaterializeResult[None]]:
    """Register the data folder in the lake; one clear failure when its layout is unusable."""
    from qilin_dagster.errors import InputError
    from qilin_dagster.sources.published import inspect
    from qilin_dagster.sources.register import register_all

    settings = lakehouse.settings
    started = time.monotonic()
    try:
        with retried():
            data = inspect(settings.data_folder())
            manifests = register_all(lakehouse.store, data, settings.search_clock_offset)
    except InputError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    for remark in data.remarks:
        log.info("%s", remark)
    # All of them together: they are read at once.
    seconds = round(time.monotonic() - started, 3)
    for name, manifest in manifests.items():
        metadata: dict[str, dg.MetadataValue] = {
            "dagster/row_count": dg.MetadataValue.int(manifest.n_rows),
            "files": dg.MetadataValue.int(len(manifest.files)),
            "seconds": dg.MetadataValue.float(seconds),
            "bytes": dg.MetadataValue.int(sum(file.n_bytes for file in manifest.files)),
            "dagster/column_schema": dg.MetadataValue.table_schema(
                dg.TableSchema(
                    [dg.TableColumn(column, type_) for column, type_ in manifest.columns]
                )
            ),
        }
        if name == "clock":
            lines = [f"- **{table}**: {why}" for table, why in manifest.facts["evidence"].items()]
            metadata["evidence"] = dg.MetadataValue.md("\n".join(lines))
        if name in TABLES:
            log.info("published.%s: %s rows", name, f"{manifest.n_rows:,}")
        yield dg.MaterializeResult(
            ["published", name],
            metadata=metadata,
            data_version=dg.DataVersion(manifest.snapshot_id),
        )
