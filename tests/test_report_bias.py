"""The bias lab of the report: every view of sql/bias has its place, values are shown by name."""

from qilin_dagster.report import BIAS_VIEWS
from qilin_dagster.report_bias import TOLD_ELSEWHERE, TOPICS, view_table
from qilin_dagster.report_blocks import Relation, Table, Text


def test_every_view_is_told_once() -> None:
    told = [*(name for names in TOPICS.values() for name in names), *TOLD_ELSEWHERE]
    assert sorted(f"bias.{name}" for name in told) == sorted(BIAS_VIEWS)


def test_values_are_shown_by_the_meaning_of_their_names() -> None:
    view = BIAS_VIEWS["bias.abandonment_by_answer_shown"]
    row = {
        "has_answer": True,
        "n_requests": 2932,
        "abandonment_rate": 0.25,
        "abandonment_rate_low": 0.2,
        "abandonment_rate_high": 0.3,
        "abandoned_depth_mean": 10.614,
    }
    table = view_table(view, Relation(view.qualified, (row,)))
    assert isinstance(table, Table)
    assert [(cell.text, cell.detail) for cell in table.rows[0]] == [
        ("yes", ""),
        ("2,932", ""),
        ("25.00%", "20.0 to 30.0%"),
        ("10.61", ""),
    ]


def test_a_table_too_long_for_a_page_says_how_to_ask() -> None:
    view = BIAS_VIEWS["bias.click_rate_by_stratum"]
    block = view_table(view, Relation(view.qualified, ({"n_clicks": 1},) * 61))
    assert isinstance(block, Text)
    assert 'qilin sql "from bias.click_rate_by_stratum limit 10"' in block.text
