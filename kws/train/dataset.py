"""From folders of recordings to the arrays that training works on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kws.data import phones
from kws.data.arrays import load_good_clips
from kws.data.clips import NOISE_FOLDER, ClipIndex, label_counts
from kws.data.enough import require_enough_clips
from kws.data.noise import synthetic_noise
from kws.data.noise_recordings import noise_bank, read_noise, silence_clips, split_noise
from kws.data.nonwords import backwards, cut_out, spliced
from kws.data.scan import scan
from kws.data.spans import word_spans
from kws.data.speech_windows import SpeechWindows, cut_speech
from kws.data.transcripts import TRANSCRIPTS, read_transcripts, utterance_of
from kws.labels import SILENCE, UNKNOWN, folded
from kws.recipe import TrainingRecipe
from kws.system.progress import tell
from kws.train.folders import (
    find_clips,
    find_folder,
    first_folder,
    folders_found,
    folders_of_other_kinds,
)

# Training includes quieter background than validation, and digital silence.
EXTRA_QUIET_DB = 15.0
ZERO_SHARE = 0.03
_MOST_NAMED = 40
ENOUGH_RECORDED = 50
"""With this many held-out recordings of every keyword, validation leaves generated clips out."""


@dataclass(frozen=True, kw_only=True)
class ClipSet:
    """Clips with their labels."""

    pcm: np.ndarray
    """int16 [n, clip_samples]."""
    labels: np.ndarray
    """int32 [n], positions in the label set; with a wake word, -1 for everything else."""
    words: np.ndarray
    """str [n], the word as the folder names it, ``_silence_`` or ``_speech_``."""
    generated: np.ndarray
    """bool [n], whether the clip is synthesised speech."""
    phones: np.ndarray
    """int8 [n, clip_ms / 10], the phonemes over time, see `kws.data.phones`."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, chosen: np.ndarray) -> ClipSet:
        """Return the clips where `chosen` is true [n]; all of them without a copy."""
        if chosen.all():
            return self
        return ClipSet(**{name: values[chosen] for name, values in vars(self).items()})


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Everything that the training loop reads."""

    training: ClipSet
    """Clips of training speakers, other words, speech windows and background cuts."""
    spans: np.ndarray
    """int32 [len(training), 2], start and end of the keyword in each training clip, in samples;
    zeros for other clips, and for all clips without a ``stream_weight``."""
    validation: ClipSet
    """Clips of validation speakers and background cuts, never augmented; generated ones only if
    there are too few recorded ones (`ENOUGH_RECORDED` of each keyword)."""
    noise: np.ndarray
    """int16 [m], background that augmentation mixes in (the training part)."""
    stretches: np.ndarray
    """int16 [k, n x clip_samples], running speech of training speakers without a keyword, as long
    as a sequence; with a ``stretch_speed`` one clip longer, so that the cut can vary."""
    stretch_phones: np.ndarray
    """int8 [k, n, clip_ms / 10], their phonemes over time."""
    folder: str | None
    """The absolute path of the folder searched for the data; None for the fetched data sets."""
    folders_found: tuple[str, ...] = ()
    """Names of the folders that all this is from."""

    @property
    def has_phones(self) -> bool:
        """Whether the phonemes of any speech are known."""
        return any(
            bool((p > phones.SILENCE_PHONE).any())
            for p in (self.training.phones, self.stretch_phones)
        )


def load_training_data(recipe: TrainingRecipe, data_dir: Path | None) -> TrainingData:
    """Scan, decode (cached) and label everything that `recipe` learns from.

    Args:
        recipe: what to train.
        data_dir: see `find_clips`; also searched for folders of running speech.

    Raises:
        KwsError: a folder is missing or has too few clips, or noise too short to cut.
    """
    label_set, rng = recipe.labels, np.random.default_rng(recipe.seed)
    recorded, generated = find_clips(recipe, data_dir)
    roots = [*recorded, *generated]
    indexes = [scan(root) for root in roots]
    for warning in require_enough_clips(indexes, label_set.keywords):
        tell(warning)
    sources = [(index, i >= len(recorded)) for i, index in enumerate(indexes)]
    training = _words(recipe, sources, "training")
    validation = _words(recipe, _measured(recipe, sources), "validation")
    if _takes_others(recipe):
        speech = _speech(recipe, data_dir)
        if recipe.data.nonwords:
            spoken = [part.take(part.words != SILENCE) for part in training]
            training.append(_nonwords(recipe, _join(spoken), speech, rng))
        training += speech
        keywords = set(map(folded, label_set.keywords))
        if all({folded(word) for word in set(part.words)} <= keywords for part in training):
            tell(
                f"{roots[0]} has no words other than the keywords: the network will take any word "
                "for one of them. Add folders of other words"
            )

    recordings = [noise for index in indexes for noise in read_noise(index)]
    if not recordings:
        place = first_folder(recipe, data_dir)
        tell(
            f"there is no {NOISE_FOLDER} folder: using synthetic white, pink and brown noise. "
            "Better: record a few minutes of noise without the words, where the device will be "
            f"used, as {place / NOISE_FOLDER}/<name>.wav"
        )
        recordings = synthetic_noise()
    noise, held_out = split_noise(recordings)
    low, high = recipe.data.silence_dbfs
    if SILENCE in label_set.labels or recipe.data.head == "sigmoid":
        n, n_held_out = recipe.data.silence_clips, recipe.data.validation_silence_clips
        seeds = [int(s) for s in rng.integers(2**31, size=2)]
        length, levels = recipe.clip_samples, (low - EXTRA_QUIET_DB, high)
        cuts = silence_clips(noise, n, length, levels, seeds[0])
        cuts[: int(ZERO_SHARE * n)] = 0
        training.append(_clip_set(recipe, cuts, [SILENCE] * n))
        cuts = silence_clips(held_out, n_held_out, length, (low, high), seeds[1])
        validation.append(_clip_set(recipe, cuts, [SILENCE] * n_held_out))
    joined = _join(training)
    stretches, stretch_phones = _stretches(recipe, data_dir)
    return TrainingData(
        training=joined,
        spans=_keyword_spans(recipe, joined),
        validation=_join(validation),
        noise=noise_bank(noise),
        stretches=stretches,
        stretch_phones=stretch_phones,
        folder=None if data_dir is None else str(data_dir.absolute()),
        folders_found=folders_found(recipe, data_dir),
    )


def describe(data: TrainingData, recipe: TrainingRecipe) -> str:
    """Return one line with the number of clips of each label."""
    names = recipe.labels.labels
    counts = Counter(int(label) for label in data.training.labels)
    parts = [f"{name} {counts[i]}" for i, name in enumerate(names)]
    if len(parts) > _MOST_NAMED:
        parts[_MOST_NAMED // 2 : -_MOST_NAMED // 2] = ["…"]
    if recipe.data.head == "sigmoid":
        parts.append(f"others {counts[-1]}")
    return (
        f"training on {len(data.training)} clips ({', '.join(parts)}), "
        f"validating on {len(data.validation)} (accuracy as a mean over the labels)"
    )


def _takes_others(recipe: TrainingRecipe) -> bool:
    """Whether the network has an output for words that are not keywords."""
    return UNKNOWN in recipe.labels.labels or recipe.data.head == "sigmoid"


def _measured(
    recipe: TrainingRecipe, sources: Sequence[tuple[ClipIndex, bool]]
) -> list[tuple[ClipIndex, bool]]:
    """Leave generated clips out if there are enough recordings of every keyword to measure on."""
    recorded = [source for source in sources if not source[1]]
    said = label_counts([index for index, _ in recorded], "validation")
    enough = all(said[folded(word)] >= ENOUGH_RECORDED for word in recipe.labels.keywords)
    return recorded if enough else list(sources)


def _words(
    recipe: TrainingRecipe, sources: Sequence[tuple[ClipIndex, bool]], split: str
) -> list[ClipSet]:
    """Load clips of the keywords, and of other words if the network has an output for them."""
    words = None if _takes_others(recipe) else recipe.labels.keywords
    left_out = folders_of_other_kinds(recipe)
    if split == "training":
        left_out |= set(map(folded, recipe.data.unheard))
    sets = []
    for index, generated in sources:
        chosen = index.select(split=split, words=words).without(left_out)
        if len(chosen):
            pcm, kept, starts = load_good_clips(index.root, chosen.paths, recipe.clip_samples)
            good = chosen.take(kept)
            phonemes = None
            if split == "training":
                of_label = {label: _said(label, recipe) for label in good.labels}
                said = {p: of_label[w] for p, w in zip(good.paths, good.words, strict=True)}
                places = list(zip(good.paths, starts.tolist(), strict=True))
                phonemes = _phones(recipe, index.root, said, places)
            sets.append(_clip_set(recipe, pcm, good.words, generated=generated, phonemes=phonemes))
    return sets


def _speech(recipe: TrainingRecipe, data_dir: Path | None) -> list[ClipSet]:
    """Load windows of running speech by training speakers, without the keywords."""
    return [
        _clip_set(recipe, cuts, ["_speech_"] * len(cuts), phonemes=phonemes[:, 0])
        for cuts, phonemes in _cut_speech(recipe, data_dir, 1)
    ]


def _nonwords(
    recipe: TrainingRecipe, spoken: ClipSet, speech: list[ClipSet], rng: np.random.Generator
) -> ClipSet:
    """Make nonwords from the words in `spoken` and, for a third of them, from `speech`."""
    words, n = list(spoken.words), recipe.data.nonwords
    rate = recipe.front_end.sample_rate_hz
    windows = [part.pcm for part in speech if len(part)]
    pieces = [cut_out(pcm, n // 3 // len(windows), rng, sample_rate_hz=rate) for pcm in windows]
    left = n - sum(map(len, pieces))
    spans = word_spans(spoken.pcm, sample_rate_hz=rate)
    reverse = backwards(spoken.pcm, words, left // 2, rng)
    joined = spliced(spoken.pcm, words, spans, left - left // 2, rng, sample_rate_hz=rate)
    pcm = np.concatenate([reverse, joined, *pieces])
    return _clip_set(recipe, pcm, ["_nonword_"] * len(pcm))


def _stretches(recipe: TrainingRecipe, data_dir: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Load running speech in pieces as long as a sequence or one clip longer, and its phonemes."""
    clips = recipe.training.context_clips + (recipe.augment.stretch_speed > 0)
    pcm = [np.empty((0, clips * recipe.clip_samples), np.int16)]
    phonemes = [np.empty((0, clips, _clip_phones(recipe)), np.int8)]
    if recipe.data.stretch_share and _takes_others(recipe):
        for cuts, of_cuts in _cut_speech(recipe, data_dir, clips):
            pcm.append(cuts)
            phonemes.append(of_cuts)
    return np.concatenate(pcm), np.concatenate(phonemes)


def _cut_speech(
    recipe: TrainingRecipe, data_dir: Path | None, clips: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cut the recipe's running speech, training speakers only, into windows `clips` clips long.

    Returns:
        For each folder int16 [n, samples] and phonemes int8 [n, clips, frames].
    """
    windows = []
    for name in recipe.data.speech:
        folder = find_folder(name, data_dir)
        if folder is None:
            if clips == 1:
                tell(f"no folder {name!r} of running speech found: continuing without it")
            continue
        length = clips * recipe.clip_samples
        not_said = [*recipe.labels.keywords, *recipe.data.unheard]
        found = cut_speech(folder, not_said, clip_samples=length, hop_samples=length // 2).select(
            "training"
        )
        if not len(found):
            if clips == 1:
                tell(
                    f"{folder} has no speaker of the training part, which a hash of the speaker's "
                    "name decides: continuing without it. Add recordings of more people"
                )
            continue
        windows.append((found.pcm, _speech_phones(recipe, folder.resolve(), found, clips)))
    return windows


def _speech_phones(
    recipe: TrainingRecipe, folder: Path, found: SpeechWindows, clips: int
) -> np.ndarray:
    """Return the phonemes of windows of running speech, int8 [n, clips, frames]."""
    table = folder / TRANSCRIPTS
    spoken = read_transcripts(table) if table.is_file() else {}
    said = {path: spoken.get(utterance_of(path), "") for path in found.recordings}
    places = [
        (found.recordings[i], int(start) + clip * recipe.clip_samples)
        for i, start in zip(found.recording_ids, found.starts, strict=True)
        for clip in range(clips)
    ]
    return _phones(recipe, folder, said, places).reshape(len(found), clips, -1)


def _phones(
    recipe: TrainingRecipe, root: Path, said: dict[str, str], places: Sequence[tuple[str, int]]
) -> np.ndarray:
    """Return the phonemes of clips cut from recordings, int8 [n, frames].

    Args:
        recipe: if it does not learn phonemes, all are unknown.
        root: of the recordings.
        said: recording → its transcript; "" if unknown.
        places: recording and first sample of each clip.
    """
    spoken = {path: text for path, text in said.items() if text}
    found = phones.aligned(root, spoken) if recipe.learns_phones and spoken else {}
    cuts = np.full((len(places), _clip_phones(recipe)), phones.UNKNOWN_PHONE, np.int8)
    for i, (path, start) in enumerate(places):
        if path in found:
            cuts[i] = phones.cut(found[path], start, recipe.clip_samples)
    return cuts


def _said(label: str, recipe: TrainingRecipe) -> str:
    """Return what is said in the clips of a label: "" if it is not a word, like ``_unknown_``."""
    known = label.isalpha() or folded(label) in map(folded, recipe.labels.keywords)
    return label if known else ""


def _clip_phones(recipe: TrainingRecipe) -> int:
    """Return the number of phoneme frames in a clip."""
    return recipe.clip_samples // phones.FRAME_SAMPLES


def _clip_set(
    recipe: TrainingRecipe,
    pcm: np.ndarray,
    words: Sequence[str],
    *,
    generated: bool = False,
    phonemes: np.ndarray | None = None,
) -> ClipSet:
    if phonemes is None:
        phonemes = np.full((len(pcm), _clip_phones(recipe)), phones.UNKNOWN_PHONE, np.int8)
        phonemes[np.array([word == SILENCE for word in words], bool)] = phones.SILENCE_PHONE
    return ClipSet(
        pcm=pcm,
        labels=np.array(recipe.labels.indices_of(words), np.int32),
        words=np.array(words, object),
        generated=np.full(len(words), generated),
        phones=phonemes,
    )


def _keyword_spans(recipe: TrainingRecipe, clips: ClipSet) -> np.ndarray:
    """Locate the keyword in each clip, if the targets depend on it."""
    spans = np.zeros((len(clips), 2), np.int32)
    if recipe.training.stream_weight:
        keywords = np.flatnonzero(np.isin(clips.labels, keyword_labels(recipe)))
        rate = recipe.front_end.sample_rate_hz
        for i in range(0, len(keywords), 1000):  # all at once would copy them all
            some = keywords[i : i + 1000]
            spans[some] = word_spans(clips.pcm[some], sample_rate_hz=rate)
    return spans


def keyword_labels(recipe: TrainingRecipe) -> np.ndarray:
    """Return which outputs are keywords: int64 [keywords]."""
    return np.array([recipe.labels.index_of(word) for word in recipe.labels.keywords], np.int64)


def _join(sets: list[ClipSet]) -> ClipSet:
    return ClipSet(
        pcm=np.concatenate([s.pcm for s in sets]),
        labels=np.concatenate([s.labels for s in sets]),
        words=np.concatenate([s.words for s in sets]),
        generated=np.concatenate([s.generated for s in sets]),
        phones=np.concatenate([s.phones for s in sets]),
    )
