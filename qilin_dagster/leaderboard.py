"""Every run of a task beside its anchors, in both metric modes. Knows no Dagster.

Intervals are of resampled users with all their requests: requests of one user are not independent.

Anchors say what a number is worth on this log: chance (``random``), what the display order already
gives (``display_order``, an upper reference for clicks, not for relevance), train clicks of the
note (``popularity``), and the leak (``id_block_rule``: the train click rate of the range of
published ids a note is numbered in).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

from models.metrics import (
    REQUEST_METRICS,
    Mode,
    RankingMetrics,
    bootstrap_bounds,
    ranking_metrics,
)

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray

N_ID_RANGES = 400
CODE_VERSION = "2"
MODES: tuple[Mode, ...] = ("full", "official")
RANDOM = "random"
Kind = Literal["model", "anchor"]

SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("mode", pa.string()),
        ("run", pa.string()),
        ("kind", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("n_requests", pa.int64()),
        ("n_missing", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Candidates:
    """Test candidates of a task, one row per (request, note); qid is the published row number.

    The rows of a request stand together, requests ascending.
    """

    qid: "NDArray[np.int64]"
    pid: "NDArray[np.int64]"
    shown_rank: "NDArray[np.int64]"
    is_clicked: "NDArray[np.bool_]"
    train_clicks: "NDArray[np.float64]"
    train_click_rate_of_range: "NDArray[np.float64]"
    user_idx: "NDArray[np.int64]"

    def users(self, qid: "NDArray[np.int64]") -> "NDArray[np.int64]":
        """The user of each of these requests."""
        users: NDArray[np.int64] = self.user_idx[np.searchsorted(self.qid, qid)]
        return users


@dataclass(frozen=True)
class ScoredRun:
    """A model's scores of the test candidates."""

    name: str
    qid: "NDArray[np.int64]"
    pid: "NDArray[np.int64]"
    score: "NDArray[np.float64]"


def read_candidates(connection: "duckdb.DuckDBPyConnection", task: str) -> Candidates:
    """The exposed notes of the task's test requests and what the anchors know of them.

    A note returned twice in a request is one candidate, clicked when either was, at its better
    place.
    """
    columns = connection.execute(
        """
        with notes_in_train as (
            select note_idx, count(*) as n, count(*) filter (where is_clicked) as n_clicks
            from core.impressions
            where source_table = $train
            group by note_idx
        ),

        ranges as (
            select
                floor(note_idx * $n_ranges / (select max(note_idx) + 1 from core.impressions))
                    as id_range,
                sum(n_clicks) / sum(n) as click_rate
            from notes_in_train
            group by 1
        )

        select
            r.row_number as qid,
            i.note_idx as pid,
            min(i.shown_rank) as shown_rank,
            bool_or(i.is_clicked) as is_clicked,
            coalesce(any_value(t.n_clicks), 0)::double as train_clicks,
            coalesce(any_value(g.click_rate), 0)::double as train_click_rate_of_range,
            coalesce(any_value(r.user_idx), -1) as user_idx
        from core.impressions as i
        inner join core.requests as r on i.request_id = r.request_id
        left join notes_in_train as t on i.note_idx = t.note_idx
        left join ranges as g
            on g.id_range = floor(
                i.note_idx * $n_ranges / (select max(note_idx) + 1 from core.impressions)
            )
        where r.source_table = $test
        group by r.row_number, i.note_idx
        order by qid, i.note_idx * 2654435761 % 4294967291, pid
        """,
        {"train": f"{task}_train", "test": f"{task}_test", "n_ranges": N_ID_RANGES},
    ).fetchnumpy()
    return Candidates(**{name: np.ma.getdata(values) for name, values in columns.items()})


def read_runs(
    connection: "duckdb.DuckDBPyConnection", task: str, tables: tuple[str, ...]
) -> list[ScoredRun]:
    """The runs of a task among these tables (``training.<ranker>_<task>``).

    A ranker that found too little data has an empty run, which is left out.
    """
    runs = []
    for table in (table for table in tables if table.endswith(f"_{task}")):
        scores = connection.execute(f"select qid, pid, score from {table}").fetchnumpy()
        if len(scores["qid"]):
            name = table.partition(".")[2].removesuffix(f"_{task}")
            runs.append(ScoredRun(name, *(scores[column] for column in ("qid", "pid", "score"))))
    return runs


def rankings(candidates: Candidates, runs: list[ScoredRun]) -> list[tuple[Kind, ScoredRun]]:
    """The anchors and the runs, all as scores of the candidates."""
    shown = candidates.shown_rank.astype(np.float64)
    anchors = {
        RANDOM: np.zeros(len(shown)),
        "display_order": -shown,
        "reverse_display_order": shown,
        "popularity": candidates.train_clicks,
        "id_block_rule": candidates.train_click_rate_of_range,
        "oracle": candidates.is_clicked.astype(np.float64),
    }
    scored = [
        ScoredRun(name, candidates.qid, candidates.pid, score) for name, score in anchors.items()
    ]
    return [*(("anchor", run) for run in scored), *(("model", run) for run in runs)]


def scores_of(run: ScoredRun, candidates: Candidates) -> "NDArray[np.float64]":
    """The run's score of each candidate, in their order.

    Raises ValueError for a candidate that the run lacks.
    """
    import polars as pl

    wanted = pl.DataFrame({"qid": candidates.qid, "pid": candidates.pid})
    scored = pl.DataFrame({"qid": run.qid, "pid": run.pid, "score": run.score})
    found = wanted.join(scored, on=["qid", "pid"], how="left", maintain_order="left")["score"]
    if found.null_count():
        raise ValueError(f"{run.name} lacks {found.null_count():,} of the test candidates")
    return np.asarray(found.to_numpy())


def metrics_of(candidates: Candidates, run: ScoredRun, mode: Mode) -> RankingMetrics:
    """Metrics of one ranking of the candidates by their clicks.

    Raises ValueError when no test request has a click.
    """
    clicked = candidates.is_clicked
    return ranking_metrics(
        run.qid,
        run.pid,
        run.score,
        candidates.qid[clicked],
        candidates.pid[clicked],
        mode=mode,
        # Chance has no order of its own: its ties are the whole list, in expectation.
        ties="expected" if run.name == RANDOM else None,
    )


def leaderboard(task: str, candidates: Candidates, runs: list[ScoredRun]) -> pa.Table:
    """Metrics with 95 % intervals of all anchors and runs, long form: see SCHEMA.

    Raises ValueError when no test request has a click.
    """
    rows: list[dict[str, object]] = []
    for mode in MODES:
        for kind, run in rankings(candidates, runs):
            result = metrics_of(candidates, run, mode)
            rows.extend(_rows(task, mode, kind, run.name, result, candidates.users(result.qid)))
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _rows(
    task: str,
    mode: Mode,
    kind: Kind,
    name: str,
    result: RankingMetrics,
    users: "NDArray[np.int64]",
) -> list[dict[str, object]]:
    values = np.stack([result.per_request[metric] for metric in REQUEST_METRICS], axis=1)
    low, high = bootstrap_bounds(values, groups=users)
    intervals = {
        metric: (float(low[i]), float(high[i])) for i, metric in enumerate(REQUEST_METRICS)
    }
    return [
        {
            "task": task,
            "mode": mode,
            "run": name,
            "kind": kind,
            "metric": metric,
            # A metric without both classes is undefined, which is null in a table, not NaN.
            "value": None if np.isnan(value) else value,
            "low": intervals.get(metric, (None, None))[0],
            "high": intervals.get(metric, (None, None))[1],
            "n_requests": len(result.qid),
            "n_missing": result.n_missing,
        }
        for metric, value in result.means.items()
    ]
