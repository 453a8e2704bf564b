"""How clips are moved, stretched and amplified when they are laid into a sequence.

Drawn here and not on the device, because what the network should say, and when, depends on where
a word comes to lie.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kws.recipe import AugmentConfig


@dataclass(frozen=True, kw_only=True)
class Variation:
    """What is done to each clip; all float32 [sequences, clips]."""

    speed: npt.NDArray[np.float32]
    """1.1 is a tenth faster (and higher), about the clip's centre."""
    shift: npt.NDArray[np.float32]
    """In samples: how far from the clip's centre the sample was that comes to lie there."""
    gain: npt.NDArray[np.float32]
    """Factor on the samples."""

    def array(self, background: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return what `kws.train.layers.RandomAudio` takes.

        Args:
            background: level of the background beneath each sequence, float32 [sequences].

        Returns:
            float32 [sequences, clips, 4].
        """
        beneath = np.broadcast_to(background[:, None], self.gain.shape)
        return np.stack([self.speed, self.shift, self.gain, beneath], axis=-1)

    def where(self, chosen: npt.NDArray[np.bool_], other: Variation) -> Variation:
        """Return this, and the `other` where `chosen`, bool [sequences, clips]."""
        return Variation(
            speed=np.where(chosen, other.speed, self.speed),
            shift=np.where(chosen, other.shift, self.shift),
            gain=np.where(chosen, other.gain, self.gain),
        )

    def moved(self, places: npt.NDArray[np.integer], clip_samples: int) -> npt.NDArray[np.float64]:
        """Return where samples of the recordings come to lie, [sequences, clips, n] → the same."""
        centre = (clip_samples - 1) / 2
        shift, speed = (x[..., None].astype(np.float64) for x in (self.shift, self.speed))
        return (places - centre - shift) / speed + centre

    def origins(
        self, clip: npt.NDArray[np.integer], places: npt.NDArray[np.integer], clip_samples: int
    ) -> npt.NDArray[np.float64]:
        """Return which samples of the recordings came to lie at some places; `moved` backwards.

        Args:
            clip: of the sequence, for each place [n].
            places: samples from that clip's start [n].
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
    """Draw for clips of `shape` (sequences, clips); factors are as likely up as down."""
    limit, shift = np.log1p(config.speed), config.shift_ms * sample_rate_hz / 1000
    gain_db = rng.uniform(*config.gain_db, shape)
    return Variation(
        speed=np.exp(rng.uniform(-limit, limit, shape)).astype(np.float32),
        shift=rng.uniform(-shift, shift, shape).astype(np.float32),
        gain=(10 ** (gain_db / 20)).astype(np.float32),
    )


def draw_gain(config: AugmentConfig, rng: np.random.Generator, shape: tuple[int, int]) -> Variation:
    """Draw one gain for all clips of a sequence, and leave them where they are: one stretch."""
    gain_db = rng.uniform(*config.gain_db, (shape[0], 1))
    return Variation(
        speed=np.ones(shape, np.float32),
        shift=np.zeros(shape, np.float32),
        gain=np.broadcast_to(10 ** (gain_db / 20), shape).astype(np.float32),
    )


def draw_background(
    config: AugmentConfig, rng: np.random.Generator, levels: npt.NDArray[np.floating]
) -> npt.NDArray[np.float32]:
    """Draw the level of the background beneath each sequence.

    It follows the quietest speech: were it to follow the mean, one loud clip would bury the others
    of its sequence, whose words nobody could then tell.

    Args:
        config: how often, and how far below the speech.
        rng: draws.
        levels: RMS of each clip after its gain [sequences, clips]; 0 for a clip without speech.

    Returns:
        RMS, float32 [sequences]; 0 for none, as for sequences without any speech, whose clips are
        background themselves.
    """
    n = len(levels)
    quietest = np.where(levels > 0, levels, np.inf).min(axis=1)
    below = 10 ** (rng.uniform(*config.snr_db, n) / 20)
    mixed = (rng.random(n) < config.noise_share) & np.isfinite(quietest)
    return np.where(mixed, quietest / below, 0.0).astype(np.float32)


def draw_stretches(rng: np.random.Generator, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Draw for each sequence which clips in a row, one to all, are replaced by running speech.

    Returns:
        bool [sequences, clips].
    """
    sequences, clips = shape
    length = rng.integers(1, clips + 1, size=(sequences, 1))
    first = rng.integers(0, clips - length + 1)
    place = np.arange(clips)
    return (place >= first) & (place < first + length)
