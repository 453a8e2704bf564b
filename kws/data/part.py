"""One part of a data set as a separate folder, to measure models on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from kws.audio.files import write_wav
from kws.audio.samples import Pcm
from kws.data.noise_recordings import read_noise, silence_clips, split_noise
from kws.data.scan import scan
from kws.data.split import SPLITS, TESTING, TESTING_LIST, VALIDATION, VALIDATION_LIST
from kws.errors import KwsError
from kws.labels import SILENCE, folded
from kws.system.files import hidden_folder
from kws.system.progress import Progress

SILENCE_DBFS = (-60.0, -10.0)
SILENCE_SEED = 0
_ALL = "all"


def write_part(
    root: str | os.PathLike[str],
    part: str,
    target: str | os.PathLike[str],
    *,
    words: Sequence[str] = (),
    silence: int = 0,
) -> dict[str, int]:
    """Write the clips of one part to `target`/<label>/, as hard links where possible, else copies.

    A linked clip is the same file: changed in place, it changes in the data set as well. Lists keep
    each clip in its part, so that clips for measuring are never trained on.

    Args:
        root: the data set.
        part: ``"training"``, ``"validation"``, ``"testing"`` or ``"all"``.
        target: a new folder; it appears only once it is complete.
        words: only these labels; by default all.
        silence: number of clips of background noise for the label ``_silence_``, at RMS levels of
            −60 to −10 dBFS, from the end of each noise recording, which is never trained on (from
            its beginning for the training part).

    Returns:
        Number of clips of each label.

    Raises:
        KwsError: `target` exists, an unknown part, a word or the part has no clips, or there is no
            noise to cut silence from.
    """
    if part not in (*SPLITS, _ALL):
        raise KwsError(
            f"Unknown part of the data. Received: {part!r}. Use {', '.join((*SPLITS, _ALL))}"
        )
    folder = Path(target)
    if folder.exists():
        raise KwsError(f"The folder must not exist yet. Received: {folder}. Choose another name")
    whole = scan(root)
    there = {folded(label) for label in whole.labels}
    unknown = sorted(word for word in set(words) if folded(word) not in there)
    if unknown:
        raise KwsError(
            f"{whole.root} has no folder for a word. Received: {', '.join(unknown)}. "
            "Check the spelling"
        )
    index = whole.select(split=None if part == _ALL else part, words=words or None)
    if not len(index):
        raise KwsError(f"No clip of {whole.root} is in the {part} part: there is nothing to do")
    quiet: Iterable[Pcm] = ()
    if silence:
        recordings = split_noise(read_noise(whole))[part != "training"]
        quiet = silence_clips(recordings, silence, 16000, SILENCE_DBFS, SILENCE_SEED)
    folder.parent.mkdir(parents=True, exist_ok=True)
    hidden = hidden_folder(folder)
    try:
        hidden.mkdir()
        with Progress(len(index), f"collecting {part} clips", unit="clips") as progress:
            for name in index.paths:
                (hidden / name).parent.mkdir(exist_ok=True)
                clip = (whole.root / name).resolve()  # the target of a symbolic link
                try:
                    (hidden / name).hardlink_to(clip)
                except OSError:  # another file system, or one without hard links
                    shutil.copyfile(clip, hidden / name)
                progress.advance()
        for split, name in ((VALIDATION, VALIDATION_LIST), (TESTING, TESTING_LIST)):
            # A list cannot hold names with line breaks or names that are not UTF-8.
            paths = [path for path in index.select(split=split).paths if path.isprintable()]
            if paths:
                (hidden / name).write_text("\n".join([*paths, ""]), encoding="utf-8")
        for i, pcm in enumerate(quiet):
            write_wav(hidden / SILENCE / f"background_nohash_{i}.wav", pcm, 16000)
        hidden.replace(folder)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise
    counts = {label: n for label, n in index.counts().items() if n}
    return {**counts, SILENCE: counts.get(SILENCE, 0) + silence} if silence else counts
