"""Recordings that streams are built from: words, sentences and noise from chosen parts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from kws.audio.files import read_audio
from kws.audio.samples import Pcm
from kws.data.clips import ClipIndex, audio_in
from kws.data.forbidden import Forbidden
from kws.data.noise_recordings import read_noise, split_noise
from kws.data.scan import scan
from kws.data.split import SPLITS, TRAINING, recording_speaker, split_of
from kws.data.transcripts import free_sentences
from kws.errors import KwsError, some
from kws.labels import SILENCE, UNKNOWN, folded
from kws.wording import counted


@dataclass(frozen=True, kw_only=True)
class Material:
    """Recordings to build streams from."""

    words: dict[str, tuple[Path, ...]]
    """The clips of each keyword, each of which contains the word once."""
    others: tuple[Path, ...]
    """Clips of words that are not keywords."""
    sentences: tuple[Path, ...]
    """Sentences in which no keyword is spoken."""
    noise: tuple[Pcm, ...]
    """Recordings without speech, int16 [n] each."""
    wake_word: str = ""
    """A word to be said shortly before each keyword; empty for none."""
    wakes: tuple[Path, ...] = ()
    """Its clips."""

    def describe(self) -> str:
        """Return a line that says how much there is."""
        clips = sum(map(len, self.words.values()))
        wakes = f"{len(self.wakes):,} of {self.wake_word}, " if self.wakes else ""
        return (
            f"{counted(clips, 'clip')} of {counted(len(self.words), 'keyword')}, {wakes}"
            f"{len(self.others):,} of other words, {counted(len(self.sentences), 'sentence')}, "
            f"{counted(len(self.noise), 'recording')} of noise"
        )


_Place = TypeVar("_Place")
Folders = str | Path | Sequence[str | Path]
"""One folder or several."""


def gather(
    clips: Folders | Sequence[ClipIndex],
    keywords: Sequence[str],
    *,
    commands: bool = True,
    parts: Collection[str] = ("validation",),
    sentences: Folders | None = None,
    sentence_parts: Collection[str] | None = None,
    speakers: Collection[str] | None = None,
    noise: str | Path | None = None,
    wake: str | Path | None = None,
) -> Material:
    """Find recordings to build streams from.

    Args:
        clips: folders of <label>/<clip>, or what `scan` found in them. Labels that contain no
            keyword (nor a form of one) are the other words.
        keywords: the words that a model listens for.
        commands: whether the stream needs clips of the keywords; other words and sentences never
            contain them in any case.
        parts: parts of the clips' speakers: training, validation, testing.
        sentences: folders of <speaker>/<recording> with transcripts.tsv. Sentences that may contain
            a keyword (`kws.data.forbidden`) are left out.
        sentence_parts: parts of the sentences' speakers, by their hash; by default as `parts`.
        speakers: these speakers of sentences instead.
        noise: a folder of noise recordings, used whole. By default those that came with the clips:
            the end of each, which is never trained on, or the rest if `parts` is training alone.
        wake: a folder of clips of a wake word, used whole; its name is the word. Neither other
            words nor sentences contain it.

    Raises:
        KwsError: a missing folder, part or speaker, nothing that matches, or a wake word that is a
            keyword, too.
    """
    for part in (*parts, *(sentence_parts or ())):
        if part not in SPLITS:
            raise KwsError(f"Unknown part of the data. Received: {part!r}. Use {', '.join(SPLITS)}")
    if sentences is None and (speakers is not None or sentence_parts is not None):
        raise KwsError("Speakers of sentences were chosen, but no folder. Add --sentences DIR")
    wake_word, wakes = ("", ()) if wake is None else _wakes(Path(wake), keywords)
    barred = (*keywords, *([wake_word] if wake_word else []))
    indexes = [one if isinstance(one, ClipIndex) else scan(one) for one in _each(clips)]
    words, others = _clips_by_word(indexes, keywords, commands, parts, barred)
    return Material(
        words=words,
        others=others,
        sentences=tuple(
            path
            for folder in ([] if sentences is None else _each(sentences))
            for path in _some_sentences(Path(folder), barred, sentence_parts or parts, speakers)
        ),
        noise=tuple(_noise(indexes, noise, parts)),
        wake_word=wake_word,
        wakes=wakes,
    )


def _wakes(folder: Path, keywords: Sequence[str]) -> tuple[str, tuple[Path, ...]]:
    """Return a wake word and its clips, from the folder that is named after it."""
    word = folder.absolute().name
    if folded(word) in {folded(keyword) for keyword in keywords}:
        raise KwsError(
            f"A wake word must not be a keyword, too. Received: {word!r} in {folder}. Choose other "
            "--keywords or another wake word"
        )
    return word, tuple(audio_in(folder))


def _each(folders: str | Path | Sequence[_Place]) -> list[str | Path | _Place]:
    return [folders] if isinstance(folders, (str, Path)) else list(folders)


def _clips_by_word(
    indexes: Sequence[ClipIndex],
    keywords: Sequence[str],
    commands: bool,
    parts: Collection[str],
    barred: Sequence[str],
) -> tuple[dict[str, tuple[Path, ...]], tuple[Path, ...]]:
    """Return the clips of each keyword, if they are needed, and those of words not barred."""
    chosen = [index.select(split=part) for index in indexes for part in SPLITS if part in parts]
    here = {word for one in chosen for word, n in one.counts().items() if n}
    there = {folded(label) for label in here}
    missing = [word for word in keywords if folded(word) not in there]
    if missing and commands:
        raise KwsError(
            f"No clips of {some(missing)} in the {', '.join(parts)} part of {_roots(indexes)}. "
            f"Received: {some(sorted(here))}. Choose other --keywords or another --part"
        )
    forbidden = Forbidden(barred)
    by_word: dict[str, list[Path]] = {word: [] for word in keywords}
    written = {folded(word): word for word in keywords}
    others: list[Path] = []
    for one in chosen:
        for i, label in enumerate(one.labels):
            if keyword := written.get(folded(label)):
                into = by_word[keyword]
            elif label in (SILENCE, UNKNOWN) or forbidden.among(label) is not None:
                continue
            else:
                into = others
            into += [one.root / path for path in one.take(np.flatnonzero(one.label_ids == i)).paths]
    words = {word: tuple(paths) for word, paths in by_word.items() if commands}
    return words, tuple(others)


def _some_sentences(
    folder: Path,
    keywords: Sequence[str],
    parts: Collection[str],
    speakers: Collection[str] | None,
) -> tuple[Path, ...]:
    """Return the sentences in a folder that contain no keyword, at least one."""
    found = find_sentences(folder, keywords, parts=parts, speakers=speakers)
    if not found:
        who = "these speakers" if speakers is not None else f"the {', '.join(parts)} part"
        raise KwsError(
            f"No sentence of {who} in {folder} is known to be free of the keywords. "
            "Choose other speakers, or check the transcripts"
        )
    return found


def _noise(
    indexes: Sequence[ClipIndex], folder: str | Path | None, parts: Collection[str]
) -> list[Pcm]:
    """Return the noise in a folder, or by default parts of the noise that came with the clips."""
    if folder is not None:
        return [read_audio(path) for path in audio_in(Path(folder))]
    recordings = [noise for index in indexes for noise in read_noise(index)]
    if not recordings:
        raise KwsError(
            f"{_roots(indexes)} has no _background_noise_ folder. Give recordings of noise with "
            "--noise-dir DIR"
        )
    return split_noise(recordings)[set(parts) != {TRAINING}]


def _roots(indexes: Sequence[ClipIndex]) -> str:
    return " and ".join(str(index.root) for index in indexes)


def other_clips(
    indexes: Sequence[ClipIndex], keywords: Sequence[str], *, parts: Collection[str]
) -> tuple[Path, ...]:
    """Return the clips of labels that contain no keyword, in some parts; there may be none."""
    return _clips_by_word(indexes, keywords, False, parts, keywords)[1]


def find_sentences(
    root: Path,
    keywords: Sequence[str],
    *,
    parts: Collection[str],
    speakers: Collection[str] | None = None,
) -> tuple[Path, ...]:
    """Return the sentences of some speakers that contain no keyword; there may be none.

    Args:
        root: folder of <speaker>/<recording> with transcripts.tsv.
        keywords: words that must not be spoken.
        parts: parts of the speakers, by their hash.
        speakers: these speakers instead.

    Raises:
        KwsError: no recordings, no transcripts, or an unknown speaker.
    """
    paths = [path.relative_to(root).as_posix() for path in audio_in(root)]
    there = {path: recording_speaker(path) for path in paths}
    if speakers is not None:
        absent = sorted(set(speakers) - set(there.values()))
        if absent:
            raise KwsError(
                f"{root} has no recordings of the speaker {some(absent)}. Received: speakers "
                f"{some(sorted(set(there.values())), 6)}"
            )
        paths = [path for path in paths if there[path] in speakers]
    else:
        paths = [path for path in paths if split_of(there[path]) in parts]
    return tuple(root / path for path in free_sentences(root, paths, keywords))
