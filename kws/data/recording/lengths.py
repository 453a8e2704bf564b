"""How long a word lasts in the clips of a data set, since a network's clip must hold it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kws.audio.files import read_audio
from kws.data.clips import AUDIO_SUFFIXES
from kws.data.recording.find_words import find_utterances, strongest
from kws.data.split import speaker_of
from kws.errors import KwsError
from kws.wording import counted

MOST_CLIPS = 1000
"""Of more clips this many are measured, evenly spread; more would not change the figures."""


@dataclass(frozen=True, kw_only=True)
class WordLengths:
    """The length of a word as people say it."""

    word: str
    """The label."""
    clips: int
    """Clips in its folder."""
    speakers: int
    """Different speakers, by the clips' names."""
    measured: int
    """Clips in which a word stands out of the background, of at most `MOST_CLIPS`."""
    median_s: float
    """Median length in s; 0 if none was measured."""
    p95_s: float
    """95th percentile, in s."""
    longest_s: float
    """Longest, in s."""

    def __str__(self) -> str:
        """Return a line such as ``computer: 20 clips by 20 speakers, 0.61 s median, …``."""
        held = f"{counted(self.clips, 'clip')} by {counted(self.speakers, 'speaker')}"
        if not self.measured:
            return f"{self.word}: {held}"
        return f"{self.word}: {held}, {self.median_s:.2f} s median, {self.longest_s:.2f} s longest"


def word_lengths(folder: str | os.PathLike[str], word: str) -> WordLengths:
    """Measure the word in each of its clips, from beginning to end.

    Args:
        folder: the data set.
        word: the label; its clips are in ``folder/<word>``.

    Returns:
        The figures. Unreadable clips, and those in which nothing stands out, do not count as
        measured.

    Raises:
        KwsError: there are no clips of the word.
    """
    place = Path(folder) / word
    # Not from the data set's index, which may be large and is only created for training.
    names = (
        sorted(path.name for path in place.iterdir() if _is_clip(path)) if place.is_dir() else []
    )
    if not names:
        raise KwsError(
            f"There are no clips of {word!r} in {folder}. Received: no sound files in {place}. "
            "Add some with `kws data record` or `kws data add`"
        )
    lengths = []
    for i in np.linspace(0, len(names) - 1, min(len(names), MOST_CLIPS)).round().astype(int):
        try:
            found = find_utterances(read_audio(place / names[i]))
        except KwsError:  # training reports unreadable clips
            continue
        if found:
            lengths.append(strongest(found).length_s)
    median_s, p95_s, longest_s = np.percentile(lengths or [0.0], [50, 95, 100]).tolist()
    return WordLengths(
        word=word,
        clips=len(names),
        speakers=len({speaker_of(name) for name in names}),
        measured=len(lengths),
        median_s=median_s,
        p95_s=p95_s,
        longest_s=longest_s,
    )


def _is_clip(path: Path) -> bool:
    return not path.name.startswith(".") and path.suffix.lower() in AUDIO_SUFFIXES
