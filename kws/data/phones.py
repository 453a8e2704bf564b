"""Phonemes of recordings whose text is known, and when each is spoken.

A dictionary gives the phonemes of each word, and hidden Markov models find their most likely
positions in the recording (forced alignment; L. Rabiner, "A tutorial on hidden Markov models",
1989). The English dictionary and models come with CMU Sphinx's package ``pocketsphinx``. Recordings
with a word that is not in the dictionary, such as a name or a foreign word, are skipped.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kws.audio.files import read_audio
from kws.audio.samples import SAMPLE_RATE_HZ, Pcm
from kws.errors import KwsError
from kws.system.cache import cache_or_temporary, files_key, make_room
from kws.system.files import atomic_write
from kws.system.processes import receive, send_task, share_out, take_stdout, usable_cores
from kws.system.progress import Progress, tell

PACKAGE = "pocketsphinx"
FRAME_MS = 10
"""One phoneme for every 10 ms, the step of the models."""
FRAME_SAMPLES = FRAME_MS * SAMPLE_RATE_HZ // 1000
SILENCE_PHONE = 0
"""Position in `PHONES` of silence, breath and noise."""
UNKNOWN_PHONE = -1
"""Where the phoneme is not known."""
PHONES = (
    *("SIL", "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY"),
    *("F", "G", "HH", "IH", "IY", "JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S"),
    *("SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH"),
)
"""Silence, and the phonemes of English as in the CMU Pronouncing Dictionary (ARPAbet)."""

_BATCH = 16
_WORKER = "from kws.data.phones import _serve; _serve()"

Phones = npt.NDArray[np.int8]
"""int8 [frames]: positions in `PHONES`, or `UNKNOWN_PHONE`."""


def check_aligner() -> None:
    """Make sure that recordings can be aligned.

    Raises:
        KwsError: the package is missing.
    """
    if find_spec(PACKAGE) is None:
        raise KwsError(
            f"Training on phonemes needs the package {PACKAGE!r}. Install it with: "
            "pip install 'kws[train]', or leave them out: [training] phone_weight = 0"
        )


def aligned(root: Path, spoken: Mapping[str, str]) -> dict[str, Phones]:
    """Find the phonemes of recordings, or take them from the cache.

    The cache holds a file for each folder in `root` (a word, or a speaker), written as soon as that
    folder is complete, so that interrupted work can be resumed. It identifies recordings by path,
    size, modification time and text. If several processes need the same recordings, one does the
    work and the others wait for it.

    Args:
        root: the folder that the paths are relative to.
        spoken: path → text.

    Returns:
        Path → phonemes, for the recordings that could be aligned.

    Raises:
        KwsError: the package is missing, or a worker process died.
    """
    check_aligner()
    cache = cache_or_temporary("phones")
    folders: dict[str, list[str]] = {}
    for path in sorted(spoken):
        folders.setdefault(path.partition("/")[0] if "/" in path else "", []).append(path)
    files = {}
    for folder, paths in folders.items():
        said = [spoken[path] for path in paths]
        files[folder] = cache / f"{files_key('phones', root, paths, [PHONES, said])}.npz"

    def stored() -> dict[str, list[Phones | None]]:
        found = {folder: _stored(files[folder], len(paths)) for folder, paths in folders.items()}
        return {folder: phones for folder, phones in found.items() if phones is not None}

    found = stored()
    complete = len(found) == len(folders)
    if not complete:
        with _alone(cache / f"{files_key('lock', root, [], [])}.lock"):
            found = stored()  # Another process may have completed them meanwhile.
            missing = {f: paths for f, paths in folders.items() if f not in found}
            with closing(_align(root, missing, spoken)) as work:
                for folder, answers in work:
                    _store(files[folder], answers)
                    found[folder] = answers
            make_room(cache, 0)
    phones = {
        path: one
        for folder, paths in folders.items()
        for path, one in zip(paths, found[folder], strict=True)
        if one is not None
    }
    if not complete and 0 < len(phones) < len(spoken):
        tell(
            f"{root}: {len(phones):,} of {len(spoken):,} recordings were aligned with their "
            "phonemes; the others have words missing from the English dictionary, or do not match"
        )
    return phones


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold a lock, which is also released if the process dies."""
    with lock.open("wb") as file:
        with suppress(ImportError, OSError):  # no locks on Windows and some network disks
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                tell("waiting for another process that is aligning phonemes")
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def cut(phones: Phones, start: int, samples: int) -> Phones:
    """Return the phonemes of a piece of a recording, int8 [samples / FRAME_SAMPLES].

    Args:
        phones: phonemes of the recording.
        start: first sample of the piece.
        samples: its length; past the end of the recording there is silence.
    """
    frames = samples // FRAME_SAMPLES
    piece = phones[start // FRAME_SAMPLES :][:frames]
    return np.pad(piece, (0, frames - len(piece)), constant_values=SILENCE_PHONE)


def _store(path: Path, found: Sequence[Phones | None]) -> None:
    lengths = np.array([-1 if one is None else len(one) for one in found], np.int64)
    joined = np.concatenate([np.empty(0, np.int8), *(one for one in found if one is not None)])
    with atomic_write(path) as file:
        np.savez_compressed(file, lengths=lengths, phones=joined)


def _stored(path: Path, n: int) -> list[Phones | None] | None:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            lengths, phones = arrays["lengths"], arrays["phones"]
        if len(lengths) != n or np.maximum(lengths, 0).sum() != len(phones):
            return None
        path.touch()
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    ends = np.cumsum(np.maximum(lengths, 0))
    pieces = zip(ends, lengths, strict=True)
    return [None if length < 0 else phones[end - length : end] for end, length in pieces]


def _align(
    root: Path, folders: Mapping[str, Sequence[str]], spoken: Mapping[str, str]
) -> Generator[tuple[str, list[Phones | None]], None, None]:
    """Align in worker processes, because the aligner holds Python's lock.

    Yields:
        Each folder as soon as it is complete, and the phonemes of its recordings.
    """
    batches = [
        (folder, paths[i : i + _BATCH])
        for folder, paths in folders.items()
        for i in range(0, len(paths), _BATCH)
    ]
    if not batches:
        return
    found: dict[str, dict[str, Phones | None]] = {folder: {} for folder in folders}
    total = sum(map(len, folders.values()))
    with Progress(total, "aligning phonemes", unit="recordings") as progress:
        work = share_out(
            range(len(batches)),
            lambda process, i: _ask(process, [[f"{root}/{p}", spoken[p]] for p in batches[i][1]]),
            workers=max(1, min(usable_cores(), len(batches))),
            code=_WORKER,
            arguments=[],
        )
        with closing(work):
            for i, answers in work:
                folder, paths = batches[i]
                found[folder].update(zip(paths, answers, strict=True))
                progress.advance(len(answers))
                if len(found[folder]) == len(folders[folder]):
                    done = found.pop(folder)
                    yield folder, [done[path] for path in folders[folder]]


def _ask(process: subprocess.Popen[bytes], batch: list[list[str]]) -> list[Phones | None]:
    send_task(process, batch)
    line = receive(process, hint="Close other programs and try again")
    return [None if one is None else np.array(one, np.int8) for one in json.loads(line)]


def _serve() -> None:
    """The worker's side of `_ask`: a line of JSON in, a line of JSON out."""
    answers = take_stdout()
    aligner = Aligner()
    for line in sys.stdin:
        found = []
        for path, text in json.loads(line):
            try:
                phones = aligner.align(read_audio(path), text)
            except KwsError:
                phones = None  # Unreadable, which is reported when clips are read.
            found.append(None if phones is None else phones.tolist())
        with suppress(BrokenPipeError):  # The parent has gone, and stdin will end.
            answers.write(json.dumps(found).encode() + b"\n")
            answers.flush()


class Aligner:
    """Aligns the phonemes of a text with a recording of it.

    Example:
        >>> Aligner().align(pcm, "turn the lights on")  # doctest: +SKIP
    """

    def __init__(self) -> None:
        """Load dictionary and models, which takes 0.2 s."""
        from pocketsphinx import Decoder, get_model_path

        models = Path(get_model_path()) / "en-us"
        self._decoder: Any = Decoder(
            hmm=str(models / "en-us"),
            dict=str(models / "cmudict-en-us.dict"),
            lm=None,
            bestpath=False,
            loglevel="FATAL",
        )

    def align(self, pcm: Pcm, text: str) -> Phones | None:
        """Return the phonemes of a recording, one for every whole 10 ms.

        Args:
            pcm: int16 [n] at 16 kHz.
            text: its text; case and punctuation do not matter.

        Returns:
            None if a word is not in the dictionary, or does not match the recording.
        """
        words = re.findall(r"[a-z']+", text.lower())
        if (
            not len(pcm)
            or not words
            or any(self._decoder.lookup_word(word) is None for word in words)
        ):
            return None
        if re.search(r"[^\W\d_a-z]|\d", text.lower()):
            return None  # a foreign letter, or a number, which can be read in several ways
        try:
            self._decoder.set_align_text(" ".join(words))
            self._hear(pcm)
            if self._decoder.hyp() is None:
                return None
            # The first pass finds the words, this one their phonemes.
            self._decoder.set_alignment()
            self._hear(pcm)
            alignment = self._decoder.get_alignment()
        except RuntimeError:
            return None
        phones = np.zeros(len(pcm) // FRAME_SAMPLES, np.int8)
        for word in alignment or ():
            for phone in word:
                place = slice(phone.start, phone.start + phone.duration)
                phones[place] = _POSITIONS.get(phone.name, SILENCE_PHONE)
        return phones

    def _hear(self, pcm: Pcm) -> None:
        self._decoder.start_utt()
        try:
            self._decoder.process_raw(np.ascontiguousarray(pcm, "<i2").tobytes(), full_utt=True)
        finally:
            self._decoder.end_utt()


_POSITIONS = {name: i for i, name in enumerate(PHONES)}
