"""Which differences between runs this sample can resolve, all pairs at once. Knows no Dagster.

Each model is compared with every other and with the anchors that a model must beat, or explain.
With so many tests some differences look real by chance: p-values are adjusted (Holm) over all pairs
of a task and metric.
"""

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from models.metrics import (
    SEEN_WITH_80_PERCENT_POWER,
    bootstrap_bounds,
    bootstrap_means,
    holm_adjusted,
    paired_randomisation_test,
)
from qilin_dagster.per_request import RequestMetrics
from qilin_dagster.slices import MIN_USERS

if TYPE_CHECKING:
    from numpy.typing import NDArray

CODE_VERSION = "1"
METRICS = ("mrr@10", "map@10", "ndcg@10")
ANCHORS = ("random", "popularity", "id_block_rule", "display_order")
LEVEL = 0.05

SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("metric", pa.string()),
        ("run_a", pa.string()),
        ("run_b", pa.string()),
        ("kind_b", pa.string()),
        ("mean_a", pa.float64()),
        ("mean_b", pa.float64()),
        ("difference", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("p_value", pa.float64()),
        ("p_holm", pa.float64()),
        ("smallest_seen", pa.float64()),
        ("is_resolvable", pa.bool_()),
        ("n_requests", pa.int64()),
    ]
)


def comparisons(task: str, requests: RequestMetrics) -> pa.Table:
    """A row per metric and pair of runs, see SCHEMA; none without a model.

    Of two models the better one is run_a. Intervals (95 %, bootstrap) and tests (sign flips) take
    users with all their requests. `smallest_seen` is the difference that this sample would show
    with 80 % power; `is_resolvable` means that p_holm is below 0.05 and the interval leaves out 0.
    """
    names = list(requests.kinds)
    rows: list[dict[str, object]] = []
    for metric in METRICS:
        values_RK = requests.values[metric]
        mean_K = values_RK.mean(axis=0)
        pairs = _pairs(names, requests.kinds, mean_K)
        if not pairs:
            continue
        a, b = np.array(pairs).T
        differences_RP = values_RK[:, a] - values_RK[:, b]
        sampled = bootstrap_means(differences_RP, groups=requests.user_idx)
        low, high = np.percentile(sampled, [2.5, 97.5], axis=0)
        p_values = [
            paired_randomisation_test(values_RK[:, i], values_RK[:, j], groups=requests.user_idx)
            for i, j in pairs
        ]
        p_holm = holm_adjusted(p_values)
        smallest = SEEN_WITH_80_PERCENT_POWER * sampled.std(axis=0, ddof=1)
        rows += [
            {
                "task": task,
                "metric": metric,
                "run_a": names[i],
                "run_b": names[j],
                "kind_b": requests.kinds[names[j]],
                "mean_a": mean_K[i],
                "mean_b": mean_K[j],
                "difference": differences_RP[:, p].mean(),
                "low": low[p],
                "high": high[p],
                "p_value": p_values[p],
                "p_holm": p_holm[p],
                "smallest_seen": smallest[p],
                "is_resolvable": bool(p_holm[p] < LEVEL and not low[p] <= 0 <= high[p]),
                "n_requests": len(values_RK),
            }
            for p, (i, j) in enumerate(pairs)
        ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def paired_difference(
    run: "NDArray[np.float64]", against: "NDArray[np.float64]", users: "NDArray[np.int64]"
) -> dict[str, object]:
    """Two runs on the same requests, (R,) each: means, difference, interval and test over users.

    None of the last two below ten users. p_holm and is_told_apart are filled in by
    `adjust_for_their_number`.
    """
    difference = run - against
    low = high = p_value = None
    n_users = len(np.unique(users))
    if n_users >= MIN_USERS:
        bounds = bootstrap_bounds(difference[:, None], groups=users)
        low, high = float(bounds[0][0]), float(bounds[1][0])
        p_value = paired_randomisation_test(run, against, groups=users)
    return {
        "mean": float(run.mean()),
        "mean_against": float(against.mean()),
        "difference": float(difference.mean()),
        "low": low,
        "high": high,
        "p_value": p_value,
        "p_holm": None,
        "is_told_apart": None,
        "n_requests": len(run),
        "n_users": n_users,
    }


def adjust_for_their_number(rows: list[dict[str, Any]]) -> None:
    """Fill in p_holm and is_told_apart of differences that are tested together; those that have no
    test stay without."""
    tested = [row for row in rows if row["p_value"] is not None]
    for row, p in zip(tested, holm_adjusted([row["p_value"] for row in tested]), strict=True):
        row["p_holm"] = float(p)
        row["is_told_apart"] = bool(p < LEVEL and not row["low"] <= 0 <= row["high"])


def _pairs(
    names: list[str], kinds: dict[str, str], mean_K: "NDArray[np.float64]"
) -> list[tuple[int, int]]:
    """Model and model, the better one first; then model and anchor."""
    models = [k for k, name in enumerate(names) if kinds[name] == "model"]
    models.sort(key=lambda k: (-mean_K[k], names[k]))
    anchors = [names.index(name) for name in ANCHORS if name in names]
    return [*combinations(models, 2), *((m, anchor) for m in models for anchor in anchors)]
