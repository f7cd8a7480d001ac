"""Losses over the candidates of whole requests.

Shapes: B = candidates in the batch, R = requests in the batch, L = longest list in the batch.
"""

import torch
from torch import Tensor
from torch.nn import functional


def pointwise_loss(score_B: Tensor, label_B: Tensor) -> Tensor:
    """Mean binary cross-entropy, in nats per candidate; the score is the logit of a click.

    Its scores are calibrated, the listwise ones are not: a request's scores may be shifted
    together without changing the listwise loss.
    """
    return functional.binary_cross_entropy_with_logits(score_B, label_B)


def listwise_loss(
    score_B: Tensor, label_B: Tensor, request_B: Tensor, place_B: Tensor, n_requests: int
) -> Tensor:
    """Softmax cross-entropy over each request's exposures, in nats per request.

    The target spreads evenly over the clicked notes (ListNet top-one, Cao et al., ICML 2007, with
    click labels). Requests without a click, and those without an unclicked note, have nothing to
    order and do not count; if none counts, the loss is 0 and has no gradient.

    Args:
        score_B: floats (B,).
        label_B: floats (B,), 1 clicked, 0 not.
        request_B: integers (B,), request of the candidate inside the batch, from 0.
        place_B: integers (B,), place of the candidate in its request, from 0.
        n_requests: R.
    """
    n_places = int(place_B.max()) + 1 if len(place_B) else 1
    # A padded copy costs little and, unlike scattered sums, adds in the same order every time.
    score_RL = score_B.new_full((n_requests, n_places), -torch.inf)
    label_RL = score_B.new_zeros((n_requests, n_places))
    score_RL = score_RL.index_put((request_B, place_B), score_B)
    label_RL = label_RL.index_put((request_B, place_B), label_B)
    is_real_RL = score_RL > -torch.inf

    n_clicked_R = label_RL.sum(dim=1)
    counts_R = (n_clicked_R > 0) & (n_clicked_R < is_real_RL.sum(dim=1))
    if not counts_R.any():
        return score_B.sum() * 0.0
    score_RL, label_RL, is_real_RL = score_RL[counts_R], label_RL[counts_R], is_real_RL[counts_R]
    log_p_RL = torch.log_softmax(score_RL, dim=1).masked_fill(~is_real_RL, 0.0)
    target_RL = label_RL / label_RL.sum(dim=1, keepdim=True)
    return -(target_RL * log_p_RL).sum(dim=1).mean()
