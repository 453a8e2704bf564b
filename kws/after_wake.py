"""Commands that count only just after a wake word.

A long, rare word is mistaken for other speech far less often than ten short commands. So one model
listens for the wake word, and the keywords of a second one count only in the window that it opens:

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
from kws.network import Network
from kws.spotter import Spotter

WINDOW_S = 5.0
"""How long after a wake word a command counts, in seconds."""
_LONGEST_S = 3600.0
# Times are whole samples in floating point; this is less than one. So a window ends at the same
# sample as in the firmware, which counts in samples.
_SAME_S = 1e-6
# Closed windows are remembered for this long: what is said about a moment may come a little later.
_REMEMBERED_S = 10.0


class WakeGate:
    """The windows that wake words open and commands close.

    Example:
        >>> gate = WakeGate(window_s=5.0)
        >>> wakes = [Event(keyword="computer", score=0.9, time_s=10.0)]
        >>> said = [Event(keyword="stop", score=0.9, time_s=t) for t in (9.5, 12.0, 13.0)]
        >>> [event.time_s for event in gate.pick(wakes, said)]
        [12.0]
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
        self._opened_s: float | None = None  # the latest wake word, if no command came after it
        # Windows so far, by time: (from, to), without from itself.
        self._windows: deque[tuple[float, float]] = deque()
        self._latest_s = 0.0

    def pick(self, wakes: Iterable[Event], commands: Iterable[Event]) -> list[Event]:
        """Return the commands that count.

        Args:
            wakes: the next events of the wake word, by time, none before those of the last call.
            commands: the next events of the commands, likewise.
        """
        while self._windows and self._windows[0][1] < self._latest_s - _REMEMBERED_S:
            self._windows.popleft()
        waiting, counted = deque(wakes), []
        for event in commands:
            while waiting and waiting[0].time_s < event.time_s:
                self._open(waiting.popleft().time_s)
            self._latest_s = event.time_s
            if self._opened_s is not None and event.time_s <= self._end_s(self._opened_s):
                counted.append(event)
                self._opened_s = None
                self._windows[-1] = (self._windows[-1][0], event.time_s)
        for wake in waiting:
            self._open(wake.time_s)
        return counted

    def counts(self, time_s: float) -> bool:
        """Return whether a command at this time counts, or counted then.

        It knows at least the ten seconds before the latest event of the `pick` before last, and all
        since.
        """
        return any(start < time_s <= end for start, end in self._windows)

    def _open(self, time_s: float) -> None:
        if self._opened_s is not None and self._windows:  # the new window continues the open one
            start, end = self._windows[-1]
            self._windows[-1] = (start, min(end, time_s))
        self._opened_s = self._latest_s = time_s
        self._windows.append((time_s, self._end_s(time_s)))

    def _end_s(self, opened_s: float) -> float:
        return opened_s + self.window_s + _SAME_S


class AfterWake:
    """A wake word's model and, just after it, another one's keywords, in one stream of audio.

    Example:
        >>> spotter = AfterWake("computer", "commands_en")  # doctest: +SKIP
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
                model, or a `Spotter` that nothing else uses; it is reset.
            commands: of the commands, likewise. A file has its thresholds for after a wake word, if
                there are some in it; a `Spotter` keeps those it was given.
            window_s: how long after the wake word a command counts, in seconds.

        Raises:
            KwsError: as `Spotter`, models that share a keyword, or a window of no use.
        """
        self._gate = WakeGate(window_s)
        self.wake = wake if isinstance(wake, Spotter) else Spotter(wake)
        self.commands = commands if isinstance(commands, Spotter) else open_commands(commands)
        check_apart(self.wake.card, self.commands.card)
        self.reset()

    def reset(self) -> None:
        """Start a new stream with the next sample."""
        self.wake.reset()
        self.commands.reset()
        self._gate = WakeGate(self._gate.window_s)

    def counts(self, time_s: float) -> bool:
        """Return whether a command at this time, in s, counts, or counted then.

        Known are at least the last ten seconds before the latest `feed`.
        """
        return self._gate.counts(time_s)

    def feed(self, samples: NDArray[np.int16]) -> list[Event]:
        """Process the next samples; return wake words and the commands that count, oldest first.

        Args:
            samples: int16 [n] at 16 kHz, any n including 0.

        Raises:
            KwsError: samples of another type or shape.
        """
        woken = self.wake.feed(samples)
        counted = self._gate.pick(woken, self.commands.feed(samples))
        return sorted(woken + counted, key=lambda event: event.time_s)


def open_commands(model: str | Path, threshold: float | None = None) -> Spotter:
    """Load a model whose keywords count only after a wake word.

    Args:
        model: a .tflite or the name of a pretrained model.
        threshold: for all keywords. By default the model's own for after a wake word, where it has
            some, and else the usual ones.

    Raises:
        KwsError: as `Spotter`.
    """
    network = Network(model)
    decision = network.card.decision.after_wake_word(threshold)
    return Spotter(network, thresholds=decision.thresholds)


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
