"""What is not asked for but needed: who is treated, and what outcomes are to be expected.

Both are predicted for units that the learner has not seen (cross-fitting), whole clusters at a
time: a learner that has seen a unit's own outcome, or another request of its user, explains away a
part of the effect.

Two families of learners. ``linear``: logistic and ridge regression whose penalty is chosen inside
the fold. ``trees``: gradient-boosted trees. An effect that depends on the family is a weak one.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from models.causal.estimate import BoolArray, FloatArray, IntArray

Family = Literal["linear", "trees"]

N_FOLDS = 5
# A unit with a propensity beyond these counts as if it had this one: its weight stays below 50.
LEAST, MOST = 0.02, 0.98
# Inverse strengths. A stronger penalty foretells as well and leaves more of the confounding in.
PENALTIES = (0.1, 0.3, 1.0, 3.0)
RIDGE = tuple(10.0**power for power in range(-1, 5))


@dataclass(frozen=True)
class Nuisance:
    """Cross-fitted predictions, one row a unit.

    ``propensity_N`` is within LEAST and MOST; ``treated_NM`` and ``untreated_NM`` are the M
    outcomes to be expected of a unit with and without the treatment.
    """

    propensity_N: FloatArray
    treated_NM: FloatArray
    untreated_NM: FloatArray


def folds(cluster_N: IntArray, n_folds: int, seed: int) -> IntArray:
    """Fold of each unit, 0 to n_folds - 1; a cluster is in one fold."""
    _, code_N = np.unique(cluster_N, return_inverse=True)
    n_clusters = int(code_N.max()) + 1
    fold_G = np.random.default_rng(seed).permutation(n_clusters) % n_folds
    return fold_G[code_N]


def cross_fit(
    covariates_NP: FloatArray,
    is_treated_N: BoolArray,
    outcomes_NM: FloatArray,
    cluster_N: IntArray,
    *,
    family: Family = "linear",
    n_folds: int = N_FOLDS,
    seed: int = 0,
) -> Nuisance:
    """Propensities and expected outcomes, each unit's from a learner that did not see its cluster.

    Raises:
        ValueError: fewer than two treated or untreated units outside some fold.
    """
    from threadpoolctl import threadpool_limits

    fold_N = folds(cluster_N, n_folds, seed)
    propensity_N = np.empty(len(fold_N))
    expected = {True: np.empty_like(outcomes_NM), False: np.empty_like(outcomes_NM)}
    for fold in range(n_folds):
        inside_N = fold_N == fold
        if not inside_N.any():
            continue
        learn_N = ~inside_N
        for side in (True, False):
            if (learn_N & (is_treated_N == side)).sum() < 2:
                raise ValueError(
                    "too few units with or without the treatment to learn from: "
                    f"{int(is_treated_N.sum())} of {len(is_treated_N)} are treated"
                )
        asked_NP = covariates_NP[inside_N]
        # The products are so small that several threads would mostly wait for each other.
        with threadpool_limits(limits=1, user_api="blas"):
            propensity_N[inside_N] = _probability(
                covariates_NP[learn_N], is_treated_N[learn_N], asked_NP, family, seed
            )
            for side, predicted_NM in expected.items():
                rows_N = learn_N & (is_treated_N == side)
                predicted_NM[inside_N] = _regression(
                    covariates_NP[rows_N], outcomes_NM[rows_N], asked_NP, family, seed
                )
    return Nuisance(np.clip(propensity_N, LEAST, MOST), expected[True], expected[False])


def _probability(
    known_NP: FloatArray,
    is_treated_N: BoolArray,
    asked_NP: FloatArray,
    family: Family,
    seed: int,
) -> FloatArray:
    if family == "trees":
        from sklearn.ensemble import HistGradientBoostingClassifier

        trees = HistGradientBoostingClassifier(**_TREES, random_state=seed)
        return np.asarray(trees.fit(known_NP, is_treated_N).predict_proba(asked_NP)[:, 1])
    from sklearn.linear_model import LogisticRegression

    # The penalty is chosen by its loss on a fifth, so that a choice costs one fit and not five.
    held_N = np.arange(len(known_NP)) % 5 == 0
    best, least = PENALTIES[0], np.inf
    for penalty in PENALTIES if _has_both(is_treated_N[~held_N]) else ():
        # A handful of Newton steps; what only goes by gradients takes hundreds.
        learner = LogisticRegression(C=penalty, solver="newton-cholesky")
        learner.fit(known_NP[~held_N], is_treated_N[~held_N])
        p_N = np.clip(learner.predict_proba(known_NP[held_N])[:, 1], 1e-6, 1 - 1e-6)
        loss = -np.where(is_treated_N[held_N], np.log(p_N), np.log1p(-p_N)).mean()
        if loss < least:
            best, least = penalty, loss
    learner = LogisticRegression(C=best, solver="newton-cholesky").fit(known_NP, is_treated_N)
    return np.asarray(learner.predict_proba(asked_NP)[:, 1])


def _regression(
    known_NP: FloatArray, outcomes_NM: FloatArray, asked_NP: FloatArray, family: Family, seed: int
) -> FloatArray:
    if family == "trees":
        from sklearn.ensemble import HistGradientBoostingRegressor

        return np.column_stack(
            [
                HistGradientBoostingRegressor(**_TREES, random_state=seed)
                .fit(known_NP, outcome_N)
                .predict(asked_NP)
                for outcome_N in outcomes_NM.T
            ]
        )
    from sklearn.linear_model import RidgeCV

    learner = RidgeCV(RIDGE, alpha_per_target=True).fit(known_NP, outcomes_NM)
    return np.asarray(learner.predict(asked_NP)).reshape(len(asked_NP), -1)


def _has_both(is_treated_N: BoolArray) -> bool:
    return bool(is_treated_N.any() and not is_treated_N.all())


_TREES = {"max_iter": 60, "learning_rate": 0.06, "max_leaf_nodes": 8, "min_samples_leaf": 20}
