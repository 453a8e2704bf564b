"""False activations of a model, saved as clips for training.

A clip ends at the event and is as long as the training clips, so it contains what set off the
network. Clips go to ``DIR/_unknown_/``, which `kws train` uses as examples of "none of the
keywords" if it is among the folders of a data set. As in Speech Commands, their names begin with a
speaker, chosen such that the clips of a recording belong to the training part.

When all clips of a recording are written, this is recorded in ``DIR/.mined/``; the same recording
is then not processed again with the same model, settings and labels. Clips are written whole or not
at all. A recording that cannot be used does not stop the others.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kws.audio.files import iter_audio, write_wav
from kws.audio.samples import Pcm
from kws.data.label_file import SpokenWord
from kws.data.split import training_speaker
from kws.decide import Event
from kws.errors import KwsError
from kws.labels import UNKNOWN
from kws.model_file import ModelCard, load_model, resolve_model
from kws.recordings.matching import match_events
from kws.recordings.posteriors import RecordingPosteriors, run_each
from kws.recordings.replay import Replay
from kws.recordings.truth import check_fits, own_words
from kws.system.files import atomic_write, plain_name, recording_name

RECORDS = ".mined"
"""Folder of the records of finished recordings."""
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Mined:
    """The false activations of one recording."""

    audio: str
    """The recording."""
    seconds: float
    """Its length."""
    clips: tuple[str, ...]
    """The clips, relative to the folder."""
    done_before: bool = False
    """Whether an earlier run processed the recording."""
    removed: int = 0
    """How many clips of that run have been removed from the folder since."""
    fault: str | None = None
    """Why the recording cannot be used, in one line; None if it can."""


def mine(
    model: str | Path,
    recordings: Sequence[tuple[str | Path, Iterable[SpokenWord]]],
    folder: str | Path,
    *,
    thresholds: float | None = None,
    before_s: float | None = None,
    after_s: float = 0.0,
    workers: int = 1,
    progress: bool = False,
) -> Iterator[Mined]:
    """Run recordings and save each false activation.

    Args:
        model: a model file in stream form, or the name of a pretrained one.
        recordings: pairs of a sound file and the keywords spoken in it (none: every event is
            false).
        folder: where the clips go.
        thresholds: one for all keywords, in place of the model's own; a lower one finds more.
        before_s: length of a clip before the event, in s; by default that of the training clips.
        after_s: length after it, in s.
        workers: processes to use, at most one for each recording.
        progress: report on stderr.

    Yields:
        The result for each recording, in the order in which they are finished.

    Raises:
        KwsError: no such model, the labels name none of its keywords, or a worker process died.
    """
    card = load_model(model)
    if before_s is None:
        before_s = card.clip_s
    if not (0 <= after_s <= 60 and 0 <= before_s <= 60 and before_s + after_s >= 0.1):
        raise KwsError(
            "A clip must last at least 0.1 s, up to 60 s before and after the event. Received: "
            f"{before_s:g} s before, {after_s:g} s after"
        )
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise KwsError(f"Clips go to a folder. Received: the file {target}. Give another name")
    card = replace(card, decision=card.decision.with_thresholds(thresholds))
    paths = [Path(audio) for audio, _ in recordings]
    truths, _ = own_words(card, [truth for _, truth in recordings])
    digest = hashlib.sha256(resolve_model(model).read_bytes()).hexdigest()
    settings = [_FORMAT, digest, asdict(card.decision), before_s, after_s]
    records = [
        _record_of(target, path, truth, settings) for path, truth in zip(paths, truths, strict=True)
    ]
    todo = []
    for i, record in enumerate(records):
        known = _known(str(paths[i]), target, record)
        if known is None:
            todo.append(i)
        else:
            yield known
    running = run_each(model, [paths[i] for i in todo], workers=workers, progress=progress)
    with closing(running):
        for position, result in running:
            i = todo[position]
            try:
                if isinstance(result, KwsError):
                    raise result
                check_fits(result, truths[i])
                mined = _save(card, result, truths[i], target, records[i], before_s, after_s)
            except KwsError as error:
                mined = Mined(audio=str(paths[i]), seconds=0.0, clips=(), fault=str(error))
            yield mined


def _save(
    card: ModelCard,
    recording: RecordingPosteriors,
    truth: Sequence[SpokenWord],
    folder: Path,
    record: Path,
    before_s: float,
    after_s: float,
) -> Mined:
    """Save the false activations of one recording, then record that it is done."""
    events = Replay(card, recording).events()
    wrong = match_events(truth, events, duration_s=recording.seconds).false_accepts
    rate = card.front_end.sample_rate_hz
    names = []
    spans = [
        (round((event.time_s - before_s) * rate), round((event.time_s + after_s) * rate))
        for event in wrong
    ]
    for event, pcm in zip(wrong, _cuts(recording.audio, spans, rate), strict=True):
        name = clip_name(recording.audio, event)
        write_wav(folder / UNKNOWN / name, pcm, rate)
        names.append(f"{UNKNOWN}/{name}")
    content = {"audio": recording.audio, "seconds": recording.seconds, "clips": names}
    with atomic_write(record, "w") as file:
        json.dump(content, file, indent=1)
    return Mined(audio=recording.audio, seconds=recording.seconds, clips=tuple(names))


def clip_name(audio: str | Path, event: Event) -> str:
    """Return the name of a false activation's clip: source, time in ms, keyword.

    Example: ``radio-1f3a_nohash_0012345-yes.wav``.
    """
    speaker, keyword = training_speaker(recording_name(audio)), plain_name(event.keyword)
    return f"{speaker}_nohash_{round(1000 * event.time_s):07}-{keyword}.wav"


def _cuts(audio: str, spans: Sequence[tuple[int, int]], rate: int) -> Iterator[Pcm]:
    """Yield parts of a recording, sorted by their ends, as int16 [n].

    A part that begins before the recording is padded with zeros; one that ends after it is cut off.
    """
    if not spans:
        return
    longest = max(last - first for first, last in spans)
    blocks = iter_audio(audio, rate, rate)
    held, start = np.zeros(longest, np.int16), -longest
    for first, last in spans:
        while start + len(held) < last:
            block = next(blocks, None)
            if block is None:
                break
            keep = max(0, len(held) - longest)
            held, start = np.concatenate([held[keep:], block]), start + keep
        # Spans overlap, so earlier samples may be needed again.
        yield held[first - start : last - start]


def _record_of(
    folder: Path, audio: Path, truth: Sequence[SpokenWord], settings: Sequence[Any]
) -> Path:
    """Return the record of this work; it depends on the recording, labels and settings."""
    try:
        info = audio.stat()
        version = [info.st_size, info.st_mtime_ns]
    except OSError:
        version = []  # reading it reports the error
    content = [*settings, os.fspath(audio.resolve()), version, [asdict(word) for word in truth]]
    return (
        folder / RECORDS / f"{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]}.json"
    )


def _known(audio: str, folder: Path, record: Path) -> Mined | None:
    """Return the result of an earlier run, as far as its clips are still there; None without any.

    Clips that were removed since stay removed: the user found the keyword in them.
    """
    try:
        stored = json.loads(record.read_text(encoding="utf-8"))
        clips = tuple(str(clip) for clip in stored["clips"])
        seconds = float(stored["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    there = tuple(clip for clip in clips if (folder / clip).exists())
    removed = len(clips) - len(there)
    return Mined(audio=audio, seconds=seconds, clips=there, done_before=True, removed=removed)
