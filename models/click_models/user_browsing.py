"""User browsing model: p = examination_{k, d} * sigmoid(x' beta), d the distance to the last click
above (Dupret and Piwowarski, SIGIR 2008, eq. 2).

Who has just clicked reads on, and a place is examined the less the longer nothing was clicked: a
table of examination by place and distance. By gradient, conditional on the selection of requests
with a click, for which the path without a click (d = none all the way down) gives the probability.
"""

from dataclasses import dataclass

import numpy as np
import torch

from models.click_models.curve import Curve
from models.click_models.gradient import condition_on_click, maximise, truncated
from models.click_models.sessions import FloatArray, IntArray, Sessions

# Distances told apart: no click above, 1, 2, 3, 4 to 6, 7 to 12, more.
DISTANCES = (1, 2, 3, 4, 7, 13)
_LARGEST_P = 1 - 1e-6


@dataclass(frozen=True)
class UserBrowsing:
    """A fitted model: examination (K, distances), coefficients (F,), the climb's trace."""

    curve: Curve
    examination: FloatArray
    coefficients: FloatArray
    log_likelihood: float
    trace: tuple[float, ...]

    def click_probability(self, sessions: Sessions) -> FloatArray:
        """P(click | clicks above, the request is in the log), (N,)."""
        attraction = 1.0 / (1.0 + np.exp(-(sessions.covariates @ self.coefficients)))
        past = self.examination[sessions.place, last_click(sessions)] * attraction
        none = self.examination[sessions.place, 0] * attraction
        return condition_on_click(
            sessions, np.minimum(past, _LARGEST_P), np.minimum(none, _LARGEST_P)
        )


def fit(sessions: Sessions) -> UserBrowsing:
    """Fit to the log. The curve is the mean examination of the exposures at a place."""
    place_N = torch.from_numpy(sessions.place)
    distance_N = torch.from_numpy(last_click(sessions))
    clicked_N = torch.from_numpy(sessions.is_clicked)
    request_N = torch.from_numpy(sessions.request)
    selected_R = torch.from_numpy(sessions.is_selected)
    x_NF = torch.from_numpy(sessions.covariates)
    n_distances = len(DISTANCES) + 1
    logit_KD = torch.zeros(sessions.n_places, n_distances, dtype=torch.float64, requires_grad=True)
    beta_F = torch.zeros(x_NF.shape[1], dtype=torch.float64, requires_grad=True)

    def log_likelihood() -> torch.Tensor:
        examination_KD, attraction_N = torch.sigmoid(logit_KD), torch.sigmoid(x_NF @ beta_F)
        p_N = (examination_KD[place_N, distance_N] * attraction_N).clamp(1e-9, _LARGEST_P)
        none_N = torch.log1p(-(examination_KD[place_N, 0] * attraction_N).clamp(max=_LARGEST_P))
        none_R = torch.zeros(len(selected_R), dtype=torch.float64).index_add(0, request_N, none_N)
        hold = 1e-3 * ((logit_KD**2).sum() + (beta_F**2).sum())
        return truncated(p_N, clicked_N, none_R, selected_R) - hold

    trace = maximise([logit_KD, beta_F], log_likelihood)
    examination = torch.sigmoid(logit_KD.detach()).numpy()
    mean = sessions.mean_by_place(examination[sessions.place, distance_N.numpy()])
    return UserBrowsing(
        Curve.without_interval(mean / mean[sessions.reference]),
        examination,
        beta_F.detach().numpy(),
        trace[-1],
        trace,
    )


def last_click(sessions: Sessions) -> IntArray:
    """Which of the distances to the last click above holds, (N,); 0 where nothing was clicked."""
    row = np.arange(len(sessions.place))
    last = np.maximum.accumulate(np.where(sessions.is_clicked, row, -1))
    above = np.concatenate([[-1], last[:-1]])
    away = np.where(above >= sessions.offsets[sessions.request], row - above, 0)
    return np.searchsorted(DISTANCES, away, side="right")
