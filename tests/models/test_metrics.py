"""Metrics against hand-computed cases and against every order that ties allow."""

import itertools
import math
import time

import numpy as np
import pytest

from models.metrics import (
    REQUEST_METRICS,
    RankingMetrics,
    area_under_curve,
    bootstrap_interval,
    bootstrap_means,
    first_duplicate,
    holm_adjusted,
    log_loss,
    paired_bootstrap_interval,
    paired_randomisation_test,
    ranking_metrics,
)


def one_request(
    hits: list[int], n_positives: int, scores: list[float] | None = None, **options
) -> RankingMetrics:
    """Metrics of one list; hits are places from 0; positives beyond them are not in the list."""
    n = len(scores) if scores is not None else max(hits, default=0) + 1
    score = scores if scores is not None else list(range(n, 0, -1))
    qrels_pid = [*hits, *range(1000, 1000 + n_positives - len(hits))]
    return ranking_metrics([7] * n, list(range(n)), score, [7] * n_positives, qrels_pid, **options)


def reference(ranked_hits: list[int], n_positives: int) -> dict[str, float]:
    """The definitions, read from left to right over one list of 0 and 1."""
    values: dict[str, float] = {}
    for k in (10, 100):
        cut = ranked_hits[:k]
        first = next((i + 1 for i, hit in enumerate(cut) if hit), None)
        values[f"mrr@{k}"] = 1 / first if first else 0.0
        summed = sum(sum(cut[: i + 1]) / (i + 1) for i, hit in enumerate(cut) if hit)
        values[f"map@{k}"] = summed / min(n_positives, k)
        values[f"map_r@{k}"] = summed / n_positives
    cut = ranked_hits[:10]
    values["recall@10"] = sum(cut) / n_positives
    values["precision@10"] = sum(cut) / 10
    gain = sum(hit / math.log2(i + 2) for i, hit in enumerate(cut))
    ideal = sum(1 / math.log2(i + 2) for i in range(min(n_positives, 10)))
    values["ndcg@10"] = gain / ideal
    return values


def test_a_short_list_by_hand():
    # Ranks 2 and 4 of five candidates are hits; a third positive was not retrieved.
    means = one_request([1, 3], 3, [5.0, 4.0, 3.0, 2.0, 1.0]).means
    assert means["mrr@10"] == 1 / 2
    assert means["map@10"] == pytest.approx((1 / 2 + 2 / 4) / 3, abs=1e-15)
    assert means["map_r@10"] == pytest.approx((1 / 2 + 2 / 4) / 3, abs=1e-15)
    assert means["recall@10"] == pytest.approx(2 / 3, abs=1e-15)
    assert means["precision@10"] == 0.2, "k is the denominator even when the list is shorter"
    ideal = 1 + 1 / math.log2(3) + 1 / 2
    assert means["ndcg@10"] == pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / ideal)
    # Pairs (hit, miss): the hit at rank 2 beats two of three misses, the one at rank 4 beats one.
    assert means["auc"] == means["gauc"] == pytest.approx(3 / 6)


def test_map_has_two_denominators():
    # Twelve positives, all on top of the list: a perfect ranking.
    means = one_request(list(range(12)), 12, [float(-i) for i in range(15)]).means
    assert means["map@10"] == 1.0
    assert means["map_r@10"] == pytest.approx(10 / 12, abs=1e-15)
    assert means["map@100"] == means["map_r@100"] == 1.0
    assert means["recall@10"] == pytest.approx(10 / 12)
    assert means["ndcg@10"] == pytest.approx(1.0, abs=1e-15)


def test_the_cut_at_ten_and_at_a_hundred():
    eleventh = one_request([10], 1, [float(-i) for i in range(120)]).means
    assert (eleventh["mrr@10"], eleventh["mrr@100"]) == (0.0, 1 / 11)
    assert (eleventh["map@10"], eleventh["map@100"]) == (0.0, 1 / 11)
    tenth = one_request([9], 1, [float(-i) for i in range(120)]).means
    assert (tenth["mrr@10"], tenth["map@10"], tenth["recall@10"]) == (0.1, 0.1, 1.0)
    late = one_request([100], 1, [float(-i) for i in range(120)]).means
    assert (late["mrr@100"], late["map@100"]) == (0.0, 0.0)
    last = one_request([99], 1, [float(-i) for i in range(120)]).means
    assert (last["mrr@100"], last["map@100"]) == (0.01, 0.01)


def test_lists_without_ties_agree_with_the_definitions():
    rng = np.random.default_rng(1)
    for _ in range(60):
        n = int(rng.integers(1, 130))
        hits = np.flatnonzero(rng.random(n) < 0.2)
        n_positives = len(hits) + int(rng.integers(0 if len(hits) else 1, 14))
        order = rng.permutation(n)
        scores = np.empty(n)
        scores[order] = np.linspace(3, -3, n) if n > 1 else 1.0
        expected = reference([int(i in set(hits)) for i in order], n_positives)
        means = one_request(hits.tolist(), n_positives, scores.tolist()).means
        assert {name: means[name] for name in REQUEST_METRICS} == pytest.approx(expected, abs=1e-13)


def test_ties_count_as_the_mean_over_every_order_inside_their_groups():
    rng = np.random.default_rng(2)
    for _ in range(40):
        sizes = rng.integers(1, 5, size=int(rng.integers(1, 4)))
        while sizes.sum() > 9:
            sizes = sizes[:-1]
        groups = np.repeat(np.arange(len(sizes)), sizes)
        # Candidates that nothing can tie with push some groups across the cut at ten.
        n_above = int(rng.integers(0, 10))
        hit = (rng.random(n_above + len(groups)) < 0.35).astype(int)
        hit[-1] = 1
        n_positives = int(hit.sum() + rng.integers(0, 3))
        scores = [100.0 - i for i in range(n_above)] + (-groups).astype(float).tolist()

        starts = n_above + np.cumsum(sizes) - sizes
        totals = dict.fromkeys(REQUEST_METRICS, 0.0)
        n_orders = 0
        parts = [
            list(itertools.permutations(range(start, start + size)))
            for start, size in zip(starts, sizes, strict=True)
        ]
        for chosen in itertools.product(*parts):
            order = [*range(n_above), *itertools.chain.from_iterable(chosen)]
            for name, value in reference(hit[order].tolist(), n_positives).items():
                totals[name] += value
            n_orders += 1
        means = one_request(np.flatnonzero(hit).tolist(), n_positives, scores).means
        assert {name: means[name] for name in REQUEST_METRICS} == pytest.approx(
            {name: total / n_orders for name, total in totals.items()}, abs=1e-12
        )


def test_a_constant_score_is_worth_exactly_a_random_order():
    rng = np.random.default_rng(3)
    qid = np.repeat(np.arange(40), rng.integers(2, 7, size=40))
    pid = np.concatenate([np.arange(n) for n in np.bincount(qid)])
    is_hit = rng.random(len(qid)) < 0.4
    constant = ranking_metrics(qid, pid, np.zeros(len(qid)), qid[is_hit], pid[is_hit])
    for row, request in enumerate(constant.qid):
        hits = is_hit[qid == request].astype(int)
        orders = list(itertools.permutations(hits.tolist()))
        for name in REQUEST_METRICS:
            mean = sum(reference(list(o), int(hits.sum()))[name] for o in orders) / len(orders)
            assert constant.per_request[name][row] == pytest.approx(mean, abs=1e-12), name
    assert constant.means["auc"] == 0.5
    assert constant.means["gauc"] == 0.5


def test_large_tie_groups_agree_with_simulation_and_stay_finite():
    rng = np.random.default_rng(4)
    n, n_hits = 390, 7
    hits = np.arange(n_hits)
    means = one_request(hits.tolist(), n_hits, [0.5] * n).means
    samples = []
    for _ in range(4000):
        ranks = np.flatnonzero(rng.permutation(n) < n_hits) + 1
        samples.append((1 / ranks[0]) * (ranks[0] <= 100))
    error = np.std(samples) / math.sqrt(len(samples))
    assert abs(means["mrr@100"] - np.mean(samples)) < 4 * error
    assert means["recall@10"] == pytest.approx(10 / n, abs=1e-12)


def test_given_order_breaks_ties_in_the_official_mode_only():
    run = ([0, 0, 0, 0], [10, 11, 12, 13], [1.0, 1.0, 1.0, 1.0])
    official = ranking_metrics(*run, [0], [10], mode="official").means
    assert official["mrr@10"] == 1.0
    assert ranking_metrics(*run, [0], [13], mode="official").means["mrr@10"] == 0.25
    full = ranking_metrics(*run, [0], [10], mode="full").means
    assert full["mrr@10"] == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4, abs=1e-15)
    forced = ranking_metrics(*run, [0], [13], mode="official", ties="expected").means
    assert forced["mrr@10"] == full["mrr@10"]


def test_missing_requests_score_zero_in_full_and_are_skipped_in_official():
    run = ([0, 0], [1, 2], [2.0, 1.0])
    qrels = ([0, 5, 9], [1, 3, 3])
    full = ranking_metrics(*run, *qrels)
    assert full.qid.tolist() == [0, 5, 9]
    assert full.per_request["mrr@10"].tolist() == [1.0, 0.0, 0.0]
    assert full.means["mrr@10"] == pytest.approx(1 / 3)
    assert full.n_missing == 2
    official = ranking_metrics(*run, *qrels, mode="official")
    assert (official.qid.tolist(), official.means["mrr@10"]) == ([0], 1.0)
    assert official.n_missing == 2
    assert (full.n_found, full.n_positives) == (1, 1)


def test_an_empty_run_scores_zero_in_full_and_cannot_be_scored_in_official():
    empty = np.zeros(0, dtype=np.int64)
    full = ranking_metrics(empty, empty, [], [0, 1], [5, 6])
    assert {full.means[name] for name in REQUEST_METRICS} == {0.0}
    assert (full.n_missing, full.n_positives) == (2, 0)
    with pytest.raises(ValueError, match="no request of the qrels"):
        ranking_metrics(empty, empty, [], [0, 1], [5, 6], mode="official")


def test_official_mode_reads_the_first_rows_only():
    run = ([3, 999, 1000], [1, 1, 1], [1.0, 1.0, 1.0])
    qrels = ([3, 999, 1000], [1, 2, 1])
    assert ranking_metrics(*run, *qrels, mode="official").qid.tolist() == [3, 999]
    small = ranking_metrics(*run, *qrels, mode="official", first_rows=10)
    assert (small.qid.tolist(), small.means["mrr@10"]) == ([3], 1.0)
    with pytest.raises(ValueError, match="no request of the qrels is in the run"):
        ranking_metrics(*run, *qrels, mode="official", first_rows=2)


def test_requests_without_a_positive_are_counted_and_left_out():
    metrics = ranking_metrics([0, 1, 1], [5, 5, 6], [1.0, 9.0, 8.0], [0], [5])
    assert metrics.qid.tolist() == [0]
    assert metrics.n_unjudged == 1
    assert math.isnan(metrics.means["auc"]), "only the judged request's candidates count"
    assert math.isnan(metrics.means["gauc"])


def test_positives_outside_the_candidates_are_not_found():
    metrics = ranking_metrics([0, 0, 1], [5, 6, 5], [1.0, 2.0, 1.0], [0, 0, 1], [5, 9, 8])
    assert (metrics.n_found, metrics.n_positives) == (1, 3)


def test_gauc_weighs_requests_by_their_candidates():
    # Request 0: two candidates in the wrong order. Request 1: four in the right order.
    # Request 2: clicked notes only, so it has no AUC.
    qid = [0, 0, 1, 1, 1, 1, 2]
    pid = [0, 1, 0, 1, 2, 3, 0]
    score = [1.0, 2.0, 9.0, 8.0, 7.0, 6.0, 0.0]
    metrics = ranking_metrics(qid, pid, score, [0, 1, 2], [0, 0, 0])
    assert metrics.request_auc[:2].tolist() == [0.0, 1.0]
    assert math.isnan(metrics.request_auc[2])
    assert metrics.means["gauc"] == pytest.approx(4 / 6)
    # Hits have scores 1, 9, 0; misses 2, 8, 7, 6: of 12 pairs only the four of the 9 are right.
    assert metrics.means["auc"] == pytest.approx(4 / 12)


def test_auc_counts_a_tied_pair_as_one_half():
    rng = np.random.default_rng(5)
    score = rng.integers(0, 5, size=60).astype(float)
    positive = rng.random(60) < 0.3
    pairs = [(a > b) + 0.5 * (a == b) for a in score[positive] for b in score[~positive]]
    assert area_under_curve(positive, score) == pytest.approx(np.mean(pairs), abs=1e-12)
    assert math.isnan(area_under_curve([True, True], [1.0, 2.0]))
    with pytest.raises(ValueError, match="row 1"):
        area_under_curve([True, False], [1.0, math.nan])


def test_the_order_of_the_rows_does_not_matter_in_full_mode():
    rng = np.random.default_rng(6)
    qid, pid = np.repeat(np.arange(30), 12), np.tile(np.arange(12), 30)
    score = rng.integers(0, 4, size=360).astype(float)
    is_hit = (rng.random(360) < 0.2) | (pid == 0)
    before = ranking_metrics(qid, pid, score, qid[is_hit], pid[is_hit]).means
    shuffled = rng.permutation(360)
    after = ranking_metrics(
        qid[shuffled], pid[shuffled], score[shuffled], qid[is_hit], pid[is_hit]
    ).means
    assert after == pytest.approx(before, abs=1e-12)
    monotone = ranking_metrics(qid, pid, np.exp(score) - 9, qid[is_hit], pid[is_hit]).means
    assert monotone["mrr@10"] == pytest.approx(before["mrr@10"], abs=1e-12)


def test_ids_are_labels_not_numbers():
    # Query and note ids may be equal numbers, negative or far apart.
    metrics = ranking_metrics([0, 0, 1], [0, -4, 2**62], [1.0, 2.0, 3.0], [0, 1], [0, 2**62])
    assert metrics.per_request["mrr@10"].tolist() == [0.5, 1.0]


def test_a_duplicate_candidate_is_named():
    with pytest.raises(ValueError, match=r"qid 1, pid 6 stands twice in the run \(rows 1 and 3\)"):
        ranking_metrics([0, 1, 1, 1], [5, 6, 7, 6], [1.0, 2.0, 3.0, 2.0], [1], [6])


def test_a_nan_score_is_named_in_both_modes():
    for mode in ("full", "official"):
        with pytest.raises(ValueError, match=r"qid 3, pid 8 \(row 1\) is NaN"):
            ranking_metrics([3, 3], [7, 8], [1.0, math.nan], [3], [7], mode=mode)


def test_unusable_arrays_are_refused():
    with pytest.raises(ValueError, match="unequal length"):
        ranking_metrics([0, 1], [0], [1.0], [0], [0])
    with pytest.raises(ValueError, match="run qid must be integers"):
        ranking_metrics([0.5], [0], [1.0], [0], [0])
    with pytest.raises(ValueError, match="qrels are empty"):
        ranking_metrics([0], [0], [1.0], [], [])
    with pytest.raises(ValueError, match="unknown mode"):
        ranking_metrics([0], [0], [1.0], [0], [0], mode="fast")  # type: ignore[arg-type]


def test_a_repeated_qrels_pair_counts_once_in_full_and_twice_in_official():
    run = ([0, 0], [1, 2], [2.0, 1.0])
    qrels = ([0, 0], [1, 1])
    assert ranking_metrics(*run, *qrels).means["recall@10"] == 1.0
    assert ranking_metrics(*run, *qrels, mode="official").means["recall@10"] == 0.5


def test_the_first_duplicate_is_the_earliest_repetition():
    assert first_duplicate(np.array([4, 7, 9, 7, 4])) == (1, 3)
    assert first_duplicate(np.array([4, 7, 9])) is None
    assert first_duplicate(np.array([], dtype=np.int64)) is None


def test_log_loss_by_hand_and_outside_its_domain():
    assert log_loss([True, False], [0.8, 0.4]) == pytest.approx(
        -(math.log(0.8) + math.log(0.6)) / 2, abs=1e-15
    )
    assert log_loss([False], [1.0]) == pytest.approx(15 * math.log(10), rel=1e-3)
    for bad in (1.5, -0.1, math.nan):
        with pytest.raises(ValueError, match="row 1"):
            log_loss([True, False], [0.5, bad])


def test_the_bootstrap_interval_is_the_normal_one_for_many_requests():
    values = np.random.default_rng(7).normal(0.5, 0.3, size=4000)
    interval = bootstrap_interval(values, n_samples=2000, seed=1)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert interval.mean == pytest.approx(values.mean(), abs=1e-12)
    assert interval.high - interval.mean == pytest.approx(half, rel=0.1)
    assert interval.mean - interval.low == pytest.approx(half, rel=0.1)
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)


def test_the_bootstrap_keeps_clusters_together():
    # Every user repeats one value twenty times, so only the users carry information.
    user_value = np.random.default_rng(8).normal(size=100)
    values, user = np.repeat(user_value, 20), np.repeat(np.arange(100), 20)
    by_request = bootstrap_interval(values, seed=3)
    by_user = bootstrap_interval(values, seed=3, groups=user)
    ratio = (by_user.high - by_user.low) / (by_request.high - by_request.low)
    assert ratio == pytest.approx(math.sqrt(20), rel=0.2)


def test_the_bootstrap_weighs_requests():
    interval = bootstrap_interval([0.0, 1.0], weights=[3.0, 1.0], seed=0)
    assert interval.mean == 0.25
    columns = bootstrap_means(np.array([[0.0, 1.0], [1.0, 3.0], [4.0, 9.0]]), n_samples=50)
    assert columns.shape == (50, 2)
    assert np.allclose(columns[:, 1], 2 * columns[:, 0] + 1), "one sample serves all columns"
    with pytest.raises(ValueError, match="request row 1 is not finite"):
        bootstrap_interval([0.0, math.nan])


def test_the_bootstrap_of_a_full_test_set_takes_under_half_a_second():
    values = np.random.default_rng(0).random(11_115)
    seconds = []
    for _ in range(3):
        started = time.process_time()
        bootstrap_interval(values)
        seconds.append(time.process_time() - started)
    assert min(seconds) < 0.5


def test_sign_flips_agree_with_enumeration():
    difference = np.array([0.3, -0.1, 0.2, 0.25, 0.05, -0.02, 0.4, 0.15, 0.1, -0.3])
    signs = np.array(list(itertools.product([-1, 1], repeat=len(difference))))
    exact = np.mean(np.abs(signs @ difference) >= abs(difference.sum()) - 1e-12)
    p = paired_randomisation_test(difference, np.zeros(10), n_permutations=40_000, seed=5)
    assert p == pytest.approx(exact, abs=4 * math.sqrt(exact / 40_000))


def test_sign_flips_are_symmetric_and_never_certain():
    a = np.linspace(0, 1, 200)
    assert paired_randomisation_test(a, a) == 1.0
    assert paired_randomisation_test(a + 1, a, n_permutations=999) == 1 / 1000
    b = a[::-1].copy()
    assert paired_randomisation_test(a, b, seed=2) == paired_randomisation_test(b, a, seed=2)


def test_sign_flips_are_uniform_under_the_null_hypothesis():
    rng = np.random.default_rng(9)
    p = [
        paired_randomisation_test(rng.normal(size=50), rng.normal(size=50), 400, seed)
        for seed in range(300)
    ]
    assert np.mean(np.array(p) < 0.2) == pytest.approx(0.2, abs=0.08)
    clustered = [
        paired_randomisation_test(
            np.repeat(rng.normal(size=25), 8),
            np.zeros(200),
            400,
            seed,
            groups=np.repeat(range(25), 8),
        )
        for seed in range(300)
    ]
    assert np.mean(np.array(clustered) < 0.2) == pytest.approx(0.2, abs=0.08)


def test_a_paired_interval_is_narrower_than_the_runs_apart():
    rng = np.random.default_rng(10)
    difficulty = rng.random(2000)
    a, b = difficulty + 0.02 * rng.random(2000), difficulty
    paired = paired_bootstrap_interval(a, b)
    assert paired.low > 0
    assert paired.mean == pytest.approx((a - b).mean())
    alone = bootstrap_interval(a)
    assert paired.high - paired.low < 0.1 * (alone.high - alone.low)


def test_holm_by_hand():
    # Sorted: 0.01 * 4, 0.02 * 3, 0.03 * 2 (not below the one before), 0.5 * 1.
    found = holm_adjusted([0.03, 0.01, 0.5, 0.02])
    assert found.tolist() == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm_adjusted([0.4, 0.9]).tolist() == [0.8, 0.9]
    assert holm_adjusted([]).tolist() == []
    with pytest.raises(ValueError, match=r"0\.\.1"):
        holm_adjusted([1.2])
