"""Distillation: learning also from the outputs of networks that are too large for a device.

The output of a good network for a clip ("off, but it might be up") holds more information than the
label, and a clip that augmentation has made unrecognisable is not taught as a certainty (G. Hinton,
O. Vinyals, J. Dean, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531; with the same
augmented clip for teacher and student, as L. Beyer et al. advise in arXiv 2106.05237). A teacher
may take whole clips, look into the future and have features of its own; the exported file contains
nothing of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kws.frontend import FrontEndConfig
from kws.recipe import TrainingRecipe
from kws.train.targets import sequence_steps
from kws.train.trained import TrainedRun
from kws.train.weights import load_network_weights


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heard:
    """Features of the audio of a batch."""

    features: Any
    """Normalised, symbolic [sequences, frames, n_features]."""
    mean: np.ndarray
    """What was subtracted [n_features]."""
    std: np.ndarray
    """What was divided by [n_features]."""


class Teacher(keras.layers.Layer):
    """The outputs of one trained network at the end of each clip of a sequence."""

    def __init__(
        self, teacher: TrainedRun, student: TrainingRecipe, *, mean: np.ndarray, std: np.ndarray
    ) -> None:
        """Build the network with its weights, which are not trained further.

        Args:
            teacher: its run.
            student: the recipe that is trained, for the number and length of clips in a sequence.
            mean: used to normalise the features of its front end that it will be given
                [n_features].
            std: likewise.
        """
        super().__init__(trainable=False)
        recipe = teacher.recipe
        self.network = recipe.build_network(keras)
        load_network_weights(self.network, teacher.weights)
        self.network.trainable = False
        # From the normalisation of the features to the teacher's.
        self.gain = (std / teacher.std).astype(np.float32)
        self.offset = ((mean - teacher.mean) / teacher.std).astype(np.float32)
        self.whole_clip = bool(recipe.model.create().whole_clip)
        hop, clips = recipe.front_end.hop_length, student.training.context_clips
        # If a clip does not begin with a frame, the frame before: the last clip must be whole.
        self.first = [i * student.clip_samples // hop for i in range(clips)]
        self.frames = recipe.clip_frames
        # A model file holds only the number of frames in its clips, not their length.
        self.steps = sequence_steps(dataclasses.replace(recipe, data=student.data), clips).last

    def call(self, x: Any) -> Any:
        """Features [sequences, frames, n_features] → posteriors [sequences, clips, n_labels]."""
        x = x * self.gain + self.offset
        if not self.whole_clip:
            return ops.take(self.network(x, training=False), self.steps, axis=1)
        clips = ops.stack([x[:, at : at + self.frames] for at in self.first], axis=1)
        answers = self.network(ops.reshape(clips, (-1, *clips.shape[2:])), training=False)
        return ops.reshape(answers, (-1, len(self.first), answers.shape[-1]))


class TaughtAnswers(keras.layers.Layer):
    """Adds the difference from the teachers' outputs to the loss; passes the posteriors on."""

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
        # Kullback-Leibler divergence: zero if the outputs are the same.
        apart = ops.sum(taught * (log(taught) - log(ours)), axis=-1)
        self.add_loss(self.weight * ops.mean(apart))
        return posteriors


def with_teachers(
    posteriors: Any,
    recipe: TrainingRecipe,
    teachers: Sequence[TrainedRun],
    heard: Mapping[FrontEndConfig, Heard],
) -> Any:
    """Let a network that is being trained also learn from the mean output of its teachers.

    Args:
        posteriors: its output, symbolic [sequences, steps, n_labels].
        recipe: of the network.
        teachers: the networks to learn from; may be empty.
        heard: the same audio for the front end of each of them.

    Returns:
        The posteriors, unchanged.
    """
    if not teachers:
        return posteriors
    answers = []
    for teacher in teachers:
        given = heard[teacher.recipe.front_end]
        answers.append(Teacher(teacher, recipe, mean=given.mean, std=given.std)(given.features))
    taught = answers[0] if len(answers) == 1 else keras.layers.Average()(answers)
    steps = sequence_steps(recipe, recipe.training.context_clips).last
    return TaughtAnswers(steps, recipe.training.teacher_weight)(posteriors, taught)
