"""Keywords over the Wyoming protocol, by which Home Assistant talks to wake-word services.

A client asks what there is (`describe`), says which words it waits for (`detect`), sends audio
(`audio-start`, `audio-chunk`, `audio-stop`), and is told of each word as it is heard (`detection`)
or, when the audio has ended, that there was none (`not-detected`). Messages and their coding are
those of the package `wyoming` (https://github.com/OHF-Voice/wyoming), of the extra ``wyoming``;
here is what they mean. Sockets are `kws.wake.server`'s: this can be read and tested without one.
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
"""Sample rates that are taken: what microphones have."""
MOST_CHANNELS = 16
"""As many as the largest arrays of microphones have."""


class WakeService:
    """The models that are offered, each keyword of theirs as a wake word of its own."""

    keywords: tuple[str, ...]
    """All words that clients may wait for."""

    def __init__(self, models: Sequence[str | Path], threshold: float | None = None) -> None:
        """Read the models once, so that what is wrong with them is said before anybody connects.

        Args:
            models: .tflite files or names of pretrained models.
            threshold: for all keywords, in place of the models' own.

        Raises:
            KwsError: a model cannot be read, is in clip form, or shares a keyword with another.
        """
        self._models = tuple(models)
        self._threshold = threshold
        self._cards = [spotter.card for spotter in self._load()]
        owners: dict[str, str | Path] = {}
        for model, card in zip(self._models, self._cards, strict=True):
            for keyword in card.keywords:
                name = folded(keyword)  # as `_wait_for` finds it
                if name in owners:
                    raise KwsError(
                        f"Two models listen for one word, and clients could not tell them apart. "
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
                f"A model file is not the one any more that is being served. Received: another in "
                f"{', '.join(map(str, self._models))}. Start kws serve again"
            )
        return spotters

    def _load(self) -> list[Spotter]:
        return [Spotter(model, thresholds=self._threshold) for model in self._models]

    def info(self) -> Info:
        """Return what a client that asks is told."""
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
    """What follows from a client's message."""

    messages: Sequence[Message] = ()
    """To be sent to the client, in this order."""
    events: Sequence[Event] = ()
    """The events that these tell of."""
    notes: Sequence[str] = ()
    """Lines for whoever runs the service."""


class Conversation:
    """One client's connection: messages in, replies out, the client's own audio in between."""

    def __init__(self, service: WakeService) -> None:
        """Begin; models are loaded when audio comes, for many clients only ask what there is."""
        self._service = service
        self._spotters: list[Spotter] = []
        self._wanted: frozenset[str] = frozenset(service.keywords)
        self._context: dict[str, object] | None = None
        self._format: tuple[int, int, int] | None = None  # rate in Hz, bytes, channels
        self._timestamp_ms: int | None = None
        self._detections = 0
        self.heard_s = 0.0
        """Audio taken so far, in seconds."""

    def take(self, message: Message) -> Reply:
        """Take the client's next message and return what follows from it, which may be nothing.

        Kinds of messages that are not about wake words are passed over, as the protocol wants.

        Raises:
            KwsError: a message without what its kind has to hold, audio that is not 16-bit, or a
                model that cannot be read any more.
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
        """Remember which words count; without names all do.

        A name that nobody listens for is no fault of the connection: a satellite names all of its
        words to each of its services.
        """
        here = {folded(keyword): keyword for keyword in self._service.keywords}
        names = {folded(name): name for name in detect.names or self._service.keywords}
        self._wanted = frozenset(here[name] for name in names if name in here)
        self._context = detect.context
        unknown = [repr(name)[:60] for key, name in names.items() if key not in here]
        if not unknown:
            return Reply()
        note = (
            f"a client waits for what nobody listens for here: {some(unknown)}; there are: "
            f"{', '.join(self._service.keywords)}"
        )
        return Reply(notes=[note])

    def _begin(self, start: AudioStart | AudioChunk) -> None:
        """Get ready for a stream: nothing of one before it is remembered."""
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
            # A client may leave the start out; one that changes its format begins anew.
            self._begin(chunk)
        samples = np.frombuffer(chunk.audio, "<i2").reshape(-1, chunk.channels)
        self.heard_s += len(samples) / chunk.rate
        self._timestamp_ms = chunk.timestamp
        return self._told(self._spot(self._converter.feed(samples.astype(np.int16))))

    def _end(self) -> Reply:
        """Decide on a word at the very end, too, and say so if there was none at all."""
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
        """Return the events that these samples complete, of the words that the client waits for."""
        events = [
            event
            for spotter in self._spotters
            for event in spotter.feed(pcm)
            if event.keyword in self._wanted
        ]
        self._detections += len(events)
        return sorted(events, key=lambda event: event.time_s)

    def _told(self, events: Sequence[Event]) -> Reply:
        """Put events into messages. The protocol's time is that of the chunk, by the client."""
        messages = [
            Detection(
                name=event.keyword, timestamp=self._timestamp_ms, context=self._context
            ).event()
            for event in events
        ]
        return Reply(messages=messages, events=events)


_Meaning = Describe | Ping | Detect | AudioStart | AudioChunk | AudioStop


def _meaning(message: Message) -> _Meaning | None:
    """Return what a message says, checked; None for kinds that are not about wake words."""
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
    """Refuse what no microphone delivers: a resampler would take any rate, and for ever."""
    shown = f"rate {audio.rate!r}, width {audio.width!r}, channels {audio.channels!r}"
    if not all(type(x) is int for x in (audio.rate, audio.width, audio.channels)):
        raise _nonsense(message, shown)
    if audio.width != 2:
        raise KwsError(
            f"Audio must be 16-bit samples. Received: {audio.width} bytes a sample. Set the "
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
    return KwsError(f"This is not what the protocol says of {message.type!r}. Received: {line}")
