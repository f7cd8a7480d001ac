"""The published layout: which tables and columns a Qilin data folder must hold, and their types.

The release writes the same thing with different types in different tables (clicks are floats in
search, integers elsewhere), so a column is described by its kind; the relation that SQL reads has
the one type named here. Columns marked optional are given as null where a release lacks them.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["number", "text", "numbers", "texts", "pairs", "impressions"]


@dataclass(frozen=True)
class Column:
    """A published column; ``type`` is the DuckDB type it is read as (None keeps the file's)."""

    name: str
    kind: Kind
    type: str | None
    is_optional: bool = False


def _key(name: str) -> Column:
    return Column(name, "number", "BIGINT")


def _number(name: str) -> Column:
    return Column(name, "number", "DOUBLE")


def _text(name: str) -> Column:
    return Column(name, "text", "VARCHAR")


def _keys(name: str, is_optional: bool = False) -> Column:
    return Column(name, "numbers", "BIGINT[]", is_optional)


def _pairs(name: str) -> Column:
    return Column(name, "pairs", "DOUBLE[][]", is_optional=True)


NOTE_COUNTERS = (
    *("imp_num", "imp_rec_num", "imp_search_num", "click_num", "click_rec_num"),
    *("click_search_num", "like_num", "collect_num", "comment_num", "share_num"),
    *("screenshot_num", "hide_num", "rec_like_num", "rec_collect_num", "rec_comment_num"),
    *("rec_share_num", "rec_follow_num", "search_like_num", "search_collect_num"),
    *("search_comment_num", "search_share_num", "search_follow_num", "accum_like_num"),
    *("accum_collect_num", "accum_comment_num", "view_time", "rec_view_time"),
    *("search_view_time", "valid_view_times", "full_view_times"),
)
USER_DENSE = tuple(f"dense_feat{i}" for i in range(1, 41))

_SEARCH = (
    _text("query"),
    _number("query_from_type"),
    _keys("recent_clicked_note_idxs"),
    Column("search_result_details_with_idx", "impressions", None),
    _key("search_idx"),
    _key("session_idx"),
    _key("user_idx"),
    _pairs("dpr_results"),
)
_RECOMMENDATION = (
    _keys("recent_clicked_note_idxs"),
    Column("rec_result_details_with_idx", "impressions", None),
    _key("request_idx"),
    _key("session_idx"),
    _key("user_idx"),
    _text("query"),
)

TABLES: dict[str, tuple[Column, ...]] = {
    "notes": (
        _key("note_idx"),
        _text("note_title"),
        _text("note_content"),
        *(_number(name) for name in ("note_type", "video_duration", "video_height")),
        *(_number(name) for name in ("video_width", "image_num", "content_length")),
        _number("commercial_flag"),
        *(_text(f"taxonomy{level}_id") for level in (1, 2, 3)),
        *(_number(name) for name in NOTE_COUNTERS),
        Column("image_path", "texts", "VARCHAR[]"),
    ),
    "user_feat": (
        _key("user_idx"),
        *(_text(name) for name in ("gender", "platform", "age", "location")),
        *(_number(name) for name in ("fans_num", "follows_num", *USER_DENSE)),
    ),
    "search_train": _SEARCH,
    "search_test": (*_SEARCH, _pairs("bm25_results"), _keys("search_results", is_optional=True)),
    "recommendation_train": _RECOMMENDATION,
    "recommendation_test": (*_RECOMMENDATION, _keys("rec_results", is_optional=True)),
    "dqa": (
        *_SEARCH,
        _text("dqa_output"),
        *(_number(name) for name in ("is_like_clk", "is_onebox_trace_clk")),
        *(_number(name) for name in ("is_content_clk", "is_experience_clk")),
        _keys("ref_note_idx_list"),
        _pairs("bm25_results"),
    ),
}

IMPRESSION_FIELDS = (
    *("note_idx", "position", "click", "like", "collect", "comment", "share", "page_time"),
)
TIME_FIELD = {
    table: "request_timestamp" if table.startswith("recommendation") else "search_timestamp"
    for table in TABLES
    if table not in ("notes", "user_feat")
}
# Holds the parts of the image archive, part_<n>.
IMAGE_FOLDER = "image"

QRELS_FILES = {
    "search_test": "search.test.qrels.csv",
    "recommendation_test": "recommendation.test.qrels.csv",
    "dqa": "dqa.qrels.csv",
}
