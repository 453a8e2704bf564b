"""What a network answers to long recordings, step by step, as fast as this computer allows.

The answers are those of `kws.spotter.Spotter`, bit for bit. A network's state goes from each step
to the next, and a stretch begun elsewhere, even with minutes to warm up, ends in another state (the
int8 LSTM keeps small differences for good), so one recording is never cut up. What runs at the same
time instead: the front end beside the network for one recording, and several recordings.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
import numpy.typing as npt

from kws.audio.files import audio_seconds, iter_audio
from kws.errors import KwsError
from kws.frontend import FrontEnd
from kws.model_file import ModelCard
from kws.network import Network
from kws.recordings.micro import open_network
from kws.spotter import TAIL_SAMPLES
from kws.system.processes import share_out, usable_cores, wait_for
from kws.system.progress import Progress

BLOCK_S = 4
"""Recordings are read in blocks of so many seconds."""
_REPORT_S = 60
_AHEAD = 8
"""Blocks that the front end may be ahead of the network."""
_WORKER = "from kws.recordings.hear import _serve; _serve()"

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, eq=False)
class Heard:
    """A recording and all that a network answered to it."""

    audio: str
    """The file."""
    seconds: float
    """Its length, in s."""
    posteriors: npt.NDArray[np.float32]
    """Posteriors of each step [steps, labels], half a second of silence behind the recording
    included; for an hour and 12 labels 4 MB."""

    def step_times_s(self, card: ModelCard) -> npt.NDArray[np.float64]:
        """Return for each step the end of the audio that it rests on, in s [steps]."""
        rate, hop = card.front_end.sample_rate_hz, card.front_end.hop_length
        last = np.arange(len(self.posteriors)) * card.stride_frames + card.receptive_field_frames
        return ((last - 1) * hop + card.front_end.frame_length) / rate


def hear(
    model: str | Path,
    recordings: Sequence[str | Path],
    *,
    workers: int = 1,
    runtime: str = "litert",
    progress: bool = False,
) -> list[Heard]:
    """Run a model over recordings that can all be read; see `hear_each`.

    Returns:
        What was heard in each, in the order given.

    Raises:
        KwsError: as `hear_each`, or a recording cannot be read.
    """
    found: dict[int, Heard] = {}
    hearing = hear_each(model, recordings, workers=workers, runtime=runtime, progress=progress)
    with closing(hearing):
        for i, heard in hearing:
            if isinstance(heard, KwsError):
                raise heard
            found[i] = heard
    return [found[i] for i in range(len(recordings))]


def hear_each(
    model: str | Path,
    recordings: Sequence[str | Path],
    *,
    workers: int = 1,
    runtime: str = "litert",
    progress: bool = False,
) -> Generator[tuple[int, Heard | KwsError], None, None]:
    """Run a model over recordings, each from its beginning to its end.

    Args:
        model: a model file in stream form, or the name of a pretrained one.
        recordings: sound files of any format that `kws.audio.files` reads.
        workers: processes to use, as far as there are recordings for them.
        runtime: one of `kws.recordings.micro.RUNTIMES`.
        progress: report on stderr.

    Yields:
        The position of a recording, and what was heard or why it cannot be read, in the order in
        which they are done.

    Raises:
        KwsError: no such model or one in clip form, or a worker process died.
    """
    network = open_network(model, runtime)
    network.require_stream_form()
    paths = [str(path) for path in recordings]
    lengths = [audio_seconds(path) for path in paths]
    total = None if None in lengths else round(sum(length or 0.0 for length in lengths))
    workers = min(workers, len(paths))
    with Progress(total, "listening", unit="s of audio", shown=progress) as bar:
        if workers > 1:
            # The longest first, so that no process is left with one while the others are done.
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
            work = _hear_here(network, paths, bar.advance)
        with closing(work):
            yield from work


def _hear_here(
    network: Network, paths: Sequence[str], advance: Callable[[int], None]
) -> Generator[tuple[int, Heard | KwsError], None, None]:
    for i, path in enumerate(paths):
        yield i, _heard_or_fault(network, path, advance, ahead=usable_cores() > 1)


def _heard_or_fault(
    network: Network, path: str, advance: Callable[[int], None], *, ahead: bool
) -> Heard | KwsError:
    """As `_hear_one`, but return what is wrong with a recording that cannot be read."""
    try:
        return _hear_one(network, path, advance, ahead=ahead)
    except KwsError as fault:
        return fault


def _hear_one(network: Network, path: str, advance: Callable[[int], None], *, ahead: bool) -> Heard:
    """Run the network over one recording.

    Args:
        network: is reset first.
        path: the recording.
        advance: is told the whole seconds of audio that are done.
        ahead: let a thread read and transform while the network works.
    """
    card = network.card
    rate = card.front_end.sample_rate_hz
    width, stride = card.receptive_field_frames, card.stride_frames
    network.reset()
    waiting = network.prepare(np.zeros((0, card.front_end.n_features), np.float32))
    answers = []
    samples = 0
    blocks = _features(network, path)
    for n, new in _ahead(blocks) if ahead else blocks:
        frames = np.concatenate([waiting, new])
        steps = card.n_steps(len(frames))
        rows = np.empty((steps, len(card.labels)), np.float32)
        for k in range(steps):
            rows[k] = network.invoke(frames[k * stride : k * stride + width])[0]
        waiting = frames[steps * stride :]
        answers.append(rows)
        advance((samples + n) // rate - samples // rate)
        samples += n
    return Heard(audio=path, seconds=samples / rate, posteriors=np.concatenate(answers))


def _features(network: Network, path: str) -> Iterator[tuple[int, npt.NDArray[np.generic]]]:
    """Yield the number of samples in each block, and the frames it completes, prepared.

    Silence follows the recording, as in `kws run`, so that a word at its very end is decided on.
    """
    config = network.card.front_end
    front_end = FrontEnd(config)
    for block in iter_audio(path, BLOCK_S * config.sample_rate_hz, config.sample_rate_hz):
        yield len(block), network.prepare(front_end.feed(block))
    yield 0, network.prepare(front_end.feed(np.zeros(TAIL_SAMPLES, np.int16)))


def _ahead(items: Iterable[_T]) -> Iterator[_T]:
    """Yield the items, made by a thread that is a few ahead."""
    made: queue.Queue[tuple[_T | None, BaseException | None]] = queue.Queue(_AHEAD)
    stopped = threading.Event()

    def put(item: _T | None, error: BaseException | None = None) -> None:
        while not stopped.is_set():
            with suppress(queue.Full):
                made.put((item, error), timeout=0.1)
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
            item, error = wait_for(made)
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
) -> Heard | KwsError:
    """Give a worker a recording and read its answer: lines of JSON, then the posteriors."""
    assert process.stdin is not None and process.stdout is not None
    with suppress(BrokenPipeError):  # A worker that died is seen below.
        process.stdin.write(json.dumps(path).encode() + b"\n")
        process.stdin.flush()
    while (line := process.stdout.readline()).endswith(b"\n"):
        answer = json.loads(line)
        if "fault" in answer:
            return KwsError(answer["fault"])
        if "advanced" in answer:
            advance(answer["advanced"])
            continue
        steps = answer["steps"]
        body = process.stdout.read(4 * steps * n_labels)
        if len(body) < 4 * steps * n_labels:
            break
        posteriors = np.frombuffer(body, np.float32).reshape(steps, n_labels)
        return Heard(audio=path, seconds=answer["seconds"], posteriors=posteriors)
    raise KwsError(
        "A worker process ended without a word, perhaps for lack of memory. Received: exit "
        f"status {process.wait()}. Try it with one process: --workers 1"
    )


def _serve() -> None:
    """The worker's side of `_ask`."""
    answers: IO[bytes] = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # Whatever a library prints must not end up among the answers.
    network = open_network(*sys.argv[1:])
    held = 0

    def tell(answer: dict[str, object]) -> None:
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()

    def advance(seconds: int) -> None:
        nonlocal held
        held += seconds
        if held >= _REPORT_S:
            tell({"advanced": held})
            held = 0

    for line in sys.stdin:
        with suppress(BrokenPipeError):  # The parent has gone, and stdin will end.
            heard = _heard_or_fault(network, json.loads(line), advance, ahead=False)
            if isinstance(heard, KwsError):
                tell({"fault": str(heard)})
                continue
            tell({"advanced": held})
            held = 0
            tell({"steps": len(heard.posteriors), "seconds": heard.seconds})
            answers.write(heard.posteriors.tobytes())
            answers.flush()
