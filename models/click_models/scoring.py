"""How well a click model foretells clicks it has not seen: likelihood, perplexity, calibration.

All figures are conditional on the clicks above an exposure and on the request being in the log, so
that models with and without memory stand side by side.
"""

from dataclasses import dataclass

import numpy as np

from models.click_models.sessions import FloatArray, Sessions

N_BINS = 10


@dataclass(frozen=True)
class Score:
    """Of held-out sessions.

    Attributes:
        log_likelihood: nats per request.
        perplexity: 2 to the mean bits per exposure; 1 is certainty, 2 a coin (Dupret and
            Piwowarski 2008, conditional on the clicks above).
        perplexity_by_place: (K,), NaN where nothing was shown.
        calibration_error: mean distance of predicted and observed click rate over ten bins of
            equal size, weighted by exposures, 0..1.
        n_requests, n_exposures: what was judged.
    """

    log_likelihood: float
    perplexity: float
    perplexity_by_place: FloatArray
    calibration_error: float
    n_requests: int
    n_exposures: int


def score(sessions: Sessions, click_probability: FloatArray) -> Score:
    """Judge probabilities of a click given the clicks above, (N,)."""
    p = np.clip(click_probability, 1e-9, 1.0)
    rest = np.clip(1.0 - click_probability, 1e-9, 1.0)
    log = np.where(sessions.is_clicked, np.log(p), np.log(rest))
    count = np.bincount(sessions.place, minlength=sessions.n_places)
    total = np.bincount(sessions.place, log, minlength=sessions.n_places)
    by_place = np.where(count > 0, np.exp(-total / np.maximum(count, 1)), np.nan)
    error = 0.0
    for rows in np.array_split(np.argsort(p, kind="stable"), N_BINS):
        if len(rows):
            error += len(rows) * abs(float(p[rows].mean() - sessions.is_clicked[rows].mean()))
    n = max(len(p), 1)
    return Score(
        float(log.sum() / max(sessions.n_requests, 1)),
        float(np.exp(-log.sum() / n)),
        by_place,
        error / n,
        sessions.n_requests,
        len(p),
    )
