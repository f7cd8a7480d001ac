"""What stands under a leaderboard: each part from its own table, and none without it."""

from datetime import UTC, datetime
from typing import Any

from qilin_dagster.report_blocks import Block, Chart, Heading, Relation, Row, Table, Text
from qilin_dagster.report_runs import retrieval, under_the_leaderboard

NAMES = ("comparisons", "slices", "calibration", "examples", "retrieval", "history")


def blocks(task: str = "search", **tables: list[Row]) -> list[Block]:
    numbers = {
        f"evaluation.{name}": Relation(
            f"evaluation.{name}", tuple(tables.get(name, ())), "No rows."
        )
        for name in NAMES
    }
    return under_the_leaderboard(numbers, task)


def texts(found: list[Block]) -> list[str]:
    return [block.text for block in found if isinstance(block, Text) and block.tone != "missing"]


def only_table(found: list[Block]) -> list[list[str]]:
    (table,) = [block for block in found if isinstance(block, Table)]
    return [[cell.text for cell in row] for row in table.rows]


def pair(**changes: Any) -> Row:
    return {
        "task": "search",
        "metric": "mrr@10",
        "run_a": "dcn_v2",
        "run_b": "bm25",
        "kind_b": "model",
        "difference": 0.0312,
        "low": 0.01,
        "high": 0.05,
        "p_holm": 0.0002,
        "smallest_seen": 0.0123,
        "is_resolvable": True,
        "n_requests": 619,
        **changes,
    }


def slice_of(**changes: Any) -> Row:
    return {
        "task": "search",
        "slice": "notes shown",
        "slice_value": " 1-10",
        "run": "bm25",
        "kind": "model",
        "metric": "mrr@10",
        "value": 0.5,
        "low": 0.4,
        "high": 0.6,
        "n_requests": 80,
        "n_users": 60,
        **changes,
    }


def example(**changes: Any) -> Row:
    return {
        "task": "search",
        "row_number": 7,
        "query": "上海 咖啡",
        "pid": 1,
        "note_title": "标题",
        "cover": None,
        "shown_rank": 2,
        "is_clicked": True,
        "run": "bm25",
        "score": 1.25,
        "rank": 1,
        **changes,
    }


def test_what_lacks_is_named_in_its_place() -> None:
    found = blocks(slices=[slice_of()])
    lacking = [block for block in found if isinstance(block, Text) and block.tone == "missing"]
    assert len(lacking) == 4, "history, comparisons, calibration, examples"
    assert [block.id for block in found if isinstance(block, Heading)] == [
        *("comparisons-search", "slices-search", "calibration-search", "examples-search")
    ]


def test_a_task_without_a_run_has_no_parts() -> None:
    found = blocks("recommendation", comparisons=[pair()], slices=[slice_of()])
    assert not [block for block in found if isinstance(block, Table)]


def test_pairs_are_told_apart_or_not() -> None:
    found = blocks(
        comparisons=[
            pair(),
            pair(run_b="random", kind_b="anchor", difference=-0.002, p_holm=0.4,
                 smallest_seen=0.0456, is_resolvable=False),
            pair(metric="map@10"),
            pair(task="recommendation"),
        ]
    )  # fmt: skip
    assert only_table(found) == [
        ["DCN-V2", "BM25", "+0.0312", "< 0.001", "yes"],
        ["DCN-V2", "Random order", "−0.0020", "0.400", "no"],
    ]
    (text,) = texts(found)
    assert text.startswith("1 of 2 pairs can be told apart by these 619 requests.")
    assert "a difference of 0.046 would be seen four times in five" in text


def test_slices_show_models_beside_chance_and_the_shown_order() -> None:
    found = blocks(
        slices=[
            slice_of(),
            slice_of(run="random", kind="anchor", value=0.45),
            slice_of(run="oracle", kind="anchor", value=1.0),
            slice_of(slice_value="11-20", low=None, high=None),
        ]
    )
    assert only_table(found) == [
        ["notes shown: 1-10", "0.500", "0.450"],
        ["notes shown: 11-20", "0.500", "–"],
    ]


def test_calibration_is_predicted_beside_clicked() -> None:
    tenths = [
        {
            "task": "search",
            "run": "dcn_v2",
            "bin": number,
            "predicted_share": 0.1 * number,
            "clicked_share": 0.05 * number,
            "low": 0.0,
            "high": 1.0,
            "n_candidates": 9,
        }
        for number in (2, 1)
    ]
    assert only_table(blocks(calibration=tenths)) == [
        ["1", "10.0%", "5.0%"],
        ["2", "20.0%", "10.0%"],
    ]


def test_an_example_stands_in_the_shown_order_with_each_runs_places() -> None:
    found = blocks(
        examples=[
            example(),
            example(pid=2, note_title=None, shown_rank=1, is_clicked=False, rank=2, score=-0.5),
            example(run="dcn_v2", rank=2),
            example(run="dcn_v2", pid=2, note_title=None, shown_rank=1, is_clicked=False, rank=1),
        ]
    )
    assert only_table(found) == [["–", "", "1", "2", "1"], ["标题", "clicked", "2", "1", "2"]]
    (table,) = [block for block in found if isinstance(block, Table)]
    assert "上海 咖啡" in table.caption


def test_many_looks_at_the_test_are_said() -> None:
    def look(number: int, data: str = "first") -> Row:
        return {
            "evaluation_n": number,
            "evaluated_at": datetime(2026, 11, number, tzinfo=UTC),
            "data_fingerprint": data,
            "task": "search",
            "run": "bm25",
            "kind": "model",
            "metric": "mrr@10",
            "value": 0.5 + 0.01 * number,
            "low": 0.4,
            "high": 0.6,
        }

    assert texts(blocks(history=[look(1)])) == []
    assert texts(blocks(history=[look(1, "other"), look(2)])) == []
    found = blocks(history=[look(1), look(1), look(2), look(3)])
    (note,) = texts(found)
    assert "looked at 3 times" in note
    (chart,) = [block for block in found if isinstance(block, Chart)]
    assert "BM25 0.530 at 3" in chart.description
    of_other = blocks("recommendation", history=[look(1), look(2)])
    assert not [block for block in of_other if isinstance(block, Chart)]


def test_search_among_all_notes_is_a_section_of_its_own() -> None:
    def found(metric: str, value: float) -> Row:
        return {
            "task": "search",
            "run": "bm25",
            "metric": metric,
            "value": value,
            "low": value - 0.1,
            "high": value + 0.1,
            "n_requests": 619,
            "n_notes": 198_394,
        }

    rows = (found("recall@500", 0.52), found("recall@100", 0.27))
    numbers = {"evaluation.retrieval": Relation("evaluation.retrieval", rows)}
    section = retrieval(numbers)
    assert only_table(list(section.blocks)) == [["BM25", "27.0%", "52.0%"]]
    assert "among all 198,394" in section.blocks[0].text
    nothing = {"evaluation.retrieval": Relation("evaluation.retrieval", (), "No rows.")}
    assert [block.tone for block in retrieval(nothing).blocks] == ["missing"]


def test_every_heading_has_its_task_in_its_anchor() -> None:
    for task in ("search", "recommendation"):
        found = blocks(task, comparisons=[pair(task=task)], slices=[slice_of(task=task)])
        ids = [block.id for block in found if isinstance(block, Heading | Table)]
        assert len(set(ids)) == len(ids) == 6
        assert all(task in name for name in ids)
