"""Export a trained network, choose its thresholds, and measure it on recordings new to it.

The network runs on up to five streams, each with noise and pauses (`kws.verdict.streams`):

- the words: recordings that were not trained on, each laid several times, between other speech;
- the words from recordings that were trained on, to tell a lack of training from a lack of
  recordings;
- other speech without the words, by speakers of the validation part: the thresholds are chosen on
  it and on the words;
- other speech by speakers of the testing part: false accepts are counted in it;
- generated near-misses: people rarely say them, so they count nothing towards false accepts per
  hour.
"""

from __future__ import annotations

import shlex
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kws.data.split import TRAINING, speaker_of
from kws.data.streams.long_stream import Built, LaidItem
from kws.errors import KwsError
from kws.export.run import convert_run
from kws.model_file import write_card
from kws.recipe import TrainingRecipe
from kws.recordings.calibrate import Calibration, calibrate, check_wanted
from kws.recordings.curve import trace_curves
from kws.recordings.matching import TOLERANCE_S, Matches, match_events
from kws.recordings.posteriors import run_recordings
from kws.recordings.replay import Replay
from kws.system.files import atomic_write, check_output
from kws.system.native import heed_interrupts
from kws.system.processes import usable_cores
from kws.train.backend import BACKENDS
from kws.train.run_folder import RunFolder, read_json, trained_on
from kws.train.trained import load_run
from kws.verdict.advice import (
    CLOSE_TO_THRESHOLD,
    KeywordMeasurements,
    SpeechMeasurements,
    Unfinished,
)
from kws.verdict.other_speech import count_speech
from kws.verdict.result import ClipScore, FalseAccept, Verdict
from kws.verdict.streams import (
    CHECK,
    CHOOSE,
    HELD_OUT,
    NEAR,
    TRAINED,
    WORDS,
    Sources,
    as_typed,
    build_streams,
    plan_streams,
)

SHORTEST_H, LONGEST_H = 1.0, 6.0
"""Limits of the default length of other speech."""


def enough_hours(per_hour: float) -> float:
    """Return the length of other speech that shows a rate of false accepts, within limits.

    If it must be repeated for that, it shows less (`kws.verdict.other_speech`).

    About three are needed to tell a rate from its half or its double. If not a single one is
    allowed in the audio, one false alarm decides the threshold and too many words are missed.
    """
    return min(max(3 / per_hour, SHORTEST_H), LONGEST_H) if per_hour > 0 else LONGEST_H


def judge(
    run_dir: str | Path,
    output: str | Path,
    *,
    data_dir: Path | None = None,
    per_hour: float = 0.5,
    hours: float | None = None,
    seed: int = 1,
    workers: int | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> Verdict:
    """Export a run's network with calibrated thresholds, and measure it.

    Nothing is written but the model file, at the very end.

    Args:
        run_dir: folder made by `kws train`.
        output: the model file to write.
        data_dir: where the recipe's folders are; by default where they were in training.
        per_hour: false accepts allowed per hour, all keywords together.
        hours: length of each stream without the words; by default `enough_hours`.
        seed: of the streams.
        workers: processes to use.
        say: called with progress messages.

    Raises:
        KwsError: no such run, a network that cannot run on a stream, or recordings that are
            missing or too few.
    """
    output = Path(output)
    check_wanted(per_hour)
    check_output(output)
    recipe = load_run(run_dir).recipe
    if whole_clip := recipe.model.create().whole_clip:
        raise KwsError(
            f"{recipe.model.architecture} cannot run on a stream: {whole_clip}. Use kws export "
            "and kws evaluate MODEL DIR"
        )
    sources = Sources.find(recipe, data_dir or _data_dir(run_dir), say)
    with tempfile.TemporaryDirectory(prefix="kws-verdict-") as name:
        folder = Path(name)
        if hours is None:
            hours = enough_hours(per_hour)
        planned = plan_streams(sources, folder, hours=hours, seed=seed, say=say)
        with heed_interrupts():
            report, content = convert_run(run_dir, output, say=say)
        draft = folder / "model.tflite"
        draft.write_bytes(content)
        streams = build_streams(planned, folder, say)
        say(f"listening to {sum(one.seconds for one in streams.values()) / 3600:.1f} h of audio")
        results = run_recordings(
            draft,
            [folder / f"{one}.wav" for one in streams],
            workers=workers or usable_cores(),
            progress=True,
        )
    posteriors = dict(zip(streams, results, strict=True))
    calibration = calibrate(
        report.card,
        [posteriors[CHOOSE]],
        per_hour,
        positives=[(posteriors[WORDS], streams[WORDS].truth)],
        repeated=count_speech(streams[CHOOSE], sources.speaker).repeated,
    )
    card = replace(
        report.card,
        decision=calibration.decision,
        provenance={**report.card.provenance, "calibration": calibration.provenance()},
    )
    runs = {name: _run_on(streams[name], Replay(card, posteriors[name])) for name in streams}
    verdict = _verdict(
        output, calibration, runs, sources, recipe, unfinished(run_dir, recipe, data_dir)
    )
    with atomic_write(output) as file:
        file.write(write_card(content, card))
    return verdict


@dataclass(frozen=True, kw_only=True)
class StreamRun:
    """A stream, and the network's events in it."""

    built: Built
    """The stream."""
    replay: Replay
    """The network's posteriors."""
    matches: Matches
    """The words of the stream, and the events."""


def _data_dir(run_dir: str | Path) -> Path | None:
    """Return where the run's recordings were in training; None for their default places."""
    data_dir = trained_on(run_dir)
    if data_dir is not None and not data_dir.is_dir():
        raise KwsError(
            f"The recordings that {run_dir} was trained on are gone. Received: no folder "
            f"{data_dir}. Give their new place with --data DIR"
        )
    return data_dir


def _run_on(built: Built, replay: Replay) -> StreamRun:
    matches = match_events(built.truth, replay.events(), duration_s=replay.seconds)
    return StreamRun(built=built, replay=replay, matches=matches)


def _verdict(
    output: Path,
    calibration: Calibration,
    runs: Mapping[str, StreamRun],
    sources: Sources,
    recipe: TrainingRecipe,
    stopped: Unfinished | None,
) -> Verdict:
    thresholds = calibration.decision.thresholds
    other = CHECK if CHECK in runs else CHOOSE
    words = runs[WORDS]
    other_speech = count_speech(runs[other].built, sources.speaker)
    more_speech, language_known = sources.more_speech()
    curve_runs = [runs[name] for name in dict.fromkeys((WORDS, CHOOSE, other))]
    return Verdict(
        model=output,
        calibration=calibration,
        words=words.matches,
        trained=runs[TRAINED].matches if TRAINED in runs else None,
        curves=trace_curves([(run.replay, run.built.truth) for run in curve_runs], thresholds),
        other=runs[other].matches,
        other_speech=other_speech,
        chosen_on=count_speech(runs[CHOOSE].built, sources.speaker),
        same_speech=other == CHOOSE,
        clips=clip_scores(words.built, words.matches, words.replay),
        false_accepts=false_accepts(runs[other].built, runs[other].matches),
        chosen_false_accepts=false_accepts(runs[CHOOSE].built, runs[CHOOSE].matches),
        per_keyword=tuple(
            _measure(word, sources, runs, threshold, recipe)
            for word, threshold in thresholds.items()
        ),
        more_speech=SpeechMeasurements(
            seconds=other_speech.seconds,
            times=other_speech.times,
            generated=other_speech.generated,
            fetch=shlex.join(["kws", "data", "fetch", *sources.to_fetch[:1]])
            if sources.to_fetch
            else "",
            more=more_speech,
            language_known=language_known,
        ),
        unfinished=stopped,
    )


def clip_scores(built: Built, matches: Matches, replay: Replay) -> tuple[ClipScore, ...]:
    """Count how often each recording in a stream of words was missed, the worst first.

    Args:
        built: the stream.
        matches: its words and the events.
        replay: the posteriors.
    """
    laid: Counter[tuple[str, str]] = Counter()
    missed: Counter[tuple[str, str]] = Counter()
    best: dict[tuple[str, str], float] = {}
    for item, wrong in zip(_laid(built), _missed(built, matches), strict=True):
        clip = (str(item.path), item.text)
        laid[clip] += 1
        missed[clip] += wrong
        best[clip] = max(best.get(clip, 0.0), _peak(replay, item))
    scores = [
        ClipScore(clip=path, keyword=word, laid=n, missed=missed[path, word], best=best[path, word])
        for (path, word), n in laid.items()
    ]
    return tuple(sorted(scores, key=lambda one: (-one.missed / one.laid, one.best, one.clip)))


def false_accepts(built: Built, matches: Matches) -> tuple[FalseAccept, ...]:
    """Return each false accept in a stream with the recording there, the highest score first."""
    found = []
    for event in matches.false_accepts:
        # An event comes during a recording or shortly after it.
        during = [
            str(item.path)
            for item in built.items
            if item.path and item.start_s <= event.time_s <= item.end_s + TOLERANCE_S
        ]
        last = during[-1] if during else ""
        found.append(FalseAccept(keyword=event.keyword, score=event.score, during=last))
    return tuple(sorted(found, key=lambda one: -one.score))


def near_miss_share(word: str, matches: Matches) -> float | None:
    """Return the share of near-misses that were taken for a word.

    Args:
        word: the keyword. Near-misses with the label ``not_<word>`` are its own; without any, all
            count.
        matches: near-misses, under labels that are not keywords, and the events.
    """
    labels = {one.keyword for one in matches.spoken}
    own = {f"not_{word}"} & labels or labels
    n = sum(one.keyword in own for one in matches.spoken)
    taken = [one for one, event in matches.substitutions if event.keyword == word]
    return sum(one.keyword in own for one in taken) / n if n else None


def missed_shares(word: str, built: Built, matches: Matches) -> dict[str, float]:
    """Return the share of a word that was missed in a stream, in all and by halves.

    Returns:
        ``missed``, ``missed_soft``, ``missed_loud``, ``missed_noisy`` and ``missed_clear`` as in
        `KeywordMeasurements`; nothing if the word is not in the stream.
    """
    pairs = [
        (item, wrong)
        for item, wrong in zip(_laid(built), _missed(built, matches), strict=True)
        if item.text == word
    ]
    if not pairs:
        return {}
    wrong = np.array([missed for _, missed in pairs], bool)
    level = np.array([item.level_dbfs for item, _ in pairs])
    snr = np.array([item.snr_db or 0.0 for item, _ in pairs])
    soft, noisy = level < np.median(level), snr < np.median(snr)

    def share(of: npt.NDArray[np.bool_]) -> float:
        return float(wrong[of].mean()) if of.any() else 0.0

    return {
        "missed": float(wrong.mean()),
        "missed_soft": share(soft),
        "missed_loud": share(~soft),
        "missed_noisy": share(noisy),
        "missed_clear": share(~noisy),
    }


def close_share(word: str, run: StreamRun, threshold: float) -> float:
    """Return the share of a word's misses in a stream whose score was close to the threshold."""
    scores = [
        _peak(run.replay, item)
        for item, wrong in zip(_laid(run.built), _missed(run.built, run.matches), strict=True)
        if wrong and item.text == word
    ]
    return float(np.mean(np.array(scores) >= CLOSE_TO_THRESHOLD * threshold)) if scores else 0.0


def _peak(replay: Replay, item: LaidItem) -> float:
    """Return the highest score of a laid word while an event would count for it."""
    return replay.peak(item.text, item.start_s, item.end_s + TOLERANCE_S)


def _laid(built: Built) -> list[LaidItem]:
    return [item for item in built.items if item.kind == "keyword"]


def _missed(built: Built, matches: Matches) -> list[bool]:
    """Return for each laid word, by time, whether it was missed or taken for another."""
    detected = {(word.start_s, word.end_s) for word, _ in matches.hits}
    return [(item.start_s, item.end_s) not in detected for item in _laid(built)]


def unfinished(
    run_dir: str | Path, recipe: TrainingRecipe, data_dir: Path | None
) -> Unfinished | None:
    """Return how far a run's training came; None if it was finished, or if that is not known.

    Args:
        run_dir: folder made by `kws train`.
        recipe: its recipe.
        data_dir: where the recipe's folders are, if not where they were in training.
    """
    run, epochs = RunFolder(Path(run_dir)), recipe.training.epochs
    history = read_json(run.history) if run.history.is_file() else None
    if not isinstance(history, dict) or not 0 < len(history.get("loss", ())) < epochs:
        return None
    data = data_dir or trained_on(run_dir)
    # The run's own recipe includes the options that were given.
    command = ["kws", "train", str(run.recipe), *(["--data", str(as_typed(data))] if data else [])]
    backend = run.made_with().get("backend", BACKENDS[0])
    on = ["--backend", backend] if backend != BACKENDS[0] else []
    resume = shlex.join([*command, "--out", str(run.path), "--resume", *on])
    return Unfinished(done=len(history["loss"]), epochs=epochs, resume=resume)


def what_enlarges(recipe: TrainingRecipe) -> str:
    """Return the setting of [model] that makes a recipe's network larger; "" if it is fixed."""
    if recipe.training.start:
        return ""
    return next((name for name in recipe.model.sizes if name.endswith("_units")), "")


def _measure(
    word: str,
    sources: Sources,
    runs: Mapping[str, StreamRun],
    threshold: float,
    recipe: TrainingRecipe,
) -> KeywordMeasurements:
    recordings = sources.clips(word, [TRAINING], generated=False)
    trained, near = runs.get(TRAINED), runs.get(NEAR)
    shares = missed_shares(word, runs[WORDS].built, runs[WORDS].matches)
    more, language_known = sources.more_near_misses(word) if near else ("", True)
    more_clips, clips_known = sources.more_clips(word)
    return KeywordMeasurements(
        keyword=word,
        recordings=len(recordings),
        speakers=len({speaker_of(path.name) for path in recordings}),
        held_out=len(sources.clips(word, HELD_OUT, generated=False)),
        generated=len(sources.clips(word, [TRAINING], generated=True)),
        missed=shares.pop("missed", None),
        missed_trained=(
            missed_shares(word, trained.built, trained.matches).get("missed") if trained else None
        ),
        close_trained=close_share(word, trained, threshold) if trained else 0.0,
        near_misses=near_miss_share(word, near.matches) if near else None,
        more_near_misses=more,
        language_known=language_known and clips_known,
        more_generated=more_clips,
        epochs=recipe.training.epochs,
        larger=what_enlarges(recipe),
        more_to=str(sources.more_to),
        **shares,
    )
