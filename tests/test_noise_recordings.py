"""Recordings of noise: split for training and validation, and cut into silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sounds import hiss

from kws.audio.files import write_wav
from kws.data.noise_recordings import noise_bank, read_noise, silence_clips, split_noise
from kws.data.scan import scan
from kws.errors import KwsError


def test_noise_for_validation_is_never_heard_in_training(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_wav(tmp_path / "data" / "_background_noise_" / f"{name}.wav", hiss(1000))
    write_wav(tmp_path / "data" / "yes" / "x.wav", hiss(10))
    recordings = read_noise(scan(tmp_path / "data"))
    training, held_out = split_noise(recordings)
    assert [len(r) for r in training] == [800, 800] and [len(r) for r in held_out] == [200, 200]
    for whole, first, last in zip(recordings, training, held_out, strict=True):
        np.testing.assert_array_equal(np.concatenate([first, last]), whole)
    np.testing.assert_array_equal(noise_bank(training), np.concatenate(training))
    assert len(noise_bank([])) == 0


def test_silence_has_the_levels_asked_for_and_is_repeatable() -> None:
    recordings = [hiss(50_000, 3000), hiss(30_000, 30), np.zeros(40_000, np.int16)]
    clips = silence_clips(recordings, 400, 2000, (-60.0, -20.0), seed=5)
    levels = 10 * np.log10(np.mean((clips / 32768.0) ** 2, axis=1))
    assert clips.dtype == np.int16 and clips.shape == (400, 2000)
    assert levels.min() == pytest.approx(-60, abs=0.5) and levels.max() == pytest.approx(
        -20, abs=0.5
    )
    counts, _ = np.histogram(levels, bins=4, range=(-60, -20))
    assert counts.min() > 70
    again = silence_clips(recordings, 400, 2000, (-60.0, -20.0), seed=5)
    np.testing.assert_array_equal(again, clips)
    assert (silence_clips(recordings, 400, 2000, (-60.0, -20.0), seed=6) != clips).any()


def test_noise_that_gives_no_silence_is_one_line() -> None:
    with pytest.raises(KwsError, match="longest of 0 samples"):
        silence_clips([], 5)
    with pytest.raises(KwsError, match="longest of 100 samples"):
        silence_clips([hiss(100)], 5)
    with pytest.raises(KwsError, match="are silent"):
        silence_clips([np.zeros(20_000, np.int16)], 5)
