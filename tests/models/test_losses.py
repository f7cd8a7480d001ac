"""Losses by hand."""

import math

import pytest
import torch

from models.losses import (
    corrected_clicks,
    corrected_listwise_loss,
    corrected_pointwise_loss,
    dual_learning_loss,
    listwise_loss,
    pointwise_loss,
)


def listwise(scores, labels, requests, places):
    return listwise_loss(
        torch.tensor(scores),
        torch.tensor(labels),
        torch.tensor(requests),
        torch.tensor(places),
        max(requests) + 1,
    )


def test_pointwise_loss_by_hand():
    loss = pointwise_loss(torch.tensor([0.0, math.log(3)]), torch.tensor([1.0, 0.0]))
    assert loss.item() == pytest.approx((math.log(2) + math.log(4)) / 2, rel=1e-6)


def test_listwise_loss_by_hand():
    # Softmax of the first list: 1/2, 1/4, 1/4; its first and last are clicked. Second list: 3/4.
    two, three = math.log(2), math.log(3)
    loss = listwise(
        [two, 0.0, 0.0, three, 0.0], [1.0, 0.0, 1.0, 1.0, 0.0], [0, 0, 0, 1, 1], [0, 1, 2, 0, 1]
    )
    first = -(math.log(1 / 2) + math.log(1 / 4)) / 2
    assert loss.item() == pytest.approx((first - math.log(3 / 4)) / 2, rel=1e-6)


def test_requests_without_a_choice_do_not_count():
    with_choice = listwise([1.0, 0.5], [1.0, 0.0], [0, 0], [0, 1])
    scores = [1.0, 0.5, 2.0, 9.0, 4.0]
    labels = [1.0, 0.0, 0.0, 0.0, 1.0]
    padded = listwise(scores, labels, [0, 0, 1, 1, 2], [0, 1, 0, 1, 0])
    assert padded.item() == pytest.approx(with_choice.item(), rel=1e-6)


def test_a_batch_without_any_choice_has_a_loss_of_zero_and_no_slope():
    score = torch.tensor([1.0, 2.0], requires_grad=True)
    loss = listwise_loss(score, torch.zeros(2), torch.tensor([0, 0]), torch.tensor([0, 1]), 1)
    loss.backward()
    assert loss.item() == 0.0
    assert score.grad is not None
    assert score.grad.tolist() == [0.0, 0.0]


def test_the_gradient_is_softmax_minus_target_for_lists_of_unequal_length():
    score = torch.randn(7, generator=torch.Generator().manual_seed(0)).requires_grad_()
    label = torch.tensor([1.0, 0, 0, 0, 1, 0, 1])
    request = torch.tensor([0, 0, 0, 0, 0, 1, 1])
    place = torch.tensor([0, 1, 2, 3, 4, 0, 1])
    listwise_loss(score, label, request, place, 2).backward()
    assert score.grad is not None
    p = torch.cat([torch.softmax(score[:5], dim=0), torch.softmax(score[5:], dim=0)]).detach()
    target = torch.tensor([0.5, 0, 0, 0, 0.5, 0, 1])
    assert torch.allclose(score.grad, (p - target) / 2, atol=1e-6), "the mean over two requests"


def test_corrected_clicks_are_right_on_average():
    """Attraction 0.4, examination 0.5: all corrections have the mean 0.4 over many clicks."""
    draw = torch.Generator().manual_seed(0)
    clicks = (torch.rand(200_000, generator=draw) < 0.5 * 0.4).float()
    examination = torch.full_like(clicks, 0.5)
    guess = torch.full_like(clicks, 0.3)
    ips = corrected_clicks(clicks, examination, clip=0.1)
    assert ips.mean().item() == pytest.approx(0.4, abs=0.01)
    robust = corrected_clicks(clicks, examination, clip=0.1, attraction_B=guess)
    assert robust.mean().item() == pytest.approx(0.4, abs=0.01)
    # Half of what does not attract is clicked, too: dividing takes it for attraction.
    p = 0.5 * (0.4 + 0.5 * 0.6)
    trusting = (torch.rand(200_000, generator=draw) < p).float()
    assert corrected_clicks(trusting, examination, clip=0.1).mean().item() > 0.65
    affine = corrected_clicks(trusting, examination, clip=0.1, trust_B=torch.full_like(clicks, 0.5))
    assert affine.mean().item() == pytest.approx(0.4, abs=0.01)
    # Clipped at 0.8, weights see 0.25; a right guess makes up for it.
    assert corrected_clicks(clicks, examination, clip=0.8).mean().item() < 0.27
    right = corrected_clicks(clicks, examination, clip=0.8, attraction_B=guess + 0.1)
    assert right.mean().item() == pytest.approx(0.4, abs=0.01)


def test_corrected_losses_are_the_plain_ones_where_nothing_is_corrected():
    score, label = torch.tensor([0.3, -0.2, 0.8, 0.1, 0.0]), torch.tensor([1.0, 0, 0, 1, 0])
    request, place = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 1, 2, 0, 1])
    assert corrected_pointwise_loss(score, label).item() == pytest.approx(
        pointwise_loss(score, label).item(), rel=1e-6
    )
    plain = listwise_loss(score, label, request, place, 2).item()
    for self_normalised in (True, False):
        loss = corrected_listwise_loss(
            score, label, label, request, place, 2, self_normalised=self_normalised
        )
        assert loss.item() == pytest.approx(plain, rel=1e-6)


def test_dual_learning_finds_the_examination_of_places():
    """Notes in random order: nothing but the place decides, and its logits learn that."""
    draw = torch.Generator().manual_seed(2)
    n, examination = 1_500, torch.tensor([1.0, 0.6, 0.3])
    clicks = (torch.rand(n, 3, generator=draw) < 0.5 * examination).float().reshape(-1)
    request = torch.arange(n).repeat_interleave(3)
    place = torch.arange(3).repeat(n)
    logit = torch.zeros(3, requires_grad=True)
    optimiser = torch.optim.Adam([logit], lr=0.1)
    for _ in range(60):
        optimiser.zero_grad()
        loss = dual_learning_loss(
            torch.zeros(3 * n), logit[place], clicks, request, place, n, clip=0.05
        )
        loss.backward()
        optimiser.step()
    found = torch.exp(logit - logit[0]).detach()
    assert found[1].item() > found[2].item()
    assert found[2].item() == pytest.approx(0.3, abs=0.12)
