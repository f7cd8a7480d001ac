"""The bias views over real rows, against a few lines of Python that share no code with them."""

from collections import Counter, defaultdict
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from math import ceil, sqrt
from pathlib import Path
from statistics import fmean, median
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
                    "times": times,
                    "details": details,
                    "clicked": [entry for entry in details if entry["click"] == 1],
                    "has_answer": row.get("dqa_output", "-1") != "-1",
                    "query": row["query"],
                    "source": row.get("query_from_type"),
                    "history": row["recent_clicked_note_idxs"] or [],
                    # Down the page: by position, then by time.
                    "page": sorted(
                        zip(times, details, strict=True),
                        key=lambda shown: (shown[1]["position"], shown[0]),
                    ),
                }
            )
    return found


@pytest.fixture(scope="module")
def notes(real_data: Path) -> dict[int, dict[str, Any]]:
    """The published notes by id: few of those the requests show."""
    columns = ["note_idx", "note_title", "note_type", "commercial_flag"]
    columns += ["taxonomy1_id", "taxonomy2_id"]
    rows = pq.read_table(real_data / "qilin_sample" / "notes", columns=columns).to_pylist()
    return {row["note_idx"]: row for row in rows}


def shares(counts: Counter[Any]) -> dict[Any, float]:
    return {key: n / counts.total() for key, n in counts.items()}


def pairs_within_half_an_hour(
    rows: list[dict[str, Any]],
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Consecutive requests of a user, the second beginning at most 30 minutes after the first."""
    users = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["begins"]):
        users[row["user"]].append(row)
    return [
        (first, second)
        for of_user in users.values()
        for first, second in pairwise(of_user)
        if second["begins"] - first["begins"] <= 1800
    ]


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
            counts[row["channel"], min(number, 11)] += len(row["details"])
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


def test_click_rate_above_last_click(
    real: duckdb.DuckDBPyConnection, requests: list[dict[str, Any]]
) -> None:
    shown: Counter[tuple[str, int]] = Counter()
    clicked: Counter[tuple[str, int]] = Counter()
    for row in requests:
        clicks = [entry["click"] == 1 for _, entry in row["page"]]
        clicks = clicks[: max((n for n, is_clicked in enumerate(clicks) if is_clicked), default=0)]
        for rank, is_clicked in enumerate(clicks, start=1):
            place = (row["channel"], min(rank, 11))
            shown[place] += 1
            clicked[place] += is_clicked
    assert real.execute("from bias.click_rate_above_last_click").fetchall() == [
        (*place, n, clicked[place], clicked[place] / n, 1 - clicked[place] / n)
        for place, n in sorted(shown.items())
    ]


def test_requests_by_last_click(
    real: duckdb.DuckDBPyConnection, requests: list[dict[str, Any]]
) -> None:
    below = defaultdict(list)
    channels: Counter[str] = Counter()
    for row in requests:
        ranks = [n for n, (_, entry) in enumerate(row["page"], start=1) if entry["click"] == 1]
        if ranks:
            below[row["channel"], min(ranks[-1], 11)].append(len(row["page"]) - ranks[-1])
            channels[row["channel"]] += 1
    assert real.execute("from bias.requests_by_last_click").fetchall() == [
        (
            *place,
            len(gaps),
            len(gaps) / channels[place[0]],
            pytest.approx(sum(gaps) / len(gaps)),
            gaps.count(0) / len(gaps),
        )
        for place, gaps in sorted(below.items())
    ]


def test_requests_by_browsing_depth(
    real: duckdb.DuckDBPyConnection, requests: list[dict[str, Any]]
) -> None:
    bins = defaultdict(list)
    channels = Counter(row["channel"] for row in requests)
    for row in requests:
        depth = max(entry["position"] for entry in row["details"])
        least = max(n for n in (0, 1, 3, 6, 11, 21, 51, 101) if n <= depth)
        bins[row["channel"], least].append(row)
    found = real.execute("from bias.requests_by_browsing_depth").fetchall()
    assert [row[:2] for row in found] == sorted(bins)
    for channel, least, *ours in found:
        rows = bins[channel, least]
        n_shown = sum(len(row["details"]) for row in rows)
        n_clicks = sum(len(row["clicked"]) for row in rows)
        n_deeper = sum(
            len(more) for place, more in bins.items() if place[0] == channel and place[1] >= least
        )
        assert ours == [
            len(rows),
            len(rows) / channels[channel],
            n_deeper / channels[channel],
            n_shown,
            n_clicks,
            n_clicks / len(rows),
            n_clicks / n_shown,
        ]


def test_dwell_by_position(real: duckdb.DuckDBPyConnection, requests: list[dict[str, Any]]) -> None:
    dwells = defaultdict(list)
    for row in requests:
        for entry in row["clicked"]:
            dwells[row["channel"], min(int(entry["position"]), 11)].append(entry["page_time"])
    expected = []
    for place, all_times in sorted(dwells.items()):
        times = [time for time in all_times if time > 0]  # False for NaN.
        expected.append(
            (
                *place,
                len(all_times),
                len(times),
                len(times) / len(all_times),
                pytest.approx(median(times)) if times else None,
                pytest.approx(fmean(times)) if times else None,
                sum(time < 5 for time in times) / len(times) if times else None,
            )
        )
    assert real.execute("from bias.dwell_by_position").fetchall() == expected


def test_click_rates_by_stratum_and_slot(
    real: duckdb.DuckDBPyConnection,
    requests: list[dict[str, Any]],
    notes: dict[int, dict[str, Any]],
) -> None:
    names = dict(real.execute("select request_id, query_source_name from core.requests").fetchall())
    shown: Counter[tuple[Any, ...]] = Counter()
    clicked: Counter[tuple[Any, ...]] = Counter()
    slots = defaultdict(list)
    for row in requests:
        for entry in row["details"]:
            note = notes.get(entry["note_idx"], {"note_type": None, "commercial_flag": None})
            form = {None: "unknown", 1: "image-text"}.get(note["note_type"], "video")
            flag = {0: "not commercial", 1: "commercial"}.get(note["commercial_flag"], "unknown")
            cell = (
                row["channel"],
                names[row["id"]] if row["channel"] == "search" else "no query",
                form,
                flag,
                min(int(entry["position"]), 50),
            )
            shown[cell] += 1
            clicked[cell] += entry["click"] == 1
            if 1 <= entry["position"] <= 49:
                block, slot = divmod(int(entry["position"]) - 1, 7)
                slots[row["channel"], block + 1, slot + 1].append((entry["click"] == 1, flag))
    assert real.execute(
        "select * exclude (wilson_low, wilson_high) from bias.click_rate_by_stratum"
    ).fetchall() == [
        (*cell, n, clicked[cell], clicked[cell] / n) for cell, n in sorted(shown.items())
    ]
    expected = []
    for place, seen in sorted(slots.items()):
        known = [flag == "commercial" for _, flag in seen if flag != "unknown"]
        n_clicks = sum(is_clicked for is_clicked, _ in seen)
        share = sum(known) / len(known) if known else None
        expected.append((*place, len(seen), n_clicks, share, n_clicks / len(seen)))
    assert (
        real.execute(
            "select * exclude (wilson_low, wilson_high) from bias.click_rate_by_slot"
        ).fetchall()
        == expected
    )


def test_columns_of_the_page(
    real: duckdb.DuckDBPyConnection, requests: list[dict[str, Any]]
) -> None:
    shown: Counter[tuple[str, int, str]] = Counter()
    clicked: Counter[tuple[str, int, str]] = Counter()
    several = defaultdict(list)
    for row in requests:
        places = [int(entry["position"]) for _, entry in row["page"]]
        is_whole = places == list(range(1, len(places) + 1))
        for entry in row["details"] if is_whole else []:
            place = int(entry["position"])
            if place <= 20:
                cell = (row["channel"], (place + 1) // 2, "left" if place % 2 else "right")
                shown[cell] += 1
                clicked[cell] += entry["click"] == 1
        sides = [
            int(entry["position"]) % 2
            for _, entry in row["page"]
            if entry["click"] == 1 and entry["position"] > 0
        ]
        if len(sides) > 1:
            several[row["channel"], is_whole].append(sides)
    assert real.execute(
        "select * exclude (wilson_low, wilson_high) from bias.click_rate_by_grid_column"
    ).fetchall() == [
        (*cell, n, clicked[cell], clicked[cell] / n) for cell, n in sorted(shown.items())
    ]
    expected = []
    for group, rows in sorted(several.items()):
        n_clicks = sum(map(len, rows))
        n_both = sum(len(set(sides)) == 2 for sides in rows)
        switches = [one != other for sides in rows for one, other in pairwise(sides)]
        left = sum(map(sum, rows)) / n_clicks
        expected.append(
            (
                *group,
                len(rows),
                n_clicks,
                n_both,
                n_both / len(rows),
                len(switches),
                sum(switches),
                sum(switches) / len(switches),
                pytest.approx(2 * left * (1 - left)),
            )
        )
    assert real.execute("from bias.clicks_by_column").fetchall() == expected


def test_click_rate_of_repeats(
    real: duckdb.DuckDBPyConnection, requests: list[dict[str, Any]]
) -> None:
    outcomes = defaultdict(list)
    for row in requests:
        showings = defaultdict(list)
        for time, entry in zip(row["times"], row["details"], strict=True):
            showings[entry["note_idx"]].append((time, entry["click"] == 1))
        for seen in showings.values():
            was_clicked = False
            for n, (_, is_clicked) in enumerate(sorted(seen, key=lambda showing: showing[0])):
                again = "again after a click" if was_clicked else "again without one"
                kind = "once" if len(seen) == 1 else again if n else "first of several"
                outcomes[row["channel"], kind].append(is_clicked)
                was_clicked |= is_clicked
    assert real.execute("from bias.click_rate_of_repeats").fetchall() == [
        (*kind, len(clicks), sum(clicks), sum(clicks) / len(clicks))
        for kind, clicks in sorted(outcomes.items())
    ]


def test_click_rate_by_history(
    real: duckdb.DuckDBPyConnection, requests: list[dict[str, Any]]
) -> None:
    groups = defaultdict(list)
    for row in requests:
        for entry in row["details"]:
            groups[row["channel"], entry["note_idx"] in row["history"]].append(entry)
    expected = []
    for group, entries in sorted(groups.items()):
        n, n_clicks = len(entries), sum(entry["click"] == 1 for entry in entries)
        depth = sum(entry["position"] for entry in entries) / n
        expected.append((*group, n, n_clicks, n_clicks / n, pytest.approx(depth)))
    assert real.execute("from bias.click_rate_by_history").fetchall() == expected


def test_click_rate_by_hour(
    real: duckdb.DuckDBPyConnection, requests: list[dict[str, Any]]
) -> None:
    hours = defaultdict(list)
    china = timezone(timedelta(hours=8))
    for row in requests:
        hours[row["channel"], datetime.fromtimestamp(row["begins"], china).hour].append(row)
    expected = []
    for group, rows in sorted(hours.items()):
        n = sum(len(row["details"]) for row in rows)
        n_clicks = sum(len(row["clicked"]) for row in rows)
        expected.append((*group, len(rows), n, n_clicks, n_clicks / n))
    assert (
        real.execute(
            "select * exclude (click_rate_low, click_rate_high) from bias.click_rate_by_hour"
        ).fetchall()
        == expected
    )


def test_intervals_take_requests_as_independent(
    real: duckdb.DuckDBPyConnection, requests: list[dict[str, Any]]
) -> None:
    places = defaultdict(list)
    for row in requests:
        clicks = defaultdict(list)
        for entry in row["details"]:
            clicks[min(int(entry["position"]), 11)].append(entry["click"] == 1)
        for place, of_request in clicks.items():
            places[row["channel"], place].append((sum(of_request), len(of_request)))
    found = real.execute(
        "select channel, position_bin, click_rate_low, click_rate_high "
        "from bias.click_rate_by_position"
    ).fetchall()
    assert len(found) == len(places)
    for channel, place, *interval in found:
        rows = places[channel, place]
        n = sum(n for _, n in rows)
        rate = sum(clicks for clicks, _ in rows) / n
        variance = sum((clicks - rate * n) ** 2 for clicks, n in rows) / n**2
        worth = min(rate * (1 - rate) / variance, n) if variance > 1e-12 else n
        middle = (rate + 1.96**2 / worth / 2) / (1 + 1.96**2 / worth)
        half = sqrt(rate * (1 - rate) / worth + 1.96**2 / worth**2 / 4) * 1.96
        half /= 1 + 1.96**2 / worth
        assert interval == pytest.approx([middle - half, middle + half], abs=1e-9)


def test_official_lengths_and_rewording(
    real: duckdb.DuckDBPyConnection, requests: list[dict[str, Any]]
) -> None:
    searches = [
        {**row, "query": row["query"] or "-1"} for row in requests if row["channel"] == "search"
    ]
    lengths = Counter(min(max(len(row["query"]), 3), 11) for row in searches)
    view = "bias.click_rate_by_query_length_official"
    assert real.execute(f"select query_length_bin, n_requests from {view}").fetchall() == sorted(
        lengths.items()
    )
    classes: Counter[str] = Counter()
    for first, second in pairs_within_half_an_hour(searches):
        old, new = set(first["query"]), set(second["query"])
        classes[
            "repeat"
            if old == new
            else "add"
            if old < new
            else "delete"
            if new < old
            else "change"
            if old & new
            else "other"
        ] += 1
    view = "bias.click_rate_by_reformulation_official"
    assert real.execute(f"select reformulation, n_transitions from {view}").fetchall() == sorted(
        classes.items()
    )


def test_click_rate_by_transition_official(
    real: duckdb.DuckDBPyConnection, requests: list[dict[str, Any]]
) -> None:
    # As written: milliseconds in the feed, seconds of another clock in search.
    written = [
        {
            **row,
            "begins": min(
                entry.get("request_timestamp") or entry["search_timestamp"]
                for entry in row["details"]
            ),
        }
        for row in requests
    ]
    letters = {"search": "S", "recommendation": "R"}
    counts = Counter(
        f"{letters[first['channel']]}->{letters[second['channel']]}"
        for first, second in pairs_within_half_an_hour(written)
    )
    assert real.execute(
        "select transition, n_transitions from bias.click_rate_by_transition_official"
    ).fetchall() == sorted(counts.items())


def test_abandonment_by_answer_shown(
    real: duckdb.DuckDBPyConnection, requests: list[dict[str, Any]]
) -> None:
    expected = []
    for has_answer in (False, True):
        rows = [r for r in requests if r["table"] == "dqa" and r["has_answer"] == has_answer]
        depths = defaultdict(list)
        for row in rows:
            depths[bool(row["clicked"])].append(max(entry["position"] for entry in row["details"]))
        n_left = len(depths[False])
        means = [fmean(depths[side]) if depths[side] else None for side in (False, True)]
        if rows:
            expected.append((has_answer, len(rows), n_left, n_left / len(rows), *means))
    assert expected
    assert (
        real.execute(
            "select * exclude (abandonment_rate_low, abandonment_rate_high) "
            "from bias.abandonment_by_answer_shown"
        ).fetchall()
        == expected
    )


def test_click_rate_by_answer_stratum(
    real: duckdb.DuckDBPyConnection, requests: list[dict[str, Any]]
) -> None:
    names = dict(real.execute("select request_id, query_source_name from core.requests").fetchall())
    strata = defaultdict(list)
    for row in requests:
        if row["channel"] == "search":
            length = min(max(len(row["query"]), 3), 11) if row["query"] else 0
            strata[row["has_answer"], names[row["id"]], length].append(row)
    found = real.execute("from bias.click_rate_by_answer_stratum").fetchall()
    assert [row[:3] for row in found] == sorted(strata)
    for *stratum, n, shown, clicked, depth, first, per_request, rate in found:
        rows = strata[tuple(stratum)]
        firsts = [min(e["position"] for e in row["clicked"]) for row in rows if row["clicked"]]
        n_clicks = sum(len(row["clicked"]) for row in rows)
        n_shown = sum(len(row["details"]) for row in rows)
        assert (n, shown, clicked) == (len(rows), n_shown, n_clicks)
        assert depth == fmean(max(e["position"] for e in row["details"]) for row in rows)
        assert first == (fmean(firsts) if firsts else None)
        assert (per_request, rate) == (n_clicks / len(rows), n_clicks / n_shown)


def test_click_rate_by_warmth(
    real: duckdb.DuckDBPyConnection, requests: list[dict[str, Any]]
) -> None:
    known: dict[tuple[str, int], str] = {}
    for row in requests:
        for entry in row["details"] if row["table"].endswith("_train") else []:
            note = (row["channel"], entry["note_idx"])
            if entry["click"] == 1 or note not in known:
                known[note] = "clicked" if entry["click"] == 1 else "shown"
    shown: Counter[tuple[str, str]] = Counter()
    clicked: Counter[tuple[str, str]] = Counter()
    members = defaultdict(set)
    for row in requests:
        for entry in row["details"] if row["table"].endswith("_test") else []:
            group = (row["channel"], known.get((row["channel"], entry["note_idx"]), "unseen"))
            members[group].add(entry["note_idx"])
            shown[group] += 1
            clicked[group] += entry["click"] == 1
    n_all, n_all_clicked = (
        {
            channel: sum(n for group, n in counts.items() if group[0] == channel)
            for channel in ("search", "recommendation")
        }
        for counts in (shown, clicked)
    )
    assert real.execute("from bias.click_rate_by_warmth").fetchall() == [
        (
            *group,
            len(members[group]),
            n,
            clicked[group],
            n / n_all[group[0]],
            clicked[group] / n_all_clicked[group[0]],
            clicked[group] / n,
        )
        for group, n in sorted(shown.items())
    ]


def test_popularity_concentration(
    real: duckdb.DuckDBPyConnection, requests: list[dict[str, Any]]
) -> None:
    events = defaultdict(Counter)
    for row in requests:
        events[row["channel"], "impression"].update(e["note_idx"] for e in row["details"])
        events[row["channel"], "click"].update(e["note_idx"] for e in row["clicked"])
    expected = []
    for key, counts in sorted(events.items()):
        sizes = sorted(counts.values(), reverse=True)
        n, total = len(sizes), sum(sizes)
        # Half the mean difference between two notes, over the mean.
        gini = sum(abs(one - other) for one in sizes for other in sizes) / (2 * n * total)
        tops = [sum(sizes[: ceil(n / part)]) / total for part in (100, 10)]
        expected.append((*key, n, total, pytest.approx(gini, abs=1e-12), *tops, sizes.count(1) / n))
    assert real.execute("from bias.popularity_concentration").fetchall() == expected


def test_click_rate_by_user_decile(
    real: duckdb.DuckDBPyConnection, requests: list[dict[str, Any]]
) -> None:
    users = defaultdict(list)
    for row in requests:
        users[row["channel"], row["user"]].append(row)
    expected = []
    for channel in ("recommendation", "search"):
        active = []
        for (of_channel, user), rows in users.items():
            shown = sum(len(row["details"]) for row in rows)
            clicked = sum(len(row["clicked"]) for row in rows)
            if of_channel == channel and shown >= 50:
                active.append((clicked / shown, user, len(rows), shown, clicked))
        active.sort()
        n_clicks = sum(user[-1] for user in active)
        # Tenths as even as can be, the larger first; with fewer than ten users some are empty.
        size, larger = divmod(len(active), 10)
        for tenth in range(1, 11):
            group = [active.pop(0) for _ in range(size + (tenth <= larger))]
            if group:
                n_rows, shown, clicked = (sum(user[n] for user in group) for n in (2, 3, 4))
                rate, share = clicked / shown, clicked / n_clicks
                expected.append((channel, tenth, len(group), n_rows, shown, clicked, rate, share))
    # Three users of search, none of the feed, have 50 impressions.
    assert [row[:3] for row in expected] == [("search", n, 1) for n in (1, 2, 3)]
    assert real.execute("from bias.click_rate_by_user_decile").fetchall() == expected


def test_topic_shift_by_transition(
    real: duckdb.DuckDBPyConnection,
    requests: list[dict[str, Any]],
    notes: dict[int, dict[str, Any]],
) -> None:
    letters = {"search": "S", "recommendation": "R"}
    compared = defaultdict(list)
    for first, second in pairs_within_half_an_hour(requests):
        for level in (1, 2):
            topics = [
                [
                    topic
                    for entry in row["clicked"]
                    if (topic := notes.get(entry["note_idx"], {}).get(f"taxonomy{level}_id"))
                    not in (None, "", "nan", "None")
                ]
                for row in (first, second)
            ]
            if all(topics):
                transition = f"{letters[first['channel']]}->{letters[second['channel']]}"
                compared[transition, level].append(topics)

    def agreement(old: list[str], new: list[str]) -> float:
        return sum(one == other for one in old for other in new) / (len(old) * len(new))

    expected = []
    for key, pairs in sorted(compared.items()):
        rate = fmean(agreement(old, new) for old, new in pairs)
        chance = fmean(agreement(old, new) for old, _ in pairs for _, new in pairs)
        lift = pytest.approx(rate / chance, abs=1e-8) if chance else None
        expected.append((*key, len(pairs), pytest.approx(rate), pytest.approx(chance), lift))
    # None of the few notes of the sample is one that its requests clicked.
    assert not expected
    assert real.execute("from bias.topic_shift_by_transition").fetchall() == expected


def test_query_overlap_of_feed(
    real: duckdb.DuckDBPyConnection,
    requests: list[dict[str, Any]],
    notes: dict[int, dict[str, Any]],
) -> None:
    overlaps = defaultdict(list)
    for first, second in pairs_within_half_an_hour(requests):
        if first["channel"] == second["channel"]:
            continue
        is_after = first["channel"] == "search"
        query, feed = (first["query"], second) if is_after else (second["query"], first)
        for entry in feed["details"] if query else []:
            title = notes.get(entry["note_idx"], {}).get("note_title")
            if title not in (None, "nan", "None"):
                share = sum(character in title for character in query) / len(query)
                overlaps["after" if is_after else "before", entry["click"] == 1].append(share)
    # No search and feed request of the sample are of one user.
    assert not overlaps
    assert real.execute("from bias.query_overlap_of_feed").fetchall() == [
        (*group, len(found), pytest.approx(fmean(found)))
        for group, found in sorted(overlaps.items())
    ]
