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
from models.click_models.expectation_maximisation import logistic
from models.click_models.gradient import condition_on_click, maximise
from models.click_models.sessions import FloatArray, Sessions
from models.click_models.top_down import log_likelihood, no_click, walk


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
        attraction = logistic(sessions.covariates @ self.coefficients)
        after = self.continuation[sessions.place]
        past, _ = walk(sessions, attraction, after, 1.0, sessions.is_clicked)
        none, _ = walk(sessions, attraction, after, 1.0, no_click(sessions))
        return condition_on_click(sessions, past, none)


def fit(sessions: Sessions) -> Cascade:
    """Fit to the log. The curve is the mean examination at a place, given the clicks above."""
    x_NF, place_N = torch.from_numpy(sessions.covariates), torch.from_numpy(sessions.place)
    beta_F = torch.zeros(x_NF.shape[1], dtype=torch.float64, requires_grad=True)
    logit_K = torch.zeros(sessions.n_places, dtype=torch.float64, requires_grad=True)
    one = torch.ones((), dtype=torch.float64)

    def look() -> torch.Tensor:
        hold = 1e-3 * ((beta_F**2).sum() + (logit_K**2).sum())
        attraction_N, after_N = torch.sigmoid(x_NF @ beta_F), torch.sigmoid(logit_K)[place_N]
        return log_likelihood(sessions, attraction_N, after_N, one) - hold

    trace = maximise([beta_F, logit_K], look)
    beta, continuation = beta_F.detach().numpy(), torch.sigmoid(logit_K.detach()).numpy()
    attraction, after = logistic(sessions.covariates @ beta), continuation[sessions.place]
    _, seen = walk(sessions, attraction, after, 1.0, sessions.is_clicked)
    mean = sessions.mean_by_place(seen)
    return Cascade(
        Curve.without_interval(mean / mean[sessions.reference]),
        continuation,
        beta,
        trace[-1],
        trace,
    )
