"""Long recordings: heard fast but exactly, decided again and again, and summed up as curves."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import with_tail

from kws.audio.files import audio_seconds, write_wav
from kws.confidence import poisson_interval, weighted_interval
from kws.data.label_file import SpokenWord
from kws.decide import Decider, DecisionConfig, Event
from kws.errors import KwsError
from kws.frontend import features_of
from kws.model_file import ModelCard
from kws.network import Network
from kws.recordings.curve import Curve, Point, match_all, shifted, trace_curves
from kws.recordings.matching import join_matches, match_events
from kws.recordings.posteriors import RecordingPosteriors, run_each, run_recordings
from kws.recordings.replay import Replay
from kws.spotter import Spotter
from kws.system.processes import start_worker

RATE = 16000


def sound(seed: int, seconds: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    n = round(seconds * RATE)
    knots = max(2, round(seconds * 8))
    level = np.interp(np.arange(n), np.linspace(0, n, knots), rng.uniform(50, 4000, knots))
    noise = np.convolve(rng.standard_normal(n), rng.standard_normal(8), "same")
    return np.clip(noise * level, -32768, 32767).astype(np.int16)


def decision(
    thresholds: dict[str, float], smoothing: float = 80, quiet: float = 200, release: float = 0.8
) -> DecisionConfig:
    return DecisionConfig(
        thresholds=thresholds, smoothing_ms=smoothing, refractory_ms=quiet, release=release
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.tflite"
    return tiny_model.write_tiny(path, decision=decision({"yes": 0.3, "no": 0.35}))


# ---- hearing


@pytest.mark.parametrize("int8", [True, False], ids=["int8", "float"])
def test_what_is_heard_is_what_a_spotter_hears_to_the_last_bit(int8: bool, tmp_path: Path) -> None:
    path = tiny_model.write_tiny(tmp_path / "m.tflite", int8=int8)
    for seconds in (33.33, 4.0, 0.01):
        pcm = sound(1, seconds)
        write_wav(tmp_path / "long.wav", pcm, RATE)
        spotter = Spotter(path)
        events = spotter.feed(with_tail(pcm))
        (heard,) = run_recordings(path, [tmp_path / "long.wav"])
        np.testing.assert_array_equal(heard.posteriors, spotter.posteriors)
        np.testing.assert_array_equal(heard.step_times_s(spotter.card), spotter.step_times_s)
        assert heard.seconds == len(pcm) / RATE
        assert Replay(spotter.card, heard).events() == events


def test_several_processes_hear_what_one_does_in_the_order_given(
    model: Path, tmp_path: Path
) -> None:
    paths = []
    for i, seconds in enumerate((3, 20, 1, 9, 0.02)):
        paths.append(tmp_path / f"{i}.wav")
        write_wav(paths[-1], sound(i, seconds), RATE)
    alone = run_recordings(model, paths)
    together = run_recordings(model, paths, workers=3)
    assert [one.audio for one in together] == [str(path) for path in paths]
    for a, b in zip(alone, together, strict=True):
        assert a.seconds == b.seconds
        np.testing.assert_array_equal(a.posteriors, b.posteriors)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_recording_that_cannot_be_read_is_named_in_one_line(
    workers: int, model: Path, tmp_path: Path
) -> None:
    write_wav(tmp_path / "good.wav", sound(0, 2), RATE)
    (tmp_path / "bad.wav").write_text("this is text")
    with pytest.raises(KwsError, match=r"bad\.wav is not a sound file") as caught:
        run_recordings(model, [tmp_path / "good.wav", tmp_path / "bad.wav"], workers=workers)
    assert "\n" not in str(caught.value)


def test_a_worker_that_dies_ends_the_work_in_one_line(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wav(tmp_path / "a.wav", sound(0, 2), RATE)
    code = "import os; os.read(0, 1); os.write(1, b'{'); os._exit(7)"
    monkeypatch.setattr("kws.recordings.posteriors._WORKER", code)
    with pytest.raises(KwsError, match=r"died.*exit status 7"):
        run_recordings(model, [tmp_path / "a.wav"] * 2, workers=2)


def test_whoever_stops_listening_leaves_no_process_behind(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def start(code: str, *arguments: str) -> subprocess.Popen[bytes]:
        started.append(start_worker(code, *arguments))
        return started[-1]

    monkeypatch.setattr("kws.system.processes.start_worker", start)
    paths = [tmp_path / f"{i}.wav" for i in range(6)]
    for i, path in enumerate(paths):
        write_wav(path, sound(i, 2), RATE)
    hearing = run_each(model, paths, workers=2)
    next(hearing)
    hearing.close()
    assert len(started) == 2
    assert all(process.poll() is not None for process in started)


@pytest.mark.parametrize("workers", [1, 2])
def test_tflms_interpreter_hears_what_it_hears_alone(
    workers: int, model: Path, tmp_path: Path
) -> None:
    module = pytest.importorskip("tflite_micro.python.tflite_micro.runtime")
    network = Network(model)
    card, scale = network.card, network.output_tensor["scale"]
    paths = [tmp_path / "a.wav", tmp_path / "b.wav"]
    for i, path in enumerate(paths):
        write_wav(path, sound(i, 20), RATE)
    heard = run_recordings(model, paths, workers=workers, runtime="tflm")
    for i, one in enumerate(heard):
        # A fresh interpreter for each, so that nothing is left of the recording before.
        interpreter = module.Interpreter.from_bytes(model.read_bytes())
        frames = network.prepare(features_of(with_tail(sound(i, 20)), card.front_end))
        expected = []
        for k in range(card.n_steps(len(frames))):
            first = k * card.stride_frames
            interpreter.set_input(frames[None, first : first + card.receptive_field_frames], 0)
            interpreter.invoke()
            expected.append(interpreter.get_output(0)[0, 0].astype(np.int32))
        steps = np.array(expected) - network.output_tensor["zero_point"]
        np.testing.assert_allclose(one.posteriors, steps * scale, atol=1e-6)
    # And nearly what LiteRT hears, whose kernels round in another way.
    apart = [
        np.abs(a.posteriors - b.posteriors)
        for a, b in zip(run_recordings(model, paths), heard, strict=True)
    ]
    assert 0 <= max(a.max() for a in apart) < 0.1


def test_a_runtime_that_nobody_knows_is_refused(model: Path, tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", sound(0, 2), RATE)
    with pytest.raises(KwsError, match="Received: 'onnx'"):
        run_recordings(model, [tmp_path / "a.wav"], runtime="onnx")


def test_a_model_in_clip_form_is_refused(tmp_path: Path) -> None:
    path = tiny_model.write_tiny(tmp_path / "clip.tflite", form="clip")
    write_wav(tmp_path / "a.wav", sound(0, 2), RATE)
    with pytest.raises(KwsError, match="stream form"):
        run_recordings(path, [tmp_path / "a.wav"])


def test_the_length_of_a_file_is_read_from_its_header(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", sound(0, 2.5), RATE)
    assert audio_seconds(tmp_path / "a.wav") == 2.5
    (tmp_path / "b.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:1000])
    (tmp_path / "c.wav").write_text("text")
    assert [audio_seconds(tmp_path / f"{name}.wav") for name in "bcd"] == [None] * 3


# ---- deciding again


def card_with(config: DecisionConfig) -> ModelCard:
    return tiny_model.card(form="stream", decision=config)


def by_steps(card: ModelCard, heard: RecordingPosteriors, config: DecisionConfig) -> list[Event]:
    decider = Decider(config, card.labels, card.keywords, card.step_ms)
    times = heard.step_times_s(card)
    events = [decider.step(row, t) for row, t in zip(heard.posteriors, times, strict=True)]
    return [event for event in events if event]


@st.composite
def streams(draw: st.DrawFn) -> np.ndarray:
    """Posteriors that cross and meet thresholds often: int8 ones, with plateaus, or floats."""
    n = draw(st.integers(0, 120))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    raw = rng.integers(0, 256, (n, 4)) * (rng.random((n, 4)) < draw(st.floats(0.1, 1.0)))
    raw = np.repeat(raw, draw(st.integers(1, 4)), axis=0) / 256
    if draw(st.booleans()):
        # As small as a float network's can be: then sums are rounded, and their order matters.
        raw = raw * 10 ** -rng.choice([0.0, 0.1, 9.0, 12.0], raw.shape)
    return raw.astype(np.float32)


@settings(max_examples=200, deadline=None)
@given(
    posteriors=streams(),
    yes=st.floats(0.02, 1.0),
    no=st.sampled_from([0.1, 0.25, 0.5, 0.75]),
    smoothing=st.sampled_from([0, 40, 80, 200, 400]),
    quiet=st.sampled_from([0, 40, 130, 600]),
    release=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    order=st.booleans(),
)
def test_a_replay_decides_as_the_decider_does_step_by_step(
    posteriors: np.ndarray,
    yes: float,
    no: float,
    smoothing: float,
    quiet: float,
    release: float,
    order: bool,
) -> None:
    config = decision({"yes": yes, "no": no}, smoothing, quiet, release)
    card = card_with(config)
    if order:
        card = tiny_model.card(form="stream", decision=config, keywords=("no", "yes"))
    heard = RecordingPosteriors(audio="", seconds=10, posteriors=posteriors)
    expected = by_steps(card, heard, config)
    assert Replay(card, heard).events() == expected
    # With thresholds given later, over the same sums.
    other = card_with(decision({"yes": 0.9, "no": 0.9}, smoothing, quiet, release))
    if not order:
        assert Replay(other, heard).events({"yes": yes, "no": no}) == expected


def test_posteriors_of_another_model_are_refused() -> None:
    heard = RecordingPosteriors(audio="", seconds=1, posteriors=np.zeros((5, 3), np.float32))
    with pytest.raises(KwsError, match=r"4 labels. Received: an array of shape \(5, 3\)"):
        Replay(card_with(decision({"yes": 0.5, "no": 0.5})), heard)


# ---- curves


def test_a_curve_is_what_deciding_and_matching_at_each_threshold_gives(
    model: Path, tmp_path: Path
) -> None:
    card = Spotter(model).card
    recordings = []
    for i in range(2):
        path = tmp_path / f"{i}.wav"
        write_wav(path, sound(10 + i, 40), RATE)
        (heard,) = run_recordings(model, [path])
        truth = [
            SpokenWord(start_s=max(0.0, e.time_s - 0.3), end_s=e.time_s, keyword=e.keyword)
            for e in by_steps(card, heard, card.decision)[::2]
        ]
        truth += [SpokenWord(start_s=39.0, end_s=39.5, keyword=word) for word in ("no", "yes")]
        recordings.append((heard, truth))
    curves = trace_curves(
        [(Replay(card, h), t) for h, t in recordings], card.decision.thresholds, points=40
    )
    assert set(curves) == {"all", "yes", "no"}
    for i, point in enumerate(curves["all"].points):
        config = decision(dict(point.thresholds))
        parts = [match_events(t, by_steps(card, h, config), duration_s=40) for h, t in recordings]
        whole = join_matches(parts)
        assert point.false_accepts == len(whole.false_accepts)
        assert point.rejected == whole.words - len(whole.hits)
        assert point.words == sum(len(t) for _, t in recordings)
        for keyword in ("yes", "no"):
            single, counts = curves[keyword].points[i], whole.per_keyword()[keyword]
            assert single.false_accepts == counts["false_accepts"]
            assert single.rejected == counts["words"] - counts["hits"]
    own = curves["all"].own
    assert dict(own.thresholds) == {"yes": 0.3, "no": 0.35}
    assert own.hours == pytest.approx(80 / 3600)
    # The ends: nothing is heard any more; and nearly everything is.
    assert curves["all"].points[-1].false_reject_rate == 1.0
    assert curves["all"].points[0].false_accepts > own.false_accepts

    best = curves["all"].best(own.false_accepts_per_hour)
    assert best is not None
    assert best.rejected == min(
        p.rejected for p in curves["all"].points if p.false_accepts <= own.false_accepts
    )
    none = curves["all"].best(0.0)
    assert none is not None
    assert none.false_accepts == 0
    fewest = curves["all"].fewest_errors()
    errors = [p.rejected + p.false_accepts for p in curves["all"].points]
    assert fewest.rejected + fewest.false_accepts == min(errors) < max(errors)
    assert curves["all"].resolution() == pytest.approx(45.0)


@pytest.mark.parametrize(
    ("errors", "chosen"),
    [([3, 1, 1, 2, 1, 1, 1, 4], 5), ([1, 1, 1, 2, 2, 1, 1, 1], 6), ([2], 0), ([5, 4, 5], 1)],
)
def test_of_settings_with_equally_few_errors_the_middle_of_the_longest_row_is_named(
    errors: list[int], chosen: int
) -> None:
    points = tuple(
        Point(shift=i, thresholds={}, words=9, rejected=n, false_accepts=0, hours=1.0)
        for i, n in enumerate(errors)
    )
    assert Curve(name="all", points=points, own=points[0]).fewest_errors().shift == chosen


def test_shifted_thresholds_have_four_decimals_and_none_is_zero() -> None:
    moved = shifted({"yes": 0.3, "no": 0.0001}, -1.2345)
    assert moved == {word: round(value, 4) for word, value in moved.items()}
    assert moved["no"] == 0.0001


def test_thresholds_far_apart_all_become_low_and_high_and_each_point_can_be_had_again() -> None:
    card = card_with(decision({"yes": 0.2, "no": 0.97}, smoothing=0))
    posteriors = np.zeros((1000, 4), np.float32)
    for word, at in (("yes", 100), ("no", 400)):
        # What is said, as loud what is not, and a weak one that is said.
        posteriors[[at, at + 100, at + 200], tiny_model.LABELS.index(word)] = (0.996, 0.996, 0.07)
    replay = Replay(card, RecordingPosteriors(audio="", seconds=40, posteriors=posteriors))
    times = RecordingPosteriors(audio="", seconds=40, posteriors=posteriors).step_times_s(card)
    truth = [
        SpokenWord(start_s=times[at + after] - 0.4, end_s=times[at + after], keyword=word)
        for word, at in (("yes", 100), ("no", 400))
        for after in (0, 200)
    ]
    curves = trace_curves([(replay, truth)], card.decision.thresholds)
    for curve in curves.values():
        first, last = curve.points[0], curve.points[-1]
        assert (first.rejected, last.rejected, last.false_accepts) == (0, last.words, 0)
    for point in curves["all"].to_json()["points"]:
        again = match_all([(replay, truth)], point["thresholds"])
        assert again.words - len(again.hits) == point["rejected"]
        assert len(again.false_accepts) == point["false_accepts"]


def test_a_keyword_named_all_does_not_take_the_place_of_all_keywords() -> None:
    both = dict.fromkeys(("all", "off"), 0.5)
    labels = (*tiny_model.LABELS[:2], *both)
    config = decision(both, smoothing=0)
    card = tiny_model.card(form="stream", labels=labels, keywords=tuple(both), decision=config)
    posteriors = np.zeros((500, 4), np.float32)
    posteriors[100, labels.index("off")] = 0.9
    replay = Replay(card, RecordingPosteriors(audio="", seconds=20, posteriors=posteriors))
    curves = trace_curves([(replay, [SpokenWord(start_s=3, end_s=4.2, keyword="off")])], both)
    assert {name: curve.own.words for name, curve in curves.items()} == {
        "all": 1,
        "'all'": 0,
        "off": 1,
    }
    assert curves["'all'"].own.thresholds == {"all": 0.5}


@settings(deadline=None)
@given(
    thresholds=st.dictionaries(st.sampled_from("abc"), st.floats(0.001, 1.0), min_size=1),
    shift=st.floats(-20, 20),
)
def test_shifted_thresholds_stay_thresholds_in_their_order(
    thresholds: dict[str, float], shift: float
) -> None:
    moved = shifted(thresholds, shift)
    assert all(0 < value <= 1 for value in moved.values())
    by_old = sorted(thresholds, key=lambda k: thresholds[k])
    assert sorted(moved[k] for k in by_old) == [moved[k] for k in by_old]


@pytest.mark.parametrize(
    ("count", "low", "high"),
    # From tables of the exact limits, for example Garwood's own.
    [(0, 0.0, 3.689), (1, 0.0253, 5.572), (5, 1.623, 11.668), (50, 37.11, 65.92)],
)
def test_limits_of_a_count_are_the_exact_ones(count: int, low: float, high: float) -> None:
    assert poisson_interval(count) == pytest.approx((low, high), abs=0.006)


def test_limits_of_a_sum_of_weights_follow_the_weights_and_hold_most_sums() -> None:
    assert weighted_interval([1.0] * 5, 1.0) == poisson_interval(5)
    assert weighted_interval([], 7.0) == pytest.approx((0, 7 * poisson_interval(0)[1]))
    assert weighted_interval([3.0, 3.0], 3.0) == pytest.approx(
        tuple(3 * bound for bound in poisson_interval(2))
    )
    # Four things of weight 1 to 5 are expected: 12 in all.
    rng = np.random.default_rng(1)
    drawn = [rng.integers(1, 6, rng.poisson(4)).astype(float).tolist() for _ in range(300)]
    within = [low <= 12 <= high for low, high in (weighted_interval(x, 5.0) for x in drawn)]
    assert np.mean(within) >= 0.93


@settings(deadline=None)
@given(st.integers(0, 1000))
def test_limits_hold_the_count_and_grow_with_it(count: int) -> None:
    low, high = poisson_interval(count)
    assert low <= count < high
    assert high - low < 4.2 * math.sqrt(count + 1) + 3
