"""How strong something that was not measured would have to be to explain the effect away."""

import numpy as np

from models.causal.estimate import NORMAL_95, Estimate


def e_value(risk_ratio: float) -> float:
    """The least risk ratio that an unmeasured cause must have with treatment and with outcome.

    1 means that nothing is needed. NaN for a ratio that is not positive and finite.
    Source: VanderWeele and Ding 2017.
    """
    if not (np.isfinite(risk_ratio) and risk_ratio > 0):
        return float("nan")
    ratio = max(risk_ratio, 1 / risk_ratio)
    return float(ratio + np.sqrt(ratio * (ratio - 1)))


def e_values(estimate: Estimate, spread: float, base: float | None = None) -> tuple[float, float]:
    """E-value of an effect, and of the end of its interval that is nearer to none.

    Args:
        estimate: of a rate when ``base`` is given, else of a mean.
        spread: standard deviation of the outcome; a difference of d of them is taken as a risk
            ratio of exp(0.91 d).
        base: rate of the outcome without the treatment.

    Returns:
        NaN both where the estimate has no value; 1 for the interval where it holds 0.
    """

    def ratio(value: float) -> float:
        if base is not None:
            return (base + value) / base if base > 0 else float("nan")
        return float(np.exp(0.91 * value / spread)) if spread > 0 else float("nan")

    of_estimate = e_value(ratio(estimate.value))
    if not np.isfinite(estimate.low):
        return of_estimate, float("nan")
    if estimate.low <= 0 <= estimate.high:
        return of_estimate, 1.0
    nearer = estimate.low if estimate.low > 0 else estimate.high
    return of_estimate, e_value(ratio(nearer))


def robustness_value(estimate: Estimate, degrees_of_freedom: int, *, at_95: bool) -> float:
    """Share of what is left of treatment and outcome that one cause must explain, of both, to bring
    the effect to 0 (or, ``at_95``, its interval to hold 0).

    Source: Cinelli and Hazlett 2020, equations 18 and 19. The standard error may be clustered: then
    degrees_of_freedom are those of the clusters.
    """
    if not np.isfinite(estimate.standard_error) or estimate.standard_error == 0:
        return float("nan")
    t = abs(estimate.value) / estimate.standard_error
    f = t / np.sqrt(degrees_of_freedom)
    if at_95:
        f -= NORMAL_95 / np.sqrt(degrees_of_freedom - 1)
    if f <= 0:
        return 0.0
    return float((np.sqrt(f**4 + 4 * f**2) - f**2) / 2)
