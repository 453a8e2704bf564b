"""A network's posteriors for clips, in memory or in files.

A clip's posteriors are those of the last step, as in training. A clip shorter than those the model
was trained on gets zeros at the end. A longer one has several steps at which a clip of the usual
length could end; the step with the highest posterior of a keyword counts, so the word may be
anywhere in it. A stream-form model is fed the whole longer clip; a clip-form model gets windows of
its length, one stride apart. Files can also be evaluated with noise mixed in (`kws.data.noise`);
they are read only once.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kws.audio.files import read_audio
from kws.audio.samples import check_pcm
from kws.data.noise import Background, Place, mix
from kws.errors import KwsError
from kws.frontend import features_of
from kws.model_file import ModelCard
from kws.network import Network
from kws.system.processes import receive, send_task, share_out, take_stdout
from kws.system.progress import Progress

_BATCH = 32
"""Clips decoded and transformed together: enough for NumPy, few enough for the CPU cache."""
_WORTH_A_PROCESS = 200
"""Starting a process takes longer than evaluating this many clips."""
_WORKER = "from kws.evaluate.posteriors import _serve; _serve()"
_HINT = "Try it with one process: --workers 1"


def clip_posteriors(network: Network, pcm: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
    """Return each clip's posteriors.

    Args:
        network: a model in stream or clip form.
        pcm: int16 [n, samples], of any length (see the top of this file).

    Returns:
        Posteriors, float32 [n, labels].

    Raises:
        KwsError: no int16 of that shape.
    """
    card = network.card
    pcm = padded_clip(card, check_pcm(pcm, "[n, samples]"))
    answers = np.empty((len(pcm), len(card.labels)), np.float32)
    for first in range(0, len(pcm), _BATCH):
        features = features_of(pcm[first : first + _BATCH], card.front_end)
        for i, clip in enumerate(features, start=first):
            answers[i] = _answer(network, clip)
    return answers


def file_posteriors(
    model: str | Path,
    paths: Sequence[str],
    *,
    background: Background | None = None,
    places: Sequence[Place | None] | None = None,
    workers: int = 1,
    progress: bool = False,
) -> tuple[npt.NDArray[np.float32], dict[int, str]]:
    """Return the posteriors for each sound file, as it is and with noise mixed in.

    Args:
        model: a model file in stream or clip form, or the name of a pretrained one.
        paths: the files.
        background: noise to mix in, and the ratios.
        places: the piece of noise for each file [n]; None for a file that gets no noise.
        workers: processes to use, if there are enough clips.
        progress: report on stderr.

    Returns:
        Posteriors, float32 [n, 1 + ratios, labels], the first without noise; and the faults of
        files that cannot be read, by position (their posteriors are zero).

    Raises:
        KwsError: no such model, or a worker process died.
    """
    network = Network(model)
    n_versions = 1 + (len(background.snrs_db) if background else 0)
    posteriors = np.zeros((len(paths), n_versions, len(network.card.labels)), np.float32)
    faults: dict[int, str] = {}
    workers = min(workers, len(paths) // _WORTH_A_PROCESS)
    clips = list(zip(paths, places or [None] * len(paths), strict=True))
    batches = [clips[i : i + _BATCH] for i in range(0, len(clips), _BATCH)]
    running = (
        _run_in_workers(workers, model, batches, background)
        if workers > 1
        else _run_here(network, batches, background)
    )
    with Progress(len(paths), "evaluating", unit="clips", shown=progress) as bar, closing(running):
        for number, (part, bad) in running:
            first = number * _BATCH
            posteriors[first : first + len(part)] = part
            faults.update({first + i: fault for i, fault in bad.items()})
            bar.advance(len(part))
    return posteriors, faults


def padded_clip(card: ModelCard, pcm: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """Return pcm [..., n] padded with zeros to the length of the clips in training."""
    missing = max(0, card.front_end.n_samples(card.clip_frames) - pcm.shape[-1])
    return np.pad(pcm, [(0, 0)] * (pcm.ndim - 1) + [(0, missing)]) if missing else pcm


def answer_of(card: ModelCard, steps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return a clip's posteriors [labels] from those of its steps [steps, labels].

    Args:
        card: of a model in stream form.
        steps: all steps of a clip from `padded_clip`.
    """
    return _surest(card, steps[card.n_steps(card.clip_frames) - 1 :])


def _answer(network: Network, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return a clip's posteriors [labels] from its MFCC [frames, n_features]."""
    card = network.card
    if card.form == "stream":
        return answer_of(card, network.run(features))
    starts = range(0, len(features) - card.clip_frames + 1, card.stride_frames)
    return _surest(
        card, np.stack([network.run(features[s : s + card.clip_frames])[-1] for s in starts])
    )


def _surest(card: ModelCard, ends: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the step with the highest posterior of a keyword, of those at which a clip may end."""
    if len(ends) == 1:
        return ends[0]
    keywords = [card.labels.index(keyword) for keyword in card.keywords]
    return ends[ends[:, keywords].max(axis=1).argmax()]


_Clip = tuple[str, Place | None]
"""A sound file, and its piece of noise."""
_Answers = tuple[npt.NDArray[np.float32], dict[int, str]]
"""Posteriors of a batch [clips, 1 + ratios, labels], and the faults of unreadable clips by
position."""
_Batches = Generator[tuple[int, _Answers], None, None]
"""Batches as they are finished, each with its number."""


def _run_batch(network: Network, clips: Sequence[_Clip], background: Background | None) -> _Answers:
    """Read a batch of clips and run the network; clips of equal length are transformed together."""
    card = network.card
    snrs_db = background.snrs_db if background else ()
    posteriors = np.zeros((len(clips), 1 + len(snrs_db), len(card.labels)), np.float32)
    faults: dict[int, str] = {}
    by_frames: dict[int, list[tuple[int, list[npt.NDArray[np.int16]]]]] = {}
    for i, (path, place) in enumerate(clips):
        try:
            pcm = read_audio(path, card.front_end.sample_rate_hz)
        except KwsError as error:
            faults[i] = str(error)
        else:
            versions = [padded_clip(card, pcm)]
            if background is not None and place is not None:
                noise = background.piece(place, len(versions[0]))
                versions += [mix(pcm, noise, snr_db) for snr_db in snrs_db]
            by_frames.setdefault(card.front_end.n_frames(len(versions[0])), []).append(
                (i, versions)
            )
    for frames, alike in by_frames.items():
        # Samples after the last whole frame do not matter.
        samples = card.front_end.n_samples(frames)
        for k in range(1 + len(snrs_db)):
            chosen = [(i, versions[k]) for i, versions in alike if k < len(versions)]
            if not chosen:
                continue
            features = features_of(np.stack([pcm[:samples] for _, pcm in chosen]), card.front_end)
            for (i, _), clip in zip(chosen, features, strict=True):
                posteriors[i, k] = _answer(network, clip)
    unmixed = [i for i, (_, place) in enumerate(clips) if place is None]
    posteriors[unmixed, 1:] = posteriors[unmixed, :1]
    return posteriors, faults


def _run_here(
    network: Network, batches: Sequence[list[_Clip]], background: Background | None
) -> _Batches:
    for number, batch in enumerate(batches):
        yield number, _run_batch(network, batch, background)


def _run_in_workers(
    workers: int,
    model: str | Path,
    batches: Sequence[list[_Clip]],
    background: Background | None,
) -> _Batches:
    with ExitStack() as stack:
        arguments = [str(model)]
        if background is not None:
            # The workers share one copy.
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="kws-noise-"))
            noise = Path(folder) / "noise.npy"
            np.save(noise, background.samples)
            arguments += [str(noise), json.dumps(background.snrs_db)]
        yield from share_out(
            range(len(batches)),
            lambda process, number: _ask(process, batches[number]),
            workers=workers,
            code=_WORKER,
            arguments=arguments,
        )


def _ask(process: subprocess.Popen[bytes], clips: list[_Clip]) -> _Answers:
    """Give a worker a batch and read its answer: a line of JSON, then the posteriors."""
    send_task(process, clips)
    shape, faults = json.loads(receive(process, hint=_HINT))
    body = receive(process, size=4 * math.prod(shape), hint=_HINT)
    posteriors = np.frombuffer(body, np.float32).reshape(shape)
    return posteriors, {int(i): fault for i, fault in faults.items()}


def _serve() -> None:
    """The worker's side of `_ask`."""
    answers = take_stdout()
    model, *rest = sys.argv[1:]
    network, background = Network(model), None
    if rest:
        noise, snrs_db = rest
        background = Background(
            samples=np.load(noise, mmap_mode="r"), snrs_db=tuple(json.loads(snrs_db))
        )
    for line in sys.stdin:
        posteriors, faults = _run_batch(network, json.loads(line), background)
        with suppress(BrokenPipeError):  # The parent has gone, and stdin will end.
            answers.write(json.dumps([posteriors.shape, faults]).encode() + b"\n")
            answers.write(posteriors.tobytes())
            answers.flush()
