"""Non-words made from recorded words, as examples of what is not a keyword.

If a data set has few other words, a network takes anything unfamiliar for a keyword. Real voices
saying real phonemes in a meaningless order are an unlimited supply of other words: a word played
backwards, or the beginning of one word followed by the end of another.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kws.audio.level import rms

FADE_MS = 10
"""The halves of a spliced word overlap by this much."""
CUT = (0.35, 0.65)
"""Where words are cut for splicing, as a share of their length."""
PIECE_MS = (200, 700)
"""Shortest and longest piece cut from running speech."""

# Backwards or spliced, these turn into each other.
NOT_BACKWARDS = frozenset({"no", "on"})
ALIKE = (frozenset({"no", "go"}), frozenset({"on", "off"}), frozenset({"on", "no"}))

Clips = npt.NDArray[np.int16]


def backwards(clips: Clips, words: Sequence[str], n: int, rng: np.random.Generator) -> Clips:
    """Play `n` clips backwards, drawn from those whose word is not a word then.

    Args:
        clips: int16 [m, samples].
        words: the word in each [m].
        n: number of clips.
        rng: for the draw.

    Returns:
        int16 [n, samples]; fewer if there are fewer to draw from.
    """
    usable = np.flatnonzero([word not in NOT_BACKWARDS for word in words])
    return clips[rng.permutation(usable)[:n], ::-1]


def spliced(
    clips: Clips,
    words: Sequence[str],
    spans: npt.NDArray[np.integer],
    n: int,
    rng: np.random.Generator,
    *,
    sample_rate_hz: int = 16000,
) -> Clips:
    """Join the beginning of one word and the end of another, by the same or different speakers.

    Args:
        clips: int16 [m, samples], of at least two words that do not sound alike.
        words: the word in each [m].
        spans: start and end of each word, in samples [m, 2].
        n: number of clips.
        rng: for the draw.
        sample_rate_hz: of the clips.

    Returns:
        int16 [n, samples]; the second half has the level of the first.
    """
    names = sorted(set(words))
    number = {word: i for i, word in enumerate(names)}
    ids = np.array([number[word] for word in words])
    apart = np.array([[not _alike(a, b) for b in names] for a in names])
    if not n or not apart.any():
        return clips[:0]
    samples, fade = clips.shape[1], FADE_MS * sample_rate_hz // 1000
    up = np.linspace(0, 1, fade, dtype=np.float32)
    made = np.zeros((n, samples), np.int16)
    for row in made:
        while True:
            first, second = rng.integers(len(ids), size=2)
            if apart[ids[first], ids[second]]:
                break
        (a0, a1), (b0, b1) = spans[first], spans[second]
        head = clips[first, : a0 + round(rng.uniform(*CUT) * (a1 - a0)) + fade].astype(np.float32)
        tail = clips[second, b0 + round(rng.uniform(*CUT) * (b1 - b0)) :].astype(np.float32)
        tail *= _at_least_one(clips[first, a0:a1]) / _at_least_one(clips[second, b0:b1])
        head[-fade:] *= up[::-1]
        tail[:fade] *= up[: len(tail)]
        joined = np.zeros(len(head) + max(0, len(tail) - fade), np.float32)
        joined[: len(head)] = head
        joined[len(head) - fade :][: len(tail)] += tail[: len(joined) - len(head) + fade]
        # Centre the result in the clip.
        start = max(0, (len(joined) - samples) // 2)
        piece = joined[start : start + samples]
        at = (samples - len(piece)) // 2
        row[at : at + len(piece)] = np.clip(np.rint(piece), -32768, 32767)
    return made


def cut_out(
    windows: Clips, n: int, rng: np.random.Generator, *, sample_rate_hz: int = 16000
) -> Clips:
    """Cut word-length pieces from running speech, from one dip of its level to another.

    Args:
        windows: int16 [m, samples], running speech.
        n: number of pieces.
        rng: for the draw.
        sample_rate_hz: of the windows.

    Returns:
        int16 [n, samples]; each piece is centred, and the rest of its window is attenuated to the
        level of its quietest tenth.
    """
    samples = windows.shape[1]
    fade = FADE_MS * sample_rate_hz // 1000
    made = np.zeros((n if len(windows) else 0, samples), np.int16)
    for row in made:
        window = windows[rng.integers(len(windows))].astype(np.float32)
        levels = _levels(window, sample_rate_hz)
        start, end = _between_dips(levels, samples, rng, sample_rate_hz)
        quiet = min(1.0, np.quantile(levels, 0.1) / _at_least_one(window))
        # Ramps of `fade` samples on both sides.
        inside = np.clip(np.minimum(np.arange(samples) - start, end - np.arange(samples)), 0, fade)
        piece = window * (quiet + (1 - quiet) * inside / fade)
        row[:] = np.rint(np.roll(piece, (samples - start - end) // 2))
    return made


def _levels(samples: npt.NDArray[np.float32], sample_rate_hz: int) -> npt.NDArray[np.float64]:
    """Return the RMS of each 10 ms, smoothed over 50 ms."""
    size = sample_rate_hz // 100
    power = np.square(samples[: len(samples) // size * size]).reshape(-1, size).mean(axis=1)
    padded = np.pad(power, 2, mode="edge")
    return np.sqrt(np.convolve(padded, np.full(5, 0.2), "valid"))


def _between_dips(
    levels: npt.NDArray[np.float64], samples: int, rng: np.random.Generator, sample_rate_hz: int
) -> tuple[int, int]:
    """Choose two dips of the level that are a word's length apart; in samples."""
    size = sample_rate_hz // 100
    around = np.lib.stride_tricks.sliding_window_view(np.pad(levels, 5, constant_values=np.inf), 11)
    low = (levels <= around.min(axis=1)) & (levels < around.max(axis=1))  # not a plateau
    dips = np.flatnonzero(low) * size + size // 2
    dips = np.concatenate([[0], dips, [samples]])
    length = dips[None, :] - dips[:, None]
    shortest, longest = (ms * sample_rate_hz // 1000 for ms in PIECE_MS)
    pairs = np.argwhere((length >= shortest) & (length <= longest))
    if not len(pairs):
        start = int(rng.integers(0, max(1, samples - longest)))
        return start, min(samples, start + longest)
    first, last = pairs[rng.integers(len(pairs))]
    return int(dips[first]), int(dips[last])


def _alike(a: str, b: str) -> bool:
    return a == b or any({a, b} <= pair for pair in ALIKE)


def _at_least_one(samples: Clips) -> float:
    """Return the RMS of samples, but at least 1, so that it can be divided by."""
    return max(1.0, rms(samples))
