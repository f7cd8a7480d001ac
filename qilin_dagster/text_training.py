"""The text rankers: tokens and folds in, weights and a run out. Knows no Dagster.

Folds and candidates are those of the feature tables, so that every model learns from the same
requests and is validated on the same ones; the texts are the stored tokens of the notes.
"""

import dataclasses
import itertools
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.ranking_data import Exposure, Requests, TooLittleData
from models.recipes import BiEncoderRecipe, CrossEncoderRecipe, Task, TextRecipe
from qilin_dagster.errors import InputError
from qilin_dagster.exposures import exposure_of
from qilin_dagster.lake import Written
from qilin_dagster.leaderboard import ScoredRun, read_candidates
from qilin_dagster.note_tokens import NoteTokens, read_note_tokens
from qilin_dagster.note_words import read_note_words
from qilin_dagster.retrieval import RECALL_AT, retrieval
from qilin_dagster.training import (
    CHECKPOINT,
    Report,
    described,
    not_trained,
    report_epoch,
    request_starts,
    save_visual_inputs,
    visual_inputs,
    write_run,
)

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray

    from models.bi_encoder import BiEncoder, FoundNotes
    from models.loop import TrainingHistory
    from models.text_data import NoteTexts, TextRequests
    from qilin_dagster.note_images import NoteImages

CODE_VERSION = "5"
# What the encoder's score is weighed with, of the feature table: how the note matches query and
# recent clicks by counting, and what it is made of. Neither who asks nor how the note did so far.
BESIDE_THE_SCORE = (
    *("word_match", "query_title_overlap", "is_query_in_content"),
    *("history_taxonomy1_share", "history_taxonomy2_share"),
    *("note_appeal", "content_length", "image_num", "video_duration"),
)
# Of a pseudo-query, which has a hundred words, BM25 looks for the first: the newest click.
WORDS_LOOKED_FOR = 8
# The whole corpus is searched for so many requests; of more, for every second, third ... one. The
# others are told from what they showed and from the notes of their batch.
MOST_SEARCHED_FOR = 20_000


@dataclass(frozen=True, kw_only=True)
class TextSources:
    """Snapshot folders, and one that outlives a killed build: checkpoints and shards lie there.

    ``note_words`` is for the hard negatives of a bi-encoder; ``note_images`` are the covers that
    the recipe sees, if any.
    """

    features: Path
    note_tokens: Path
    note_words: Path | None
    unfinished: Path
    note_images: "NoteImages | None" = None


@dataclass(frozen=True)
class _Trained:
    """Scores of the validation and the test candidates, in the order of the feature table, and what
    happened."""

    validation_score: "NDArray[np.float64]"
    score: "NDArray[np.float64]"
    history: "TrainingHistory"
    negatives: dict[str, int]
    facts: dict[str, Any]


def train_text_ranker(
    connection: "duckdb.DuckDBPyConnection",
    sources: TextSources,
    recipe: TextRecipe,
    folder: Path,
    device: str,
    report: Report,
) -> Written:
    """Train as the recipe says, choose the epoch on ``validation``, score the test candidates.

    A bi-encoder for search also searches all notes for the clicked ones.

    Raises InputError when the stored tokens are not those of the recipe's checkpoint.
    """
    corpus = Corpus.read(connection, sources.features, sources.note_tokens, recipe.task)
    if corpus.tokens.checkpoint != recipe.encoder.checkpoint:
        raise InputError(
            f"{recipe.name} is to start from {recipe.encoder.checkpoint or 'a new encoder'}, "
            "and features.note_tokens holds tokens of "
            f"{corpus.tokens.checkpoint or 'the notes'}: "
            "build features.note_tokens with the same QILIN_CHECKPOINT"
        )
    try:
        if recipe.training.correction is not None:
            corpus = corpus.with_exposure(connection, recipe.task)
        if isinstance(recipe, BiEncoderRecipe):
            trained = _train_bi_encoder(connection, sources, corpus, recipe, folder, device, report)
        else:
            trained = _train_cross_encoder(sources, corpus, recipe, folder, device, report)
    except TooLittleData as reason:
        return not_trained(folder, recipe, reason)
    score, weights = trained.score, dict[str, Any]()
    if recipe.interpolates:
        score, weights = _interpolated(corpus, trained, recipe)
    facts = {
        "history": dataclasses.asdict(trained.history),
        "negatives": trained.negatives,
        **weights,
        **trained.facts,
        **corpus.facts(),
    }
    (folder / "model.json").write_text(described(recipe, facts), encoding="utf-8")
    run = corpus.run(recipe.name, score)
    return write_run(folder, run, read_candidates(connection, recipe.task), facts)


def _interpolated(
    corpus: "Corpus", trained: _Trained, recipe: TextRecipe
) -> "tuple[NDArray[np.float64], dict[str, Any]]":
    """Scores of the test candidates with what stands beside them, and what they were weighed by.

    What stands beside the encoder's score knows no click on the note itself: its own weights come
    from all requests that teach. The encoder knows those by heart, and is weighed on others.
    """
    from models.interpolation import fit
    from models.ranking_data import validation_metric

    training, validation = recipe.training, corpus.outcomes("validation")
    beside = fit(corpus.beside("fit"), corpus.outcomes("fit"), training)

    def known(fold: str, score: "NDArray[np.float64]") -> "NDArray[np.float64]":
        return np.column_stack([score, beside(corpus.beside(fold))])

    of_validation = known("validation", trained.validation_score)
    weighed = fit(of_validation, validation, training)
    metric = validation_metric(validation, training)
    names = ("encoder", "beside it", *BESIDE_THE_SCORE)
    weights = [*weighed.weight_K.tolist(), *beside.weight_K.tolist()]
    facts = {
        "weights": {name: round(w, 4) for name, w in zip(names, weights, strict=True)},
        "validation_metric_of_the_encoder_alone": metric(trained.validation_score),
        "validation_metric_of_what_stands_beside_it": metric(of_validation[:, 1]),
        "validation_metric_as_weighed": metric(weighed(of_validation)),
    }
    return weighed(known("test", trained.score)), facts


def _train_bi_encoder(
    connection: "duckdb.DuckDBPyConnection",
    sources: TextSources,
    corpus: "Corpus",
    recipe: BiEncoderRecipe,
    folder: Path,
    device: str,
    report: Report,
) -> _Trained:
    from models.bi_encoder import counted_negatives, save_model, scores, train
    from models.loop import device_named

    texts = corpus.texts()
    visual, inputs = visual_inputs(
        sources.note_images, corpus.notes_and_none(), corpus.is_shown_in_fit()
    )
    if inputs is not None:
        texts = dataclasses.replace(texts, visual=visual)
        save_visual_inputs(inputs, folder)
    fit, fit_ids = corpus.fit()
    validation = corpus.requests("validation")
    found = _found_by_bm25(connection, sources, corpus, fit_ids, fit, recipe, report)
    model, negatives, history = train(
        texts,
        corpus.tokens.tokenizer.get_vocab_size(),
        fit,
        validation,
        found,
        recipe,
        device=device,
        checkpoint=sources.unfinished / CHECKPOINT,
        on_progress=lambda progress: report_epoch(report, recipe.name, progress),
    )
    save_model(model, corpus.tokens.tokenizer, folder)
    test = corpus.requests("test")
    facts: dict[str, Any] = {"temperature": 1 / float(model.scale().detach())}
    place = device_named(device)
    validation_score, score = (
        scores(model, texts, requests, recipe, place) for requests in (validation, test)
    )
    if recipe.task == "search":
        facts |= _search_all(
            connection, sources, corpus, texts, test, model, recipe, folder, device, report
        )
    return _Trained(validation_score, score, history, counted_negatives(negatives, found), facts)


def _train_cross_encoder(
    sources: TextSources,
    corpus: "Corpus",
    recipe: CrossEncoderRecipe,
    folder: Path,
    device: str,
    report: Report,
) -> _Trained:
    from models.cross_encoder import save_model, scores, train
    from models.loop import device_named

    texts = corpus.texts()
    fit, _ = corpus.fit()
    validation = corpus.requests("validation")
    model, negatives, history = train(
        texts,
        corpus.tokens.tokenizer.get_vocab_size(),
        fit,
        validation,
        recipe,
        device=device,
        checkpoint=sources.unfinished / CHECKPOINT,
        on_progress=lambda progress: report_epoch(report, recipe.name, progress),
    )
    save_model(model, corpus.tokens.tokenizer, folder)
    place = device_named(device)
    validation_score, score = (
        scores(model, texts, requests, recipe, place)
        for requests in (validation, corpus.requests("test"))
    )
    return _Trained(validation_score, score, history, negatives, {})


@dataclass(frozen=True)
class Corpus:
    """The notes' tokens, and the candidates of all folds with their queries' texts.

    ``exposure`` says where the rows of the table stood, where training asks for it.
    """

    tokens: NoteTokens
    table: Any
    query_of: dict[int, str]
    exposure: Exposure | None = None

    @classmethod
    def read(
        cls,
        connection: "duckdb.DuckDBPyConnection",
        features: Path,
        note_tokens: Path,
        task: Task,
    ) -> "Corpus":
        """From the snapshot folders of the task's feature table and of the notes' tokens."""
        import polars as pl

        tokens = read_note_tokens(note_tokens)
        table = pl.read_parquet(
            features / "part-0.parquet",
            columns=[
                *("request_id", "row_number", "fold", "note_idx", "label"),
                *BESIDE_THE_SCORE,
            ],
        )
        column = "query" if task == "search" else "pseudo_query"
        queries = connection.execute(
            f"select request_id, {column} from core.requests "
            "where channel = $1 and split in ('train', 'test')",
            [task],
        ).fetchall()
        return cls(
            tokens,
            table,
            {request: text or "" for request, text in queries},
        )

    def with_exposure(self, connection: "duckdb.DuckDBPyConnection", task: Task) -> "Corpus":
        """The same, told where its candidates stood; reads propensity.by_position."""
        return dataclasses.replace(self, exposure=exposure_of(connection, self.table, task))

    def texts(self) -> "NoteTexts":
        from models.text_data import NoteTexts

        return NoteTexts(self.tokens.notes, self.tokens.special)

    def notes_and_none(self) -> "NDArray[np.int64]":
        """note_idx of the rows of the notes; -1 for the last, which is no note."""
        return np.append(self.tokens.note_idx, -1)

    def is_shown_in_fit(self) -> "NDArray[np.bool_]":
        """Which rows of the notes the fit fold showed."""
        return np.isin(self.notes_and_none(), self.of("fit")["note_idx"].to_numpy())

    def fit(self) -> "tuple[TextRequests, NDArray[np.int64]]":
        """The fit requests with a choice, and their request_id."""
        requests = self.requests("fit")
        has_choice = requests.has_choice
        return requests.take(has_choice), self._request_ids("fit")[has_choice]

    def requests(self, fold: str) -> "TextRequests":
        from models.text_data import TextRequests
        from models.tokens import TextNumbers, lists_of
        from qilin_dagster.note_tokens import MAX_TOKENS

        outcomes = self.outcomes(fold)
        texts = [self.query_of[request] for request in self._request_ids(fold).tolist()]
        return TextRequests(
            request_offsets=outcomes.request_offsets,
            labels=outcomes.labels,
            exposure=outcomes.exposure,
            queries=lists_of(TextNumbers(self.tokens.tokenizer)(texts, MAX_TOKENS)),
            note=self.tokens.rows(self.of(fold)["note_idx"].to_numpy()),
        )

    def outcomes(self, fold: str) -> Requests:
        """The requests of a fold without their texts."""
        table, exposure = self.of(fold), self.exposure
        if exposure is not None:
            exposure = exposure.rows(np.flatnonzero((self.table["fold"] == fold).to_numpy()))
        return Requests(
            request_offsets=np.append(request_starts(table), len(table)),
            labels=table["label"].to_numpy(),
            exposure=exposure,
        )

    def beside(self, fold: str) -> "NDArray[np.float64]":
        """What stands beside the encoder's score, (N, columns)."""
        columns = self.of(fold).select(BESIDE_THE_SCORE).to_numpy()
        return np.asarray(columns, dtype=np.float64)

    def run(self, name: str, score: "NDArray[np.float64]") -> ScoredRun:
        """The scores of the test candidates as a run."""
        test = self.of("test")
        return ScoredRun(name, test["row_number"].to_numpy(), test["note_idx"].to_numpy(), score)

    def facts(self) -> dict[str, Any]:
        """What a model card says of the texts."""
        row = self.tokens.rows(self.of("test")["note_idx"].to_numpy())
        return {
            "n_vocabulary": self.tokens.tokenizer.get_vocab_size(),
            "candidates_without_note": int((row == len(self.tokens.note_idx)).sum()),
        }

    def of(self, fold: str) -> Any:
        import polars as pl

        return self.table.filter(pl.col("fold") == fold)

    def _request_ids(self, fold: str) -> "NDArray[np.int64]":
        table = self.of(fold)
        ids: NDArray[np.int64] = table["request_id"].to_numpy()[request_starts(table)]
        return ids


def _found_by_bm25(
    connection: "duckdb.DuckDBPyConnection",
    sources: TextSources,
    corpus: Corpus,
    request_ids: "NDArray[np.int64]",
    fit: "TextRequests",
    recipe: BiEncoderRecipe,
    report: Report,
) -> "FoundNotes":
    """Notes that BM25 finds among all for fit requests, and that these did not click."""
    from models.bi_encoder import FoundNotes

    found = [np.zeros(0, dtype=np.int64)] * len(request_ids)
    if recipe.bm25_negatives == 0 or sources.note_words is None:
        return FoundNotes.without_clicked(found, fit)
    words = read_note_words(sources.note_words)
    if len(words.word_id) == 0:
        return FoundNotes.without_clicked(found, fit)
    every = max(1, -(-len(request_ids) // MOST_SEARCHED_FOR))
    searched = len(request_ids[::every])
    report(
        f"{recipe.name}: hard negatives by BM25 for {searched:,} of {len(request_ids):,} requests"
    )
    index = words.index()
    row_of_word_row = corpus.tokens.rows(words.note_idx)
    query, offsets = words.numbers([corpus.query_of[request] for request in request_ids.tolist()])
    for request, (start, end) in enumerate(itertools.pairwise(offsets.tolist())):
        if request % every == 0:
            rows, _ = index.top(query[start : min(end, start + WORDS_LOOKED_FOR)], recipe.bm25_to)
            found[request] = row_of_word_row[rows[recipe.bm25_from :]]
    return FoundNotes.without_clicked(found, fit)


def _search_all(
    connection: "duckdb.DuckDBPyConnection",
    sources: TextSources,
    corpus: Corpus,
    texts: "NoteTexts",
    test: "TextRequests",
    model: "BiEncoder",
    recipe: BiEncoderRecipe,
    folder: Path,
    device: str,
    report: Report,
) -> dict[str, Any]:
    """Embed all notes into the folder and look for the clicked ones of the test requests."""
    from models.bi_encoder import embed, embed_notes
    from models.loop import device_named
    from models.note_index import nearest

    encoder, n_notes = recipe.encoder, len(corpus.tokens.note_idx)
    report(f"{recipe.name}: embedding {n_notes:,} notes")
    written = embed_notes(
        model,
        texts,
        n_notes,
        encoder.max_note_tokens,
        sources.unfinished,
        device=device,
        report=lambda n_done: report(f"{recipe.name}: {n_done:,} of {n_notes:,} notes embedded"),
    )
    path = Path(shutil.move(written, folder / written.name))
    rows = np.arange(test.n_requests)
    queries = embed(
        model,
        texts,
        test.queries,
        rows,
        encoder.max_query_tokens,
        device_named(device),
    )
    report(f"{recipe.name}: searching all notes for {len(rows):,} queries")
    found = nearest(np.load(path, mmap_mode="r"), queries, max(RECALL_AT))
    table = corpus.of("test")
    qid = table["row_number"].to_numpy()[request_starts(table)]
    notes = [corpus.tokens.note_idx[of_request[of_request >= 0]] for of_request in found.rows]
    candidates = read_candidates(connection, recipe.task)
    return {
        "retrieval": retrieval(candidates, qid, notes, n_notes),
        "index": {"method": found.method, "share_of_exact": found.share_of_exact},
    }
