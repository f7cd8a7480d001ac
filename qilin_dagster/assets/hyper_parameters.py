"""A recipe in the launchpad: what may be changed there, what it means, and the recipe it makes.

The fields, their defaults and their meanings are those of `models.recipes`; an unchanged launch
gives back the very same recipe, and so the very same bytes. The recipe is part of the hash that
names a run, so a changed one can never be taken for another.
"""

import dataclasses
import functools
import inspect
import re
import typing
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar

import dagster as dg

from models import recipes
from models.recipes import Recipe
from qilin_dagster.errors import InputError

R = TypeVar("R", bound=Recipe)

# Not offered: whose ranker it is; what QILIN_SEED and the QILIN_*CHECKPOINT variables say for all
# rankers; and what decides which tables a ranker reads, which the graph knows before any launch.
FIXED = ("name", "task", "seed", "checkpoint", "covers", "reads_text", "correction")
# Whole numbers that may be 0; all others count something there must be one of.
MAY_BE_ZERO = (
    *("exposed_negatives", "bm25_negatives", "other_negatives", "warmup_updates", "n_cross"),
)
NUMBER_MAY_BE_ZERO = ("weight_decay", "b", "epsilon")

SMOKE: dict[tuple[type, str], Recipe] = {
    (type(recipe), recipe.task): recipe
    for recipe in (
        recipes.bm25_search_smoke(),
        recipes.bi_encoder_search_smoke(),
        recipes.cross_encoder_search_smoke(),
        recipes.dcn_v2_search_smoke(),
        recipes.vlm_search_smoke(),
        recipes.bm25_recommendation_smoke(),
        recipes.bi_encoder_recommendation_smoke(),
        recipes.cross_encoder_recommendation_smoke(),
        recipes.dcn_v2_recommendation_smoke(),
        recipes.vlm_recommendation_smoke(),
    )
}


def launchpad(recipe: Recipe) -> dict[str, dg.Field]:
    """The fields of a recipe that may be changed, with defaults and meanings."""
    return _fields(recipe)


def edited(recipe: R, config: Mapping[str, Any], onto: R | None = None) -> R:
    """The recipe with what was changed in the launchpad, and only that.

    ``onto`` is the recipe that the changes are made to, where it is another one: what a checkpoint
    brings along is kept but for what somebody changed.

    Raises:
        InputError: a value no model can be made or trained with.
    """
    changed = _edited(recipe, config, recipe if onto is None else onto)
    faults = list(_faults(changed, ""))
    if faults:
        raise InputError(f"{recipe.name}: " + "; ".join(faults))
    return typing.cast("R", changed)


def launched_as(recipe: Recipe) -> dict[str, Any]:
    """What to enter in the launchpad to get this recipe, whatever stands there."""
    return _config(recipe)


def smoke_of(recipe: Recipe) -> dict[str, Any]:
    """The launchpad of the recipe's smallest sister, which trains on one core in seconds."""
    return launched_as(SMOKE[type(recipe), recipe.task])


def changes(before: Recipe, after: Recipe) -> list[str]:
    """What differs, a line each: ``training.max_epochs: 30 became 3``."""
    return list(_changes(before, after, ""))


def _config(instance: Any) -> dict[str, Any]:
    values = {
        field.name: getattr(instance, field.name)
        for field in dataclasses.fields(instance)
        if field.name not in FIXED
    }
    return {
        name: _config(value)
        if dataclasses.is_dataclass(value)
        else list(value)
        if isinstance(value, tuple)
        else value
        for name, value in values.items()
    }


def _fields(instance: Any) -> dict[str, dg.Field]:
    said = meanings(instance.__class__)
    hints = typing.get_type_hints(type(instance))
    return {
        field.name: _field(hints[field.name], getattr(instance, field.name), said[field.name])
        for field in dataclasses.fields(instance)
        if field.name not in FIXED
    }


def _shape(instance: Any) -> Any:
    return dg.Shape(_fields(instance))  # type: ignore[no-untyped-call]


def _field(hint: Any, default: Any, meaning: str) -> dg.Field:
    if dataclasses.is_dataclass(default) and not isinstance(default, type):
        # The launchpad writes out what has a default; without one, nobody sees what is in there.
        values = _config(default)
        return dg.Field(
            _shape(default), is_required=False, default_value=values, description=meaning
        )
    if isinstance(default, tuple):
        return dg.Field([int], is_required=False, default_value=list(default), description=meaning)
    type_: Any
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        # Named by its values: enums of one name must be the same everywhere.
        type_ = dg.Enum(f"one_of_{'_'.join(choices)}", [dg.EnumValue(one) for one in choices])
    elif isinstance(hint, UnionType):
        (inner,) = (one for one in typing.get_args(hint) if one is not NoneType)
        type_ = dg.Noneable(_shape(inner()))
    else:
        type_ = hint
    return dg.Field(type_, is_required=False, default_value=default, description=meaning)


@functools.cache
def meanings(recipe: type) -> Mapping[str, str]:
    """What the comment above each field of a dataclass says; empty where there is none.

    Kept: finding a class in its file takes five milliseconds, and some eighty recipes ask.
    """
    found = {field.name: "" for field in dataclasses.fields(recipe)}
    comment: list[str] = []
    for line in inspect.getsource(recipe).splitlines():
        text = line.strip()
        if text.startswith("#"):
            comment.append(text.removeprefix("#").strip())
            continue
        named = re.match(r"(\w+): ", text)
        if named and named[1] in found:
            found[named[1]] = " ".join(comment)
        comment = []
    return found


def _edited(default: Any, config: Mapping[str, Any], onto: Any) -> Any:
    values = {}
    for name, value in config.items():
        before, current = getattr(default, name), getattr(onto, name)
        if isinstance(value, Mapping):
            made = before if before is not None else _made(type(default), name)
            target = current if current is not None else made
            values[name] = _edited(made, value, target)
        else:
            value = tuple(value) if isinstance(before, tuple) else value
            values[name] = current if value == before else value
    return dataclasses.replace(onto, **values)


def _made(owner: type, name: str) -> Any:
    """An instance of what may be None, with its defaults."""
    hint = typing.get_type_hints(owner)[name]
    (inner,) = (one for one in typing.get_args(hint) if one is not NoneType)
    return inner()


def _faults(instance: Any, path: str) -> typing.Iterator[str]:
    for field in dataclasses.fields(instance):
        name, value = field.name, getattr(instance, field.name)
        where = f"{path}{name} is {value}"
        if dataclasses.is_dataclass(value):
            yield from _faults(value, f"{path}{name}.")
        elif isinstance(value, tuple):
            if any(width < 1 for width in value):
                yield f"{where}, every width must be at least 1"
        elif isinstance(value, bool) or name == "seed":
            continue
        elif isinstance(value, int):
            least = 0 if name in MAY_BE_ZERO else 1
            if value < least:
                yield f"{where}, it must be at least {least}"
        elif isinstance(value, float):
            if name.endswith(("dropout", "unknown_rate")):
                if not 0 <= value < 1:
                    yield f"{where}, it must be from 0 to below 1"
            elif value < 0 or (value == 0 and name not in NUMBER_MAY_BE_ZERO):
                yield f"{where}, it must be above 0"
    for width, heads in (("width", "n_heads"), ("vision_width", "vision_heads")):
        both = (getattr(instance, width, 1), getattr(instance, heads, 1))
        if both[1] > 0 and both[0] % both[1]:
            yield f"{path}{width} is {both[0]}, it must be a multiple of {heads}, {both[1]}"
    if hasattr(instance, "bm25_from") and instance.bm25_to <= instance.bm25_from:
        yield f"{path}bm25_to is {instance.bm25_to}, it must be beyond bm25_from"


def _changes(before: Any, after: Any, path: str) -> typing.Iterator[str]:
    for field in dataclasses.fields(before):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if old == new:
            continue
        if dataclasses.is_dataclass(old) and type(old) is type(new):
            yield from _changes(old, new, f"{path}{field.name}.")
        else:
            yield f"{path}{field.name}: {old} became {new}"
