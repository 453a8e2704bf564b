"""The front end against librosa, against itself in pieces, and against bad input."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.audio.files import read_audio
from kws.errors import KwsError
from kws.frontend import FrontEnd, FrontEndConfig, dct_matrix, features_of, hann_window, mel_filters

CONFIG = FrontEndConfig()
RATE = CONFIG.sample_rate_hz


def tone(hz: float, level: float) -> np.ndarray:
    return (level * 32767 * np.sin(2 * np.pi * hz * np.arange(RATE) / RATE)).astype(np.int16)


def noise(seed: int, samples: int, level: float = 3000.0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal(samples) * level
    return values.clip(-32768, 32767).astype(np.int16)


def librosa_mfcc(pcm: np.ndarray, config: FrontEndConfig = CONFIG) -> np.ndarray:
    """The definition in librosa's and SciPy's words."""
    fft = pytest.importorskip("scipy.fft")
    log_energies = librosa_log_mel(pcm, config)
    return fft.dct(log_energies, type=2, norm="ortho", axis=1)[:, : config.n_mfcc]


def librosa_log_mel(pcm: np.ndarray, config: FrontEndConfig) -> np.ndarray:
    librosa = pytest.importorskip("librosa")
    magnitudes = np.abs(
        librosa.stft(
            pcm.astype(np.float64) / 32768,
            n_fft=config.frame_length,
            hop_length=config.hop_length,
            window="hann",
            center=False,
        )
    )
    energies = librosa_filters(config).astype(np.float64) @ magnitudes
    return np.log(np.maximum(energies, config.log_floor)).T


def librosa_filters(config: FrontEndConfig) -> np.ndarray:
    return pytest.importorskip("librosa").filters.mel(
        sr=config.sample_rate_hz,
        n_fft=config.frame_length,
        n_mels=config.n_mels,
        fmin=config.mel_low_hz,
        fmax=config.mel_high_hz,
        htk=True,
        norm=None,
    )


@pytest.mark.parametrize(
    "pcm",
    [
        noise(1, RATE),
        noise(2, RATE, level=20),
        tone(440, 0.5),
        tone(7990, 1.0),
        np.zeros(RATE, np.int16),
        np.full(RATE, -32768, np.int16),
        np.eye(1, RATE, 5000, dtype=np.int16)[0] * 32767,
    ],
    ids=["noise", "quiet noise", "tone", "tone above the filters", "silence", "DC", "click"],
)
def test_features_equal_librosas_on_made_up_signals(pcm: np.ndarray) -> None:
    np.testing.assert_allclose(features_of(pcm, CONFIG), librosa_mfcc(pcm), atol=1e-4, rtol=0)


def test_features_equal_librosas_on_real_speech(real_speech: Path) -> None:
    files = sorted(real_speech.glob("speech_commands/*/*.wav"))[:40]
    files += sorted(real_speech.glob("sentences/*/*.wav"))[:10]
    assert len(files) == 50
    for path in files:
        pcm = read_audio(path)
        np.testing.assert_allclose(
            features_of(pcm, CONFIG), librosa_mfcc(pcm), atol=1e-4, rtol=0, err_msg=path.name
        )


def test_another_definition_also_equals_librosas() -> None:
    config = FrontEndConfig(
        sample_rate_hz=8000,
        frame_length=400,
        hop_length=80,
        n_mels=23,
        mel_low_hz=100,
        mel_high_hz=4000,
        log_floor=1e-4,
        n_mfcc=23,
    )
    pcm = noise(3, 8000)
    np.testing.assert_allclose(
        features_of(pcm, config), librosa_mfcc(pcm, config), atol=1e-4, rtol=0
    )


def test_without_the_dct_features_are_librosas_log_mel() -> None:
    config = FrontEndConfig(features="log_mel", frame_length=480, hop_length=160)
    pcm = noise(4, RATE)
    features = features_of(pcm, config)
    assert features.shape == (98, config.n_features) == (98, 40)
    np.testing.assert_allclose(features, librosa_log_mel(pcm, config), atol=1e-4, rtol=0)


def test_samples_as_features_are_the_frames_at_full_scale_1() -> None:
    config = FrontEndConfig(features="samples", frame_length=320, hop_length=320)
    pcm = noise(5, RATE)
    assert config.n_features == 320
    np.testing.assert_array_equal(features_of(pcm, config), pcm.reshape(50, 320) / 32768)
    # Frames too short for the mel filters are no fault where there are none.
    assert FrontEndConfig(features="samples", frame_length=32, hop_length=32).n_features == 32


@pytest.mark.parametrize("features", ["log_mel", "samples"])
def test_other_features_too_are_the_same_bits_for_any_chunking(features: str) -> None:
    config = FrontEndConfig(features=features)
    pcm, front_end = noise(6, 5000), FrontEnd(config)
    pieces = [front_end.feed(pcm[i : i + 333]) for i in range(0, len(pcm), 333)]
    np.testing.assert_array_equal(np.concatenate(pieces), features_of(pcm, config))


@pytest.mark.parametrize(
    "config", [CONFIG, FrontEndConfig(frame_length=1024, n_mels=64, mel_low_hz=0, mel_high_hz=8000)]
)
def test_mel_filters_equal_librosas(config: FrontEndConfig) -> None:
    np.testing.assert_allclose(mel_filters(config), librosa_filters(config), atol=1e-6, rtol=0)


def test_the_window_is_periodic() -> None:
    window = hann_window(512)
    assert window[0] == 0 and window[256] == 1
    np.testing.assert_allclose(window[1:], window[:0:-1], atol=1e-15)


def test_the_dct_is_orthonormal() -> None:
    matrix = dct_matrix(40, 40).astype(np.float64)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(40), atol=1e-6)


@pytest.mark.parametrize(
    ("samples", "frames"),
    [(0, 0), (1, 0), (511, 0), (512, 1), (831, 1), (832, 2), (16000, 49), (32000, 99)],
)
def test_frame_counts_are_those_counted_by_hand(samples: int, frames: int) -> None:
    assert CONFIG.n_frames(samples) == frames
    assert features_of(np.zeros(samples, np.int16), CONFIG).shape == (frames, 13)
    assert FrontEnd(CONFIG).feed(np.zeros(samples, np.int16)).shape == (frames, 13)


def test_silence_is_the_floor_in_the_first_coefficient_alone() -> None:
    frame = features_of(np.zeros(512, np.int16), CONFIG)[0]
    np.testing.assert_allclose(frame[0], np.log(1e-2) * np.sqrt(40), rtol=1e-6)
    np.testing.assert_allclose(frame[1:], 0, atol=1e-5)


def test_a_gain_moves_only_the_first_coefficient_of_loud_sound() -> None:
    pcm = noise(4, RATE, level=2000)
    change = features_of(pcm * np.int16(4), CONFIG) - features_of(pcm, CONFIG)
    np.testing.assert_allclose(change[:, 0], np.log(4) * np.sqrt(40), atol=1e-3)
    np.testing.assert_allclose(change[:, 1:], 0, atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.one_of(st.integers(0, 700), st.integers(0, 9000)), min_size=1, max_size=25),
)
def test_any_chunking_gives_the_same_bits(seed: int, sizes: list[int]) -> None:
    pcm = noise(seed, sum(sizes))
    front_end = FrontEnd(CONFIG)
    pieces = [front_end.feed(piece) for piece in np.split(pcm, np.cumsum(sizes)[:-1])]
    np.testing.assert_array_equal(np.concatenate(pieces), features_of(pcm, CONFIG))


def test_sample_by_sample_gives_the_same_bits_and_each_frame_at_its_last_sample() -> None:
    pcm = noise(5, 2000)
    front_end = FrontEnd(CONFIG)
    pieces = [front_end.feed(pcm[i : i + 1]) for i in range(len(pcm))]
    assert [i for i, piece in enumerate(pieces) if len(piece)] == [511, 831, 1151, 1471, 1791]
    np.testing.assert_array_equal(np.concatenate(pieces), features_of(pcm, CONFIG))


def test_a_batch_gives_the_bits_of_each_clip_alone() -> None:
    pcm = noise(6, 2 * 3 * 16000).reshape(2, 3, 16000)
    features = features_of(pcm, CONFIG)
    assert features.shape == (2, 3, 49, 13) and features.dtype == np.float32
    for i in np.ndindex(2, 3):
        np.testing.assert_array_equal(features[i], features_of(pcm[i], CONFIG))
    strided = features_of(pcm.transpose(1, 0, 2)[:, :, ::2], CONFIG)
    np.testing.assert_array_equal(strided[2, 1], features_of(pcm[1, 2, ::2].copy(), CONFIG))


def test_a_long_recording_gives_the_bits_of_its_pieces() -> None:
    pcm = noise(7, 20 * RATE)
    whole = features_of(pcm, CONFIG)
    for frame in (0, 255, 256, 700, len(whole) - 1):
        start = frame * CONFIG.hop_length
        np.testing.assert_array_equal(
            whole[frame], features_of(pcm[start : start + 512], CONFIG)[0]
        )


def test_reset_forgets_the_samples_that_waited() -> None:
    pcm = noise(8, 1500)
    front_end = FrontEnd(CONFIG)
    front_end.feed(noise(9, 777))
    front_end.reset()
    np.testing.assert_array_equal(front_end.feed(pcm), features_of(pcm, CONFIG))


def test_the_stream_keeps_no_reference_to_the_callers_buffer() -> None:
    pcm, buffer = noise(10, 1600), np.empty(400, np.int16)
    front_end, pieces = FrontEnd(CONFIG), []
    for i in range(0, 1600, 400):
        buffer[:] = pcm[i : i + 400]
        pieces.append(front_end.feed(buffer))
        buffer[:] = -1
    np.testing.assert_array_equal(np.concatenate(pieces), features_of(pcm, CONFIG))


def test_the_stream_holds_no_more_than_a_frame_after_a_long_chunk() -> None:
    front_end = FrontEnd(CONFIG)
    front_end.feed(np.zeros(1000, np.int16))
    tracemalloc.start()
    try:
        front_end.feed(noise(11, 20 * RATE))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 50_000


@pytest.mark.parametrize(
    ("audio", "hint"),
    [
        (np.zeros(600, np.float32), "to_int16"),
        (np.full(600, np.nan), "NaN or infinity"),
        (np.zeros(600, np.int32), "int32"),
        (np.zeros((2, 600), np.int16), "one channel"),
        (np.int16(3), "int16"),
        ([0] * 600, "int64"),
    ],
)
def test_other_audio_is_refused_in_one_line_with_a_hint(audio: object, hint: str) -> None:
    with pytest.raises(KwsError, match=hint) as caught:
        FrontEnd(CONFIG).feed(audio)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {"hop_length": 0},
        {"hop_length": 513},
        {"frame_length": 511},
        {"frame_length": "512"},
        {"frame_length": 512.0},
        {"n_mels": True},
        {"n_mfcc": 0},
        {"n_mfcc": 41},
        {"mel_low_hz": 7600.0},
        {"mel_low_hz": -1.0},
        {"mel_high_hz": 8001.0},
        {"mel_high_hz": float("nan")},
        {"log_floor": 0.0},
        {"log_floor": float("inf")},
        {"n_mels": 200, "n_mfcc": 13},
    ],
    ids=str,
)
def test_a_senseless_definition_is_refused_in_one_line(values: dict) -> None:
    with pytest.raises(KwsError, match=r"Received: ") as caught:
        FrontEndConfig(**values)
    assert "\n" not in str(caught.value)


def test_the_shared_tables_cannot_be_changed() -> None:
    for table in (hann_window(512), mel_filters(CONFIG), dct_matrix(13, 40)):
        with pytest.raises(ValueError, match="read-only"):
            table[...] = 0


def test_importing_the_front_end_loads_numpy_and_nothing_heavier() -> None:
    code = (
        "import sys, kws.frontend; heavy = {'librosa', 'scipy', 'tensorflow', 'keras', 'soundfile'}"
        "; print(sorted(heavy & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
