"""Which clips train, which validate and which test: decided by the speaker, for good.

The rule is that of Speech Commands (P. Warden, "Speech Commands: A Dataset for Limited-Vocabulary
Speech Recognition", arXiv 1804.03209, section 5.8, and the README of the archive): a hash of the
file name up to ``_nohash_`` picks the part, so a speaker never stands on two sides, and a clip
stays on its side when others are added. Where a data set comes with lists, the lists win; one that
its recipe keeps for measuring is for testing, all of it.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path, PurePosixPath

from kws.errors import KwsError

TRAINING, VALIDATION, TESTING = SPLITS = ("training", "validation", "testing")
"""The three parts; their positions here are the codes in `ClipIndex.splits`."""

VALIDATION_PERCENT = 10.0
TESTING_PERCENT = 10.0
VALIDATION_LIST = "validation_list.txt"
TESTING_LIST = "testing_list.txt"
RECORD = ".kws_dataset.json"
"""File in a fetched data set that says what it is and where it came from."""

SYNTHESISER = "espeak-"
"""What the names of speakers begin with that are a synthesiser's voices, no people."""

_MAX_CLIPS = 2**27 - 1
"""The original's MAX_NUM_WAVS_PER_CLASS, "~134M"."""


def speaker_of(name: str) -> str:
    """Return the speaker: the file name up to ``_nohash_``, else without its suffix.

    Args:
        name: file name, with or without folders.

    Example: ``speaker_of("yes/3cfc6b3a_nohash_0.wav")`` is ``"3cfc6b3a"``.
    """
    file_name = name.rpartition("/")[2]
    speaker, marker, _ = file_name.partition("_nohash_")
    return speaker if marker else PurePosixPath(file_name).stem


def recording_speaker(path: str) -> str:
    """Return who speaks in a recording below ``<speaker>/``; one in no folder says so by its name.

    Args:
        path: relative to the folder that holds the speakers'.
    """
    return path.split("/")[0] if "/" in path else speaker_of(path)


def hash_key(speaker: str) -> bytes:
    """Return the 20 bytes of SHA-1 from which the speaker's part follows."""
    return hashlib.sha1(speaker.encode("utf-8", "surrogateescape"), usedforsecurity=False).digest()


def split_of_key(key: bytes) -> str:
    """Return the part for a `hash_key`: ``"training"``, ``"validation"`` or ``"testing"``."""
    percentage = (int.from_bytes(key, "big") % (_MAX_CLIPS + 1)) * (100.0 / _MAX_CLIPS)
    if percentage < VALIDATION_PERCENT:
        return VALIDATION
    if percentage < VALIDATION_PERCENT + TESTING_PERCENT:
        return TESTING
    return TRAINING


def split_of(name: str) -> str:
    """Return the part that the original's ``which_set`` gives a clip.

    One difference: a name without ``_nohash_`` is hashed without its suffix, so that a clip
    stays in its part when it is stored in another format. No clip of Speech Commands lacks it.

    Args:
        name: file name, with or without folders.

    Returns:
        ``"training"``, ``"validation"`` (10 % of the speakers) or ``"testing"`` (10 %).
    """
    return split_of_key(hash_key(speaker_of(name)))


def training_speaker(name: str) -> str:
    """Return `name`, or it with the first number after it that falls to the training part.

    For clips of what a model wrongly fired on: they are there to be learnt.
    """
    speaker, turn = name, 0
    while split_of_key(hash_key(speaker)) != TRAINING:
        turn += 1
        speaker = f"{name}.{turn}"
    return speaker


def read_lists(root: Path) -> dict[str, str] | None:
    """Read ``validation_list.txt`` and ``testing_list.txt`` of a data folder.

    Returns:
        Relative path without suffix → part, or None where there is neither file. Clips of a word
        that the lists mention but do not name themselves are for training.

    Raises:
        KwsError: a list is not text.
    """
    found = None
    for file_name, part in ((VALIDATION_LIST, VALIDATION), (TESTING_LIST, TESTING)):
        path = root / file_name
        if not path.is_file():
            continue
        found = {} if found is None else found
        try:
            # Some editors begin a file with a byte order mark, which is no part of the first name.
            lines = path.read_text("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise KwsError(
                f"{path} is not a list of clips. Received: a file that is not UTF-8 text. "
                "Write one <label>/<clip> for each line, or remove it"
            ) from error
        for line in lines:
            if clip := line.strip().replace("\\", "/"):
                found[list_key(clip)] = part
    return found


def is_for_testing(root: Path) -> bool:
    """Whether the data set in this folder was fetched by a recipe with ``split = "testing"``."""
    try:
        record = json.loads((root / RECORD).read_text("utf-8"))
    except (OSError, ValueError):  # not fetched, or somebody's own file
        return False
    return isinstance(record, dict) and record.get("split") == TESTING


def list_key(path: str) -> str:
    """Return how lists and clips are matched: without suffix, so a converted set still fits."""
    return os.path.splitext(path)[0]  # noqa: PTH122 (a Path for each of 100,000 clips is slow)
