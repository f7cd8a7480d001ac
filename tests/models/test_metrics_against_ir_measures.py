"""Metrics against ir-measures, which the field uses, on random runs.

Its AP@k divides by all positives, here map_r@k; a request that the run lacks counts 0, as in the
mode full. Ties are another matter: it breaks them by name, so scores here differ.
"""

import ir_measures
import numpy as np
import pytest
from ir_measures import AP, RR, P, Qrel, R, ScoredDoc, nDCG

from models.metrics import ranking_metrics

THEIRS = {
    "mrr@10": RR @ 10,
    "mrr@100": RR @ 100,
    "map_r@10": AP @ 10,
    "map_r@100": AP @ 100,
    "ndcg@10": nDCG @ 10,
    "recall@10": R @ 10,
    "precision@10": P @ 10,
}


@pytest.mark.parametrize("seed", range(5))
def test_random_runs_have_the_same_metrics(seed: int) -> None:
    rng = np.random.default_rng(seed)
    run: list[tuple[int, int, float]] = []
    qrels: list[tuple[int, int]] = []
    for qid in range(60):
        n = int(rng.integers(1, 150))
        pids = rng.choice(1000, n, replace=False)
        # One request in ten is lacking in the run; some positives are not among the candidates.
        if qid % 10:
            run += [(qid, int(pid), score) for pid, score in zip(pids, rng.random(n), strict=True)]
        hits = rng.choice(pids, int(rng.integers(1, min(n, 12) + 1)), replace=False)
        qrels += [(qid, int(pid)) for pid in hits]
        qrels += [(qid, 5000 + i) for i in range(int(rng.integers(0, 3)))]
    ours = ranking_metrics(*zip(*run, strict=True), *zip(*qrels, strict=True)).means
    theirs = ir_measures.calc_aggregate(
        list(THEIRS.values()),
        [Qrel(str(qid), str(pid), 1) for qid, pid in qrels],
        [ScoredDoc(str(qid), str(pid), score) for qid, pid, score in run],
    )
    for name, measure in THEIRS.items():
        assert ours[name] == pytest.approx(theirs[measure], abs=1e-12), name
