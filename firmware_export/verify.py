"""The proof that the library in C computes what Python computes, bit for bit.

The library is built for this computer and, where the tools exist, for six kinds of Cortex-M, and
runs there (under QEMU) on real clips. Held equal, value by value:

- the features with the NumPy twin of the front end (`fixed_front_end`);
- the posteriors with `kws.Network`, LiteRT's built-in kernels without delegates, on the twin's int8
  features;
- the events with `kws.decide.Decider` on these posteriors.

The Python runner has a front end in floating point, whose features differ in the last bits and so
now and then a posterior by a step or two. How many clips it answers otherwise is counted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_export.boards import (
    Core,
    DoesNotFitError,
    Program,
    build,
    cores_named,
    missing_tools,
    run,
)
from firmware_export.records import FirmwareEvent, Heard, pack_clips, unpack_records
from firmware_export.twin import Twin
from kws.audio.files import read_audio
from kws.data.labels import LabelSet
from kws.data.scan import scan
from kws.errors import KwsError
from kws.evaluate.clips import evaluate_posteriors, label_set
from kws.evaluate.posteriors import answer_of, clip_posteriors, padded_clip
from kws.export.runtimes import RuntimeReport, check_runtimes, default_runtimes
from kws.labels import UNKNOWN
from kws.network import Network
from kws.runtime import which_runtime
from kws.spotter import Spotter
from kws.system.processes import usable_cores
from kws.system.progress import Progress

_BATCH = 64
"""Clips for one run of the program: so many that starting it does not count, and few in memory."""
_OTHERS_STEPS = 3000
"""About so many steps are run on other kernels."""
_VALUES = ("features", "posteriors", "events")


@dataclass(kw_only=True)
class CoreResult:
    """What one core computed, compared with Python."""

    core: str
    """Name for the command line, for example ``m4``."""
    title: str
    """Name for people."""
    skipped: str = ""
    """Why nothing was run; empty if it was."""
    failed: str = ""
    """Why it stopped; empty if it ran to the end."""
    clips: int = 0
    """Clips compared, the stream included."""
    frames: int = 0
    """Frames compared."""
    steps: int = 0
    """Steps compared."""
    events: int = 0
    """Events compared."""
    differing: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_VALUES, 0))
    """Frames, steps and events that differ."""
    first_difference: str = ""
    """The first of them, told in full; empty if there is none."""
    warnings: str = ""
    """What the compiler said about the library."""
    state_bytes: int = 0
    """sizeof(kws_state) there."""
    accuracy: float | None = None
    """Share of the clips answered rightly; None without labelled clips."""

    @property
    def equal(self) -> bool:
        """Whether all was run and every value was equal."""
        return not (self.skipped or self.failed or self.first_difference) and self.clips > 0


@dataclass(frozen=True, kw_only=True)
class Verification:
    """All cores."""

    model: str
    """The model's name."""
    runtime: str
    """Whose kernels the posteriors were compared with."""
    cores: tuple[CoreResult, ...]
    """In the order asked for, by default that of `boards.CORES`."""
    clips: int
    """Clips with a label."""
    stream_s: float
    """Length of the stream in seconds; 0 without one."""
    runner_accuracy: float | None
    """Share of the clips that the Python runner, with its front end in float, answers rightly."""
    answers_changed: int
    """Clips that the library answers otherwise than the runner."""
    runner_events: int
    """Events that the runner finds in the stream."""
    events_alike: int
    """Those of them that the library finds too, in the same step or the one beside it."""
    other_kernels: RuntimeReport | None
    """How far other kernels are from those compared with, on the same input; None if not asked."""

    @property
    def equal(self) -> bool:
        """Whether every core that was not skipped is equal, and at least one was run."""
        checked = [core for core in self.cores if not core.skipped]
        return bool(checked) and all(core.equal for core in checked)

    def to_dict(self) -> dict[str, Any]:
        """Return plain dictionaries, lists, numbers and strings."""
        result = asdict(self)
        for plain, core in zip(result["cores"], self.cores, strict=True):
            plain["equal"] = core.equal
        result["equal"] = self.equal
        return result

    def lines(self) -> list[str]:
        """Return a table for people."""
        rows: list[tuple[str, ...]] = [
            ("core", "clips", "steps", "features", "posteriors", "events", "accuracy")
        ]
        for core in self.cores:
            if core.skipped or core.failed:
                continue
            totals = dict(zip(_VALUES, (core.frames, core.steps, core.events), strict=True))
            shares = tuple(_share(totals[name], core.differing[name]) for name in _VALUES)
            counts = (f"{core.clips:,}", f"{core.steps:,}")
            rows.append((core.title, *counts, *shares, _percent(core.accuracy)))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            "  ".join(
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ]
        for core in self.cores:
            if core.skipped:
                lines.append(f"{core.title}: SKIPPED, {core.skipped}")
            if core.failed:
                lines.append(f"{core.title}: FAILED, {core.failed}")
            if core.first_difference:
                lines.append(f"{core.title}: first difference at {core.first_difference}")
            if core.warnings:
                lines.append(f"{core.title}: the compiler warned: {core.warnings.splitlines()[0]}")
        lines.append(
            "features against the NumPy twin, posteriors against "
            f"{self.runtime} (built-in kernels), events against the Python rule"
        )
        if self.runner_accuracy is not None:
            lines.append(
                f"the Python runner, front end in float: accuracy {_percent(self.runner_accuracy)} "
                f"on {self.clips:,} clips, {self.answers_changed} answered otherwise"
            )
        if self.stream_s:
            lines.append(
                f"stream of {self.stream_s:.0f} s: {self.runner_events} events of the runner, "
                f"{self.events_alike} of them found in C, a step apart at most"
            )
        if self.other_kernels is not None:
            lines += ["", "other kernels on the same input", *self.other_kernels.lines()]
        return lines


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """Audio to compare on."""

    name: str
    """Name for people."""
    pcm: NDArray[np.int16]
    """Samples [n]."""


def verify(
    model: str | Path | Twin,
    library: Path,
    clips: Path | None = None,
    *,
    stream: Path | None = None,
    limit: int | None = None,
    cores: Sequence[str] | None = None,
    optimise: str = "-O2",
    flags: Sequence[str] = (),
    content: bytes | None = None,
    progress: bool = False,
) -> Verification:
    """Run a generated library on real audio and compare it with Python.

    Args:
        model: the model that the library was made from; or its twin, which may have thresholds of
            its own.
        library: the generated folder.
        clips: a folder of ``<label>/<clip>``.
        stream: a long recording, heard from beginning to end.
        limit: at most so many clips, evenly spread over the folder.
        cores: names out of `boards.CORES`; all by default. One whose tools are missing or whose
            board is too small is skipped, and the result says so.
        optimise: how the library is compiled.
        flags: more flags for the compilers, for example sanitizers.
        content: the model file; with it LiteRT's other kernels and TFLM (where installed) are run
            on the same input too, for a few thousand steps, and the result tells how far they are
            from LiteRT's built-in kernels.
        progress: report on stderr.

    Raises:
        KwsError: no clips, a clip that cannot be read, no library, or nothing to run it on.
    """
    if clips is None and stream is None:
        raise KwsError("There is nothing to compare on. Received: neither clips nor a stream")
    results = {
        core: CoreResult(core=core.name, title=core.title, skipped=missing_tools(core))
        for core in cores_named(cores)
    }
    _require_one(results.values())
    twin = model if isinstance(model, Twin) else Twin(Network(model))
    rate = twin.card.front_end.sample_rate_hz
    listed = _listed(clips, limit) if clips is not None else []
    long_pcm = read_audio(stream, rate) if stream is not None else None
    gathered = _Gathered()
    with (
        tempfile.TemporaryDirectory(prefix="kws-verify-") as room,
        ThreadPoolExecutor(usable_cores()) as pool,
    ):
        bench = _Bench(results, library, Path(room), pool, optimise=optimise, flags=flags)
        total = (len(listed) + (long_pcm is not None)) * len(bench.programs)
        with Progress(total, "comparing", unit="clips", shown=progress) as bar:

            def on_all_cores(batch: Sequence[Clip]) -> dict[Core, Sequence[Heard]]:
                jobs = bench.start(batch)
                expected = [twin.hear(clip.pcm) for clip in batch]  # while the cores are at work
                if content is not None:
                    gathered.samples += expected
                found = {}
                for core, heard in bench.finish(jobs):
                    compare(bench.results[core], batch, expected, heard)
                    found[core] = heard
                    bar.advance(len(batch))
                return found

            for first in range(0, len(listed), _BATCH):
                part = listed[first : first + _BATCH]
                batch = [
                    Clip(name=name, pcm=padded_clip(twin.card, read_audio(path, rate)))
                    for name, path, _ in part
                ]
                gathered.words += [word for _, _, word in part]
                for core, heard in on_all_cores(batch).items():
                    gathered.answers.setdefault(core, []).extend(_answer(twin, h) for h in heard)
                for clip in batch:
                    gathered.runner.append(clip_posteriors(twin.network, clip.pcm[np.newaxis])[0])
            if long_pcm is not None:
                for heard in on_all_cores([Clip(name=str(stream), pcm=long_pcm)]).values():
                    gathered.events = heard[0].events
    verification = _summed_up(twin, bench.results, gathered, long_pcm)
    if content is None:
        return verification
    return replace(verification, other_kernels=_other_kernels(content, twin, gathered.samples))


@dataclass(kw_only=True)
class _Gathered:
    """What is kept of all clips for the figures about them."""

    words: list[str] = field(default_factory=list)
    """What is said in each clip [clips]."""
    runner: list[NDArray[np.float32]] = field(default_factory=list)
    """The runner's answers [clips]."""
    answers: dict[Core, list[NDArray[np.float32]]] = field(default_factory=dict)
    """The library's, of each core."""
    events: tuple[FirmwareEvent, ...] = ()
    """What the library finds in the stream."""
    samples: list[Heard] = field(default_factory=list)
    """Input for other kernels."""


class _Bench:
    """The library, built for all cores whose tools there are and whose boards can hold it."""

    def __init__(
        self,
        results: dict[Core, CoreResult],
        library: Path,
        room: Path,
        pool: ThreadPoolExecutor,
        *,
        optimise: str,
        flags: Sequence[str],
    ) -> None:
        self._pool = pool
        self.results = results
        jobs = {
            core: pool.submit(
                build, core, library, "verify", room / core.name, optimise=optimise, flags=flags
            )
            for core, result in results.items()
            if not result.skipped
        }
        self.programs: dict[Core, Program] = {}
        for core, job in jobs.items():
            try:
                program = self.programs[core] = job.result()
            except DoesNotFitError as error:
                results[core].skipped = str(error)
            else:
                results[core].warnings = program.warnings
        _require_one(results.values())

    def start(self, clips: Sequence[Clip]) -> dict[Core, Future[bytes]]:
        """Run clips on all cores; one that has failed before is left alone."""
        payload = pack_clips([clip.pcm for clip in clips])
        return {
            core: self._pool.submit(run, program, payload)
            for core, program in self.programs.items()
            if not self.results[core].failed
        }

    def finish(self, jobs: Mapping[Core, Future[bytes]]) -> Iterator[tuple[Core, Sequence[Heard]]]:
        """Yield what the cores computed, and note down which failed."""
        for core, job in jobs.items():
            try:
                records = unpack_records(job.result())
            except KwsError as error:
                self.results[core].failed = str(error)
                continue
            self.results[core].state_bytes = records.state_bytes
            yield core, records.clips


def _require_one(results: Collection[CoreResult]) -> None:
    if all(result.skipped for result in results):
        why = "; ".join(f"{result.title}: {result.skipped}" for result in results)
        raise KwsError(f"There is nothing to run the library on. Received: {why}")


def compare(
    result: CoreResult, clips: Sequence[Clip], expected: Sequence[Heard], heard: Sequence[Heard]
) -> None:
    """Add to a core's result how its values differ from the expected ones."""
    for clip, want, have in zip(clips, expected, heard, strict=True):
        result.clips += 1
        result.frames += len(want.mfcc_q16)
        result.steps += len(want.posteriors)
        result.events += len(want.events)
        before = result.differing["features"]
        for value, what, wanted, got in (
            ("features", "frame", want.mfcc_q16, have.mfcc_q16),
            ("features", "int8 frame", want.inputs, have.inputs),
            ("posteriors", "step", want.posteriors, have.posteriors),
        ):
            if what == "int8 frame" and result.differing["features"] > before:
                continue  # these frames count already
            if wanted.shape != got.shape:
                result.differing[value] += abs(len(wanted) - len(got))
                note = f"{len(got)} of {what}, Python has {len(wanted)}"
            elif (wrong := (wanted != got).any(axis=1)).any():
                result.differing[value] += int(wrong.sum())
                row = int(wrong.argmax())
                column = int((wanted[row] != got[row]).argmax())
                note = (
                    f"{what} {row}, value {column}: C has {got[row, column]}, "
                    f"Python {wanted[row, column]}"
                )
            else:
                continue
            result.first_difference = result.first_difference or f"{clip.name}, {note}"
        if want.events != have.events:
            pairs = [
                (i, a, b)
                for i in range(max(len(want.events), len(have.events)))
                if (a := _nth(want.events, i)) != (b := _nth(have.events, i))
            ]
            result.differing["events"] += len(pairs)
            i, a, b = pairs[0]
            note = f"event {i}: C has {b}, Python {a}"
            result.first_difference = result.first_difference or f"{clip.name}, {note}"


def _nth(events: Sequence[FirmwareEvent], i: int) -> FirmwareEvent | None:
    return events[i] if i < len(events) else None


def _listed(folder: Path, limit: int | None) -> list[tuple[str, Path, str]]:
    """Return name, path and word of the clips of a folder, evenly spread if there are too many."""
    index = scan(folder, cached=False)
    if not len(index):
        raise KwsError(f"There is no clip to compare on. Received: {folder}, with noise alone")
    n = len(index) if limit is None else min(limit, len(index))
    return [
        (index.path(i), index.root / index.path(i), index.word(i))
        for i in (k * len(index) // n for k in range(n))
    ]


def _answer(twin: Twin, heard: Heard) -> NDArray[np.float32]:
    """Return what the library answers to a clip: posteriors [labels]."""
    steps = heard.posteriors.astype(np.float32) + 128
    return answer_of(twin.card, steps / np.float32(256))


def _summed_up(
    twin: Twin,
    results: dict[Core, CoreResult],
    gathered: _Gathered,
    long_pcm: NDArray[np.int16] | None,
) -> Verification:
    card, words = twin.card, gathered.words
    rate = card.front_end.sample_rate_hz
    labels = label_set(card)
    threshold = card.decision.thresholds[card.keywords[0]] if card.head == "sigmoid" else 0.5
    # As `kws evaluate` does, clips of words for which a model has no label at all are left out.
    with_label = [i for i, word in enumerate(words) if _has_label(labels, word)]

    def accuracy(posteriors: Sequence[NDArray[np.float32]]) -> float | None:
        if not with_label or len(posteriors) != len(words):
            return None
        return evaluate_posteriors(
            np.stack([posteriors[i] for i in with_label]),
            [words[i] for i in with_label],
            labels,
            threshold=threshold,
        ).accuracy

    def heard(posteriors: NDArray[np.float32]) -> int:
        return int(posteriors[0] >= threshold if card.head == "sigmoid" else posteriors.argmax())

    for core, posteriors in gathered.answers.items():
        results[core].accuracy = accuracy(posteriors)
    complete = next((found for found in gathered.answers.values() if len(found) == len(words)), [])
    runner_events: list[tuple[str, int]] = []
    if long_pcm is not None:
        spotter = Spotter(twin.network, thresholds=card.decision.thresholds)
        found = spotter.feed(long_pcm)
        runner_events = [(event.keyword, round(event.time_s * rate)) for event in found]
    step = card.stride_frames * card.front_end.hop_length
    in_c = [(card.labels[event.keyword], event.time_samples) for event in gathered.events]
    alike = sum(
        any(word == other and abs(time - when) <= step for other, when in in_c)
        for word, time in runner_events
    )
    return Verification(
        model=card.name,
        runtime=which_runtime(),
        cores=tuple(results.values()),
        clips=len(words),
        stream_s=len(long_pcm) / rate if long_pcm is not None else 0.0,
        runner_accuracy=accuracy(gathered.runner),
        answers_changed=sum(
            heard(a) != heard(b) for a, b in zip(complete, gathered.runner, strict=False)
        ),
        runner_events=len(runner_events),
        events_alike=alike,
        other_kernels=None,
    )


def _other_kernels(content: bytes, twin: Twin, samples: Sequence[Heard]) -> RuntimeReport:
    """Run every n-th clip's steps on all kernels that are installed."""
    card = twin.card
    every = max(1, sum(len(heard.posteriors) for heard in samples) // _OTHERS_STEPS)
    windows, resets = [], []
    for heard in samples[::every]:
        for k in range(min(len(heard.posteriors), _OTHERS_STEPS)):
            first = k * card.stride_frames
            windows.append(heard.inputs[first : first + card.receptive_field_frames])
            resets.append(k == 0)
    names = [name for name in default_runtimes() if name in ("litert", "tflm")]
    return check_runtimes(content, np.stack(windows), np.array(resets), names)


def _has_label(labels: LabelSet, word: str) -> bool:
    return word in labels.labels or labels.head == "sigmoid" or UNKNOWN in labels.labels


def _share(total: int, differing: int) -> str:
    return f"{differing:,} differ" if differing else f"all {total:,} equal"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.2f} %"
