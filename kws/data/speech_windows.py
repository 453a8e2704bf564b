"""Windows cut from recordings of running speech, as examples of "none of the keywords"."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kws.audio.files import read_audio
from kws.audio.level import rms
from kws.data.array_cache import FORMAT, Clips, Rows, cached
from kws.data.clips import AUDIO_SUFFIXES
from kws.data.split import recording_speaker, split_of
from kws.data.transcripts import TRANSCRIPTS, free_sentences
from kws.errors import KwsError
from kws.system.cache import files_key
from kws.system.processes import in_threads
from kws.system.progress import Progress, tell

QUIET_DB = 25.0
"""A window this much below the loudest of its recording counts as a pause."""
QUIET_DBFS = -60.0
"""So does a window whose RMS is below this."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SpeechWindows:
    """Clips cut from running speech."""

    pcm: Clips
    """int16 [n, clip_samples], read-only and memory-mapped."""
    recordings: tuple[str, ...]
    """The recordings that they were cut from: paths relative to the folder, sorted."""
    recording_ids: npt.NDArray[np.int32]
    """Recording of each window, as a position in `recordings` [n]."""
    starts: npt.NDArray[np.int64]
    """First sample of each window in its recording [n]."""

    def __len__(self) -> int:
        return len(self.pcm)

    def select(self, split: str) -> SpeechWindows:
        """Return the windows of the speakers of one part; their audio is a copy."""
        ours = np.array(
            [split_of(recording_speaker(path)) == split for path in self.recordings], bool
        )
        chosen = ours[self.recording_ids]
        return SpeechWindows(
            pcm=self.pcm[chosen],
            recordings=tuple(np.array(self.recordings, object)[ours]),
            recording_ids=(np.cumsum(ours) - 1).astype(np.int32)[self.recording_ids[chosen]],
            starts=self.starts[chosen],
        )


def cut_speech(
    folder: str | os.PathLike[str],
    keywords: Iterable[str] = (),
    *,
    clip_samples: int = 16000,
    hop_samples: int = 8000,
    progress: bool = True,
) -> SpeechWindows:
    """Cut recordings of running speech into windows, as examples of "none of the keywords".

    If the folder has a ``transcripts.tsv`` (columns ``utterance``, the path without suffix, and
    ``transcript``), only the recordings in it are used, except those that may contain a keyword or
    a homophone of one (`kws.data.forbidden`). Windows that hold a pause are left out too: 25 dB
    below the loudest window of their recording, or below −60 dBFS.

    Args:
        folder: holds ``<speaker>/<recording>``; a recording directly in it names its speaker, up to
            ``_nohash_`` in its name.
        keywords: words and phrases that must not be spoken.
        clip_samples: length of a window.
        hop_samples: distance between the starts of windows. Recordings shorter than a window are
            padded with zeros.
        progress: show progress on stderr.

    Raises:
        KwsError: no recordings, a damaged transcripts.tsv, or a recording that cannot be read.
    """
    root = Path(folder).resolve()
    paths = _recordings(root, tuple(keywords))
    key = files_key(
        "speech", root, paths, [FORMAT, clip_samples, hop_samples, QUIET_DB, QUIET_DBFS]
    )
    cut = functools.partial(_windows, root, clip_samples=clip_samples, hop_samples=hop_samples)

    def produce(rows: Rows) -> dict[str, npt.NDArray[Any]]:
        ids: list[npt.NDArray[np.int32]] = []
        starts: list[npt.NDArray[np.int64]] = []
        with Progress(
            len(paths), "cutting running speech", unit="recordings", shown=progress
        ) as shown:
            for i, (windows, at) in enumerate(in_threads(cut, paths)):
                rows.append(windows)
                ids.append(np.full(len(windows), i, np.int32))
                starts.append(at)
                shown.advance()
        return {"recording_ids": np.concatenate(ids), "starts": np.concatenate(starts)}

    pcm, columns = cached(key, clip_samples, produce, expected_rows=4 * len(paths))
    return SpeechWindows(
        pcm=pcm,
        recordings=tuple(paths),
        recording_ids=columns["recording_ids"],
        starts=columns["starts"],
    )


def _windows(
    root: Path, path: str, *, clip_samples: int, hop_samples: int
) -> tuple[Clips, npt.NDArray[np.int64]]:
    """Return the windows of a recording [n, clip_samples], and where they start [n]."""
    pcm = read_audio(root / path)
    if len(pcm) <= clip_samples:
        windows = np.pad(pcm, (0, clip_samples - len(pcm)))[None]
    else:
        windows = np.lib.stride_tricks.sliding_window_view(pcm, clip_samples)[::hop_samples]
    level = np.array([rms(window) for window in windows])
    loud = level >= max(level.max() * 10 ** (-QUIET_DB / 20), 32768 * 10 ** (QUIET_DBFS / 20))
    return windows[loud], np.flatnonzero(loud) * hop_samples


def _recordings(root: Path, keywords: Sequence[str]) -> list[str]:
    """Return the recordings that may be cut, relative to `root`, sorted."""
    if not root.is_dir():
        raise KwsError(f"The folder of running speech {root} does not exist. Check the path")
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "_")))
        relative = Path(folder).relative_to(root)
        found += [
            (relative / name).as_posix()
            for name in files
            if Path(name).suffix.lower() in AUDIO_SUFFIXES and not name.startswith(".")
        ]
    if not found:
        raise KwsError(
            f"The folder of running speech {root} contains no recordings. Received: no audio file. "
            "Put them in DIR/<speaker>/"
        )
    if not (root / TRANSCRIPTS).exists():
        if keywords:
            tell(f"{root} has no {TRANSCRIPTS}: its recordings are assumed to contain no keyword")
        return sorted(found)
    chosen = free_sentences(root, sorted(found), keywords)
    if not chosen:
        raise KwsError(
            f"No recording in {root} is free of the keywords. Received: {len(found)} recordings. "
            f"Check the column 'utterance' of {TRANSCRIPTS}"
        )
    return chosen
