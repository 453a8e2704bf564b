"""Evaluation on clips and on recordings, against figures worked out by hand and in plain NumPy."""

from __future__ import annotations

import gc
import json
import re
import shlex
import subprocess
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_model
from hypothesis import given
from hypothesis import strategies as st
from sounds import with_tail

from kws.audio.files import write_wav
from kws.cli import run as kws
from kws.confidence import wilson_interval
from kws.data.label_file import SpokenWord
from kws.data.labels import NOT_THE_WORD, LabelSet
from kws.data.part import write_part
from kws.data.scan import scan
from kws.data.split import split_of
from kws.decide import DecisionConfig
from kws.errors import KwsError
from kws.evaluate.clips import (
    Confusion,
    Mistake,
    evaluate_arrays,
    evaluate_folder,
    evaluate_posteriors,
)
from kws.evaluate.posteriors import clip_posteriors
from kws.evaluate.streams import evaluate_streams
from kws.frontend import FrontEndConfig, features_of
from kws.model_file import ModelCard
from kws.network import Network
from kws.recordings.matching import match_events
from kws.spotter import Spotter
from kws.system.processes import start_worker

RATE = 16000


def sound(seed: int, samples: int = RATE) -> np.ndarray:
    """Noise whose level and colour wander, so that posteriors do too."""
    rng = np.random.default_rng(seed)
    level = np.interp(np.arange(samples), np.linspace(0, samples, 9), rng.uniform(50, 4000, 9))
    noise = np.convolve(rng.standard_normal(samples), rng.standard_normal(8), "same")
    return np.clip(noise * level, -32768, 32767).astype(np.int16)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.write_tiny(tmp_path_factory.mktemp("model") / "tiny.tflite")


def write_clips(folder: Path, counts: dict[str, int], samples: int = 1600) -> Path:
    for i, (word, n) in enumerate(counts.items()):
        for j in range(n):
            write_wav(folder / word / f"{j:03}.wav", sound(1000 * i + j, samples), RATE)
    return folder


# --- figures from answers ------------------------------------------------------------------------

THREE = LabelSet.own(["yes", "no"], silence=False)


def answers(*heard: int, sure: float = 0.8) -> np.ndarray:
    rest = (1 - sure) / 2
    return np.array([[sure if k == h else rest for k in range(3)] for h in heard])


def test_figures_worked_out_by_hand() -> None:
    words = ["yes", "yes", "yes", "yes", "no", "no", "tree", "house", "_unknown_"]
    result = evaluate_posteriors(
        answers(0, 0, 0, 1, 1, 2, 2, 0, 2), words, THREE, names=[f"{w}/a.wav" for w in words]
    )
    assert result.labels == ("yes", "no", "_unknown_")
    assert result.confusion == ((3, 1, 0), (0, 1, 1), (1, 0, 2))
    assert (result.clips, result.correct) == (9, 6)
    assert result.accuracy == pytest.approx(6 / 9)
    assert result.per_label() == {
        "yes": {"clips": 4, "correct": 3, "recall": 0.75, "precision": 0.75},
        "no": {"clips": 2, "correct": 1, "recall": 0.5, "precision": 0.5},
        "_unknown_": {
            "clips": 3,
            "correct": 2,
            "recall": pytest.approx(2 / 3),
            "precision": pytest.approx(2 / 3),
        },
    }
    assert result.confusions == (
        Confusion(word="house", label="_unknown_", heard="yes", clips=1),
        Confusion(word="no", label="no", heard="_unknown_", clips=1),
        Confusion(word="yes", label="yes", heard="no", clips=1),
    )


def test_the_most_frequent_confusion_and_the_surest_mistake_come_first() -> None:
    posteriors = np.concatenate([answers(1, 2, 2, sure=0.6), answers(1, sure=0.9)])
    result = evaluate_posteriors(posteriors, ["yes"] * 4, THREE, names=list("abcd"))
    assert [(c.heard, c.clips) for c in result.confusions] == [("_unknown_", 2), ("no", 2)]
    assert result.mistakes[0] == Mistake(clip="d", label="yes", heard="no", score=0.9)
    assert [m.clip for m in result.mistakes] == ["d", "a", "b", "c"]


def test_a_label_without_clips_has_no_recall_and_one_never_heard_no_precision() -> None:
    result = evaluate_posteriors(answers(0, 0), ["yes", "yes"], THREE)
    assert result.per_label()["no"]["recall"] is None
    assert result.per_label()["no"]["precision"] is None
    json.dumps(result.to_json(), allow_nan=False)


def test_words_and_positions_of_labels_mean_the_same() -> None:
    by_word = evaluate_posteriors(answers(0, 1, 2), ["yes", "yes", "cat"], THREE)
    for positions in (np.array([0, 0, 2]), [0, 0, 2]):
        by_position = evaluate_posteriors(answers(0, 1, 2), positions, THREE)
        assert by_word.confusion == by_position.confusion


@pytest.mark.parametrize(("threshold", "heard"), [(0.5, 3), (0.7, 2), (0.95, 0)])
def test_a_wake_word_is_heard_from_its_threshold_on(threshold: float, heard: int) -> None:
    result = evaluate_posteriors(
        np.array([[0.9], [0.7], [0.6], [0.1]]),
        np.array([0, 0, NOT_THE_WORD, NOT_THE_WORD]),
        LabelSet.wake_word("computer"),
        threshold=threshold,
    )
    assert result.labels == ("computer", "_unknown_")
    assert sum(row[0] for row in result.confusion) == heard


def test_a_wake_word_takes_every_other_folder_and_silence_as_not_the_word() -> None:
    result = evaluate_posteriors(
        np.array([[0.9], [0.2], [0.8]]),
        ["computer", "_silence_", "snowboy"],
        LabelSet.wake_word("computer"),
    )
    assert result.confusion == ((1, 0), (1, 1))
    assert result.mistakes[0].score == 0.8


@pytest.mark.parametrize(
    ("posteriors", "labels", "complaint"),
    [
        (np.zeros((0, 3)), [], "no clip"),
        (answers(0), ["yes", "no"], "3 posteriors for each"),
        (np.zeros((1, 2)), ["yes"], "Need 3 posteriors"),
        (answers(0), np.array([3]), "positions 0 to 2"),
        (answers(0), np.array([-1]), "positions 0 to 2"),
    ],
)
def test_answers_that_do_not_fit_their_labels_are_refused(
    posteriors: Any, labels: Any, complaint: str
) -> None:
    with pytest.raises(KwsError, match=complaint):
        evaluate_posteriors(posteriors, labels, THREE)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40))
def test_every_clip_stands_once_in_the_matrix_in_its_row(pairs: list[tuple[int, int]]) -> None:
    truth = np.array([t for t, _ in pairs])
    result = evaluate_posteriors(answers(*(h for _, h in pairs)), truth, THREE)
    assert [sum(row) for row in result.confusion] == np.bincount(truth, minlength=3).tolist()
    assert result.correct == sum(t == h for t, h in pairs)
    assert sum(c.clips for c in result.confusions) == result.clips - result.correct
    low, high = result.interval
    assert 0 <= low <= result.accuracy <= high <= 1


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    # R, package binom: binom.confint(x, n, methods = "wilson")
    [(8, 10, 0.4901625, 0.9433178), (0, 10, 0.0, 0.2775328), (10, 10, 0.7224672, 1.0)],
)
def test_the_confidence_interval_is_wilsons(
    correct: int, total: int, low: float, high: float
) -> None:
    assert wilson_interval(correct, total) == pytest.approx((low, high), abs=1e-6)


@pytest.mark.parametrize(("correct", "total"), [(0, 0), (3, 2), (-1, 4)])
def test_no_interval_of_what_is_no_proportion(correct: int, total: int) -> None:
    with pytest.raises(KwsError, match="Not a proportion"):
        wilson_interval(correct, total)


# --- answers from audio --------------------------------------------------------------------------


def reference_steps(card: ModelCard, pcm: np.ndarray) -> np.ndarray:
    features = (features_of(pcm, card.front_end) - card.feature_mean) / card.feature_std
    return tiny_model.reference(features, tiny_model.weights())


@pytest.mark.parametrize("form", ["stream", "clip"])
def test_a_clips_answer_is_the_last_step_of_the_network_written_in_numpy(
    form: str, tmp_path: Path
) -> None:
    network = Network(tiny_model.write_tiny(tmp_path / "m.tflite", form=form, int8=False))
    clips = np.stack([sound(seed) for seed in range(70)])
    expected = [reference_steps(network.card, clip)[-1] for clip in clips]
    np.testing.assert_allclose(clip_posteriors(network, clips), expected, atol=2e-4)


@pytest.mark.parametrize("form", ["stream", "clip"])
def test_a_short_clip_gets_zeros_at_its_end(form: str, tmp_path: Path) -> None:
    network = Network(tiny_model.write_tiny(tmp_path / "m.tflite", form=form))
    short = sound(1, 9000)[None]
    padded = np.concatenate([short, np.zeros((1, 7000), np.int16)], axis=1)
    np.testing.assert_array_equal(clip_posteriors(network, short), clip_posteriors(network, padded))
    assert not np.array_equal(
        clip_posteriors(network, short), clip_posteriors(network, np.roll(padded, 7000, axis=1))
    )


def test_the_surest_keyword_of_a_long_clip_answers_in_stream_form(tmp_path: Path) -> None:
    network = Network(tiny_model.write_tiny(tmp_path / "m.tflite", int8=False))
    positions = set()
    for seed in range(8):
        clip = sound(seed, 3 * RATE)
        # Steps from the last one of a one-second clip on; columns 2 and 3 are the keywords.
        steps = reference_steps(network.card, clip)[network.card.n_steps(49) - 1 :]
        surest = steps[:, 2:].max(axis=1).argmax()
        positions.add(int(surest))
        np.testing.assert_allclose(
            clip_posteriors(network, clip[None])[0], steps[surest], atol=2e-3
        )
    assert len(positions) > 3


def test_the_surest_keyword_among_the_windows_of_a_long_clip_answers_in_clip_form(
    tmp_path: Path,
) -> None:
    network = Network(tiny_model.write_tiny(tmp_path / "m.tflite", form="clip", int8=False))
    clip = sound(3, 2 * RATE)
    windows = [
        reference_steps(network.card, clip[start : start + 48 * 320 + 512])[-1]
        for start in range(0, len(clip) - 48 * 320 - 512 + 1, 2 * 320)
    ]
    surest = max(windows, key=lambda posteriors: posteriors[2:].max())
    np.testing.assert_allclose(clip_posteriors(network, clip[None])[0], surest, atol=2e-3)


def test_one_clip_leaves_no_trace_in_the_next(model: Path) -> None:
    network = Network(model)
    clips = np.stack([sound(seed) for seed in range(4)])
    np.testing.assert_array_equal(
        clip_posteriors(network, clips), clip_posteriors(network, clips[::-1])[::-1]
    )


@pytest.mark.parametrize(
    "pcm", [np.zeros((2, 16000)), np.zeros(16000, np.int16), np.zeros((2, 9), np.int32)]
)
def test_clips_that_are_no_int16_rows_are_refused(model: Path, pcm: np.ndarray) -> None:
    with pytest.raises(KwsError, match=r"int16 of shape \[n, samples\]"):
        clip_posteriors(Network(model), pcm)


class WakeWord:
    """Stands in for a network with one output: says what the first sample of a clip asks for."""

    card = ModelCard(
        name="wake",
        license="CC0-1.0",
        labels=("hey",),
        keywords=("hey",),
        head="sigmoid",
        form="clip",
        receptive_field_frames=5,
        stride_frames=2,
        clip_frames=49,
        front_end=FrontEndConfig(),
        feature_mean=(0.0,) * 13,
        feature_std=(1.0,) * 13,
        decision=DecisionConfig(thresholds={"hey": 0.9}),
    )

    def run(self, features: np.ndarray) -> np.ndarray:
        # A loud clip (large C0) is 0.95, any other 0.8: above one half, below the threshold.
        return np.full((1, 1), 0.95 if features[:, 0].mean() > -10 else 0.8, np.float32)


def test_the_threshold_of_a_wake_word_comes_from_the_model_file() -> None:
    clips = np.stack([sound(0), np.zeros(RATE, np.int16)])
    result = evaluate_arrays(WakeWord(), clips, ["hey", "hey"])  # type: ignore[arg-type]
    assert result.confusion == ((1, 1), (0, 0))
    assert result.model == "wake"
    assert result.runtime


# --- folders -------------------------------------------------------------------------------------


def test_a_folder_gives_what_the_same_clips_give_as_arrays(model: Path, tmp_path: Path) -> None:
    data = write_clips(tmp_path / "data", {"yes": 5, "no": 4, "_silence_": 3, "tree": 6})
    write_clips(data, {"_background_noise_": 1}, samples=3 * RATE)
    result = evaluate_folder(model, data)
    pcm, words = [], []
    for i, (word, n) in enumerate({"yes": 5, "no": 4, "_silence_": 3, "tree": 6}.items()):
        pcm += [sound(1000 * i + j, 1600) for j in range(n)]
        words += [word] * n
    expected = evaluate_arrays(Network(model), np.stack(pcm), words)
    assert result.clips == 18
    assert result.confusion == expected.confusion
    assert result.confusions == expected.confusions
    assert any("_background_noise_ is skipped" in note for note in result.notes)
    assert "counted as _unknown_: tree" in result.notes
    assert all(m.clip.endswith(".wav") and "/" in m.clip for m in result.mistakes)


def test_folders_in_another_case_are_of_the_same_labels(model: Path, tmp_path: Path) -> None:
    data = write_clips(tmp_path / "data", {"yes": 5, "no": 4})
    expected = evaluate_folder(model, data)
    (data / "yes").rename(data / "Yes")
    heard = evaluate_folder(model, data)
    assert heard.confusion == expected.confusion and heard.notes == expected.notes == ()


def test_many_clips_in_one_process_or_two_give_what_they_give_as_arrays(
    model: Path, tmp_path: Path
) -> None:
    counts = {"no": 205, "yes": 210}
    data = write_clips(tmp_path, counts, samples=800)
    (data / "no" / "bad.wav").write_text("no sound")
    pcm = np.stack(
        [sound(1000 * i + j, 800) for i, n in enumerate(counts.values()) for j in range(n)]
    )
    expected = evaluate_arrays(
        Network(model),
        pcm,
        [word for word, n in counts.items() for _ in range(n)],
        names=[f"{word}/{j:03}.wav" for word, n in counts.items() for j in range(n)],
    )
    for workers in (1, 2):
        result = evaluate_folder(model, data, workers=workers, skip_bad=True)
        assert result.confusion == expected.confusion
        assert result.confusions == expected.confusions
        assert result.mistakes == expected.mistakes
        assert len(result.unreadable) == 1


@pytest.mark.parametrize("when", ["before it takes its work", "at work"])
def test_a_worker_that_dies_ends_the_work_in_one_line(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    data = write_clips(tmp_path, {"yes": 400}, samples=320)
    code = "import os; os._exit(7)"

    def start_dead(code: str, *arguments: str) -> subprocess.Popen[bytes]:
        process = start_worker(code, *arguments)
        process.wait()
        return process

    if when == "at work":
        code = "import os; os.read(0, 1); os._exit(7)"
    else:
        monkeypatch.setattr("kws.system.processes.start_worker", start_dead)
    monkeypatch.setattr("kws.evaluate.posteriors._WORKER", code)
    with pytest.raises(KwsError, match=r"died.*exit status 7") as caught:
        evaluate_folder(model, data, workers=2)
    assert "\n" not in str(caught.value)


def test_clips_of_different_lengths_and_rows_keep_their_places(model: Path, tmp_path: Path) -> None:
    lengths = [16000, 800, 24000, 16000, 300, 24000, 15000]
    for i, samples in enumerate(lengths):
        write_wav(tmp_path / "yes" / f"{i}.wav", sound(i, samples), RATE)
    network = Network(model)
    expected = [clip_posteriors(network, sound(i, n)[None])[0] for i, n in enumerate(lengths)]
    result = evaluate_folder(model, tmp_path)
    wrong = {
        f"yes/{i}.wav": (tiny_model.LABELS[p.argmax()], round(float(p.max()), 4))
        for i, p in enumerate(expected)
        if p.argmax() != 2
    }
    assert {m.clip: (m.heard, m.score) for m in result.mistakes} == wrong
    assert wrong


def test_a_limit_takes_clips_from_every_folder_spread_over_it(model: Path, tmp_path: Path) -> None:
    data = write_clips(tmp_path, {"yes": 9, "no": 2}, samples=400)
    result = evaluate_folder(model, data, limit=3)
    assert [sum(row) for row in result.confusion] == [0, 0, 3, 2]
    # With all clips wrong or right, the names that are left tell which were taken.
    taken = {m.clip for m in result.mistakes if m.clip.startswith("yes")}
    assert taken <= {"yes/000.wav", "yes/003.wav", "yes/006.wav"}


def test_a_clip_that_cannot_be_read_stops_the_work_or_is_left_out_by_name(
    model: Path, tmp_path: Path
) -> None:
    data = write_clips(tmp_path, {"yes": 3}, samples=400)
    (data / "yes" / "bad.wav").write_text("this is text")
    with pytest.raises(KwsError, match=r"1 of 4 clips cannot be read: .*bad\.wav"):
        evaluate_folder(model, data)
    result = evaluate_folder(model, data, skip_bad=True)
    assert result.clips == 3
    assert len(result.unreadable) == 1
    assert "bad.wav" in result.unreadable[0]


def test_a_folder_in_which_nothing_can_be_read_fails_even_so(model: Path, tmp_path: Path) -> None:
    (tmp_path / "yes").mkdir()
    (tmp_path / "yes" / "bad.wav").write_text("this is text")
    with pytest.raises(KwsError, match="1 of 1 clips cannot be read"):
        evaluate_folder(model, tmp_path, skip_bad=True)


# --- in noise ------------------------------------------------------------------------------------

CLIP = 48 * 320 + 512
"""Samples that the tiny model looks at."""


def write_noise(folder: Path, held_out: np.ndarray, trained_seed: int = 0) -> Path:
    """Write a recording whose last fifth is `held_out`."""
    trained = sound(trained_seed, 4 * len(held_out))
    write_wav(folder / "noise.wav", np.concatenate([trained, held_out]), RATE)
    return folder


def test_in_noise_a_model_hears_what_was_mixed_by_hand_and_silence_as_it_is(
    model: Path, tmp_path: Path
) -> None:
    counts = {"_silence_": 5, "tree": 9, "yes": 12}
    data = write_clips(tmp_path / "data", counts, samples=CLIP)
    # As long as a clip, so that there is only one piece.
    background = sound(77, CLIP)
    noise = write_noise(tmp_path / "noise", background)
    result = evaluate_folder(model, data, noise=noise, snrs_db=[0, 10])
    assert [noisy.snr_db for noisy in result.in_noise] == [10.0, 0.0]

    clips = [
        sound(1000 * i + j, CLIP).astype(float)
        for i, n in enumerate(counts.values())
        for j in range(n)
    ]
    words = [word for word, n in counts.items() for _ in range(n)]
    names = [f"{word}/{j:03}.wav" for word, n in counts.items() for j in range(n)]
    for noisy in result.in_noise:
        mixed = []
        for clip, word in zip(clips, words, strict=True):
            both = clip.copy()
            if word != "_silence_":
                ratio = np.sqrt((clip**2).mean() / (background.astype(float) ** 2).mean())
                both += background * ratio / 10 ** (noisy.snr_db / 20)
                both *= min(1.0, 32767 / np.abs(both).max())
            mixed.append(np.rint(both).astype(np.int16))
        expected = evaluate_arrays(Network(model), np.stack(mixed), words, names=names)
        assert noisy.confusion == expected.confusion
        assert noisy.mistakes == expected.mistakes
    silence = [
        [m for m in one.mistakes if m.label == "_silence_"] for one in (result, *result.in_noise)
    ]
    assert silence[0] and silence[0] == silence[1] == silence[2]
    assert result.mistakes != result.in_noise[0].mistakes != result.in_noise[1].mistakes


def test_clean_figures_are_those_without_noise(model: Path, tmp_path: Path) -> None:
    data = write_clips(tmp_path / "data", {"yes": 5, "no": 4, "tree": 6}, samples=CLIP)
    noise = write_noise(tmp_path / "noise", sound(77, 2 * CLIP))
    alone, beside = evaluate_folder(model, data), evaluate_folder(model, data, noise=noise)
    assert not alone.in_noise
    assert [noisy.snr_db for noisy in beside.in_noise] == [20.0, 10.0, 5.0, 0.0]
    for field in ("confusion", "confusions", "mistakes", "labels", "snr_db"):
        assert getattr(beside, field) == getattr(alone, field)
    assert all(noisy.clips == alone.clips for noisy in beside.in_noise)


def test_what_training_hears_of_a_noise_recording_changes_no_figure(
    model: Path, tmp_path: Path
) -> None:
    data = write_clips(tmp_path / "data", {"yes": 12}, samples=CLIP)
    held_out = sound(77, 2 * CLIP)
    one, other, third = (
        evaluate_folder(model, data, noise=write_noise(tmp_path / name, end, trained_seed=seed))
        for name, end, seed in (
            ("a", held_out, 1),
            ("b", held_out, 2),
            ("c", sound(5, 2 * CLIP), 1),
        )
    )
    assert one.in_noise == other.in_noise
    assert one.in_noise != third.in_noise


def test_each_clip_hears_a_piece_of_its_own_by_the_seed_and_in_any_process(
    model: Path, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    # The same clip many times over: what differs is the noise.
    for i in range(400):
        write_wav(tmp_path / "data" / "no" / f"{i:03}.wav", sound(3, 1600), RATE)
    noise = write_noise(tmp_path / "noise", sound(77, 5 * CLIP))

    def scores(**options: Any) -> list[tuple[float, ...]]:
        result = evaluate_folder(model, tmp_path / "data", noise=noise, snrs_db=[0], **options)
        return [tuple(m.score for m in one.mistakes) for one in (result, *result.in_noise)]

    clean, noisy = scores()
    assert (len(set(clean)), len(set(noisy)) > 5) == (1, True)
    assert scores(workers=2) == [clean, noisy]
    assert scores(limit=40) == scores(limit=40, seed=0) != scores(limit=40, seed=1)


def test_an_unreadable_clip_moves_no_noise_to_another(model: Path, tmp_path: Path) -> None:
    data = write_clips(tmp_path / "data", {"yes": 8}, samples=CLIP)
    noise = write_noise(tmp_path / "noise", sound(77, 3 * CLIP))
    before = evaluate_folder(model, data, noise=noise).in_noise
    (data / "yes" / "003.wav").write_text("no sound")
    after = evaluate_folder(model, data, noise=noise, skip_bad=True).in_noise
    for one, other in zip(before, after, strict=True):
        gone = "yes/003.wav"
        assert [m for m in one.mistakes if m.clip != gone] == list(other.mistakes)


@pytest.mark.parametrize("samples", [300, RATE, 3 * RATE])
@pytest.mark.parametrize("form", ["stream", "clip"])
def test_clips_of_any_length_are_heard_in_noise(form: str, samples: int, tmp_path: Path) -> None:
    model = tiny_model.write_tiny(tmp_path / "m.tflite", form=form)
    data = write_clips(tmp_path / "data", {"yes": 3}, samples=samples)
    noise = write_noise(tmp_path / "noise", sound(77, CLIP + 9))
    result = evaluate_folder(model, data, noise=noise, snrs_db=[-100])
    assert result.in_noise[0].clips == 3


def test_the_figures_in_noise_are_in_the_json(model: Path, tmp_path: Path) -> None:
    data = write_clips(tmp_path / "data", {"yes": 9, "_silence_": 4}, samples=CLIP)
    noise = write_noise(tmp_path / "noise", sound(77, 2 * CLIP))
    assert evaluate_folder(model, data).to_json()["in_noise"] == []
    result = evaluate_folder(model, data, noise=noise, snrs_db=[5])
    (found,) = json.loads(json.dumps(result.to_json(), allow_nan=False))["in_noise"]
    noisy = result.in_noise[0]
    assert found["snr_db"] == 5
    assert found["accuracy"] == found["correct"] / 13 == noisy.accuracy
    assert found["points_lost"] == pytest.approx(100 * (result.accuracy - noisy.accuracy))
    assert found["accuracy_interval_95"] == list(wilson_interval(noisy.correct, 13))
    assert found["per_label"]["yes"]["clips"] == 9
    assert [sum(row) for row in found["confusion"]] == [4, 0, 9, 0]


def test_notes_say_what_was_mixed_in_and_what_not(model: Path, tmp_path: Path) -> None:
    data = write_clips(tmp_path / "data", {"yes": 2, "_silence_": 4}, samples=CLIP)
    noise = write_noise(tmp_path / "noise", sound(77, 3 * RATE))
    write_wav(noise / "click.wav", sound(1, RATE), RATE)
    assert evaluate_folder(model, data, noise=noise).notes == (
        "noise mixed in: the last 20 % of 1 recording, 3 s",
        "noise skipped, too short or silent: click.wav",
        "no noise is mixed into the 4 clips in _silence_",
    )


def speak(folder: Path, speakers: int, *, pattern: str = "{}_nohash_0.wav") -> list[str]:
    """Write a clip of "yes" by each of some speakers; return the part of each."""
    names = [f"yes/{pattern.format(f'speaker{i}')}" for i in range(speakers)]
    for i, name in enumerate(names):
        write_wav(folder / name, sound(i, 800), RATE)
    return [split_of(name) for name in names]


def test_it_says_how_many_clips_are_by_training_speakers_and_how_to_leave_them_out(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parts = speak(Path("my data"), 40)
    write_clips(Path("my data"), {"_silence_": 3}, samples=800)
    (note,) = evaluate_folder(model, "my data").notes
    assert note.startswith(f"{parts.count('training')} of 43 clips are by training speakers")
    (command,) = re.findall("kws data part .*", note)
    assert kws(shlex.split(command)[1:]) == 0
    alone = evaluate_folder(model, "NEW")
    assert (alone.clips, alone.notes) == (parts.count("validation"), ())


def test_lists_that_came_with_the_clips_say_who_is_a_training_speaker(
    model: Path, tmp_path: Path
) -> None:
    speak(tmp_path, 12, pattern="{}.wav")
    (tmp_path / "testing_list.txt").write_text("yes/speaker0.wav\nyes/speaker1.wav\n")
    (note,) = evaluate_folder(model, tmp_path).notes
    assert note.startswith("10 of 12 clips are by training speakers")
    assert note.endswith("--part testing --to NEW")


@pytest.mark.parametrize(
    ("speakers", "pattern"),
    [(9, "{}_nohash_0.wav"), (1, "{}_nohash_0.wav"), (40, "{}.wav")],
)
def test_it_says_nothing_of_training_speakers_where_the_parts_are_not_of_speakers(
    speakers: int, pattern: str, model: Path, tmp_path: Path
) -> None:
    speak(tmp_path, speakers, pattern=pattern)
    for i in range(40 if speakers < 10 else 0):
        write_wav(tmp_path / "no" / f"speaker0_nohash_{i}.wav", sound(i, 800), RATE)
    assert len(np.unique(scan(tmp_path, cached=False).splits)) > 1
    assert evaluate_folder(model, tmp_path).notes == ()


@pytest.mark.parametrize("part", ["training", "validation"])
def test_it_says_nothing_of_training_speakers_where_all_clips_are_of_one_part(
    part: str, model: Path, tmp_path: Path
) -> None:
    speak(tmp_path / "all", 40)
    write_clips(tmp_path / "all", {"_background_noise_": 1}, samples=5 * RATE)
    target = tmp_path / "one"
    write_part(tmp_path / "all", part, target, silence=12)
    assert evaluate_folder(model, target).notes == ()


def test_a_folder_without_any_label_of_the_model_is_the_wrong_folder(
    model: Path, tmp_path: Path
) -> None:
    data = write_clips(tmp_path, {"cat": 2, "dog": 1}, samples=400)
    with pytest.raises(KwsError, match=r"No folder in .* is a label of this model.*cat, dog"):
        evaluate_folder(model, data)


def test_other_words_are_left_out_where_the_model_has_no_unknown(tmp_path: Path) -> None:
    words = ("up", "down", "yes", "no")
    model = tiny_model.write_tiny(
        tmp_path / "m.tflite",
        labels=words,
        keywords=words,
        decision=DecisionConfig(thresholds=dict.fromkeys(words, 0.5)),
    )
    data = write_clips(tmp_path / "data", {"yes": 2, "tree": 3, "_unknown_": 1}, samples=400)
    result = evaluate_folder(model, data)
    assert result.clips == 2
    assert any("left out" in note and "tree" in note for note in result.notes)


# --- streams -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def eager(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that fires easily."""
    decision = DecisionConfig(thresholds={"yes": 0.3, "no": 0.3}, smoothing_ms=80, release=1.0)
    path = tmp_path_factory.mktemp("eager") / "eager.tflite"
    return tiny_model.write_tiny(path, decision=decision)


def test_a_recording_gives_what_a_spotter_hears_in_it(eager: Path, tmp_path: Path) -> None:
    pcm = np.concatenate([sound(seed) for seed in range(30)])
    write_wav(tmp_path / "long.wav", pcm, RATE)
    spotter = Spotter(eager)
    events = spotter.feed(with_tail(pcm))
    assert len(events) > 5
    # One true word around every other event, and one where nothing fires.
    truth = [
        SpokenWord(start_s=max(0.0, e.time_s - 0.3), end_s=e.time_s - 0.1, keyword=e.keyword)
        for e in events[::2]
    ]
    truth.append(SpokenWord(start_s=0.0, end_s=0.01, keyword="yes"))
    result = evaluate_streams(eager, [(tmp_path / "long.wav", truth)])
    assert result.matches == match_events(truth, events, duration_s=30.0)
    assert len(result.matches.hits) == len(events[::2])
    (recording,) = result.recordings
    np.testing.assert_array_equal(recording.recording.posteriors, spotter.posteriors)
    assert recording.first_mistake_s() == 0.0
    assert {
        "hours", "events", "hits", "misses", "false_accepts", "false_accepts_per_hour",
        "false_reject_rate", "substitutions", "latency_ms",
    } <= set(result.to_json())  # fmt: skip
    json.dumps(result.to_json(), allow_nan=False)


def test_a_word_at_the_very_end_of_a_recording_is_a_hit(eager: Path, tmp_path: Path) -> None:
    pcm = np.concatenate([sound(seed) for seed in range(30)])
    late = [e for e in Spotter(eager).feed(with_tail(pcm)) if e.time_s > 1]
    event = late[len(late) // 2]
    # The recording ends before the event: as `kws run` does, it is heard out in silence.
    cut = pcm[: round((event.time_s - 0.1) * RATE)]
    write_wav(tmp_path / "cut.wav", cut, RATE)
    seconds = len(cut) / RATE
    after = [e for e in Spotter(eager).feed(with_tail(cut)) if e.time_s > seconds]
    assert after
    truth = [SpokenWord(start_s=seconds - 0.3, end_s=seconds, keyword=after[0].keyword)]
    matches = evaluate_streams(eager, [(tmp_path / "cut.wav", truth)]).matches
    assert [word for word, _ in matches.hits] == truth


def test_labelled_words_that_are_no_keywords_are_left_out_and_mentioned(
    eager: Path, tmp_path: Path
) -> None:
    write_wav(tmp_path / "long.wav", sound(1, 4 * RATE), RATE)
    truth = [
        SpokenWord(start_s=1, end_s=1.5, keyword="yes"),
        SpokenWord(start_s=2, end_s=2.5, keyword="marvin"),
    ]
    result = evaluate_streams(eager, [(tmp_path / "long.wav", truth)])
    assert result.matches.words == 1
    assert "1 of 2 labelled words" in result.notes[0]
    assert "marvin" in result.notes[0]
    with pytest.raises(KwsError, match="None of the labelled words is a keyword"):
        evaluate_streams(eager, [(tmp_path / "long.wav", truth[1:])])


def test_labelled_words_are_keywords_in_any_case(eager: Path, tmp_path: Path) -> None:
    write_wav(tmp_path / "long.wav", sound(1, 4 * RATE), RATE)
    truth = [SpokenWord(start_s=1, end_s=1.5, keyword=word) for word in ("yes", "YES")]
    as_written, in_capitals = (
        evaluate_streams(eager, [(tmp_path / "long.wav", [word])]) for word in truth
    )
    assert in_capitals.matches == as_written.matches
    assert not in_capitals.notes


def test_a_label_file_of_a_longer_recording_is_refused(eager: Path, tmp_path: Path) -> None:
    write_wav(tmp_path / "long.wav", sound(1, 4 * RATE), RATE)
    truth = [SpokenWord(start_s=4.2, end_s=4.6, keyword="yes")]
    with pytest.raises(KwsError, match=r"lasts 4\.00 s, but 'yes' is labelled at 4\.20 s"):
        evaluate_streams(eager, [(tmp_path / "long.wav", truth)])


def test_recordings_count_together_and_keep_their_own_times(eager: Path, tmp_path: Path) -> None:
    recordings, parts = [], []
    for i, seconds in enumerate((20, 35, 8)):
        pcm = np.concatenate([sound(100 * i + seed) for seed in range(seconds)])
        write_wav(tmp_path / f"{i}.wav", pcm, RATE)
        events = Spotter(eager).feed(with_tail(pcm))
        truth = [
            SpokenWord(start_s=max(0.0, e.time_s - 0.3), end_s=e.time_s - 0.1, keyword=e.keyword)
            for e in events[i::3]
        ]
        recordings.append((tmp_path / f"{i}.wav", truth))
        parts.append(match_events(truth, events, duration_s=seconds))
    for workers in (1, 2):
        result = evaluate_streams(eager, recordings, workers=workers)
        assert [recording.matches for recording in result.recordings] == parts
        assert result.matches.duration_s == 63
        assert result.matches.words == sum(part.words for part in parts) > 5
        assert result.matches.events == sum(part.events for part in parts)
        assert result.matches.latencies_s == sum((part.latencies_s for part in parts), ())
        assert result.curves["all"].own.false_accepts == len(result.matches.false_accepts)
        assert result.curves["all"].own.rejected == result.matches.words - len(result.matches.hits)


def test_a_recording_is_never_whole_in_memory(eager: Path, tmp_path: Path) -> None:
    def peak(minutes: int) -> int:
        pcm = np.tile(sound(1, 60 * RATE), minutes)
        write_wav(tmp_path / "long.wav", pcm, RATE)
        del pcm
        found = []
        # The least of two: what waits to be collected, and how far a thread is ahead, is chance.
        for _ in range(2):
            gc.collect()
            tracemalloc.start()
            evaluate_streams(eager, [(tmp_path / "long.wav", [])])
            found.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        return min(found)

    # Three minutes of audio more are 5.8 MB; their posteriors and what is made of them 0.5 MB.
    assert peak(4) - peak(1) < 2e6


def test_the_mean_over_the_labels_shows_a_model_that_never_answers_with_the_word() -> None:
    answers = LabelSet.wake_word("hey")
    result = evaluate_posteriors(np.full((10, 1), 0.1), ["hey", *["other"] * 9], answers)
    assert result.accuracy == pytest.approx(0.9)
    assert result.balanced_accuracy == pytest.approx(0.5)
    assert result.to_json()["balanced_accuracy"] == pytest.approx(0.5)
    only_one = evaluate_posteriors(np.full((4, 1), 0.9), ["hey"] * 4, answers)
    assert only_one.balanced_accuracy == 1.0
