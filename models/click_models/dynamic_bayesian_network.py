"""Dynamic Bayesian network: readers go down the list; a clicked note may satisfy them, and who is
not satisfied goes on with probability gamma (Chapelle and Zhang, WWW 2009, eq. 1).

Attraction is sigmoid(x' beta), satisfaction sigmoid(x' delta): after a click the next result is
examined with gamma * (1 - satisfaction). By gradient, conditional on the selection of requests with
a click.
"""

from dataclasses import dataclass

import torch

from models.click_models.curve import Curve
from models.click_models.expectation_maximisation import logistic
from models.click_models.gradient import condition_on_click, maximise
from models.click_models.sessions import FloatArray, Sessions
from models.click_models.top_down import log_likelihood, no_click, walk


@dataclass(frozen=True)
class DynamicBayesianNetwork:
    """A fitted model: gamma, coefficients of attraction and satisfaction (F,), the trace."""

    curve: Curve
    perseverance: float
    coefficients: FloatArray
    satisfaction_coefficients: FloatArray
    log_likelihood: float
    trace: tuple[float, ...]

    def click_probability(self, sessions: Sessions) -> FloatArray:
        """P(click | clicks above, the request is in the log), (N,)."""
        gamma, x = self.perseverance, sessions.covariates
        attraction = logistic(x @ self.coefficients)
        after = gamma * (1 - logistic(x @ self.satisfaction_coefficients))
        past, _ = walk(sessions, attraction, after, gamma, sessions.is_clicked)
        none, _ = walk(sessions, attraction, after, gamma, no_click(sessions))
        return condition_on_click(sessions, past, none)


def fit(sessions: Sessions) -> DynamicBayesianNetwork:
    """Fit to the log. The curve is the mean examination at a place, given the clicks above."""
    x_NF = torch.from_numpy(sessions.covariates)
    beta_F = torch.zeros(x_NF.shape[1], dtype=torch.float64, requires_grad=True)
    delta_F = torch.zeros(x_NF.shape[1], dtype=torch.float64, requires_grad=True)
    logit = torch.full((), 2.0, dtype=torch.float64, requires_grad=True)

    def look() -> torch.Tensor:
        hold = 1e-3 * ((beta_F**2).sum() + (delta_F**2).sum() + logit**2)
        gamma = torch.sigmoid(logit)
        after_N = gamma * (1 - torch.sigmoid(x_NF @ delta_F))
        return log_likelihood(sessions, torch.sigmoid(x_NF @ beta_F), after_N, gamma) - hold

    trace = maximise([beta_F, delta_F, logit], look)
    gamma = float(torch.sigmoid(logit.detach()))
    beta, delta = beta_F.detach().numpy(), delta_F.detach().numpy()
    after = gamma * (1 - logistic(sessions.covariates @ delta))
    attraction = logistic(sessions.covariates @ beta)
    _, seen = walk(sessions, attraction, after, gamma, sessions.is_clicked)
    mean = sessions.mean_by_place(seen)
    return DynamicBayesianNetwork(
        Curve.without_interval(mean / mean[sessions.reference]),
        gamma,
        beta,
        delta,
        trace[-1],
        trace,
    )
