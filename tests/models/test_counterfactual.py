"""Weighted metrics by hand, and on clicks whose examination is known."""

import numpy as np
import pytest

from models.counterfactual import discount, graded_ndcg, weighted_dcg


def test_discounts_follow_ranks_and_ties_share():
    request = np.array([0, 0, 0, 1, 1])
    found = discount(request, np.array([1.0, 3.0, 2.0, 5.0, 5.0]), 2)
    second = 1 / np.log2(3)
    np.testing.assert_allclose(found, [0.0, 1.0, second, (1 + second) / 2, (1 + second) / 2])


def test_graded_ndcg_by_hand():
    request, gain = np.array([0, 0, 1, 1]), np.array([0.5, 1.0, 0.0, 0.0])
    best = 1.0 + 0.5 / np.log2(3)
    found = graded_ndcg(request, np.array([2.0, 1.0, 1.0, 0.0]), gain)
    assert found[0] == pytest.approx((0.5 + 1.0 / np.log2(3)) / best)
    assert np.isnan(found[1])
    assert graded_ndcg(request, np.array([1.0, 2.0, 1.0, 0.0]), gain)[0] == 1.0


def test_weights_undo_examination_and_cost_sample_size():
    """The second place is examined a fifth of the time; its note is as good as the first."""
    rng = np.random.default_rng(0)
    n = 60_000
    request = np.repeat(np.arange(n), 2)
    examination = np.tile([1.0, 0.2], n)
    clicked = rng.random(2 * n) < 0.5 * examination
    first = np.tile([1.0, 0.0], n)
    up = weighted_dcg(request, first, clicked, examination)
    down = weighted_dcg(request, -first, clicked, examination)
    assert up.raw > down.raw + 0.1
    assert up.ips == pytest.approx(down.ips, abs=0.02)
    assert up.snips == pytest.approx(down.snips, abs=0.01)
    assert up.n_effective < 0.7 * up.n_clicks
    clipped = weighted_dcg(request, first, clicked, examination, clip=1.0)
    assert clipped.ips == clipped.raw == clipped.snips
    assert clipped.n_effective == pytest.approx(clipped.n_clicks)
