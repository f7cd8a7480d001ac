"""Losses over the candidates of whole requests.

Shapes: B = candidates in the batch, R = requests in the batch, L = longest list in the batch.
"""

from typing import Literal

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
    return corrected_listwise_loss(
        score_B, label_B, label_B, request_B, place_B, n_requests, self_normalised=True
    )


def ranking_loss(
    kind: Literal["pointwise", "listwise"],
    score_B: Tensor,
    label_B: Tensor,
    request_B: Tensor,
    place_B: Tensor,
    n_requests: int,
    *,
    corrected_B: Tensor | None = None,
    self_normalised: bool = True,
) -> Tensor:
    """The loss that a recipe names, of every ranker; arguments as in `listwise_loss`.

    Args:
        corrected_B: floats (B,), `corrected_clicks`; None where clicks count as they are.
        self_normalised: of corrected clicks and the listwise loss, see `corrected_listwise_loss`.
    """
    lists = (request_B, place_B, n_requests)
    if corrected_B is None:
        if kind == "pointwise":
            return pointwise_loss(score_B, label_B)
        return listwise_loss(score_B, label_B, *lists)
    if kind == "pointwise":
        return corrected_pointwise_loss(score_B, corrected_B)
    return corrected_listwise_loss(
        score_B, label_B, corrected_B, *lists, self_normalised=self_normalised
    )


def corrected_clicks(
    label_B: Tensor,
    examination_B: Tensor,
    *,
    clip: float,
    attraction_B: Tensor | None = None,
    trust_B: Tensor | None = None,
) -> Tensor:
    """Clicks as what they say of the note: unbiased for its attraction where nothing is clipped.

    - inverse propensities: c / e (Joachims et al., WSDM 2017);
    - doubly robust, with ``attraction_B`` m: m + (c - e m) / e (Oosterhuis, TOIS 2023): where e
      is clipped the difference is filled from m and not lost;
    - affine, with ``trust_B`` t: (c - e t) / (e - e t) (Vardasbi et al., CIKM 2020, eq. 12), which
      also takes away the clicks on what does not attract.

    Args:
        label_B: floats (B,), 1 clicked, 0 not.
        examination_B: floats (B,), probability that an attractive note is clicked at this place.
        clip: smaller divisors count as this.
        attraction_B: floats (B,), what the note is worth before its click is known.
        trust_B: floats (B,) in 0..1, probability that a note that is examined at this place and
            does not attract is clicked.

    Returns:
        Floats (B,); can be above 1 and, doubly robust or affine, below 0.
    """
    if trust_B is not None:
        floor_B = examination_B * trust_B
        return (label_B - floor_B) / (examination_B - floor_B).clamp(min=clip)
    divisor_B = examination_B.clamp(min=clip)
    if attraction_B is None:
        return label_B / divisor_B
    return attraction_B + (label_B - examination_B * attraction_B) / divisor_B


def corrected_pointwise_loss(score_B: Tensor, corrected_B: Tensor) -> Tensor:
    """Cross-entropy with corrected clicks for labels, nats per candidate: unbiased as they are,
    being linear in the label."""
    return (functional.softplus(score_B) - corrected_B * score_B).mean()


def corrected_listwise_loss(
    score_B: Tensor,
    label_B: Tensor,
    corrected_B: Tensor,
    request_B: Tensor,
    place_B: Tensor,
    n_requests: int,
    *,
    self_normalised: bool,
) -> Tensor:
    """Softmax cross-entropy with corrected clicks for the target, nats per request.

    Self-normalised, the target of a request sums to 1, and a request counts like any other;
    otherwise targets are divided by their mean sum over the batch. Requests without a choice do
    not count, as in `listwise_loss`.

    Args:
        label_B: the clicks themselves, which say where there is a choice.
        corrected_B: floats (B,), `corrected_clicks`.
    """
    n_places = int(place_B.max()) + 1 if len(place_B) else 1
    at = (request_B, place_B)
    # A padded copy costs little and, unlike scattered sums, adds in the same order every time.
    score_RL = score_B.new_full((n_requests, n_places), -torch.inf).index_put(at, score_B)
    label_RL = score_B.new_zeros((n_requests, n_places)).index_put(at, label_B)
    target_RL = score_B.new_zeros((n_requests, n_places)).index_put(at, corrected_B)
    is_real_RL = score_RL > -torch.inf
    n_clicked_R = label_RL.sum(dim=1)
    counts_R = (n_clicked_R > 0) & (n_clicked_R < is_real_RL.sum(dim=1))
    if not counts_R.any():
        return score_B.sum() * 0.0
    log_p_RL = torch.log_softmax(score_RL[counts_R], dim=1)
    log_p_RL = log_p_RL.masked_fill(~is_real_RL[counts_R], 0.0)
    target_RL = target_RL[counts_R]
    sum_R1 = target_RL.sum(dim=1, keepdim=True)
    scale = sum_R1.clamp(min=1e-3) if self_normalised else sum_R1.mean().clamp(min=1e-3)
    return -(target_RL / scale * log_p_RL).sum(dim=1).mean()


def dual_learning_loss(
    score_B: Tensor,
    examined_B: Tensor,
    label_B: Tensor,
    request_B: Tensor,
    place_B: Tensor,
    n_requests: int,
    *,
    clip: float,
) -> Tensor:
    """Ranking and examination from each other (Ai et al., SIGIR 2018, eq. 8 to 12).

    The ranker's clicks are weighed by one over the softmax of the examination logits, relative to
    the first candidate of the request; those of examination by one over the ranker's.

    Args:
        examined_B: floats (B,), logit of examination of the candidate's place.
        clip: relative probabilities below this count as this.
    """

    def weight(logit_B: Tensor) -> Tensor:
        with torch.no_grad():
            first_R = logit_B.new_zeros(n_requests).index_put(
                (request_B[place_B == 0],), logit_B[place_B == 0]
            )
            relative_B = torch.exp(logit_B - first_R[request_B]).clamp(min=clip, max=1 / clip)
            return label_B / relative_B

    loss = score_B.new_zeros(())
    for learnt_B, other_B in ((score_B, examined_B), (examined_B, score_B)):
        loss = loss + corrected_listwise_loss(
            learnt_B,
            label_B,
            weight(other_B),
            request_B,
            place_B,
            n_requests,
            self_normalised=True,
        )
    return loss
