"""The smallest log on which every expectation holds: eight requests, two users, eight notes.

Raw and core relations are stored as tables here, so that a test can break one without the others.
"""

from datetime import UTC, datetime, timedelta

import duckdb

from qilin_dagster.catalog import Catalog, View
from qilin_dagster.sources.layout import TABLES

NOON = datetime(2024, 11, 27, 4, tzinfo=UTC)  # noon in China, where the log was taken
SEARCH_AHEAD_S = 8 * 3600
EARLIEST_S, LATEST_S = (int((NOON + timedelta(days=days)).timestamp()) for days in (-365, 7))


def impression(note: int, position: int, minute: float, dwell: float = 0) -> dict[str, float]:
    """One exposure, clicked when it has a dwell; ``minute`` counts from noon."""
    return {
        "note_idx": note,
        "position": position,
        "click": int(dwell > 0),
        "page_time": dwell,
        "seconds": (NOON + timedelta(minutes=minute)).timestamp(),
    }


def search(idx: int, user: int, session: int, impressions: list[dict[str, float]]) -> dict:
    candidates = [i["note_idx"] for i in impressions]
    return {
        "search_idx": idx,
        "user_idx": user,
        "session_idx": session,
        "query": f"query {idx}",
        "query_from_type": 1,
        "recent_clicked_note_idxs": [1, 0],
        "search_result_details_with_idx": impressions,
        "search_results": candidates,
        "bm25_results": [[0.0, 2.5], [1.0, 1.5]],
        "dpr_results": [[0.0, 0.5]],
        "dqa_output": "-1",
        "is_like_clk": -1,
        "is_onebox_trace_clk": -1,
        "is_content_clk": -1,
        "is_experience_clk": -1,
        "ref_note_idx_list": None,
    }


def feed(idx: int, user: int, session: int, impressions: list[dict[str, float]]) -> dict:
    return {
        "request_idx": idx,
        "user_idx": user,
        "session_idx": session,
        "query": "a title another title",
        "recent_clicked_note_idxs": [2, 1, 1],
        "rec_result_details_with_idx": impressions,
        "rec_results": sorted({i["note_idx"] for i in impressions}),
    }


ANSWERED = {
    "dqa_output": "Because [第1篇](#).",
    "is_like_clk": 0,
    "is_onebox_trace_clk": 1,
    "is_content_clk": 0,
    "is_experience_clk": 0,
    "ref_note_idx_list": [6],
}

ROWS: dict[str, list[dict]] = {
    "notes": [
        {
            "note_idx": idx,
            "note_title": f"title {idx}",
            "note_content": f"content {idx}",
            "note_type": 1 + idx % 2,
            "video_duration": 30 * (idx % 2),
            "commercial_flag": 0,
            "taxonomy1_id": "5ab0",
            "imp_num": 10,
            "click_num": 2,
            "image_path": ["image/part_0/0/0.jpg"],
        }
        for idx in range(8)
    ],
    "user_feat": [
        {
            "user_idx": idx,
            "gender": "female",
            "platform": "iOS",
            "age": "23-25",
            "location": "中国  安徽",
            "fans_num": 1,
            "follows_num": 2,
            "dense_feat1": 28,
        }
        for idx in range(2)
    ],
    # User 0 searches, reads the feed and searches again, all within half an hour.
    "search_train": [
        search(0, 0, 10, [impression(0, 1, 0, dwell=12.5), impression(1, 2, 0)]),
        search(1, 0, 10, [impression(1, 1, 20, dwell=3), impression(2, 3, 20)]),
    ],
    "recommendation_train": [
        feed(0, 0, 10, [impression(3, 1, 10), impression(2, 2, 10, dwell=8)]),
        # The same note comes back two minutes later and is opened then.
        feed(1, 1, 20, [impression(4, 1, 0), impression(5, 2, 0), impression(4, 1, 2, dwell=40)]),
    ],
    "search_test": [search(2, 0, 11, [impression(5, 0, 600), impression(6, 1, 600, dwell=5)])],
    "recommendation_test": [
        feed(2, 0, 11, [impression(7, 1, 605, dwell=6), impression(0, 2, 605)])
    ],
    "dqa": [
        search(3, 1, 21, [impression(6, 1, 120, dwell=9), impression(0, 2, 120)]) | ANSWERED,
        search(4, 1, 21, [impression(3, 1, 130), impression(7, 4, 130)]),
    ],
}


def relations(catalog: Catalog) -> list[View]:
    return [view for view in catalog.views if view.schema in ("raw", "core")]


def build(connection: duckdb.DuckDBPyConnection, catalog: Catalog) -> None:
    """Store the published log, every raw and core relation, and a copy to repair them from."""
    for schema in ("published", "quarantine", "raw", "core", "valid_raw", "valid_core"):
        connection.execute(f"create schema {schema}")
    for table in TABLES:
        publish(connection, table)
    connection.execute(
        f"""
        create table published.clock as
        select unnest(['search_train', 'search_test', 'dqa']) as source_table,
               1000000::bigint as microseconds_per_tick, {SEARCH_AHEAD_S}::bigint as ahead_s,
               {EARLIEST_S}::bigint as earliest_s, {LATEST_S}::bigint as latest_s
        union all
        select unnest(['recommendation_train', 'recommendation_test']), 1000, 0,
               {EARLIEST_S}, {LATEST_S}
        """
    )
    # The label file of the answer sample was not given.
    connection.execute(
        """
        create table published.qrels as
        select * from (values ('search_test', 0::bigint, 6::bigint), ('recommendation_test', 0, 7))
        as labels(source_table, row_number, note_idx)
        """
    )
    for view in catalog.views:
        if view.schema == "quarantine":
            connection.execute(f"create table {view.qualified} as {view.select}")
    for view in relations(catalog):
        connection.execute(f"create table {view.qualified} as {view.select}")
        connection.execute(f"create table valid_{view.qualified} as from {view.qualified}")


def publish(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    """Create ``published.<table>`` as the lake serves it, with the release's sentinels."""
    is_feed = table.startswith("recommendation")
    number = "bigint" if is_feed or table == "dqa" else "double"
    time = "request_timestamp bigint" if is_feed else f"search_timestamp {number}"
    labels = ", ".join(f'"{name}" {number}' for name in ("click", "like", "collect"))
    labels += f', "comment" {number}, "share" {number}'
    struct = f'struct(note_idx bigint, "position" {number}, {labels}, page_time double, {time})[]'
    columns = ", ".join(f"{column.name} {column.type or struct}" for column in TABLES[table])
    connection.execute(
        f"create table published.{table} "
        f"(row_number bigint, source_file varchar, source_row bigint, {columns})"
    )
    for row_number, row in enumerate(ROWS[table]):
        values = [
            [published_impression(i, table) for i in row[column.name]]
            if column.kind == "impressions"
            else row.get(column.name)
            for column in TABLES[table]
        ]
        marks = ", ".join("?" for _ in values)
        connection.execute(
            f"insert into published.{table} values (?, 'a.parquet', ?, {marks})",
            [row_number, row_number, *values],
        )


def published_impression(fields: dict[str, float], table: str) -> dict[str, float]:
    no_dwell = {"dqa": -1.0}.get(table, 0.0 if table.startswith("recommendation") else float("nan"))
    engagement = dict.fromkeys(("like", "collect", "comment", "share"), 0)
    row = {name: fields[name] for name in ("note_idx", "position", "click")} | engagement
    row["page_time"] = fields["page_time"] or no_dwell
    if table.startswith("recommendation"):
        return row | {"request_timestamp": int(fields["seconds"] * 1000)}
    return row | {"search_timestamp": int(fields["seconds"]) + SEARCH_AHEAD_S}
