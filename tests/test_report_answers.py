"""What the report says of answers is no stronger than its intervals."""

import pytest

from qilin_dagster.report_answer_texts import answers_section, context_sentence
from qilin_dagster.report_answers import effect_section, effect_sentence
from qilin_dagster.report_blocks import Relation, Row, Table, Text


def effect(estimator: str, estimate: float, half: float = 0.1, **changes: object) -> Row:
    values: Row = {
        "outcome": "n_clicks",
        "estimator": estimator,
        "effect_on": "all",
        "query_form": "all",
        "estimate": estimate,
        "low": estimate - half,
        "high": estimate + half,
        "mean_hidden": 2.5,
        "e_value_of_interval": 1.2,
        "robustness_value_of_interval": 0.03,
        "n_shown": 40,
        "n_hidden": 60,
        "caution": "",
    }
    return values | changes


@pytest.mark.parametrize(
    ("estimate", "said"),
    [
        (
            -0.25,
            "by −0.25, 10% of the 2.50 without one (95% interval −0.350 to −0.150): an answer ",
        ),
        (0.25, "an answer brings clicks"),
        (-0.05, "these searches do not show that answers change clicks"),
    ],
)
def test_the_effect_is_no_stronger_than_its_interval(estimate: float, said: str) -> None:
    rows = [effect("raw difference", -0.5), effect("doubly robust", estimate)]
    sentence = effect_sentence(rows)
    assert said in sentence
    assert "The raw difference is −0.50 (−0.600 to −0.400)" in sentence


def numbers(**rows: tuple[Row, ...]) -> dict[str, Relation]:
    names = ("effects", "balance", "overlap", "refutations", "metrics", "feedback")
    return {
        f"evaluation.answer_{name}": Relation(
            f"evaluation.answer_{name}", rows.get(name, ()), "The table holds no rows."
        )
        for name in names
    }


def test_too_few_searches_are_said_to_be_too_few() -> None:
    section = effect_section(numbers())
    texts = [block.text for block in section.blocks if isinstance(block, Text)]
    assert texts[1].startswith("An effect is estimated from 25 searches with an answer")


def test_the_limits_of_the_sample_and_rates_in_points_are_on_the_page() -> None:
    rate = effect("doubly robust", 0.1, outcome="is_abandoned", mean_hidden=0.2, caution="if asked")
    rows = (effect("raw difference", -0.5), effect("doubly robust", -0.2), rate)
    section = effect_section(numbers(effects=rows))
    (table,) = [block for block in section.blocks if isinstance(block, Table)]
    clicks, abandoned = table.rows
    assert clicks[3].text == "−0.20"
    assert [abandoned[0].detail, abandoned[1].text, abandoned[3].text] == [
        "percentage points; if asked",
        "20.0",
        "+10.0",
    ]
    said = str(section.blocks)
    assert "drawn from people who engaged with an answer" in said


def score(context: str, value: float, half: float = 0.02) -> Row:
    return {
        "context": context,
        "metric": "rouge_l_characters",
        "generator": "extractive",
        "how": "letters",
        "value": value,
        "low": value - half,
        "high": value + half,
        "n_requests": 40,
        "n_without_answer": 2,
    }


def test_contexts_are_told_apart_only_by_their_intervals() -> None:
    apart = context_sentence([score("none", 0.17), score("referred notes", 0.42)])
    assert apart.endswith("the notes make answers nearer to the shown ones.")
    near = context_sentence([score("none", 0.17), score("referred notes", 0.19)])
    assert near.endswith("these answers do not tell them apart.")
    section = answers_section(numbers(metrics=(score("none", 0.17), score("referred notes", 0.42))))
    contexts, paper = [block for block in section.blocks if isinstance(block, Table)]
    assert contexts.rows[0][0].detail == "40 answers, 2 lacking"
    assert [cell.text for cell in paper.rows[0]][:5] == ["This log", "0.170", "–", "–", "0.420"]
    assert [cell.text for cell in paper.rows[3]][:5] == [
        "Qwen2.5-72B",
        "0.342",
        "0.396",
        "0.396",
        "0.436",
    ]
