"""Evaluation on long recordings: a model's events against the words that are spoken."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kws.after_wake import WINDOW_S
from kws.data.label_file import SpokenWord
from kws.model_file import ModelCard, load_model
from kws.recordings.curve import Curve, trace_curves
from kws.recordings.matching import Matches, join_matches, match_events
from kws.recordings.posteriors import RecordingPosteriors
from kws.recordings.replay import Replay
from kws.recordings.tflm_network import version_of
from kws.recordings.truth import own_words, run_labelled
from kws.recordings.waking import Waking


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordingResult:
    """A model's result on one recording."""

    recording: RecordingPosteriors
    """The recording and the network's posteriors."""
    truth: tuple[SpokenWord, ...]
    """The keywords of the model that are spoken in it; after the wake word, if there is one."""
    matches: Matches
    """Words and events, matched."""
    wake: Matches | None = None
    """Wake words and events of their model, matched, if commands count only after them."""

    def first_mistake_s(self) -> float | None:
        """Return where the first miss, substitution or false accept is, in s; None if none."""
        parts = [self.matches] if self.wake is None else [self.matches, self.wake]
        wrong = [word.start_s for m in parts for word in m.misses]
        wrong += [word.start_s for m in parts for word, _ in m.substitutions]
        wrong += [event.time_s for m in parts for event in m.false_accepts]
        return min(wrong, default=None)


@dataclass(frozen=True, kw_only=True, eq=False)
class WakeResult:
    """A wake word's results on long recordings, where commands count only after it."""

    model: str
    """Name or file of its model."""
    window_s: float
    """How long after it a command counts, in seconds."""
    matches: Matches
    """Wake words and events of all recordings."""

    def to_json(self) -> dict[str, Any]:
        """Return the figures as a dictionary that `json` can write."""
        return {"model": self.model, "window_s": self.window_s, **self.matches.to_json()}


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
    """The model card, with the thresholds that were used."""
    recordings: tuple[RecordingResult, ...]
    """Each recording, in the order given."""
    matches: Matches
    """Words and events of all recordings; times count from the start of each recording."""
    curves: Mapping[str, Curve]
    """Misses over false accepts as the thresholds change, for ``all`` keywords and for each."""
    wake: WakeResult | None = None
    """The wake word's results, if commands count only after it."""
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
            **({"wake": self.wake.to_json()} if self.wake else {}),
            "notes": list(self.notes),
        }


def evaluate_streams(
    model: str | Path,
    recordings: Sequence[tuple[str | Path, Iterable[SpokenWord]]],
    *,
    threshold: float | None = None,
    wake: str | Path | None = None,
    wake_window_s: float = WINDOW_S,
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
        threshold: for all keywords, in place of the model's own (with `wake` those for after one).
        wake: the model of a wake word. Then only the first command after it counts, spoken (see
            `kws.recordings.truth.addressed_words`) and reported (see `kws.after_wake`).
        wake_window_s: how long after the wake word a command counts, in seconds.
        workers: processes to use, at most one for each recording.
        runtime: ``"tflm"`` runs the network on TFLM's interpreter, as microcontrollers do.
        progress: report on stderr.

    Raises:
        KwsError: no such model, file or runtime, models that do not go together, or words that do
            not match the model or recording.
    """
    start = time.perf_counter()
    card = load_model(model)
    settings = card.decision
    decision = (
        settings.with_thresholds(threshold) if wake is None else settings.after_wake_word(threshold)
    )
    card = replace(card, decision=decision)
    paths = [audio for audio, _ in recordings]
    said = [list(truth) for _, truth in recordings]
    card.require_stream_form()
    card.require_keywords()
    waking = None if wake is None else Waking(wake, card, said, wake_window_s)
    truths, notes = own_words(card, said) if waking is None else (waking.commands, waking.notes)

    def run(which: str | Path) -> list[RecordingPosteriors]:
        return run_labelled(which, paths, said, workers=workers, runtime=runtime, progress=progress)

    posteriors = run(model)
    wakes = [] if waking is None else waking.match(run(waking.model))
    if waking is None:
        replays = [Replay(card, one) for one in posteriors]
    else:
        replays = waking.replays(card, posteriors, wakes)
    results = tuple(
        RecordingResult(
            recording=replay.recording,
            truth=tuple(words),
            matches=match_events(words, replay.events(), duration_s=replay.seconds),
            wake=wakes[i] if wakes else None,
        )
        for i, (replay, words) in enumerate(zip(replays, truths, strict=True))
    )
    return StreamEvaluation(
        model=str(model),
        runtime=version_of(runtime),
        card=card,
        recordings=results,
        matches=join_matches(result.matches for result in results),
        curves=trace_curves(list(zip(replays, truths, strict=True)), card.decision.thresholds),
        wake=None
        if waking is None
        else WakeResult(
            model=str(waking.model), window_s=waking.window_s, matches=join_matches(wakes)
        ),
        notes=tuple(notes),
        seconds=time.perf_counter() - start,
    )
