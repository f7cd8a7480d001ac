"""What context is worth to DCN-V2: each piece alone, and each left out. Knows no Dagster.

A bare model knows the candidate, how it answers the query, and who asks by gender, age, platform
and place. Each context is added to it alone, and taken from the model with all of them; all are
trained with the same seeds, requests and candidates. The recipe is the small one, on a bounded
number of requests: 78 trainings are to cost minutes, and what is compared is alike in all.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from models import recipes
from models.counterfactual import graded_ndcg
from models.metrics import ranking_metrics
from models.ranking_data import Exposure, RankingData, TooLittleData, metric_on
from models.recipes import DCNV2Recipe, Task
from qilin_dagster.comparisons import adjust_for_their_number, paired_difference
from qilin_dagster.exposures import exposure_of
from qilin_dagster.features import (
    USER_COUNTS,
    FeatureColumns,
    read_feature_columns,
)
from qilin_dagster.sources.layout import USER_DENSE
from qilin_dagster.training import Report, ranking_data, request_starts

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray

CODE_VERSION = "1"
N_SEEDS = 3
MAX_FIT_REQUESTS = 10_000
MAX_VALIDATION_REQUESTS = 2_000
BARE, FULL = "bare", "full"
ALONE, LEFT_OUT, TOGETHER = "alone", "left out", "all together"
# The last: clicks weighed by one over the examination of their place.
METRICS = ("mrr@10", "map@10", "ndcg@10", "weighted_ndcg@10")


@dataclass(frozen=True)
class Context:
    """A piece of context: inputs by the names of the feature tables, the history, or the place."""

    name: str
    tasks: tuple[Task, ...] = recipes.TASKS
    dense: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    counters: bool = False
    history: bool = False
    position: bool = False


HISTORY_DENSE = ("n_history", "history_taxonomy1_share", "history_taxonomy2_share")
CONTEXTS = (
    # The feed has no query.
    Context("query source", tasks=("search",), categorical=("query_source",)),
    Context("recent clicks", dense=HISTORY_DENSE, history=True),
    Context("position, in training only", position=True),
    Context("position in the session", dense=("session_n",)),
    Context("dense features of the user", dense=(*USER_COUNTS, *USER_DENSE)),
    Context("counters of the note", counters=True),
)
# In the feed what is matched with a note's words are the titles of recent clicks.
HISTORY_IN_FEED = ("word_match",)

RUNS_SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("variant", pa.string()),
        ("seed", pa.int64()),
        ("row_number", pa.int64()),
        ("user_idx", pa.int64()),
        *((metric.replace("@", "_at_"), pa.float64()) for metric in METRICS),
    ]
)
WORTH_SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("context", pa.string()),
        ("design", pa.string()),
        ("metric", pa.string()),
        ("mean", pa.float64()),
        ("mean_against", pa.float64()),
        ("difference", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("p_value", pa.float64()),
        ("p_holm", pa.float64()),
        ("is_told_apart", pa.bool_()),
        ("seed_deviation", pa.float64()),
        ("n_seeds", pa.int64()),
        ("n_requests", pa.int64()),
        ("n_users", pa.int64()),
    ]
)


def contexts_of(task: str) -> tuple[Context, ...]:
    return tuple(context for context in CONTEXTS if task in context.tasks)


def variants(task: str) -> dict[str, tuple[Context, ...]]:
    """What each variant knows besides the bare model, by its name."""
    every = contexts_of(task)
    return {
        BARE: (),
        FULL: every,
        **{f"{context.name}, {ALONE}": (context,) for context in every},
        **{
            f"{context.name}, {LEFT_OUT}": tuple(other for other in every if other != context)
            for context in every
        },
    }


@dataclass(frozen=True)
class _Fold:
    """A fold with all inputs, and the names of its dense and categorical columns."""

    data: RankingData
    dense: tuple[str, ...]
    categorical: tuple[str, ...]

    def seen_by(self, task: str, known: tuple[Context, ...]) -> RankingData:
        """What a variant sees of it."""
        dense, categorical = _hidden(task, known)
        return replace(
            self.data,
            dense=self.data.dense[:, [name not in dense for name in self.dense]],
            categorical=self.data.categorical[
                :, [name not in categorical for name in self.categorical]
            ],
        )


def _hidden(task: str, known: tuple[Context, ...]) -> tuple[set[str], set[str]]:
    """Names of the dense and the categorical inputs that these contexts do not bring."""
    dense: set[str] = set()
    categorical: set[str] = set()
    for context in CONTEXTS:
        if context in known:
            continue
        dense |= set(context.dense)
        categorical |= set(context.categorical)
        if context.history and task == "recommendation":
            dense |= set(HISTORY_IN_FEED)
        if context.counters:
            dense.add("counter")
    return dense, categorical


def context_runs(
    connection: "duckdb.DuckDBPyConnection",
    features: Path,
    task: Task,
    seed: int,
    device: str,
    report: Report,
    *,
    n_seeds: int = N_SEEDS,
    recipe: DCNV2Recipe | None = None,
) -> pa.Table:
    """A row per variant, seed and test request with a click, see RUNS_SCHEMA.

    ``features`` is the snapshot folder of the task's feature table; reads core.impressions and
    propensity.by_position. Without a curve no variant knows positions, and weighted_ndcg@10 is
    null.

    Raises TooLittleData when there is too little to train on.
    """
    from models.dcn_v2 import DCNV2Config
    from models.dcn_v2_training import score, train

    chosen = recipe or (
        recipes.dcn_v2_search_smoke() if task == "search" else recipes.dcn_v2_recommendation_smoke()
    )
    columns = read_feature_columns(features)
    table, exposure = _rows(connection, features, task, seed)
    folds = {fold: _fold(table, exposure, columns, fold) for fold in ("fit", "validation", "test")}
    test = table.filter(table["fold"] == "test")
    starts = request_starts(test)
    of_request = {name: test[name].to_numpy()[starts] for name in ("row_number", "user_idx")}
    judge = _judge(folds["test"].data)
    parts = []
    for name, known in variants(task).items():
        if exposure is None and any(context.position for context in known):
            known = tuple(context for context in known if not context.position)
            if name not in (FULL, *(f"{c.name}, {LEFT_OUT}" for c in CONTEXTS if not c.position)):
                continue
        seen = {fold: data.seen_by(task, known) for fold, data in folds.items()}
        has_history = any(context.history for context in known) and columns.n_note_ids > 1
        sizes = dict(zip(columns.categorical, columns.vocabulary_sizes, strict=True))
        _, hidden = _hidden(task, known)
        config = DCNV2Config(
            architecture=chosen.architecture,
            cardinalities=tuple(sizes[column] for column in sizes if column not in hidden),
            n_dense=seen["fit"].dense.shape[1],
            n_notes=columns.n_note_ids,
            has_history=has_history,
        )
        is_told = any(context.position for context in known)
        for number in range(n_seeds):
            training = replace(
                chosen.training,
                seed=seed + number,
                correction=recipes.POSITION_INPUT if is_told else None,
            )
            model, _ = train(
                config,
                seen["fit"],
                seen["validation"],
                training,
                # The same for all: what is compared is what a model knows, not how it is chosen.
                validation_metric=metric_on(seen["validation"]),
                device=device,
            )
            values = judge(score(model, seen["test"], device=device))
            n = len(values["mrr@10"])
            parts.append(
                pa.table(
                    {
                        "task": [task] * n,
                        "variant": [name] * n,
                        "seed": [seed + number] * n,
                        **of_request,
                        **{
                            metric.replace("@", "_at_"): pa.array(values[metric], from_pandas=True)
                            for metric in METRICS
                        },
                    },
                    schema=RUNS_SCHEMA,
                )
            )
        report(f"ablation: {task}, {name}")
    return pa.concat_tables(parts)


def _rows(
    connection: "duckdb.DuckDBPyConnection", features: Path, task: Task, seed: int
) -> tuple[Any, Exposure | None]:
    """The feature table, of train no more requests than are asked for, and where its rows stood."""
    import polars as pl

    table = pl.read_parquet(features / "part-0.parquet")
    draw = np.random.default_rng(seed)
    kept = [table.filter(pl.col("fold") == "test")["request_id"].unique().to_numpy()]
    for fold, most in (("fit", MAX_FIT_REQUESTS), ("validation", MAX_VALIDATION_REQUESTS)):
        requests = table.filter(pl.col("fold") == fold)["request_id"].unique().sort().to_numpy()
        kept.append(draw.permutation(requests)[:most])
    table = table.filter(pl.col("request_id").is_in(pl.Series(np.concatenate(kept)).implode()))
    try:
        return table, exposure_of(connection, table, task)
    except TooLittleData:
        return table, None


def _fold(table: Any, exposure: Exposure | None, columns: FeatureColumns, fold: str) -> _Fold:
    is_in = (table["fold"] == fold).to_numpy()
    rows = table.filter(is_in)
    counters = rows.select(columns.counters).to_numpy().astype(np.float32)
    data = ranking_data(rows, columns, counters)
    if exposure is not None:
        data = replace(data, exposure=exposure.rows(np.flatnonzero(is_in)))
    return _Fold(data, (*columns.dense, *["counter"] * counters.shape[1]), columns.categorical)


def _judge(
    test: RankingData,
) -> "Callable[[NDArray[np.float64]], dict[str, NDArray[np.float64]]]":
    """From scores of the test candidates to METRICS by request, (R,) each."""
    qid, row = test.request_index, np.arange(test.n_candidates)
    is_hit = test.labels > 0
    if not is_hit.any():
        raise TooLittleData("No test request has a click.")
    gain = None if test.exposure is None else test.labels / test.exposure.examination

    def values(score: "NDArray[np.float64]") -> "dict[str, NDArray[np.float64]]":
        found = ranking_metrics(qid, row, score, qid[is_hit], row[is_hit])
        by_request = {}
        for metric in METRICS[:-1]:
            # Requests without a click have no metric.
            by_request[metric] = np.full(test.n_requests, np.nan)
            by_request[metric][found.qid] = found.per_request[metric]
        by_request[METRICS[-1]] = (
            np.full(test.n_requests, np.nan)
            if gain is None
            else graded_ndcg(qid, score, gain.astype(np.float64))
        )
        return by_request

    return values


def context_worth(runs: pa.Table, task: str) -> pa.Table:
    """A row per context, design and metric, see WORTH_SCHEMA, from the rows of `context_runs`.

    Alone: the bare model with the context against the bare model. Left out: the full model against
    the one without the context. Both are positive where the context helps. Metrics are means over
    seeds, paired by request; intervals and tests take users with all their requests, and p_holm is
    adjusted over the contexts of a task, design and metric. seed_deviation is the standard
    deviation of the difference over seeds.
    """
    runs = runs.filter(pa.compute.equal(runs["task"], task))
    rows: list[dict[str, Any]] = []
    for metric in METRICS:
        values = _by_variant(runs, metric)
        if not values:
            continue
        users = values[BARE].users
        for design, context, run, against in _pairs(task, set(values)):
            a, b = values[run].value_SR, values[against].value_SR
            by_seed = (a - b).mean(axis=1)
            rows.append(
                {
                    "task": task,
                    "context": context,
                    "design": design,
                    "metric": metric,
                    **paired_difference(a.mean(axis=0), b.mean(axis=0), users),
                    "seed_deviation": float(by_seed.std(ddof=1)) if len(by_seed) > 1 else None,
                    "n_seeds": len(by_seed),
                }
            )
        for design in (ALONE, LEFT_OUT):
            adjust_for_their_number(
                [row for row in rows if (row["metric"], row["design"]) == (metric, design)]
            )
    return pa.Table.from_pylist(rows, schema=WORTH_SCHEMA)


def _pairs(task: str, known: set[str]) -> Iterator[tuple[str, str, str, str]]:
    """(design, context, run, against) of all comparisons that can be made."""
    for context in contexts_of(task):
        alone, without = f"{context.name}, {ALONE}", f"{context.name}, {LEFT_OUT}"
        if {alone, without} <= known:
            yield ALONE, context.name, alone, BARE
            yield LEFT_OUT, context.name, FULL, without
    yield TOGETHER, TOGETHER, FULL, BARE


@dataclass(frozen=True)
class _Values:
    """A metric of a variant, (S, R) by seed and request, and the user of each request."""

    value_SR: "NDArray[np.float64]"
    users: "NDArray[np.int64]"


def _by_variant(runs: pa.Table, metric: str) -> dict[str, _Values]:
    import polars as pl

    table = pl.from_arrow(runs)
    assert isinstance(table, pl.DataFrame)
    column = metric.replace("@", "_at_")
    table = table.drop_nulls(column).sort("variant", "seed", "row_number")
    found = {}
    for (variant,), rows in table.group_by("variant", maintain_order=True):
        n_seeds = rows["seed"].n_unique()
        value = rows[column].to_numpy().reshape(n_seeds, -1)
        found[str(variant)] = _Values(value, rows["user_idx"].to_numpy()[: value.shape[1]])
    return found
