"""Which dqa requests are shown a direct answer, and how that was decided.

Answers go to factual and long queries. Factual queries also have shorter lists and fewer clicks of
their own (see ``slots.margins``), so comparing shown with hidden rows is confounded, as in the log;
given the two causes, showing is as good as random.
"""

from dataclasses import dataclass

import numpy as np

from qilin_dagster.sources.twin.draws import Flags, Floats, stream
from qilin_dagster.sources.twin.queries import Queries
from qilin_dagster.sources.twin.targets import Sizes
from qilin_dagster.sources.twin.timeline import TABLES, Requests
from qilin_dagster.sources.twin.world import FACTUAL, SUBJECT_FAMILY

# What an answer causes: the user reads on for this share of the list, and each examined note is
# opened this much less often. Invented; the truth an estimator is to find.
READ_SHARE = 0.92
CLICK_FACTOR = 0.95


@dataclass(frozen=True)
class Answers:
    """One entry per request; outside dqa the flags are false and the propensity is 0."""

    is_factual: Flags
    propensity: Floats
    is_shown: Flags


def choose_answers(requests: Requests, queries: Queries, sizes: Sizes, seed: int) -> Answers:
    """Show exactly ``sizes.shown`` answers, each with its stated probability."""
    rng = stream(seed, "answers")
    is_dqa = requests.table == TABLES.index("dqa")
    searches = queries.subject >= 0
    is_factual = np.zeros(len(requests), dtype=bool)
    is_factual[searches] = FACTUAL[
        SUBJECT_FAMILY[queries.subject[searches]], queries.aspect[searches]
    ]
    score = 2.0 * is_factual + 0.22 * (np.minimum(queries.length, 14) - 7.0)
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        if _logistic(score[is_dqa] + middle).sum() > sizes.shown:
            high = middle
        else:
            low = middle
    propensity = np.where(is_dqa, _logistic(score + low), 0.0)
    # Systematic sampling in random order: exact count, exact probabilities.
    rows = rng.permutation(np.flatnonzero(is_dqa))
    share = propensity[rows] / propensity[rows].sum() * sizes.shown
    edges = np.floor(np.concatenate([[0.0], np.cumsum(share)]) + rng.random())
    edges[-1] = edges[0] + sizes.shown
    is_shown = np.zeros(len(requests), dtype=bool)
    is_shown[rows[np.diff(edges) > 0]] = True
    return Answers(is_factual, propensity, is_shown)


def _logistic(values: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-values))
