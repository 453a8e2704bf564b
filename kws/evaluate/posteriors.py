"""What a network answers to clips: one posterior for each, from memory or from files.

A clip's answer is the posterior of the last step, as in training. A clip shorter than those the
model was trained on gets zeros at the end. A longer one has several steps at which a clip could
have ended; the one that is surest of a keyword answers (so a longer clip is asked "is the word
anywhere in it", and one of the usual length has just one such step). A stream-form model is fed
the whole longer clip; a clip-form model gets windows of its length, one stride apart. Files can be
heard with noise mixed in as well (`kws.data.noise`), read only once for that.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from kws.audio.files import read_audio
from kws.data.noise import Background, Place, mix
from kws.errors import KwsError
from kws.frontend import features_of
from kws.model_file import ModelCard
from kws.network import Network
from kws.system.processes import share_out
from kws.system.progress import Progress

_BATCH = 32
"""Clips that are decoded and transformed together: enough for NumPy, few enough for the cache."""
_WORTH_A_PROCESS = 200
"""Fewer clips for each process than this are done before it has started."""
_WORKER = "from kws.evaluate.posteriors import _serve; _serve()"


def clip_posteriors(network: Network, pcm: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
    """Return each clip's answer.

    Args:
        network: a model in stream or clip form.
        pcm: int16 [n, samples], of any length (see the top of this file).

    Returns:
        Posteriors, float32 [n, labels].

    Raises:
        KwsError: no int16 of that shape.
    """
    pcm = np.asarray(pcm)
    if pcm.ndim != 2 or pcm.dtype != np.int16:
        raise KwsError(
            f"Clips must be int16 of shape [n, samples]. Received: {pcm.dtype} {pcm.shape}"
        )
    card = network.card
    pcm = padded_clip(card, pcm)
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
    """Return the answers to each sound file, as it is and with noise mixed in.

    Args:
        model: a model file in stream or clip form, or the name of a pretrained one.
        paths: the files.
        background: noise, and the ratios at which it is mixed in; without it there are none.
        places: the noise that each file gets [n]; one with None is heard as it is at all ratios.
        workers: processes to use, as far as there is enough to do for them.
        progress: report on stderr.

    Returns:
        Posteriors, float32 [n, 1 + ratios, labels], the first as the file is; and for files that
        cannot be read (whose rows are zero) their positions and what is wrong with them.

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
    hear = (
        _hear_with(workers, model, batches, background)
        if workers > 1
        else _hear_here(network, batches, background)
    )
    with Progress(len(paths), "evaluating", unit="clips", shown=progress) as bar, closing(hear):
        for number, (part, bad) in hear:
            first = number * _BATCH
            posteriors[first : first + len(part)] = part
            faults.update({first + i: fault for i, fault in bad.items()})
            bar.advance(len(part))
    return posteriors, faults


def padded_clip(card: ModelCard, pcm: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """Return pcm [..., n] with zeros at its end until it is a clip as the model was trained on."""
    missing = max(0, card.front_end.n_samples(card.clip_frames) - pcm.shape[-1])
    return np.pad(pcm, [(0, 0)] * (pcm.ndim - 1) + [(0, missing)]) if missing else pcm


def answer_of(card: ModelCard, steps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return a clip's answer [labels] from the posteriors of its steps [steps, labels].

    Args:
        card: of a model in stream form.
        steps: all steps of a clip of `padded_clip`, whatever computed them.
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
    """Return from the steps at which a clip may end the one that is surest of a keyword."""
    if len(ends) == 1:
        return ends[0]
    keywords = [card.labels.index(keyword) for keyword in card.keywords]
    return ends[ends[:, keywords].max(axis=1).argmax()]


_Clip = tuple[str, Place | None]
"""A sound file, and the noise that it gets."""
_Heard = tuple[npt.NDArray[np.float32], dict[int, str]]
"""Posteriors of a batch [clips, 1 + ratios, labels], and by position what is wrong with
unreadable clips."""
_Batches = Generator[tuple[int, _Heard], None, None]
"""Batches as they are done, each with its number."""


def _hear(network: Network, clips: Sequence[_Clip], background: Background | None) -> _Heard:
    """Read and answer a batch of clips; those of one length are transformed together."""
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


def _hear_here(
    network: Network, batches: Sequence[list[_Clip]], background: Background | None
) -> _Batches:
    for number, batch in enumerate(batches):
        yield number, _hear(network, batch, background)


def _hear_with(
    workers: int,
    model: str | Path,
    batches: Sequence[list[_Clip]],
    background: Background | None,
) -> _Batches:
    with ExitStack() as stack:
        arguments = [str(model)]
        if background is not None:
            # The workers share one copy.
            room = stack.enter_context(tempfile.TemporaryDirectory(prefix="kws-noise-"))
            noise = Path(room) / "noise.npy"
            np.save(noise, background.samples)
            arguments += [str(noise), json.dumps(background.snrs_db)]
        yield from share_out(
            range(len(batches)),
            lambda process, number: _ask(process, batches[number]),
            workers=workers,
            code=_WORKER,
            arguments=arguments,
        )


def _ask(process: subprocess.Popen[bytes], clips: list[_Clip]) -> _Heard:
    """Give a worker a batch and read its answer: a line of JSON, then the posteriors."""
    assert process.stdin is not None and process.stdout is not None
    head = b""
    with suppress(BrokenPipeError):  # A worker that died is seen below.
        process.stdin.write(json.dumps(clips).encode() + b"\n")
        process.stdin.flush()
        head = process.stdout.readline()
    shape, faults = json.loads(head) if head.endswith(b"\n") else ((1, 1, 1), {})
    size = 4 * math.prod(shape)
    body = process.stdout.read(size)
    if len(body) < size:
        raise KwsError(
            "A worker process ended without a word, perhaps for lack of memory. Received: exit "
            f"status {process.wait()}. Try it with one process: --workers 1"
        )
    posteriors = np.frombuffer(body, np.float32).reshape(shape)
    return posteriors, {int(i): fault for i, fault in faults.items()}


def _serve() -> None:
    """The worker's side of `_ask`."""
    answers: IO[bytes] = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # Whatever a library prints must not end up among the answers.
    model, *rest = sys.argv[1:]
    network, background = Network(model), None
    if rest:
        noise, snrs_db = rest
        background = Background(
            samples=np.load(noise, mmap_mode="r"), snrs_db=tuple(json.loads(snrs_db))
        )
    for line in sys.stdin:
        posteriors, faults = _hear(network, json.loads(line), background)
        with suppress(BrokenPipeError):  # The parent has gone, and stdin will end.
            answers.write(json.dumps([posteriors.shape, faults]).encode() + b"\n")
            answers.write(posteriors.tobytes())
            answers.flush()
