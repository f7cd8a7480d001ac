"""Recipes are complete, named after their function, and cost nothing to read."""

import inspect
import subprocess
import sys

import pytest

from models import recipes
from models.recipes import BM25Recipe, DCNV2Recipe

FUNCTIONS = {
    name: function
    for name, function in inspect.getmembers(recipes, inspect.isfunction)
    if not name.startswith("_") and function.__module__ == recipes.__name__ and name != "replace"
}


def test_every_model_has_a_recipe_and_a_smoke_recipe_for_both_tasks():
    expected = {
        f"{model}_{task}{suffix}"
        for model in ("bm25", "dcn_v2")
        for task in ("search", "recommendation")
        for suffix in ("", "_smoke")
    }
    assert set(FUNCTIONS) == expected


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_recipe_bears_the_name_of_its_function_and_its_task(name):
    recipe = FUNCTIONS[name]()
    assert isinstance(recipe, BM25Recipe | DCNV2Recipe)
    assert recipe.name == name
    assert recipe.task in name
    assert recipe == FUNCTIONS[name]()


def test_a_smoke_recipe_differs_in_size_only():
    full, smoke = recipes.dcn_v2_search(), recipes.dcn_v2_search_smoke()
    assert smoke.training.loss == full.training.loss
    assert smoke.architecture.structure == full.architecture.structure
    assert smoke.training.max_epochs < full.training.max_epochs
    assert smoke.architecture.embedding_dim < full.architecture.embedding_dim


def test_recipes_metrics_and_bm25_do_not_import_torch():
    code = "import sys, models.recipes, models.metrics, models.bm25, models.ranking_data;"
    code += "print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
