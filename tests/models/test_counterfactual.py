"""Weighted metrics by hand, and on clicks of known examination; pairs that cancel the place."""

import numpy as np
import pytest

from models.counterfactual import (
    adjacent_pairs,
    click_weights,
    graded_ndcg,
    moved_pairs,
    pairs_in_order,
    rank_worth,
    relative_place,
)


def test_worth_follows_ranks_and_ties_share():
    request = np.array([0, 0, 0, 1, 1])
    found = rank_worth(request, np.array([1.0, 3.0, 2.0, 5.0, 5.0]))
    second, third = 1 / np.log2(3), 1 / np.log2(4)
    np.testing.assert_allclose(
        found["dcg@10"], [third, 1.0, second, (1 + second) / 2, (1 + second) / 2]
    )
    np.testing.assert_allclose(found["precision@10"], 0.1)
    long = rank_worth(np.zeros(12, dtype=int), -np.arange(12.0))
    assert long["dcg@10"][9] > 0
    assert (long["dcg@10"][10:] == 0).all()
    assert (long["precision@10"][10:] == 0).all()


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
    weights = click_weights(clicked, examination, clip=0.1)
    up, down = (rank_worth(request, score)["dcg@10"] for score in (first, -first))
    assert (up * clicked).sum() / n > (down * clicked).sum() / n + 0.1
    assert (up * weights.weight).sum() / n == pytest.approx(
        (down * weights.weight).sum() / n, abs=0.02
    )
    assert weights.n_effective < 0.7 * weights.n_clicks
    assert weights.clipped_share == 0
    clipped = click_weights(clicked, examination, clip=1.0)
    assert clipped.n_effective == pytest.approx(clipped.n_clicks)
    assert 0.1 < clipped.clipped_share < 0.2
    assert click_weights(np.zeros(2, dtype=bool), np.ones(2), clip=0.1).n_effective == 0


def test_neighbours_are_of_one_list_and_one_of_them_is_clicked():
    request, shown = np.array([0, 0, 0, 1, 1]), np.array([3, 1, 2, 1, 3])
    clicked = np.array([True, False, False, True, False])
    pairs = adjacent_pairs(request, shown, clicked)
    # Shown 2 and 3 of the first list; the second has a gap.
    assert (pairs.clicked.tolist(), pairs.other.tolist()) == ([0], [2])
    assert not pairs.is_upper[0]
    assert pairs_in_order(pairs, np.array([2.0, 0, 1, 0, 0])).tolist() == [1.0]
    assert pairs_in_order(pairs, np.array([1.0, 0, 1, 0, 0])).tolist() == [0.5]
    assert pairs_in_order(pairs, -shown.astype(float)).tolist() == [0.0]


def test_notes_that_moved_are_compared_by_their_place_in_each_list():
    note, shown = np.array([5, 6, 7, 5]), np.array([1, 2, 1, 2])
    request, clicked = np.array([0, 0, 1, 1]), np.array([True, False, False, False])
    pairs = moved_pairs(note, shown, clicked)
    assert (pairs.clicked.tolist(), pairs.other.tolist(), pairs.is_upper.tolist()) == (
        [0],
        [3],
        [True],
    )
    place = relative_place(request, np.array([0.2, 0.1, 9.0, 8.0]))
    assert place.tolist() == [1.0, 0.0, 1.0, 0.0]
    assert relative_place(request, np.zeros(4)).tolist() == [0.5] * 4
    assert pairs_in_order(pairs, place).tolist() == [1.0]
