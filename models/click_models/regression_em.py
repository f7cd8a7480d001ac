"""Regression-EM: p = examination_k * sigmoid(x' beta) (Wang et al., WSDM 2018, section 4).

The E-step shares each exposure without a click between "not seen" and "not liked"; the M-step fits
examination as shares and attraction as a logistic regression, here by Newton steps to its top and
not by one small step of boosting. Started from several curves, because the likelihood is flat
where places and covariates go together; the traces tell whether the starts met.
"""

from dataclasses import dataclass

import numpy as np

from models.click_models.curve import Curve, curve_at
from models.click_models.expectation_maximisation import Climb, climb, hidden_lists, logistic, logit
from models.click_models.gradient import condition_on_click
from models.click_models.likelihood import maximise
from models.click_models.sessions import FloatArray, Sessions

NEWTON_STEPS = 1
_LARGEST_P = 1 - 1e-6
# Curves that the climbs begin with: flat and high, falling like 1 / place, flat and low.
STARTS = ("flat 0.9", "inverse place", "flat 0.3")
# Nats per request within which starts are said to have met.
MET = 1e-4


@dataclass(frozen=True)
class RegressionEM:
    """A fitted model: the best climb, all climbs by the name of their start."""

    curve: Curve
    examination: FloatArray
    coefficients: FloatArray
    climbs: dict[str, Climb]

    def click_probability(self, sessions: Sessions) -> FloatArray:
        """P(click | clicks above, the request is in the log), (N,)."""
        p = self.examination[sessions.place] * logistic(sessions.covariates @ self.coefficients)
        p = np.minimum(p, _LARGEST_P)
        return condition_on_click(sessions, p, p)


def fit(sessions: Sessions, starts: tuple[str, ...] = STARTS) -> RegressionEM:
    """Climb from every start and keep the best.

    The interval is that of the likelihood's curvature at its top (`likelihood.maximise` without
    request effects, where examination of the reference is 1).
    """
    climbs = {
        name: climb(
            lambda parameters: _pass(sessions, parameters),
            _start(sessions, name),
            sessions.n_requests,
        )
        for name in starts
    }
    best = max(climbs.values(), key=lambda one: one.log_likelihood)
    n_K = sessions.n_places
    said = [
        f"From the start '{name}' EM ended {best.log_likelihood - one.log_likelihood:.1f} nats "
        "lower."
        for name, one in climbs.items()
        if best.log_likelihood - one.log_likelihood > MET * sessions.n_requests
    ]
    if not best.converged:
        said.append(f"EM was still rising after {best.n_passes} passes.")
    examination = logistic(best.parameters[:n_K])
    relative = examination / examination[sessions.reference]
    top = maximise(sessions, has_effect=False)
    bent = curve_at(sessions, top)
    relative[np.isnan(bent.estimate)] = np.nan
    curve = Curve(
        relative,
        relative * bent.lower / bent.estimate,
        relative * bent.upper / bent.estimate,
        bent.log_error,
        (*said, *bent.warnings),
    )
    return RegressionEM(curve, examination, best.parameters[n_K:], climbs)


def _start(sessions: Sessions, name: str) -> FloatArray:
    n_K, n_F = sessions.n_places, len(sessions.covariate_names)
    curve = {
        "flat 0.9": np.full(n_K, 0.9),
        "inverse place": 0.9 / np.arange(1, n_K + 1),
        "flat 0.3": np.full(n_K, 0.3),
    }[name]
    return np.concatenate([logit(curve), np.zeros(n_F)])


def _pass(sessions: Sessions, parameters: FloatArray) -> tuple[FloatArray, float]:
    n_K, x = sessions.n_places, sessions.covariates
    beta = parameters[n_K:]
    examination = logistic(parameters[:n_K])[sessions.place]
    attraction = np.clip(logistic(x @ beta), 1e-9, 1 - 1e-9)
    p = np.clip(examination * attraction, 1e-12, _LARGEST_P)
    hidden, value = hidden_lists(sessions, p)
    hidden = hidden[sessions.request]
    unclicked = np.where(sessions.is_clicked, 0.0, 1.0) + hidden
    weight = 1.0 + hidden
    seen = sessions.is_clicked + unclicked * examination * (1 - attraction) / (1 - p)
    liked = sessions.is_clicked + unclicked * attraction * (1 - examination) / (1 - p)
    count = np.bincount(sessions.place, weight, minlength=n_K)
    share = np.bincount(sessions.place, seen, minlength=n_K) / np.maximum(count, 1e-12)
    places = np.where(count > 0, logit(share), parameters[:n_K])
    for _ in range(NEWTON_STEPS):
        fitted = logistic(x @ beta)
        bend = (x * (weight * fitted * (1 - fitted))[:, None]).T @ x
        slope = x.T @ (liked - weight * fitted)
        beta = beta + np.linalg.solve(bend + 1e-6 * np.eye(len(beta)), slope)
    return np.concatenate([places, beta]), value
