"""Keywords over the Wyoming protocol, by which Home Assistant talks to wake-word services.

A client asks what is available (`describe`), names the words that it wants (`detect`) and sends
audio (`audio-start`, `audio-chunk`, `audio-stop`). It receives a message for each word as it is
detected (`detection`) or, at the end of the audio, one that there was none (`not-detected`). The
package `wyoming` (https://github.com/OHF-Voice/wyoming), in the extra ``wyoming``, encodes the
messages; this module interprets them. Sockets are in `kws.wake.server`, so this can be tested
without one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.event import Event as Message
from wyoming.info import Attribution, Describe, Info, WakeModel, WakeProgram
from wyoming.ping import Ping, Pong
from wyoming.wake import Detect, Detection, NotDetected

from kws import __version__
from kws.audio.convert import LiveConverter
from kws.decide import Event
from kws.errors import KwsError, some
from kws.labels import folded
from kws.spotter import TAIL_SAMPLES, Spotter

LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 8000, 192_000
"""Accepted sample rates, which cover all microphones."""
MOST_CHANNELS = 16
"""As many as the largest microphone arrays have."""


class WakeService:
    """The models that are served; each of their keywords is a separate wake word."""

    keywords: tuple[str, ...]
    """All words that clients can wait for."""

    def __init__(self, models: Sequence[str | Path], threshold: float | None = None) -> None:
        """Read the models once, so that problems with them are reported before a client connects.

        Args:
            models: .tflite files or names of pretrained models.
            threshold: for all keywords, instead of the models' own.

        Raises:
            KwsError: a model cannot be read, is in clip form, or shares a keyword with another.
        """
        self._models = tuple(models)
        self._threshold = threshold
        self._cards = [spotter.card for spotter in self._load()]
        owners: dict[str, str | Path] = {}
        for model, card in zip(self._models, self._cards, strict=True):
            for keyword in card.keywords:
                name = folded(keyword)  # as in `_wait_for`
                if name in owners:
                    raise KwsError(
                        f"Two models listen for the same word, so clients cannot tell them apart. "
                        f"Received: {keyword!r} in {owners[name]} and {model}. Serve one of them"
                    )
                owners[name] = model
        self.keywords = tuple(keyword for card in self._cards for keyword in card.keywords)

    def open(self) -> list[Spotter]:
        """Return a spotter of each model, for one client's audio.

        Raises:
            KwsError: a file was replaced or removed since the service began.
        """
        spotters = self._load()
        if [spotter.card for spotter in spotters] != self._cards:
            raise KwsError(
                f"A model file has changed since the service started. Received: another file in "
                f"{', '.join(map(str, self._models))}. Restart kws serve"
            )
        return spotters

    def _load(self) -> list[Spotter]:
        return [Spotter(model, thresholds=self._threshold) for model in self._models]

    def info(self) -> Info:
        """Return the answer to `describe`."""
        return Info(
            wake=[
                WakeProgram(
                    name="kws",
                    description="Small int8 keyword spotters",
                    attribution=Attribution(name="kws", url=""),
                    installed=True,
                    version=__version__,
                    models=[
                        WakeModel(
                            name=keyword,
                            phrase=keyword,
                            description=f"{keyword} ({card.name})",
                            attribution=Attribution(name="kws", url=""),
                            installed=True,
                            version=None,
                            languages=[],
                        )
                        for card in self._cards
                        for keyword in card.keywords
                    ],
                )
            ]
        )


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The result of a client's message."""

    messages: Sequence[Message] = ()
    """To send to the client, in this order."""
    events: Sequence[Event] = ()
    """The events that the messages report."""
    notes: Sequence[str] = ()
    """Lines to print where the service runs."""


class Conversation:
    """One client's connection: its messages, the replies to them, and its audio."""

    def __init__(self, service: WakeService) -> None:
        """Begin; models are loaded once audio arrives, as many clients only ask what is served."""
        self._service = service
        self._spotters: list[Spotter] = []
        self._wanted: frozenset[str] = frozenset(service.keywords)
        self._context: dict[str, object] | None = None
        self._format: tuple[int, int, int] | None = None  # rate in Hz, bytes, channels
        self._timestamp_ms: int | None = None
        self._detections = 0
        self.heard_s = 0.0
        """Audio received so far, in seconds."""

    def take(self, message: Message) -> Reply:
        """Take the client's next message and return the result, which may be empty.

        Messages that are not about wake words are ignored, as the protocol requires.

        Raises:
            KwsError: a message without its required content, audio that is not 16-bit, or a model
                that can no longer be read.
        """
        meant = _meaning(message)
        if isinstance(meant, Describe):
            return Reply(messages=[self._service.info().event()])
        if isinstance(meant, Ping):
            return Reply(messages=[Pong(text=meant.text).event()])
        if isinstance(meant, Detect):
            return self._wait_for(meant)
        if isinstance(meant, AudioStart):
            self._begin(meant)
        if isinstance(meant, AudioChunk):
            return self._hear(meant)
        if isinstance(meant, AudioStop):
            return self._end()
        return Reply()

    def _wait_for(self, detect: Detect) -> Reply:
        """Remember which words the client wants; without names all of them.

        An unknown name is not an error: a satellite names all of its words to each of its services.
        """
        here = {folded(keyword): keyword for keyword in self._service.keywords}
        names = {folded(name): name for name in detect.names or self._service.keywords}
        self._wanted = frozenset(here[name] for name in names if name in here)
        self._context = detect.context
        unknown = [repr(name)[:60] for key, name in names.items() if key not in here]
        if not unknown:
            return Reply()
        note = (
            f"a client waits for unknown words: {some(unknown)}; served are: "
            f"{', '.join(self._service.keywords)}"
        )
        return Reply(notes=[note])

    def _begin(self, start: AudioStart | AudioChunk) -> None:
        """Prepare for a new stream and forget an earlier one."""
        self._converter = LiveConverter(start.rate)
        self._format = (start.rate, start.width, start.channels)
        if not self._spotters:
            self._spotters = self._service.open()
        for spotter in self._spotters:
            spotter.reset()
        self._detections = 0
        self._timestamp_ms = None

    def _hear(self, chunk: AudioChunk) -> Reply:
        if self._format != (chunk.rate, chunk.width, chunk.channels):
            # A client may leave out the start; a new format begins a new stream.
            self._begin(chunk)
        samples = np.frombuffer(chunk.audio, "<i2").reshape(-1, chunk.channels)
        self.heard_s += len(samples) / chunk.rate
        self._timestamp_ms = chunk.timestamp
        return self._told(self._spot(self._converter.feed(samples.astype(np.int16))))

    def _end(self) -> Reply:
        """Also decide on a word at the very end, and report if there was none at all."""
        heard: list[Event] = []
        if self._format is not None:
            silence = np.zeros(TAIL_SAMPLES, np.int16)
            heard = self._spot(np.concatenate([self._converter.finish(), silence]))
        self._format = None
        if self._detections:
            self._detections = 0
            return self._told(heard)
        return Reply(messages=[NotDetected(context=self._context).event()])

    def _spot(self, pcm: NDArray[np.int16]) -> list[Event]:
        """Return the events that these samples complete, for the words that the client wants."""
        events = [
            event
            for spotter in self._spotters
            for event in spotter.feed(pcm)
            if event.keyword in self._wanted
        ]
        self._detections += len(events)
        return sorted(events, key=lambda event: event.time_s)

    def _told(self, events: Sequence[Event]) -> Reply:
        """Put events into messages, whose time by the protocol is the client's for the chunk."""
        messages = [
            Detection(
                name=event.keyword, timestamp=self._timestamp_ms, context=self._context
            ).event()
            for event in events
        ]
        return Reply(messages=messages, events=events)


_Meaning = Describe | Ping | Detect | AudioStart | AudioChunk | AudioStop


def _meaning(message: Message) -> _Meaning | None:
    """Parse and check a message; None if it is not about wake words."""
    kinds: tuple[type[_Meaning], ...] = (Describe, Ping, Detect, AudioStart, AudioChunk, AudioStop)
    kind = next((kind for kind in kinds if kind.is_type(message.type)), None)
    if kind is None:
        return None
    try:
        meant = kind.from_event(message)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _nonsense(message, f"{type(error).__name__}: {error}") from error
    if isinstance(meant, Detect):
        names = meant.names if meant.names is not None else []
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise _nonsense(message, f"names {names!r}")
    if isinstance(meant, (AudioStart, AudioChunk)):
        _check_format(message, meant)
    if isinstance(meant, AudioChunk) and len(meant.audio) % (2 * meant.channels):
        raise _nonsense(message, f"{len(meant.audio)} bytes for {meant.channels} channels")
    return meant


def _check_format(message: Message, audio: AudioStart | AudioChunk) -> None:
    """Refuse formats that no microphone delivers; some could keep a resampler busy for ever."""
    shown = f"rate {audio.rate!r}, width {audio.width!r}, channels {audio.channels!r}"
    if not all(type(x) is int for x in (audio.rate, audio.width, audio.channels)):
        raise _nonsense(message, shown)
    if audio.width != 2:
        raise KwsError(
            f"Audio must be 16-bit samples. Received: {audio.width} bytes per sample. Set the "
            "client to a width of 2"
        )
    if not (
        LOWEST_RATE_HZ <= audio.rate <= HIGHEST_RATE_HZ and 1 <= audio.channels <= MOST_CHANNELS
    ):
        raise KwsError(
            f"Audio must have {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz and 1 to {MOST_CHANNELS} "
            f"channels. Received: {shown[:80]}. 16000 Hz and 1 channel are best"
        )


def _nonsense(message: Message, received: str) -> KwsError:
    line = "".join(c if c.isprintable() else "?" for c in " ".join(received.split())[:120])
    return KwsError(f"Not a valid message of type {message.type!r}. Received: {line}")
