"""From folders of recordings to the arrays that training works on."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kws.data.arrays import (
    cut_speech,
    load_clips,
    noise_bank,
    read_noise,
    silence_clips,
    split_noise,
)
from kws.data.clips import ClipIndex, check, scan
from kws.errors import KwsError
from kws.labels import SILENCE, UNKNOWN
from kws.processes import usable_cores
from kws.recipe import TrainingRecipe

# Training hears quieter background than validation asks for, and true zeros as well.
EXTRA_QUIET_DB = 15.0
ZERO_SHARE = 0.03


@dataclass(frozen=True, kw_only=True)
class ClipSet:
    """Clips and what they are."""

    pcm: np.ndarray
    """int16 [n, clip_samples]."""
    labels: np.ndarray
    """int32 [n], positions in the label set."""
    words: np.ndarray
    """str [n], the word as the folder names it, ``_silence_`` or ``_speech_``."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """All that the training loop reads."""

    training: ClipSet
    """Clips of training speakers, other words, speech windows and background cuts."""
    validation: ClipSet
    """Clips of validation speakers and background cuts, never varied."""
    noise: np.ndarray
    """int16 [m], background that augmentation mixes in (the part that is for training)."""


def find_data(name: str, data_dir: Path | None) -> Path | None:
    """Find the folder that a recipe calls `name`: below `data_dir`, else among fetched data."""
    from kws.data.home import data_home

    places = [data_dir / name] if data_dir is not None else []
    places.append(data_home() / name)
    return next((place for place in places if place.is_dir()), None)


def load_training_data(recipe: TrainingRecipe, data_dir: Path | None) -> TrainingData:
    """Scan, decode (cached) and label everything that `recipe` learns from.

    Args:
        recipe: what to learn.
        data_dir: holds the recipe's folders by name, or is itself the folder of <label>/<clip>.

    Raises:
        KwsError: a folder is missing or has too few clips, or no noise where it is needed.
    """
    label_set, rng = recipe.labels, np.random.default_rng(recipe.seed)
    root = find_data(recipe.data.clips, data_dir) or data_dir
    if root is None or not root.is_dir():
        raise KwsError(
            f"No clips to train on: found no folder {recipe.data.clips!r}"
            + (f" and no folder {data_dir}" if data_dir else "")
            + ". Name the folder that holds them with --data, or see: kws data list"
        )
    index = scan(root)
    for warning in check(index, label_set.keywords):
        _say(warning)
    training = [_words(recipe, index, root, "training")]
    validation = [_words(recipe, index, root, "validation")]
    if UNKNOWN in label_set.labels or recipe.data.head == "sigmoid":
        training += _speech(recipe, data_dir)

    recordings = read_noise(index)
    noise, held_out = split_noise(recordings) if recordings else ([], [])
    low, high = recipe.data.silence_dbfs
    if SILENCE in label_set.labels or recipe.data.head == "sigmoid":
        if not recordings:
            _say(f"{root} has no _background_noise_ folder: silence is taught from zeros alone")
        n, n_held_out = recipe.data.silence_clips, recipe.data.validation_silence_clips
        seeds = [int(s) for s in rng.integers(2**31, size=2)]
        length, levels = recipe.clip_samples, (low - EXTRA_QUIET_DB, high)
        cuts = silence_clips(noise, n, length, levels, seeds[0]) if noise else _zeros(n, length)
        cuts[: int(ZERO_SHARE * n)] = 0
        training.append(_clip_set(recipe, cuts, np.full(n, SILENCE)))
        if held_out:
            cuts = silence_clips(held_out, n_held_out, length, (low, high), seeds[1])
            validation.append(_clip_set(recipe, cuts, np.full(n_held_out, SILENCE)))
    data = TrainingData(
        training=_join(training),
        validation=_join(validation),
        noise=noise_bank(noise) if noise else np.zeros(recipe.clip_samples, np.int16),
    )
    if not len(data.validation):
        raise KwsError(
            f"No clip of {root} falls into validation (a tenth of the speakers, chosen by name): "
            "add recordings of more speakers"
        )
    return data


def describe(data: TrainingData, recipe: TrainingRecipe) -> str:
    """One line on how many clips there are of what."""
    names = recipe.labels.labels
    counts = Counter(int(label) for label in data.training.labels)
    parts = [f"{name} {counts[i]}" for i, name in enumerate(names)]
    if recipe.data.head == "sigmoid":
        parts.append(f"others {counts[-1]}")
    return (
        f"training on {len(data.training)} clips ({', '.join(parts)}), "
        f"validating on {len(data.validation)}"
    )


def _words(recipe: TrainingRecipe, index: ClipIndex, root: Path, split: str) -> ClipSet:
    """Clips of the keywords, and of the other words where the network has a place for them."""
    label_set = recipe.labels
    takes_others = UNKNOWN in label_set.labels or recipe.data.head == "sigmoid"
    chosen = index.select(split=split, words=None if takes_others else label_set.keywords)
    pcm = load_clips(root, chosen.paths, clip_samples=recipe.clip_samples)
    return _clip_set(recipe, pcm, np.array(chosen.words))


def _speech(recipe: TrainingRecipe, data_dir: Path | None) -> list[ClipSet]:
    """Windows of running speech by training speakers, without the keywords."""
    sets = []
    for name in recipe.data.speech:
        folder = find_data(name, data_dir)
        if folder is None:
            _say(f"no folder {name!r} of running speech found: training goes on without it")
            continue
        windows = cut_speech(folder, recipe.labels.keywords, clip_samples=recipe.clip_samples)
        chosen = windows.select("training")
        sets.append(_clip_set(recipe, chosen, np.full(len(chosen), "_speech_")))
    return sets


def _clip_set(recipe: TrainingRecipe, pcm: np.ndarray, words: np.ndarray) -> ClipSet:
    """Label clips by word; for a sigmoid head, -1 stands for everything that is not the word."""
    label_set = recipe.labels
    positions = {}
    for word in np.unique(words.astype(str)):
        if recipe.data.head == "sigmoid":
            positions[word] = 0 if word in label_set.keywords else -1
        else:
            positions[word] = label_set.index_of(UNKNOWN if word == "_speech_" else word)
    labels = np.array([positions[str(word)] for word in words], np.int32)
    return ClipSet(pcm=pcm, labels=labels, words=words.astype(object))


def _join(sets: list[ClipSet]) -> ClipSet:
    return ClipSet(
        pcm=np.concatenate([s.pcm for s in sets]),
        labels=np.concatenate([s.labels for s in sets]),
        words=np.concatenate([s.words for s in sets]),
    )


def _zeros(n: int, length: int) -> np.ndarray:
    return np.zeros((n, length), np.int16)


def _say(message: str) -> None:
    print(f"kws: {message}", file=sys.stderr)


def epoch_order(data: ClipSet, recipe: TrainingRecipe, epoch: int) -> np.ndarray:
    """Choose and shuffle the clips of one epoch: int64 [n], a multiple of the batch size.

    Every keyword clip comes once; other speech and background are drawn anew for each epoch so that
    they make up the shares that the recipe asks for. The order depends on seed and epoch alone, so
    a resumed run goes on as if it had never stopped.
    """
    rng = np.random.default_rng((recipe.seed, epoch))
    keywords = np.isin(data.labels, [recipe.labels.index_of(w) for w in recipe.labels.keywords])
    silence = data.words == SILENCE
    parts = [np.flatnonzero(keywords)]
    others, quiet = np.flatnonzero(~keywords & ~silence), np.flatnonzero(silence)
    shares = [
        (others, recipe.data.unknown_share if len(others) else 0.0),
        (quiet, recipe.data.silence_share if len(quiet) else 0.0),
    ]
    total = len(parts[0]) / max(1e-6, 1 - sum(share for _, share in shares))
    for pool, share in shares:
        wanted = round(total * share)
        repeats = -(-wanted // len(pool)) if wanted else 0
        parts += [np.concatenate([rng.permutation(pool) for _ in range(repeats)])[:wanted]] * bool(
            wanted
        )
    order = rng.permutation(np.concatenate(parts))
    size = recipe.training.batch_size
    # A last partial batch is filled up from the front of the same epoch.
    return np.resize(order, -(-len(order) // size) * size)


def environment() -> dict[str, object]:
    """What a run was made with: versions, machine, usable cores."""
    import platform
    from importlib import metadata

    names = ("kws", "numpy", "keras", "tensorflow", "jax", "tf-keras")
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": usable_cores(),
        "packages": versions,
    }
