"""The labelled words of recordings that are keywords of a model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

from kws.data.label_file import SpokenWord
from kws.errors import KwsError, some
from kws.labels import folded
from kws.model_file import ModelCard
from kws.recordings.posteriors import RecordingPosteriors
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
    everything = [word for words in said for word in words]
    ours = [_spoken_of(card, words) for words in said]
    named = {folded(keyword) for keyword in card.keywords}
    others = sorted({word.keyword for word in everything if folded(word.keyword) not in named})
    n = len(everything) - sum(map(len, ours))
    if not n:
        return ours, []
    if n == len(everything):
        raise KwsError(
            "None of the labelled words is a keyword of this model. Received: "
            f"{some(others)}; keywords: {some(card.keywords)}. Use the label file of this "
            "recording, or another model"
        )
    note = (
        f"{n} of {len(everything)} labelled words are not keywords of this model and are ignored: "
        f"{some(others)}"
    )
    return ours, [note]


def addressed_words(
    wake: ModelCard, card: ModelCard, truths: Sequence[Sequence[SpokenWord]], *, window_s: float
) -> tuple[list[list[SpokenWord]], list[list[SpokenWord]], list[str]]:
    """Return the wake words of each recording, the commands that follow them, and a note on others.

    A command follows a wake word if it is the first after it, begins after its end, and ends at
    most `window_s` later. All other commands should not be reported.

    Args:
        wake: the wake word's model.
        card: the model of the commands.
        truths: all words labelled in each recording.
        window_s: how long after the wake word a command counts, in seconds.
    """
    wakes = [_spoken_of(wake, words) for words in truths]
    commands = [_spoken_of(card, words) for words in truths]
    following = [
        _first_after(opened, said, window_s) for opened, said in zip(wakes, commands, strict=True)
    ]
    everything = [word for words in truths for word in words]
    others = len(everything) - sum(map(len, wakes)) - sum(map(len, commands))
    rest = sum(map(len, commands)) - sum(map(len, following))
    notes = []
    if rest:
        notes.append(
            f"{counted(rest, 'labelled command')} without a wake word before: they should not be "
            "reported"
        )
    if others:
        notes.append(f"{counted(others, 'labelled word')} of neither model: ignored")
    return wakes, following, notes


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
    """Return the first command after each wake word, unless it ends too late; all by start."""
    following = []
    waiting, until_s = list(reversed(wakes)), -math.inf
    for command in commands:
        while waiting and waiting[-1].end_s <= command.start_s:
            until_s = waiting.pop().end_s + window_s
        if command.end_s <= until_s:
            following.append(command)
        until_s = -math.inf
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
