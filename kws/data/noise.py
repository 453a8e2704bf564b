"""Clips in noise: which piece of background each one hears, and how loud.

The ratio is that of RMS levels over the whole clip, as in `torchaudio.functional.add_noise` and in
audiomentations' `AddBackgroundNoise`, which microWakeWord mixes with: the common reading of "at
10 dB" for keywords. Speech Commands' own tools and those of MLPerf Tiny mix at a volume of the
noise alone and know no ratio. Zeros that pad a short clip do not count, as with torchaudio's
`lengths`; the noise goes on under them, as it would in a room. A word fills only a part of its
clip: over the word alone (`kws.data.spans`) the ratio is 3.8 dB higher (median of Speech Commands'
validation clips).

What is mixed in was not trained on: the end of each recording, which `split_noise` keeps from
training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kws.audio.level import rms
from kws.audio.samples import SAMPLE_RATE_HZ, Pcm
from kws.data.clips import NOISE_FOLDER, audio_in
from kws.data.noise_recordings import HELD_OUT_SHARE, draw_noise, read_held_out
from kws.errors import KwsError, some
from kws.wording import counted

SNRS_DB = (20.0, 10.0, 5.0, 0.0)
"""Ratios of speech to noise to measure at."""
_WIDEST_DB = 100.0

Place = tuple[int, int, int]
"""A piece of noise: the first sample of its recording, the one after its last, where it begins."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Background:
    """Noise to mix into clips."""

    samples: Pcm
    """Recordings, one after the other: int16 [total]."""
    snrs_db: tuple[float, ...]
    """Ratios of speech to noise, in dB."""

    def piece(self, place: Place, length: int) -> Pcm:
        """Return a piece of noise, int16 [length]; a recording that ends begins again."""
        first, last, at = place
        if at + length <= last:
            return self.samples[at : at + length]
        return np.resize(np.concatenate([self.samples[at:last], self.samples[first:at]]), length)


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOutNoise:
    """The ends of noise recordings."""

    samples: Pcm
    """One after the other: int16 [total]."""
    ends: tuple[Pcm, ...]
    """Each of them, a view of `samples`."""
    passed_over: tuple[str, ...]
    """Names of recordings whose end is too short or silent."""

    def places(self, n: int, length: int, *, seed: int = 0) -> list[Place]:
        """Draw n pieces of noise, each from a recording and a place drawn uniformly.

        Args:
            n: how many.
            length: samples of each that lie within the recording.
            seed: other pieces for another seed.

        Raises:
            KwsError: there is nearly nothing but digital silence.
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
        folder: of recordings, or a data set with a folder ``_background_noise_``.
        length: an end shorter than so many samples is passed over.
        sample_rate_hz: of the result.

    Raises:
        KwsError: no such folder, nothing in it, a recording that cannot be read, or all ends are
            too short or silent.
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
            f"of the longest {longest_s:.2f} s that are not for training; needed are "
            f"{needed_s:.2f} s. Give recordings of {math.ceil(needed_s / HELD_OUT_SHARE)} s or more"
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
        passed_over=tuple(path.name for path, good in zip(paths, usable, strict=True) if not good),
    )


def check_ratios(snrs_db: Sequence[float]) -> tuple[float, ...]:
    """Return the ratios, each once, from the highest to the lowest.

    Raises:
        KwsError: none, or one that is no number from -100 to 100.
    """
    wrong = [snr for snr in snrs_db if not -_WIDEST_DB <= snr <= _WIDEST_DB]  # NaN too
    if wrong or not snrs_db:
        raise KwsError(
            "A ratio of speech to noise is a number of dB from -100 to 100. Received: "
            f"{some([f'{snr:g}' for snr in wrong]) if wrong else 'none'}"
        )
    return tuple(sorted(map(float, set(snrs_db)), reverse=True))


def mix(speech: Pcm, noise: Pcm, snr_db: float) -> Pcm:
    """Mix noise into a clip.

    Where the sum would exceed 16 bits, both are made quieter alike, so that no word is clipped.
    In a clip of digital silence there is no level to go by; it stays as it is.

    Args:
        speech: int16 [n].
        noise: int16 [m], not silent; m >= n, and what is longer goes on after the speech.
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
