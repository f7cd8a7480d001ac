"""When who asks what: 30-minute sessions, their channels, tables and clock times.

The number of transitions of each kind is exact (targets.TRANSITIONS): sessions are built from runs
of one channel, and runs are joined as often as the log joins them.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from qilin_dagster.sources.twin.draws import Flags, Floats, Ints, offsets, stream, within
from qilin_dagster.sources.twin.targets import REQUESTS_PER_APP_SESSION, Sizes
from qilin_dagster.sources.twin.world import Users

SEARCH, FEED = 0, 1
TABLES: Final = (
    "search_train",
    "search_test",
    "dqa",
    "recommendation_train",
    "recommendation_test",
)
# How a request follows the one before it in its session.
STEPS: Final = ("first S", "first R", "S->S", "R->S", "R->R", "S->R")
DAY_END_S: Final = 22 * 3600  # the published split: test rows come after 22:00
MIDNIGHT_S: Final = 24 * 3600
SESSION_GAP_S: Final = 1800
# Share of the day's traffic that starts in each hour from 0:00 to 21:59 (invented).
HOURS: Final = (3, 2, 1, 1, 1, 1, 2, 4, 5, 5, 5, 5, 6, 6, 5, 5, 5, 6, 6, 7, 8, 8)


@dataclass(frozen=True)
class Requests:
    """One entry per published request, ordered by user and time."""

    channel: Ints
    table: Ints  # index into TABLES
    user: Ints
    session: Ints  # 30-minute session
    session_n: Ints  # from 0, over both channels
    step: Ints  # index into STEPS
    begin_s: Floats  # seconds after local midnight of the log day
    app_session: Ints  # published session_idx
    app_session_n: Ints  # from 0, in the app session
    is_stale: Flags  # searches whose exposures were logged days earlier

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True)
class _Runs:
    session: Ints
    place: Ints
    channel: Ints
    length: Ints


def make_requests(sizes: Sizes, users: Users, seed: int) -> Requests:
    """Draw sessions, give them to users and put them on the clock."""
    rng = stream(seed, "timeline")
    runs = _make_runs(sizes, rng)
    n_sessions = sizes.first_searches + sizes.first_feeds
    channel = np.repeat(runs.channel, runs.length)
    session = np.repeat(runs.session, runs.length)
    lengths = np.bincount(session, minlength=n_sessions)
    session_n = within(lengths)
    is_late, is_answer = _choose_late(sizes, channel, session, n_sessions, rng)
    owner = _give_to_users(is_late, users, rng)
    begin = _put_on_clock(
        channel, session, session_n, lengths, owner, is_late, len(users.activity), rng
    )
    late = is_late[session]
    table = np.where(channel == FEED, 3, 0) + late
    table[is_answer] = TABLES.index("dqa")
    step = _steps(channel, session_n)
    order = np.lexsort((begin, owner[session]))
    is_stale = _choose_stale(table, lengths[session], rng)
    app_session, app_session_n = _app_sessions(table[order], session[order], rng)
    return Requests(
        channel=channel[order],
        table=table[order],
        user=owner[session][order],
        session=session[order],
        session_n=session_n[order],
        step=step[order],
        begin_s=begin[order],
        app_session=app_session,
        app_session_n=app_session_n,
        is_stale=is_stale[order],
    )


def _make_runs(sizes: Sizes, rng: np.random.Generator) -> _Runs:
    """Runs of one channel, joined into sessions of up to three runs."""
    first_s, first_r = sizes.first_searches, sizes.first_feeds
    to_s, to_r = sizes.transitions["R->S"], sizes.transitions["S->R"]
    third_s = round(to_s * to_r / (first_r + to_r))  # S run after an R run that followed an S run
    third_r = round(to_r * to_s / (first_s + to_s))
    sessions_s, sessions_r = np.arange(first_s), first_s + np.arange(first_r)
    second_r = rng.choice(sessions_s, to_r - third_r, replace=False)
    second_s = rng.choice(sessions_r, to_s - third_s, replace=False)
    session = np.concatenate(
        [
            sessions_s,
            sessions_r,
            second_s,
            second_r,
            rng.choice(second_r, third_s, replace=False),
            rng.choice(second_s, third_r, replace=False),
        ]
    )
    counts = (first_s, first_r, len(second_s), len(second_r), third_s, third_r)
    place = np.repeat([0, 0, 1, 1, 2, 2], counts)
    channel = np.repeat([SEARCH, FEED, SEARCH, FEED, SEARCH, FEED], counts)
    length = np.ones(len(session), dtype=np.int64)
    for one, extra in ((SEARCH, sizes.transitions["S->S"]), (FEED, sizes.transitions["R->R"])):
        chosen = np.flatnonzero(channel == one)
        weights = np.minimum(rng.gamma(0.8, 1.0, len(chosen)), 6.0) + 1e-9
        length[chosen] += rng.multinomial(extra, weights / weights.sum())
    order = np.lexsort((place, session))
    return _Runs(session[order], place[order], channel[order], length[order])


def _choose_late(
    sizes: Sizes,
    channel: Ints,
    session: Ints,
    n_sessions: int,
    rng: np.random.Generator,
) -> tuple[Flags, Flags]:
    """Sessions after 22:00 such that the test tables get exactly their rows; and the dqa rows."""
    n_search = np.bincount(session[channel == SEARCH], minlength=n_sessions)
    n_feed = np.bincount(session[channel == FEED], minlength=n_sessions)
    late_answers = min(round(0.06 * sizes.rows["dqa"]), sizes.rows["dqa"])
    want_s = sizes.rows["search_test"] + late_answers
    want_r = sizes.rows["recommendation_test"]
    is_late = np.zeros(n_sessions, dtype=bool)
    mixed = np.flatnonzero((n_search > 0) & (n_feed > 0))
    share = want_r / sizes.feeds
    is_late[rng.permutation(mixed)[: int(share * 0.8 * len(mixed))]] = True
    want_s -= int(n_search[is_late].sum())
    want_r -= int(n_feed[is_late].sum())
    for count, other, want in ((n_search, n_feed, want_s), (n_feed, n_search, want_r)):
        pure = rng.permutation(np.flatnonzero((count > 0) & (other == 0)))
        taken = pure[np.cumsum(count[pure]) <= want]
        short = want - int(count[taken].sum())
        rest = np.setdiff1d(pure, taken, assume_unique=True)
        single = rest[count[rest] == 1][:short]
        if len(single) < short:
            raise ValueError("the scale is too small to split the day at 22:00; use a larger one")
        is_late[taken] = True
        is_late[single] = True
    searches = channel == SEARCH
    in_evening = np.flatnonzero(searches & is_late[session])
    in_day = np.flatnonzero(searches & ~is_late[session])
    is_answer = np.zeros(len(channel), dtype=bool)
    is_answer[rng.choice(in_evening, late_answers, replace=False)] = True
    is_answer[rng.choice(in_day, sizes.rows["dqa"] - late_answers, replace=False)] = True
    return is_late, is_answer


def _give_to_users(is_late: Flags, users: Users, rng: np.random.Generator) -> Ints:
    """A user per session: everyone gets one, the rest goes by activity."""
    owner = np.empty(len(is_late), dtype=np.int64)
    weights = np.minimum(users.activity, 4.0)
    late = np.flatnonzero(is_late)
    # Weighted order without replacement; a user has a second late session only if all have one.
    ranked = np.argsort(rng.exponential(size=len(users.activity)) / weights, kind="stable")
    owner[late] = np.resize(ranked, len(late))
    day = rng.permutation(np.flatnonzero(~is_late))
    everyone = rng.permutation(len(users.activity))[: len(day)]
    owner[day[: len(everyone)]] = everyone
    rest = day[len(everyone) :]
    owner[rest] = rng.choice(len(users.activity), len(rest), p=weights / weights.sum())
    return owner


def _put_on_clock(
    channel: Ints,
    session: Ints,
    session_n: Ints,
    lengths: Ints,
    owner: Ints,
    is_late: Flags,
    n_users: int,
    rng: np.random.Generator,
) -> Floats:
    """Begin of each request; sessions of a user stay more than 30 minutes apart."""
    gap = np.exp(rng.normal(np.where(channel == SEARCH, 4.2, 4.6), 0.9, len(channel)))
    gap = np.where(session_n == 0, 0.0, np.clip(gap, 4.0, 1500.0))
    starts = offsets(lengths)
    spent = np.cumsum(gap)
    inside = spent - spent[starts[:-1]][session]  # seconds after the session began
    duration = np.maximum.reduceat(inside, starts[:-1])
    # Long sessions are compressed so that every user's day has room for all of his sessions.
    n_day = np.bincount(owner[~is_late], minlength=n_users)
    busy = np.bincount(owner[~is_late], weights=duration[~is_late], minlength=n_users)
    has_late = np.bincount(owner[is_late], minlength=n_users) > 0
    window = DAY_END_S - 60.0 - np.where(has_late, SESSION_GAP_S + 60.0, 0.0)
    room = window - n_day * (SESSION_GAP_S + 2.0)
    if room.min() < 3600:
        raise ValueError("too many sessions for one user; use a larger scale")
    squeeze = np.minimum(1.0, 0.6 * room / np.maximum(busy, 1.0))
    factor = np.where(is_late, np.minimum(1.0, 2400.0 / np.maximum(duration, 1.0)), squeeze[owner])
    inside = inside * factor[session]
    duration = duration * factor
    begin = np.empty(len(lengths))
    # Day: free time is cut at sorted random places, then sessions and pauses are put in between.
    day = np.flatnonzero(~is_late)
    edges = np.concatenate([[0.0], np.cumsum(HOURS)]) / sum(HOURS)
    place = np.interp(rng.random(len(day)), edges, np.arange(len(HOURS) + 1) / len(HOURS))
    order = np.lexsort((place, owner[day]))
    day, place = day[order], place[order]
    who = owner[day]
    taken = duration[day] + SESSION_GAP_S + 2.0
    before = np.cumsum(taken) - taken
    first_of = offsets(n_day)[:-1]
    before = before - before[np.minimum(first_of, len(day) - 1)][who]
    free = window - np.bincount(who, weights=taken, minlength=n_users)
    begin[day] = place * free[who] + before
    late = np.flatnonzero(is_late)
    by_owner = late[np.argsort(owner[late], kind="stable")]
    per_owner = np.bincount(owner[late], minlength=n_users)
    turn = within(per_owner)
    n_turns = per_owner[owner[by_owner]]
    slot = (MIDNIGHT_S - DAY_END_S) / n_turns
    slack = slot - duration[by_owner] - np.where(n_turns > 1, SESSION_GAP_S + 60.0, 300.0)
    begin[by_owner] = DAY_END_S + 2.0 + turn * slot + rng.random(len(late)) * np.maximum(slack, 0)
    found: Floats = np.round(begin[session] + inside, 3)
    return found


def _steps(channel: Ints, session_n: Ints) -> Ints:
    before = np.concatenate([[SEARCH], channel[:-1]])
    search = np.where(before == SEARCH, 2, 3)
    feed = np.where(before == FEED, 4, 5)
    return np.where(session_n == 0, channel, np.where(channel == SEARCH, search, feed))


def _choose_stale(table: Ints, session_length: Ints, rng: np.random.Generator) -> Flags:
    """About 0.4 % of train searches carry exposures of earlier days; only lone requests do."""
    lone = np.flatnonzero((table == 0) & (session_length == 1))
    count = max(1, round(0.004 * int((table == 0).sum())))
    is_stale = np.zeros(len(table), dtype=bool)
    is_stale[rng.choice(lone, min(count, len(lone)), replace=False)] = True
    return is_stale


def _app_sessions(table: Ints, session: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Published session_idx: runs of one table inside a session, some cut, numbered by table."""
    new = np.ones(len(table), dtype=bool)
    new[1:] = (session[1:] != session[:-1]) | (table[1:] != table[:-1])
    want = round(len(table) / REQUESTS_PER_APP_SESSION)
    joined = np.flatnonzero(~new)
    extra = min(max(0, want - int(new.sum())), len(joined))
    new[rng.choice(joined, extra, replace=False)] = True
    run = np.cumsum(new) - 1
    run_table = table[new]
    # Numbering as published: answers first, then search, then the feed, shuffled inside a table.
    rank = np.array([1, 2, 0, 3, 4])[run_table]
    number = np.empty(len(run_table), dtype=np.int64)
    number[np.lexsort((rng.random(len(run_table)), rank))] = np.arange(len(run_table))
    return number[run], within(np.bincount(run))
