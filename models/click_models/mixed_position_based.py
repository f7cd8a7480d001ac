"""Position-based model with request effects: p = examination_k * sigmoid(x' beta + spread * b_r).

The hypothesis of Richardson et al. (WWW 2007) and Craswell et al. (WSDM 2008) that a click needs an
examined place and an attractive note, independently; attraction is a regression, as in Wang et al.
(WSDM 2018), with a normal effect of the request that is integrated out (a mixed logit: McCulloch
and Searle 2001, ch. 8). Without the effect, requests that are clicked much for their own reasons
pass for well examined. By maximum marginal likelihood, conditional on the selection of requests
with a click (`likelihood`).
"""

from dataclasses import dataclass

import numpy as np

from models.click_models import likelihood
from models.click_models.curve import Curve, curve_at
from models.click_models.sessions import FloatArray, Sessions


@dataclass(frozen=True)
class MixedPositionBased:
    """A fitted model.

    Attributes:
        curve: examination by place.
        coefficients, coefficient_errors: (F,), of the covariates, on the logit scale.
        spread: standard deviation of the request's effect, logit scale.
        log_examination_covariance: (K, K).
        maximum: parameters, likelihood, trace.
        covariate_names: F names.
    """

    curve: Curve
    coefficients: FloatArray
    coefficient_errors: FloatArray
    spread: float
    log_examination_covariance: FloatArray
    maximum: likelihood.Maximum
    covariate_names: tuple[str, ...]

    def click_probability(self, sessions: Sessions) -> FloatArray:
        """P(click | clicks above, the request is in the log), (N,)."""
        return likelihood.click_probability(sessions, self.maximum.parameters, True)

    def parameters_of(self, sessions: Sessions) -> FloatArray:
        """The parameters for sessions with other covariates, 0 for those not known here."""
        known = dict(zip(self.covariate_names, self.coefficients, strict=True))
        n_K = sessions.n_places
        beta = [known.get(name, 0.0) for name in sessions.covariate_names]
        end = self.maximum.parameters
        return np.concatenate([end[:n_K], beta, end[-1:]])

    def attraction(self, sessions: Sessions) -> FloatArray:
        """Attraction of each exposure, mean over request effects, (N,)."""
        return likelihood.attraction(sessions, self.maximum.parameters, True)


def fit(sessions: Sessions, near: "MixedPositionBased | None" = None) -> MixedPositionBased:
    """Fit to the log; begins where the model without request effects ends.

    ``near`` is a fit of other lists of the same places, or with other covariates: it begins there,
    which saves most of the way.
    """
    if near is None:
        start = likelihood.maximise(sessions, has_effect=False).parameters
    else:
        start = near.parameters_of(sessions)
    maximum = likelihood.maximise(sessions, has_effect=True, start=start)
    n_K = sessions.n_places
    return MixedPositionBased(
        curve_at(sessions, maximum),
        maximum.parameters[n_K:-1],
        np.sqrt(np.diag(maximum.covariance)[n_K:-1]),
        float(np.exp(maximum.parameters[-1])),
        maximum.covariance[:n_K, :n_K],
        maximum,
        tuple(sessions.covariate_names),
    )
