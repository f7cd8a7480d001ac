"""Trust bias: at upper places readers also click what does not attract them.

    p = examination_k * (attraction + trust_k * (1 - attraction)),
    attraction = sigmoid(x' beta + spread * b_r),        b_r ~ N(0, 1)

(Agarwal et al., WWW 2019, section 4; attraction as in `mixed_position_based`.) Clicks are an affine
function of attraction, slope_k * attraction + floor_k, which dividing by examination alone does not
undo (Vardasbi, Oosterhuis and de Rijke, CIKM 2020): (click - floor) / slope is unbiased.

Attraction is only known up to such a function itself: what all places have in common of trust
cannot be seen. Trust is therefore told relative to the places below `N_TRUSTED`, where it is 0.
What tells it from examination is that clicks at a place depend less on what is attractive where
there is more trust, as far as the covariates and the request's other clicks foretell that; how much
is known so is in the interval, which takes the form of the model for granted. By maximum marginal
likelihood, conditional on the selection of requests with a click.

Shapes: R = requests, N = exposures, F = covariates, K = places, T = trusted places, Q = nodes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.click_models.curve import Z95, Curve
from models.click_models.gradient import maximise
from models.click_models.mixed_position_based import MixedPositionBased
from models.click_models.sessions import FloatArray, Sessions

# Places, from the reference on, at which trust is looked for.
N_TRUSTED = 10
# So weak that it acts only where clicks say next to nothing: a narrower one bends the intervals.
PRIOR_DEVIATION_TRUST = 1.0
# Of log examination, of coefficients, of the log spread: as in `likelihood`.
PRIOR_DEVIATIONS = (3.0, 5.0, 1.0)
N_NODES = 7
_SMALLEST_P, _LARGEST_P = 1e-9, 1 - 1e-6


@dataclass(frozen=True)
class TrustBias:
    """A fitted model.

    Attributes:
        curve: examination by place once trust is allowed for.
        trust: (K,), probability that an examined note that does not attract is clicked, relative
            to places below the trusted ones; can be below 0 by chance.
        trust_lower, trust_upper: (K,), 95 % intervals; NaN where trust is 0 by definition.
        log_likelihood: nats, without the prior.
        trace: log-likelihood with the prior at each look.
    """

    curve: Curve
    trust: FloatArray
    trust_lower: FloatArray
    trust_upper: FloatArray
    log_likelihood: float
    trace: tuple[float, ...]


def fit(sessions: Sessions, near: MixedPositionBased, *, n_trusted: int = N_TRUSTED) -> TrustBias:
    """Fit to the log, beginning at ``near``, a fit without trust to lists of the same places.

    Trust is looked for at ``n_trusted`` places, from the reference on.
    """
    n_K, n_F = sessions.n_places, len(sessions.covariate_names)
    shown = np.bincount(sessions.place, minlength=n_K) > 0
    trusted = np.arange(sessions.reference, sessions.reference + n_trusted)
    trusted = trusted[trusted < n_K]
    trusted = trusted[shown[trusted]]
    lists = _Lists.of(sessions)
    start = torch.from_numpy(near.parameters_of(sessions))
    parameters = torch.cat([start, torch.zeros(len(trusted), dtype=torch.float64)])
    parameters.requires_grad_()
    is_free = torch.ones(len(parameters), dtype=torch.bool)
    is_free[: len(shown)] = torch.from_numpy(shown)
    is_free[sessions.reference] = False
    deviation = torch.cat(
        [
            *(
                torch.full((n,), value, dtype=torch.float64)
                for n, value in zip((n_K, n_F, 1), PRIOR_DEVIATIONS, strict=True)
            ),
            torch.full((len(trusted),), PRIOR_DEVIATION_TRUST, dtype=torch.float64),
        ]
    )

    def by_request(parameters: Tensor) -> Tensor:
        free = torch.where(is_free, parameters, parameters.detach())
        trust_K = free.new_zeros(n_K).index_put((torch.from_numpy(trusted),), free[n_K + n_F + 1 :])
        return lists.log_likelihood(
            free[:n_K], free[n_K : n_K + n_F], free[n_K + n_F].exp(), trust_K
        )

    trace = maximise(
        [parameters],
        lambda: by_request(parameters).sum() - 0.5 * ((parameters / deviation) ** 2).sum(),
    )
    end = parameters.detach()
    error = _errors(sessions, by_request, end, is_free, deviation)
    with torch.no_grad():
        value = float(by_request(end).sum())
    trust, trust_error = np.zeros(n_K), np.full(n_K, np.nan)
    trust[trusted] = end[n_K + n_F + 1 :].numpy()
    trust_error[trusted] = error[n_K + n_F + 1 :]
    curve = Curve.of_logarithm(
        np.where(shown, end.numpy()[:n_K], np.nan),
        error[:n_K],
        ("Trust is relative to lower places: what all places have in common cannot be seen.",),
    )
    lower, upper = trust - Z95 * trust_error, trust + Z95 * trust_error
    return TrustBias(curve, trust, lower, upper, value, trace)


@dataclass(frozen=True)
class _Lists:
    place_N: Tensor
    clicked_N1: Tensor
    covariates_NF: Tensor
    request_N: Tensor
    selected_R1: Tensor
    at_Q: Tensor
    log_weight_Q: Tensor

    @classmethod
    def of(cls, sessions: Sessions) -> "_Lists":
        at, weight = np.polynomial.hermite_e.hermegauss(N_NODES)
        return cls(
            torch.from_numpy(sessions.place),
            torch.from_numpy(sessions.is_clicked)[:, None],
            torch.from_numpy(sessions.covariates),
            torch.from_numpy(sessions.request),
            torch.from_numpy(sessions.is_selected)[:, None],
            torch.from_numpy(at),
            torch.from_numpy(np.log(weight / weight.sum())),
        )

    def log_likelihood(
        self, log_examination_K: Tensor, beta_F: Tensor, spread: Tensor, trust_K: Tensor
    ) -> Tensor:
        """Nats of each request, (R,)."""
        attraction_NQ = torch.sigmoid((self.covariates_NF @ beta_F)[:, None] + spread * self.at_Q)
        trust_N1 = trust_K[self.place_N][:, None]
        examination_N1 = log_examination_K.exp()[self.place_N][:, None]
        p_NQ = examination_N1 * (attraction_NQ + trust_N1 * (1 - attraction_NQ))
        p_NQ = p_NQ.clamp(_SMALLEST_P, _LARGEST_P)
        none_NQ = torch.log1p(-p_NQ)
        clicks_NQ = torch.where(self.clicked_N1, torch.log(p_NQ), none_NQ)
        nothing_RQ = p_NQ.new_zeros(len(self.selected_R1), len(self.at_Q))
        none_RQ = nothing_RQ.index_add(0, self.request_N, none_NQ).clamp(max=-1e-12)
        some_RQ = torch.where(self.selected_R1, torch.log(-torch.expm1(none_RQ)), 0.0)
        clicks_RQ = nothing_RQ.index_add(0, self.request_N, clicks_NQ)
        return torch.logsumexp(clicks_RQ - some_RQ + self.log_weight_Q, dim=1)


def _errors(
    sessions: Sessions,
    by_request: Callable[[Tensor], Tensor],
    end: Tensor,
    is_free: Tensor,
    deviation: Tensor,
) -> FloatArray:
    """Standard errors (D,): the sandwich of `likelihood.maximise`, users taken as independent."""
    directions = torch.eye(len(end), dtype=end.dtype)[is_free]
    scores_RD = torch.stack(
        [torch.func.jvp(by_request, (end,), (one,))[1] for one in directions], dim=1
    ).numpy()
    prior = (deviation[is_free] ** -2).numpy()
    _, user = np.unique(sessions.user, return_inverse=True)
    by_user = np.zeros((int(user.max()) + 1, len(directions)))
    np.add.at(by_user, user, scores_RD)
    inverse = np.linalg.inv(scores_RD.T @ scores_RD + np.diag(prior))
    covariance = inverse @ (by_user.T @ by_user) @ inverse
    error = np.zeros(len(end))
    error[is_free.numpy()] = np.sqrt(np.diag(covariance))
    return error
