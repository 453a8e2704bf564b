"""The sound around a spotter's events, kept as clips, so that its mistakes can be trained on.

Each event that counts leaves a clip in ``DIR/<keyword>/`` that ends 0.3 s after it and lasts two
seconds, or more where words are longer. If a keyword reached half of its threshold without being
reported, it may have been missed; on request such a moment leaves a clip in
``DIR/almost/<keyword>/``. Listen to the clips, then use ``kws data add`` to add false alarms to
``_unknown_`` and missed words to their own label.

Only the last few seconds of sound are held in memory.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kws.audio.files import write_wav
from kws.audio.samples import Pcm
from kws.decide import Event, decision_limits
from kws.errors import KwsError
from kws.spotter import Spotter
from kws.system.files import FULL_DISK, plain_name, recording_name

SHORTEST_S = 2.0
"""Shortest length of a clip, except at either end of the sound."""
LONGER_S = 0.6
"""A clip is at least this much longer than the clips that the network was trained on, which hold
its longest word: events come later than words."""
AFTER_S = 0.3
"""Part of a clip after the event."""
ALMOST = 0.5
"""Share of its threshold that a keyword must reach to be kept although it did not fire."""
ALMOST_FOLDER = "almost"
_APART_S = 1.0
"""Of two moments closer than this, one is kept, preferably an event."""


@dataclass(frozen=True, kw_only=True)
class _Moment:
    """A moment whose clip is written once all of its sound has arrived."""

    keyword: str
    score: float
    time_s: float
    fired: bool


class Keeper:
    """Keeps the sound around what a spotter detects.

    Example::

        spotter = Spotter("commands_en")
        keeper = Keeper(spotter, "kept", almost=True)
        for chunk in chunks:
            events = spotter.feed(chunk)
            keeper.follow(chunk, events)
        keeper.finish()
    """

    clips: list[Path]
    """Clips of events, in the order in which they were written."""
    almost_clips: list[Path]
    """Clips of moments in which nothing fired."""
    failed: str | None
    """Why no more clips are kept, in a line; None while all is well."""

    def __init__(
        self,
        spotter: Spotter,
        folder: str | Path,
        *,
        almost: bool = False,
        counts: Callable[[float], bool] | None = None,
    ) -> None:
        """Begin with a live stream.

        Args:
            spotter: in the state after `reset`.
            folder: where the clips go; created with the first of them.
            almost: also keep moments in which a keyword came close.
            counts: whether a keyword at a time, in s, would count; of those that would not, nothing
                is kept. By default all count.

        Raises:
            KwsError: the folder is a file.
        """
        self._folder = Path(folder)
        if self._folder.exists() and not self._folder.is_dir():
            raise KwsError(f"Clips go to a folder. Received: the file {folder}. Give another name")
        self._spotter = spotter
        self._counts = counts
        card = spotter.card
        self._rate = card.front_end.sample_rate_hz
        self._keywords = card.keywords
        self._columns = [card.labels.index(keyword) for keyword in card.keywords]
        limits = decision_limits(spotter.decision, card.keywords, card.step_ms)
        self._steps = limits.window_steps
        self._limits = (
            ALMOST * np.array(limits.fire) if almost else np.full(len(limits.fire), np.inf)
        )
        clip_s = max(SHORTEST_S, card.clip_s + LONGER_S)
        self._clip_samples = round(clip_s * self._rate)
        # A clip is written at most this long after its moment and must still be held then.
        self._held_samples = round((clip_s + 2 * _APART_S) * self._rate)
        self.clips, self.almost_clips, self.failed = [], [], None
        self.begin()

    def begin(self, source: str | Path | None = None) -> None:
        """Begin a new stream, as after `Spotter.reset`.

        Args:
            source: the file, which clips are named after; by default the sound is live, and clips
                are named after the time of day.
        """
        self._file = None if source is None else recording_name(source)
        # Live sound: clock time of the newest block, and the time in the last clip's name, in ms.
        self._now_s, self._named_ms = time.time(), 0
        self._blocks: deque[Pcm] = deque()
        self._first = self._heard = 0
        # Moments that a nearby event may still replace, and those whose clip is to be written.
        self._waiting: list[_Moment] = []
        self._due: list[_Moment] = []
        self._last_s = -np.inf
        self._window = np.zeros((self._steps, len(self._keywords)))
        self._step = 0
        # For each keyword the highest sum since it passed its limit, and its time; None below it.
        self._peaks: list[tuple[float, float] | None] = [None] * len(self._keywords)
        self._passed_s = np.full(len(self._keywords), np.inf)

    def follow(self, samples: Pcm, events: Sequence[Event], *, real: bool = True) -> None:
        """Keep what the spotter has just detected.

        If a clip cannot be written, no more are kept; see `failed`.

        Args:
            samples: what the spotter was fed last.
            events: those of its events that count; those of another model are passed over.
            real: False for added silence, which is not kept.
        """
        if self.failed is not None:
            return
        if real and len(samples):
            self._blocks.append(np.array(samples))
            self._heard += len(samples)
            before_s, self._now_s = self._now_s, time.time()
            if self._now_s < before_s:  # the clock was set back, so names go back too
                self._named_ms = 0
        fired = {event.time_s: event for event in events if event.keyword in self._keywords}
        steps = zip(self._spotter.posteriors, self._spotter.step_times_s.tolist(), strict=True)
        for row, time_s in steps:
            self._follow(row[self._columns], time_s, fired.get(time_s))
        self._write(self._heard)
        while self._blocks and (
            self._heard - self._first - len(self._blocks[0]) >= self._held_samples
        ):
            self._first += len(self._blocks.popleft())

    def finish(self) -> None:
        """Write the clips that are still waiting; the stream is over."""
        for k in range(len(self._keywords)):
            self._close(k)
        self._settle(np.inf)
        self._write(None)

    def _follow(self, posteriors: NDArray[np.float32], time_s: float, event: Event | None) -> None:
        """Take one step: an event, or keywords that come close and fall back again."""
        self._window[self._step % self._steps] = posteriors
        self._step += 1
        sums = self._window.sum(axis=0)
        self._settle(time_s)
        if event is not None:
            # Waiting moments are near enough to be the same sound.
            self._waiting = []
            self._due.append(
                _Moment(keyword=event.keyword, score=event.score, time_s=time_s, fired=True)
            )
            self._last_s = time_s
        for k, limit in enumerate(self._limits):
            peak = self._peaks[k]
            if sums[k] < limit:
                self._close(k)
                self._passed_s[k] = np.inf
            elif peak is not None:
                if sums[k] > peak[0]:
                    self._peaks[k] = float(sums[k]), time_s
                if time_s - self._passed_s[k] > _APART_S / 2:
                    self._close(k)
            elif np.isinf(self._passed_s[k]):
                self._passed_s[k], self._peaks[k] = time_s, (float(sums[k]), time_s)

    def _close(self, k: int) -> None:
        """Queue a keyword's peak for its clip, if nothing else was near."""
        peak, self._peaks[k] = self._peaks[k], None
        if peak is None or peak[1] - self._last_s < _APART_S:
            return
        moment = _Moment(
            keyword=self._keywords[k], score=peak[0] / self._steps, time_s=peak[1], fired=False
        )
        if self._counts is not None and not self._counts(moment.time_s):
            return
        if all(moment.score > other.score for other in self._waiting):
            self._waiting = [moment]

    def _settle(self, now_s: float) -> None:
        """Release moments that have waited long enough without an event near them."""
        for moment in self._waiting:
            if now_s - moment.time_s >= _APART_S:
                self._waiting = []
                self._due.append(moment)
                self._last_s = moment.time_s

    def _write(self, heard: int | None) -> None:
        """Write the clips whose sound has arrived; all of them if no more will come (None)."""
        for moment in list(self._due):
            end = round((moment.time_s + AFTER_S) * self._rate)
            if self.failed is not None or (heard is not None and end > heard):
                continue
            try:
                self._write_clip(moment, min(end, self._heard))
            except OSError as error:
                full = error.errno in FULL_DISK
                why = "the disk is full" if full else error.strerror or str(error)
                self.failed = f"no more clips are kept: {why} (writing to {self._folder})"
            # Only now: after Ctrl-C in the middle of a clip, `finish` still writes it.
            self._due.remove(moment)

    def _write_clip(self, moment: _Moment, end: int) -> None:
        start = max(self._first, end - self._clip_samples)
        if end <= start:
            return
        pcm = np.concatenate(self._blocks)[start - self._first : end - self._first]
        folder = self._folder if moment.fired else self._folder / ALMOST_FOLDER
        name = f"{self._stamp(moment.time_s)}_{moment.score:.2f}.wav"
        path = folder / plain_name(moment.keyword) / name
        write_wav(path, pcm, self._rate)
        (self.clips if moment.fired else self.almost_clips).append(path)

    def _stamp(self, time_s: float) -> str:
        """Return the start of a clip's name: the time of day, or the position in a file.

        The time of day is counted back from the newest sound. Counted from the beginning, it would
        lag by what was lost and ignore changes of the clock.
        """
        if self._file is not None:
            return f"{self._file}_{round(1000 * time_s):07}"
        at_ms = round(1000 * (self._now_s - self._heard / self._rate + time_s))
        # Queued sound arrives faster than it was spoken; names still keep its order.
        self._named_ms = max(at_ms, self._named_ms + 1)
        when = datetime.fromtimestamp(self._named_ms // 1000)
        return f"{when:%Y%m%d-%H%M%S}.{self._named_ms % 1000:03}"
