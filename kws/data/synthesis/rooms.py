"""Room acoustics: impulse responses from a speaker's mouth to a microphone in a shoebox room.

The image-source method: walls reflect like mirrors, so reflected sound seems to come straight from
mirror images of the speaker, delayed and attenuated by their distance and by the absorption of each
wall on the way. Absorption is the same for all walls and frequencies.

Sources: J. Allen and D. Berkley, "Image method for efficiently simulating small-room acoustics",
JASA 65 (1979), with their high-pass filter; C. Eyring, "Reverberation time in 'dead' rooms", JASA 1
(1930), for the walls that give a wanted reverberation time.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kws.audio.samples import SAMPLE_RATE_HZ

SPEED_OF_SOUND_M_S = 343.0
DISTANCES_M = (0.3, 4.0)
"""From mouth to microphone; its logarithm is drawn uniformly."""
RT60_S = (0.15, 0.6)
"""Reverberation times of furnished rooms, from a study to a living room with bare walls."""
SIZES_M = ((2.5, 8.0), (2.2, 6.0), (2.2, 3.2))
"""Length, width and height."""

_FROM_WALL_M = 0.2
_HEARD_DB = 40.0
"""A response ends once it has decayed by this much."""
_HIGH_PASS_HZ = 100.0
_FADE_S = 0.03


@dataclass(frozen=True, kw_only=True)
class Room:
    """A shoebox room with a speaker and a microphone."""

    size_m: tuple[float, float, float]
    """Length, width, height."""
    absorption: float
    """Share of the energy that a wall absorbs, above 0 and below 1."""
    mouth_m: tuple[float, float, float]
    """Position of the speaker's mouth."""
    microphone_m: tuple[float, float, float]
    """Position of the microphone."""

    @property
    def distance_m(self) -> float:
        """From mouth to microphone."""
        return math.dist(self.mouth_m, self.microphone_m)

    @property
    def rt60_s(self) -> float:
        """Eyring's reverberation time: how long sound takes to decay by 60 dB."""
        return _eyring(self.size_m) / -math.log(1 - self.absorption)


def _eyring(size_m: tuple[float, float, float]) -> float:
    """Return the reverberation time in seconds of a room whose walls absorb 1 - 1/e."""
    x, y, z = size_m
    surface = 2 * (x * y + y * z + z * x)
    return 24 * math.log(10) / SPEED_OF_SOUND_M_S * x * y * z / surface


def random_room(rng: np.random.Generator) -> Room:
    """Draw a room of a home: size, reverberation, and positions of mouth and microphone.

    Rooms too small for the distance that was drawn are drawn again.
    """
    low, high = np.log(DISTANCES_M)
    distance = float(np.exp(rng.uniform(low, high)))
    while True:
        size = np.array([rng.uniform(*span) for span in SIZES_M])
        rt60 = rng.uniform(*RT60_S)
        mouth, direction = rng.uniform(_FROM_WALL_M, size - _FROM_WALL_M), rng.standard_normal(3)
        # People speak at about the height of the microphone.
        direction[2] *= 0.3
        microphone = mouth + distance * direction / np.linalg.norm(direction)
        if np.all((microphone > _FROM_WALL_M) & (microphone < size - _FROM_WALL_M)):
            size_m = (float(size[0]), float(size[1]), float(size[2]))
            return Room(
                size_m=size_m,
                absorption=1 - math.exp(-_eyring(size_m) / rt60),
                mouth_m=(float(mouth[0]), float(mouth[1]), float(mouth[2])),
                microphone_m=(float(microphone[0]), float(microphone[1]), float(microphone[2])),
            )


def impulse_response(
    room: Room, *, seconds: float | None = None, high_pass: bool = True
) -> NDArray[np.float64]:
    """Return the impulse response from mouth to microphone.

    A sound from r metres away arrives r / 343 s later, at the nearest sample, with 1 / r of its
    amplitude, times sqrt(1 - absorption) for each wall that reflected it.

    Args:
        room: the room.
        seconds: length; `None`: until it has decayed by 40 dB.
        high_pass: remove frequencies below 100 Hz, which a sum of positive pulses exaggerates.

    Returns:
        float64 [n] at 16 kHz; the sound is emitted at sample 0.
    """
    direct_s = room.distance_m / SPEED_OF_SOUND_M_S
    if seconds is None:
        seconds = direct_s + room.rt60_s * _HEARD_DB / 60
    n = max(1, round(seconds * SAMPLE_RATE_HZ)) + 1
    farthest = seconds * SPEED_OF_SOUND_M_S
    reflection = math.sqrt(1 - room.absorption)
    # Along each axis: distances of the images, and the number of walls on the way.
    # Image 2k is the mouth, shifted by k double lengths; 2k + 1 is its mirror image.
    aways, walls = [], []
    for size, mouth, microphone in zip(room.size_m, room.mouth_m, room.microphone_m, strict=True):
        k = np.arange(-math.ceil(farthest / (2 * size)) - 1, math.ceil(farthest / (2 * size)) + 2)
        straight = 2 * k * size + mouth - microphone
        mirrored = 2 * k * size - mouth - microphone
        aways.append(np.concatenate([straight, mirrored]))
        walls.append(np.concatenate([2 * np.abs(k), np.abs(k) + np.abs(k - 1)]))
    response = np.zeros(n)
    flat = aways[1][:, None] ** 2 + aways[2][None, :] ** 2
    bounces = walls[1][:, None] + walls[2][None, :]
    for away, met in zip(aways[0], walls[0], strict=True):
        within = flat < farthest**2 - away**2
        if not within.any():
            continue
        distance = np.sqrt(flat[within] + away**2)
        at = np.rint(distance * (SAMPLE_RATE_HZ / SPEED_OF_SOUND_M_S)).astype(np.intp)
        weight = reflection ** (bounces[within] + met) / distance
        response += np.bincount(at, weight, minlength=n)[:n]
    return _convolve(response, _high_pass())[:n] if high_pass else response


@functools.cache
def _high_pass() -> NDArray[np.float64]:
    """Return the impulse response of Allen and Berkley's filter."""
    w = 2 * math.pi * _HIGH_PASS_HZ / SAMPLE_RATE_HZ
    r = math.exp(-w)
    b1, b2 = 2 * r * math.cos(w), -r * r
    taps, y1, y2 = [], 0.0, 0.0
    for i in range(SAMPLE_RATE_HZ // 20):
        x = (1.0, -(1 + r), r)[i] if i < 3 else 0.0
        y1, y2 = x + b1 * y1 + b2 * y2, y1
        taps.append(y1)
    return np.array(taps)


def _convolve(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    n = len(one) + len(other) - 1
    size = 1 << (n - 1).bit_length()
    return np.fft.irfft(np.fft.rfft(one, size) * np.fft.rfft(other, size), size)[:n]


class Rooms:
    """A set of simulated rooms for a share of all recordings.

    Args:
        share: share of recordings in a room; the others are made close to the mouth, without one.
        count: number of rooms.
        seed: of the random generator.
    """

    def __init__(self, *, share: float = 0.5, count: int = 50, seed: int = 0) -> None:
        self.share = share
        self._responses = []
        for i in range(count if share > 0 else 0):
            room = random_room(np.random.default_rng([seed, i]))
            # The delay of the direct sound is inaudible, so it is removed.
            delay = round(room.distance_m / SPEED_OF_SOUND_M_S * SAMPLE_RATE_HZ)
            self._responses.append(impulse_response(room)[delay:])

    def record(self, pcm: NDArray[np.int16], rng: np.random.Generator) -> NDArray[np.float64]:
        """Place a recording in a random room, or in none.

        Args:
            pcm: int16 [n].
            rng: draws the room.

        Returns:
            float64 [m], m >= n: the sound and its reverberation, at any level, faded out.
        """
        sound = pcm.astype(np.float64)
        if not self._responses or rng.random() >= self.share:
            return sound
        wet = _convolve(sound, self._responses[int(rng.integers(len(self._responses)))])
        fade = min(len(wet), round(_FADE_S * SAMPLE_RATE_HZ))
        wet[-fade:] *= np.linspace(1, 0, fade)
        return wet
