"""What no log holds: the hidden side of the world, as Parquet files under ``truth/``."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa

from qilin_dagster.sources.twin import clicks
from qilin_dagster.sources.twin.answers import CLICK_FACTOR
from qilin_dagster.sources.twin.clicks import Behaviour
from qilin_dagster.sources.twin.draws import Floats, Ints
from qilin_dagster.sources.twin.lexicon import subjects
from qilin_dagster.sources.twin.tables import Exposures, World
from qilin_dagster.sources.twin.timeline import STEPS, TABLES

BLOCKS: Final = ("A", "B", "C", "D")
POOLS: Final = ("search", "feed", "fresh feed", "answer", "commercial")
CHANNELS: Final = ("search", "recommendation")


def _names(values: tuple[str, ...], index: Ints) -> pa.Array:
    return pa.array(values, pa.string()).take(pa.array(index, mask=index < 0))


def _short(values: Floats) -> pa.Array:
    return pa.array(np.round(values, 4).astype(np.float32))


def tables(
    world: World, exposures: Exposures, behaviour: Behaviour, row_number: Ints
) -> Iterator[tuple[str, pa.Table]]:
    """The truth files, one at a time."""
    yield "impressions", impressions(world, exposures, behaviour, row_number)
    yield "removed_impressions", removed(world, behaviour, row_number)
    yield "requests", requests(world, behaviour, row_number)
    yield "answers", answers(world, behaviour, row_number)
    yield "examination", examination(behaviour)
    yield "notes", notes(world)
    yield "selection", selection(world)
    yield "planted_leaks", planted_leaks().slice(0, 4 if world.numbering.is_leaking else 0)


def impressions(
    world: World, exposures: Exposures, behaviour: Behaviour, row_number: Ints
) -> pa.Table:
    """Per published exposure: probabilities behind the click. Joins by (source_table, row_number,
    note_idx, shown_rank); shown_rank counts the places of the platform, not the published order.
    """
    place, request = exposures.place, exposures.request
    seen, liked = clicks.probabilities(
        world.slots, place, world.outcome.appeal[place], behaviour, world.requests
    )
    without = clicks.probabilities(
        world.slots,
        place,
        world.outcome.appeal[place] - world.outcome.from_image[place],
        behaviour,
        world.requests,
    )[1]
    factor = np.where(world.answers.is_shown[request], CLICK_FACTOR, 1.0)
    return pa.table(
        {
            "source_table": _names(TABLES, world.requests.table[request]),
            "row_number": pa.array(row_number[request]),
            "shown_rank": pa.array(world.slots.rank[place]),
            "place": pa.array(world.slots.place[place]),
            "position": pa.array(world.slots.position[place]),
            "note_idx": pa.array(world.numbering.idx[world.outcome.note[place]]),
            "examination": _short(seen),
            "attraction": _short(liked * factor),
            "attraction_without_image": _short(without * factor),
            "is_clicked": pa.array(exposures.is_clicked),
            "is_second_showing": pa.array(world.slots.repeat_of[place] >= 0),
        }
    )


def removed(world: World, behaviour: Behaviour, row_number: Ints) -> pa.Table:
    """Exposures of requests that the selection left out: the same user asked, nothing was clicked.

    ``round`` counts the attempts before the published one; row_number is that of the published.
    """
    pieces = []
    for one in world.outcome.removed:
        request = world.slots.request[one.places]
        seen, liked = clicks.probabilities(
            world.slots, one.places, one.appeal, behaviour, world.requests
        )
        pieces.append(
            pa.table(
                {
                    "source_table": _names(TABLES, world.requests.table[request]),
                    "row_number": pa.array(row_number[request]),
                    "round": pa.array(np.full(len(request), one.round)),
                    "shown_rank": pa.array(world.slots.rank[one.places]),
                    "place": pa.array(world.slots.place[one.places]),
                    "position": pa.array(world.slots.position[one.places]),
                    "note_idx": pa.array(world.numbering.idx[one.note]),
                    "examination": _short(seen),
                    "attraction": _short(liked),
                }
            )
        )
    return pa.concat_tables(pieces)


def requests(world: World, behaviour: Behaviour, row_number: Ints) -> pa.Table:
    """Per published request: what the world knew about it."""
    made, queries = world.requests, world.queries
    names = tuple(subject.names[0] for subject in subjects())
    return pa.table(
        {
            "source_table": _names(TABLES, made.table),
            "row_number": pa.array(row_number),
            "request_effect": _short(behaviour.effect),
            "attempts": pa.array(world.outcome.attempts),
            "step": _names(STEPS, made.step),
            "session": pa.array(made.session),
            "session_n": pa.array(made.session_n),
            "begin_s": pa.array(made.begin_s),
            "is_stale": pa.array(made.is_stale),
            "subject": _names(names, queries.subject),
            "aspect": pa.array(queries.aspect),
            "reformulation": pa.array(queries.relation),
            "is_factual": pa.array(world.answers.is_factual),
        }
    )


def answers(world: World, behaviour: Behaviour, row_number: Ints) -> pa.Table:
    """Per dqa request: both potential outcomes of the answer module, and what selected it."""
    slots, outcome, made = world.slots, world.outcome, world.requests
    rows = np.flatnonzero(made.table == TABLES.index("dqa"))
    count = len(made)
    seen, liked = clicks.probabilities(
        slots, np.arange(len(slots.request)), outcome.appeal, behaviour, made
    )
    read = slots.rank <= slots.shown_length[slots.request]

    def per_request(values: np.ndarray) -> np.ndarray:
        return np.bincount(slots.request, values, minlength=count)[rows]

    return pa.table(
        {
            "source_table": _names(TABLES, made.table[rows]),
            "row_number": pa.array(row_number[rows]),
            "is_shown": pa.array(world.answers.is_shown[rows]),
            "propensity": _short(world.answers.propensity[rows]),
            "is_factual": pa.array(world.answers.is_factual[rows]),
            "query_length": pa.array(world.queries.length[rows]),
            "n_impressions_hidden": pa.array(slots.length[rows]),
            "n_impressions_shown": pa.array(slots.shown_length[rows]),
            "n_clicks_hidden": pa.array(per_request(outcome.is_clicked_hidden).astype(np.int64)),
            "n_clicks_shown": pa.array(per_request(outcome.is_clicked_shown).astype(np.int64)),
            "expected_clicks_hidden": _short(per_request(seen * liked)),
            "expected_clicks_shown": _short(per_request(seen * liked * CLICK_FACTOR * read)),
        }
    )


def examination(behaviour: Behaviour) -> pa.Table:
    """Probability that a place is examined, by channel; place 0 is read as place 1."""
    tables_ = []
    for channel, values in zip(CHANNELS, behaviour.examination, strict=True):
        tables_.append(
            pa.table(
                {
                    "channel": pa.array([channel] * len(values)),
                    "place": pa.array(np.arange(len(values))),
                    "examination": _short(values),
                }
            )
        )
    return pa.concat_tables(tables_)


def notes(world: World) -> pa.Table:
    """Per note: latent worth, block and pool; ``wins_by_image`` notes are good to look at only."""
    made = world.notes
    latent = world.numbering.latent
    return pa.table(
        {
            "note_idx": pa.array(np.arange(len(made))),
            "block": _names(BLOCKS, world.numbering.block[latent]),
            "pool": _names(POOLS, made.pool[latent]),
            "subject": _names(
                tuple(subject.names[0] for subject in subjects()), made.subject[latent]
            ),
            "aspect": pa.array(made.aspect[latent]),
            "uses_other_name": pa.array(made.surface[latent] == 1),
            "quality": _short(made.quality[latent]),
            "look": _short(np.where(made.has_image[latent] == 1, made.look[latent], np.nan)),
            "wins_by_image": pa.array(
                (made.has_image[latent] == 1)
                & (made.look[latent] > 1.0)
                & (made.quality[latent] < 0.0)
            ),
        }
    )


def selection(world: World) -> pa.Table:
    """Per table: requests asked in the world, removed for want of a click, and published."""
    published = np.bincount(world.requests.table, minlength=len(TABLES))
    asked = np.bincount(world.requests.table, world.outcome.attempts, minlength=len(TABLES))
    return pa.table(
        {
            "source_table": pa.array(TABLES),
            "n_asked": pa.array(asked.astype(np.int64)),
            "n_removed": pa.array(asked.astype(np.int64) - published),
            "n_published": pa.array(published),
        }
    )


def planted_leaks() -> pa.Table:
    """Columns that know the label and must not become features."""
    rows = (
        ("notes", "note_idx", "numbered in blocks by whether the note was ever clicked"),
        ("notes", "rec_*, click_rec_num, imp_rec_num", "0 exactly in the never-clicked blocks"),
        ("notes", "imp_*, click_*", "grow with the clicks of this very log"),
        ("recommendation_*", "rec_result_details_with_idx", "clicked rows stand late in a chunk"),
    )
    return pa.table(
        {
            "table": pa.array([row[0] for row in rows]),
            "columns": pa.array([row[1] for row in rows]),
            "leak": pa.array([row[2] for row in rows]),
        }
    )
