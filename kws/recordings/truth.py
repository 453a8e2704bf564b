"""The labelled words of recordings that are keywords of a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from kws.data.label_file import SpokenWord
from kws.errors import KwsError, some
from kws.labels import folded
from kws.model_file import ModelCard
from kws.recordings.posteriors import RecordingPosteriors


def own_words(
    card: ModelCard, truths: Sequence[Iterable[SpokenWord]]
) -> tuple[list[list[SpokenWord]], list[str]]:
    """Return the words of each recording that are keywords of the model, and a note on others.

    Upper and lower case do not matter (`kws.labels.folded`); words are returned as the model spells
    them.

    Raises:
        KwsError: there are words, but none is a keyword.
    """
    named = {folded(keyword): keyword for keyword in card.keywords}
    said = [
        [
            dataclasses.replace(word, keyword=named.get(folded(word.keyword), word.keyword))
            for word in truth
        ]
        for truth in truths
    ]
    everything = [word for words in said for word in words]
    others = sorted({word.keyword for word in everything} - set(card.keywords))
    ours = [[word for word in words if word.keyword in card.keywords] for words in said]
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
