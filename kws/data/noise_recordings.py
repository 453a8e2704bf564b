"""Recordings of noise: their split into training and validation, and silence clips from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kws.audio.files import read_audio
from kws.audio.level import rms
from kws.audio.samples import SAMPLE_RATE_HZ, Pcm
from kws.data.array_cache import Clips
from kws.data.clips import ClipIndex
from kws.errors import KwsError
from kws.system.processes import in_threads
from kws.wording import counted

HELD_OUT_SHARE = 0.2
"""Share at the end of each noise recording that is never trained on."""


def read_noise(index: ClipIndex) -> list[Pcm]:
    """Read the recordings in ``_background_noise_``: int16 [n] each; there may be none.

    Raises:
        KwsError: a recording cannot be read.
    """
    return list(in_threads(read_audio, index.noise))


def read_held_out(paths: Sequence[Path], sample_rate_hz: int = SAMPLE_RATE_HZ) -> list[Pcm]:
    """Read the end of each noise recording, which is never trained on: int16 [n] each.

    Raises:
        KwsError: a recording cannot be read.
    """

    def end_of(path: Path) -> Pcm:
        return split_noise([read_audio(path, sample_rate_hz)])[1][0].copy()

    return list(in_threads(end_of, paths))


def split_noise(
    recordings: Sequence[Pcm], held_out: float = HELD_OUT_SHARE
) -> tuple[list[Pcm], list[Pcm]]:
    """Split noise recordings: the beginning of each for training, the end for validation.

    Args:
        recordings: int16 [n] each.
        held_out: share at the end of each that is for validation.

    Returns:
        The parts for training and the parts for validation.
    """
    at = [round(len(recording) * (1 - held_out)) for recording in recordings]
    pairs = list(zip(recordings, at, strict=True))
    return [r[:cut] for r, cut in pairs], [r[cut:] for r, cut in pairs]


def noise_bank(recordings: Sequence[Pcm]) -> Pcm:
    """Concatenate noise recordings: int16 [total]."""
    return np.concatenate(recordings) if len(recordings) else np.empty(0, np.int16)


def silence_clips(
    recordings: Sequence[Pcm],
    n: int,
    clip_samples: int = 16000,
    levels_dbfs: tuple[float, float] = (-60.0, -10.0),
    seed: int = 0,
) -> Clips:
    """Cut clips of background noise, for the label ``_silence_``.

    Recording, position and RMS level in dB of each clip are drawn uniformly; peaks beyond full
    scale are clipped. Equal arguments give equal clips. Digital silence cannot be scaled and is
    drawn again.

    Args:
        recordings: noise, int16 [m] each.
        n: number of clips.
        clip_samples: length of a clip.
        levels_dbfs: lowest and highest RMS; 0 dBFS is the RMS of a full-scale square wave.
        seed: of the random numbers.

    Returns:
        int16 [n, clip_samples].

    Raises:
        KwsError: no recording is as long as a clip, or all are digital silence.
    """
    usable = [recording for recording in recordings if len(recording) >= clip_samples]
    if not usable:
        longest = max((len(recording) for recording in recordings), default=0)
        raise KwsError(
            f"No noise to cut silence from. Received: "
            f"{counted(len(recordings), 'recording')}, the longest "
            f"of {longest} samples; {clip_samples} are needed. "
            "Put longer recordings into _background_noise_"
        )
    rng = np.random.default_rng(seed)
    clips = np.empty((n, clip_samples), np.int16)
    for row in clips:
        level = rng.uniform(*levels_dbfs)
        which, start = draw_noise(usable, clip_samples, rng)
        cut = usable[which][start : start + clip_samples].astype(np.float64)
        gain = 32768 * 10 ** (level / 20) / rms(cut)
        row[:] = np.clip(np.rint(cut * gain), -32768, 32767)
    return clips


def draw_noise(
    recordings: Sequence[Pcm], samples: int, rng: np.random.Generator
) -> tuple[int, int]:
    """Draw a piece of noise: a uniform choice of recording and of position in it.

    Digital silence cannot be scaled, so such pieces are drawn again.

    Args:
        recordings: int16 [m] each, none shorter than the piece.
        samples: length of the piece.
        rng: advances.

    Returns:
        The recording's position in `recordings`, and where in it the piece begins.

    Raises:
        KwsError: all recordings are digital silence.
    """
    for _ in range(100):
        which = int(rng.integers(len(recordings)))
        start = int(rng.integers(len(recordings[which]) - samples + 1))
        if rms(recordings[which][start : start + samples]) >= 1:
            return which, start
    raise KwsError(
        "The noise recordings are silent. Received: an RMS below one step of 16 bits at 100 "
        "positions. Replace them by real recordings"
    )
