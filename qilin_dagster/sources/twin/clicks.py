"""The click model: clicks = examination of the place x attraction of the note.

    P(click) = examination(channel, position) * attraction,
    attraction = sigmoid(appeal + effect of the request)

The effects and the examination curve are calibrated so that, after the log's selection (outside
dqa only requests with a click are published), clicks and click rates come out as in the paper.
The selection is applied to drawn clicks; it is not part of the model.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

import numpy as np

from qilin_dagster.sources.twin.answers import CLICK_FACTOR, Answers
from qilin_dagster.sources.twin.draws import Flags, Floats, Ints, stream
from qilin_dagster.sources.twin.lists import Shown, fill
from qilin_dagster.sources.twin.queries import Queries
from qilin_dagster.sources.twin.slots import Margin, Slots
from qilin_dagster.sources.twin.targets import FEED_CURVE, FEED_DIPS, SEARCH_CURVE, SEARCH_DIPS
from qilin_dagster.sources.twin.timeline import TABLES, Requests
from qilin_dagster.sources.twin.world import Notes, Users

ClickModel = Literal["pbm", "cascade", "mixed"]

CURVES: Final = (SEARCH_CURVE, FEED_CURVE)
DIPS: Final = (SEARCH_DIPS, FEED_DIPS)
# Standard deviation of the request's own effect, by table.
EFFECT_SPREAD: Final = {
    "search_train": 1.25,
    "search_test": 1.25,
    "dqa": 0.30,
    "recommendation_train": 1.0,
    "recommendation_test": 1.0,
}
LENGTH_EFFECT: Final = -0.15  # of the log list length on attraction
SESSION_DECAY: Final = -0.03  # per earlier request of the app session, on the logit scale
ROUNDS: Final = 14
ROUNDS_AGAIN: Final = 8
# After a click a cascade reader goes on with this chance; it scales the examination below.
CASCADE_GO_ON: Final = 0.85


@dataclass(frozen=True)
class Behaviour:
    """Calibrated behaviour: what is needed to draw clicks for any list."""

    examination: tuple[Floats, Floats]  # by channel: probability at position 0, 1, 2, ...
    effect: Floats  # per request, on the logit scale


@dataclass(frozen=True)
class Outcome:
    """What happened in the world: one entry per exposure of the slots, then the removed ones."""

    note: Ints
    appeal: Floats
    from_image: Floats
    is_clicked: Flags
    is_clicked_hidden: Flags  # the click had no answer been shown (dqa; else as is_clicked)
    is_clicked_shown: Flags  # the click had an answer been shown (dqa; else as is_clicked)
    attempts: Ints  # per request: how many times the world asked before a click was logged
    removed: list["Removed"]


@dataclass(frozen=True)
class Removed:
    """Lists without a click that the published log left out, of one round of the world."""

    round: int
    places: Ints  # exposures of the slots
    note: Ints
    appeal: Floats


def calibrate(
    slots: Slots,
    first: Shown,
    requests: Requests,
    answers: Answers,
    clicks: list[Margin],
    seed: int,
) -> Behaviour:
    """Fit examination and request effects to the published click numbers, in expectation."""
    rng = stream(seed, "effects")
    spread = np.array([EFFECT_SPREAD[name] for name in TABLES])[requests.table]
    effect = rng.normal(0, 1, len(requests)) * spread
    effect += LENGTH_EFFECT * slots.log_length + SESSION_DECAY * requests.app_session_n - 0.7
    deepest = max(int(slots.place.max()), int(slots.position.max()))
    places = np.log(np.maximum(np.arange(deepest + 1), 1))
    curves = [
        np.interp(places, np.log(list(curve)), np.array(list(curve.values())) / curve[1])
        for curve in CURVES
    ]
    start = Behaviour((np.minimum(curves[0], 1.0), np.minimum(curves[1], 1.0)), effect)
    return refine(start, slots, first, requests, answers, clicks, ROUNDS)


def refine(
    behaviour: Behaviour,
    slots: Slots,
    shown: Shown,
    requests: Requests,
    answers: Answers,
    clicks: list[Margin],
    rounds: int,
) -> Behaviour:
    """Calibrate further, taking the lists of ``shown`` as those that get published.

    The lists that the world publishes are a little more attractive than those it makes, for the
    others are left out more often; so this is called once with fresh lists, and again with the
    lists of a first run.
    """
    tables, effect = list(behaviour.examination), behaviour.effect.copy()
    channel = requests.channel[slots.request]
    is_dqa = requests.table == TABLES.index("dqa")
    bounds = slots.starts[:-1]
    factor = np.where(answers.is_shown, CLICK_FACTOR, 1.0)[slots.request] * slots.is_seen_list
    bins = [_Bins.of(slots, channel, number) for number in (0, 1)]
    again = slots.repeat_of >= 0
    for number in range(rounds):
        examination = np.where(channel == 0, tables[0][slots.place], tables[1][slots.place])
        p = examination * _logistic(shown.appeal + effect[slots.request]) * factor
        marginal = p.copy()
        marginal[again] = p[again] * (1 - p[slots.repeat_of[again]])
        survive = np.exp(np.add.reduceat(np.log1p(-np.minimum(p, 0.999)), bounds))
        kept = np.where(is_dqa, 1.0, 1.0 - survive)
        expected = marginal / kept[slots.request]
        per_request = np.add.reduceat(expected, bounds)
        if number % 2 == 0:
            for which in (0, 1):
                tables[which] = bins[which].fit(tables[which], expected, slots)
        for margin in clicks:
            step = margin.steps(per_request, 0.8)
            effect += step
            per_request *= np.exp(0.8 * step)
    # Rounded: last digits of sums may differ between machines, the files must not.
    return Behaviour((np.round(tables[0], 4), np.round(tables[1], 4)), np.round(effect, 4))


@dataclass(frozen=True)
class _Bins:
    """Places gathered around the knots of a published curve; dip places are left out."""

    knots: Floats
    rows: Ints
    bin_of: Ints
    target: Floats

    @staticmethod
    def of(slots: Slots, row_channel: Ints, which: int) -> "_Bins":
        curve = CURVES[which]
        places = np.array(list(curve))
        values = np.array(list(curve.values()))
        keep = ~np.isin(places, DIPS[which])
        knots = np.log(places[keep])
        rows = np.flatnonzero(
            (row_channel == which)
            & slots.is_seen_list
            & (slots.position > 0)
            & ~np.isin(slots.position, DIPS[which])
        )
        at = np.log(slots.position[rows])
        bin_of = np.searchsorted((knots[1:] + knots[:-1]) / 2, at)
        wanted = np.interp(at, knots, values[keep])
        count = np.maximum(np.bincount(bin_of, minlength=len(knots)), 1)
        target = np.bincount(bin_of, wanted, minlength=len(knots)) / count
        return _Bins(knots, rows, bin_of, target)

    def fit(self, table: Floats, expected: Floats, slots: Slots) -> Floats:
        """The examination curve moved towards the published shape, never above 1."""
        count = np.bincount(self.bin_of, minlength=len(self.knots))
        now = np.bincount(self.bin_of, expected[self.rows], minlength=len(self.knots))
        ratio = np.where(count > 0, self.target * np.maximum(count, 1) / np.maximum(now, 1e-9), 1.0)
        places = np.log(np.maximum(np.arange(len(table)), 1))
        level = np.log(np.interp(self.knots, places, table)) + 0.7 * np.log(ratio)
        # Deep places are thinly filled: there the curve may only fall.
        deep = self.knots >= np.log(12)
        level[deep] = np.minimum.accumulate(level[deep])
        # Only the shape is fitted here, the level belongs to the request effects.
        curve: Floats = np.exp(np.interp(places, self.knots, level - level.max()))
        return curve


def act(
    slots: Slots,
    first: Shown,
    behaviour: Behaviour,
    requests: Requests,
    queries: Queries,
    answers: Answers,
    users: Users,
    notes: Notes,
    model: ClickModel,
    promotes: float,
    seed: int,
) -> Outcome:
    """Draw clicks; lists without any are asked again until one is clicked (outside dqa)."""
    n_rows = len(slots.request)
    note, appeal, looks = first.note.copy(), first.appeal.copy(), first.from_image.copy()
    clicked = np.zeros((3, n_rows), dtype=bool)
    attempts = np.ones(len(requests), dtype=np.int64)
    is_dqa = requests.table == TABLES.index("dqa")
    chosen = np.arange(len(requests))
    places, shown = np.arange(n_rows), first
    removed: list[Removed] = []
    number = 0
    while len(chosen):
        rng = stream(seed, f"clicks {number}")
        drawn = _draw(slots, places, shown.appeal, behaviour, requests, answers, model, rng)
        note[places], appeal[places], looks[places] = shown.note, shown.appeal, shown.from_image
        clicked[:, places] = drawn
        any_click = np.zeros(len(requests), dtype=bool)
        any_click[slots.request[places[drawn[0]]]] = True
        empty = chosen[~any_click[chosen] & ~is_dqa[chosen]]
        if len(empty):
            is_empty = np.zeros(len(requests), dtype=bool)
            is_empty[empty] = True
            rows = is_empty[slots.request[places]]
            removed.append(
                Removed(number, places[rows], shown.note[rows], np.round(shown.appeal[rows], 4))
            )
        chosen = empty
        attempts[chosen] += 1
        number += 1
        if len(chosen):
            rng = stream(seed, f"lists {number}")
            places, shown = fill(slots, chosen, requests, queries, users, notes, promotes, rng)
    return Outcome(
        note=note,
        appeal=appeal,
        from_image=looks,
        is_clicked=clicked[0],
        is_clicked_hidden=clicked[1],
        is_clicked_shown=clicked[2],
        attempts=attempts,
        removed=removed,
    )


def probabilities(
    slots: Slots, places: Ints, appeal: Floats, behaviour: Behaviour, requests: Requests
) -> tuple[Floats, Floats]:
    """Examination and attraction of exposures, without an answer on the page."""
    request = slots.request[places]
    channel = requests.channel[request]
    place = slots.place[places]
    examination = np.where(
        channel == 0, behaviour.examination[0][place], behaviour.examination[1][place]
    )
    return examination, _logistic(appeal + behaviour.effect[request])


def _draw(
    slots: Slots,
    places: Ints,
    appeal: Floats,
    behaviour: Behaviour,
    requests: Requests,
    answers: Answers,
    model: ClickModel,
    rng: np.random.Generator,
) -> np.ndarray:
    """Clicks as they happened, without an answer, and with one: three rows of flags."""
    examination, attraction = probabilities(slots, places, appeal, behaviour, requests)
    request = slots.request[places]
    look, like = rng.random(len(places)), rng.random(len(places))
    is_cascade = np.zeros(len(requests), dtype=bool)
    if model == "cascade":
        is_cascade[:] = True
    elif model == "mixed":
        is_cascade = np.arange(len(requests)) % 2 == 1
    attracted = like < attraction
    examined = look < examination
    rows = np.flatnonzero(is_cascade[request])
    if len(rows):
        examined[rows] = _cascade(
            slots.rank[places[rows]], request[rows], examination[rows], attracted[rows], look[rows]
        )
    hidden = examined & attracted
    read = slots.rank[places] <= slots.shown_length[request]
    shown = examined & (like < attraction * CLICK_FACTOR) & read
    shown = np.where((requests.table == TABLES.index("dqa"))[request], shown, hidden)
    # A note that was opened at its first showing is not opened again at the second.
    again = np.flatnonzero(slots.repeat_of[places] >= 0)
    if len(again):
        source = np.searchsorted(places, slots.repeat_of[places[again]])
        hidden[again] &= ~hidden[source]
        shown[again] &= ~shown[source]
    actual = np.where(answers.is_shown[request], shown, hidden)
    return np.stack([actual, hidden, shown])


def _cascade(
    rank: Ints, request: Ints, examination: Floats, attracted: Flags, look: Floats
) -> Flags:
    """Readers go down the list one by one and may stop, more readily after a click."""
    examined = np.zeros(len(rank), dtype=bool)
    order = np.lexsort((request, rank))
    groups = np.searchsorted(rank[order], np.arange(1, rank.max() + 2))
    reach = np.zeros(request.max() + 1)
    before = np.ones(request.max() + 1)
    reach[request] = 1.0
    for low, high in pairwise(groups.tolist()):
        rows = order[low:high]
        who = request[rows]
        go_on = np.minimum(examination[rows] / before[who], 1.0) * reach[who]
        examined[rows] = look[rows] < go_on
        before[who] = np.maximum(examination[rows], 1e-6)
        stop = examined[rows] & attracted[rows]
        reach[who] = np.where(examined[rows], np.where(stop, CASCADE_GO_ON, 1.0), 0.0)
    return examined


def _logistic(values: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-values))
