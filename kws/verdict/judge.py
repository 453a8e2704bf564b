"""Export a trained network, choose its thresholds, and measure it on what it never heard.

Up to five streams are built and listened to, each with noise and pauses as in any room
(`kws.verdict.streams`):

- the words: recordings that were not trained on, each laid several times, between other speech;
- the words again, from recordings that were trained on, to tell a lack of training from a lack of
  recordings;
- other speech without the words, by speakers of the validation part: with it, and with the words,
  the thresholds are chosen;
- other speech by speakers of the testing part: on it false accepts are counted;
- generated near-misses: people rarely say them, so they say nothing about false accepts an hour.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kws.data.split import TRAINING, speaker_of
from kws.data.streams.long_stream import Built, LaidItem
from kws.errors import KwsError
from kws.export import convert_run
from kws.model_file import write_card
from kws.recipe import TrainingRecipe
from kws.recordings.calibrate import calibrate, check_wanted
from kws.recordings.curve import trace_curves
from kws.recordings.hear import hear
from kws.recordings.matching import TOLERANCE_S, Matches, match_events
from kws.recordings.replay import Replay
from kws.system.files import atomic_write, check_output
from kws.system.native import heed_interrupts
from kws.system.processes import usable_cores
from kws.train.run_folder import trained_on
from kws.train.trained import load_run
from kws.verdict.advice import Facts
from kws.verdict.found import ClipScore, FalseAccept, Verdict
from kws.verdict.streams import (
    CHECK,
    CHOOSE,
    HELD_OUT,
    NEAR,
    TRAINED,
    WORDS,
    Sources,
    build_streams,
    plan_streams,
)

SHORTEST_H, LONGEST_H = 1.0, 6.0
"""Limits of how long other speech is by default."""


def enough_hours(per_hour: float) -> float:
    """Return how long other speech must be to show a rate of false accepts, within limits.

    About three are needed to tell a rate from its half or its double. In an hour in which not one
    is allowed, a single false alarm decides the threshold, and far too many words are missed.
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
    """Export a run's network with thresholds of its own, and measure it.

    Nothing is written but the model file, and that only when all is done.

    Args:
        run_dir: folder that `kws train` made.
        output: the model file to write.
        data_dir: where the recipe's folders are; by default as the run was trained.
        per_hour: false accepts that are wanted in an hour, all keywords together.
        hours: length of each stream without the words; by default `enough_hours`.
        seed: of the streams.
        workers: processes that listen.
        say: is told what is being done.

    Raises:
        KwsError: no such run, a network that cannot listen to a stream, or recordings that are
            not there any more or not enough.
    """
    output = Path(output)
    check_wanted(per_hour)
    check_output(output)
    recipe = load_run(run_dir).recipe
    if whole_clip := recipe.model.create().whole_clip:
        raise KwsError(
            f"{recipe.model.architecture} cannot listen to a stream: {whole_clip}. Use kws export "
            "and kws evaluate MODEL DIR"
        )
    if data_dir is None:
        data_dir = trained_on(run_dir)
        if data_dir is not None and not data_dir.is_dir():
            raise KwsError(
                f"The recordings that {run_dir} was trained on are gone. Received: no folder "
                f"{data_dir}. Say where they are now with --data DIR"
            )
    if hours is None:
        hours = enough_hours(per_hour)
    sources = Sources.find(recipe, data_dir, say)
    with tempfile.TemporaryDirectory(prefix="kws-verdict-") as name:
        folder = Path(name)
        planned = plan_streams(sources, folder, hours=hours, seed=seed, say=say)
        with heed_interrupts():
            report, content = convert_run(run_dir, output, say=say)
        card, draft = report.card, folder / "model.tflite"
        draft.write_bytes(content)
        streams = build_streams(planned, folder, say)
        say(f"listening to {sum(one.seconds for one in streams.values()) / 3600:.1f} h of audio")
        heard = hear(
            draft,
            [folder / f"{one}.wav" for one in streams],
            workers=workers or usable_cores(),
            progress=True,
        )
    answers = dict(zip(streams, heard, strict=True))
    chosen = calibrate(
        card,
        [answers[CHOOSE]],
        per_hour,
        positives=[(answers[WORDS], streams[WORDS].truth)],
    )
    card = replace(
        card,
        decision=chosen.decision,
        provenance={**card.provenance, "calibration": chosen.provenance()},
    )
    replays = {name: Replay(card, one) for name, one in answers.items()}
    found = {
        name: match_events(streams[name].truth, replay.events(), duration_s=replay.seconds)
        for name, replay in replays.items()
    }
    other = CHECK if CHECK in found else CHOOSE
    verdict = Verdict(
        model=output,
        calibration=chosen,
        words=found[WORDS],
        trained=found.get(TRAINED),
        curves=trace_curves(
            [(replays[one], streams[one].truth) for one in dict.fromkeys((WORDS, CHOOSE, other))],
            card.decision.thresholds,
        ),
        other=found[other],
        same_speech=other == CHOOSE,
        clips=clip_scores(streams[WORDS], found[WORDS], replays[WORDS]),
        false_accepts=false_accepts(streams[other], found[other]),
        facts=tuple(
            _facts(word, sources, streams, found, what_enlarges(recipe)) for word in card.keywords
        ),
    )
    with atomic_write(output) as file:
        file.write(write_card(content, card))
    return verdict


def clip_scores(built: Built, matches: Matches, replay: Replay) -> tuple[ClipScore, ...]:
    """Count for each recording in a stream of words how often it was missed, the worst first.

    Args:
        built: the stream.
        matches: its words and what was reported.
        replay: the answers to it.
    """
    laid: Counter[tuple[str, str]] = Counter()
    missed: Counter[tuple[str, str]] = Counter()
    best: dict[tuple[str, str], float] = {}
    for item, wrong in zip(_laid(built), _missed(built, matches), strict=True):
        clip = (str(item.path), item.text)
        laid[clip] += 1
        missed[clip] += wrong
        peak = replay.peak(item.text, item.start_s, item.end_s + TOLERANCE_S)
        best[clip] = max(best.get(clip, 0.0), peak)
    scores = [
        ClipScore(clip=path, keyword=word, laid=n, missed=missed[path, word], best=best[path, word])
        for (path, word), n in laid.items()
    ]
    return tuple(sorted(scores, key=lambda one: (-one.missed / one.laid, one.best, one.clip)))


def false_accepts(built: Built, matches: Matches) -> tuple[FalseAccept, ...]:
    """Name what was being said at each false accept in a stream, the highest score first."""
    found = []
    for event in matches.false_accepts:
        # An event comes while or shortly after something is said.
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
        word: the keyword. Near-misses under the label ``not_<word>`` are its own; without any, all
            count.
        matches: near-misses, under labels that are no keywords, and what was reported.
    """
    labels = {one.keyword for one in matches.spoken}
    own = {f"not_{word}"} & labels or labels
    n = sum(one.keyword in own for one in matches.spoken)
    taken = [one for one, event in matches.substitutions if event.keyword == word]
    return sum(one.keyword in own for one in taken) / n if n else None


def missed_shares(word: str, built: Built, matches: Matches) -> dict[str, float]:
    """Return which share of a word was missed in a stream: of all of it, and of halves.

    Returns:
        ``missed``, and ``missed_soft``, ``missed_loud``, ``missed_noisy`` and ``missed_clear`` as
        in `Facts`; nothing where the word is not in the stream.
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


def _laid(built: Built) -> list[LaidItem]:
    return [item for item in built.items if item.kind == "keyword"]


def _missed(built: Built, matches: Matches) -> list[bool]:
    """Tell for each laid word, by time, whether it was not reported as what it is."""
    heard = {(word.start_s, word.end_s) for word, _ in matches.hits}
    return [(item.start_s, item.end_s) not in heard for item in _laid(built)]


def what_enlarges(recipe: TrainingRecipe) -> str:
    """Return the setting of [model] that makes a recipe's network larger, "" if none may."""
    if recipe.training.start:
        return ""
    return next((name for name in recipe.model.sizes if name.endswith("_units")), "")


def _facts(
    word: str,
    sources: Sources,
    streams: Mapping[str, Built],
    found: Mapping[str, Matches],
    larger: str,
) -> Facts:
    recordings = sources.clips(word, [TRAINING], generated=False)
    trained = None
    if TRAINED in found:
        trained = missed_shares(word, streams[TRAINED], found[TRAINED]).get("missed")
    shares = missed_shares(word, streams[WORDS], found[WORDS])
    more, language_known = sources.more_near_misses(word) if NEAR in found else ("", True)
    return Facts(
        keyword=word,
        recordings=len(recordings),
        speakers=len({speaker_of(path.name) for path in recordings}),
        held_out=len(sources.clips(word, HELD_OUT, generated=False)),
        generated=len(sources.clips(word, [TRAINING], generated=True)),
        missed=shares.pop("missed", None),
        missed_trained=trained,
        near_misses=near_miss_share(word, found[NEAR]) if NEAR in found else None,
        more_near_misses=more,
        language_known=language_known,
        larger=larger,
        more_to=str(sources.more_to),
        **shares,
    )
