"""Runs judged with position taken out: by weighted clicks, by pairs, and on a twin by the truth.

The clicks of the test log are those of the old order. A run that follows it gains on them without
knowing anything of the notes. Here every run and anchor is judged six ways, each stated with what
it rests on. Intervals resample users with all their requests. Knows no Dagster.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from models.counterfactual import (
    ADDITIVE,
    ClickPairs,
    adjacent_pairs,
    click_weights,
    graded_ndcg,
    moved_pairs,
    pairs_in_order,
    rank_worth,
    relative_place,
)
from models.metrics import bootstrap_means
from models.ranking_data import TooLittleData
from qilin_dagster.exposures import read_curve
from qilin_dagster.leaderboard import Candidates, Kind, ScoredRun, rankings, scores_of
from qilin_dagster.slices import MIN_USERS

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray

CODE_VERSION = "1"
# Examination below this counts as this: a rare click far down must not decide.
CLIP = 0.1
N_SAMPLES = 1000
# Judges, in the order of the report.
RAW, IPS, SNIPS = "raw", "ips", "snips"
ADJACENT, MOVED, ATTRACTION = "adjacent_pairs", "moved_notes", "attraction"
NDCG, PAIR_ACCURACY = "ndcg@10", "pair_accuracy"

SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("judged_by", pa.string()),
        ("metric", pa.string()),
        ("run", pa.string()),
        ("kind", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("n_requests", pa.int64()),
        ("n_users", pa.int64()),
        ("n_judged", pa.int64()),
        ("n_effective", pa.float64()),
        ("clip", pa.float64()),
        ("clipped_share", pa.float64()),
    ]
)


@dataclass(frozen=True)
class _Ratio:
    """A metric as a ratio of sums over requests, or the mean of two: (R,) each.

    The value is the mean over ``parts`` of sum(numerator) / sum(denominator).
    """

    parts: "tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...]"


def twin_truth(data: Path) -> Path | None:
    """The file of planted attraction beside a twin's data; None beside any other data."""
    file = data / "truth" / "impressions.parquet"
    return file if (data / "twin.json").is_file() and file.is_file() else None


def unbiased(
    connection: "duckdb.DuckDBPyConnection",
    task: str,
    candidates: Candidates,
    runs: list[ScoredRun],
    truth: Path | None,
) -> pa.Table:
    """A row per judge, metric and run, anchors included, see SCHEMA.

    Judges:
        raw: the clicks of the test requests as they are.
        ips, snips: clicks by one over the examination of their place (`propensity.by_position`),
            for the metrics that are sums over clicks; self-normalised, weights are divided by their
            mean. NDCG normalises itself within each request and is in snips alone. Missing where
            no curve was estimated.
        adjacent_pairs: neighbours of the shown list, one clicked: the share that a run puts in
            order, the mean of pairs whose upper and pairs whose lower note was clicked, so that
            the shown order itself, and its reverse, get exactly one half.
        moved_notes: the same of one note shown in two requests at different places, clicked in
            one: the share where the run puts it higher in the list in which it was clicked.
        attraction: NDCG by the planted attraction of the notes, where ``truth`` is a twin's.
    """
    qid, request = np.unique(candidates.qid, return_inverse=True)
    users = candidates.users(qid)
    judge = _Judge(len(qid), request, users)
    rows: list[dict[str, Any]] = []
    ranked = [
        (kind, run.name, scores_of(run, candidates)) for kind, run in rankings(candidates, runs)
    ]
    clicked = candidates.is_clicked.astype(np.float64)
    one = np.ones(len(qid))
    weights = None
    try:
        curve = read_curve(connection, task)
    except TooLittleData:
        pass
    else:
        examination = curve.examination[curve.place(_positions(connection, task, candidates))]
        weights = click_weights(candidates.is_clicked, examination, clip=CLIP)
    judged: dict[tuple[str, str], list[tuple[Kind, str, _Ratio]]] = {}

    def add(judged_by: str, metric: str, kind: Kind, name: str, ratio: _Ratio) -> None:
        judged.setdefault((judged_by, metric), []).append((kind, name, ratio))

    attraction = None if truth is None else planted_attraction(connection, truth, task, candidates)
    adjacent = adjacent_pairs(request, candidates.shown_rank, candidates.is_clicked)
    moved = moved_pairs(candidates.pid, candidates.shown_rank, candidates.is_clicked)
    for kind, name, score in ranked:
        worth = rank_worth(request, score)
        for metric in ADDITIVE:
            raw = judge.sums(worth[metric] * clicked)
            add(RAW, metric, kind, name, _Ratio(((raw, one),)))
            if weights is not None:
                weighed = judge.sums(worth[metric] * weights.weight)
                add(IPS, metric, kind, name, _Ratio(((weighed, one),)))
                # Per click of average weight, times clicks per request: on the scale of raw.
                add(SNIPS, metric, kind, name, _Ratio(((weighed, judge.sums(weights.weight)),)))
        for judged_by, gain in (
            (RAW, clicked),
            (SNIPS, None if weights is None else weights.weight),
            (ATTRACTION, attraction),
        ):
            if gain is not None:
                ndcg = graded_ndcg(request, score, np.nan_to_num(gain))
                is_known = ~np.isnan(ndcg) & (judge.sums(np.isnan(gain)) == 0)
                value = np.where(is_known, np.nan_to_num(ndcg), 0.0)
                add(judged_by, NDCG, kind, name, _Ratio(((value, is_known.astype(float)),)))
        add(ADJACENT, PAIR_ACCURACY, kind, name, judge.balanced(adjacent, score))
        add(MOVED, PAIR_ACCURACY, kind, name, judge.balanced(moved, relative_place(request, score)))
    n_clicks = judge.sums(clicked)
    for (judged_by, metric), entries in judged.items():
        scale = None
        if judged_by == SNIPS and metric in ADDITIVE:
            scale = n_clicks
        n_judged = {
            ADJACENT: len(adjacent),
            MOVED: len(moved),
            ATTRACTION: len(request),
        }.get(judged_by, int(n_clicks.sum()))
        values, low, high = judge.intervals([ratio for _, _, ratio in entries], scale)
        is_weighed = weights is not None and judged_by in (IPS, SNIPS)
        rows += [
            {
                "task": task,
                "judged_by": judged_by,
                "metric": metric,
                "run": name,
                "kind": kind,
                "value": _known(values[k]),
                "low": _known(low[k]),
                "high": _known(high[k]),
                "n_requests": judge.n_in(entries[k][2]),
                "n_users": judge.n_users_in(entries[k][2]),
                "n_judged": n_judged,
                "n_effective": weights.n_effective if weights and is_weighed else None,
                "clip": CLIP if is_weighed else None,
                "clipped_share": weights.clipped_share if weights and is_weighed else None,
            }
            for k, (kind, name, _) in enumerate(entries)
        ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


@dataclass(frozen=True)
class _Judge:
    """R requests, the request of each candidate, the user of each request."""

    n_R: int
    request: "NDArray[np.int64]"
    users: "NDArray[np.int64]"

    def sums(self, value: "NDArray[Any]") -> "NDArray[np.float64]":
        """Sums over the candidates of each request, (R,)."""
        return np.bincount(self.request, value, minlength=self.n_R).astype(np.float64)

    def balanced(self, pairs: ClickPairs, score: "NDArray[np.float64]") -> _Ratio:
        """Pairs in order, those with the upper one clicked counting half, those with the lower
        one half, however many there are; a pair is of the request with its click."""
        right = pairs_in_order(pairs, score)
        of = self.request[pairs.clicked]
        return _Ratio(
            tuple(
                (
                    np.bincount(of, right * side, minlength=self.n_R).astype(np.float64),
                    np.bincount(of, side, minlength=self.n_R).astype(np.float64),
                )
                for side in (pairs.is_upper, ~pairs.is_upper)
            )
        )

    def intervals(
        self, ratios: "Sequence[_Ratio]", scale: "NDArray[np.float64] | None"
    ) -> "tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]":
        """Values and 95 % intervals of ratios; times the mean of ``scale`` over requests.

        All are resampled alike. No interval below ten users or without a value.
        """
        n_parts = len(ratios[0].parts)
        columns = [column for ratio in ratios for part in ratio.parts for column in part]
        if scale is not None:
            columns.append(scale)
        table = np.stack(columns, axis=1)

        def values(means: "NDArray[np.float64]") -> "NDArray[np.float64]":
            """(S, columns) to (S, ratios)."""
            parts = means[:, : 2 * n_parts * len(ratios)].reshape(len(means), -1, n_parts, 2)
            with np.errstate(invalid="ignore", divide="ignore"):
                found = (parts[..., 0] / parts[..., 1]).mean(axis=2)
            return np.asarray(found if scale is None else found * means[:, -1:])

        value = values(table.mean(axis=0)[None])[0]
        nothing = np.full(len(ratios), np.nan)
        is_enough = [self.n_users_in(ratio) >= MIN_USERS for ratio in ratios]
        if not any(is_enough):
            return value, nothing, nothing
        sampled = values(bootstrap_means(table, groups=self.users, n_samples=N_SAMPLES))
        # A sample without a pair of one kind has no value: rare ones leave an interval, many none.
        is_shown = np.array(is_enough) & (np.isnan(sampled).mean(axis=0) < 0.01)
        low, high = np.nanpercentile(np.where(is_shown, sampled, 0.0), [2.5, 97.5], axis=0)
        return value, np.where(is_shown, low, np.nan), np.where(is_shown, high, np.nan)

    def n_in(self, ratio: _Ratio) -> int:
        """Requests that have something to judge."""
        return int(self._inside(ratio).sum())

    def n_users_in(self, ratio: _Ratio) -> int:
        return len(np.unique(self.users[self._inside(ratio)]))

    def _inside(self, ratio: _Ratio) -> "NDArray[np.bool_]":
        inside = np.zeros(self.n_R, dtype=bool)
        for _, denominator in ratio.parts:
            inside |= denominator > 0
        return inside


def _positions(
    connection: "duckdb.DuckDBPyConnection", task: str, candidates: Candidates
) -> "NDArray[np.int64]":
    """Where each candidate stood first, 1 where that was not logged."""
    import polars as pl

    stood = connection.sql(
        'select r.row_number as qid, i.note_idx as pid, min(i."position") as "position" '
        "from core.impressions as i inner join core.requests as r on i.request_id = r.request_id "
        "where r.source_table = $test group by all",
        params={"test": f"{task}_test"},
    ).pl()
    wanted = pl.DataFrame({"qid": candidates.qid, "pid": candidates.pid})
    found = wanted.join(stood, on=["qid", "pid"], how="left", maintain_order="left")["position"]
    return np.asarray(found.fill_null(1).to_numpy())


def planted_attraction(
    connection: "duckdb.DuckDBPyConnection", truth: Path, task: str, candidates: Candidates
) -> "NDArray[np.float64]":
    """Planted attraction of each candidate, NaN where the truth has none."""
    import polars as pl

    planted = connection.sql(
        "select row_number as qid, note_idx as pid, max(attraction) as attraction "
        "from read_parquet($file) where source_table = $test group by all",
        params={"file": str(truth), "test": f"{task}_test"},
    ).pl()
    wanted = pl.DataFrame({"qid": candidates.qid, "pid": candidates.pid})
    found = wanted.join(planted, on=["qid", "pid"], how="left", maintain_order="left")["attraction"]
    return np.asarray(found.cast(pl.Float64).fill_null(float("nan")).to_numpy())


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
