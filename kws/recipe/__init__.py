"""Training recipes: a TOML file that defines words, data, network and training.

A recipe is read into frozen dataclasses; what it leaves out has the defaults in `config`. The
recipes that come with the kit are in ``kws/recipes`` and are found by name.
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
