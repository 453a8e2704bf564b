"""The self-test's signal: a crude voice that says a few words, synthesised in integer arithmetic.

A board generates it, so no recording takes up flash. For each sound, pulses or noise excite three
resonators; with the formants of vowels this is enough for a network trained on human speech to
detect "no", "on" and "up". `runtime/kws_self_test.c` does the same.

Formant frequencies: Peterson & Barney, "Control Methods Used in a Study of the Vowels" (1952),
rounded.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FORMANT_GAIN = (20, -12, 7)
"""Weights of the resonators' outputs; their signs alternate as the phases do."""
PULSE = 1500
"""Height of the pulse that excites the resonators once in each period."""

# Name: (frequency, bandwidth) of each formant in Hz.
_FORMANTS = {
    "ah": ((750, 80), (1200, 100), (2500, 150)),
    "uh": ((620, 80), (1200, 100), (2500, 150)),
    "oh": ((500, 70), (850, 80), (2400, 150)),
    "oo": ((320, 60), (850, 80), (2300, 150)),
    "n": ((260, 80), (1300, 200), (2400, 250)),
    "p": ((1500, 2000), (3500, 2000), (6000, 2000)),
}
_NOISE = ("p",)

# (sound, ms, loudness 0 to 64). A loudness of 0 is silence.
_PAUSE = ("uh", 700, 0)
# A pitch in Hz and the sounds of a word, chosen so that `commands_en` detects it.
_WORDS = (
    (260, (("n", 92, 18), ("uh", 48, 64), ("oh", 112, 64), ("oo", 74, 34))),  # no
    (100, (("ah", 312, 64), ("n", 151, 14))),  # on
    (110, (("uh", 124, 45), ("n", 42, 0), ("p", 48, 6))),  # up
    (90, (("n", 90, 19), ("uh", 60, 64), ("oh", 150, 64), ("oo", 100, 38))),  # no
    (140, (("ah", 194, 61), ("n", 146, 14))),  # on
    (155, (("uh", 120, 64), ("n", 57, 0), ("p", 47, 3))),  # up
)


@dataclass(frozen=True, kw_only=True)
class Sound:
    """One sound of the signal, in the units of the C structure `kws_sound`."""

    samples: int
    """Its length."""
    period: int
    """Samples from pulse to pulse; 0 means noise."""
    loudness: int
    """0 to 64."""
    feedback: tuple[tuple[int, int], ...]
    """For each resonator a and b, Q14: y = x + a y[-1] - b y[-2]."""


def sounds(rate_hz: int = 16_000) -> list[Sound]:
    """Return the sounds of the signal in order: the words, each after a pause."""
    return [
        Sound(
            samples=ms * rate_hz // 1000,
            period=0 if name in _NOISE else rate_hz // pitch_hz,
            loudness=loudness,
            feedback=tuple(_resonator(*formant, rate_hz) for formant in _FORMANTS[name]),
        )
        for pitch_hz, word in _WORDS
        for name, ms, loudness in (_PAUSE, *word)
    ]


@functools.lru_cache(maxsize=2)
def signal(rate_hz: int = 16_000) -> NDArray[np.int16]:
    """Return the signal, int16 [n] (about 6 s, read-only), bit for bit as the C makes it."""
    pcm = []
    held = [[0, 0] for _ in FORMANT_GAIN]
    random = 1
    since_pulse = 0
    for sound in sounds(rate_hz):
        for _ in range(sound.samples):
            random = next_random(random)
            since_pulse = since_pulse + 1 if since_pulse + 1 < sound.period else 0
            x = (random >> 24) - 128 if not sound.period else 0 if since_pulse else PULSE
            mixed = 0
            for y, (a, b), gain in zip(held, sound.feedback, FORMANT_GAIN, strict=True):
                new = max(-32767, min(32767, x + _cut(a * y[0] - b * y[1], 14)))
                y[:] = new, y[0]
                mixed += gain * new
            value = _cut(mixed * sound.loudness, 11) + (random >> 8 & 63) - 32
            pcm.append(max(-32768, min(32767, value)))
    samples = np.array(pcm, np.int16)
    samples.flags.writeable = False
    return samples


def next_random(x: int) -> int:
    """Return the number after x (not 0) in xorshift32 (Marsaglia, "Xorshift RNGs", 2003)."""
    x ^= (x << 13) & 0xFFFFFFFF
    x ^= x >> 17
    return x ^ ((x << 5) & 0xFFFFFFFF)


def _resonator(frequency_hz: float, bandwidth_hz: float, rate_hz: int) -> tuple[int, int]:
    radius = math.exp(-math.pi * bandwidth_hz / rate_hz)
    a = 2 * radius * math.cos(2 * math.pi * frequency_hz / rate_hz)
    return round(a * 2**14), round(radius * radius * 2**14)


def _cut(value: int, bits: int) -> int:
    """Divide by 2**bits and drop the fraction, as C's division does."""
    return value >> bits if value >= 0 else -(-value >> bits)
