"""Checks that the C library computes what Python computes, bit for bit.

The library is built for this computer and, where the tools exist, for six kinds of Cortex-M, and
runs there (under QEMU) on real clips. Compared value by value are:

- the features, with the NumPy reference of the front end (`fixed_front_end`);
- the posteriors, with `kws.network.Network` (LiteRT's built-in kernels without delegates) on the
  reference's int8 features;
- the events, with `kws.decide.Decider` on these posteriors.

The Python runner has a floating-point front end, whose features differ in the last bits and
occasionally change a posterior by a step or two. The result says how many clips it answers
differently.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from firmware_export.boards.build import (
    DoesNotFitError,
    Program,
    View,
    build,
    missing_tools,
    run,
)
from firmware_export.boards.cores import Core, cores_named
from firmware_export.differences import Clip, compare
from firmware_export.reference_model import ReferenceModel
from firmware_export.verification import CoreResult, Verification
from firmware_export.verification_records import (
    ClipTrace,
    FirmwareEvent,
    pack_clips,
    unpack_records,
)
from kws.audio.files import read_audio
from kws.data.labels import LabelSet
from kws.data.scan import scan
from kws.errors import KwsError
from kws.evaluate.clips import evaluate_posteriors, label_set
from kws.evaluate.posteriors import answer_of, clip_posteriors, padded_clip
from kws.export.runtimes import RuntimeReport, check_runtimes, default_runtimes
from kws.labels import UNKNOWN
from kws.model_file import ModelCard
from kws.network import Network
from kws.runtime import which_runtime
from kws.system.processes import thread_pool
from kws.system.progress import Progress
from kws.wording import grouped_reasons

_BATCH = 64
"""Clips for one run of the program: enough that its start-up does not matter, few in memory."""
_OTHERS_STEPS = 3000
"""Steps that other kernels are compared on, roughly: so many of the clips and of the stream."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AudioToCompare:
    """What the library and Python are compared on."""

    clips: list[tuple[str, Path, str]]
    """Name, path and word of each clip."""
    stream: Clip | None
    """A long recording; None without one."""


def read_audio_to_compare(
    clips: Path | None, stream: Path | None, *, limit: int | None, sample_rate_hz: int
) -> AudioToCompare:
    """Find the clips, and read the stream.

    Args:
        clips: a folder of ``<label>/<clip>``.
        stream: a long recording.
        limit: at most this many clips, evenly spread over the folder.
        sample_rate_hz: of the model.

    Raises:
        KwsError: neither clips nor a stream, a folder without clips, or an unreadable stream.
    """
    if clips is None and stream is None:
        raise KwsError("There is nothing to compare on. Received: neither clips nor a stream")
    return AudioToCompare(
        clips=_listed(clips, limit) if clips is not None else [],
        stream=None
        if stream is None
        else Clip(name=str(stream), pcm=read_audio(stream, sample_rate_hz)),
    )


def cores_to_compare(names: Sequence[str] | None) -> dict[Core, CoreResult]:
    """Return an empty result for each core, with what is missing to run anything on it.

    Raises:
        KwsError: an unknown name, or no core with all its tools.
    """
    results = {
        core: CoreResult(core=core.name, title=core.title, skipped=missing_tools(core))
        for core in cores_named(names)
    }
    _require_one(results.values())
    return results


def verify(
    model: str | Path | ReferenceModel,
    library: Path,
    clips: Path | None = None,
    *,
    stream: Path | None = None,
    limit: int | None = None,
    view: View = "",
    cores: Sequence[str] | None = None,
    optimise: str = "-O2",
    flags: Sequence[str] = (),
    content: bytes | None = None,
    progress: bool = False,
) -> Verification:
    """Read audio, run a generated library on it and compare it with Python.

    Args:
        model: the model that the library was made from, or its reference model, which may have
            other thresholds.
        library: the generated folder.
        clips: a folder of ``<label>/<clip>``.
        stream: a long recording, processed from beginning to end.
        limit: at most this many clips, evenly spread over the folder.
        view, cores, optimise, flags, content, progress: as for `verify_on`.

    Raises:
        KwsError: no clips, an unreadable clip or stream, no library, or no core to run it on.
    """
    reference = model if isinstance(model, ReferenceModel) else ReferenceModel(Network(model))
    cores_to_compare(cores)  # raises before anything is read
    rate = reference.card.front_end.sample_rate_hz
    return verify_on(
        read_audio_to_compare(clips, stream, limit=limit, sample_rate_hz=rate),
        reference,
        library,
        view=view,
        cores=cores,
        optimise=optimise,
        flags=flags,
        content=content,
        progress=progress,
    )


def verify_on(
    audio: AudioToCompare,
    reference: ReferenceModel,
    library: Path,
    *,
    view: View = "",
    cores: Sequence[str] | None = None,
    optimise: str = "-O2",
    flags: Sequence[str] = (),
    content: bytes | None = None,
    progress: bool = False,
) -> Verification:
    """Run a generated library on real audio and compare it with Python.

    Args:
        audio: what to compare on.
        reference: the reference model of the library.
        library: the generated folder.
        view: which model of a library of two is compared; `reference` is that model's.
        cores: names from `boards.cores.CORES`; all by default. A core whose tools are missing or
            whose board is too small is skipped, and the result says so.
        optimise: optimisation level of the library.
        flags: additional flags for the compilers, for example sanitizers.
        content: the model file. If given, LiteRT's other kernels and TFLM (where installed) also
            run on a few thousand steps of the same input, and the result says how far they deviate
            from LiteRT's built-in kernels.
        progress: report on stderr.

    Raises:
        KwsError: an unreadable clip, no library, or no core to run it on.
    """
    results, stream = cores_to_compare(cores), audio.stream
    with tempfile.TemporaryDirectory(prefix="kws-verify-") as room, thread_pool() as pool:
        bench = _Bench(
            results, library, Path(room), pool, view=view, optimise=optimise, flags=flags
        )
        total = (len(audio.clips) + (stream is not None)) * len(bench.programs)
        with Progress(total, "comparing", unit="clips", shown=progress) as bar:
            answers = _compare_clips(bench, reference, audio.clips, bar)
            events = _compare_stream(bench, reference, stream, bar)
    for core, posteriors in answers.library.items():
        results[core].accuracy = _accuracy(reference.card, answers.words, posteriors)
    complete = (a for a in answers.library.values() if len(a) == len(answers.words))
    return Verification(
        model=reference.card.name,
        runtime=which_runtime(),
        cores=tuple(results.values()),
        clips=len(answers.words),
        stream_s=0.0
        if stream is None
        else len(stream.pcm) / reference.card.front_end.sample_rate_hz,
        runner_accuracy=_accuracy(reference.card, answers.words, answers.runner),
        answers_changed=_changed(reference.card, next(complete, []), answers.runner),
        runner_events=len(events.runner),
        events_alike=_alike(reference.card, events),
        other_kernels=None
        if content is None
        else _other_kernels(content, reference, answers, events),
    )


class _Bench:
    """The library, built for all cores that have their tools and enough memory."""

    def __init__(
        self,
        results: dict[Core, CoreResult],
        library: Path,
        room: Path,
        pool: ThreadPoolExecutor,
        *,
        view: View,
        optimise: str,
        flags: Sequence[str],
    ) -> None:
        self._pool = pool
        self.results = results
        jobs = {
            core: pool.submit(
                build,
                core,
                library,
                "verify",
                room / core.name,
                view=view,
                optimise=optimise,
                flags=flags,
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

    def compare(
        self, reference: ReferenceModel, clips: Sequence[Clip], bar: Progress
    ) -> tuple[list[ClipTrace], dict[Core, Sequence[ClipTrace]]]:
        """Run clips on all cores that have not failed, and record how their values differ.

        Returns:
            The expected traces, and those of each core that ran to the end.
        """
        payload = pack_clips([clip.pcm for clip in clips])
        jobs = {
            core: self._pool.submit(run, program, payload)
            for core, program in self.programs.items()
            if not self.results[core].failed
        }
        expected = [reference.trace(clip.pcm) for clip in clips]  # while the cores are busy
        computed: dict[Core, Sequence[ClipTrace]] = {}
        for core, job in jobs.items():
            try:
                records = unpack_records(job.result())
            except KwsError as error:
                self.results[core].failed = str(error)
                continue
            self.results[core].state_bytes = records.state_bytes
            compare(self.results[core], clips, expected, records.clips)
            computed[core] = records.clips
            bar.advance(len(clips))
        return expected, computed


def _require_one(results: Collection[CoreResult]) -> None:
    if all(result.skipped for result in results):
        why = "; ".join(grouped_reasons({result.title: result.skipped for result in results}))
        raise KwsError(f"There is no core to run the library on. Received: {why}")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Answers:
    """Answers to the clips."""

    words: list[str]
    """The word in each clip [clips]."""
    runner: list[NDArray[np.float32]]
    """Posteriors of the runner [clips]."""
    library: dict[Core, list[NDArray[np.float32]]]
    """Posteriors of the library on each core [clips]."""
    traces: list[ClipTrace]
    """Traces of the reference model [clips]."""


def _compare_clips(
    bench: _Bench,
    reference: ReferenceModel,
    listed: Sequence[tuple[str, Path, str]],
    bar: Progress,
) -> _Answers:
    card = reference.card
    runner: list[NDArray[np.float32]] = []
    library: dict[Core, list[NDArray[np.float32]]] = {}
    traces: list[ClipTrace] = []
    for first in range(0, len(listed), _BATCH):
        batch = [
            Clip(name=name, pcm=padded_clip(card, read_audio(path, card.front_end.sample_rate_hz)))
            for name, path, _ in listed[first : first + _BATCH]
        ]
        expected, computed = bench.compare(reference, batch, bar)
        traces += expected
        for core, found in computed.items():
            library.setdefault(core, []).extend(_answer(card, trace) for trace in found)
        for clip in batch:
            runner.append(clip_posteriors(reference.network, clip.pcm[np.newaxis])[0])
    words = [word for _, _, word in listed]
    return _Answers(words=words, runner=runner, library=library, traces=traces)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Events:
    """Events in the stream."""

    runner: list[tuple[str, int]]
    """Keyword and time in samples of the runner's events."""
    library: tuple[FirmwareEvent, ...]
    """The library's events."""
    traces: list[ClipTrace]
    """Trace of the reference model; empty without a stream."""


def _compare_stream(
    bench: _Bench,
    reference: ReferenceModel,
    stream: Clip | None,
    bar: Progress,
) -> _Events:
    if stream is None:
        return _Events(runner=[], library=(), traces=[])
    card = reference.card
    expected, computed = bench.compare(reference, [stream], bar)
    detected = reference.runner(stream.pcm)
    return _Events(
        runner=[(e.keyword, round(e.time_s * card.front_end.sample_rate_hz)) for e in detected],
        library=next((traces[0].events for traces in reversed(computed.values())), ()),
        traces=expected,
    )


def _listed(folder: Path, limit: int | None) -> list[tuple[str, Path, str]]:
    """Return name, path and word of a folder's clips, evenly thinned out to the limit."""
    index = scan(folder, cached=False)
    if not len(index):
        raise KwsError(f"There is no clip to compare on. Received: {folder}, which has only noise")
    n = len(index) if limit is None else min(limit, len(index))
    return [
        (index.path(i), index.root / index.path(i), index.word(i))
        for i in (k * len(index) // n for k in range(n))
    ]


def _answer(card: ModelCard, trace: ClipTrace) -> NDArray[np.float32]:
    """Return the library's answer to a clip: posteriors [labels]."""
    steps = trace.posteriors.astype(np.float32) + 128
    return answer_of(card, steps / np.float32(256))


def _threshold(card: ModelCard) -> float:
    return card.decision.thresholds[card.keywords[0]] if card.head == "sigmoid" else 0.5


def _accuracy(
    card: ModelCard, words: Sequence[str], posteriors: Sequence[NDArray[np.float32]]
) -> float | None:
    """Return the share of correct answers; None if not all clips were answered."""
    labels = label_set(card)
    # As in `kws evaluate`, clips of words that the model has no label for are left out.
    kept = [i for i, word in enumerate(words) if _has_label(labels, word)]
    if not kept or len(posteriors) != len(words):
        return None
    return evaluate_posteriors(
        np.stack([posteriors[i] for i in kept]),
        [words[i] for i in kept],
        labels,
        threshold=_threshold(card),
    ).accuracy


def _changed(
    card: ModelCard,
    library: Sequence[NDArray[np.float32]],
    runner: Sequence[NDArray[np.float32]],
) -> int:
    """Return how many clips the library and the runner answer differently."""

    def label(posteriors: NDArray[np.float32]) -> int:
        if card.head == "sigmoid":
            return int(posteriors[0] >= _threshold(card))
        return int(posteriors.argmax())

    return sum(label(a) != label(b) for a, b in zip(library, runner, strict=False))


def _alike(card: ModelCard, events: _Events) -> int:
    """Return how many of the runner's events the library has too, at most one step apart."""
    step = card.stride_frames * card.front_end.hop_length
    in_c = [(card.labels[event.keyword], event.time_samples) for event in events.library]
    return sum(
        any(word == other and abs(time - when) <= step for other, when in in_c)
        for word, time in events.runner
    )


def _other_kernels(
    content: bytes, reference: ReferenceModel, answers: _Answers, events: _Events
) -> RuntimeReport:
    """Run every n-th clip and the beginning of the stream on all kernels that are installed."""
    card = reference.card
    every = max(1, sum(len(trace.posteriors) for trace in answers.traces) // _OTHERS_STEPS)
    windows, resets = [], []
    for trace in (*answers.traces[::every], *events.traces):
        for k in range(min(len(trace.posteriors), _OTHERS_STEPS)):
            first = k * card.stride_frames
            windows.append(trace.inputs[first : first + card.receptive_field_frames])
            resets.append(k == 0)
    names = [name for name in default_runtimes() if name in ("litert", "tflm")]
    return check_runtimes(content, np.stack(windows), np.array(resets), names)


def _has_label(labels: LabelSet, word: str) -> bool:
    return word in labels.labels or labels.head == "sigmoid" or UNKNOWN in labels.labels
