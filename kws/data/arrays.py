"""From clips on disk to arrays: decoded once, kept in the cache folder, then mapped into memory.

Everything here is mono int16 at 16 kHz. Clips get one length: shorter ones are padded with zeros
at their end, as Speech Commands' own tools do; of longer ones the second with the most energy is
taken, since a word is the loudest thing that somebody recorded on purpose.
"""

from __future__ import annotations

import csv
import functools
import os
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
import numpy.typing as npt

from kws.audio.files import SAMPLE_RATE_HZ, Pcm, read_audio
from kws.cache import cache_folder, files_key, make_room
from kws.data.clips import AUDIO_SUFFIXES, ClipIndex
from kws.data.forbidden import Forbidden
from kws.data.split import recording_speaker, split_of
from kws.errors import KwsError
from kws.files import atomic_write
from kws.processes import usable_cores
from kws.progress import Progress, tell

HELD_OUT_SHARE = 0.2
"""The end of each noise recording that training never hears."""

QUIET_DB = 25.0
"""A window of speech this much below the loudest of its recording is a pause."""
QUIET_DBFS = -60.0
"""So is a window whose RMS is below this."""

_FORMAT = 3
"""Changes when the same files would give another array."""
_BATCH = 128
"""Clips that a thread decodes at a time."""
_HEADER_BYTES = 128
_MOST_SKIPPED_NAMED = 3

Clips = npt.NDArray[np.int16]
_In = TypeVar("_In")
_Out = TypeVar("_Out")


def load_clips(
    root: str | os.PathLike[str],
    paths: Sequence[str],
    clip_samples: int = 16000,
    *,
    progress: bool = True,
) -> Clips:
    """Decode clips to one array, or take it from the cache.

    The cache knows the clips by their paths, sizes and modification times.

    Args:
        root: the folder that the paths are relative to.
        paths: the clips, in the order of the result.
        clip_samples: length of each row, in samples at 16 kHz.
        progress: show progress on stderr.

    Returns:
        int16 [n, clip_samples], read-only and mapped into memory: it occupies memory only while,
        and as far as, it is used.

    Raises:
        KwsError: a clip cannot be read (names it; `load_good_clips` goes on without it).
    """
    return _load(Path(root), paths, clip_samples, progress=progress, skip_bad=False)[0]


def load_good_clips(
    root: str | os.PathLike[str],
    paths: Sequence[str],
    clip_samples: int = 16000,
    *,
    progress: bool = True,
) -> tuple[Clips, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Like `load_clips`, but leave out clips that cannot be read, and say so on stderr.

    Returns:
        int16 [m, clip_samples]; int64 [m], the positions in `paths` of the clips that are in it;
        and int64 [m], which sample of its recording each clip begins with.

    Raises:
        KwsError: no clip can be read.
    """
    return _load(Path(root), paths, clip_samples, progress=progress, skip_bad=True)


def fit_clip(pcm: Pcm, clip_samples: int) -> Pcm:
    """Give a recording the length of a clip.

    Shorter: zeros at the end. Longer: the stretch with the most energy, on a grid of 10 ms at
    16 kHz; of stretches that are as loud within 2 %, the middle one, so that a short word in
    silence does not lie at the edge.

    Args:
        pcm: int16 [n].
        clip_samples: length of the result.

    Returns:
        int16 [clip_samples].
    """
    return _fit(pcm, clip_samples)[0]


def _fit(pcm: Pcm, clip_samples: int) -> tuple[Pcm, int]:
    """Return what `fit_clip` returns, and the sample of the recording that it begins with."""
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


@dataclass(frozen=True, kw_only=True, eq=False)
class SpeechWindows:
    """Clips cut from running speech."""

    pcm: Clips
    """int16 [n, clip_samples], read-only and mapped into memory."""
    recordings: tuple[str, ...]
    """What they were cut from: paths relative to its folder, sorted."""
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

    Where the folder has a ``transcripts.tsv`` (columns ``utterance``, the path without suffix, and
    ``transcript``), only the recordings in it are used, and those in which a keyword, or what
    sounds like it, may be spoken (`kws.data.forbidden`) are left out. Windows that hold a pause
    are left out too: 25 dB below the loudest window of their recording, or below −60 dBFS.

    Args:
        folder: holds ``<speaker>/<recording>``; recordings directly in it are speakers of their
            own, up to ``_nohash_`` in the name.
        keywords: words and phrases that must not be spoken.
        clip_samples: length of a window.
        hop_samples: from the start of a window to that of the next. Recordings shorter than a
            window are padded with zeros.
        progress: show progress on stderr.

    Raises:
        KwsError: no recordings, a damaged transcripts.tsv, or a recording that cannot be read.
    """
    root = Path(folder).resolve()
    paths = _recordings(root, tuple(keywords))
    key = files_key(
        "speech", root, paths, [_FORMAT, clip_samples, hop_samples, QUIET_DB, QUIET_DBFS]
    )
    cut = functools.partial(_windows, root, clip_samples=clip_samples, hop_samples=hop_samples)

    def produce(rows: _Rows) -> dict[str, npt.NDArray[Any]]:
        ids: list[npt.NDArray[np.int32]] = []
        starts: list[npt.NDArray[np.int64]] = []
        with Progress(
            len(paths), "cutting running speech", unit="recordings", shown=progress
        ) as shown:
            for i, (windows, at) in enumerate(_in_parallel(cut, paths)):
                rows.append(windows)
                ids.append(np.full(len(windows), i, np.int32))
                starts.append(at)
                shown.advance()
        return {"recording_ids": np.concatenate(ids), "starts": np.concatenate(starts)}

    pcm, columns = _cached(key, clip_samples, produce, expected_rows=4 * len(paths))
    return SpeechWindows(
        pcm=pcm,
        recordings=tuple(paths),
        recording_ids=columns["recording_ids"],
        starts=columns["starts"],
    )


def read_noise(index: ClipIndex) -> list[Pcm]:
    """Read the recordings in ``_background_noise_``: int16 [n] each, an empty list without any.

    Raises:
        KwsError: a recording cannot be read.
    """
    return list(_in_parallel(read_audio, index.noise))


def read_held_out(paths: Sequence[Path], sample_rate_hz: int = SAMPLE_RATE_HZ) -> list[Pcm]:
    """Read the end of each noise recording, which training never hears: int16 [n] each.

    Raises:
        KwsError: a recording cannot be read.
    """

    def end_of(path: Path) -> Pcm:
        return split_noise([read_audio(path, sample_rate_hz)])[1][0].copy()

    return list(_in_parallel(end_of, paths))


def split_noise(
    recordings: Sequence[Pcm], held_out: float = HELD_OUT_SHARE
) -> tuple[list[Pcm], list[Pcm]]:
    """Split noise recordings: the beginning of each for training, its end for validation only.

    Args:
        recordings: int16 [n] each.
        held_out: share of each that is at its end and for validation.

    Returns:
        The parts for training and the parts for validation.
    """
    at = [round(len(recording) * (1 - held_out)) for recording in recordings]
    pairs = list(zip(recordings, at, strict=True))
    return [r[:cut] for r, cut in pairs], [r[cut:] for r, cut in pairs]


def noise_bank(recordings: Sequence[Pcm]) -> Pcm:
    """Join noise recordings to one long one: int16 [total]."""
    return np.concatenate(recordings) if len(recordings) else np.empty(0, np.int16)


def silence_clips(
    recordings: Sequence[Pcm],
    n: int,
    clip_samples: int = 16000,
    levels_dbfs: tuple[float, float] = (-60.0, -10.0),
    seed: int = 0,
) -> Clips:
    """Cut clips of background noise, for the label ``_silence_``.

    Each clip comes from a recording drawn uniformly, from a place drawn uniformly, scaled to an
    RMS level drawn uniformly in dB; peaks beyond full scale are clipped. Equal arguments give
    equal clips. Stretches of digital silence cannot be scaled and are drawn again.

    Args:
        recordings: noise, int16 [m] each.
        n: number of clips.
        clip_samples: length of a clip.
        levels_dbfs: lowest and highest RMS; 0 dBFS is the RMS of a full-scale square wave.
        seed: of the random numbers.

    Returns:
        int16 [n, clip_samples].

    Raises:
        KwsError: no recording is as long as a clip, or there is nothing but digital silence.
    """
    usable = [recording for recording in recordings if len(recording) >= clip_samples]
    if not usable:
        longest = max((len(recording) for recording in recordings), default=0)
        raise KwsError(
            f"No noise to cut silence from. Received: {len(recordings)} recordings, the longest "
            f"of {longest} samples; needed is one of {clip_samples}. "
            "Put longer recordings into _background_noise_"
        )
    rng = np.random.default_rng(seed)
    clips = np.empty((n, clip_samples), np.int16)
    for row in clips:
        level = rng.uniform(*levels_dbfs)
        which, start = draw_noise(usable, clip_samples, rng)
        cut = usable[which][start : start + clip_samples].astype(np.float64)
        gain = 32768 * 10 ** (level / 20) / np.sqrt(np.mean(np.square(cut)))
        row[:] = np.clip(np.rint(cut * gain), -32768, 32767)
    return clips


def draw_noise(
    recordings: Sequence[Pcm], samples: int, rng: np.random.Generator
) -> tuple[int, int]:
    """Draw a piece of noise: a recording, uniformly, and a place in it, uniformly.

    Digital silence has no level that could be changed, so such pieces are drawn again.

    Args:
        recordings: int16 [m] each, none shorter than the piece.
        samples: length of the piece.
        rng: advances.

    Returns:
        The recording's position in `recordings`, and where in it the piece begins.

    Raises:
        KwsError: there is nothing but digital silence.
    """
    for _ in range(100):
        which = int(rng.integers(len(recordings)))
        start = int(rng.integers(len(recordings[which]) - samples + 1))
        if np.mean(np.square(recordings[which][start : start + samples], dtype=np.float64)) >= 1:
            return which, start
    raise KwsError(
        "The noise recordings are silent. Received: RMS below one step of 16 bits in 100 "
        "places. Put real recordings in their place"
    )


# ---- decoding


def _load(
    root: Path, paths: Sequence[str], clip_samples: int, *, progress: bool, skip_bad: bool
) -> tuple[Clips, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    if clip_samples < 1:
        raise KwsError(f"A clip needs samples. Received: {clip_samples}. Use 1 or more")
    if not len(paths):
        none = np.empty(0, np.int64)
        return np.empty((0, clip_samples), np.int16), none, none
    root = root.resolve()
    batches = [paths[i : i + _BATCH] for i in range(0, len(paths), _BATCH)]
    decode = functools.partial(_decode, root, clip_samples=clip_samples, skip_bad=skip_bad)

    def produce(rows: _Rows) -> dict[str, npt.NDArray[Any]]:
        kept: list[npt.NDArray[np.int64]] = []
        starts: list[npt.NDArray[np.int64]] = []
        skipped: list[str] = []
        with Progress(len(paths), "decoding clips", unit="clips", shown=progress) as shown:
            for i, (clips, good, first, complaints) in enumerate(_in_parallel(decode, batches)):
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

    key = files_key("clips", root, paths, [_FORMAT, clip_samples, skip_bad])
    pcm, columns = _cached(key, clip_samples, produce, expected_rows=len(paths))
    return pcm, columns["kept"], columns["starts"]


def _decode(
    root: Path, paths: Sequence[str], *, clip_samples: int, skip_bad: bool
) -> tuple[Clips, npt.NDArray[np.int64], npt.NDArray[np.int64], list[str]]:
    """Return clips, which could be read, where in them each begins, and what is wrong with others.

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
    """Whether it is not the clip that is bad: no FLAC file can be read without a decoder."""
    while error is not None and not isinstance(error, ImportError):
        error = error.__cause__
    return error is not None


def _windows(
    root: Path, path: str, *, clip_samples: int, hop_samples: int
) -> tuple[Clips, npt.NDArray[np.int64]]:
    """Return the windows of a recording [n, clip_samples], and where they start [n]."""
    pcm = read_audio(root / path)
    if len(pcm) <= clip_samples:
        windows = np.pad(pcm, (0, clip_samples - len(pcm)))[None]
    else:
        windows = np.lib.stride_tricks.sliding_window_view(pcm, clip_samples)[::hop_samples]
    level = np.array([np.sqrt(np.mean(np.square(w, dtype=np.float64))) for w in windows])
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
            f"The folder of running speech {root} holds no recordings. Received: no audio file. "
            "Put them in DIR/<speaker>/"
        )
    table = root / "transcripts.tsv"
    if not table.exists():
        if keywords:
            tell(f"{root} has no transcripts.tsv: its recordings are taken to hold no keyword")
        return sorted(found)
    forbidden = Forbidden(keywords)
    spoken = read_transcripts(table)
    chosen = []
    for path in sorted(found):
        transcript = spoken.get(utterance_of(path))
        if transcript is not None and forbidden.among(transcript) is None:
            chosen.append(path)
    if not chosen:
        raise KwsError(
            f"No recording in {root} is free of the keywords. Received: {len(found)} recordings, "
            f"{len(spoken)} transcripts. Check the column 'utterance' of {table.name}"
        )
    return chosen


def utterance_of(recording: str) -> str:
    """Return what a table of transcripts calls a recording: its path without the suffix."""
    return Path(recording).with_suffix("").as_posix()


def read_transcripts(table: Path) -> dict[str, str]:
    """Read a table with the columns utterance and transcript.

    Returns:
        Utterance (path without suffix) → what is said.

    Raises:
        KwsError: no text in UTF-8, or a column is missing.
    """
    try:
        with table.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            if not {"utterance", "transcript"} <= set(rows.fieldnames or ()):
                raise KwsError(
                    f"{table} lacks a column. Received: {', '.join(rows.fieldnames or ())}. "
                    "Its first line must name the columns utterance and transcript"
                )
            return {row["utterance"]: row["transcript"] or "" for row in rows}
    except (UnicodeDecodeError, csv.Error) as error:
        raise KwsError(f"{table} is no table in UTF-8. Received: {error}. Repair it") from error


def _in_parallel(work: Callable[[_In], _Out], items: Sequence[_In]) -> Iterator[_Out]:
    """Yield `work(item)` in the order of the items, from threads, never far ahead of the reader.

    Threads do: decoding releases the interpreter's lock, and reading small WAV files is I/O.
    """
    workers = usable_cores()
    pending: deque[Future[_Out]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


# ---- the cache


class _Rows:
    """An .npy file of int16 [count, clip_samples] that grows row by row."""

    def __init__(self, file: IO[bytes], clip_samples: int) -> None:
        self.count = 0
        self._file = file
        self._clip_samples = clip_samples
        file.write(b"\0" * _HEADER_BYTES)

    def append(self, clips: Clips) -> None:
        """Add int16 [m, clip_samples]."""
        self._file.write(np.ascontiguousarray(clips, "<i2").data)
        self.count += len(clips)

    def finish(self) -> None:
        """Write the header, now that the number of rows is known (format 1.0 of NumPy)."""
        shape = (self.count, self._clip_samples)
        text = f"{{'descr': '<i2', 'fortran_order': False, 'shape': {shape}, }}"
        room = _HEADER_BYTES - 10
        content = text.encode().ljust(room - 1) + b"\n"
        self._file.seek(0)
        self._file.write(b"\x93NUMPY\x01\x00" + room.to_bytes(2, "little") + content)


def _cached(
    key: str,
    clip_samples: int,
    produce: Callable[[_Rows], dict[str, npt.NDArray[Any]]],
    *,
    expected_rows: int,
) -> tuple[Clips, dict[str, npt.NDArray[Any]]]:
    """Return the array and columns stored under `key`, made by `produce` where they are not."""
    folder = cache_folder("arrays")
    rows_file, columns_file = folder / f"{key}.npy", folder / f"{key}.npz"
    if (stored := _stored(rows_file, columns_file)) is not None:
        return stored
    make_room(folder, 2 * expected_rows * clip_samples)
    with atomic_write(rows_file) as file:
        rows = _Rows(file, clip_samples)
        columns = produce(rows)
        rows.finish()
        # The columns first: where the rows are, the columns are too.
        with atomic_write(columns_file) as side:
            np.savez(side, **columns)  # type: ignore[arg-type]
    stored = _stored(rows_file, columns_file)
    if stored is None:
        raise KwsError(
            f"The cache {rows_file} cannot be read back. Received: not what was written. "
            "Set KWS_CACHE to a folder on another disk"
        )
    return stored


def _stored(rows: Path, columns: Path) -> tuple[Clips, dict[str, npt.NDArray[Any]]] | None:
    try:
        pcm = np.load(rows, mmap_mode="r", allow_pickle=False)
        with np.load(columns, allow_pickle=False) as stored:
            found = {name: stored[name] for name in stored.files}
        for path in (rows, columns):
            path.touch()  # what is used stays longest
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return pcm, found
