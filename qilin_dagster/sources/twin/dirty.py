"""Bad rows with known reasons: what a reader must set aside while everything else flows on.

Bad rows are put at the end of their tables, so row numbers and label lists of the good rows stay as
they are. ``truth/bad_rows.parquet`` says which rows they are and why each must be quarantined.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from qilin_dagster.sources.twin.draws import stream

Row = dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """A way for a row to be unusable; ``spoil`` changes a good row into a bad one."""

    reason: str
    column: str
    spoil: Callable[[Row], None]


def _set(column: str, value: object) -> Callable[[Row], None]:
    def spoil(row: Row) -> None:
        row[column] = value

    return spoil


def _set_first(column: str, field: str, value: object) -> Callable[[Row], None]:
    def spoil(row: Row) -> None:
        row[column][0][field] = value

    return spoil


def _for_requests(details: str, key: str, time: str, is_whole: bool, unit: int) -> list[Fault]:
    """Faults of a request table; ``is_whole`` tables hold whole numbers, times are in 1/unit s."""
    faults = [
        Fault("no candidates: the list is empty", details, _set(details, [])),
        Fault("no candidates: the list is null", details, _set(details, None)),
        Fault("unknown user", "user_idx", _set("user_idx", 999_999_999)),
        Fault("negative user", "user_idx", _set("user_idx", -1)),
        Fault("unknown note", f"{details}.note_idx", _set_first(details, "note_idx", 999_999_999)),
        Fault("negative note", f"{details}.note_idx", _set_first(details, "note_idx", -5)),
        Fault("negative position", f"{details}.position", _set_first(details, "position", -3)),
        Fault("absurd position", f"{details}.position", _set_first(details, "position", 10**7)),
        Fault("click is neither 0 nor 1", f"{details}.click", _set_first(details, "click", 2)),
        Fault("time of 1970", f"{details}.{time}", _set_first(details, time, 1)),
        Fault(
            "time in the future", f"{details}.{time}", _set_first(details, time, 4102444800 * unit)
        ),
        Fault(
            "infinite viewing time",
            f"{details}.page_time",
            _set_first(details, "page_time", float("inf")),
        ),
        Fault("absurd viewing time", f"{details}.page_time", _set_first(details, "page_time", 9e9)),
        Fault("negative key", key, _set(key, -7)),
        Fault("duplicate key", key, lambda row: None),
    ]
    if not is_whole:
        faults.append(
            Fault(
                "click is not a number",
                f"{details}.click",
                _set_first(details, "click", float("nan")),
            )
        )
    return faults


def _pairs_of_one(row: Row) -> None:
    row["dpr_results"] = [[pair[0]] for pair in row["dpr_results"]]


_SEARCH: Final = [
    Fault("query source out of range", "query_from_type", _set("query_from_type", 99.0)),
    Fault("retrieval pairs of one number", "dpr_results", _pairs_of_one),
]
_DETAILS: Final = "search_result_details_with_idx"
_FEED: Final = _for_requests(
    "rec_result_details_with_idx", "request_idx", "request_timestamp", True, 1000
)
FAULTS: Final[dict[str, list[Fault]]] = {
    "search_train": _for_requests(_DETAILS, "search_idx", "search_timestamp", False, 1) + _SEARCH,
    "search_test": _for_requests(_DETAILS, "search_idx", "search_timestamp", False, 1) + _SEARCH,
    "dqa": [
        *_for_requests(_DETAILS, "search_idx", "search_timestamp", True, 1),
        *_SEARCH,
        Fault("answer feedback is neither -1, 0 nor 1", "is_like_clk", _set("is_like_clk", 3.0)),
        Fault("reference to an unknown note", "ref_note_idx_list", _set("ref_note_idx_list", [-9])),
    ],
    "recommendation_train": _FEED,
    "recommendation_test": _FEED,
    "user_feat": [
        Fault("duplicate key", "user_idx", lambda row: None),
        Fault("negative key", "user_idx", _set("user_idx", -1)),
        Fault("negative count", "fans_num", _set("fans_num", -1.0)),
        Fault("infinite value", "dense_feat33", _set("dense_feat33", float("inf"))),
    ],
    "notes": [
        Fault("duplicate key", "note_idx", lambda row: None),
        Fault("negative key", "note_idx", _set("note_idx", -1)),
        Fault("negative count", "imp_num", _set("imp_num", -4.0)),
        Fault("infinite count", "click_num", _set("click_num", float("inf"))),
        Fault("unknown form", "note_type", _set("note_type", 0.0)),
        Fault("negative duration", "video_duration", _set("video_duration", -1.0)),
        Fault(
            "image path leaves the folder", "image_path", _set("image_path", ["../../secret.jpg"])
        ),
        Fault("absolute image path", "image_path", _set("image_path", ["/etc/hosts"])),
    ],
}
KEYS: Final = {
    "search_train": "search_idx",
    "search_test": "search_idx",
    "dqa": "search_idx",
    "recommendation_train": "request_idx",
    "recommendation_test": "request_idx",
    "user_feat": "user_idx",
    "notes": "note_idx",
}
# Bad rows get keys that no good row has, unless the key is the fault.
FIRST_KEY: Final = 500_000_000


def spoil(name: str, table: pa.Table, rows_before: int, seed: int) -> tuple[pa.Table, pa.Table]:
    """``table`` with one bad row per fault at its end, and what the truth says about them.

    ``rows_before`` are rows of the same table in earlier files.
    """
    rng = stream(seed, f"dirty {name}")
    bad: list[Row] = []
    faults = FAULTS[name]
    chosen = rng.choice(table.num_rows, len(faults), replace=table.num_rows < len(faults))
    for number, (fault, row) in enumerate(zip(faults, chosen.tolist(), strict=True)):
        made = copy.deepcopy(table.slice(row, 1).to_pylist()[0])
        if fault.reason != "duplicate key":
            made[KEYS[name]] = FIRST_KEY + number
        fault.spoil(made)
        bad.append(made)
    planted = pa.table(
        {
            "table": pa.array([name] * len(faults)),
            "row_number": pa.array(rows_before + table.num_rows + np.arange(len(faults))),
            "column": pa.array([fault.column for fault in faults]),
            "reason": pa.array([fault.reason for fault in faults]),
        }
    )
    return pa.concat_tables([table, pa.Table.from_pylist(bad, table.schema)]), planted
