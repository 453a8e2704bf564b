"""The commands that lead from a recipe to a listening device."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from kws.data.fetch.catalog import load_dataset_recipe
from kws.errors import some
from kws.own_words.answers import GENERATED, RECORDINGS, SPEECH, NewWords
from kws.train.folders import find_folder
from kws.wording import byte_size

OTHER_WORDS = ("speech_commands", "speech_commands_v0.02", "speech_commands_v0.01")
"""Data sets of other words, the preferred one first."""
TO_FETCH = OTHER_WORDS[1]
"""The one that is fetched where none is there."""

_CLIPS, _MINUTES = 1000, 60
_RUN = "run"
_PACKAGES: Mapping[str, str] = {
    "synth": "espeakng_loader",
    "train": "tensorflow",
    "listen": "sounddevice",
}
"""A package of each extra that the commands need."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One of the commands."""

    why: str
    """What it does, in a line."""
    command: str
    """Ready for a shell."""
    optional: bool = False
    """Whether it can be left out."""


def next_steps(new: NewWords) -> list[Step]:
    """Return the commands that lead from the recipe to a listening device, in order."""
    run = new.folder / _RUN
    steps = [
        *_record(new),
        *_generate(new),
        *_fetch(new),
        Step(why="train on all of that", command=train_command(new)),
        Step(
            why="set its threshold, and say how good it is and what would help",
            command=_shell("kws", "verdict", run, "-o", new.model),
        ),
        Step(
            why="listen with the microphone"
            + (" (on the Pi, once the model file is there)" if new.device == "pi" else ""),
            command=_shell("kws", "listen", "--model", new.model),
        ),
    ]
    if new.device.endswith("microcontroller"):
        steps.append(
            Step(
                why="write it as a C library",
                command=_shell("kws", "firmware", new.model, "-o", new.folder / "firmware"),
            )
        )
    return steps


def train_command(new: NewWords) -> str:
    """Return the command that trains the recipe, replacing an earlier run."""
    return _shell("kws", "train", new.recipe, "--out", new.folder / _RUN, "--replace")


def missing_extras() -> list[str]:
    """Return the extras of this distribution that the commands need and that are not installed."""
    return [extra for extra, package in _PACKAGES.items() if find_spec(package) is None]


def _record(new: NewWords) -> list[Step]:
    recorded = new.recorded()
    return [
        Step(
            why=f"twenty recordings of {word!r} help more than anything else (with a microphone)",
            command=_shell("kws", "data", "record", word, "--to", new.folder / RECORDINGS),
            optional=True,
        )
        for word in new.words
        if word not in recorded
    ]


def _generate(new: NewWords) -> list[Step]:
    words = [f"{word}={new.texts[word]}" if word in new.texts else word for word in new.words]
    names = some(new.words, 3)
    languages = [option for code in new.languages for option in ("-l", code)]
    clips = ("--count", str(_CLIPS), "--near-misses", str(_CLIPS), "--to", new.folder / GENERATED)
    speech = ("--speech", str(_MINUTES), "--to", new.folder / SPEECH)
    return [
        Step(
            why=f"speak {names} and similar-sounding words in many generated voices",
            command=_shell("kws", "data", "synth", *words, *clips, *languages),
        ),
        Step(
            why=f"an hour of generated speech without {names}",
            command=_shell("kws", "data", "synth", *words, *speech, *languages),
        ),
    ]


def _fetch(new: NewWords) -> list[Step]:
    if any(find_folder(name, new.folder) for name in OTHER_WORDS):
        return []
    size = load_dataset_recipe(TO_FETCH).size_bytes
    return [
        Step(
            why="other words by thousands of people, and noise to mix in: fewer false alarms "
            f"(a download of {byte_size(size or 0)})",
            command=_shell("kws", "data", "fetch", TO_FETCH),
            optional=True,
        )
    ]


def _shell(*words: str | os.PathLike[str]) -> str:
    return shlex.join([os.fspath(word) for word in words])
