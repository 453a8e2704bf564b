"""Simulated rooms: what is known by hand, and what statistics of rooms say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kws.data.synthesis.rooms import (
    DISTANCES_M,
    RT60_S,
    SPEED_OF_SOUND_M_S,
    Room,
    Rooms,
    impulse_response,
    random_room,
)


def room(absorption: float = 0.3, distance_m: float = 1.0) -> Room:
    return Room(
        size_m=(5.0, 4.0, 3.0),
        absorption=absorption,
        mouth_m=(1.0, 2.0, 1.5),
        microphone_m=(1.0 + distance_m, 2.0, 1.5),
    )


def reverberation_s(response: np.ndarray) -> float:
    """RT60 from the decay between -5 and -25 dB of Schroeder's backward integral."""
    energy = np.cumsum(response[::-1] ** 2)[::-1]
    decay = 10 * np.log10(energy / energy[0])
    return 3 * (np.argmax(decay < -25) - np.argmax(decay < -5)) / 16000


@pytest.mark.parametrize("distance_m", [0.3, 1.0, 2.5])
def test_the_direct_sound_comes_after_its_way_and_weakens_with_it(distance_m: float) -> None:
    response = impulse_response(room(distance_m=distance_m), high_pass=False)
    first = np.flatnonzero(response)[0]
    assert first == round(distance_m / 343 * 16000)
    assert response[first] == pytest.approx(1 / distance_m)


def test_first_reflections_are_where_a_drawing_has_them() -> None:
    # Mouth (1, 2, 1.5), microphone (2, 2, 1.5) in 5 x 4 x 3 m. Images and their ways: the wall
    # behind: 3 m; floor and ceiling: sqrt(1 + 3²), both at once; sides: sqrt(1 + 4²), both; the
    # wall ahead: 7 m.
    response = impulse_response(room(absorption=0.36), seconds=0.02, high_pass=False)
    wall = 0.8
    by_hand = {1.0: 1.0, 3.0: wall / 3, math.sqrt(10): 2 * wall / math.sqrt(10)}
    by_hand[math.sqrt(17)] = 2 * wall / math.sqrt(17)
    before = round(4.2 / 343 * 16000)
    expected = np.zeros(before)
    for way, amplitude in by_hand.items():
        expected[round(way / 343 * 16000)] += amplitude
    np.testing.assert_allclose(response[:before], expected, atol=1e-12)


def test_rooms_without_walls_are_free_fields() -> None:
    response = impulse_response(room(absorption=1 - 1e-12), seconds=0.1, high_pass=False)
    assert np.abs(response).sum() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("absorption", [0.15, 0.3, 0.5])
def test_reverberation_lasts_about_as_long_as_eyring_says(absorption: float) -> None:
    cube = Room(
        size_m=(4.1, 3.9, 3.7),
        absorption=absorption,
        mouth_m=(1.3, 1.1, 1.6),
        microphone_m=(2.9, 2.7, 1.9),
    )
    volume = 4.1 * 3.9 * 3.7
    surface = 2 * (4.1 * 3.9 + 3.9 * 3.7 + 3.7 * 4.1)
    eyring_s = 0.161 * volume / (-surface * math.log(1 - absorption))
    assert cube.rt60_s == pytest.approx(eyring_s, rel=0.005)
    measured_s = reverberation_s(impulse_response(cube, seconds=1.2 * eyring_s))
    assert measured_s == pytest.approx(eyring_s, rel=0.2)
    # Sabine's formula is for hard walls and above Eyring's.
    assert 0.161 * volume / (surface * absorption) > eyring_s


def test_what_is_below_hearing_is_taken_away_and_speech_is_not() -> None:
    plain, filtered = (
        np.abs(np.fft.rfft(impulse_response(room(), seconds=0.3, high_pass=high), 16000))
        for high in (False, True)
    )
    assert filtered[:20].max() < 0.1 * plain[:20].max()
    np.testing.assert_allclose(filtered[300:4000], plain[300:4000], rtol=0.15)


def test_rooms_are_drawn_as_homes_have_them() -> None:
    drawn = [random_room(np.random.default_rng([5, i])) for i in range(200)]
    distances = [one.distance_m for one in drawn]
    assert DISTANCES_M[0] <= min(distances) < 0.4 and 3 < max(distances) <= DISTANCES_M[1]
    # Far is as likely as near, though far takes a large room.
    assert 0.9 < np.median(distances) < 1.3
    for one in drawn:
        assert RT60_S[0] <= one.rt60_s <= RT60_S[1]
        for place in (one.mouth_m, one.microphone_m):
            assert all(0 < at < size for at, size in zip(place, one.size_m, strict=True))


def test_a_share_of_recordings_is_made_in_rooms_and_repeats_with_the_seed() -> None:
    click = np.zeros(200, np.int16)
    click[0] = 1000

    def recorded(share: float, seed: int = 1) -> list[np.ndarray]:
        rooms = Rooms(share=share, count=5, seed=seed)
        return [rooms.record(click, np.random.default_rng(i)) for i in range(200)]

    def wet(sounds: list[np.ndarray]) -> int:
        return sum(len(sound) > len(click) for sound in sounds)

    assert wet(recorded(0)) == 0 and wet(recorded(1)) == 200
    assert 70 < wet(recorded(0.5)) < 130
    one, two, other = recorded(1), recorded(1), recorded(1, seed=2)
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_sound_in_a_room_begins_when_it_is_spoken_and_ends_softly() -> None:
    click = np.zeros(100, np.int16)
    click[10] = 10000
    for i in range(20):
        sound = Rooms(share=1, count=1, seed=i).record(click, np.random.default_rng(0))
        first = np.flatnonzero(np.abs(sound) > np.abs(sound).max() / 100)[0]
        assert first == 10
        assert sound[-1] == 0
        assert np.abs(sound[-100:]).max() < 0.02 * np.abs(sound).max()
        assert len(sound) < 100 + 16000 * RT60_S[1]
    assert SPEED_OF_SOUND_M_S == 343
