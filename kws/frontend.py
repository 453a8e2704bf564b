"""MFCC, definition 1: 16 kHz int16 in, a frame of coefficients every 20 ms out, no look-ahead.

One function for each stage, in the order of the signal::

    split → spectrum → mel_energies → log_mel → cepstrum

`features_of` runs them on whole clips and `FrontEnd` on a stream. Both give the same bits for the
same frame, however the audio is cut into chunks: `einsum` sums each row in a fixed order, unlike a
BLAS product, whose kernels depend on the number of rows.

The definition is that of librosa with ``center=False``, no padding, no pre-emphasis:
``dct(log(max(mel @ abs(stft), floor)), norm="ortho")``.

For networks with other inputs, `FrontEndConfig.features` can leave out the DCT, so that
neighbouring features are neighbours in frequency, or everything but the frames.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.audio.samples import check_pcm
from kws.errors import KwsError

FULL_SCALE = 32768.0
# Frames processed at once: their spectra fit into the CPU cache.
BLOCK_FRAMES = 256
_WHOLE_NUMBERS = ("sample_rate_hz", "frame_length", "hop_length", "n_mels", "n_mfcc")
FEATURES = ("mfcc", "log_mel", "samples")


@dataclass(frozen=True, kw_only=True)
class FrontEndConfig:
    """Everything that defines the features; stored in the model file."""

    sample_rate_hz: int = 16000
    """Samples per second of the audio."""
    frame_length: int = 512
    """Samples in a frame, which is also the length of the FFT."""
    hop_length: int = 320
    """Samples from the start of one frame to the start of the next."""
    n_mels: int = 40
    """Triangular filters, equally wide on the HTK mel scale."""
    mel_low_hz: float = 20.0
    """Lower edge of the first filter, in Hz."""
    mel_high_hz: float = 7600.0
    """Upper edge of the last filter, in Hz."""
    log_floor: float = 1e-2
    """Lower limit of the filter outputs before the logarithm (full scale is 1)."""
    n_mfcc: int = 13
    """Number of coefficients, from 0 on."""
    features: str = "mfcc"
    """Features of a frame: ``"mfcc"``, ``"log_mel"`` (before the DCT), or ``"samples"`` (full scale
    1)."""

    def __post_init__(self) -> None:
        if self.features not in FEATURES:
            raise KwsError(
                f"features of the front end must be one of {', '.join(FEATURES)}. "
                f"Received: {ascii(self.features)[:40]}"
            )
        for field in fields(self):
            if field.name == "features":
                continue
            value, whole = getattr(self, field.name), field.name in _WHOLE_NUMBERS
            if not isinstance(value, int if whole else (int, float)) or isinstance(value, bool):
                raise KwsError(
                    f"{field.name} of the front end must be a {'whole ' if whole else ''}number. "
                    f"Received: {value!r}"
                )
        if not 1 <= self.hop_length <= self.frame_length <= 65536 or self.frame_length % 2:
            raise KwsError(
                "A front end needs 1 <= hop_length <= frame_length <= 65536, frame_length even. "
                f"Received: {self.hop_length} and {self.frame_length}"
            )
        if not 0 <= self.mel_low_hz < self.mel_high_hz <= self.sample_rate_hz / 2:
            raise KwsError(
                "A front end needs 0 <= mel_low_hz < mel_high_hz <= half the sample rate. "
                f"Received: {self.mel_low_hz}, {self.mel_high_hz} at {self.sample_rate_hz} Hz"
            )
        if not 1 <= self.n_mfcc <= self.n_mels <= 256:
            raise KwsError(
                "A front end needs 1 <= n_mfcc <= n_mels <= 256. "
                f"Received: {self.n_mfcc} and {self.n_mels}"
            )
        if not 1e-30 <= self.log_floor <= 1e6:
            raise KwsError(f"log_floor must lie between 1e-30 and 1e6. Received: {self.log_floor}")
        idle = np.flatnonzero(~mel_filters(self).any(axis=1))
        if len(idle) and self.features != "samples":
            raise KwsError(
                f"Mel filter {idle[0]} lies between two bins of the FFT and would always be zero. "
                f"Received: n_mels {self.n_mels}, frame_length {self.frame_length}. "
                "Use fewer filters or longer frames"
            )

    @property
    def n_features(self) -> int:
        """Number of features of a frame."""
        sizes = {"mfcc": self.n_mfcc, "log_mel": self.n_mels, "samples": self.frame_length}
        return sizes[self.features]

    def n_frames(self, n_samples: int) -> int:
        """Return the number of whole frames in `n_samples` samples."""
        if n_samples < self.frame_length:
            return 0
        return (n_samples - self.frame_length) // self.hop_length + 1

    def n_samples(self, n_frames: int) -> int:
        """Return the fewest samples with `n_frames` whole frames, one or more."""
        return (n_frames - 1) * self.hop_length + self.frame_length


@functools.lru_cache(maxsize=8)
def hann_window(length: int) -> NDArray[np.float64]:
    """Return the periodic Hann window, float64 [length]."""
    return _constant(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length))


def mel_corners_hz(config: FrontEndConfig) -> NDArray[np.float64]:
    """Return the corners of the filters, float64 [n_mels + 2]: filter i goes from i to i + 2.

    They are equally spaced on the HTK mel scale, that is in log(1 + Hz / 700).
    """
    low, high = (2595 * np.log10(1 + f / 700) for f in (config.mel_low_hz, config.mel_high_hz))
    return 700 * (10 ** (np.linspace(low, high, config.n_mels + 2) / 2595) - 1)


@functools.lru_cache(maxsize=8)
def mel_filters(config: FrontEndConfig) -> NDArray[np.float32]:
    """Return the triangular filters, float32 [n_mels, frame_length // 2 + 1], peak height 1.

    The same as ``librosa.filters.mel(…, htk=True, norm=None)``; the scale is that of the HTK book,
    mel = 2595 log10(1 + Hz / 700).
    """
    corners = mel_corners_hz(config)
    bins = np.fft.rfftfreq(config.frame_length, 1 / config.sample_rate_hz)
    rising = (bins - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    falling = (corners[2:, None] - bins) / (corners[2:] - corners[1:-1])[:, None]
    return _constant(np.maximum(0, np.minimum(rising, falling)).astype(np.float32))


@functools.lru_cache(maxsize=8)
def dct_matrix(n_mfcc: int, n_mels: int) -> NDArray[np.float32]:
    """Return the first rows of the orthonormal DCT-II, float32 [n_mfcc, n_mels]."""
    k, n = np.arange(n_mfcc)[:, None], np.arange(n_mels)
    matrix = np.sqrt(2 / n_mels) * np.cos(np.pi * k * (2 * n + 1) / (2 * n_mels))
    matrix[0] /= np.sqrt(2)
    return _constant(matrix.astype(np.float32))


def split(pcm: NDArray[np.int16], config: FrontEndConfig) -> NDArray[np.int16]:
    """Return the frames of int16 [..., n] as a read-only view [..., frames, frame_length]."""
    frames = config.n_frames(pcm.shape[-1])
    shape = (*pcm.shape[:-1], frames, config.frame_length)
    if not frames:
        return np.empty(shape, pcm.dtype)
    step = pcm.strides[-1]
    # sliding_window_view does the same, but takes longer than the FFT of a frame.
    return np.lib.stride_tricks.as_strided(
        pcm, shape, (*pcm.strides[:-1], config.hop_length * step, step), writeable=False
    )


def spectrum(frames: NDArray[np.int16]) -> NDArray[np.float32]:
    """Return the magnitudes of windowed frames, [..., frame_length] → [..., bins].

    In double precision, as NumPy 1 has no other FFT; so NumPy 1 and 2 give the same.
    """
    bins = np.fft.rfft(frames * _scaled_window(frames.shape[-1]))
    # Not np.abs: its rounding may differ between the middle and the end of a vector.
    return np.sqrt(bins.real * bins.real + bins.imag * bins.imag).astype(np.float32)


def mel_energies(magnitudes: NDArray[np.float32], config: FrontEndConfig) -> NDArray[np.float32]:
    """Return the filters' outputs, [..., bins] → [..., n_mels]."""
    return np.einsum("...b,mb->...m", magnitudes, mel_filters(config))


def log_mel(energies: NDArray[np.float32], config: FrontEndConfig) -> NDArray[np.float32]:
    """Return the natural logarithm, clamped from below."""
    return np.log(np.maximum(energies, np.float32(config.log_floor)))


def cepstrum(log_energies: NDArray[np.float32], config: FrontEndConfig) -> NDArray[np.float32]:
    """Return the coefficients, [..., n_mels] → [..., n_mfcc]."""
    return np.einsum("...m,cm->...c", log_energies, dct_matrix(config.n_mfcc, config.n_mels))


def features_of(pcm: NDArray[np.int16], config: FrontEndConfig) -> NDArray[np.float32]:
    """Return the features of whole clips: MFCC, or others by `config.features`.

    Args:
        pcm: int16 [..., n].
        config: the definition.

    Returns:
        float32 [..., frames, n_features]; no frames if a clip is shorter than a frame.

    Raises:
        KwsError: not int16.
    """
    pcm = check_pcm(pcm, "[..., n]")
    n_frames = config.n_frames(pcm.shape[-1])
    features = np.empty((*pcm.shape[:-1], n_frames, config.n_features), np.float32)
    for clip in np.ndindex(pcm.shape[:-1]):
        frames = split(pcm[clip], config)
        for i in range(0, n_frames, BLOCK_FRAMES):
            block = slice(i, i + BLOCK_FRAMES)
            features[clip][block] = _features(frames[block], config)
    return features


def _features(frames: NDArray[np.int16], config: FrontEndConfig) -> NDArray[np.float32]:
    if config.features == "samples":
        return frames * np.float32(1 / FULL_SCALE)
    log_energies = log_mel(mel_energies(spectrum(frames), config), config)
    return log_energies if config.features == "log_mel" else cepstrum(log_energies, config)


class FrontEnd:
    """The features of a stream: samples in, the frames they complete out.

    Example:
        >>> front_end = FrontEnd(FrontEndConfig())
        >>> front_end.feed(np.zeros(16000, np.int16)).shape
        (49, 13)
    """

    def __init__(self, config: FrontEndConfig) -> None:
        self.config = config
        self.reset()

    def reset(self) -> None:
        """Start a new stream."""
        self._waiting = np.empty(0, np.int16)

    def feed(self, pcm: NDArray[np.int16]) -> NDArray[np.float32]:
        """Process the next samples, int16 [n], any n, and return float32 [frames, n_features].

        Raises:
            KwsError: not int16, or not one channel.
        """
        samples = np.concatenate([self._waiting, check_pcm(pcm)])
        features = features_of(samples, self.config)
        # A copy, so that the rest of a long chunk is not kept in memory.
        self._waiting = samples[len(features) * self.config.hop_length :].copy()
        return features


def _constant(table: NDArray[Any]) -> NDArray[Any]:
    """Make a cached table read-only."""
    table.flags.writeable = False
    return table


@functools.lru_cache(maxsize=8)
def _scaled_window(length: int) -> NDArray[np.float64]:
    return _constant(hann_window(length) / FULL_SCALE)
