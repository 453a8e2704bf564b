"""Evaluation on long recordings: a model's events against the words that are spoken."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kws.data.label_file import SpokenWord
from kws.model_file import ModelCard, load_model
from kws.recordings.curve import Curve, trace_curves
from kws.recordings.matching import Matches, join_matches, match_events
from kws.recordings.posteriors import RecordingPosteriors, run_recordings
from kws.recordings.replay import Replay
from kws.recordings.tflm_network import version_of
from kws.recordings.truth import check_fits, own_words


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordingResult:
    """A model's result on one recording."""

    recording: RecordingPosteriors
    """The recording and the network's posteriors."""
    truth: tuple[SpokenWord, ...]
    """The keywords of the model that are spoken in it."""
    matches: Matches
    """Words and events, matched."""

    def first_mistake_s(self) -> float | None:
        """Return where the first miss, substitution or false accept is, in s; None if none."""
        m = self.matches
        wrong = [word.start_s for word in m.misses]
        wrong += [word.start_s for word, _ in m.substitutions]
        wrong += [event.time_s for event in m.false_accepts]
        return min(wrong, default=None)


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamEvaluation:
    """A model's results on long recordings."""

    model: str
    """Name or file of the model."""
    runtime: str
    """The runtime, for example ``ai-edge-litert 2.3.0``."""
    seconds: float
    """Time it took, in seconds."""
    card: ModelCard
    """The model card."""
    recordings: tuple[RecordingResult, ...]
    """Each recording, in the order given."""
    matches: Matches
    """Words and events of all recordings; times count from the start of each recording."""
    curves: Mapping[str, Curve]
    """Misses over false accepts as the thresholds change, for ``all`` keywords and for each."""
    notes: tuple[str, ...] = ()
    """Remarks, such as on labelled words that are not keywords of this model."""

    def to_json(self) -> dict[str, Any]:
        """Return the figures as a dictionary that `json` can write (without the posteriors)."""
        return {
            "model": self.model,
            "runtime": self.runtime,
            "seconds": round(self.seconds, 3),
            "recordings": [result.recording.audio for result in self.recordings],
            **self.matches.to_json(),
            "curves": {
                # Points for one curve only; its tables are there for every keyword.
                name: curve.to_json(points=name == "all")
                for name, curve in self.curves.items()
            },
            "notes": list(self.notes),
        }


def evaluate_streams(
    model: str | Path,
    recordings: Sequence[tuple[str | Path, Iterable[SpokenWord]]],
    *,
    workers: int = 1,
    runtime: str = "litert",
    progress: bool = False,
) -> StreamEvaluation:
    """Run a model over long recordings and match its events with the words spoken in them.

    The audio is read in pieces; only the posteriors are kept, 4 MB for an hour and 12 labels.

    Args:
        model: a model file in stream form, or the name of a pretrained one.
        recordings: pairs of a file of any format that `kws.audio.files` reads and the words spoken
            in it. Words that are not keywords of the model are left out.
        workers: processes to use, at most one for each recording.
        runtime: ``"tflm"`` runs the network on TFLM's interpreter, as microcontrollers do.
        progress: report on stderr.

    Raises:
        KwsError: no such model, file or runtime, or words that do not match the model or recording.
    """
    start = time.perf_counter()
    card = load_model(model)
    paths = [audio for audio, _ in recordings]
    said = [list(truth) for _, truth in recordings]
    ours, notes = own_words(card, said)
    posteriors = run_recordings(model, paths, workers=workers, runtime=runtime, progress=progress)
    for one, words in zip(posteriors, said, strict=True):
        check_fits(one, words)
    replays = [Replay(card, one) for one in posteriors]
    results = tuple(
        RecordingResult(
            recording=one,
            truth=tuple(words),
            matches=match_events(words, replay.events(), duration_s=one.seconds),
        )
        for one, replay, words in zip(posteriors, replays, ours, strict=True)
    )
    return StreamEvaluation(
        model=str(model),
        runtime=version_of(runtime),
        card=card,
        recordings=results,
        matches=join_matches(result.matches for result in results),
        curves=trace_curves(list(zip(replays, ours, strict=True)), card.decision.thresholds),
        notes=tuple(notes),
        seconds=time.perf_counter() - start,
    )
