"""The seven published tables as Arrow tables: exact column names, order and types, and quirks."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qilin_dagster.sources.twin import retrieval, text
from qilin_dagster.sources.twin.answers import Answers
from qilin_dagster.sources.twin.blocks import A, B, C, D, Numbering
from qilin_dagster.sources.twin.clicks import Outcome
from qilin_dagster.sources.twin.draws import (
    Flags,
    Floats,
    Ints,
    offsets,
    picked,
    stream,
    within,
)
from qilin_dagster.sources.twin.history import Histories
from qilin_dagster.sources.twin.lexicon import subjects
from qilin_dagster.sources.twin.queries import Queries
from qilin_dagster.sources.twin.slots import Slots
from qilin_dagster.sources.twin.targets import AGE, GENDER, PLATFORM, RATES
from qilin_dagster.sources.twin.timeline import (
    DAY_END_S,
    FEED,
    MIDNIGHT_S,
    SEARCH,
    TABLES,
    Requests,
)
from qilin_dagster.sources.twin.world import (
    COMMERCIAL_POOL,
    SUBJECT_DOMAIN,
    VIDEO,
    Notes,
    Users,
)

# 27 November 2024 00:00: the search log stores local wall time as if it were UTC, the feed log
# stores true epoch time; China is 8 hours ahead.
SEARCH_MIDNIGHT_S: Final = 1_732_665_600
FEED_MIDNIGHT_S: Final = SEARCH_MIDNIGHT_S - 8 * 3600
N_THIRD: Final = 546  # taxonomy level 3; with 'nan' and 'None' 548 values, as hashed by the script
IMAGE_SALT: Final = 100
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


def row_order(world: World, table: str) -> Ints:
    """Requests of a table in published row order; the label lists count rows from 0.

    The first 16 % of a test table hold more clicks than the rest, as in the published files.
    """
    rng = stream(world.seed, f"rows {table}")
    rows = np.flatnonzero(world.requests.table == TABLES.index(table))
    rows = rng.permutation(rows)
    if table not in ("search_test", "recommendation_test"):
        return rows
    clicks = np.bincount(
        world.slots.request, world.outcome.is_clicked, minlength=len(world.requests)
    )[rows]
    u = rng.exponential(size=len(rows))
    first = np.argsort(u / clicks**0.23, kind="stable")[: round(0.1615 * len(rows))]
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


def _lists(starts: Ints, values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(starts.astype(np.int32)), values)


def _history(world: World, rows: Ints) -> tuple[pa.Array, Ints, Ints]:
    histories = world.histories
    length = np.diff(histories.starts)[rows]
    out = offsets(length)
    index = np.repeat(histories.starts[:-1][rows] - out[:-1], length) + np.arange(out[-1])
    latent = histories.note[index]
    return _lists(out, pa.array(world.numbering.idx[latent])), latent, out


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
        "search_result_details_with_idx": _lists(out, details),
        "search_idx": _id_space(world, table, rows),
        "session_idx": pa.array(requests.app_session[rows]),
        "user_idx": pa.array(requests.user[rows]),
    }
    args = (requests, queries, world.notes, world.slots, world.outcome, world.numbering)
    if table != "search_train":
        columns["bm25_results"] = retrieval.lists(rows, False, *args, world.seed)
    columns["dpr_results"] = retrieval.lists(rows, True, *args, world.seed)
    if table == "search_test":
        columns["search_results"] = _lists(out, pa.array(note))
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
        "rec_result_details_with_idx": _lists(out, details),
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
    return _lists(offsets(length), pa.array(note[first[order]]))


def _pseudo_queries(world: World, latent: Ints, out: Ints) -> pa.Array:
    """Titles of recent clicks joined by blanks, cut off after about 370 characters."""
    pieces = []
    for begin in range(0, len(out) - 1, 20_000):
        part = out[begin : begin + 20_001]
        titles = text.titles(world.notes, latent[part[0] : part[-1]])
        joined = pc.binary_join(_lists(part - part[0], titles), " ")
        pieces.append(pc.utf8_slice_codeunits(joined, 0, 367))
    return pa.concat_arrays(pieces) if pieces else pa.array([], pa.string())


def labels(world: World, exposures: Exposures, rows: Ints) -> pa.Table:
    """Official label list: one row per clicked (row position, note), in published order."""
    index, out = _gather(world, exposures, rows)
    qid = np.repeat(np.arange(len(rows)), np.diff(out))
    clicked = exposures.is_clicked[index]
    note = world.numbering.idx[world.outcome.note[exposures.place[index]]]
    return pa.table({"qid": pa.array(qid[clicked]), "pid": pa.array(note[clicked])})


def user_table(world: World) -> pa.Table:
    """user_feat: demographics, counts and 40 numbers without published meaning."""
    rng = stream(world.seed, "user features")
    users = world.users
    count = len(users.activity)
    activity = users.activity

    def counts(level: float, spread: float) -> pa.Array:
        drawn = np.exp(rng.normal(np.log(level), spread, count)) * np.sqrt(activity)
        return pa.array(np.floor(drawn))

    columns: dict[str, pa.Array] = {
        "gender": pa.array([name for name, _ in GENDER]).take(pa.array(users.gender)),
        "platform": pa.array([name for name, _ in PLATFORM]).take(pa.array(users.platform)),
        "age": pa.array([name for name, _ in AGE]).take(pa.array(users.age)),
        "fans_num": counts(3.0, 1.8),
        "follows_num": counts(25.0, 1.9),
    }
    days = np.clip(np.round(9 + 8 * np.log1p(activity) + rng.normal(0, 4, count)), 0, 28)
    for number in range(1, 41):
        name = f"dense_feat{number}"
        if number in range(3, 33) and number % 2 == 1:
            share = 1.0 - 0.03 * (number - 3) / 2
            columns[name] = pa.array(
                np.floor(np.clip(days * share * rng.uniform(0.6, 1.0, count), 0, 28))
            )
        elif number >= 33 and number <= 37:
            columns[name] = counts(6000.0, 1.1)
        elif number >= 38:
            columns[name] = counts(3.0, 0.9)
        else:
            columns[name] = counts(float(60 * (1 + number * 7 % 11)), 1.3)
    columns["location"] = _locations(count, rng)
    columns["user_idx"] = pa.array(np.arange(count))
    return pa.table(columns)


PLACES: Final = (
    *("中国  安徽  淮北", "中国  广东  深圳", "中国  广东  广州", "中国  浙江  杭州"),
    *("中国  江苏  苏州", "中国  四川  成都", "中国  北京", "中国  上海", "中国  湖北  武汉"),
    *("中国  陕西  西安", "中国  福建  厦门", "中国  山东  青岛", "中国  河南  郑州"),
    *("Hong Kong  Tsuen Wan", "Hong Kong  Sha Tin", "安道尔", "澳大利亚  悉尼"),
    *("冰岛", "马来西亚  吉隆坡", "日本  东京", "韩国  首尔", "United States  California"),
    *("英国  伦敦", "加拿大  多伦多", "法国  巴黎", "新加坡"),
)


def _locations(count: int, rng: np.random.Generator) -> pa.Array:
    """Mostly empty; else parts separated by two blanks, in Chinese or English."""
    chosen = np.where(rng.random(count) < 0.62, len(PLACES), rng.integers(0, len(PLACES), count))
    return pa.array([*PLACES, ""], pa.string()).take(pa.array(chosen))


def note_table(world: World, first: int, last: int) -> pa.Table:
    """Notes ``first`` to ``last`` by published id: text, form, taxonomy, counters, image paths."""
    rng = stream(world.seed, f"notes {first}")
    notes = world.notes
    latent = world.numbering.latent[first:last]
    count = len(latent)
    is_video = notes.form[latent] == VIDEO
    title, body = text.titles(notes, latent), text.contents(notes, latent)
    silent = pa.array(rng.random(count) < text.NO_TEXT)
    length = pc.utf8_length(body).to_numpy(zero_copy_only=False) - rng.integers(1, 43, count)
    title = pc.if_else(silent, pa.scalar("nan"), title)
    body = pc.if_else(silent, pa.scalar(None, pa.string()), body)
    n_images = image_numbers(notes, latent)
    stated = np.maximum(1, n_images + rng.integers(-3, 7, count) * (rng.random(count) < 0.3))
    commercial = (notes.pool[latent] == COMMERCIAL_POOL).astype(float)
    commercial[rng.random(count) < 2e-5] = 7.0  # anomalies the authors know of
    columns: dict[str, pa.Array] = {
        "note_title": title,
        "note_content": body,
        "note_type": pa.array(1.0 + is_video),
        "video_duration": pa.array(
            np.where(is_video, np.clip(np.floor(np.exp(rng.normal(4.1, 0.9, count))), 3, 7777), 0.0)
        ),
        "video_height": pa.array(
            np.where(is_video, rng.choice([1920.0, 1280.0, 1440.0], count), 0.0)
        ),
        "video_width": pa.array(
            np.where(is_video, rng.choice([1080.0, 720.0, 1920.0], count), 0.0)
        ),
        "image_num": pa.array(np.where(is_video, 1.0, stated)),
        "content_length": pa.array(np.maximum(length, 0).astype(float)),
        "commercial_flag": pa.array(commercial),
        **_taxonomy(notes, latent, rng),
        **_counters(world, latent, rng),
        "note_idx": pa.array(np.arange(first, last)),
        "image_path": _image_paths(world, latent, n_images),
    }
    return pa.table(columns)


def _taxonomy(notes: Notes, latent: Ints, rng: np.random.Generator) -> dict[str, pa.Array]:
    """Opaque ids; missing is the word 'nan' or 'None', level 3 in half of the notes."""
    count = len(latent)
    subject = notes.subject[latent]
    n_subjects = len(subjects())
    domains = [f"5ab094be481d26b8ef{0x9045F1 + 23 * number:06x}" for number in range(41)]
    seconds = [f"c{487 + 13 * number:023d}" for number in range(n_subjects)]
    thirds = [f"v{1009 + 7 * number:023d}" for number in range(N_THIRD)]
    third = (subject * 2 + (notes.aspect[latent] >= 5)) % N_THIRD

    def taken(names: list[str], index: Ints, missing: float) -> pa.Array:
        u = rng.random(count)
        index = np.where(u < missing * 0.8, len(names), index)
        index = np.where((u >= missing * 0.8) & (u < missing), len(names) + 1, index)
        return pa.array([*names, "nan", "None"]).take(pa.array(index))

    return {
        "taxonomy1_id": taken(domains, SUBJECT_DOMAIN[subject], 0.01),
        "taxonomy2_id": taken(seconds, subject, 0.03),
        "taxonomy3_id": taken(thirds, third, 0.5),
    }


def _counters(world: World, latent: Ints, rng: np.random.Generator) -> dict[str, pa.Array]:
    """30 heavy-tailed counts. Feed counts are 0 where the block says "never clicked": the leak."""
    count = len(latent)
    notes = world.notes
    quality = notes.quality[latent]
    block = world.numbering.block[latent]
    is_video = notes.form[latent] == VIDEO
    opened = np.isin(block, (B, D))
    n_clicks = world.numbering.n_clicks[latent]
    if not world.numbering.is_leaking:
        opened, n_clicks = rng.random(count) < 0.52, np.zeros(count, dtype=np.int64)
    reach = rng.normal(6.6, 1.9, count) + 0.35 * quality + 0.5 * np.log1p(n_clicks)

    def whole(values: Floats) -> Floats:
        return np.floor(np.minimum(values, 2.7e8))

    search = whole(np.exp(reach))
    feed = np.where(opened, whole(np.exp(reach + rng.normal(0.4, 1.4, count))), 0.0)
    other = whole(np.exp(reach - 2.0 + rng.normal(0, 1.0, count)))
    rate = 1 / (1 + np.exp(-(rng.normal(-1.7, 0.6, count) + 0.3 * quality)))
    search_clicks, feed_clicks = whole(search * rate), whole(feed * rate * 0.8)
    all_clicks = search_clicks + feed_clicks + whole(other * rate)

    def share(of: Floats, level: float) -> Floats:
        return whole(of * np.exp(rng.normal(np.log(level), 1.0, count) + 0.4 * quality))

    parts = {
        "search": {name: share(search_clicks, level) for name, level in _LEVELS.items()},
        "rec": {name: share(feed_clicks, level) for name, level in _LEVELS.items()},
    }
    # Totals were logged apart from their parts: they can be a little below the sum.
    total = {
        name: np.maximum(
            0.0, parts["search"][name] + parts["rec"][name] + rng.integers(-1, 8, count)
        )
        for name in ("like", "collect", "comment", "share")
    }
    lifetime = {
        name: whole(total[name] + np.exp(reach - back + rng.normal(0, 1.2, count) + 0.5 * quality))
        for name, back in (("like", 1.2), ("collect", 2.0), ("comment", 3.6))
    }
    watched = np.exp(rng.normal(3.4, 0.7, count))
    search_view = np.where(is_video, whole(search_clicks * watched), 0.0)
    feed_view = np.where(is_video, whole(feed_clicks * watched), 0.0)
    view = whole(search_view + feed_view + np.where(is_video, other * rate * watched, 0.0))
    values = {
        "imp_num": search + feed + other,
        "imp_rec_num": feed,
        "imp_search_num": search,
        "click_num": all_clicks,
        "click_rec_num": feed_clicks,
        "click_search_num": search_clicks,
        **{f"{name}_num": total[name] for name in ("like", "collect", "comment", "share")},
        "screenshot_num": share(all_clicks, 0.012),
        "hide_num": share(feed, 0.0004),
        **{f"rec_{name}_num": parts["rec"][name] for name in _LEVELS},
        **{f"search_{name}_num": parts["search"][name] for name in _LEVELS},
        **{f"accum_{name}_num": lifetime[name] for name in lifetime},
        "view_time": view,
        "rec_view_time": feed_view,
        "search_view_time": search_view,
        "valid_view_times": np.where(is_video, whole(all_clicks * 0.6), 0.0),
        "full_view_times": np.where(
            is_video, whole(all_clicks * np.exp(rng.normal(-2, 0.6, count))), 0.0
        ),
    }
    return {name: pa.array(numbers) for name, numbers in values.items()}


_LEVELS: Final = {"like": 0.04, "collect": 0.025, "comment": 0.006, "share": 0.012, "follow": 0.004}
assert A < C  # blocks are ordered as the file is


def _image_paths(world: World, latent: Ints, n_images: Ints) -> pa.Array:
    """image/part_k/<id>/<image>.jpg, k = id // 10000; these ids are not the published note_idx."""
    folder = image_folder(world.notes, latent)
    out = offsets(n_images)
    owner = np.repeat(np.arange(len(latent)), n_images)
    image = folder[owner] * 20 + within(n_images)
    digits = [
        pa.array(one).cast(pa.string()) for one in (folder[owner] // 10_000, folder[owner], image)
    ]
    paths = pc.binary_join_element_wise(
        pa.scalar("image/part_"),
        digits[0],
        pa.scalar("/"),
        digits[1],
        pa.scalar("/"),
        digits[2],
        pa.scalar(".jpg"),
        "",
    )
    return _lists(out, paths)


def image_numbers(notes: Notes, latent: Ints) -> Ints:
    """How many image paths a note has; better notes have a few more."""
    u = (picked(latent + notes.first_draw, IMAGE_SALT, 1 << 30) + 0.5) / (1 << 30)
    # A discrete exponential around the mean: stateless, so that every reader finds the same.
    extra = np.floor(-np.log1p(-u) * np.exp(1.2 + 0.25 * notes.quality[latent])).astype(np.int64)
    return np.where(notes.has_image[latent] == 1, np.minimum(1 + extra, 18), 0)


def image_folder(notes: Notes, latent: Ints) -> Ints:
    """Internal image id of a note: a fixed scramble of its latent number."""
    size = len(notes)
    step = 7_368_787 % size or 1
    while np.gcd(step, size) != 1:
        step += 1
    return (latent * step + notes.first_draw % size) % size
