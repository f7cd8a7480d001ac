"""Features for ranking: one table per task, a row per (request, candidate). Knows no Dagster.

What keeps the labels out:
- ids enter only as ``note_key`` and through vocabularies; the published ids, numbered in blocks
  that follow the clicks, stay keys;
- vocabularies, means and deviations come from the fold ``fit`` alone;
- candidates stand in a scrambled order, neither of display, nor of the log join, nor of ids;
- position, dwell and the other feedback of the impression are no features;
- note counters (``counter_*``) are snapshots of an unknown date that may hold the test evening and
  follow the id blocks: they are in the table, for ablations, and in no default recipe.

The answer sample (dqa) is neither trained nor tested on, as in the paper.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.recipes import Task
from qilin_dagster.folds import requests_in_folds
from qilin_dagster.lake import Written
from qilin_dagster.note_words import NoteWords, read_note_words
from qilin_dagster.sources.layout import NOTE_COUNTERS, USER_DENSE

if TYPE_CHECKING:
    import duckdb
    import polars as pl
    from numpy.typing import NDArray


# A note must be met this often in the fit fold to get an id of its own.
MIN_NOTE_COUNT = 5
HISTORY_LENGTH = 20

NOTE_DENSE = ("video_duration", "video_height", "video_width", "image_num", "content_length")
NOTE_CATEGORICAL = ("note_type", "is_commercial", "taxonomy1_id", "taxonomy2_id", "taxonomy3_id")
USER_CATEGORICAL = ("gender", "platform", "age", "location")
CATEGORICAL = (*NOTE_CATEGORICAL, *USER_CATEGORICAL, "query_source")
USER_COUNTS = ("fans_num", "follows_num")
# Shares and flags: already on a unit scale, where 0 means none.
UNSCALED = (
    *("query_title_overlap", "is_query_in_content"),
    *("history_taxonomy1_share", "history_taxonomy2_share"),
)
CODE_VERSION = "5"


@dataclass(frozen=True)
class FeatureColumns:
    """Which columns of a feature table are what; written beside it and read by training."""

    dense: tuple[str, ...]
    counters: tuple[str, ...]
    categorical: tuple[str, ...]
    vocabulary_sizes: tuple[int, ...]
    n_note_ids: int


def build_features(
    connection: "duckdb.DuckDBPyConnection",
    note_words: Path,
    note_appeal: Path,
    task: Task,
    folder: Path,
) -> Written:
    """Write the task's feature table into ``folder``; returns its rows, columns and facts.

    Reads core.impressions, core.requests, core.notes and core.users; ``note_words`` and
    ``note_appeal`` are snapshots of the tables of features of that name.
    """
    import polars as pl

    requests = requests_in_folds(connection, task)
    # Named, because a join repeats what it carries for each of millions of candidates.
    note_columns = ("note_idx", "note_key", "note_title", "note_content", *NOTE_CATEGORICAL)
    notes = connection.sql(
        f"select {', '.join((*note_columns, *NOTE_DENSE, *NOTE_COUNTERS))} from core.notes"
    ).pl()
    appeal = pl.read_parquet(note_appeal / "part-0.parquet", columns=["note_idx", "note_appeal"])
    notes = notes.join(appeal, on="note_idx", how="left", maintain_order="left")
    users = connection.sql(
        f"select {', '.join(('user_idx', *USER_CATEGORICAL, *USER_COUNTS, *USER_DENSE))} "
        "from core.users"
    ).pl()
    candidates = (
        connection.sql(
            "select request_id, note_idx, max(is_clicked) as is_clicked from core.impressions "
            f"where channel = '{task}' and source_table <> 'dqa' group by 1, 2"
        )
        .pl()
        .with_columns(pl.col("is_clicked").fill_null(False).cast(pl.Float32).alias("label"))
        .drop("is_clicked")
    )
    taste = _history_taste(requests, notes)
    table = (
        candidates.join(
            requests.drop("history_list", "started_at", "text"),
            on="request_id",
            how="inner",
            validate="m:1",
        )
        .sort("row_order", pl.col("note_idx") * 2_654_435_761 % 4_294_967_291, "note_idx")
        .join(notes, on="note_idx", how="left", validate="m:1", maintain_order="left")
        .join(users, on="user_idx", how="left", validate="m:1", maintain_order="left")
    )
    words = pl.Series("word_match", _word_match(table, requests, read_note_words(note_words)))
    table = _with_matches(table.with_columns(words), taste).drop(
        "query", "note_title", "note_content"
    )
    fit = table.filter(pl.col("fold") == "fit")
    dense = [
        *(name for name in NOTE_DENSE),
        *(*USER_COUNTS, *USER_DENSE),
        *("n_history", "query_length", "session_n", "word_match", "note_appeal"),
    ]
    scaling = {name: _scaling(fit, name) for name in (*dense, *NOTE_COUNTERS)}
    vocabularies = {name: _vocabulary(fit, name) for name in CATEGORICAL}
    note_ids = _note_vocabulary(fit, requests.filter(pl.col("fold") == "fit"), notes)
    columns = FeatureColumns(
        dense=(*dense, *UNSCALED),
        counters=tuple(f"counter_{name}" for name in NOTE_COUNTERS),
        categorical=CATEGORICAL,
        vocabulary_sizes=tuple(len(vocabularies[name]) + 1 for name in CATEGORICAL),
        n_note_ids=note_ids.height + 1,
    )
    features = _assemble(table, requests, notes, dense, scaling, vocabularies, note_ids)
    features.write_parquet(folder / "part-0.parquet", compression="zstd")
    described = {
        "columns": columns.__dict__,
        "scaling": scaling,
        "vocabularies": vocabularies,
    }
    text = json.dumps(described, ensure_ascii=False, indent=1)
    (folder / "features.json").write_text(text, encoding="utf-8")
    folds = features.group_by("fold").agg(
        pl.len().alias("rows"), pl.col("request_id").n_unique().alias("requests")
    )
    facts = {
        "task": task,
        "folds": {row["fold"]: [row["requests"], row["rows"]] for row in folds.to_dicts()},
        "candidates_without_note": int(table["note_key"].null_count()),
    }
    return Written(
        n_rows=features.height,
        columns=tuple((name, str(type_)) for name, type_ in features.schema.items()),
        facts=facts,
    )


def vocabulary_rows(folder: Path) -> "pl.DataFrame":
    """(feature, value, id) of the vocabularies beside a feature table; ids begin at 1."""
    import polars as pl

    described = json.loads((folder / "features.json").read_text(encoding="utf-8"))["vocabularies"]
    return pl.DataFrame(
        [
            (feature, value, number)
            for feature, numbers in described.items()
            for value, number in numbers.items()
        ],
        schema={"feature": pl.String, "value": pl.String, "id": pl.Int32},
        orient="row",
    )


def statistics_rows(folder: Path) -> "pl.DataFrame":
    """(feature, mean, deviation) by which the dense columns of a feature table were scaled."""
    import polars as pl

    described = json.loads((folder / "features.json").read_text(encoding="utf-8"))["scaling"]
    return pl.DataFrame(
        [(feature, mean, deviation) for feature, (mean, deviation) in described.items()],
        schema={"feature": pl.String, "mean": pl.Float64, "deviation": pl.Float64},
        orient="row",
    )


def read_feature_columns(folder: Path) -> FeatureColumns:
    """The column roles written beside a feature table."""
    described = json.loads((folder / "features.json").read_text(encoding="utf-8"))["columns"]
    return FeatureColumns(
        dense=tuple(described["dense"]),
        counters=tuple(described["counters"]),
        categorical=tuple(described["categorical"]),
        vocabulary_sizes=tuple(described["vocabulary_sizes"]),
        n_note_ids=described["n_note_ids"],
    )


def _history_taste(requests: "pl.DataFrame", notes: "pl.DataFrame") -> dict[str, "pl.DataFrame"]:
    """For each request, the share of its history in each taxonomy, by level."""
    import polars as pl

    history = (
        requests.select("request_id", pl.col("history_list").alias("note_idx"))
        .explode("note_idx", empty_as_null=True, keep_nulls=True)
        .drop_nulls("note_idx")
        .join(notes.select("note_idx", "taxonomy1_id", "taxonomy2_id"), on="note_idx", how="left")
    )
    return {
        level: history.group_by("request_id", level)
        .agg(pl.len().alias("n"))
        .with_columns(
            (pl.col("n") / pl.col("n").sum().over("request_id")).alias(
                f"history_{level.removesuffix('_id')}_share"
            )
        )
        .drop_nulls(level)
        .drop("n")
        for level in ("taxonomy1_id", "taxonomy2_id")
    }


def _word_match(
    table: "pl.DataFrame", requests: "pl.DataFrame", words: NoteWords
) -> "NDArray[np.float64]":
    """BM25 of query and candidate, (N,); in the feed, of the titles of recent clicks.

    The weights of the words are those of all notes, which know no clicks. 0 where nothing matches.
    """
    from models.ranking_data import TooLittleData

    order = table["row_order"].to_numpy()
    asked, offsets = np.unique(order, return_index=True)
    query, query_offsets = words.numbers(requests["text"].gather(asked).to_list())
    rows = words.rows(table["note_idx"].to_numpy())
    try:
        index = words.index()
        return index.score_requests(query, query_offsets, rows, np.append(offsets, len(rows))).score
    except TooLittleData:
        return np.zeros(len(rows))


def _with_matches(table: "pl.DataFrame", taste: dict[str, "pl.DataFrame"]) -> "pl.DataFrame":
    """How well a candidate fits the query's letters and the taxonomies of the history."""
    import polars as pl

    for level, shares in taste.items():
        table = table.join(shares, on=["request_id", level], how="left", maintain_order="left")
    # Letters rather than words: cheap, and a share of them survives other word orders.
    letters = pl.col("query").str.split("").list.unique()
    shared = letters.list.set_intersection(pl.col("note_title").str.split(""))
    return table.with_columns(
        (shared.list.len() / letters.list.len()).alias("query_title_overlap"),
        pl.col("note_content")
        .str.contains(pl.col("query"), literal=True)
        .cast(pl.Float64)
        .alias("is_query_in_content"),
    )


def _scaling(fit: "pl.DataFrame", name: str) -> tuple[float, float]:
    """Mean and deviation over the fit fold of the signed logarithm; (0, 1) where undefined."""
    import polars as pl

    values = fit.select(_log(pl.col(name)).alias(name))[name]
    mean, deviation = values.mean(), values.std()
    if not isinstance(mean, float):
        return 0.0, 1.0
    # The deviation of equal values is a rounding error rather than 0.
    if not isinstance(deviation, float) or deviation < 1e-9 * max(1.0, abs(mean)):
        return mean, 1.0
    return mean, deviation


def _log(column: "pl.Expr") -> "pl.Expr":
    """Counts and durations have tails of five orders of magnitude; ids of sign are kept."""
    return column.cast(float).sign() * column.cast(float).abs().log1p()


def _vocabulary(fit: "pl.DataFrame", name: str) -> dict[str, int]:
    """Values met in the fit fold, numbered from 1 in alphabetical order; 0 is unknown."""
    values = fit[name].drop_nulls().cast(str).unique().sort().to_list()
    return {value: number for number, value in enumerate(values, start=1)}


def _note_vocabulary(
    fit: "pl.DataFrame", fit_requests: "pl.DataFrame", notes: "pl.DataFrame"
) -> "pl.DataFrame":
    """Notes met often enough in the fit fold, shown or clicked before: note_key to note_id."""
    import polars as pl

    histories = (
        fit_requests.select(pl.col("history_list").alias("note_idx"))
        .explode("note_idx", empty_as_null=True, keep_nulls=True)
        .drop_nulls()
        .join(notes.select("note_idx", "note_key"), on="note_idx", how="inner")
    )
    return (
        pl.concat([fit.select("note_key"), histories.select("note_key")])
        .drop_nulls()
        .group_by("note_key")
        .agg(pl.len().alias("n"))
        .filter(pl.col("n") >= MIN_NOTE_COUNT)
        .sort("note_key")
        .select("note_key")
        .with_row_index("note_id", offset=1)
        .with_columns(pl.col("note_id").cast(pl.Int32))
    )


def _assemble(
    table: "pl.DataFrame",
    requests: "pl.DataFrame",
    notes: "pl.DataFrame",
    dense: list[str],
    scaling: dict[str, tuple[float, float]],
    vocabularies: dict[str, dict[str, int]],
    note_ids: "pl.DataFrame",
) -> "pl.DataFrame":
    import polars as pl

    def scaled(name: str) -> pl.Expr:
        mean, deviation = scaling[name]
        return ((_log(pl.col(name)) - mean) / deviation).fill_null(0).fill_nan(0).cast(pl.Float32)

    histories = (
        requests.select(
            "request_id", pl.col("history_list").list.head(HISTORY_LENGTH).alias("note_idx")
        )
        .explode("note_idx", empty_as_null=True, keep_nulls=True)
        .drop_nulls("note_idx")
        .join(
            notes.select("note_idx", "note_key"),
            on="note_idx",
            how="inner",
            maintain_order="left",
        )
        .join(note_ids, on="note_key", how="left", maintain_order="left")
        .group_by("request_id", maintain_order=True)
        .agg(
            pl.col("note_key").alias("history_note_key_list"),
            pl.col("note_id").fill_null(0).alias("history_note_id_list"),
        )
    )
    return (
        table.join(note_ids, on="note_key", how="left", maintain_order="left")
        .join(histories, on="request_id", how="left", maintain_order="left")
        .select(
            "request_id",
            "source_table",
            "row_number",
            "fold",
            "user_idx",
            "note_idx",
            "note_key",
            "label",
            *(scaled(name).alias(name) for name in dense),
            *(pl.col(name).fill_null(0).fill_nan(0).cast(pl.Float32) for name in UNSCALED),
            *(scaled(name).alias(f"counter_{name}") for name in NOTE_COUNTERS),
            *(
                pl.col(name)
                .cast(pl.String)
                .replace_strict(vocabularies[name], default=0, return_dtype=pl.Int32)
                .alias(name)
                for name in CATEGORICAL
            ),
            pl.col("note_id").fill_null(0),
            "history_note_key_list",
            "history_note_id_list",
        )
    )
