"""The timeline of a stream: log-mel energies, spoken words, events and posteriors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kws.data.label_file import SpokenWord
from kws.decide import Event, decision_limits, moving_sums
from kws.errors import KwsError, require
from kws.frontend import log_mel, mel_corners_hz, mel_energies, spectrum, split
from kws.model_file import ModelCard
from kws.recordings.matching import Matches, join_matches, match_events
from kws.report.style import BLUE, INK, PALE, VERMILLION, legend_below, picture, title
from kws.wording import counted

if TYPE_CHECKING:
    from kws.evaluate.streams import StreamEvaluation

_CHARACTERS = 1 / 170
"""Width of a character in the timeline, as a share of the picture's width."""


def plot_timeline(
    pcm: npt.NDArray[np.int16],
    posteriors: npt.ArrayLike,
    card: ModelCard,
    path: str | Path,
    *,
    truth: Iterable[SpokenWord] = (),
    events: Iterable[Event] = (),
    start_s: float = 0.0,
    end_s: float | None = None,
    offset_s: float = 0.0,
) -> None:
    """Draw part of a stream as a timeline.

    From the top: log-mel energies; the spoken words and the events; for each keyword its posteriors
    (grey), their moving mean (blue), and its threshold (dashed).

    Args:
        pcm: int16 [n], audio that includes the part.
        posteriors: of every step from the start of the stream [steps, labels].
        card: the model.
        path: .png, .pdf or .svg; written whole or not at all.
        truth: the spoken words.
        events: the events.
        start_s: start of the part, in s of the stream.
        end_s: end of the part; by default that of `pcm`.
        offset_s: start of `pcm`, in s of the stream.

    Raises:
        KwsError: matplotlib is missing, an unknown suffix, or a part outside the audio.
    """
    duration_s = offset_s + len(pcm) / card.front_end.sample_rate_hz
    matches = match_events(truth, events, duration_s=max(duration_s, 1e-9))
    _draw(
        pcm, np.asarray(posteriors), card, path, matches,
        start_s=start_s, end_s=end_s, offset_s=offset_s, name=card.name,
    )  # fmt: skip


def _draw(
    pcm: npt.NDArray[np.int16],
    posteriors: npt.NDArray[np.floating],
    card: ModelCard,
    path: str | Path,
    matches: Matches,
    *,
    start_s: float,
    end_s: float | None,
    offset_s: float,
    name: str,
) -> None:
    """As `plot_timeline`, with words and events that are matched already, under a name."""
    rate = card.front_end.sample_rate_hz
    audio_end_s = offset_s + len(pcm) / rate
    start_s, end_s = _within(
        start_s, audio_end_s if end_s is None else end_s, offset_s, audio_end_s, card
    )
    scores = np.asarray(posteriors, np.float64).reshape(-1, len(card.labels))
    times = np.array([card.step_time_s(k) for k in range(len(scores))])
    shown = (times >= start_s) & (times <= end_s)
    lanes = _lanes(card, scores[shown], matches.spoken, matches.reported, start_s, end_s)

    height = 1.5 + 1.1 + 0.42 * len(lanes)
    with picture(path, (12.0, height + 1.3)) as figure:
        rows = figure.subplots(
            2 + len(lanes), 1, sharex=True, squeeze=False,
            height_ratios=[1.5, 1.1] + [0.42] * len(lanes),
            gridspec_kw={"hspace": 0.12},
        )[:, 0]  # fmt: skip
        first = round((start_s - offset_s) * rate)
        part = pcm[first : round((end_s - offset_s) * rate)]
        _mel_panel(rows[0], part, card, start_s, end_s)
        _word_panel(rows[1], matches, start_s, end_s)
        limits = decision_limits(card.decision, card.keywords, card.step_ms)
        means = moving_sums(scores, limits.window_steps) / limits.window_steps
        right = {id(event) for _, event in matches.hits}
        for axes, keyword in zip(rows[2:], lanes, strict=True):
            column = card.labels.index(keyword)
            _lane(
                axes, keyword, times[shown], scores[shown, column], means[shown, column],
                card.decision.thresholds[keyword],
            )  # fmt: skip
            for event in matches.reported:
                if event.keyword == keyword and start_s <= event.time_s <= end_s:
                    _mark(axes, event.time_s, event.score, id(event) in right)
        for axes in rows[1:]:
            for word in matches.spoken:
                axes.axvspan(word.start_s, word.end_s, color="#F1F1F1", linewidth=0, zorder=0)
        for axes in rows[:-1]:
            axes.tick_params(bottom=False)
        rows[-1].set_xlabel("seconds from the start of the stream")
        rows[-1].set_xlim(start_s, end_s)
        title(figure, name, _counted(matches, start_s, end_s))
        _timeline_legend(figure)


def plot_stretch(
    evaluation: StreamEvaluation,
    path: str | Path,
    *,
    start_s: float,
    end_s: float,
    recording: int = 0,
) -> None:
    """Draw part of an evaluated recording (see `plot_timeline`).

    Args:
        evaluation: the result.
        path: .png, .pdf or .svg; written whole or not at all.
        start_s: start of the part, in s.
        end_s: its end.
        recording: position of the recording in `evaluation`, from 0.

    Raises:
        KwsError: as `plot_timeline`, or the recording can no longer be read.
    """
    from kws.audio.files import iter_audio

    result = evaluation.recordings[recording]
    rate = evaluation.card.front_end.sample_rate_hz
    start_s, end_s = _within(start_s, end_s, 0.0, result.recording.seconds, evaluation.card)
    first, last = round(start_s * rate), round(end_s * rate)
    parts, at = [], 0
    for block in iter_audio(result.recording.audio, rate, rate):
        if at + len(block) > first:
            parts.append(block[max(0, first - at) : last - at])
        at += len(block)
        if at >= last:
            break
    wake = evaluation.wake
    _draw(
        np.concatenate(parts) if parts else np.zeros(0, np.int16),
        result.recording.posteriors,
        evaluation.card,
        path,
        join_matches([result.matches, result.wake]) if result.wake else result.matches,
        start_s=start_s,
        end_s=end_s,
        offset_s=min(first, at) / rate,
        name=evaluation.card.name + (f" after {Path(wake.model).stem}" if wake else ""),
    )


def _within(
    start_s: float, end_s: float, audio_start_s: float, audio_end_s: float, card: ModelCard
) -> tuple[float, float]:
    """Return the part limited to the audio.

    Raises:
        KwsError: less than a frame of it is left.
    """
    first_s, last_s = max(start_s, audio_start_s), min(end_s, audio_end_s)
    if last_s - first_s < card.front_end.frame_length / card.front_end.sample_rate_hz:
        raise KwsError(
            f"The timeline would show {start_s:.2f} to {end_s:.2f} s, where there is no audio. "
            f"The audio is {audio_start_s:.2f} to {audio_end_s:.2f} s"
        )
    return first_s, last_s


def _mel_panel(
    axes: Any, pcm: npt.NDArray[np.int16], card: ModelCard, start_s: float, end_s: float
) -> None:
    config = card.front_end
    floor = math.log(config.log_floor)
    energies = log_mel(mel_energies(spectrum(split(pcm, config)), config), config)
    if len(energies):  # [frames, n_mels]
        # Each frame is drawn one hop wide around its middle.
        hop_s = config.hop_length / config.sample_rate_hz
        left = start_s + config.frame_length / 2 / config.sample_rate_hz - hop_s / 2
        axes.imshow(
            energies.T, origin="lower", aspect="auto", cmap="magma", interpolation="nearest",
            extent=(left, left + hop_s * len(energies), 0, config.n_mels),
            vmin=floor, vmax=max(float(energies.max()), floor + 4),
        )  # fmt: skip
    axes.set_facecolor("black")
    marks = [hz for hz in (250, 1000, 4000) if config.mel_low_hz < hz < config.mel_high_hz]
    axes.set_yticks([_mel_band(hz, card) for hz in marks], [_hertz(hz) for hz in marks])
    axes.set_ylabel("log-mel")
    axes.set_xlim(start_s, end_s)


def _mel_band(hz: float, card: ModelCard) -> float:
    """Return where a frequency lies among the mel bands, in bands from the lowest."""
    corners_hz = mel_corners_hz(card.front_end)
    # The middle of band k (drawn from k to k + 1) is corner k + 1.
    return float(np.interp(hz, corners_hz, np.arange(len(corners_hz)) - 0.5))


def _hertz(hz: float) -> str:
    return f"{hz / 1000:g} kHz" if hz >= 1000 else f"{hz:g} Hz"


def _word_panel(axes: Any, matches: Matches, start_s: float, end_s: float) -> None:
    """Draw words as bars and events as marks: right ones blue, wrong ones vermillion.

    A long part has no room for all names; those of mistakes come first.
    """
    axes.set_ylim(0, 2.1)
    axes.set_yticks([1.45, 0.45], ["said", "detected"])
    axes.tick_params(axis="y", length=0)
    right = {id(word) for word, _ in matches.hits} | {id(event) for _, event in matches.hits}
    said = [w for w in matches.spoken if w.end_s > start_s and w.start_s < end_s]
    notes = [
        (w.start_s, w.keyword if id(w) in right else f"{w.keyword} ✗", id(w) in right) for w in said
    ]
    for word, (at, text, good), row in zip(said, notes, _rows(notes, start_s, end_s), strict=True):
        axes.barh(
            1.18, word.end_s - word.start_s, left=word.start_s, height=0.12,
            color=BLUE if good else "white", edgecolor=BLUE if good else VERMILLION,
            linewidth=1.2,
        )  # fmt: skip
        if row is not None:
            _note(axes, at, 1.36 + 0.28 * row, text, good, start_s, end_s)
    reported = [e for e in matches.reported if start_s <= e.time_s <= end_s]
    notes = [(e.time_s, f"{e.keyword} {e.score:.2f}", id(e) in right) for e in reported]
    for (at, text, good), row in zip(notes, _rows(notes, start_s, end_s), strict=True):
        _mark(axes, at, 0.18, good)
        if row is not None:
            _note(axes, at, 0.34 + 0.28 * row, text, good, start_s, end_s)
    axes.axhline(1.02, color="#DDDDDD", linewidth=0.8)


def _rows(
    notes: Sequence[tuple[float, str, bool]], start_s: float, end_s: float
) -> list[int | None]:
    """Return a row, 0 or 1, for each note (at, text, right) such that none overlap.

    Notes for which there is no room get None; those on mistakes come first.
    """
    character_s = (end_s - start_s) * _CHARACTERS
    taken: list[list[tuple[float, float]]] = [[], []]
    rows: list[int | None] = [None] * len(notes)
    for i in sorted(range(len(notes)), key=lambda i: (notes[i][2], notes[i][0])):
        at, text, _ = notes[i]
        width_s = character_s * (len(text) + 1)
        left = min(max(at, start_s), end_s - width_s)  # as `_note` places it
        for row, others in enumerate(taken):
            if all(left >= end or left + width_s <= start for start, end in others):
                others.append((left, left + width_s))
                rows[i] = row
                break
    return rows


def _note(
    axes: Any, x: float, y: float, text: str, good: bool, start_s: float, end_s: float
) -> None:
    """Write a text that begins at x, or ends at the right edge if it would not fit."""
    width_s = (len(text) + 1) * _CHARACTERS * (end_s - start_s)
    over = x + width_s > end_s
    axes.text(
        end_s if over else max(x, start_s), y, text, ha="right" if over else "left",
        size=8, va="bottom", color=BLUE if good else VERMILLION,
        weight="normal" if good else "bold",
    )  # fmt: skip


def _mark(axes: Any, x: float, y: float, good: bool) -> None:
    axes.plot(
        x, y, marker="^" if good else "X", markersize=7, linestyle="none", clip_on=False,
        color=BLUE if good else VERMILLION, markeredgecolor="white", markeredgewidth=0.5,
        zorder=5,
    )  # fmt: skip


def _lanes(
    card: ModelCard,
    scores: npt.NDArray[np.float64],
    truth: Iterable[SpokenWord],
    events: Iterable[Event],
    start_s: float,
    end_s: float,
) -> list[str]:
    """Return the keywords that get a lane, at most twelve, in the model's order."""
    if len(card.keywords) <= 12:
        return list(card.keywords)
    named = {w.keyword for w in truth if w.end_s > start_s and w.start_s < end_s}
    named |= {e.keyword for e in events if start_s <= e.time_s <= end_s}

    def interest(keyword: str) -> float:
        column = scores[:, card.labels.index(keyword)]
        return (keyword in named) + float(column.max(initial=0.0))

    chosen = sorted(card.keywords, key=interest, reverse=True)[:12]
    return [keyword for keyword in card.keywords if keyword in chosen]


def _lane(
    axes: Any,
    keyword: str,
    times: npt.NDArray[np.float64],
    posteriors: npt.NDArray[np.float64],
    means: npt.NDArray[np.float64],
    threshold: float,
) -> None:
    axes.fill_between(times, posteriors, step="pre", color=PALE, linewidth=0)
    axes.plot(times, means, color=BLUE, linewidth=1.4)
    axes.axhline(threshold, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_ylim(0.0, 1.05)
    axes.set_yticks([threshold], [f"{threshold:.2f}"], size=6.5)
    axes.yaxis.tick_right()
    axes.tick_params(axis="y", length=0)
    axes.set_ylabel(keyword, rotation=0, ha="right", va="center")
    for name in ("top", "right", "left"):
        axes.spines[name].set_visible(False)


def _counted(matches: Matches, start_s: float, end_s: float) -> str:
    """Return a summary of the part shown."""
    words = [w for w in matches.spoken if w.end_s > start_s and w.start_s < end_s]
    events = [e for e in matches.reported if start_s <= e.time_s <= end_s]
    hits = {id(x) for pair in matches.hits for x in pair}
    detected = sum(id(word) in hits for word in words)
    wrong = sum(id(event) not in hits for event in events)
    return (
        f"{round(start_s, 2):g} to {round(end_s, 2):g} s: {detected} of "
        f"{counted(len(words), 'word')} detected, {wrong} of {counted(len(events), 'event')} wrong"
    )


def _timeline_legend(figure: Any) -> None:
    lines = require("matplotlib.lines", extra="plot")
    patches = require("matplotlib.patches", extra="plot")

    def mark(shape: str, colour: str) -> Any:
        return lines.Line2D([], [], marker=shape, color=colour, linestyle="none", markersize=7)

    entries = {
        "detected word": patches.Patch(facecolor=BLUE, edgecolor=BLUE),
        "missed word": patches.Patch(facecolor="white", edgecolor=VERMILLION, linewidth=1.2),
        "right event": mark("^", BLUE),
        "wrong event": mark("X", VERMILLION),
        "posterior": patches.Patch(facecolor=PALE),
        "moving mean": lines.Line2D([], [], color=BLUE, linewidth=1.4),
        "threshold": lines.Line2D([], [], color=INK, linewidth=0.8, linestyle=(0, (4, 3))),
    }
    legend_below(figure, entries)
