"""espeak-ng's C library, and its input: voice, text, pitch and speed.

The library and its voices come as a wheel (`espeakng-loader`, extra ``synth``) and are called
through ctypes; no program or system package is needed. espeak-ng is C code with global state: one
object owns it in each process, and calls are serialised.

The synthesiser keeps one state between utterances: its position in a table of pitch flutter, so
that the same utterance varies very slightly from call to call.

Source of the calls and their constants: espeak-ng 1.52, ``speak_lib.h``.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import os
import re
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.audio.samples import SAMPLE_RATE_HZ
from kws.data.split import SYNTHESISER
from kws.data.synthesis.phoneme_tables import Types, read_tables, table_of
from kws.errors import KwsError, require

# Numbers of speak_lib.h.
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_DONT_EXIT = 0x8000
_CHARS_UTF8 = 1
_PHONEMES = 0x100
_IPA = 2
# Separates the phonemes of a transcription; no phoneme's name contains it.
_BREAK = "\x01"
_RATE, _VOLUME, _PITCH, _RANGE, _WORD_GAP = 1, 2, 3, 4, 7
# Several variants clip at the default volume of 100; clips get their level afterwards.
_QUIET_VOLUME = 50
# espeak-ng appends names to its data folder in a buffer of 160 bytes.
_LONGEST_DATA_PATH = 120


@dataclasses.dataclass(frozen=True, kw_only=True)
class Voice:
    """A voice: an accent and a variant."""

    language: str
    """espeak-ng's code of the language or accent, for example ``"en-gb-scotland"``."""
    variant: str
    """File name of the variant, for example ``"f2"``; empty for the plain voice."""
    identifier: str
    """espeak-ng's own path of the language, for example ``"gmw/en-GB-scotland"``."""

    @property
    def name(self) -> str:
        """``"en-gb-scotland+f2"``, as `kws.data.synthesis.synth.speak` takes it."""
        return f"{self.language}+{self.variant}" if self.variant else self.language

    @property
    def speaker(self) -> str:
        """The speaker, for file names: the variant alone. All its accents count as one speaker, so
        that a split by speaker never has the same formants in two parts.
        """
        return SYNTHESISER + re.sub(r"[^a-z0-9]+", "-", self.variant.lower() or "plain")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Utterance:
    """A text and how it is spoken."""

    text: str
    """Text in the voice's language; ``[[h@l'oU]]`` is read as espeak-ng phonemes."""
    voice: Voice
    """The voice."""
    pitch: int = 50
    """Base pitch, 0–99; 50 is the voice's default."""
    pitch_range: int = 50
    """Variation of the pitch, 0–99; 0 is monotone."""
    rate_wpm: int = 165
    """Speed in words per minute, 80–320."""
    word_gap_ms: int = 0
    """Extra pause between words, 0–500 ms."""
    longest_samples: int | None = None
    """Speak faster if needed to stay within this many samples at 16 kHz; `None`: no limit."""


class _VoiceStruct(ctypes.Structure):
    """``espeak_VOICE``."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_void_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("xx1", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    ]


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class Engine:
    """The owner of the C library in this process; the only one is `engine()`."""

    def __init__(self) -> None:
        loader = require("espeakng_loader", extra="synth")
        self._resampler = require("soxr", extra="synth")
        self._lock = threading.Lock()
        self._blocks: list[NDArray[np.int16]] = []
        try:
            folder = Path(loader.get_data_path())
            self._library = ctypes.CDLL(loader.get_library_path())
        except (OSError, RuntimeError) as error:
            raise KwsError(
                f"espeak-ng cannot be loaded. Received: {error}. "
                f"Install it again with: pip install --force-reinstall espeakng-loader"
            ) from error
        if not (folder / "phontab").is_file():
            raise KwsError(
                f"espeak-ng's data is incomplete. Received: {folder} without phontab. "
                f"Install it again with: pip install --force-reinstall espeakng-loader"
            )
        self.folder = folder
        self._types: dict[str, Types] = {}
        self._has_spoken = False
        self._shortcut: tempfile.TemporaryDirectory[str] | None = None
        if len(os.fsencode(folder)) > _LONGEST_DATA_PATH:
            folder = self._shorten(folder)
        library = self._library
        library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_VoiceStruct))
        library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        library.espeak_TextToPhonemes.argtypes = [
            *(ctypes.POINTER(ctypes.c_void_p), ctypes.c_int, ctypes.c_int),
        ]
        library.espeak_Synth.argtypes = [
            *(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int),
            *(ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p),
        ]
        self._rate_hz = library.espeak_Initialize(
            _AUDIO_OUTPUT_SYNCHRONOUS, 0, os.fsencode(folder), _INITIALIZE_DONT_EXIT
        )
        if self._rate_hz <= 0:
            raise KwsError(f"espeak-ng failed to start. Received: status {self._rate_hz}")
        # The C library keeps the pointer, so this object must live as long as the engine.
        self._callback = _Callback(self._collect)
        library.espeak_SetSynthCallback(self._callback)
        self.languages = self._list_languages()
        self.variants = sorted(path.name for path in (folder / "voices" / "!v").iterdir())

    def _shorten(self, folder: Path) -> Path:
        """Return a short name for a folder whose path is too long for espeak-ng's buffer."""
        try:
            self._shortcut = tempfile.TemporaryDirectory(prefix="kws-")
            link = Path(self._shortcut.name) / "data"
            link.symlink_to(folder, target_is_directory=True)
        except OSError as error:
            raise KwsError(
                f"espeak-ng cannot read its data from a path this long. Received: {folder}. "
                f"Use an environment with a shorter path"
            ) from error
        return link

    def _list_languages(self) -> dict[str, list[str]]:
        """Return identifier → its language codes, the main one first."""
        found: dict[str, list[str]] = {}
        listed = self._library.espeak_ListVoices(None)
        index = 0
        while listed[index]:
            voice = listed[index].contents
            index += 1
            codes = []
            # A list of (priority byte, text, zero byte) that ends with a zero priority.
            address = voice.languages
            while ctypes.string_at(address, 1) != b"\0":
                code = ctypes.string_at(address + 1)
                codes.append(code.decode().lower())
                address += len(code) + 2
            identifier = voice.identifier.decode()
            if codes and not identifier.startswith("mb/"):
                found[identifier] = codes
        return found

    def _collect(self, samples: Any, count: int, _events: Any) -> int:
        if count > 0 and samples:
            self._blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def transcribe(self, text: str, voice: Voice, *, ipa: bool) -> list[list[str]]:
        """See `kws.data.synthesis.synth.transcribe`."""
        self._check(voice)
        content = ctypes.create_string_buffer(text.encode())
        at = ctypes.c_void_p(ctypes.addressof(content))
        mode = (ord(_BREAK) << 8) | (_IPA if ipa else 0)
        clauses = []
        with self._lock:
            status = self._library.espeak_SetVoiceByName(voice.identifier.encode())
            # The last call of espeak_Synth decides whether [[…]] means phonemes.
            if not self._has_spoken:
                status = status or self._library.espeak_Synth(
                    b" ", 2, 0, 0, 0, _CHARS_UTF8 | _PHONEMES, None, None
                )
                self._has_spoken = True
            if status:
                raise KwsError(
                    f"espeak-ng failed on {text!r} with the voice {voice.name}. "
                    f"Received: status {status}"
                )
            while at.value:
                clause = self._library.espeak_TextToPhonemes(ctypes.byref(at), _CHARS_UTF8, mode)
                clauses.append(clause.decode())
        return [word.split(_BREAK) for clause in clauses for word in clause.split()]

    @functools.cached_property
    def _tables(self) -> dict[str, Types]:
        return read_tables(self.folder)

    def phoneme_types(self, voice: Voice) -> Types:
        """See `kws.data.synthesis.synth.phoneme_types`."""
        if voice.identifier not in self._types:
            names = table_of(self.folder, voice.identifier, voice.language)
            self._types[voice.identifier] = next(
                self._tables[name] for name in names if name in self._tables
            )
        return self._types[voice.identifier]

    def _check(self, voice: Voice) -> None:
        # espeak-ng silently replaces an unknown variant by the plain voice.
        if voice.identifier not in self.languages or (
            voice.variant and voice.variant not in self.variants
        ):
            raise KwsError(f"espeak-ng has no such voice. Received: {voice.name!r}")

    def speak(self, utterance: Utterance) -> NDArray[np.int16]:
        """Return int16 [n] at 16 kHz, with the synthesiser's silence around it."""
        voice = utterance.voice
        name = f"{voice.identifier}+{voice.variant}" if voice.variant else voice.identifier
        self._check(voice)
        text = utterance.text.encode()
        with self._lock:
            self._blocks.clear()
            status = self._library.espeak_SetVoiceByName(name.encode())
            for parameter, value in (
                (_RATE, utterance.rate_wpm),
                (_VOLUME, _QUIET_VOLUME),
                (_PITCH, utterance.pitch),
                (_RANGE, utterance.pitch_range),
                (_WORD_GAP, utterance.word_gap_ms // 10),
            ):
                status = status or self._library.espeak_SetParameter(parameter, value, 0)
            # The source of breath and of the Klatt voices' noise.
            with contextlib.suppress(AttributeError):
                self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))
            status = status or self._library.espeak_Synth(
                text, len(text) + 1, 0, 0, 0, _CHARS_UTF8 | _PHONEMES, None, None
            )
            status = status or self._library.espeak_Synchronize()
            if status:
                raise KwsError(
                    f"espeak-ng failed on {utterance.text!r} with the voice {voice.name}. "
                    f"Received: status {status}"
                )
            pcm = np.concatenate(self._blocks) if self._blocks else np.zeros(0, np.int16)
        if not len(pcm):
            return pcm
        resampled = self._resampler.resample(pcm.astype(np.float32), self._rate_hz, SAMPLE_RATE_HZ)
        return np.clip(np.rint(resampled), -32768, 32767).astype(np.int16)


@functools.cache
def engine() -> Engine:
    """Return the engine of this process, which the first call starts.

    Raises:
        KwsError: espeak-ng is missing, broken or fails to start.
    """
    return Engine()
