"""What stands out of a recording is found where it is, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.audio.files import read_audio
from kws.data.recording.find_words import (
    Utterance,
    alike,
    cut_around,
    find_utterances,
    levels_dbfs,
    strongest,
    utterance_at,
)
from kws.data.spans import word_spans

RATE = 16000


def recording(
    *sounds: tuple[float, float, float], seconds: float = 3.0, noise: float = 10.0
) -> np.ndarray:
    """Vowel-like sounds (start in s, length in s, amplitude) in white noise; int16."""
    rng = np.random.default_rng(1)
    t = np.arange(round(seconds * RATE)) / RATE
    x = rng.normal(0, noise, len(t)) if noise else np.zeros(len(t))
    for start, length, amplitude in sounds:
        inside = (t >= start) & (t < start + length)
        x += amplitude * inside * (np.sin(2 * np.pi * 300 * t) + 0.3 * np.sin(6000 * np.pi * t))
    return np.clip(np.rint(x), -32768, 32767).astype(np.int16)


def spans(pcm: np.ndarray, **options: float) -> list[tuple[float, float]]:
    return [(one.start_s, one.end_s) for one in find_utterances(pcm, **options)]


def close(found: list[tuple[float, float]], *said: tuple[float, float]) -> bool:
    return len(found) == len(said) and np.allclose(found, said, atol=0.025)


def test_a_word_is_found_from_its_beginning_to_its_end_with_its_levels():
    (one,) = find_utterances(recording((1.2, 0.6, 6000), noise=10))
    assert close([(one.start_s, one.end_s)], (1.2, 1.8))
    assert one.length_s == pytest.approx(0.6, abs=0.03)
    # RMS of the two sines: 6000 * sqrt((1 + 0.09) / 2).
    assert one.level_dbfs == pytest.approx(20 * np.log10(6000 * 0.738 / 32768), abs=0.6)
    # White noise of 10 without the eighth of its power below 150 Hz and above 7 kHz.
    assert one.noise_dbfs == pytest.approx(20 * np.log10(10 / 32768), abs=2.5)


def test_a_gap_within_a_word_does_not_end_it_and_a_pause_does():
    assert close(spans(recording((1, 0.3, 6000), (1.45, 0.3, 6000))), (1.0, 1.75))
    apart = recording((0.8, 0.3, 6000), (1.5, 0.3, 6000))
    assert close(spans(apart), (0.8, 1.1), (1.5, 1.8))
    assert close(spans(apart, longest_gap_s=0.5), (0.8, 1.8))


@pytest.mark.parametrize("at", [0.3, 0.95, 2.2])
def test_a_click_is_no_word_and_does_not_set_the_measure(at):
    assert close(spans(recording((1.2, 0.5, 3000), (at, 0.015, 30000))), (1.2, 1.7))


def test_a_breath_before_the_word_is_left_out_and_a_consonant_at_its_ends_is_not():
    breath = recording((0.7, 0.3, 150), (1.15, 0.5, 6000))
    assert close(spans(breath), (1.15, 1.65))
    for weak in ((1.0, 0.07, 200), (1.75, 0.06, 200)):
        found = spans(recording(weak, (1.15, 0.5, 6000)))
        assert close(found, (min(1.15, weak[0]), max(1.65, weak[0] + weak[1])))


def test_hum_and_an_offset_do_not_hide_a_word():
    pcm = recording((1.2, 0.5, 3000)).astype(np.float64)
    hum = 5000 * np.sin(2 * np.pi * 50 * np.arange(len(pcm)) / RATE)
    assert close(spans((pcm + hum + 4000).astype(np.int16)), (1.2, 1.7))


@pytest.mark.parametrize(
    "pcm",
    [
        np.zeros(0, np.int16),
        np.ones(300, np.int16),
        np.zeros(48000, np.int16),
        np.full(48000, -12000, np.int16),
        recording(noise=500),
        recording((0, 3, 6000)),
        recording((1, 0.6, 600), noise=400),
        recording((1.0, 0.04, 20000), (2.0, 0.04, 20000)),
    ],
)
def test_where_nothing_stands_out_nothing_is_found(pcm):
    assert find_utterances(pcm) == []


def test_a_word_at_the_very_edge_reaches_it():
    assert close(spans(recording((0, 0.5, 6000))), (0, 0.5))
    (found,) = find_utterances(recording((2.5, 0.5, 6000)))
    assert found.end == 48000


@settings(max_examples=25, deadline=None)
@given(
    start=st.floats(0.3, 1.8),
    length=st.floats(0.2, 0.9),
    gain_db=st.floats(-25, 10),
)
def test_words_anywhere_and_at_any_level_are_found_alike(start, length, gain_db):
    gain = 10 ** (gain_db / 20)
    assert close(
        spans(recording((start, length, 6000 * gain), noise=10 * gain)), (start, start + length)
    )


def test_beside_a_word_a_bump_in_the_noise_is_no_other():
    assert close(spans(recording((1, 0.5, 6000), (2, 0.5, 950), noise=300)), (1, 1.5))


def test_a_background_that_changes_over_a_long_recording_is_followed():
    quiet, loud = (
        recording((5, 0.5, 6000), (12, 0.5, 6000), seconds=30, noise=noise) for noise in (5, 300)
    )
    found = spans(np.concatenate([quiet, loud]))
    assert close(found, (5, 5.5), (12, 12.5), (35, 35.5), (42, 42.5))


def test_long_recordings_are_measured_as_short_ones_are():
    pcm = recording((1, 0.5, 6000), seconds=60)
    levels = levels_dbfs(pcm)
    assert len(levels) == 5999
    np.testing.assert_allclose(
        levels[4090:4190], levels_dbfs(pcm[4090 * 160 : 4191 * 160]), atol=0.3
    )


def utterance(start_s: float, end_s: float, level: float = -20.0) -> Utterance:
    return Utterance(
        start=round(start_s * RATE), end=round(end_s * RATE), level_dbfs=level, noise_dbfs=-60.0
    )


@pytest.mark.parametrize(
    ("word", "seconds", "clip"),
    [
        ((1.0, 1.8), 3.0, (0.7, 2.1)),
        # A short word has more around it, up to a second.
        ((1.0, 1.2), 3.0, (0.6, 1.6)),
        ((0.1, 0.3), 3.0, (0.0, 1.0)),
        ((2.7, 2.9), 3.0, (2.0, 3.0)),
        ((0.1, 0.9), 3.0, (0.0, 1.2)),
        ((2.0, 2.9), 3.0, (1.7, 3.0)),
        ((0.2, 0.5), 0.7, (0.0, 0.7)),
        ((0.0, 2.9), 3.0, (0.0, 3.0)),
    ],
)
def test_a_clip_has_a_margin_and_lasts_a_second_where_the_recording_does(word, seconds, clip):
    first, last, samples = (round(RATE * s) for s in (*word, seconds))
    cut = cut_around(first, last, samples)
    assert cut == (round(clip[0] * RATE), round(clip[1] * RATE))


def test_the_strongest_is_the_one_with_the_most_energy():
    short, long, faint = utterance(0, 0.2), utterance(1, 1.6), utterance(2, 3, -35)
    assert strongest([short, long, faint]) == long


def test_repetitions_are_alike_in_length_and_level():
    words = [utterance(k, k + 0.5 + 0.05 * k, -20 - k) for k in range(5)]
    others = [utterance(6, 7.9), utterance(8, 8.1), utterance(9, 9.5, -40)]
    assert alike([*words, *others]) == words
    assert alike([]) == []


def test_the_word_that_was_just_heard_is_the_one_that_began_before():
    words = [utterance(1, 1.5), utterance(3, 3.6)]
    pcm = np.zeros(5 * RATE, np.int16)
    assert utterance_at(pcm, words, 1.3) == utterance_at(pcm, words, 1.9) == words[0]
    assert utterance_at(pcm, words, 3.2) == words[1]
    assert utterance_at(pcm, words, 0.9) is None
    assert utterance_at(pcm, words, 2.5) is None


def test_of_running_speech_the_part_is_taken_that_ends_where_the_word_was_heard():
    pcm = recording((0.5, 1.1, 6000), (1.7, 0.6, 6000), (2.4, 1.0, 6000), seconds=3.45)
    (speech,) = find_utterances(pcm)
    assert speech.length_s > 2.8
    found = utterance_at(pcm, [speech], 2.35, longest_s=1.2)
    assert found is not None and close([(found.start_s, found.end_s)], (1.7, 2.3))
    # Where there is no gap at all, so much as a word may last, up to the answer.
    pcm = recording((0.5, 3.0, 6000), seconds=4)
    found = utterance_at(pcm, find_utterances(pcm), 2.5, longest_s=1.0)
    assert found is not None and close([(found.start_s, found.end_s)], (1.5, 2.5))


def test_each_real_recording_of_a_wake_word_holds_one_utterance(real_speech: Path):
    found = [find_utterances(read_audio(p)) for p in real_speech.glob("wake_words/*/*.wav")]
    assert len(found) >= 20
    assert {len(utterances) for utterances in found} == {1}
    assert all(0.3 < one.length_s < 1.4 for (one,) in found)


@pytest.mark.parametrize(("snr_db", "share"), [(20, 1.0), (10, 0.98)])
def test_real_words_in_real_noise_are_where_they_were_put(real_speech: Path, snr_db, share):
    rng = np.random.default_rng(0)
    noises = [read_audio(p) for p in sorted(real_speech.glob("*/_background_noise_/*.wav"))]
    right = tried = 0
    for path in sorted(real_speech.glob("speech_commands/[a-z]*/*.wav"))[::3]:
        clip = read_audio(path)
        levels = levels_dbfs(clip)
        if len(clip) != RATE or np.percentile(levels, 95) - np.percentile(levels, 10) < 30:
            continue  # A clip that is noisy by itself does not say where its word is.
        ((first, last),) = word_spans(clip[None]).tolist()
        noise = noises[tried % len(noises)].astype(np.float64)
        at = int(rng.integers(0, len(noise) - 3 * RATE))
        noise = noise[at : at + 3 * RATE] / noise[at : at + 3 * RATE].std()
        word = clip[first:last].astype(np.float64)
        mixed = noise * np.sqrt((word**2).mean()) * 10 ** (-snr_db / 20)
        put = int(rng.integers(3000, 2 * RATE))
        mixed[put : put + len(word)] += word
        mixed *= min(1.0, 30000 / np.abs(mixed).max())
        utterances = find_utterances(mixed.astype(np.int16))
        tried += 1
        if utterances:
            one = strongest(utterances)
            start, end = cut_around(one.start, one.end, len(mixed))
            inside = word[max(0, start - put) : max(0, end - put)]
            right += (inside**2).sum() >= 0.9 * (word**2).sum()
    assert tried >= 40
    assert right >= share * tried
