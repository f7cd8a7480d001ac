"""The stored words of all notes, and the BM25 runs made from them."""

import json
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest
from rank_bm25 import BM25Okapi

from models import recipes
from models.words import tokenize
from qilin_dagster import note_lists
from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.leaderboard import read_candidates
from qilin_dagster.note_words import build_note_words, read_note_words
from qilin_dagster.retrieval import PROTOCOL
from qilin_dagster.sources.twin import write_twin
from qilin_dagster.training import train_bm25
from tests.conftest import build_views


@pytest.fixture(scope="module")
def twin_engine(tmp_path_factory: pytest.TempPathFactory) -> DuckDBEngine:
    folder = tmp_path_factory.mktemp("twin")
    write_twin(folder / "data", scale=0.002, seed=11)
    return build_views(folder / "data", folder / "lake")


@pytest.fixture(scope="module")
def twin(twin_engine: DuckDBEngine) -> duckdb.DuckDBPyConnection:
    return twin_engine.connect()


@pytest.fixture(scope="module")
def words(twin: duckdb.DuckDBPyConnection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    build_note_words(twin, folder, print)
    return folder


def texts_by_key(twin: duckdb.DuckDBPyConnection) -> list[tuple[int, str]]:
    return twin.execute(
        "select note_idx, coalesce(note_title || ' ', '') || coalesce(note_content, '') "
        "from core.notes order by note_key"
    ).fetchall()


def test_every_note_has_its_words_in_the_order_of_the_keys(
    words: Path, twin: duckdb.DuckDBPyConnection
) -> None:
    stored = read_note_words(words)
    texts = texts_by_key(twin)
    assert stored.note_idx.tolist() == [note for note, _ in texts]
    assert stored.note_idx.tolist() != sorted(stored.note_idx.tolist())
    by_id = {number: word for word, number in stored.ids.items()}
    for i, (_, text) in enumerate(texts):
        numbers = stored.word_id[stored.offsets[i] : stored.offsets[i + 1]]
        assert [by_id[number] for number in numbers.tolist()] == tokenize(text)
    assert isinstance(stored.word_id, np.memmap), "two million notes are not read, but mapped"
    numbers, offsets = stored.numbers(["龘", None, by_id[3]])
    assert (numbers.tolist(), offsets.tolist()) == ([-1, 3], [0, 1, 1, 2])
    wanted = np.array([stored.note_idx[4], -5, stored.note_idx[0]])
    assert stored.rows(wanted).tolist() == [4, len(texts), 0]


def test_the_vocabulary_is_a_row_per_word_with_how_often_it_stands(
    words: Path, twin: duckdb.DuckDBPyConnection
) -> None:
    table = pl.read_parquet(words / "part-0.parquet")
    assert table["word_id"].to_list() == list(range(table.height))
    assert not table["word"].is_duplicated().any()
    counted = pl.Series([word for _, text in texts_by_key(twin) for word in tokenize(text)])
    counts = dict(counted.value_counts().iter_rows())
    assert dict(table.select("word", "n_times").iter_rows()) == counts


def test_the_number_of_notes_cut_at_once_and_the_threads_change_no_byte(
    words: Path,
    twin_engine: DuckDBEngine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(note_lists, "NOTES_AT_ONCE", 77)
    connection = twin_engine.connect()
    connection.execute("set threads = 1")
    build_note_words(connection, tmp_path, print)
    names = sorted(path.name for path in words.iterdir())
    assert names == ["note_idx.npy", "offsets.npy", "part-0.parquet", "word_id.npy"]
    for name in names:
        assert (words / name).read_bytes() == (tmp_path / name).read_bytes()


def test_a_log_without_notes_has_no_words_and_no_run(
    tiny_engine: DuckDBEngine, tmp_path: Path
) -> None:
    connection = tiny_engine.connect()
    connection.execute("create table no_notes as from core.notes limit 0")
    connection.execute("create or replace view core.notes as from memory.main.no_notes")
    folders = [tmp_path / name for name in ("words", "run")]
    for folder in folders:
        folder.mkdir()
    assert build_note_words(connection, folders[0], print).n_rows == 0
    written = train_bm25(connection, folders[0], recipes.bm25_search(), folders[1], print)
    assert written.n_rows == 0
    assert "needs words to index" in written.facts["not_trained"]


@pytest.mark.parametrize("recipe", [recipes.bm25_search(), recipes.bm25_recommendation()])
def test_a_run_has_every_candidate_once_with_the_score_of_rank_bm25(
    words: Path, twin: duckdb.DuckDBPyConnection, tmp_path: Path, recipe: recipes.BM25Recipe
) -> None:
    written = train_bm25(twin, words, recipe, tmp_path, print)
    candidates = read_candidates(twin, recipe.task)
    run = pl.read_csv(tmp_path / "run.csv")
    assert run["qid"].to_list() == candidates.qid.tolist()
    assert run["pid"].to_list() == candidates.pid.tolist()
    texts = texts_by_key(twin)
    # The last is for candidates whose note is not in the notes table.
    plain = BM25Okapi([*(tokenize(text) for _, text in texts), []])
    row = {note: i for i, (note, _) in enumerate(texts)}
    column = "query" if recipe.task == "search" else "pseudo_query"
    queries = dict(
        twin.execute(
            f"select row_number, {column} from core.requests where source_table = ?",
            [f"{recipe.task}_test"],
        ).fetchall()
    )
    for (qid,), of_request in run.group_by("qid", maintain_order=True):
        rows = [row.get(note, len(texts)) for note in of_request["pid"].to_list()]
        expected = plain.get_batch_scores(tokenize(queries[qid] or ""), rows)
        assert of_request["score"].to_list() == pytest.approx(expected, abs=1e-9)
    card = json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))
    assert card["n_notes"] == len(texts)
    found = {row["metric"]: row for row in written.facts.get("retrieval", [])}
    assert card.get("retrieval", []) == list(found.values())
    if recipe.task == "search":
        assert found["recall@100"]["protocol"] == PROTOCOL
        assert 0 < found["recall@100"]["value"] < found["recall@500"]["value"] <= 1
        assert found["recall@100"]["low"] < found["recall@100"]["value"]
    else:
        assert not found, "titles of recent clicks are no question to the whole corpus"


def test_the_same_lake_gives_the_same_run(
    words: Path, twin: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    contents = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        train_bm25(twin, words, recipes.bm25_search(), folder, print)
        contents.append([p.read_bytes() for p in sorted(folder.iterdir())])
    assert contents[0] == contents[1]
    assert len(contents[0]) == 3


def test_candidates_without_a_note_have_no_words(twin_engine: DuckDBEngine, tmp_path: Path) -> None:
    connection = twin_engine.connect()
    connection.execute("create table fewer as from core.notes where note_key % 3 > 0")
    connection.execute("create or replace view core.notes as from memory.main.fewer")
    folders = [tmp_path / name for name in ("words", "run")]
    for folder in folders:
        folder.mkdir()
    build_note_words(connection, folders[0], print)
    written = train_bm25(connection, folders[0], recipes.bm25_search(), folders[1], print)
    run = pl.read_csv(folders[1] / "run.csv")
    unknown = run.filter(~pl.col("pid").is_in(read_note_words(folders[0]).note_idx.tolist()))
    assert unknown.height == written.facts["candidates_without_note"] > run.height / 5
    assert set(unknown["score"]) == {0.0}
    assert run["score"].max() > 0
