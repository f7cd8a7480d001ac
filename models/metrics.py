"""Ranking metrics over ragged candidate lists, in two named modes, with intervals and paired tests.

`full`      every request of the qrels counts (one that the run lacks scores 0), and tied candidates
            count in expectation over all orders inside their tie group, so that a constant scorer
            scores exactly what a random order scores.
`official`  the definitions of the public Qilin evaluator: only the first 1,000 rows of the test
            table, ties in the order the run gives them, requests that the run lacks are skipped.

Expected values under ties: McSherry and Najork, "Computing information retrieval performance
measures efficiently in the presence of tied scores" (ECIR 2008); for the reciprocal rank, the
position of the first hit in a shuffled tie group (negative hypergeometric distribution).

Shapes: N = rows of the run, P = rows of the qrels, R = requests, M = metrics, S = samples,
G = clusters of requests. Knows arrays only: no files, no tables.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

Mode = Literal["full", "official"]
Ties = Literal["expected", "given"]

OFFICIAL_ROWS = 1000
# Standard errors at which a two-sided test of the 5 % level has 80 % power: 1.96 + 0.84.
SEEN_WITH_80_PERCENT_POWER = 2.8
CUT_SHORT, CUT_LONG = 10, 100

# Means over requests; `auc` and `gauc` are computed from all candidates and stand beside them.
REQUEST_METRICS = (
    "mrr@10",
    "mrr@100",
    "map@10",
    "map@100",
    "map_r@10",
    "map_r@100",
    "ndcg@10",
    "recall@10",
    "precision@10",
)


@dataclass(frozen=True, kw_only=True)
class RankingMetrics:
    """Metrics of one run: a value per request, and their means.

    Attributes:
        qid: int64 (R,), the evaluated requests, ascending.
        per_request: name -> float64 (R,), each in 0..1; the names are `REQUEST_METRICS`.
        request_auc: float64 (R,), NaN where the candidates are not of both classes.
        n_candidates: int64 (R,), candidates of each request; 0 where the run lacks it.
        means: name -> mean over requests, and `auc`, `gauc` (NaN where undefined).
        n_missing: requests of the qrels that the run lacks: score 0 (full), skipped (official).
        n_unjudged: requests of the run without a positive in the qrels; never evaluated.
        n_positives: positives of the evaluated requests that the run has.
        n_found: how many of those are among the run's candidates.
    """

    qid: IntArray
    per_request: dict[str, FloatArray]
    request_auc: FloatArray
    n_candidates: IntArray
    means: dict[str, float]
    n_missing: int
    n_unjudged: int
    n_positives: int
    n_found: int


@dataclass(frozen=True)
class Interval:
    """A mean and its percentile bootstrap interval, in the unit of the values."""

    mean: float
    low: float
    high: float


def ranking_metrics(
    run_qid: ArrayLike,
    run_pid: ArrayLike,
    run_score: ArrayLike,
    qrels_qid: ArrayLike,
    qrels_pid: ArrayLike,
    *,
    mode: Mode = "full",
    ties: Ties | None = None,
    first_rows: int = OFFICIAL_ROWS,
) -> RankingMetrics:
    """Score a run against the clicked notes of each request.

    With R_q the positives of request q in the qrels, whether or not the run ranks them:
    mrr@k is 1 / rank of the first hit, 0 beyond k; map@k divides the summed precisions at the
    hits by min(R_q, k) and map_r@k by R_q; ndcg@k has binary gains and log2 discounts; recall@k
    divides hits by R_q and precision@k by k, however short the list. `auc` is global over all
    candidates of the evaluated requests, `gauc` the mean per-request AUC weighted by candidates;
    in both a tied pair counts one half.

    Args:
        run_qid: integers (N,), zero-based row of the request in its published test table.
        run_pid: integers (N,), candidate note.
        run_score: floats (N,), higher is better.
        qrels_qid: integers (P,).
        qrels_pid: integers (P,), clicked note.
        mode: see the head of this module.
        ties: overrides the mode's treatment of ties; `given` keeps the order of the run's rows.
        first_rows: official mode evaluates requests with qid < first_rows.

    Returns:
        Values per request and their means. The full mode counts a pair that stands twice in the
        qrels once; the official mode counts it twice in R_q, as the public evaluator does.

    Raises:
        ValueError: arrays of unequal length or not of one dimension, ids that are not integers,
            NaN scores, empty qrels, no request to evaluate; in the full mode also a candidate that
            stands twice in its request. The message names the first offender.

    Sources: the public evaluator of Qilin (arXiv 2503.00501) for the official mode; McSherry and
    Najork 2008 for ties.
    """
    q_N = _integers(run_qid, "run qid")
    p_N = _integers(run_pid, "run pid")
    score_N = _floats(run_score, "run score")
    q_P = _integers(qrels_qid, "qrels qid")
    p_P = _integers(qrels_pid, "qrels pid")
    _require_equal_lengths({"run qid": q_N, "run pid": p_N, "run score": score_N})
    _require_equal_lengths({"qrels qid": q_P, "qrels pid": p_P})
    _require_no_nan(score_N, q_N, p_N)
    if len(q_P) == 0:
        raise ValueError("the qrels are empty: there is nothing to evaluate")
    if mode == "official":
        in_run, in_qrels = q_N < first_rows, q_P < first_rows
        q_N, p_N, score_N = q_N[in_run], p_N[in_run], score_N[in_run]
        q_P, p_P = q_P[in_qrels], p_P[in_qrels]
    elif mode != "full":
        raise ValueError(f"unknown mode {mode!r}: 'full' or 'official'")
    if ties is None:
        ties = "given" if mode == "official" else "expected"
    elif ties not in ("expected", "given"):
        raise ValueError(f"unknown treatment of ties {ties!r}: 'expected' or 'given'")

    key_N, key_P = _pair_keys(q_N, p_N, q_P, p_P)
    if mode == "full":
        _require_no_duplicates(key_N, q_N, p_N)
        unique_P = np.unique(key_P, return_index=True)[1]
        q_P, key_P = q_P[unique_P], key_P[unique_P]

    judged_R, n_positives_R = np.unique(q_P, return_counts=True)
    is_judged_N = _is_in(q_N, judged_R)
    n_unjudged = len(np.unique(q_N[~is_judged_N]))
    present_R = _is_in(judged_R, q_N)
    n_missing = int(np.count_nonzero(~present_R))
    qid_R = judged_R[present_R] if mode == "official" else judged_R
    positives_R = n_positives_R[present_R] if mode == "official" else n_positives_R
    if len(qid_R) == 0:
        raise ValueError("no request of the qrels is in the run: there is nothing to evaluate")

    rows_N = np.flatnonzero(is_judged_N)
    request_N = np.searchsorted(qid_R, q_N[rows_N])
    is_hit_N = _is_in(key_N[rows_N], key_P)
    lists = _RankedLists.build(request_N, score_N[rows_N], is_hit_N, len(qid_R), ties)

    per_request = {name: np.zeros(len(qid_R)) for name in REQUEST_METRICS}
    for k in (CUT_SHORT, CUT_LONG):
        summed_precision_R = lists.expected_summed_precision(k)
        per_request[f"mrr@{k}"] = lists.expected_reciprocal_rank(k)
        per_request[f"map@{k}"] = summed_precision_R / np.minimum(positives_R, k)
        per_request[f"map_r@{k}"] = summed_precision_R / positives_R
    hits_R = lists.expected_hits(CUT_SHORT)
    per_request["recall@10"] = hits_R / positives_R
    per_request["precision@10"] = hits_R / CUT_SHORT
    ideal_k = np.cumsum(1.0 / np.log2(np.arange(CUT_SHORT) + 2.0))
    per_request["ndcg@10"] = (
        lists.expected_gain(CUT_SHORT) / ideal_k[np.minimum(positives_R, CUT_SHORT) - 1]
    )

    auc_R = lists.auc_per_request()
    weight_R = np.where(np.isnan(auc_R), 0, lists.n_rows_R)
    means = {name: _mean(values_R) for name, values_R in per_request.items()}
    means["auc"] = area_under_curve(is_hit_N, score_N[rows_N])
    means["gauc"] = (
        float(np.nansum(auc_R * weight_R) / weight_R.sum()) if weight_R.any() else float("nan")
    )
    return RankingMetrics(
        qid=qid_R,
        per_request=per_request,
        request_auc=auc_R,
        n_candidates=lists.n_rows_R,
        means=means,
        n_missing=n_missing,
        n_unjudged=n_unjudged,
        n_positives=int(n_positives_R[present_R].sum()),
        n_found=int(np.count_nonzero(_is_in(key_P, key_N[rows_N]))),
    )


def area_under_curve(is_positive: ArrayLike, score: ArrayLike) -> float:
    """Share of (positive, negative) pairs that the score puts in order; a tied pair counts half.

    Args:
        is_positive: booleans (N,).
        score: floats (N,).

    Returns:
        The area under the ROC curve in 0..1 (Mann-Whitney statistic); NaN without both classes.

    Raises:
        ValueError: unequal lengths, or a NaN score (its row is named).
    """
    positive_N = np.asarray(is_positive, dtype=bool)
    score_N = _floats(score, "score")
    _require_equal_lengths({"is_positive": positive_N, "score": score_N})
    if np.isnan(score_N).any():
        raise ValueError(f"score is NaN in row {int(np.flatnonzero(np.isnan(score_N))[0])}")
    zeros_N = np.zeros(len(score_N), dtype=np.int64)
    lists = _RankedLists.build(zeros_N, score_N, positive_N, 1, "expected")
    return float(lists.auc_per_request()[0])


def log_loss(is_positive: ArrayLike, probability: ArrayLike) -> float:
    """Mean negative log likelihood, in nats per impression, of predicted click probabilities.

    Args:
        is_positive: booleans (N,).
        probability: floats (N,) in 0..1; 0 and 1 are moved inwards by one part in 10^15, so that
            one certain and wrong prediction costs 34.5 nats and not infinity.

    Raises:
        ValueError: no rows, unequal lengths, or a value outside 0..1 (its row is named): scores
            that are no probabilities have no log loss.
    """
    positive_N = np.asarray(is_positive, dtype=bool)
    p_N = _floats(probability, "probability")
    _require_equal_lengths({"is_positive": positive_N, "probability": p_N})
    if len(p_N) == 0:
        raise ValueError("log loss of no rows")
    bad = np.flatnonzero(~((p_N >= 0) & (p_N <= 1)))
    if len(bad):
        raise ValueError(
            f"probability in row {int(bad[0])} is {p_N[bad[0]]}: log loss needs values in 0..1"
        )
    p_N = np.clip(p_N, 1e-15, 1 - 1e-15)
    return float(-np.mean(np.where(positive_N, np.log(p_N), np.log1p(-p_N))))


def bootstrap_means(
    values: ArrayLike,
    *,
    n_samples: int = 1000,
    seed: int = 0,
    groups: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> FloatArray:
    """Means of resampled requests; all columns see the same samples.

    Args:
        values: floats (R, M), one row per request, finite.
        n_samples: S, how many samples are drawn.
        seed: of numpy's default generator.
        groups: labels (R,), the cluster of each request (say, its user): clusters are drawn with
            all their requests, as requests of one user are not independent.
        weights: floats (R,), not negative; each sample gives the weighted mean. For all columns.

    Returns:
        float64 (S, M). NaN for a sample whose weights are all 0.

    Raises:
        ValueError: no rows, values that are not finite, unequal lengths, n_samples < 1.

    Source: Efron and Tibshirani 1993, chapters 6 and 13; clusters: Davison and Hinkley 1997, 3.8.
    """
    values_RM = np.asarray(values, dtype=np.float64)
    if values_RM.ndim != 2 or len(values_RM) == 0:
        raise ValueError(f"bootstrap needs values of shape (requests, metrics): {values_RM.shape}")
    if not np.isfinite(values_RM).all():
        first = int(np.argwhere(~np.isfinite(values_RM))[0][0])
        raise ValueError(f"the value of request row {first} is not finite")
    if n_samples < 1:
        raise ValueError(f"n_samples is {n_samples}: at least 1")
    weight_R = np.ones(len(values_RM)) if weights is None else _floats(weights, "weights")
    _require_equal_lengths({"values": values_RM, "weights": weight_R})
    if not (weight_R >= 0).all():
        raise ValueError("weights must not be negative")
    sums_GM, weight_G = _cluster_sums(values_RM * weight_R[:, None], weight_R, groups)
    n_G = len(weight_G)

    rng = np.random.default_rng(seed)
    means_SM = np.empty((n_samples, values_RM.shape[1]))
    # Counting how often each cluster is drawn turns all columns' means into one matrix product;
    # a block of samples at a time stays small enough for the cache.
    columns = np.column_stack([sums_GM, weight_G])
    block = 64
    counts = np.empty((block, n_G))
    for start in range(0, n_samples, block):
        n_block = min(block, n_samples - start)
        for row, drawn in enumerate(rng.integers(0, n_G, size=(n_block, n_G))):
            counts[row] = np.bincount(drawn, minlength=n_G)
        totals = counts[:n_block] @ columns
        with np.errstate(invalid="ignore", divide="ignore"):
            means_SM[start : start + n_block] = totals[:, :-1] / totals[:, -1:]
    return means_SM


def bootstrap_bounds(
    values: ArrayLike, *, n_samples: int = 1000, seed: int = 0, groups: ArrayLike | None = None
) -> tuple[FloatArray, FloatArray]:
    """Lower and upper end, float64 (M,), of the 95 % percentile intervals of each column's mean.

    Args and errors as `bootstrap_means`.
    """
    means_SM = bootstrap_means(values, n_samples=n_samples, seed=seed, groups=groups)
    low_M, high_M = np.percentile(means_SM, [2.5, 97.5], axis=0)
    return low_M, high_M


def bootstrap_interval(
    per_request: ArrayLike,
    n_samples: int = 1000,
    seed: int = 0,
    *,
    groups: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    confidence: float = 0.95,
) -> Interval:
    """Percentile bootstrap interval of a mean over requests.

    Args:
        per_request: floats (R,), finite.
        n_samples, seed, groups, weights: as in `bootstrap_means`.
        confidence: share of the sampled means inside the interval, in 0..1.

    Returns:
        The mean of the values themselves and the two percentiles of the sampled means.

    Raises:
        ValueError: as `bootstrap_means`; a confidence outside 0..1.
    """
    values_R = _floats(per_request, "per_request")
    low, high = _percentiles(confidence)
    means_S1 = bootstrap_means(
        values_R[:, None], n_samples=n_samples, seed=seed, groups=groups, weights=weights
    )
    bounds = np.nanpercentile(means_S1[:, 0], [low, high])
    if weights is None:
        mean = _mean(values_R)
    else:
        mean = float(np.average(values_R, weights=_floats(weights, "weights")))
    return Interval(mean, float(bounds[0]), float(bounds[1]))


def paired_bootstrap_interval(
    per_request_a: ArrayLike,
    per_request_b: ArrayLike,
    n_samples: int = 1000,
    seed: int = 0,
    *,
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
) -> Interval:
    """Bootstrap interval of the mean difference a - b of two runs over the same requests.

    Args:
        per_request_a, per_request_b: floats (R,), the same request in the same row.
        n_samples, seed, groups, confidence: as in `bootstrap_interval`.

    Raises:
        ValueError: unequal lengths; as `bootstrap_interval`.
    """
    a_R, b_R = _floats(per_request_a, "run a"), _floats(per_request_b, "run b")
    _require_equal_lengths({"run a": a_R, "run b": b_R})
    return bootstrap_interval(a_R - b_R, n_samples, seed, groups=groups, confidence=confidence)


def paired_randomisation_test(
    per_request_a: ArrayLike,
    per_request_b: ArrayLike,
    n_permutations: int = 10_000,
    seed: int = 0,
    *,
    groups: ArrayLike | None = None,
) -> float:
    """Two-sided p-value of the mean difference of two runs, by random sign flips.

    Under the null hypothesis the two runs are exchangeable in every request (in every cluster,
    when `groups` is given), so the sign of each difference is a fair coin.

    Args:
        per_request_a, per_request_b: floats (R,), the same request in the same row.
        n_permutations: random sign patterns; the smallest p-value is 1 / (n_permutations + 1).
        seed: of numpy's default generator.
        groups: labels (R,): all differences of a cluster flip together.

    Returns:
        (1 + patterns at least as far from 0) / (n_permutations + 1): in 0..1, never 0.

    Raises:
        ValueError: no rows, unequal lengths, values that are not finite, n_permutations < 1.

    Source: Fisher's randomisation test as in Smucker, Allan and Carterette, CIKM 2007; the added
    one: Phipson and Smyth 2010.
    """
    a_R, b_R = _floats(per_request_a, "run a"), _floats(per_request_b, "run b")
    _require_equal_lengths({"run a": a_R, "run b": b_R})
    difference_R = a_R - b_R
    if len(difference_R) == 0:
        raise ValueError("a paired test of no requests")
    if not np.isfinite(difference_R).all():
        first = int(np.flatnonzero(~np.isfinite(difference_R))[0])
        raise ValueError(f"the difference of request row {first} is not finite")
    if n_permutations < 1:
        raise ValueError(f"n_permutations is {n_permutations}: at least 1")
    sums_G1, _ = _cluster_sums(difference_R[:, None], np.ones(len(difference_R)), groups)

    # Eight coins are one random byte: the signed sum of each block of eight differences is looked
    # up among its 256 possible values, which costs an eighth of flipping them one by one.
    n_blocks = -(-len(sums_G1) // 8)
    blocks_B8 = np.zeros((n_blocks, 8))
    blocks_B8.ravel()[: len(sums_G1)] = sums_G1[:, 0]
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float64)
    table = (blocks_B8 @ (2.0 * bits - 1.0).T).ravel()
    offset_B = np.arange(n_blocks) * 256

    observed = abs(float(sums_G1.sum()))
    # Equal sums reached by different orders of addition must count as equal.
    threshold = observed - 1e-10 * max(1.0, float(np.abs(sums_G1).sum()))
    rng = np.random.default_rng(seed)
    n_as_far = 0
    step = max(1, 1_000_000 // n_blocks)
    for start in range(0, n_permutations, step):
        n_step = min(step, n_permutations - start)
        byte = rng.integers(0, 256, size=(n_step, n_blocks), dtype=np.uint8)
        flipped = table[offset_B + byte].sum(axis=1)
        n_as_far += int(np.count_nonzero(np.abs(flipped) >= threshold))
    return (1 + n_as_far) / (n_permutations + 1)


def holm_adjusted(p_values: ArrayLike) -> FloatArray:
    """p-values of K tests made together, each in 0..1 and fit to be compared with one level.

    Below 0.05 for any of them happens by chance in at most 5 % of such families of tests.

    Args:
        p_values: floats (K,), in 0..1.

    Raises:
        ValueError: a value outside 0..1, or not of one dimension.

    Source: Holm, Scandinavian Journal of Statistics 1979.
    """
    p_K = _floats(p_values, "p_values")
    if not ((p_K >= 0) & (p_K <= 1)).all():
        raise ValueError("p-values must be in 0..1")
    order = np.argsort(p_K, kind="stable")
    steps = (len(p_K) - np.arange(len(p_K))) * p_K[order]
    adjusted = np.empty_like(p_K)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


@dataclass(frozen=True)
class _RankedLists:
    """The run's candidates sorted by request and score, with the facts about their tie groups.

    Everything is per row in sorted order: `rank_N` from 1 inside the request; of the row's tie
    group its place `place_N` (from 1), its size `size_N`, its hits `hits_N` and the hits of better
    groups, `before_N`.
    """

    n_requests: int
    request_N: IntArray
    rank_N: IntArray
    place_N: IntArray
    size_N: IntArray
    hits_N: IntArray
    before_N: IntArray
    n_rows_R: IntArray

    @classmethod
    def build(
        cls,
        request_N: IntArray,
        score_N: FloatArray,
        is_hit_N: BoolArray,
        n_requests: int,
        ties: Ties,
    ) -> "_RankedLists":
        # lexsort is stable: rows of equal score keep the order in which the run gives them.
        order_N = np.lexsort((-score_N, request_N))
        request_N, score_N = request_N[order_N], score_N[order_N]
        hit_N = is_hit_N[order_N].astype(np.int64)
        row_N = np.arange(len(order_N))

        n_rows_R = np.bincount(request_N, minlength=n_requests).astype(np.int64)
        first_row_R = np.cumsum(n_rows_R) - n_rows_R
        hits_until_N = np.concatenate([[0], np.cumsum(hit_N)])

        starts_N = np.ones(len(order_N), dtype=bool)
        if ties == "expected":
            starts_N[1:] = (request_N[1:] != request_N[:-1]) | (score_N[1:] != score_N[:-1])
        start_T = np.flatnonzero(starts_N)
        end_T = np.append(start_T[1:], len(order_N))
        group_N = np.cumsum(starts_N) - 1
        group_start_N = start_T[group_N]
        group_hits_T = hits_until_N[end_T] - hits_until_N[start_T]
        return cls(
            n_requests=n_requests,
            request_N=request_N,
            rank_N=row_N - first_row_R[request_N] + 1,
            place_N=row_N - group_start_N + 1,
            size_N=(end_T - start_T)[group_N],
            hits_N=group_hits_T[group_N],
            before_N=hits_until_N[group_start_N] - hits_until_N[first_row_R[request_N]],
            n_rows_R=n_rows_R,
        )

    def _sum(self, value_N: FloatArray, k: int) -> FloatArray:
        return _sum_by(self.request_N, np.where(self.rank_N <= k, value_N, 0.0), self.n_requests)

    def expected_hits(self, k: int) -> FloatArray:
        """Hits among the first k, (R,)."""
        return self._sum(self.hits_N / self.size_N, k)

    def expected_gain(self, k: int) -> FloatArray:
        """DCG@k with binary gains, (R,)."""
        return self._sum(self.hits_N / self.size_N / np.log2(self.rank_N + 1.0), k)

    def expected_summed_precision(self, k: int) -> FloatArray:
        """Sum over the first k of (is a hit) * precision at that rank, (R,).

        Given a hit at this place of the group, each of the places above it in the group holds one
        of the other hits with probability (hits - 1) / (size - 1).
        """
        others_N = np.maximum(self.hits_N - 1, 0) / np.maximum(self.size_N - 1, 1)
        hits_so_far_N = self.before_N + 1 + (self.place_N - 1) * others_N
        return self._sum(self.hits_N / self.size_N * (hits_so_far_N / self.rank_N), k)

    def expected_reciprocal_rank(self, k: int) -> FloatArray:
        """1 / rank of the first hit, 0 beyond k, (R,).

        The first hit lies in the best group that has one. It is at place j with probability
        (no hit at places 1..j-1) * hits / (size - j + 1).
        """
        is_first_N = (self.before_N == 0) & (self.hits_N > 0) & (self.place_N == 1)
        row_T = np.flatnonzero(is_first_N & (self.rank_N <= k))
        request_T, rank_T = self.request_N[row_T], self.rank_N[row_T]
        size_T, hits_T = self.size_N[row_T], self.hits_N[row_T]
        value_R = np.zeros(self.n_requests)
        no_hit_T = np.ones(len(row_T))
        for above in range(k):
            goes_on = (rank_T + above <= k) & (no_hit_T > 0)
            if not goes_on.all():
                request_T, rank_T, no_hit_T = request_T[goes_on], rank_T[goes_on], no_hit_T[goes_on]
                size_T, hits_T = size_T[goes_on], hits_T[goes_on]
            if len(request_T) == 0:
                break
            left_T = size_T - above
            # A request has one such group, so this plain assignment adds once per request.
            value_R[request_T] += no_hit_T * hits_T / left_T / (rank_T + above)
            no_hit_T = no_hit_T * (left_T - hits_T) / left_T
        return value_R

    def auc_per_request(self) -> FloatArray:
        """Share of ordered (hit, miss) pairs, ties half, (R,); NaN without both classes."""
        all_rows = max(len(self.rank_N), 1)
        positives_R = self.expected_hits(all_rows)
        negatives_R = self.n_rows_R - positives_R
        start_N = self.place_N == 1
        misses_N = self.size_N - self.hits_N
        misses_before_N = self.rank_N - self.place_N - self.before_N
        # Per tie group: its hits lose to the misses of better groups and halve with their own.
        lost_N = np.where(start_N, self.hits_N * (misses_before_N + 0.5 * misses_N), 0.0)
        lost_R = _sum_by(self.request_N, lost_N, self.n_requests)
        pairs_R = np.rint(positives_R) * np.rint(negatives_R)
        return np.where(pairs_R > 0, 1.0 - lost_R / np.maximum(pairs_R, 1.0), np.nan)


def _integers(values: ArrayLike, name: str) -> IntArray:
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension, not shape {array.shape}")
    if array.dtype.kind not in "iu" and len(array):
        raise ValueError(f"{name} must be integers, not {array.dtype}")
    return array.astype(np.int64)


def _floats(values: ArrayLike, name: str) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension, not shape {array.shape}")
    return array


def _require_equal_lengths(arrays: dict[str, NDArray[Any]]) -> None:
    if len({len(array) for array in arrays.values()}) > 1:
        lengths = ", ".join(f"{name} has {len(array)}" for name, array in arrays.items())
        raise ValueError(f"arrays of unequal length: {lengths}")


def _require_no_nan(score_N: FloatArray, q_N: IntArray, p_N: IntArray) -> None:
    bad = np.flatnonzero(np.isnan(score_N))
    if len(bad):
        row = int(bad[0])
        raise ValueError(f"score of qid {q_N[row]}, pid {p_N[row]} (row {row}) is NaN")


def _require_no_duplicates(key_N: IntArray, q_N: IntArray, p_N: IntArray) -> None:
    pair = first_duplicate(key_N)
    if pair is not None:
        first, second = pair
        raise ValueError(
            f"qid {q_N[first]}, pid {p_N[first]} stands twice in the run "
            f"(rows {first} and {second})"
        )


def first_duplicate(key: IntArray) -> tuple[int, int] | None:
    """Rows of the first repeated key and of what it repeats, or None when all keys differ."""
    order_N = np.argsort(key, kind="stable")
    repeats = np.flatnonzero(key[order_N][1:] == key[order_N][:-1])
    if len(repeats) == 0:
        return None
    where = repeats[np.argmin(order_N[repeats + 1])]
    return int(order_N[where]), int(order_N[where + 1])


def _pair_keys(
    q_N: IntArray, p_N: IntArray, q_P: IntArray, p_P: IntArray
) -> tuple[IntArray, IntArray]:
    """One integer per (qid, pid), equal for equal pairs on both sides."""
    _, q_code = np.unique(np.concatenate([q_N, q_P]), return_inverse=True)
    pids, p_code = np.unique(np.concatenate([p_N, p_P]), return_inverse=True)
    key = q_code.astype(np.int64) * max(len(pids), 1) + p_code
    return key[: len(q_N)], key[len(q_N) :]


def _cluster_sums(
    values_RM: FloatArray, weight_R: FloatArray, groups: ArrayLike | None
) -> tuple[FloatArray, FloatArray]:
    if groups is None:
        return values_RM, weight_R
    labels = np.asarray(groups)
    _require_equal_lengths({"values": values_RM, "groups": labels})
    unique, cluster_R = np.unique(labels, return_inverse=True)
    columns = [_sum_by(cluster_R, values_RM[:, m], len(unique)) for m in range(values_RM.shape[1])]
    return np.stack(columns, axis=1), _sum_by(cluster_R, weight_R, len(unique))


def _is_in(values: IntArray, among: IntArray) -> BoolArray:
    # Several times faster here than numpy's isin, which hashes.
    among = np.sort(among)
    at = np.searchsorted(among, values)
    return (
        among[np.minimum(at, len(among) - 1)] == values
        if len(among)
        else np.zeros(len(values), dtype=bool)
    )


def _sum_by(index: IntArray, values: FloatArray, n: int) -> FloatArray:
    return np.bincount(index, weights=values, minlength=n).astype(np.float64, copy=False)


def _percentiles(confidence: float) -> tuple[float, float]:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}: between 0 and 1")
    return 50 * (1 - confidence), 50 * (1 + confidence)


def _mean(values_R: FloatArray) -> float:
    # Added one by one, as the public evaluator does: pairwise summation moves the last digit.
    return float(np.cumsum(values_R)[-1] / len(values_R))
