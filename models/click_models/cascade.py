"""Cascade model: readers take one result after the other and never skip one (Craswell et al., WSDM
2008); after a click at place k they go on with probability lambda_k (Guo, Liu and Wang, WSDM 2009,
the dependent click model).

The cascade of Craswell et al. ends with the first click (lambda = 0) and gives lists with more
clicks, which are most here, the probability 0; so it is fitted with lambda. Attraction is
sigmoid(x' beta). By gradient, conditional on the selection of requests with a click.
"""

from dataclasses import dataclass

import torch

from models.click_models.curve import Curve
from models.click_models.gradient import MAX_SLOW_STEPS, condition_on_click, maximise
from models.click_models.sessions import FloatArray, Sessions
from models.click_models.top_down import Ladder, no_click


@dataclass(frozen=True)
class Cascade:
    """A fitted model: lambda by place (K,), coefficients (F,), the climb's trace."""

    curve: Curve
    continuation: FloatArray
    coefficients: FloatArray
    log_likelihood: float
    trace: tuple[float, ...]

    def click_probability(self, sessions: Sessions) -> FloatArray:
        """P(click | clicks above, the request is in the log), (N,)."""
        ladder = Ladder.of(sessions)
        attraction = torch.sigmoid(
            torch.from_numpy(sessions.covariates) @ torch.from_numpy(self.coefficients)
        )
        after = torch.from_numpy(self.continuation)[torch.from_numpy(sessions.place)]
        one = torch.ones((), dtype=torch.float64)
        clicked = torch.from_numpy(sessions.is_clicked)
        past, _, _ = ladder.walk(attraction, after, one, clicked)
        none, _, _ = ladder.walk(attraction, after, one, no_click(sessions))
        return condition_on_click(sessions, past.numpy(), none.numpy())


def fit(sessions: Sessions) -> Cascade:
    """Fit to the log. The curve is the mean examination at a place, given the clicks above."""
    ladder = Ladder.of(sessions)
    x_NF, place_N = torch.from_numpy(sessions.covariates), torch.from_numpy(sessions.place)
    clicked_N = torch.from_numpy(sessions.is_clicked)
    beta_F = torch.zeros(x_NF.shape[1], dtype=torch.float64, requires_grad=True)
    logit_K = torch.zeros(sessions.n_places, dtype=torch.float64, requires_grad=True)
    one = torch.ones((), dtype=torch.float64)

    def walk() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return ladder.walk(
            torch.sigmoid(x_NF @ beta_F), torch.sigmoid(logit_K)[place_N], one, clicked_N
        )

    def log_likelihood() -> torch.Tensor:
        p_N, _, none_R = walk()
        hold = 1e-3 * ((beta_F**2).sum() + (logit_K**2).sum())
        return ladder.log_likelihood(p_N, none_R, clicked_N) - hold

    trace = maximise([beta_F, logit_K], log_likelihood, MAX_SLOW_STEPS)
    with torch.no_grad():
        _, seen_N, _ = walk()
    mean = sessions.mean_by_place(seen_N.numpy())
    return Cascade(
        Curve.without_interval(mean / mean[sessions.reference]),
        torch.sigmoid(logit_K.detach()).numpy(),
        beta_F.detach().numpy(),
        trace[-1],
        trace,
    )
