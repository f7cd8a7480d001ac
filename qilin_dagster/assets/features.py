"""Stage 3, features: per task a table of (request, candidate) rows, and what they were made with;
the words, the tokens and the looks of all notes.

Vocabularies and statistics are tables of their own, so that one can look at them and check them;
training waits for both.
"""

import logging
from typing import Literal

import dagster as dg

from models.recipes import TASKS, Task
from qilin_dagster.assets.tables import Metadata, publish_from, table_asset
from qilin_dagster.lake import Manifest, write_rows
from qilin_dagster.resources import Lakehouse

log = logging.getLogger("qilin")

NOTE_WORDS = "features.note_words"
NOTE_TOKENS = "features.note_tokens"
NOTE_IMAGES = "features.note_images"
NOTE_APPEAL = "features.note_appeal"
APPEAL_READS = ("core.impressions", "core.requests", "core.notes", NOTE_WORDS)
READS = (*APPEAL_READS, "core.users", NOTE_APPEAL)
# What the checks compare with, and nothing is made from.
COMPARED_WITH = ("core.relevance_labels",)


@table_asset(
    NOTE_WORDS,
    "One row per (word_id): a word of titles and bodies and how often it stands in them. Beside "
    "the table, the words of every note as memory-mappable arrays, for BM25.",
    ("core.notes",),
    kinds={"python", "table"},
)
def note_words(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
    from qilin_dagster.note_words import CODE_VERSION, build_note_words

    manifest = publish_from(
        lakehouse,
        table,
        ("core.notes",),
        CODE_VERSION,
        lambda connection, folder: build_note_words(connection, folder, log.info),
    )
    log.info("%s: %s words", table, f"{manifest.n_rows:,}")
    return manifest, {
        "notes": manifest.facts["n_notes"],
        "word occurrences": manifest.facts["n_times"],
    }


@table_asset(
    NOTE_APPEAL,
    "One row per (note_idx): how much more than its neighbours on the page a note is clicked, as "
    "far as its words tell. Learned from the fit fold of both tasks, each note's from clicks on "
    "other notes.",
    APPEAL_READS,
    kinds={"python", "table"},
)
def note_appeal(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
    from qilin_dagster.note_appeal import CODE_VERSION, build_note_appeal

    manifest = publish_from(
        lakehouse,
        table,
        APPEAL_READS,
        CODE_VERSION,
        lambda connection, folder: build_note_appeal(
            connection, lakehouse.store.snapshot_folder(NOTE_WORDS), folder, log.info
        ),
    )
    return manifest, {"notes that taught": manifest.facts["n_taught"]}


def _ranking_features(task: Task) -> dg.AssetsDefinition:
    @table_asset(
        f"features.{task}_ranking",
        f"One row per (request_id, note_idx): a candidate of the {task} task with its label, "
        "scaled dense features, ids in train-only vocabularies, and the clicked notes before the "
        "request. Published ids are keys only; display order and feedback other than the label "
        "are not in it.",
        READS,
        compared_with=COMPARED_WITH,
        kinds={"polars", "table"},
    )
    def ranking_features(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
        from qilin_dagster.features import CODE_VERSION, build_features

        manifest = publish_from(
            lakehouse,
            table,
            READS,
            CODE_VERSION,
            lambda connection, folder: build_features(
                connection,
                lakehouse.store.snapshot_folder(NOTE_WORDS),
                lakehouse.store.snapshot_folder(NOTE_APPEAL),
                task,
                folder,
            ),
        )
        log.info("%s: %s rows", table, f"{manifest.n_rows:,}")
        return manifest, {
            "folds (requests, rows)": dg.MetadataValue.json(manifest.facts["folds"]),
            "candidates_without_note": manifest.facts["candidates_without_note"],
        }

    return ranking_features


def _made_with(
    task: Task, name: Literal["vocabularies", "statistics"], description: str
) -> dg.AssetsDefinition:
    """A table of what the feature table of the task was made with, read from beside it."""
    source = f"features.{task}_ranking"

    @table_asset(f"features.{task}_{name}", description, (source,), kinds={"table"})
    def made_with(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
        from qilin_dagster.features import CODE_VERSION, statistics_rows, vocabulary_rows

        lake = lakehouse.store
        rows = vocabulary_rows if name == "vocabularies" else statistics_rows
        manifest = lake.publish(
            table,
            inputs=lakehouse.engine().inputs((source,)),
            code_version=CODE_VERSION,
            write=lambda folder: write_rows(rows(lake.snapshot_folder(source)).to_arrow(), folder),
        )
        return manifest, {}

    return made_with


def _vocabularies(task: Task) -> dg.AssetsDefinition:
    return _made_with(
        task,
        "vocabularies",
        "One row per (feature, value): the id of a value met in the fold fit; ids begin at 1, and "
        "0 is every other value.",
    )


def _statistics(task: Task) -> dg.AssetsDefinition:
    return _made_with(
        task,
        "statistics",
        "One row per (feature): mean and deviation of its signed logarithm over the fold fit, by "
        "which the column was scaled.",
    )


@table_asset(
    NOTE_TOKENS,
    "One row per (token_id): a token of the text encoders and how often it stands in titles and "
    "bodies. Beside the table, the tokens of every note as memory-mappable arrays, and the "
    "tokenizer.",
    ("core.notes", "core.impressions"),
    kinds={"python", "table"},
)
def note_tokens(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
    from qilin_dagster.note_tokens import CODE_VERSION, READS, build_note_tokens

    checkpoint = lakehouse.settings.checkpoint
    manifest = publish_from(
        lakehouse,
        table,
        READS,
        CODE_VERSION,
        lambda connection, folder: build_note_tokens(connection, checkpoint, folder, log.info),
        more_inputs={"checkpoint": checkpoint or ""},
    )
    log.info("%s: %s tokens", table, f"{manifest.n_rows:,}")
    return manifest, {
        "notes": manifest.facts["n_notes"],
        "token occurrences": manifest.facts["n_tokens"],
        "unknown": manifest.facts["n_unknown"],
    }


@table_asset(
    NOTE_IMAGES,
    "One row per (note_idx): a note with an image that can be read, and which is its cover. Beside "
    "the table, what every different cover looks like as a memory-mappable array, for rankers that "
    "take it as input. Without images it holds no row.",
    ("core.images", "core.notes"),
    kinds={"python", "table"},
)
def note_images(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
    from qilin_dagster.image_facts import registered_folder
    from qilin_dagster.note_images import CODE_VERSION, READS, build_note_images

    lake, settings = lakehouse.store, lakehouse.settings
    checkpoint = settings.vlm_checkpoint or ""
    earlier = lake.manifest(table)
    is_same = earlier is not None and (
        (earlier.inputs["checkpoint"], earlier.code_version) == (checkpoint, CODE_VERSION)
    )
    unfinished = lake.unfinished_folder(
        table,
        inputs={**lakehouse.engine().inputs(READS), "checkpoint": checkpoint},
        code_version=CODE_VERSION,
    )
    manifest = publish_from(
        lakehouse,
        table,
        READS,
        CODE_VERSION,
        lambda connection, folder: build_note_images(
            connection,
            registered_folder(lake),
            settings.vlm_checkpoint,
            lake.snapshot_folder(table) if is_same else None,
            folder,
            unfinished,
            settings.device,
            log.info,
        ),
        more_inputs={"checkpoint": checkpoint},
    )
    log.info("%s: %s covers", table, f"{manifest.n_rows:,}")
    return manifest, {
        "different images": manifest.facts["n_images"],
        "numbers of an image": manifest.facts["n_numbers"],
        "seen by": manifest.facts["seen_by"],
    }


tables = [
    note_words,
    note_appeal,
    *(make(task) for make in (_ranking_features, _vocabularies, _statistics) for task in TASKS),
    note_tokens,
    note_images,
]
