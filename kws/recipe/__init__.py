"""Training recipes: one TOML file says which words, which data, which network, how it is trained.

A recipe is read once into frozen dataclasses; everything it leaves out has the default that
`config` gives it. The recipes that come with the kit are in ``kws/recipes`` and are found by name.
"""

from kws.recipe.config import (
    AugmentConfig,
    DataConfig,
    ModelConfig,
    TrainingConfig,
    TrainingRecipe,
)
from kws.recipe.toml_file import (
    RECIPES,
    about_recipe,
    known_recipes,
    load_recipe,
    resolve_recipe,
    to_toml,
    toml_value,
)

__all__ = [
    "RECIPES",
    "AugmentConfig",
    "DataConfig",
    "ModelConfig",
    "TrainingConfig",
    "TrainingRecipe",
    "about_recipe",
    "known_recipes",
    "load_recipe",
    "resolve_recipe",
    "to_toml",
    "toml_value",
]
