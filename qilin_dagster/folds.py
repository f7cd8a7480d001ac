"""Which train requests teach, and which choose the epoch: the same for every ranker. No Dagster."""

from typing import TYPE_CHECKING

from models.recipes import Task

if TYPE_CHECKING:
    import duckdb
    import polars as pl

# Share of train requests, by start of their session, that are held out for validation.
VALIDATION_SHARE = 0.1


def requests_in_folds(connection: "duckdb.DuckDBPyConnection", task: Task) -> "pl.DataFrame":
    """Train and test requests in published order, with their fold.

    Validation is the last of train by the start of the session, so that no request and no session
    has rows on both sides.
    """
    import polars as pl

    requests: pl.DataFrame = connection.sql(
        "select request_id, source_table, split, row_number, user_idx, session_id, session_n, "
        "started_at, query, coalesce(query, pseudo_query) as text, query_source, history_list "
        "from core.requests "
        f"where channel = '{task}' and split in ('train', 'test')"
    ).pl()
    train = requests.filter(pl.col("split") == "train")
    starts = train.group_by("session_id").agg(pl.col("started_at").min().alias("session_start"))
    ordered = train.join(starts, on="session_id", how="left", nulls_equal=True)
    cut = ordered["session_start"].quantile(1 - VALIDATION_SHARE, interpolation="higher")
    late = ordered.filter(pl.col("session_start") >= cut)["request_id"].implode()
    return (
        requests.sort("split", "row_number", descending=[True, False])
        .with_row_index("row_order")
        .with_columns(
            pl.when(pl.col("split") == "test")
            .then(pl.lit("test"))
            .when(pl.col("request_id").is_in(late))
            .then(pl.lit("validation"))
            .otherwise(pl.lit("fit"))
            .alias("fold"),
            pl.col("history_list").list.len().cast(pl.Float64).alias("n_history"),
            pl.col("query").str.len_chars().cast(pl.Float64).alias("query_length"),
            pl.col("session_n").cast(pl.Float64),
        )
    )
