"""What showing a direct answer changes: estimates, and what they rest on. Knows no Dagster.

Answers go to queries that call for one. Between two searches with the same query, user and past, of
which one was shown an answer, the difference is the effect; the estimators look for such pairs in
different ways. Whatever decided on showing and is not in core.answer_requests stays in the result:
the refutations and the sensitivity analysis say how much of that it would take.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from models.causal import (
    balance,
    doubly_robust,
    estimate,
    matching,
    nuisance,
    refutations,
    sensitivity,
    weighting,
)
from models.causal.estimate import BoolArray, Estimate, FloatArray, IntArray

if TYPE_CHECKING:
    import duckdb

CODE_VERSION = "2"

# Fewer in a group than this, and nothing is estimated there: an interval would promise too much.
LEAST_PER_GROUP = 25
LEAST_USERS = 20
ALL_FORMS = "all"
RAW, EXACT, MATCHING, WEIGHTING = "raw difference", "exact strata", "matching", "weighting"
AIPW, AIPW_TREES, DML = "doubly robust", "doubly robust, trees", "partially linear"
ATE, ATT = "all", "shown"


@dataclass(frozen=True)
class Outcome:
    """``is_rate``: 0 or 1, so that the mean is a rate. ``caution``: what an effect on it is not."""

    name: str
    is_rate: bool = False
    caution: str = ""


OUTCOMES = (
    Outcome("n_clicks"),
    Outcome("n_impressions"),
    Outcome("browsing_depth"),
    Outcome("request_click_rate"),
    Outcome("is_abandoned", is_rate=True),
    Outcome("has_engagement", is_rate=True),
    Outcome("clicked_dwell_s"),
    Outcome("has_next_in_session", is_rate=True),
    Outcome("has_next_in_3_hours", is_rate=True, caution="only where 3 hours of the log are left"),
    Outcome("first_click_position", caution="only requests with a click, which answers change"),
)
HEADLINE = "n_clicks"
# Of the user's request before, which no later answer can change.
PLACEBO_OUTCOME = "previous_n_clicks"
OF_PLACEBO = ("previous_n_clicks", "n_clicks_before")

EFFECTS = pa.schema(
    [
        ("outcome", pa.string()),
        ("estimator", pa.string()),
        ("effect_on", pa.string()),
        ("query_form", pa.string()),
        ("estimate", pa.float64()),
        ("standard_error", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("mean_hidden", pa.float64()),
        ("e_value", pa.float64()),
        ("e_value_of_interval", pa.float64()),
        ("robustness_value", pa.float64()),
        ("robustness_value_of_interval", pa.float64()),
        ("n_shown", pa.int64()),
        ("n_hidden", pa.int64()),
        ("n_users", pa.int64()),
        ("caution", pa.string()),
    ]
)
BALANCE = pa.schema(
    [
        ("covariate", pa.string()),
        ("mean_shown", pa.float64()),
        ("mean_hidden", pa.float64()),
        ("difference_before", pa.float64()),
        ("difference_weighted", pa.float64()),
        ("difference_matched", pa.float64()),
    ]
)
OVERLAP = pa.schema(
    [
        ("bin", pa.int64()),
        ("propensity_from", pa.float64()),
        ("propensity_to", pa.float64()),
        ("n_shown", pa.int64()),
        ("n_hidden", pa.int64()),
        ("mean_propensity", pa.float64()),
        ("shown_share", pa.float64()),
    ]
)
REFUTATIONS = pa.schema(
    [
        ("outcome", pa.string()),
        ("refutation", pa.string()),
        ("expected", pa.float64()),
        ("estimate", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("n_requests", pa.int64()),
        ("n_draws", pa.int64()),
        ("is_as_expected", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class Study:
    """The requests of the answer sample as arrays, one row a request.

    ``covariates_NP`` were known before; ``outcomes`` hold NaN where an outcome is not known;
    ``stratum_N`` numbers combinations of form, length and source of the query.
    """

    names: tuple[str, ...]
    covariates_NP: FloatArray
    is_shown_N: BoolArray
    user_N: IntArray
    form_N: "np.ndarray[Any, np.dtype[np.str_]]"
    stratum_N: IntArray
    outcomes: dict[str, FloatArray]

    def __len__(self) -> int:
        return len(self.is_shown_N)

    @property
    def can_be_estimated(self) -> bool:
        """Enough requests with and without an answer, of enough users."""
        n_shown = int(self.is_shown_N.sum())
        return (
            min(n_shown, len(self) - n_shown) >= LEAST_PER_GROUP
            and len(np.unique(self.user_N)) >= LEAST_USERS
        )

    def take(self, rows_N: BoolArray) -> "Study":
        """The requests of these rows."""
        return replace(
            self,
            covariates_NP=self.covariates_NP[rows_N],
            is_shown_N=self.is_shown_N[rows_N],
            user_N=self.user_N[rows_N],
            form_N=self.form_N[rows_N],
            stratum_N=self.stratum_N[rows_N],
            outcomes={name: values_N[rows_N] for name, values_N in self.outcomes.items()},
        )

    def without(self, covariates: tuple[str, ...]) -> "Study":
        """Without these covariates and what is made from them."""
        kept = [i for i, name in enumerate(self.names) if name.partition(":")[0] not in covariates]
        return replace(
            self,
            names=tuple(self.names[i] for i in kept),
            covariates_NP=self.covariates_NP[:, kept],
        )


# ---------------------------------------------------------------------------------------------
# Reading


COUNTS = (
    *("n_history", "n_requests_before", "n_searches_before", "n_clicks_before"),
    *("previous_n_clicks", "previous_gap_s", "fans_num", "follows_num"),
)
NUMBERS = ("query_length", "first_video_share", "first_commercial_share", "session_n")
KINDS = (
    *("query_form", "query_source_name", "query_length_bin", "topic", "previous_channel"),
    *("gender", "platform", "age"),
)
N_DENSE = 40
# Directions of the anonymous user features that are kept, and pairs of characters of the queries.
N_USER_DIRECTIONS = 5
MOST_PAIRS = 200
# What a query asks for decides on answers more than all else known of it; at this size a penalty
# shrinks what is learnt of its form and length to a ninth of what it takes from other columns.
QUERY_SIZE = 3.0
# A kind or a pair of characters in fewer requests than this share, or this many, is not told apart.
RARE_SHARE, RARE = 0.01, 10


def read_study(connection: "duckdb.DuckDBPyConnection") -> Study:
    """The requests of core.answer_requests that returned something, with their users' features."""
    import polars as pl

    dense = [f"dense_feat{n}" for n in range(1, N_DENSE + 1)]
    table = connection.sql(
        f"""
        select a.*, least(greatest(coalesce(a.query_length, 3), 3), 14) as query_length_bin,
            {", ".join(f"u.{name}" for name in dense)}
        from core.answer_requests as a left join core.users as u using (user_idx)
        where a.n_impressions > 0 order by a.request_id
        """
    ).pl()

    def floats(name: str) -> FloatArray:
        column = table[name].cast(pl.Float64).to_numpy()
        return np.array(column, dtype=np.float64)

    columns: dict[str, FloatArray] = {}
    for name in (*NUMBERS, *COUNTS):
        values_N = floats(name)
        if name in COUNTS:
            values_N = np.log1p(np.maximum(values_N, 0.0))
        is_known_N = np.isfinite(values_N)
        if 0 < is_known_N.sum() < len(values_N):
            columns[f"{name}: unknown"] = (~is_known_N).astype(np.float64)
        columns[name] = _standardised(values_N, is_known_N)
    hour_N = 2 * np.pi * floats("hour_of_day") / 24
    for name, values_N in (("sine", np.sin(hour_N)), ("cosine", np.cos(hour_N))):
        columns[f"hour_of_day: {name}"] = np.nan_to_num(values_N)
    rare = max(RARE, round(RARE_SHARE * len(table)))
    for name in KINDS:
        values = table[name].cast(pl.String).fill_null("unknown").to_list()
        columns |= _kinds(name, values, rare)
    columns = {
        name: values_N * (QUERY_SIZE if name.startswith("query_") else 1.0)
        for name, values_N in columns.items()
    }
    columns |= _pairs(table["query"].fill_null("").to_list(), rare)
    columns |= _directions(np.column_stack([floats(name) for name in dense]))
    form = table["query_form"].to_list()
    strata = table.select("query_form", "query_length_bin", "query_source_name").with_columns(
        pl.all().cast(pl.String).fill_null("unknown")
    )
    _, stratum_N = np.unique(["|".join(row) for row in strata.rows()], return_inverse=True)
    names = sorted(columns)
    return Study(
        names=tuple(names),
        covariates_NP=np.column_stack([columns[name] for name in names]),
        is_shown_N=table["is_shown"].to_numpy().astype(bool),
        user_N=table["user_idx"].to_numpy(),
        form_N=np.array(form, dtype=str),
        stratum_N=stratum_N.astype(np.int64),
        outcomes={
            **{outcome.name: floats(outcome.name) for outcome in OUTCOMES},
            PLACEBO_OUTCOME: floats(PLACEBO_OUTCOME),
        },
    )


def _standardised(values_N: FloatArray, is_known_N: BoolArray) -> FloatArray:
    """Mean 0 and standard deviation 1; 0 where not known, or where all are equal."""
    if not is_known_N.any():
        return np.zeros(len(values_N))
    known = values_N[is_known_N]
    spread = float(known.std()) or 1.0
    return np.where(is_known_N, (values_N - known.mean()) / spread, 0.0)


def _kinds(name: str, values: list[str], rare: int) -> dict[str, FloatArray]:
    """A column for each value that is not rare, but for the commonest."""
    found, count = np.unique(values, return_counts=True)
    kept = [str(value) for value in found[np.argsort(-count, kind="stable")] if value]
    counts = dict(zip(found.tolist(), count.tolist(), strict=True))
    return {
        f"{name}: {value}": (np.array(values) == value).astype(np.float64)
        for value in kept[1:]
        if counts[value] >= rare
    }


def _pairs(queries: list[str], rare: int) -> dict[str, FloatArray]:
    """Whether a query holds a pair of characters, for the commonest pairs."""
    rows: dict[str, list[int]] = {}
    for row, query in enumerate(queries):
        for pair in {query[i : i + 2] for i in range(len(query) - 1)}:
            rows.setdefault(pair, []).append(row)
    common = sorted((p for p in rows if len(rows[p]) >= rare), key=lambda p: (-len(rows[p]), p))
    columns = {}
    for pair in common[:MOST_PAIRS]:
        has_N = np.zeros(len(queries))
        has_N[rows[pair]] = 1.0
        columns[f"query holds: {pair}"] = has_N
    return columns


def _directions(features_NK: FloatArray) -> dict[str, FloatArray]:
    """The directions in which users' anonymous features vary most."""
    standard_NK = np.column_stack(
        [_standardised(values_N, np.isfinite(values_N)) for values_N in features_NK.T]
    )
    left_NK, size_K, _ = np.linalg.svd(standard_NK, full_matrices=False)
    kept = [k for k in range(min(N_USER_DIRECTIONS, len(size_K))) if size_K[k] > 1e-9]
    return {
        f"user features: direction {k + 1}": left_NK[:, k] * np.sqrt(len(features_NK)) for k in kept
    }


# ---------------------------------------------------------------------------------------------
# Effects


def estimated(study: Study, outcome: str, family: nuisance.Family = "linear") -> Estimate:
    """The doubly robust effect over all requests in which the outcome is known.

    Raises ValueError when too few of them are with or without an answer.
    """
    outcome_N = study.outcomes[outcome]
    known = study.take(np.isfinite(outcome_N))
    y_N = known.outcomes[outcome]
    fitted = nuisance.cross_fit(
        known.covariates_NP, known.is_shown_N, y_N[:, None], known.user_N, family=family
    )
    return doubly_robust.effect(
        y_N,
        known.is_shown_N,
        fitted.propensity_N,
        fitted.treated_NM[:, 0],
        fitted.untreated_NM[:, 0],
        known.user_N,
    )


def answer_effects(study: Study, outcomes: Sequence[Outcome] = OUTCOMES) -> pa.Table:
    """A row per outcome, estimator, whose effect and form of query, see EFFECTS.

    Forms of query have the doubly robust estimate alone. None where there are fewer than
    LEAST_PER_GROUP requests with or without an answer, or fewer than LEAST_USERS users.
    """
    rows: list[dict[str, Any]] = []
    for outcome in outcomes:
        known = study.take(np.isfinite(study.outcomes[outcome.name]))
        if known.can_be_estimated:
            rows += _effects_of(known, outcome)
    return pa.Table.from_pylist(rows, schema=EFFECTS)


def _effects_of(study: Study, outcome: Outcome) -> list[dict[str, Any]]:
    y_N, shown_N, user_N = study.outcomes[outcome.name], study.is_shown_N, study.user_N
    fitted = nuisance.cross_fit(study.covariates_NP, shown_N, y_N[:, None], user_N)
    treated_N, untreated_N = fitted.treated_NM[:, 0], fitted.untreated_NM[:, 0]
    p_N = fitted.propensity_N
    expected_N = p_N * treated_N + (1 - p_N) * untreated_N
    linear = doubly_robust.partially_linear(y_N, shown_N, expected_N, p_N, user_N)
    matches = matching.match(shown_N, p_N)
    found: list[tuple[str, str, Estimate]] = [
        (RAW, ATE, estimate.difference_of_means(y_N, shown_N, user_N)),
        (WEIGHTING, ATE, weighting.effect(y_N, shown_N, p_N, user_N, on_treated=False)),
        (WEIGHTING, ATT, weighting.effect(y_N, shown_N, p_N, user_N, on_treated=True)),
        (AIPW, ATE, doubly_robust.effect(y_N, shown_N, p_N, treated_N, untreated_N, user_N)),
        (AIPW, ATT, doubly_robust.effect_on_treated(y_N, shown_N, p_N, untreated_N, user_N)),
        (DML, ATE, linear.estimate),
    ]
    if outcome.name == HEADLINE:
        found.append((AIPW_TREES, ATE, estimated(study, HEADLINE, "trees")))
    if _has_both_in_a_stratum(study):
        found.append((EXACT, ATE, matching.exact(y_N, shown_N, study.stratum_N, user_N)))
    if matches.weight_N[shown_N].any():
        found.append((MATCHING, ATT, matching.effect_on_treated(y_N, shown_N, matches, user_N)))
    rows = [_row(study, outcome, *one, ALL_FORMS, linear.degrees_of_freedom) for one in found]
    for form in np.unique(study.form_N).tolist():
        of_form_N = study.form_N == form
        part = study.take(of_form_N)
        if part.can_be_estimated:
            effect = doubly_robust.effect(
                y_N, shown_N, p_N, treated_N, untreated_N, user_N, among_N=of_form_N
            )
            freedom = max(len(np.unique(part.user_N)) - 2, 1)
            rows.append(_row(part, outcome, AIPW, ATE, effect, form, freedom))
            raw = estimate.difference_of_means(
                part.outcomes[outcome.name], part.is_shown_N, part.user_N
            )
            rows.append(_row(part, outcome, RAW, ATE, raw, form, freedom))
    return rows


def _has_both_in_a_stratum(study: Study) -> bool:
    shown = set(study.stratum_N[study.is_shown_N].tolist())
    return not shown.isdisjoint(study.stratum_N[~study.is_shown_N].tolist())


def _row(
    study: Study,
    outcome: Outcome,
    estimator: str,
    effect_on: str,
    effect: Estimate,
    form: str,
    degrees_of_freedom: int,
) -> dict[str, Any]:
    y_N, shown_N = study.outcomes[outcome.name], study.is_shown_N
    base = float(y_N[~shown_N].mean())
    # What could explain the raw difference is no question; it is not taken for an effect.
    is_adjusted = estimator != RAW
    e_values = sensitivity.e_values(
        effect, float(y_N[~shown_N].std()), base if outcome.is_rate else None
    )
    robust = [
        sensitivity.robustness_value(effect, degrees_of_freedom, at_95=at_95)
        for at_95 in (False, True)
    ]
    return {
        "outcome": outcome.name,
        "estimator": estimator,
        "effect_on": effect_on,
        "query_form": form,
        "estimate": effect.value,
        "standard_error": _number(effect.standard_error),
        "low": _number(effect.low),
        "high": _number(effect.high),
        "mean_hidden": base,
        "e_value": _number(e_values[0]) if is_adjusted else None,
        "e_value_of_interval": _number(e_values[1]) if is_adjusted else None,
        "robustness_value": _number(robust[0]) if is_adjusted else None,
        "robustness_value_of_interval": _number(robust[1]) if is_adjusted else None,
        "n_shown": int(shown_N.sum()),
        "n_hidden": int((~shown_N).sum()),
        "n_users": len(np.unique(study.user_N)),
        "caution": outcome.caution,
    }


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None


# ---------------------------------------------------------------------------------------------
# What the effects rest on


def answer_balance(study: Study) -> pa.Table:
    """A row per covariate, see BALANCE: standardised differences before and after. None where
    nothing can be estimated."""
    if not study.can_be_estimated:
        return BALANCE.empty_table()
    propensity_N = _propensities(study)
    shown_N, x_NP = study.is_shown_N, study.covariates_NP
    weights = {
        "difference_before": None,
        "difference_weighted": weighting.weights(shown_N, propensity_N, on_treated=False),
        "difference_matched": matching.match(shown_N, propensity_N).weight_N,
    }
    shown_P, hidden_P = balance.group_means(x_NP, shown_N)
    columns: dict[str, Any] = {
        "covariate": list(study.names),
        "mean_shown": shown_P,
        "mean_hidden": hidden_P,
    }
    for name, weight_N in weights.items():
        if weight_N is not None and not (weight_N[shown_N].any() and weight_N[~shown_N].any()):
            columns[name] = [None] * len(study.names)
        else:
            columns[name] = balance.standardised_differences(x_NP, shown_N, weight_N)
    return pa.table(columns, schema=BALANCE)


def answer_overlap(study: Study) -> pa.Table:
    """A row per tenth of the range of propensities, see OVERLAP; none where nothing can be
    estimated."""
    if not study.can_be_estimated:
        return OVERLAP.empty_table()
    rows = [
        {
            "bin": number,
            "propensity_from": found.low,
            "propensity_to": found.high,
            "n_shown": found.n_treated,
            "n_hidden": found.n_untreated,
            "mean_propensity": _number(found.mean_propensity),
            "shown_share": found.n_treated / n
            if (n := found.n_treated + found.n_untreated)
            else None,
        }
        for number, found in enumerate(
            balance.overlap(_propensities(study), study.is_shown_N), start=1
        )
    ]
    return pa.Table.from_pylist(rows, schema=OVERLAP)


def answer_refutations(study: Study, n_draws: int = refutations.N_DRAWS) -> pa.Table:
    """A row per outcome and refutation of its doubly robust effect, see REFUTATIONS; none where
    nothing can be estimated."""
    if not study.can_be_estimated:
        return REFUTATIONS.empty_table()
    outcome_N = study.outcomes[HEADLINE]
    known = study.take(np.isfinite(outcome_N))
    original = estimated(known, HEADLINE)

    def with_covariate(values_N: FloatArray) -> Estimate:
        more = np.column_stack([known.covariates_NP, values_N])
        return estimated(replace(known, covariates_NP=more), HEADLINE)

    found = [
        (
            HEADLINE,
            refutations.placebo_treatment(
                lambda dealt_N: estimated(replace(known, is_shown_N=dealt_N), HEADLINE),
                known.is_shown_N,
                n_draws,
            ),
        ),
        (HEADLINE, refutations.random_common_cause(with_covariate, len(known), original)),
        (
            HEADLINE,
            refutations.subsets(
                lambda kept_N: estimated(known.take(kept_N), HEADLINE),
                known.user_N,
                original,
                n_draws,
            ),
        ),
    ]
    before = study.without(OF_PLACEBO)
    before = before.take(np.isfinite(before.outcomes[PLACEBO_OUTCOME]))
    if before.can_be_estimated:
        effect = estimated(before, PLACEBO_OUTCOME)
        found.append((PLACEBO_OUTCOME, refutations.placebo_outcome(effect, len(before))))
    return pa.Table.from_pylist(
        [
            {
                "outcome": outcome,
                "refutation": one.name,
                "expected": one.expected,
                "estimate": one.estimate,
                "low": _number(one.low),
                "high": _number(one.high),
                "n_requests": one.n_units,
                "n_draws": one.n_draws,
                "is_as_expected": one.is_as_expected,
            }
            for outcome, one in found
        ],
        schema=REFUTATIONS,
    )


def _propensities(study: Study) -> FloatArray:
    return nuisance.cross_fit(
        study.covariates_NP, study.is_shown_N, np.zeros((len(study), 1)), study.user_N
    ).propensity_N
