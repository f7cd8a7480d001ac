"""Examination by place, estimated in several ways, and how far to trust it. Knows no Dagster.

Every estimator sees the same lists (`click_sessions`). The one that is recommended is judged like
the others: by clicks of users it has not seen. Nothing here reads the truth of a twin.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather

from models.click_models import (
    cascade,
    dynamic_bayesian_network,
    intervention_harvesting,
    likelihood,
    mixed_position_based,
    position_based,
    regression_em,
    trust_bias,
    user_browsing,
)
from models.click_models.curve import Z95, Curve
from models.click_models.intervention_harvesting import NotConnected
from models.click_models.mixed_position_based import MixedPositionBased
from models.click_models.scoring import Score, score
from models.click_models.sessions import BoolArray, Sessions
from qilin_dagster.click_sessions import ALL, PLACES, RECOMMENDED, WITH_TRUST, Lists, read_lists
from qilin_dagster.lake import Written, write_rows

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

CODE_VERSION = "4"
CHANNELS = ("search", "recommendation")
HELD_OUT_SHARE = 0.2
# The estimators that are compared see so many requests at most: theirs is not the curve in use.
COMPARED_REQUESTS = 6_000
# Fewer requests leave all curves open.
MIN_REQUESTS = 200
LEAST_ESTIMATE = 1e-6
DIPS = {"search": (3,), "recommendation": (6, 13, 20, 27)}

BY_POSITION = pa.schema(
    [
        ("channel", pa.string()),
        ("surface", pa.string()),
        ("estimator", pa.string()),
        ("position_from", pa.int64()),
        ("position_to", pa.int64()),
        ("estimate", pa.float64()),
        ("lower", pa.float64()),
        ("upper", pa.float64()),
        ("n_impressions", pa.int64()),
        ("n_clicks", pa.int64()),
    ]
)
CLICK_MODELS = pa.schema(
    [
        ("channel", pa.string()),
        ("surface", pa.string()),
        ("estimator", pa.string()),
        ("n_requests", pa.int64()),
        ("n_held_out", pa.int64()),
        ("log_likelihood", pa.float64()),
        ("perplexity", pa.float64()),
        ("calibration_error", pa.float64()),
        ("effect_spread", pa.float64()),
        ("n_passes", pa.int64()),
        ("caveat", pa.string()),
    ]
)
BIAS_FACTORS = pa.schema(
    [
        ("channel", pa.string()),
        ("factor", pa.string()),
        ("scale", pa.string()),
        ("estimate", pa.float64()),
        ("lower", pa.float64()),
        ("upper", pa.float64()),
    ]
)
OVERLAP = pa.schema(
    [
        ("channel", pa.string()),
        ("position_from", pa.int64()),
        ("other_position_from", pa.int64()),
        ("n_notes", pa.int64()),
    ]
)
TRUST = pa.schema(
    [
        ("channel", pa.string()),
        ("position_from", pa.int64()),
        ("position_to", pa.int64()),
        ("trust", pa.float64()),
        ("lower", pa.float64()),
        ("upper", pa.float64()),
        ("n_requests", pa.int64()),
    ]
)
# Tables beside the first one, in its folder.
BESIDE = {
    "click_models": CLICK_MODELS,
    "bias_factors": BIAS_FACTORS,
    "overlap": OVERLAP,
    "trust": TRUST,
}


@dataclass(frozen=True)
class Estimates:
    """Rows of all tables."""

    by_position: list[dict[str, Any]]
    click_models: list[dict[str, Any]]
    bias_factors: list[dict[str, Any]]
    overlap: list[dict[str, Any]]
    trust: list[dict[str, Any]]

    @classmethod
    def none(cls) -> "Estimates":
        return cls([], [], [], [], [])


def build_propensities(
    connection: "duckdb.DuckDBPyConnection",
    seed: int,
    folder: "Path",
    report: Callable[[str], None],
) -> Written:
    """Write by_position into ``folder``, the other tables beside it."""
    rows = Estimates.none()
    left_out = {}
    for channel in CHANNELS:
        lists = read_lists(connection, channel)
        left_out[channel] = lists.n_left_out
        report(f"propensity: {channel}, {lists.sessions.n_requests:,} requests")
        estimate_channel(channel, lists, seed, rows, report)
    for name, schema in BESIDE.items():
        table = pa.Table.from_pylist(getattr(rows, name), schema=schema)
        # Every Parquet file of the folder is a part of by_position.
        feather.write_feather(table, str(folder / f"{name}.arrow"))
    table = pa.Table.from_pylist(rows.by_position, schema=BY_POSITION)
    return write_rows(table, folder, {"left_out": left_out})


def read_beside(folder: "Path", name: str) -> pa.Table:
    """One of the tables beside by_position, from its snapshot folder."""
    return feather.read_table(str(folder / f"{name}.arrow"))


def estimate_channel(
    channel: str, lists: Lists, seed: int, rows: Estimates, report: Callable[[str], None]
) -> None:
    """All estimators on pages without an answer, then the recommended one on parts of them."""
    plain = lists.take(~lists.has_answer)
    plain = replace(plain, sessions=_without_constants(plain.sessions))
    if plain.sessions.n_requests < MIN_REQUESTS:
        reason = (
            f"Only {plain.sessions.n_requests:,} requests: a curve needs {MIN_REQUESTS} or more."
        )
        rows.click_models.append(
            _model(channel, ALL, RECOMMENDED, plain.sessions, None, caveat=reason)
        )
        return
    whole = mixed_position_based.fit(plain.sessions)
    _compare(channel, plain, whole, seed, rows, report)
    rows.bias_factors.extend(_factors(channel, plain.sessions, whole))
    parts = {
        "first request of a session": plain.take(plain.is_first_of_session),
        "later requests of a session": plain.take(~plain.is_first_of_session),
        "pages with an answer": lists.take(lists.has_answer),
    }
    for surface, part in parts.items():
        if not MIN_REQUESTS <= part.sessions.n_requests != plain.sessions.n_requests:
            continue
        sessions = _without_constants(part.sessions)
        fitted = mixed_position_based.fit(sessions, whole)
        curve = _curve(channel, surface, RECOMMENDED, sessions, fitted.curve)
        rows.by_position.extend(curve)
        rows.click_models.append(
            _model(
                channel,
                surface,
                RECOMMENDED,
                sessions,
                None,
                fitted.spread,
                len(fitted.maximum.trace),
                " ".join(fitted.curve.warnings),
            )
        )


def _compare(
    channel: str,
    lists: Lists,
    whole: MixedPositionBased,
    seed: int,
    rows: Estimates,
    report: Callable[[str], None],
) -> None:
    """Every estimator beside the recommended one: curves, and what each foretells."""
    sessions = lists.sessions
    users, index = np.unique(sessions.user, return_inverse=True)
    drawn = np.random.default_rng(seed).random(len(users))[index]
    is_out = drawn < HELD_OUT_SHARE
    fit, judge = lists.take(~is_out), sessions.take(is_out)
    judged_kinds = lists.kind[is_out[sessions.request]]
    # Users in the order drawn, until there are enough requests.
    share = min(1.0, COMPARED_REQUESTS / max(fit.sessions.n_requests, 1))
    few = fit.take(drawn[~is_out] < HELD_OUT_SHARE + (1 - HELD_OUT_SHARE) * share)
    some = few.sessions

    def add(
        name: str, curve: Curve, found: Score | None, spread: float | None, n_passes: int | None
    ) -> None:
        rows.by_position.extend(_curve(channel, ALL, name, sessions, curve))
        caveat = " ".join(curve.warnings)
        rows.click_models.append(
            _model(channel, ALL, name, sessions, found, spread, n_passes, caveat)
        )
        report(f"propensity: {channel}, {name}")

    one = np.zeros(len(sessions.place), dtype=np.int64)
    naive = position_based.fit_em(fit.sessions, one[: len(fit.sessions.place)], 1)
    rate = sessions.mean_by_place(sessions.is_clicked)
    add(
        "click rate",
        Curve.without_interval(
            rate / rate[sessions.reference],
            ["A click rate, not an examination: it holds what the ranker put there."],
        ),
        score(judge, naive.click_probability(judge, one[: len(judge.place)])),
        None,
        None,
    )
    seen = mixed_position_based.fit(fit.sessions, whole)
    add(
        RECOMMENDED,
        whole.curve,
        score(judge, seen.click_probability(judge)),
        whole.spread,
        len(whole.maximum.trace),
    )
    by_em = position_based.fit_em(some, few.kind, few.n_kinds)
    by_gradient = position_based.fit_gradient(some, few.kind, few.n_kinds)
    for name, table in (
        ("position-based, EM", by_em),
        ("position-based, gradient", by_gradient),
    ):
        found = score(judge, table.click_probability(judge, judged_kinds))
        add(name, table.curve, found, None, len(table.trace))
    regression = regression_em.fit(some)
    n_passes = sum(one.n_passes for one in regression.climbs.values())
    add(
        "regression-EM",
        regression.curve,
        score(judge, regression.click_probability(judge)),
        None,
        n_passes,
    )
    browsing = user_browsing.fit(some)
    found = score(judge, browsing.click_probability(judge))
    add("user browsing", browsing.curve, found, None, len(browsing.trace))
    top_down = cascade.fit(some)
    found = score(judge, top_down.click_probability(judge))
    add("cascade", top_down.curve, found, None, len(top_down.trace))
    network = dynamic_bayesian_network.fit(some)
    found = score(judge, network.click_probability(judge))
    add("dynamic Bayesian network", network.curve, found, None, len(network.trace))
    asked = likelihood.lists_asked(sessions, whole.maximum.parameters, True)
    n_notes = intervention_harvesting.overlap(sessions, lists.note).n_units
    rows.overlap.extend(
        {
            "channel": channel,
            "position_from": PLACES[k],
            "other_position_from": PLACES[other],
            "n_notes": int(n_notes[k, other]),
        }
        for k in range(len(PLACES))
        for other in range(k + 1, len(PLACES))
    )
    names = ("harvesting, all pairs", "harvesting, adjacent pairs")
    try:
        harvested = intervention_harvesting.harvest(sessions, lists.note, asked, seed)
    except NotConnected as reason:
        nothing = Curve.without_interval(np.full(len(PLACES), np.nan), [str(reason)])
        curves = (nothing, nothing)
    else:
        curves = (harvested.all_pairs, harvested.adjacent_pairs)
    for name, curve in zip(names, curves, strict=True):
        add(name, curve, None, None, None)
    trusting = trust_bias.fit(some, whole)
    add(WITH_TRUST, trusting.curve, None, None, len(trusting.trace))
    rows.trust.extend(
        {
            "channel": channel,
            "position_from": PLACES[k],
            "position_to": PLACES[k + 1] - 1,
            "trust": _number(trusting.trust[k]),
            "lower": _number(trusting.trust_lower[k]),
            "upper": _number(trusting.trust_upper[k]),
            "n_requests": some.n_requests,
        }
        for k in np.flatnonzero(~np.isnan(trusting.trust_lower)).tolist()
    )


def _without_constants(sessions: Sessions) -> Sessions:
    """Without covariates that are the same everywhere in this part: they say what the 1 says."""
    if sessions.n_requests == 0:
        return sessions
    spread = np.ptp(sessions.covariates, axis=0) > 0
    return sessions.with_covariates(
        [
            name
            for name, varies in zip(sessions.covariate_names, spread.tolist(), strict=True)
            if varies or name == "one"
        ]
    )


def _curve(
    channel: str, surface: str, estimator: str, sessions: Sessions, curve: Curve
) -> list[dict[str, Any]]:
    # Where nothing was clicked the estimate is 0, or next to it: nothing to divide by, and nothing
    # that is known.
    known = curve.estimate >= LEAST_ESTIMATE
    estimate, lower, upper = (
        np.where(known, values, np.nan) for values in (curve.estimate, curve.lower, curve.upper)
    )
    count = np.bincount(sessions.place, minlength=sessions.n_places)
    clicks = np.bincount(sessions.place, sessions.is_clicked, minlength=sessions.n_places)
    ends = (*(place - 1 for place in PLACES[1:]), None)
    return [
        {
            "channel": channel,
            "surface": surface,
            "estimator": estimator,
            "position_from": PLACES[k],
            "position_to": ends[k],
            "estimate": _number(estimate[k]),
            "lower": _number(lower[k]),
            "upper": _number(upper[k]),
            "n_impressions": int(count[k]),
            "n_clicks": int(clicks[k]),
        }
        for k in range(len(PLACES))
        if count[k]
    ]


def _model(
    channel: str,
    surface: str,
    estimator: str,
    sessions: Sessions,
    found: Score | None,
    spread: float | None = None,
    n_passes: int | None = None,
    caveat: str = "",
) -> dict[str, Any]:
    return {
        "channel": channel,
        "surface": surface,
        "estimator": estimator,
        "n_requests": sessions.n_requests,
        "n_held_out": found.n_requests if found else None,
        "log_likelihood": _number(found.log_likelihood) if found else None,
        "perplexity": _number(found.perplexity) if found else None,
        "calibration_error": _number(found.calibration_error) if found else None,
        "effect_spread": None if spread is None else _number(spread),
        "n_passes": n_passes,
        "caveat": caveat or None,
    }


def _factors(channel: str, sessions: Sessions, model: MixedPositionBased) -> list[dict[str, Any]]:
    """What else moves clicks, with 95 % intervals: odds of attraction, ratios of examination."""
    rows = []

    def add(factor: str, scale: str, log: float, error: float) -> None:
        rows.append(
            {
                "channel": channel,
                "factor": factor,
                "scale": scale,
                "estimate": _number(np.exp(log)),
                "lower": _number(np.exp(log - Z95 * error)),
                "upper": _number(np.exp(log + Z95 * error)),
            }
        )

    words = {
        "video": "a video, not a picture note",
        "commercial": "a commercial note",
        "first_of_session": "the first request of a session",
        "relative_rank": "one deviation higher in the ranker's list",
    }
    for name, value, error in zip(
        sessions.covariate_names, model.coefficients, model.coefficient_errors, strict=True
    ):
        if name in words:
            add(words[name], "odds of attraction", float(value), float(error))
    blind = mixed_position_based.fit(
        sessions.with_covariates(
            [name for name in sessions.covariate_names if "commercial" not in name]
        ),
        model,
    )
    shown = np.bincount(sessions.place, minlength=sessions.n_places) > 0
    knows = "commercial" in sessions.covariate_names
    for known, fitted in (("", model), (", the commercial flag unknown", blind))[: 1 + knows]:
        for dip in DIPS[channel]:
            contrast = np.zeros(sessions.n_places)
            contrast[[dip - 1, dip, dip + 1]] = (-0.5, 1.0, -0.5)
            _contrast(add, f"position {dip} beside its neighbours{known}", contrast, fitted, shown)
    right = np.zeros(sessions.n_places)
    # Rows 2 to 10 of two columns: each right place beside the left ones before and after it.
    for place in range(4, 21, 2):
        right[[place - 1, place, place + 1]] += np.array([-0.5, 1.0, -0.5]) / 9
    _contrast(add, "the right column beside the left, rows 2 to 10", right, model, shown)
    return rows


def _contrast(
    add: Callable[[str, str, float, float], None],
    factor: str,
    contrast: "np.ndarray",
    model: MixedPositionBased,
    shown: BoolArray,
) -> None:
    if not shown[contrast != 0].all():
        return
    log = np.where(contrast != 0, np.log(np.where(shown, model.curve.estimate, 1.0)), 0.0)
    variance = contrast @ model.log_examination_covariance @ contrast
    add(factor, "examination", float(contrast @ log), float(np.sqrt(variance)))


def _number(value: float) -> float | None:
    """Rounded, so that the last bits of a sum do not tell machines apart; None for NaN."""
    return None if np.isnan(value) else round(float(value), 6)
