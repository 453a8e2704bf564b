"""The layers between clips and network: the runner's MFCC, and variations of the requested size.

The last test runs some of them under jax, in a separate process.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kws.audio.files import read_audio
from kws.frontend import FrontEndConfig, features_of
from kws.recipe import AugmentConfig

keras = pytest.importorskip("keras")

from kws.train.layers import (  # noqa: E402
    NOISE_GRID,
    RandomAudio,
    RandomEqualiser,
    RandomRoom,
    RandomTract,
    SpecAugment,
    TrainingFeatures,
)
from kws.train.variation import draw_background, draw_variation  # noqa: E402

CONFIG = FrontEndConfig()
RATE = CONFIG.sample_rate_hz
# Nothing is varied; each test turns on what it tests.
STILL: dict[str, Any] = {
    "shift_ms": 0.0,
    "speed": 0.0,
    "gain_db": (0.0, 0.0),
    "noise_share": 0.0,
    "equaliser_db": 0.0,
    "time_masks": 0,
    "mel_masks": 0,
}


def noise(seed: int, *shape: int, level: float = 3000.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * level).astype(np.int16)


def varied_audio(x: np.ndarray, background: np.ndarray, seed: int = 1, **values: Any) -> np.ndarray:
    """Vary float [sequences, clips, samples]."""
    config = AugmentConfig(**{**STILL, **values})
    rng = np.random.default_rng(seed)
    varied = draw_variation(config, rng, x.shape[:2], sample_rate_hz=16000)
    beneath = draw_background(config, rng, rms(x) * varied.gain)
    layer = RandomAudio(background, seed=seed)
    return to_numpy(layer(x.astype(np.float32), varied.array(beneath), training=True))


def as_it_is(pcm: np.ndarray) -> np.ndarray:
    """The variation that changes nothing."""
    return np.broadcast_to(np.array([1, 0, 1, 0], np.float32), (*pcm.shape[:2], 4))


def features(
    seed: int = 1, clips: int = 1, background: np.ndarray | None = None, **values: Any
) -> TrainingFeatures:
    return TrainingFeatures(
        CONFIG,
        AugmentConfig(**values),
        noise(99, 3 * RATE) if background is None else background,
        mean=np.zeros(13),
        deviation=np.ones(13),
        seed=seed,
        clips=clips,
    )


def to_numpy(x: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(x))


def decibels(ratio: np.ndarray | float) -> np.ndarray:
    return 20 * np.log10(ratio)


def rms(x: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.sqrt((x.astype(np.float64) ** 2).mean(axis=axis))


def test_without_training_the_features_are_those_of_the_runner() -> None:
    pcm = noise(1, 3, 1, RATE)
    pcm[1] //= 500
    pcm[2] = 0
    np.testing.assert_allclose(
        to_numpy(features()(pcm, as_it_is(pcm), training=False)),
        features_of(pcm[:, 0], CONFIG),
        atol=1e-3,
        rtol=0,
    )


@pytest.mark.parametrize("end", [0, 1])
@pytest.mark.parametrize("quiet", [False, True])
def test_at_the_limits_of_a_recipe_features_are_still_numbers(end: int, quiet: bool) -> None:
    pairs = {"gain_db": (-60, 60), "room_ms": (20, 10_000), "room_db": (-40, 60)}
    for snr in (-100.0, 100.0):
        at = {name: (float(limits[end]),) * 2 for name, limits in pairs.items()}
        config = AugmentConfig(snr_db=(snr, snr), noise_share=1.0, room_share=1.0, **at)  # type: ignore[arg-type]
        pcm = noise(1, 4, 1, RATE, level=2.0 if quiet else 9000.0)
        rng = np.random.default_rng(1)
        varied = draw_variation(config, rng, pcm.shape[:2], sample_rate_hz=RATE)
        beneath = draw_background(config, rng, rms(pcm / 32768) * varied.gain)
        layer = features(**vars(config))
        found = to_numpy(layer(pcm, varied.array(beneath), training=True))
        assert np.isfinite(found).all() and np.abs(found).max() < 1000


def test_without_training_real_speech_has_the_features_of_the_runner(real_speech: Path) -> None:
    files = sorted(real_speech.glob("speech_commands/*/*.wav"))[::9][:32]
    clips = [read_audio(path)[:RATE] for path in files]
    pcm = np.stack([np.pad(clip, (0, RATE - len(clip))) for clip in clips])
    found = to_numpy(features()(pcm[:, None], as_it_is(pcm[:, None]), training=False))
    assert len(found) == 32
    np.testing.assert_allclose(found, features_of(pcm, CONFIG), atol=1e-3, rtol=0)


def test_clips_in_a_row_are_one_stretch_of_audio() -> None:
    pcm = noise(2, 2, 3, RATE)
    found = to_numpy(features(clips=3)(pcm, as_it_is(pcm), training=False))
    np.testing.assert_allclose(found, features_of(pcm.reshape(2, -1), CONFIG), atol=1e-3, rtol=0)


def test_another_definition_and_normalisation_are_the_runners_too() -> None:
    config = FrontEndConfig(frame_length=400, hop_length=150, n_mfcc=5, n_mels=30)
    pcm = noise(3, 2, 1, 5003)
    mean, deviation = np.arange(5.0), np.arange(1.0, 6.0)
    layer = TrainingFeatures(
        config, AugmentConfig(), noise(4, RATE), mean=mean, deviation=deviation, seed=1
    )
    expected = (features_of(pcm[:, 0], config) - mean) / deviation
    np.testing.assert_allclose(to_numpy(layer(pcm, as_it_is(pcm))), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("features", ["log_mel", "samples"])
def test_other_features_are_the_runners_too(features: str) -> None:
    config = FrontEndConfig(features=features, frame_length=480, hop_length=160)
    pcm = noise(3, 2, 1, 5003)
    mean = np.linspace(-1, 1, config.n_features)
    layer = TrainingFeatures(
        config, AugmentConfig(), noise(4, RATE), mean=mean, deviation=mean + 2, seed=1
    )
    expected = (features_of(pcm[:, 0], config) - mean) / (mean + 2)
    np.testing.assert_allclose(to_numpy(layer(pcm, as_it_is(pcm))), expected, atol=1e-3, rtol=0)
    assert layer.compute_output_shape(pcm.shape, ()) == expected.shape


def test_training_without_any_variation_changes_nothing() -> None:
    pcm = noise(5, 2, 2, RATE)
    still = to_numpy(features(clips=2, **STILL)(pcm, as_it_is(pcm), training=True))
    np.testing.assert_allclose(still, features_of(pcm.reshape(2, -1), CONFIG), atol=1e-3, rtol=0)


def test_one_seed_gives_one_result_and_every_call_another() -> None:
    pcm = noise(6, 2, 1, RATE)
    first, same, other = features(seed=7), features(seed=7), features(seed=8)
    a, b, c, d = (
        to_numpy(layer(pcm, as_it_is(pcm), training=True)) for layer in (first, same, other, first)
    )
    np.testing.assert_array_equal(a, b)
    assert np.abs(c - a).max() > 0.1
    assert np.abs(d - a).max() > 0.1
    assert np.abs(a[0] - a[1]).max() > 0.1


def test_one_seed_varies_the_audio_in_the_same_way_for_every_front_end() -> None:
    """Frames half as often are every other frame; a room's tail is per frame, so there is none."""
    pcm = noise(8, 3, 2, RATE)
    rng = np.random.default_rng(9)
    drawn = draw_variation(AugmentConfig(), rng, (3, 2), sample_rate_hz=RATE)
    varied = drawn.array(draw_background(AugmentConfig(), rng, rms(pcm / 32768) * drawn.gain))
    twice = [
        TrainingFeatures(
            dataclasses.replace(CONFIG, hop_length=hop_length), AugmentConfig(room_share=0.0),
            noise(99, 3 * RATE), mean=np.zeros(13), deviation=np.ones(13), seed=7, clips=2,
        )
        for hop_length in (CONFIG.hop_length // 2, CONFIG.hop_length)
    ]  # fmt: skip
    for _ in range(2):
        often, seldom = (to_numpy(layer(pcm, varied, training=True)) for layer in twice)
        np.testing.assert_allclose(seldom, often[:, ::2], atol=1e-3)


def test_features_are_finite_for_silence_before_silence_and_full_scale() -> None:
    pcm = np.zeros((2, 2, RATE), np.int16)
    pcm[1] = -32768
    for background in (np.zeros(100, np.int16), noise(7, 100)):
        layer = features(clips=2, background=background, noise_share=1.0, room_share=1.0)
        found = to_numpy(layer(pcm, as_it_is(pcm), training=True))
        assert found.shape == (2, 99, 13) and np.isfinite(found).all()


def test_the_layer_works_in_a_model_with_batches_of_any_size() -> None:
    inputs = keras.Input((2, RATE), dtype="int16")
    variation = keras.Input((2, 4))
    model = keras.Model([inputs, variation], features(clips=2)(inputs, variation))
    assert model.output_shape == (None, 99, 13)
    for n in (1, 3):
        pcm = noise(8, n, 2, RATE)
        np.testing.assert_allclose(
            np.asarray(model.predict_on_batch([pcm, as_it_is(pcm)])),
            features_of(pcm.reshape(n, -1), CONFIG),
            atol=1e-3,
            rtol=0,
        )


def test_a_shift_moves_all_samples_of_a_clip_alike_and_no_further_than_asked() -> None:
    ramp = np.broadcast_to(np.arange(1, RATE + 1) / 32768, (20, 2, RATE))
    found = varied_audio(ramp, noise(9, RATE), shift_ms=50.0).reshape(40, RATE)
    shifts = []
    for clip in found:
        inside = np.flatnonzero(clip)
        moved = clip[inside] * 32768 - (inside + 1)
        np.testing.assert_allclose(moved, moved[0], atol=0.01)
        # The missing part came from outside the clip.
        assert abs(RATE - len(inside) - abs(moved[0])) <= 2
        shifts.append(moved[0])
    assert -800 <= min(shifts) < -500 and 500 < max(shifts) <= 800


def test_a_change_of_speed_stretches_about_the_centre_within_its_limits() -> None:
    ramp = np.broadcast_to(np.arange(1, RATE + 1) / 32768, (20, 2, RATE))
    found = varied_audio(ramp, noise(10, RATE), speed=0.2).reshape(40, RATE)
    np.testing.assert_allclose(
        found[:, RATE // 2 - 1 : RATE // 2 + 1].mean(axis=1), ramp[0, 0].mean(), atol=1e-5
    )
    speeds = (found[:, 9000] - found[:, 7000]) * 32768 / 2000
    assert 1 / 1.2 - 1e-3 <= speeds.min() < 0.88 and 1.12 < speeds.max() <= 1.2 + 1e-3


def test_the_level_of_each_clip_changes_within_its_range() -> None:
    x = noise(11, 20, 2, 4000) / 32768
    found = varied_audio(x, noise(12, 8000), gain_db=(-12.0, 6.0))
    gains = decibels(rms(found) / rms(x)).ravel()
    assert -12.1 <= gains.min() < -10 and 4 < gains.max() <= 6.1


@pytest.mark.parametrize(("snr_db", "gain_db"), [(0.0, 0.0), (15.0, -12.0)])
def test_noise_is_mixed_below_the_quietest_clip_as_asked_for(snr_db: float, gain_db: float) -> None:
    x = noise(13, 16, 3, RATE, level=1000) / 32768
    x *= np.linspace(0.1, 1, 16)[:, None, None] * [[3], [1], [2]]
    # The background is a hundred times louder at its end than at its beginning.
    background = (noise(14, 8 * RATE) * np.geomspace(0.03, 3, 8 * RATE)).astype(np.int16)
    values = {"snr_db": (snr_db, snr_db), "gain_db": (gain_db, gain_db)}
    mixed = varied_audio(x, background, noise_share=1.0, **values)
    x *= 10 ** (gain_db / 20)
    ratio = decibels(rms(x[:, 1]) / rms((mixed - x).reshape(16, -1)))
    np.testing.assert_allclose(ratio, snr_db, atol=0.05)


def test_noise_is_a_whole_piece_of_the_background_and_another_for_each_sequence() -> None:
    x = noise(15, 6, 2, 2000, level=1000) / 32768
    background = noise(16, 5 * 4000)
    added = varied_audio(x, background, noise_share=1.0, snr_db=(10.0, 10.0)) - x
    starts = np.arange(0, len(background) - 4000 + 1, NOISE_GRID)
    pieces = np.stack([background[s : s + 4000] for s in starts]).astype(np.float64)
    pieces /= rms(pieces)[:, None]
    added = added.reshape(6, -1) / rms(added.reshape(6, -1))[:, None]
    likeness = added @ pieces.T / 4000
    assert (likeness.max(axis=1) > 0.995).all()
    assert len(set(likeness.argmax(axis=1))) > 1


def test_the_asked_share_of_sequences_gets_noise() -> None:
    x = noise(17, 400, 1, 600, level=1000) / 32768
    added = varied_audio(x, noise(18, 5000), noise_share=0.3) - x
    share = (rms(added[:, 0]) > 1e-6).mean()
    assert 0.2 < share < 0.4


def test_without_speech_there_is_no_noise_and_a_loud_mix_is_clipped() -> None:
    x = np.zeros((2, 2, 2000))
    x[1, 0] = 0.9
    mixed = varied_audio(x, noise(19, 9000), noise_share=1.0, snr_db=(0.0, 0.0))
    assert not mixed[0].any() and mixed[1].any(axis=1).all()
    assert np.abs(mixed).max() == 1.0


def test_a_rooms_tail_falls_by_60_db_in_its_time_and_holds_the_energy_asked_for() -> None:
    config = AugmentConfig(room_share=1.0, room_ms=(400.0, 400.0), room_db=(5.0, 5.0))
    x = np.zeros((2, 200, 40), np.float32)
    x[0, 10], x[1, 10] = 1.0, 3.0
    found = to_numpy(RandomRoom(config, frame_ms=20.0, seed=1)(x, training=True))
    np.testing.assert_allclose(found[1], 3 * found[0], rtol=1e-4, atol=1e-6)
    assert found[0, :10].max() < 1e-6
    np.testing.assert_allclose(found[0, 10], 1.0, rtol=1e-5)
    np.testing.assert_allclose(decibels(found[0, 11] / found[0, 31]), 60, atol=0.1)
    tail_energy = (found[0, 11:, 0].astype(np.float64) ** 2).sum()
    np.testing.assert_allclose(10 * np.log10(1 / tail_energy), 5, atol=0.05)


def test_another_vocal_tract_moves_formants_by_one_factor_and_nothing_in_time() -> None:
    layer = RandomTract(AugmentConfig(tract=0.1), CONFIG, seed=1)
    hz = layer.centres_hz
    # Filters are narrow beside these formants, and the second frame holds the louder ones.
    formants = [np.exp(-0.5 * (np.log(hz / f) / 0.15) ** 2) for f in (700, 1800)]
    x = np.stack([formants[0] + formants[1], 5 * formants[1]])
    found = to_numpy(layer(np.repeat(x[None], 400, 0).astype(np.float32), training=True))

    octaves = np.log(hz)[None]
    middle = (found[:, 1] * octaves * np.gradient(octaves[0])).sum(axis=1)
    middle /= (found[:, 1] * np.gradient(octaves[0])).sum(axis=1)
    factor = 1800 / np.exp(middle)
    assert 1 / 1.11 < factor.min() < 0.93 and 1.07 < factor.max() < 1.11
    assert 0.45 < np.mean(factor > 1) < 0.55
    # The lower formant moves by the factor of the other frame's.
    for i in (int(factor.argmin()), int(factor.argmax())):
        expected = np.interp(hz * factor[i], hz, x[0])
        np.testing.assert_allclose(found[i, 0, 2:-2], expected[2:-2], atol=0.05)


def test_a_flat_spectrum_has_the_same_level_in_any_vocal_tract() -> None:
    x = np.full((50, 3, 40), 2.5, np.float32)
    found = to_numpy(RandomTract(AugmentConfig(tract=0.4), CONFIG, seed=2)(x, training=True))
    np.testing.assert_allclose(found, x, rtol=1e-5)


def test_the_equaliser_is_one_smooth_curve_for_all_frames_as_strong_as_asked() -> None:
    config = AugmentConfig(equaliser_db=4.0)
    x = np.random.default_rng(20).uniform(1, 2, (500, 3, 40)).astype(np.float32)
    curves = decibels(to_numpy(RandomEqualiser(config, seed=1)(x, training=True)) / x)
    np.testing.assert_allclose(curves[:, 1], curves[:, 0], atol=1e-3)
    np.testing.assert_allclose(curves.mean(axis=2), 0, atol=1e-3)
    # Four independent cosines, each of mean square 1/2.
    assert 0.9 < rms(curves.reshape(-1)) / np.sqrt(4 * 4.0**2 / 2) < 1.1
    steps = np.abs(np.diff(curves[:, 0], axis=1)).max(axis=1)
    assert np.median(steps) < np.median(np.ptp(curves[:, 0], axis=1)) / 3


def test_masks_blank_whole_frames_and_bands_with_the_mean_and_nothing_else() -> None:
    config = AugmentConfig(
        **{**STILL, "time_masks": 2, "time_mask_ms": 100.0, "mel_masks": 1, "mel_mask_width": 6}
    )
    x = np.random.default_rng(21).standard_normal((200, 49, 40)).astype(np.float32)
    found = to_numpy(SpecAugment(config, clips=1, frame_ms=20.0, seed=1)(x, training=True))
    masked = found != x
    mean = np.broadcast_to(x.mean(axis=(1, 2), keepdims=True), x.shape)
    np.testing.assert_allclose(found[masked], mean[masked], atol=1e-5)
    frames, bands = masked.all(axis=2), masked.all(axis=1)
    np.testing.assert_array_equal(masked, frames[:, :, None] | bands[:, None, :])
    # Two masks of up to 5 frames (which touch up to 5 whole ones) and one of up to 6 filters.
    assert frames.sum(axis=1).max() <= 10 and 4 < frames.sum(axis=1).mean() < 6
    assert bands.sum(axis=1).max() <= 6 and 2 < bands.sum(axis=1).mean() < 4


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="this is the run under jax")
def test_the_same_holds_under_jax() -> None:
    pytest.importorskip("jax")
    chosen = "not real_speech and (runner or one_seed or a_shift or quietest or masks or tract)"
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider"]
    command += [__file__, "-k", chosen]
    run = subprocess.run(
        command, env={**os.environ, "KERAS_BACKEND": "jax"}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout[-3000:]
    assert "12 passed" in run.stdout
