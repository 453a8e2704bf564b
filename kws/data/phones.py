"""Which sound of speech is heard when, in recordings of which it is known what is said.

A word's spelling tells its sounds, and a hidden Markov model of every sound finds where in the
recording they must lie for it to be most likely (forced alignment; L. Rabiner, "A tutorial on
hidden Markov models", 1989). Dictionary and models are those of English that come with CMU
Sphinx's package ``pocketsphinx``. Recordings with a word that the dictionary does not have, be it
a name or another language, are passed over.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from kws.audio.files import read_audio
from kws.audio.samples import SAMPLE_RATE_HZ, Pcm
from kws.errors import KwsError
from kws.system.cache import cache_folder, files_key, make_room
from kws.system.files import atomic_write
from kws.system.processes import share_out, usable_cores
from kws.system.progress import Progress, tell

PACKAGE = "pocketsphinx"
FRAME_MS = 10
"""A phone is given for every 10 ms, the step of the models."""
FRAME_SAMPLES = FRAME_MS * SAMPLE_RATE_HZ // 1000
SILENCE = 0
"""Position in `PHONES` of silence, breath and noise."""
UNKNOWN = -1
"""Where nobody knows what is heard."""
PHONES = (
    *("SIL", "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY"),
    *("F", "G", "HH", "IH", "IY", "JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S"),
    *("SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH"),
)
"""Silence, and the sounds of English as the CMU Pronouncing Dictionary writes them (ARPAbet)."""

_BATCH = 16
_WORKER = "from kws.data.phones import _serve; _serve()"

Phones = npt.NDArray[np.int8]
"""int8 [frames]: positions in `PHONES`, or `UNKNOWN`."""


def check_aligner() -> None:
    """Make sure that recordings can be aligned.

    Raises:
        KwsError: the package is missing.
    """
    if find_spec(PACKAGE) is None:
        raise KwsError(
            f"Learning the sounds of speech needs the package {PACKAGE!r}. Install it with: "
            "pip install 'kws[train]', or leave them out: [training] phone_weight = 0"
        )


def aligned(root: Path, spoken: Mapping[str, str]) -> dict[str, Phones]:
    """Find the phones of recordings, or take them from the cache.

    The cache holds a file for each folder in `root` (a word, or a speaker), written as soon as all
    of it was heard: work that is interrupted goes on there. It knows recordings by their paths,
    sizes and modification times, and by what they say. Of several processes that want the same,
    one does the work and the others wait for it.

    Args:
        root: the folder that the paths are relative to.
        spoken: path → what is said in it.

    Returns:
        Path → its phones, of those recordings that could be aligned.

    Raises:
        KwsError: the package is missing, or a worker process died.
    """
    check_aligner()
    cache = cache_folder("phones")
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
            found = stored()  # Another process may have found them meanwhile.
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
            f"{root}: the sounds of {len(phones):,} of {len(spoken):,} recordings are learnt; the "
            "others hold words that the English dictionary does not have, or cannot be followed"
        )
    return phones


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait until no other process is within; one that ends, however it does, is within no more."""
    with lock.open("wb") as file:
        with suppress(ImportError, OSError):  # Windows, and disks of other machines: no waiting
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                tell("waiting for another training that is finding the sounds of speech")
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def cut(phones: Phones, start: int, samples: int) -> Phones:
    """Return the phones of a piece of a recording, int8 [samples / FRAME_SAMPLES].

    Args:
        phones: of the recording.
        start: first sample of the piece.
        samples: its length; what lies past the end of the recording is silence.
    """
    frames = samples // FRAME_SAMPLES
    piece = phones[start // FRAME_SAMPLES :][:frames]
    return np.pad(piece, (0, frames - len(piece)), constant_values=SILENCE)


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
    """Align in worker processes, for the aligner holds Python's lock.

    Yields:
        Each folder, as soon as all of it is done, and the phones of its recordings.
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
    with Progress(total, "finding the sounds of speech", unit="recordings") as progress:
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
    assert process.stdin is not None and process.stdout is not None
    with suppress(BrokenPipeError):  # A worker that died is seen below.
        process.stdin.write(json.dumps(batch).encode() + b"\n")
        process.stdin.flush()
    line = process.stdout.readline()
    if not line.endswith(b"\n"):
        raise KwsError(
            "A process that finds the sounds of speech ended without a word, perhaps for lack of "
            f"memory. Received: exit status {process.wait()}. Close other programs and try again"
        )
    return [None if one is None else np.array(one, np.int8) for one in json.loads(line)]


def _serve() -> None:
    """The worker's side of `_ask`: a line of JSON in, a line of JSON out."""
    answers: IO[bytes] = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # Whatever a library prints must not end up among the answers.
    aligner = Aligner()
    for line in sys.stdin:
        found = []
        for path, text in json.loads(line):
            try:
                phones = aligner.align(read_audio(path), text)
            except KwsError:
                phones = None  # Who cuts it says that it cannot be read.
            found.append(None if phones is None else phones.tolist())
        with suppress(BrokenPipeError):  # The parent has gone, and stdin will end.
            answers.write(json.dumps(found).encode() + b"\n")
            answers.flush()


class Aligner:
    """Lays the sounds of a text along a recording of it.

    Example:
        >>> Aligner().align(pcm, "turn the lights on")  # doctest: +SKIP
    """

    def __init__(self) -> None:
        """Load dictionary and models, 0.2 s."""
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
        """Return the phones of a recording, one for every whole 10 ms.

        Args:
            pcm: int16 [n] at 16 kHz.
            text: what is said in it; case and punctuation do not matter.

        Returns:
            None where a word is not in the dictionary, or does not fit what is heard.
        """
        words = re.findall(r"[a-z']+", text.lower())
        if (
            not len(pcm)
            or not words
            or any(self._decoder.lookup_word(word) is None for word in words)
        ):
            return None
        if re.search(r"[^\W\d_a-z]|\d", text.lower()):
            return None  # a letter of another language, or a number, which may be read in many ways
        try:
            self._decoder.set_align_text(" ".join(words))
            self._hear(pcm)
            if self._decoder.hyp() is None:
                return None
            # A second time over it: the first finds the words, this one their sounds.
            self._decoder.set_alignment()
            self._hear(pcm)
            alignment = self._decoder.get_alignment()
        except RuntimeError:
            return None
        phones = np.zeros(len(pcm) // FRAME_SAMPLES, np.int8)
        for word in alignment or ():
            for phone in word:
                place = slice(phone.start, phone.start + phone.duration)
                phones[place] = _POSITIONS.get(phone.name, SILENCE)
        return phones

    def _hear(self, pcm: Pcm) -> None:
        self._decoder.start_utt()
        try:
            self._decoder.process_raw(np.ascontiguousarray(pcm, "<i2").tobytes(), full_utt=True)
        finally:
            self._decoder.end_utt()


_POSITIONS = {name: i for i, name in enumerate(PHONES)}
