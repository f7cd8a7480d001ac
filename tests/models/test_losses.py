"""Losses by hand."""

import math

import pytest
import torch

from models.losses import listwise_loss, pointwise_loss


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
