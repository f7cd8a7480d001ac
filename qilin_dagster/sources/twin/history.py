"""What each user clicked before: one stream per user, and the window each request publishes.

A stream holds clicks of earlier days, then, in order of time, the clicks of the log and others
that the log does not hold (other pages of the app). A request publishes its last 20, newest first.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from qilin_dagster.sources.twin.clicks import Outcome
from qilin_dagster.sources.twin.draws import Ints, offsets, stream, within
from qilin_dagster.sources.twin.slots import Slots
from qilin_dagster.sources.twin.timeline import TABLES, Requests
from qilin_dagster.sources.twin.world import (
    ANSWER_POOL,
    FEED_POOL,
    SEARCH_POOL,
    TASTE_WEIGHTS,
    Notes,
    Users,
)

LONGEST: Final = 20
BEFORE: Final = 24  # clicks of earlier days per user
ELSEWHERE: Final = 2.2  # mean clicks per request that the log does not hold
AGAIN: Final = 0.07  # clicks on a note that was clicked shortly before
LEVELS: Final = (0.0, 0.62, 0.20, 0.18)


@dataclass(frozen=True)
class Histories:
    """Published history of each request, newest first, flat with offsets."""

    starts: Ints
    note: Ints  # latent


def make_histories(
    requests: Requests, users: Users, notes: Notes, slots: Slots, outcome: Outcome, seed: int
) -> Histories:
    """Draw the streams and cut each request's window out of them."""
    rng = stream(seed, "histories")
    n_requests = len(requests)
    clicked = np.flatnonzero(outcome.is_clicked)
    n_clicks = np.bincount(slots.request[clicked], minlength=n_requests)
    n_else = rng.poisson(ELSEWHERE, n_requests)
    # The stream in blocks of (clicks elsewhere, clicks of the request); the first request of a
    # user carries the clicks of earlier days as well.
    new_user = np.ones(n_requests, dtype=bool)
    new_user[1:] = requests.user[1:] != requests.user[:-1]
    n_else = n_else + np.where(new_user, BEFORE, 0)
    block = n_else + n_clicks
    starts = offsets(block)
    owner = np.repeat(np.arange(n_requests), block)
    place = within(block)
    is_else = place < n_else[owner]
    note = np.empty(starts[-1], dtype=np.int64)
    note[~is_else] = outcome.note[clicked]
    note[is_else] = _elsewhere(owner[is_else], requests, users, notes, rng)
    first_of_user = np.maximum.accumulate(np.where(new_user, starts[:-1], 0))
    back = rng.integers(1, 6, len(note))
    again = np.flatnonzero((rng.random(len(note)) < AGAIN) & is_else)
    again = again[again - back[again] >= first_of_user[owner[again]]]
    note[again] = note[again - back[again]]
    end = starts[:-1] + n_else
    u = rng.random(n_requests)
    wanted = np.where(u < 0.03, rng.integers(2, 18, n_requests), LONGEST)
    wanted = np.where((u >= 0.03) & (u < 0.3), rng.integers(18, 20, n_requests), wanted)
    length = np.minimum(wanted, end - first_of_user)
    out = offsets(length)
    position = np.repeat(end - 1, length) - within(length)
    return Histories(out, note[position])


def _elsewhere(
    request: Ints, requests: Requests, users: Users, notes: Notes, rng: np.random.Generator
) -> Ints:
    count = len(request)
    taste = users.taste[requests.user[request]]
    liked = np.searchsorted(np.cumsum(TASTE_WEIGHTS)[:-1], rng.random(count))
    subject = taste[np.arange(count), liked]
    level = np.searchsorted(np.cumsum(LEVELS)[:-1], rng.random(count))
    is_dqa = requests.table[request] == TABLES.index("dqa")
    u = rng.random(count)
    pool = np.where(u < 0.62, FEED_POOL, np.where(u < 0.97, SEARCH_POOL, ANSWER_POOL))
    pool = np.where(is_dqa & (u < 0.45), ANSWER_POOL, pool)
    form = (rng.random(count) < 0.3) + 0
    low, high = notes.interval(pool, form, subject, subject * 0, level)
    return low + (rng.random(count) * (high - low)).astype(np.int64)
