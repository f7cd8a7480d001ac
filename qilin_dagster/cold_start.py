"""How well notes and users are ranked that a run hardly met, and how that falls with less to learn
from. Knows no Dagster.

The unit is the clicked note: what it is worth at the rank it got, 1 / log2(1 + rank) down to rank
10, so that cold and warm notes of one request can be told apart. What is cold is said by the whole
of train, also where a ranker learnt from a share of it: all points of a curve are of the same
clicks. Which notes were clicked is known afterwards; slices by it compare rankers.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from models import recipes
from models.counterfactual import rank_worth
from models.metrics import bootstrap_bounds
from models.ranking_data import RankingData, TooLittleData
from models.recipes import Task
from qilin_dagster.features import read_feature_columns
from qilin_dagster.leaderboard import Candidates, ScoredRun, rankings, scores_of
from qilin_dagster.slices import MIN_USERS
from qilin_dagster.training import Report, ranking_data

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray

    from qilin_dagster.text_training import Corpus

CODE_VERSION = "1"
METRIC = "click_gain@10"
ALL = "all"
SHARES = (1.0, 0.5, 0.25, 0.125)
MAX_FIT_REQUESTS = 10_000
# Rankers of the curves, by what they know a note by.
RANKERS = {
    "popularity": "ids",
    "dcn_v2_with_ids": "ids and content",
    "dcn_v2_without_ids": "content",
    "bi_encoder": "content",
    "bm25": "content",
}

_VALUES = [
    ("slice", pa.string()),
    ("slice_value", pa.string()),
    ("metric", pa.string()),
    ("value", pa.float64()),
    ("low", pa.float64()),
    ("high", pa.float64()),
    ("n_clicks", pa.int64()),
    ("n_users", pa.int64()),
]
SCHEMA = pa.schema([("task", pa.string()), ("run", pa.string()), ("kind", pa.string()), *_VALUES])
CURVES_SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("ranker", pa.string()),
        ("based_on", pa.string()),
        ("train_share", pa.float64()),
        ("n_fit_requests", pa.int64()),
        *_VALUES,
    ]
)

# One row per clicked candidate of the test.
CLICKS = """
with shown as (
    select note_idx, count(*) as n_shown
    from core.impressions
    where source_table = $train
    group by note_idx
),

asked as (
    select user_idx, count(*) as n_asked
    from core.requests
    where source_table = $train
    group by user_idx
)

select
    r.row_number as qid,
    i.note_idx as pid,
    coalesce(any_value(r.user_idx), -1) as user_idx,
    case
        when coalesce(any_value(s.n_shown), 0) = 0 then 'never shown in train'
        when any_value(s.n_shown) < 5 then 'shown 1 to 4 times'
        else 'shown 5 times or more'
    end as note,
    case any_value(n.note_type) when 2 then 'video' when 1 then 'image-text' end as form,
    case when coalesce(any_value(a.n_asked), 0) = 0 then 'not met in train' else 'met in train' end
        as "user"
from core.impressions as i
inner join core.requests as r on i.request_id = r.request_id
left join core.notes as n on i.note_idx = n.note_idx
left join shown as s on i.note_idx = s.note_idx
left join asked as a on r.user_idx = a.user_idx
where r.source_table = $test and i.is_clicked
group by r.row_number, i.note_idx
order by qid, pid
"""


@dataclass(frozen=True)
class Clicks:
    """Clicked candidates C of the test, and the slices they are in.

    Attributes:
        row: int64 (C,), rows of the candidates.
        user_idx: int64 (C,).
        slices: (name, value) to a mask (C,).
    """

    row: "NDArray[np.int64]"
    user_idx: "NDArray[np.int64]"
    slices: "dict[tuple[str, str], NDArray[np.bool_]]"


def read_clicks(
    connection: "duckdb.DuckDBPyConnection", task: str, candidates: Candidates
) -> Clicks:
    """Reads core.impressions, core.requests and core.notes."""
    import polars as pl

    clicked = connection.sql(CLICKS, params={"train": f"{task}_train", "test": f"{task}_test"}).pl()
    rows = pl.DataFrame({"qid": candidates.qid, "pid": candidates.pid}).with_row_index("row")
    clicked = clicked.join(rows, on=["qid", "pid"], how="inner", maintain_order="left")
    note, form, user = (
        clicked[name].fill_null("not described").to_numpy() for name in ("note", "form", "user")
    )
    is_cold = np.where(note == "never shown in train", "never shown", "shown")
    both = np.array([f"{one}, {other}" for one, other in zip(is_cold, form, strict=True)])
    slices = {(ALL, ALL): np.ones(len(note), dtype=bool)}
    for name, values in (
        ("clicked note", note),
        ("form", form),
        ("clicked note and form", both),
        ("user", user),
    ):
        slices |= {(name, value): values == value for value in sorted({*values.tolist()})}
    return Clicks(clicked["row"].cast(pl.Int64).to_numpy(), clicked["user_idx"].to_numpy(), slices)


def cold_start(
    connection: "duckdb.DuckDBPyConnection",
    task: str,
    candidates: Candidates,
    runs: list[ScoredRun],
) -> pa.Table:
    """A row per run, anchors included, and slice, see SCHEMA; intervals (95 %) over users."""
    clicks = read_clicks(connection, task, candidates)
    ranked = rankings(candidates, runs)
    worth = np.stack([_worth(run, candidates, clicks) for _, run in ranked], axis=1)
    rows: list[dict[str, Any]] = [
        {"task": task, "run": ranked[k][1].name, "kind": ranked[k][0], **row}
        for k, row in _rows(worth, clicks)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _worth(run: ScoredRun, candidates: Candidates, clicks: Clicks) -> "NDArray[np.float64]":
    """What each clicked note is worth where the run puts it, (C,)."""
    _, request = np.unique(candidates.qid, return_inverse=True)
    return rank_worth(request, scores_of(run, candidates))["dcg@10"][clicks.row]


def _rows(worth_CK: "NDArray[np.float64]", clicks: Clicks) -> Iterator[tuple[int, dict[str, Any]]]:
    """(run number, row) of each slice and run."""
    for (name, value), inside in clicks.slices.items():
        users = clicks.user_idx[inside]
        n_users = len(np.unique(users))
        bounds = np.full((2, worth_CK.shape[1]), None, dtype=object)
        if n_users >= MIN_USERS:
            bounds = np.stack(bootstrap_bounds(worth_CK[inside], groups=users)).astype(object)
        for k in range(worth_CK.shape[1]):
            yield (
                k,
                {
                    "slice": name,
                    "slice_value": value,
                    "metric": METRIC,
                    "value": float(worth_CK[inside, k].mean()),
                    "low": bounds[0, k],
                    "high": bounds[1, k],
                    "n_clicks": int(inside.sum()),
                    "n_users": n_users,
                },
            )


def cold_start_curves(
    connection: "duckdb.DuckDBPyConnection",
    features: Path,
    note_tokens: Path,
    task: Task,
    candidates: Candidates,
    bm25: ScoredRun | None,
    seed: int,
    device: str,
    report: Report,
) -> pa.Table:
    """A row per ranker, share of the train requests it learnt from, and slice, see CURVES_SCHEMA.

    Shares are nested draws of the fit requests. Notes that the kept requests neither showed nor had
    in a history are unknown to what knows notes by ids. BM25 learns from no request: it stands at
    every share alike. Rankers are the small ones, each trained once a share.

    Raises TooLittleData when the largest share is too little; smaller ones that are, are left out.
    """
    import polars as pl

    from qilin_dagster.text_training import Corpus

    columns = read_feature_columns(features)
    # Learned from all of train: at a smaller share it would tell of clicks that are left out.
    known = tuple(name for name in columns.dense if name != "note_appeal")
    columns = replace(columns, dense=known)
    table = pl.read_parquet(features / "part-0.parquet")
    corpus = Corpus.read(connection, features, note_tokens, task)
    fit_ids = table.filter(pl.col("fold") == "fit")["request_id"].unique().sort().to_numpy()
    order = np.random.default_rng(seed).permutation(fit_ids)[:MAX_FIT_REQUESTS]
    clicks = read_clicks(connection, task, candidates)
    rows: list[dict[str, Any]] = []
    for share in SHARES:
        kept = order[: max(1, round(share * len(order)))]
        is_kept = (pl.col("fold") != "fit") | pl.col("request_id").is_in(pl.Series(kept).implode())
        some = table.filter(is_kept)
        test = some.filter(pl.col("fold") == "test")
        folds = {
            fold: ranking_data(some.filter(pl.col("fold") == fold), columns)
            for fold in ("fit", "validation", "test")
        }
        met = _met(folds["fit"])
        with_ids = {fold: _only_known(data, met) for fold, data in folds.items()}
        scored: dict[str, NDArray[np.float64]] = {}
        fit = some.filter(pl.col("fold") == "fit")
        clicked = fit.group_by("note_idx").agg(pl.col("label").sum().alias("n"))
        scored["popularity"] = (
            test.select("note_idx")
            .join(clicked, on="note_idx", how="left", maintain_order="left")["n"]
            .fill_null(0)
            .cast(pl.Float64)
            .to_numpy()
        )
        try:
            for name, data, n_notes in (
                ("dcn_v2_with_ids", with_ids, columns.n_note_ids),
                ("dcn_v2_without_ids", folds, 0),
            ):
                scored[name] = _dcn_v2(data, columns.vocabulary_sizes, n_notes, task, seed, device)
            of_share = replace(corpus, table=corpus.table.filter(is_kept))
            scored["bi_encoder"] = _bi_encoder(of_share, task, seed, device)
        except TooLittleData:
            if share == SHARES[0]:
                raise
            report(f"ablation: {task}, {share:.1%} of train is too little to train on")
            break
        runs = [
            ScoredRun(name, test["row_number"].to_numpy(), test["note_idx"].to_numpy(), score)
            for name, score in scored.items()
        ]
        if bm25 is not None:
            runs.append(replace(bm25, name="bm25"))
        worth = np.stack([_worth(run, candidates, clicks) for run in runs], axis=1)
        rows += [
            {
                "task": task,
                "ranker": runs[k].name,
                "based_on": RANKERS[runs[k].name],
                "train_share": share,
                "n_fit_requests": len(kept),
                **row,
            }
            for k, row in _rows(worth, clicks)
        ]
        report(f"ablation: {task}, learnt from {len(kept):,} train requests")
    return pa.Table.from_pylist(rows, schema=CURVES_SCHEMA)


def _met(fit: RankingData) -> "NDArray[np.int64]":
    """Ids of notes that these requests showed or had in a history."""
    return np.unique(np.concatenate([fit.note_id, fit.history.ravel()]))


def _only_known(data: RankingData, met: "NDArray[np.int64]") -> RankingData:
    """The same with all other ids unknown."""
    return replace(
        data,
        note_id=np.where(np.isin(data.note_id, met), data.note_id, 0).astype(np.int32),
        history=np.where(np.isin(data.history, met), data.history, 0).astype(np.int32),
    )


def _dcn_v2(
    folds: dict[str, RankingData],
    vocabulary_sizes: tuple[int, ...],
    n_notes: int,
    task: Task,
    seed: int,
    device: str,
) -> "NDArray[np.float64]":
    """Scores of the test candidates by the small DCN-V2."""
    from models.dcn_v2 import DCNV2Config
    from models.dcn_v2_training import score, train

    recipe = (
        recipes.dcn_v2_search_smoke() if task == "search" else recipes.dcn_v2_recommendation_smoke()
    )
    config = DCNV2Config(
        architecture=recipe.architecture,
        cardinalities=vocabulary_sizes,
        n_dense=folds["fit"].dense.shape[1],
        n_notes=n_notes,
        has_history=n_notes > 1,
    )
    training = replace(recipe.training, seed=seed, min_fit_requests=10)
    model, _ = train(config, folds["fit"], folds["validation"], training, device=device)
    return score(model, folds["test"], device=device)


def _bi_encoder(corpus: "Corpus", task: Task, seed: int, device: str) -> "NDArray[np.float64]":
    """Scores of the test candidates by a small bi-encoder without negatives by BM25."""
    from models.bi_encoder import FoundNotes, scores, train
    from models.loop import device_named

    recipe = (
        recipes.bi_encoder_search_smoke()
        if task == "search"
        else recipes.bi_encoder_recommendation_smoke()
    )
    training = replace(recipe.training, seed=seed, min_fit_requests=10)
    recipe = replace(recipe, bm25_negatives=0, training=training)
    texts = corpus.texts()
    fit, _ = corpus.fit()
    none = [np.zeros(0, dtype=np.int64)] * fit.n_requests
    model, _, _ = train(
        texts,
        corpus.tokens.tokenizer.get_vocab_size(),
        fit,
        corpus.requests("validation"),
        FoundNotes.without_clicked(none, fit),
        recipe,
        device=device,
    )
    return scores(model, texts, corpus.requests("test"), recipe, device_named(device))
