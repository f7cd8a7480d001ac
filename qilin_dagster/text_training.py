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

from models.ranking_data import TooLittleData
from models.recipes import BiEncoderRecipe, CrossEncoderRecipe, TextRecipe
from qilin_dagster.errors import InputError
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
    write_run,
)

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray

    from models.bi_encoder import BiEncoder, FoundNotes
    from models.text_data import NoteTexts, TextRequests

CODE_VERSION = "1"
# Of a pseudo-query, which has a hundred words, BM25 looks for the first: the newest click.
WORDS_LOOKED_FOR = 8


@dataclass(frozen=True, kw_only=True)
class TextSources:
    """Snapshot folders, and one that outlives a killed build: checkpoints and shards lie there.

    ``note_words`` is for the hard negatives of a bi-encoder.
    """

    features: Path
    note_tokens: Path
    note_words: Path | None
    unfinished: Path


def train_text_ranker(
    connection: "duckdb.DuckDBPyConnection",
    sources: TextSources,
    recipe: TextRecipe,
    folder: Path,
    device: str,
    report: Report,
) -> Written:
    """Train as the recipe says, choose the epoch on ``validation``, score the test candidates.

    Raises InputError when the stored tokens are not those of the recipe's checkpoint.
    """
    if isinstance(recipe, BiEncoderRecipe):
        return train_bi_encoder(connection, sources, recipe, folder, device, report)
    return train_cross_encoder(connection, sources, recipe, folder, device, report)


def train_bi_encoder(
    connection: "duckdb.DuckDBPyConnection",
    sources: TextSources,
    recipe: BiEncoderRecipe,
    folder: Path,
    device: str,
    report: Report,
) -> Written:
    """Train, score the test candidates; a search recipe also searches all notes for the clicked."""
    from models.bi_encoder import counted_negatives, save_model, scores, train
    from models.loop import device_named

    corpus = _Corpus.read(connection, sources, recipe)
    try:
        fit, fit_ids = corpus.fit()
        found = _found_by_bm25(connection, sources, corpus, fit_ids, fit, recipe, report)
        model, negatives, history = train(
            corpus.texts(),
            corpus.tokens.tokenizer.get_vocab_size(),
            fit,
            corpus.requests("validation"),
            found,
            recipe,
            device=device,
            checkpoint=sources.unfinished / CHECKPOINT,
            on_progress=lambda progress: report_epoch(report, recipe.name, progress),
        )
    except TooLittleData as reason:
        return not_trained(folder, recipe, reason)
    save_model(model, corpus.tokens.tokenizer, folder)
    test = corpus.requests("test")
    place = device_named(device)
    run = corpus.run(recipe.name, scores(model, corpus.texts(), test, recipe, place))
    facts: dict[str, Any] = {
        "history": dataclasses.asdict(history),
        "negatives": counted_negatives(negatives, found),
        "temperature": 1 / float(model.scale().detach()),
        **corpus.facts(),
    }
    if recipe.task == "search":
        facts |= _search_all(connection, sources, corpus, model, recipe, folder, device, report)
    (folder / "model.json").write_text(described(recipe, facts), encoding="utf-8")
    return write_run(folder, run, read_candidates(connection, recipe.task), facts)


def train_cross_encoder(
    connection: "duckdb.DuckDBPyConnection",
    sources: TextSources,
    recipe: CrossEncoderRecipe,
    folder: Path,
    device: str,
    report: Report,
) -> Written:
    """Train on the fold ``fit``, choose the epoch on ``validation``, score the test candidates."""
    from models.cross_encoder import save_model, scores, train
    from models.loop import device_named

    corpus = _Corpus.read(connection, sources, recipe)
    try:
        fit, _ = corpus.fit()
        model, negatives, history = train(
            corpus.texts(),
            corpus.tokens.tokenizer.get_vocab_size(),
            fit,
            corpus.requests("validation"),
            recipe,
            device=device,
            checkpoint=sources.unfinished / CHECKPOINT,
            on_progress=lambda progress: report_epoch(report, recipe.name, progress),
        )
    except TooLittleData as reason:
        return not_trained(folder, recipe, reason)
    save_model(model, corpus.tokens.tokenizer, folder)
    test, place = corpus.requests("test"), device_named(device)
    run = corpus.run(recipe.name, scores(model, corpus.texts(), test, recipe, place))
    facts = {
        "history": dataclasses.asdict(history),
        "negatives": negatives,
        **corpus.facts(),
    }
    (folder / "model.json").write_text(described(recipe, facts), encoding="utf-8")
    return write_run(folder, run, read_candidates(connection, recipe.task), facts)


@dataclass(frozen=True)
class _Corpus:
    """The notes' tokens, and the candidates of all folds with their queries' texts."""

    tokens: NoteTokens
    table: Any
    query_of: dict[int, str]

    @classmethod
    def read(
        cls, connection: "duckdb.DuckDBPyConnection", sources: TextSources, recipe: TextRecipe
    ) -> "_Corpus":
        import polars as pl

        tokens = read_note_tokens(sources.note_tokens)
        if tokens.checkpoint != recipe.encoder.checkpoint:
            raise InputError(
                f"{recipe.name} is to start from {recipe.encoder.checkpoint or 'a new encoder'}, "
                f"and features.note_tokens holds tokens of {tokens.checkpoint or 'the notes'}: "
                "build features.note_tokens with the same QILIN_CHECKPOINT"
            )

        table = pl.read_parquet(
            sources.features / "part-0.parquet",
            columns=["request_id", "row_number", "fold", "note_idx", "label"],
        )
        column = "query" if recipe.task == "search" else "pseudo_query"
        queries = connection.execute(
            f"select request_id, {column} from core.requests "
            "where channel = $1 and split in ('train', 'test')",
            [recipe.task],
        ).fetchall()
        return cls(
            tokens,
            table,
            {request: text or "" for request, text in queries},
        )

    def texts(self) -> "NoteTexts":
        from models.text_data import NoteTexts

        return NoteTexts(self.tokens.notes, self.tokens.special)

    def fit(self) -> "tuple[TextRequests, NDArray[np.int64]]":
        """The fit requests with a choice, and their request_id."""
        requests = self.requests("fit")
        has_choice = requests.has_choice
        return requests.take(has_choice), self._request_ids("fit")[has_choice]

    def requests(self, fold: str) -> "TextRequests":
        from models.text_data import TextRequests
        from models.tokens import TextNumbers, lists_of
        from qilin_dagster.note_tokens import MAX_TOKENS

        table = self._of(fold)
        ids = self._request_ids(fold)
        start = np.searchsorted(np.cumsum(_is_first(table)), np.arange(1, len(ids) + 1))
        texts = [self.query_of[request] for request in ids.tolist()]
        return TextRequests(
            request_offsets=np.append(start, len(table)),
            labels=table["label"].to_numpy(),
            queries=lists_of(TextNumbers(self.tokens.tokenizer)(texts, MAX_TOKENS)),
            note=self.tokens.rows(table["note_idx"].to_numpy()),
        )

    def run(self, name: str, score: "NDArray[np.float64]") -> ScoredRun:
        """The scores of the test candidates as a run."""
        test = self._of("test")
        return ScoredRun(name, test["row_number"].to_numpy(), test["note_idx"].to_numpy(), score)

    def facts(self) -> dict[str, Any]:
        """What a model card says of the texts."""
        row = self.tokens.rows(self._of("test")["note_idx"].to_numpy())
        return {
            "n_vocabulary": self.tokens.tokenizer.get_vocab_size(),
            "candidates_without_note": int((row == len(self.tokens.note_idx)).sum()),
        }

    def _of(self, fold: str) -> Any:
        import polars as pl

        return self.table.filter(pl.col("fold") == fold)

    def _request_ids(self, fold: str) -> "NDArray[np.int64]":
        table = self._of(fold)
        ids: NDArray[np.int64] = table["request_id"].to_numpy()[_is_first(table)]
        return ids


def _is_first(table: Any) -> "NDArray[np.bool_]":
    """Which rows begin a request; rows of one request stand together."""
    request = table["request_id"].to_numpy()
    return np.append(np.ones(min(1, len(request)), dtype=bool), request[1:] != request[:-1])


def _found_by_bm25(
    connection: "duckdb.DuckDBPyConnection",
    sources: TextSources,
    corpus: _Corpus,
    request_ids: "NDArray[np.int64]",
    fit: "TextRequests",
    recipe: BiEncoderRecipe,
    report: Report,
) -> "FoundNotes":
    """For each fit request, notes that BM25 finds among all and that it did not click."""
    from models.bi_encoder import FoundNotes

    none = [np.zeros(0, dtype=np.int64)] * len(request_ids)
    if recipe.bm25_negatives == 0 or sources.note_words is None:
        return FoundNotes.without_clicked(none, fit)
    words = read_note_words(sources.note_words)
    if len(words.word_id) == 0:
        return FoundNotes.without_clicked(none, fit)
    report(f"{recipe.name}: hard negatives by BM25 for {len(request_ids):,} requests")
    index = words.index()
    row_of_word_row = corpus.tokens.rows(words.note_idx)
    query, offsets = words.numbers([corpus.query_of[request] for request in request_ids.tolist()])
    found = []
    for start, end in itertools.pairwise(offsets.tolist()):
        rows, _ = index.top(query[start : min(end, start + WORDS_LOOKED_FOR)], recipe.bm25_to)
        found.append(row_of_word_row[rows[recipe.bm25_from :]])
    return FoundNotes.without_clicked(found, fit)


def _search_all(
    connection: "duckdb.DuckDBPyConnection",
    sources: TextSources,
    corpus: _Corpus,
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
        corpus.texts(),
        n_notes,
        encoder.max_note_tokens,
        sources.unfinished,
        device=device,
        report=lambda n_done: report(f"{recipe.name}: {n_done:,} of {n_notes:,} notes embedded"),
    )
    path = Path(shutil.move(written, folder / written.name))
    test = corpus.requests("test")
    rows = np.arange(test.n_requests)
    queries = embed(
        model,
        corpus.texts(),
        test.queries,
        rows,
        encoder.max_query_tokens,
        device_named(device),
    )
    report(f"{recipe.name}: searching all notes for {len(rows):,} queries")
    found = nearest(np.load(path, mmap_mode="r"), queries, max(RECALL_AT))
    qid = corpus._of("test")["row_number"].to_numpy()[_is_first(corpus._of("test"))]
    notes = [corpus.tokens.note_idx[of_request[of_request >= 0]] for of_request in found.rows]
    candidates = read_candidates(connection, recipe.task)
    return {
        "retrieval": retrieval(candidates, qid, notes, n_notes),
        "index": {"method": found.method, "share_of_exact": found.share_of_exact},
    }
