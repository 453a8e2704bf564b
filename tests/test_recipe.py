"""Training recipes: what is read, what is refused, that a written recipe reads back the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from kws.errors import KwsError
from kws.recipe import RECIPES, load_recipe, to_toml


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.toml")))
def test_every_recipe_that_comes_with_the_kit_reads_back_as_it_was_written(
    name: str, tmp_path: Path
) -> None:
    recipe = load_recipe(name)
    assert load_recipe(write(tmp_path, to_toml(recipe))) == recipe


def test_an_empty_recipe_is_the_twelve_label_task_with_defaults(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, ""))
    assert recipe.name == "mine"
    assert len(recipe.labels.labels) == 12
    assert recipe.clip_samples == 16000
    assert recipe.clip_frames == 49
    assert set(recipe.decision.thresholds) == set(recipe.labels.keywords)


def test_own_words_with_one_threshold_for_all_and_one_that_differs(tmp_path: Path) -> None:
    text = """
    [data]
    words = ["lamp", "fan"]
    [decision]
    threshold = 0.7
    thresholds = {fan = 0.9}
    """
    recipe = load_recipe(write(tmp_path, text))
    assert recipe.labels.labels == ("lamp", "fan", "_silence_", "_unknown_")
    assert recipe.decision.thresholds == {"lamp": 0.7, "fan": 0.9}


def test_a_wake_word_has_one_sigmoid_output(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, '[data]\nwords = ["computer"]\nhead = "sigmoid"'))
    assert recipe.labels.labels == ("computer",)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name = ", "not a TOML file"),
        ("colour = 'red'", "unknown key 'colour'"),
        ("[training]\nepoch = 3", "unknown key 'training.epoch'"),
        ("[training]\nepochs = 'many'", "training.epochs has the wrong type"),
        ("[training]\nepochs = true", "training.epochs has the wrong type"),
        ("[training]\nepochs = 0", "epochs must lie between"),
        ("[training]\nbatch_size = 9\ncontext_clips = 2", "multiple of context_clips"),
        ("training = 3", "[training] must be a table"),
        ("model = 3", "[model] must be a table"),
        ("[model]\narchitecture = 'transformer'", "Unknown architecture"),
        ("[model]\nunits = 3", "no size 'units'"),
        ("[model]\nconv_filters = [8]", "one entry for each convolution"),
        ("[data]\nclip_ms = 150", "needs 9 frames"),
        ("[data]\nwords = 'thirteen'", "words must be"),
        ("[data]\nwords = ['a', 'a']", "'a' twice"),
        ("[data]\nhead = 'sigmoid'", "A sigmoid head spots one word"),
        ("[decision]\nthresholds = {cat = 0.5}", "cat"),
        ("[decision]\nthreshold = 2", "threshold"),
    ],
)
def test_a_faulty_recipe_is_refused_in_one_line_that_names_file_and_fault(
    text: str, complaint: str, tmp_path: Path
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(KwsError) as caught:
        load_recipe(path)
    assert complaint in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_recipe_names_the_ones_that_exist() -> None:
    with pytest.raises(KwsError, match="commands_en"):
        load_recipe("no_such_recipe")
