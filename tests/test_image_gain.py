"""The proof that the ablation tells covers that matter from covers that do not.

One log, and two sets of images for it: in one they show the planted look, in the other that of
another note. A ranker that sees the first must gain, one that sees the second must not.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from models import recipes
from qilin_dagster.features import build_features
from qilin_dagster.image_facts import build_images, fingerprints
from qilin_dagster.image_worth import COVER_ON, image_worth
from qilin_dagster.leaderboard import Candidates, ScoredRun, read_candidates
from qilin_dagster.note_images import NoteImages, build_note_images, read_note_images
from qilin_dagster.note_tokens import build_note_tokens
from qilin_dagster.sources.twin import write_twin
from qilin_dagster.text_training import TextSources
from qilin_dagster.training import train_dcn_v2
from qilin_dagster.vlm_training import train_vlm
from tests.conftest import build_views, store_words

SCALE = 0.1
SEED = 3
IN_DCN = "looks of covers in DCN-V2, against none"

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Log:
    connection: duckdb.DuckDBPyConnection
    folder: Path
    images: dict[str, NoteImages]  # by what they are: planted or noise
    candidates: Candidates


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    folder = tmp_path_factory.mktemp("gain")
    for name, looks in (("planted", True), ("noise", False)):
        write_twin(folder / name, scale=SCALE, seed=SEED, images=True, looks=looks)
    connection = build_views(folder / "planted", folder / "lake").connect()
    images = {name: covers(connection, folder, name) for name in ("planted", "noise")}
    for name in ("words", "features", "tokens"):
        (folder / name).mkdir()
    store_words(connection, folder)
    build_features(connection, folder / "words", folder / "appeal", "search", folder / "features")
    build_note_tokens(connection, None, folder / "tokens", print)
    return Log(connection, folder, images, read_candidates(connection, "search"))


def covers(connection: duckdb.DuckDBPyConnection, folder: Path, name: str) -> NoteImages:
    data, own = folder / name, folder / f"{name}_images"
    for part in ("facts", "looks"):
        (own / part).mkdir(parents=True)
    build_images(connection, data, fingerprints(data), None, own / "facts", own / "left", 1)
    facts = f"read_parquet('{own}/facts/part-0.parquet')"
    connection.execute(f"create or replace view core.images as from {facts}")
    written = build_note_images(
        connection, data, None, None, own / "looks", own / "left", "cpu", print
    )
    return read_note_images(own / "looks", written.facts)


def run(log: Log, name: str, folder: Path) -> ScoredRun:
    table = pq.read_table(folder / "part-0.parquet")
    return ScoredRun(name, *(table[column].to_numpy() for column in ("qid", "pid", "score")))


def dcn_v2(log: Log, name: str, seen: str | None) -> ScoredRun:
    folder = log.folder / f"dcn_v2_{seen}"
    if not folder.exists():
        folder.mkdir()
        train_dcn_v2(
            log.connection,
            log.folder / "features",
            log.images[seen] if seen else None,
            recipes.dcn_v2_search(),
            folder,
            folder / "left",
            "cpu",
            print,
        )
    return run(log, name, folder)


def vlm(log: Log, name: str, seen: str | None) -> ScoredRun:
    folder = log.folder / f"vlm_{seen}"
    if not folder.exists():
        folder.mkdir()
        recipe = replace(recipes.vlm_search(), covers="own" if seen else "none")
        sources = TextSources(
            features=log.folder / "features",
            note_tokens=log.folder / "tokens",
            note_words=None,
            unfinished=folder / "left",
            # Whether there are images at all is asked of one that sees none, too.
            note_images=log.images[seen or "planted"],
        )
        train_vlm(log.connection, sources, recipe, folder, "cpu", print)
    return run(log, name, folder)


def worth(log: Log, comparison: str, runs: list[ScoredRun]) -> dict:
    rows = image_worth(log.connection, "search", log.candidates, runs).to_pylist()
    (row,) = [
        row
        for row in rows
        if (row["comparison"], row["slice"], row["metric"]) == (comparison, "all", "mrr@10")
    ]
    print(comparison, {name: row[name] for name in ("difference", "low", "high", "p_value")})
    return row


def test_the_planted_gain_is_found_by_the_vlm(log: Log) -> None:
    row = worth(log, COVER_ON, [vlm(log, "vlm", "planted"), vlm(log, "vlm_text_only", None)])
    assert row["low"] > 0
    assert row["p_value"] < 0.05


def test_none_is_found_by_the_vlm_in_noise(log: Log) -> None:
    row = worth(log, COVER_ON, [vlm(log, "vlm", "noise"), vlm(log, "vlm_text_only", None)])
    assert row["low"] <= 0


def test_the_planted_gain_is_found_by_dcn_v2(log: Log) -> None:
    row = worth(log, IN_DCN, [dcn_v2(log, "dcn_v2_covers", "planted"), dcn_v2(log, "dcn_v2", None)])
    assert row["low"] > 0
    assert row["p_value"] < 0.05


def test_none_is_found_by_dcn_v2_in_noise(log: Log) -> None:
    row = worth(log, IN_DCN, [dcn_v2(log, "dcn_v2_covers", "noise"), dcn_v2(log, "dcn_v2", None)])
    assert row["low"] <= 0
