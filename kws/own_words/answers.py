"""The answers that a recipe for your own words is written from, checked."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from kws.data.clips import AUDIO_SUFFIXES
from kws.data.recording.word_clips import check_word
from kws.errors import KwsError, some
from kws.labels import folded
from kws.system.progress import tell

DEVICES = {
    "laptop": "a laptop or a desktop",
    "pi": "a Raspberry Pi or another small Linux board",
    "microcontroller": "a microcontroller with 256 kB of flash or more",
    "small-microcontroller": "a microcontroller with less: a network of 50 kB",
}
"""Where the model can run; the first is the default."""
RECIPE, RECORDINGS, GENERATED, SPEECH = "recipe.toml", "recordings", "generated", "generated_speech"
"""Contents of a word's folder."""
# Formats that telephones and computers record in and the kit does not read.
_OTHER_SUFFIXES = frozenset({".3gp", ".aac", ".amr", ".caf", ".m4a", ".mp4", ".webm", ".wma"})
_CONVERT = "Convert each to WAV, for example: ffmpeg -i IN -ac 1 -ar 16000 OUT.wav"


@dataclass(frozen=True, kw_only=True)
class NewWords:
    """The answers that a recipe is written from."""

    folder: Path
    """Where the recipe and everything made from it goes."""
    words: tuple[str, ...]
    """What to listen for, as `check_words` returns it."""
    texts: Mapping[str, str]
    """What the synthesiser says for words that it mispronounces as spelt: word → text."""
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
        """Name of the model and its files: the word, or the folder's name for several words."""
        one = self.words[0] if len(self.words) == 1 else self.folder.absolute().name or "words"
        return folder_of(one)

    @property
    def model(self) -> Path:
        """The model file that the commands produce."""
        return self.folder / f"{self.name}.tflite"

    def recorded(self) -> tuple[str, ...]:
        """Return the words that have recordings."""
        return tuple(word for word in self.words if sounds_in(self.folder / RECORDINGS / word))

    def text_of(self, word: str) -> str:
        """Return what the synthesiser says for a word."""
        return self.texts.get(word, word)


def check_words(words: Sequence[str]) -> tuple[str, ...]:
    """Return the words as folders are named: without spaces around, accents composed (NFC).

    Raises:
        KwsError: no word, a duplicate, or one that cannot name a folder or stand in a command.
    """
    found: list[str] = []
    for raw in words:
        word = check_word(unicodedata.normalize("NFC", raw.strip()))
        if "=" in word or word.startswith("-"):
            raise KwsError(
                "A word must not begin with '-' or contain '=', which have other meanings in "
                f"commands. Received: {word!r}. Spell it without"
            )
        if not any(character.isalnum() for character in word):
            raise KwsError(f"A word needs letters. Received: {word!r}. Give a word to say")
        if word.casefold() in (other.casefold() for other in found):
            raise KwsError(f"Duplicate word. Received: {word!r} twice. Give each word once")
        found.append(word)
    if not found:
        raise KwsError("There is no word. Received: nothing. Give at least one")
    return tuple(found)


def check_device(device: str) -> str:
    """Return the device as spelt in `DEVICES`, whatever its case.

    Raises:
        KwsError: unknown device.
    """
    if device.casefold() not in DEVICES:
        raise KwsError(f"Unknown device. Received: {device!r}. Choose one of: {', '.join(DEVICES)}")
    return device.casefold()


class UnsayableError(KwsError):
    """A word that the synthesiser cannot say, or make near-misses of, in the languages wanted."""

    def __init__(self, message: str, word: str) -> None:
        super().__init__(message)
        self.word = word


def check_languages(languages: Sequence[str]) -> tuple[str, ...]:
    """Return the languages without duplicates.

    Without a synthesiser only the form of the codes is checked.

    Raises:
        KwsError: no language, or an unknown one.
    """
    codes = tuple(dict.fromkeys(language.strip() for language in languages))
    for code in codes or ("",):
        if not code or code.startswith("-"):
            raise KwsError(f"A language is a code such as en, de or fr. Received: {code!r}")
    if can_speak():
        from kws.data.synthesis.voices import voices

        voices(codes)
    return codes


def check_spoken(words: Sequence[str], texts: Mapping[str, str], languages: Sequence[str]) -> None:
    """Make sure that the synthesiser, if there is one, can say the words.

    Args:
        words: the words.
        texts: what is said for words that are mispronounced as spelt.
        languages: as `check_languages` returns them.

    Raises:
        UnsayableError: for the first word that it cannot say along with those before it.
    """
    if not can_speak():
        return
    from kws.data.synthesis.spoken_clips import plan_words
    from kws.data.synthesis.spoken_words import own_sounds

    def check(some_words: Sequence[str]) -> None:
        spoken = {word: texts.get(word, word) for word in some_words}
        plan_words(spoken, "", 2, languages=languages)
        own_sounds(spoken.values(), languages)

    try:
        check(words)
    except KwsError:
        for number, word in enumerate(words, 1):
            try:
                check(words[:number])
            except KwsError as error:
                raise UnsayableError(str(error), word) from error
        raise


def can_speak() -> bool:
    """Whether the synthesiser is installed."""
    return find_spec("espeakng_loader") is not None


def find_recordings(folders: Sequence[Path], words: Sequence[str]) -> dict[str, list[Path]]:
    """Find the recordings of each word: word → sound files, without words that have none.

    A folder either holds a folder for each word, or recordings of one word. The latter is named
    after the word, in any case, unless there is only one word.

    Raises:
        KwsError: no such folder, no sound files in it, or it is unclear which word they hold.
    """
    found: dict[str, list[Path]] = {}
    for folder in folders:
        for word, paths in _recordings_in(folder, words).items():
            found.setdefault(word, []).extend(paths)
    return found


def _recordings_in(folder: Path, words: Sequence[str]) -> dict[str, list[Path]]:
    if not folder.is_dir():
        what = "a file" if folder.exists() else "nothing there"
        raise KwsError(
            f"Recordings must be a folder of sound files. Received: {folder}, {what}. Check "
            "the path; to cut one long recording: kws data add WORD FILE --several --to "
            f"DIR/{RECORDINGS}"
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
                f"Which word do these recordings hold? Received: {folder}, for "
                f"{', '.join(words)}. Put them into folders named after the words"
            )
        of_words = {(named or words)[0]: files}
    named_after = [path for path in below if any(_named(path, word) for word in words)]
    if not any(of_words.values()):
        unread = _unread_in([folder, *named_after])
        has = unread or sorted(path.name for path in folder.iterdir())
        raise KwsError(
            f"{folder} has no sound files ({', '.join(sorted(AUDIO_SUFFIXES))}) of "
            f"{', '.join(words)}. Received: {some(has, 4) or 'an empty folder'}. "
            + (_CONVERT if unread else "Leave recordings out if there are none")
        )
    searched = named_after if any(sounds_in(path) for path in named_after) else [folder]
    if unread := _unread_in(searched):
        tell(f"left out, as their format is not read: {some(unread, 4)}. {_CONVERT}")
    return {word: paths for word, paths in of_words.items() if paths}


def _unread_in(folders: Sequence[Path]) -> list[str]:
    """Return the names of recordings in formats that the kit does not read."""
    return [path.name for folder in folders for path in _files(folder, _OTHER_SUFFIXES)]


def sounds_in(folder: Path) -> list[Path]:
    """Return the sound files in a folder, sorted; none if the folder does not exist."""
    return _files(folder, AUDIO_SUFFIXES) if folder.is_dir() else []


def _files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()
    )


def folder_of(word: str) -> str:
    """Return a name for a word's folder and files: spaces become underscores."""
    return "_".join(word.split())


def _named(folder: Path, word: str) -> bool:
    """Whether a folder is named after a word, in any case, with spaces or underscores."""
    return folded(folder_of(folder.name)) == folded(folder_of(word))
