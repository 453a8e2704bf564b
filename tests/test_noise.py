"""Clips in noise: the ratio is the one asked for, and what is mixed in was not trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.audio.files import write_wav
from kws.audio.samples import Pcm
from kws.data.noise import Background, check_ratios, held_out_noise, mix, synthetic_noise
from kws.data.noise_recordings import read_noise, split_noise
from kws.data.scan import scan
from kws.errors import KwsError

RATE = 16000


def noise(seed: int, samples: int, level: float = 1000.0) -> Pcm:
    return np.rint(level * np.random.default_rng(seed).standard_normal(samples)).astype(np.int16)


# --- the mix -------------------------------------------------------------------------------------


def test_a_mix_worked_out_by_hand() -> None:
    speech = np.array([3000, -3000, 3000, -3000], np.int16)  # RMS 3000
    hiss = np.array([100, 100, -100, -100], np.int16)  # RMS 100
    # 20 dB below 3000 is 300, so the noise is tripled; at 0 dB it is as loud as the speech.
    assert mix(speech, hiss, 20.0).tolist() == [3300, -2700, 2700, -3300]
    assert mix(speech, hiss, 0.0).tolist() == [6000, 0, 0, -6000]


def test_the_ratio_is_that_of_the_whole_clip_pauses_included() -> None:
    # Half of the clip is a pause: its RMS is 3000 / √2.
    speech = np.array([3000, -3000, 0, 0], np.int16)
    mixed = mix(speech, np.array([100, 100, -100, -100], np.int16), 0.0)
    assert mixed.tolist() == [5121, -879, -2121, -2121]


def test_zeros_that_pad_a_short_clip_do_not_count_and_get_noise_too() -> None:
    speech = np.array([3000, -3000], np.int16)
    mixed = mix(speech, np.array([100, 100, -100, -100], np.int16), 20.0)
    assert mixed.tolist() == [3300, -2700, -300, -300]


@settings(deadline=None)
@given(st.integers(0, 50), st.floats(-30, 60), st.floats(10, 9000))
def test_the_ratio_in_the_mix_is_the_one_asked_for(seed: int, snr_db: float, level: float) -> None:
    speech, hiss = noise(seed, 4000, level), noise(seed + 1000, 4000, 300.0)
    mixed = mix(speech, hiss, snr_db).astype(float)
    # Least squares tell how much of each is in the sum, even where both were made quieter.
    parts = np.stack([speech, hiss], axis=1).astype(float)
    (of_speech, of_noise), *_ = np.linalg.lstsq(parts, mixed, rcond=None)
    rms = np.sqrt(np.mean(np.square([of_speech * parts[:, 0], of_noise * parts[:, 1]]), axis=1))
    # The sum is rounded to whole steps, which drowns noise below a hundredth of one.
    if rms.min() > 1:
        assert 20 * np.log10(rms[0] / rms[1]) == pytest.approx(snr_db, abs=0.3)
    assert of_speech < 1.01
    assert np.abs(mixed).max() <= 32767


def test_a_sum_that_is_too_loud_is_made_quieter_as_a_whole() -> None:
    speech = np.array([32000, -32000, 32000, -32000], np.int16)
    hiss = np.array([100, 100, -100, -100], np.int16)
    # 64000, 0, 0, -64000 in full; nothing is cut off, so the shape stays.
    assert mix(speech, hiss, 0.0).tolist() == [32767, 0, 0, -32767]
    # 35200 in full: what is not too loud shrinks alike.
    assert mix(speech, hiss, 20.0).tolist() == [32767, -26809, 26809, -32767]


def test_a_clip_of_digital_silence_stays_so() -> None:
    assert not mix(np.zeros(9, np.int16), noise(0, 9), 0.0).any()


# --- which noise ---------------------------------------------------------------------------------


def test_only_the_end_that_training_does_not_hear_is_used(tmp_path: Path) -> None:
    lengths = {"a": 10 * RATE, "b": 6 * RATE + 7}
    for i, (name, samples) in enumerate(lengths.items()):
        write_wav(tmp_path / "_background_noise_" / f"{name}.wav", noise(i, samples), RATE)
    # As training reads it.
    trained, held_out = split_noise(read_noise(scan(tmp_path)))
    found = held_out_noise(tmp_path, RATE)
    assert [end.tolist() for end in found.ends] == [end.tolist() for end in held_out]
    assert found.samples.tolist() == np.concatenate(held_out).tolist()
    assert [len(t) + len(h) for t, h in zip(trained, found.ends, strict=True)] == [
        *lengths.values()
    ]


def test_a_folder_of_recordings_and_the_data_set_around_it_are_the_same_noise(
    tmp_path: Path,
) -> None:
    write_wav(tmp_path / "_background_noise_" / "a.wav", noise(0, 6 * RATE), RATE)
    write_wav(tmp_path / "yes" / "0.wav", noise(1, 60 * RATE), RATE)
    inside = held_out_noise(tmp_path / "_background_noise_", RATE)
    assert np.array_equal(held_out_noise(tmp_path, RATE).samples, inside.samples)


def test_every_piece_lies_in_one_recording_and_each_clip_has_another(tmp_path: Path) -> None:
    for i in range(3):
        write_wav(tmp_path / f"{i}.wav", noise(i, 8 * RATE), RATE)
    found = held_out_noise(tmp_path, 1000)
    places = found.places(200, 1000)
    background = Background(samples=found.samples, snrs_db=(0.0,))
    assert len(set(places)) > 190
    assert len({first for first, _, _ in places}) == 3
    for first, last, at in places:
        assert first <= at and at + 1000 <= last
        which = first // len(found.ends[0])
        assert np.array_equal(found.samples[first:last], found.ends[which])
        assert np.array_equal(
            background.piece((first, last, at), 1000), found.ends[which][at - first :][:1000]
        )


def test_equal_seeds_draw_equal_pieces_and_others_others(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", noise(0, 8 * RATE), RATE)
    found = held_out_noise(tmp_path, 1000)
    assert found.places(50, 1000, seed=4) == found.places(50, 1000, seed=4)
    assert found.places(50, 1000, seed=4) != found.places(50, 1000, seed=5)


def test_noise_that_ends_before_a_long_clip_begins_again() -> None:
    background = Background(samples=np.arange(10, dtype=np.int16), snrs_db=(0.0,))
    assert background.piece((2, 6, 4), 7).tolist() == [4, 5, 2, 3, 4, 5, 2]
    assert background.piece((2, 6, 4), 2).tolist() == [4, 5]


def test_recordings_that_are_too_short_or_silent_are_passed_over(tmp_path: Path) -> None:
    write_wav(tmp_path / "good.wav", noise(0, 6 * RATE), RATE)
    write_wav(tmp_path / "short.wav", noise(0, RATE), RATE)
    dead = noise(1, 6 * RATE)
    dead[RATE:] = 0  # loud only where training hears it
    write_wav(tmp_path / "dead.wav", dead, RATE)
    found = held_out_noise(tmp_path, RATE)
    assert len(found.ends) == 1
    assert found.skipped == ("dead.wav", "short.wav")


def test_stretches_of_silence_in_a_recording_are_not_drawn(tmp_path: Path) -> None:
    pcm = noise(0, 10 * RATE)
    pcm[-RATE:] = 0
    write_wav(tmp_path / "a.wav", pcm, RATE)
    found = held_out_noise(tmp_path, 1000)
    background = Background(samples=found.samples, snrs_db=(0.0,))
    assert all(background.piece(place, 1000).any() for place in found.places(200, 1000))


@pytest.mark.parametrize(
    ("seconds", "level", "complaint"),
    [
        (2.0, 1000.0, r"shorter than a clip.*longest 0\.40 s.*1\.00 s are needed.*5 s or more"),
        (10.0, 0.0, "is silent.*1 recording"),
    ],
)
def test_noise_that_cannot_be_used_says_why(
    tmp_path: Path, seconds: float, level: float, complaint: str
) -> None:
    write_wav(tmp_path / "a.wav", noise(0, round(seconds * RATE), level), RATE)
    with pytest.raises(KwsError, match=complaint):
        held_out_noise(tmp_path, RATE)


def test_ratios_come_once_each_from_the_highest_on() -> None:
    assert check_ratios([5, 20, 5, -3]) == (20.0, 5.0, -3.0)


@pytest.mark.parametrize("wrong", [[], [float("nan")], [10, float("inf")], [-101]])
def test_what_is_no_ratio_is_refused(wrong: list[float]) -> None:
    with pytest.raises(KwsError, match="must be -100 to 100 dB"):
        check_ratios(wrong)


def test_synthetic_noise_is_white_pink_and_brown() -> None:
    for pcm, db_per_octave in zip(synthetic_noise(20), (0.0, -3.0, -6.0), strict=True):
        power = np.abs(np.fft.rfft(pcm.astype(np.float64))) ** 2
        hz = np.fft.rfftfreq(len(pcm), 1 / RATE)
        low, high = (power[(hz >= f) & (hz < 2 * f)].mean() for f in (250, 2000))
        assert 10 * np.log10(high / low) / 3 == pytest.approx(db_per_octave, abs=0.3)
