"""What the network should say at each step of a sequence, and how much it counts.

A sequence is clips in a row, heard without a break. A word is to be named from shortly after its
end until it is half a second past; before a word begins, and all along speech and background
without one, any answer will do that is no keyword (if the network has one). While a word is being
spoken, and while its name fades, nothing is asked. At the end of every clip its very label is asked
for: that is a clip's answer, and what tells other speech from silence.

To ask for silence at the wrong moment is what ruins such training: a network that must not fire
anywhere in a clip but at its last step learns to wait for the pause after the word, which in
running audio may never come.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kws.data.phones import FRAME_SAMPLES, SILENCE, UNKNOWN
from kws.recipe import TrainingRecipe
from kws.train.dataset import keyword_labels
from kws.train.variation import Variation

NAMED_FROM_MS = 80
"""A word is to be named this long after its end: the network has heard it whole by then."""
NAMED_TO_MS = 480
"""And until so long after it, unless its clip ends before."""
FADING_MS = 240
"""So long after the start of a clip the name of the one before may still stand."""

PHONE_DELAY_MS = 120
"""A sound is to be named so long after it was heard: half of what a step of the convolutions looks
at lies after it then."""


@dataclass(frozen=True, kw_only=True)
class Steps:
    """When the network answers, and what it can say."""

    ends: npt.NDArray[np.int64]
    """The end of the audio that each step has heard [steps], in samples from the start."""
    clip_samples: int
    """Length of a clip."""
    sample_rate_hz: int
    """Of the audio."""
    n_labels: int
    """Outputs of the network."""
    keywords: npt.NDArray[np.int64]
    """Which of them are keywords."""
    stream_weight: float
    """How much a clip's naming counts, and the absence of keywords elsewhere in it, each beside
    the answer at its end, which counts 1."""

    @property
    def clip(self) -> npt.NDArray[np.int64]:
        """The clip of the sequence that each step answers for [steps].

        A step that has heard the last sample of a clip answers for that clip.
        """
        return (self.ends - 1) // self.clip_samples

    @property
    def last(self) -> npt.NDArray[np.int64]:
        """The last step of each clip, which is its answer [clips]."""
        clip = self.clip
        return np.flatnonzero(np.append(clip[1:] != clip[:-1], True))


@dataclass(frozen=True, kw_only=True)
class Targets:
    """What is right in sequences of clips."""

    answers: npt.NDArray[np.float32]
    """[sequences, steps, n_labels], 1 for every answer that is right at a step: several where any
    but a keyword is."""
    weights: npt.NDArray[np.float32]
    """[sequences, steps]: how much each step counts by itself."""
    named: npt.NDArray[np.float32]
    """[sequences, steps, clips]: for each clip with a keyword the steps at which it is to be
    named, in equal shares that sum to how much it counts; zeros for other clips. The name's mean
    posterior over these steps counts, as it does when the kit decides, and not that of each."""


def sequence_steps(recipe: TrainingRecipe, clips: int) -> Steps:
    """Return when the recipe's network answers within a sequence of so many clips."""
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
    """Return what is right for clips in a row.

    Args:
        steps: of the sequences.
        labels: of the clips [sequences, clips]; -1 for anything that is no keyword.
        spans: start and end of the word in each clip, in samples from the clip's start
            [sequences, clips, 2]; only those of keywords are looked at.
    """
    n_sequences, n_clips = labels.shape
    ms = steps.sample_rate_hz / 1000
    clip = steps.clip
    at = steps.ends - clip * steps.clip_samples  # samples of its clip that a step has heard
    last = np.isin(np.arange(len(clip)), steps.last)

    labels_at, spans_at = labels[:, clip], spans[:, clip]  # [sequences, steps(, 2)]
    keyword = np.isin(labels_at, steps.keywords)
    before = np.concatenate([np.full((n_sequences, 1), -1), labels[:, :-1]], axis=1)[:, clip]
    fading = np.isin(before, steps.keywords) & (at < FADING_MS * ms)

    since_end = at - spans_at[..., 1]
    named = keyword & (since_end >= NAMED_FROM_MS * ms) & (since_end < NAMED_TO_MS * ms)
    # A word that its clip cuts off is to be named at the clip's end.
    named |= keyword & last
    unnamed = ~fading & (~keyword | (at < spans_at[..., 0]))
    # Where every answer is a keyword none can be right, unless it is that of a wake word, which is
    # right by being low.
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
    """Return which sound is to be named at each step: the one that was heard shortly before.

    Args:
        steps: of the sequences.
        phones: what is heard in each clip before it is varied [sequences, clips, frames], as
            `kws.data.phones` has it.
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
    # Where a varied clip holds nothing more of its recording, there is silence.
    beyond = (sound != UNKNOWN) & ((frame < 0) | (frame > last))
    return np.where(beyond, SILENCE, sound).astype(np.int32)
