"""Pictures: confusion, noise, training, misses over false accepts, time line, cuts.

Colours are those of M. Okabe and K. Ito, "Color Universal Design" (2008), which people with any
kind of colour vision can tell apart; right and wrong differ in shape as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kws.audio.files import SAMPLE_RATE_HZ
from kws.data.find_words import Utterance, levels_dbfs
from kws.data.own_words import Cut
from kws.decide import Event, decision_limits
from kws.errors import KwsError, require
from kws.files import atomic_write
from kws.frontend import log_mel, mel_energies, spectrum, split
from kws.matching import Matches, SpokenWord, match_events
from kws.model_file import ModelCard

if TYPE_CHECKING:
    from kws.evaluate import Evaluation, StreamEvaluation
    from kws.recordings.curve import Curve

_SUFFIXES = (".png", ".pdf", ".svg")
_DPI = 150
_BLUE, _VERMILLION, _ORANGE, _GREY, _INK = "#0072B2", "#D55E00", "#E69F00", "#8A8A8A", "#222222"
_PALE = "#C9C9C9"
_CHARACTERS = 1 / 170
"""Width of a character in the time line, as a share of the picture's width."""

_STYLE = {
    "font.size": 9.0,
    "axes.titlesize": 11.0,
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.edgecolor": "#666666",
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "text.color": _INK,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "svg.hashsalt": "kws",
    "svg.fonttype": "none",
}


def check_picture(path: str | Path) -> None:
    """Make sure, before long work, that a picture can be drawn and stored under this name.

    Raises:
        KwsError: matplotlib is missing, or the suffix is none of .png, .pdf, .svg.
    """
    if Path(path).suffix.lower() not in _SUFFIXES:
        raise KwsError(
            f"A picture's name must end in {', '.join(_SUFFIXES)}. Received: {str(path)!r}"
        )
    require("matplotlib", extra="plot")


def plot_confusion(evaluation: Evaluation, path: str | Path) -> None:
    """Draw the confusion matrix of an evaluation.

    Rows are what was said, columns what was heard; the colour is the share of the row, the number
    counts clips. Recall stands at the end of each row, precision under each column.

    Args:
        evaluation: the result to draw.
        path: .png, .pdf or .svg; written whole or not at all.

    Raises:
        KwsError: matplotlib is missing, or an unknown suffix.
    """
    counts = np.array(evaluation.confusion)
    labels = evaluation.labels
    n = len(labels)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    per_label = evaluation.per_label()
    cell = 0.52 if n <= 14 else 0.36
    size = 8.5 if n <= 14 else 6.5
    low, high = (100 * bound for bound in evaluation.interval)

    with _picture(path, (max(4.8, cell * (n + 2) + 1.6), max(3.6, cell * (n + 1) + 2.2))) as figure:
        axes = figure.add_subplot()
        # Right in blue, wrong in orange; the square root shows one clip in a hundred.
        right = np.eye(n, dtype=bool)
        depth = np.sqrt(shares)
        axes.imshow(np.ma.masked_where(~right, depth), cmap="Blues", vmin=0.0, vmax=1.15)
        axes.imshow(
            np.ma.masked_where(right | (counts == 0), depth), cmap="Oranges", vmin=0.0, vmax=0.8
        )
        axes.set_xticks(range(n), labels, rotation=45, ha="left", rotation_mode="anchor")
        axes.set_yticks(range(n), labels)
        axes.xaxis.tick_top()
        axes.tick_params(length=0, labelsize=size + 0.5)
        axes.set_xlabel("heard", labelpad=8)
        axes.xaxis.set_label_position("top")
        axes.set_ylabel("said")
        for i, j in zip(*np.nonzero(counts), strict=True):
            colour = "white" if depth[i, j] > (0.65 if i == j else 0.5) else _INK
            axes.text(j, i, f"{counts[i, j]}", ha="center", va="center", size=size, color=colour)
        for i, label in enumerate(labels):
            recall, precision = per_label[label]["recall"], per_label[label]["precision"]
            axes.text(n - 0.35, i, _percent(recall), ha="left", va="center", size=size)
            axes.text(i, n - 0.1, _percent(precision), ha="center", va="center", size=size)
        axes.text(n - 0.35, -0.75, "recall, %", ha="left", va="center", size=size, color=_GREY)
        axes.text(-0.62, n - 0.1, "precision, %", ha="right", va="center", size=size, color=_GREY)
        for side in axes.spines.values():
            side.set_visible(False)
        axes.set_xticks(np.arange(n + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(n + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="#E4E4E4", linewidth=0.6)
        axes.tick_params(which="minor", length=0)
        _title(
            figure,
            Path(evaluation.model).name,
            f"{100 * evaluation.accuracy:.1f} % of {evaluation.clips:,} clips right "
            f"(95 % interval {low:.1f} to {high:.1f} %)",
        )


def plot_in_noise(evaluation: Evaluation, path: str | Path) -> None:
    """Draw accuracy over the ratio of speech to noise, with its 95 % confidence interval.

    Noise grows to the right. The clips as they are stand at the left, apart from the scale, and
    a dashed line goes on at their accuracy.

    Args:
        evaluation: the result to draw, with `in_noise`.
        path: .png, .pdf or .svg; written whole or not at all.

    Raises:
        KwsError: matplotlib is missing, an unknown suffix, or nothing was heard in noise.
    """
    noisy = evaluation.in_noise
    if not noisy:
        raise KwsError("Nothing was heard in noise. Received: clips as they are. Use --noise NOISE")
    ratios = [float(one.snr_db or 0.0) for one in noisy]
    # Apart from the first ratio as the ratios are from each other.
    step = float(np.median(-np.diff(ratios))) if len(ratios) > 1 else 10.0
    clean_at = ratios[0] + step
    low, high = (100 * np.array([one.interval[end] for one in noisy]) for end in (0, 1))
    middle = 100 * np.array([one.accuracy for one in noisy])
    clean, (clean_low, clean_high) = 100 * evaluation.accuracy, 100 * np.array(evaluation.interval)
    with _picture(path, (6.4, 4.2)) as figure:
        axes = figure.add_subplot()
        axes.axhline(clean, color=_GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
        axes.fill_between(ratios, low, high, color=_BLUE, alpha=0.18, linewidth=0)
        axes.plot(ratios, middle, "o-", color=_BLUE, linewidth=1.8, markersize=5)
        if len(ratios) == 1:
            axes.vlines(ratios, low, high, color=_BLUE, alpha=0.35, linewidth=6)
        axes.vlines(clean_at, clean_low, clean_high, color=_INK, alpha=0.35, linewidth=6)
        axes.plot(clean_at, clean, "s", color=_INK, markersize=5)
        shown = zip([clean_at, *ratios], [clean, *middle], [clean_low, *low], strict=True)
        for x, value, below in shown:
            axes.annotate(
                f"{value:.1f}", (x, below), xytext=(0, -12), textcoords="offset points",
                ha="center", size=8,
            )  # fmt: skip
        axes.set_xlim(clean_at + step / 2, ratios[-1] - step / 2)
        axes.set_xticks([clean_at, *ratios], ["clean", *(f"{ratio:g}" for ratio in ratios)])
        # Room for the numbers below the lowest band.
        axes.set_ylim(max(0.0, 10 * math.floor((min(low.min(), clean_low) - 2) / 10)), 100.0)
        axes.yaxis.get_major_locator().set_params(steps=[1, 2, 5, 10])
        axes.set_xlabel("speech to noise over the clip, dB")
        axes.set_ylabel("accuracy, %")
        axes.grid(axis="y", color="#EAEAEA", linewidth=0.8)
        axes.set_axisbelow(True)
        _title(
            figure,
            Path(evaluation.model).name,
            f"{evaluation.clips:,} clips in noise (shaded: 95 % interval)",
        )


def best_epoch(accuracies: Sequence[float]) -> int:
    """Return the epoch whose weights training keeps, from 1: the last of equally good ones.

    Args:
        accuracies: on validation clips, one an epoch; not empty.
    """
    return len(accuracies) - int(np.argmax(accuracies[::-1]))


def plot_curves(history: Mapping[str, Sequence[float]], path: str | Path) -> None:
    """Draw loss, accuracy and learning rate of a training run over its epochs.

    Args:
        history: lists of the same length, an entry an epoch, under ``loss``, ``accuracy``,
            ``val_loss``, ``val_accuracy`` and ``learning_rate``; what is missing is left out.
        path: .png, .pdf or .svg; written whole or not at all.

    Raises:
        KwsError: matplotlib is missing, an unknown suffix, or nothing to draw.
    """
    panels = [name for name in ("loss", "accuracy", "learning_rate") if history.get(name)]
    if not panels:
        raise KwsError(f"No curves to draw. Received: {', '.join(history) or 'an empty history'}")
    validation = history.get("val_accuracy")
    best = best_epoch(validation) - 1 if validation else None
    heights = [1.0 if name == "learning_rate" else 2.0 for name in panels]
    with _picture(path, (7.5, 1.4 * sum(heights) + 0.8)) as figure:
        rows = figure.subplots(len(panels), 1, sharex=True, height_ratios=heights, squeeze=False)
        for axes, name in zip(rows[:, 0], panels, strict=True):
            _curve_panel(axes, name, history, best)
        last = rows[-1, 0]
        epochs = len(history[panels[0]])
        last.set_xlabel("epoch")
        last.set_xlim(1 if epochs > 1 else 0.5, max(epochs, 1.5))
        if epochs < 8:
            last.set_xticks(range(1, epochs + 1))


def _curve_panel(
    axes: Any, name: str, history: Mapping[str, Sequence[float]], best: int | None
) -> None:
    validation = history.get(f"val_{name}")
    values = np.asarray(history[name], float)
    epochs = np.arange(1, len(values) + 1)
    scale = 100.0 if name == "accuracy" else 1.0
    marker = "o" if len(values) < 3 else None
    if name == "learning_rate":
        axes.plot(epochs, values, color=_INK, linewidth=1.2, marker=marker)
        axes.set_ylabel("learning rate")
        axes.set_ylim(bottom=0.0)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
    else:
        axes.plot(
            epochs, values * scale, color=_ORANGE, linewidth=1.5, linestyle="--", marker=marker,
            label="training",
        )  # fmt: skip
        axes.set_ylabel("accuracy, %" if name == "accuracy" else "loss")
        if validation:
            curve = np.asarray(validation, float) * scale
            axes.plot(epochs, curve, color=_BLUE, linewidth=1.8, marker=marker, label="validation")
            if best is not None and name == "accuracy":
                axes.plot(epochs[best], curve[best], "o", color=_BLUE, markersize=6, clip_on=False)
                axes.set_title(f"best: {curve[best]:.2f} % in epoch {best + 1}", size=9.5)
        if name == "accuracy" and len(values) >= 20:
            # The steep beginning would leave no room for what tells good epochs from better ones.
            everything = np.concatenate([values, np.asarray(validation or values, float)]) * scale
            axes.set_ylim(bottom=math.floor(np.percentile(everything, 10)))
        axes.legend(loc="lower right" if name == "accuracy" else "upper right")
    if best is not None:
        axes.axvline(best + 1, color=_GREY, linewidth=0.8, linestyle=":")
    axes.grid(axis="y", color="#EAEAEA", linewidth=0.8)
    axes.set_axisbelow(True)


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
    """Draw a stretch of a stream: what it sounds like, what was said, heard, and why.

    From the top: log-mel energies; the words said and the events; for each keyword its posteriors
    (grey), their moving mean (blue), and the threshold (dashed) that fires it.

    Args:
        pcm: int16 [n], audio that holds the stretch.
        posteriors: every step from the start of the stream on [steps, labels].
        card: the model that gave them.
        path: .png, .pdf or .svg; written whole or not at all.
        truth: the words said.
        events: the events reported.
        start_s: where the stretch begins, in seconds of the stream.
        end_s: where it ends; by default with `pcm`.
        offset_s: where in the stream `pcm` begins, in seconds.

    Raises:
        KwsError: matplotlib is missing, an unknown suffix, or a stretch outside the audio.
    """
    rate = card.front_end.sample_rate_hz
    audio_end_s = offset_s + len(pcm) / rate
    end_s = audio_end_s if end_s is None else min(end_s, audio_end_s)
    start_s = max(start_s, offset_s)
    if end_s - start_s < card.front_end.frame_length / rate:
        raise KwsError(
            f"The time line would show {start_s:.2f} to {end_s:.2f} s, where there is no audio. "
            f"The audio is {offset_s:.2f} to {audio_end_s:.2f} s"
        )
    matches = match_events(truth, events, duration_s=max(audio_end_s, 1e-9))
    scores = np.asarray(posteriors, np.float64).reshape(-1, len(card.labels))
    times = np.array([card.step_time_s(k) for k in range(len(scores))])
    shown = (times >= start_s) & (times <= end_s)
    lanes = _lanes(card, scores[shown], matches.spoken, matches.reported, start_s, end_s)

    height = 1.5 + 1.1 + 0.42 * len(lanes)
    with _picture(path, (12.0, height + 1.3)) as figure:
        rows = figure.subplots(
            2 + len(lanes), 1, sharex=True, squeeze=False,
            height_ratios=[1.5, 1.1] + [0.42] * len(lanes),
            gridspec_kw={"hspace": 0.12},
        )[:, 0]  # fmt: skip
        first = round((start_s - offset_s) * rate)
        stretch = pcm[first : round((end_s - offset_s) * rate)]
        _mel_panel(rows[0], stretch, card, start_s, end_s)
        _word_panel(rows[1], matches, start_s, end_s)
        limits = decision_limits(card.decision, card.keywords, card.step_ms)
        means = _moving_mean(scores, limits.window_steps)
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
        _title(figure, card.name, _counted(matches, start_s, end_s))
        _timeline_legend(figure)


def plot_stretch(
    evaluation: StreamEvaluation,
    path: str | Path,
    *,
    start_s: float,
    end_s: float,
    recording: int = 0,
) -> None:
    """Draw a stretch of a recording that was evaluated (see `plot_timeline`).

    Args:
        evaluation: the result.
        path: .png, .pdf or .svg; written whole or not at all.
        start_s: where the stretch begins, in seconds.
        end_s: where it ends.
        recording: which one of those evaluated, from 0 on.

    Raises:
        KwsError: as `plot_timeline`, or the recording can no longer be read.
    """
    from kws.audio.files import iter_audio

    result = evaluation.recordings[recording]
    rate = evaluation.card.front_end.sample_rate_hz
    first, last = round(start_s * rate), round(end_s * rate)
    parts, at = [], 0
    for block in iter_audio(result.heard.audio, rate, rate):
        if at + len(block) > first:
            parts.append(block[max(0, first - at) : last - at])
        at += len(block)
        if at >= last:
            break
    plot_timeline(
        np.concatenate(parts) if parts else np.zeros(0, np.int16),
        result.heard.posteriors,
        evaluation.card,
        path,
        truth=result.truth,
        events=result.matches.reported,
        start_s=start_s,
        end_s=end_s,
        offset_s=min(first, at) / rate,
    )


def plot_trade_off(curves: Mapping[str, Curve], name: str, path: str | Path) -> None:
    """Draw misses over false accepts per hour: all keywords in bold, each in a line of its own.

    False accepts per hour are on a scale of powers of ten, down to 0.1. The shaded part is
    less than one false accept in all of the audio: what is there rests on none at all.

    Args:
        curves: from `kws.recordings.curve.trace_curves`.
        name: of the model.
        path: .png, .pdf or .svg; written whole or not at all.

    Raises:
        KwsError: matplotlib is missing, an unknown suffix, or no word was spoken.
    """
    whole = curves["all"]
    if not whole.own.words:
        raise KwsError(
            "No word is spoken in these recordings, so nothing can be missed. Give a recording "
            "with keywords, too"
        )
    hours, words = whole.own.hours, whole.own.words
    lowest = min(0.1, 0.5 / hours)
    with _picture(path, (8.4, 4.8)) as figure:
        axes = figure.add_subplot()
        single = [curve for curve in curves.values() if curve.name != "all" and curve.own.words]
        for i, curve in enumerate(single if len(single) > 1 else []):
            x, y = _frontier(curve, lowest)
            colour, dashes = _KEYWORD_LINES[i % len(_KEYWORD_LINES)]
            axes.step(
                x, y, where="post", color=colour, linestyle=dashes, linewidth=1.1, label=curve.name
            )
        x, y = _frontier(whole, lowest)
        axes.step(x, y, where="post", color=_INK, linewidth=2.2, label="all")
        own = whole.own
        if own.false_reject_rate is not None:
            axes.plot(
                max(own.false_accepts_per_hour, lowest), 100 * own.false_reject_rate, "o",
                color=_VERMILLION, markersize=7, markeredgecolor="white", zorder=5,
                label="thresholds in the file",
            )  # fmt: skip
        axes.axvspan(lowest, 1 / hours, color="#F4F4F4", linewidth=0, zorder=0)
        axes.axvline(1 / hours, color=_GREY, linewidth=0.8, linestyle=":")
        axes.set_xscale("log")
        most = max(30.0, 1.5 * own.false_accepts_per_hour)
        axes.set_xlim(lowest, most)
        axes.set_ylim(0, min(100.0, max(10.0, 1.05 * float(y[0]))))
        ticks = [t for t in (0.01, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if lowest <= t <= most]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.grid(color="#EAEAEA", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_xlabel("false accepts per hour")
        axes.set_ylabel("words missed or taken for another, %")
        figure.legend(loc="outside right upper", fontsize=8.5)
        _title(
            figure,
            name,
            f"{words:,} words in {hours:.2f} hours (shaded: less than one false accept)",
        )


_KEYWORD_LINES = [
    (colour, dashes)
    for dashes in ("-", (0, (4, 2)), (0, (1, 1)))
    for colour in (_BLUE, _ORANGE, "#009E73", "#CC79A7", "#56B4E9")
]


def plot_sizes(points: Sequence[tuple[str, float, float, bool]], path: str | Path) -> None:
    """Draw accuracy over size, a point for each model; the best for its size are joined.

    Args:
        points: name, size in kB, accuracy in %, whether it streams.
        path: .png, .pdf or .svg; written whole or not at all.

    Raises:
        KwsError: matplotlib is missing, or an unknown suffix.
    """
    with _picture(path, (8.4, 4.8)) as figure:
        axes = figure.add_subplot()
        front: list[tuple[float, float]] = []
        for _, size, accuracy, _ in sorted(points, key=lambda p: (p[1], -p[2])):
            if not front or accuracy > front[-1][1]:
                front.append((size, accuracy))
        axes.plot(*zip(*front, strict=True), color=_PALE, linewidth=1.2, zorder=1)
        for streams, colour, label in ((True, _BLUE, "streams"), (False, _ORANGE, "whole clips")):
            chosen = [p for p in points if p[3] == streams]
            if chosen:
                axes.plot(
                    [p[1] for p in chosen], [p[2] for p in chosen], "o", color=colour,
                    markersize=6, label=label, zorder=2,
                )  # fmt: skip
        for name, size, accuracy, _ in points:
            axes.annotate(
                name, (size, accuracy), xytext=(5, 4), textcoords="offset points", fontsize=8
            )
        axes.margins(x=0.12, y=0.1)
        axes.set_xlabel("int8 file, kB")
        axes.set_ylabel("accuracy on validation clips, %")
        axes.grid(color="#EAEAEA", linewidth=0.8)
        axes.set_axisbelow(True)
        figure.legend(loc="outside right upper", fontsize=8.5)
        _title(figure, "leaderboard", f"{len(points)} models, int8")


def _frontier(
    curve: Curve, lowest: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return false accepts per hour, rising, and the fewest misses (in %) that each allows."""
    points = sorted(
        (max(p.false_accepts_per_hour, lowest), 100.0 * (p.false_reject_rate or 0.0))
        for p in curve.points
    )
    x = np.array([rate for rate, _ in points])
    y = np.minimum.accumulate([missed for _, missed in points])
    return x, y


def _mel_panel(
    axes: Any, pcm: npt.NDArray[np.int16], card: ModelCard, start_s: float, end_s: float
) -> None:
    config = card.front_end
    floor = math.log(config.log_floor)
    energies = log_mel(mel_energies(spectrum(split(pcm, config)), config), config)
    if len(energies):  # [frames, n_mels]
        # Each frame stands for one hop around its middle.
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


def _word_panel(axes: Any, matches: Matches, start_s: float, end_s: float) -> None:
    """Words as bars, events as marks; blue and filled is right, vermillion and hollow is wrong.

    In a long stretch not every word has room for its name; mistakes have it first.
    """
    axes.set_ylim(0, 2.1)
    axes.set_yticks([1.45, 0.45], ["said", "heard"])
    axes.tick_params(axis="y", length=0)
    right = {id(word) for word, _ in matches.hits} | {id(event) for _, event in matches.hits}
    said = [w for w in matches.spoken if w.end_s > start_s and w.start_s < end_s]
    notes = [
        (w.start_s, w.keyword if id(w) in right else f"{w.keyword} ✗", id(w) in right) for w in said
    ]
    for word, (at, text, good), row in zip(said, notes, _rows(notes, start_s, end_s), strict=True):
        axes.barh(
            1.18, word.end_s - word.start_s, left=word.start_s, height=0.12,
            color=_BLUE if good else "white", edgecolor=_BLUE if good else _VERMILLION,
            linewidth=1.2,
        )  # fmt: skip
        if row is not None:
            _note(axes, at, 1.36 + 0.28 * row, text, good, start_s, end_s)
    heard = [e for e in matches.reported if start_s <= e.time_s <= end_s]
    notes = [(e.time_s, f"{e.keyword} {e.score:.2f}", id(e) in right) for e in heard]
    for (at, text, good), row in zip(notes, _rows(notes, start_s, end_s), strict=True):
        _mark(axes, at, 0.18, good)
        if row is not None:
            _note(axes, at, 0.34 + 0.28 * row, text, good, start_s, end_s)
    axes.axhline(1.02, color="#DDDDDD", linewidth=0.8)


def _mark(axes: Any, x: float, y: float, good: bool) -> None:
    axes.plot(
        x, y, marker="^" if good else "X", markersize=7, linestyle="none", clip_on=False,
        color=_BLUE if good else _VERMILLION, markeredgecolor="white", markeredgewidth=0.5,
        zorder=5,
    )  # fmt: skip


def _note(
    axes: Any, x: float, y: float, text: str, good: bool, start_s: float, end_s: float
) -> None:
    """Write a text that begins at x, or that ends at the edge where it would run over it."""
    width_s = (len(text) + 1) * _CHARACTERS * (end_s - start_s)
    over = x + width_s > end_s
    axes.text(
        end_s if over else max(x, start_s), y, text, ha="right" if over else "left",
        size=8, va="bottom", color=_BLUE if good else _VERMILLION,
        weight="normal" if good else "bold",
    )  # fmt: skip


def _counted(matches: Matches, start_s: float, end_s: float) -> str:
    """Say in words what a stretch shows."""
    words = [w for w in matches.spoken if w.end_s > start_s and w.start_s < end_s]
    events = [e for e in matches.reported if start_s <= e.time_s <= end_s]
    hits = {id(x) for pair in matches.hits for x in pair}
    heard = sum(id(word) in hits for word in words)
    wrong = sum(id(event) not in hits for event in events)
    return (
        f"{round(start_s, 2):g} to {round(end_s, 2):g} s: {heard} of {len(words)} words heard, "
        f"{wrong} of {len(events)} events wrong"
    )


def _timeline_legend(figure: Any) -> None:
    lines = require("matplotlib.lines", extra="plot")
    patches = require("matplotlib.patches", extra="plot")

    def mark(shape: str, colour: str) -> Any:
        return lines.Line2D([], [], marker=shape, color=colour, linestyle="none", markersize=7)

    entries = {
        "word that was heard": patches.Patch(facecolor=_BLUE, edgecolor=_BLUE),
        "not heard": patches.Patch(facecolor="white", edgecolor=_VERMILLION, linewidth=1.2),
        "right event": mark("^", _BLUE),
        "wrong event": mark("X", _VERMILLION),
        "posterior": patches.Patch(facecolor=_PALE),
        "moving mean": lines.Line2D([], [], color=_BLUE, linewidth=1.4),
        "threshold": lines.Line2D([], [], color=_INK, linewidth=0.8, linestyle=(0, (4, 3))),
    }
    _legend_below(figure, entries)


def _legend_below(figure: Any, entries: dict[str, Any]) -> None:
    figure.legend(
        list(entries.values()), list(entries), loc="outside lower center", ncols=len(entries),
        fontsize=8, handlelength=1.4, handleheight=0.8, columnspacing=1.6,
    )  # fmt: skip


def _rows(
    notes: Sequence[tuple[float, str, bool]], start_s: float, end_s: float
) -> list[int | None]:
    """Put notes (at, text, right) that would run into each other on two rows.

    Where these are full, notes on what is right are left out (None); what is wrong is noted first.
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


def _lane(
    axes: Any,
    keyword: str,
    times: npt.NDArray[np.float64],
    posteriors: npt.NDArray[np.float64],
    means: npt.NDArray[np.float64],
    threshold: float,
) -> None:
    axes.fill_between(times, posteriors, step="pre", color=_PALE, linewidth=0)
    axes.plot(times, means, color=_BLUE, linewidth=1.4)
    axes.axhline(threshold, color=_INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_ylim(0.0, 1.05)
    axes.set_yticks([threshold], [f"{threshold:.2f}"], size=6.5)
    axes.yaxis.tick_right()
    axes.tick_params(axis="y", length=0)
    axes.set_ylabel(keyword, rotation=0, ha="right", va="center")
    for name in ("top", "right", "left"):
        axes.spines[name].set_visible(False)


def _lanes(
    card: ModelCard,
    scores: npt.NDArray[np.float64],
    truth: Iterable[SpokenWord],
    events: Iterable[Event],
    start_s: float,
    end_s: float,
) -> list[str]:
    """Return the keywords worth a lane, in the model's order; at most twelve."""
    if len(card.keywords) <= 12:
        return list(card.keywords)
    named = {w.keyword for w in truth if w.end_s > start_s and w.start_s < end_s}
    named |= {e.keyword for e in events if start_s <= e.time_s <= end_s}

    def interest(keyword: str) -> float:
        column = scores[:, card.labels.index(keyword)]
        return (keyword in named) + float(column.max(initial=0.0))

    chosen = sorted(card.keywords, key=interest, reverse=True)[:12]
    return [keyword for keyword in card.keywords if keyword in chosen]


def _moving_mean(scores: npt.NDArray[np.float64], steps: int) -> npt.NDArray[np.float64]:
    """Mean of the last `steps` rows; rows before the first count as zero, as in the decision."""
    sums = np.cumsum(np.pad(scores, ((steps, 0), (0, 0))), axis=0)
    return (sums[steps:] - sums[:-steps]) / steps


def _mel_band(hz: float, card: ModelCard) -> float:
    """Return where a frequency lies among the mel bands, in bands from the lowest."""

    def mel(frequency: float) -> float:
        return 2595.0 * math.log10(1.0 + frequency / 700.0)

    low, high = mel(card.front_end.mel_low_hz), mel(card.front_end.mel_high_hz)
    # n triangles have n + 2 corners; the middle of band k (drawn from k to k + 1) is corner k + 1.
    return (mel(hz) - low) / (high - low) * (card.front_end.n_mels + 1) - 0.5


def _title(figure: Any, name: str, text: str) -> None:
    figure.suptitle(f"{name}\n{text}", x=0.015, ha="left", size=9.5, linespacing=1.5)


def _hertz(hz: float) -> str:
    return f"{hz / 1000:g} kHz" if hz >= 1000 else f"{hz:g} Hz"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


@dataclass(frozen=True, kw_only=True, eq=False)
class CutRecording:
    """A recording and what was cut out of it, for `plot_cuts`."""

    name: str
    """How it is called in the picture."""
    pcm: npt.NDArray[np.int16]
    """Its samples at 16 kHz [n]."""
    found: Sequence[Utterance]
    """All that stands out in it."""
    cuts: Sequence[Cut]
    """What was cut."""


_STRETCHES = {
    "clip": {"color": _PALE, "alpha": 0.5, "lw": 0},
    "word": {"color": _ORANGE, "alpha": 0.45, "lw": 0},
    "found, not taken": {"color": _VERMILLION, "lw": 0},
}
"""How `plot_cuts` marks stretches of a recording."""
MOST_CUT_RECORDINGS = 24
"""More recordings than this are not drawn by `plot_cuts`."""


def plot_cuts(recordings: Sequence[CutRecording], path: str | Path) -> None:
    """Draw recordings one below the other: level, cuts, the words in them, and what was not taken.

    Args:
        recordings: the first `MOST_CUT_RECORDINGS` are drawn.
        path: .png, .pdf or .svg; written whole or not at all.

    Raises:
        KwsError: matplotlib is missing, or an unknown suffix.
    """
    shown = recordings[:MOST_CUT_RECORDINGS]
    columns = 1 if len(shown) < 6 else 2
    rows = -(-len(shown) // columns)
    with _picture(path, (6.0 * columns + 1.0, 1.25 * rows + 1.0)) as figure:
        panels = figure.subplots(rows, columns, squeeze=False)
        for panel in panels.flat[len(shown) :]:
            panel.set_axis_off()
        for panel, one in zip(panels.flat, shown, strict=False):
            _cut_panel(panel, one)
        more = len(recordings) - len(shown)
        _title(
            figure,
            "What was cut",
            "level in dBFS over time in s"
            + (f"   ({more} more recordings are not drawn)" if more else ""),
        )
        lines = require("matplotlib.lines", extra="plot")
        patches = require("matplotlib.patches", extra="plot")
        entries = {"level": lines.Line2D([], [], color=_BLUE, lw=0.8)}
        entries |= {name: patches.Patch(**style) for name, style in _STRETCHES.items()}
        _legend_below(figure, entries)


def _cut_panel(axes: Any, one: CutRecording) -> None:
    level = levels_dbfs(one.pcm)
    # As many points as can be told apart, each the highest of its stretch.
    width = max(1, len(level) // 2000)
    kept = len(level) // width * width
    level = level[:kept].reshape(-1, width).max(axis=1)
    seconds = len(one.pcm) / SAMPLE_RATE_HZ
    words = [cut.word for cut in one.cuts]
    clip, word, not_taken = _STRETCHES.values()
    for cut in one.cuts:
        axes.axvspan(cut.start / SAMPLE_RATE_HZ, cut.end / SAMPLE_RATE_HZ, **clip)
        if cut.word is not None:
            axes.axvspan(cut.word.start_s, cut.word.end_s, **word)
    for other in one.found:
        if other not in words:
            axes.axvspan(other.start_s, other.end_s, ymax=0.12, **not_taken)
    axes.plot((np.arange(len(level)) + 0.5) * width / 100, level, color=_BLUE, lw=0.8)
    axes.set_xlim(0, seconds)
    axes.set_ylim(-78, 0)
    axes.set_title(one.name, size=7.5, pad=2)
    axes.tick_params(labelsize=6.5, length=2)


@contextmanager
def _picture(path: str | Path, size_inches: tuple[float, float]) -> Iterator[Any]:
    """Give a figure to draw on; store it when the block ends well."""
    check_picture(path)
    matplotlib = require("matplotlib", extra="plot")
    figures = require("matplotlib.figure", extra="plot")
    with matplotlib.rc_context(_STYLE):
        # No pyplot: it would choose a window system and keep every figure.
        figure = figures.Figure(figsize=size_inches, dpi=_DPI, layout="constrained")
        figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08)
        yield figure
        with atomic_write(path) as file:
            figure.savefig(file, format=Path(path).suffix[1:].lower())
