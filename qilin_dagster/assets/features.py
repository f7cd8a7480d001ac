"""Stage 3, features: the words of the notes, and for each task a table of candidates."""

import logging

import dagster as dg

from qilin_dagster.resources import Lakehouse

log = logging.getLogger("qilin")

READS = ("core.impressions", "core.requests", "core.notes", "core.users")


def _ranking_features(task: str) -> dg.AssetsDefinition:
    @dg.asset(
        key=["features", f"{task}_ranking"],
        deps=[dg.AssetKey(relation.split(".")) for relation in READS],
        group_name="features",
        kinds={"polars", "table"},
        description=f"One row per (request, candidate) of the {task} task: label, scaled dense "
        "features, ids in train-only vocabularies, and the clicked notes before the request. "
        "Published ids, display order and feedback other than the label are not in it.",
    )
    def ranking_features(lakehouse: Lakehouse) -> dg.MaterializeResult[None]:
        from qilin_dagster.features import CODE_VERSION, TASKS, build_features

        engine = lakehouse.engine()
        table = f"features.{task}_ranking"
        connection = engine.connect()
        try:
            manifest = lakehouse.store.publish(
                table,
                inputs=engine.inputs(READS),
                code_version=CODE_VERSION,
                write=lambda folder: build_features(
                    connection, next(name for name in TASKS if name == task), folder
                ),
            )
        finally:
            connection.close()
        log.info("%s: %s rows", table, f"{manifest.n_rows:,}")
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": manifest.n_rows,
                "dagster/column_schema": dg.TableSchema(
                    [dg.TableColumn(name, type_) for name, type_ in manifest.columns]
                ),
                "folds (requests, rows)": dg.MetadataValue.json(manifest.facts["folds"]),
                "candidates_without_note": manifest.facts["candidates_without_note"],
            },
            data_version=dg.DataVersion(manifest.snapshot_id),
        )

    return ranking_features


search_ranking, recommendation_ranking = (
    _ranking_features(task) for task in ("search", "recommendation")
)


@dg.asset(
    key=["features", "note_words"],
    deps=[dg.AssetKey(["core", "notes"])],
    group_name="features",
    kinds={"python", "table"},
    description="One row per (word_id): a word of titles and bodies and how often it stands in "
    "them. Beside the table, the words of every note as memory-mappable arrays, for BM25.",
)
def note_words(lakehouse: Lakehouse) -> dg.MaterializeResult[None]:
    from qilin_dagster.note_words import CODE_VERSION, TABLE, build_note_words

    engine = lakehouse.engine()
    connection = engine.connect()
    try:
        manifest = lakehouse.store.publish(
            TABLE,
            inputs=engine.inputs(("core.notes",)),
            code_version=CODE_VERSION,
            write=lambda folder: build_note_words(connection, folder, log.info),
        )
    finally:
        connection.close()
    log.info("%s: %s words", TABLE, f"{manifest.n_rows:,}")
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": manifest.n_rows,
            "dagster/column_schema": dg.TableSchema(
                [dg.TableColumn(name, type_) for name, type_ in manifest.columns]
            ),
            "notes": manifest.facts["n_notes"],
            "word occurrences": manifest.facts["n_times"],
        },
        data_version=dg.DataVersion(manifest.snapshot_id),
    )
