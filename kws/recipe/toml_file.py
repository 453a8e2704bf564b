"""Recipes as TOML files: found by name, read and checked, written in full."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from kws.decide import THRESHOLD, DecisionConfig
from kws.errors import KwsError
from kws.models import architecture_named
from kws.recipe.config import ModelConfig, TrainingRecipe
from kws.system.files import read_toml

RECIPES = Path(__file__).parents[1] / "recipes"
"""The recipes that come with the kit."""


def known_recipes() -> dict[str, Path]:
    """Return the recipes that come with the kit, by name: first its own, then those of the zoo."""
    paths = [*sorted(RECIPES.glob("*.toml")), *sorted(RECIPES.glob("zoo/*.toml"))]
    return {path.stem: path for path in paths}


def about_recipe(path: Path) -> str:
    """Return the one-line description of a recipe: its first line, a comment."""
    first, _, _ = path.read_text(encoding="utf-8").partition("\n")
    return first.removeprefix("#").strip()


def resolve_recipe(recipe: str | Path) -> Path:
    """Return the path of a recipe given as a path or as the name of one that comes with the kit.

    Raises:
        KwsError: there is no such recipe.
    """
    path = Path(recipe)
    known = known_recipes()
    if str(recipe) in known:
        return known[str(recipe)]
    if path.is_file():
        return path
    raise KwsError(
        f"No such recipe. Received: {recipe}. Give a .toml file or one of: {', '.join(known)}"
    )


def load_recipe(recipe: str | Path) -> TrainingRecipe:
    """Read and check a recipe.

    Args:
        recipe: path of a TOML file, or the name of one in ``kws/recipes``.

    A recipe with ``base = "another recipe"`` contains only the differences from that one: its keys
    replace those of the base, but a ``[model]`` with an architecture replaces the whole table, and
    name and description are never inherited.

    Raises:
        KwsError: no such file, not TOML, an unknown key, a wrong type or an invalid value; the
            message names the file and the key.
    """
    path = resolve_recipe(recipe)
    try:
        table = _read_with_base(path)
        model, decision = (_table(table.pop(key, {}), key) for key in ("model", "decision"))
        name = _typed(model.pop("architecture", ModelConfig.architecture), str, "architecture")
        network = _read(architecture_named(name), model, "model")
        if network.whole_clip:
            table["training"] = {
                "context_clips": 1,
                **_table(table.get("training", {}), "training"),
            }
        read = _read(TrainingRecipe, {"name": path.stem, **table}, "")
        data = read.data
        if "unknown_share" not in table.get("data", {}):
            few = _missing_to_five(list(read.labels.keywords))
            share = round(data.unknown_share + 0.1 * few, 1)
            data = dataclasses.replace(data, unknown_share=share)
        threshold = _typed(decision.pop("threshold", THRESHOLD), float, "decision.threshold")
        own = _typed(decision.pop("thresholds", {}), Mapping[str, float], "decision.thresholds")
        thresholds = dict.fromkeys(read.labels.keywords, threshold) | own
        read = dataclasses.replace(
            read,
            data=data,
            model=ModelConfig(architecture=name, sizes=dict(vars(network))),
            decision=_read(DecisionConfig, {**decision, "thresholds": thresholds}, "decision"),
        )
        _check(read)
    except KwsError as error:
        raise KwsError(f"{path}: {error}") from error
    return read


def _read_with_base(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a recipe's tables, merged with those of the recipe it is based on."""
    if path.resolve() in above:
        raise KwsError(f"base: these recipes are based on each other in a circle. Received: {path}")
    table = read_toml(path)
    base = _typed(table.pop("base", ""), str, "base")
    if not base:
        return table
    beside = path.parent / base
    below = beside if beside.is_file() else resolve_recipe(base)
    merged = _read_with_base(below, (*above, path.resolve()))
    for key in ("name", "description"):
        merged.pop(key, None)
    _raise_share_of_others(merged.get("data", {}), table.get("data", {}))
    for key, value in table.items():
        replaces = key == "model" and isinstance(value, dict) and "architecture" in value
        old = {} if replaces else merged.get(key, {})
        merged[key] = (
            {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
        )
    return merged


_MOST_OTHERS = 0.7
"""The share of other words is not raised above this; silence and the words need the rest."""


def _raise_share_of_others(below: dict[str, Any], above: object) -> None:
    """Raise the inherited share of other words if a recipe has fewer keywords than its base."""
    if (
        not isinstance(above, dict)
        or "words" not in above
        or "unknown_share" in above
        or not isinstance(below.get("unknown_share"), (int, float))
    ):
        return
    share = below["unknown_share"]
    fewer = _missing_to_five(above["words"]) - _missing_to_five(below.get("words"))
    if fewer > 0:
        below["unknown_share"] = max(share, min(_MOST_OTHERS, round(share + 0.1 * fewer, 2)))


def _missing_to_five(words: object) -> int:
    return max(0, 5 - len(words)) if isinstance(words, list) else 0


def _check(recipe: TrainingRecipe) -> None:
    """Refuse values that are valid in their table but contradict another one."""
    network, features = recipe.model.create(), recipe.front_end.features
    if network.features not in ("any", features):
        raise KwsError(
            f"[model] {recipe.model.architecture} needs [front_end] features = "
            f'"{network.features}". Received: {features!r}'
        )
    if network.whole_clip and recipe.training.context_clips != 1:
        raise KwsError(
            f"[model] {recipe.model.architecture} takes whole clips ({network.whole_clip}), so "
            f"[training] context_clips must be 1. Received: {recipe.training.context_clips}"
        )
    needed, frames = network.receptive_field_frames, recipe.clip_frames
    if needed > frames:
        what = "an answer" if network.whole_clip else "a step"
        raise KwsError(
            f"[model] needs {needed} frames for {what}, but a clip of {recipe.data.clip_ms} ms "
            f"has {frames}: use longer clips or smaller kernels"
        )
    strangers = sorted(set(recipe.decision.thresholds) - set(recipe.labels.keywords))
    if strangers:
        raise KwsError(
            f"[decision] has a threshold for {strangers[0]!r}, which is not a keyword. "
            f"Keywords: {', '.join(recipe.labels.keywords)}"
        )


Config = TypeVar("Config")


def _read(kind: type[Config], table: Any, where: str) -> Config:
    """Fill the dataclass `kind` from a TOML table, table by table."""
    hints = typing.get_type_hints(kind)
    known = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in _table(table, where).items():
        name = f"{where}.{key}" if where else key
        if key not in known:
            raise KwsError(f"unknown key {name!r}. Known here: {', '.join(sorted(known))}")
        if dataclasses.is_dataclass(hints[key]):
            values[key] = _read(typing.cast(type, hints[key]), value, name)
        else:
            values[key] = _typed(value, hints[key], name)
    return kind(**values)


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise KwsError(f"[{where}] must be a table. Received: {value!r}")
    return dict(value)


def _typed(value: Any, hint: Any, name: str) -> Any:
    """Return `value` converted to the type `hint` (arrays to tuples, integers to floats)."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    options = typing.get_args(hint) if union else (hint,)
    for option in options:
        kind, inner = typing.get_origin(option) or option, typing.get_args(option)
        if kind is tuple and isinstance(value, list):
            each = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
            if len(each) == len(value):
                pairs = enumerate(zip(value, each, strict=True))
                return tuple(_typed(v, h, f"{name}[{i}]") for i, (v, h) in pairs)
        elif kind is Mapping and isinstance(value, dict):
            return {k: _typed(v, inner[1], f"{name}.{k}") for k, v in value.items()}
        elif kind is float:
            if type(value) in (int, float) and math.isfinite(value):
                return float(value)
        elif type(value) is kind:
            return value
    wanted = " or ".join(_in_words(option) for option in options)
    raise KwsError(f"{name} has the wrong type: it must be {wanted}. Received: {value!r}")


def _in_words(hint: Any) -> str:
    """Return the name of a type for authors of recipes."""
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)
        return "an array" if inner[-1] is Ellipsis else f"an array of {len(inner)}"
    names = {str: "text", int: "a whole number", float: "a finite number"}
    return names.get(hint, "a table")


def to_toml(recipe: TrainingRecipe) -> str:
    """Return a recipe as TOML with every default, so that a run can be repeated exactly.

    Empty tables, which say nothing, are left out: recipes of runs from before a table existed are
    compared with this (`kws.train.run_folder.check_resumable`).
    """
    top: list[str] = []
    tables: list[str] = []
    for f in dataclasses.fields(recipe):
        value = getattr(recipe, f.name)
        if f.name == "model":
            tables += ["", "[model]", f'architecture = "{value.architecture}"']
            network = value.create()
            tables += [
                f"{s.name} = {toml_value(getattr(network, s.name))}"
                for s in dataclasses.fields(network)
            ]
        elif dataclasses.is_dataclass(value):
            tables += ["", f"[{f.name}]"]
            tables += [
                f"{inner.name} = {toml_value(getattr(value, inner.name))}"
                for inner in dataclasses.fields(value)
                if getattr(value, inner.name) != {}
            ]
        else:
            top.append(f"{f.name} = {toml_value(value)}")
    return "\n".join(top + tables) + "\n"


def toml_value(value: Any) -> str:
    """Return text, a number, a list or a table as TOML, in one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are valid in TOML, except for DEL and, avoided here, surrogate pairs.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml_value(k)} = {toml_value(v)}" for k, v in value.items()) + "}"
    return repr(value)
