"""Learning from false alarms: what a model wrongly fires on, saved as clips to train against.

A clip ends at the event and is as long as those that the network learnt from, so it is what the
network had just heard. Clips go to ``DIR/_unknown_/``, which `kws train` takes for examples of
"none of the keywords" wherever the folder lies among the others of a data set. Their names begin
with a speaker, as those of Speech Commands do, chosen so that the clips of a recording fall to the
training part.

What was done is recorded for each recording after its last clip, under ``DIR/.mined/``; with the
same model, settings, labels and recording it is not done again. Clips are written whole or not at
all. A recording that cannot be used does not keep the others from being heard.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
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
from kws.recordings.hear import Heard, hear_each
from kws.recordings.matching import match_events
from kws.recordings.replay import Replay
from kws.recordings.truth import check_fits, own_words
from kws.system.files import atomic_write

RECORDS = ".mined"
"""Folder of the records of what was done."""
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Mined:
    """What was found in one recording."""

    audio: str
    """The recording."""
    seconds: float
    """Its length."""
    clips: tuple[str, ...]
    """The false activations, relative to the folder."""
    done_before: bool = False
    """Whether this was known from an earlier run."""
    removed: int = 0
    """How many clips of that run are not in the folder any more."""
    fault: str | None = None
    """Why the recording cannot be used, in a line; then nothing was found."""


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
        recordings: each a sound file and the keywords that are spoken in it (none: whatever fires
            is false).
        folder: where the clips go.
        thresholds: one for all keywords, in place of the model's own; a lower one finds more.
        before_s: how much a clip holds before the event, in s; by default as much as the clips that
            the model learnt from.
        after_s: and after it.
        workers: processes to use, as far as there are recordings for them.
        progress: report on stderr.

    Yields:
        What was found, recording by recording, in the order in which they are done.

    Raises:
        KwsError: no such model, the labels name none of its keywords, or a worker process died.
    """
    card = load_model(model)
    if before_s is None:
        before_s = card.clip_s
    if not (0 <= after_s <= 60 and 0 <= before_s <= 60 and before_s + after_s >= 0.1):
        raise KwsError(
            "A clip lasts 0.1 s or more, up to 60 s before and after the event. Received: "
            f"{before_s:g} s before, {after_s:g} s after"
        )
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise KwsError(f"Clips go to a folder. Received: the file {target}. Give another name")
    if thresholds is not None:
        decision = replace(
            card.decision, thresholds=dict.fromkeys(card.keywords, float(thresholds))
        )
        card = replace(card, decision=decision)
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
    hearing = hear_each(model, [paths[i] for i in todo], workers=workers, progress=progress)
    with closing(hearing):
        for position, heard in hearing:
            i = todo[position]
            try:
                if isinstance(heard, KwsError):
                    raise heard
                check_fits(heard, truths[i])
                found = _save(card, heard, truths[i], target, records[i], before_s, after_s)
            except KwsError as error:
                found = Mined(audio=str(paths[i]), seconds=0.0, clips=(), fault=str(error))
            yield found


def _save(
    card: ModelCard,
    heard: Heard,
    truth: Sequence[SpokenWord],
    folder: Path,
    record: Path,
    before_s: float,
    after_s: float,
) -> Mined:
    """Cut the false activations of one recording, then record that it is done."""
    events = Replay(card, heard).events()
    wrong = match_events(truth, events, duration_s=heard.seconds).false_accepts
    rate = card.front_end.sample_rate_hz
    names = []
    spans = [
        (round((event.time_s - before_s) * rate), round((event.time_s + after_s) * rate))
        for event in wrong
    ]
    for event, pcm in zip(wrong, _cuts(heard.audio, spans, rate), strict=True):
        name = clip_name(heard.audio, event)
        write_wav(folder / UNKNOWN / name, pcm, rate)
        names.append(f"{UNKNOWN}/{name}")
    facts: dict[str, Any] = {"seconds": heard.seconds, "clips": names}
    with atomic_write(record, "w") as file:
        json.dump({"audio": os.fspath(heard.audio), **facts}, file, indent=1)
    return Mined(audio=heard.audio, seconds=heard.seconds, clips=tuple(names))


def clip_name(audio: str | Path, event: Event) -> str:
    """Return the name of a false activation's clip: source, time in ms, keyword.

    Example: ``radio-1f3a_nohash_0012345-yes.wav``.
    """
    path = Path(audio)
    stem = re.sub(r"[^\w.+-]", "_", path.stem).strip("._") or "recording"
    where = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:4]
    speaker = training_speaker(f"{stem}-{where}")
    keyword = re.sub(r"[^\w.+-]", "_", event.keyword)
    return f"{speaker}_nohash_{round(1000 * event.time_s):07}-{keyword}.wav"


def _cuts(audio: str, spans: Sequence[tuple[int, int]], rate: int) -> Iterator[Pcm]:
    """Yield stretches of a recording, sorted by their ends, as int16 [n].

    What would lie before its beginning is zeros, as the network had heard nothing yet; what would
    lie behind its end is left out.
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
        # Spans overlap, so what is before this one may be needed again.
        yield held[first - start : last - start]


def _record_of(
    folder: Path, audio: Path, truth: Sequence[SpokenWord], settings: Sequence[Any]
) -> Path:
    """Return where it is recorded that this work is done; other settings, another place."""
    try:
        info = audio.stat()
        version = [info.st_size, info.st_mtime_ns]
    except OSError:
        version = []  # reading says what is wrong
    content = [*settings, os.fspath(audio.resolve()), version, [asdict(word) for word in truth]]
    return (
        folder / RECORDS / f"{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]}.json"
    )


def _known(audio: str, folder: Path, record: Path) -> Mined | None:
    """Return what is left of what an earlier run found; None if there was none.

    Clips that were removed since stay removed: somebody found that they hold the keyword.
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
