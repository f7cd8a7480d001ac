"""Which notes a slot shows: candidates of the platform, put in the order of its ranker.

The ranker knows relevance, taste and quality only through noise that is drawn anew for every
request, so one note stands at different ranks in different requests.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from qilin_dagster.sources.twin.draws import Floats, Ints, offsets, within
from qilin_dagster.sources.twin.queries import Queries
from qilin_dagster.sources.twin.slots import Slots
from qilin_dagster.sources.twin.targets import FEED_DIPS, FEED_VIDEO, SEARCH_DIPS, VIDEO_SHARE
from qilin_dagster.sources.twin.timeline import SEARCH, TABLES, Requests
from qilin_dagster.sources.twin.world import (
    ANSWER_POOL,
    COMMERCIAL_POOL,
    FEED_POOL,
    FRESH_POOL,
    SEARCH_POOL,
    SUBJECT_DOMAIN,
    TASTE_WEIGHTS,
    TASTES,
    VIDEO,
    Notes,
    Users,
)

# Pool of a candidate by table, in the order of TABLES: (pool, share).
POOLS: Final = (
    ((SEARCH_POOL, 0.868), (ANSWER_POOL, 0.118), (FEED_POOL, 0.014)),
    ((SEARCH_POOL, 0.868), (ANSWER_POOL, 0.118), (FEED_POOL, 0.014)),
    ((ANSWER_POOL, 0.855), (SEARCH_POOL, 0.140), (FEED_POOL, 0.005)),
    ((FEED_POOL, 0.870), (ANSWER_POOL, 0.110), (SEARCH_POOL, 0.020)),
    ((FEED_POOL, 0.585), (FRESH_POOL, 0.30), (ANSWER_POOL, 0.105), (SEARCH_POOL, 0.010)),
)
SEARCH_LEVELS: Final = (0.50, 0.36, 0.12, 0.02)  # same cell, subject, domain, anything
FEED_LEVELS: Final = (0.0, 0.52, 0.20, 0.28)
COMMERCIAL_CHANCE: Final = (0.42, 0.42)  # of an advertisement in a dip slot, by channel

# Attraction on the logit scale (invented; the click level itself is calibrated).
W_SAME_CELL: Final = 1.1
W_SAME_SUBJECT: Final = 0.45
W_SAME_DOMAIN: Final = -0.45
W_OTHER: Final = -1.2
W_TASTE: Final = (1.2, 2.6)  # times the weight of the subject among the user's tastes, by channel
W_TASTE_DOMAIN: Final = (0.0, 0.45)
W_QUALITY: Final = 0.40
W_LOOK: Final = 0.65
W_VIDEO: Final = (-0.47, -0.57)
W_COMMERCIAL: Final = -1.1
OWN_SPREAD: Final = 0.55  # what draws this user to this note and is nowhere in the data
RANKER_NOISE: Final = (0.75, 1.25)
RANKER_BLIND: Final = 0.6  # share of what images show that the ranker does not see
# Draws that go round a group, so that few notes come twice; and draws that favour a group's hits.
ROTATED: Final = (0.94, 0.0)
HIT_CHANCE: Final = (0.02, 0.42)
HIT_POWER: Final = 9.0


@dataclass(frozen=True)
class Shown:
    """Notes of some requests, one entry per exposure in the order of the slots."""

    note: Ints  # latent
    appeal: Floats  # attraction on the logit scale, without the request's own effect
    from_image: Floats  # the part of it that only the images show


def fill(
    slots: Slots,
    chosen: Ints,
    requests: Requests,
    queries: Queries,
    users: Users,
    notes: Notes,
    promotes: float,
    rng: np.random.Generator,
) -> tuple[Ints, Shown]:
    """Notes for the chosen requests: the exposures concerned, and what they show.

    The ranker adds ``promotes`` to the score of a note for each doubling of its images.
    """
    length = slots.length[chosen]
    begins = offsets(length)
    local = np.repeat(np.arange(len(chosen)), length)
    places = np.repeat(slots.starts[chosen] - begins[:-1], length) + np.arange(begins[-1])
    request = chosen[local]
    channel = requests.channel[request]
    taste = users.taste[requests.user[request]]
    aspect = np.maximum(queries.aspect[request], 0)
    pool = _draw_pool(requests.table[request], rng)
    place = slots.place[places]
    video = np.array(FEED_VIDEO)[np.clip(place, 1, len(FEED_VIDEO)) - 1]
    video = np.where(channel == SEARCH, VIDEO_SHARE["S"], video)
    form = (rng.random(len(places)) < video).astype(np.int64)
    search_level = np.searchsorted(np.cumsum(SEARCH_LEVELS)[:-1], rng.random(len(places)))
    feed_level = np.searchsorted(np.cumsum(FEED_LEVELS)[:-1], rng.random(len(places)))
    level = np.where(channel == SEARCH, search_level, feed_level)
    liked = np.searchsorted(np.cumsum(TASTE_WEIGHTS)[:-1], rng.random(len(places)))
    subject = np.where(
        channel == SEARCH, queries.subject[request], taste[np.arange(len(places)), liked]
    )
    low, high = notes.interval(pool, form, subject, aspect, level)
    note = _draw_notes(low, high, channel, rng)
    note = _distinct(note, local, form, pool, subject, aspect, notes, rng)
    appeal, from_image = _appeal(note, request, requests, queries, users, notes, rng)
    score = appeal - RANKER_BLIND * from_image
    score += rng.normal(0, np.array(RANKER_NOISE)[channel], len(places))
    score += promotes * np.log2(np.maximum(notes.n_images(note), 1))
    # The form of each place is given (figures 3c and 3d); the ranker orders the notes of a form.
    order = np.lexsort((-score, form, local))
    target = np.lexsort((form, local))
    for values in (note, appeal, from_image):
        values[target] = values[order]
    # Advertisements take the dip slots.
    dip = np.where(channel == SEARCH, np.isin(place, SEARCH_DIPS), np.isin(place, FEED_DIPS))
    dip &= rng.random(len(places)) < np.array(COMMERCIAL_CHANCE)[channel]
    if dip.any():
        ad = np.flatnonzero(dip)
        ones = np.full(len(ad), COMMERCIAL_POOL)
        low, high = notes.interval(
            ones, notes.form[note[ad]], subject[ad], aspect[ad], ones * 0 + 2
        )
        note[ad] = low + (rng.random(len(ad)) * (high - low)).astype(np.int64)
        note = _distinct(note, local, notes.form[note], pool, subject, aspect, notes, rng)
        extra, looks = _appeal(note[ad], request[ad], requests, queries, users, notes, rng)
        appeal[ad], from_image[ad] = extra, looks
    # Second showings show the same note.
    again = slots.repeat_of[places] >= 0
    source = slots.repeat_of[places][again] - slots.starts[request[again]] + begins[local[again]]
    for values in (note, appeal, from_image):
        values[again] = values[source]
    return places, Shown(note, appeal, from_image)


def _draw_notes(low: Ints, high: Ints, channel: Ints, rng: np.random.Generator) -> Ints:
    """A note from each interval: in rotation, at random, or one of the group's hits."""
    count = len(low)
    size = high - low
    note = low + (rng.random(count) * size).astype(np.int64)
    u = rng.random(count)
    hits = np.flatnonzero(u < np.array(HIT_CHANCE)[channel])
    # A fixed scramble spreads the hits of a group over its aspects.
    nth = (size[hits] * rng.random(len(hits)) ** HIT_POWER).astype(np.int64)
    note[hits] = low[hits] + (nth * 7919) % size[hits]
    turn = np.flatnonzero(u > 1.0 - np.array(ROTATED)[channel])
    if len(turn):
        order = turn[np.argsort(low[turn], kind="stable")]
        groups = np.flatnonzero(np.diff(low[order], prepend=-1))
        nth = within(np.diff(np.append(groups, len(order))))
        begin = np.repeat(rng.random(len(groups)), np.diff(np.append(groups, len(order))))
        note[order] = low[order] + (nth + (begin * size[order]).astype(np.int64)) % size[order]
    return note


def _draw_pool(table: Ints, rng: np.random.Generator) -> Ints:
    u = rng.random(len(table))
    pool = np.empty(len(table), dtype=np.int64)
    for number in range(len(TABLES)):
        rows = table == number
        shares = np.cumsum([share for _, share in POOLS[number]])[:-1]
        names = np.array([name for name, _ in POOLS[number]])
        pool[rows] = names[np.searchsorted(shares, u[rows])]
    return pool


def _distinct(
    note: Ints,
    local: Ints,
    form: Ints,
    pool: Ints,
    subject: Ints,
    aspect: Ints,
    notes: Notes,
    rng: np.random.Generator,
) -> Ints:
    """Draw again, ever more widely, where a list holds the same note twice."""
    note = note.copy()
    for attempt in range(60):
        key = local * len(notes) + note
        order = np.argsort(key, kind="stable")
        same = np.flatnonzero(key[order][1:] == key[order][:-1]) + 1
        if len(same) == 0:
            return note
        rows = np.sort(order[same])
        level = np.full(len(rows), min(1 + attempt // 2, 3))
        low, high = notes.interval(pool[rows], form[rows], subject[rows], aspect[rows], level)
        if attempt > 12:
            low, high = np.zeros_like(low), np.full_like(high, len(notes))
        note[rows] = low + (rng.random(len(rows)) * (high - low)).astype(np.int64)
    return note


def _appeal(
    note: Ints,
    request: Ints,
    requests: Requests,
    queries: Queries,
    users: Users,
    notes: Notes,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Attraction on the logit scale, and the part of it that comes from the images."""
    channel = requests.channel[request]
    subject = notes.subject[note]
    asked = queries.subject[request]
    same = subject == asked
    cell = same & (notes.aspect[note] == queries.aspect[request])
    domain = SUBJECT_DOMAIN[subject] == SUBJECT_DOMAIN[asked]
    relevance = np.where(
        cell,
        W_SAME_CELL,
        np.where(same, W_SAME_SUBJECT, np.where(domain, W_SAME_DOMAIN, W_OTHER)),
    )
    taste = users.taste[requests.user[request]]
    liking = np.zeros(len(note))
    near = np.zeros(len(note), dtype=bool)
    for number in range(TASTES):
        liking += TASTE_WEIGHTS[number] * (taste[:, number] == subject)
        near |= SUBJECT_DOMAIN[taste[:, number]] == SUBJECT_DOMAIN[subject]
    from_image = W_LOOK * notes.look[note] * notes.has_image[note]
    appeal = np.where(channel == SEARCH, relevance, 0.0)
    appeal += np.array(W_TASTE)[channel] * liking
    appeal += np.array(W_TASTE_DOMAIN)[channel] * near
    appeal += W_QUALITY * notes.quality[note] + from_image
    appeal += np.array(W_VIDEO)[channel] * (notes.form[note] == VIDEO)
    appeal += W_COMMERCIAL * (notes.pool[note] == COMMERCIAL_POOL)
    appeal += rng.normal(0, OWN_SPREAD, len(note))
    return appeal, from_image
