"""What allowing for position does on a twin, where what attracts is known.

The claim of the literature is that corrected rankers know attraction better and look worse on raw
clicks. Only what was measured is asserted; the rest is printed, a gain or not.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest

from models import recipes
from models.counterfactual import graded_ndcg
from models.dcn_v2 import DCNV2Config
from models.dcn_v2_training import score, train
from models.metrics import FloatArray, Interval, paired_bootstrap_interval
from models.ranking_data import RankingData
from models.recipes import PositionCorrection
from qilin_dagster.click_sessions import ALL, PLACES, RECOMMENDED
from qilin_dagster.exposures import exposure_of
from qilin_dagster.features import build_features, read_feature_columns
from qilin_dagster.leaderboard import Candidates, ScoredRun, read_candidates, scores_of
from qilin_dagster.sources.twin import write_twin
from qilin_dagster.training import ranking_data
from qilin_dagster.unbiased import planted_attraction, twin_truth
from tests.conftest import build_views, store_words

pytestmark = pytest.mark.slow
SCALE, SEED = 0.1, 7
Gains = tuple[Interval, Interval]


@dataclass(frozen=True)
class World:
    folds: dict[str, RankingData]
    config: DCNV2Config
    test: pl.DataFrame
    candidates: Candidates
    attraction: FloatArray


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("claim")
    write_twin(folder / "data", scale=SCALE, seed=SEED)
    connection = build_views(folder / "data", folder / "lake").connect()
    for name in ("words", "features"):
        (folder / name).mkdir()
    store_words(connection, folder)
    build_features(connection, folder / "words", folder / "appeal", "search", folder / "features")
    _plant_curve(connection, folder / "data")
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


def _plant_curve(connection: duckdb.DuckDBPyConnection, data: Path) -> None:
    """Examination as it was planted: what is asked is what weights do, not how well they are known.

    Click counts stand only for the mean attraction of a place, which doubly robust fills in.
    """
    places = pl.read_parquet(data / "truth" / "examination.parquet").filter(
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


def test_pointwise_corrections_know_attraction_better_and_the_naive_ranker_wins_nothing(
    world: World,
) -> None:
    """The half of the claim that holds: for the pointwise loss. That the naive ranker wins on raw
    clicks does not: it sees no place, and the twin's old ranker knows what attracts better than any
    of these, so that the place itself tells attraction."""
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
