"""Kinds of recipes and of data: a wake word, longer clips, all 35 words, little and faulty data."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from kws.cli import run as kws
from kws.data.scan import scan
from kws.errors import KwsError
from kws.recipe import DataConfig, TrainingConfig, TrainingRecipe, load_recipe
from kws.train.dataset import ClipSet, load_training_data
from kws.train.epoch import epoch_order
from kws.train.folders import find_clips

pytest.importorskip("keras")
pytest.importorskip("tensorflow")

SMALL = """
[model]
conv_filters = [16, 16]
lstm_units = 16
[training]
batch_size = 16
context_clips = 2
warmup_epochs = 0.5
"""
STILL = """
[augment]
shift_ms = 50
speed = 0.0
noise_share = 0.0
equaliser_db = 0.0
time_masks = 0
mel_masks = 0
"""


def recipe_of(folder: Path, data: str, training: str = "epochs = 1") -> TrainingRecipe:
    path = folder / "kind.toml"
    path.write_text(f"[data]\n{data}\n{SMALL}{training}\n", encoding="utf-8")
    return load_recipe(path)


def words_of(real_speech: Path, target: Path, *words: str) -> Path:
    """Copy some words of the real recordings to a separate folder."""
    for word in words:
        shutil.copytree(real_speech / "speech_commands" / word, target / word)
    return target


def test_a_wake_word_in_longer_clips_goes_from_recipe_to_a_model_that_tells_it_apart(
    real_speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tf_keras")
    from kws.audio.files import read_audio
    from kws.data.arrays import fit_clip
    from kws.spotter import Spotter

    answers: dict[str, list[float]] = {"stop": [], "happy": [], "seven": [], "left": []}
    folder = words_of(real_speech, tmp_path / "data", "_background_noise_", *answers)
    data = 'words = ["stop"]\nhead = "sigmoid"\nclip_ms = 1500\nsilence_clips = 20\n'
    data += "validation_silence_clips = 10"
    recipe_of(tmp_path, data, "epochs = 30\nlearning_rate = 0.01\n" + STILL)
    run, model = tmp_path / "run", tmp_path / "wake.tflite"
    command = ["train", str(tmp_path / "kind.toml"), "--data", str(folder)]
    assert kws([*command, "--out", str(run)]) == 0
    assert kws(["export", str(run), "-o", str(model), "--runtimes", "none"]) == 0
    assert "differ by" in capsys.readouterr().out

    spotter = Spotter(model)
    assert spotter.card.clip_frames == (24000 - 512) // 320 + 1
    assert spotter.card.labels == spotter.card.keywords == ("stop",)
    for word, found in answers.items():
        for path in sorted((folder / word).glob("*.wav")):
            spotter.reset()
            spotter.feed(fit_clip(read_audio(path), 24000))
            found.append(float(spotter.posteriors[-1, 0]))
    others = np.concatenate([found for word, found in answers.items() if word != "stop"])
    # The chance that a clip of the word has the higher posterior (the area under the ROC curve).
    area = np.mean(np.array(answers["stop"])[:, None] > others)
    assert area > 0.9


def test_a_wake_words_accuracy_counts_its_few_clips_as_much_as_all_others() -> None:
    from kws.train.validation import Validation

    class Network:
        """Answers always the same."""

        def __init__(self, posterior: float) -> None:
            self.posterior = posterior

        def predict_on_batch(self, features: np.ndarray) -> np.ndarray:
            return np.full((len(features), 3, 1), self.posterior, np.float32)

    labels = np.array([0] + 99 * [-1], np.int32)
    clips = ClipSet(
        pcm=np.zeros((100, 16000), np.int16),
        labels=labels,
        words=np.array([""] * 100),
        generated=np.zeros(100, bool),
        phones=np.full((100, 100), -1, np.int8),
    )
    recipe = TrainingRecipe(name="wake", data=DataConfig(words=("stop",), head="sigmoid"))
    validation = Validation(clips, recipe, np.zeros(13), np.ones(13))
    for posterior in (0.01, 0.99):
        loss, accuracy = validation.measure(Network(posterior))
        assert accuracy == 0.5
        right = np.where(labels == 0, posterior, 1 - posterior)
        assert loss == pytest.approx(-np.log(right).mean(), rel=1e-4)


def test_all_35_words_train_with_no_other_label(real_speech: Path, tmp_path: Path) -> None:
    speech = 'speech = ["sentences"]\nstretch_share = 1.0'
    recipe = recipe_of(tmp_path, f'words = "thirty_five"\n{speech}')
    data = load_training_data(recipe, real_speech)
    assert not len(data.stretches)  # they have no label
    assert set(data.training.labels) == set(range(35))
    order = epoch_order(data.training, recipe, 1)
    assert set(order) == set(range(len(data.training)))


def test_two_words_and_nothing_else_train_after_a_warning_for_what_is_missing(
    real_speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = words_of(real_speech, tmp_path / "data", "yes", "no")
    recipe_of(tmp_path, 'words = ["yes", "no"]\nsilence_clips = 20')
    command = ["train", str(tmp_path / "kind.toml"), "--data", str(folder)]
    assert kws([*command, "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().err
    assert "no _background_noise_ folder" in said
    assert "no words other than the keywords" in said
    assert "loss nan" not in said


def test_without_recordings_of_noise_synthetic_noise_is_mixed_in_and_is_the_silence(
    real_speech: Path, tmp_path: Path
) -> None:
    folder = words_of(real_speech, tmp_path / "data", "yes", "no")
    recipe = recipe_of(tmp_path, 'words = ["yes", "no"]\nsilence_clips = 20')
    data = load_training_data(recipe, folder)
    assert data.noise.std() > 100
    silence = recipe.labels.labels.index("_silence_")
    for clips in (data.training, data.validation):
        quiet = clips.pcm[clips.labels == silence]
        loud = [clip for clip in quiet if clip.any()]
        assert len(loud) > 0.5 * len(quiet) > 0


def test_a_clip_that_cannot_be_read_is_named_and_left_out(
    real_speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = words_of(real_speech, tmp_path / "data", "yes", "no")
    recipe = recipe_of(tmp_path, 'words = ["yes", "no"]\nsilence_clips = 0')
    whole = load_training_data(recipe, folder)
    bad = folder / "no" / "0000_nohash_0.wav"
    bad.write_bytes(b"no sound")
    data = load_training_data(recipe, folder)
    assert str(bad) in capsys.readouterr().err
    for with_it, without in ((data.training, whole.training), (data.validation, whole.validation)):
        np.testing.assert_array_equal(with_it.pcm, without.pcm)
        np.testing.assert_array_equal(with_it.labels, without.labels)


def test_the_folder_given_is_trained_on_and_not_fetched_data_of_the_recipes_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, given = tmp_path / "home", tmp_path / "given"
    (home / "speech_commands").mkdir(parents=True)
    given.mkdir()
    monkeypatch.setenv("KWS_DATA", str(home))
    recipe = load_recipe("commands_en")
    assert find_clips(recipe, None) == ([home / "speech_commands"], [])
    assert find_clips(recipe, given) == ([given], [])
    (given / "speech_commands").mkdir()
    assert find_clips(recipe, given) == ([given / "speech_commands"], [])
    with pytest.raises(KwsError, match="nowhere"):
        find_clips(recipe, tmp_path / "nowhere")
    (home / "speech_commands").rmdir()
    with pytest.raises(KwsError, match="--data"):
        find_clips(recipe, None)


def clips_of(labels: list[int], generated: list[bool]) -> ClipSet:
    """Silent clips, for functions that only count them."""
    words = np.array(["lamp" if label == 0 else "other" for label in labels], object)
    pcm = np.zeros((len(labels), 160), np.int16)
    return ClipSet(
        pcm=pcm,
        labels=np.array(labels, np.int32),
        words=words,
        generated=np.array(generated),
        phones=np.full((len(labels), 1), -1, np.int8),
    )


@pytest.mark.parametrize(("recorded", "generated"), [(6, 90), (90, 6), (40, 40)])
def test_generated_clips_make_up_their_share_of_a_word_however_many_there_are(
    recorded: int, generated: int
) -> None:
    of_word = recorded + generated
    data = clips_of(
        [0] * of_word + [-1] * 400,
        [False] * recorded + [True] * generated + [False] * 300 + [True] * 100,
    )
    config = DataConfig(words=("lamp",), head="sigmoid", generated=("voices",), generated_share=0.3)
    order = epoch_order(data, TrainingRecipe(name="lamp", data=config), 1)
    assert set(range(of_word)) <= set(order)
    spoken, others = order[order < of_word], order[order >= of_word]
    # The last batch is filled up with some clips again.
    assert data.generated[spoken].mean() == pytest.approx(0.3, abs=0.06)
    assert data.generated[others].mean() == pytest.approx(0.3, abs=0.06)


def test_the_words_themselves_may_be_given_where_a_recipe_also_names_generated_ones(
    real_speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, given = tmp_path / "home", tmp_path / "given"
    words_of(real_speech, given / "mine", "stop")
    words_of(real_speech, home / "voices", "stop")
    words_of(real_speech, home / "mine", "go")
    monkeypatch.setenv("KWS_DATA", str(home))
    recipe = recipe_of(
        tmp_path, 'words = ["stop"]\nhead = "sigmoid"\nclips = "mine"\ngenerated = ["voices"]'
    )
    assert find_clips(recipe, given / "mine") == ([given / "mine"], [home / "voices"])
    assert find_clips(recipe, given) == ([given / "mine"], [home / "voices"])
    words_of(real_speech, given / "voices", "stop")
    shutil.rmtree(given / "mine")
    # It holds one of the folders, so it is not itself one.
    assert find_clips(recipe, given) == ([home / "mine"], [given / "voices"])


@pytest.mark.parametrize("enough", [True, False])
def test_generated_voices_are_validated_on_only_for_want_of_recordings(
    real_speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enough: bool
) -> None:
    held_out = scan(real_speech / "speech_commands").select(split="validation", words=["stop"])
    assert len(held_out) > 1
    monkeypatch.setattr("kws.train.dataset.ENOUGH_RECORDED", len(held_out) + (not enough))
    words_of(real_speech, tmp_path / "mine", "stop", "_background_noise_")
    words_of(real_speech, tmp_path / "voices", "go")
    (tmp_path / "voices" / "go").rename(tmp_path / "voices" / "stop")
    recipe = recipe_of(
        tmp_path,
        'words = ["stop"]\nhead = "sigmoid"\nclips = ["mine"]\ngenerated = ["voices"]\n'
        "silence_clips = 10\nvalidation_silence_clips = 5",
    )
    data = load_training_data(recipe, tmp_path)
    assert data.training.generated.any()
    assert data.validation.generated.any() != enough
    stops = data.validation.generated[data.validation.labels == 0]
    assert np.count_nonzero(~stops) == len(held_out)


def test_recordings_and_generated_voices_come_from_folders_of_their_own(
    real_speech: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    home, given = tmp_path / "home", tmp_path / "given"
    words_of(real_speech, home / "fetched", "yes", "_background_noise_")
    words_of(real_speech, given / "mine", "stop")
    shutil.copytree(real_speech / "speech_commands" / "go", given / "voices" / "stop")
    monkeypatch.setenv("KWS_DATA", str(home))
    recipe = recipe_of(
        tmp_path,
        'words = ["stop"]\nhead = "sigmoid"\nclips = ["mine", "fetched"]\ngenerated = ["voices"]\n'
        "silence_clips = 10\nvalidation_silence_clips = 5",
    )
    voices = [given / "voices"]
    assert find_clips(recipe, given) == ([given / "mine", home / "fetched"], voices)
    training = load_training_data(recipe, given).training
    kinds = set(zip(training.labels.tolist(), training.generated.tolist(), strict=True))
    assert kinds == {(0, False), (0, True), (-1, False)}

    shutil.rmtree(home / "fetched")
    assert find_clips(recipe, given) == ([given / "mine"], voices)
    assert "no folder 'fetched' of clips found" in capsys.readouterr().err
    shutil.rmtree(given / "mine")
    data = load_training_data(recipe, given)
    assert data.training.generated[data.training.labels == 0].all()
    shutil.rmtree(given / "voices")
    with pytest.raises(KwsError, match="'mine', 'fetched', 'voices'"):
        find_clips(recipe, given)


@pytest.mark.parametrize(
    ("recorded", "generated", "share"), [(3, 1, 1 / 3), (1, 5, 0.9), (7, 2, 0.3), (5, 2, 0.5)]
)
def test_no_clip_of_a_word_is_left_out_of_an_epoch_by_rounding(
    recorded: int, generated: int, share: float
) -> None:
    data = clips_of([0] * (recorded + generated), [False] * recorded + [True] * generated)
    config = DataConfig(
        words=("lamp",), head="sigmoid", generated=("voices",), generated_share=share,
        unknown_share=0.0, silence_share=0.0,
    )  # fmt: skip
    training = TrainingConfig(batch_size=4)
    recipe = TrainingRecipe(name="lamp", data=config, training=training)
    assert set(epoch_order(data, recipe, 1)) == set(range(recorded + generated))


@pytest.mark.parametrize(("recorded", "generated"), [(0, 30), (7, 0), (3, 10), (400, 300)])
def test_a_word_with_few_clips_is_heard_as_often_as_one_with_many(
    recorded: int, generated: int
) -> None:
    of_word = recorded + generated
    data = clips_of(
        [0] * of_word + [-1] * 500, [False] * recorded + [True] * generated + [False] * 500
    )
    config = DataConfig(
        words=("lamp",), head="sigmoid", generated=("voices",), generated_share=0.25,
        unknown_share=0.5, silence_share=0.0, keyword_clips=200,
    )  # fmt: skip
    recipe = TrainingRecipe(
        name="lamp", data=config, training=TrainingConfig(batch_size=4, context_clips=2)
    )
    order = epoch_order(data, recipe, 1)
    spoken = order[order < of_word]
    if of_word < 200:
        assert len(spoken) == pytest.approx(200, abs=4)
        assert len(order) == pytest.approx(400, abs=4)
    else:  # every recording, and of the generated clips a quarter of it all
        assert len(spoken) == pytest.approx(400 / 0.75, abs=4)
    # None is used a second time before all were used.
    for own in (spoken[spoken < recorded], spoken[spoken >= recorded]):
        counts = np.bincount(own, minlength=of_word)[np.unique(own)]
        assert not len(own) or counts.max() - counts.min() <= 2
    heard = range(of_word) if of_word < 200 else range(recorded)
    assert set(heard) <= set(spoken)
    if recorded and generated:
        assert data.generated[spoken].mean() == pytest.approx(0.25, abs=0.02)


def test_generated_clips_alone_are_as_many_as_asked_for() -> None:
    data = clips_of([0] * 900 + [-1] * 500, [True] * 900 + [False] * 500)
    config = DataConfig(
        words=("lamp",), head="sigmoid", generated=("voices",), unknown_share=0.5,
        silence_share=0.0, keyword_clips=200,
    )  # fmt: skip
    recipe = TrainingRecipe(name="lamp", data=config, training=TrainingConfig(batch_size=4))
    first, second = (set(epoch_order(data, recipe, i)) & set(range(900)) for i in (1, 2))
    assert len(first) == len(second) == 200
    assert first != second
