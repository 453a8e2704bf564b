"""The training loop: augmented waveforms in, the weights of the best epoch out.

An epoch is a plain loop over batches of int16 clips. Everything between the clips and the loss
(augmentation, MFCC, SpecAugment, the network) is one Keras model, so that it runs on any device
that Keras runs on.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np

from kws.errors import KwsError
from kws.frontend import features_of
from kws.recipe import TrainingRecipe, to_toml
from kws.system.native import heed_interrupts, quiet_stderr
from kws.system.progress import Progress
from kws.train.average import WeightAverage
from kws.train.batches import Batches
from kws.train.dataset import TrainingData, describe
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
    """What a finished run achieved."""

    val_accuracy: float
    """Balanced accuracy of the best epoch on the validation clips, see `Validation.measure`."""
    best_epoch: int
    """The epoch, counted from 1, whose weights were kept."""
    epochs: int
    """Epochs trained."""
    clips_per_second: float
    """Clips trained per second, augmentation included; the median over the epochs."""
    seconds: float
    """Time spent in all epochs together."""


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """What the epochs work on."""

    trainer: Any
    """The model that is trained, see `build_trainer`."""
    network: Any
    """The network inside it."""
    average: WeightAverage | None
    """The moving average of its weights, if the recipe asks for one."""
    batches: Batches
    """Where batches come from."""
    validation: Validation
    """What the network is measured on."""
    clips_per_epoch: int
    """Clips in an epoch."""

    @property
    def result(self) -> Any:
        """The network that is validated and kept."""
        return self.average.network if self.average else self.network

    @property
    def variables(self) -> list[Any]:
        """Everything that `--resume` restores, the random state included."""
        averaged = self.average.network.weights if self.average else []
        return [*self.trainer.variables, *self.trainer.optimizer.variables, *averaged]


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
        start: the network to start from; None to start from scratch.
        teachers: networks whose outputs are also learnt from.
        resume: continue after the last whole epoch in the folder, which `check_resumable` has
            checked.

    Raises:
        KwsError: the loss is no longer finite, or the run to resume is damaged or was begun with
            other recordings.
        KeyboardInterrupt: stopped by the user; the epochs before are safe.
    """
    with heed_interrupts(), quiet_stderr():
        # The start-up messages of backends help nobody; to set a seed, Keras imports TensorFlow.
        keras.utils.set_random_seed(recipe.seed)
        device = device_name()
    rng = np.random.default_rng(recipe.seed)
    sample = rng.permutation(epoch_order(data.training, recipe, 0))[:STATISTICS_CLIPS]
    if resume:
        _check_same_clips(run, data, sample[:CALIBRATION_CLIPS])
        statistics = read_json(run.features)
        mean, std = (np.array(statistics[key], np.float32) for key in ("mean", "std"))
    else:
        mean, std = _begin_folder(recipe, data, run, sample, start)
    made_with = {**environment(), "backend": keras.backend.backend(), "device": device}
    found = {"data": data.folder, "folders": list(data.folders_found)}
    write_json(run.environment, made_with | found)
    parts = _build(recipe, data, mean, std, sample[:CALIBRATION_CLIPS], start, teachers)
    history: dict[str, list[float]] = {name: [] for name in CURVES}
    done = 0
    if resume:
        done, history = _load_state(parts.variables, run)
    parameters = count_parameters(parts.network)
    _say(f"{describe(data, recipe)}; {parameters:,} parameters; {device}")
    _train_epochs(parts, recipe, run, history, done)

    load_network_weights(parts.network, read_arrays(run.best))
    _, accuracy = parts.validation.measure(parts.network)
    result = Result(
        val_accuracy=accuracy,
        best_epoch=best_epoch(history["val_accuracy"]),
        epochs=len(history["loss"]),
        clips_per_second=float(parts.clips_per_epoch / np.median(history["seconds"])),
        seconds=float(sum(history["seconds"])),
    )
    write_json(run.metrics, {**asdict(result), "parameters": parameters, "device": device})
    return result


def best_epoch(accuracies: Sequence[float]) -> int:
    """Return the epoch whose weights are kept, from 1: the last of equally good ones.

    Args:
        accuracies: on validation clips, one per epoch; not empty.
    """
    return len(accuracies) - int(np.argmax(accuracies[::-1]))


def _begin_folder(
    recipe: TrainingRecipe,
    data: TrainingData,
    run: RunFolder,
    sample: np.ndarray,
    start: Start | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Write all that is known before the first epoch; return the features' mean and deviation."""
    run.remove_results()
    if start is None:
        mean, std = feature_statistics(data.training.pcm[sample], recipe)
    else:
        mean, std = (x.astype(np.float32) for x in (start.mean, start.std))
    write_json(run.features, {"mean": mean.tolist(), "std": std.tolist()})
    write_text(run.recipe, to_toml(recipe))
    _save_clips(run, data, sample[:CALIBRATION_CLIPS])
    return mean, std


def _build(
    recipe: TrainingRecipe,
    data: TrainingData,
    mean: np.ndarray,
    std: np.ndarray,
    sample: np.ndarray,
    start: Start | None,
    teachers: Sequence[TrainedRun],
) -> _Parts:
    """Build and compile everything that the epochs need."""
    phones = recipe.learns_phones and data.has_phones
    trainer, network = build_trainer(recipe, mean, std, data.noise, teachers, phones=phones)
    if start is not None:
        features = features_of(data.training.pcm[sample], recipe.front_end)
        start_from(network, start, recipe, ((features - mean) / std).astype(np.float32))
    clips = len(epoch_order(data.training, recipe, 1))
    steps = clips // recipe.training.batch_size
    every = 0 if start is None else round(recipe.training.unfreeze_epochs * steps)
    thaw = dict(zip(map(id, network.trainable_variables), thaw_steps(network, every), strict=True))
    compile_trainer(
        trainer, recipe, steps, [thaw.get(id(v), 0) for v in trainer.trainable_variables]
    )
    trainer.optimizer.build(trainer.trainable_variables)
    return _Parts(
        trainer=trainer,
        network=network,
        average=WeightAverage(network, recipe, steps) if recipe.training.average_epochs else None,
        batches=Batches(data, recipe, phones=phones),
        validation=Validation(data.validation, recipe, mean, std),
        clips_per_epoch=clips,
    )


def _train_epochs(
    parts: _Parts,
    recipe: TrainingRecipe,
    run: RunFolder,
    history: dict[str, list[float]],
    done: int,
) -> None:
    """Train the epochs after the first `done`; extend `history`, and save after every epoch."""
    epochs, first = recipe.training.epochs, done + 1
    started = time.monotonic()
    try:
        for epoch in range(first, epochs + 1):
            with heed_interrupts():
                figures = _epoch(parts, recipe, epoch)
                loss, accuracy = parts.validation.measure(parts.result)
                _check_loss(loss, recipe, epoch)
                figures |= {"val_loss": loss, "val_accuracy": accuracy}
                for name in CURVES:
                    history[name].append(figures[name])
                best = max(history["val_accuracy"])
                if accuracy >= best:
                    write_arrays(run.best, network_weights(parts.result))
                write_json(run.history, history)
                write_arrays(run.last, _state(parts.variables, epoch))
                done = epoch
            left = (time.monotonic() - started) / (epoch - first + 1) * (epochs - epoch)
            _say(
                f"epoch {epoch}/{epochs}: loss {figures['loss']:.3f}, accuracy "
                f"{100 * figures['accuracy']:.1f} %, validation {100 * accuracy:.2f} % "
                f"(best {100 * best:.2f} %), "
                f"{parts.clips_per_epoch / figures['seconds']:,.0f} clips/s, "
                + (f"{duration(left)} left" if epoch < epochs else "done")
            )
    except (KeyboardInterrupt, OSError):  # around the loop: Ctrl-C also comes between two epochs
        _say(
            f"stopped; {done} of {epochs} epochs are kept in {run.path}. "
            + ("Continue with --resume" if done else "There is nothing to resume yet")
        )
        raise


def _epoch(parts: _Parts, recipe: TrainingRecipe, epoch: int) -> dict[str, float]:
    """Train one epoch and return its figures."""
    trainer, size = parts.trainer, recipe.training.batch_size
    order = epoch_order(parts.batches.data.training, recipe, epoch)
    rng = np.random.default_rng((recipe.seed, epoch, 1))
    # Keras resets its metrics with every batch; the epoch's figures are means over the batches.
    sums = {"loss": 0.0, "accuracy": 0.0}
    start = time.monotonic()
    with Progress(
        len(order), f"epoch {epoch}", unit="clips", shown=sys.stderr.isatty()
    ) as progress:
        for i in range(0, len(order), size):
            chosen = order[i : i + size].reshape(-1, recipe.training.context_clips)
            with heed_interrupts():
                logs = trainer.train_on_batch(*parts.batches.make(chosen, rng), return_dict=True)
                if parts.average:
                    parts.average.update(int(trainer.optimizer.iterations))
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
    """Return everything that `--resume` needs: all variables, the random state included."""
    state = {f"v{i}": np.asarray(v) for i, v in enumerate(variables)}
    return {**state, "epoch": np.array(epoch)}


def _load_state(variables: Sequence[Any], run: RunFolder) -> tuple[int, dict[str, list[float]]]:
    """Set all variables; return how many epochs are done and the curves so far."""
    state = read_arrays(run.last)
    if len(state) != len(variables) + 1:
        raise KwsError(f"{run.last} does not fit this recipe or version of Keras. Train again")
    for i, variable in enumerate(variables):
        variable.assign(state[f"v{i}"])
    epoch = int(state["epoch"])
    history = read_json(run.history)
    # The curves are written just before the state: drop an epoch that a crash in between left over.
    return epoch, {name: history[name][:epoch] for name in CURVES}


def _check_same_clips(run: RunFolder, data: TrainingData, sample: np.ndarray) -> None:
    """Refuse to continue with other recordings: figures of the epochs could not be compared.

    Any change to the training clips changes which of them are drawn as `sample`.
    """
    nothing, drawn = np.empty(0), data.training.pcm[sample]
    pcm = read_arrays(run / "calibration.npz").get("pcm", nothing)
    labels = read_arrays(run / "validation.npz", "labels").get("labels", nothing)
    # Another version of a decoder may round differently.
    same = pcm.shape == drawn.shape and np.abs(np.subtract(pcm, drawn, dtype=float)).mean() < 10
    if not same or not np.array_equal(labels, data.validation.labels):
        raise KwsError(
            f"{run.path} was begun with other recordings. Received: {len(data.training):,} clips "
            f"to train on and {len(data.validation):,} for validation. Start again with --replace, "
            "give another --out, or restore the recordings"
        )


def _save_clips(run: RunFolder, data: TrainingData, sample: np.ndarray) -> None:
    """Save the clips that export calibrates with and compares on."""
    write_arrays(run / "calibration.npz", {"pcm": data.training.pcm[sample]}, compress=True)
    validation = data.validation
    write_arrays(
        run / "validation.npz",
        {"pcm": validation.pcm, "labels": validation.labels},
        compress=True,
    )


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
