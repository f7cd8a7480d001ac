"""Dynamic Bayesian network: readers go down the list; a clicked note may satisfy them, and who is
not satisfied goes on with probability gamma (Chapelle and Zhang, WWW 2009, eq. 1).

Attraction is sigmoid(x' beta), satisfaction sigmoid(x' delta): after a click the next result is
examined with gamma * (1 - satisfaction). By gradient, conditional on the selection of requests with
a click.
"""

from dataclasses import dataclass

import torch

from models.click_models.curve import Curve
from models.click_models.gradient import MAX_SLOW_STEPS, condition_on_click, maximise
from models.click_models.sessions import FloatArray, Sessions
from models.click_models.top_down import Ladder, no_click


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
        ladder, x = Ladder.of(sessions), torch.from_numpy(sessions.covariates)
        gamma = torch.tensor(self.perseverance, dtype=torch.float64)
        attraction = torch.sigmoid(x @ torch.from_numpy(self.coefficients))
        satisfied = torch.sigmoid(x @ torch.from_numpy(self.satisfaction_coefficients))
        after = gamma * (1 - satisfied)
        clicked = torch.from_numpy(sessions.is_clicked)
        past, _, _ = ladder.walk(attraction, after, gamma, clicked)
        none, _, _ = ladder.walk(attraction, after, gamma, no_click(sessions))
        return condition_on_click(sessions, past.numpy(), none.numpy())


def fit(sessions: Sessions) -> DynamicBayesianNetwork:
    """Fit to the log. The curve is the mean examination at a place, given the clicks above."""
    ladder = Ladder.of(sessions)
    x_NF = torch.from_numpy(sessions.covariates)
    clicked_N = torch.from_numpy(sessions.is_clicked)
    beta_F = torch.zeros(x_NF.shape[1], dtype=torch.float64, requires_grad=True)
    delta_F = torch.zeros(x_NF.shape[1], dtype=torch.float64, requires_grad=True)
    logit = torch.full((), 2.0, dtype=torch.float64, requires_grad=True)

    def walk() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        gamma = torch.sigmoid(logit)
        after_N = gamma * (1 - torch.sigmoid(x_NF @ delta_F))
        return ladder.walk(torch.sigmoid(x_NF @ beta_F), after_N, gamma, clicked_N)

    def log_likelihood() -> torch.Tensor:
        p_N, _, none_R = walk()
        hold = 1e-3 * ((beta_F**2).sum() + (delta_F**2).sum() + logit**2)
        return ladder.log_likelihood(p_N, none_R, clicked_N) - hold

    trace = maximise([beta_F, delta_F, logit], log_likelihood, MAX_SLOW_STEPS)
    with torch.no_grad():
        _, seen_N, _ = walk()
    mean = sessions.mean_by_place(seen_N.numpy())
    return DynamicBayesianNetwork(
        Curve.without_interval(mean / mean[sessions.reference]),
        float(torch.sigmoid(logit.detach())),
        beta_F.detach().numpy(),
        delta_F.detach().numpy(),
        trace[-1],
        trace,
    )
