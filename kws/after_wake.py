"""Commands that count only just after a wake word.

A long, rare word can be told from a day of talk; ten short commands cannot. So one model listens
for the wake word, and the keywords of a second one count only in the window that it opens:

- an event of the wake word at time t opens the window from t to t + `window_s`;
- the first command in an open window counts and closes it; all others are left out.

Both models process all audio, so that each reports what it reports alone, and a command that
follows at once is heard from its beginning.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kws.decide import Event
from kws.errors import KwsError, some
from kws.labels import folded
from kws.model_file import ModelCard
from kws.spotter import Spotter

WINDOW_S = 5.0
"""How long after a wake word a command counts, in seconds."""
_LONGEST_S = 3600.0
# Closed windows are remembered for this long: what is said about a moment may come a little later.
_REMEMBERED_S = 10.0


class WakeGate:
    """The windows that wake words open and commands close.

    Example:
        >>> gate = WakeGate(window_s=5.0)
        >>> gate.open(10.0)
        >>> gate.counts(9.9), gate.take(12.0), gate.take(13.0)
        (False, True, False)
    """

    def __init__(self, window_s: float = WINDOW_S) -> None:
        """Begin with no window open.

        Raises:
            KwsError: a window that is not above 0 s and at most an hour.
        """
        if not 0 < window_s <= _LONGEST_S:  # also refuses NaN
            raise KwsError(
                f"The window after a wake word must be above 0 s and at most {_LONGEST_S:g} s. "
                f"Received: {window_s:g} s"
            )
        self.window_s = window_s
        """Length of a window that nothing closes, in seconds."""
        self._windows: list[tuple[float, float]] = []  # (from, to), without from itself

    def open(self, time_s: float) -> None:
        """Open a window at a wake word."""
        self._windows.append((time_s, time_s + self.window_s))

    def counts(self, time_s: float) -> bool:
        """Return whether a command at this time counts, or counted then."""
        return any(start < time_s <= end for start, end in self._windows)

    def take(self, time_s: float) -> bool:
        """Return whether a command at this time counts; if so, close the window.

        Times must not go back from one call to the next.
        """
        if not self.counts(time_s):
            return False
        self._windows = [
            (start, min(end, time_s) if start < time_s else end) for start, end in self._windows
        ]
        return True

    def forget(self, time_s: float) -> None:
        """Drop the windows that closed well before this time."""
        self._windows = [w for w in self._windows if w[1] > time_s - _REMEMBERED_S]


def commands_after(
    wakes: Iterable[Event], commands: Iterable[Event], *, window_s: float = WINDOW_S
) -> list[Event]:
    """Return the commands that count, from what each model reported in a whole recording.

    Args:
        wakes: events of the wake word, by time.
        commands: events of the commands, by time.
        window_s: how long after the wake word a command counts, in seconds.
    """
    gate, waiting, counted = WakeGate(window_s), deque(wakes), []
    for event in commands:
        while waiting and waiting[0].time_s < event.time_s:
            gate.open(waiting.popleft().time_s)
        gate.forget(event.time_s)
        if gate.take(event.time_s):
            counted.append(event)
    return counted


class AfterWake:
    """A wake word's model and, just after it, another one's keywords, in one stream of audio.

    Example:
        >>> spotter = AfterWake("computer.tflite", "commands_en")  # doctest: +SKIP
        >>> for chunk in chunks:  # doctest: +SKIP
        ...     for event in spotter.feed(chunk):
        ...         print(f"{event.time_s:.2f} s {event.keyword} {event.score:.2f}")
    """

    wake: Spotter
    """The wake word's model. Its events are reported too."""
    commands: Spotter
    """The model whose keywords count after a wake word."""

    def __init__(
        self,
        wake: str | Path | Spotter,
        commands: str | Path | Spotter,
        *,
        window_s: float = WINDOW_S,
    ) -> None:
        """Load the models and get ready for the first sample.

        Args:
            wake: of the wake word (any of its keywords is one): a .tflite, the name of a pretrained
                model, or a `Spotter` that nothing else uses.
            commands: of the commands, likewise.
            window_s: how long after the wake word a command counts, in seconds.

        Raises:
            KwsError: as `Spotter`, models that share a keyword, or a window of no use.
        """
        self._gate = WakeGate(window_s)
        self.wake = wake if isinstance(wake, Spotter) else Spotter(wake)
        self.commands = commands if isinstance(commands, Spotter) else Spotter(commands)
        check_apart(self.wake.card, self.commands.card)
        self._heard = 0

    def reset(self) -> None:
        """Start a new stream with the next sample."""
        self.wake.reset()
        self.commands.reset()
        self._gate = WakeGate(self._gate.window_s)
        self._heard = 0

    def counts(self, time_s: float) -> bool:
        """Return whether a command at this time, in s, counts, or counted then.

        Times up to ten seconds before the latest `feed` are remembered.
        """
        return self._gate.counts(time_s)

    def feed(self, samples: NDArray[np.int16]) -> list[Event]:
        """Process the next samples; return wake words and the commands that count, oldest first.

        Args:
            samples: int16 [n] at 16 kHz, any n including 0.

        Raises:
            KwsError: samples of another type or shape.
        """
        self._gate.forget(self._heard / self.commands.card.front_end.sample_rate_hz)
        woken = self.wake.feed(samples)
        self._heard += len(samples)
        for event in woken:
            self._gate.open(event.time_s)
        counted = [e for e in self.commands.feed(samples) if self._gate.take(e.time_s)]
        return sorted(woken + counted, key=lambda event: event.time_s)


def check_apart(wake: ModelCard, commands: ModelCard) -> None:
    """Check that no event could be of either model.

    Raises:
        KwsError: a keyword of both.
    """
    ours = {folded(keyword) for keyword in wake.keywords}
    both = [keyword for keyword in commands.keywords if folded(keyword) in ours]
    if both:
        raise KwsError(
            "A wake word must not be a command, too. Received: "
            f"{some(both)} in both {wake.name!r} and {commands.name!r}. Use another wake word"
        )
