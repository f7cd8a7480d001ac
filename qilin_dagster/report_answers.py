"""What a direct answer changes, as a section for somebody who decides about the module."""

from __future__ import annotations

from models.causal.balance import GOOD_BALANCE
from qilin_dagster.answer_effect import (
    AIPW,
    ALL_FORMS,
    ATE,
    ATT,
    HEADLINE,
    LEAST_PER_GROUP,
    RAW,
)
from qilin_dagster.report_blocks import (
    NOTHING,
    Block,
    Bullets,
    Cell,
    Chart,
    Column,
    Heading,
    Numbers,
    Row,
    Section,
    Table,
    Text,
    count,
    interval,
    is_number,
    missing,
    number,
    percent,
    signed,
)
from qilin_dagster.report_charts import effects_chart

TITLE = "What an answer changes"
FOUNDATIONS = ("balance", "overlap", "refutations")
OUTCOME_LABELS = {
    "n_clicks": "Clicks",
    "n_impressions": "Notes returned",
    "browsing_depth": "Browsing depth",
    "request_click_rate": "Click rate of the request",
    "is_abandoned": "Left without a click",
    "has_engagement": "A like, collect, comment or share",
    "clicked_dwell_s": "Seconds in clicked notes",
    "has_next_in_session": "Asked again in the session",
    "has_next_in_3_hours": "Asked again within 3 hours",
    "first_click_position": "First clicked position",
    "previous_n_clicks": "Clicks of the request before",
}
IN_PERCENT = (
    *("is_abandoned", "has_engagement", "has_next_in_session", "has_next_in_3_hours"),
    "request_click_rate",
)
REFUTATION_LABELS = {
    "placebo treatment": "Answers dealt out by chance",
    "placebo outcome": "An outcome from before the answer",
    "random common cause": "A made-up cause more",
    "subset of users": "Four fifths of the users",
}
EFFECT_ON = {ATE: "all searches", ATT: "searches shown one"}
LIMITS = (
    "Users. The answer sample was drawn from people who engaged with an answer that day. People "
    "who ignore answers are hardly in it, so this is not the effect on users of the app, and what "
    "an answer does may look better or worse than it is. No adjustment repairs that.",
    "What was not logged. Two searches with the same words, user and past may still differ in "
    "what the app knew of them. The last columns of the first table say how strong such a cause "
    "would have to be.",
    "Good or bad. A search that ends without a click may have been answered. Clicks are what the "
    "log holds; whether people found what they wanted is not in it.",
    "Reach. One day, one version of the module, and only queries for which it was considered.",
)


def effect_section(numbers: Numbers) -> Section:
    """The effect on each outcome beside the raw difference, and what both rest on."""
    effects = numbers["evaluation.answer_effects"]
    if not effects.rows:
        blocks: list[Block] = [missing(effects)]
        if effects.is_built:
            blocks.append(
                Text(
                    f"An effect is estimated from {LEAST_PER_GROUP} searches with an answer and as "
                    "many without; this log has fewer."
                )
            )
        blocks += [missing(numbers[f"evaluation.answer_{name}"]) for name in FOUNDATIONS]
        return Section("answer-effect", TITLE, tuple(blocks))
    rows = list(effects.rows)
    blocks = [
        Text(effect_sentence(rows)),
        Text(
            "Answers go to other queries than the rest, so searches with and without one differ "
            "anyway. The estimates below compare searches that are alike in query, user, time "
            "and past, and take away what these explain. Each stands beside the raw difference."
        ),
        _outcomes(rows),
        *_by_estimator(rows),
        *_by_form(rows),
        Heading("How sure", "answer-effect-sure"),
        *_foundations(numbers),
        Heading("What it does not say", "answer-effect-limits"),
        Bullets(LIMITS),
    ]
    return Section("answer-effect", TITLE, tuple(blocks))


def effect_sentence(rows: list[Row]) -> str:
    """What answers do to clicks, no stronger than its interval, beside the raw difference."""
    adjusted = _row(rows, HEADLINE, AIPW, ATE)
    raw = _row(rows, HEADLINE, RAW, ATE)
    if adjusted is None or raw is None:
        return "No effect on clicks could be estimated."
    value, base = adjusted["estimate"], adjusted["mean_hidden"]
    change = f", {percent(abs(value) / base, 0)} of the {number(base)} without one" if base else ""
    limits = interval(adjusted["low"], adjusted["high"])
    verdict = "these searches do not show that answers change clicks"
    if _leaves_out_zero(adjusted):
        verdict = "an answer costs clicks" if value < 0 else "an answer brings clicks"
    return (
        f"Showing a direct answer changes the clicks of a search by {signed(number(value))}"
        f"{change} (95% interval {limits}): {verdict}. "
        f"The raw difference is {signed(number(raw['estimate']))} "
        f"({interval(raw['low'], raw['high'])}); besides an effect it holds whatever else sets the "
        "queries apart that answers go to."
    )


def _leaves_out_zero(row: Row) -> bool:
    return is_number(row["low"]) and not row["low"] <= 0 <= row["high"]


def _row(rows: list[Row], outcome: str, estimator: str, on: str) -> Row | None:
    key = (outcome, estimator, on, ALL_FORMS)
    for row in rows:
        if (row["outcome"], row["estimator"], row["effect_on"], row["query_form"]) == key:
            return row
    return None


def _value(outcome: str, value: object) -> str:
    """In the outcome's unit: points of percent, or a number."""
    if not is_number(value):
        return NOTHING
    if outcome in IN_PERCENT:
        return f"{number(100 * float(value), 1)}"  # type: ignore[arg-type]
    return number(value)


def _unit(outcome: str) -> str:
    return "percentage points" if outcome in IN_PERCENT else ""


def _effect(row: Row | None) -> Cell:
    if row is None:
        return Cell(NOTHING)
    outcome = row["outcome"]
    limits = (
        f"{_value(outcome, row['low'])} to {_value(outcome, row['high'])}"
        if is_number(row["low"])
        else ""
    )
    tone = "model" if row["estimator"] != RAW and _leaves_out_zero(row) else ""
    return Cell(signed(_value(outcome, row["estimate"])), detail=limits, tone=tone)


def _outcomes(rows: list[Row]) -> Table:
    body = []
    for outcome, label in OUTCOME_LABELS.items():
        adjusted = _row(rows, outcome, AIPW, ATE)
        if adjusted is None:
            continue
        unit = "; ".join(part for part in (_unit(outcome), adjusted["caution"]) if part)
        e_value = number(adjusted["e_value_of_interval"])
        body.append(
            (
                Cell(label, detail=unit),
                Cell(_value(outcome, adjusted["mean_hidden"])),
                Cell(_effect(_row(rows, outcome, RAW, ATE)).text, tone="muted"),
                _effect(adjusted),
                _effect(_row(rows, outcome, AIPW, ATT)),
                Cell(e_value),
                Cell(percent(adjusted["robustness_value_of_interval"])),
            )
        )
    columns = (
        Column("After the search", is_number=False),
        Column("Without an answer"),
        Column("Raw difference"),
        Column("on all searches", group="Effect of showing one"),
        Column("on those shown one", group="Effect of showing one"),
        Column("as a risk ratio", group="To explain it away"),
        Column("as a share", group="To explain it away"),
    )
    return Table(
        "table-answer-effects",
        "Effects (doubly robust), with 95% intervals over users in small figures; bold where the "
        "interval leaves out 0. To explain it away, a cause that was not logged would have to go "
        "with both showing and outcome at least this strongly: a risk ratio of 1 or a share of 0% "
        "means that nothing is needed, for the interval holds 0 already.",
        columns,
        tuple(body),
    )


def _by_estimator(rows: list[Row]) -> list[Block]:
    shown = [row for row in rows if row["outcome"] == HEADLINE and row["query_form"] == ALL_FORMS]
    points = [
        {
            "estimator": f"{row['estimator']}, on {EFFECT_ON[row['effect_on']]}"
            if row["estimator"] != RAW
            else RAW,
            "kind": "raw" if row["estimator"] == RAW else "adjusted",
            "value": float(row["estimate"]),
            "low": float(row["low"]),
            "high": float(row["high"]),
        }
        for row in sorted(shown, key=lambda row: row["estimator"] != RAW)
        if is_number(row["low"])
    ]
    if not points:
        return []
    description = "; ".join(
        f"{p['estimator']} {number(p['value'])} ({interval(p['low'], p['high'])})" for p in points
    )
    return [
        Chart(
            "chart-answer-effects",
            "Effect on clicks by estimator, with 95% intervals. They adjust in different ways; "
            "where they disagree, the answer hangs on the way and not on the data.",
            f"Effect of an answer on clicks: {description}.",
            effects_chart(points),
        )
    ]


def _by_form(rows: list[Row]) -> list[Block]:
    forms = [
        row
        for row in rows
        if row["outcome"] == HEADLINE
        and row["estimator"] == AIPW
        and row["query_form"] != ALL_FORMS
    ]
    if not forms:
        return []
    raw = {
        row["query_form"]: row
        for row in rows
        if row["outcome"] == HEADLINE and row["estimator"] == RAW
    }
    body = tuple(
        (
            Cell(row["query_form"]),
            Cell(count(row["n_shown"])),
            Cell(count(row["n_hidden"])),
            Cell(number(row["mean_hidden"])),
            Cell(_effect(raw.get(row["query_form"])).text, tone="muted"),
            _effect(row),
        )
        for row in sorted(forms, key=lambda row: row["estimate"])
    )
    columns = (
        Column("The query asks", is_number=False),
        Column("With answer"),
        Column("Without"),
        Column("Clicks without"),
        Column("Raw difference"),
        Column("Effect on clicks"),
    )
    return [
        Table(
            "table-answer-forms",
            "Effect on clicks by form of the query, told by its words of asking. Forms were not "
            "chosen by their results, but there are several: one may differ by chance.",
            columns,
            body,
        )
    ]


def _foundations(numbers: Numbers) -> list[Block]:
    blocks: list[Block] = []
    balance, overlap = numbers["evaluation.answer_balance"], numbers["evaluation.answer_overlap"]
    refutations = numbers["evaluation.answer_refutations"]
    blocks.append(Text(_balance_sentence(list(balance.rows))) if balance.rows else missing(balance))
    if balance.rows:
        blocks.append(_balance_table(list(balance.rows)))
    if overlap.rows:
        blocks += [Text(_overlap_sentence(list(overlap.rows))), _overlap_table(list(overlap.rows))]
    else:
        blocks.append(missing(overlap))
    blocks.append(
        _refutation_table(list(refutations.rows)) if refutations.rows else missing(refutations)
    )
    return blocks


def _balance_sentence(rows: list[Row]) -> str:
    def unbalanced(column: str) -> str:
        values = [abs(row[column]) for row in rows if is_number(row[column])]
        return f"{sum(value > GOOD_BALANCE for value in values)} of {count(len(rows))}"

    return (
        f"Of the things known before, {unbalanced('difference_before')} differ by more than "
        f"{GOOD_BALANCE} standard deviations between searches with and without an answer; after "
        f"weighting {unbalanced('difference_weighted')}, after matching "
        f"{unbalanced('difference_matched')}."
    )


def _balance_table(rows: list[Row]) -> Table:
    worst = sorted(rows, key=lambda row: -abs(row["difference_before"]))[:15]
    return Table(
        "table-answer-balance",
        "The 15 that differ most, in standard deviations.",
        (
            Column("Known before", is_number=False),
            Column("As they are"),
            Column("Weighted"),
            Column("Matched"),
        ),
        tuple(
            (
                Cell(row["covariate"].replace("_", " ")),
                *(
                    Cell(signed(number(row[f"difference_{name}"])))
                    for name in ("before", "weighted", "matched")
                ),
            )
            for row in worst
        ),
        folded="What differed most before",
    )


def _overlap_sentence(rows: list[Row]) -> str:
    total = sum(row["n_shown"] + row["n_hidden"] for row in rows)
    lonely = sum(
        row["n_shown"] + row["n_hidden"] for row in rows if not (row["n_shown"] and row["n_hidden"])
    )
    return (
        "Comparing needs searches of both kinds with a like chance of an answer. "
        f"{percent(1 - lonely / total if total else None)} of the searches have the other kind "
        "beside them in their tenth of the chances."
    )


def _overlap_table(rows: list[Row]) -> Table:
    most = max(row["n_shown"] + row["n_hidden"] for row in rows) or 1
    return Table(
        "table-answer-overlap",
        "Searches by their chance of being shown an answer, as foretold from what was known "
        "before, and the share that was shown one.",
        (
            Column("Foretold chance", is_number=False),
            Column("Searches", is_number=False),
            Column("With answer"),
            Column("Without"),
            Column("Shown"),
        ),
        tuple(
            (
                Cell(f"{percent(row['propensity_from'], 0)} to {percent(row['propensity_to'], 0)}"),
                Cell(
                    count(row["n_shown"] + row["n_hidden"]),
                    bar=(row["n_shown"] + row["n_hidden"]) / most,
                ),
                Cell(count(row["n_shown"])),
                Cell(count(row["n_hidden"])),
                Cell(percent(row["shown_share"], 0)),
            )
            for row in rows
        ),
        folded="Chances of an answer",
    )


def _refutation_table(rows: list[Row]) -> Table:
    return Table(
        "table-answer-refutations",
        "Attempts to prove the estimate wrong. Passing is no proof that it is right.",
        (
            Column("Attempt", is_number=False),
            Column("Expected"),
            Column("Found"),
            Column("Passed", is_number=False),
        ),
        tuple(
            (
                Cell(
                    REFUTATION_LABELS[row["refutation"]],
                    detail=OUTCOME_LABELS[row["outcome"]],
                ),
                Cell(signed(number(row["expected"]))),
                Cell(
                    signed(number(row["estimate"])),
                    detail=f"{number(row['low'])} to {number(row['high'])}"
                    if is_number(row["low"])
                    else "",
                ),
                Cell(
                    "yes" if row["is_as_expected"] else "no",
                    tone="" if row["is_as_expected"] else "warned",
                ),
            )
            for row in rows
        ),
    )
