"""Noise recordings that are too short to train on are refused at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras")
pytest.importorskip("tensorflow")

from kws.audio.files import write_wav
from kws.data.noise_recordings import read_noise, silence_clips, split_noise
from kws.data.scan import scan
from kws.errors import KwsError
from kws.recipe import DataConfig, TrainingRecipe
from kws.train.background import check_background
from kws.train.run import run_training

RATE = 16000


def place(folder: Path, *lengths: int) -> Path:
    """Write noise recordings of these lengths in samples, and a word; return the folder."""
    rng = np.random.default_rng(0)
    write_wav(folder / "clips" / "hello" / "a_nohash_0.wav", np.full(RATE, 500, np.int16), RATE)
    for i, n in enumerate(lengths):
        pcm = rng.integers(-900, 900, n).astype(np.int16)
        write_wav(folder / "clips" / "_background_noise_" / f"{i}.wav", pcm, RATE)
    return folder


def recipe_with(**data: object) -> TrainingRecipe:
    config = {"words": ("hello",), "head": "sigmoid", "clip_ms": 1200, "clips": ("clips",), **data}
    return TrainingRecipe(name="r", data=DataConfig(**config))  # type: ignore[arg-type]


def test_the_line_says_how_long_the_recording_is_and_how_long_it_must_be_before_data_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def minutes(*_: object) -> None:
        raise AssertionError("the data was loaded first")

    monkeypatch.setattr("kws.train.run.load_training_data", minutes)
    home = place(tmp_path, 5 * RATE)
    said = r"1 recording in \S+, of 5\.0 s; one of 6\.0 s is needed.* a clip of 1\.2 s"
    with pytest.raises(KwsError, match=said):
        run_training(recipe_with(), home, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("missing", [0, 5])
def test_the_length_that_is_asked_for_is_just_enough(tmp_path: Path, missing: int) -> None:
    home, recipe = place(tmp_path, 3 * RATE, 6 * RATE - missing), recipe_with()
    held_out = split_noise(read_noise(scan(home / "clips", cached=False)))[1]
    if missing:
        for check in (
            lambda: check_background(recipe, home),
            lambda: silence_clips(held_out, 1, recipe.clip_samples),
        ):
            with pytest.raises(KwsError, match="2 recordings"):
                check()
    else:
        check_background(recipe, home)
        assert len(silence_clips(held_out, 1, recipe.clip_samples)) == 1


def test_no_noise_or_no_use_for_it_is_fine_and_the_folder_itself_may_be_given(
    tmp_path: Path,
) -> None:
    check_background(recipe_with(), place(tmp_path / "none"))
    short = place(tmp_path / "short", RATE)
    check_background(recipe_with(words="thirty_five", head="softmax"), short)
    check_background(recipe_with(clips=("nowhere", "neither")), short)
    with pytest.raises(KwsError, match=r"of 1\.0 s"):
        check_background(recipe_with(clips=("nowhere",)), short / "clips")
