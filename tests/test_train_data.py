"""Which recordings are trained on, and as what."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras")
pytest.importorskip("tensorflow")

from kws.audio.files import write_wav
from kws.data.split import split_of
from kws.recipe import DataConfig, TrainingConfig, TrainingRecipe
from kws.train.dataset import TrainingData, load_training_data
from kws.train.validation import balanced_accuracy
from kws.verdict.streams import Sources

RATE = 16000
SPEAKERS = [f"speaker{i}" for i in range(60)]
TRAINED = [name for name in SPEAKERS if split_of(name) == "training"]


def tone(hz: float, seconds: float = 1.0) -> np.ndarray:
    """A sound that is recognised by its period, int16 [n]."""
    t = np.arange(round(seconds * RATE)) / RATE
    return (8000 * np.sin(2 * np.pi * hz * t)).astype(np.int16)


def pitch(pcm: np.ndarray) -> float:
    """The strongest frequency in Hz."""
    return float(np.abs(np.fft.rfft(pcm.astype(float))).argmax() * RATE / len(pcm))


def write_words(home: Path, **hz: float) -> None:
    for word, pitch_hz in hz.items():
        for speaker in SPEAKERS:
            write_wav(home / word / f"{speaker}_nohash_0.wav", tone(pitch_hz))


def load(home: Path, **data: object) -> TrainingData:
    config = {"words": ("cat", "seven"), "clips": (".",), "silence_clips": 10, **data}
    training = TrainingConfig(context_clips=2, phone_weight=0.0)
    recipe = TrainingRecipe(
        name="r",
        data=DataConfig(**config),  # type: ignore[arg-type]
        training=training,
    )
    return load_training_data(recipe, home)


def test_unheard_words_are_left_out_of_running_speech_as_well(tmp_path: Path) -> None:
    write_words(tmp_path / "clips", cat=400, seven=500, bed=600)
    said = {"a": ("i have a bed", 1000), "b": ("three of them", 2000), "c": ("a cat", 3000)}
    rows = ["utterance\ttranscript"]
    for speaker in TRAINED[:4]:
        for name, (text, hz) in said.items():
            write_wav(tmp_path / "talk" / speaker / f"{name}.wav", tone(hz, 3))
            rows.append(f"{speaker}/{name}\t{text}")
    (tmp_path / "talk" / "transcripts.tsv").write_text("\n".join(rows) + "\n")
    data = load(tmp_path, clips=("clips",), speech=("talk",), unheard=("three",), stretch_share=0.5)
    windows = data.training.pcm[data.training.words == "_speech_"]
    assert {round(pitch(pcm)) for pcm in windows} == {1000}
    assert len(data.stretches) and {round(pitch(pcm)) for pcm in data.stretches} == {1000}


def test_running_speech_without_a_speaker_of_the_training_part_is_reported_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_words(tmp_path / "clips", cat=400, seven=500, bed=600)
    (other,) = [name for name in SPEAKERS if split_of(name) == "testing"][:1]
    write_wav(tmp_path / "talk" / other / "a.wav", tone(1000, 3))
    data = load(tmp_path, clips=("clips",), speech=("talk",), stretch_share=0.5, nonwords=9)
    assert "_speech_" not in set(data.training.words) and not len(data.stretches)
    assert capsys.readouterr().err.count("has no speaker of the training part") == 1


def test_a_folder_of_running_speech_beside_the_words_is_not_a_word(tmp_path: Path) -> None:
    write_words(tmp_path, cat=400, seven=500, bed=600, talk=1000)
    write_wav(tmp_path / "noise" / "a.wav", tone(50))
    data = load(tmp_path, speech=("talk", "noise"))
    assert set(data.training.words) == {"cat", "seven", "bed", "_speech_", "_silence_"}
    assert set(data.validation.words) == {"cat", "seven", "bed", "_silence_"}
    recipe = TrainingRecipe(
        name="r", data=DataConfig(words=("cat", "seven"), clips=(".",), speech=("talk",))
    )
    sources = Sources.find(recipe, tmp_path, lambda _: None)
    others = sources.other_speech("testing", tmp_path / "noise").others
    assert others and {path.parent.name for path in others} == {"bed"}


def test_the_folders_that_were_found_are_named_and_no_others(tmp_path: Path) -> None:
    home = tmp_path / "home"
    write_words(home / "mine", cat=400, seven=500, bed=600)
    (talk,) = [home / "talk" / name for name in TRAINED[:1]]
    write_wav(talk / "a.wav", tone(1000, 3))
    given = {"clips": ("mine", "not_there"), "generated": ("not_made",), "speech": ("talk", "no")}
    assert load(home, **given).folders_found == ("mine", "talk")
    assert load(home / "mine", clips=("speech_commands",)).folders_found == ("mine",)


def test_background_is_no_nonword(tmp_path: Path) -> None:
    write_words(tmp_path, cat=400, seven=500, bed=600, _silence_=2000)
    data = load(tmp_path, nonwords=200)
    nonwords = data.training.pcm[data.training.words == "_nonword_"]
    assert len(nonwords) == 200
    assert max(pitch(pcm) for pcm in nonwords) < 1000


def test_a_network_that_never_triggers_is_not_the_best() -> None:
    labels = np.array([0, 1, *[2] * 8, *[3] * 90])  # two keywords, silence, other words
    never, some = np.where(labels < 2, 3, labels), np.where(labels == 3, 1, labels)
    some[15:] = 3
    assert np.mean(never == labels) > np.mean(some == labels)
    assert balanced_accuracy(never, labels) == pytest.approx(0.5)
    assert balanced_accuracy(some, labels) > 0.9
    wake = np.array([0] * 2 + [-1] * 8)
    assert balanced_accuracy(np.full(10, -1), wake) == pytest.approx(0.5)
