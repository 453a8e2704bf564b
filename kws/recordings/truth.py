"""The labelled words of recordings that are keywords of a model."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

from kws.data.label_file import SpokenWord
from kws.errors import KwsError, some
from kws.labels import folded
from kws.model_file import ModelCard
from kws.recordings.posteriors import RecordingPosteriors, run_recordings
from kws.wording import counted


def own_words(
    card: ModelCard, truths: Sequence[Iterable[SpokenWord]]
) -> tuple[list[list[SpokenWord]], list[str]]:
    """Return the words of each recording that are keywords of the model, and a note on others.

    Upper and lower case do not matter (`kws.labels.folded`); words are returned as the model spells
    them.

    Raises:
        KwsError: there are words, but none is a keyword.
    """
    said = [list(truth) for truth in truths]
    return [_spoken_of(card, words) for words in said], _notes_on_others([card], said)


def addressed_words(
    wake: ModelCard, card: ModelCard, truths: Sequence[Sequence[SpokenWord]], *, window_s: float
) -> tuple[list[list[SpokenWord]], list[list[SpokenWord]], list[str]]:
    """Return the wake words of each recording, the commands that follow them, and notes on others.

    A command follows a wake word if it is the first that begins after the wake word's beginning and
    ends after its end, and if it ends at most `window_s` after that end. All other commands should
    not be reported.

    Args:
        wake: the wake word's model.
        card: the model of the commands.
        truths: all words labelled in each recording.
        window_s: how long after the wake word a command counts, in seconds.

    Raises:
        KwsError: there are words, but none is of either model.
    """
    wakes = [_spoken_of(wake, words) for words in truths]
    commands = [_spoken_of(card, words) for words in truths]
    following = [
        _first_after(opened, said, window_s) for opened, said in zip(wakes, commands, strict=True)
    ]
    others, notes = _notes_on_others([wake, card], truths), []
    if rest := sum(map(len, commands)) - sum(map(len, following)):
        notes.append(
            f"not the first within {window_s:g} s of a labelled {' or '.join(wake.keywords)}, so "
            f"not to be reported: {counted(rest, 'labelled command')}"
        )
    return wakes, following, notes + others


def _notes_on_others(
    cards: Sequence[ModelCard], truths: Sequence[Sequence[SpokenWord]]
) -> list[str]:
    """Return a note on labelled words that are keywords of none of the models, if there are any.

    Raises:
        KwsError: there are words, but all of them are others.
    """
    ours = {folded(keyword) for card in cards for keyword in card.keywords}
    said = [word.keyword for words in truths for word in words]
    others = [word for word in said if folded(word) not in ours]
    if not others:
        return []
    names = some(sorted(set(others)))
    models, other = "this model", "another model"
    if len(cards) > 1:
        models, other = "these models", "other models"
    if len(others) == len(said):
        keywords = "; ".join(some(card.keywords) for card in cards)
        raise KwsError(
            f"None of the labelled words is a keyword of {models}. Received: {names}; keywords: "
            f"{keywords}. Use the label file of this recording, or {other}"
        )
    return [
        f"{len(others)} of {len(said)} labelled words are not keywords of {models} and are "
        f"ignored: {names}"
    ]


def _spoken_of(card: ModelCard, words: Iterable[SpokenWord]) -> list[SpokenWord]:
    """Return the words that are keywords of a model, spelt as it spells them, by start."""
    named = {folded(keyword): keyword for keyword in card.keywords}
    ours = [
        dataclasses.replace(word, keyword=named[folded(word.keyword)])
        for word in words
        if folded(word.keyword) in named
    ]
    return sorted(ours, key=lambda word: word.start_s)


def _first_after(
    wakes: Sequence[SpokenWord], commands: Sequence[SpokenWord], window_s: float
) -> list[SpokenWord]:
    """Return the first command after each wake word, unless it ends too late.

    Args:
        wakes: by start.
        commands: by start.
        window_s: from the end of one to the end of the other at most, in seconds.
    """
    following = []
    waiting, begun = deque(wakes), list[SpokenWord]()
    for command in commands:
        while waiting and waiting[0].start_s < command.start_s:
            begun.append(waiting.popleft())
        over = [wake for wake in begun if wake.end_s < command.end_s]
        if any(command.end_s <= wake.end_s + window_s for wake in over):
            following.append(command)
        begun = [wake for wake in begun if wake.end_s >= command.end_s]
    return following


def check_fits(recording: RecordingPosteriors, truth: Iterable[SpokenWord]) -> None:
    """Check that a label file can belong to a recording.

    Raises:
        KwsError: a word begins after the recording's end.
    """
    late = next((word for word in truth if word.start_s >= recording.seconds), None)
    if late is not None:
        raise KwsError(
            f"{recording.audio} lasts {recording.seconds:.2f} s, but {late.keyword!r} is labelled "
            f"at {late.start_s:.2f} s. Use the label file of this recording"
        )


def run_labelled(
    model: str | Path,
    paths: Sequence[str | Path],
    said: Sequence[Sequence[SpokenWord]],
    *,
    workers: int = 1,
    runtime: str = "litert",
    progress: bool = False,
) -> list[RecordingPosteriors]:
    """Run a network over labelled recordings, as `run_recordings` does.

    Args:
        model: as there, like all but `said`.
        paths: the recordings.
        said: all words labelled in each.
        workers: processes to use.
        runtime: what runs the network.
        progress: report on stderr.

    Raises:
        KwsError: as there, or the label file of another recording.
    """
    found = run_recordings(model, paths, workers=workers, runtime=runtime, progress=progress)
    for recording, words in zip(found, said, strict=True):
        check_fits(recording, words)
    return found
