"""The stored tokens of all notes, and the runs of the text rankers made from them."""

import json
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest
from tokenizers import Tokenizer

from models import recipes
from models.recipes import BiEncoderRecipe, Encoder, TextRecipe, Training
from qilin_dagster import note_lists, note_tokens, text_training
from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.errors import InputError
from qilin_dagster.features import build_features
from qilin_dagster.leaderboard import read_candidates
from qilin_dagster.note_tokens import build_note_tokens, read_note_tokens
from qilin_dagster.note_words import build_note_words
from qilin_dagster.sources.twin import write_twin
from qilin_dagster.text_training import BESIDE_THE_SCORE, TextSources, train_text_ranker
from qilin_dagster.training import train_bm25
from tests.conftest import build_views, store_words

TINY = Encoder(n_layers=1, width=16, max_query_tokens=12, max_note_tokens=16)
ONE_EPOCH = Training(
    max_epochs=1,
    candidates_per_batch=256,
    learning_rate=1e-2,
    min_fit_requests=1,
    min_validation_requests=1,
)
RECIPES: list[TextRecipe] = [
    replace(recipe(), encoder=TINY, training=ONE_EPOCH)
    for recipe in (
        recipes.bi_encoder_search,
        recipes.cross_encoder_search,
        recipes.bi_encoder_recommendation,
        recipes.cross_encoder_recommendation,
    )
]
BI_SEARCH, CROSS_SEARCH = RECIPES[:2]
EACH = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)


@pytest.fixture(scope="module")
def twin_engine(tmp_path_factory: pytest.TempPathFactory) -> DuckDBEngine:
    folder = tmp_path_factory.mktemp("twin")
    write_twin(folder / "data", scale=0.002, seed=11)
    return build_views(folder / "data", folder / "lake")


@pytest.fixture(scope="module")
def twin(twin_engine: DuckDBEngine) -> duckdb.DuckDBPyConnection:
    return twin_engine.connect()


@pytest.fixture(scope="module")
def stored(twin: duckdb.DuckDBPyConnection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each table that the text rankers read."""
    folder = tmp_path_factory.mktemp("stored")
    for name in ("search", "recommendation", "words", "tokens"):
        (folder / name).mkdir()
    store_words(twin, folder)
    build_features(twin, folder / "words", folder / "appeal", "search", folder / "search")
    build_features(
        twin, folder / "words", folder / "appeal", "recommendation", folder / "recommendation"
    )
    build_note_tokens(twin, None, folder / "tokens", print)
    return folder


def sources(stored: Path, task: str, unfinished: Path) -> TextSources:
    return TextSources(
        features=stored / task,
        note_tokens=stored / "tokens",
        note_words=stored / "words",
        unfinished=unfinished,
    )


def trained(twin, stored: Path, recipe: TextRecipe, folder: Path):
    folder.mkdir()
    read = sources(stored, recipe.task, folder.with_suffix(".unfinished"))
    return train_text_ranker(twin, read, recipe, folder, "cpu", print)


def texts_by_key(twin: duckdb.DuckDBPyConnection) -> list[tuple[int, str]]:
    return twin.execute(
        "select note_idx, coalesce(note_title || ' ', '') || coalesce(note_content, '') "
        "from core.notes order by note_key"
    ).fetchall()


def test_every_note_has_its_tokens_in_the_order_of_the_keys(
    stored: Path, twin: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = read_note_tokens(stored / "tokens")
    texts = texts_by_key(twin)
    assert read.note_idx.tolist() == [note for note, _ in texts]
    for i, (_, text) in list(enumerate(texts))[:200]:
        ids = read.tokenizer.encode(text, add_special_tokens=False).ids[: note_tokens.MAX_TOKENS]
        assert (
            read.notes.token_id[read.notes.offsets[i] : read.notes.offsets[i + 1]].tolist() == ids
        )
    assert isinstance(read.notes.token_id, np.memmap)
    assert read.notes.token_id.dtype == np.uint16
    assert len(read.notes) == len(texts) + 1, "an empty one stands for notes that are not known"
    assert read.notes.lengths(np.array([len(texts)]), 9).tolist() == [0]
    assert read.checkpoint is None


def test_the_vocabulary_is_a_row_per_token_with_how_often_it_stands(stored: Path) -> None:
    table = pl.read_parquet(stored / "tokens" / "part-0.parquet")
    tokenizer = Tokenizer.from_file(str(stored / "tokens" / "tokenizer.json"))
    assert dict(zip(table["token"], table["token_id"], strict=True)) == tokenizer.get_vocab()
    counted = np.bincount(
        read_note_tokens(stored / "tokens").notes.token_id, minlength=table.height
    )
    assert table["n_times"].to_list() == counted.tolist()
    assert counted[0] == counted[2] == 0, "separators are put in later"


def test_the_test_evening_adds_no_token(twin_engine: DuckDBEngine, tmp_path: Path) -> None:
    connection = twin_engine.connect()
    connection.execute(
        "create table other_notes as select * replace ("
        "case when note_idx in (select note_idx from core.impressions where source_table in "
        "('search_train', 'recommendation_train')) then note_content else '龘龘龘' end "
        "as note_content) from core.notes"
    )
    connection.execute("create or replace view core.notes as from memory.main.other_notes")
    written = build_note_tokens(connection, None, tmp_path, print)
    assert "龘" not in Tokenizer.from_file(str(tmp_path / "tokenizer.json")).get_vocab()
    assert written.facts["n_unknown"] >= 3


def test_notes_at_once_and_threads_change_no_byte(
    stored: Path, twin_engine: DuckDBEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(note_lists, "NOTES_AT_ONCE", 77)
    connection = twin_engine.connect()
    connection.execute("set threads = 1")
    build_note_tokens(connection, None, tmp_path, print)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 6
    for name in names:
        assert (stored / "tokens" / name).read_bytes() == (tmp_path / name).read_bytes()


@EACH
def test_a_run_scores_every_test_candidate(
    stored: Path, twin: duckdb.DuckDBPyConnection, tmp_path: Path, recipe: TextRecipe
) -> None:
    written = trained(twin, stored, recipe, folder := tmp_path / "run")
    candidates = read_candidates(twin, recipe.task)
    run = pl.read_csv(folder / "run.csv")
    expected = zip(candidates.qid.tolist(), candidates.pid.tolist(), strict=True)
    assert sorted(zip(run["qid"], run["pid"], strict=True)) == sorted(expected)
    assert run["score"].is_finite().all()
    assert run["score"].n_unique() > 10
    card = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    assert card["recipe"]["name"] == recipe.name
    assert card["history"]["best_epoch"] == 1
    names = {"config.json", "model.json", "part-0.parquet", "run.csv", "tokenizer.json"}
    names |= {"tokenizer_config.json", "weights.safetensors"}
    if isinstance(recipe, BiEncoderRecipe):
        assert card["negatives"]["exposed"] > 0 < card["negatives"]["bm25"]
        assert 0 < card["temperature"] < 0.2
        if recipe.task == "search":
            names.add("note_embedding.npy")
            found = {row["metric"]: row for row in written.facts["retrieval"]}
            assert found["recall@500"]["n_notes"] == len(texts_by_key(twin))
            assert found["recall@100"]["value"] <= found["recall@500"]["value"] <= 1
            assert card["index"] == {"method": "exact", "share_of_exact": 1.0}
    assert {path.name for path in folder.iterdir()} == names


def test_the_same_seed_gives_the_same_files(
    stored: Path, twin: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    for recipe in (BI_SEARCH, CROSS_SEARCH):
        folders = [tmp_path / f"{recipe.name}.{name}" for name in "ab"]
        for folder in folders:
            trained(twin, stored, recipe, folder)
        for path in folders[0].iterdir():
            if path.name != "part-0.parquet":
                assert path.read_bytes() == (folders[1] / path.name).read_bytes(), path.name


@pytest.mark.parametrize("recipe", [BI_SEARCH, CROSS_SEARCH], ids=lambda recipe: recipe.name)
def test_too_little_data_is_an_empty_run_that_says_why(
    stored: Path, twin: duckdb.DuckDBPyConnection, tmp_path: Path, recipe: TextRecipe
) -> None:
    demanding = replace(recipe, training=replace(ONE_EPOCH, min_fit_requests=10_000))
    written = trained(twin, stored, demanding, tmp_path / "run")
    assert written.n_rows == 0
    assert "Too little data to train" in written.facts["not_trained"]
    assert not (tmp_path / "run" / "weights.safetensors").exists()


def test_tokens_of_another_checkpoint_are_refused(
    stored: Path, twin: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    chosen = recipes.from_checkpoint(BI_SEARCH, "bert-base-chinese")
    with pytest.raises(InputError, match=r"is to start from bert-base-chinese, .*QILIN_CHECKPOINT"):
        trained(twin, stored, chosen, tmp_path / "run")


def test_a_checkpoint_that_is_not_here_is_named(
    twin: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"QILIN_CHECKPOINT='no/such-bert' cannot be read"):
        build_note_tokens(twin, "no/such-bert", tmp_path, print)


def test_a_log_without_notes_has_no_run(tiny_engine: DuckDBEngine, tmp_path: Path) -> None:
    connection = tiny_engine.connect()
    connection.execute("create table no_notes as from core.notes limit 0")
    connection.execute("create or replace view core.notes as from memory.main.no_notes")
    for name in ("search", "tokens", "words"):
        (tmp_path / name).mkdir()
    store_words(connection, tmp_path)
    build_features(
        connection, tmp_path / "words", tmp_path / "appeal", "search", tmp_path / "search"
    )
    assert build_note_tokens(connection, None, tmp_path / "tokens", print).facts["n_tokens"] == 0
    demanding = replace(BI_SEARCH, training=Training())
    written = trained(connection, tmp_path, demanding, tmp_path / "run")
    assert written.n_rows == 0
    assert "Too little data" in written.facts["not_trained"]


def test_real_notes_and_queries_run_end_to_end(real_data: Path, tmp_path: Path) -> None:
    """Five real searches of ten notes; each is learned from, validated on and scored."""
    file = real_data / "real_search" / "candidates_with_text.parquet"
    connection = duckdb.connect()
    connection.execute(
        f"""
        create schema core;
        create table core.notes as
        select note_idx, note_title, note_content, row_number() over (order by note_idx) as note_key
        from (select distinct on (note_idx) * from '{file}');
        create table core.requests as
        select distinct s || qid as name, qid as row_number, query, null::text as pseudo_query,
            'search' as channel, s as split, 'search_' || s as source_table,
            qid + if(s = 'test', 100, 0) as request_id, qid as user_idx
        from '{file}', (values ('train'), ('test')) as splits(s);
        create table core.impressions as
        select r.request_id, r.source_table, c.note_idx, c.shown_rank, c.click > 0 as is_clicked
        from core.requests as r join '{file}' as c on r.row_number = c.qid;
        """
    )
    candidates = connection.sql(
        f"""
        select i.request_id, r.row_number, f.fold, i.note_idx, i.is_clicked::float as label,
            {", ".join(f"0.0 as {name}" for name in BESIDE_THE_SCORE)}
        from core.impressions as i join core.requests as r using (request_id)
        join (values ('train', 'fit'), ('train', 'validation'), ('test', 'test')) as f(split, fold)
            using (split)
        order by all
        """
    ).pl()
    for name in ("search", "tokens", "words", "bm25"):
        (tmp_path / name).mkdir()
    candidates.write_parquet(tmp_path / "search" / "part-0.parquet")
    build_note_words(connection, tmp_path / "words", print)
    facts = build_note_tokens(connection, None, tmp_path / "tokens", print).facts
    assert facts["n_notes"] == 50
    # A character that stands once in all fifty notes is unknown.
    assert facts["n_unknown"] < 0.15 * facts["n_tokens"]
    train_bm25(connection, tmp_path / "words", recipes.bm25_search(), tmp_path / "bm25", print)
    runs = [pl.read_csv(tmp_path / "bm25" / "run.csv")]
    for recipe in (BI_SEARCH, CROSS_SEARCH):
        trained(connection, tmp_path, recipe, folder := tmp_path / recipe.name)
        runs.append(pl.read_csv(folder / "run.csv"))
    for run in runs:
        assert run.height == 50
        assert run["score"].is_finite().all()
        assert run["score"].n_unique() > 5


def test_of_many_requests_some_are_searched_for(
    twin: duckdb.DuckDBPyConnection, stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = text_training.Corpus.read(twin, stored / "search", stored / "tokens", "search")
    fit, ids = corpus.fit()
    read = sources(stored, "search", tmp_path)
    said: list[str] = []
    every = text_training._found_by_bm25(twin, read, corpus, ids, fit, BI_SEARCH, said.append)
    monkeypatch.setattr(text_training, "MOST_SEARCHED_FOR", len(ids) // 3)
    # One more than three times as many: every fourth, unless they are just three times as many.
    step = 3 + (len(ids) % 3 > 0)
    some = text_training._found_by_bm25(twin, read, corpus, ids, fit, BI_SEARCH, said.append)
    n_found, n_found_of_some = np.diff(every.offsets), np.diff(some.offsets)
    assert (n_found > 0).mean() > 0.5
    assert n_found_of_some[::step].tolist() == n_found[::step].tolist()
    assert n_found_of_some.sum() == n_found[::step].sum()
    assert said[1] == (
        f"{BI_SEARCH.name}: hard negatives by BM25 for {len(ids[::step])} of {len(ids)} requests"
    )
