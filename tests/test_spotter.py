"""The spotter: however the audio is cut, the events and posteriors are the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import kws
from kws.audio.files import read_audio
from kws.decide import Decider, DecisionConfig
from kws.errors import KwsError
from kws.frontend import features_of
from kws.network import Network
from kws.spotter import Spotter

Pcm = NDArray[np.int16]


@pytest.fixture(scope="module", params=["int8", "float"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Thresholds low and rest short, so that an untrained network has a lot to say.
    decision = DecisionConfig(
        thresholds={"yes": 0.45, "no": 0.45}, smoothing_ms=80, refractory_ms=80, release=0.9
    )
    path = tmp_path_factory.mktemp("spotter") / "tiny.tflite"
    return tiny_model.write_tiny(path, int8=request.param == "int8", decision=decision)


@pytest.fixture(scope="module")
def speech(real_speech: Path) -> Pcm:
    """Some seconds of real commands, one after the other."""
    words = sorted(real_speech.glob("speech_commands/[a-z]*/*.wav"))[::7][:6]
    pcm = np.concatenate([read_audio(path) for path in words])
    assert len(pcm) > 4 * 16_000
    return pcm


Heard = tuple[list[tuple[str, float, float]], NDArray[np.float32], NDArray[np.float64]]


def hear(spotter: Spotter, chunks: list[Pcm]) -> Heard:
    events, posteriors, times = [], [], []
    for chunk in chunks:
        events += [(e.keyword, e.score, e.time_s) for e in spotter.feed(chunk)]
        posteriors.append(spotter.posteriors)
        times.append(spotter.step_times_s)
    return events, np.concatenate(posteriors), np.concatenate(times)


def assert_same(a: Heard, b: Heard) -> None:
    np.testing.assert_array_equal(a[1], b[1])
    np.testing.assert_array_equal(a[2], b[2])
    assert a[0] == b[0]


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_events_and_posteriors_do_not_depend_on_the_chunks(
    model: Path, speech: Pcm, data: st.DataObject
) -> None:
    spotter = Spotter(model)
    whole = hear(spotter, [speech])
    assert len(whole[0]) >= 3
    size = data.draw(st.sampled_from([1, 7, 160, 319, 320, 512, 1000, 5000, 40_000]))
    sizes = data.draw(st.lists(st.integers(0, 2 * size), min_size=1, max_size=50))
    repeats = 1 + len(speech) // max(1, sum(sizes))
    cuts = np.cumsum(np.tile(sizes, min(repeats, 2000)))
    spotter.reset()
    assert_same(hear(spotter, np.split(speech, cuts[cuts < len(speech)])), whole)


def test_single_samples_give_the_same_as_all_at_once(model: Path, speech: Pcm) -> None:
    short = speech[8000:14_000]
    one = Spotter(model)
    assert_same(hear(one, list(short[:, None])), hear(Spotter(model), [short]))


def test_the_spotter_is_front_end_network_and_decision_in_a_row(model: Path, speech: Pcm) -> None:
    events, posteriors, times = hear(Spotter(model), [speech])
    network = Network(model)
    card = network.card
    expected = network.run(features_of(speech, card.front_end))
    assert posteriors.shape == expected.shape
    # One int8 step at most, where the front end's rounding differs between stream and clip.
    np.testing.assert_allclose(posteriors, expected, atol=1.01 / 256)
    decider = Decider(card.decision, card.labels, card.keywords, card.step_ms)
    found = [decider.step(row, card.step_time_s(k)) for k, row in enumerate(posteriors)]
    assert [(e.keyword, e.score, e.time_s) for e in found if e] == events
    np.testing.assert_allclose(times, 0.112 + 0.04 * np.arange(len(times)))


def test_reset_starts_a_new_stream(model: Path, speech: Pcm) -> None:
    spotter = Spotter(model)
    first = hear(spotter, [speech])
    again = hear(spotter, [speech])
    assert not np.array_equal(again[1][: len(first[1])], first[1])
    spotter.reset()
    assert spotter.posteriors.shape == (0, 4)
    assert_same(hear(spotter, [speech]), first)


def test_two_spotters_do_not_hear_each_other(model: Path, speech: Pcm) -> None:
    alone = hear(Spotter(model), [speech])
    a, b = Spotter(model), Spotter(model)
    posteriors = []
    for start in range(0, len(speech), 4000):
        a.feed(speech[start : start + 4000])
        posteriors.append(a.posteriors)
        b.feed(speech[::-1][start : start + 4000])
    np.testing.assert_array_equal(np.concatenate(posteriors), alone[1])


def test_too_little_audio_gives_no_step(model: Path) -> None:
    spotter = Spotter(model)
    # R = 5 frames: 4 * 320 + 512 samples.
    assert spotter.feed(np.zeros(1791, np.int16)) == []
    assert spotter.posteriors.shape == (0, 4)
    assert spotter.step_times_s.shape == (0,)
    spotter.feed(np.zeros(1, np.int16))
    assert spotter.posteriors.shape == (1, 4)
    np.testing.assert_allclose(spotter.step_times_s, [0.112])


def test_thresholds_can_be_given_for_one_keyword_or_for_all(model: Path, speech: Pcm) -> None:
    def keywords(thresholds: object) -> set[str]:
        events = Spotter(model, thresholds=thresholds).feed(speech)  # type: ignore[arg-type]
        return {event.keyword for event in events}

    both = keywords(0.3)
    assert both == {"yes", "no"}
    assert keywords({"yes": 1.0, "no": 0.3}) == {"no"}
    assert keywords(1.0) == set()
    with pytest.raises(KwsError, match=r"'maybe', which is not a keyword of this model.*yes, no"):
        keywords({"maybe": 0.5})
    with pytest.raises(KwsError, match="threshold of 'yes' must be above 0"):
        keywords({"yes": 50})


@pytest.mark.parametrize(
    ("samples", "hint"),
    [
        (np.zeros(9, np.float32), r"float32 of shape \(9,\).*to_int16"),
        (np.full(9, -9000, np.float32), r"peak is 9000, far above 1.*\.astype\('int16'\)"),
        (np.full(9, np.nan), "NaN or infinity"),
        (np.zeros((9, 2), np.int16), r"shape \(9, 2\).*samples\[:, 0\]"),
        (np.zeros((1, 1, 9), np.int16), r"array of shape \[n\]"),
        (np.zeros(9, np.int32), "samples >> 16"),
        (np.zeros(9, np.uint8), "np.frombuffer"),
        (b"\x00\x01", "np.frombuffer"),
        ("a.wav", "NumPy array of int16"),
        (None, "NumPy array of int16"),
    ],
)
def test_samples_of_another_kind_are_refused_with_a_hint(
    model: Path, samples: object, hint: str
) -> None:
    with pytest.raises(KwsError, match=hint):
        Spotter(model).feed(samples)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"model": None}, "Received: NoneType. Pass a str or a Path"),
        ({"thresholds": [0.5]}, r"one number for all keywords.*Received: \[0\.5\]"),
        ({"thresholds": {"yes": None}}, r"a number for each. Received: \{'yes': None\}"),
        ({"threads": 0}, "threads must be a whole number, at least 1. Received: 0"),
        ({"threads": 1.5}, "threads must be a whole number, at least 1. Received: 1.5"),
    ],
)
def test_arguments_of_another_kind_are_refused_in_a_line(
    model: Path, arguments: dict[str, object], says: str
) -> None:
    with pytest.raises(KwsError, match=says):
        Spotter(**{"model": model, **arguments})  # type: ignore[arg-type]


def test_a_refused_chunk_changes_nothing(model: Path, speech: Pcm) -> None:
    spotter = Spotter(model)
    chunks = np.split(speech, [20_000])
    posteriors = []
    for chunk in chunks:
        with pytest.raises(KwsError):
            spotter.feed(chunk.astype(np.float64))
        spotter.feed(chunk)
        posteriors.append(spotter.posteriors)
    np.testing.assert_array_equal(np.concatenate(posteriors), hear(Spotter(model), [speech])[1])


def test_a_model_in_clip_form_is_refused(tmp_path: Path) -> None:
    path = tiny_model.write_tiny(tmp_path / "clip.tflite", form="clip")
    with pytest.raises(KwsError, match=r"takes whole clips.*kws export"):
        Spotter(path)


def test_the_package_offers_the_names_of_its_contract(model: Path) -> None:
    assert kws.Spotter is Spotter
    assert kws.load_model(model).keywords == ("yes", "no")
    assert kws.Spotter(str(model)).card == kws.load_model(str(model))


HEAVY = (
    *("tensorflow", "tf_keras", "keras", "jax", "torch", "librosa", "matplotlib", "scipy"),
    *("typer", "rich", "click", "soundfile", "soxr", "sounddevice", "hypothesis"),
    *("kws.train", "kws.export", "kws.models", "kws.data", "kws.cli"),
)


def test_the_runner_imports_nothing_heavy(model: Path) -> None:
    code = """
import sys
import numpy as np
from kws import Spotter
Spotter(sys.argv[1]).feed(np.zeros(16000, np.int16))
print(*sys.modules)
"""
    result = subprocess.run(
        [sys.executable, "-c", code, str(model)], capture_output=True, text=True, check=True
    )
    assert result.stderr == ""
    loaded = set(result.stdout.split())
    assert "kws.spotter" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_memory_does_not_grow_with_the_length_of_a_chunk(model: Path) -> None:
    code = """
import sys
import numpy as np
from kws.spotter import Spotter
from kws.benchmark.memory import peak_resident_bytes
spotter = Spotter(sys.argv[1])
spotter.feed(np.zeros(16000, np.int16))
pcm = np.zeros(16000 * 300, np.int16)
pcm[::7] = 1
before = peak_resident_bytes()
spotter.feed(pcm)
print(peak_resident_bytes() - before)
"""
    result = subprocess.run(
        [sys.executable, "-c", code, str(model)], capture_output=True, text=True, check=True
    )
    assert int(result.stdout) < 4e6  # five minutes of samples are 9.6 MB
