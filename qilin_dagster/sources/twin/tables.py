"""The five request tables and their label lists: exact columns, order and types, and quirks."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qilin_dagster.sources.twin import retrieval, text
from qilin_dagster.sources.twin.answers import Answers
from qilin_dagster.sources.twin.blocks import Numbering
from qilin_dagster.sources.twin.clicks import Outcome
from qilin_dagster.sources.twin.draws import (
    Flags,
    Floats,
    Ints,
    offsets,
    stream,
)
from qilin_dagster.sources.twin.history import Histories
from qilin_dagster.sources.twin.queries import Queries
from qilin_dagster.sources.twin.slots import Slots
from qilin_dagster.sources.twin.targets import RATES
from qilin_dagster.sources.twin.timeline import (
    DAY_END_S,
    FEED,
    MIDNIGHT_S,
    SEARCH,
    TABLES,
    Requests,
)
from qilin_dagster.sources.twin.world import (
    Notes,
    Users,
)

# 27 November 2024 00:00: the search log stores local wall time as if it were UTC, the feed log
# stores true epoch time; China is 8 hours ahead.
SEARCH_MIDNIGHT_S: Final = 1_732_665_600
FEED_MIDNIGHT_S: Final = SEARCH_MIDNIGHT_S - 8 * 3600
TRAIN_TABLES: Final = ("search_train", "recommendation_train")
ENGAGEMENT: Final = ("like", "collect", "share", "comment")


@dataclass(frozen=True)
class World:
    """Everything that was drawn, before it is written."""

    seed: int
    notes: Notes
    users: Users
    requests: Requests
    queries: Queries
    answers: Answers
    slots: Slots
    outcome: Outcome
    histories: Histories
    numbering: Numbering


@dataclass(frozen=True)
class Exposures:
    """What the log holds about each published exposure, ordered by request and shown rank."""

    place: Ints  # exposure of the slots
    request: Ints
    is_clicked: Flags
    engagement: dict[str, Flags]
    dwell_s: Floats  # NaN where the log holds none
    after_s: Floats  # seconds after the request began
    chunk: Ints  # results that were loaded together, numbered inside the request


def make_exposures(world: World) -> Exposures:
    """Dwell, engagement and exposure times of the published exposures."""
    rng = stream(world.seed, "exposures")
    slots, requests = world.slots, world.requests
    place = np.flatnonzero(slots.is_seen_list)
    request = slots.request[place]
    clicked = world.outcome.is_clicked[place]
    channel = requests.channel[request]
    count = len(place)
    is_dqa = requests.table[request] == TABLES.index("dqa")
    u = rng.random(count)
    kept = np.where(channel == FEED, 0.53, np.where(is_dqa, 0.995, 0.985))
    has_dwell = np.where(clicked, u < kept, (u < 0.002) & (channel == SEARCH))
    mean = np.where(channel == FEED, 2.95, 2.6)
    dwell = np.exp(
        rng.normal(mean, 1.15, count) + 0.15 * world.notes.quality[world.outcome.note[place]]
    )
    dwell = np.where(has_dwell, np.round(np.clip(dwell, 0.05, 3600.0), 3), np.nan)
    rates = np.array([RATES["R"], RATES["S-DQA"], RATES["S+DQA"]])
    kind = np.where(channel == FEED, 0, np.where(world.answers.is_shown[request], 2, 1))
    # Liked notes are the better ones; the mean rate of a kind stays as published.
    worth = np.exp(0.5 * world.notes.quality[world.outcome.note[place]])
    for number in range(3):
        rows = (kind == number) & clicked
        worth[rows] /= max(worth[rows].mean(), 1e-9) if rows.any() else 1.0
    engagement = {
        name: clicked & (rng.random(count) < np.minimum(rates[kind, column] * worth, 1.0))
        for column, name in enumerate(ENGAGEMENT)
    }
    rank = slots.rank[place]
    new_chunk = (rank > 1) & (rng.random(count) < 0.22)
    again = slots.repeat_of[place] >= 0
    first_again = again & (np.concatenate([[False], ~again[:-1]]))
    wait = np.where(new_chunk, np.exp(rng.normal(2.0, 1.1, count)), 0.0)
    wait += np.where(new_chunk & clicked, rng.exponential(20.0, count), 0.0)
    late = new_chunk & (rng.random(count) < 0.012)
    wait += np.where(late, rng.exponential(5400.0, count), 0.0)
    wait += np.where(first_again, 1800.0 + rng.exponential(14000.0, count), 0.0)
    small = np.where(channel == FEED, rng.integers(0, 3, count) / 1000.0, 0.0)
    total = np.cumsum(wait + small)
    n_rows = np.bincount(request, minlength=len(requests))
    starts = offsets(n_rows)[:-1]
    after = total - total[np.minimum(starts, count - 1)][request]
    ends_early = np.isin(requests.table, [TABLES.index(name) for name in TRAIN_TABLES])
    limit = np.where(ends_early, DAY_END_S, MIDNIGHT_S)
    # A list that would run past the end of its split is compressed.
    room = limit - 1.0 - requests.begin_s
    last = np.maximum.reduceat(after, starts)
    after = after * np.minimum(1.0, room / np.maximum(last, 1.0))[request]
    chunk = np.cumsum(new_chunk | first_again)
    chunk = chunk - chunk[np.minimum(starts, count - 1)][request]
    return Exposures(place, request, clicked, engagement, dwell, np.maximum(after, 0.0), chunk)


def row_edges(table: str, count: int) -> list[int]:
    """First row of each part of a table, and the end: a test table has a head, others are one."""
    if table in ("search_test", "recommendation_test"):
        return [0, round(0.1615 * count), count]
    return [0, count]


def row_order(world: World, table: str) -> Ints:
    """Requests of a table in published row order; the label lists count rows from 0.

    The first 16 % of a test table hold more clicks than the rest, as in the published files.
    """
    rng = stream(world.seed, f"rows {table}")
    rows = np.flatnonzero(world.requests.table == TABLES.index(table))
    rows = rng.permutation(rows)
    edges = row_edges(table, len(rows))
    if len(edges) == 2:
        return rows
    clicks = np.bincount(
        world.slots.request, world.outcome.is_clicked, minlength=len(world.requests)
    )[rows]
    u = rng.exponential(size=len(rows))
    first = np.argsort(u / clicks**0.23, kind="stable")[: edges[1]]
    rest = np.setdiff1d(np.arange(len(rows)), first)
    order = rest[np.argsort(rng.exponential(size=len(rest)) / clicks[rest] ** 0.03, kind="stable")]
    arranged: Ints = rows[np.concatenate([first, order])]
    return arranged


def request_table(world: World, exposures: Exposures, table: str, rows: Ints) -> pa.Table:
    """One of the five request tables; ``rows`` are its requests in row order."""
    if table.startswith("recommendation"):
        return _feed_table(world, exposures, table, rows)
    return _search_table(world, exposures, table, rows)


def _id_space(world: World, table: str, rows: Ints) -> pa.Array:
    """search_idx: dqa, train, test; request_idx: train, test; shuffled inside a table."""
    counts = np.bincount(world.requests.table, minlength=len(TABLES))
    first = {
        "dqa": 0,
        "search_train": counts[2],
        "search_test": counts[2] + counts[0],
        "recommendation_train": 0,
        "recommendation_test": counts[3],
    }[table]
    rng = stream(world.seed, f"ids {table}")
    return pa.array(first + rng.permutation(len(rows)))


def _gather(world: World, exposures: Exposures, rows: Ints) -> tuple[Ints, Ints]:
    """Published exposures of ``rows`` in row order: indices into ``exposures``, and offsets."""
    n_rows = np.bincount(exposures.request, minlength=len(world.requests))
    starts = offsets(n_rows)[:-1]
    length = n_rows[rows]
    out = offsets(length)
    return np.repeat(starts[rows] - out[:-1], length) + np.arange(out[-1]), out


def as_lists(starts: Ints, values: pa.Array) -> pa.Array:
    """A list column of consecutive runs of ``values``."""
    return pa.ListArray.from_arrays(pa.array(starts.astype(np.int32)), values)


def _history(world: World, rows: Ints) -> tuple[pa.Array, Ints, Ints]:
    histories = world.histories
    length = np.diff(histories.starts)[rows]
    out = offsets(length)
    index = np.repeat(histories.starts[:-1][rows] - out[:-1], length) + np.arange(out[-1])
    latent = histories.note[index]
    return as_lists(out, pa.array(world.numbering.idx[latent])), latent, out


def _search_table(world: World, exposures: Exposures, table: str, rows: Ints) -> pa.Table:
    requests, queries = world.requests, world.queries
    index, out = _gather(world, exposures, rows)
    request = exposures.request[index]
    number = pa.int64() if table == "dqa" else pa.float64()
    none = -1.0 if table == "dqa" else np.nan
    dwell = np.where(np.isnan(exposures.dwell_s[index]), none, exposures.dwell_s[index])
    stamp = np.floor(requests.begin_s[request] + exposures.after_s[index]) + SEARCH_MIDNIGHT_S
    stamp = stamp - _stale_shift(world, request, exposures.chunk[index])
    note = world.numbering.idx[world.outcome.note[exposures.place[index]]]
    position = world.slots.position[exposures.place[index]]

    def cast(values: np.ndarray) -> pa.Array:
        return pa.array(values.astype(np.int64)).cast(number)

    engaged = {name: cast(flags[index]) for name, flags in exposures.engagement.items()}
    details = pa.StructArray.from_arrays(
        [
            cast(exposures.is_clicked[index]),
            engaged["collect"],
            engaged["comment"],
            engaged["like"],
            pa.array(note),
            pa.array(dwell),
            cast(position),
            cast(stamp),
            engaged["share"],
        ],
        [
            *("click", "collect", "comment", "like", "note_idx", "page_time", "position"),
            *("search_timestamp", "share"),
        ],
    )
    source = queries.source[rows].astype(float)
    columns: dict[str, pa.Array] = {
        "query": pa.array([queries.text[row] for row in rows.tolist()], pa.string()),
        "query_from_type": pa.array(source, mask=source == 0),
    }
    if table == "dqa":
        columns |= _answer_columns(world, exposures, rows)
    columns["recent_clicked_note_idxs"] = _history(world, rows)[0]
    if table == "dqa":
        columns["ref_note_idx_list"] = columns.pop("ref_note_idx_list")
    columns |= {
        "search_result_details_with_idx": as_lists(out, details),
        "search_idx": _id_space(world, table, rows),
        "session_idx": pa.array(requests.app_session[rows]),
        "user_idx": pa.array(requests.user[rows]),
    }
    args = (requests, queries, world.notes, world.slots, world.outcome, world.numbering)
    if table != "search_train":
        columns["bm25_results"] = retrieval.lists(rows, False, *args, world.seed)
    columns["dpr_results"] = retrieval.lists(rows, True, *args, world.seed)
    if table == "search_test":
        columns["search_results"] = as_lists(out, pa.array(note))
    return pa.table(columns)


def _stale_shift(world: World, request: Ints, chunk: Ints) -> Floats:
    """Seconds by which exposures of stale searches lie before the log day (one to six days)."""
    rng = stream(world.seed, "stale")
    count = len(world.requests)
    days = rng.integers(1, 7, count)
    spread = rng.random(count) < 0.3  # the later chunks of some lie days after the first
    later = np.minimum(days - 1, rng.integers(0, 6, count))
    shift = np.where(spread[request] & (chunk > 0), later[request], days[request]) * 86_400.0
    return np.where(world.requests.is_stale[request], shift, 0.0)


def _answer_columns(world: World, exposures: Exposures, rows: Ints) -> dict[str, pa.Array]:
    """Answer, feedback flags and referred notes; -1, '-1' and [] where none was shown."""
    rng = stream(world.seed, "answer texts")
    shown = world.answers.is_shown[rows]
    slots, outcome = world.slots, world.outcome
    # Referred notes: the first ones of the list that are about the query's subject.
    referred: list[list[int]] = []
    latent: list[list[int]] = []
    for row, is_shown in zip(rows.tolist(), shown.tolist(), strict=True):
        chosen: list[int] = []
        if is_shown:
            begin, end = int(slots.starts[row]), int(slots.starts[row + 1])
            listed = outcome.note[begin:end].tolist()
            about = [
                one for one in listed if world.notes.subject[one] == world.queries.subject[row]
            ]
            chosen = list(dict.fromkeys(about or listed))[: 1 + int(rng.random() * 4)]
        latent.append(chosen)
        referred.append([int(world.numbering.idx[one]) for one in chosen])
    flat = np.array([one for chosen in latent for one in chosen], dtype=np.int64)
    said = text.facts(world.notes, flat).to_pylist()
    also = text.facts(world.notes, flat, second=True).to_pylist()
    answers = []
    at = 0
    for row, chosen in zip(rows.tolist(), latent, strict=True):
        pairs = list(zip(said[at : at + len(chosen)], also[at : at + len(chosen)], strict=True))
        at += len(chosen)
        answers.append(text.answer(world.queries.text[row], pairs) if chosen else "-1")
    flags = {
        name: pa.array(np.where(shown, (rng.random(len(rows)) < share).astype(float), -1.0))
        for name, share in (
            ("is_like_clk", 0.015),
            ("is_onebox_trace_clk", 0.06),
            ("is_content_clk", 0.35),
            ("is_experience_clk", 0.05),
        )
    }
    return {
        "dqa_output": pa.array(answers, pa.string()),
        **flags,
        "ref_note_idx_list": pa.array(referred, pa.list_(pa.int64())),
    }


def _feed_table(world: World, exposures: Exposures, table: str, rows: Ints) -> pa.Table:
    requests = world.requests
    index, out = _gather(world, exposures, rows)
    # Log-join order: by chunk, the rows with a viewing time last; a list that was shown again has
    # its second showing first.
    has_dwell = ~np.isnan(exposures.dwell_s[index]) & world.numbering.is_leaking
    local = np.repeat(np.arange(len(rows)), np.diff(out))
    again = world.slots.repeat_of[exposures.place[index]] >= 0
    index = index[np.lexsort((has_dwell, exposures.chunk[index], ~again, local))]
    request = exposures.request[index]
    dwell = np.nan_to_num(exposures.dwell_s[index], nan=0.0)
    stamp = np.round((requests.begin_s[request] + exposures.after_s[index]) * 1000).astype(np.int64)
    note = world.numbering.idx[world.outcome.note[exposures.place[index]]]
    engaged = {
        name: pa.array(flags[index].astype(np.int64))
        for name, flags in exposures.engagement.items()
    }
    details = pa.StructArray.from_arrays(
        [
            pa.array(exposures.is_clicked[index].astype(np.int64)),
            engaged["collect"],
            engaged["comment"],
            engaged["like"],
            pa.array(note),
            pa.array(dwell),
            pa.array(world.slots.position[exposures.place[index]]),
            pa.array(stamp + FEED_MIDNIGHT_S * 1000),
            engaged["share"],
        ],
        [
            *("click", "collect", "comment", "like", "note_idx", "page_time", "position"),
            *("request_timestamp", "share"),
        ],
    )
    history, latent, history_out = _history(world, rows)
    columns: dict[str, pa.Array] = {
        "recent_clicked_note_idxs": history,
        "rec_result_details_with_idx": as_lists(out, details),
        "request_idx": _id_space(world, table, rows),
        "session_idx": pa.array(requests.app_session[rows]),
        "user_idx": pa.array(requests.user[rows]),
    }
    if table == "recommendation_test":
        columns["rec_results"] = _shuffled_candidates(world, note, out)
    columns["query"] = _pseudo_queries(world, latent, history_out)
    return pa.table(columns)


def _shuffled_candidates(world: World, note: Ints, out: Ints) -> pa.Array:
    """Distinct exposed notes of each request in random order."""
    rng = stream(world.seed, "candidates")
    local = np.repeat(np.arange(len(out) - 1), np.diff(out))
    key = local * len(world.notes) + note
    _, first = np.unique(key, return_index=True)
    order = np.lexsort((rng.random(len(first)), local[first]))
    length = np.bincount(local[first], minlength=len(out) - 1)
    return as_lists(offsets(length), pa.array(note[first[order]]))


def _pseudo_queries(world: World, latent: Ints, out: Ints) -> pa.Array:
    """Titles of recent clicks joined by blanks, cut off after about 370 characters."""
    pieces = []
    for begin in range(0, len(out) - 1, 20_000):
        part = out[begin : begin + 20_001]
        titles = text.titles(world.notes, latent[part[0] : part[-1]])
        joined = pc.binary_join(as_lists(part - part[0], titles), " ")
        pieces.append(pc.utf8_slice_codeunits(joined, 0, 367))
    return pa.concat_arrays(pieces) if pieces else pa.array([], pa.string())


def labels(world: World, exposures: Exposures, rows: Ints) -> pa.Table:
    """Official label list: one row per clicked (row position, note), in published order."""
    index, out = _gather(world, exposures, rows)
    qid = np.repeat(np.arange(len(rows)), np.diff(out))
    clicked = exposures.is_clicked[index]
    note = world.numbering.idx[world.outcome.note[exposures.place[index]]]
    return pa.table({"qid": pa.array(qid[clicked]), "pid": pa.array(note[clicked])})
