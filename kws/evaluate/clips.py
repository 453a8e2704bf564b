"""Evaluation on clips, without and with noise.

`posteriors` defines a network's posteriors for a clip. With a softmax head the label with the
largest posterior is the answer. With a sigmoid head the word counts as detected if its posterior
reaches the threshold in the model file; otherwise the answer is ``_unknown_``.
"""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kws.confidence import wilson_interval
from kws.data.clips import NOISE_FOLDER, ClipIndex
from kws.data.labels import LabelSet
from kws.data.noise import SNRS_DB, Background, Place, check_ratios, held_out_noise
from kws.data.noise_recordings import HELD_OUT_SHARE
from kws.data.scan import scan
from kws.data.split import SPLITS, TESTING, TRAINING, VALIDATION, names_speaker
from kws.errors import KwsError, some
from kws.evaluate.posteriors import clip_posteriors, file_posteriors
from kws.labels import SILENCE, UNKNOWN, folded
from kws.model_file import ModelCard, load_model
from kws.network import Network
from kws.runtime import which_runtime
from kws.wording import counted

_MISTAKES = 20
"""Most single clips listed in an `Evaluation`."""


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Clips of one folder that were all taken for the same wrong label."""

    word: str
    """The folder: a label, or a word that counts as ``_unknown_``."""
    label: str
    """The right label."""
    heard: str
    """The model's answer."""
    clips: int
    """Number of clips."""


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """One clip with a wrong answer."""

    clip: str
    """Its name, ``<folder>/<file>``, or ``#<position>`` if clips have no names."""
    label: str
    """The right label."""
    heard: str
    """The model's answer."""
    score: float
    """Posterior of that answer, 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A model's result on labelled clips."""

    model: str
    """Name or file of the model."""
    runtime: str
    """The runtime, for example ``ai-edge-litert 2.3.0``."""
    seconds: float
    """Time it took, in seconds."""
    labels: tuple[str, ...]
    """Names of the rows and columns of `confusion`."""
    confusion: tuple[tuple[int, ...], ...]
    """Number of clips by right label (rows) and answer (columns) [labels][labels]."""
    confusions: tuple[Confusion, ...] = ()
    """Wrong answers by folder, most frequent first."""
    mistakes: tuple[Mistake, ...] = ()
    """Single clips with wrong answers, the most confident first; at most 20."""
    unreadable: tuple[str, ...] = ()
    """Clips that could not be read, one line each; they are not counted."""
    notes: tuple[str, ...] = ()
    """Remarks, such as on folders left out or counted as ``_unknown_``."""
    snr_db: float | None = None
    """Ratio of speech to the noise mixed in, in dB; None without noise."""
    in_noise: tuple[Evaluation, ...] = ()
    """Results with noise mixed in, from the highest ratio to the lowest."""

    @property
    def clips(self) -> int:
        """Number of clips."""
        return sum(map(sum, self.confusion))

    @property
    def correct(self) -> int:
        """Clips with the right answer."""
        return sum(row[i] for i, row in enumerate(self.confusion))

    @property
    def accuracy(self) -> float:
        """Share of clips with the right answer, 0 to 1."""
        return self.correct / self.clips

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of the accuracy (`wilson_interval`)."""
        return wilson_interval(self.correct, self.clips)

    @property
    def balanced_accuracy(self) -> float:
        """Mean over the labels (those with clips) of the share of right answers, 0 to 1."""
        recalls = [row[i] / sum(row) for i, row in enumerate(self.confusion) if any(row)]
        return sum(recalls) / len(recalls)

    def per_label(self) -> dict[str, dict[str, Any]]:
        """Return for each label its clips, correct ones, recall and precision.

        Recall is None without clips of the label, precision if it was never the answer.
        """
        result = {}
        for i, label in enumerate(self.labels):
            clips = sum(self.confusion[i])
            predicted = sum(row[i] for row in self.confusion)
            correct = self.confusion[i][i]
            result[label] = {
                "clips": clips,
                "correct": correct,
                "recall": correct / clips if clips else None,
                "precision": correct / predicted if predicted else None,
            }
        return result

    def to_json(self) -> dict[str, Any]:
        """Return everything as a dictionary that `json` can write."""
        return {
            "model": self.model,
            "runtime": self.runtime,
            "seconds": round(self.seconds, 3),
            "clips": self.clips,
            "correct": self.correct,
            "accuracy": self.accuracy,
            "accuracy_interval_95": list(self.interval),
            "balanced_accuracy": self.balanced_accuracy,
            "labels": list(self.labels),
            "per_label": self.per_label(),
            "confusion": [list(row) for row in self.confusion],
            "confusions": [vars(confusion) for confusion in self.confusions],
            "mistakes": [vars(mistake) for mistake in self.mistakes],
            "unreadable": list(self.unreadable),
            "notes": list(self.notes),
            "in_noise": [
                {
                    "snr_db": noisy.snr_db,
                    "correct": noisy.correct,
                    "accuracy": noisy.accuracy,
                    "accuracy_interval_95": list(noisy.interval),
                    "points_lost": 100 * (self.accuracy - noisy.accuracy),
                    "per_label": noisy.per_label(),
                    "confusion": [list(row) for row in noisy.confusion],
                }
                for noisy in self.in_noise
            ],
        }


def evaluate_arrays(
    network: Network,
    pcm: npt.NDArray[np.int16],
    labels: Sequence[str] | Sequence[int] | npt.NDArray[np.integer],
    *,
    names: Sequence[str] | None = None,
    model: str | None = None,
) -> Evaluation:
    """Evaluate on clips in memory.

    Args:
        network: a model in stream or clip form.
        pcm: int16 [n, samples].
        labels: the word in each clip [n], or its position in the card's labels, with
            `kws.data.labels.NOT_THE_WORD` for anything else under a sigmoid head.
        names: a name for each clip [n], for the list of mistakes.
        model: name of the model; by default that in the card.

    Raises:
        KwsError: no clips, arrays of different lengths, or a label that the model lacks.
    """
    start = time.perf_counter()
    card = network.card
    posteriors = clip_posteriors(network, pcm)
    return evaluate_posteriors(
        posteriors,
        labels,
        label_set(card),
        threshold=_threshold(card),
        names=names,
        model=model or card.name,
        runtime=which_runtime(),
        seconds=time.perf_counter() - start,
    )


def evaluate_posteriors(
    posteriors: npt.ArrayLike,
    labels: Sequence[str] | Sequence[int] | npt.NDArray[np.integer],
    answers: LabelSet,
    *,
    threshold: float = 0.5,
    names: Sequence[str] | None = None,
    model: str = "",
    runtime: str = "",
    seconds: float = 0.0,
    unreadable: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Evaluation:
    """Evaluate posteriors that were computed before.

    Args:
        posteriors: of each clip [n, labels].
        labels: the word in each clip [n], as for `evaluate_arrays`.
        answers: the labels of the network's outputs.
        threshold: posterior at which a sigmoid head detects its word.
        names: a name for each clip [n], for the list of mistakes.
        model, runtime, seconds, unreadable, notes: copied into the result.

    Raises:
        KwsError: no clips, arrays of different lengths, or a label that the model lacks.
    """
    scores = np.asarray(posteriors, np.float64)
    if scores.ndim != 2 or scores.shape != (len(labels), len(answers.labels)):
        raise KwsError(
            f"Need {len(answers.labels)} posteriors for each clip. "
            f"Received: posteriors of shape {scores.shape}, {len(labels)} labels"
        )
    if not len(scores):
        raise KwsError("There are no clips to evaluate on. Received: 0 clips")
    if answers.head == "sigmoid":
        shown = (*answers.labels, UNKNOWN)
        scores = np.concatenate([scores, 1.0 - scores], axis=1)
        predicted = np.where(scores[:, 0] >= threshold, 0, 1)
    else:
        shown = answers.labels
        predicted = scores.argmax(axis=1)
    truth, words = _truth(labels, answers, shown)

    n = len(shown)
    confusion = np.bincount(truth * n + predicted, minlength=n * n).reshape(n, n)
    wrong = np.flatnonzero(truth != predicted)
    counts = Counter((words[i], shown[truth[i]], shown[predicted[i]]) for i in wrong)
    certainty = scores[wrong, predicted[wrong]]
    surest = wrong[np.argsort(-certainty, kind="stable")[:_MISTAKES]]
    return Evaluation(
        model=model,
        runtime=runtime,
        seconds=seconds,
        labels=shown,
        confusion=tuple(tuple(int(x) for x in row) for row in confusion),
        confusions=tuple(
            Confusion(word=word, label=label, heard=taken, clips=clips)
            for (word, label, taken), clips in sorted(
                counts.items(), key=lambda item: (-item[1], item[0])
            )
        ),
        mistakes=tuple(
            Mistake(
                clip=names[i] if names is not None else f"#{i}",
                label=shown[truth[i]],
                heard=shown[predicted[i]],
                score=round(float(scores[i, predicted[i]]), 4),
            )
            for i in surest
        ),
        unreadable=tuple(unreadable),
        notes=tuple(notes),
    )


def evaluate_folder(
    model: str | Path,
    folder: str | Path,
    *,
    limit: int | None = None,
    workers: int = 1,
    skip_bad: bool = False,
    progress: bool = False,
    noise: str | Path | None = None,
    snrs_db: Sequence[float] = SNRS_DB,
    seed: int = 0,
) -> Evaluation:
    """Evaluate on a folder of ``<label>/<clip>``, and with noise mixed in if there is some.

    Folders that are not labels of the model count as ``_unknown_`` (or are left out if the model
    has no such label); ``_background_noise_`` is skipped.

    Each clip gets its own piece of noise, the same at every ratio (`kws.data.noise` defines the
    ratio). Clips in ``_silence_`` contain no speech that a ratio could refer to: they get no noise
    and count alike at every ratio, so that all figures are of the same clips.

    Args:
        model: a model file in stream or clip form, or the name of a pretrained one.
        folder: the folder.
        limit: most clips of each folder, evenly spread over their names.
        workers: processes to use.
        skip_bad: leave out clips that cannot be read (the result names them) instead of failing.
        progress: report on stderr.
        noise: a folder of noise recordings, or a data set that has some. Only the end of each is
            used, which training never uses (`kws.data.noise_recordings.split_noise`).
        snrs_db: ratios of speech to noise, in dB.
        seed: of the choice of noise pieces.

    Raises:
        KwsError: no such model or folder, nothing to evaluate on, a clip that cannot be read,
            noise that is too short or silent, or an invalid ratio.
    """
    start = time.perf_counter()
    card = load_model(model)
    answers = label_set(card)
    snrs = check_ratios(snrs_db) if noise is not None else ()
    index, notes = _select_clips(folder, answers, limit)
    names, words = index.paths, index.words
    background, places = None, None
    if noise is not None:
        background, places, about_noise = _place_noise(card, words, noise, snrs, seed)
        notes += about_noise
    posteriors, faults = file_posteriors(
        model,
        [str(index.root / name) for name in names],
        background=background,
        places=places,
        workers=workers,
        progress=progress,
    )
    unreadable = [faults[i] for i in sorted(faults)]
    if unreadable and (not skip_bad or len(unreadable) == len(names)):
        raise KwsError(f"{len(unreadable)} of {len(names)} clips cannot be read: {unreadable[0]}")
    good = [i for i in range(len(names)) if i not in faults]
    clean, *in_noise = (
        evaluate_posteriors(
            posteriors[good, version],
            [words[i] for i in good],
            answers,
            threshold=_threshold(card),
            names=[names[i] for i in good],
            model=str(model),
            runtime=which_runtime(),
            unreadable=unreadable,
            notes=notes,
        )
        for version in range(1 + len(snrs))
    )
    return replace(
        clean,
        seconds=time.perf_counter() - start,
        in_noise=tuple(
            replace(result, snr_db=snr) for result, snr in zip(in_noise, snrs, strict=True)
        ),
    )


def label_set(card: ModelCard) -> LabelSet:
    """Return the labels of a model's outputs."""
    return LabelSet(labels=card.labels, keywords=card.keywords, head=card.head)


def _threshold(card: ModelCard) -> float:
    return card.decision.thresholds[card.keywords[0]] if card.head == "sigmoid" else 0.5


def _truth(
    labels: Sequence[str] | Sequence[int] | npt.NDArray[np.integer],
    answers: LabelSet,
    shown: tuple[str, ...],
) -> tuple[npt.NDArray[np.intp], list[str]]:
    """Return each clip's row in the confusion matrix, and its word."""
    given = np.asarray(labels)
    if np.issubdtype(given.dtype, np.integer):
        rows = given.astype(np.intp)
        lowest = -1 if answers.head == "sigmoid" else 0
        if rows.ndim != 1 or rows.min() < lowest or rows.max() >= len(answers.labels):
            raise KwsError(
                f"Labels must be positions {lowest} to {len(answers.labels) - 1}. "
                f"Received: {rows.min()} to {rows.max()}"
            )
        rows = np.where(rows < 0, len(shown) - 1, rows)  # NOT_THE_WORD: the row of _unknown_
        return rows, [shown[row] for row in rows]
    words = [str(word) for word in given]
    positions = answers.indices_of(words)
    # A sigmoid head has one output; "not the word" (-1) is the last row.
    return np.array([p if p >= 0 else len(shown) - 1 for p in positions], np.intp), words


def _select_clips(
    folder: str | Path, answers: LabelSet, limit: int | None
) -> tuple[ClipIndex, list[str]]:
    """Return the clips of a folder to evaluate on, and notes about the others."""
    # Not from the cache: the listing could be out of date.
    index = scan(folder, cached=False)
    of_model = {folded(label) for label in answers.labels}
    others = [word for word in index.labels if folded(word) not in of_model]
    if set(others) - {SILENCE, UNKNOWN} == set(index.labels):
        raise KwsError(
            f"No folder in {folder} is a label of this model. Received: {some(others)}; labels: "
            f"{some(answers.labels)}. Give the folder that contains one folder for each label "
            f"(other speech may be in one named {UNKNOWN})"
        )
    notes = []
    if index.noise:
        notes.append(f"{NOISE_FOLDER} is skipped: recordings of noise, not clips")
    if others and answers.head == "softmax" and UNKNOWN not in answers.labels:
        notes.append(f"left out, as this model has no {UNKNOWN}: {some(others)}")
        index = index.select(words=answers.labels)
    elif others:
        words = [word for word in others if word != UNKNOWN]
        notes += [f"counted as {UNKNOWN}: {some(words)}"] if words else []
    if limit is not None:
        index = index.take(_spread(index.label_ids, limit))
    if not len(index):
        raise KwsError(f"There are no clips to evaluate on in {folder}. Received: 0 clips")
    return index, notes + _about_training_speakers(index, folder)


def _about_training_speakers(index: ClipIndex, folder: str | Path) -> list[str]:
    """Return a note if clips of training speakers count among those of others.

    None where the part says nothing about the speaker: with fewer than ten people, for clips whose
    names say nothing, and for silence.
    """
    if index.split_rule == "clip":
        return []
    known = [
        i
        for i, word in enumerate(index.words)
        if word != SILENCE and (index.split_rule == "lists" or names_speaker(index.name(i)))
    ]
    parts = Counter(SPLITS[i] for i in index.splits[known].tolist())
    if not 0 < parts[TRAINING] < len(known):
        return []
    part = VALIDATION if parts[VALIDATION] else TESTING
    command = shlex.join(["kws", "data", "part", str(folder), "--part", part, "--to", "NEW"])
    return [
        f"{parts[TRAINING]:,} of {counted(len(index), 'clip')} are by training speakers, whom a "
        f"model trained on this folder has heard. Evaluate on {part} speakers alone: {command}"
    ]


def _place_noise(
    card: ModelCard, words: Sequence[str], noise: str | Path, snrs_db: Sequence[float], seed: int
) -> tuple[Background, list[Place | None], list[str]]:
    """Return the noise, the piece of it for each clip (none for ``_silence_``), and notes."""
    rate, length = card.front_end.sample_rate_hz, card.front_end.n_samples(card.clip_frames)
    held_out = held_out_noise(noise, length, sample_rate_hz=rate)
    drawn = held_out.places(len(words), length, seed=seed)
    places = [None if word == SILENCE else place for word, place in zip(words, drawn, strict=True)]
    notes = [
        f"noise mixed in: the last {100 * HELD_OUT_SHARE:.0f} % of "
        f"{counted(len(held_out.ends), 'recording')}, {len(held_out.samples) / rate:,.0f} s"
    ]
    if held_out.skipped:
        notes.append(f"noise skipped, too short or silent: {some(held_out.skipped)}")
    if silence := words.count(SILENCE):
        notes.append(f"no noise is mixed into the {counted(silence, 'clip')} in {SILENCE}")
    return Background(samples=held_out.samples, snrs_db=tuple(snrs_db)), places, notes


def _spread(label_ids: npt.NDArray[np.int32], limit: int) -> npt.NDArray[np.int64]:
    """Return the positions of at most `limit` clips of each label, evenly spread."""
    chosen = []
    for label in np.unique(label_ids):
        at = np.flatnonzero(label_ids == label)
        n = min(limit, len(at))
        chosen.append(at[np.arange(n) * len(at) // n] if n else at[:0])
    return np.concatenate(chosen)
