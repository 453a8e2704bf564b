"""How clips are shifted, stretched and amplified when they are joined into a sequence.

Drawn here and not on the device, because the targets depend on where a word ends up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kws.data.phones import FRAME_SAMPLES
from kws.recipe import AugmentConfig


@dataclass(frozen=True, kw_only=True)
class Variation:
    """How each clip is changed; all float32 [sequences, clips]."""

    speed: npt.NDArray[np.float32]
    """Factor about the clip's centre: 1.1 is a tenth faster (and higher)."""
    shift: npt.NDArray[np.float32]
    """In samples: the sample this far from the clip's centre moves to the centre."""
    gain: npt.NDArray[np.float32]
    """Factor on the samples."""

    def array(self, background: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the input of `kws.train.layers.RandomAudio`.

        Args:
            background: level of the background beneath each sequence, float32 [sequences].

        Returns:
            float32 [sequences, clips, 4].
        """
        beneath = np.broadcast_to(background[:, None], self.gain.shape)
        return np.stack([self.speed, self.shift, self.gain, beneath], axis=-1)

    def where(self, chosen: npt.NDArray[np.bool_], other: Variation) -> Variation:
        """Return this variation, but `other` where `chosen`, bool [sequences, clips], is true."""
        return Variation(
            speed=np.where(chosen, other.speed, self.speed),
            shift=np.where(chosen, other.shift, self.shift),
            gain=np.where(chosen, other.gain, self.gain),
        )

    def moved(self, places: npt.NDArray[np.integer], clip_samples: int) -> npt.NDArray[np.float64]:
        """Return where samples of the recordings end up, [sequences, clips, n] → the same."""
        centre = (clip_samples - 1) / 2
        shift, speed = (x[..., None].astype(np.float64) for x in (self.shift, self.speed))
        return (places - centre - shift) / speed + centre

    def origins(
        self, clip: npt.NDArray[np.integer], places: npt.NDArray[np.integer], clip_samples: int
    ) -> npt.NDArray[np.float64]:
        """Return which samples of the recordings ended up at some places; the inverse of `moved`.

        Args:
            clip: the clip in the sequence, for each place [n].
            places: in samples from that clip's start [n].
            clip_samples: length of a clip.

        Returns:
            Samples from the recording's start [sequences, n].
        """
        centre = (clip_samples - 1) / 2
        shift, speed = (x[:, clip].astype(np.float64) for x in (self.shift, self.speed))
        return (places - centre) * speed + centre + shift


def draw_variation(
    config: AugmentConfig,
    rng: np.random.Generator,
    shape: tuple[int, int],
    *,
    sample_rate_hz: int,
) -> Variation:
    """Draw for clips of `shape` (sequences, clips); a speed-up is as likely as a slow-down."""
    limit, shift = np.log1p(config.speed), config.shift_ms * sample_rate_hz / 1000
    gain_db = rng.uniform(*config.gain_db, shape)
    return Variation(
        speed=np.exp(rng.uniform(-limit, limit, shape)).astype(np.float32),
        shift=rng.uniform(-shift, shift, shape).astype(np.float32),
        gain=(10 ** (gain_db / 20)).astype(np.float32),
    )


def draw_gain(config: AugmentConfig, rng: np.random.Generator, shape: tuple[int, int]) -> Variation:
    """Draw one gain for all clips of a sequence, and leave their timing: they are one recording."""
    gain_db = rng.uniform(*config.gain_db, (shape[0], 1))
    return Variation(
        speed=np.ones(shape, np.float32),
        shift=np.zeros(shape, np.float32),
        gain=np.broadcast_to(10 ** (gain_db / 20), shape).astype(np.float32),
    )


def draw_background(
    config: AugmentConfig, rng: np.random.Generator, levels: npt.NDArray[np.floating]
) -> npt.NDArray[np.float32]:
    """Draw the level of the background of each sequence.

    It is relative to the quietest speech: relative to the mean, with one loud clip in a sequence
    the noise would bury the words of the others.

    Args:
        config: how often, and how far below the speech.
        rng: draws.
        levels: RMS of each clip after its gain [sequences, clips]; 0 for a clip without speech.

    Returns:
        RMS, float32 [sequences]; 0 for no background, as in sequences without any speech, whose
        clips are background themselves.
    """
    n = len(levels)
    quietest = np.where(levels > 0, levels, np.inf).min(axis=1)
    below = 10 ** (rng.uniform(*config.snr_db, n) / 20)
    mixed = (rng.random(n) < config.noise_share) & np.isfinite(quietest)
    return np.where(mixed, quietest / below, 0.0).astype(np.float32)


def draw_stretches(rng: np.random.Generator, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Draw for each sequence the run of clips, one to all, that running speech replaces.

    Returns:
        bool [sequences, clips].
    """
    sequences, clips = shape
    length = rng.integers(1, clips + 1, size=(sequences, 1))
    first = rng.integers(0, clips - length + 1)
    place = np.arange(clips)
    return (place >= first) & (place < first + length)


def cut_stretches(
    pcm: npt.NDArray[np.int16],
    phones: npt.NDArray[np.int8],
    stretch_speed: float,
    rng: np.random.Generator,
    shape: tuple[int, int],
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int8]]:
    """Cut a sequence out of each stretch of running speech, at a random place and speed.

    Args:
        pcm: stretches, longer than a sequence [n, samples].
        phones: their phonemes [n, clips, samples / 160 in a clip].
        stretch_speed: largest change of speed; a speed-up is as likely as a slow-down.
        rng: draws.
        shape: clips in a sequence, and samples in a clip.

    Returns:
        The sequences, int16 [n, clips, samples], zeros where a stretch is too short; and their
        phonemes, int8 [n, clips, samples / 160].
    """
    n, held = pcm.shape
    clips, samples = shape
    limit = np.log1p(stretch_speed)
    speeds = np.exp(rng.uniform(-limit, limit, n)).astype(np.float32)
    # Short stretches are padded with zeros at the end; no cut should start late to include them.
    spoken = held - np.argmax(pcm[:, ::-1] != 0, axis=1)
    firsts = rng.random(n) * np.maximum(0, spoken - 1 - clips * samples * speeds)
    firsts = firsts.astype(np.float32)
    time = np.arange(clips * samples, dtype=np.float32)
    cuts = np.empty((n, clips * samples), np.int16)
    for cut, stretch, speed, first in zip(
        cuts, pcm, speeds, firsts.astype(np.float32), strict=True
    ):
        # Single precision and one stretch at a time: three times as fast as all at once.
        place = time * speed + first
        left = place.astype(np.int32)
        ahead = np.append(stretch, np.zeros(2, np.int16)).astype(np.float32)
        before = ahead.take(left, mode="clip")
        step = ahead.take(left + 1, mode="clip") - before
        cut[:] = np.rint(before + step * (place - left))
    frame = np.arange(clips * samples // FRAME_SAMPLES) + 0.5
    heard = (frame * speeds[:, None] + firsts[:, None] / FRAME_SAMPLES).astype(np.int64)
    phones = phones.reshape(n, -1)
    phonemes = np.take_along_axis(phones, np.minimum(heard, phones.shape[1] - 1), axis=1)
    return cuts.reshape(n, clips, samples), phonemes.reshape(n, clips, -1)
