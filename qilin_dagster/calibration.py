"""Do the scores mean what they say? Predicted against observed share of a request's clicks.

A listwise score is no probability of a click, but its softmax over the notes of a request is a
share of the request's clicks, and shares can be compared with what happened. Scores on another
scale, such as those of BM25, are not calibrated and show it: they rank, and no more is asked of
them. Knows no Dagster.
"""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from models.metrics import bootstrap_interval
from qilin_dagster.leaderboard import Candidates, ScoredRun

if TYPE_CHECKING:
    from numpy.typing import NDArray

CODE_VERSION = "1"
N_BINS = 10

SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("run", pa.string()),
        ("bin", pa.int64()),
        ("predicted_share", pa.float64()),
        ("clicked_share", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("n_candidates", pa.int64()),
    ]
)


def calibration(task: str, candidates: Candidates, runs: list[ScoredRun]) -> pa.Table:
    """A row per run and tenth of its candidates by predicted share, see SCHEMA.

    Requests without a click or with a single candidate say nothing and are left out; the intervals
    (95 %) of the observed share are over users.
    """
    rows: list[dict[str, object]] = []
    for run in runs:
        predicted, clicked, users = _shares(candidates, run)
        order = np.argsort(predicted, kind="stable")
        for number, inside in enumerate(np.array_split(order, N_BINS), start=1):
            if len(inside) == 0:
                continue
            observed = bootstrap_interval(clicked[inside], groups=users[inside])
            rows.append(
                {
                    "task": task,
                    "run": run.name,
                    "bin": number,
                    "predicted_share": float(predicted[inside].mean()),
                    "clicked_share": observed.mean,
                    "low": observed.low,
                    "high": observed.high,
                    "n_candidates": len(inside),
                }
            )
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _shares(
    candidates: Candidates, run: ScoredRun
) -> "tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]":
    """Predicted and observed share of its request's clicks, and the user, of each candidate.

    Raises ValueError when the run does not score exactly the candidates.
    """
    by_pair = np.lexsort((candidates.pid, candidates.qid))
    scored = np.lexsort((run.pid, run.qid))
    qid = candidates.qid[by_pair]
    if not (
        np.array_equal(qid, run.qid[scored])
        and np.array_equal(candidates.pid[by_pair], run.pid[scored])
    ):
        raise ValueError(f"{run.name} does not score exactly the test candidates")
    clicked, score = candidates.is_clicked[by_pair].astype(np.float64), run.score[scored]
    starts = np.flatnonzero(np.append(True, qid[1:] != qid[:-1])) if len(qid) else np.arange(0)
    length = np.diff(np.append(starts, len(qid)))
    weight = np.exp(score - np.repeat(np.maximum.reduceat(score, starts), length))
    predicted = weight / np.repeat(np.add.reduceat(weight, starts), length)
    n_clicked = np.repeat(np.add.reduceat(clicked, starts), length)
    counts = (n_clicked > 0) & (np.repeat(length, length) > 1)
    observed = clicked[counts] / n_clicked[counts]
    return predicted[counts], observed, candidates.user_idx[by_pair][counts]
