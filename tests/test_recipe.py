"""Training recipes: what is read, what is refused, that a written recipe reads back the same."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from kws.cli import run as kws
from kws.errors import KwsError
from kws.recipe import RECIPES, load_recipe, to_toml


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.rglob("*.toml")))
def test_every_recipe_that_comes_with_the_kit_reads_back_as_it_was_written(
    name: str, tmp_path: Path
) -> None:
    recipe = load_recipe(name)
    assert load_recipe(write(tmp_path, to_toml(recipe))) == recipe


def test_every_text_and_number_of_a_recipe_survives_being_written(tmp_path: Path) -> None:
    text = """
    description = 'été \U0001f600 "quoted" C:\\new'
    [data]
    words = ["où", "\U0001f600"]
    [model]
    lstm_units = 8
    [augment]
    gain_db = [-1e-7, 5.25e1]
    [training]
    learning_rate = 1e-5
    """
    recipe = load_recipe(write(tmp_path, text))
    assert recipe.training.learning_rate == 0.00001
    delete = dataclasses.replace(recipe, description="\x7f\x01\n")
    for one in (recipe, delete):
        assert load_recipe(write(tmp_path, to_toml(one))) == one


def test_what_says_nothing_is_not_written_so_that_runs_from_before_it_existed_can_be_resumed(
    tmp_path: Path,
) -> None:
    recipe = load_recipe("commands_en")
    assert "after_wake" not in to_toml(recipe)
    decision = dataclasses.replace(recipe.decision, after_wake={"yes": 0.5})
    set_there = dataclasses.replace(recipe, decision=decision)
    assert load_recipe(write(tmp_path, to_toml(set_there))) == set_there


def test_a_recipe_saved_by_an_editor_that_marks_utf_8_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xef\xbb\xbfname = 'marked'\n")
    assert load_recipe(path).name == "marked"


def test_a_seed_given_later_is_checked_too() -> None:
    with pytest.raises(KwsError, match="seed"):
        dataclasses.replace(load_recipe("demo"), seed=-1)


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


@pytest.mark.parametrize(
    ("words", "share"), [("['a']", 0.6), ("['a', 'b', 'c']", 0.4), ("'twelve'", 0.2)]
)
def test_the_fewer_words_the_more_of_an_epoch_is_something_else(
    words: str, share: float, tmp_path: Path
) -> None:
    recipe = load_recipe(write(tmp_path, f"[data]\nwords = {words}"))
    assert recipe.data.unknown_share == share
    said = load_recipe(write(tmp_path, f"[data]\nwords = {words}\nunknown_share = 0.1"))
    assert said.data.unknown_share == 0.1


def test_fewer_keywords_than_in_the_base_get_more_other_words(tmp_path: Path) -> None:
    def share(base: str, words: str, more: str = "") -> float:
        text = f'base = "{base}"\n[data]\nwords = {words}\n{more}'
        return load_recipe(write(tmp_path, text)).data.unknown_share

    assert load_recipe("commands_en").data.unknown_share == 0.3
    assert share("commands_en", '["go"]') == 0.7
    assert share("commands_en", '["go", "up", "no", "yes", "left", "on"]') == 0.3
    assert share("commands_en", '["go"]', "unknown_share = 0.4") == 0.4
    assert load_recipe("own_words").data.unknown_share == 0.7
    assert share("own_words", '["lights"]') == 0.7
    assert share("own_words", '["lights", "fan"]', 'head = "softmax"') == 0.7


def test_a_wake_word_has_one_sigmoid_output(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, '[data]\nwords = ["computer"]\nhead = "sigmoid"'))
    assert recipe.labels.labels == ("computer",)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name = ", "is not valid TOML"),
        ("colour = 'red'", "unknown key 'colour'"),
        ("[training]\nepoch = 3", "unknown key 'training.epoch'"),
        ("[training]\nepochs = 'many'", "training.epochs has the wrong type"),
        ("[training]\nepochs = true", "training.epochs has the wrong type"),
        ("[training]\nepochs = 0", "epochs must lie between"),
        ("[training]\nbatch_size = 9\ncontext_clips = 2", "multiple of context_clips"),
        ("training = 3", "[training] must be a table"),
        ("model = 3", "[model] must be a table"),
        ("[model]\narchitecture = 'transformer'", "Unknown architecture"),
        ("[model]\nunits = 3", "unknown key 'model.units'"),
        ("[model]\nlstm_units = '8'", "model.lstm_units has the wrong type"),
        ("[model]\nconv_filters = 8", "model.conv_filters has the wrong type: it must be an array"),
        ("[model]\nconv_filters = [8, 8.5]", "model.conv_filters[1] has the wrong type"),
        ("[model]\nconv_filters = [8]", "one entry for each layer"),
        ("[data]\nclip_ms = 150", "needs 9 frames"),
        ("base = 'gru'\n[data]\nclip_ms = 200", "needs 13 frames for an answer"),
        ("[data]\nwords = 'thirteen'", "words must be"),
        ("[data]\nwords = ['a', 'a']", "'a' twice"),
        ("[data]\nhead = 'sigmoid'", "A sigmoid head detects one word"),
        ("[decision]\nthresholds = {cat = 0.5}", "cat"),
        ("[decision]\nthreshold = 2", "threshold"),
        ("[decision]\nthresholds = [0.5]", "decision.thresholds has the wrong type"),
        ("[decision]\nthresholds = {yes = 'high'}", "decision.thresholds.yes has the wrong type"),
        ("base = 'nothing'", "No such recipe"),
        ("base = 3", "base has the wrong type"),
        ("seed = -1", "seed must lie between"),
        ("seed = 4_000_000_000", "seed must lie between"),
        ("name = 'a/b'", "no slashes"),
        ("name = ''", "name must be 1 to 200 printable characters"),
        ("[data]\nhead = 'relu'", 'head is "softmax" or "sigmoid"'),
        ("[data]\nunknown_share = 0.6\nsilence_share = 0.5", "their sum must be at most 0.9"),
        ("[data]\nsilence_clips = -1", "silence_clips must lie between"),
        ("[data]\nsilence_dbfs = [-10, -60]", "silence_dbfs is [lowest, highest]"),
        (
            "[data]\nsilence_dbfs = [-60, 9000]",
            "silence_dbfs must lie between -120 and 0. Received",
        ),
        ("[augment]\ngain_db = [-10, 900]", "gain_db must lie between -60 and 60. Received: [-10"),
        ("[augment]\nsnr_db = [-900, 40]", "snr_db must lie between -100 and 100. Received: [-900"),
        ("[augment]\nroom_db = [0, 3000]", "room_db must lie between -40 and 60. Received: [0"),
        ("[augment]\nroom_ms = [0, 300]", "room_ms must lie between 1 and 10000. Received: [0"),
        (
            "base = 'conv_lstm_s'\n[data]\nwords = ['Seven', 'cat']",
            "unheard must not name keywords",
        ),
        ("[front_end]\nsample_rate_hz = 8000\nmel_high_hz = 3800", "must be 16000"),
        ("[training]\nwarmup_epochs = -1", "warmup_epochs must lie between"),
        ("[training]\nweight_decay = nan", "weight_decay has the wrong type: it must be a finite"),
        ("[training]\ngradient_clip = 0", "gradient_clip must lie between"),
        ("[augment]\nshift_ms = inf", "shift_ms has the wrong type"),
        ("[augment]\nroom_ms = [1, 2, 3]", "room_ms has the wrong type: it must be an array of 2"),
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


def test_a_recipe_on_a_base_says_only_what_is_different(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(
        "name = 'theirs'\ndescription = 'old'\nseed = 5\n[training]\nepochs = 7\n"
        "batch_size = 12\n[model]\nlstm_units = 8\nconv_filters = [4, 4]"
    )
    (tmp_path / "middle.toml").write_text("base = 'base.toml'\n[training]\nepochs = 9")
    recipe = load_recipe(write(tmp_path, "base = 'middle.toml'\n[model]\nlstm_units = 16"))
    assert (recipe.name, recipe.description, recipe.seed) == ("mine", "", 5)
    assert (recipe.training.epochs, recipe.training.batch_size) == (9, 12)
    assert recipe.model.sizes["lstm_units"] == 16
    assert recipe.model.sizes["conv_filters"] == (4, 4)
    # Sizes of one architecture do not apply to another.
    other = load_recipe(write(tmp_path, "base = 'base.toml'\n[model]\narchitecture = 'lstm'"))
    assert other.model.sizes["lstm_units"] == (96,)
    named = load_recipe(write(tmp_path, "base = 'demo'"))
    assert named.data == load_recipe("demo").data


def test_recipes_that_build_on_each_other_in_a_circle_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KwsError, match=r"mine\.toml.*in a circle"):
        load_recipe(write(tmp_path, "base = 'mine.toml'"))


def test_a_missing_recipe_names_the_ones_that_exist() -> None:
    with pytest.raises(KwsError, match="commands_en"):
        load_recipe("no_such_recipe")


def test_the_recipes_that_come_with_the_kit_are_listed_with_what_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert kws(["train", "--list"]) == 0
    listed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert set(listed) == {path.stem for path in RECIPES.rglob("*.toml")}
    assert listed["ds_cnn"] == "DS-CNN, the keyword spotter of MLPerf Tiny."
    assert next(iter(listed)) == "commands_en"


def test_no_recipe_at_all_is_asked_for_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert kws(["train"]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "Which recipe?" in shown
