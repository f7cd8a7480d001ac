"""The vision-language ranker: tokens, covers and folds in, weights and a run out. Knows no Dagster.

Folds and candidates are those of the other rankers. A new model reads the stored tokens of the
notes; a checkpoint has a tokenizer of its own, by which the notes that requests show are cut here.
Without images there is nothing that this ranker could show, and it says so.
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.ranking_data import TooLittleData
from models.recipes import VLMRecipe
from qilin_dagster.lake import Written
from qilin_dagster.leaderboard import read_candidates
from qilin_dagster.note_images import unreadable_checkpoint
from qilin_dagster.note_lists import NOTES_AT_ONCE
from qilin_dagster.note_tokens import NoteTokens
from qilin_dagster.text_training import Corpus, TextSources
from qilin_dagster.training import (
    CHECKPOINT,
    Report,
    described,
    not_trained,
    report_epoch,
    write_run,
)

if TYPE_CHECKING:
    import duckdb

    from models.vlm import Reader

CODE_VERSION = "3"
NO_IMAGES = (
    "no images: no note that the train requests show has a cover that can be read. Put parts of "
    "the image archive into the data folder, as image/part_<n>, and build again"
)


def train_vlm(
    connection: "duckdb.DuckDBPyConnection",
    sources: TextSources,
    recipe: VLMRecipe,
    folder: Path,
    device: str,
    report: Report,
) -> Written:
    """Train as the recipe says, choose the epoch on ``validation``, score the test candidates.

    Writes the adapter or the backbone, the head, tokenizer and image processor, and the model card.
    Raises InputError for a checkpoint that cannot be read, and for images that have changed.
    """
    images = sources.note_images
    if images is None or len(images.note_idx) == 0:
        return not_trained(folder, recipe, TooLittleData(NO_IMAGES))

    from models.loop import device_named
    from models.vlm import save_model, scores, train

    corpus = Corpus.read(connection, sources.features, sources.note_tokens, recipe.task)
    shown = corpus.of("fit")["note_idx"].to_numpy()
    if not (images.images_of(np.unique(shown)) >= 0).any():
        return not_trained(folder, recipe, TooLittleData(NO_IMAGES))
    try:
        if recipe.training.correction is not None:
            corpus = corpus.with_exposure(connection, recipe.task)
        reader, corpus = _reader(connection, corpus, recipe)
        seen = None
        if recipe.covers != "none":
            seen = images.covers_of(
                corpus.notes_and_none(), reader.image_shape, recipe.model.max_image_tokens
            )
        fit, _ = corpus.fit()
        model, history = train(
            corpus.texts(),
            reader,
            seen,
            fit,
            corpus.requests("validation"),
            recipe,
            device=device,
            checkpoint=sources.unfinished / CHECKPOINT,
            on_progress=lambda progress: report_epoch(report, recipe.name, progress),
        )
    except TooLittleData as reason:
        return not_trained(folder, recipe, reason)
    test = corpus.requests("test")
    report(f"{recipe.name}: scoring {test.n_candidates:,} candidates")
    score = scores(model, reader, corpus.texts(), seen, test, recipe, device_named(device))
    save_model(model, reader, recipe, folder)
    of_test = images.images_of(corpus.of("test")["note_idx"].to_numpy())
    facts = {
        "history": dataclasses.asdict(history),
        "n_trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "candidates_with_cover": int((of_test >= 0).sum()),
        **corpus.facts(),
    }
    (folder / "model.json").write_text(described(recipe, facts), encoding="utf-8")
    run = corpus.run(recipe.name, score)
    return write_run(folder, run, read_candidates(connection, recipe.task), facts)


def _reader(
    connection: "duckdb.DuckDBPyConnection", corpus: Corpus, recipe: VLMRecipe
) -> "tuple[Reader, Corpus]":
    """What reads the texts, and the corpus in its tokens."""
    from models.vlm import checkpoint_reader, new_reader

    checkpoint = recipe.model.checkpoint
    if checkpoint is None:
        return new_reader(corpus.tokens.tokenizer, recipe.model), corpus
    try:
        reader = checkpoint_reader(recipe.model)
    except (OSError, ValueError) as error:
        raise unreadable_checkpoint(checkpoint, error) from error
    tokens = _cut(connection, corpus, reader, recipe.model.max_note_tokens, checkpoint)
    return reader, dataclasses.replace(corpus, tokens=tokens)


def _cut(
    connection: "duckdb.DuckDBPyConnection",
    corpus: Corpus,
    reader: "Reader",
    n_max: int,
    checkpoint: str,
) -> NoteTokens:
    """The tokens of the notes that requests show, by the checkpoint's tokenizer."""
    from models.tokens import TextNumbers, lists_of

    shown = corpus.table.select("note_idx").unique()  # noqa: F841 # DuckDB reads it by name
    notes = connection.execute(
        "select n.note_idx, concat_ws(' ', n.note_title, n.note_content) from core.notes as n "
        "semi join shown as s on n.note_idx = s.note_idx order by n.note_key, n.note_idx"
    )
    numbers = TextNumbers(reader.tokenizer)
    note_idx: list[int] = []
    lists: list[list[int]] = []
    while rows := notes.fetchmany(NOTES_AT_ONCE):
        note_idx += [note for note, _ in rows]
        lists += numbers([text for _, text in rows], n_max)
    return NoteTokens(
        note_idx=np.array(note_idx, dtype=np.int64),
        notes=lists_of([*lists, []]),
        tokenizer=reader.tokenizer,
        special=corpus.tokens.special,
        checkpoint=checkpoint,
    )
