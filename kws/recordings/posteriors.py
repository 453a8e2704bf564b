"""Posteriors of a network for long recordings, step by step, as fast as this computer allows.

They are those of `kws.spotter.Spotter`, bit for bit. A recording is never split between processes:
the network carries its state from step to step, and a part started elsewhere, even with minutes to
warm up, ends in another state (the int8 LSTM never loses small differences). What runs in parallel
is the front end beside the network, and several recordings.
"""

from __future__ import annotations

import json
import math
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from kws.audio.files import audio_seconds, iter_audio
from kws.errors import KwsError
from kws.frontend import FrontEnd
from kws.model_file import ModelCard
from kws.network import Network, NetworkStream
from kws.recordings.tflm_network import open_network
from kws.spotter import TAIL_SAMPLES
from kws.system.processes import (
    receive,
    send_task,
    share_out,
    take_stdout,
    usable_cores,
    wait_for,
)
from kws.system.progress import Progress

BLOCK_S = 4
"""Length of the blocks that recordings are read in, in s."""
_REPORT_S = 60
_AHEAD = 8
"""How many blocks the front end may be ahead of the network."""
_WORKER = "from kws.recordings.posteriors import _serve; _serve()"
_HINT = "Try it with one process: --workers 1"

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordingPosteriors:
    """A recording and a network's posteriors for it."""

    audio: str
    """The file."""
    seconds: float
    """Its length, in s."""
    posteriors: npt.NDArray[np.float32]
    """Posteriors of each step [steps, labels], including half a second of silence after the
    recording; 4 MB for an hour and 12 labels."""

    def step_times_s(self, card: ModelCard) -> npt.NDArray[np.float64]:
        """Return the end of each step's audio, in s [steps]."""
        return card.step_times_s(len(self.posteriors))


def run_recordings(
    model: str | Path,
    recordings: Sequence[str | Path],
    *,
    workers: int = 1,
    runtime: str = "litert",
    progress: bool = False,
) -> list[RecordingPosteriors]:
    """Run a model over recordings that must all be readable; see `run_each`.

    Returns:
        The posteriors of each, in the order given.

    Raises:
        KwsError: as `run_each`, or a recording cannot be read.
    """
    results: dict[int, RecordingPosteriors] = {}
    running = run_each(model, recordings, workers=workers, runtime=runtime, progress=progress)
    with closing(running):
        for i, result in running:
            if isinstance(result, KwsError):
                raise result
            results[i] = result
    return [results[i] for i in range(len(recordings))]


def run_each(
    model: str | Path,
    recordings: Sequence[str | Path],
    *,
    workers: int = 1,
    runtime: str = "litert",
    progress: bool = False,
) -> Generator[tuple[int, RecordingPosteriors | KwsError], None, None]:
    """Run a model over recordings.

    Args:
        model: a model file in stream form, or the name of a pretrained one.
        recordings: sound files of any format that `kws.audio.files` reads.
        workers: processes to use, at most one for each recording.
        runtime: one of `kws.recordings.tflm_network.RUNTIMES`.
        progress: report on stderr.

    Yields:
        The position of a recording, and its posteriors or why it cannot be read, in the order in
        which they are finished.

    Raises:
        KwsError: no such model or one in clip form, or a worker process died.
    """
    network = open_network(model, runtime)
    network.card.require_stream_form()
    paths = [str(path) for path in recordings]
    lengths = [audio_seconds(path) for path in paths]
    total = None if None in lengths else round(sum(length or 0.0 for length in lengths))
    workers = min(workers, len(paths))
    with Progress(total, "listening", unit="s of audio", shown=progress) as bar:
        if workers > 1:
            # The longest first, so that none is left running alone at the end.
            order = sorted(range(len(paths)), key=lambda i: -(lengths[i] or 0.0))
            n_labels = len(network.card.labels)
            work = share_out(
                order,
                lambda process, i: _ask(process, paths[i], n_labels, bar.advance),
                workers=workers,
                code=_WORKER,
                arguments=[str(model), runtime],
            )
        else:
            work = _run_here(network, paths, bar.advance)
        with closing(work):
            yield from work


def _run_here(
    network: Network, paths: Sequence[str], advance: Callable[[int], None]
) -> Generator[tuple[int, RecordingPosteriors | KwsError], None, None]:
    for i, path in enumerate(paths):
        yield i, _result_or_fault(network, path, advance, ahead=usable_cores() > 1)


def _result_or_fault(
    network: Network, path: str, advance: Callable[[int], None], *, ahead: bool
) -> RecordingPosteriors | KwsError:
    """As `_run_one`, but return the fault of a recording that cannot be read."""
    try:
        return _run_one(network, path, advance, ahead=ahead)
    except KwsError as fault:
        return fault


def _run_one(
    network: Network, path: str, advance: Callable[[int], None], *, ahead: bool
) -> RecordingPosteriors:
    """Run the network over one recording.

    Args:
        network: is reset first.
        path: the recording.
        advance: called with the whole seconds of audio that were processed since the last call.
        ahead: let a thread read and transform while the network runs.
    """
    rate = network.card.front_end.sample_rate_hz
    stream = NetworkStream(network)
    stream.reset()
    posteriors = []
    samples = 0
    blocks = _features(network, path)
    for n, prepared in _ahead(blocks) if ahead else blocks:
        posteriors.append(stream.feed(prepared))
        advance((samples + n) // rate - samples // rate)
        samples += n
    return RecordingPosteriors(
        audio=path, seconds=samples / rate, posteriors=np.concatenate(posteriors)
    )


def _features(network: Network, path: str) -> Iterator[tuple[int, npt.NDArray[np.generic]]]:
    """Yield the number of samples in each block, and the frames it completes, prepared.

    Silence follows the recording, as in `kws run`, so that a word at its very end is detected.
    """
    config = network.card.front_end
    front_end = FrontEnd(config)
    for block in iter_audio(path, BLOCK_S * config.sample_rate_hz, config.sample_rate_hz):
        yield len(block), network.prepare(front_end.feed(block))
    yield 0, network.prepare(front_end.feed(np.zeros(TAIL_SAMPLES, np.int16)))


def _ahead(items: Iterable[_T]) -> Iterator[_T]:
    """Yield the items, which a thread produces a few ahead."""
    ready: queue.Queue[tuple[_T | None, BaseException | None]] = queue.Queue(_AHEAD)
    stopped = threading.Event()

    def put(item: _T | None, error: BaseException | None = None) -> None:
        while not stopped.is_set():
            with suppress(queue.Full):
                ready.put((item, error), timeout=0.1)
                return

    def work() -> None:
        try:
            for item in items:
                put(item)
                if stopped.is_set():
                    return
            put(None)
        except BaseException as error:
            put(None, error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            item, error = wait_for(ready)
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        stopped.set()
        thread.join()


# ---- several recordings, several processes


def _ask(
    process: subprocess.Popen[bytes], path: str, n_labels: int, advance: Callable[[int], None]
) -> RecordingPosteriors | KwsError:
    """Give a worker a recording and read its answer: lines of JSON, then the posteriors."""
    send_task(process, path)
    while True:
        answer = json.loads(receive(process, hint=_HINT))
        if "fault" in answer:
            return KwsError(answer["fault"])
        if "steps" in answer:
            break
        advance(answer["advanced"])
    shape = (answer["steps"], n_labels)
    body = receive(process, size=4 * math.prod(shape), hint=_HINT)
    posteriors = np.frombuffer(body, np.float32).reshape(shape)
    return RecordingPosteriors(audio=path, seconds=answer["seconds"], posteriors=posteriors)


def _serve() -> None:
    """The worker's side of `_ask`."""
    answers = take_stdout()
    network = open_network(*sys.argv[1:])
    held = 0

    def report(answer: dict[str, object]) -> None:
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()

    def advance(seconds: int) -> None:
        nonlocal held
        held += seconds
        if held >= _REPORT_S:
            report({"advanced": held})
            held = 0

    for line in sys.stdin:
        with suppress(BrokenPipeError):  # The parent has gone, and stdin will end.
            result = _result_or_fault(network, json.loads(line), advance, ahead=False)
            if isinstance(result, KwsError):
                report({"fault": str(result)})
                continue
            report({"advanced": held})
            held = 0
            report({"steps": len(result.posteriors), "seconds": result.seconds})
            answers.write(result.posteriors.tobytes())
            answers.flush()
