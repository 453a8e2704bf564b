"""Whether there are enough clips to train a network on words and to measure it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from kws.data.clips import ClipIndex, label_counts
from kws.data.split import SPLITS, TESTING_LIST, TRAINING, VALIDATION_LIST
from kws.errors import KwsError, some
from kws.labels import folded

MINIMUM_CLIPS = 5
"""Fewest clips of a label for training and measuring."""

_RULES = {
    "lists": f"{VALIDATION_LIST} and {TESTING_LIST}",
    "speaker": "the hash of the speaker",
    "clip": "the hash of the file name",
    "recipe": "the recipe that fetched it, which keeps all of it for measuring",
}


def require_enough_clips(
    indexes: Sequence[ClipIndex], words: Iterable[str], *, minimum: int = MINIMUM_CLIPS
) -> list[str]:
    """Make sure that a network can be trained on `words` and measured.

    Args:
        indexes: all clips of the data, one index for each folder.
        words: the keywords.
        minimum: fewest clips that each word must have, in all folders together.

    Returns:
        Warnings for the user, one line each: words without a clip in the validation part, and words
        of which most recordings are outside the training part (except those that the recipe which
        fetched them keeps for measuring).

    Raises:
        KwsError: a word has no folder, fewer clips than `minimum` or none for training; or no word
            has a validation clip.
    """
    words = list(words)
    where = " and ".join(str(index.root) for index in indexes)
    rule = " or ".join(dict.fromkeys(_RULES[index.split_rule] for index in indexes))
    counts = label_counts(indexes)
    missing = [word for word in words if folded(word) not in counts]
    if missing:
        there = sorted({label for index in indexes for label in index.labels})
        raise KwsError(
            f"No clips of {some(missing)} in {where}. Received labels: {some(there, 8)}. Add them "
            "with `kws data record` or `kws data add`, or leave them out of the recipe"
        )
    few = [f"{word} has {n}" for word in words if (n := counts[folded(word)]) < minimum]
    if few:
        raise KwsError(
            f"Too few clips in {where} to train on. Received: {some(few)}; each label needs "
            f"at least {minimum}. Add clips with `kws data record`, `kws data add` or "
            "`kws data synth`"
        )
    received = (
        f"a split by {rule}. Add clips of more speakers, or generated voices with `kws data synth`"
    )
    training, validation = (label_counts(indexes, split) for split in SPLITS[:2])
    untrained = [word for word in words if not training[folded(word)]]
    if untrained:
        raise KwsError(
            f"No clip of {some(untrained)} in {where} is in the training part. Received: {received}"
        )
    unmeasured = [word for word in words if not validation[folded(word)]]
    if len(unmeasured) == len(words):
        raise KwsError(
            f"No clip of {some(words)} in {where} is in the validation part. Received: {received}"
        )
    return [
        *_untrained_recordings(indexes, words),
        *(
            f"{word}: none of its {counts[folded(word)]} clips is in the validation part, "
            "so its accuracy is not measured"
            for word in unmeasured
        ),
    ]


def _untrained_recordings(indexes: Sequence[ClipIndex], words: Iterable[str]) -> list[str]:
    """Return a line for each word of which less than half of the recordings are trained on."""
    recorded = [
        index.take(np.flatnonzero(~index.generated))
        for index in indexes
        if index.split_rule != "recipe"
    ]
    counts, training = label_counts(recorded), label_counts(recorded, TRAINING)
    rule = " or ".join(dict.fromkeys(_RULES[index.split_rule] for index in recorded))
    lines = []
    for word in words:
        n, learnt = counts[folded(word)], training[folded(word)]
        if 2 * learnt < n:
            lines.append(
                f"{word}: only {learnt} of its {n} recordings are trained on, the others are kept "
                f"for measuring, by {rule}. Add recordings of other speakers"
            )
    return lines
