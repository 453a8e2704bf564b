"""The recipe for your own words; settings it leaves out are in ``kws/recipes/own_words.toml``."""

from __future__ import annotations

import math
from pathlib import Path

from kws.data.clips import NOISE_FOLDER
from kws.data.recording.lengths import word_lengths
from kws.own_words.answers import GENERATED, RECORDINGS, SPEECH, NewWords, can_speak
from kws.own_words.next_steps import OTHER_WORDS, TO_FETCH, train_command
from kws.recipe import load_recipe, toml_value
from kws.system.files import atomic_write
from kws.train.folders import find_folder
from kws.wording import counted

_SENTENCES, _NOISE = "sentences", "background_noise"
_BASE = "own_words"
_SMALL = "conv_lstm_s"
_FROM_SCRATCH = "wake_word"
_SHORTEST_MS, _USUAL_MS, _STEP_MS = 1000, 1200, 100
# A word never lies at a clip's very edge, and what follows it is part of the example.
_AROUND_S = 0.35
# Utterances that are planned to find out how long the synthesiser's voices take.
_PLANNED = 200
# Fewer recordings say little about how long other people take.
_TELLING = 20
_FEWEST_CLIPS = 1000  # of a word in an epoch, about half of what Speech Commands has of each


def write_recipe(new: NewWords) -> None:
    """Write the recipe, if it can be read back.

    Raises:
        KwsError: training could not read it.
    """
    with atomic_write(new.recipe, "w") as file:
        file.write(recipe_text(new))
        file.flush()
        load_recipe(Path(file.name))


def recipe_text(new: NewWords) -> str:
    """Return the recipe as TOML, each line with its purpose."""
    clip_ms, reason = clip_length(new)
    one = len(new.words) == 1
    there = [name for name in OTHER_WORDS if find_folder(name, new.folder)][:1]
    noise = [] if there else [name for name in [_NOISE] if find_folder(name, new.folder)]
    clips = [RECORDINGS, *(there or [TO_FETCH]), *noise]
    speech = [SPEECH, *(name for name in [_SENTENCES] if find_folder(name, new.folder))]
    lines = [
        f"# Listens for: {', '.join(new.words)}. Written by `kws new`; change what you like.",
        f"# Train it with: {train_command(new)}",
        "#",
        "# Folders are looked up next to this file, then among the fetched data sets (kws data",
        "# list). Missing ones are skipped.",
        "",
        "# All settings not given here, chosen for words with few recordings or none.",
        f"base = {toml_value(_BASE)}",
        "# Name of the model.",
        f"name = {toml_value(new.name)}",
        "",
        "[data]",
        "# What it listens for: each word is the name of a folder of clips.",
        f"words = {toml_value(new.words)}",
        "# sigmoid: the probability of one word. softmax: which one of several it is.",
        f"head = {toml_value('sigmoid' if one else 'softmax')}",
        "# Recordings of people, <folder>/<word>/<clip>. Other words in them become examples of",
        f"# something else. Noise without speech: <folder>/{NOISE_FOLDER}/<recording>.",
        f"clips = {toml_value(clips)}",
        "# Clips from a synthesiser: the words, and similar-sounding words.",
        f"generated = {toml_value([GENERATED])}",
        "# Running speech without the words: <folder>/<speaker>/<recording>.",
        f"speech = {toml_value(speech)}",
        f"# Length of a clip in milliseconds; it must hold the longest word ({reason}).",
        f"clip_ms = {clip_ms}",
    ]
    if not one:
        lines += [
            "# Clips of each word in an epoch: the more words, the fewer of each, or training",
            "# would take several times as long.",
            f"keyword_clips = {_clips_of_each(len(new.words))}",
        ]
    if new.device == "small-microcontroller":
        lines += _small_network()
    lines += _training(new)
    return "\n".join(lines) + "\n"


def clip_length(new: NewWords) -> tuple[int, str]:
    """Choose the length of clips, in ms, by the longest word; and say what it is based on."""
    lengths = [_word_ms(new, word) for word in new.words]
    longest, reason = max(lengths)
    return max(_SHORTEST_MS, math.ceil(longest / _STEP_MS - 1e-6) * _STEP_MS), reason


def _word_ms(new: NewWords, word: str) -> tuple[float, str]:
    """Return how long a clip of a word must be, and what this is based on.

    It must hold both recordings and generated voices, since training uses both: a longer word would
    be cut, and its rest trained on as the word.
    """
    found: list[tuple[float, str]] = []
    recordings = 0
    if word in new.recorded():
        measured = word_lengths(new.folder / RECORDINGS, word)
        recordings = measured.measured
        if recordings:
            by = f"by {counted(recordings, 'recording')} of {word}"
            found.append((1000 * (measured.p95_s + _AROUND_S), by))
    if can_speak():
        from kws.data.synthesis.spoken_clips import needed_seconds, plan_words

        text = {word: new.text_of(word)}
        plan = plan_words(text, "", _PLANNED, languages=new.languages, varied=True)
        found.append((1000 * needed_seconds(plan), f"by generated voices saying {word}"))
    elif recordings < _TELLING:
        found.append((_USUAL_MS, "usually enough"))
    return max(found)


def _clips_of_each(words: int) -> int:
    """Return how many clips of each of several words an epoch holds."""
    return max(_FEWEST_CLIPS, load_recipe(_BASE).data.keyword_clips // words)


def _small_network() -> list[str]:
    """Return the [model] table of a small network."""
    small = load_recipe(_SMALL)
    return [
        "",
        "[model]",
        f"# The sizes of {_SMALL}, which make a file of 50 kB.",
        f"architecture = {toml_value(small.model.architecture)}",
        *(f"{name} = {toml_value(value)}" for name, value in small.model.sizes.items()),
    ]


def _training(new: NewWords) -> list[str]:
    """Return the [training] table, if any setting differs."""
    lines = []
    if new.device == "small-microcontroller":
        longer = load_recipe(_FROM_SCRATCH).training
        lines += [
            "# From scratch, which takes longer and misses less than starting from commands_en_s.",
            'start = ""',
            f"epochs = {longer.epochs}",
            f"learning_rate = {toml_value(longer.learning_rate)}",
        ]
    if not any(code.lower().split("-")[0] == "en" for code in new.languages):
        lines += [
            "# The phonemes learnt beside the words are those of English. Words of other languages",
            '# that are spelt like English ones would get them, too: German "die", "rot".',
            "phone_weight = 0.0",
        ]
    return ["", "[training]", *lines] if lines else []
