"""The split into training, validation and testing, decided permanently by the speaker.

The rule is that of Speech Commands (P. Warden, "Speech Commands: A Dataset for Limited-Vocabulary
Speech Recognition", arXiv 1804.03209, section 5.8, and the README of the archive): a hash of the
file name up to ``_nohash_`` picks the part, so a speaker is never in two parts, and a clip stays in
its part when others are added. If a data set comes with lists, they take precedence; one that its
recipe keeps for measuring is entirely for testing.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path, PurePosixPath

from kws.errors import KwsError

TRAINING, VALIDATION, TESTING = SPLITS = ("training", "validation", "testing")
"""The three parts; `ClipIndex.splits` holds their positions here."""

VALIDATION_PERCENT = 10.0
TESTING_PERCENT = 10.0
VALIDATION_LIST = "validation_list.txt"
TESTING_LIST = "testing_list.txt"
RECORD = ".kws_dataset.json"
"""File in a fetched data set that records its name and source."""

SYNTHESISER = "espeak-"
"""Prefix of speakers that are a synthesiser's voices, not people."""

_MAX_CLIPS = 2**27 - 1
"""The original's MAX_NUM_WAVS_PER_CLASS, "~134M"."""


def speaker_of(name: str) -> str:
    """Return the speaker: the file name up to ``_nohash_``, or else without its suffix.

    Args:
        name: file name, with or without folders.

    Example: ``speaker_of("yes/3cfc6b3a_nohash_0.wav")`` is ``"3cfc6b3a"``.
    """
    file_name = name.rpartition("/")[2]
    speaker, marker, _ = file_name.partition("_nohash_")
    return speaker if marker else PurePosixPath(file_name).stem


def names_speaker(name: str) -> bool:
    """Whether a file name says who speaks: whether it has the marker ``_nohash_``."""
    return "_nohash_" in name.rpartition("/")[2]


def recording_speaker(path: str) -> str:
    """Return the speaker of a recording: its folder, or for one without a folder its name.

    Args:
        path: relative to the folder of the speakers' folders.
    """
    return path.split("/")[0] if "/" in path else speaker_of(path)


def hash_key(speaker: str) -> bytes:
    """Return the SHA-1 (20 bytes) that decides the speaker's part."""
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
    """Return the part of a clip, as the original's ``which_set`` does.

    One difference: a name without ``_nohash_`` is hashed without its suffix, so that a clip stays
    in its part when it is stored in another format. All clips of Speech Commands have the marker.

    Args:
        name: file name, with or without folders.

    Returns:
        ``"training"``, ``"validation"`` (10 % of the speakers) or ``"testing"`` (10 %).
    """
    return split_of_key(hash_key(speaker_of(name)))


def training_speaker(name: str) -> str:
    """Return `name`, with a number appended if needed to put it in the training part.

    For clips of false activations, which are meant to be trained on.
    """
    speaker, turn = name, 0
    while split_of_key(hash_key(speaker)) != TRAINING:
        turn += 1
        speaker = f"{name}.{turn}"
    return speaker


def read_lists(root: Path) -> dict[str, str] | None:
    """Read ``validation_list.txt`` and ``testing_list.txt`` of a data folder.

    Returns:
        Relative path without suffix → part, or None if neither file exists. Clips that the lists
        do not name are for training if the lists mention their word.

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
            # Some editors write a byte order mark, which is not part of the first name.
            lines = path.read_text("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise KwsError(
                f"{path} is not a list of clips. Received: a file that is not UTF-8 text. "
                "Write one <label>/<clip> per line, or remove it"
            ) from error
        for line in lines:
            if clip := line.strip().replace("\\", "/"):
                found[list_key(clip)] = part
    return found


def is_for_testing(root: Path) -> bool:
    """Whether the data set in this folder was fetched by a recipe with ``split = "testing"``."""
    try:
        record = json.loads((root / RECORD).read_text("utf-8"))
    except (OSError, ValueError):  # not fetched, or another file
        return False
    return isinstance(record, dict) and record.get("split") == TESTING


def list_key(path: str) -> str:
    """Return the key that matches lists and clips: without suffix, so converted sets match too."""
    return os.path.splitext(path)[0]  # noqa: PTH122 (a Path for each of 100,000 clips is slow)
