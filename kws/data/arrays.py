"""Clips on disk as arrays: decoded once, cached, then memory-mapped.

Everything here is mono int16 at 16 kHz. All clips get the same length: shorter ones are padded with
zeros at the end, as in Speech Commands' own tools; of longer ones the stretch with the most energy
is taken, since the word is usually the loudest sound in its recording.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kws.audio.files import read_audio
from kws.audio.samples import Pcm
from kws.data.array_cache import FORMAT, Clips, Rows, cached
from kws.errors import KwsError
from kws.system.cache import files_key
from kws.system.processes import in_threads
from kws.system.progress import Progress

_BATCH = 128
"""Clips that a thread decodes at once."""

_MOST_SKIPPED_NAMED = 3


def load_clips(
    root: str | os.PathLike[str],
    paths: Sequence[str],
    clip_samples: int = 16000,
    *,
    progress: bool = True,
) -> Clips:
    """Decode clips into one array, or take it from the cache.

    The cache identifies clips by path, size and modification time.

    Args:
        root: the folder that the paths are relative to.
        paths: the clips, in the order of the result.
        clip_samples: length of each row, in samples at 16 kHz.
        progress: show progress on stderr.

    Returns:
        int16 [n, clip_samples], read-only and memory-mapped: only the parts in use occupy memory.

    Raises:
        KwsError: a clip cannot be read (names it; `load_good_clips` skips it).
    """
    return _load(Path(root), paths, clip_samples, progress=progress, skip_bad=False)[0]


def load_good_clips(
    root: str | os.PathLike[str],
    paths: Sequence[str],
    clip_samples: int = 16000,
    *,
    progress: bool = True,
) -> tuple[Clips, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Like `load_clips`, but skip clips that cannot be read, and report them on stderr.

    Returns:
        int16 [m, clip_samples]; int64 [m], the positions of its clips in `paths`; and int64 [m],
        the sample of its recording at which each clip begins.

    Raises:
        KwsError: no clip can be read.
    """
    return _load(Path(root), paths, clip_samples, progress=progress, skip_bad=True)


def fit_clip(pcm: Pcm, clip_samples: int) -> Pcm:
    """Give a recording the length of a clip.

    A shorter one gets zeros at the end. Of a longer one the stretch with the most energy is taken,
    on a grid of 10 ms at 16 kHz; of neighbouring stretches within 2 % of that energy the middle
    one, so that a short word in silence does not lie at the edge.

    Args:
        pcm: int16 [n].
        clip_samples: length of the result.

    Returns:
        int16 [clip_samples].
    """
    return _fit(pcm, clip_samples)[0]


def _fit(pcm: Pcm, clip_samples: int) -> tuple[Pcm, int]:
    """Return what `fit_clip` returns, and the sample of the recording at which it begins."""
    if len(pcm) <= clip_samples:
        return np.pad(pcm, (0, clip_samples - len(pcm))), 0
    start = _loudest(pcm, clip_samples)
    return pcm[start : start + clip_samples], start


def _loudest(pcm: Pcm, n: int, step: int = 160) -> int:
    sums = np.concatenate([[0.0], np.cumsum(np.square(pcm, dtype=np.float64))])
    starts = np.arange(0, len(pcm) - n + 1, step)
    energies = sums[starts + n] - sums[starts]
    best = int(energies.argmax())
    first = last = best
    while first > 0 and energies[first - 1] >= 0.98 * energies[best]:
        first -= 1
    while last < len(starts) - 1 and energies[last + 1] >= 0.98 * energies[best]:
        last += 1
    return int(starts[(first + last) // 2])


def _load(
    root: Path, paths: Sequence[str], clip_samples: int, *, progress: bool, skip_bad: bool
) -> tuple[Clips, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    if clip_samples < 1:
        raise KwsError(f"A clip needs at least 1 sample. Received: {clip_samples}. Use 1 or more")
    if not len(paths):
        none = np.empty(0, np.int64)
        return np.empty((0, clip_samples), np.int16), none, none
    root = root.resolve()
    batches = [paths[i : i + _BATCH] for i in range(0, len(paths), _BATCH)]
    decode = functools.partial(_decode, root, clip_samples=clip_samples, skip_bad=skip_bad)

    def produce(rows: Rows) -> dict[str, npt.NDArray[Any]]:
        kept: list[npt.NDArray[np.int64]] = []
        starts: list[npt.NDArray[np.int64]] = []
        skipped: list[str] = []
        with Progress(len(paths), "decoding clips", unit="clips", shown=progress) as shown:
            for i, (clips, good, first, complaints) in enumerate(in_threads(decode, batches)):
                rows.append(clips)
                kept.append(good + i * _BATCH)
                starts.append(first)
                for complaint in complaints:
                    if len(skipped) < _MOST_SKIPPED_NAMED:
                        shown.say(f"skipped: {complaint}")
                    skipped.append(complaint)
                shown.advance(len(batches[i]))
            if skipped:
                shown.say(f"skipped {len(skipped)} of {len(paths)} clips that cannot be read")
        if not rows.count:
            raise KwsError(f"No clip in {root} can be read. The first: {skipped[0]}")
        return {"kept": np.concatenate(kept), "starts": np.concatenate(starts)}

    key = files_key("clips", root, paths, [FORMAT, clip_samples, skip_bad])
    pcm, columns = cached(key, clip_samples, produce, expected_rows=len(paths))
    return pcm, columns["kept"], columns["starts"]


def _decode(
    root: Path, paths: Sequence[str], *, clip_samples: int, skip_bad: bool
) -> tuple[Clips, npt.NDArray[np.int64], npt.NDArray[np.int64], list[str]]:
    """Return readable clips, their positions and first samples, and what is wrong with the others.

    The clips are int16 [n, clip_samples], the positions and first samples int64 [n].
    """
    clips = np.empty((len(paths), clip_samples), np.int16)
    good: list[int] = []
    starts: list[int] = []
    complaints: list[str] = []
    for i, path in enumerate(paths):
        try:
            clips[len(good)], start = _fit(read_audio(root / path), clip_samples)
            good.append(i)
            starts.append(start)
        except KwsError as error:
            if not skip_bad or _missing_package(error):
                raise
            complaints.append(str(error))
    return clips[: len(good)], np.array(good, np.int64), np.array(starts, np.int64), complaints


def _missing_package(error: BaseException | None) -> bool:
    """Whether the clip is fine, but the package that decodes it is missing."""
    while error is not None and not isinstance(error, ImportError):
        error = error.__cause__
    return error is not None
