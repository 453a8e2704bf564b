"""The model that is trained (audio, features, network, teachers, phonemes), and its optimiser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kws.frontend import FrontEndConfig, features_of
from kws.recipe import TrainingRecipe
from kws.train.layers import TrainingFeatures
from kws.train.loss import StreamLoss, right_answers
from kws.train.optimiser import MuonAdamW
from kws.train.phonemes import with_phones
from kws.train.targets import sequence_steps
from kws.train.teachers import Heard, with_teachers
from kws.train.trained import TrainedRun


def feature_statistics(pcm: np.ndarray, recipe: TrainingRecipe) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation [n_features] of the features of clips [n, samples]."""
    front_end = recipe.front_end
    features = features_of(pcm, front_end).reshape(-1, front_end.n_features)
    if front_end.features == "samples":
        # A sample's position in its frame means nothing: one level for all, around zero.
        level = round(float(features.std()), 4)
        return np.zeros(front_end.n_features), np.full(front_end.n_features, max(level, 1e-3))
    return features.mean(axis=0), np.maximum(features.std(axis=0), 1e-3)


def build_trainer(
    recipe: TrainingRecipe,
    mean: np.ndarray,
    std: np.ndarray,
    noise: np.ndarray,
    teachers: Sequence[TrainedRun] = (),
    *,
    phones: bool = False,
) -> tuple[Any, Any]:
    """Build the model that is trained and the network inside it.

    Args:
        recipe: of the network.
        mean: of the features [n_features].
        std: their standard deviation.
        noise: background to mix in, int16 [m].
        teachers: networks whose outputs are also learnt from.
        phones: whether phonemes are learnt, too (`kws.train.phonemes`).

    Returns:
        The trainer, int16 [sequences, context_clips, clip_samples] and their variation
        [sequences, context_clips, 4] (with `phones`, also phonemes [sequences, steps]) → posteriors
        [sequences, steps, n_labels]; and the network inside it, features [batch, frames,
        n_features] → [batch, steps, n_labels].
    """
    clips, samples = recipe.training.context_clips, recipe.clip_samples
    network = recipe.build_network(keras)
    pcm = keras.Input((clips, samples), dtype="int16", name="pcm")
    variation = keras.Input((clips, 4), name="variation")

    def hear(front_end: FrontEndConfig, mean: np.ndarray, std: np.ndarray) -> Heard:
        # The same seed varies the audio in the same way for every front end (rooms nearly so).
        layer = TrainingFeatures(
            front_end,
            recipe.augment,
            noise,
            mean=mean,
            deviation=std,
            seed=recipe.seed,
            clips=clips,
        )
        return Heard(features=layer(pcm, variation), mean=mean, std=std)

    heard = {recipe.front_end: hear(recipe.front_end, mean, std)}
    for teacher in teachers:
        theirs = teacher.recipe.front_end
        if theirs not in heard:
            heard[theirs] = hear(theirs, teacher.mean, teacher.std)
    x = heard[recipe.front_end].features
    inputs = [pcm, variation]
    if phones:
        steps = len(sequence_steps(recipe, clips).ends)
        inputs.append(keras.Input((steps,), dtype="int32", name="phones"))
        answers = with_phones(network, x, inputs[-1], recipe.training.phone_weight)
    else:
        answers = network(x)
    answers = with_teachers(answers, recipe, teachers, heard)
    return keras.Model(inputs, answers, name="trainer"), network


def compile_trainer(
    trainer: Any, recipe: TrainingRecipe, steps_per_epoch: int, thawing: Sequence[int]
) -> None:
    """Give the trainer its loss and optimiser; linear warm-up, cosine to zero."""
    training = recipe.training
    warmup = round(training.warmup_epochs * steps_per_epoch)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else training.learning_rate,
        decay_steps=max(1, training.epochs * steps_per_epoch - warmup),
        warmup_target=training.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    optimizer = MuonAdamW(
        schedule,
        weight_decay=training.weight_decay,
        global_clipnorm=training.gradient_clip,
        muon=training.optimizer == "muon",
        thaw_steps=thawing,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    trainer.compile(
        optimizer=optimizer,
        loss=StreamLoss(len(recipe.labels.labels), training.label_smoothing),
        metrics=[keras.metrics.MeanMetricWrapper(right_answers, name="accuracy")],
        # On TensorFlow, XLA made these small steps seven times slower on a CPU and prevents the use
        # of the fused LSTM kernel on a GPU; jax compiles in any case.
        jit_compile=keras.backend.backend() != "tensorflow",
    )
