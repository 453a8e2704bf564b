"""Words that nobody says, made of words that somebody said."""

from __future__ import annotations

import numpy as np
import pytest

from kws.data.nonwords import CUT, PIECE_MS, backwards, cut_out, spliced

RATE = 16000
TONES = {"yes": 400, "stop": 1000, "no": 2000, "go": 3000}


def clip(word: str, level: float) -> np.ndarray:
    """A tone of the word's own pitch from 0.3 to 0.7 s."""
    out = np.zeros(RATE)
    t = np.arange(6400) / RATE
    out[4800:11200] = level * np.sin(2 * np.pi * TONES[word] * t)
    return out.astype(np.int16)


def made(words: list[str], levels: list[float], n: int = 40) -> np.ndarray:
    clips = np.stack([clip(word, level) for word, level in zip(words, levels, strict=True)])
    spans = np.tile([4800, 11200], (len(words), 1))
    return spliced(clips, words, spans, n, np.random.default_rng(1))


def pitch(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * RATE / len(samples))


def test_a_spliced_word_begins_as_one_and_ends_as_another_at_one_level() -> None:
    found = made(["yes", "stop"], [8000.0, 500.0])
    seen = set()
    for row in found:
        inside = np.flatnonzero(np.abs(row) > 50)
        first, last = inside[0], inside[-1]
        # Between the shortest and the longest that two cuts can leave of words of 6400 samples.
        assert 2 * CUT[0] * 6400 - 400 < last - first < 2 * CUT[1] * 6400 + 400
        assert abs((first + last) / 2 - 8000) < 2500
        head, tail = row[first : first + 1800], row[last - 1800 : last]
        pair = tuple(min(TONES, key=lambda w: abs(TONES[w] - pitch(half))) for half in (head, tail))
        assert sorted(pair) == ["stop", "yes"]
        seen.add(pair)
        levels = [np.abs(half.astype(float)).max() for half in (head, tail)]
        assert levels[0] == pytest.approx(levels[1], rel=0.05)
    assert len(seen) == 2


def test_words_that_would_make_a_word_again_are_not_spliced() -> None:
    assert len(made(["no", "go"], [5000.0, 5000.0])) == 0
    assert len(made(["yes", "yes"], [5000.0, 5000.0])) == 0
    assert len(made(["no", "go", "yes"], [5000.0] * 3)) == 40


def test_backwards_is_the_clip_from_its_end_and_leaves_out_words_that_turn_into_others() -> None:
    words = ["yes", "no", "on", "stop"]
    clips = np.arange(4 * 10, dtype=np.int16).reshape(4, 10)
    found = backwards(clips, words, 10, np.random.default_rng(0))
    assert sorted(map(tuple, found)) == sorted(map(tuple, clips[[0, 3], ::-1]))


def test_a_piece_of_speech_reaches_from_dip_to_dip_and_lies_in_the_middle_of_quiet() -> None:
    t = np.arange(RATE) / RATE
    dips = [0.03, 0.27, 0.5, 0.8, 0.97]  # seconds, between four bursts
    loud = np.min([np.abs(t - dip) for dip in dips], axis=0) > 0.05
    windows = (np.where(loud, 6000, 20) * np.sin(2 * np.pi * 300 * t)).astype(np.int16)[None]
    between = [b - a for a in dips for b in dips if b > a]
    lengths = set()
    for row in cut_out(windows, 30, np.random.default_rng(0)):
        first, *_, last = np.flatnonzero(np.abs(row) > 2000)
        assert abs((first + last) / 2 - RATE / 2) < 0.03 * RATE
        assert np.abs(np.delete(row, np.s_[max(0, first - 400) : last + 400])).max() < 2000
        nearest = min(between, key=lambda dip: abs(dip - 0.1 - (last - first) / RATE))
        assert abs(nearest - 0.1 - (last - first) / RATE) < 0.02
        assert PIECE_MS[0] - 40 <= 1000 * nearest <= PIECE_MS[1] + 40
        lengths.add(nearest)
    assert len(lengths) >= 4


def test_where_nothing_dips_the_longest_piece_is_cut_and_of_nothing_comes_nothing() -> None:
    steady = np.full((1, RATE), 1000, np.int16) * np.tile([1, -1], RATE // 2).astype(np.int16)
    assert cut_out(steady, 3, np.random.default_rng(0)).shape == (3, RATE)
    assert len(cut_out(steady[:0], 3, np.random.default_rng(0))) == 0


def test_one_seed_gives_the_same_nonwords_again() -> None:
    words, levels = ["yes", "stop", "no"], [5000.0, 9000.0, 100.0]
    np.testing.assert_array_equal(made(words, levels, 5), made(words, levels, 5))
