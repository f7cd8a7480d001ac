"""The likelihood of whole result lists under a position-based model, its gradient and curvature.

A note at place k of request r is clicked with the probability

    p = examination_k * sigmoid(x' beta + spread * b_r),        b_r ~ N(0, 1),

b_r being what makes a request (its query, its user's mood) more clicked as a whole; spread = 0 is
the model without it. A request that is in the log only because something was clicked counts with
the probability of its clicks *given at least one*: the list without a click was asked again until
one was clicked (a geometric number of times, given b_r), so that for every b the clicks are divided
by 1 - prod_i (1 - p_i). The integral over b is a Gauss-Hermite sum.

Shapes: R = requests, N = exposures, F = covariates, K = places, Q = nodes of the integral,
D = K + F + 1 parameters: log examination, beta, log spread.
"""

import math
from dataclasses import dataclass

import numba
import numpy as np

from models.click_models.sessions import BoolArray, FloatArray, IntArray, Sessions

# More nodes change no propensity by more than 0.1 % at the spreads met here (0.3 to 2).
N_NODES = 15
# So weak that they act only where the log is silent: a place nobody clicked at stays finite.
PRIOR_DEVIATION_EXAMINATION = 3.0
PRIOR_DEVIATION_COVARIATE = 5.0
LARGEST_STEP = 1.5
MAX_PASSES = 200
# Newton decrement at which the likelihood is at its top, in nats.
TOLERANCE = 1e-4
_LARGEST_P = 0.9999
_SMALLEST_P = 1e-12
# Probabilities of which the product is a number still, whatever they are.
_FACTORS_AT_ONCE = 16


@dataclass(frozen=True)
class Maximum:
    """Where the likelihood is greatest.

    Attributes:
        parameters: (D,).
        log_likelihood: nats, without the prior.
        trace: log-likelihood after each pass.
        converged: the tolerance was reached.
        information: (D, D), sum over requests of outer products of scores; 0 for what was fixed.
        covariance: (D, D), of the parameters, users taken as independent, requests of one user not.
        is_free: (D,), parameters that were estimated.
    """

    parameters: FloatArray
    log_likelihood: float
    trace: tuple[float, ...]
    converged: bool
    information: FloatArray
    covariance: FloatArray
    is_free: BoolArray


def nodes(has_effect: bool) -> tuple[FloatArray, FloatArray]:
    """Nodes of the integral over a standard normal effect, and the logarithms of their weights."""
    if not has_effect:
        return np.zeros(1), np.zeros(1)
    at, weight = np.polynomial.hermite_e.hermegauss(N_NODES)
    return at, np.log(weight / weight.sum())


def maximise(sessions: Sessions, *, has_effect: bool, start: FloatArray | None = None) -> Maximum:
    """Climb to the maximum, from steps with the information from scores (BHHH 1974) to BFGS steps.

    Each step is halved until the likelihood rises, so the trace never falls. The covariance is the
    sandwich inverse-information * (outer products of users' scores) * inverse-information.
    """
    n_K, n_F = sessions.n_places, sessions.covariates.shape[1]
    n_D = n_K + n_F + 1
    at, log_weight = nodes(has_effect)
    parameters = np.zeros(n_D) if start is None else start.astype(np.float64).copy()
    if not has_effect:
        parameters[-1] = 0.0
    is_free = np.ones(n_D, dtype=bool)
    is_free[:n_K] = np.bincount(sessions.place, minlength=n_K) > 0
    is_free[sessions.reference] = False
    is_free[-1] = has_effect
    prior = np.full(n_D, PRIOR_DEVIATION_COVARIATE**-2)
    prior[:n_K] = PRIOR_DEVIATION_EXAMINATION**-2
    prior[-1] = 1.0  # of the logarithm of the spread
    scores = np.zeros((sessions.n_requests, n_D), dtype=np.float32)

    def look(place: FloatArray) -> tuple[float, float, FloatArray, FloatArray]:
        likelihood, gradient, information = _evaluate(
            sessions.offsets,
            sessions.place,
            sessions.is_clicked,
            sessions.covariates,
            sessions.is_selected,
            place[:n_K],
            place[n_K:-1],
            math.exp(place[-1]) if has_effect else 0.0,
            at,
            log_weight,
            scores,
        )
        information = information + np.tril(information, -1).T
        return (
            likelihood,
            likelihood - 0.5 * float(prior @ place**2),
            gradient - prior * place,
            information,
        )

    likelihood, value, gradient, information = look(parameters)
    trace, converged = [likelihood], False
    free = np.ix_(is_free, is_free)
    inverse = np.linalg.inv((information + np.diag(prior))[free])
    for _ in range(MAX_PASSES):
        step = np.zeros(n_D)
        step[is_free] = inverse @ gradient[is_free]
        decrement = float(step @ gradient)
        if decrement < TOLERANCE:
            converged = True
            break
        share = min(1.0, LARGEST_STEP / max(float(np.abs(step).max()), 1e-12))
        while True:
            found = look(parameters + share * step)
            if found[1] >= value or share < 1e-6:
                break
            share /= 2
        if found[1] < value:
            fresh = np.linalg.inv((information + np.diag(prior))[free])
            if np.array_equal(fresh, inverse):
                break
            inverse = fresh
            continue
        parameters = parameters + share * step
        # The information of few requests is a rough curvature: it is corrected on the way.
        moved, bent = share * step[is_free], (gradient - found[2])[is_free]
        likelihood, value, gradient, information = found
        trace.append(likelihood)
        if (rise := float(moved @ bent)) > 1e-10:
            turn = np.eye(len(moved)) - np.outer(moved, bent) / rise
            inverse = turn @ inverse @ turn.T + np.outer(moved, moved) / rise
    # The last look may have been at a place that was not taken.
    likelihood, _, _, information = look(parameters)
    covariance = np.zeros((n_D, n_D))
    inverse = np.linalg.inv((information + np.diag(prior))[free])
    _, user = np.unique(sessions.user, return_inverse=True)
    order = np.argsort(user, kind="stable")
    starts = np.flatnonzero(np.diff(user[order], prepend=-1))
    by_user = np.add.reduceat(scores[order].astype(np.float64), starts)
    covariance[free] = inverse @ (by_user.T @ by_user)[free] @ inverse
    return Maximum(
        parameters, likelihood, tuple(trace), converged, information, covariance, is_free
    )


def click_probability(sessions: Sessions, parameters: FloatArray, has_effect: bool) -> FloatArray:
    """P(click | clicks above it, request in the log) of each exposure, (N,).

    The sum of its log-likelihoods over the exposures of a request is that of the request.
    """
    n_K = sessions.n_places
    at, log_weight = nodes(has_effect)
    return _given_past(
        sessions.offsets,
        sessions.place,
        sessions.is_clicked,
        sessions.covariates,
        sessions.is_selected,
        parameters[:n_K],
        parameters[n_K:-1],
        math.exp(parameters[-1]) if has_effect else 0.0,
        at,
        np.exp(log_weight),
    )


def attraction(sessions: Sessions, parameters: FloatArray, has_effect: bool) -> FloatArray:
    """Mean attraction of each exposure over the effects of requests, (N,): what the note is worth
    to a reader of whom the clicks tell nothing."""
    n_K = sessions.n_places
    at, log_weight = nodes(has_effect)
    eta = sessions.covariates @ parameters[n_K:-1]
    spread = math.exp(parameters[-1]) if has_effect else 0.0
    mean = np.zeros(len(eta))
    for node, weight in zip(at, np.exp(log_weight), strict=True):
        mean += weight / (1.0 + np.exp(-(eta + spread * node)))
    return mean


def lists_asked(sessions: Sessions, parameters: FloatArray, has_effect: bool) -> FloatArray:
    """How many lists stand behind each published request, itself included, (R,): the mean of
    1 / (1 - prod_i (1 - p_i)) over request effects; 1 where nothing was left out."""
    n_K = sessions.n_places
    at, log_weight = nodes(has_effect)
    eta = sessions.covariates @ parameters[n_K:-1]
    examination = np.exp(parameters[:n_K])[sessions.place]
    spread = math.exp(parameters[-1]) if has_effect else 0.0
    asked = np.zeros(sessions.n_requests)
    for node, weight in zip(at, np.exp(log_weight), strict=True):
        p = np.minimum(examination / (1.0 + np.exp(-(eta + spread * node))), _LARGEST_P)
        log_none = np.add.reduceat(np.log1p(-p), sessions.offsets[:-1])
        asked += weight / np.maximum(-np.expm1(log_none), 1e-12)
    return np.where(sessions.is_selected, asked, 1.0)


@numba.njit(cache=True, fastmath=True)
def _at_nodes(
    begin: int,
    n: int,
    place: IntArray,
    covariates: FloatArray,
    examination: FloatArray,
    beta: FloatArray,
    odds_of_node: FloatArray,
    a: FloatArray,
    p: FloatArray,
) -> None:
    """Fill attraction and click probability, (L, Q), of one request's exposures at every node.

    exp(-(eta + spread * b)) is a product, so that there is one exponential an exposure, not Q.
    """
    for j in range(n):
        eta = 0.0
        for f in range(len(beta)):
            eta += covariates[begin + j, f] * beta[f]
        odds = math.exp(-eta)
        e = examination[place[begin + j]]
        for q in range(len(odds_of_node)):
            attraction = 1.0 / (1.0 + odds * odds_of_node[q])
            a[j, q] = attraction
            p[j, q] = max(min(e * attraction, _LARGEST_P), _SMALLEST_P)


@numba.njit(cache=True, fastmath=True)
def _evaluate(
    offsets: IntArray,
    place: IntArray,
    is_clicked: BoolArray,
    covariates: FloatArray,
    is_selected: BoolArray,
    log_examination: FloatArray,
    beta: FloatArray,
    spread: float,
    at: FloatArray,
    log_weight: FloatArray,
    scores: FloatArray,
) -> tuple[float, FloatArray, FloatArray]:
    """Log-likelihood, gradient and information (lower triangle); fills the requests' scores."""
    n_K, n_F, n_Q = len(log_examination), len(beta), len(at)
    n_D = n_K + n_F + 1
    longest = 0
    for r in range(len(offsets) - 1):
        longest = max(longest, offsets[r + 1] - offsets[r])
    examination, odds_of_node = np.exp(log_examination), np.exp(-spread * at)
    p = np.empty((longest, n_Q))
    a = np.empty((longest, n_Q))
    posterior = np.empty(n_Q)
    product = np.empty(n_Q)
    none = np.empty(n_Q)
    odds_of_none = np.empty(n_Q)
    score = np.zeros(n_D)
    met = np.empty(n_D, np.int64)
    gradient = np.zeros(n_D)
    information = np.zeros((n_D, n_D))
    total = 0.0
    for r in range(len(offsets) - 1):
        begin, n = offsets[r], offsets[r + 1] - offsets[r]
        _at_nodes(begin, n, place, covariates, examination, beta, odds_of_node, a, p)
        for q in range(n_Q):
            posterior[q], product[q], none[q] = log_weight[q], 1.0, 1.0
        for j in range(n):
            if is_clicked[begin + j]:
                for q in range(n_Q):
                    product[q] *= p[j, q]
                    none[q] *= 1.0 - p[j, q]
            else:
                for q in range(n_Q):
                    product[q] *= 1.0 - p[j, q]
                    none[q] *= 1.0 - p[j, q]
            if j % _FACTORS_AT_ONCE == _FACTORS_AT_ONCE - 1:
                for q in range(n_Q):
                    posterior[q] += math.log(product[q])
                    product[q] = 1.0
        best = -1e300
        for q in range(n_Q):
            posterior[q] += math.log(product[q])
            odds_of_none[q] = 0.0
            if is_selected[r]:
                some = max(1.0 - none[q], 1e-300)
                posterior[q] -= math.log(some)
                odds_of_none[q] = none[q] / some
            best = max(best, posterior[q])
        mass = 0.0
        for q in range(n_Q):
            posterior[q] = math.exp(posterior[q] - best)
            mass += posterior[q]
        total += best + math.log(mass)
        for q in range(n_Q):
            posterior[q] /= mass
        score[:] = 0.0
        for j in range(n):
            i = begin + j
            clicked = 1.0 if is_clicked[i] else 0.0
            by_examination, by_eta, by_spread = 0.0, 0.0, 0.0
            for q in range(n_Q):
                # Of log p: 1 for a click, -p / (1 - p) for none, and the list's own chance.
                odds = p[j, q] / (1.0 - p[j, q])
                slope = (clicked - (1.0 - clicked + odds_of_none[q]) * odds) * posterior[q]
                if p[j, q] >= _LARGEST_P:
                    slope = 0.0
                by_examination += slope
                slope *= 1.0 - a[j, q]
                by_eta += slope
                by_spread += slope * at[q]
            score[place[i]] += by_examination
            for f in range(n_F):
                score[n_K + f] += by_eta * covariates[i, f]
            score[n_D - 1] += by_spread * spread
        n_met = 0
        for d in range(n_D):
            scores[r, d] = score[d]
            if score[d] != 0.0:
                met[n_met] = d
                n_met += 1
                gradient[d] += score[d]
        for x in range(n_met):
            for y in range(x + 1):
                information[met[x], met[y]] += score[met[x]] * score[met[y]]
    return total, gradient, information


@numba.njit(cache=True)
def _given_past(
    offsets: IntArray,
    place: IntArray,
    is_clicked: BoolArray,
    covariates: FloatArray,
    is_selected: BoolArray,
    log_examination: FloatArray,
    beta: FloatArray,
    spread: float,
    at: FloatArray,
    weight: FloatArray,
) -> FloatArray:
    n_Q = len(at)
    longest = 0
    for r in range(len(offsets) - 1):
        longest = max(longest, offsets[r + 1] - offsets[r])
    examination, odds_of_node = np.exp(log_examination), np.exp(-spread * at)
    p = np.empty((longest, n_Q))
    a = np.empty((longest, n_Q))
    none_from = np.empty((longest + 1, n_Q))
    past = np.empty(n_Q)
    probability = np.empty(len(place))
    for r in range(len(offsets) - 1):
        begin, n = offsets[r], offsets[r + 1] - offsets[r]
        _at_nodes(begin, n, place, covariates, examination, beta, odds_of_node, a, p)
        for q in range(n_Q):
            none_from[n, q] = 1.0
            for j in range(n - 1, -1, -1):
                none_from[j, q] = none_from[j + 1, q] * (1.0 - p[j, q])
            past[q] = weight[q]
            if is_selected[r]:
                past[q] /= max(1.0 - none_from[0, q], 1e-300)
        seen = False
        for j in range(n):
            # With and without a click here: what is left of the chance to be in the log.
            clicked, unclicked = 0.0, 0.0
            for q in range(n_Q):
                later = 1.0 if seen or not is_selected[r] else 1.0 - none_from[j + 1, q]
                clicked += past[q] * p[j, q]
                unclicked += past[q] * (1.0 - p[j, q]) * later
            probability[begin + j] = clicked / (clicked + unclicked)
            mass = 0.0
            for q in range(n_Q):
                past[q] *= p[j, q] if is_clicked[begin + j] else 1.0 - p[j, q]
                mass += past[q]
            for q in range(n_Q):
                past[q] /= mass
            seen = seen or is_clicked[begin + j]
    return probability
