"""What the report says of the paper's numbers."""

from typing import Any

from qilin_dagster.report_paper import verdict


def row(is_within: bool | None, expectation: str = "as printed") -> dict[str, Any]:
    return {
        "paper_table": "Table 6",
        "measure": "click_rate",
        "cut": "S->R",
        "expectation": expectation,
        "is_within": is_within,
    }


def test_agreement_is_counted_and_the_rest_named() -> None:
    assert verdict((row(True), row(True))) == (
        "2 of 2 printed numbers are as close as expected (as printed)."
    )
    assert verdict((row(True), row(False), row(None, "not comparable"))) == (
        "1 of 2 printed numbers are as close as expected (as printed). 1 counts are of another "
        "size and are not judged. Not so close: Table 6: click rate of search → recommendation."
    )


def test_a_part_of_the_log_is_not_judged() -> None:
    assert "no difference below is judged" in verdict((row(None, "not comparable"),))
