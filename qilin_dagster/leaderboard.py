"""Every run of a task beside its anchors, in both metric modes. Knows no Dagster.

Anchors say what a number is worth on this log: chance (``random``), what the display order already
gives (``display_order``, an upper reference for clicks, not for relevance), train clicks of the
note (``popularity``), and the leak (``id_block_rule``: the train click rate of the range of
published ids a note is numbered in).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

from models.metrics import REQUEST_METRICS, RankingMetrics, bootstrap_means, ranking_metrics

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray

N_ID_RANGES = 400
N_BOOTSTRAP = 1000
MODES: tuple[Literal["full", "official"], ...] = ("full", "official")

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
    """Test candidates of a task, one row per (request, note); qid is the published row number."""

    qid: "NDArray[np.int64]"
    pid: "NDArray[np.int64]"
    shown_rank: "NDArray[np.int64]"
    is_clicked: "NDArray[np.bool_]"
    train_clicks: "NDArray[np.float64]"
    train_click_rate_of_range: "NDArray[np.float64]"


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
            coalesce(any_value(g.click_rate), 0)::double as train_click_rate_of_range
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


def leaderboard(task: str, candidates: Candidates, runs: list[ScoredRun]) -> pa.Table:
    """Metrics with 95 % intervals of all anchors and runs, long form: see SCHEMA.

    Raises ValueError when no test request has a click.
    """
    clicked = candidates.is_clicked
    shown = candidates.shown_rank.astype(np.float64)
    anchors = {
        "random": np.zeros(len(shown)),
        "display_order": -shown,
        "reverse_display_order": shown,
        "popularity": candidates.train_clicks,
        "id_block_rule": candidates.train_click_rate_of_range,
        "oracle": clicked.astype(np.float64),
    }
    rankings = [
        ("anchor", ScoredRun(name, candidates.qid, candidates.pid, score))
        for name, score in anchors.items()
    ] + [("model", run) for run in runs]
    rows: list[dict[str, object]] = []
    for mode in MODES:
        results = [
            ranking_metrics(
                run.qid,
                run.pid,
                run.score,
                candidates.qid[clicked],
                candidates.pid[clicked],
                mode=mode,
                # Chance has no order of its own: its ties are the whole list, in expectation.
                ties="expected" if run.name == "random" else None,
            )
            for _, run in rankings
        ]
        for (kind, run), result in zip(rankings, results, strict=True):
            rows.extend(_rows(task, mode, kind, run.name, result))
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _rows(
    task: str, mode: str, kind: str, name: str, result: RankingMetrics
) -> list[dict[str, object]]:
    values = np.stack([result.per_request[metric] for metric in REQUEST_METRICS], axis=1)
    sampled = bootstrap_means(values, n_samples=N_BOOTSTRAP, seed=0)
    low, high = np.percentile(sampled, [2.5, 97.5], axis=0)
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
