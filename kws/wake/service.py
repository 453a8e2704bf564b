"""Keywords over the Wyoming protocol, by which Home Assistant talks to wake-word services.

A client asks what there is (`describe`), says which words it waits for (`detect`), sends audio
(`audio-start`, `audio-chunk`, `audio-stop`), and is told of each word as it is heard (`detection`)
or, when the audio has ended, that there was none (`not-detected`). Messages and their coding are
those of the package `wyoming` (https://github.com/OHF-Voice/wyoming), of the extra ``wyoming``;
here is what they mean. Sockets are the command's: this room can be read and tested without one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.event import Event as Message
from wyoming.info import Attribution, Describe, Info, WakeModel, WakeProgram
from wyoming.ping import Ping, Pong
from wyoming.wake import Detect, Detection, NotDetected

from kws import __version__
from kws.audio.convert import LiveConverter
from kws.decide import Event
from kws.errors import KwsError
from kws.spotter import TAIL_SAMPLES, Spotter


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
        self._cards = [spotter.card for spotter in self.load()]
        owners: dict[str, str | Path] = {}
        for model, card in zip(self._models, self._cards, strict=True):
            for keyword in card.keywords:
                if keyword in owners:
                    raise KwsError(
                        f"Two models listen for one word, and clients could not tell them apart. "
                        f"Received: {keyword!r} in {owners[keyword]} and {model}. Serve one of them"
                    )
                owners[keyword] = model
        self.keywords = tuple(owners)

    def load(self) -> list[Spotter]:
        """Return a spotter of each model, for one client's audio."""
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
                            attribution=Attribution(name=card.license, url=""),
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


class Conversation:
    """One client's connection: messages in, answers out, the client's own audio in between."""

    def __init__(self, service: WakeService, on_event: Callable[[Event], None]) -> None:
        """Begin; models are loaded when audio comes, for many clients only ask what there is.

        Args:
            service: what is offered.
            on_event: told of each event that the client is told of.
        """
        self._service = service
        self._on_event = on_event
        self._spotters: list[Spotter] = []
        self._wanted: frozenset[str] = frozenset(service.keywords)
        self._context: dict[str, object] | None = None
        self._format: tuple[int, int, int] | None = None  # rate in Hz, bytes, channels
        self._timestamp_ms: int | None = None
        self._detections = 0
        self.heard_s = 0.0
        """Audio taken so far, in seconds."""

    def take(self, message: Message) -> list[Message]:
        """Take the client's next message and return the answers to it, which may be none.

        Kinds of messages that are not about wake words are passed over, as the protocol wants.

        Raises:
            KwsError: a message without what its kind has to hold, a word that nobody listens for,
                or audio that is not 16-bit.
        """
        try:
            return self._answer(message)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise KwsError(
                f"This is not what Wyoming says of {message.type!r}. Received: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _answer(self, message: Message) -> list[Message]:
        if Describe.is_type(message.type):
            return [self._service.info().event()]
        if Ping.is_type(message.type):
            return [Pong(text=Ping.from_event(message).text).event()]
        if Detect.is_type(message.type):
            self._wait_for(Detect.from_event(message))
        elif AudioStart.is_type(message.type):
            start = AudioStart.from_event(message)
            self._begin(start.rate, start.width, start.channels)
        elif AudioChunk.is_type(message.type):
            return self._hear(AudioChunk.from_event(message))
        elif AudioStop.is_type(message.type):
            return self._end()
        return []

    def _wait_for(self, detect: Detect) -> None:
        """Remember which words count; without names all do."""
        wanted = frozenset(detect.names or self._service.keywords)
        if not wanted <= set(self._service.keywords):
            raise KwsError(
                f"Nobody listens for this word here. Received: "
                f"{', '.join(sorted(wanted - set(self._service.keywords)))}. There are: "
                f"{', '.join(self._service.keywords)}"
            )
        self._wanted, self._context = wanted, detect.context

    def _begin(self, rate_hz: int, width: int, channels: int) -> None:
        """Get ready for a stream: nothing of one before it is remembered."""
        if width != 2 or channels < 1 or rate_hz < 1:
            raise KwsError(
                f"Audio must be 16-bit samples. Received: {width} bytes a sample, {channels} "
                f"channels, {rate_hz} Hz"
            )
        self._converter = LiveConverter(rate_hz, extra="wyoming")
        self._format = (rate_hz, width, channels)
        if not self._spotters:
            self._spotters = self._service.load()
        for spotter in self._spotters:
            spotter.reset()
        self._detections = 0
        self._timestamp_ms = None

    def _hear(self, chunk: AudioChunk) -> list[Message]:
        if self._format != (chunk.rate, chunk.width, chunk.channels):
            # A client may leave the start out; one that changes its format begins anew.
            self._begin(chunk.rate, chunk.width, chunk.channels)
        samples = np.frombuffer(chunk.audio, "<i2").reshape(-1, chunk.channels)
        self.heard_s += len(samples) / chunk.rate
        self._timestamp_ms = chunk.timestamp
        return self._spot(self._converter.feed(samples.astype(np.int16)))

    def _end(self) -> list[Message]:
        """Decide on a word at the very end, too, and say so if there was none at all."""
        if self._format is None:
            return [NotDetected(context=self._context).event()]
        answers = self._spot(np.zeros(TAIL_SAMPLES, np.int16))
        self._format = None
        if not self._detections:
            answers.append(NotDetected(context=self._context).event())
        return answers

    def _spot(self, pcm: np.ndarray) -> list[Message]:
        events = [
            event
            for spotter in self._spotters
            for event in spotter.feed(pcm)
            if event.keyword in self._wanted
        ]
        self._detections += len(events)
        answers = []
        for event in sorted(events, key=lambda event: event.time_s):
            self._on_event(event)
            # The protocol's time is that of the chunk, by the client's clock.
            detection = Detection(
                name=event.keyword, timestamp=self._timestamp_ms, context=self._context
            )
            answers.append(detection.event())
        return answers
