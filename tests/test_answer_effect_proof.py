"""The estimator of an answer's effect finds what twins were drawn with, world after world.

The seeds of the proof were never used while the estimator was made.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest

from models.causal import estimate
from models.causal.estimate import Estimate
from qilin_dagster.answer_effect import HEADLINE, estimated, read_study
from tests import answer_worlds

SEEDS = range(3000, 3100)
N_ANSWERS = 1_500
LEAST_COVERED = 93


@pytest.mark.slow
def test_intervals_cover_the_planted_effect_and_the_raw_difference_is_wrong(tmp_path: Path) -> None:
    effect, adjusted, raw = worlds(tmp_path, SEEDS)
    covered = {name: covers(found, effect) for name, found in (("aipw", adjusted), ("raw", raw))}
    print(covered)
    assert covered["aipw"] >= LEAST_COVERED
    # Of the raw difference neither the intervals nor the mean over worlds are right.
    assert covered["raw"] < 80
    off = np.array([one.value for one in raw]) - effect
    assert off.mean() < -5 * off.std() / np.sqrt(len(off))


def worlds(folder: Path, seeds: range) -> tuple[np.ndarray, list[Estimate], list[Estimate]]:
    """Planted effect on clicks, doubly robust estimate and raw difference of each world."""
    effects, adjusted, raw = [], [], []
    for seed in seeds:
        own = folder / str(seed)
        answer_worlds.write(own / "data", seed, N_ANSWERS)
        connection = answer_worlds.connect(own / "data", own / "lake")
        study = read_study(connection)
        ((effect,),) = connection.execute(
            "select avg(n_clicks_shown - n_clicks_hidden) from truth"
        ).fetchall()
        connection.close()
        shutil.rmtree(own)
        effects.append(effect)
        adjusted.append(estimated(study, HEADLINE))
        clicks_N = study.outcomes[HEADLINE]
        raw.append(estimate.difference_of_means(clicks_N, study.is_shown_N, study.user_N))
        print(
            f"{seed}: planted {effect:+.3f}, doubly robust {adjusted[-1].value:+.3f} "
            f"({adjusted[-1].low:+.3f} to {adjusted[-1].high:+.3f}), raw {raw[-1].value:+.3f}",
            flush=True,
        )
    describe(np.array(effects), adjusted, raw)
    return np.array(effects), adjusted, raw


def covers(found: list[Estimate], effect: np.ndarray) -> int:
    """How many of the intervals hold the planted effect."""
    return sum(
        bool(one.low <= planted <= one.high) for one, planted in zip(found, effect, strict=True)
    )


def describe(effect: np.ndarray, adjusted: list[Estimate], raw: list[Estimate]) -> None:
    """Print what was measured."""
    for name, found in (("doubly robust", adjusted), ("raw", raw)):
        off = np.array([one.value for one in found]) - effect
        error = np.mean([one.standard_error for one in found])
        print(
            f"{name}: covers {covers(found, effect)} of {len(found)}; mean error "
            f"{off.mean():+.3f}, spread {off.std():.3f}, mean standard error {error:.3f}"
        )
