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
from kws.frontend import features_of
from kws.recipe import TrainingRecipe, to_toml
from kws.report.training import best_epoch
from kws.system.native import heed_interrupts, quiet_stderr
from kws.system.progress import Progress
from kws.train.average import WeightAverage
from kws.train.batches import Batches
from kws.train.dataset import ClipSet, TrainingData, describe
from kws.train.devices import device_name
from kws.train.environment import environment
from kws.train.epoch import epoch_order
from kws.train.run_folder import (
    RunFolder,
    read_arrays,
    read_json,
    write_arrays,
    write_json,
    write_text,
)
from kws.train.start import Start, start_from, thaw_steps
from kws.train.trained import TrainedRun
from kws.train.trainer import build_trainer, compile_trainer, feature_statistics
from kws.train.validation import Validation
from kws.train.weights import count_parameters, load_network_weights, network_weights
from kws.wording import duration

CURVES = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds")
CALIBRATION_CLIPS = 400
STATISTICS_CLIPS = 2000


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
        KwsError: the loss is no number any more, or the run to resume is damaged or was begun with
            other recordings.
        KeyboardInterrupt: stopped by the user; the epochs before are safe.
    """
    with heed_interrupts(), quiet_stderr():
        # What backends print while they start helps nobody; for a seed, Keras imports TensorFlow.
        keras.utils.set_random_seed(recipe.seed)
        device = device_name()
    history: dict[str, list[float]] = {name: [] for name in CURVES}
    rng = np.random.default_rng(recipe.seed)
    sample = rng.permutation(epoch_order(data.training, recipe, 0))[:STATISTICS_CLIPS]
    if resume:
        _check_same_clips(run, data, sample[:CALIBRATION_CLIPS])
        statistics = read_json(run.features)
        mean, std = (np.array(statistics[key], np.float32) for key in ("mean", "std"))
    else:
        run.remove_results()
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
    parameters = count_parameters(network)
    _say(f"{describe(data, recipe)}; {parameters:,} parameters; {device}")

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
        {**result.__dict__, "parameters": parameters, "device": device},
    )
    return result


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


def _check_same_clips(run: RunFolder, data: TrainingData, sample: np.ndarray) -> None:
    """Refuse to go on with other recordings: epochs would be compared that cannot be.

    Any change of the training clips changes which of them are drawn as `sample`.
    """
    nothing, drawn = np.empty(0), data.training.pcm[sample]
    pcm = read_arrays(run / "calibration.npz").get("pcm", nothing)
    labels = read_arrays(run / "validation.npz", "labels").get("labels", nothing)
    # Another version of a decoder may round otherwise.
    same = pcm.shape == drawn.shape and np.abs(np.subtract(pcm, drawn, dtype=float)).mean() < 10
    if not same or not np.array_equal(labels, data.validation.labels):
        raise KwsError(
            f"{run.path} was begun with other recordings. Received: {len(data.training):,} clips "
            f"to train on and {len(data.validation):,} for validation. Start again with --replace, "
            "give another --out, or put back the recordings as they were"
        )


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
