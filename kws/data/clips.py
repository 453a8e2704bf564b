"""The index of a folder of clips: the label, speaker and part of each.

It consists of NumPy columns and one blob of names, about 45 bytes for a clip of Speech Commands.
`kws.data.scan` creates it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kws.data.split import SPLITS, speaker_of
from kws.errors import KwsError
from kws.labels import folded

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff"})
"""Files with these suffixes (in any case) are clips; others are skipped."""

NOISE_FOLDER = "_background_noise_"
"""Long recordings without speech; not a label."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipIndex:
    """Clips in columns; entry i of each array belongs to clip i, sorted by label and name."""

    root: Path
    """The folder that holds the label folders."""
    labels: tuple[str, ...]
    """Names of the label folders, sorted."""
    label_ids: npt.NDArray[np.int32]
    """Label of each clip, as a position in `labels` [n]."""
    splits: npt.NDArray[np.uint8]
    """Part of each clip, as a position in `kws.data.split.SPLITS` [n]."""
    speaker_keys: npt.NDArray[np.uint64]
    """A number for the speaker of each clip; equal numbers mean the same speaker [n]."""
    generated: npt.NDArray[np.bool_]
    """Whether the speaker is a synthesiser's voice, by its name [n]."""
    split_rule: str
    """How the parts were chosen: ``"lists"`` that came with the data, ``"speaker"`` (the hash of
    the speaker, as in Speech Commands), ``"clip"`` (fewer than ten people: the hash of the clip's
    own name), or ``"recipe"`` (all of it is for testing)."""
    noise: tuple[Path, ...]
    """The recordings in ``_background_noise_``, sorted."""
    names: npt.NDArray[np.uint8]
    """File names, concatenated; shared by all selections."""
    starts: npt.NDArray[np.int64]
    """Where the name of each clip begins in `names` [n]."""
    lengths: npt.NDArray[np.int32]
    """Bytes in the name of each clip [n]."""

    def __len__(self) -> int:
        return len(self.label_ids)

    def name(self, i: int) -> str:
        """Return the file name of clip `i`, without its folder."""
        start = int(self.starts[i])
        return os.fsdecode(self.names[start : start + int(self.lengths[i])].tobytes())

    def path(self, i: int) -> str:
        """Return clip `i` as ``<label>/<file name>``, relative to `root`."""
        return f"{self.word(i)}/{self.name(i)}"

    def word(self, i: int) -> str:
        """Return the label of clip `i`."""
        return self.labels[self.label_ids[i]]

    def speaker(self, i: int) -> str:
        """Return the speaker of clip `i`: its name up to ``_nohash_``, or without suffix."""
        return speaker_of(self.name(i))

    def split(self, i: int) -> str:
        """Return the part of clip `i`."""
        return SPLITS[self.splits[i]]

    @property
    def paths(self) -> list[str]:
        """All clips as ``<label>/<file name>``, relative to `root` [n]."""
        return [self.path(i) for i in range(len(self))]

    @property
    def words(self) -> list[str]:
        """The label of each clip [n]."""
        return [self.labels[i] for i in self.label_ids]

    @property
    def n_speakers(self) -> int:
        """Number of different speakers."""
        return len(np.unique(self.speaker_keys))

    def counts(self) -> dict[str, int]:
        """Return the number of clips of each label."""
        per_word = np.bincount(self.label_ids, minlength=len(self.labels))
        return {word: int(n) for word, n in zip(self.labels, per_word, strict=True)}

    def select(self, *, split: str | None = None, words: Iterable[str] | None = None) -> ClipIndex:
        """Return only the clips of one part and of some labels; names are shared, not copied.

        Labels match in any spelling (`kws.labels.folded`).

        Raises:
            KwsError: no such part.
        """
        chosen = np.ones(len(self), bool)
        if split is not None:
            if split not in SPLITS:
                raise KwsError(
                    f"Unknown part of the data. Received: {split!r}. Use {', '.join(SPLITS)}"
                )
            chosen &= self.splits == SPLITS.index(split)
        if words is not None:
            wanted = {folded(word) for word in words}
            ids = [i for i, label in enumerate(self.labels) if folded(label) in wanted]
            chosen &= np.isin(self.label_ids, ids)
        return self.take(np.flatnonzero(chosen))

    def without(self, labels: Collection[str]) -> ClipIndex:
        """Return the clips of all labels but these, which are given folded."""
        kept = [label for label in self.labels if folded(label) not in labels]
        return self if len(kept) == len(self.labels) else self.select(words=kept)

    def take(self, which: npt.ArrayLike) -> ClipIndex:
        """Return the clips at these positions, in this order."""
        at = np.asarray(which, np.int64)
        return replace(
            self,
            label_ids=self.label_ids[at],
            splits=self.splits[at],
            speaker_keys=self.speaker_keys[at],
            generated=self.generated[at],
            starts=self.starts[at],
            lengths=self.lengths[at],
        )


def label_counts(indexes: Sequence[ClipIndex], split: str | None = None) -> Counter[str]:
    """Count the clips of each `folded` label in all folders."""
    counts: Counter[str] = Counter()
    for index in indexes:
        for label, n in index.select(split=split).counts().items():
            counts[folded(label)] += n
    return counts


def audio_in(root: Path) -> list[Path]:
    """Return the sound files below a folder, sorted.

    Raises:
        KwsError: no such folder, or no sound files in it.
    """
    if not root.is_dir():
        what = "a file" if root.exists() else "nothing there"
        raise KwsError(f"The folder {root} does not exist. Received: {what}. Check the path")
    found = sorted(
        path
        for path in root.rglob("*")
        if path.suffix.lower() in AUDIO_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
    )
    if not found:
        raise KwsError(f"The folder {root} contains no recordings. Received: no audio file")
    return found
