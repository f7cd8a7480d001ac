"""The launchpad: what can be changed there is explained, and unchanged it changes nothing."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models import recipes
from models.recipes import BM25Recipe, Recipe
from qilin_dagster.assets import ablation, training
from qilin_dagster.assets.features import NOTE_WORDS
from qilin_dagster.assets.hyper_parameters import (
    FIXED,
    changes,
    edited,
    launched_as,
    launchpad,
    meanings,
    smoke_of,
)
from qilin_dagster.engines.duckdb import DuckDBEngine
from qilin_dagster.errors import InputError
from qilin_dagster.lake import write_rows
from qilin_dagster.resources import Lakehouse

RECIPES = (*training.RECIPES, *ablation.RECIPES)


def fields(schema: dict[str, dg.Field]) -> list[tuple[str, dg.Field]]:
    found = []
    for name, field in schema.items():
        found.append((name, field))
        inner = getattr(field.config_type, "inner_type", field.config_type)
        found += fields(getattr(inner, "fields", {}))
    return found


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_every_field_is_explained_and_has_a_default(recipe: Recipe) -> None:
    offered = fields(launchpad(recipe))
    assert offered
    for name, field in offered:
        assert field.description, name
        assert not field.is_required, name
        assert name not in FIXED


def test_the_meaning_is_the_comment_above_the_field() -> None:
    said = meanings(BM25Recipe)
    assert said["b"] == (
        "How much long notes are held back: 0 not at all, 1 in proportion to their length."
    )
    assert said["name"] == ""


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_an_unchanged_launch_gives_the_recipe_back(recipe: Recipe) -> None:
    assert edited(recipe, launched_as(recipe)) == recipe
    assert edited(recipe, {}) == recipe


def test_what_is_changed_is_changed_and_said() -> None:
    recipe = recipes.dcn_v2_search()
    changed = edited(
        recipe,
        {"architecture": {"hidden": [8], "cross": "low_rank"}, "training": {"max_epochs": 3}},
    )
    assert changed.architecture == dataclasses.replace(
        recipe.architecture, hidden=(8,), cross="low_rank"
    )
    assert changes(recipe, changed) == [
        "architecture.cross: matrix became low_rank",
        "architecture.hidden: (256, 128) became (8,)",
        "training.max_epochs: 30 became 3",
    ]


def test_changes_win_over_what_a_checkpoint_brings() -> None:
    recipe = recipes.vlm_search()
    onto = recipes.vlm_from_checkpoint(recipe, "some/checkpoint")
    config = launched_as(recipe)
    assert edited(recipe, config, onto) == onto
    config["training"]["max_epochs"] = 1
    changed = edited(recipe, config, onto)
    assert changed == dataclasses.replace(
        onto, training=dataclasses.replace(onto.training, max_epochs=1)
    )
    adapted = edited(recipe, {"adapter": {"rank": 4}}, onto).adapter
    assert adapted == dataclasses.replace(recipes.LoRA(), rank=4)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"training": {"max_epochs": 0}}, "training.max_epochs is 0, it must be at least 1"),
        ({"encoder": {"dropout": 1.0}}, "encoder.dropout is 1.0, it must be from 0 to below 1"),
        ({"encoder": {"width": 65}}, "encoder.width is 65, it must be a multiple of n_heads, 2"),
        ({"training": {"learning_rate": 0.0}}, "training.learning_rate is 0.0, it must be above 0"),
        ({"bm25_to": 5}, "bm25_to is 5, it must be beyond bm25_from"),
    ],
)
def test_a_value_no_model_can_have_is_named(config: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match="bi_encoder_search: ") as error:
        edited(recipes.bi_encoder_search(), config)
    assert said in str(error.value)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_the_smallest_sister_is_one_launch_away(recipe: Recipe) -> None:
    small = edited(recipe, smoke_of(recipe))
    assert (small.name, small.task) == (recipe.name, recipe.task)
    assert isinstance(recipe, BM25Recipe) or changes(recipe, small)


def test_a_changed_launch_is_another_run_and_never_mixed_up(
    tiny_engine: DuckDBEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lakehouse = Lakehouse(lake=str(shutil.copytree(tiny_engine.lake.root, tmp_path / "lake")))
    lake, table = lakehouse.store, "training.bm25_search"
    lake.publish(
        NOTE_WORDS,
        inputs={},
        code_version="1",
        write=lambda folder: write_rows(pa.table({"a": [1]}), folder),
    )
    # What is trained is the recipe in a file; nothing else of it is asked here.
    monkeypatch.setattr(
        "qilin_dagster.assets.tables.check_table",
        lambda engine, suite: [
            dg.AssetCheckResult(check_name=one.name, passed=True) for one in suite.expectations
        ],
    )
    monkeypatch.setattr(
        "qilin_dagster.training.train_bm25",
        lambda connection, words, recipe, folder, report: write_rows(
            pa.table({"k1": [recipe.k1]}), folder
        ),
    )
    (asset,) = (one for one in training.rankers if one.key.path == table.split("."))

    def launched(config: dict[str, Any]) -> dict[str, Any] | None:
        result = dg.materialize(
            [asset, *(dg.AssetSpec(p.split(".")) for p in training.BM25_READS)],
            instance=dg.DagsterInstance.ephemeral(),
            resources={"lakehouse": lakehouse},
            run_config={
                "ops": {"training__bm25_search": {"config": config}},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
            raise_on_error=False,
        )
        events = result.get_asset_materialization_events()
        return events[0].materialization.metadata if result.success else None

    def made() -> tuple[Any, list[float]]:
        manifest = lake.manifest(table)
        assert manifest is not None
        (file,) = lake.files(manifest)
        return manifest, pq.read_table(file)["k1"].to_pylist()

    unchanged = launched({})
    assert unchanged is not None
    assert "other than the recipe" not in unchanged
    before, scores = made()
    assert scores == [1.5]
    assert "other" not in before.facts
    metadata = launched({"k1": 0.1})
    assert metadata is not None
    assert metadata["other than the recipe"].value == "- k1: 1.5 became 0.1"
    changed, scores = made()
    assert scores == [0.1]
    assert changed.inputs["recipe"] != before.inputs["recipe"]
    assert changed.snapshot_id != before.snapshot_id
    assert changed.facts["other"] == ["k1: 1.5 became 0.1"]
    assert launched({"k1": -1.0}) is None
    assert made()[0] == changed, "a value that cannot be is refused before anything is written"
    assert launched({"k1": 1.5}) is not None
    assert made()[0].snapshot_id == before.snapshot_id
