"""What allowing for position does on a twin, where what attracts is known.

The claim of the literature is that corrected rankers know attraction better and look worse on raw
clicks. It needs an old ranker that prefers something which attracts nobody and which the new one
sees: that one takes the places for attraction. On a twin with such a ranker the claim is asserted
whole; on the usual twin, whose ranker knows little but what attracts, only the half that holds.
"""

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from models import recipes
from models.counterfactual import graded_ndcg
from models.dcn_v2 import DCNV2Config
from models.dcn_v2_training import score, train
from models.metrics import FloatArray, IntArray, Interval, paired_bootstrap_interval
from models.ranking_data import RankingData
from models.recipes import PositionCorrection
from qilin_dagster.click_sessions import ALL, PLACES, RECOMMENDED, read_lists
from qilin_dagster.exposures import exposure_of
from qilin_dagster.features import build_features, read_feature_columns
from qilin_dagster.leaderboard import Candidates, ScoredRun, read_candidates, scores_of
from qilin_dagster.propensities import BY_POSITION, Estimates, estimate_channel
from qilin_dagster.sources.twin import write_twin
from qilin_dagster.training import ranking_data
from qilin_dagster.unbiased import planted_attraction, twin_truth
from tests.conftest import build_views, store_words

pytestmark = pytest.mark.slow
SCALE, SEED = 0.1, 7
# Worlds that were not looked at before, and how far their ranker prefers many images.
UNSEEN, PROMOTES = range(2000, 2020), 1.0
Gains = tuple[Interval, Interval]


@dataclass(frozen=True)
class World:
    folds: dict[str, RankingData]
    config: DCNV2Config
    test: pl.DataFrame
    candidates: Candidates
    attraction: FloatArray


def make_world(
    folder: Path,
    seed: int,
    promotes: float,
    learn_curve: Callable[[duckdb.DuckDBPyConnection, Path], None],
) -> World:
    write_twin(folder / "data", scale=SCALE, seed=seed, promotes=promotes)
    connection = build_views(folder / "data", folder / "lake").connect()
    for name in ("words", "features"):
        (folder / name).mkdir()
    store_words(connection, folder)
    build_features(connection, folder / "words", folder / "appeal", "search", folder / "features")
    learn_curve(connection, folder)
    columns = read_feature_columns(folder / "features")
    table = pl.read_parquet(folder / "features" / "part-0.parquet")
    exposure = exposure_of(connection, table, "search")
    folds = {}
    for fold in ("fit", "validation", "test"):
        is_in = (table["fold"] == fold).to_numpy()
        data = ranking_data(table.filter(is_in), columns)
        folds[fold] = replace(data, exposure=exposure.rows(np.flatnonzero(is_in)))
    recipe = recipes.dcn_v2_search_smoke()
    config = DCNV2Config(
        architecture=recipe.architecture,
        cardinalities=columns.vocabulary_sizes,
        n_dense=len(columns.dense),
        n_notes=columns.n_note_ids,
        has_history=True,
    )
    candidates = read_candidates(connection, "search")
    truth = twin_truth(folder / "data")
    assert truth is not None
    attraction = planted_attraction(connection, truth, "search", candidates)
    return World(folds, config, table.filter(pl.col("fold") == "test"), candidates, attraction)


def estimate_curve(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Examination as a build estimates it."""
    rows = Estimates.none()
    estimate_channel("search", read_lists(connection, "search"), SEED, rows, print)
    curve = pa.Table.from_pylist(rows.by_position, schema=BY_POSITION)  # noqa: F841
    connection.execute("create schema if not exists propensity")
    connection.execute("create table propensity.by_position as from curve")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("claim"), SEED, 0.0, plant_curve)


def plant_curve(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Examination as it was planted: what is asked is what weights do, not how well they are known.

    Click counts stand only for the mean attraction of a place, which doubly robust fills in.
    """
    places = pl.read_parquet(folder / "data" / "truth" / "examination.parquet").filter(
        pl.col("channel") == "search"
    )
    examination = places["examination"].to_numpy()
    known = [place for place in PLACES if 1 <= place < len(examination)]
    curve = pl.DataFrame(  # noqa: F841 # DuckDB reads it by name
        {
            "channel": "search",
            "surface": ALL,
            "estimator": RECOMMENDED,
            "position_from": known,
            "estimate": examination[known] / examination[1],
            "n_impressions": 100,
            "n_clicks": 20,
        }
    )
    connection.execute("create schema if not exists propensity")
    connection.execute("create table propensity.by_position as from curve")


def ndcgs(
    world: World, loss: str, correction: PositionCorrection | None, *, told: bool = False
) -> tuple[FloatArray, FloatArray]:
    """NDCG@10 by raw clicks and by planted attraction of each test request, (R,) each.

    ``told``: the place is an input, in training and when the test is scored.
    """
    folds, config = world.folds, world.config
    if told:
        folds = {
            fold: replace(
                data, dense=np.hstack([data.dense, np.log1p(data.exposure.place)[:, None]])
            )
            for fold, data in folds.items()
            if data.exposure is not None
        }
        config = replace(config, n_dense=config.n_dense + 1)
    training = replace(recipes.dcn_v2_search_smoke().training, loss=loss, correction=correction)
    model, _ = train(config, folds["fit"], folds["validation"], training, device="cpu")
    run = ScoredRun(
        "run",
        world.test["row_number"].to_numpy(),
        world.test["note_idx"].to_numpy(),
        score(model, folds["test"], device="cpu"),
    )
    found = scores_of(run, world.candidates)
    _, request = np.unique(world.candidates.qid, return_inverse=True)
    clicks = world.candidates.is_clicked.astype(np.float64)
    return graded_ndcg(request, found, clicks), graded_ndcg(request, found, world.attraction)


def gains(
    world: World, one: tuple[FloatArray, FloatArray], other: tuple[FloatArray, FloatArray]
) -> Gains:
    users = world.candidates.users(np.unique(world.candidates.qid))
    raw, attraction = (
        paired_bootstrap_interval(a, b, groups=users) for a, b in zip(one, other, strict=True)
    )
    return raw, attraction


@dataclass(frozen=True)
class Differences:
    """A corrected ranker less the naive one, NDCG@10 of the test requests of a world, (R,) each."""

    raw: FloatArray
    attraction: FloatArray
    user: IntArray


def differences(seed: int) -> dict[tuple[str, str], Differences]:
    """By loss and correction, in one world whose ranker promotes; curves as they are estimated."""
    with TemporaryDirectory() as folder:
        world = make_world(Path(folder), seed, PROMOTES, estimate_curve)
    users = world.candidates.users(np.unique(world.candidates.qid))
    found: dict[tuple[str, str], Differences] = {}
    for loss, corrections in (
        ("pointwise", (recipes.IPS, recipes.DOUBLY_ROBUST)),
        ("listwise", (recipes.IPS,)),
    ):
        naive = ndcgs(world, loss, None)
        for correction in corrections:
            raw, attraction = ndcgs(world, loss, correction)
            found[loss, correction.method] = Differences(
                raw - naive[0], attraction - naive[1], users
            )
    return found


def test_where_the_old_ranker_promotes_corrections_know_attraction_and_naive_wins_on_clicks() -> (
    None
):
    """On unseen worlds, pooled; users resampled."""
    # Started anew: torch and Polars have threads, which a fork would lose.
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        worlds = list(pool.map(differences, UNSEEN))
    for case in worlds[0]:
        raws, attractions, users = [], [], []
        n_better, n_worse = 0, 0
        for number, found in enumerate(worlds):
            one = found[case]
            alone = [difference(v, one.user) for v in (one.raw, one.attraction)]
            n_worse += alone[0].high < 0
            n_better += alone[1].low > 0
            print(UNSEEN[number], *case, "less naive: raw, attraction", *alone)
            raws.append(one.raw)
            attractions.append(one.attraction)
            users.append(one.user * len(worlds) + number)
        user = np.concatenate(users)
        raw = difference(np.concatenate(raws), user)
        attraction = difference(np.concatenate(attractions), user)
        print(*case, "less naive, all worlds: raw", raw, "attraction", attraction)
        print(f"  beyond the interval of a world: worse by {n_worse}, better by {n_better}")
        assert attraction.low > 0, case
        assert raw.high < 0, case


def difference(values: FloatArray, users: IntArray) -> Interval:
    return paired_bootstrap_interval(values, np.zeros_like(values), groups=users)


def test_pointwise_corrections_know_attraction_better_and_the_naive_ranker_wins_nothing(
    world: World,
) -> None:
    """The half of the claim that holds on the usual twin: for the pointwise loss. That the naive
    ranker wins on raw clicks does not: it sees no place, and the twin's old ranker knows what
    attracts better than any of these, so that the place itself tells attraction."""
    naive = ndcgs(world, "pointwise", None)
    for correction in (recipes.IPS, recipes.DOUBLY_ROBUST):
        raw, attraction = gains(world, ndcgs(world, "pointwise", correction), naive)
        print("pointwise,", correction.method, "less naive: raw", raw, "attraction", attraction)
        assert attraction.low > 0
        assert raw.high > 0, "the naive ranker does not win on raw clicks"
    naive_listwise = ndcgs(world, "listwise", None)
    listwise = gains(world, ndcgs(world, "listwise", recipes.IPS), naive_listwise)
    print("listwise, ips less naive: raw, attraction", listwise)
    raw, attraction = gains(world, ndcgs(world, "pointwise", None, told=True), naive)
    print("told the place at scoring less naive: raw", raw, "attraction", attraction)
    assert raw.low > 0
    assert attraction.low > 0, "the old order knows attraction"
