"""The targets of the network at each step."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("keras")

from kws.data.phones import SILENCE_PHONE, UNKNOWN_PHONE
from kws.recipe import AugmentConfig, TrainingRecipe, load_recipe
from kws.train.layers import RandomAudio
from kws.train.loss import StreamLoss, right_answers
from kws.train.targets import Steps, sequence_steps, step_phones, step_targets
from kws.train.variation import cut_stretches, draw_gain, draw_stretches, draw_variation

RATE = 16000
# A step every 100 ms and clips of a second, so that times can be read off by eye: step i has heard
# the first (i + 1) x 100 ms. Labels: 0 silence, 1 unknown, 2 "yes", 3 "no".
STEPS = Steps(
    ends=np.arange(1, 31) * 1600,
    clip_samples=RATE,
    sample_rate_hz=RATE,
    n_labels=4,
    keywords=np.array([2, 3]),
    stream_weight=1.0,
)
OTHERS = [1, 1, 0, 0]


def targets(labels: list[int], spans_ms: list[tuple[int, int]]) -> tuple[np.ndarray, ...]:
    spans = np.array([spans_ms], np.float64) * RATE / 1000
    found = step_targets(STEPS, np.array([labels], np.int32), spans)
    return found.answers[0], found.weights[0], found.named[0]


def test_a_word_is_named_from_shortly_after_its_end_for_less_than_half_a_second() -> None:
    answers, weights, named = targets([1, 2, 1], [(0, 0), (200, 450), (0, 0)])
    # The word ends at 1450 ms: 1530 to 1930 ms are steps 15 (1600 ms) to 18 (1900 ms), and
    # the clip's last step, 19, has a target in any case.
    np.testing.assert_allclose(named[:, 1], np.isin(np.arange(30), range(15, 20)) / 5)
    assert not named[:, [0, 2]].any()
    assert (answers[15:20] == [0, 0, 1, 0]).all()
    # While it is spoken (steps 11 to 14) there is no target; before it, any answer but a keyword.
    assert not weights[11:19].any()
    assert (weights[10:11] > 0).all() and (answers[10] == OTHERS).all()


def test_a_word_cut_off_by_its_clip_is_named_at_the_clips_last_step_alone() -> None:
    _, weights, named = targets([3, 1, 1], [(500, 1000), (0, 0), (0, 0)])
    assert np.flatnonzero(named[:, 0]).tolist() == [9] and named[9, 0] == 1
    assert weights[9] == 1


def test_after_a_keyword_its_name_may_fade_before_anything_else_is_asked() -> None:
    answers, weights, _ = targets([2, 1, 1], [(200, 600), (0, 0), (0, 0)])
    assert not weights[10:12].any()  # 1100 and 1200 ms: less than 240 ms into the clip
    assert (weights[12:] > 0).all()
    assert (answers[12:19] == OTHERS).all()


def test_other_speech_is_no_keyword_at_any_step_and_told_from_silence_at_its_end() -> None:
    answers, weights, named = targets([1, 0, -1], [(0, 0)] * 3)
    assert not named.any() and (weights > 0).all()
    assert (answers[[9, 19]] == [[0, 1, 0, 0], [1, 0, 0, 0]]).all()
    middle = np.setdiff1d(np.arange(30), [9, 19])
    assert (answers[middle] == OTHERS).all()  # a stretch of speech, -1, at its end too


def test_a_step_that_has_heard_more_than_a_clip_belongs_to_the_next() -> None:
    """By hand: frame f ends at sample 320 f + 512, step s at frame 2 s + 8 (R = 9, S = 2)."""
    steps = sequence_steps(load_recipe("commands_en"), clips=2)
    assert steps.ends[:2].tolist() == [320 * 8 + 512, 320 * 10 + 512]
    found = step_targets(steps, np.zeros((1, 2), np.int32), np.zeros((1, 2, 2)))
    assert np.flatnonzero(found.weights[0] == 1).tolist() == [20, 45]


def test_the_stream_counts_as_much_as_asked_beside_the_answer_at_the_clips_end() -> None:
    labels, spans = np.array([[2, 1, 1]], np.int32), np.full((1, 3, 2), 4800.0)
    whole = step_targets(STEPS, labels, spans)
    half = step_targets(dataclasses.replace(STEPS, stream_weight=0.5), labels, spans)
    last = np.isin(np.arange(30), [9, 19, 29])
    np.testing.assert_allclose(half.weights[:, ~last], whole.weights[:, ~last] / 2)
    assert (half.weights[:, last] == 1).all()
    np.testing.assert_allclose(half.named.sum(axis=1), [[0.5, 0, 0]])


def test_a_wake_word_has_one_output_that_is_right_or_wrong() -> None:
    steps = Steps(
        ends=STEPS.ends[:10], clip_samples=RATE, sample_rate_hz=RATE, n_labels=1,
        keywords=np.array([0]), stream_weight=1.0,
    )  # fmt: skip
    labels, spans = np.array([[0], [-1]], np.int32), np.full((2, 1, 2), 4800.0)
    found = step_targets(steps, labels, spans)
    assert found.answers[0, 3:7].all() and not found.answers[1].any()


def test_where_every_answer_is_a_keyword_nothing_is_asked_before_the_word() -> None:
    steps = dataclasses.replace(STEPS, keywords=np.arange(4))
    labels, spans = np.array([[2, 1, 3]], np.int32), np.full((1, 3, 2), [4800, 8000])
    found = step_targets(steps, labels, spans)
    assert np.flatnonzero(found.weights[0]).tolist() == [9, 19, 29]
    np.testing.assert_allclose(found.named.sum(axis=1), [[1, 1, 1]])


def test_where_variation_moves_a_sample_the_audio_layer_moves_it_too() -> None:
    config = AugmentConfig(shift_ms=80, speed=0.2, gain_db=(-6, 6), noise_share=0.0)
    rng = np.random.default_rng(3)
    pcm = np.zeros((8, 2, RATE), np.float32)
    clicks = rng.integers(4000, 12000, (8, 2))
    for (i, j), at in np.ndenumerate(clicks):
        pcm[i, j, at - 2 : at + 3] = [0.1, 0.2, 0.3, 0.2, 0.1]
    variation = draw_variation(config, rng, (8, 2), sample_rate_hz=RATE)
    layer = RandomAudio(np.ones(2 * RATE, np.int16), seed=1)
    found = np.asarray(layer(pcm, variation.array(np.zeros(8, np.float32)), training=True))
    expected = variation.moved(clicks[..., None], RATE)[..., 0]
    assert np.abs(found.argmax(axis=-1) - expected).max() <= 1
    assert np.abs(expected - clicks).max() > 500


def test_a_stretch_of_speech_keeps_its_timing_and_has_one_gain() -> None:
    config = AugmentConfig(gain_db=(-10, 10))
    variation = draw_gain(config, np.random.default_rng(0), (50, 4))
    assert (variation.speed == 1).all() and not variation.shift.any()
    assert (variation.gain == variation.gain[:, :1]).all()
    assert 0.3 < variation.gain.min() < 0.5 and 2 < variation.gain.max() < 3.2


def test_running_speech_takes_one_to_all_clips_in_a_row_anywhere() -> None:
    speech = draw_stretches(np.random.default_rng(0), (400, 4))
    assert {tuple(row) for row in speech.astype(int)} == {
        tuple(int(a <= i < a + n) for i in range(4)) for n in range(1, 5) for a in range(5 - n)
    }


def test_running_speech_is_cut_at_another_place_each_time() -> None:
    """At the original speed a cut is a piece of the stretch with its phonemes."""
    stretch, phones = (np.arange(3 * RATE) // 2).astype(np.int16), np.arange(300) // 3
    rng = np.random.default_rng(0)
    cuts, sounds = cut_stretches(
        np.stack([stretch] * 40), np.stack([phones] * 40).astype(np.int8), 0.0, rng, (2, RATE)
    )
    assert cuts.shape == (40, 2, RATE) and sounds.shape == (40, 2, 100)
    places = 2 * cuts[:, 0, 0].astype(int)
    assert len(set(places)) > 30 and places.min() < RATE / 8 and places.max() > RATE * 7 / 8
    for cut, heard, place in zip(cuts.reshape(40, -1), sounds.reshape(40, -1), places, strict=True):
        assert np.abs(cut - stretch[place : place + 2 * RATE]).max() <= 1
        assert np.abs(heard - phones[place // 160 : place // 160 + 200]).max() <= 1


def test_running_speech_is_sped_up_and_slowed_down_with_its_sounds() -> None:
    """Clicks and the mark of each among the phonemes end up at the same time."""
    rng = np.random.default_rng(1)
    stretch, phones = np.zeros(3 * RATE, np.int16), np.zeros(300, np.int8)
    for i in range(5, 300, 20):
        stretch[160 * i + 75 : 160 * i + 86] = 20000
        phones[i] = 1
    cuts, sounds = cut_stretches(
        np.stack([stretch] * 60), np.stack([phones] * 60), 0.25, rng, (2, RATE)
    )
    gaps = []
    for cut, heard in zip(cuts.reshape(60, -1), sounds.reshape(60, -1), strict=True):
        clicks = np.flatnonzero((cut[1:] > 5000) & (cut[:-1] <= 5000))
        marks = np.flatnonzero((heard[1:] == 1) & (heard[:-1] == 0)) + 1
        gaps.append(np.diff(clicks).mean() / 3200)
        for mark in marks:
            assert np.abs(clicks / 160 - mark - 0.5).min() < 1.2
    assert 0.79 < min(gaps) < 0.85 and 1.18 < max(gaps) < 1.26


def test_running_speech_that_is_too_short_ends_in_silence() -> None:
    stretch = np.full((1, 2 * RATE), 700, np.int16)
    phones = np.zeros((1, 200), np.int8)
    rng = np.random.default_rng(4)
    ends = []
    for _ in range(20):
        cuts, _ = cut_stretches(stretch, phones, 0.5, rng, (2, RATE))
        cut = cuts.reshape(-1)
        ends.append(int(np.count_nonzero(cut)))
        assert (cut[: ends[-1] - 2] == 700).all() and not cut[ends[-1] :].any()
    assert min(ends) < 1.5 * RATE and max(ends) == 2 * RATE


def packed(answers: np.ndarray, weights: np.ndarray, named: np.ndarray) -> np.ndarray:
    return np.concatenate([answers, weights[..., None], named], axis=-1).astype(np.float32)


def test_the_loss_of_a_name_is_that_of_its_mean_and_of_other_steps_their_own() -> None:
    posteriors = np.array([[[0.1, 0.2, 0.7], [0.1, 0.0, 0.9], [0.5, 0.3, 0.2]]], np.float32)
    answers = np.array([[[0, 0, 1], [0, 0, 1], [1, 1, 0]]])
    weights, named = np.array([[0, 0, 0.5]]), np.array([[[0.5], [0.5], [0]]])
    loss = StreamLoss(3, 0.0).call(packed(answers, weights, named), posteriors)
    assert np.asarray(loss)[0] == pytest.approx(-np.log(0.8) - 0.5 * np.log(0.8), rel=1e-5)


def test_the_loss_of_a_wake_word_is_binary_and_smoothing_draws_towards_the_middle() -> None:
    posteriors = np.array([[[0.9], [0.2]]], np.float32)
    answers, weights = np.array([[[1], [0]]]), np.array([[1.0, 1.0]])
    named = np.zeros((1, 2, 1))
    plain = np.asarray(StreamLoss(1, 0.0).call(packed(answers, weights, named), posteriors))[0]
    assert plain == pytest.approx(-np.log(0.9) - np.log(0.8), rel=1e-5)
    sure = np.array([[[0.999], [0.001]]], np.float32)
    smoothed = StreamLoss(1, 0.1)
    target = packed(answers, weights, named)
    assert smoothed.call(target, sure)[0] > smoothed.call(target, posteriors)[0]


def test_accuracy_is_the_weighted_share_of_steps_with_a_right_answer() -> None:
    posteriors = np.array([[[0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.3, 0.6, 0.1]]], np.float32)
    answers = np.array([[[0, 0, 1], [1, 1, 0], [0, 0, 1]]])
    target = packed(answers, np.array([[1.0, 0.5, 0.5]]), np.zeros((1, 3, 1)))
    assert np.asarray(right_answers(target, posteriors))[0] == pytest.approx(0.75)


def test_the_recipe_can_do_without_running_speech() -> None:
    recipe = load_recipe("demo")
    assert isinstance(recipe, TrainingRecipe) and not recipe.data.speech


def test_a_sound_is_named_a_little_after_it_was_heard() -> None:
    """By hand: step i has heard (i + 1) x 100 ms; its target is the phoneme 120 ms before."""
    phones = np.repeat(np.arange(30, dtype=np.int8), 10).reshape(1, 3, 100)  # 100 ms each
    still = draw_gain(AugmentConfig(), np.random.default_rng(0), (1, 3))
    found = step_phones(STEPS, phones, still)
    # Before the sequence there is only silence.
    assert found[0].tolist() == [SILENCE_PHONE, *range(29)]


def test_sounds_are_named_where_variation_has_moved_them() -> None:
    """Oracle: `Variation.moved`, of the start of the second phoneme of each clip."""
    config = AugmentConfig(shift_ms=150, speed=0.3)
    rng = np.random.default_rng(5)
    varied = draw_variation(config, rng, (200, 3), sample_rate_hz=RATE)
    begins = rng.integers(20, 80, (200, 3))
    phones = np.where(np.arange(100) < begins[..., None], 7, 8).astype(np.int8)
    found = step_phones(STEPS, phones, varied)
    moved = varied.moved(begins[..., None] * 160, RATE)[..., 0]
    first = varied.moved(np.zeros((200, 3, 1), int), RATE)[..., 0]
    end = varied.moved(np.full((200, 3, 1), RATE), RATE)[..., 0]
    for clip in range(3):
        at = STEPS.ends - 120 * 16 - clip * RATE
        for step in np.flatnonzero((at >= 0) & (at < RATE)):
            place, sound = at[step], found[:, step]
            expected = np.where(place < moved[:, clip], 7, 8)
            expected[(place < first[:, clip]) | (place >= end[:, clip])] = SILENCE_PHONE
            np.testing.assert_array_equal(sound, expected)


def test_what_nobody_knows_is_not_asked_for() -> None:
    phones = np.full((1, 3, 100), UNKNOWN_PHONE, np.int8)
    phones[0, 1] = 4
    fast = dataclasses.replace(
        draw_gain(AugmentConfig(), np.random.default_rng(0), (1, 3)),
        speed=np.full((1, 3), 1.5, np.float32),
    )
    found = step_phones(STEPS, phones, fast)[0]
    assert (found[1:11] == UNKNOWN_PHONE).all() and (found[21:] == UNKNOWN_PHONE).all()
    # The middle two thirds of the known clip hold it; around it is silence.
    assert set(found[11:21]) == {SILENCE_PHONE, 4}
