"""How long each list is and which places it holds, before any note is put there.

A slot fixes what the reader's behaviour fixes: list length, positions with their gaps and deep
starts, and second showings. Mean lengths are raked to the paper by step in the session, by query
length and by table.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from qilin_dagster.sources.twin.answers import READ_SHARE, Answers
from qilin_dagster.sources.twin.draws import Flags, Floats, Ints, offsets, stream, within
from qilin_dagster.sources.twin.queries import Queries
from qilin_dagster.sources.twin.targets import (
    LENGTH_CLICKS,
    LENGTH_CTR,
    LENGTH_SHARE,
    SECOND_CLICKS,
    SECOND_CTR,
    STATE_CLICKS,
    STATE_EXPOSURES,
    Sizes,
)
from qilin_dagster.sources.twin.timeline import (
    DAY_END_S,
    FEED,
    MIDNIGHT_S,
    SEARCH,
    STEPS,
    TABLES,
    Requests,
)

STATES: Final = tuple(STATE_EXPOSURES)
LONGEST: Final = 390  # files: the longest list of the first 1,000 test searches
SPREAD: Final = (1.00, 0.84)  # standard deviation of log list length, search and feed
SHORTEST: Final = (2, 1)


@dataclass(frozen=True)
class Margin:
    """A cut of the requests with the published mean of something in each part."""

    group: Ints  # per request; -1 takes no part
    target: Floats  # mean per request, by group

    def steps(self, per_request: Floats, damping: float) -> Floats:
        """What to add to the logarithm of every request so that the means come closer."""
        size = len(self.target)
        chosen = self.group >= 0
        group = self.group[chosen]
        count = np.bincount(group, minlength=size)
        now = np.bincount(group, per_request[chosen], minlength=size)
        off = np.log(self.target * np.maximum(count, 1) / np.maximum(now, 1e-9))
        off = np.where(count > 0, np.clip(off * damping, -0.5, 0.5), 0.0)
        step: Floats = np.zeros(len(self.group))
        step[chosen] = off[group]
        return step


@dataclass(frozen=True)
class Slots:
    """Lists without notes: one entry per exposure, ordered by request and shown rank."""

    length: Ints  # per request, as if no answer were shown
    shown_length: Ints  # per request, with an answer on top (equals length outside dqa)
    starts: Ints  # per request and the end
    request: Ints
    rank: Ints  # from 1, inside the request
    place: Ints  # where the reader meets the note; what examination depends on
    position: Ints  # as published: the place, but for pages with an answer
    repeat_of: Ints  # exposure of the first showing, -1 for first showings
    is_seen_list: Flags  # part of the list as it happened (an answer cuts the tail off)
    log_length: Floats  # per request: standard-normal part of the log length


def margins(
    requests: Requests, queries: Queries, answers: Answers, sizes: Sizes
) -> tuple[list[Margin], list[Margin]]:
    """Cuts with their mean exposures, and the same cuts with their mean clicks."""
    state = state_of(requests, answers)
    length_bin = np.where(requests.channel == SEARCH, np.clip(queries.length, 3, 11) - 3, -1)
    step_clicks = _step_means(sizes, SECOND_CLICKS, STATE_CLICKS, state)
    exposures_second = {name: SECOND_CLICKS[name] / SECOND_CTR[name] for name in SECOND_CLICKS}
    step_exposures = _step_means(sizes, exposures_second, STATE_EXPOSURES, state)
    shares = np.array(LENGTH_SHARE)
    by_length = {
        "clicks": np.array(LENGTH_CLICKS),
        "exposures": np.array(LENGTH_CLICKS) / np.array(LENGTH_CTR),
    }
    searches = requests.channel == SEARCH
    made = []
    for name, states, steps in (
        ("exposures", STATE_EXPOSURES, step_exposures),
        ("clicks", STATE_CLICKS, step_clicks),
    ):
        by_state = np.array([states[key] for key in STATES])
        mean = by_state[state[searches]].mean()
        lengths = by_length[name] * mean / float((by_length[name] * shares).sum())
        made.append(
            [
                Margin(requests.step, steps),
                Margin(length_bin, lengths),
                Margin(state, by_state),
            ]
        )
    return made[0], made[1]


def state_of(requests: Requests, answers: Answers) -> Ints:
    """Index into STATES: the table, with dqa cut by the intent of the query."""
    plain, factual = STATES.index("plain"), STATES.index("factual")
    state = np.array([STATES.index(name) if name in STATES else plain for name in TABLES])
    is_dqa = requests.table == TABLES.index("dqa")
    return np.where(is_dqa & answers.is_factual, factual, state[requests.table])


def _step_means(
    sizes: Sizes, second: dict[str, float], by_state: dict[str, float], state: Ints
) -> Floats:
    """Means by step: the second requests from table 6, the first ones from what then remains."""
    counts = np.bincount(state, minlength=len(STATES))
    totals = counts * np.array([by_state[name] for name in STATES])
    feed = np.array([name.startswith("rec") for name in STATES])
    found = {}
    for step, total, firsts, parts in (
        ("first S", totals[~feed].sum(), sizes.first_searches, ("S->S", "R->S")),
        ("first R", totals[feed].sum(), sizes.first_feeds, ("R->R", "S->R")),
    ):
        used = sum(second[part] * sizes.transitions[part] for part in parts)
        found[step] = (total - used) / firsts
    return np.array([(found | second)[step] for step in STEPS])


def make_slots(
    requests: Requests, answers: Answers, exposures: list[Margin], sizes: Sizes, seed: int
) -> Slots:
    """Draw list lengths and the places on the page."""
    rng = stream(seed, "slots")
    channel = requests.channel
    # A little lighter in the tail than a lognormal, as the published quantiles are.
    z = np.clip(rng.standard_normal(len(requests)), -3.4, 3.4)
    z = z * (1.08 - 0.03 * z * z)
    cut = np.where(answers.is_shown, READ_SHARE, 1.0)
    shortest = np.array(SHORTEST)[channel]
    longest = min(LONGEST, sizes.notes // 25)
    log_mean = np.full(len(requests), 2.4)
    spread = np.array(SPREAD)[channel]

    def lengths() -> Floats:
        return np.clip(np.exp(log_mean + spread * z), shortest, longest)

    for _ in range(30):
        for margin in exposures:
            log_mean += margin.steps(lengths() * cut, 1.0)
    length = np.maximum(np.floor(lengths() + rng.random(len(requests))).astype(np.int64), 1)
    length = np.minimum(length, longest)
    shown_length = np.where(
        requests.table == TABLES.index("dqa"),
        np.maximum(np.floor(length * READ_SHARE + rng.random(len(requests))), 1).astype(np.int64),
        length,
    )
    request = np.repeat(np.arange(len(requests)), length)
    rank = within(length) + 1
    starts = offsets(length)
    place, position, repeat_of = _places(requests, answers, length, starts, request, rank, rng)
    seen = np.where(answers.is_shown, shown_length, length)
    return Slots(
        length=length,
        shown_length=shown_length,
        starts=starts,
        request=request,
        rank=rank,
        place=place,
        position=position,
        repeat_of=repeat_of,
        is_seen_list=rank <= seen[request],
        log_length=z,
    )


# Gaps: chance that a place is skipped before a result, by channel, and mean extra places skipped.
GAP_CHANCE: Final = (0.142, 0.080)
GAP_EXTRA: Final = 0.6
DEEP_CHANCE: Final = (0.0205, 0.183)  # lists that start on a later page
ABOVE_CHANCE: Final = 0.13  # answers that take the first place
LATER_CHANCE: Final = 0.03  # answers logged with a later page
DEEP_MEAN: Final = (22.0, 12.0)
ZERO_CHANCE: Final = (0.006, 0.003)  # lists whose first result has position 0
RELOAD_CHANCE: Final = 0.78  # pages with an answer that were loaded twice: places start again
SWAP_CHANCE: Final = 0.009  # places of two neighbours in a search list are the wrong way round
REPEAT_CHANCE: Final = (0.151, 0.175)  # feed lists with second showings, train and test


def _places(
    requests: Requests,
    answers: Answers,
    length: Ints,
    starts: Ints,
    request: Ints,
    rank: Ints,
    rng: np.random.Generator,
) -> tuple[Ints, Ints, Ints]:
    channel = requests.channel
    chance = np.array(GAP_CHANCE)[channel][request] * np.minimum(1.0, 0.35 + rank / 12)
    extra = rng.geometric(1 / (1 + GAP_EXTRA), len(request))
    step = 1 + np.where(rng.random(len(request)) < chance, extra, 0)
    first = rank == 1
    deep = rng.random(len(requests)) < np.array(DEEP_CHANCE)[channel]
    jump = 1 + rng.geometric(1 / np.array(DEEP_MEAN)[channel])
    lost = np.where(rng.random(len(requests)) < 0.06, 2, 1)  # the first place was not logged
    zero = rng.random(len(requests)) < np.array(ZERO_CHANCE)[channel]
    zero &= requests.table != TABLES.index("search_test")
    begin = np.where(zero, 0, np.where(deep, jump, lost))
    step[first] = begin
    walked = np.cumsum(step)
    place = walked - (walked[starts[:-1]] - begin)[request]
    # What an answer does to the numbering, not to the reader: it can take a place itself, stand on
    # a later page, and a page that was loaded twice counts from 1 again.
    above = np.where(rng.random(len(requests)) < ABOVE_CHANCE, 1, 0)
    above += np.where(rng.random(len(requests)) < LATER_CHANCE, jump, 0)
    position = place + np.where(answers.is_shown, above, 0)[request]
    reload_at = np.where(
        answers.is_shown & (rng.random(len(requests)) < RELOAD_CHANCE) & (length >= 4),
        (length * 0.45).astype(np.int64),
        length,
    )
    again = rank > reload_at[request]
    at = starts[:-1] + np.minimum(reload_at, length) - 1
    position = np.where(again, position - position[at][request], position)
    # Now and then two neighbours of a search page are logged the other way round.
    swapped = np.flatnonzero(
        (channel[request] == SEARCH)
        & (rank < length[request])
        & ~again
        & (rng.random(len(request)) < SWAP_CHANCE)
    )
    swapped = swapped[np.diff(swapped, prepend=-2) > 1]
    for values in (place, position):
        values[swapped], values[swapped + 1] = values[swapped + 1], values[swapped]
    # Second showings of the first notes of a feed list, at the same places.
    repeat_of = np.full(len(request), -1, dtype=np.int64)
    is_test = requests.table == TABLES.index("recommendation_test")
    repeated = (channel == FEED) & (length >= 4)
    repeated &= requests.begin_s < np.where(is_test, MIDNIGHT_S, DAY_END_S) - 3600
    repeated &= rng.random(len(requests)) < np.where(is_test, REPEAT_CHANCE[1], REPEAT_CHANCE[0])
    count = np.where(repeated, np.minimum(length // 2, rng.integers(2, 6, len(requests))), 0)
    tail = rank > (length - count)[request]
    source = np.arange(len(request)) - (length - count)[request]
    repeat_of[tail] = source[tail]
    for values in (place, position):
        values[tail] = values[source[tail]]
    return place, position, repeat_of
