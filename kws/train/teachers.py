"""Learning from networks that are larger than a device allows: their answers are taught, too.

What a good network says of a clip ("off, but it might be up") holds more than the label does, and a
clip that augmentation has made unrecognisable is not taught as a certainty (G. Hinton, O. Vinyals,
J. Dean, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531; with the same augmented
clip for teacher and pupil, as L. Beyer et al. advise in arXiv 2106.05237). A teacher may take whole
clips and look into the future; nothing of it is left in the file that is exported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kws.recipe import TrainingRecipe
from kws.train.targets import sequence_steps
from kws.train.trained import TrainedRun
from kws.train.weights import load_network_weights


class Teacher(keras.layers.Layer):
    """What one trained network says at the end of each clip of a sequence."""

    def __init__(
        self, teacher: TrainedRun, pupil: TrainingRecipe, *, mean: np.ndarray, std: np.ndarray
    ) -> None:
        """Build the network and give it its weights, which stay as they are.

        Args:
            teacher: its run.
            pupil: says how many clips of which length are in a sequence.
            mean: with which the features that it will be given are normalised [n_features].
            std: likewise.
        """
        super().__init__(trainable=False)
        recipe = teacher.recipe
        self.network = recipe.build_network(keras)
        load_network_weights(self.network, teacher.weights)
        self.network.trainable = False
        # From the pupil's normalisation to the teacher's.
        self.gain = (std / teacher.std).astype(np.float32)
        self.offset = ((mean - teacher.mean) / teacher.std).astype(np.float32)
        self.whole_clip = bool(recipe.model.create().whole_clip)
        hop, clips = recipe.front_end.hop_length, pupil.training.context_clips
        # Where clips do not begin with a frame, the one before: the last clip must be whole.
        self.first = [i * pupil.clip_samples // hop for i in range(clips)]
        self.frames = recipe.clip_frames
        # A file does not say how long its clips were, only how many frames they had.
        self.steps = sequence_steps(dataclasses.replace(recipe, data=pupil.data), clips).last

    def call(self, x: Any) -> Any:
        """Features [sequences, frames, n_features] → posteriors [sequences, clips, n_labels]."""
        x = x * self.gain + self.offset
        if not self.whole_clip:
            return ops.take(self.network(x, training=False), self.steps, axis=1)
        clips = ops.stack([x[:, at : at + self.frames] for at in self.first], axis=1)
        answers = self.network(ops.reshape(clips, (-1, *clips.shape[2:])), training=False)
        return ops.reshape(answers, (-1, len(self.first), answers.shape[-1]))


class TaughtAnswers(keras.layers.Layer):
    """Adds to the loss how far a network's answers are from its teachers'; changes nothing."""

    def __init__(self, steps: np.ndarray, weight: float) -> None:
        """Compare at these steps, which end the clips of a sequence."""
        super().__init__(trainable=False)
        self.steps, self.weight = steps, weight

    def call(self, posteriors: Any, taught: Any) -> Any:
        """Posteriors [sequences, steps, n_labels], teachers' [sequences, clips, n_labels]."""
        tiny = keras.config.epsilon()
        log = lambda p: ops.log(ops.clip(p, tiny, 1.0))  # noqa: E731
        ours = ops.take(posteriors, self.steps, axis=1)
        if ours.shape[-1] == 1:
            ours, taught = (ops.concatenate([p, 1.0 - p], axis=-1) for p in (ours, taught))
        # Kullback-Leibler divergence: nothing where the answers are the same.
        apart = ops.sum(taught * (log(taught) - log(ours)), axis=-1)
        self.add_loss(self.weight * ops.mean(apart))
        return posteriors


def with_teachers(
    features: Any,
    posteriors: Any,
    recipe: TrainingRecipe,
    teachers: Sequence[TrainedRun],
    *,
    mean: np.ndarray,
    std: np.ndarray,
) -> Any:
    """Let a network that is being trained learn from the mean of what its teachers say.

    Args:
        features: what it hears, symbolic [sequences, frames, n_features].
        posteriors: what it says, symbolic [sequences, steps, n_labels].
        recipe: of the network.
        teachers: what it learns from; none is allowed.
        mean: of the features [n_features].
        std: their standard deviation.

    Returns:
        The posteriors as they are.
    """
    if not teachers:
        return posteriors
    answers = [Teacher(t, recipe, mean=mean, std=std)(features) for t in teachers]
    taught = answers[0] if len(answers) == 1 else keras.layers.Average()(answers)
    steps = sequence_steps(recipe, recipe.training.context_clips).last
    return TaughtAnswers(steps, recipe.training.teacher_weight)(posteriors, taught)
