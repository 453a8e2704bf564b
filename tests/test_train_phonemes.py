"""Learning phonemes as a second task beside the words."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from kws.audio.files import read_audio, write_wav
from kws.data.phones import PHONES, SILENCE_PHONE, UNKNOWN_PHONE, aligned, cut
from kws.recipe import ModelConfig, TrainingRecipe, load_recipe
from kws.train.dataset import TrainingData, load_training_data
from kws.train.run_folder import RunFolder, read_arrays, read_json

keras = pytest.importorskip("keras")
pytest.importorskip("pocketsphinx")


def test_the_loss_grows_by_the_error_in_known_phonemes_and_is_otherwise_the_same() -> None:
    """Oracle: the cross-entropy by hand."""
    from kws.train.phonemes import PhonemeLoss

    rng = np.random.default_rng(0)
    posteriors = rng.random((2, 3, 4)).astype(np.float32)
    hidden = rng.standard_normal((2, 3, 5)).astype(np.float32)
    phones = np.array([[3, UNKNOWN_PHONE, 0], [UNKNOWN_PHONE, UNKNOWN_PHONE, 39]], np.int32)
    layer = PhonemeLoss(0.5)
    np.testing.assert_array_equal(layer(posteriors, hidden, phones), posteriors)
    kernel, bias = layer.get_weights()
    odds = np.exp(hidden @ kernel + bias)
    likelihood = odds / odds.sum(axis=-1, keepdims=True)
    asked = [likelihood[0, 0, 3], likelihood[0, 2, 0], likelihood[1, 2, 39]]
    np.testing.assert_allclose(float(layer.losses[0]), -0.5 * np.mean(np.log(asked)), rtol=1e-5)
    layer(posteriors, hidden, np.full((2, 3), UNKNOWN_PHONE, np.int32))
    assert float(layer.losses[0]) == 0.0


@pytest.fixture(scope="module")
def recipe(tiny_recipe: Path) -> TrainingRecipe:
    plain = load_recipe(tiny_recipe)
    return dataclasses.replace(
        plain,
        data=dataclasses.replace(plain.data, stretch_share=0.5, nonwords=20),
        training=dataclasses.replace(
            plain.training, epochs=2, phone_weight=0.5, stream_weight=0.3, learning_rate=1e-2
        ),
    )


@pytest.fixture(scope="module")
def data(recipe: TrainingRecipe, real_speech: Path) -> TrainingData:
    return load_training_data(recipe, real_speech)


def test_words_and_sentences_are_known_by_their_sounds_and_nonwords_are_not(
    data: TrainingData,
) -> None:
    clips = data.training
    stop = {PHONES[phone] for phone in np.unique(clips.phones[clips.words == "stop"])}
    assert stop == {"SIL", "S", "T", "AA", "P"}
    assert len(np.unique(clips.phones[clips.words == "_speech_"])) > 30
    assert (clips.phones[clips.words == "_silence_"] == SILENCE_PHONE).all()
    assert (clips.phones[clips.words == "_nonword_"] == UNKNOWN_PHONE).all()
    assert data.stretch_phones.shape == (len(data.stretches), 2, 100)
    assert len(np.unique(data.stretch_phones)) > 30


def test_the_trainer_is_asked_for_the_phonemes_of_the_audio_that_it_hears(
    recipe: TrainingRecipe, data: TrainingData
) -> None:
    """Without variation: the phonemes of each clip and stretch, 120 ms before the step."""
    from kws.train.batches import Batches

    still = dataclasses.replace(recipe.augment, shift_ms=0.0, speed=0.0, gain_db=(0.0, 0.0))
    batches = Batches(data, dataclasses.replace(recipe, augment=still), phones=True)
    chosen = np.arange(16).reshape(8, 2)
    (pcm, _, asked), _ = batches.make(chosen, np.random.default_rng(0))
    pcm = np.asarray(pcm)
    assert asked.shape == (12, len(batches.steps.ends)) and asked.dtype == np.int32
    known = {
        clip.tobytes(): phones
        for source, of_source in (
            (data.training.pcm, data.training.phones),
            (data.stretches.reshape(-1, 16000), data.stretch_phones.reshape(-1, 100)),
        )
        for clip, phones in zip(source, of_source, strict=True)
    }
    heard = batches.steps.ends - 1920
    for sequence, sounds in zip(pcm, asked, strict=True):
        expected = [known[sequence[at // 16000].tobytes()][at % 16000 // 160] for at in heard]
        np.testing.assert_array_equal(sounds, expected)


def test_phonemes_are_learnt_and_left_out_of_the_network_and_training_resumes(
    recipe: TrainingRecipe, data: TrainingData, tmp_path: Path
) -> None:
    from kws.train.loop import train

    # So large a weight that the loss is that of the phonemes: at first one in 40, log 40 = 3.7.
    heavy = dataclasses.replace(recipe.training, epochs=4, phone_weight=100.0, optimizer="adamw")
    once = dataclasses.replace(recipe, training=heavy)
    whole = RunFolder(tmp_path / "whole")
    train(once, data, whole)
    loss = read_json(whole.history)["loss"]
    assert loss[-1] < 0.93 * 100 * np.log(len(PHONES))
    assert {name.split("/")[0] for name in read_arrays(whole.best)} == {
        layer.name for layer in once.build_network(keras).layers if layer.weights
    }
    parts = RunFolder(tmp_path / "parts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kws.train.loop._say", _stop_after(2))
        with pytest.raises(KeyboardInterrupt):
            train(once, data, parts)
    train(once, data, parts, resume=True)
    for name, weights in read_arrays(whole.best).items():
        np.testing.assert_allclose(read_arrays(parts.best)[name], weights, atol=1e-5)


def _stop_after(epochs: int):  # type: ignore[no-untyped-def]
    def say(message: str) -> None:
        if message.startswith(f"epoch {epochs}/"):
            raise KeyboardInterrupt

    return say


def test_without_known_phonemes_only_the_words_are_learnt(
    recipe: TrainingRecipe, data: TrainingData, tmp_path: Path
) -> None:
    from kws.train.loop import train

    silent = dataclasses.replace(
        data,
        training=dataclasses.replace(
            data.training, phones=np.minimum(data.training.phones, SILENCE_PHONE)
        ),
        stretch_phones=np.full_like(data.stretch_phones, UNKNOWN_PHONE),
    )
    assert data.has_phones and not silent.has_phones
    one = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, epochs=1))
    assert train(one, silent, RunFolder(tmp_path)).epochs == 1
    whole_clip = ModelConfig(architecture="res_cnn", sizes={"filters": 4, "blocks": 1})
    assert not dataclasses.replace(one, model=whole_clip).learns_phones


def test_a_folder_that_is_named_by_no_word_says_nothing_of_its_sounds(
    recipe: TrainingRecipe, real_speech: Path, tmp_path: Path
) -> None:
    speech = tmp_path / "speech_commands"
    for label, word in (("yes", "yes"), ("no", "no"), ("stop", "stop"), ("not_stop", "go")):
        shutil.copytree(real_speech / "speech_commands" / word, speech / label)
    shutil.copytree(real_speech / "speech_commands" / "happy", speech / "_unknown_")
    clips = load_training_data(recipe, tmp_path).training
    for label in ("not_stop", "_unknown_"):
        assert (clips.words == label).any()
        assert (clips.phones[clips.words == label] == UNKNOWN_PHONE).all()
    assert (clips.phones[clips.words == "no"] > SILENCE_PHONE).any()


def test_generated_voices_teach_their_sounds_too(
    recipe: TrainingRecipe, real_speech: Path, tmp_path: Path
) -> None:
    for word in ("yes", "no"):
        shutil.copytree(real_speech / "speech_commands" / word, tmp_path / "mine" / word)
    shutil.copytree(real_speech / "speech_commands" / "stop", tmp_path / "voices" / "stop")
    both = dataclasses.replace(recipe.data, clips=("mine",), generated=("voices",))
    clips = load_training_data(dataclasses.replace(recipe, data=both), tmp_path).training
    assert clips.generated.any()
    assert (clips.phones[clips.generated] > SILENCE_PHONE).any(axis=1).mean() > 0.9


def test_of_a_clip_cut_from_a_longer_recording_the_sounds_are_those_of_the_cut(
    recipe: TrainingRecipe, real_speech: Path, tmp_path: Path
) -> None:
    """Oracle: the alignment of the whole recording, at the position of the clip in it."""
    rng, folder = np.random.default_rng(0), tmp_path / "speech_commands" / "stop"
    folder.mkdir(parents=True)
    recordings = {}
    for file in sorted((real_speech / "speech_commands" / "stop").iterdir()):
        before, after = (rng.integers(-20, 20, n).astype(np.int16) for n in (7200, 1600))
        recordings[file.name] = np.concatenate([before, read_audio(file), after])
        write_wav(folder / file.name, recordings[file.name])
    for word in ("yes", "no"):
        shutil.copytree(real_speech / "speech_commands" / word, folder.parent / word)
    clips = load_training_data(recipe, tmp_path).training
    whole = aligned(folder.parent, {f"stop/{name}": "stop" for name in recordings})
    begins, agree = [], []
    stop = clips.words == "stop"
    for pcm, phones in zip(clips.pcm[stop], clips.phones[stop], strict=True):
        for name, recording in recordings.items():
            for start in range(0, len(recording) - len(pcm) + 1, 160):
                if (recording[start : start + len(pcm)] == pcm).all() and f"stop/{name}" in whole:
                    begins.append(start)
                    agree.append((phones == cut(whole[f"stop/{name}"], start, 16000)).mean())
    assert max(begins) > 4800
    # The aligner adapts to the level of earlier audio, of which training had more.
    assert np.mean(agree) > 0.95
