"""Feature tables: what is in them, and that the labels cannot get in by another way."""

import json
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest
from rank_bm25 import BM25Okapi

from models.metrics import area_under_curve
from models.recipes import TASKS
from models.words import tokenize
from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.features import (
    CATEGORICAL,
    MIN_NOTE_COUNT,
    UNSCALED,
    read_feature_columns,
)
from qilin_dagster.sources.twin import write_twin
from qilin_dagster.training import ranking_data
from tests.conftest import build_views, write_features


@pytest.fixture(scope="module")
def twin_engine(tmp_path_factory: pytest.TempPathFactory) -> DuckDBEngine:
    folder = tmp_path_factory.mktemp("twin")
    write_twin(folder / "data", scale=0.01, seed=11)
    return build_views(folder / "data", folder / "lake")


@pytest.fixture(scope="module")
def features(
    twin_engine: DuckDBEngine, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folders = {}
    connection = twin_engine.connect()
    for task in TASKS:
        folders[task] = tmp_path_factory.mktemp(task)
        write_features(connection, task, folders[task])
    connection.close()
    return folders


def read(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "part-0.parquet")


@pytest.mark.parametrize("task", TASKS)
def test_a_row_per_request_and_distinct_note(
    features: dict[str, Path], twin_engine: DuckDBEngine, task: str
) -> None:
    table = read(features[task])
    ((n, n_clicked),) = (
        twin_engine.connect()
        .execute(
            "select count(*), count(*) filter (where clicked) from (select bool_or(is_clicked) "
            "as clicked from core.impressions where channel = ? and source_table <> 'dqa' "
            "group by request_id, note_idx)",
            [task],
        )
        .fetchall()
    )
    assert (table.height, table["label"].sum()) == (n, n_clicked)
    assert not table.select("request_id", "note_idx").is_duplicated().any()


@pytest.mark.parametrize("task", TASKS)
def test_folds_split_neither_requests_nor_sessions_and_follow_time(
    features: dict[str, Path], twin_engine: DuckDBEngine, task: str
) -> None:
    table = read(features[task]).select("request_id", "fold").unique()
    assert not table["request_id"].is_duplicated().any()
    requests = (
        twin_engine.connect()
        .sql("select request_id, session_id, split, started_at from core.requests")
        .pl()
    )
    joined = table.join(requests, on="request_id")
    assert set(joined.filter(pl.col("split") == "test")["fold"]) == {"test"}
    train = joined.filter(pl.col("split") == "train")
    assert set(train["fold"]) == {"fit", "validation"}
    assert train.group_by("session_id").agg(pl.col("fold").n_unique())["fold"].max() == 1
    share = (train["fold"] == "validation").mean()
    assert 0.05 < share < 0.2
    starts = train.group_by("session_id", "fold").agg(pl.col("started_at").min())
    fit = starts.filter(pl.col("fold") == "fit")["started_at"].max()
    assert fit < starts.filter(pl.col("fold") == "validation")["started_at"].min()


@pytest.mark.parametrize("task", TASKS)
def test_statistics_and_vocabularies_come_from_the_fit_fold_alone(
    features: dict[str, Path], task: str
) -> None:
    table = read(features[task])
    described = json.loads((features[task] / "features.json").read_text(encoding="utf-8"))
    columns = read_feature_columns(features[task])
    fit = table.filter(pl.col("fold") == "fit")
    for name in columns.dense:
        if name in UNSCALED or fit[name].std() == 0:
            continue
        assert fit[name].mean() == pytest.approx(0, abs=2e-3), name
        # Missing values sit at the mean, so the deviation is 1 or a little less.
        assert 0.5 < fit[name].std() < 1.01, name
    for name, size in zip(columns.categorical, columns.vocabulary_sizes, strict=True):
        met = set(fit[name].unique()) - {0}
        assert met == set(described["vocabularies"][name].values()), name
        assert table[name].max() < size
    counts = pl.concat(
        [fit["note_key"], fit.unique("request_id")["history_note_key_list"].explode()]
    ).value_counts()
    n_frequent = counts.filter(pl.col("count") >= MIN_NOTE_COUNT)["note_key"].drop_nulls().len()
    assert columns.n_note_ids == n_frequent + 1


def range_rule_auc(table: pl.DataFrame, key: str) -> float:
    """AUC of the click rate of the key's range of forty, learnt on fit, judged on validation."""
    ranged = table.with_columns((pl.col(key) * 40 // (pl.col(key).max() + 1)).alias("range"))
    rates = (
        ranged.filter(pl.col("fold") == "fit")
        .group_by("range")
        .agg(pl.col("label").mean().alias("r"))
    )
    judged = ranged.filter(pl.col("fold") == "validation").join(rates, on="range", how="left")
    return area_under_curve(judged["label"].to_numpy() > 0, judged["r"].fill_null(0).to_numpy())


@pytest.mark.parametrize("task", TASKS)
def test_no_default_feature_gives_the_click_away(features: dict[str, Path], task: str) -> None:
    """The leaks of the log have an AUC near .79 (id blocks) and .6 (display order) alone."""
    table = read(features[task]).filter(pl.col("fold") != "test")
    columns = read_feature_columns(features[task])
    label = table["label"].to_numpy() > 0
    for name in (*columns.dense, "note_key"):
        auc = area_under_curve(label, table[name].to_numpy())
        assert 0.3 < auc < 0.7, name
    assert range_rule_auc(table, "note_idx") > 0.6, "without a leak this test would mean nothing"
    assert 0.45 < range_rule_auc(table, "note_key") < 0.55
    for forbidden in ("position", "shown_rank", "dwell_s", "exposed_at", "is_repeat"):
        assert forbidden not in table.columns
    assert not set(columns.dense) & set(columns.counters)


@pytest.mark.parametrize("task", TASKS)
def test_row_order_knows_nothing_of_the_click(features: dict[str, Path], task: str) -> None:
    table = read(features[task]).with_columns(
        pl.int_range(pl.len()).over("request_id").alias("place"),
        pl.len().over("request_id").alias("n"),
    )
    place = (table["place"] + 0.5) / table["n"]
    clicked = place.filter(table["label"] > 0)
    # Uniform places: mean 1/2, deviation sqrt(1/12).
    error = 5 * (1 / 12) ** 0.5 / len(clicked) ** 0.5
    assert abs(clicked.mean() - 0.5) < error


def test_histories_are_note_keys_newest_first(
    features: dict[str, Path], twin_engine: DuckDBEngine
) -> None:
    table = read(features["search"]).unique("request_id", maintain_order=True).head(20)
    connection = twin_engine.connect()
    keys = dict(connection.execute("select note_idx, note_key from core.notes").fetchall())
    for row in table.iter_rows(named=True):
        ((history,),) = connection.execute(
            "select history_list from core.requests where request_id = ?", [row["request_id"]]
        ).fetchall()
        assert row["history_note_key_list"] == [keys[note] for note in history if note in keys]


def test_matches_by_hand(tiny: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    # The query 上海 咖啡 has five letters (one a blank); 标题1 shares none. History of search 10 is
    # notes 3, 2, 2, all of taxonomy 5ab094a and c000a; note 1 has no second taxonomy.
    write_features(tiny, "search", tmp_path)
    row = read(tmp_path).filter((pl.col("request_id") == 20) & (pl.col("note_idx") == 1))
    assert row.select(*UNSCALED).row(0) == (0.0, 0.0, 1.0, 0.0)
    other = read(tmp_path).filter((pl.col("request_id") == 20) & (pl.col("note_idx") == 3))
    assert other.select("history_taxonomy1_share", "history_taxonomy2_share").row(0) == (1.0, 1.0)


@pytest.mark.parametrize("task", TASKS)
def test_the_word_match_is_bm25_over_all_notes(
    features: dict[str, Path], twin_engine: DuckDBEngine, task: str
) -> None:
    connection = twin_engine.connect()
    notes = connection.execute(
        "select note_idx, concat_ws(' ', note_title, note_content) from core.notes"
    ).fetchall()
    # The last is for candidates whose note is not in the notes table.
    plain = BM25Okapi([*(tokenize(text) for _, text in notes), []])
    row = {note: i for i, (note, _) in enumerate(notes)}
    column = "query" if task == "search" else "pseudo_query"
    queries = dict(connection.execute(f"select request_id, {column} from core.requests").fetchall())
    mean, deviation = json.loads((features[task] / "features.json").read_text())["scaling"][
        "word_match"
    ]
    table = read(features[task]).filter(pl.col("request_id") % 31 == 0)
    for (request,), of_request in table.group_by("request_id"):
        rows = [row[note] for note in of_request["note_idx"].to_list()]
        score = plain.get_batch_scores(tokenize(queries[request] or ""), rows)
        scaled = (np.sign(score) * np.log1p(np.abs(score)) - mean) / deviation
        assert of_request["word_match"].to_list() == pytest.approx(scaled.tolist(), abs=1e-5)


def test_rows_without_note_or_user_stay(real_engine: DuckDBEngine, tmp_path: Path) -> None:
    written = write_features(real_engine.connect(), "search", tmp_path)
    table = read(tmp_path)
    assert written.n_rows == table.height == 335
    assert table.filter(pl.col("note_key").is_null()).height > 300
    assert table.select(pl.col(CATEGORICAL).is_null().any()).row(0) == (False,) * len(CATEGORICAL)


@pytest.mark.parametrize("task", TASKS)
def test_arrays_are_the_table(features: dict[str, Path], task: str) -> None:
    table = read(features[task]).filter(pl.col("fold") == "test")
    columns = read_feature_columns(features[task])
    data = ranking_data(table, columns)
    assert data.n_candidates == table.height
    assert data.n_requests == table["request_id"].n_unique()
    last = table.filter(pl.col("request_id") == table["request_id"][-1])
    start = int(data.request_offsets[-2])
    assert data.labels[start:].tolist() == last["label"].to_list()
    (history,) = last["history_note_id_list"].head(1).fill_null([]).to_list()
    assert data.history[-1][: len(history)].tolist() == history
    assert not data.history[-1][len(history) :].any()
    assert data.dense.shape == (table.height, len(columns.dense))


@pytest.mark.parametrize("task", TASKS)
def test_the_same_lake_gives_the_same_bytes(
    features: dict[str, Path], twin_engine: DuckDBEngine, tmp_path: Path, task: str
) -> None:
    write_features(twin_engine.connect(), task, tmp_path)
    for name in ("part-0.parquet", "features.json"):
        assert (tmp_path / name).read_bytes() == (features[task] / name).read_bytes()
