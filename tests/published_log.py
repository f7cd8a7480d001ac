"""A published data folder of a few requests, written by hand: every quirk of the release once.

The rows are few enough to compute every view by hand; the tests that use them say what they expect.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from qilin_dagster.sources.layout import NOTE_COUNTERS, TABLES, USER_DENSE

NAN = math.nan
# 27 Nov 2024, 12:00:00 UTC. The search clock shows 8 hours more.
NOON = 1_732_708_800
AHEAD = 8 * 3600

SEARCH_IMPRESSION = pa.struct(
    [
        *((name, pa.float64()) for name in ("click", "collect", "comment", "like")),
        ("note_idx", pa.int64()),
        *((name, pa.float64()) for name in ("page_time", "position")),
        ("search_timestamp", pa.float64()),
        ("share", pa.float64()),
    ]
)


def _integer_impression(time_field: str) -> pa.DataType:
    return pa.struct(
        [
            *((name, pa.int64()) for name in ("click", "collect", "comment", "like", "note_idx")),
            ("page_time", pa.float64()),
            ("position", pa.int64()),
            (time_field, pa.int64()),
            ("share", pa.int64()),
        ]
    )


def impression(
    table: str, note_idx: int, position: float, at_s: float, click: int = 0, **feedback: Any
) -> dict[str, Any]:
    """One entry of a details list; ``at_s`` is seconds after noon UTC on every clock."""
    absent = {"search": NAN, "recommendation": 0.0, "dqa": -1.0}[table.partition("_")[0]]
    time = (
        {"request_timestamp": int((NOON + at_s) * 1000)}
        if table.startswith("recommendation")
        else {"search_timestamp": NOON + AHEAD + at_s}
    )
    return {
        "note_idx": note_idx,
        "position": position,
        "click": click,
        **{name: feedback.get(name, 0) for name in ("like", "collect", "comment", "share")},
        "page_time": feedback.get("page_time", absent),
        **time,
    }


def search(
    table: str, search_idx: int, user_idx: int, details: list[dict[str, Any]], **columns: Any
) -> dict[str, Any]:
    return {
        "query": "上海 咖啡",
        "query_from_type": 1.0,
        "recent_clicked_note_idxs": [3, 2, 2],
        "search_result_details_with_idx": details,
        "search_idx": search_idx,
        "session_idx": 100 + user_idx,
        "user_idx": user_idx,
        "dpr_results": [[1.0, 310.5]],
        **({"bm25_results": [[1.0, 12.5]]} if table != "search_train" else {}),
        **(
            {"search_results": [entry["note_idx"] for entry in details]}
            if table == "search_test"
            else {}
        ),
        **columns,
    }


def feed(
    table: str, request_idx: int, user_idx: int, details: list[dict[str, Any]], **columns: Any
) -> dict[str, Any]:
    return {
        "recent_clicked_note_idxs": [1],
        "rec_result_details_with_idx": details,
        "request_idx": request_idx,
        "session_idx": 900 + user_idx,
        "user_idx": user_idx,
        "query": "周末去哪里 面包",
        **(
            {"rec_results": sorted({entry["note_idx"] for entry in details})}
            if table == "recommendation_test"
            else {}
        ),
        **columns,
    }


def note(note_idx: int, **columns: Any) -> dict[str, Any]:
    return {
        "note_title": f"标题{note_idx}",
        "note_content": "正文",
        "note_type": 1.0,
        "video_duration": 0.0,
        "video_height": 0.0,
        "video_width": 0.0,
        "image_num": 1.0,
        "content_length": 10.0,
        "commercial_flag": 0.0,
        "taxonomy1_id": "5ab094a",
        "taxonomy2_id": "c000a",
        "taxonomy3_id": "nan",
        **dict.fromkeys(NOTE_COUNTERS, 0.0),
        "note_idx": note_idx,
        "image_path": [f"image/part_0/{note_idx}/1.jpg"],
        **columns,
    }


def user(user_idx: int, **columns: Any) -> dict[str, Any]:
    return {
        "gender": "female",
        "platform": "iOS",
        "age": "19-22",
        "fans_num": 3.0,
        "follows_num": 5.0,
        **dict.fromkeys(USER_DENSE, 1.0),
        "location": "中国  安徽  淮北",
        "user_idx": user_idx,
        **columns,
    }


def tables() -> dict[str, list[dict[str, Any]]]:
    """The log. Users 0 and 1; notes 0 to 5."""

    def at(table: str, *entries: tuple[Any, ...]) -> list[dict[str, Any]]:
        return [impression(table, *entry[:-1], **entry[-1]) for entry in entries]

    return {
        "notes": [
            note(0, note_title="nan"),
            note(1, note_type=2.0, video_duration=12.0, taxonomy2_id="None"),
            note(2, commercial_flag=1.0),
            note(3, note_content=None, commercial_flag=7.0),
            note(4, image_path=[]),
            note(5),
        ],
        "user_feat": [user(0), user(1, location="", age="")],
        "search_train": [
            # Two clicks; one without dwell; dwell without a click; position gap.
            search(
                "search_train",
                10,
                0,
                at(
                    "search_train",
                    (1, 1.0, 0, {"click": 1, "page_time": 5.5, "like": 1}),
                    (2, 2.0, 0, {"page_time": 3.0}),
                    (3, 5.0, 2, {"click": 1}),
                ),
            ),
            # 20 minutes later, by the same user; the source is not logged.
            search(
                "search_train",
                11,
                0,
                at(
                    "search_train",
                    (4, 0.0, 1200, {}),
                    (5, 1.0, 1200, {"click": 1}),
                ),
                query="上海 面包",
                query_from_type=None,
            ),
        ],
        "search_test": [
            # A later page: begins at 21.
            search(
                "search_test",
                12,
                1,
                at(
                    "search_test",
                    (0, 21.0, 7200, {}),
                    (5, 22.0, 7200, {"click": 1, "collect": 1, "page_time": 9.0}),
                ),
                query="",
                query_from_type=NAN,
            ),
        ],
        "recommendation_train": [
            # Between the two searches of user 0. The first note comes back 8 hours later.
            feed(
                "recommendation_train",
                0,
                0,
                at(
                    "recommendation_train",
                    (1, 1, 600, {}),
                    (2, 2, 600, {"click": 1}),
                    (1, 1, 600 + 28_800, {"click": 1, "page_time": 30.0}),
                ),
            ),
        ],
        "recommendation_test": [
            feed(
                "recommendation_test",
                1,
                1,
                at(
                    "recommendation_test",
                    (3, 15, 7300, {"click": 1, "share": 1, "page_time": 12.0}),
                    (4, 17, 7300, {}),
                ),
            ),
        ],
        "dqa": [
            search(
                "dqa",
                0,
                1,
                at("dqa", (1, 1, 0, {"click": 1, "page_time": 7.0}), (2, 2, 0, {})),
                dqa_output="答案[第1篇](#)",
                is_like_clk=0.0,
                is_onebox_trace_clk=1.0,
                is_content_clk=0.0,
                is_experience_clk=0.0,
                ref_note_idx_list=[1],
            ),
            # No answer, no click.
            search(
                "dqa",
                1,
                1,
                at("dqa", (3, 1, 60, {})),
                dqa_output="-1",
                is_like_clk=-1.0,
                is_onebox_trace_clk=-1.0,
                is_content_clk=-1.0,
                is_experience_clk=-1.0,
                ref_note_idx_list=[],
            ),
        ],
    }


def quiet() -> dict[str, list[dict[str, Any]]]:
    """The least a release can hold: a note, a user and, per table, a request that returned nothing.

    A test puts the rows it is about in place of some of them.
    """
    log = tables()
    for table, idx in (("search_train", 90), ("search_test", 91), ("dqa", 92)):
        log[table] = [{**log[table][0], "search_idx": idx, "user_idx": idx, "session_idx": idx}]
        log[table][0]["search_result_details_with_idx"] = []
    for table, idx in (("recommendation_train", 93), ("recommendation_test", 94)):
        log[table] = [{**log[table][0], "request_idx": idx, "user_idx": idx, "session_idx": idx}]
        log[table][0]["rec_result_details_with_idx"] = []
    return {**log, "notes": log["notes"][:1], "user_feat": log["user_feat"][:1]}


def page(
    table: str, picture: str, at_s: float = 0, begins: int = 1, notes: Sequence[int] = ()
) -> list[dict[str, Any]]:
    """A details list from a picture: x is a click, . is none, a space is a gap in the positions.

    Without ``notes`` every impression has a note of its own, numbered from 100.
    """
    places = [begins + n for n, mark in enumerate(picture) if mark != " "]
    marks = picture.replace(" ", "")
    numbers = notes or range(100, 100 + len(marks))
    return [
        impression(table, note_idx, place, at_s, int(mark == "x"))
        for place, mark, note_idx in zip(places, marks, numbers, strict=True)
    ]


def write(folder: Path, log: dict[str, list[dict[str, Any]]] | None = None) -> Path:
    """Write the log in the published layout; returns the folder."""
    for name, rows in (log if log is not None else tables()).items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        pq.write_table(
            pa.Table.from_pylist(rows, schema=schema(name, rows)),
            folder / name / "train-00000-of-00001.parquet",
        )
    return folder


def schema(table: str, rows: list[dict[str, Any]]) -> pa.Schema:
    """The published types of a table, for the columns its rows have."""
    types = {
        "number": pa.float64(),
        "text": pa.string(),
        "numbers": pa.list_(pa.int64()),
        "texts": pa.list_(pa.string()),
        "pairs": pa.list_(pa.list_(pa.float64())),
    }
    fields = []
    for column in TABLES[table]:
        if rows and column.name not in rows[0]:
            continue
        if column.kind == "impressions":
            type_ = pa.list_(
                SEARCH_IMPRESSION
                if table.startswith("search")
                else _integer_impression(
                    "request_timestamp" if table.startswith("rec") else "search_timestamp"
                )
            )
        else:
            type_ = pa.int64() if column.type == "BIGINT" else types[column.kind]
        fields.append((column.name, type_))
    return pa.schema(fields)
