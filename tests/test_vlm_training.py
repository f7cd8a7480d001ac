"""Rankers that see covers, from stored tables to runs, and what is said where there are none."""

import json
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest

from models import recipes
from models.recipes import Encoder, Training, VisionLanguage
from qilin_dagster.features import build_features
from qilin_dagster.image_facts import build_images, fingerprints
from qilin_dagster.image_worth import COMPARISONS, image_worth
from qilin_dagster.leaderboard import ScoredRun, read_candidates
from qilin_dagster.note_images import NoteImages, build_note_images, read_note_images
from qilin_dagster.note_tokens import build_note_tokens
from qilin_dagster.sources.twin import write_twin
from qilin_dagster.text_training import TextSources, train_text_ranker
from qilin_dagster.training import train_dcn_v2
from qilin_dagster.vlm_training import NO_IMAGES, train_vlm
from tests.conftest import build_views, store_words
from tests.models.test_vlm import write_checkpoint

ONE_EPOCH = Training(
    max_epochs=1,
    candidates_per_batch=256,
    learning_rate=1e-2,
    min_fit_requests=1,
    min_validation_requests=1,
)
TINY = VisionLanguage(
    n_layers=1, width=16, vision_width=16, max_query_tokens=6, max_note_tokens=6, max_image_tokens=1
)
VLM = replace(recipes.vlm_search(), model=TINY, training=ONE_EPOCH, list_size=3)
DCN = replace(recipes.dcn_v2_search_smoke(), training=ONE_EPOCH)
BI = replace(
    recipes.bi_encoder_search(),
    encoder=Encoder(n_layers=1, width=16, max_query_tokens=12, max_note_tokens=16),
    training=ONE_EPOCH,
    bm25_negatives=0,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vlm")


@pytest.fixture(scope="module")
def connection(folder: Path) -> duckdb.DuckDBPyConnection:
    """A twin with images and the tables that rankers read."""
    write_twin(folder / "data", scale=0.001, seed=11, images=True)
    connection = build_views(folder / "data", folder / "lake").connect()
    for name in ("images", "words", "search", "tokens", "note_images"):
        (folder / name).mkdir()
    parts = fingerprints(folder / "data")
    build_images(connection, folder / "data", parts, None, folder / "images", folder / "left", 1)
    connection.execute(
        f"create view core.images as from read_parquet('{folder}/images/part-0.parquet')"
    )
    store_words(connection, folder)
    build_features(connection, folder / "words", folder / "appeal", "search", folder / "search")
    build_note_tokens(connection, None, folder / "tokens", print)
    return connection


@pytest.fixture(scope="module")
def images(connection: duckdb.DuckDBPyConnection, folder: Path) -> NoteImages:
    written = build_note_images(
        connection,
        folder / "data",
        None,
        None,
        folder / "note_images",
        folder / "left",
        "cpu",
        print,
    )
    return read_note_images(folder / "note_images", written.facts)


def without_any(images: NoteImages) -> NoteImages:
    return replace(
        images, note_idx=images.note_idx[:0], path=[], content_hash=[], size=images.size[:0],
        image=images.image[:0],
    )  # fmt: skip


def sources(folder: Path, images: NoteImages | None, unfinished: Path) -> TextSources:
    return TextSources(
        features=folder / "search",
        note_tokens=folder / "tokens",
        note_words=None,
        unfinished=unfinished,
        note_images=images,
    )


def run_of(out: Path) -> list[float]:
    return pl.read_csv(out / "run.csv").sort("qid", "pid")["score"].to_list()


def vlm_run(connection, folder: Path, images: NoteImages, out: Path, recipe=VLM) -> list[float]:
    out.mkdir()
    train_vlm(
        connection, sources(folder, images, out.with_suffix(".left")), recipe, out, "cpu", print
    )
    return run_of(out)


def test_a_vlm_scores_every_test_candidate_and_leaves_a_card(
    connection, folder: Path, images: NoteImages, tmp_path: Path
) -> None:
    scores = vlm_run(connection, folder, images, tmp_path / "one")
    candidates = read_candidates(connection, "search")
    assert len(scores) == len(candidates.qid)
    assert len(set(scores)) > 5
    card = json.loads((tmp_path / "one" / "model.json").read_text())
    assert card["recipe"]["model"]["max_image_tokens"] == 1
    assert 0 < card["candidates_with_cover"] < len(scores)
    names = {path.name for path in (tmp_path / "one").iterdir()}
    assert {"model.safetensors", "head.safetensors", "tokenizer.json", "model.json"} <= names
    # The same seed and data give the same scores, and covers of other notes others.
    assert vlm_run(connection, folder, images, tmp_path / "two") == scores
    assert vlm_run(connection, folder, images.shuffled(7), tmp_path / "other") != scores
    blind = replace(VLM, covers="none")
    assert vlm_run(connection, folder, images, tmp_path / "blind", blind) != scores


def test_without_images_a_vlm_says_so(
    connection, folder: Path, images: NoteImages, tmp_path: Path
) -> None:
    tmp_path.joinpath("out").mkdir()
    written = train_vlm(
        connection,
        sources(folder, without_any(images), tmp_path),
        VLM,
        tmp_path / "out",
        "cpu",
        print,
    )
    assert written.n_rows == 0
    assert written.facts == {"not_trained": NO_IMAGES}


def test_a_checkpoint_reads_the_notes_in_its_own_tokens(
    connection, folder: Path, images: NoteImages, tmp_path: Path
) -> None:
    write_checkpoint(tmp_path / "qwen", "qwen2_vl")
    recipe = recipes.vlm_from_checkpoint(VLM, str(tmp_path / "qwen"))
    sizes = replace(recipe.model, max_query_tokens=8, max_note_tokens=8, max_image_tokens=1)
    recipe = replace(recipe, model=sizes, training=ONE_EPOCH)
    scores = vlm_run(connection, folder, images, tmp_path / "one", recipe)
    assert len(set(scores)) > 5
    assert (tmp_path / "one" / "adapter_model.safetensors").exists()


def test_dcn_v2_takes_the_looks_of_covers_and_does_without(
    connection, folder: Path, images: NoteImages, tmp_path: Path
) -> None:
    def trained(seen: NoteImages | None, name: str) -> list[float]:
        out = tmp_path / name
        out.mkdir()
        train_dcn_v2(
            connection, folder / "search", seen, DCN, out, tmp_path / f"{name}.left", "cpu", print
        )
        return run_of(out)

    blind = trained(None, "blind")
    assert trained(images, "seen") != blind
    assert trained(without_any(images), "none") == blind, "no images: the same model as ever"
    card = json.loads((tmp_path / "seen" / "model.json").read_text())
    assert card["n_visual"] > 5
    assert (tmp_path / "seen" / "visual_inputs.safetensors").exists()


def test_the_bi_encoder_takes_the_looks_of_covers_and_they_come_back(
    connection, folder: Path, images: NoteImages, tmp_path: Path
) -> None:
    from models.bi_encoder import load_model

    def trained(seen: NoteImages | None, name: str) -> list[float]:
        (tmp_path / name).mkdir()
        read = sources(folder, seen, tmp_path / f"{name}.left")
        train_text_ranker(connection, read, BI, tmp_path / name, "cpu", print)
        return run_of(tmp_path / name)

    blind = trained(None, "blind")
    assert trained(images, "seen") != blind
    assert trained(without_any(images), "none") == blind
    model = load_model(tmp_path / "seen")
    assert model.look is not None
    assert model.look.weight.abs().sum() > 0
    assert load_model(tmp_path / "blind").look is None


def test_what_images_are_worth_is_paired_by_request(connection) -> None:
    """A run that knows the clicks is worth all the difference to one that knows nothing."""
    candidates = read_candidates(connection, "search")
    draw = np.random.default_rng(0)
    chance = draw.random(len(candidates.qid))
    runs = [
        ScoredRun("vlm", candidates.qid, candidates.pid, candidates.is_clicked + chance),
        ScoredRun("vlm_text_only", candidates.qid, candidates.pid, chance),
        ScoredRun("vlm_shuffled_covers", candidates.qid, candidates.pid, chance),
    ]
    table = image_worth(connection, "search", candidates, runs)
    rows = {
        row["comparison"]: row
        for row in table.to_pylist()
        if (row["slice"], row["metric"]) == ("all", "mrr@10")
    }
    names = [c.name for c in COMPARISONS]
    assert list(rows) == names[:3], "of runs that are not there nothing is said"
    # With covers, and with a note's own in place of another's, here comes to the same.
    for name in names[:2]:
        assert rows[name]["mean"] == 1
        assert rows[name]["difference"] == pytest.approx(1 - rows[name]["mean_against"])
    assert rows[names[2]]["difference"] == 0
    slices = {row["slice"] for row in table.to_pylist()}
    assert slices == {"all", "form of clicked notes", "query source"}
    assert image_worth(connection, "search", candidates, runs[:1]).num_rows == 0
