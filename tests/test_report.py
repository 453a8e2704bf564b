"""The pictures hold what they should, in every format, and are written whole or not at all."""

from __future__ import annotations

import re
import struct
import sys
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_model

from kws.audio.files import write_wav
from kws.data.label_file import SpokenWord
from kws.data.labels import COMMANDS, WORDS, LabelSet
from kws.decide import DecisionConfig, Event
from kws.errors import KwsError
from kws.evaluate.clips import Evaluation, evaluate_posteriors
from kws.evaluate.streams import RecordingResult, StreamEvaluation
from kws.recordings.curve import Curve, Point
from kws.recordings.matching import match_events
from kws.recordings.posteriors import RecordingPosteriors
from kws.report import style
from kws.report.clips import plot_confusion, plot_in_noise
from kws.report.sizes import _place_beside
from kws.report.timeline import plot_stretch, plot_timeline
from kws.report.trade_off import plot_trade_off
from kws.report.training import plot_curves

pytest.importorskip("matplotlib")

from matplotlib.figure import Figure

RATE = 16000
HISTORY = {
    "loss": [2.0, 1.0, 0.6],
    "val_loss": [1.8, 0.9, 0.7],
    "accuracy": [0.3, 0.6, 0.8],
    "val_accuracy": [0.4, 0.7825, 0.71],
    "learning_rate": [1e-3, 5e-4, 1e-4],
}


def evaluation(labels: tuple[str, ...] = COMMANDS, n: int = 400) -> Evaluation:
    rng = np.random.default_rng(0)
    return evaluate_posteriors(
        rng.random((n, len(labels))),
        rng.integers(0, len(labels), n),
        LabelSet(labels=labels, keywords=labels),
        model="some/folder/model.tflite",
    )


def texts(path: Path) -> list[str]:
    """Every text in an SVG."""
    found = re.findall(r"<text[^>]*>(.*?)</text>", path.read_text(), re.S)
    return [re.sub(r"<[^>]*>", "", text).strip() for text in found]


def png_size(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", content[16:24])


def test_a_confusion_matrix_shows_every_count_recall_and_precision(tmp_path: Path) -> None:
    result = evaluation()
    plot_confusion(result, tmp_path / "confusion.svg")
    shown = Counter(texts(tmp_path / "confusion.svg"))
    counts = Counter(str(n) for row in result.confusion for n in row if n)
    assert all(shown[text] >= times for text, times in counts.items())
    for label, n in result.per_label().items():
        assert shown[label] == 2  # its row and its column
        assert shown[f"{100 * n['recall']:.1f}"] >= 1
        assert shown[f"{100 * n['precision']:.1f}"] >= 1
    everything = " ".join(shown)
    assert "model.tflite" in everything
    assert f"{100 * result.accuracy:.1f} % of 400 clips right" in everything


def test_rows_are_what_was_said_and_columns_what_was_heard(tmp_path: Path) -> None:
    pair = LabelSet(labels=("hey", "no"), keywords=("hey", "no"))
    # 17 clips of "hey", all heard as "no".
    result = evaluate_posteriors(np.array([[0.1, 0.9]] * 17), ["hey"] * 17, pair)
    plot_confusion(result, tmp_path / "c.svg")
    places: dict[str, list[tuple[float, float]]] = {}
    for x, y, text in re.findall(
        r'<text[^>]* x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]+)', (tmp_path / "c.svg").read_text()
    ):
        places.setdefault(text, []).append((float(x), float(y)))
    (x, y), *_ = places["17"]
    row = {label: max(places[label], key=lambda place: place[1])[1] for label in ("hey", "no")}
    column = {label: max(places[label])[0] for label in ("hey", "no")}
    assert abs(y - row["hey"]) < abs(y - row["no"])
    assert abs(x - column["no"]) < abs(x - column["hey"])


def test_a_matrix_with_empty_rows_and_columns_can_be_drawn(tmp_path: Path) -> None:
    three = LabelSet.own(["yes", "no"], silence=False)
    result = evaluate_posteriors(np.array([[1.0, 0, 0]]), ["yes"], three)
    plot_confusion(result, tmp_path / "confusion.svg")
    assert texts(tmp_path / "confusion.svg").count("–") == 4


@pytest.mark.parametrize("ratios", [(20.0, 10.0, 5.0, 0.0), (3.0,), (40.0, -20.0)])
def test_the_curve_in_noise_shows_every_ratio_beside_the_clips_as_they_are(
    ratios: tuple[float, ...], tmp_path: Path
) -> None:
    pair = LabelSet(labels=("hey", "no"), keywords=("hey", "no"))

    def right(n: int) -> Evaluation:
        posteriors = np.array([[0.9, 0.1]] * n + [[0.1, 0.9]] * (200 - n))
        return evaluate_posteriors(posteriors, ["hey"] * 200, pair, model="m.tflite")

    noisy = [replace(right(170 - 20 * i), snr_db=snr) for i, snr in enumerate(ratios)]
    plot_in_noise(replace(right(190), in_noise=tuple(noisy)), tmp_path / "noise.svg")
    shown = texts(tmp_path / "noise.svg")
    assert [text for text in shown if text == "clean" or text in {f"{r:g}" for r in ratios}][
        : 1 + len(ratios)
    ] == ["clean", *(f"{ratio:g}" for ratio in ratios)]
    for value in ["95.0", *(f"{100 * one.accuracy:.1f}" for one in noisy)]:
        assert value in shown
    assert "200 clips in noise" in " ".join(shown)


def test_there_is_no_curve_without_noise(tmp_path: Path) -> None:
    with pytest.raises(KwsError, match="Use --noise"):
        plot_in_noise(evaluation(), tmp_path / "noise.svg")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("labels", "least", "most"), [(("hey", "no"), 400, 1000), (WORDS, 1500, 3000)]
)
def test_the_matrix_grows_with_the_labels(
    labels: tuple[str, ...], least: int, most: int, tmp_path: Path
) -> None:
    plot_confusion(evaluation(labels), tmp_path / "confusion.png")
    assert all(least <= pixels <= most for pixels in png_size(tmp_path / "confusion.png"))


def test_curves_name_the_best_epoch(tmp_path: Path) -> None:
    plot_curves(HISTORY, tmp_path / "curves.svg", best_epoch=2)
    shown = texts(tmp_path / "curves.svg")
    assert "best: 78.25 % in epoch 2" in shown
    assert {"loss", "accuracy, %", "learning rate", "epoch", "training", "validation"} <= set(shown)


@pytest.mark.parametrize("epochs", [1, 2, 40])
def test_curves_of_any_length_can_be_drawn(epochs: int, tmp_path: Path) -> None:
    history = {name: (values * 14)[:epochs] for name, values in HISTORY.items()}
    plot_curves(history, tmp_path / "curves.png", best_epoch=1)
    assert min(png_size(tmp_path / "curves.png")) > 500


def test_curves_without_validation_leave_it_out(tmp_path: Path) -> None:
    plot_curves({"loss": [2.0, 1.0]}, tmp_path / "curves.svg")
    shown = texts(tmp_path / "curves.svg")
    assert "validation" not in shown
    assert "learning rate" not in shown


def test_an_empty_history_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KwsError, match="No curves to draw"):
        plot_curves({"loss": []}, tmp_path / "curves.png")
    assert list(tmp_path.iterdir()) == []


CARD = tiny_model.card(form="stream", decision=DecisionConfig(thresholds={"yes": 0.63, "no": 0.71}))
TRUTH = [
    SpokenWord(start_s=1.0, end_s=1.5, keyword="yes"),
    SpokenWord(start_s=3.0, end_s=3.5, keyword="no"),
    SpokenWord(start_s=7.0, end_s=7.5, keyword="no"),
]
EVENTS = [
    Event(keyword="yes", score=0.81, time_s=1.6),
    Event(keyword="yes", score=0.66, time_s=5.0),
    Event(keyword="no", score=0.99, time_s=7.6),
]


def stream(seconds: int = 10) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    pcm = (1000 * rng.standard_normal(seconds * RATE)).astype(np.int16)
    return pcm, rng.random((CARD.n_steps(CARD.front_end.n_frames(len(pcm))), 4))


def test_a_time_line_names_words_events_and_thresholds(tmp_path: Path) -> None:
    pcm, posteriors = stream()
    plot_timeline(
        pcm, posteriors, CARD, tmp_path / "t.svg", truth=TRUTH, events=EVENTS, start_s=0, end_s=6
    )
    shown = texts(tmp_path / "t.svg")
    assert {"yes", "no ✗", "yes 0.81", "yes 0.66", "0.63", "0.71", "said", "detected"} <= set(shown)
    assert any("0 to 6 s: 1 of 2 words detected, 1 of 2 events wrong" in text for text in shown)
    # What lies outside the stretch is not shown.
    assert "no 0.99" not in shown


def test_in_a_long_stretch_mistakes_are_named_and_names_do_not_overlap(tmp_path: Path) -> None:
    pcm, posteriors = stream(120)
    times = [2 * i + 1.0 for i in range(59)]
    truth = [SpokenWord(start_s=t - 0.3, end_s=t, keyword="yes") for t in times]
    # Every seventh word is not heard, and twice there is a false accept close to a hit.
    events = [Event(keyword="yes", score=0.9, time_s=t) for i, t in enumerate(times) if i % 7]
    events += [Event(keyword="no", score=0.5, time_s=t + 0.9) for t in (times[8], times[37])]
    plot_timeline(pcm, posteriors, CARD, tmp_path / "t.svg", truth=truth, events=events)
    shown = Counter(texts(tmp_path / "t.svg"))
    assert shown["yes ✗"] == sum(i % 7 == 0 for i in range(59))
    assert shown["no 0.50"] == 2
    assert 10 < shown["yes 0.90"] < len(events) - 2
    # Where the notes on events begin, by the height they stand at.
    content = (tmp_path / "t.svg").read_text()
    found = re.findall(
        r'anchor: start[^>]*x="([\d.]+)" y="([\d.]+)"[^>]*>(?:yes 0.90|no 0.50)<', content
    )
    rows: dict[str, list[float]] = {}
    for x, y in found:
        rows.setdefault(y, []).append(float(x))
    assert len(rows) == 2
    for xs in rows.values():
        assert min(np.diff(sorted(xs))) > 33  # points; eight characters of this size


def test_a_stretch_may_come_from_audio_that_begins_later(tmp_path: Path) -> None:
    pcm, posteriors = stream()
    whole, part = tmp_path / "whole.png", tmp_path / "part.png"
    plot_timeline(pcm, posteriors, CARD, whole, truth=TRUTH, events=EVENTS, start_s=4, end_s=8)
    plot_timeline(
        pcm[4 * RATE : 9 * RATE],
        posteriors,
        CARD,
        part,
        truth=TRUTH,
        events=EVENTS,
        start_s=4,
        end_s=8,
        offset_s=4,
    )
    assert whole.read_bytes() == part.read_bytes()


def test_the_curve_of_a_lane_is_the_mean_that_decides(tmp_path: Path) -> None:
    pcm, _ = stream(2)
    scores = np.zeros((CARD.n_steps(CARD.front_end.n_frames(len(pcm))), 4))
    scores[20, 2] = 1.0
    heights = {}
    for smoothing_ms in (0, 200):
        decision = DecisionConfig(
            thresholds=CARD.decision.thresholds, smoothing_ms=float(smoothing_ms)
        )
        path = tmp_path / f"{smoothing_ms}.svg"
        plot_timeline(pcm, scores, tiny_model.card(form="stream", decision=decision), path)
        # The highest reach of any blue curve.
        curves = re.findall(
            r'<path d="([^"]*)"[^>]*stroke: #0072b2; stroke-width: 1.4', path.read_text()
        )
        ys = [[float(y) for y in re.findall(r"[ML] [\d.]+ ([\d.]+)", curve)] for curve in curves]
        heights[smoothing_ms] = max(max(y) - min(y) for y in ys)
    # One step of 40 ms in a window of five.
    assert heights[200] == pytest.approx(heights[0] / 5, rel=0.02)


def test_of_many_keywords_those_that_matter_get_a_lane(tmp_path: Path) -> None:
    card = tiny_model.card(
        form="stream",
        labels=WORDS,
        keywords=WORDS,
        decision=DecisionConfig(thresholds=dict.fromkeys(WORDS, 0.5)),
    )
    pcm, posteriors = stream()
    scores = np.zeros((len(posteriors), len(WORDS)))
    scores[10, WORDS.index("wow")] = 0.4
    plot_timeline(pcm, scores, card, tmp_path / "t.svg", truth=TRUTH[:2], end_s=6)
    shown = texts(tmp_path / "t.svg")
    assert {"wow", "yes", "no"} <= set(shown)
    assert shown.count("0.50") == 12


@pytest.mark.parametrize(("start_s", "end_s"), [(10.5, 12.0), (5.0, 4.0), (9.999, 20.0)])
def test_a_stretch_without_audio_is_refused(start_s: float, end_s: float, tmp_path: Path) -> None:
    pcm, posteriors = stream()
    with pytest.raises(KwsError, match="where there is no audio"):
        plot_timeline(pcm, posteriors, CARD, tmp_path / "t.png", start_s=start_s, end_s=end_s)


def of_recording(
    path: Path, pcm: np.ndarray, posteriors: np.ndarray, events: list[Event]
) -> StreamEvaluation:
    """The evaluation of a recording of `TRUTH`, which is written."""
    write_wav(path, pcm, RATE)
    matches = match_events(TRUTH, events, duration_s=10)
    heard = RecordingPosteriors(audio=str(path), seconds=10.0, posteriors=posteriors)
    recording = RecordingResult(recording=heard, truth=tuple(TRUTH), matches=matches)
    return StreamEvaluation(
        model="m",
        runtime="r",
        seconds=1.0,
        card=CARD,
        recordings=(recording,),
        matches=matches,
        curves={},
    )


def test_outside_a_recording_the_error_tells_the_whole_length_of_it(tmp_path: Path) -> None:
    result = of_recording(tmp_path / "long.wav", *stream(), EVENTS)
    for start_s in (9.99, 10.0, 10_000.0):
        with pytest.raises(KwsError, match=r"The audio is 0\.00 to 10\.00 s$"):
            plot_stretch(result, tmp_path / "a.png", start_s=start_s, end_s=start_s + 20)
    assert not (tmp_path / "a.png").exists()


def test_one_word_and_one_event_are_counted_in_the_singular(tmp_path: Path) -> None:
    pcm, posteriors = stream()
    plot_timeline(
        pcm, posteriors, CARD, tmp_path / "t.svg", truth=TRUTH, events=EVENTS, start_s=0, end_s=2
    )
    assert any("1 of 1 word detected, 0 of 1 event wrong" in t for t in texts(tmp_path / "t.svg"))


def test_a_stretch_of_a_recording_is_the_same_as_from_memory(tmp_path: Path) -> None:
    pcm, posteriors = stream()
    result = of_recording(tmp_path / "long.wav", pcm, posteriors, EVENTS)
    plot_stretch(result, tmp_path / "a.png", start_s=2.5, end_s=7.5)
    plot_timeline(
        pcm,
        posteriors,
        CARD,
        tmp_path / "b.png",
        truth=TRUTH,
        events=EVENTS,
        start_s=2.5,
        end_s=7.5,
    )
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def curve(name: str, counts: list[tuple[int, int]], words: int = 50) -> Curve:
    """A curve of (rejected, false accepts) in two hours; the second point is the model's own."""
    points = tuple(
        Point(
            shift=float(i - 1),
            thresholds={"yes": 0.5},
            words=words,
            rejected=rejected,
            false_accepts=false,
            hours=2.0,
        )
        for i, (rejected, false) in enumerate(counts)
    )
    return Curve(name=name, points=points, own=points[1])


def test_the_trade_off_shows_every_keyword_and_the_models_own_setting(tmp_path: Path) -> None:
    counts = [(0, 30), (5, 4), (20, 1), (50, 0)]
    curves = {name: curve(name, counts) for name in ("all", "yes", "no")}
    plot_trade_off(curves, "a model", tmp_path / "det.svg")
    shown = texts(tmp_path / "det.svg")
    assert {"yes", "no", "all", "thresholds in the file", "0.1", "10"} <= set(shown)
    assert any("50 words in 2:00 h" in text for text in shown)


def drawn(curves: dict[str, Curve], monkeypatch: pytest.MonkeyPatch, path: Path) -> Any:
    """The figure of a trade-off, drawn."""
    figures = []
    savefig = Figure.savefig

    def keep(figure: Figure, *args: Any, **options: Any) -> None:
        figures.append(figure)
        savefig(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    plot_trade_off(curves, "a model", path)
    return figures[0]


def test_a_keyword_that_is_missed_more_than_all_together_is_drawn_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    curves = {
        "all": curve("all", [(0, 60), (4, 8), (10, 2), (14, 0)], words=100),
        "yes": curve("yes", [(0, 30), (0, 4), (1, 1), (2, 0)]),
        "no": curve("no", [(0, 30), (4, 4), (9, 1), (12, 0)], words=20),
    }
    axes = drawn(curves, monkeypatch, tmp_path / "det.png").axes[0]
    assert axes.get_ylim()[1] > 60  # of "no" 12 of 20 are missed where none of it is false


def test_the_models_own_setting_is_a_whole_mark_where_nothing_fired_falsely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    curves = {name: curve(name, [(0, 3), (2, 0), (9, 0)]) for name in ("all", "yes")}
    axes = drawn(curves, monkeypatch, tmp_path / "det.png").axes[0]
    (mark,) = [line for line in axes.lines if line.get_label() == "thresholds in the file"]
    assert mark.get_xdata()[0] == axes.get_xlim()[0]  # on the edge, which would cut it in half
    assert not mark.get_clip_on()


def test_of_more_keywords_than_can_be_told_apart_those_missed_most_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    curves = {"all": curve("all", [(0, 30), (5, 4), (50, 0)])}
    for i in range(40):
        curves[f"word{i}"] = curve(f"word{i}", [(0, 9), (i, 1), (50, 0)])
    figure = drawn(curves, monkeypatch, tmp_path / "det.svg")
    shown = set(texts(tmp_path / "det.svg"))
    assert {"word25", "word39", "all", "thresholds in the file"} <= shown
    assert not {"word24", "word0"} & shown
    assert any("the 15 of 40 keywords missed most" in text for text in shown)
    box = figure.legends[0].get_window_extent()
    assert box.y0 > 0 and box.height < figure.bbox.height


@pytest.mark.parametrize("keyword", ["$x$", "a$b$c"])
def test_a_dollar_sign_in_a_name_begins_no_formula(keyword: str, tmp_path: Path) -> None:
    pair = LabelSet(labels=(keyword, "no"), keywords=(keyword, "no"))
    result = evaluate_posteriors(np.array([[0.9, 0.1]]), [keyword], pair, model=f"{keyword}.tflite")
    plot_confusion(result, tmp_path / "c.svg")
    shown = texts(tmp_path / "c.svg")
    assert shown.count(keyword) == 2 and f"{keyword}.tflite" in " ".join(shown)


def test_a_models_name_that_is_too_long_for_a_picture_keeps_its_ends(tmp_path: Path) -> None:
    pair = LabelSet(labels=("hey", "no"), keywords=("hey", "no"))
    name = f"first_{'and_' * 30}last.tflite"
    result = evaluate_posteriors(np.array([[0.9, 0.1]]), ["hey"], pair, model=name)
    plot_confusion(result, tmp_path / "c.svg")
    (shown,) = [text for text in texts(tmp_path / "c.svg") if "first_" in text]
    assert "…" in shown and "last.tflite" in shown and len(shown.split("\n")[0]) < 80


def test_other_scripts_are_drawn_with_fonts_that_are_installed_and_what_is_missing_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Only the second of these characters is in a font that comes with Matplotlib.
    pair = LabelSet(labels=("\u706f", "\u1d81", "no"), keywords=("\u706f", "\u1d81", "no"))
    result = evaluate_posteriors(np.eye(3), list(pair.labels), pair)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for fonts, missing in ((("None Such", "STIXGeneral"), "\u706f"), ((), "\u1d81, \u706f")):
            monkeypatch.setattr(style, "_OTHER_SCRIPTS", (*fonts, "Wanted Sans"))
            plot_confusion(result, tmp_path / "c.png")
            (line,) = capsys.readouterr().err.splitlines()
            assert line.startswith(f"kws: no installed font has {missing}: the picture shows boxes")


def test_without_words_there_is_no_trade_off_to_draw(tmp_path: Path) -> None:
    curves = {"all": curve("all", [(0, 3), (0, 0)], words=0)}
    with pytest.raises(KwsError, match="no misses to draw"):
        plot_trade_off(curves, "a model", tmp_path / "det.svg")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg", ".PNG"])
def test_the_suffix_decides_the_format(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"curves{suffix}"
    plot_curves(HISTORY, path)
    start = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}[suffix.lower()]
    assert path.read_bytes().startswith(start)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_another_suffix_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(KwsError, match=r"must end in \.png, \.pdf, \.svg"):
        plot_curves(HISTORY, tmp_path / "curves.jpeg")
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_fails_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "curves.png"
    path.write_bytes(b"old")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    with pytest.raises(OSError, match="No space"):
        plot_curves(HISTORY, path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["curves.png"]


def test_without_matplotlib_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(KwsError, match=r"kws\[plot\]"):
        plot_curves(HISTORY, tmp_path / "curves.png")


def test_names_on_the_board_cover_neither_each_other_nor_a_point() -> None:
    from matplotlib.transforms import Bbox

    figure = Figure(figsize=(8, 5), dpi=150)
    axes = figure.add_subplot()
    crowd = np.array([(50.0, 95.0), (51.0, 95.1), (52.0, 95.0), (90.0, 94.0), (91.0, 94.1)])
    axes.plot(*crowd.T, "o")
    axes.margins(0.3)
    notes = [axes.annotate("conv_lstm", at, (0, 0), textcoords="offset points") for at in crowd]
    figure.draw_without_rendering()
    places = axes.transData.transform(crowd)
    _place_beside(notes, places)
    boxes = [note.get_window_extent() for note in notes]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    points = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in places]
    assert not any(box.overlaps(point) for box in boxes for point in points)
