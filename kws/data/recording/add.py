"""Recordings of a word cut and added to a data set, one after the other."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kws.audio.samples import Pcm
from kws.data.recording.find_words import (
    LONGEST_GAP_S,
    LONGEST_S,
    Utterance,
    alike,
    find_utterances,
)
from kws.data.recording.word_clips import (
    AddedClip,
    Cut,
    WordFolder,
    add_cuts,
    cut_other_speech,
    cut_words,
    open_recording,
    uncut,
)
from kws.errors import KwsError
from kws.labels import UNKNOWN

Hear = Callable[[Sequence[Path]], Iterable[Sequence[float] | KwsError]]
"""For each recording the times at which the word was detected, or why it was not."""


@dataclass(frozen=True, kw_only=True)
class Cutting:
    """How recordings are cut."""

    several: bool = False
    """The word is said several times in each recording."""
    whole: bool = False
    """The recordings are clips already and taken as they are."""
    longest_s: float = LONGEST_S
    """Longest word."""
    pause_s: float = LONGEST_GAP_S
    """A pause of this length ends a word."""


@dataclass(frozen=True, kw_only=True)
class AddedRecording:
    """What became of one recording."""

    path: Path
    """The recording."""
    again: str
    """A command that adds it in another way; options can be added at its end."""
    error: KwsError | None = None
    """Why it was refused."""
    pcm: Pcm | None = None
    """Its samples; None if it could not be read."""
    found: Sequence[Utterance] = ()
    """What stands out of its background."""
    cuts: Sequence[Cut] = ()
    """What was cut out of it."""
    clips: Sequence[AddedClip] = ()
    """What became of each cut."""
    left_out: Sequence[Utterance] = ()
    """Other utterances that could be the word; none are listed if a model chose."""


def add_recordings(
    files: Sequence[Path],
    clips: WordFolder,
    cutting: Cutting,
    *,
    speaker: str | None = None,
    rename: bool = False,
    hear: Hear | None = None,
) -> Iterator[AddedRecording]:
    """Cut recordings to the word and add the clips.

    Args:
        files: the recordings.
        clips: the word's clips in the data set. ``_unknown_`` is cut as other speech.
        cutting: how they are cut.
        speaker: as for `add_cuts`.
        rename: as for `add_cuts`.
        hear: finds the word by a model; by default it is found by its energy.

    Yields:
        What became of each recording, in the order given.

    Raises:
        KwsError: a bad speaker.
    """

    def add(path: Path, pcm: Pcm, times_s: Sequence[float] | KwsError | None) -> AddedRecording:
        found: list[Utterance] = []
        cuts: list[Cut] = []
        error = None
        try:
            if cutting.whole:
                cuts = uncut(pcm)
            elif clips.label == UNKNOWN:
                cuts = cut_other_speech(path, pcm)
            else:
                found = find_utterances(pcm, longest_gap_s=cutting.pause_s)
                if isinstance(times_s, KwsError):
                    raise times_s
                cuts = cut_words(
                    path,
                    pcm,
                    found,
                    several=cutting.several,
                    times_s=times_s,
                    longest_s=cutting.longest_s,
                    again=_again(path, clips, speaker, cutting),
                )
        except KwsError as refusal:
            error = refusal
        return AddedRecording(
            path=path,
            again=_again(path, clips, speaker, cutting),
            error=error,
            pcm=pcm,
            found=found,
            cuts=cuts,
            clips=add_cuts(clips, path, pcm, cuts, speaker=speaker, rename=rename),
            left_out=_left_out(found, cuts, cutting.several) if cuts and times_s is None else (),
        )

    detected = [None] * len(files) if hear is None else hear(files)
    for path, times_s in zip(files, detected, strict=True):
        try:
            pcm = open_recording(path)
        except KwsError as error:
            yield AddedRecording(
                path=path, again=_again(path, clips, speaker, cutting), error=error
            )
            continue
        yield add(path, pcm, times_s)


def _again(path: Path, clips: WordFolder, speaker: str | None, cutting: Cutting) -> str:
    options = [] if speaker is None else ["--speaker", speaker]
    if cutting.longest_s != LONGEST_S:
        options += ["--longest", f"{cutting.longest_s:g}"]
    if cutting.pause_s != LONGEST_GAP_S:
        options += ["--pause", f"{cutting.pause_s:g}"]
    to = ["--to", str(clips.path.parent)]
    return shlex.join(["kws", "data", "add", clips.label, str(path), *options, *to])


def _left_out(
    found: Sequence[Utterance], cuts: Sequence[Cut], several: bool
) -> Sequence[Utterance]:
    words = [cut.word for cut in cuts if cut.word]
    left = [one for one in found if one not in words]
    # A cough beside the word is not worth mentioning; a second word is.
    return left if several else [one for one in left if len(alike([*words, one])) == 2]
