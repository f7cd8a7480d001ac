"""What the report says of images: the files, one sentence, nothing stronger than its interval."""

import pytest

from qilin_dagster.image_worth import COVER_ON, OWN_COVER
from qilin_dagster.report_blocks import Bullets, Relation, Row, Table, Text
from qilin_dagster.report_images import images_section, worth_sentence


def row(task: str = "search", difference: float = 0.03, **changes: object) -> Row:
    values: Row = {
        "task": task,
        "comparison": COVER_ON,
        "slice": "all",
        "slice_value": "all",
        "metric": "mrr@10",
        "mean": 0.5 + difference,
        "mean_against": 0.5,
        "difference": difference,
        "low": difference - 0.02,
        "high": difference + 0.02,
        "p_value": 0.01,
        "p_holm": 0.02,
        "n_requests": 60,
    }
    return values | changes


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        (0.03, "+0.0300 (0.010 to 0.050: a gain) in search"),
        (0.01, "+0.0100 (−0.010 to 0.030: no difference to be seen) in search"),
        (-0.03, "−0.0300 (−0.050 to −0.010: a loss) in search"),
    ],
)
def test_the_sentence_is_no_stronger_than_the_interval(difference: float, said: str) -> None:
    assert worth_sentence([row(difference=difference)]) == (
        "On this data, seeing the cover changes the MRR@10 of the vision-language ranker by "
        f"{said}."
    )


def test_a_gain_from_any_cover_is_not_taken_for_one_from_what_it_shows() -> None:
    rows = [row("recommendation"), row("recommendation", -0.01, comparison=OWN_COVER)]
    assert worth_sentence(rows) == (
        "On this data, seeing the cover changes the MRR@10 of the vision-language ranker by "
        "+0.0300 (0.010 to 0.050: a gain) in recommendation; a note's own cover against the cover "
        "of another note is worth −0.0100 (−0.030 to 0.010: no difference to be seen) in "
        "recommendation."
    )


def test_both_tasks_stand_in_one_sentence() -> None:
    few = row("recommendation", low=None, high=None)
    sentence = worth_sentence([row(), row(slice="query source"), few])
    assert sentence.count(".") - sentence.count("0.") == 1
    assert sentence.endswith("and +0.0300 (too few users for an interval) in recommendation.")


def test_faulty_files_are_counted_and_kinds_of_request_folded_away() -> None:
    files = (
        {"is_readable": True, "reason": "", "n_images": 1200, "n_notes": 500},
        {"is_readable": False, "reason": "image is missing", "n_images": 3, "n_notes": 3},
    )
    rows = (row(), row(slice="query source", slice_value="typed", p_holm=None))
    section = images_section(
        {
            "core.images": Relation("core.images", files),
            "ablation.image_worth": Relation("ablation.image_worth", rows),
        }
    )
    texts = [block.text for block in section.blocks if isinstance(block, Text)]
    assert texts[0].startswith("1,200 of the 1,203 images")
    (faults,) = [block for block in section.blocks if isinstance(block, Bullets)]
    assert faults.items == ("image is missing: 3",)
    all_requests, kinds = [block for block in section.blocks if isinstance(block, Table)]
    assert not all_requests.folded
    assert kinds.folded
    assert kinds.rows[0][0].detail == "query source: typed"
