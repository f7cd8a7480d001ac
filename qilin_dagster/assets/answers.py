"""Stage 5, answers: what showing one changes, and answers written anew."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from qilin_dagster.assets.features import NOTE_TOKENS, NOTE_WORDS
from qilin_dagster.assets.tables import Metadata, publish_from, table_asset
from qilin_dagster.lake import Manifest, Written, write_rows
from qilin_dagster.resources import Lakehouse

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

READS = ("core.answer_requests", "core.users")
ANSWERS_READ = ("core.answers", "core.requests")
BI_ENCODER = "training.bi_encoder_search"
PASSAGES, TEXTS = "evaluation.answer_passages", "evaluation.answer_texts"
PASSAGES_READ = (*ANSWERS_READ, "core.notes", NOTE_WORDS, NOTE_TOKENS, BI_ENCODER)
NUMPY_TABLE = {"numpy", "table"}

log = logging.getLogger("qilin")


def _publish(
    lakehouse: Lakehouse,
    table: str,
    rows: "Callable[[duckdb.DuckDBPyConnection], pa.Table]",
) -> Manifest:
    from qilin_dagster.answer_effect import CODE_VERSION

    return publish_from(
        lakehouse,
        table,
        READS,
        CODE_VERSION,
        lambda connection, folder: write_rows(rows(connection), folder),
    )


@table_asset(
    "evaluation.answer_effects",
    "One row per (outcome, estimator, effect_on, query_form): what showing a direct answer changes "
    "on average, over all requests of the answer sample or those shown one, in several ways, with "
    "95 % intervals over users and what it would take to explain it away; 'raw difference' is no "
    "effect.",
    READS,
    kinds=NUMPY_TABLE,
)
def answer_effects(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
    from qilin_dagster.answer_effect import answer_effects, read_study

    return _publish(lakehouse, table, lambda connection: answer_effects(read_study(connection))), {}


@table_asset(
    "evaluation.answer_balance",
    "One row per (covariate): how much requests with and without an answer differ in what was "
    "known before, in standard deviations: as they are, weighted, and matched.",
    READS,
    kinds=NUMPY_TABLE,
)
def answer_balance(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
    from qilin_dagster.answer_effect import answer_balance, read_study

    return _publish(lakehouse, table, lambda connection: answer_balance(read_study(connection))), {}


@table_asset(
    "evaluation.answer_overlap",
    "One row per (bin): requests by their chance of being shown an answer, as foretold from what "
    "was known before, and how many were.",
    READS,
    kinds=NUMPY_TABLE,
)
def answer_overlap(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
    from qilin_dagster.answer_effect import answer_overlap, read_study

    return _publish(lakehouse, table, lambda connection: answer_overlap(read_study(connection))), {}


@table_asset(
    "evaluation.answer_refutations",
    "One row per (outcome, refutation): attempts to prove the estimate wrong: with answers dealt "
    "out by chance, with an outcome of before, with a cause more, with fewer users.",
    READS,
    kinds=NUMPY_TABLE,
)
def answer_refutations(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
    from qilin_dagster.answer_effect import answer_refutations, read_study

    return _publish(
        lakehouse, table, lambda connection: answer_refutations(read_study(connection))
    ), {}


@table_asset(
    PASSAGES,
    "One row per (request_id, context, passage_n): what an answer is written from: the notes that "
    "BM25 or the bi-encoder finds among all for a query that was shown an answer, or those the "
    "shown answer refers to. The context 'none' has no rows.",
    PASSAGES_READ,
    kinds={"table"},
)
def answer_passages(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
    from models.ranking_data import TooLittleData
    from qilin_dagster import answer_texts
    from qilin_dagster.answer_texts import Asked

    lake, device = lakehouse.store, lakehouse.settings.device

    def write(connection: "duckdb.DuckDBPyConnection", folder: Path) -> Written:
        asked = Asked.read(connection)
        found, lacking = {}, {}
        try:
            found[answer_texts.BM25] = answer_texts.found_by_bm25(
                lake.snapshot_folder(NOTE_WORDS), asked.query
            )
        except TooLittleData as reason:
            lacking[answer_texts.BM25] = str(reason)
        why_not = _why_not_trained(lakehouse)
        if why_not is None:
            found[answer_texts.BI_ENCODER] = answer_texts.found_by_bi_encoder(
                lake.snapshot_folder(BI_ENCODER),
                lake.snapshot_folder(NOTE_TOKENS),
                asked.query,
                device,
            )
        else:
            lacking[answer_texts.BI_ENCODER] = why_not
        rows = answer_texts.answer_passages(connection, asked, found)
        return write_rows(rows, folder, {"lacking": lacking})

    manifest = publish_from(lakehouse, table, PASSAGES_READ, answer_texts.CODE_VERSION, write)
    return manifest, {"lacking": dg.MetadataValue.json(manifest.facts["lacking"])}


@table_asset(
    TEXTS,
    "One row per (request_id, context): an answer written anew by the generator that "
    "QILIN_GENERATOR names, from the passages of a context; null, with the reason, where none "
    "could be written.",
    (PASSAGES, *ANSWERS_READ),
    kinds={"table"},
)
def answer_texts(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
    from qilin_dagster.answer_texts import CODE_VERSION, Asked, answer_texts, generator_named

    settings = lakehouse.settings
    key = os.environ.get("QILIN_GENERATOR_KEY")

    def write(connection: "duckdb.DuckDBPyConnection", folder: Path) -> Written:
        generator = generator_named(
            settings.generator, settings.generator_model, key, settings.device
        )
        passages = connection.sql(f"from {PASSAGES} order by all").to_arrow_table()
        made_of = lakehouse.store.manifest(PASSAGES)
        assert made_of is not None
        rows = answer_texts(
            Asked.read(connection),
            passages,
            generator,
            settings.lake / ".answers",
            log.info,
            lacking=made_of.facts["lacking"],
        )
        return write_rows(rows, folder, {"generator": generator.name})

    manifest = publish_from(
        lakehouse,
        table,
        (PASSAGES, *ANSWERS_READ),
        CODE_VERSION,
        write,
        more_inputs={
            "generator": settings.generator or "extractive",
            "generator_model": settings.generator_model or "",
        },
    )
    return manifest, {"generator": manifest.facts["generator"]}


@table_asset(
    "evaluation.answer_metrics",
    "One row per (context, metric): how near answers written anew are to those that were shown, "
    "how far their passages bear them out and whom they cite, means with 95 % bootstrap intervals "
    "over users; 'as shown' are the shown answers themselves.",
    (TEXTS, PASSAGES, *ANSWERS_READ, BI_ENCODER),
    kinds=NUMPY_TABLE,
)
def answer_metrics(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
    from models.answers.bert_score import BertScore
    from qilin_dagster.answer_scores import CODE_VERSION, answer_metrics, lake_encoder, read_pairs
    from qilin_dagster.errors import InputError

    settings, lake = lakehouse.settings, lakehouse.store

    def write(connection: "duckdb.DuckDBPyConnection", folder: Path) -> Written:
        why_not, encoder = _why_not_trained(lakehouse), None
        if settings.answer_encoder is not None:
            try:
                encoder = BertScore.from_folder(
                    settings.answer_encoder, settings.answer_encoder, settings.device
                )
            except (OSError, ValueError) as error:
                raise InputError(
                    f"QILIN_ANSWER_ENCODER={settings.answer_encoder} cannot be used: "
                    f"{str(error).splitlines()[0]}"
                ) from error
        elif why_not is None:
            encoder = lake_encoder(lake.snapshot_folder(BI_ENCODER), settings.device)
        facts = {} if encoder else {"no_bert_score": why_not}
        return write_rows(answer_metrics(read_pairs(connection), encoder), folder, facts)

    reads = (TEXTS, PASSAGES, *ANSWERS_READ, BI_ENCODER)
    return publish_from(
        lakehouse,
        table,
        reads,
        CODE_VERSION,
        write,
        more_inputs={"encoder": settings.answer_encoder or ""},
    ), {}


@table_asset(
    "evaluation.answer_feedback",
    "One row per (context, metric, flag): whether a metric agrees with what users did with the "
    "shown answer: its mean with and without the flag, and the chance that one with the flag has "
    "the higher value (0.5: no agreement).",
    (TEXTS, PASSAGES, *ANSWERS_READ),
    kinds=NUMPY_TABLE,
)
def answer_feedback(lakehouse: Lakehouse, table: str) -> tuple[Manifest, Metadata]:
    from qilin_dagster.answer_scores import CODE_VERSION, answer_feedback, read_pairs

    return publish_from(
        lakehouse,
        table,
        (TEXTS, PASSAGES, *ANSWERS_READ),
        CODE_VERSION,
        lambda connection, folder: write_rows(answer_feedback(read_pairs(connection)), folder),
    ), {}


tables = [
    answer_effects,
    answer_balance,
    answer_overlap,
    answer_refutations,
    answer_passages,
    answer_texts,
    answer_metrics,
    answer_feedback,
]


def _why_not_trained(lakehouse: Lakehouse) -> str | None:
    """Why there is no bi-encoder, if there is none."""
    manifest = lakehouse.store.manifest(BI_ENCODER)
    assert manifest is not None
    reason: str | None = manifest.facts.get("not_trained")
    return reason
