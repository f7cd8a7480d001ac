"""Stage 4, training: a recipe in, weights and a run file out; five rankers a task."""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import dagster as dg

from models import recipes
from models.recipes import (
    BiEncoderRecipe,
    BM25Recipe,
    CrossEncoderRecipe,
    DCNV2Recipe,
    Recipe,
    TextRecipe,
    VLMRecipe,
)
from qilin_dagster.assets.features import NOTE_IMAGES, NOTE_TOKENS, NOTE_WORDS
from qilin_dagster.assets.hyper_parameters import changes, edited, launchpad
from qilin_dagster.assets.tables import Metadata, ranker_asset
from qilin_dagster.errors import InputError
from qilin_dagster.lake import Manifest, Written
from qilin_dagster.resources import Lakehouse

if TYPE_CHECKING:
    from qilin_dagster.note_images import NoteImages
    from qilin_dagster.settings import Settings

log = logging.getLogger("qilin")

Config = Mapping[str, Any]
R = TypeVar("R", bound=Recipe)
S = TypeVar("S", bound=DCNV2Recipe | TextRecipe | VLMRecipe)

# What leaderboard.read_candidates reads.
TEST_CANDIDATES = ("core.impressions", "core.requests")
BM25_READS = (*TEST_CANDIDATES, NOTE_WORDS)


def _bm25(recipe: BM25Recipe) -> dg.AssetsDefinition:
    description = (
        "One row per (qid, pid): the score of a test candidate by BM25 over words of title and "
        "body, word weights from all notes; "
        + (
            "the query is what the user typed."
            if recipe.task == "search"
            else "the query is the titles of recent clicks, for want of one."
        )
    )

    @ranker_asset(
        f"training.{recipe.name}",
        description,
        BM25_READS,
        hyper_parameters=launchpad(recipe),
        kinds={"python"},
    )
    def train(lakehouse: Lakehouse, table: str, config: Config) -> tuple[Manifest, Metadata]:
        from qilin_dagster.training import CODE_VERSION, train_bm25

        chosen = _chosen(recipe, config)
        engine = lakehouse.engine()
        connection = engine.connect(BM25_READS)
        try:
            return _publish(
                lakehouse,
                table,
                recipe,
                chosen,
                engine.inputs(BM25_READS),
                CODE_VERSION,
                lambda folder, _: train_bm25(
                    connection,
                    lakehouse.store.snapshot_folder(NOTE_WORDS),
                    chosen,
                    folder,
                    log.info,
                ),
            )
        finally:
            connection.close()

    return train


def _dcn_v2(recipe: DCNV2Recipe, schema: str) -> dg.AssetsDefinition:
    features = f"features.{recipe.task}_ranking"
    made_with = [f"features.{recipe.task}_{name}" for name in ("vocabularies", "statistics")]
    description = (
        "One row per (qid, pid): the score of a test candidate by DCN-V2 (Wang et al. 2021, "
        "matrix crosses), trained on the exposures of the click log; the epoch is chosen on the "
        f"last hours of train, never on test.{_of_covers(recipe)}"
    )
    reads = (features, *_images_read(recipe), *_places_read(recipe))

    # Of the last two only the checks are needed: what they hold stands beside the first, too.
    @ranker_asset(
        f"{schema}.{recipe.name}",
        description,
        (*reads, *made_with),
        hyper_parameters=launchpad(recipe),
        kinds={"pytorch"},
    )
    def train(lakehouse: Lakehouse, table: str, config: Config) -> tuple[Manifest, Metadata]:
        from models.ranking_data import TooLittleData
        from qilin_dagster.training import CODE_VERSION, not_trained, train_dcn_v2
        from qilin_dagster.vlm_training import NO_IMAGES

        settings = lakehouse.settings
        seeded = _seeded(_chosen(recipe, config), settings)
        engine, lake = lakehouse.engine(), lakehouse.store
        connection = engine.connect((*TEST_CANDIDATES, *_places_read(recipe)))

        def write(folder: Path, unfinished: Path) -> Written:
            images = _images(lakehouse, seeded)
            if schema == "ablation" and images is not None and len(images.note_idx) == 0:
                return not_trained(folder, seeded, TooLittleData(NO_IMAGES))
            return train_dcn_v2(
                connection,
                lake.snapshot_folder(features),
                images,
                seeded,
                folder,
                unfinished,
                settings.device,
                log.info,
            )

        try:
            return _publish(
                lakehouse, table, recipe, seeded, engine.inputs(reads), CODE_VERSION, write
            )
        finally:
            connection.close()

    return train


TEXT_RANKERS = {
    BiEncoderRecipe: (
        "a bi-encoder: one BERT embeds query and note apart, and their angle is the score; learned "
        "against notes shown and not clicked, found by BM25, and of other requests"
    ),
    CrossEncoderRecipe: (
        "a cross-encoder: a BERT reads query and note together; learned on the exposures of each "
        "request against each other"
    ),
    VLMRecipe: (
        "a vision-language model: a Qwen-VL reads query, cover and note together; learned on the "
        "exposures of each request against each other"
    ),
}


def _text_ranker(recipe: TextRecipe | VLMRecipe, schema: str) -> dg.AssetsDefinition:
    features = f"features.{recipe.task}_ranking"
    # Hard negatives are found by words.
    words = (NOTE_WORDS,) if isinstance(recipe, BiEncoderRecipe) else ()
    # A checkpoint's tokens are cut from the texts themselves.
    texts = ("core.notes",) if isinstance(recipe, VLMRecipe) else ()
    places = _places_read(recipe)
    reads = (features, NOTE_TOKENS, *words, *_images_read(recipe), *texts, *places, "core.requests")
    description = (
        "One row per (qid, pid): the score of a test candidate by "
        f"{TEXT_RANKERS[type(recipe)]}. "
        + ("" if recipe.task == "search" else "The query is the titles of recent clicks. ")
        + f"The epoch is chosen on the last hours of train, never on test.{_of_covers(recipe)}"
        + (
            ""
            if isinstance(recipe, VLMRecipe) or not recipe.interpolates
            else " The score is a weighted sum with what can be counted: BM25 and other matches, "
            "what the note's words tell of its clicks, what it is made of."
        )
    )

    # Candidates are read from impressions, from which the feature table was made, too.
    @ranker_asset(
        f"{schema}.{recipe.name}",
        description,
        (*reads, "core.impressions"),
        hyper_parameters=launchpad(recipe),
        kinds={"pytorch"},
    )
    def train(lakehouse: Lakehouse, table: str, config: Config) -> tuple[Manifest, Metadata]:
        from qilin_dagster import text_training, vlm_training
        from qilin_dagster.text_training import TextSources

        settings = lakehouse.settings
        chosen = recipe
        if isinstance(chosen, VLMRecipe):
            code_version = vlm_training.CODE_VERSION
            if settings.vlm_checkpoint is not None:
                chosen = recipes.vlm_from_checkpoint(chosen, settings.vlm_checkpoint)
        else:
            code_version = text_training.CODE_VERSION
            if settings.checkpoint is not None:
                chosen = recipes.from_checkpoint(chosen, settings.checkpoint)
        seeded = _seeded(_chosen(recipe, config, onto=chosen), settings)
        engine, lake = lakehouse.engine(), lakehouse.store
        connection = engine.connect((*TEST_CANDIDATES, *texts, *places))

        def write(folder: Path, unfinished: Path) -> Written:
            sources = TextSources(
                features=lake.snapshot_folder(features),
                note_tokens=lake.snapshot_folder(NOTE_TOKENS),
                note_words=lake.snapshot_folder(NOTE_WORDS) if words else None,
                unfinished=unfinished,
                note_images=_images(lakehouse, seeded),
            )
            if isinstance(seeded, VLMRecipe):
                train = vlm_training.train_vlm
                return train(connection, sources, seeded, folder, settings.device, log.info)
            return text_training.train_text_ranker(
                connection, sources, seeded, folder, settings.device, log.info
            )

        try:
            return _publish(
                lakehouse, table, recipe, seeded, engine.inputs(reads), code_version, write
            )
        finally:
            connection.close()

    return train


def _images_read(recipe: DCNV2Recipe | TextRecipe | VLMRecipe) -> tuple[str, ...]:
    """The table of covers, where the recipe sees them; a VLM also asks it whether there are any."""
    if isinstance(recipe, VLMRecipe) or (
        not isinstance(recipe, CrossEncoderRecipe) and recipe.covers != "none"
    ):
        return (NOTE_IMAGES,)
    return ()


def _places_read(recipe: DCNV2Recipe | TextRecipe | VLMRecipe) -> tuple[str, ...]:
    """What is known of places, where training allows for it; impressions say where notes stood."""
    correction = recipe.training.correction
    if correction is None:
        return ()
    trust = ("propensity.trust",) if correction.method == "affine" else ()
    return ("propensity.by_position", *trust)


def _images(
    lakehouse: Lakehouse, recipe: DCNV2Recipe | TextRecipe | VLMRecipe
) -> "NoteImages | None":
    """The covers as the recipe is to see them."""
    from qilin_dagster.note_images import read_note_images

    if not _images_read(recipe) or isinstance(recipe, CrossEncoderRecipe):
        return None
    manifest = lakehouse.store.manifest(NOTE_IMAGES)
    assert manifest is not None
    images = read_note_images(lakehouse.store.snapshot_folder(NOTE_IMAGES), manifest.facts)
    return images.shuffled(recipe.training.seed) if recipe.covers == "shuffled" else images


def _of_covers(recipe: DCNV2Recipe | TextRecipe | VLMRecipe) -> str:
    """What is said of covers that are not as they come."""
    if isinstance(recipe, CrossEncoderRecipe):
        return ""
    if recipe.covers == "shuffled":
        return " Each note has the cover of another, as a control."
    if isinstance(recipe, VLMRecipe):
        alone = "" if recipe.reads_text else " It reads nothing of the note but its cover."
        return " It sees no covers." if recipe.covers == "none" else alone
    return " It is told what the cover looks like." if recipe.covers == "own" else ""


def _chosen(recipe: R, config: Config, onto: R | None = None) -> R:
    """The recipe as the launchpad has it; stops the step where no model can be made of it."""
    try:
        return edited(recipe, config, onto)
    except InputError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error


def _seeded(recipe: S, settings: "Settings") -> S:
    """With the seed of the settings, its batches cut for their number of processes."""
    training = dataclasses.replace(recipe.training, seed=settings.seed)
    return dataclasses.replace(recipe, training=training.cut_for(settings.processes))


def _publish(
    lakehouse: Lakehouse,
    table: str,
    named_recipe: Recipe,
    recipe: Recipe,
    inputs: dict[str, str],
    code_version: str,
    write: Callable[[Path, Path], Written],
) -> tuple[Manifest, Metadata]:
    """Publish a run; the recipe is part of what names it, so another recipe trains anew.

    ``named_recipe`` is what it was before the launchpad, the seed and a checkpoint changed it.
    ``write`` gets the folder of the snapshot and one for what an interrupted training goes on with.
    """
    described = json.dumps(dataclasses.asdict(recipe), sort_keys=True)
    changed = changes(named_recipe, recipe)
    lake = lakehouse.store
    named = {**inputs, "recipe": hashlib.sha256(described.encode()).hexdigest()[:12]}
    unfinished = lake.unfinished_folder(table, inputs=named, code_version=code_version)
    manifest = lake.publish(
        table,
        inputs=named,
        code_version=code_version,
        write=lambda folder: _telling(write(folder, unfinished), changed),
    )
    reason = manifest.facts.get("not_trained")
    if reason is None:
        log.info("%s: %s scores", table, f"{manifest.n_rows:,}")
    else:
        log.warning("%s: not trained. %s", table, reason)
    metadata = _metadata(lakehouse, manifest, described)
    if changed:
        metadata["other than the recipe"] = dg.MetadataValue.md(
            "\n".join(f"- {c}" for c in changed)
        )
    return manifest, metadata


def _telling(written: Written, changed: list[str]) -> Written:
    """With what is other than in the recipe, for the report; as it is where nothing is."""
    return (
        dataclasses.replace(written, facts={**written.facts, "other": changed})
        if changed
        else written
    )


def _metadata(lakehouse: Lakehouse, manifest: Manifest, recipe: str) -> dict[str, dg.MetadataValue]:
    metadata: dict[str, dg.MetadataValue] = {
        "recipe": dg.MetadataValue.json(json.loads(recipe)),
        "run": dg.MetadataValue.path(
            str(lakehouse.store.snapshot_folder(manifest.table) / "run.csv")
        ),
    }
    if "not_trained" in manifest.facts:
        metadata["not trained"] = dg.MetadataValue.text(manifest.facts["not_trained"])
    for row in manifest.facts.get("retrieval", ()):
        metadata[f"{row['metric']}, {row['protocol']}"] = dg.MetadataValue.float(row["value"])
    for source, n in manifest.facts.get("negatives", {}).items():
        metadata[f"negatives of an epoch, {source}"] = dg.MetadataValue.int(n)
    history = manifest.facts.get("history")
    if history:
        metadata["best validation MRR@10"] = dg.MetadataValue.float(history["best_metric"])
        metadata["parameters"] = dg.MetadataValue.int(history["n_parameters"])
        lines = ["| epoch | loss | validation MRR@10 | seconds |", "|---|---|---|---|"]
        lines += [
            f"| {epoch['epoch']} | {epoch['loss']:.4f} | {epoch['validation_metric']:.4f} "
            f"| {epoch['seconds']:.1f} |"
            for epoch in history["epochs"]
        ]
        metadata["training"] = dg.MetadataValue.md("\n".join(lines))
    return metadata


RECIPES: tuple[Recipe, ...] = (
    recipes.bm25_search(),
    recipes.bi_encoder_search(),
    recipes.cross_encoder_search(),
    recipes.dcn_v2_search(),
    recipes.vlm_search(),
    recipes.bm25_recommendation(),
    recipes.bi_encoder_recommendation(),
    recipes.cross_encoder_recommendation(),
    recipes.dcn_v2_recommendation(),
    recipes.vlm_recommendation(),
)


# Runs of ablation, made as these are.
CORRECTED: tuple[DCNV2Recipe, ...] = tuple(
    recipes.corrected(recipe, correction)
    for recipe in (recipes.dcn_v2_search(), recipes.dcn_v2_recommendation())
    for correction in (
        *(recipes.IPS, recipes.DOUBLY_ROBUST, recipes.AFFINE, recipes.POSITION_INPUT),
    )
)


def ranker(recipe: Recipe, schema: str = "training") -> dg.AssetsDefinition:
    """The asset that a recipe is run by."""
    if isinstance(recipe, BM25Recipe):
        return _bm25(recipe)
    if isinstance(recipe, DCNV2Recipe):
        return _dcn_v2(recipe, schema)
    return _text_ranker(recipe, schema)


rankers = [ranker(recipe) for recipe in RECIPES]
