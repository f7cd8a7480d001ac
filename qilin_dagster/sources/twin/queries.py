"""What people type: subject, aspect and words of each search, with exact reformulation classes.

A query is composed to a length in characters; consecutive queries of a search-only session are
composed until their character sets stand in the wanted relation (paper, table 8).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from qilin_dagster.sources.twin.draws import Flags, Ints, dealt, quota, stream
from qilin_dagster.sources.twin.lexicon import (
    ASPECTS_PER_FAMILY,
    FAMILIES,
    MODIFIERS,
    aspects,
    subjects,
)
from qilin_dagster.sources.twin.targets import LENGTH_SHARE, REFORMULATION, SOURCES
from qilin_dagster.sources.twin.timeline import SEARCH, SESSION_GAP_S, Requests
from qilin_dagster.sources.twin.world import (
    SUBJECT_FAMILY,
    TASTE_WEIGHTS,
    Users,
    subject_weights,
)

ADD, DELETE, CHANGE, REPEAT, OTHERS = range(5)
LONG: Final = (0.34, 0.22, 0.15, 0.10, 0.08, 0.05, 0.03, 0.03)  # 11..18 characters, invented
TAILS: Final = {
    1: ("图", "店", "季", "榜"),
    2: ("大全", "清单", "合集", "分享", "排行", "视频"),
    3: ("有哪些", "怎么样", "好不好", "小红书", "必看的"),
    4: ("哪个牌子", "详细步骤", "第一次去", "在家自己", "到底好吗"),
    5: ("要注意什么", "一个人可以", "真实的感受", "冬天怎么办", "有什么讲究"),
}
NO_SOURCE: Final = 0.0015  # share of searches without query_from_type; the script counts them as 8


@dataclass(frozen=True)
class Queries:
    """One entry per request; subject and aspect of a feed request are -1."""

    text: list[str]
    subject: Ints
    aspect: Ints
    surface: Ints  # which name of the subject the query uses
    source: Ints  # 1..8, 0 = not logged
    length: Ints  # characters
    follows: Flags  # has an earlier query in its search-only session
    relation: Ints  # class of the reformulation, -1 for none


def make_queries(requests: Requests, users: Users, seed: int) -> Queries:
    """Compose all queries in order of user and time."""
    rng = stream(seed, "queries")
    searches = np.flatnonzero(requests.channel == SEARCH)
    follows = np.zeros(len(requests), dtype=bool)
    same_user = requests.user[searches][1:] == requests.user[searches][:-1]
    near = np.diff(requests.begin_s[searches]) <= SESSION_GAP_S
    stale = requests.is_stale[searches]
    follows[searches[1:]] = same_user & near & ~stale[1:] & ~stale[:-1]
    writer = _Writer(rng, len(searches), int(follows.sum()))
    taste = users.taste[requests.user[searches]]
    drawn = rng.choice(len(subjects()), len(searches), p=subject_weights())
    liked = rng.choice(len(TASTE_WEIGHTS), len(searches), p=TASTE_WEIGHTS)
    topic = np.where(rng.random(len(searches)) < 0.5, taste[np.arange(len(taste)), liked], drawn)
    text = [""] * len(requests)
    found = np.full((len(requests), 4), -1, dtype=np.int64)
    for place, request in enumerate(searches.tolist()):
        query = writer.write(int(topic[place]), bool(follows[request]))
        text[request] = query.text
        found[request] = (query.subject, query.aspect, query.surface, query.relation)
    source = np.zeros(len(requests), dtype=np.int64)
    shares = [*SOURCES[:-1], SOURCES[-1] - NO_SOURCE, NO_SOURCE]
    source[searches] = (dealt(rng, shares, len(searches)) + 1) % 9
    return Queries(
        text=text,
        subject=found[:, 0],
        aspect=found[:, 1],
        surface=found[:, 2],
        source=source,
        length=np.array([len(one) for one in text]),
        follows=follows,
        relation=found[:, 3],
    )


@dataclass(frozen=True)
class _Query:
    text: str
    subject: int
    aspect: int
    surface: int
    relation: int


def relation_of(old: str, new: str) -> int:
    """Reformulation class of two queries by their sets of characters, as the paper counts it."""
    added, dropped, kept = set(new) - set(old), set(old) - set(new), set(new) & set(old)
    if added and not dropped:
        return ADD
    if dropped and not added:
        return DELETE
    if not added and not dropped:
        return REPEAT
    return CHANGE if kept else OTHERS


class _Writer:
    """Writes one query after the other, spending the quotas of lengths and classes."""

    def __init__(self, rng: np.random.Generator, n_queries: int, n_pairs: int) -> None:
        self._random = rng.random(n_queries * 40 + 4000).tolist()
        self._next = 0
        shares = [LENGTH_SHARE[0] * 0.3, LENGTH_SHARE[0] * 0.7, *LENGTH_SHARE[1:8]]
        shares += [LENGTH_SHARE[8] * share for share in LONG]
        self._left = quota(shares, n_queries).tolist()  # queries still to write, by length - 2
        self._deck = dealt(rng, REFORMULATION, n_pairs).tolist()
        self._before = _Query("", 0, 0, 0, -1)
        families = [aspects()[name] for name in FAMILIES]
        self._aspects = [families[number] for number in SUBJECT_FAMILY.tolist()]

    def _draw(self, size: int) -> int:
        self._next = (self._next + 1) % len(self._random)
        return int(self._random[self._next] * size)

    def write(self, topic: int, follows: bool) -> _Query:
        query = self._follow(topic) if follows else self._compose(topic, self._length(), -1)
        self._left[len(query.text) - 2] -= 1
        self._before = query
        return query

    def _length(self) -> int:
        """A length in proportion to how many of each are left."""
        left = [max(count, 0) for count in self._left]
        total = sum(left)
        if total == 0:
            return 6
        at = self._draw(total)
        for number, count in enumerate(left):
            at -= count
            if at < 0:
                return number + 2
        raise AssertionError("unreachable: the draw is below the total")

    def _follow(self, topic: int) -> _Query:
        old = self._before
        for attempt in range(200):
            place = len(self._deck) - 1 - attempt % len(self._deck)
            relation = self._deck[place]
            query = self._try(old, relation, topic)
            if query is not None:
                del self._deck[place]
                return query
        del self._deck[-1]
        return self._compose(topic, self._length(), OTHERS)

    def _try(self, old: _Query, relation: int, topic: int) -> _Query | None:
        if relation == REPEAT:
            return _Query(old.text, old.subject, old.aspect, old.surface, REPEAT)
        for _ in range(12):
            if relation == ADD:
                room = 18 - len(old.text)
                if room < 1:
                    return None
                tail = self._filler(min(room, 1 + self._draw(4)))
                query = _Query(old.text + tail, old.subject, old.aspect, old.surface, ADD)
            elif relation == DELETE:
                if len(old.text) < 5:
                    return None
                kept = len(old.text) - 1 - self._draw(min(3, len(old.text) - 4))
                query = _Query(old.text[:kept], old.subject, old.aspect, old.surface, DELETE)
            elif relation == CHANGE:
                query = self._compose(old.subject, self._length(), CHANGE)
            else:
                query = self._compose(topic, self._length(), OTHERS)
                topic = self._draw(len(self._aspects))
            if relation_of(old.text, query.text) == relation:
                return query
        return None

    def _compose(self, subject: int, length: int, relation: int) -> _Query:
        """A query about ``subject`` of exactly ``length`` characters."""
        names = subjects()[subject].names
        surface = int(self._draw(10) < 4)
        if len(names[surface]) > length:
            surface = 1 - surface
        while len(names[surface]) > length:  # only for the shortest queries
            subject = self._draw(len(self._aspects))
            names = subjects()[subject].names
            surface = 0
        rest = length - len(names[surface])
        aspect = self._draw(ASPECTS_PER_FAMILY)
        word = ""
        for turn in range(ASPECTS_PER_FAMILY * 2):
            number = (aspect + turn // 2) % ASPECTS_PER_FAMILY
            candidate = self._aspects[subject][number].names[turn % 2]
            if len(candidate) == rest or len(candidate) <= rest - 2:
                aspect, word = number, candidate
                break
        rest -= len(word)
        if rest and self._draw(2) and rest <= max(MODIFIERS):
            modifiers = MODIFIERS[rest]
            fits = [one for one in modifiers if len(one) == rest]
            text = fits[self._draw(len(fits))] + names[surface] + word
        else:
            text = names[surface] + word + self._filler(rest)
        return _Query(text, subject, aspect, surface, relation)

    def _filler(self, length: int) -> str:
        text = ""
        while len(text) < length:
            size = min(length - len(text), max(TAILS))
            if size == max(TAILS) and length - len(text) > size:
                size -= self._draw(3)  # long tails from pieces of several sizes
            piece = TAILS[size][self._draw(len(TAILS[size]))]
            if piece not in text:
                text += piece
        return text
