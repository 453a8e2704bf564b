"""Export a trained network, choose its thresholds, and measure it on what it never heard.

Four streams are built and listened to, each with noise and pauses as in any room:

- the words: recordings that were not trained on, each laid several times, between other speech;
- the words again, from recordings that were trained on, to tell a lack of training from a lack of
  recordings;
- other speech without the words, by speakers of the validation part: with it, and with the words,
  the thresholds are chosen;
- other speech by speakers of the testing part: on it false accepts are counted.

Generated near-misses are laid into a stream of their own: people rarely say them, so they say
nothing about false accepts an hour.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kws.audio.files import write_wav
from kws.data.clips import ClipIndex, scan
from kws.data.long_stream import Built, LaidItem, StreamPlan, build_stream
from kws.data.material import Material, gather
from kws.data.split import SPLITS, TESTING, TRAINING, VALIDATION, speaker_of
from kws.errors import KwsError
from kws.export import export_run
from kws.export.trained import load_run
from kws.files import atomic_write
from kws.matching import TOLERANCE_S, Matches, match_events, poisson_interval
from kws.model_file import ModelCard, load_model, write_card
from kws.processes import usable_cores
from kws.recipe import TrainingRecipe
from kws.recordings.calibrate import calibrate
from kws.recordings.curve import Curve, trace_curves
from kws.recordings.hear import Heard, hear
from kws.recordings.replay import Replay
from kws.train.dataset import find_clips, find_folder, first_folder
from kws.train.run_folder import trained_on
from kws.verdict.advice import ClipScore, Facts, advise

HELD_OUT = (VALIDATION, TESTING)
WORDS_PER_HOUR = 400.0
LEAST_WORDS = 100
"""Words are laid at least so often in all; each recording as often as the others."""
MOST_WORDS = 1200
LEAST_TIMES = 3
"""And each recording at least so often, as long as that is not more than `MOST_WORDS`."""
MOST_NEAR_MISSES = 200
PINK_NOISE_S = 60.0
"""Length of the noise that is made where the data has none."""


@dataclass(frozen=True, kw_only=True)
class FalseAccept:
    """An event where nobody said the word."""

    keyword: str
    """What was reported."""
    score: float
    """Its score, 0 to 1."""
    during: str
    """The recording that was laid there, as ``<folder>/<file>``; empty for noise alone."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a network does, and what would help it."""

    model: Path
    """The model file that was written, thresholds included."""
    wanted_per_hour: float
    """False accepts an hour that were asked for."""
    thresholds: dict[str, float]
    """The chosen threshold of each keyword."""
    words: Matches
    """The words of recordings that were not trained on, and what was reported."""
    curve: Curve
    """Their misses over false accepts in both streams without words."""
    other: Matches
    """Speech without the words, by speakers that took no part in anything."""
    same_speech: bool
    """Whether there was none of the testing part, so that `other` is what thresholds were
    chosen on."""
    generated: tuple[str, ...]
    """Keywords that were measured on generated clips, since no recording of them was held out."""
    clips: tuple[ClipScore, ...]
    """Each recording that was laid, the worst first."""
    false_accepts: tuple[FalseAccept, ...]
    """What set it off, the highest score first."""
    facts: tuple[Facts, ...]
    """What the advice rests on, for each keyword."""

    @property
    def advice(self) -> list[str]:
        """What would help, the most helpful first; the same line only once."""
        rate = self.other.false_accepts_per_hour
        lines = [
            line
            for facts in self.facts
            for line in advise(
                facts, false_accepts_per_hour=rate, wanted_per_hour=self.wanted_per_hour
            )
        ]
        return list(dict.fromkeys(lines))

    def lines(self, *, worst: int = 5) -> list[str]:
        """Return the verdict for people, with so many of the worst clips and false alarms."""
        words, other = self.words, self.other
        missed = len(words.misses) + len(words.substitutions)
        recordings = len(self.clips)
        lines = [
            f"{self.model}: thresholds "
            + ", ".join(f"{word} {t:.3g}" for word, t in self.thresholds.items()),
            f"misses: {_percent(missed / max(1, words.words))} of {words.words:,} words from "
            f"{recordings} recordings that were not trained on"
            + (f" (generated ones of {', '.join(self.generated)})" if self.generated else ""),
        ]
        if len(self.thresholds) > 1:
            for word, counts in sorted(words.per_keyword().items()):
                wrong = counts["misses"] + counts["substitutions"]
                share = _percent(wrong / max(1, counts["words"]))
                lines.append(f"  {word}: {share} of {counts['words']}")
        low, high = (limit / other.hours for limit in poisson_interval(len(other.false_accepts)))
        whose = "the speech that thresholds were chosen on" if self.same_speech else "other speech"
        lines.append(
            f"false accepts: {len(other.false_accepts)} in {other.hours:.2f} h of {whose}, "
            f"{other.false_accepts_per_hour:.2g} an hour (95 % interval {low:.2g} to {high:.2g}); "
            f"wanted {self.wanted_per_hour:g}"
        )
        median, p95 = words.latency_ms(50), words.latency_ms(95)
        if median is not None and p95 is not None:
            lines.append(f"latency after the word's end: median {median:.0f} ms, p95 {p95:.0f} ms")
        at = [(rate, self.curve.best(rate)) for rate in (0.5, 1.0, 2.0, 5.0)]
        known = [
            f"{_percent(point.false_reject_rate or 0.0)} at {rate:g}" for rate, point in at if point
        ]
        if known:
            lines.append(f"misses over false accepts an hour: {', '.join(known)}")
        bad = [clip for clip in self.clips if clip.missed][:worst]
        if bad:
            lines += ["", "missed most (listen to them; delete what is not the word):"]
            lines += [
                f"  {clip.clip}: missed {clip.missed} of {clip.laid} times, best {clip.best:.2f}"
                for clip in bad
            ]
        if self.false_accepts:
            lines += ["", "set it off falsely:"]
            lines += [
                f"  {one.keyword} {one.score:.2f} during {one.during or 'noise'}"
                for one in self.false_accepts[:worst]
            ]
        advice = self.advice
        lines += ["", "what would help:" if advice else "nothing in particular to improve"]
        return lines + [f"  {i}. {line}" for i, line in enumerate(advice, 1)]

    def to_json(self) -> dict[str, Any]:
        """Return everything as a dictionary that `json` can write."""
        return {
            "model": str(self.model),
            "thresholds": self.thresholds,
            "wanted_false_accepts_per_hour": self.wanted_per_hour,
            "words": self.words.to_json(),
            "other_speech": self.other.to_json(),
            "other_speech_chose_thresholds": self.same_speech,
            "generated": list(self.generated),
            "curve": self.curve.to_json(points=False),
            "clips": [vars(clip) for clip in self.clips],
            "false_accepts": [vars(one) for one in self.false_accepts],
            "facts": [vars(facts) for facts in self.facts],
            "advice": self.advice,
        }


def judge(
    run_dir: str | Path,
    output: str | Path,
    *,
    data_dir: Path | None = None,
    per_hour: float = 0.5,
    hours: float = 1.0,
    seed: int = 1,
    workers: int | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> Verdict:
    """Export a run's network with thresholds of its own, and measure it.

    Args:
        run_dir: folder that `kws train` made.
        output: the model file to write.
        data_dir: where the recipe's folders are; by default as the run was trained.
        per_hour: false accepts that are wanted in an hour, all keywords together.
        hours: length of each stream without the words.
        seed: of the streams.
        workers: processes that listen.
        say: is told what is being done.

    Raises:
        KwsError: no such run, or its recordings are not there any more.
    """
    recipe = load_run(run_dir).recipe
    if data_dir is None:
        data_dir = trained_on(run_dir)
    sources = _Sources.find(recipe, data_dir)
    with tempfile.TemporaryDirectory(prefix="kws-verdict-") as name:
        folder = Path(name)
        streams = _build_all(sources, folder, hours, seed, say)
        draft = folder / "model.tflite"
        export_run(run_dir, draft, say=say)
        card = load_model(draft)
        names = list(streams)
        say(f"listening to {sum(s.seconds for s in streams.values()) / 3600:.1f} h of audio")
        heard = dict(
            zip(
                names,
                hear(
                    draft,
                    [folder / f"{one}.wav" for one in names],
                    workers=workers or usable_cores(),
                    progress=True,
                ),
                strict=True,
            )
        )
        content = draft.read_bytes()
    chosen = calibrate(
        card,
        [heard["choose"]],
        per_hour,
        positives=[(heard["words"], streams["words"].truth)],
    )
    record = {
        "wanted_false_accepts_per_hour": per_hour,
        "hours": heard["choose"].seconds / 3600,
        "false_accepts": len(chosen.negatives.false_accepts),
    }
    card = replace(
        card, decision=chosen.decision, provenance={**card.provenance, "calibration": record}
    )
    changed = write_card(content, card)
    with atomic_write(output) as file:
        file.write(changed)
    return _verdict(Path(output), card, per_hour, sources, streams, heard)


@dataclass(frozen=True, kw_only=True)
class _Sources:
    """Where a recipe's recordings are, and which of them can be measured on."""

    recipe: TrainingRecipe
    recorded: tuple[ClipIndex, ...]
    generated: tuple[ClipIndex, ...]
    sentences: tuple[Path, ...]
    more_to: str

    @classmethod
    def find(cls, recipe: TrainingRecipe, data_dir: Path | None) -> _Sources:
        recorded, generated = find_clips(recipe, data_dir)
        found = [find_folder(name, data_dir) for name in recipe.data.speech]
        return cls(
            recipe=recipe,
            recorded=tuple(scan(folder) for folder in recorded),
            generated=tuple(scan(folder) for folder in generated),
            sentences=tuple(folder for folder in found if folder is not None),
            more_to=str(_near(first_folder(recipe, data_dir))),
        )

    @property
    def keywords(self) -> tuple[str, ...]:
        return self.recipe.labels.keywords

    def clips(self, word: str, parts: Collection[str], *, generated: bool) -> tuple[Path, ...]:
        """Return the clips of a word in some parts."""
        return tuple(
            index.root / path
            for index in (self.generated if generated else self.recorded)
            for part in SPLITS
            if part in parts
            for path in index.select(split=part, words=[word]).paths
        )

    def spoken(self, parts: Collection[str]) -> dict[str, tuple[Path, ...]]:
        """Return the recordings of each keyword, generated ones where there are no others."""
        return {
            word: self.clips(word, parts, generated=False)
            or self.clips(word, parts, generated=True)
            for word in self.keywords
        }

    def other_speech(self, parts: Collection[str], noise: Path | None) -> Material:
        """Return all that people of some parts say but the keywords."""
        return gather(
            [index.root for index in self.recorded],
            self.keywords,
            commands=False,
            parts=parts,
            sentences=self.sentences or None,
            noise=noise,
        )

    def near_misses(self) -> tuple[Path, ...]:
        """Return generated clips of what is no keyword, by voices that were not trained on."""
        return tuple(
            index.root / path
            for index in self.generated
            for part in HELD_OUT
            for path, word in _said(index.select(split=part))
            if word not in self.keywords
        )


def _near(path: Path) -> Path:
    """Return a path as people would type it here."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _said(index: ClipIndex) -> list[tuple[str, str]]:
    return list(zip(index.paths, index.words, strict=True))


def _build_all(
    sources: _Sources, folder: Path, hours: float, seed: int, say: Callable[[str], None]
) -> dict[str, Built]:
    """Write the streams as ``<name>.wav``."""
    noise = None
    if not any(index.noise for index in sources.recorded):
        noise = folder / "noise"
        write_wav(noise / "pink.wav", _pink_noise(seed), 16000)
    choose, check = (sources.other_speech([part], noise) for part in (VALIDATION, TESTING))
    if not choose.sentences and not choose.others:
        raise KwsError(
            "There is no other speech to measure false accepts on: the recipe's folders hold "
            "nothing but its words. Add folders of other words to [data] clips, or of running "
            "speech to [data] speech"
        )
    words = sources.spoken(HELD_OUT)
    trained = {word: sources.clips(word, [TRAINING], generated=False) for word in words}
    plans = {"words": (replace(choose, words=words), _word_hours(words), WORDS_PER_HOUR)}
    if all(trained.values()):
        known = replace(choose, words=trained)
        plans["trained"] = (known, _word_hours(trained, times=1), WORDS_PER_HOUR)
    plans["choose"] = (choose, hours, 0.0)
    if check.sentences or check.others:
        plans["check"] = (check, hours, 0.0)
    near = sources.near_misses()[:: max(1, len(sources.near_misses()) // MOST_NEAR_MISSES)]
    if near:
        laid = replace(choose, words={"near": near[:MOST_NEAR_MISSES]})
        plans["near"] = (laid, _word_hours(laid.words, times=1), WORDS_PER_HOUR)
    built = {}
    for i, (name, (material, length, rate)) in enumerate(plans.items()):
        say(f"building {60 * length:.0f} minutes of {_STREAMS[name]}")
        plan = _plan(material, length, rate, seed + i)
        built[name] = build_stream(
            material, plan, folder / f"{name}.wav", folder / f"{name}.tsv", progress=True
        )
    return built


_STREAMS = {
    "words": "words that were not trained on",
    "trained": "words that were trained on",
    "choose": "other speech, to choose thresholds with",
    "check": "other speech, to count false accepts in",
    "near": "near-misses",
}


def _word_hours(words: dict[str, tuple[Path, ...]], times: int = LEAST_TIMES) -> float:
    """Return how long a stream must be for every recording to come often enough."""
    most = max(len(paths) for paths in words.values())
    wanted = max(LEAST_WORDS, len(words) * most * times)
    return min(wanted, MOST_WORDS) / WORDS_PER_HOUR


def _plan(material: Material, hours: float, words_per_hour: float, seed: int) -> StreamPlan:
    return StreamPlan(
        hours=hours,
        words_per_hour=words_per_hour,
        others_per_hour=StreamPlan.others_per_hour if material.others else 0.0,
        speech=StreamPlan.speech if material.sentences else 0.0,
        seed=seed,
    )


def _pink_noise(seed: int) -> npt.NDArray[np.int16]:
    """Noise whose power falls with frequency, as that of most rooms: int16 [n]."""
    n = round(PINK_NOISE_S * 16000)
    white = np.fft.rfft(np.random.default_rng(seed).standard_normal(n))
    pink = np.fft.irfft(white / np.sqrt(np.maximum(1, np.arange(len(white)))), n)
    return (pink / np.abs(pink).max() * 16000).astype(np.int16)


def _verdict(
    model: Path,
    card: ModelCard,
    per_hour: float,
    sources: _Sources,
    streams: dict[str, Built],
    heard: dict[str, Heard],
) -> Verdict:
    replays = {name: Replay(card, one) for name, one in heard.items()}
    found = {
        name: match_events(streams[name].truth, replay.events(), duration_s=replay.seconds)
        for name, replay in replays.items()
    }
    same = "check" not in found
    other = "choose" if same else "check"
    measured = dict.fromkeys(("words", "choose", other))
    pairs = [(replays[name], streams[name].truth) for name in measured]
    return Verdict(
        model=model,
        wanted_per_hour=per_hour,
        thresholds=dict(card.decision.thresholds),
        words=found["words"],
        curve=trace_curves(pairs, card.decision.thresholds)["all"],
        other=found[other],
        same_speech=same,
        generated=tuple(
            word for word in card.keywords if not sources.clips(word, HELD_OUT, generated=False)
        ),
        clips=_clip_scores(streams["words"], found["words"], replays["words"]),
        false_accepts=_false_accepts(streams[other], found[other]),
        facts=tuple(_facts(word, sources, streams, found) for word in card.keywords),
    )


def _laid(built: Built) -> list[LaidItem]:
    return [item for item in built.items if item.kind == "keyword"]


def _missed(built: Built, matches: Matches) -> list[bool]:
    """Tell for each laid word, by time, whether it was not reported as what it is."""
    heard = {(word.start_s, word.end_s) for word, _ in matches.hits}
    return [(item.start_s, item.end_s) not in heard for item in _laid(built)]


def _clip_scores(built: Built, matches: Matches, replay: Replay) -> tuple[ClipScore, ...]:
    """Count for each recording how often it was missed, the worst first."""
    laid: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    best: dict[str, float] = {}
    said = {}
    for item, wrong in zip(_laid(built), _missed(built, matches), strict=True):
        clip = item.source
        laid[clip] += 1
        missed[clip] += wrong
        peak = replay.peak(item.text, item.start_s, item.end_s + TOLERANCE_S)
        best[clip] = max(best.get(clip, 0.0), peak)
        said[clip] = item.text
    scores = [
        ClipScore(
            clip=clip, keyword=said[clip], laid=laid[clip], missed=missed[clip], best=best[clip]
        )
        for clip in laid
    ]
    return tuple(sorted(scores, key=lambda one: (-one.missed / one.laid, one.best, one.clip)))


def _false_accepts(built: Built, matches: Matches) -> tuple[FalseAccept, ...]:
    """Name what was being said at each false accept, the highest score first."""
    found = []
    for event in matches.false_accepts:
        # An event comes while or shortly after something is said.
        during = [
            item.source
            for item in built.items
            if item.start_s <= event.time_s <= item.end_s + TOLERANCE_S
        ]
        last = during[-1] if during else ""
        found.append(FalseAccept(keyword=event.keyword, score=event.score, during=last))
    return tuple(sorted(found, key=lambda one: -one.score))


def _facts(
    word: str, sources: _Sources, streams: dict[str, Built], found: dict[str, Matches]
) -> Facts:
    items = _laid(streams["words"])
    wrong = np.array(_missed(streams["words"], found["words"]), bool)
    ours = np.array([item.text == word for item in items], bool)
    level = np.array([item.level_dbfs for item in items])
    snr = np.array([item.snr_db or 0.0 for item in items])

    def share(of: npt.NDArray[np.bool_]) -> float:
        return float(wrong[of].mean()) if of.any() else 0.0

    soft, noisy = level < np.median(level[ours]), snr < np.median(snr[ours])
    trained = None
    if "trained" in found:
        missed = _missed(streams["trained"], found["trained"])
        again = [
            bad
            for item, bad in zip(_laid(streams["trained"]), missed, strict=True)
            if item.text == word
        ]
        trained = float(np.mean(again)) if again else None
    near = found.get("near")
    recordings = sources.clips(word, [TRAINING], generated=False)
    return Facts(
        keyword=word,
        recordings=len(recordings),
        speakers=len({speaker_of(path.name) for path in recordings}),
        held_out=len(sources.clips(word, HELD_OUT, generated=False)),
        generated=len(sources.clips(word, [TRAINING], generated=True)),
        missed=share(ours),
        missed_trained=trained,
        missed_soft=share(ours & soft),
        missed_loud=share(ours & ~soft),
        missed_noisy=share(ours & noisy),
        missed_clear=share(ours & ~noisy),
        near_misses=None if near is None else len(near.substitutions) / max(1, near.words),
        more_to=sources.more_to,
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
