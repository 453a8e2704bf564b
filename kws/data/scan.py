"""Scan a folder of ``<label>/<clip>`` for its clips, their speakers and their parts.

Any folder works: WAV, FLAC, OGG, Opus or MP3, one folder for each label. The index is cached, so
that scanning an unchanged folder again takes milliseconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kws.data.clips import AUDIO_SUFFIXES, NOISE_FOLDER, ClipIndex
from kws.data.split import (
    RECORD,
    SPLITS,
    SYNTHESISER,
    TESTING,
    TESTING_LIST,
    TRAINING,
    VALIDATION_LIST,
    hash_key,
    is_for_testing,
    list_key,
    read_lists,
    speaker_of,
    split_of_key,
)
from kws.errors import KwsError, some
from kws.labels import SILENCE, UNKNOWN
from kws.system.cache import cache_folder
from kws.system.files import atomic_write

MINIMUM_SPEAKERS = 10
"""With fewer speakers than this, parts of 10 % of the speakers would often be empty."""
MOST_OF_ONE = 0.5
"""The hash of one name should not decide over a larger share of the clips than this."""

_FORMAT = 3
"""Changes when the cached columns or the rules behind them change."""

_RACY_S = 2.0
"""A folder changed this recently may change again without a new time stamp: do not cache it."""


def scan(root: str | os.PathLike[str], *, cached: bool = True) -> ClipIndex:
    """Scan a folder of ``<label>/<clip>`` and return its index.

    Hidden files, files that are not audio, and folders that begin with ``_`` are skipped, except
    ``_silence_`` and ``_unknown_`` (ordinary labels here) and ``_background_noise_`` (its
    recordings are in `ClipIndex.noise`).

    If ``validation_list.txt`` or ``testing_list.txt`` in `root` mention a label, they choose the
    parts of its clips; otherwise the hash of the speaker does (`kws.data.split`). If the clips left
    to the hash come from fewer than `MINIMUM_SPEAKERS` people, a part would often be empty, so each
    clip's own name is hashed instead; the same applies to a person who speaks more than
    `MOST_OF_ONE` of them. Speakers that occur only in ``_unknown_`` do not count as people, since
    `kws data add` names a speaker for every false alarm; nor do a synthesiser's voices. Each of
    these two groups follows the same rule separately, except that false alarms stay in training. A
    data set fetched by a recipe with ``split = "testing"`` is entirely for testing.

    Args:
        root: the folder.
        cached: use and write the cache. It is renewed when the folder, a label folder or a list
            has changed.

    Raises:
        KwsError: no such folder, no label folders, or no clips in them; a folder with background
            noise needs no clips.
    """
    folder = Path(root)
    if not folder.is_dir():
        what = "a file" if folder.exists() else "nothing there"
        raise KwsError(
            f"The data folder {folder} does not exist. Received: {what}. "
            "Give a folder that contains one folder of clips for each label"
        )
    folder = folder.resolve()
    try:
        labels, fingerprint, newest = _look(folder)
        noise = _noise(folder)
        if not labels and not noise:
            raise KwsError(
                f"The data folder {folder} contains no label folders. Received: "
                f"{_listing(folder)}. Put the clips in one folder for each label: "
                "DIR/<label>/<clip>.wav"
            )
        if cached and (index := _load(folder, fingerprint)) is not None:
            return index
        index = _scan(folder, labels)
    except PermissionError as error:
        raise KwsError(
            f"No permission to read the folder {error.filename}. Received: {error.strerror}. "
            "Change its permissions"
        ) from error
    if not len(index) and not noise:
        raise KwsError(
            f"The data folder {folder} contains no clips. Received: {len(labels)} folders "
            f"({', '.join(labels[:3])}{', …' if len(labels) > 3 else ''}) without an audio file. "
            f"Put {', '.join(sorted(AUDIO_SUFFIXES))} files in them"
        )
    if cached and newest < time.time() - _RACY_S:
        _save(index, fingerprint)
    return index


def _listing(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir())
    return some(names, 3) if names else "an empty folder"


def _is_label(name: str) -> bool:
    return name in (SILENCE, UNKNOWN) or not name.startswith((".", "_"))


def _is_clip(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES  # noqa: PTH122


def _look(root: Path) -> tuple[list[str], str, float]:
    """Return the label folders, a fingerprint of the folder, and its newest time stamp."""
    labels = []
    stamps: list[tuple[str, int, int]] = []
    with os.scandir(root) as entries:
        for entry in entries:
            name = entry.name
            if entry.is_dir():
                if _is_label(name):
                    labels.append(name)
                elif name != NOISE_FOLDER:
                    continue
            elif name not in (VALIDATION_LIST, TESTING_LIST, RECORD):
                continue
            info = entry.stat()
            size = 0 if entry.is_dir() else info.st_size
            stamps.append((name, info.st_mtime_ns, size))
    stamps.sort()
    newest = max((ns for _, ns, _ in stamps), default=0) / 1e9
    content = json.dumps([_FORMAT, os.fspath(root), stamps])
    return sorted(labels), hashlib.sha256(os.fsencode(content)).hexdigest(), newest


def _clip_names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if _is_clip(e.name) and e.is_file())


def _scan(root: Path, labels: Sequence[str]) -> ClipIndex:
    lists = read_lists(root)
    listed_words = {key.split("/", 1)[0] for key in lists or ()}
    names = bytearray()
    lengths: list[npt.NDArray[np.int32]] = []
    label_ids: list[npt.NDArray[np.int32]] = []
    keys: list[npt.NDArray[np.uint64]] = []
    splits: list[npt.NDArray[np.uint8]] = []
    generated: list[npt.NDArray[np.bool_]] = []
    hashed: list[npt.NDArray[np.bool_]] = []
    kept: list[str] = []
    for label in labels:
        found = _clip_names(root / label)
        if not found:
            continue
        lengths_here = np.empty(len(found), np.int32)
        keys_here = np.empty(len(found), np.uint64)
        splits_here = np.zeros(len(found), np.uint8)
        generated_here = np.empty(len(found), np.bool_)
        by_list = lists is not None and label in listed_words
        for i, name in enumerate(found):
            encoded = os.fsencode(name)
            names += encoded
            lengths_here[i] = len(encoded)
            speaker = speaker_of(name)
            generated_here[i] = speaker.startswith(SYNTHESISER)
            key = hash_key(speaker)
            keys_here[i] = int.from_bytes(key[:8], "big")
            if by_list and lists is not None:
                splits_here[i] = SPLITS.index(lists.get(list_key(f"{label}/{name}"), SPLITS[0]))
            else:
                splits_here[i] = SPLITS.index(split_of_key(key))
        lengths.append(lengths_here)
        keys.append(keys_here)
        splits.append(splits_here)
        generated.append(generated_here)
        hashed.append(np.full(len(found), not by_list))
        label_ids.append(np.full(len(found), len(kept), np.int32))
        kept.append(label)

    all_lengths = _joined(lengths, np.int32)
    index = ClipIndex(
        root=root,
        labels=tuple(kept),
        label_ids=_joined(label_ids, np.int32),
        splits=_joined(splits, np.uint8),
        speaker_keys=_joined(keys, np.uint64),
        generated=_joined(generated, np.bool_),
        split_rule="lists" if lists is not None else "speaker",
        noise=_noise(root),
        names=np.frombuffer(names, np.uint8),
        starts=np.cumsum(all_lengths, dtype=np.int64) - all_lengths,
        lengths=all_lengths,
    )
    by_hash = np.flatnonzero(_joined(hashed, np.bool_))
    few, by_clip = _by_clip(index.take(by_hash))
    for i in by_hash[by_clip].tolist():
        stem = os.path.splitext(index.path(i))[0]  # noqa: PTH122
        index.splits[i] = SPLITS.index(split_of_key(hash_key(stem)))
    if few and lists is None:
        index = replace(index, split_rule="clip")
    if is_for_testing(root):
        index.splits[:] = SPLITS.index(TESTING)
        index = replace(index, split_rule="recipe")
    return index


def _by_clip(index: ClipIndex) -> tuple[bool, npt.NDArray[np.bool_]]:
    """Return whether there are few people, and the clips whose own names must be hashed.

    Without people, voices decide whether there are few, and without voices false alarms.
    """
    special = [i for i, label in enumerate(index.labels) if label in (SILENCE, UNKNOWN)]
    of_words = ~np.isin(index.label_ids, special)
    # A speaker of any word counts as a person in all of their clips.
    known = np.isin(index.speaker_keys, index.speaker_keys[of_words])
    people, voices = ~index.generated & known, index.generated
    alarms = ~index.generated & ~known
    by_clip = np.zeros(len(index), np.bool_)
    few: list[bool] = []
    for group in (people, voices, alarms):
        if not group.any():
            continue
        keys, counts = np.unique(index.speaker_keys[group], return_counts=True)
        few.append(len(keys) < MINIMUM_SPEAKERS)
        if few[-1]:
            by_clip |= group
        elif counts.max() > MOST_OF_ONE * counts.sum():
            by_clip |= group & (index.speaker_keys == keys[counts.argmax()])
    # False alarms are named so that they are trained on (`kws.data.split.training_speaker`).
    by_clip &= ~alarms | (index.splits != SPLITS.index(TRAINING))
    return few[:1] == [True], by_clip


def _joined(columns: list[npt.NDArray], dtype: npt.DTypeLike) -> npt.NDArray:
    return np.concatenate(columns) if columns else np.empty(0, dtype)


def _noise(root: Path) -> tuple[Path, ...]:
    folder = root / NOISE_FOLDER
    return tuple(folder / name for name in _clip_names(folder)) if folder.is_dir() else ()


_COLUMNS = ("label_ids", "splits", "speaker_keys", "generated", "names", "starts", "lengths")


def _cache_file(root: Path) -> Path:
    return cache_folder("index") / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:32]}.npz"


def _load(root: Path, fingerprint: str) -> ClipIndex | None:
    # If anything is wrong with a cached index, the folder is scanned again.
    try:
        with np.load(_cache_file(root), allow_pickle=False) as stored:
            head = json.loads(stored["head"].tobytes())
            if head["fingerprint"] != fingerprint:
                return None
            return ClipIndex(
                root=root,
                labels=tuple(head["labels"]),
                split_rule=head["split_rule"],
                noise=tuple(root / NOISE_FOLDER / name for name in head["noise"]),
                **{column: stored[column] for column in _COLUMNS},
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, KwsError):
        return None


def _save(index: ClipIndex, fingerprint: str) -> None:
    head = {
        "fingerprint": fingerprint,
        "labels": index.labels,
        "split_rule": index.split_rule,
        "noise": [path.name for path in index.noise],
    }
    columns = {column: getattr(index, column) for column in _COLUMNS}
    # If the cache cannot be written, the next run only takes a second longer.
    with contextlib.suppress(OSError, KwsError), atomic_write(_cache_file(index.root)) as file:
        np.savez(file, head=np.frombuffer(json.dumps(head).encode(), np.uint8), **columns)
