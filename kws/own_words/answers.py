"""A recipe for words of one's own, written from a few answers, and the commands that come next.

What the recipe leaves out is in ``kws/recipes/own_words.toml``, which it builds on.
"""

from __future__ import annotations

import math
import os
import shlex
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from kws.data.clips import AUDIO_SUFFIXES, NOISE_FOLDER
from kws.data.fetch.catalog import load_dataset_recipe
from kws.data.recording.lengths import word_lengths
from kws.data.recording.word_clips import check_word
from kws.errors import KwsError, some
from kws.labels import folded
from kws.recipe import load_recipe, toml_value
from kws.system.files import atomic_write
from kws.train.folders import find_folder
from kws.wording import byte_size, counted

DEVICES = {
    "laptop": "a laptop or a desktop",
    "pi": "a Raspberry Pi or another small Linux board",
    "microcontroller": "a microcontroller with 256 kB of flash or more",
    "small-microcontroller": "a microcontroller with less: a network of 50 kB",
}
"""What a word can be heard on; the first is the default."""
RECIPE, RECORDINGS, GENERATED, SPEECH = "recipe.toml", "recordings", "generated", "generated_speech"
"""What lies in the folder of a word."""

_OTHER_WORDS = ("speech_commands", "speech_commands_v0.02", "speech_commands_v0.01")
_TO_FETCH = _OTHER_WORDS[1]
_SENTENCES, _NOISE = "sentences", "background_noise"
_BASE = "own_words"
_SMALL = "conv_lstm_s"
_FROM_NOTHING = "wake_word"
_FEWEST_MS, _USUAL_MS, _STEP_MS = 1000, 1200, 100
# People never say a word at the clip's very edge, and what follows it is part of the example.
_AROUND_S = 0.35
# So many utterances are planned to see how long the synthesiser's voices take.
_PLANNED = 200
# Fewer recordings say little about how long others take.
_TELLING = 20
_CLIPS, _MINUTES = 1000, 60
_FEWEST_CLIPS = 1000  # of a word in an epoch, about half of what Speech Commands has of one
_RUN = "run"


@dataclass(frozen=True, kw_only=True)
class NewWords:
    """The answers that a recipe is written from."""

    folder: Path
    """Where the recipe goes, and all that comes after it."""
    words: tuple[str, ...]
    """What to listen for, as `check_words` returns it."""
    texts: Mapping[str, str]
    """How words are spoken by the synthesiser, where not as they are spelt: word → text."""
    languages: tuple[str, ...] = ("en",)
    """The synthesiser's languages."""
    device: str = "laptop"
    """One of `DEVICES`."""

    @property
    def recipe(self) -> Path:
        """The file that is written."""
        return self.folder / RECIPE

    @property
    def name(self) -> str:
        """Of the model and its files: the word, or the folder's name where there are several."""
        one = self.words[0] if len(self.words) == 1 else self.folder.absolute().name or "words"
        return folder_of(one)

    @property
    def model(self) -> Path:
        """The model file that the commands lead to."""
        return self.folder / f"{self.name}.tflite"

    def recorded(self) -> tuple[str, ...]:
        """Return the words that have recordings."""
        return tuple(word for word in self.words if sounds_in(self.folder / RECORDINGS / word))


@dataclass(frozen=True, kw_only=True)
class Step:
    """A command that comes next."""

    why: str
    """What it does, in a line."""
    command: str
    """Ready for a shell."""
    optional: bool = False
    """Whether it can be left out."""


def check_words(words: Sequence[str]) -> tuple[str, ...]:
    """Return the words as folders are named: without spaces around, accents composed (NFC).

    Raises:
        KwsError: none, one that cannot be the name of a folder or stand in a command, or one twice.
    """
    found: list[str] = []
    for raw in words:
        word = check_word(unicodedata.normalize("NFC", raw.strip()))
        if "=" in word or word.startswith("-"):
            raise KwsError(
                "A word must not begin with '-' or have '=' in it, which commands read otherwise. "
                f"Received: {word!r}. Spell it without"
            )
        if not any(character.isalnum() for character in word):
            raise KwsError(f"A word must have letters. Received: {word!r}. Give one to say")
        if word.casefold() in (other.casefold() for other in found):
            raise KwsError(f"This word is there twice. Received: {word!r}. Give each word once")
        found.append(word)
    if not found:
        raise KwsError("There is no word. Received: nothing. Give at least one")
    return tuple(found)


def check_device(device: str) -> str:
    """Return the device as it stands in `DEVICES`; capital letters are as good.

    Raises:
        KwsError: it is none.
    """
    if device.casefold() not in DEVICES:
        raise KwsError(f"No such device. Received: {device!r}. Choose one of: {', '.join(DEVICES)}")
    return device.casefold()


def check_spoken(
    words: Sequence[str], texts: Mapping[str, str], languages: Sequence[str]
) -> tuple[str, ...]:
    """Return the languages, each once, if the synthesiser can say the words, where it is installed.

    Raises:
        KwsError: no such language, or a spelling or phonemes that it cannot say or cannot make
            near-misses of.
    """
    codes = tuple(dict.fromkeys(language.strip() for language in languages))
    for code in codes or ("",):
        if not code or code.startswith("-"):
            raise KwsError(f"A language is a code such as en, de or fr. Received: {code!r}")
    if _can_speak():
        from kws.data.synthesis.spoken_clips import plan_words
        from kws.data.synthesis.spoken_words import own_sounds

        spoken = _spoken(words, texts)
        plan_words(spoken, "", 2, languages=codes)
        own_sounds(spoken.values(), codes)
    return codes


def find_recordings(folders: Sequence[Path], words: Sequence[str]) -> dict[str, list[Path]]:
    """Find the recordings of each word: word → sound files, without words that have none.

    A folder holds a folder for each word, or recordings of one word; then it is named like the
    word, in any case, or there is only one.

    Raises:
        KwsError: no such folder, no sound files in it, or nobody knows which word they hold.
    """
    found: dict[str, list[Path]] = {}
    for folder in folders:
        if not folder.is_dir():
            what = "a file" if folder.exists() else "nothing there"
            raise KwsError(
                f"Recordings must be a folder of sound files. Received: {folder}, {what}. Check "
                "the path; one long recording is cut with `kws data add WORD FILE --several`"
            )
        below = [path for path in sorted(folder.iterdir()) if path.is_dir()]
        of_words = {
            word: [sound for path in below if _named(path, word) for sound in sounds_in(path)]
            for word in words
        }
        files = sounds_in(folder)
        if files and not any(of_words.values()):
            named = [word for word in words if _named(folder.absolute(), word)]
            if len(words) > 1 and not named:
                raise KwsError(
                    f"Which word do the recordings hold? Received: {folder}, for "
                    f"{', '.join(words)}. Put them into folders named like the words"
                )
            of_words = {(named or words)[0]: files}
        if not any(of_words.values()):
            has = some(sorted(path.name for path in folder.iterdir()), 4) or "an empty folder"
            raise KwsError(
                f"{folder} holds no sound files ({', '.join(sorted(AUDIO_SUFFIXES))}) of "
                f"{', '.join(words)}. Received: {has}. Leave recordings out if there are none"
            )
        for word, paths in of_words.items():
            if paths:
                found.setdefault(word, []).extend(paths)
    return found


def sounds_in(folder: Path) -> list[Path]:
    """Return the sound files that lie in a folder, sorted; none if it is not there."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in AUDIO_SUFFIXES
        and not path.name.startswith(".")
        and path.is_file()
    )


def folder_of(word: str) -> str:
    """Return a name for a word's folder and files: spaces become underscores."""
    return "_".join(word.split())


def clip_length(new: NewWords) -> tuple[int, str]:
    """Choose the length of clips, in ms, by the longest word; and say what it rests on."""
    lengths = [_word_ms(new, word) for word in new.words]
    longest, reason = max(lengths)
    return max(_FEWEST_MS, math.ceil(longest / _STEP_MS - 1e-6) * _STEP_MS), reason


def write_recipe(new: NewWords) -> None:
    """Write the recipe, if it can be read again.

    Raises:
        KwsError: training could not read it.
    """
    with atomic_write(new.recipe, "w") as file:
        file.write(recipe_text(new))
        file.flush()
        load_recipe(Path(file.name))


def recipe_text(new: NewWords) -> str:
    """Return the recipe as TOML, with what each line is for."""
    clip_ms, reason = clip_length(new)
    one = len(new.words) == 1
    there = [name for name in _OTHER_WORDS if find_folder(name, new.folder)][:1]
    noise = [] if there else [name for name in [_NOISE] if find_folder(name, new.folder)]
    clips = [RECORDINGS, *(there or [_TO_FETCH]), *noise]
    speech = [SPEECH, *(name for name in [_SENTENCES] if find_folder(name, new.folder))]
    lines = [
        f"# Listens for: {', '.join(new.words)}. Written by `kws new`; change what you like.",
        f"# Train it with: {_train(new)}",
        "#",
        "# Folders are looked for beside this file, then among the fetched data sets (kws data",
        "# list). Those that are not there yet are passed over.",
        "",
        "# All settings that are not here, made for words with few recordings or none.",
        f"base = {toml_value(_BASE)}",
        "# Name of the model.",
        f"name = {toml_value(new.name)}",
        "",
        "[data]",
        "# What it listens for: each word is the name of a folder of clips.",
        f"words = {toml_value(new.words)}",
        "# sigmoid: how sure it is of the one word. softmax: which one of several it is.",
        f"head = {toml_value('sigmoid' if one else 'softmax')}",
        "# Recordings of people, <folder>/<word>/<clip>. Other words in them are learnt as",
        f"# something else. Noise without speech: <folder>/{NOISE_FOLDER}/<recording>.",
        f"clips = {toml_value(clips)}",
        "# Clips that a synthesiser spoke: the words, and what only sounds like them.",
        f"generated = {toml_value([GENERATED])}",
        "# Running speech in which the words are never said: <folder>/<speaker>/<recording>.",
        f"speech = {toml_value(speech)}",
        f"# Length of a clip in milliseconds; it holds the longest word ({reason}).",
        f"clip_ms = {clip_ms}",
    ]
    if not one:
        lines += [
            "# Clips of each word in an epoch: the more words there are, the fewer of each, or",
            "# training would take as many times longer.",
            f"keyword_clips = {_clips_of_each(len(new.words))}",
        ]
    if new.device == "small-microcontroller":
        lines += _small_network()
    lines += _training(new)
    return "\n".join(lines) + "\n"


def next_steps(new: NewWords) -> list[Step]:
    """Return the commands that lead from the recipe to a listening device, in their order."""
    folder, recorded = new.folder, new.recorded()
    spoken = [f"{w}={new.texts[w]}" if w in new.texts else w for w in new.words]
    said = some(new.words, 3)
    spoken_in = [option for code in new.languages for option in ("-l", code)]
    to_recordings = ("--to", folder / RECORDINGS)
    steps = [
        Step(
            why=f"twenty recordings of {word!r} help more than anything else (with a microphone)",
            command=_shell("kws", "data", "record", word, *to_recordings),
            optional=True,
        )
        for word in new.words
        if word not in recorded
    ]
    near = ("--count", str(_CLIPS), "--near-misses", str(_CLIPS))
    to_generated = ("--to", folder / GENERATED)
    without = ("--speech", str(_MINUTES), "--to", folder / SPEECH)
    steps += [
        Step(
            why=f"speak {said} in many generated voices, and what only sounds like it",
            command=_shell("kws", "data", "synth", *spoken, *near, *to_generated, *spoken_in),
        ),
        Step(
            why=f"an hour of generated speech without {said}",
            command=_shell("kws", "data", "synth", *spoken, *without, *spoken_in),
        ),
    ]
    if not any(find_folder(name, folder) for name in _OTHER_WORDS):
        size = load_dataset_recipe(_TO_FETCH).size_bytes
        steps.append(
            Step(
                why="other words by thousands of people, and noise to mix in: fewer false alarms "
                f"(a download of {byte_size(size or 0)})",
                command=_shell("kws", "data", "fetch", _TO_FETCH),
                optional=True,
            )
        )
    run = folder / _RUN
    steps += [
        Step(
            why="train on all of that",
            command=_train(new),
        ),
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
                command=_shell("kws", "firmware", new.model, "-o", folder / "firmware"),
            )
        )
    return steps


def missing_extras() -> list[str]:
    """Return the extras of this distribution that the commands need and that are not installed."""
    needed = {"synth": "espeakng_loader", "train": "tensorflow", "listen": "sounddevice"}
    return [extra for extra, package in needed.items() if find_spec(package) is None]


def _shell(*words: str | os.PathLike[str]) -> str:
    return shlex.join([os.fspath(word) for word in words])


def _named(folder: Path, word: str) -> bool:
    """Whether a folder is called like a word, in any case, with "_" for its spaces or not."""
    return folded(folder_of(folder.name)) == folded(folder_of(word))


def _can_speak() -> bool:
    return "synth" not in missing_extras()


def _spoken(words: Sequence[str], texts: Mapping[str, str]) -> dict[str, str]:
    return {word: texts.get(word, word) for word in words}


def _word_ms(new: NewWords, word: str) -> tuple[float, str]:
    """Return how long a clip of a word must be, and how that is known.

    It holds people's and generated voices, since both are learnt from: what is longer than a clip
    would be cut and learnt as the word.
    """
    found: list[tuple[float, str]] = []
    recordings = 0
    if word in new.recorded():
        measured = word_lengths(new.folder / RECORDINGS, word)
        recordings = measured.measured
        if recordings:
            by = f"by {counted(recordings, 'recording')} of {word}"
            found.append((1000 * (measured.p95_s + _AROUND_S), by))
    if _can_speak():
        from kws.data.synthesis.spoken_clips import needed_seconds, plan_words

        text = _spoken([word], new.texts)
        plan = plan_words(text, "", _PLANNED, languages=new.languages, varied=True)
        found.append((1000 * needed_seconds(plan), f"by generated voices saying {word}"))
    elif recordings < _TELLING:
        found.append((_USUAL_MS, "usually enough"))
    return max(found)


def _clips_of_each(words: int) -> int:
    """Return how many clips of each of several words an epoch holds."""
    return max(_FEWEST_CLIPS, load_recipe(_BASE).data.keyword_clips // words)


def _small_network() -> list[str]:
    """Return the table of a small network."""
    small = load_recipe(_SMALL)
    return [
        "",
        "[model]",
        f"# The sizes of {_SMALL}, which make a file of 50 kB.",
        f"architecture = {toml_value(small.model.architecture)}",
        *(f"{name} = {toml_value(value)}" for name, value in small.model.sizes.items()),
    ]


def _training(new: NewWords) -> list[str]:
    """Return the table of what differs in training, if anything does."""
    lines = []
    if new.device == "small-microcontroller":
        longer = load_recipe(_FROM_NOTHING).training
        lines += [
            "# There is no trained network of this size to start from, so it takes longer.",
            'start = ""',
            f"epochs = {longer.epochs}",
            f"learning_rate = {toml_value(longer.learning_rate)}",
        ]
    if not any(code.lower().split("-")[0] == "en" for code in new.languages):
        lines += [
            "# The sounds that would be learnt beside the words are those of English. Words that",
            '# are only spelt like English ones would be taught them, too: German "die", "rot".',
            "phone_weight = 0.0",
        ]
    return ["", "[training]", *lines] if lines else []


def _train(new: NewWords) -> str:
    # Again and again, with more recordings: an earlier run makes way.
    return _shell("kws", "train", new.recipe, "--out", new.folder / _RUN, "--replace")
