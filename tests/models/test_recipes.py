"""Recipes are complete, named after their function, and cost nothing to read."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic import ranking_data

from models import recipes
from models.recipes import Recipe

FUNCTIONS = {
    name: function
    for name, function in inspect.getmembers(recipes, inspect.isfunction)
    if function.__module__ == recipes.__name__
    and not name.startswith("_")
    and name not in ("replace", "from_checkpoint", "vlm_from_checkpoint", "corrected")
}


def test_every_model_has_a_recipe_and_a_smoke_recipe_for_both_tasks():
    expected = {
        f"{model}_{task}{suffix}"
        for model in ("bm25", "bi_encoder", "cross_encoder", "dcn_v2", "vlm")
        for task in ("search", "recommendation")
        for suffix in ("", "_smoke")
    }
    assert set(FUNCTIONS) == expected


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_recipe_bears_the_name_of_its_function_and_its_task(name):
    recipe = FUNCTIONS[name]()
    assert isinstance(recipe, Recipe)
    assert recipe.name == name
    assert recipe.task in name
    assert recipe == FUNCTIONS[name]()


def test_a_smoke_recipe_differs_in_size_only():
    full, smoke = recipes.dcn_v2_search(), recipes.dcn_v2_search_smoke()
    assert smoke.training.loss == full.training.loss
    assert smoke.architecture.structure == full.architecture.structure
    assert smoke.training.max_epochs < full.training.max_epochs
    assert smoke.architecture.embedding_dim < full.architecture.embedding_dim


@pytest.mark.parametrize("model", ["bi_encoder", "cross_encoder"])
def test_a_recipe_on_a_checkpoint_keeps_its_name_and_its_loss(model):
    recipe = FUNCTIONS[f"{model}_search"]()
    chosen = recipes.from_checkpoint(recipe, "bert-base-chinese")
    assert (chosen.name, chosen.training.loss) == (recipe.name, recipe.training.loss)
    assert chosen.encoder.checkpoint == "bert-base-chinese"
    assert chosen.training.learning_rate < recipe.training.learning_rate / 10
    assert recipes.from_checkpoint(chosen, "bert-base-chinese") == chosen


def test_a_vlm_on_a_checkpoint_keeps_its_name_and_adapts_it():
    recipe = FUNCTIONS["vlm_recommendation"]()
    chosen = recipes.vlm_from_checkpoint(recipe, "Qwen/Qwen2-VL-2B-Instruct")
    assert (chosen.name, chosen.list_size) == (recipe.name, recipe.list_size)
    assert chosen.adapter == recipes.LoRA(rank=16)
    assert chosen.model.max_image_tokens > recipe.model.max_image_tokens
    assert chosen.training.precision == "bf16"


def test_the_readme_names_every_module_and_recipe_and_its_example_runs(tmp_path, monkeypatch):
    folder = Path(recipes.__file__).parent
    text = (folder / "README.md").read_text(encoding="utf-8")
    for module in folder.glob("*.py"):
        assert module.name in (*text.split("`"), "__init__.py", "recipes.py")
    for name in FUNCTIONS:
        assert f"`{name.removesuffix('_smoke')}`" in text
    example = text.partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    folds = {
        fold: ranking_data(n, "product", seed=seed)
        for seed, (fold, n) in enumerate({"fit": 60, "validation": 12, "test": 5}.items())
    }
    namespace = dict(folds)
    exec(example, namespace)  # the example is text of this repository
    assert namespace["logits"].shape == (40,)
    assert (tmp_path / "weights.safetensors").exists()


def test_recipes_metrics_and_bm25_do_not_import_torch():
    code = "import sys, models.recipes, models.metrics, models.bm25, models.ranking_data;"
    code += "print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
