"""The training loop: augmented waveforms in, the weights of the best epoch out.

One epoch is a plain loop over batches of int16 clips. Everything between the clips and the loss
(augmentation, MFCC, SpecAugment, the network) is one Keras model, so that it runs on whatever
device Keras runs on.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kws.errors import KwsError
from kws.frontend import FULL_SCALE, features_of
from kws.labels import SILENCE
from kws.native import heed_interrupts, quiet_stderr
from kws.progress import Progress, duration
from kws.recipe import TrainingRecipe, to_toml
from kws.report.training import best_epoch
from kws.train.dataset import (
    ClipSet,
    TrainingData,
    describe,
    environment,
    epoch_order,
)
from kws.train.devices import clip_source, device_name
from kws.train.layers import TrainingFeatures
from kws.train.optimiser import MuonAdamW
from kws.train.run_folder import (
    RunFolder,
    read_arrays,
    read_json,
    write_arrays,
    write_json,
    write_text,
)
from kws.train.sounds import with_phones
from kws.train.start import Start, start_from, thaw_steps
from kws.train.targets import sequence_steps, step_phones, step_targets
from kws.train.teachers import with_teachers
from kws.train.trained import TrainedRun
from kws.train.variation import (
    cut_stretches,
    draw_background,
    draw_gain,
    draw_stretches,
    draw_variation,
)
from kws.train.weights import load_network_weights, network_weights

CURVES = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds")
CALIBRATION_CLIPS = 400
STATISTICS_CLIPS = 2000
AVERAGED_SHARE = 0.1
"""Share of the steps so far that averaged weights reach back over at most."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a finished run reached."""

    val_accuracy: float
    """Accuracy of the best epoch on the validation clips, see `Validation.measure`, 0 to 1."""
    best_epoch: int
    """The epoch, counted from 1, whose weights were kept."""
    epochs: int
    """Epochs trained."""
    clips_per_second: float
    """Median over the epochs of clips trained per second, augmentation included."""
    seconds: float
    """Time in all epochs together."""


def feature_statistics(pcm: np.ndarray, recipe: TrainingRecipe) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation [n_features] of the features of clips [n, samples]."""
    front_end = recipe.front_end
    features = features_of(pcm, front_end).reshape(-1, front_end.n_features)
    if front_end.features == "samples":
        # A sample's place in its frame means nothing: one level for all, around zero.
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
        teachers: networks whose answers are learnt, too.
        phones: whether the sounds of speech are learnt, too (`kws.train.sounds`).

    Returns:
        The trainer, int16 [sequences, context_clips, clip_samples] and their variation
        [sequences, context_clips, 4] (with `phones`, also these [sequences, steps]) → posteriors
        [sequences, steps, n_labels]; and the network, features [batch, frames, n_features] →
        [batch, steps, n_labels], sharing its weights.
    """
    clips, samples = recipe.training.context_clips, recipe.clip_samples
    network = recipe.build_network(keras)
    pcm = keras.Input((clips, samples), dtype="int16", name="pcm")
    variation = keras.Input((clips, 4), name="variation")
    x = TrainingFeatures(
        recipe.front_end,
        recipe.augment,
        noise,
        mean=mean,
        deviation=std,
        seed=recipe.seed,
        clips=clips,
    )(pcm, variation)
    inputs = [pcm, variation]
    if phones:
        steps = len(sequence_steps(recipe, clips).ends)
        inputs.append(keras.Input((steps,), dtype="int32", name="phones"))
        answers = with_phones(network, x, inputs[-1], recipe.training.phone_weight)
    else:
        answers = network(x)
    answers = with_teachers(x, answers, recipe, teachers, mean=mean, std=std)
    return keras.Model(inputs, answers, name="trainer"), network


class StreamLoss(keras.losses.Loss):
    """Minus the logarithm of the probability of what is right (`kws.train.targets.Targets`).

    For steps by themselves that is the cross-entropy, with the probabilities summed where several
    answers are right; for a keyword's name it is that of the mean over the steps at which it is to
    be named. Label smoothing takes a share of the loss from the mean over all answers.
    """

    def __init__(self, n_labels: int, label_smoothing: float) -> None:
        super().__init__(name="stream_loss")
        self.n_labels, self.label_smoothing = n_labels, label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each sequence [sequences].

        Args:
            y_true: [sequences, steps, n_labels + 1 + clips]: answers, weights and named.
            y_pred: posteriors [sequences, steps, n_labels].
        """
        ops, n, tiny = keras.ops, self.n_labels, keras.config.epsilon()
        answers, weights, named = y_true[..., :n], y_true[..., n], y_true[..., n + 1 :]
        if n == 1:
            right = ops.where(answers > 0, y_pred, 1.0 - y_pred)[..., 0]
        else:
            right = ops.sum(answers * y_pred, axis=-1)
        asked = ops.sum(named, axis=1)  # [sequences, clips]
        by_name = ops.sum(right[..., None] * named, axis=1) / ops.maximum(asked, tiny)
        log = lambda p: ops.log(ops.clip(p, tiny, 1.0))  # noqa: E731
        loss = -ops.sum(asked * log(by_name), axis=1) - ops.sum(weights * log(right), axis=1)
        if self.label_smoothing:
            everything = y_pred if n > 1 else ops.concatenate([y_pred, 1.0 - y_pred], axis=-1)
            weights = weights + ops.sum(named, axis=-1)
            spread = -ops.sum(weights * ops.mean(log(everything), axis=-1), axis=1)
            loss = (1 - self.label_smoothing) * loss + self.label_smoothing * spread
        return loss / named.shape[-1]


def right_answers(y_true: Any, y_pred: Any) -> Any:
    """Return the share of steps, by their weights, with a right answer, for each sequence."""
    ops, n = keras.ops, y_pred.shape[-1]
    answers, weights = y_true[..., :n], y_true[..., n]
    if n == 1:
        right = ops.cast((y_pred > 0.5) == (answers > 0.5), "float32")[..., 0]
    else:
        best = ops.max(y_pred, axis=-1, keepdims=True)
        right = ops.max(ops.where(y_pred >= best, answers, 0.0), axis=-1)
    return ops.sum(weights * right, axis=1) / ops.sum(weights, axis=1)


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
        # On TensorFlow, XLA made these small steps seven times slower on a CPU and keeps the fused
        # LSTM kernel from being used on a GPU; jax compiles in any case.
        jit_compile=keras.backend.backend() != "tensorflow",
    )


def one_hot(labels: np.ndarray, n_labels: int) -> np.ndarray:
    """Return float32 [..., n_labels]; a label of -1 (not the wake word) is a row of zeros."""
    return (labels[..., None] == np.arange(n_labels)).astype(np.float32)


class Validation:
    """The validation clips as normalised features, and the network's figures on them."""

    def __init__(
        self, clips: ClipSet, recipe: TrainingRecipe, mean: np.ndarray, std: np.ndarray
    ) -> None:
        self.features = ((features_of(clips.pcm, recipe.front_end) - mean) / std).astype(np.float32)
        self.labels = clips.labels
        self.targets = one_hot(clips.labels, len(recipe.labels.labels))
        self.sigmoid = recipe.data.head == "sigmoid"

    def measure(self, network: Any) -> tuple[float, float]:
        """Return loss and accuracy of the clips' last steps.

        Accuracy is the share of clips that are answered rightly. A wake word's is the mean of two
        shares, that of its clips and that of all others: these are so many more that a network
        that never fires would pass for a good one.
        """
        posteriors = np.clip(posteriors_of(network, self.features), 1e-7, 1 - 1e-7)
        if self.sigmoid:
            right = np.where(self.targets > 0, posteriors, 1 - posteriors)[:, 0]
            wanted = self.labels == 0
            accuracy = np.mean(
                [(right[kind] > 0.5).mean() for kind in (wanted, ~wanted) if kind.any()]
            )
            return float(-np.log(right).mean()), float(accuracy)
        loss = -(self.targets * np.log(posteriors)).sum(axis=1).mean()
        return float(loss), float((posteriors.argmax(axis=1) == self.labels).mean())


def posteriors_of(network: Any, features: np.ndarray, batch_size: int = 512) -> np.ndarray:
    """Return each clip's answer, its last step: [n, frames, n_features] → [n, n_labels]."""
    answers = [
        np.asarray(network.predict_on_batch(features[i : i + batch_size]))[:, -1]
        for i in range(0, len(features), batch_size)
    ]
    return np.concatenate(answers)


def train(
    recipe: TrainingRecipe,
    data: TrainingData,
    run: RunFolder,
    *,
    start: Start | None = None,
    teachers: Sequence[TrainedRun] = (),
    resume: bool = False,
) -> Result:
    """Train a network and leave everything about it in the run's folder.

    Args:
        recipe: what to do.
        data: the clips.
        run: the folder; files of an earlier run in it are replaced unless `resume`.
        start: the network to start from; None to start from nothing.
        teachers: networks whose answers are learnt, too.
        resume: go on after the last whole epoch in the folder, which `check_resumable` has seen.

    Raises:
        KwsError: the loss is no number any more, or the run to resume is damaged.
        KeyboardInterrupt: stopped by the user; the epochs before are safe.
    """
    with heed_interrupts(), quiet_stderr():
        # What backends print while they start helps nobody; for a seed, Keras imports TensorFlow.
        keras.utils.set_random_seed(recipe.seed)
        device = device_name()
    history: dict[str, list[float]] = {name: [] for name in CURVES}
    if resume:
        statistics = read_json(run.features)
        mean, std = (np.array(statistics[key], np.float32) for key in ("mean", "std"))
    else:
        for stale in (run.metrics, run.last, run.best):
            stale.unlink(missing_ok=True)
        rng = np.random.default_rng(recipe.seed)
        sample = rng.permutation(epoch_order(data.training, recipe, 0))[:STATISTICS_CLIPS]
        if start is None:
            mean, std = feature_statistics(data.training.pcm[sample], recipe)
        else:
            mean, std = (x.astype(np.float32) for x in (start.mean, start.std))
        write_json(run.features, {"mean": mean.tolist(), "std": std.tolist()})
        write_text(run.recipe, to_toml(recipe))
        _save_clips(run, data, sample[:CALIBRATION_CLIPS])
    write_json(run.environment, {**environment(), "device": device, "data": data.folder})

    learns_phones = recipe.learns_phones and data.has_phones
    trainer, network = build_trainer(recipe, mean, std, data.noise, teachers, phones=learns_phones)
    if start is not None and not resume:
        heard = features_of(data.training.pcm[sample[:CALIBRATION_CLIPS]], recipe.front_end)
        start_from(network, start, recipe, ((heard - mean) / std).astype(np.float32))
    n_clips = len(epoch_order(data.training, recipe, 1))
    steps = n_clips // recipe.training.batch_size
    every = 0 if start is None else round(recipe.training.unfreeze_epochs * steps)
    thaw = dict(zip(map(id, network.trainable_variables), thaw_steps(network, every), strict=True))
    compile_trainer(
        trainer, recipe, steps, [thaw.get(id(v), 0) for v in trainer.trainable_variables]
    )
    trainer.optimizer.build(trainer.trainable_variables)
    average = WeightAverage(network, recipe, steps) if recipe.training.average_epochs else None
    result_network = average.network if average else network
    state = [*trainer.variables, *trainer.optimizer.variables]
    state += result_network.weights if average else []
    validation = Validation(data.validation, recipe, mean, std)
    first_epoch = 1
    if resume:
        first_epoch, history = _load_state(state, run)
    _say(f"{describe(data, recipe)}; {network.count_params():,} parameters; {device}")

    batches = Batches(data, recipe, phones=learns_phones)
    epochs, done = recipe.training.epochs, first_epoch - 1
    started = time.monotonic()
    for epoch in range(first_epoch, epochs + 1):
        try:
            with heed_interrupts():
                figures = _epoch(trainer, average, batches, data.training, recipe, epoch)
                figures["val_loss"], figures["val_accuracy"] = validation.measure(result_network)
                _check_loss(figures["val_loss"], recipe, epoch)
                for name in CURVES:
                    history[name].append(figures[name])
                best = max(history["val_accuracy"])
                if figures["val_accuracy"] >= best:
                    write_arrays(run.best, network_weights(result_network))
                write_json(run.history, history)
                write_arrays(run.last, _state(state, epoch))
                done = epoch
        except (KeyboardInterrupt, OSError):
            _say(
                f"stopped in epoch {epoch}; {done} of {epochs} epochs are kept in {run.path}. "
                + ("Go on with --resume" if done else "Nothing to resume yet")
            )
            raise
        left = (time.monotonic() - started) / (epoch - first_epoch + 1) * (epochs - epoch)
        _say(
            f"epoch {epoch}/{epochs}: loss {figures['loss']:.3f}, accuracy "
            f"{100 * figures['accuracy']:.1f} %, validation {100 * figures['val_accuracy']:.2f} % "
            f"(best {100 * best:.2f} %), {n_clips / figures['seconds']:,.0f} clips/s, "
            + (f"{duration(left)} left" if epoch < epochs else "done")
        )
    load_network_weights(network, read_arrays(run.best))
    _, accuracy = validation.measure(network)
    result = Result(
        val_accuracy=accuracy,
        best_epoch=best_epoch(history["val_accuracy"]),
        epochs=len(history["loss"]),
        clips_per_second=float(n_clips / np.median(history["seconds"])),
        seconds=float(sum(history["seconds"])),
    )
    write_json(
        run.metrics,
        {**result.__dict__, "parameters": network.count_params(), "device": device},
    )
    return result


def added_sequences(sequences: int, recipe: TrainingRecipe, data: TrainingData) -> int:
    """Return how many sequences with running speech come with so many of clips."""
    return round(sequences * recipe.data.stretch_share) if len(data.stretches) else 0


def batch_sequences(recipe: TrainingRecipe, data: TrainingData) -> int:
    """Return how many sequences a batch has, those with running speech among them."""
    of_clips = recipe.training.batch_size // recipe.training.context_clips
    return of_clips + added_sequences(of_clips, recipe, data)


def rms_levels(pcm: np.ndarray) -> np.ndarray:
    """Return the RMS of int16 [n, samples] as float32 [n], 1 for full scale."""
    parts = [pcm[i : i + 1000].astype(np.float32) for i in range(0, len(pcm), 1000)]
    square = [np.mean(part * part, axis=1) for part in parts]
    return np.sqrt(np.concatenate([np.empty(0, np.float32), *square])) / FULL_SCALE


class WeightAverage:
    """A moving mean of a network's weights over the steps of training.

    Weights that hop about a good place have their mean nearer to it (B. Polyak and A. Juditsky,
    "Acceleration of stochastic approximation by averaging", 1992; A. Tarvainen and H. Valpola,
    arXiv 1703.01780, for the moving mean). The statistics of normalisations are averaged like the
    weights that they belong to. The mean reaches back `average_epochs`, and over no more than a
    tenth of the steps so far (`AVERAGED_SHARE`): weights move far at first, and the mean of what
    lies far apart hears nothing.
    """

    def __init__(self, network: Any, recipe: TrainingRecipe, steps_per_epoch: int) -> None:
        """Begin at the network's weights."""
        self.network = recipe.build_network(keras)
        self.network.set_weights(network.get_weights())
        self._pairs = list(zip(self.network.weights, network.weights, strict=True))
        self._steps = recipe.training.average_epochs * steps_per_epoch

    def update(self, step: int) -> None:
        """Take in the weights after training step `step`, counted from 1."""
        share = 1 / max(1, min(step * AVERAGED_SHARE, self._steps))
        for mean, now in self._pairs:
            mean.assign(mean.value + (now.value - mean.value) * share)


class Batches:
    """Lays clips into sequences and says what the network should answer."""

    def __init__(self, data: TrainingData, recipe: TrainingRecipe, *, phones: bool = False) -> None:
        """Keep what they are drawn from; with `phones`, the trainer is told these, too."""
        self.phones = phones
        self.recipe, self.data, self.steps = (
            recipe,
            data,
            sequence_steps(recipe, recipe.training.context_clips),
        )
        self._clip = clip_source(data.training.pcm)
        # Background has no level that noise could be put below.
        self._levels = np.where(data.training.words == SILENCE, 0, rms_levels(data.training.pcm))

    def make(
        self, chosen: np.ndarray, rng: np.random.Generator
    ) -> tuple[tuple[Any, ...], np.ndarray]:
        """Lay the clips `chosen`, int [sequences, clips], and add sequences with running speech.

        Returns:
            What the trainer takes (int16 [n, clips, clip_samples], the variation [n, clips, 4] and
            perhaps phones [n, steps]), and the targets as `StreamLoss` takes them.
        """
        recipe, clips = self.recipe, self.data.training
        n = added_sequences(len(chosen), recipe, self.data)
        # Speech comes between clips of the same batch. In sequences of its own it would teach the
        # network to tell by what it heard seconds ago whether a keyword can come at all.
        chosen = np.concatenate([chosen, chosen[rng.integers(len(chosen), size=n)]])
        rate = recipe.front_end.sample_rate_hz
        varied = draw_variation(recipe.augment, rng, chosen.shape, sample_rate_hz=rate)
        pcm, labels, levels = self._clip(chosen), clips.labels[chosen], self._levels[chosen]
        spans = varied.moved(self.data.spans[chosen], recipe.clip_samples)
        sounds = clips.phones[chosen]
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
            sounds[speech] = heard[speech[-n:]]
        background = draw_background(recipe.augment, rng, levels * varied.gain)
        variation = varied.array(background)
        right = step_targets(self.steps, labels, spans)
        packed = np.concatenate([right.answers, right.weights[..., None], right.named], axis=-1)
        if self.phones:
            return (pcm, variation, step_phones(self.steps, sounds, varied)), packed
        return (pcm, variation), packed


def _epoch(
    trainer: Any,
    average: WeightAverage | None,
    batches: Batches,
    training: ClipSet,
    recipe: TrainingRecipe,
    epoch: int,
) -> dict[str, float]:
    """Train one epoch and return its figures."""
    size = recipe.training.batch_size
    order = epoch_order(training, recipe, epoch)
    rng = np.random.default_rng((recipe.seed, epoch, 1))
    # Keras forgets its metrics with every batch; the epoch's figures are means over them.
    sums = {"loss": 0.0, "accuracy": 0.0}
    start = time.monotonic()
    with Progress(
        len(order), f"epoch {epoch}", unit="clips", shown=sys.stderr.isatty()
    ) as progress:
        for i in range(0, len(order), size):
            chosen = order[i : i + size].reshape(-1, recipe.training.context_clips)
            with heed_interrupts():
                logs = trainer.train_on_batch(*batches.make(chosen, rng), return_dict=True)
                if average:
                    average.update(int(trainer.optimizer.iterations))
            _check_loss(logs["loss"], recipe, epoch)
            sums = {name: total + float(logs[name]) for name, total in sums.items()}
            progress.advance(size, note=f"loss {float(logs['loss']):.3f}")
    return {
        **{name: total * size / len(order) for name, total in sums.items()},
        "learning_rate": float(keras.ops.convert_to_numpy(trainer.optimizer.learning_rate)),
        "seconds": time.monotonic() - start,
    }


def _check_loss(loss: float, recipe: TrainingRecipe, epoch: int) -> None:
    if not np.isfinite(loss):
        raise KwsError(
            f"The loss became {loss} in epoch {epoch}: lower [training] learning_rate. "
            f"Received: {recipe.training.learning_rate}"
        )


def _state(variables: Sequence[Any], epoch: int) -> dict[str, np.ndarray]:
    """Everything that `--resume` needs: all variables, the random state among them."""
    state = {f"v{i}": np.asarray(v) for i, v in enumerate(variables)}
    return {**state, "epoch": np.array(epoch)}


def _load_state(variables: Sequence[Any], run: RunFolder) -> tuple[int, dict[str, list[float]]]:
    """Set all variables; return the next epoch and the curves so far."""
    state = read_arrays(run.last)
    if len(state) != len(variables) + 1:
        raise KwsError(f"{run.last} does not fit this recipe or version of Keras. Train again")
    for i, variable in enumerate(variables):
        variable.assign(state[f"v{i}"])
    epoch = int(state["epoch"])
    history = read_json(run.history)
    # The curves are written just before the state: drop what a crash between the two left over.
    return epoch + 1, {name: history[name][:epoch] for name in CURVES}


def _save_clips(run: RunFolder, data: TrainingData, sample: np.ndarray) -> None:
    """Leave the clips that export calibrates with and compares on."""
    write_arrays(run / "calibration.npz", {"pcm": data.training.pcm[sample]}, compress=True)
    validation = data.validation
    write_arrays(
        run / "validation.npz",
        {"pcm": validation.pcm, "labels": validation.labels},
        compress=True,
    )


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
