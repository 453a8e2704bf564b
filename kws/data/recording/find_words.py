"""Utterances in a recording, found by energy, to cut words from your own recordings.

A recording is assumed to be quiet except for a few utterances. Its level is measured every 10 ms
between 150 and 7,000 Hz, so that hum and rumble do not count, and compared with the background, the
level that one frame in ten stays below. Sound that stands out long enough is an utterance. Short
gaps, as before a final "t" or between "snow" and "boy", are part of it; clicks and breaths are not.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from kws.audio.samples import SAMPLE_RATE_HZ, Pcm

MARGIN_S = 0.3
"""Margin of a clip before and after its word, where the recording is long enough."""
SHORTEST_CLIP_S = 1.0
"""Clips of short words have wider margins: training takes at least a second, and a shorter clip
would be padded with zeros, by which a network could tell it from other words."""
SHORTEST_S = 0.1
"""Shorter sounds are clicks, not words."""
LONGEST_S = 3.0
"""Longer sounds are running speech, not words."""
LONGEST_GAP_S = 0.25
"""Shorter gaps do not end a word."""

_HOP = SAMPLE_RATE_HZ // 100
_WIDTH = 2 * _HOP
_LOWEST_HZ, _HIGHEST_HZ = 150, 7000
_BLOCK = 4096
"""Frames measured at a time, which bounds memory."""

_QUIET_PERCENTILE = 10.0
_FLOOR_WINDOW_S = 10.0
"""Length of recording over which the background is taken to be constant."""
_LOWEST_FLOOR_DBFS = -75.0
"""Lowest background level: less (a noise gate, appended zeros) is inaudible."""

_STANDS_OUT_DB = 10.0
"""Least height of the loudest syllable above the background; otherwise there is no word."""
_RISE = 0.3
"""Position of the threshold between the levels of the background (0) and the loudest syllable (1),
in dB,"""
_DEEPEST_DB = 35.0
"""but at most this far below the loudest syllable,"""
_LEAST_RISE_DB = 5.0
"""and at least this far above the background."""
_SYLLABLE_FRAMES = 5
"""Shortest syllable; a click is shorter."""
_STRONG_DB = 20.0
"""A part this much quieter than its utterance's loudest syllable is a breath, or …"""
_CONSONANT_S, _CLOSURE_S = 0.16, 0.16
"""… a consonant at the word's end, if the part and the gap before it are at most this long."""
_LATEST_S = 0.6
"""Latest answer of a model after the end of the word."""
_SHORTER_GAPS_S = (0.15, 0.1, 0.06, 0.03)
_FAINT_DB = 22.0
"""An utterance this much quieter than the loudest in its recording is a background sound."""


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """A stretch of a recording that stands out of its background."""

    start: int
    """Its first sample."""
    end: int
    """The sample after its last."""
    level_dbfs: float
    """RMS of its loudest syllable, in dB relative to full scale."""
    noise_dbfs: float
    """Level of the background there."""

    @property
    def start_s(self) -> float:
        """Where it begins, in s."""
        return self.start / SAMPLE_RATE_HZ

    @property
    def end_s(self) -> float:
        """Where it ends, in s."""
        return self.end / SAMPLE_RATE_HZ

    @property
    def length_s(self) -> float:
        """How long it lasts, in s."""
        return (self.end - self.start) / SAMPLE_RATE_HZ


def find_utterances(pcm: Pcm, *, longest_gap_s: float = LONGEST_GAP_S) -> list[Utterance]:
    """Find the utterances in a recording.

    Args:
        pcm: int16 [n] at 16 kHz.
        longest_gap_s: shorter gaps do not end an utterance.

    Returns:
        The utterances, the earliest first; none if nothing stands out by 10 dB.
    """
    level = levels_dbfs(pcm)
    if len(level) < _SYLLABLE_FRAMES:
        return []
    floor = _floor(level)
    # The level held for a syllable, so that a bang does not count as the loudest.
    held = np.lib.stride_tricks.sliding_window_view(level, _SYLLABLE_FRAMES).min(axis=1)
    above = held - floor[: len(held)]
    peak = float(held.max())
    if above.max() < _STANDS_OUT_DB:
        return []
    rise = np.maximum(_RISE * (peak - floor), _LEAST_RISE_DB)
    loud = level >= np.maximum(floor + rise, peak - _DEEPEST_DB)
    found = []
    for piece in _grouped(_runs(loud), round(longest_gap_s * SAMPLE_RATE_HZ / _HOP)):
        parts = _without_breaths(piece, level)
        if not parts:
            continue
        first, last = parts[0][0], parts[-1][1]
        voiced = sum(end - start for start, end in parts)
        strongest = _syllable_level(level, first, last)
        if voiced * _HOP < SHORTEST_S * SAMPLE_RATE_HZ or strongest < peak - _FAINT_DB:
            continue
        if strongest - floor[first:last].min() < _STANDS_OUT_DB:
            continue
        # The level of a frame is that of its middle.
        start = 0 if first == 0 else first * _HOP + (_WIDTH - _HOP) // 2
        end = len(pcm) if last == len(level) else (last - 1) * _HOP + (_WIDTH + _HOP) // 2
        found.append(
            Utterance(
                start=start,
                end=end,
                level_dbfs=strongest,
                noise_dbfs=float(floor[first:last].mean()),
            )
        )
    return found


def strongest(utterances: Sequence[Utterance]) -> Utterance:
    """Return the utterance with the most energy (loudness and length combined)."""
    return max(utterances, key=lambda one: one.level_dbfs + 10 * math.log10(one.length_s))


def alike(utterances: Sequence[Utterance]) -> list[Utterance]:
    """Return the utterances that can be repetitions of one word.

    Their lengths are half to twice the median, their levels within 12 dB of it.
    """
    if not utterances:
        return []
    length = float(np.median([one.length_s for one in utterances]))
    level = float(np.median([one.level_dbfs for one in utterances]))
    return [
        one
        for one in utterances
        if length / 2 <= one.length_s <= 2 * length and abs(one.level_dbfs - level) <= 12
    ]


def utterance_at(
    pcm: Pcm, utterances: Sequence[Utterance], time_s: float, *, longest_s: float = LONGEST_S
) -> Utterance | None:
    """Return the utterance that a model responded to at `time_s`.

    Of an utterance that is too long for a word (running speech) the last part before that time is
    taken; its beginning is sought at shorter and shorter gaps.

    Args:
        pcm: the recording, int16 [n].
        utterances: what was found in it.
        time_s: the end of the audio after which the model was surest.
        longest_s: length of the longest word.

    Returns:
        The utterance; None if there was only background for `_LATEST_S`.
    """
    # The word may end in the same step, but began before it: a model does not look ahead.
    before = [one for one in utterances if one.start_s < time_s <= one.end_s + _LATEST_S]
    if not before:
        return None
    found = before[-1]
    if found.length_s <= longest_s:
        return found
    # With its surroundings, so that the background is known.
    around = round(_FLOOR_WINDOW_S / 2 * SAMPLE_RATE_HZ)
    offset = max(0, found.start - around)
    for gap_s in _SHORTER_GAPS_S:
        parts = [
            replace(part, start=part.start + offset, end=part.end + offset)
            for part in find_utterances(pcm[offset : found.end + around], longest_gap_s=gap_s)
        ]
        before = [part for part in parts if part.start_s < time_s <= part.end_s + _LATEST_S]
        if before and before[-1].length_s <= longest_s:
            return before[-1]
    # Without any gap, take what precedes the answer.
    end = min(found.end, round(time_s * SAMPLE_RATE_HZ))
    return replace(found, start=max(found.start, end - round(longest_s * SAMPLE_RATE_HZ)), end=end)


def cut_around(start: int, end: int, n_samples: int) -> tuple[int, int]:
    """Return the span of a recording to cut for a clip: first sample and the one after the last.

    A clip has `MARGIN_S` before and after the word, and more if it would be shorter than
    `SHORTEST_CLIP_S`.

    Args:
        start: the word's first sample.
        end: the sample after its last.
        n_samples: length of the recording.
    """
    shortest = SHORTEST_CLIP_S * SAMPLE_RATE_HZ
    margin = math.ceil(max(MARGIN_S * SAMPLE_RATE_HZ, (shortest - (end - start)) / 2))
    start, end = start - margin, end + margin
    # At an edge of the recording the other margin is extended if the clip would be too short.
    if start < 0:
        end = max(end, min(round(shortest), end - start))
    if end > n_samples:
        start = min(start, n_samples - round(shortest))
    return max(0, start), min(n_samples, end)


def levels_dbfs(pcm: Pcm) -> npt.NDArray[np.float64]:
    """Measure the level of speech every 10 ms.

    Args:
        pcm: int16 [n] at 16 kHz.

    Returns:
        RMS between 150 and 7,000 Hz over 20 ms, in dB relative to full scale [frames]; at least
        `_LOWEST_FLOOR_DBFS`.
    """
    frames = max(0, (len(pcm) - _WIDTH) // _HOP + 1)
    window = np.hanning(_WIDTH + 1)[:-1]
    spacing_hz = SAMPLE_RATE_HZ / _WIDTH
    band = slice(math.ceil(_LOWEST_HZ / spacing_hz), math.floor(_HIGHEST_HZ / spacing_hz) + 1)
    bins = np.arange(band.start, band.stop)
    made_up = (2 * np.sin(np.pi * bins * spacing_hz / SAMPLE_RATE_HZ)) ** -4.0
    level = np.empty(frames)
    for at in range(0, frames, _BLOCK):
        n = min(_BLOCK, frames - at)
        before = pcm[max(0, at * _HOP - 2) : at * _HOP] if at else pcm[[0, 0]]
        block = pcm[at * _HOP : (at + n - 1) * _HOP + _WIDTH]
        # Hum and offset would leak into the band. Differences remove them, and `made_up` corrects
        # for the effect of the differences on the band.
        part = np.diff(np.concatenate([before, block]).astype(np.float64) / 32768, 2)
        spectrum = np.fft.rfft(
            np.lib.stride_tricks.sliding_window_view(part, _WIDTH)[::_HOP] * window, axis=1
        )[:, band]
        # Parseval, corrected for the energy of the window.
        power = 2 * (spectrum.real**2 + spectrum.imag**2) @ made_up
        level[at : at + n] = power / (_WIDTH * (window**2).sum())
    return np.maximum(10 * np.log10(np.maximum(level, 1e-12)), _LOWEST_FLOOR_DBFS)


def _floor(level: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the level of the background at each frame."""
    width = round(_FLOOR_WINDOW_S * SAMPLE_RATE_HZ / _HOP)
    count = max(1, round(len(level) / width))
    edges = np.linspace(0, len(level), count + 1).astype(int)
    quiet = [
        np.percentile(level[a:b], _QUIET_PERCENTILE) for a, b in itertools.pairwise(edges.tolist())
    ]
    return np.interp(np.arange(len(level)), (edges[:-1] + edges[1:]) / 2, quiet)


_Run = tuple[int, int]


def _runs(loud: npt.NDArray[np.bool_]) -> list[_Run]:
    """Return uninterrupted runs of loud frames: first frame and the one after the last."""
    steps = np.flatnonzero(np.diff(np.concatenate([[False], loud, [False]]).astype(np.int8)))
    return list(zip(steps[::2].tolist(), steps[1::2].tolist(), strict=True))


def _grouped(runs: Sequence[_Run], longest_gap: int) -> list[list[_Run]]:
    """Join runs that are separated by no more than `longest_gap` frames."""
    groups: list[list[_Run]] = []
    for run in runs:
        if groups and run[0] - groups[-1][-1][1] <= longest_gap:
            groups[-1].append(run)
        else:
            groups.append([run])
    return groups


def _without_breaths(parts: list[_Run], level: npt.NDArray[np.float64]) -> list[_Run]:
    """Remove breaths and clicks at both ends of an utterance, but keep consonants of its word."""
    enough = max(_syllable_level(level, *part) for part in parts) - _STRONG_DB
    strong = [
        i
        for i, (start, end) in enumerate(parts)
        if end - start >= _SYLLABLE_FRAMES and _syllable_level(level, start, end) >= enough
    ]
    if not strong:
        return []
    first, last = strong[0], strong[-1]

    def consonant(i: int, gap: int) -> bool:
        length = parts[i][1] - parts[i][0]
        return max(length / _CONSONANT_S, gap / _CLOSURE_S) * _HOP <= SAMPLE_RATE_HZ

    if first and consonant(first - 1, parts[first][0] - parts[first - 1][1]):
        first -= 1
    if last + 1 < len(parts) and consonant(last + 1, parts[last + 1][0] - parts[last][1]):
        last += 1
    return parts[first : last + 1]


def _syllable_level(level: npt.NDArray[np.float64], first: int, last: int) -> float:
    """Return the highest level held for a syllable, or throughout a shorter part."""
    width = min(_SYLLABLE_FRAMES, last - first)
    view = np.lib.stride_tricks.sliding_window_view(level[first:last], width)
    return float(view.min(axis=1).max())
