"""A wake word opens a window; the first command in it counts, and nothing else does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_model
from fake_sounddevice import FakeInput, install
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import kws
from kws.after_wake import AfterWake, WakeGate
from kws.audio.files import write_wav
from kws.cli import run
from kws.data.label_file import SpokenWord
from kws.decide import DecisionConfig, Event
from kws.errors import KwsError
from kws.evaluate.streams import evaluate_streams
from kws.model_file import load_model
from kws.recordings.matching import match_events
from kws.recordings.truth import addressed_words
from kws.spotter import Spotter

RATE = 16000
WINDOW_S = 1.5


def sound(seconds: float, seed: int = 0) -> NDArray[np.int16]:
    """Noise of changing loudness and colour, on which the untrained network fires now and then."""
    rng = np.random.default_rng(seed)
    pieces = []
    for _ in range(round(seconds * 5)):
        noise = rng.standard_normal(3200 + 64)
        width = rng.integers(1, 64)
        smooth = np.convolve(noise, np.ones(width) / np.sqrt(width), "valid")[:3200]
        pieces.append(smooth * 10 ** rng.uniform(0, 3.5))
    return np.concatenate(pieces).clip(-32768, 32767).astype(np.int16)


PCM = sound(60)


@pytest.fixture(scope="module")
def wake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that fires every few seconds."""
    return tiny_model.write_tiny(
        tmp_path_factory.mktemp("wake") / "wake.tflite",
        name="wake",
        labels=("_silence_", "_unknown_", "computer", "other"),
        keywords=("computer",),
        decision=DecisionConfig(
            thresholds={"computer": 0.75}, smoothing_ms=40, refractory_ms=2000, release=0.9
        ),
    )


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that fires several times a second."""
    decision = DecisionConfig(
        thresholds={"yes": 0.45, "no": 0.45}, smoothing_ms=80, refractory_ms=80, release=0.9
    )
    return tiny_model.write_tiny(
        tmp_path_factory.mktemp("wake") / "commands.tflite", name="commands", decision=decision
    )


def by_definition(wake: Path, commands: Path, pcm: NDArray[np.int16]) -> list[Event]:
    """What counts, from what each model reports alone."""
    woken, said = Spotter(wake).feed(pcm), Spotter(commands).feed(pcm)
    counted: list[Event] = []
    for event in said:
        since = [w.time_s for w in woken if w.time_s < event.time_s <= w.time_s + WINDOW_S]
        if any(not any(start < e.time_s for e in counted) for start in since):
            counted.append(event)
    return sorted(woken + counted, key=lambda event: event.time_s)


def test_the_first_command_in_the_window_counts_and_closes_it() -> None:
    gate = WakeGate(window_s=5.0)
    assert not gate.take(1.0)
    gate.open(10.0)
    assert [gate.take(t) for t in (9.0, 10.0, 12.0, 12.5)] == [False, False, True, False]
    gate.open(20.0)
    gate.open(22.0)  # the wake word again: counted from the later one
    assert [gate.take(t) for t in (26.0, 26.5)] == [True, False]
    gate.open(30.0)
    assert not gate.take(35.1)


def test_a_window_that_opens_after_a_command_stays_open() -> None:
    gate = WakeGate(window_s=5.0)
    gate.open(10.0)
    gate.open(13.0)  # both known before the command, as in one long chunk
    assert [gate.take(t) for t in (12.0, 12.5, 14.0, 15.0)] == [True, False, True, False]


def test_what_counted_is_remembered_for_a_while_and_then_forgotten() -> None:
    gate = WakeGate(window_s=5.0)
    gate.open(10.0)
    gate.forget(24.9)
    assert gate.counts(12.0)
    gate.forget(25.0)
    assert not gate.counts(12.0)


def test_commands_count_only_after_the_wake_word(wake: Path, commands: Path) -> None:
    expected = by_definition(wake, commands, PCM)
    heard = AfterWake(wake, commands, window_s=WINDOW_S).feed(PCM)
    assert heard == expected
    said = [event.keyword for event in heard]
    assert said.count("computer") > 5
    assert 3 < len(said) - said.count("computer") < len(Spotter(commands).feed(PCM)) / 2


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(cuts=st.lists(st.integers(0, len(PCM)), max_size=12))
def test_how_the_stream_is_cut_changes_nothing(wake: Path, commands: Path, cuts: list[int]) -> None:
    spotter = AfterWake(wake, commands, window_s=WINDOW_S)
    heard = [event for part in np.split(PCM, sorted(cuts)) for event in spotter.feed(part)]
    assert heard == by_definition(wake, commands, PCM)


def test_reset_closes_the_window(wake: Path, commands: Path) -> None:
    spotter = AfterWake(wake, commands, window_s=60.0)
    alone = spotter.feed(PCM)
    spotter.reset()
    assert spotter.feed(PCM) == alone
    last = max(e.time_s for e in alone if e.keyword == "computer")
    spotter.reset()
    spotter.feed(PCM[: round((last + 0.1) * RATE)])
    assert spotter.counts(last + 1)
    spotter.reset()
    assert not spotter.counts(last + 1)


@pytest.mark.parametrize("window_s", [0.0, -1.0, 3601.0, float("nan"), float("inf")])
def test_a_window_of_no_use_is_refused(wake: Path, commands: Path, window_s: float) -> None:
    with pytest.raises(KwsError, match=r"above 0 s and at most 3600 s\. Received: .*s$"):
        AfterWake(wake, commands, window_s=window_s)


def test_a_wake_word_that_is_a_command_too_is_refused(commands: Path) -> None:
    with pytest.raises(KwsError, match="Received: yes, no in both 'commands' and 'commands'"):
        AfterWake(commands, commands)


def test_the_package_offers_it() -> None:
    assert kws.AfterWake is AfterWake


# ---- measuring it


def said(*words: tuple[float, float, str]) -> list[SpokenWord]:
    return [SpokenWord(start_s=start, end_s=end, keyword=keyword) for start, end, keyword in words]


def test_a_spoken_command_counts_if_it_is_the_first_after_the_wake_word_and_in_time(
    wake: Path, commands: Path
) -> None:
    truth = said(
        (1.0, 1.5, "yes"),  # before any wake word
        (4.0, 4.5, "Computer"),
        (5.0, 5.5, "NO"),  # counts
        (6.0, 6.5, "yes"),  # the second
        (10.0, 10.5, "computer"),
        (11.0, 11.5, "lamp"),  # of neither model
        (15.0, 15.6, "yes"),  # 5.1 s after it
        (20.0, 20.5, "computer"),
        (20.4, 20.9, "no"),  # began before its end
        (21.0, 21.5, "yes"),  # counts: so that was nothing
        (30.0, 30.5, "computer"),
        (31.0, 31.5, "computer"),
        (36.0, 36.4, "yes"),  # counts, after the later one
    )
    wakes, following, notes = addressed_words(
        load_model(wake), load_model(commands), [truth, []], window_s=5.0
    )
    assert [word.start_s for word in wakes[0]] == [4.0, 10.0, 20.0, 30.0, 31.0]
    assert [(word.start_s, word.keyword) for word in following[0]] == [
        (5.0, "no"),
        (21.0, "yes"),
        (36.0, "yes"),
    ]
    assert wakes[1] == following[1] == []
    assert notes == [
        "4 labelled commands without a wake word before: they should not be reported",
        "1 labelled word of neither model: ignored",
    ]


def test_a_recording_is_measured_by_what_counts(wake: Path, commands: Path, tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", PCM)
    silence = np.zeros(RATE // 2, np.int16)
    expected = by_definition(wake, commands, np.concatenate([PCM, silence]))
    woken = [e for e in expected if e.keyword == "computer"]
    heard = [e for e in expected if e.keyword != "computer"]
    # All wake words are labelled, and of the commands all but the last.
    truth = said(*((e.time_s - 0.02, e.time_s, e.keyword) for e in woken + heard[:-1]))
    result = evaluate_streams(
        commands, [(tmp_path / "a.wav", truth)], wake=wake, wake_window_s=WINDOW_S
    )
    assert result.matches.reported == tuple(heard)
    assert [e for _, e in result.matches.hits] == heard[:-1]
    assert result.matches.false_accepts == (heard[-1],)
    assert result.wake is not None
    assert (len(result.wake.matches.hits), result.wake.matches.events) == (len(woken),) * 2
    assert result.to_json()["wake"]["hits"] == len(woken)
    own = result.curves["all"].own
    assert (own.words, own.rejected, own.false_accepts) == (len(heard) - 1, 0, 1)
    for point in result.curves["all"].points[::20]:
        again = AfterWake(wake, Spotter(commands, thresholds=point.thresholds), window_s=WINDOW_S)
        events = again.feed(np.concatenate([PCM, silence]))
        matches = match_events(
            truth[len(woken) :], [e for e in events if e.keyword != "computer"], duration_s=60.0
        )
        assert point.rejected == point.words - len(matches.hits)
        assert point.false_accepts == len(matches.false_accepts)


def test_evaluate_reports_the_wake_word_and_what_counts_after_it(
    wake: Path, commands: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_wav(tmp_path / "a.wav", PCM)
    heard = AfterWake(wake, commands).feed(PCM)
    lines = [f"{e.time_s - 0.1}\t{e.time_s}\t{e.keyword}" for e in heard]
    (tmp_path / "a.tsv").write_text("\n".join(["start_s\tend_s\tkeyword", *lines]))
    given = ["--stream", str(tmp_path / "a.wav"), "--labels", str(tmp_path / "a.tsv")]
    picture = tmp_path / "a.png"
    shown = ["--wake", str(wake), "--from", "0", "--span", "60", "--plot", str(picture)]
    assert run(["evaluate", str(commands), *given, *shown]) == 0
    out = capsys.readouterr().out
    n = sum(e.keyword == "computer" for e in heard)
    assert f"wake.tflite): {n} of {n} detected, 0 false accepts, 0.00 per hour" in out
    assert "the first keyword within 5 s of it counts" in out
    assert f"{len(heard) - n} words: {len(heard) - n} detected, 0 missed" in out
    assert picture.stat().st_size > 10_000
    assert run(["evaluate", str(commands), str(tmp_path), "--wake", str(wake)]) == 2
    assert "--wake is for recordings" in capsys.readouterr().err
    assert run(["evaluate", str(commands), *given, "--wake-window", "3"]) == 2
    assert "--wake-window needs --wake MODEL." in capsys.readouterr().err
    assert run(["evaluate", str(commands), *given, "--wake", str(wake), "--wake-window", "0"]) == 1
    assert "Received: 0 s" in capsys.readouterr().err


# ---- the commands


def lines(out: str) -> list[tuple[float, str]]:
    return [(one["time_s"], one["keyword"]) for one in map(json.loads, out.splitlines())]


def test_run_reports_wake_words_and_the_commands_after_them(
    wake: Path, commands: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.wav", "b.wav"):
        write_wav(tmp_path / name, PCM)
    given = ["-m", str(commands), "--wake", str(wake), "--wake-window", str(WINDOW_S), "--json"]
    assert run(["run", *given, str(tmp_path / "a.wav"), str(tmp_path / "b.wav")]) == 0
    heard = lines(capsys.readouterr().out)
    silence = np.zeros(RATE // 2, np.int16)
    expected = by_definition(wake, commands, np.concatenate([PCM, silence]))
    assert heard == [(round(e.time_s, 3), e.keyword) for e in expected] * 2


def test_only_what_counts_is_kept(
    wake: Path, commands: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_wav(tmp_path / "a.wav", PCM)
    kept = tmp_path / "kept"
    given = ["-m", str(commands), "--threshold", "0.75", "--wake", str(wake), "--json"]
    assert run(["run", *given, "--keep", str(kept), "--keep-almost", str(tmp_path / "a.wav")]) == 0
    out, err = capsys.readouterr()
    clips = [path for path in kept.rglob("*.wav") if path.parent.parent == kept]
    assert sorted((clip_time_s(path), path.parent.name) for path in clips) == lines(out)
    assert f"kept {len(clips)} events" in err
    woken = [time_s for time_s, word in lines(out) if word == "computer"]
    almost = [clip_time_s(path) for path in kept.glob("almost/*/*") if "computer" not in str(path)]
    assert almost
    for at_s in almost:
        assert any(start < at_s <= start + 5.0 for start in woken)


def clip_time_s(path: Path) -> float:
    return int(path.stem.split("_")[-2]) / 1000


def test_listen_says_what_it_waits_for(
    wake: Path,
    commands: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install(monkeypatch, FakeInput(name="Mic", audio=PCM[: 20 * RATE], speed=50, end="ctrl-c"))
    given = ["-m", str(commands), "--wake", str(wake), "--wake-window", str(WINDOW_S), "--json"]
    assert run(["listen", *given]) == 0
    out, err = capsys.readouterr()
    assert "for: computer, then yes, no (Ctrl-C ends)" in err
    expected = by_definition(wake, commands, PCM[: 20 * RATE])
    assert lines(out) == [(round(e.time_s, 3), e.keyword) for e in expected]


def test_a_window_needs_a_wake_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", "--wake-window", "3", "a.wav"]) == 2
    assert "--wake-window needs --wake MODEL." in capsys.readouterr().err
