"""Events of the commands that listen: their lines, and where `run` and `listen` get them from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kws.wording import counted

if TYPE_CHECKING:
    from kws.after_wake import AfterWake
    from kws.audio.samples import Pcm
    from kws.decide import Event
    from kws.keep import Keeper
    from kws.spotter import Spotter


def event_line(event: Event, *, as_json: bool, file: str | None = None) -> str:
    """Return one line for people or, with `as_json`, one JSON object.

    Args:
        event: the detection.
        as_json: print JSON.
        file: the file that it was detected in, if any.
    """
    if as_json:
        where = {} if file is None else {"file": file}
        time_s, score = round(event.time_s, 3), round(event.score, 4)
        return json.dumps({**where, "time_s": time_s, "keyword": event.keyword, "score": score})
    line = f"{event.time_s:.2f} s  {event.keyword}  {event.score:.2f}"
    return line if file is None else f"{file}  {line}"


class Listener:
    """What `kws run` and `kws listen` listen with: models, and a keeper of clips for each."""

    def __init__(
        self,
        model: str,
        threshold: float | None,
        *,
        wake: str | None,
        wake_window_s: float | None,
        keep: Path | None,
        keep_almost: bool,
    ) -> None:
        """Load the models; the arguments are the commands' options.

        Raises:
            BadParameter: options that do not go together.
            KwsError: as `Spotter`, `AfterWake` and `Keeper`.
        """
        if keep_almost and keep is None:
            raise typer.BadParameter("--keep-almost needs --keep DIR.")
        window_s = window_after_wake(wake, wake_window_s)
        self._source: Spotter | AfterWake
        if wake is None:
            from kws.spotter import Spotter

            self._source = commands = Spotter(model, thresholds=threshold)
            spotters, counts = [commands], None
        else:
            from kws.after_wake import AfterWake, open_commands

            commands = open_commands(model, threshold)
            self._source = AfterWake(wake, commands, window_s=window_s)
            spotters, counts = [self._source.wake, commands], self._source.counts
        self.sample_rate_hz = commands.card.front_end.sample_rate_hz
        """Sample rate of the audio."""
        self.words = ", then ".join(", ".join(one.card.keywords) for one in spotters)
        """What is listened for, for people."""
        self._commands = commands.card.keywords
        self._folder = keep
        self._keepers: list[Keeper] = []
        if keep is not None:
            from kws.keep import Keeper

            for one in spotters:
                only = counts if one is commands else None
                self._keepers.append(Keeper(one, keep, almost=keep_almost, counts=only))

    def begin(self, source: str | None = None) -> None:
        """Begin a new stream: live, or a file, which kept clips are named after."""
        self._source.reset()
        for keeper in self._keepers:
            keeper.begin(source)

    def feed(self, samples: Pcm, *, real: bool = True) -> list[Event]:
        """Process the next samples; return the events they complete and keep their sound.

        Args:
            samples: int16 [n].
            real: False for added silence, which is not kept.
        """
        events = self._source.feed(samples)
        if not self.failed:
            for keeper in self._keepers:
                keeper.follow(samples, events, real=real)
        return events

    def is_command(self, event: Event) -> bool:
        """Return whether an event is more than the wake word."""
        return event.keyword in self._commands

    def finish(self) -> None:
        """Write the clips that are still waiting; the stream is over."""
        for keeper in self._keepers:
            keeper.finish()

    @property
    def failed(self) -> str | None:
        """Why no more clips are kept, in a line; None while all is well."""
        return next((keeper.failed for keeper in self._keepers if keeper.failed), None)

    def kept(self) -> str | None:
        """Return a line that says what was kept; None if nothing should be."""
        if not self._keepers:
            return None
        almost = sum(len(keeper.almost_clips) for keeper in self._keepers)
        line = f"kept {counted(sum(len(keeper.clips) for keeper in self._keepers), 'event')}"
        if almost:
            line += f" and {almost} that came close"
        return f"{line} in {self._folder}"


def window_after_wake(wake: str | None, given_s: float | None) -> float:
    """Return how long after the wake word a keyword counts, in s: as given, or the default.

    Raises:
        BadParameter: it is given, but no wake word is.
    """
    from kws.after_wake import WINDOW_S

    if given_s is None:
        return WINDOW_S
    if wake is None:
        raise typer.BadParameter("--wake-window needs --wake MODEL.")
    return given_s
