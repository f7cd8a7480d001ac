"""The bias views over real rows, against a few lines of Python that share no code with them."""

from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

TABLES = ("search_train", "search_test", "dqa", "recommendation_train", "recommendation_test")


@pytest.fixture(scope="module")
def requests(real_data: Path) -> list[dict[str, Any]]:
    """The published rows as the paper reads them: begin time, impressions, clicks."""
    found = []
    for table in TABLES:
        for row in pq.read_table(real_data / "qilin_sample" / table).to_pylist():
            is_feed = table.startswith("recommendation")
            details = row[
                "rec_result_details_with_idx" if is_feed else "search_result_details_with_idx"
            ]
            times = [
                entry["request_timestamp"] / 1000
                if is_feed
                else entry["search_timestamp"] - 8 * 3600
                for entry in details
            ]
            found.append(
                {
                    "table": table,
                    "channel": "recommendation" if is_feed else "search",
                    "id": row["request_idx"] * 2 + 1 if is_feed else row["search_idx"] * 2,
                    "user": row["user_idx"],
                    "app_session": row["session_idx"],
                    "begins": min(times),
                    "details": details,
                    "clicked": [entry for entry in details if entry["click"] == 1],
                    "has_answer": row.get("dqa_output", "-1") != "-1",
                    "query": row["query"],
                    "source": row.get("query_from_type"),
                }
            )
    return found


def engagement(rows: list[dict[str, Any]]) -> tuple[Any, ...]:
    shown = sum(len(row["details"]) for row in rows)
    clicked = [entry for row in rows for entry in row["clicked"]]
    firsts = [min(e["position"] for e in row["clicked"]) for row in rows if row["clicked"]]
    depths = [max(e["position"] for e in row["details"]) for row in rows]
    return (
        len(rows),
        shown,
        len(clicked),
        sum(depths) / len(rows),
        sum(firsts) / len(firsts),
        len(clicked) / len(rows),
        len(clicked) / shown,
        *(
            sum(entry[kind] > 0 for entry in clicked) / len(clicked)
            for kind in ("like", "collect", "share", "comment")
        ),
    )


def test_engagement_by_channel(
    real: duckdb.DuckDBPyConnection, requests: list[dict[str, Any]]
) -> None:
    for channel, *ours in real.execute("from bias.engagement_by_channel").fetchall():
        rows = [row for row in requests if row["channel"] == channel]
        assert tuple(ours) == pytest.approx(engagement(rows))


def test_engagement_by_answer_shown(
    real: duckdb.DuckDBPyConnection, requests: list[dict[str, Any]]
) -> None:
    searches = [row for row in requests if row["channel"] == "search"]
    found = real.execute("from bias.engagement_by_answer_shown").fetchall()
    assert [row[0] for row in found] == [False, True]
    for has_answer, *ours in found:
        rows = [row for row in searches if row["has_answer"] == has_answer]
        assert tuple(ours) == pytest.approx(engagement(rows))


def test_click_rate_by_position(
    real: duckdb.DuckDBPyConnection, requests: list[dict[str, Any]]
) -> None:
    shown: Counter[tuple[str, int]] = Counter()
    clicked: Counter[tuple[str, int]] = Counter()
    for row in requests:
        for entry in row["details"]:
            place = (row["channel"], min(int(entry["position"]), 11))
            shown[place] += 1
            clicked[place] += entry["click"] == 1
    assert real.execute(
        "select channel, position_bin, n_impressions, n_clicks from bias.click_rate_by_position"
    ).fetchall() == [(*place, shown[place], clicked[place]) for place in sorted(shown)]


def test_click_rate_by_session_position(
    real: duckdb.DuckDBPyConnection, requests: list[dict[str, Any]]
) -> None:
    sessions = defaultdict(list)
    for row in requests:
        sessions[row["user"], row["app_session"]].append(row)
    counts: Counter[tuple[str, int]] = Counter()
    for rows in sessions.values():
        for number, row in enumerate(sorted(rows, key=lambda row: row["begins"]), start=1):
            counts[row["channel"], number] += len(row["details"])
    assert real.execute(
        "select channel, session_position_bin, n_impressions "
        "from bias.click_rate_by_session_position"
    ).fetchall() == [(*place, counts[place]) for place in sorted(counts)]


def test_transitions_and_sessions(
    real: duckdb.DuckDBPyConnection, requests: list[dict[str, Any]]
) -> None:
    users = defaultdict(list)
    for row in requests:
        users[row["user"]].append(row)
    pairs = []
    for rows in users.values():
        rows.sort(key=lambda row: row["begins"])
        pairs += [
            (second["id"], first["id"], len(second["details"]), len(second["clicked"]))
            for first, second in pairwise(rows)
            if second["begins"] - first["begins"] <= 1800
        ]
    assert real.execute(
        "select request_id, previous_request_id, n_impressions, n_clicks from core.transitions"
    ).fetchall() == sorted(pairs)
    assert real.execute("select count(*) from core.sessions").fetchall() == [
        (len(requests) - len(pairs),)
    ]


def test_answers_and_their_flags(real: duckdb.DuckDBPyConnection) -> None:
    # Two of the five answer rows show one; both users clicked the body and nothing else.
    assert real.execute(
        "select request_id, is_answer_liked, is_reference_clicked, is_body_clicked, "
        "is_experience_clicked, reference_note_list from core.answers where is_shown order by 1"
    ).fetchall() == [
        (7276, False, False, True, False, [1964214]),
        (13370, False, False, True, False, [1966713]),
    ]


def test_notes_of_the_sample(real: duckdb.DuckDBPyConnection) -> None:
    # Two notes printed in full by hand: a video of 227 s with ten images, and an image-text note
    # whose third taxonomy is the word nan.
    assert real.execute(
        "select note_idx, note_type, video_duration, image_num, n_images, taxonomy3_id, "
        "accum_like_num from core.notes where note_idx < 2 order by 1"
    ).fetchall() == [
        (0, 2, 227.0, 1, 10, "c00000000000000000000488", 13022.0),
        (1, 1, 0.0, 1, 1, None, 22.0),
    ]


def test_click_rate_by_query_length(
    real: duckdb.DuckDBPyConnection, requests: list[dict[str, Any]]
) -> None:
    bins = defaultdict(list)
    for row in requests:
        if row["channel"] == "search":
            bins[min(max(len(row["query"]), 3), 11) if row["query"] else 0].append(row)
    n_searches = sum(map(len, bins.values()))
    for query_length_bin, n, share, shown, clicked, mean, _ in real.execute(
        "from bias.click_rate_by_query_length"
    ).fetchall():
        rows = bins.pop(query_length_bin)
        clicks = [len(row["clicked"]) for row in rows]
        assert (n, clicked) == (len(rows), sum(clicks))
        assert shown == sum(len(row["details"]) for row in rows)
        assert (share, mean) == pytest.approx((n / n_searches, sum(clicks) / n))
    assert not bins


def test_click_rate_by_reformulation(
    real: duckdb.DuckDBPyConnection, requests: list[dict[str, Any]]
) -> None:
    users = defaultdict(list)
    for row in requests:
        if row["channel"] == "search":
            users[row["user"]].append(row)
    classes: Counter[str] = Counter()
    for rows in users.values():
        rows.sort(key=lambda row: row["begins"])
        for first, second in pairwise(rows):
            if second["begins"] - first["begins"] > 1800:
                continue
            old, new = set(first["query"] or ""), set(second["query"] or "")
            if not old or not new:
                classes["blank"] += 1
            elif old == new:
                classes["repeat"] += 1
            elif old < new:
                classes["add"] += 1
            elif new < old:
                classes["delete"] += 1
            else:
                classes["change" if old & new else "other"] += 1
    assert classes
    assert real.execute(
        "select reformulation, n_transitions from bias.click_rate_by_reformulation"
    ).fetchall() == sorted(classes.items())


def test_click_rate_by_query_source(
    real: duckdb.DuckDBPyConnection, requests: list[dict[str, Any]]
) -> None:
    names = (
        "active search", "auto-completion", "search history", "suggestion on the result page",
        "suggestion inside a result", "filter", "hot list", "other",
    )  # fmt: skip
    counts: Counter[str] = Counter()
    official: Counter[str] = Counter()
    for row in requests:
        if row["channel"] == "search":
            source = row["source"]
            is_logged = source is not None and source >= 1  # False for NaN.
            counts[names[int(source) - 1] if is_logged else "not logged"] += 1
            official[names[int(source) - 1 if is_logged else -1]] += 1
    for view, expected in (("", counts), ("_official", official)):
        assert real.execute(
            f"select query_source_name, n_requests from bias.click_rate_by_query_source{view}"
        ).fetchall() == sorted(expected.items())


def test_note_forms(
    real: duckdb.DuckDBPyConnection, requests: list[dict[str, Any]], real_data: Path
) -> None:
    types = {
        row["note_idx"]: row["note_type"]
        for row in pq.read_table(
            real_data / "qilin_sample" / "notes", columns=["note_idx", "note_type"]
        ).to_pylist()
    }
    shown: Counter[tuple[str, str, int]] = Counter()
    clicked: Counter[tuple[str, str, int]] = Counter()
    places: Counter[tuple[str, int]] = Counter()
    videos: Counter[tuple[str, int]] = Counter()
    for row in requests:
        for entry in row["details"]:
            if entry["note_idx"] in types:
                is_video = types[entry["note_idx"]] != 1
                place = (row["channel"], min(int(entry["position"]), 11))
                cell = (place[0], "video" if is_video else "image-text", place[1])
                shown[cell] += 1
                clicked[cell] += entry["click"] == 1
                places[place] += 1
                videos[place] += is_video
    assert real.execute(
        "select channel, note_form, position_bin, n_impressions, n_clicks "
        "from bias.click_rate_by_note_form"
    ).fetchall() == [(*cell, shown[cell], clicked[cell]) for cell in sorted(shown)]
    assert real.execute("from bias.video_share_by_position").fetchall() == [
        (*place, places[place], videos[place], videos[place] / places[place])
        for place in sorted(places)
    ]


def test_users_by_attribute(real: duckdb.DuckDBPyConnection, real_data: Path) -> None:
    rows = pq.read_table(real_data / "qilin_sample" / "user_feat").to_pylist()
    counts: Counter[tuple[str, str]] = Counter()
    for row in rows:
        counts["country", (row["location"] or "missing").split("  ")[0]] += 1
        for attribute in ("gender", "age", "platform"):
            counts[attribute, row[attribute] or "missing"] += 1
    assert real.execute(
        "select attribute, value, n_users, user_share from bias.users_by_attribute"
    ).fetchall() == [(*key, counts[key], counts[key] / len(rows)) for key in sorted(counts)]


def test_dataset_sizes(
    real: duckdb.DuckDBPyConnection, requests: list[dict[str, Any]], real_data: Path
) -> None:
    notes = pq.read_table(real_data / "qilin_sample" / "notes", columns=["image_path"]).to_pylist()
    searches = [row for row in requests if row["channel"] == "search"]
    assert dict(real.execute("from bias.dataset_sizes").fetchall()) == {
        "image paths": sum(len(row["image_path"] or []) for row in notes),
        "impressions": sum(len(row["details"]) for row in requests),
        "notes": len(notes),
        "searches": len(searches),
        "searches with an answer": sum(row["has_answer"] for row in searches),
        "users": pq.read_table(real_data / "qilin_sample" / "user_feat").num_rows,
    }


def test_click_rate_by_session_position_official(
    real: duckdb.DuckDBPyConnection, requests: list[dict[str, Any]]
) -> None:
    sessions = defaultdict(list)
    for row in requests:
        sessions[row["channel"], row["app_session"]].append(row)
    counts: Counter[tuple[str, int]] = Counter()
    for (channel, _), rows in sessions.items():
        for number, row in enumerate(sorted(rows, key=lambda row: row["begins"]), start=1):
            counts[channel, min(number, 11)] += len(row["details"])
    assert real.execute(
        "select channel, channel_session_position_bin, n_impressions "
        "from bias.click_rate_by_session_position_official"
    ).fetchall() == [(*place, counts[place]) for place in sorted(counts)]
