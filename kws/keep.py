"""The sound around what a spotter reports, kept as clips: what it got wrong can be learnt.

Each event leaves a clip that ends 0.3 s after it, in ``DIR/<keyword>/``: of two seconds, and of
more where words are longer. A moment in which a keyword came to half of its threshold and nothing
was reported is perhaps a word that was missed, and leaves one in ``DIR/almost/<keyword>/`` where
that is wanted. Whoever listens to them knows which were false: ``kws data add`` takes these to
``_unknown_``, and missed words to theirs.

The sound of the last few seconds is all that is held in memory.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections import deque
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
from kws.system.files import FULL_DISK

SHORTEST_S = 2.0
"""Length of a clip, or less at either end of the sound …"""
LONGER_S = 0.6
"""… and so much more at least than the clips that the network learnt from, which hold its longest
word: events come later than words."""
AFTER_S = 0.3
"""How much of a clip lies after the event."""
ALMOST = 0.5
"""Share of its threshold that a keyword must come to, to be kept although it did not fire."""
ALMOST_FOLDER = "almost"
_APART_S = 1.0
"""Of two moments that are closer than this, one is kept; an event before anything else."""


@dataclass(frozen=True, kw_only=True)
class _Moment:
    """Something whose clip is to be written when its sound is all there."""

    keyword: str
    score: float
    time_s: float
    fired: bool


class Keeper:
    """A spotter that keeps the sound around what it finds.

    Example::

        keeper = Keeper(Spotter("commands_en"), "kept", almost=True)
        for chunk in chunks:
            events = keeper.feed(chunk)
        keeper.finish()
    """

    clips: list[Path]
    """Events that were kept, in the order in which they were written."""
    almost_clips: list[Path]
    """Moments that were kept in which nothing fired."""
    failed: str | None
    """Why nothing is kept any more, in a line; None while all is well."""

    def __init__(self, spotter: Spotter, folder: str | Path, *, almost: bool = False) -> None:
        """Begin with a stream that is heard now.

        Args:
            spotter: as it is after `reset`.
            folder: where the clips go; made with the first of them.
            almost: keep moments as well in which a keyword came close.

        Raises:
            KwsError: the folder is a file.
        """
        self._folder = Path(folder)
        if self._folder.exists() and not self._folder.is_dir():
            raise KwsError(f"Clips go to a folder. Received: the file {folder}. Give another name")
        self._spotter = spotter
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
        # A clip is written so long after its moment at most, and then all of it must be there.
        self._held_samples = round((clip_s + 2 * _APART_S) * self._rate)
        self.clips, self.almost_clips, self.failed = [], [], None
        self.begin()

    def begin(self, source: str | Path | None = None) -> None:
        """Begin a new stream, as after `Spotter.reset`.

        Args:
            source: the file that is heard, which clips are named after; by default the sound is
                live, and they are named after the time of day.
        """
        self._file = None if source is None else _file_name(source)
        # Live sound: the clock when the newest came, and the time of the last clip's name, in ms.
        self._now_s, self._named_ms = time.time(), 0
        self._blocks: deque[Pcm] = deque()
        self._first = self._heard = 0
        # Moments that an event may still make void, and those whose clip is to be written.
        self._waiting: list[_Moment] = []
        self._due: list[_Moment] = []
        self._last_s = -np.inf
        self._window = np.zeros((self._steps, len(self._keywords)))
        self._step = 0
        # For each keyword the highest sum since it passed its limit, and when; None below it.
        self._peaks: list[tuple[float, float] | None] = [None] * len(self._keywords)
        self._passed_s = np.full(len(self._keywords), np.inf)

    def feed(self, samples: Pcm, *, real: bool = True) -> list[Event]:
        """Feed the spotter and keep what it finds.

        A clip that cannot be written ends the keeping, not the listening; see `failed`.

        Args:
            samples: as for `Spotter.feed`.
            real: False for silence that nobody recorded; it is heard and not kept.

        Returns:
            The events.
        """
        events = self._spotter.feed(samples)
        if self.failed is not None:
            return events
        if real and len(samples):
            self._blocks.append(np.array(samples))
            self._heard += len(samples)
            before_s, self._now_s = self._now_s, time.time()
            if self._now_s < before_s:  # the clock was set back, and names go back with it
                self._named_ms = 0
        fired = {event.time_s: event for event in events}
        steps = zip(self._spotter.posteriors, self._spotter.step_times_s.tolist(), strict=True)
        for row, time_s in steps:
            self._follow(row[self._columns], time_s, fired.get(time_s))
        self._write(self._heard)
        while self._blocks and (
            self._heard - self._first - len(self._blocks[0]) >= self._held_samples
        ):
            self._first += len(self._blocks.popleft())
        return events

    def finish(self) -> None:
        """Write what still waits for its end; the stream is over."""
        for k in range(len(self._keywords)):
            self._close(k)
        self._settle(np.inf)
        self._write(None)

    def _follow(self, posteriors: NDArray[np.float32], time_s: float, event: Event | None) -> None:
        """Take one step: an event, or keywords that come close and go away again."""
        self._window[self._step % self._steps] = posteriors
        self._step += 1
        sums = self._window.sum(axis=0)
        self._settle(time_s)
        if event is not None:
            # Who waits is near enough to be the same sound.
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
        """Let a keyword's peak wait for its clip, if nothing else was near."""
        peak, self._peaks[k] = self._peaks[k], None
        if peak is None or peak[1] - self._last_s < _APART_S:
            return
        moment = _Moment(
            keyword=self._keywords[k], score=peak[0] / self._steps, time_s=peak[1], fired=False
        )
        if all(moment.score > other.score for other in self._waiting):
            self._waiting = [moment]

    def _settle(self, now_s: float) -> None:
        """Let go what has waited for long enough: no event came near it."""
        for moment in self._waiting:
            if now_s - moment.time_s >= _APART_S:
                self._waiting = []
                self._due.append(moment)
                self._last_s = moment.time_s

    def _write(self, heard: int | None) -> None:
        """Write the clips whose sound is there; all of them where no more will come (None)."""
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
            # Not before: Ctrl-C in the middle of a clip leaves it to `finish`.
            self._due.remove(moment)

    def _write_clip(self, moment: _Moment, end: int) -> None:
        start = max(self._first, end - self._clip_samples)
        if end <= start:
            return
        pcm = np.concatenate(self._blocks)[start - self._first : end - self._first]
        folder = self._folder if moment.fired else self._folder / ALMOST_FOLDER
        name = f"{self._stamp(moment.time_s)}_{moment.score:.2f}.wav"
        path = folder / _plain(moment.keyword) / name
        write_wav(path, pcm, self._rate)
        (self.clips if moment.fired else self.almost_clips).append(path)

    def _stamp(self, time_s: float) -> str:
        """Return what the clip of a moment is named after: its time of day, or its place in a file.

        The time of day counts back from the newest sound: a sum of what was heard since the
        beginning would lag by what was lost, and know nothing of clocks that are set meanwhile.
        """
        if self._file is not None:
            return f"{self._file}_{round(1000 * time_s):07}"
        at_ms = round(1000 * (self._now_s - self._heard / self._rate + time_s))
        # Sound that waited comes faster than it was spoken; names keep its order all the same.
        self._named_ms = max(at_ms, self._named_ms + 1)
        when = datetime.fromtimestamp(self._named_ms // 1000)
        return f"{when:%Y%m%d-%H%M%S}.{self._named_ms % 1000:03}"


def _file_name(source: str | Path) -> str:
    """Return a name for a file that files of the same name elsewhere do not have."""
    path = Path(source)
    where = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:4]
    return f"{_plain(path.stem) or 'recording'}-{where}"


def _plain(name: str) -> str:
    return re.sub(r"[^\w.+-]", "_", name).strip("._")
