"""From clips to batches: which clips form a sequence, how they are varied, and the targets."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from kws.frontend import FULL_SCALE
from kws.labels import SILENCE
from kws.recipe import TrainingRecipe
from kws.train.dataset import TrainingData
from kws.train.devices import clip_source
from kws.train.targets import sequence_steps, step_phones, step_targets
from kws.train.variation import (
    cut_stretches,
    draw_background,
    draw_gain,
    draw_stretches,
    draw_variation,
)


class Batches:
    """Joins clips into sequences and computes the targets."""

    def __init__(self, data: TrainingData, recipe: TrainingRecipe, *, phones: bool = False) -> None:
        """Prepare the data; with `phones`, a batch includes the phonemes."""
        self.phones = phones
        self.recipe, self.data = recipe, data
        self.steps = sequence_steps(recipe, recipe.training.context_clips)
        self._clip = clip_source(data.training.pcm)
        # Background clips have no speech level for noise to be mixed relative to.
        self._levels = np.where(data.training.words == SILENCE, 0, rms_levels(data.training.pcm))

    def make(
        self, chosen: np.ndarray, rng: np.random.Generator
    ) -> tuple[tuple[Any, ...], np.ndarray]:
        """Return clips `chosen`, int [sequences, clips], and added sequences with running speech.

        Returns:
            The inputs of the trainer (int16 [n, clips, clip_samples], the variation [n, clips, 4]
            and, with `phones`, phonemes [n, steps]), and the targets as `StreamLoss` takes them.
        """
        recipe, clips = self.recipe, self.data.training
        n = added_sequences(len(chosen), recipe, self.data)
        # Speech is placed between clips of the same batch. In sequences of its own it would teach
        # the network to predict from earlier seconds whether a keyword can occur at all.
        chosen = np.concatenate([chosen, chosen[rng.integers(len(chosen), size=n)]])
        rate = recipe.front_end.sample_rate_hz
        varied = draw_variation(recipe.augment, rng, chosen.shape, sample_rate_hz=rate)
        pcm, labels, levels = self._clip(chosen), clips.labels[chosen], self._levels[chosen]
        spans = varied.moved(self.data.spans[chosen], recipe.clip_samples)
        phonemes = clips.phones[chosen]
        if n:
            speech = np.zeros(chosen.shape, bool)
            speech[-n:] = draw_stretches(rng, (n, chosen.shape[1]))
            picked = rng.integers(len(self.data.stretches), size=n)
            stretches, heard = self.data.stretches[picked], self.data.stretch_phones[picked]
            if speed := recipe.augment.stretch_speed:
                shape = (chosen.shape[1], recipe.clip_samples)
                stretches, heard = cut_stretches(stretches, heard, speed, rng, shape)
            stretches = stretches.reshape(n, *pcm.shape[1:])
            mixed = keras.ops.where(speech[-n:, :, None], stretches, pcm[-n:])
            pcm = keras.ops.concatenate([pcm[:-n], mixed])
            varied = varied.where(speech, draw_gain(recipe.augment, rng, chosen.shape))
            loud = rms_levels(stretches.reshape(n, -1))
            levels[-n:] = np.where(speech[-n:], loud[:, None], levels[-n:])
            labels = np.where(speech, -1, labels)
            phonemes[speech] = heard[speech[-n:]]
        background = draw_background(recipe.augment, rng, levels * varied.gain)
        variation = varied.array(background)
        right = step_targets(self.steps, labels, spans)
        packed = np.concatenate([right.answers, right.weights[..., None], right.named], axis=-1)
        if self.phones:
            return (pcm, variation, step_phones(self.steps, phonemes, varied)), packed
        return (pcm, variation), packed


def added_sequences(sequences: int, recipe: TrainingRecipe, data: TrainingData) -> int:
    """Return how many sequences with running speech are added to this many sequences of clips."""
    return round(sequences * recipe.data.stretch_share) if len(data.stretches) else 0


def batch_sequences(recipe: TrainingRecipe, data: TrainingData) -> int:
    """Return the number of sequences in a batch, including those with running speech."""
    of_clips = recipe.training.batch_size // recipe.training.context_clips
    return of_clips + added_sequences(of_clips, recipe, data)


def rms_levels(pcm: np.ndarray) -> np.ndarray:
    """Return the RMS of int16 [n, samples] as float32 [n], 1 for full scale."""
    parts = [pcm[i : i + 1000].astype(np.float32) for i in range(0, len(pcm), 1000)]
    square = [np.mean(part * part, axis=1) for part in parts]
    return np.sqrt(np.concatenate([np.empty(0, np.float32), *square])) / FULL_SCALE
