"""Click models find the examination that lists were drawn with, and say when they cannot."""

import numpy as np
import pytest
import torch

from models.click_models import (
    cascade,
    dynamic_bayesian_network,
    intervention_harvesting,
    likelihood,
    mixed_position_based,
    position_based,
    regression_em,
    top_down,
    trust_bias,
    user_browsing,
)
from models.click_models.intervention_harvesting import NotConnected
from models.click_models.mixed_position_based import MixedPositionBased
from models.click_models.scoring import score
from models.click_models.sessions import Sessions
from tests.models.click_models.synthetic import EXAMINATION, N_PLACES, draw, hold_out, worst


@pytest.fixture(scope="module")
def lists() -> Sessions:
    return draw(9_000, 1)[0]


@pytest.fixture(scope="module")
def mixed(lists: Sessions) -> MixedPositionBased:
    return mixed_position_based.fit(lists)


def test_request_effects_and_selection_are_undone(
    lists: Sessions, mixed: MixedPositionBased
) -> None:
    assert worst(mixed.curve.estimate) < 0.12
    within = (mixed.curve.lower <= EXAMINATION) & (mixed.curve.upper >= EXAMINATION)
    assert within.mean() >= 7 / 8
    assert not mixed.curve.warnings
    count = np.bincount(lists.place, minlength=N_PLACES)
    rate = np.bincount(lists.place, lists.is_clicked, minlength=N_PLACES) / count
    assert worst(rate / rate[0]) > 0.25


def test_trust_in_upper_places_is_found_and_the_curve_with_it() -> None:
    """Dividing by examination knows nothing of clicks on what does not attract."""
    planted = np.array([0.4, 0.25, 0.15, 0.1, 0, 0, 0, 0])
    sessions = draw(12_000, 5, trust=planted)[0]
    blind = mixed_position_based.fit(sessions)
    found = trust_bias.fit(sessions, blind, n_trusted=4)
    assert worst(blind.curve.estimate) > 0.2
    assert worst(found.curve.estimate) < 0.15
    error = (found.trust_upper - found.trust_lower)[:4] / (2 * 1.96)
    assert (np.abs(found.trust - planted)[:4] < 3 * error).all()
    assert (found.trust_lower[:3] > 0).all()
    assert np.isnan(found.trust_lower[4:]).all()
    assert (found.trust[4:] == 0).all()
    # Four more parameters: twice the difference is above 9.5 one time in twenty by chance.
    assert found.log_likelihood > blind.maximum.log_likelihood + 9.5 / 2


@pytest.mark.slow
def test_intervals_of_trust_cover_what_was_planted() -> None:
    planted = np.array([0.4, 0.25, 0.15, 0.1, 0, 0, 0, 0])
    inside = []
    for seed in range(100, 130):
        sessions = draw(6_000, seed, trust=planted)[0]
        found = trust_bias.fit(sessions, mixed_position_based.fit(sessions), n_trusted=4)
        inside.append(((found.trust_lower <= planted) & (planted <= found.trust_upper))[:4])
    print("intervals of trust that cover:", np.mean(inside))
    # 95 % less two standard errors of 120 intervals; those of one world hang together.
    assert np.mean(inside) >= 0.9


def test_no_trust_is_found_where_there_is_none(lists: Sessions, mixed: MixedPositionBased) -> None:
    found = trust_bias.fit(lists, mixed, n_trusted=4)
    assert (found.trust_lower[:4] < 0.02).all()
    assert (found.trust_upper[:4] > -0.02).all()
    assert worst(found.curve.estimate) < 0.15


def test_forgetting_the_selection_bends_the_curve(lists: Sessions) -> None:
    unaware = Sessions(
        **{
            **{name: getattr(lists, name) for name in lists.__dataclass_fields__},
            "is_selected": np.zeros(lists.n_requests, dtype=bool),
        }
    )
    assert worst(mixed_position_based.fit(unaware).curve.estimate) > 0.15


def test_the_gradient_is_that_of_the_likelihood(lists: Sessions) -> None:
    few = lists.take(np.arange(60))
    n_K, at = few.n_places, likelihood.nodes(True)
    parameters = np.random.default_rng(0).normal(-0.8, 0.15, n_K + 6)
    scores = np.zeros((60, len(parameters)), dtype=np.float32)

    def look(values: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient, _ = likelihood._evaluate(
            few.offsets,
            few.place,
            few.is_clicked,
            few.covariates,
            few.is_selected,
            values[:n_K],
            values[n_K:-1],
            float(np.exp(values[-1])),
            *at,
            scores,
        )
        return value, gradient

    gradient = look(parameters)[1]
    for d in range(len(parameters)):
        step = np.zeros(len(parameters))
        step[d] = 1e-5
        numeric = (look(parameters + step)[0] - look(parameters - step)[0]) / 2e-5
        assert gradient[d] == pytest.approx(numeric, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("has_effect", [False, True])
def test_probabilities_given_the_past_multiply_to_the_likelihood(
    lists: Sessions, has_effect: bool
) -> None:
    found = likelihood.maximise(lists.take(np.arange(800)), has_effect=has_effect)
    some = lists.take(np.arange(800))
    judged = score(some, likelihood.click_probability(some, found.parameters, has_effect))
    assert judged.log_likelihood * 800 == pytest.approx(found.log_likelihood, rel=1e-6)


def test_the_trace_never_falls(mixed: MixedPositionBased) -> None:
    assert (np.diff(mixed.maximum.trace) > -1e-3).all()
    assert mixed.maximum.converged


def test_em_and_gradient_climb_the_same_likelihood() -> None:
    lists, _ = draw(3_000, 2, spread=0.0)
    kind = np.digitize(lists.covariates[:, 1], [-0.8, -0.2, 0.3, 0.9])
    em = position_based.fit_em(lists, kind, 5)
    gradient = position_based.fit_gradient(lists, kind, 5)
    assert em.log_likelihood == pytest.approx(gradient.log_likelihood, abs=0.5)
    np.testing.assert_allclose(em.curve.estimate, gradient.curve.estimate, rtol=0.02)


def test_places_that_no_kind_links_have_no_estimate() -> None:
    lists, _ = draw(500, 3)
    kind = (lists.place >= 5).astype(np.int64)
    fitted = position_based.fit_em(lists, kind, 2)
    assert np.isnan(fitted.curve.estimate[5:]).all()
    assert not np.isnan(fitted.curve.estimate[:5]).any()
    assert "6, 7, 8" in fitted.curve.warnings[0]


def test_regression_em_moves_from_every_start_and_finds_the_curve() -> None:
    lists, _ = draw(5_000, 4, spread=0.0)
    fitted = regression_em.fit(lists)
    assert worst(fitted.curve.estimate) < 0.15
    for climb in fitted.climbs.values():
        assert climb.trace[-1] - climb.trace[0] > 0.01 * lists.n_requests
    best = max(climb.log_likelihood for climb in fitted.climbs.values())
    top = likelihood.maximise(lists, has_effect=False)
    # Examination of the first place is free here and 1 there: EM can only be higher.
    assert best > top.log_likelihood - 1.0
    within = (fitted.curve.lower <= EXAMINATION) & (fitted.curve.upper >= EXAMINATION)
    assert within.mean() >= 6 / 8


def test_a_cascade_and_a_network_know_lists_read_from_the_top() -> None:
    """Drawn from a cascade: attraction 0.3, and 0.4 go on after a click."""
    rng = np.random.default_rng(5)
    n, length = 4_000, 6
    clicked = np.zeros((n, length), dtype=bool)
    reads = np.ones(n, dtype=bool)
    for step in range(length):
        clicked[:, step] = reads & (rng.random(n) < 0.3)
        reads &= ~clicked[:, step] | (rng.random(n) < 0.4)
    clicked = clicked[clicked.any(axis=1)]
    n = len(clicked)
    lists = Sessions(
        offsets=np.arange(n + 1) * length,
        place=np.tile(np.arange(length), n),
        is_clicked=clicked.ravel(),
        covariates=np.ones((n * length, 1)),
        is_selected=np.ones(n, dtype=bool),
        user=np.arange(n),
        place_names=tuple("123456"),
        covariate_names=("one",),
    )
    fitted = cascade.fit(lists)
    assert 1 / (1 + np.exp(-fitted.coefficients[0])) == pytest.approx(0.3, abs=0.02)
    np.testing.assert_allclose(fitted.continuation[:4], 0.4, atol=0.05)
    network = dynamic_bayesian_network.fit(lists)
    # Going on and being satisfied trade off against each other; what they foretell is the same.
    assert network.log_likelihood == pytest.approx(fitted.log_likelihood, abs=2.0)
    assert network.perseverance > 0.85
    cascade_score = score(lists, fitted.click_probability(lists))
    assert cascade_score.log_likelihood * n == pytest.approx(fitted.log_likelihood, rel=1e-3)
    places = likelihood.maximise(lists, has_effect=False)
    assert cascade_score.log_likelihood * n > places.log_likelihood + 50


def test_user_browsing_sees_what_the_last_click_does() -> None:
    lists, _ = draw(3_000, 6)
    fitted = user_browsing.fit(lists)
    judged = score(lists, fitted.click_probability(lists))
    assert judged.log_likelihood * 3_000 == pytest.approx(fitted.log_likelihood, rel=1e-3)
    few = lists.take(np.array([0]))
    one = Sessions(
        **{
            **{name: getattr(few, name) for name in few.__dataclass_fields__},
            "offsets": np.array([0, 6]),
            "place": np.arange(6),
            "is_clicked": np.array([0, 1, 0, 0, 1, 0], dtype=bool),
            "covariates": np.ones((6, 5)),
        }
    )
    assert user_browsing.last_click(one).tolist() == [0, 0, 1, 2, 3, 1]


def test_a_better_hypothesis_foretells_unseen_users_better(lists: Sessions) -> None:
    fit, judge = hold_out(lists, 0.3, 0)
    assert not set(fit.user) & set(judge.user)
    mixed = mixed_position_based.fit(fit)
    plain = likelihood.maximise(fit, has_effect=False)
    with_effect = score(judge, mixed.click_probability(judge))
    without = score(judge, likelihood.click_probability(judge, plain.parameters, False))
    assert with_effect.log_likelihood > without.log_likelihood + 0.01
    assert 1.0 < with_effect.perplexity < without.perplexity < 2.0
    assert with_effect.calibration_error < 0.02


def test_harvesting_finds_the_curve_where_notes_move_at_random() -> None:
    rng = np.random.default_rng(7)
    n, length = 6_000, N_PLACES
    worth = rng.uniform(0.1, 0.6, 100)
    note = np.stack([rng.choice(100, length, replace=False) for _ in range(n)])
    clicked = rng.random((n, length)) < EXAMINATION * worth[note]
    lists = Sessions(
        offsets=np.arange(n + 1) * length,
        place=np.tile(np.arange(length), n),
        is_clicked=clicked.ravel(),
        covariates=np.ones((n * length, 1)),
        is_selected=np.zeros(n, dtype=bool),
        user=np.arange(n),
        place_names=tuple("12345678"),
        covariate_names=("one",),
    )
    found = intervention_harvesting.harvest(lists, note.ravel(), np.ones(n), 0)
    for curve in (found.all_pairs, found.adjacent_pairs):
        assert worst(curve.estimate) < 0.1
        assert ((curve.lower <= EXAMINATION) & (curve.upper >= EXAMINATION)).mean() >= 6 / 8


def test_harvesting_is_refused_in_words_where_notes_do_not_move() -> None:
    lists, _ = draw(400, 8)
    found = intervention_harvesting.overlap(lists, lists.place)
    assert found.unreached == tuple("2345678")
    with pytest.raises(NotConnected, match=r"fewer than 10 units .* broader units"):
        intervention_harvesting.harvest(lists, lists.place, np.ones(400), 0)


def test_a_place_that_rank_follows_from_is_warned_of() -> None:
    """All lists begin at place 1 and are equally long: place and rank are one."""
    lists, _ = draw(2_000, 9)
    same = lists.take((np.diff(lists.offsets) == 4) & (lists.place[lists.offsets[:-1]] == 0))
    fitted = mixed_position_based.fit(same)
    said = " ".join(fitted.curve.warnings)
    assert "nothing tells examination from attraction" in said
    assert "Nothing was shown at positions 5, 6, 7, 8" in said


def test_a_selected_request_without_a_click_is_refused() -> None:
    lists, _ = draw(50, 10, selects=False)
    with pytest.raises(ValueError, match="has no click"):
        Sessions(
            **{
                **{name: getattr(lists, name) for name in lists.__dataclass_fields__},
                "is_selected": np.ones(50, dtype=bool),
            }
        )


def test_the_gradient_of_readers_who_go_down_is_that_of_their_likelihood(lists: Sessions) -> None:
    few = lists.take(np.arange(25))
    rng = np.random.default_rng(1)
    attraction, after = (
        torch.tensor(rng.uniform(0.1, 0.8, len(few.place)), requires_grad=True) for _ in range(2)
    )
    go_on = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda a, b, c: top_down.log_likelihood(few, a, b, c), (attraction, after, go_on)
    )


def test_a_fit_that_begins_at_another_ends_where_it_would(
    lists: Sessions, mixed: MixedPositionBased
) -> None:
    few = lists.take(np.arange(2_500))
    cold, warm = mixed_position_based.fit(few), mixed_position_based.fit(few, mixed)
    np.testing.assert_allclose(warm.curve.estimate, cold.curve.estimate, rtol=5e-3)
    other = few.with_covariates(few.covariate_names[:-1])
    assert len(mixed.parameters_of(other)) == len(mixed.maximum.parameters) - 1
