"""The targets of the network at each step of a sequence, and their weights.

A sequence is a row of clips without a break. A keyword should be reported from shortly after its
end until half a second later. Before a word begins, and throughout speech and background without
keywords, any answer other than a keyword is right (if the network has one). While a word is being
spoken, and just after its report, there is no target. At the end of every clip the target is its
exact label: that is the clip's answer, and what distinguishes other speech from silence.

Wrong targets ruin such training: a network that may report a keyword only at a clip's last step
learns to wait for the pause after the word, which may never come in running audio.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kws.data.phones import FRAME_SAMPLES, SILENCE_PHONE, UNKNOWN_PHONE
from kws.recipe import TrainingRecipe
from kws.train.dataset import keyword_labels
from kws.train.variation import Variation

NAMED_FROM_MS = 80
"""A word should be reported from this long after its end on, when all of it has been heard."""
NAMED_TO_MS = 480
"""And until this long after its end, unless its clip ends before."""
FADING_MS = 240
"""Until this long after a clip's start, the word of the clip before may still be reported."""

PHONE_DELAY_MS = 120
"""A phoneme should be recognised this long after it was heard: half of the convolutions' receptive
field then lies after it."""


@dataclass(frozen=True, kw_only=True)
class Steps:
    """When the network gives outputs, and which."""

    ends: npt.NDArray[np.int64]
    """The end of the audio that each step has processed [steps], in samples from the start."""
    clip_samples: int
    """Length of a clip."""
    sample_rate_hz: int
    """Sample rate of the audio."""
    n_labels: int
    """Outputs of the network."""
    keywords: npt.NDArray[np.int64]
    """Which of them are keywords."""
    stream_weight: float
    """Weight of reporting a clip's keyword in time, and of no keyword elsewhere in it, relative to
    the answer at its end, which has weight 1."""

    @property
    def clip(self) -> npt.NDArray[np.int64]:
        """The clip of the sequence that each step belongs to [steps].

        The step that has processed the last sample of a clip belongs to that clip.
        """
        return (self.ends - 1) // self.clip_samples

    @property
    def last(self) -> npt.NDArray[np.int64]:
        """The last step of each clip, which is its answer [clips]."""
        clip = self.clip
        return np.flatnonzero(np.append(clip[1:] != clip[:-1], True))


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Targets in sequences of clips."""

    answers: npt.NDArray[np.float32]
    """[sequences, steps, n_labels], 1 for every right answer at a step: several where all but the
    keywords are right."""
    weights: npt.NDArray[np.float32]
    """[sequences, steps]: weight of each single step."""
    named: npt.NDArray[np.float32]
    """[sequences, steps, clips]: for each clip with a keyword the steps at which it should be
    reported, in equal shares that sum to its weight; zeros for other clips. What counts is the
    keyword's mean posterior over these steps, as in the decision, and not that of each step."""


def sequence_steps(recipe: TrainingRecipe, clips: int) -> Steps:
    """Return the steps of the recipe's network in a sequence of this many clips."""
    front_end, reach = recipe.front_end, recipe.receptive_field_frames
    frames = front_end.n_frames(clips * recipe.clip_samples)
    newest = np.arange(reach - 1, frames, recipe.stride_frames)
    return Steps(
        ends=newest * front_end.hop_length + front_end.frame_length,
        clip_samples=recipe.clip_samples,
        sample_rate_hz=front_end.sample_rate_hz,
        n_labels=len(recipe.labels.labels),
        keywords=keyword_labels(recipe),
        stream_weight=recipe.training.stream_weight,
    )


def step_targets(
    steps: Steps, labels: npt.NDArray[np.int32], spans: npt.NDArray[np.floating]
) -> Targets:
    """Return the targets for sequences of clips.

    Args:
        steps: of the sequences.
        labels: of the clips [sequences, clips]; -1 for anything that is not a keyword.
        spans: start and end of the word in each clip, in samples from the clip's start
            [sequences, clips, 2]; only those of keywords are used.
    """
    n_sequences, n_clips = labels.shape
    ms = steps.sample_rate_hz / 1000
    clip = steps.clip
    at = steps.ends - clip * steps.clip_samples  # samples of its clip processed by each step
    last = np.isin(np.arange(len(clip)), steps.last)

    labels_at, spans_at = labels[:, clip], spans[:, clip]  # [sequences, steps(, 2)]
    keyword = np.isin(labels_at, steps.keywords)
    before = np.concatenate([np.full((n_sequences, 1), -1), labels[:, :-1]], axis=1)[:, clip]
    fading = np.isin(before, steps.keywords) & (at < FADING_MS * ms)

    since_end = at - spans_at[..., 1]
    named = keyword & (since_end >= NAMED_FROM_MS * ms) & (since_end < NAMED_TO_MS * ms)
    # A word that is cut off by its clip should be reported at the clip's end.
    named |= keyword & last
    unnamed = ~fading & (~keyword | (at < spans_at[..., 0]))
    # If all labels are keywords, none of them can be right, except for a wake word, whose posterior
    # should be low.
    unnamed &= steps.n_labels == 1 or len(steps.keywords) < steps.n_labels

    one_hot = (labels_at[..., None] == np.arange(steps.n_labels)).astype(np.float32)
    others = np.ones(steps.n_labels, np.float32)
    others[steps.keywords] = 0.0
    exact = (last | named) & (labels_at >= 0)
    answers = np.where(exact[..., None], one_hot, others)

    weights = np.where(last, 1.0, unnamed * (steps.stream_weight * n_clips / len(clip)))
    of_clip = (clip[:, None] == np.arange(n_clips)) & named[..., None]
    shares = steps.stream_weight * of_clip / np.maximum(1, of_clip.sum(axis=1, keepdims=True))
    return Targets(
        answers=answers.astype(np.float32),
        weights=weights.astype(np.float32),
        named=shares.astype(np.float32),
    )


def step_phones(
    steps: Steps, phones: npt.NDArray[np.int8], varied: Variation
) -> npt.NDArray[np.int32]:
    """Return the phoneme to recognise at each step: the one heard shortly before.

    Args:
        steps: of the sequences.
        phones: phonemes of each clip before it is varied [sequences, clips, frames], see
            `kws.data.phones`.
        varied: how the clips are varied.

    Returns:
        int32 [sequences, steps].
    """
    heard = steps.ends - round(PHONE_DELAY_MS * steps.sample_rate_hz / 1000)
    clip = np.clip(heard // steps.clip_samples, 0, phones.shape[1] - 1)
    place = varied.origins(clip, heard - clip * steps.clip_samples, steps.clip_samples)
    frame = np.floor(place / FRAME_SAMPLES).astype(np.int64)
    last = phones.shape[2] - 1
    sound = phones[np.arange(len(phones))[:, None], clip, np.clip(frame, 0, last)]
    # Beyond its recording, a varied clip is silent.
    beyond = (sound != UNKNOWN_PHONE) & ((frame < 0) | (frame > last))
    return np.where(beyond, SILENCE_PHONE, sound).astype(np.int32)
