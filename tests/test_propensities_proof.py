"""The recommended estimator finds what twins were drawn with, world after world.

The seeds of the proof were never used while the estimator was made.
"""

from typing import Any

import numpy as np
import polars as pl
import pytest

from models.click_models import mixed_position_based
from models.click_models.sessions import FloatArray
from qilin_dagster.click_sessions import PLACES, Lists, lists_of
from qilin_dagster.sources.twin.generate import Options, draw_world
from qilin_dagster.sources.twin.targets import sizes
from qilin_dagster.sources.twin.timeline import TABLES
from qilin_dagster.sources.twin.world import COMMERCIAL_POOL, VIDEO

SEEDS = range(1000, 1020)
SCALE = 0.3
NEAR, FAR = 0.05, 0.10  # positions 1 to 10, 11 to 20


def world_lists(seed: int, scale: float) -> dict[str, tuple[Lists, FloatArray]]:
    """By channel: the lists as they would be published, and examination of positions 0, 1, ..."""
    options = Options(
        scale,
        seed,
        images=False,
        looks=True,
        dirty=False,
        click_model="pbm",
        leaks=True,
        promotes=0.0,
    )
    world, behaviour = draw_world(options, sizes(scale), lambda _: None)
    slots, made = world.slots, world.requests
    rows = np.flatnonzero(slots.is_seen_list)
    request, note = slots.request[rows], world.outcome.note[rows]
    split = np.array([name.rsplit("_", 1)[-1] for name in TABLES])
    columns: dict[str, Any] = {
        "request_id": request,
        "channel": made.channel[request],
        "user_idx": made.user[request],
        "position": slots.position[rows],
        "note_idx": world.numbering.idx[note],
        "is_clicked": world.outcome.is_clicked[rows],
        "is_repeat": slots.repeat_of[rows] >= 0,
        "is_video": world.notes.form[note] == VIDEO,
        "is_commercial": world.notes.pool[note] == COMMERCIAL_POOL,
        "is_unknown": np.zeros(len(rows), dtype=bool),
        "split": split[made.table[request]],
        "is_first_of_session": (made.session_n == made.session_n.min())[request],
        "has_answer": world.answers.is_shown[request],
    }
    table = pl.DataFrame(columns).sort("request_id", "position", maintain_order=True)
    found = {}
    for number, channel in enumerate(("search", "recommendation")):
        lists = lists_of(table.filter(pl.col("channel") == number))
        found[channel] = (lists.take(~lists.has_answer), behaviour.examination[number])
    return found


@pytest.mark.slow
def test_propensities_of_twenty_unseen_worlds_are_the_planted_ones() -> None:
    """Within 5 % at positions 2 to 10 and 10 % at 11 to 20, or two standard errors where that is
    more; and the 95 % intervals cover."""
    stated = np.where(np.arange(2, 21) <= 10, NEAR, FAR)
    for channel, (error, deviation) in curves(SEEDS, SCALE).items():
        describe(channel, error, deviation)
        bound = np.maximum(stated, 2 * deviation)
        # The mean over worlds is off by less than the bound at every position: no bias.
        assert (np.abs(np.expm1(error).mean(axis=0)) < stated).all()
        # A world is outside two standard errors now and then, also if nothing is wrong.
        assert (np.abs(np.expm1(error)) <= bound).mean() >= 0.99
        assert (np.abs(error) <= 1.96 * deviation).mean() >= 0.93


def curves(seeds: range, scale: float) -> dict[str, tuple[FloatArray, FloatArray]]:
    """By channel: errors of log examination at positions 2 to 20, and their standard errors, one
    row a world."""
    rows: dict[str, list[tuple[FloatArray, FloatArray]]] = {"search": [], "recommendation": []}
    assert PLACES[:21] == tuple(range(21))
    for seed in seeds:
        for channel, (lists, truth) in world_lists(seed, scale).items():
            curve = mixed_position_based.fit(lists.sessions).curve
            error = np.log(curve.estimate[2:21]) - np.log(truth[2:21] / truth[1])
            rows[channel].append((error, curve.log_error[2:21]))
    return {
        channel: (np.stack([one[0] for one in found]), np.stack([one[1] for one in found]))
        for channel, found in rows.items()
    }


def describe(channel: str, error: FloatArray, deviation: FloatArray) -> None:
    """Print what was measured."""
    off = np.abs(np.expm1(error))
    bound = np.where(np.arange(2, 21) <= 10, NEAR, FAR)
    print(
        f"{channel}: {len(error)} worlds; mean error by position (%) "
        f"{np.round(100 * error.mean(axis=0), 1).tolist()}; mean standard error (%) "
        f"{np.round(100 * deviation.mean(axis=0), 1).tolist()}; worst at 2-10 "
        f"{off[:, :9].max():.3f}, at 11-20 {off[:, 9:].max():.3f}; within the bound "
        f"{(off <= bound).mean():.4f} (2-10 {(off <= bound)[:, :9].mean():.4f}), with two "
        f"standard errors "
        f"{(off <= np.maximum(bound, 2 * deviation)).mean():.4f}; 95 % intervals cover "
        f"{(np.abs(error) <= 1.96 * deviation).mean():.4f}"
    )
