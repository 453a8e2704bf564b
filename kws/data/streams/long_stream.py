"""Hours of audio as a listening device hears it: words, sentences, noise and quiet, with labels.

A stream is a sequence of items, each after a pause: a keyword (on request just after a wake word),
another word, a sentence, a stretch of noise alone, or a stretch of near silence. Background noise
runs throughout. Its level changes during pauses and is constant under an item, so that each spoken
item has its own level (RMS of its loud parts) and signal-to-noise ratio. The noise is one recording
at a time, normalised in RMS over each stretch of 15 to 45 s and crossfaded into the next; if a
recording consists of bursts, the ratio holds for the stretch and not for each word.

Everything is generated and written item by item, so long streams take time but no memory. Equal
arguments give equal bytes (with the same version of NumPy).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from kws.audio.files import read_audio
from kws.audio.level import rms
from kws.audio.samples import Pcm
from kws.audio.wav import MOST_WAV_SAMPLES, wav_header
from kws.data.label_file import COLUMNS, SpokenWord
from kws.data.spans import word_spans
from kws.data.streams.material import Material
from kws.errors import KwsError
from kws.system.files import atomic_write
from kws.system.progress import Progress
from kws.wording import counted

RATE_HZ = 16000
SPEECH_DB = 30.0
"""In a sentence, anything this much below the loudest 20 ms is a pause."""
MARGIN_S = 0.1
"""Margin of a clip that is kept before and after its word, fading in and out."""
TAIL_S = 0.6
"""No word ends within this time before the end, or its event would come too late."""
_FADE_S = 0.3
_WORD_S = 0.8
"""Usual length of a word's clip."""
_STRETCH_S = (15.0, 45.0)
_ALONE_S = (3.0, 10.0)
_ABSOLUTE_SILENCE_DB = -120.0
_LABELLED = ("keyword", "wake")
_SCALE = 32768.0

Float = NDArray[np.float32]
_Item = TypeVar("_Item")


@dataclass(frozen=True, kw_only=True)
class StreamPlan:
    """How a stream is put together."""

    hours: float = 1.0
    """Length, in hours."""
    words_per_hour: float = 400.0
    """Keywords per hour, each equally often."""
    others_per_hour: float = 200.0
    """Single words that are not keywords, per hour."""
    speech: float = 0.6
    """Weight of sentences in the remaining time."""
    noise: float = 0.25
    """Weight of stretches of noise alone."""
    silence: float = 0.15
    """Weight of stretches of near silence."""
    gap_s: tuple[float, float] = (0.6, 2.5)
    """Shortest and longest pause before an item, in s."""
    wake_gap_s: tuple[float, float] = (0.2, 1.0)
    """Shortest and longest pause between a wake word and its keyword, in s."""
    snr_db: tuple[float, float] = (10.0, 20.0)
    """Lowest and highest speech-to-noise ratio, in dB."""
    level_dbfs: tuple[float, float] = (-38.0, -18.0)
    """Lowest and highest level of speech, RMS in dB relative to full scale."""
    noise_dbfs: tuple[float, float] = (-50.0, -18.0)
    """Lowest and highest level of noise alone."""
    silence_dbfs: tuple[float, float] = (-90.0, -62.0)
    """Lowest and highest level of near silence; one stretch in four is digital zeros."""
    seed: int = 0
    """Of the random generator."""

    def __post_init__(self) -> None:
        most = MOST_WAV_SAMPLES / RATE_HZ / 3600
        if self.hours > most:
            raise KwsError(
                f"A WAV file of 4 GB holds {most:.1f} hours. Received: {self.hours:g}. Build "
                "several files with different seeds"
            )
        if not self.hours > 0 or not self.samples:
            raise KwsError(f"A stream must last more than 0 hours. Received: {self.hours:g}")
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, tuple) and not -1e3 < value[0] <= value[1] < 1e3:
                raise KwsError(
                    f"{one.name} must go from a lower to a higher number. "
                    f"Received: {value[0]:g} to {value[1]:g}"
                )
        for pause_s in (self.gap_s[0], self.wake_gap_s[0]):
            if pause_s < 0:
                raise KwsError(f"A pause must not be negative. Received: {pause_s:g} s")
        shares = (self.speech, self.noise, self.silence)
        if min(shares) < 0 or not 0 < sum(shares) < 1e9:
            raise KwsError(
                "The shares of speech, noise and silence must be 0 or more, and one above 0. "
                f"Received: {', '.join(f'{share:g}' for share in shares)}"
            )
        rates = (self.words_per_hour, self.others_per_hour)
        if min(rates) < 0:
            raise KwsError(f"Words per hour must be 0 or more. Received: {min(rates):g}")
        most_words = 3600 / (sum(self.gap_s) / 2 + _WORD_S)
        if not sum(rates) <= most_words:
            raise KwsError(
                f"An hour holds at most {most_words:.0f} single words with these pauses. Received: "
                f"{sum(rates):g}. Ask for fewer words or shorter pauses"
            )

    @property
    def samples(self) -> int:
        """Length in samples."""
        return round(self.hours * 3600 * RATE_HZ)


@dataclass(frozen=True, kw_only=True)
class LaidItem:
    """An item of a stream."""

    kind: str
    """``"keyword"``, ``"wake"`` (just before a keyword), ``"other"``, ``"sentence"``, ``"noise"``
    or ``"silence"``."""
    start_s: float
    """Where the word, sentence or stretch begins, in seconds from the start of the stream."""
    end_s: float
    """Where it ends."""
    text: str
    """The keyword, or the label of another word; otherwise empty."""
    path: Path | None = None
    """The recording; None for noise and silence."""
    level_dbfs: float = _ABSOLUTE_SILENCE_DB
    """Its level."""
    snr_db: float | None = None
    """Its ratio to the noise under it; None without speech."""

    @property
    def source(self) -> str:
        """The recording as ``<folder>/<file>``, or empty."""
        return f"{self.path.parent.name}/{self.path.name}" if self.path else ""


@dataclass(frozen=True, kw_only=True)
class Built:
    """A stream that was built."""

    seconds: float
    """Length, in seconds."""
    words: Mapping[str, int]
    """How often each keyword is spoken."""
    items: tuple[LaidItem, ...] = field(repr=False)
    """All items, by time."""

    @property
    def shares(self) -> dict[str, float]:
        """Share of the time for each kind of item, 0 to 1; the rest is pauses."""
        spent: Counter[str] = Counter()
        for item in self.items:
            spent[item.kind] += round((item.end_s - item.start_s) * RATE_HZ)
        return {kind: spent[kind] / RATE_HZ / self.seconds for kind in sorted(spent)}

    @property
    def truth(self) -> tuple[SpokenWord, ...]:
        """The wake words and keywords with their times."""
        return tuple(
            SpokenWord(start_s=item.start_s, end_s=item.end_s, keyword=item.text)
            for item in self.items
            if item.kind in _LABELLED
        )


def build_stream(
    material: Material,
    plan: StreamPlan,
    audio: str | Path,
    labels: str | Path,
    *,
    progress: bool = False,
) -> Built:
    """Write a stream as WAV and its label file.

    The label file (`kws.data.label_file`) has three more columns: source, level_dbfs and snr_db.
    Both files appear together, complete, or not at all.

    Args:
        material: recordings to build it from.
        plan: how to build it.
        audio: the WAV file to write.
        labels: the label file to write.
        progress: report on stderr.

    Raises:
        KwsError: the plan needs material that is missing, or a recording cannot be read.
    """
    items: list[LaidItem] = []
    with (
        atomic_write(audio) as wav,
        atomic_write(labels, "w") as table,
        Progress(
            round(plan.hours * 3600), "building a stream", unit="s of audio", shown=progress
        ) as bar,
    ):
        wav.write(wav_header(plan.samples, RATE_HZ))
        table.write("\t".join((*COLUMNS, "source", "level_dbfs", "snr_db")) + "\n")
        at = 0
        for pcm, item in lay_items(material, plan):
            wav.write(pcm.astype("<i2", copy=False).data)
            bar.advance((at + len(pcm)) // RATE_HZ - at // RATE_HZ)
            at += len(pcm)
            if item is None:
                continue
            items.append(item)
            if item.kind in _LABELLED:
                table.write(
                    f"{item.start_s:.3f}\t{item.end_s:.3f}\t{item.text}\t{item.source}\t"
                    f"{item.level_dbfs:.1f}\t{item.snr_db:.1f}\n"
                )
    counts = Counter(item.text for item in items if item.kind == "keyword")
    return Built(
        seconds=at / RATE_HZ,
        words={word: counts[word] for word in material.words},
        items=tuple(items),
    )


def lay_items(material: Material, plan: StreamPlan) -> Iterator[tuple[Pcm, LaidItem | None]]:
    """Generate a stream piece by piece; together the pieces have `plan.samples` samples.

    Keywords and other words come at regular intervals with a random offset, as close to their time
    as the neighbouring items allow. The other items are drawn so that the shares are met.

    Yields:
        int16 [n], and the item at the end of the piece (None for the last piece).

    Raises:
        KwsError: as `build_stream`.
    """
    rng = np.random.default_rng(plan.seed)
    choose = _Choice(material, plan, rng)
    noise = _Noise(material.noise, rng)
    at, before_db = 0, rng.uniform(*plan.noise_dbfs)
    last_end = plan.samples - round(TAIL_S * RATE_HZ)
    while True:
        item = choose.next(at)
        pause_s = plan.wake_gap_s if item.after_wake else plan.gap_s
        gap = round(rng.uniform(*pause_s) * RATE_HZ)
        if at + gap + len(item.samples) + item.room > last_end:
            break
        # The level changes linearly in dB during the pause.
        amplitude = np.full(gap + len(item.samples), 10 ** (item.noise_db / 20), np.float32)
        amplitude[:gap] = np.geomspace(10 ** (before_db / 20), 10 ** (item.noise_db / 20), gap)
        mixed = noise.take(len(amplitude)) * amplitude
        mixed[gap:] += item.samples
        yield (
            _to_int16(mixed),
            LaidItem(
                kind=item.kind,
                start_s=(at + gap + item.span[0]) / RATE_HZ,
                end_s=(at + gap + item.span[1]) / RATE_HZ,
                text=item.text,
                path=item.path,
                level_dbfs=item.level_dbfs,
                snr_db=item.snr_db,
            ),
        )
        at += len(mixed)
        before_db = item.noise_db
    yield _to_int16(noise.take(plan.samples - at) * np.float32(10 ** (before_db / 20))), None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Prepared:
    """An item before it is placed."""

    kind: str
    samples: Float
    """Speech, full scale 1; zeros without speech [n]."""
    span: tuple[int, int]
    """First sample of the word or sentence, and the one after its last."""
    noise_db: float
    """Level of the noise under it, in dBFS."""
    text: str = ""
    path: Path | None = None
    level_dbfs: float = _ABSOLUTE_SILENCE_DB
    snr_db: float | None = None
    after_wake: bool = False
    """Whether its wake word comes just before it."""
    room: int = 0
    """Samples that must follow it: a wake word's keyword after the longest pause."""


class _Choice:
    """Chooses the next item."""

    def __init__(self, material: Material, plan: StreamPlan, rng: np.random.Generator) -> None:
        self._plan, self._rng = plan, rng
        self._keywords = _Deck(tuple(material.words), rng)
        self._clips = {word: _Deck(paths, rng) for word, paths in material.words.items()}
        self._others = _Deck(material.others, rng)
        self._sentences = _Deck(material.sentences, rng)
        self._wake_word, self._wakes = material.wake_word, _Deck(material.wakes, rng)
        self._pending: _Prepared | None = None  # the keyword of the wake word that came last
        rates = {"keyword": plan.words_per_hour, "other": plan.others_per_hour}
        for kind, has in (("keyword", material.words), ("other", material.others)):
            if rates[kind] and not has:
                what = "keywords" if kind == "keyword" else "other words"
                raise KwsError(
                    f"There are no clips of {what}. Received: {rates[kind]:g} per hour. "
                    f"Set {'--no-commands' if kind == 'keyword' else '--others-per-hour 0'}, or "
                    "give a folder that has them"
                )
        word_s = sum(plan.gap_s) / 2 + _WORD_S
        pair_s = word_s + sum(plan.wake_gap_s) / 2 + _WORD_S
        if material.wake_word and (
            plan.words_per_hour * pair_s + plan.others_per_hour * word_s > 3600
        ):
            raise KwsError(
                f"An hour does not hold so many words, each after {material.wake_word!r}. "
                f"Received: {plan.words_per_hour:g}, and {plan.others_per_hour:g} others. Ask for "
                "fewer words or shorter pauses"
            )
        if plan.speech and not material.sentences:
            raise KwsError(
                f"There are no sentences. Received: a share of {plan.speech:g} for speech. "
                "Give some with --sentences DIR, or set --speech 0"
            )
        self._interval = {kind: 3600 * RATE_HZ / rate for kind, rate in rates.items() if rate}
        self._due = {kind: self._draw_due(kind, 0) for kind in self._interval}
        self._done = dict.fromkeys(self._interval, 0)
        # Samples of each of the other kinds so far, to meet their shares.
        self._laid = {"sentence": 0, "noise": 0, "silence": 0}

    def _draw_due(self, kind: str, number: int) -> float:
        return (number + self._rng.random()) * self._interval[kind]

    def next(self, at: int) -> _Prepared:
        """Return the next item, from sample `at` on."""
        if self._pending is not None:
            item, self._pending = self._pending, None
            return item
        waiting = {kind: due for kind, due in self._due.items() if due <= at}
        if waiting:
            kind = min(waiting, key=lambda k: waiting[k])
            self._done[kind] += 1
            self._due[kind] = self._draw_due(kind, self._done[kind])
            if kind == "keyword":
                word = self._keywords.draw()
                item = self._spoken(kind, self._clips[word].draw(), word)
                return self._woken(item) if self._wake_word else item
            path = self._others.draw()
            return self._spoken(kind, path, path.parent.name)
        plan = self._plan
        shares = np.array([plan.speech, plan.noise, plan.silence])
        laid = np.array(list(self._laid.values()), np.float64)
        # What each kind lacks to reach its share, looking 30 s ahead.
        lacking = np.maximum(shares / shares.sum() * (laid.sum() + 30 * RATE_HZ) - laid, 0)
        kind = str(self._rng.choice(list(self._laid), p=lacking / lacking.sum()))
        if kind == "sentence":
            item = self._spoken(kind, self._sentences.draw())
        else:
            n = round(self._rng.uniform(*_ALONE_S) * RATE_HZ)
            level = self._rng.uniform(*(plan.noise_dbfs if kind == "noise" else plan.silence_dbfs))
            if kind == "silence" and self._rng.random() < 0.25:
                level = _ABSOLUTE_SILENCE_DB
            item = _Prepared(
                kind=kind,
                samples=np.zeros(n, np.float32),
                span=(0, n),
                noise_db=level,
                level_dbfs=level,
            )
        self._laid[kind] += len(item.samples)
        return item

    def _woken(self, keyword: _Prepared) -> _Prepared:
        """Return a wake word, as loud as the keyword, which comes next."""
        self._pending = replace(keyword, after_wake=True)
        wake = self._spoken("wake", self._wakes.draw(), self._wake_word, like=keyword)
        pause = round(self._plan.wake_gap_s[1] * RATE_HZ)
        return replace(wake, room=pause + len(keyword.samples))

    def _spoken(
        self, kind: str, path: Path, text: str = "", like: _Prepared | None = None
    ) -> _Prepared:
        """Prepare a recording of speech, at a random level and ratio or at those of another."""
        rng, plan = self._rng, self._plan
        if like is None or like.snr_db is None:
            level, snr = rng.uniform(*plan.level_dbfs), rng.uniform(*plan.snr_db)
        else:
            level, snr = like.level_dbfs, like.snr_db
        pcm = read_audio(path, RATE_HZ)
        if len(pcm) < RATE_HZ // 10:
            raise KwsError(
                f"{path} is too short for speech. Received: {counted(len(pcm), 'sample')}"
            )
        start, end = (
            sentence_span(pcm) if kind == "sentence" else map(int, word_spans(pcm[None])[0])
        )
        margin = round(MARGIN_S * RATE_HZ)
        first, last = max(0, start - margin), min(len(pcm), end + margin)
        samples = pcm[first:last].astype(np.float32) / np.float32(_SCALE)
        span = (start - first, end - first)
        samples *= np.float32(10 ** (level / 20) / max(_loud_rms(samples[slice(*span)]), 1e-6))
        samples[: span[0]] *= np.linspace(0, 1, span[0], dtype=np.float32)
        samples[span[1] :] *= np.linspace(1, 0, len(samples) - span[1], dtype=np.float32)
        return _Prepared(
            kind=kind,
            samples=samples,
            span=span,
            noise_db=level - snr,
            text=text,
            path=path,
            level_dbfs=level,
            snr_db=snr,
        )


class _Deck(Generic[_Item]):
    """Draws items without replacement; reshuffles when all are drawn."""

    def __init__(self, items: Sequence[_Item], rng: np.random.Generator) -> None:
        self._items, self._rng = items, rng
        self._order: list[int] = []

    def draw(self) -> _Item:
        """Return the next item."""
        if not self._order:
            self._order = self._rng.permutation(len(self._items)).tolist()
        return self._items[self._order.pop()]


class _Noise:
    """Endless noise with an RMS of 1 over each stretch."""

    def __init__(self, recordings: Sequence[Pcm], rng: np.random.Generator) -> None:
        self._recordings = [r for r in recordings if len(r) >= RATE_HZ and r.any()]
        if not self._recordings:
            raise KwsError(
                "There is no noise to mix with the speech. Received: "
                f"{counted(len(recordings), 'recording')}, none of at least a second of sound. "
                "Give some with --noise-dir DIR"
            )
        self._rng = rng
        self._fade = round(_FADE_S * RATE_HZ)
        self._ready = self._stretch()

    def take(self, n: int) -> Float:
        """Return the next n samples, float32 [n]."""
        while len(self._ready) - self._fade < n:
            following = self._stretch()
            # Equal power, as the two are independent.
            up = np.sin(np.linspace(0, np.pi / 2, self._fade, dtype=np.float32))
            following[: self._fade] *= up
            following[: self._fade] += self._ready[-self._fade :] * up[::-1]
            self._ready = np.concatenate([self._ready[: -self._fade], following])
        taken, self._ready = self._ready[:n].copy(), self._ready[n:]
        return taken

    def _stretch(self) -> Float:
        rng = self._rng
        n = round(rng.uniform(*_STRETCH_S) * RATE_HZ)
        for _ in range(100):
            recording = self._recordings[rng.integers(len(self._recordings))]
            start = int(rng.integers(len(recording)))
            # Short recordings are looped.
            turned = np.concatenate([recording[start : start + n], recording[:start]])[:n]
            samples = np.resize(turned, n).astype(np.float32)
            level = rms(samples)
            if level >= 1:
                break
        return samples / np.float32(max(level, 1))


def sentence_span(pcm: Pcm) -> tuple[int, int]:
    """Return the first sample of speech in a recording, and the one after its last.

    Speech is everything within `SPEECH_DB` of the loudest 20 ms.
    """
    loud = np.flatnonzero(_loud(pcm.astype(np.float32)))
    frame = RATE_HZ // 50
    return int(loud[0]) * frame, min(len(pcm), (int(loud[-1]) + 1) * frame)


def _loud(samples: Float) -> NDArray[np.bool_]:
    """Return for each 20 ms whether it is loud; an incomplete block at the end is ignored."""
    frame = min(RATE_HZ // 50, max(1, len(samples)))
    blocks = samples[: len(samples) // frame * frame].reshape(-1, frame).astype(np.float64)
    power = np.mean(np.square(blocks), axis=1)
    return power >= power.max(initial=0.0) * 10 ** (-SPEECH_DB / 10)


def _loud_rms(samples: Float) -> float:
    frame = min(RATE_HZ // 50, max(1, len(samples)))
    loud = np.repeat(_loud(samples), frame)
    return rms(samples[: len(loud)][loud])


def _to_int16(samples: Float) -> Pcm:
    return np.clip(np.rint(samples * np.float32(_SCALE)), -32768, 32767).astype(np.int16)
