"""Stage 3, features: per task a table of (request, candidate) rows, and what they were made with;
the words and the tokens of all notes.

Vocabularies and statistics are tables of their own, so that one can look at them and check them;
training waits for both.
"""

import logging
from pathlib import Path
from typing import Literal

import dagster as dg

from qilin_dagster.checks import check_specs, check_table, table_suite
from qilin_dagster.lake import Manifest, Written, write_rows
from qilin_dagster.resources import Lakehouse

log = logging.getLogger("qilin")

NOTE_WORDS = "features.note_words"
NOTE_TOKENS = "features.note_tokens"
READS = ("core.impressions", "core.requests", "core.notes", "core.users", NOTE_WORDS)
# What the checks compare with, and nothing is made from.
COMPARED_WITH = ("core.relevance_labels",)


NOTE_WORDS_DESCRIPTION = (
    "One row per (word_id): a word of titles and bodies and how often it stands in them. Beside "
    "the table, the words of every note as memory-mappable arrays, for BM25."
)
NOTE_WORDS_SUITE = table_suite("features.note_words", NOTE_WORDS_DESCRIPTION)


@dg.asset(
    key=["features", "note_words"],
    deps=[dg.AssetKey(["core", "notes"])],
    group_name="features",
    kinds={"python", "table"},
    description=NOTE_WORDS_DESCRIPTION,
    check_specs=check_specs(NOTE_WORDS_SUITE),
)
def note_words(lakehouse: Lakehouse) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster asks for it bare
    from qilin_dagster.note_words import CODE_VERSION, build_note_words

    engine = lakehouse.engine()
    connection = engine.connect(["core.notes"])
    try:
        manifest = lakehouse.store.publish(
            NOTE_WORDS,
            inputs=engine.inputs(("core.notes",)),
            code_version=CODE_VERSION,
            write=lambda folder: build_note_words(connection, folder, log.info),
        )
    finally:
        connection.close()
    log.info("%s: %s words", NOTE_WORDS, f"{manifest.n_rows:,}")
    return dg.MaterializeResult(
        metadata={
            **_rows_and_columns(manifest),
            "notes": manifest.facts["n_notes"],
            "word occurrences": manifest.facts["n_times"],
        },
        data_version=dg.DataVersion(manifest.snapshot_id),
        check_results=check_table(engine, NOTE_WORDS_SUITE),
    )


def _ranking_features(task: str) -> dg.AssetsDefinition:
    table = f"features.{task}_ranking"
    description = (
        f"One row per (request_id, note_idx): a candidate of the {task} task with its label, "
        "scaled dense features, ids in train-only vocabularies, and the clicked notes before the "
        "request. Published ids are keys only; display order and feedback other than the label "
        "are not in it."
    )
    suite = table_suite(table, description)

    @dg.asset(
        key=["features", f"{task}_ranking"],
        deps=[dg.AssetKey(relation.split(".")) for relation in (*READS, *COMPARED_WITH)],
        group_name="features",
        kinds={"polars", "table"},
        description=description,
        check_specs=check_specs(suite),
    )
    def ranking_features(lakehouse: Lakehouse) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster asks for it bare
        from qilin_dagster.features import CODE_VERSION, TASKS, build_features

        engine = lakehouse.engine()
        connection = engine.connect(READS)
        try:
            manifest = lakehouse.store.publish(
                table,
                inputs=engine.inputs(READS),
                code_version=CODE_VERSION,
                write=lambda folder: build_features(
                    connection,
                    lakehouse.store.snapshot_folder(NOTE_WORDS),
                    next(name for name in TASKS if name == task),
                    folder,
                ),
            )
        finally:
            connection.close()
        log.info("%s: %s rows", table, f"{manifest.n_rows:,}")
        return dg.MaterializeResult(
            metadata={
                **_rows_and_columns(manifest),
                "folds (requests, rows)": dg.MetadataValue.json(manifest.facts["folds"]),
                "candidates_without_note": manifest.facts["candidates_without_note"],
            },
            data_version=dg.DataVersion(manifest.snapshot_id),
            check_results=check_table(engine, suite),
        )

    return ranking_features


def _made_with(
    task: str, name: Literal["vocabularies", "statistics"], description: str
) -> dg.AssetsDefinition:
    """A table of what the feature table of the task was made with, read from beside it."""
    source, table = f"features.{task}_ranking", f"features.{task}_{name}"
    suite = table_suite(table, description)

    @dg.asset(
        key=table.split("."),
        deps=[dg.AssetKey(source.split("."))],
        group_name="features",
        kinds={"table"},
        description=description,
        check_specs=check_specs(suite),
    )
    def made_with(lakehouse: Lakehouse) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster asks for it bare
        from qilin_dagster.features import CODE_VERSION, statistics_rows, vocabulary_rows

        engine = lakehouse.engine()
        lake = lakehouse.store
        rows = vocabulary_rows if name == "vocabularies" else statistics_rows

        def write(folder: Path) -> Written:
            return write_rows(rows(lake.snapshot_folder(source)).to_arrow(), folder)

        manifest = lake.publish(
            table, inputs=engine.inputs((source,)), code_version=CODE_VERSION, write=write
        )
        return dg.MaterializeResult(
            metadata=_rows_and_columns(manifest),
            data_version=dg.DataVersion(manifest.snapshot_id),
            check_results=check_table(engine, suite),
        )

    return made_with


def _vocabularies(task: str) -> dg.AssetsDefinition:
    return _made_with(
        task,
        "vocabularies",
        "One row per (feature, value): the id of a value met in the fold fit; ids begin at 1, and "
        "0 is every other value.",
    )


def _statistics(task: str) -> dg.AssetsDefinition:
    return _made_with(
        task,
        "statistics",
        "One row per (feature): mean and deviation of its signed logarithm over the fold fit, by "
        "which the column was scaled.",
    )


def _rows_and_columns(manifest: Manifest) -> dict[str, dg.MetadataValue]:
    return {
        "dagster/row_count": dg.MetadataValue.int(manifest.n_rows),
        "dagster/column_schema": dg.MetadataValue.table_schema(
            dg.TableSchema([dg.TableColumn(name, type_) for name, type_ in manifest.columns])
        ),
    }


NOTE_TOKENS_DESCRIPTION = (
    "One row per (token_id): a token of the text encoders and how often it stands in titles and "
    "bodies. Beside the table, the tokens of every note as memory-mappable arrays, and the "
    "tokenizer."
)
NOTE_TOKENS_SUITE = table_suite("features.note_tokens", NOTE_TOKENS_DESCRIPTION)


@dg.asset(
    key=["features", "note_tokens"],
    deps=[dg.AssetKey(["core", "notes"]), dg.AssetKey(["core", "impressions"])],
    group_name="features",
    kinds={"python", "table"},
    description=NOTE_TOKENS_DESCRIPTION,
    check_specs=check_specs(NOTE_TOKENS_SUITE),
)
def note_tokens(lakehouse: Lakehouse) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster asks for it bare
    from qilin_dagster.note_tokens import CODE_VERSION, READS, build_note_tokens

    engine = lakehouse.engine()
    checkpoint = lakehouse.settings.checkpoint
    connection = engine.connect(READS)
    try:
        manifest = lakehouse.store.publish(
            NOTE_TOKENS,
            inputs={**engine.inputs(READS), "checkpoint": checkpoint or ""},
            code_version=CODE_VERSION,
            write=lambda folder: build_note_tokens(connection, checkpoint, folder, log.info),
        )
    finally:
        connection.close()
    log.info("%s: %s tokens", NOTE_TOKENS, f"{manifest.n_rows:,}")
    return dg.MaterializeResult(
        metadata={
            **_rows_and_columns(manifest),
            "notes": manifest.facts["n_notes"],
            "token occurrences": manifest.facts["n_tokens"],
            "unknown": manifest.facts["n_unknown"],
        },
        data_version=dg.DataVersion(manifest.snapshot_id),
        check_results=check_table(engine, NOTE_TOKENS_SUITE),
    )


tables = [
    note_words,
    *(
        make(task)
        for make in (_ranking_features, _vocabularies, _statistics)
        for task in ("search", "recommendation")
    ),
    note_tokens,
]
