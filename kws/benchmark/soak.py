"""A day of audio through the runner: are events, memory and speed still the same in the last hour?

Two processes listen to the same endless audio, one in chunks of 100 ms as from a sound card, the
other in chunks of any length from one sample to two seconds. After each interval they report their
events, memory and speed; the events must be the same.

The audio is synthetic, never repeats, and is full of syllable-like sounds, so that there are
events. Or recordings are played repeatedly, each time at another level and with a little noise, so
that they are new to the network.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kws.audio.files import iter_audio
from kws.audio.samples import Pcm
from kws.benchmark.memory import resident_bytes
from kws.errors import KwsError
from kws.model_file import load_model, resolve_model
from kws.system.processes import start_worker, take_stdout, worker_died
from kws.system.progress import Progress

CHUNK_MS = 100
MEMORY_MB = 8.0
"""Memory may grow by this much from the first interval to the last."""
_INTERVALS = 4
_SYLLABLES = 100
_WORKER = "from kws.benchmark.soak import _serve; _serve()"
_RATE_HZ = 16000
_KINDS = ("even", "any")
_Arrivals = queue.SimpleQueue[tuple[int, dict[str, Any] | BaseException]]
"""What the processes report: which one, and a report or the error that ended it."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Figures for one interval of the audio."""

    hours: float
    """Audio processed by its end."""
    events: int
    """Events in it."""
    times_real_time: float
    """Seconds of audio per second of processor time."""
    resident_bytes: int | None
    """Memory of the process at its end; None if unknown."""


@dataclass(frozen=True, kw_only=True)
class Soak:
    """Result of a soak test."""

    model: str
    """The model file."""
    hours: float
    """Length of the audio."""
    intervals: tuple[Interval, ...]
    """With chunks of 100 ms."""
    other_intervals: tuple[Interval, ...]
    """With chunks of any length."""
    same_events: tuple[bool, ...]
    """For each interval whether both reported the same events, to the last digit."""

    @property
    def events(self) -> int:
        """Events in all."""
        return sum(interval.events for interval in self.intervals)

    @property
    def grown_mb(self) -> float | None:
        """Growth of memory from the first interval's end to the last's, the larger of both."""
        grown = []
        for intervals in (self.intervals, self.other_intervals):
            first, last = intervals[0].resident_bytes, intervals[-1].resident_bytes
            if first is None or last is None:
                return None
            grown.append((last - first) / 1e6)
        return max(grown)


def soak(
    model: str | Path,
    hours: float,
    *,
    recordings: Sequence[str | Path] = (),
    seed: int = 0,
    progress: bool = False,
) -> Soak:
    """Run a model over endless audio.

    Args:
        model: a model file in stream form, or the name of a pretrained one.
        hours: length of the audio.
        recordings: play these repeatedly instead of synthetic audio.
        seed: of the audio.
        progress: report on stderr.

    Raises:
        KwsError: no such model, one in clip form, a recording that cannot be read, or a process
            that died.
    """
    if not 0.001 <= hours <= 100_000:
        raise KwsError(f"The audio must last 0.001 to 100,000 hours. Received: {hours:g}")
    rate = load_model(model).front_end.sample_rate_hz
    if rate != _RATE_HZ:
        raise KwsError(f"The audio is made for {_RATE_HZ} Hz. Received: a model for {rate} Hz")
    path = resolve_model(model)
    interval_s = 3600.0 if hours >= 2 else hours * 3600 / _INTERVALS
    n = round(hours * 3600 / interval_s)
    work = (str(path), str(n), repr(interval_s), str(seed), *map(str, recordings))
    reports = _listen_in_processes(work, n, progress=progress)
    digests = [[report.pop("digest") for report in one] for one in reports]
    even, other = (tuple(Interval(**report) for report in one) for one in reports)
    return Soak(
        model=str(path),
        hours=n * interval_s / 3600,
        intervals=even,
        other_intervals=other,
        same_events=tuple(a == b for a, b in zip(*digests, strict=True)),
    )


def _listen_in_processes(
    work: Sequence[str], n: int, *, progress: bool
) -> tuple[list[dict[str, Any]], ...]:
    """Run one process for each kind of chunks; return the `n` reports of each.

    Args:
        work: arguments of `_serve` after the kind.
        n: intervals.
        progress: report on stderr.
    """
    reports: tuple[list[dict[str, Any]], ...] = tuple([] for _ in _KINDS)
    arrived: _Arrivals = queue.SimpleQueue()
    processes: list[subprocess.Popen[bytes]] = []
    threads = []
    try:
        with Progress(len(_KINDS) * n, "listening", unit="intervals", shown=progress) as bar:
            for which, kind in enumerate(_KINDS):
                processes.append(start_worker(_WORKER, kind, *work))
                arguments = (which, processes[-1], arrived)
                threads.append(threading.Thread(target=_read, args=arguments, daemon=True))
                threads[-1].start()
            while any(len(report) < n for report in reports):
                try:
                    # A timeout, because Windows cannot interrupt an endless wait.
                    which, report = arrived.get(timeout=0.5)
                except queue.Empty:
                    continue
                if isinstance(report, BaseException):
                    if len(reports[which]) < n:
                        raise report
                    continue
                if "fault" in report:
                    raise KwsError(report["fault"])
                reports[which].append(report)
                bar.advance()
    finally:
        for process in processes:
            process.kill()
        for thread in threads:
            thread.join()
        for process in processes:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):
                        pipe.close()
            process.wait()
    return reports


def _read(which: int, process: subprocess.Popen[bytes], arrived: _Arrivals) -> None:
    """Pass on the reports of process number `which`, then the reason why there are no more."""
    assert process.stdout is not None
    try:
        for line in process.stdout:
            arrived.put((which, json.loads(line)))
        raise worker_died(process, "Try fewer hours")
    except BaseException as error:
        arrived.put((which, error))


def _serve() -> None:
    """Listen to the audio in this process; write a line of JSON after each interval."""
    answers = take_stdout()
    kind, model, intervals, interval_s, seed, *recordings = sys.argv[1:]

    def tell(answer: Mapping[str, Any]) -> None:
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()

    with suppress(BrokenPipeError):  # The parent has gone.
        try:
            _listen(kind, model, int(intervals), float(interval_s), int(seed), recordings, tell)
        except KwsError as error:
            tell({"fault": str(error)})


def _listen(
    kind: str,
    model: str,
    intervals: int,
    interval_s: float,
    seed: int,
    recordings: Sequence[str],
    tell: Any,
) -> None:
    from kws.spotter import Spotter

    spotter = Spotter(model)
    audio = replayed(recordings, seed) if recordings else made_up(seed)
    size = _RATE_HZ * CHUNK_MS // 1000
    chunks = _cut(audio, itertools.repeat(size) if kind == "even" else _any_sizes())
    rest = np.zeros(0, np.int16)
    for number in range(1, intervals + 1):
        # The last chunk of an interval ends with it, so that both kinds report on the same audio.
        left = round(number * interval_s * _RATE_HZ) - round((number - 1) * interval_s * _RATE_HZ)
        digest, events, spent = hashlib.sha256(), 0, 0.0
        while left:
            chunk = rest if len(rest) else next(chunks)
            chunk, rest = chunk[:left], chunk[left:]
            left -= len(chunk)
            before = time.process_time()
            found = spotter.feed(chunk)
            spent += time.process_time() - before
            events += len(found)
            for event in found:
                digest.update(repr((event.keyword, event.score, event.time_s)).encode())
        tell(
            {
                "hours": number * interval_s / 3600,
                "events": events,
                "times_real_time": interval_s / max(spent, 1e-9),
                "resident_bytes": resident_bytes(),
                "digest": digest.hexdigest(),
            }
        )


def _any_sizes() -> Iterator[int]:
    """Yield sizes of 1 sample to 2 s, evenly spread on a logarithmic scale."""
    rng = np.random.default_rng(1)
    while True:
        yield int(10 ** rng.uniform(0, np.log10(2 * _RATE_HZ)))


def _cut(audio: Iterator[Pcm], sizes: Iterator[int]) -> Iterator[Pcm]:
    """Cut endless audio into chunks of these sizes."""
    held = np.zeros(0, np.int16)
    for size in sizes:
        while len(held) < size:
            held = np.concatenate([held, next(audio)])
        yield held[:size]
        held = held[size:]


def replayed(recordings: Sequence[str], seed: int) -> Iterator[Pcm]:
    """Yield recordings repeatedly, each time at another level and with a little noise.

    Raises:
        KwsError: one cannot be read.
    """
    rng = np.random.default_rng(seed)
    while True:
        for path in recordings:
            gain = np.float32(10 ** (rng.uniform(-12, 3) / 20))
            hiss = np.float32(10 ** rng.uniform(0, 2))
            for block in iter_audio(path, 4 * _RATE_HZ, _RATE_HZ):
                noise = hiss * rng.standard_normal(len(block), np.float32)
                yield np.clip(block * gain + noise, -32768, 32767).astype(np.int16)


def made_up(seed: int) -> Iterator[Pcm]:
    """Yield syllables and noise without end, int16 at 16 kHz.

    A syllable is a hum whose overtones are loud around three gliding resonances, with a hiss before
    or after it: enough for a network to mistake it for a word now and then.
    """
    rng = np.random.default_rng(seed)
    syllables = [_syllable(rng) for _ in range(_SYLLABLES)]
    hum = np.fft.rfft(rng.standard_normal(1 << 20))
    hum /= np.sqrt(np.arange(1, len(hum) + 1))
    background = np.fft.irfft(hum).astype(np.float32)
    background /= background.std()
    level = 0.0
    while True:
        # The background's level wanders between about -70 and -30 dBFS.
        level = 0.9 * level + rng.normal(scale=4.0)
        words = [syllables[i] for i in rng.integers(len(syllables), size=rng.integers(1, 4))]
        gain = np.float32(10 ** (rng.uniform(-40, -12) / 20))
        sound = np.concatenate([*words, np.zeros(rng.integers(1600, 32000), np.float32)])
        start = rng.integers(len(background) - len(sound))
        noise = background[start : start + len(sound)] * np.float32(10 ** ((level - 50) / 20))
        mixed = 32768 * (gain * sound + noise)
        yield np.clip(np.rint(mixed), -32768, 32767).astype(np.int16)


def _syllable(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return 0.2 to 0.5 s at an RMS of about 1."""
    n = int(rng.integers(3200, 8000))
    t = np.linspace(0, 1, n)
    coarse = np.linspace(0, 1, 40)
    first_hz, octaves = rng.uniform(90, 280), rng.uniform(-0.3, 0.3)
    phase = 2 * np.pi * np.cumsum(first_hz * 2 ** (octaves * t)) / _RATE_HZ
    pitch = first_hz * 2 ** (octaves * coarse)
    formants = []  # each [40], in Hz
    for low, high in ((250, 900), (800, 2500), (2000, 3500)):
        first, last = rng.uniform(low, high, 2).tolist()
        formants.append(np.linspace(first, last, len(coarse)))
    sound = np.zeros(n)
    for k in range(1, 1 + round(4000 / first_hz)):
        loud = np.zeros(len(coarse))
        for i, centre in enumerate(formants):
            loud += np.exp(-0.5 * ((k * pitch - centre) / (60 + 0.06 * centre)) ** 2) / (1 + i)
        sound += np.interp(t, coarse, loud) * np.sin(k * phase)
    sound *= np.sin(np.pi * t) ** 0.5
    if rng.random() < 0.6:
        hiss = np.diff(rng.standard_normal(n + 1)) * (t < 0.3 if rng.random() < 0.5 else t > 0.7)
        sound += hiss * rng.uniform(0.1, 0.6)
    return (sound / np.sqrt(np.mean(sound**2))).astype(np.float32)
