"""Published note_idx: blocks by what was clicked, as in the published log.

The numbering of the log leaks the label: notes are stacked as (A) search and feed notes without a
click, (B) those clicked or in somebody's history, (C, D) the same two for the answer traffic. The
twin gives ids out after the clicks, by that rule, with the few exceptions the log shows.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from qilin_dagster.sources.twin.clicks import Outcome
from qilin_dagster.sources.twin.draws import Ints, stream
from qilin_dagster.sources.twin.history import Histories
from qilin_dagster.sources.twin.slots import Slots
from qilin_dagster.sources.twin.targets import BLOCK_EDGES
from qilin_dagster.sources.twin.timeline import TABLES, Requests
from qilin_dagster.sources.twin.world import ANSWER_POOL, Notes

A, B, C, D = range(4)
# Exceptions: shares of clicked notes that stand outside the block of their traffic.
CLICKED_IN_A: Final = 0.010
ANSWER_CLICK_IN_A: Final = 0.35  # general notes that only answer traffic clicked
ANSWER_NOTE_IN_B: Final = 0.66  # answer notes that search or the feed clicked
CLICKED_IN_C: Final = 0.015


@dataclass(frozen=True)
class Numbering:
    """Published ids and blocks by latent note, and latent notes by published id."""

    idx: Ints
    block: Ints
    latent: Ints
    n_clicks: Ints  # in the published log, by latent note
    is_leaking: bool  # ids, counters and feed order follow the clicks


def block_edges(count: int) -> Ints:
    """First published id of each block of ``count`` notes, and the end."""
    return np.round(np.array([0.0, *BLOCK_EDGES]) * count).astype(np.int64)


def number_notes(
    notes: Notes,
    requests: Requests,
    slots: Slots,
    outcome: Outcome,
    histories: Histories,
    is_leaking: bool,
    seed: int,
) -> Numbering:
    """Give every note a block and a random place in it; without leaks, any place."""
    rng = stream(seed, "numbering")
    count = len(notes)
    room = np.diff(block_edges(count))
    clicked = np.flatnonzero(outcome.is_clicked)
    by_answer = requests.table[slots.request[clicked]] == TABLES.index("dqa")
    n_own = np.bincount(outcome.note[clicked[~by_answer]], minlength=count)
    n_answer = np.bincount(outcome.note[clicked[by_answer]], minlength=count)
    in_history = np.bincount(histories.note, minlength=count) > 0
    is_answer_note = notes.pool == ANSWER_POOL
    u = rng.random(count)
    block = np.full(count, -1)
    general = ~is_answer_note
    block[general & (n_answer > 0)] = B
    block[general & (n_answer > 0) & (u < ANSWER_CLICK_IN_A)] = A
    block[general & (n_own > 0)] = B
    block[general & (n_own > 0) & (u < CLICKED_IN_A)] = A
    block[is_answer_note & ((n_answer > 0) | (n_own > 0))] = D
    block[is_answer_note & ((n_answer > 0) | (n_own > 0)) & (u < CLICKED_IN_C)] = C
    block[is_answer_note & (n_own > 0) & (n_answer == 0) & (u > 1 - ANSWER_NOTE_IN_B)] = B
    # What is left fills the blocks: histories first into B and D, then the rest.
    taste = rng.random(count)
    for wanted, chosen in (
        (D, is_answer_note & in_history),
        (B, general & in_history),
        (B, is_answer_note & in_history),
        (C, is_answer_note),
        (A, general),
        (D, is_answer_note),
        (B, general),
        (C, general),
        (D, general),
        (A, is_answer_note),
        (B, is_answer_note),
    ):
        free = int(room[wanted] - (block == wanted).sum())
        rows = np.flatnonzero(chosen & (block < 0))
        if free > 0 and len(rows):
            block[rows[np.argsort(taste[rows], kind="stable")][:free]] = wanted
    for wanted in (A, B, C, D):  # only worlds far from scale 1 come here
        surplus = int((block == wanted).sum() - room[wanted])
        if surplus > 0:
            rows = rng.permutation(np.flatnonzero(block == wanted))[:surplus]
            for other in (D, B, C, A):
                free = max(0, int(room[other] - (block == other).sum()))
                block[rows[:free]] = other
                rows = rows[free:]
    latent = np.lexsort((rng.random(count), block if is_leaking else np.zeros(count)))
    idx = np.empty(count, dtype=np.int64)
    idx[latent] = np.arange(count)
    return Numbering(idx, block, latent, n_own + n_answer, is_leaking)
