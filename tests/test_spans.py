"""Where the word in a clip is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kws.data.arrays import load_clips
from kws.data.scan import scan
from kws.data.spans import word_spans

RATE = 16000


def tone(length: int, level: float) -> npt.NDArray[np.float64]:
    return level * np.sin(2 * np.pi * 440 * np.arange(length) / RATE)


def clip_with(*pieces: tuple[int, int, float], noise: float = 30.0) -> npt.NDArray[np.int16]:
    """A second of noise with tones of (first sample, length, level) in it."""
    samples = np.random.default_rng(0).normal(scale=noise, size=RATE)
    for start, length, level in pieces:
        samples[start : start + length] += tone(length, level)
    return samples.astype(np.int16)


@given(
    start=st.integers(0, 10_000),
    length=st.integers(2_000, 6_000),
    level=st.floats(1_000.0, 30_000.0),
)
def test_a_tone_in_noise_is_found_to_within_20_ms(start: int, length: int, level: float) -> None:
    found = word_spans(clip_with((start, length, level))[None])[0]
    assert np.abs(found - (start, start + length)).max() <= 320


def test_a_burst_after_a_short_closure_belongs_to_the_word_and_a_far_click_does_not() -> None:
    closure = clip_with((3000, 3000, 9000.0), (7500, 500, 4000.0))
    click = clip_with((3000, 3000, 9000.0), (12000, 500, 4000.0))
    assert abs(word_spans(closure[None])[0, 1] - 8000) <= 320
    assert abs(word_spans(click[None])[0, 1] - 6000) <= 320


@pytest.mark.parametrize("level", [0.0, 5000.0])
def test_where_nothing_stands_out_the_word_fills_the_clip(level: float) -> None:
    steady = tone(RATE, level).astype(np.int16)
    assert word_spans(steady[None])[0].tolist() == [0, RATE]


def test_the_level_of_a_clip_does_not_move_its_span() -> None:
    loud = clip_with((4000, 5000, 20000.0), noise=300.0)
    assert np.abs(word_spans(loud[None]) - word_spans((loud // 8)[None])).max() <= 160


def test_real_words_last_as_long_as_spoken_words_do(real_speech: Path) -> None:
    index = scan(real_speech / "speech_commands").select(split="validation", words=["yes", "stop"])
    spans = word_spans(load_clips(index.root, index.paths, progress=False)) / RATE
    lengths = spans[:, 1] - spans[:, 0]
    assert 0.35 < np.median(lengths) < 0.6
    # Some clips are noisy throughout or cut off; in hardly any is nothing found.
    assert np.mean(lengths > 0.99) < 0.03
