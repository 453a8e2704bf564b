"""Clips in noise: which piece of background is mixed into each, and how loud; generated noise.

The ratio is that of RMS levels over the whole clip, as in `torchaudio.functional.add_noise` and in
audiomentations' `AddBackgroundNoise`, which microWakeWord uses; this is the common meaning of "at
10 dB" for keywords. Speech Commands' own tools and those of MLPerf Tiny set only the volume of the
noise, not a ratio. Zeros that pad a short clip do not count, as with torchaudio's `lengths`; the
noise continues under them, as it would in a room. A word fills only part of its clip: over the word
alone (`kws.data.spans`) the ratio is 3.8 dB higher (median of Speech Commands' validation clips).

Only noise that was not trained on is mixed in: the end of each recording, which `split_noise`
withholds from training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kws.audio.level import rms
from kws.audio.samples import SAMPLE_RATE_HZ, Pcm, to_int16
from kws.data.clips import NOISE_FOLDER, audio_in
from kws.data.noise_recordings import HELD_OUT_SHARE, draw_noise, read_held_out
from kws.errors import KwsError, some
from kws.wording import counted

SNRS_DB = (20.0, 10.0, 5.0, 0.0)
"""Ratios of speech to noise to measure at."""
_WIDEST_DB = 100.0

Place = tuple[int, int, int]
"""A piece of noise: its recording's first sample and the one after the last, and its own start."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Background:
    """Noise to mix into clips."""

    samples: Pcm
    """Recordings, concatenated: int16 [total]."""
    snrs_db: tuple[float, ...]
    """Ratios of speech to noise, in dB."""

    def piece(self, place: Place, length: int) -> Pcm:
        """Return a piece of noise, int16 [length]; recordings are looped."""
        first, last, at = place
        if at + length <= last:
            return self.samples[at : at + length]
        return np.resize(np.concatenate([self.samples[at:last], self.samples[first:at]]), length)


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOutNoise:
    """The ends of noise recordings."""

    samples: Pcm
    """All ends, concatenated: int16 [total]."""
    ends: tuple[Pcm, ...]
    """Each of them, a view of `samples`."""
    skipped: tuple[str, ...]
    """Names of recordings whose end is too short or silent."""

    def places(self, n: int, length: int, *, seed: int = 0) -> list[Place]:
        """Draw n pieces of noise: a uniform choice of recording and of position in it.

        Args:
            n: number of pieces.
            length: samples of each that lie within the recording.
            seed: another seed gives other pieces.

        Raises:
            KwsError: almost everything is digital silence.
        """
        rng = np.random.default_rng(seed)
        firsts = np.cumsum([0, *map(len, self.ends)]).tolist()
        places = []
        for _ in range(n):
            which, start = draw_noise(self.ends, length, rng)
            places.append((firsts[which], firsts[which + 1], firsts[which] + start))
        return places


def held_out_noise(
    folder: str | Path, length: int, *, sample_rate_hz: int = SAMPLE_RATE_HZ
) -> HeldOutNoise:
    """Read the end of each recording of noise below a folder.

    Args:
        folder: recordings, or a data set with a folder ``_background_noise_``.
        length: ends of fewer samples are skipped.
        sample_rate_hz: of the result.

    Raises:
        KwsError: no such folder, no recordings in it, a recording that cannot be read, or all ends
            are too short or silent.
    """
    root = Path(folder)
    if (root / NOISE_FOLDER).is_dir():
        root = root / NOISE_FOLDER
    paths = audio_in(root)
    read = read_held_out(paths, sample_rate_hz)
    long = [len(pcm) >= length for pcm in read]
    if not any(long):
        needed_s, longest_s = (n / sample_rate_hz for n in (length, max(map(len, read))))
        raise KwsError(
            f"The noise in {root} is shorter than a clip. Received: "
            f"{counted(len(read), 'recording')}, and "
            f"of the longest {longest_s:.2f} s are not for training; {needed_s:.2f} s are "
            f"needed. Give recordings of {math.ceil(needed_s / HELD_OUT_SHARE)} s or more"
        )
    usable = [enough and rms(pcm) >= 1 for enough, pcm in zip(long, read, strict=True)]
    if not any(usable):
        raise KwsError(
            f"The noise in {root} is silent. Received: "
            f"{counted(sum(long), 'recording')}, each with an RMS "
            "below one step of 16 bits. Give recordings of noise"
        )
    ends = [pcm for pcm, good in zip(read, usable, strict=True) if good]
    samples = np.concatenate(ends)
    return HeldOutNoise(
        samples=samples,
        ends=tuple(np.split(samples, np.cumsum([len(pcm) for pcm in ends])[:-1])),
        skipped=tuple(path.name for path, good in zip(paths, usable, strict=True) if not good),
    )


def check_ratios(snrs_db: Sequence[float]) -> tuple[float, ...]:
    """Return the ratios without duplicates, from the highest to the lowest.

    Raises:
        KwsError: none, or one that is not a number from -100 to 100.
    """
    wrong = [snr for snr in snrs_db if not -_WIDEST_DB <= snr <= _WIDEST_DB]  # NaN too
    if wrong or not snrs_db:
        raise KwsError(
            "A speech-to-noise ratio must be -100 to 100 dB. Received: "
            f"{some([f'{snr:g}' for snr in wrong]) if wrong else 'none'}"
        )
    return tuple(sorted(map(float, set(snrs_db)), reverse=True))


def coloured_noise(
    n: int, slope: float, rng: np.random.Generator, *, lowest_hz: float = 20.0
) -> npt.NDArray[np.float64]:
    """Generate noise whose amplitude falls with frequency to the power of `slope`.

    Args:
        n: samples at 16 kHz.
        slope: 0 is white, 0.5 pink, 1 brown.
        rng: advances.
        lowest_hz: below this the spectrum is flat.

    Returns:
        float64 [n], peak 1.
    """
    spectrum = np.fft.rfft(rng.standard_normal(n))
    frequency = np.maximum(np.fft.rfftfreq(n, 1 / SAMPLE_RATE_HZ), lowest_hz)
    samples = np.fft.irfft(spectrum / frequency**slope, n)
    return samples / np.abs(samples).max()


def synthetic_noise(seconds: int = 60) -> list[Pcm]:
    """Generate white, pink and brown noise, int16 [n] each at 16 kHz, always the same.

    For those who have no recordings of noise.
    """
    rng = np.random.default_rng(0)
    n = seconds * SAMPLE_RATE_HZ
    return [to_int16(0.5 * coloured_noise(n, slope, rng)) for slope in (0.0, 0.5, 1.0)]


def mix(speech: Pcm, noise: Pcm, snr_db: float) -> Pcm:
    """Mix noise into a clip.

    If the sum would exceed 16 bits, both are attenuated alike, so that no word is clipped. Digital
    silence has no level, so no noise is added to it.

    Args:
        speech: int16 [n].
        noise: int16 [m], not silent; m >= n, and the rest continues after the speech.
        snr_db: RMS of all of `speech` over RMS of all of `noise`, in dB.

    Returns:
        int16 [m].
    """
    mixed = noise.astype(np.float64) * (rms(speech) / rms(noise) * 10 ** (-snr_db / 20))
    mixed[: len(speech)] += speech
    peak = np.abs(mixed).max()
    if peak > 32767:
        mixed *= 32767 / peak
    return np.rint(mixed).astype(np.int16)
