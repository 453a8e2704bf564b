"""A wake word opens a window; the first command in it counts, and nothing else does."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_model
from fake_sounddevice import FakeInput, install
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sounds import gusts

import kws
from kws.after_wake import AfterWake, WakeGate
from kws.audio.files import write_wav
from kws.cli import run
from kws.data.label_file import SpokenWord, read_truth
from kws.decide import DecisionConfig, Event
from kws.errors import KwsError
from kws.evaluate.streams import evaluate_streams
from kws.model_file import load_model
from kws.recordings.matching import match_events
from kws.recordings.truth import addressed_words
from kws.spotter import Spotter

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="sh")
RATE = 16000
WINDOW_S = 1.5


PCM = gusts(60)


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


def events(*times_s: float) -> list[Event]:
    return [Event(keyword="", score=1.0, time_s=time_s) for time_s in times_s]


def picked(gate: WakeGate, wakes: list[float], commands: list[float]) -> list[float]:
    return [event.time_s for event in gate.pick(events(*wakes), events(*commands))]


def test_the_first_command_in_the_window_counts_and_closes_it() -> None:
    gate = WakeGate(window_s=5.0)
    assert picked(gate, [], [1.0]) == []
    assert picked(gate, [10.0], [9.0, 10.0, 12.0, 12.5]) == [12.0]
    # The wake word again before any command: counted from the later one.
    assert picked(gate, [20.0, 22.0], [26.0, 26.5]) == [26.0]
    assert picked(gate, [30.0], [35.1]) == []
    assert picked(gate, [40.0], [45.0]) == [45.0]
    # Known before the first command, as in one long chunk, but said after it.
    assert picked(gate, [50.0, 53.0], [52.0, 52.5, 54.0, 55.0]) == [52.0, 54.0]


@settings(max_examples=50, deadline=None)
@given(
    wakes=st.lists(st.integers(0, 60), max_size=8),
    commands=st.lists(st.integers(0, 60), max_size=20),
    cuts=st.lists(st.integers(0, 60), max_size=5),
)
def test_the_gate_picks_the_same_all_at_once_and_bit_by_bit(
    wakes: list[int], commands: list[int], cuts: list[int]
) -> None:
    wakes, commands = sorted(set(wakes)), sorted(set(commands))
    at_once = picked(WakeGate(5.0), list(wakes), list(commands))
    gate, found = WakeGate(5.0), list[float]()
    for start, end in zip([-1, *sorted(cuts)], [*sorted(cuts), 60], strict=True):
        found += picked(
            gate,
            [w for w in wakes if start < w <= end],
            [c for c in commands if start < c <= end],
        )
    assert found == at_once
    # By its definition: no command that counted lies between a wake word and the next that counts.
    expected: list[float] = []
    for at in commands:
        before = [w for w in wakes if w < at <= w + 5]
        if any(not any(w < earlier for earlier in expected) for w in before):
            expected.append(at)
    assert at_once == expected


def test_what_counted_is_remembered_for_a_while_and_then_forgotten() -> None:
    gate = WakeGate(window_s=5.0)
    gate.pick(events(10.0, 11.0), events(12.0))
    assert [gate.counts(t) for t in (10.0, 10.5, 12.0, 12.1, 15.0)] == [
        *(False, True, True, False, False),
    ]
    gate.pick(events(21.0), [])
    gate.pick([], [])
    assert gate.counts(12.0)
    gate.pick(events(30.0), [])
    gate.pick([], [])
    assert not gate.counts(12.0)
    assert gate.counts(34.0)


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


def test_a_wake_word_in_another_model_with_several_opens_the_window_with_any(
    commands: Path, tmp_path: Path
) -> None:
    both = tiny_model.write_tiny(
        tmp_path / "both.tflite",
        labels=("_silence_", "_unknown_", "jarvis", "computer"),
        keywords=("jarvis", "computer"),
        decision=DecisionConfig(
            thresholds={"jarvis": 0.75, "computer": 0.4}, smoothing_ms=40, refractory_ms=2000
        ),
    )
    heard = AfterWake(both, commands, window_s=WINDOW_S).feed(PCM)
    assert heard == by_definition(both, commands, PCM)
    assert {"jarvis", "computer", "yes"} <= {event.keyword for event in heard}


def test_commands_have_their_thresholds_for_after_a_wake_word_there_and_only_there(
    wake: Path, commands: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: a model whose only thresholds are these."""
    decision = load_model(commands).decision
    lower, low = (
        tiny_model.write_tiny(tmp_path / name, decision=replace(decision, **changed))
        for name, changed in (
            ("lower.tflite", {"after_wake": {"yes": 0.3}}),
            ("low.tflite", {"thresholds": {"yes": 0.3, "no": 0.45}}),
        )
    )
    expected = AfterWake(wake, low, window_s=WINDOW_S).feed(PCM)
    assert expected != AfterWake(wake, commands, window_s=WINDOW_S).feed(PCM)
    assert AfterWake(wake, lower, window_s=WINDOW_S).feed(PCM) == expected
    assert Spotter(lower).feed(PCM) == Spotter(commands).feed(PCM)
    own = AfterWake(wake, Spotter(lower), window_s=WINDOW_S)  # as its maker wanted it
    assert own.feed(PCM) == AfterWake(wake, commands, window_s=WINDOW_S).feed(PCM)
    # The commands do the same, unless they are given a threshold.
    write_wav(tmp_path / "a.wav", PCM)
    given = ["--wake", str(wake), "--wake-window", str(WINDOW_S), "--json", str(tmp_path / "a.wav")]
    outputs = []
    for model, more in ((lower, []), (low, []), (lower, ["--threshold", "0.45"]), (commands, [])):
        assert run(["run", "-m", str(model), *more, *given]) == 0
        outputs.append(lines(capsys.readouterr().out))
    assert outputs[0] == outputs[1] != outputs[2] == outputs[3]
    truth = said((1, 2, "yes"), (3, 4, "computer"))
    results = [
        evaluate_streams(
            model, [(tmp_path / "a.wav", truth)], wake=wake, wake_window_s=WINDOW_S, threshold=only
        ).matches.reported
        for model, only in ((lower, None), (low, None), (lower, 0.45), (commands, None))
    ]
    assert results[0] == results[1] != results[2] == results[3]


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


def followed(
    wake: Path, commands: Path, truth: list[SpokenWord], window_s: float
) -> tuple[list[float], list[str]]:
    """When the commands that count begin, and the notes on others."""
    _, following, notes = addressed_words(
        load_model(wake), load_model(commands), [[], truth], window_s=window_s
    )
    assert following[0] == []
    return [word.start_s for word in following[1]], notes


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
        (30.0, 30.5, "computer"),
        (31.0, 31.5, "computer"),
        (36.0, 36.4, "yes"),  # counts, after the later one
    )
    assert followed(wake, commands, truth, 5.0) == (
        [5.0, 36.0],
        [
            "not the first within 5 s of a labelled computer, so not to be reported: "
            "3 labelled commands",
            "1 of 10 labelled words are not keywords of these models and are ignored: lamp",
        ],
    )
    assert followed(wake, commands, truth, 0.9)[0] == []
    assert followed(wake, commands, truth, 5.2)[0] == [5.0, 15.0, 36.0]


def test_labels_of_wake_words_and_commands_may_overlap(wake: Path, commands: Path) -> None:
    truth = said(
        (1.0, 1.55, "computer"),
        (1.5, 2.0, "yes"),  # begins before the wake word's labelled end
        (10.0, 20.0, "computer"),  # a label that is far too long hides none of the next
        (11.0, 12.0, "computer"),
        (13.0, 13.5, "no"),
        (30.0, 32.0, "computer"),
        (31.0, 31.5, "computer"),
        (36.5, 36.9, "yes"),  # within 5 s of the first of them
    )
    assert followed(wake, commands, truth, 5.0)[0] == [1.5, 13.0, 36.5]


def test_what_cannot_go_together_is_refused_before_anything_is_heard(
    wake: Path, commands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def heard(*_: object, **__: object) -> None:
        raise AssertionError("the network ran")

    monkeypatch.setattr("kws.recordings.truth.run_recordings", heard)
    clip = tiny_model.write_tiny(tmp_path / "clip.tflite", form="clip")
    foreign, ours = said((1, 2, "lampe"), (3, 4, "licht")), said((1, 2, "yes"))
    for model, options, truth, message in (
        (commands, {"wake": wake}, foreign, "Received: lampe, licht; keywords: computer; yes, no"),
        (commands, {}, foreign, "None of the labelled words is a keyword of this model"),
        (commands, {"wake": commands}, ours, "must not be a command, too"),
        (commands, {"wake": clip}, ours, "takes whole clips"),
        (clip, {"wake": wake}, ours, "takes whole clips"),
        (commands, {"wake": wake, "wake_window_s": -1.0}, ours, "Received: -1 s"),
    ):
        with pytest.raises(KwsError, match=re.escape(message)):
            evaluate_streams(model, [("a.wav", truth)], **options)  # type: ignore[arg-type]


def test_a_recording_is_measured_by_what_counts(wake: Path, commands: Path, tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", PCM)
    silence = np.zeros(RATE // 2, np.int16)
    expected = by_definition(wake, commands, np.concatenate([PCM, silence]))
    woken = [e for e in expected if e.keyword == "computer"]
    heard = [e for e in expected if e.keyword != "computer"]
    # All wake words are labelled, and of the commands all but the last.
    truth = said(*((e.time_s - 0.02, e.time_s, e.keyword) for e in woken + heard[:-1]))
    recordings = [(tmp_path / "a.wav", truth), (tmp_path / "a.wav", truth)]
    twice = evaluate_streams(commands, recordings, wake=wake, wake_window_s=WINDOW_S, workers=2)
    assert (twice.matches.words, twice.matches.events) == (2 * len(heard) - 2, 2 * len(heard))
    result = evaluate_streams(commands, recordings[:1], wake=wake, wake_window_s=WINDOW_S)
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


def test_the_first_mistake_may_be_the_wake_words(
    wake: Path, commands: Path, tmp_path: Path
) -> None:
    write_wav(tmp_path / "a.wav", PCM)
    heard = AfterWake(wake, commands).feed(PCM)
    third = [e.time_s for e in heard if e.keyword == "computer"][2]  # nobody said it
    truth = said(*((e.time_s - 0.02, e.time_s, e.keyword) for e in heard if e.time_s != third))
    (result,) = evaluate_streams(commands, [(tmp_path / "a.wav", truth)], wake=wake).recordings
    assert all(event.time_s > third for event in result.matches.false_accepts)
    assert result.first_mistake_s() == third


def test_evaluate_reports_the_wake_word_and_what_counts_after_it(
    wake: Path, commands: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_wav(tmp_path / "a.wav", PCM)
    heard = AfterWake(wake, commands).feed(PCM)
    lines = [f"{e.time_s - 0.1}\t{e.time_s}\t{e.keyword}" for e in heard]
    (tmp_path / "a.tsv").write_text("\n".join(["start_s\tend_s\tkeyword", *lines]))
    given = ["--stream", str(tmp_path / "a.wav"), "--labels", str(tmp_path / "a.tsv")]
    picture = tmp_path / "a.svg"
    shown = ["--wake", str(wake), "--from", "0", "--span", "60", "--plot", str(picture)]
    assert run(["evaluate", str(commands), *given, *shown]) == 0
    out = capsys.readouterr().out
    n = sum(e.keyword == "computer" for e in heard)
    assert f"wake.tflite): {n} of {n} detected, 0 false accepts, 0.00 per hour" in out
    assert "the first keyword within 5 s of it counts" in out
    assert f"{len(heard) - n} words: {len(heard) - n} detected, 0 missed" in out
    assert "with all thresholds but the wake word's moved" in out
    drawn = picture.read_text()
    assert "commands after wake" in drawn
    assert f"{len(heard)} of {len(heard)} words detected, 0 of {len(heard)} events wrong" in drawn
    assert run(["evaluate", str(commands), str(tmp_path), "--wake", str(wake)]) == 2
    assert "--wake is for recordings" in capsys.readouterr().err
    assert run(["evaluate", str(commands), *given, "--wake-window", "3"]) == 2
    assert "--wake-window needs --wake MODEL." in capsys.readouterr().err
    assert run(["evaluate", str(commands), *given, "--wake", str(wake), "--wake-window", "0"]) == 1
    assert "Received: 0 s" in capsys.readouterr().err


@pytest.fixture
def labelled(wake: Path, commands: Path, tmp_path: Path) -> Path:
    """A recording in which what is heard at 0.6 is what was said."""
    write_wav(tmp_path / "a.wav", PCM)
    heard = AfterWake(wake, Spotter(commands, thresholds=0.6), window_s=WINDOW_S).feed(PCM)
    rows = [f"{e.time_s - 0.1}\t{e.time_s}\t{e.keyword}" for e in heard]
    (tmp_path / "a.tsv").write_text("\n".join(["start_s\tend_s\tkeyword", *rows]))
    return tmp_path


def calibrate(commands: Path, wake: Path, labelled: Path, *more: str) -> list[str]:
    """The command; it writes ``new.tflite``."""
    given = ["--positives", str(labelled / "a.wav"), "--labels", str(labelled / "a.tsv")]
    window = ["--wake", str(wake), "--wake-window", str(WINDOW_S)]
    return ["calibrate", str(commands), *given, *window, "-o", str(labelled / "new.tflite"), *more]


def test_calibrate_chooses_the_thresholds_with_the_fewest_errors_after_a_wake_word(
    wake: Path, commands: Path, labelled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # What was chosen before does not matter, and what is known of the model is kept.
    old = replace(load_model(commands).decision, after_wake={"no": 0.2})
    model = tiny_model.write_tiny(labelled / "m.tflite", decision=old, provenance={"seed": 7})
    assert run([*calibrate(model, wake, labelled), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    card = load_model(labelled / "new.tflite")
    assert card.decision == replace(old, after_wake=facts["thresholds_after_wake"])
    assert set(facts["thresholds_after_wake"]) == {"yes", "no"}
    origin = card.provenance["after_wake"]
    assert card.provenance == {"seed": 7, "after_wake": origin}
    assert (origin["wake"], origin["words"]) == ("wake", facts["now"]["words"])

    def errors(path: Path, threshold: float | None = None) -> int:
        m = evaluate_streams(
            path, [(labelled / "a.wav", read_truth(labelled / "a.tsv"))],
            wake=wake, wake_window_s=WINDOW_S, threshold=threshold,
        ).matches  # fmt: skip
        return m.words - len(m.hits) + len(m.false_accepts)

    fewest = origin["rejected"] + origin["false_accepts"]
    assert (
        errors(labelled / "new.tflite")
        == fewest
        <= min(errors(model, t / 20) for t in range(2, 20))
    )
    assert facts["thresholds_before"] == {"yes": 0.45, "no": 0.2}
    assert fewest < errors(model) == facts["before"]["command_error_rate"] * origin["words"]

    # Where nothing is said, everything that is reported is a mistake.
    write_wav(labelled / "quiet.wav", PCM[: 20 * RATE])
    assert run(calibrate(model, wake, labelled, str(labelled / "quiet.wav"))) == 0
    out, err = capsys.readouterr()
    assert "before  thresholds of 0.20 to 0.45: " in out and "command error rate" in out
    assert "after the wake word, so chance decides: use 100 or more" in err
    origin = load_model(labelled / "new.tflite").provenance["after_wake"]
    assert origin["rejected"] + origin["false_accepts"] > fewest


def test_calibrate_says_which_commands_nobody_said_before_it_listens(
    wake: Path, commands: Path, labelled: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def stop(*_: object, **__: object) -> None:
        raise KwsError("the network ran")

    monkeypatch.setattr("kws.recordings.truth.run_recordings", stop)
    table = labelled / "a.tsv"
    table.write_text(table.read_text().replace("\tno", "\tyes"))
    assert run(calibrate(commands, wake, labelled)) == 1
    err = capsys.readouterr().err
    assert "never said after the wake word: no;" in err
    assert err.splitlines()[-1] == "kws: the network ran"
    table.write_text("start_s\tend_s\tkeyword\n1\t2\tyes\n3\t4\tcomputer\n")
    assert run(calibrate(commands, wake, labelled)) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert "No command is labelled as following computer within 1.5 s. Received: 1 rec" in last


def test_calibrate_writes_no_model_that_reports_nothing(
    wake: Path, commands: Path, labelled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All labelled commands are where nothing is reported."""
    times = [w.time_s for w in Spotter(wake).feed(PCM)][:3]
    rows = [f"{t - 0.1}\t{t}\tcomputer\n{t + 0.01}\t{t + 0.02}\tno" for t in times]
    (labelled / "a.tsv").write_text("\n".join(["start_s\tend_s\tkeyword", *rows]))
    deaf = replace(load_model(commands).decision, smoothing_ms=60_000.0)
    model = tiny_model.write_tiny(labelled / "deaf.tflite", decision=deaf)
    assert run(calibrate(model, wake, labelled)) == 1
    assert "No thresholds are better than reporting nothing. Received: 3 commands" in (
        capsys.readouterr().err
    )
    assert not (labelled / "new.tflite").exists()


def test_thresholds_for_after_a_wake_word_are_not_forgotten_when_the_others_are_chosen(
    labelled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    decision = DecisionConfig(thresholds={"yes": 0.4, "no": 0.4}, after_wake={"no": 0.3})
    model = tiny_model.write_tiny(labelled / "m.tflite", decision=decision)
    command = ["calibrate", str(model), str(labelled / "a.wav"), "-o", str(labelled / "new.tflite")]
    for more, told in (([], False), (["--smoothing", "200"], True)):
        assert run([*command, *more]) == 0
        assert load_model(labelled / "new.tflite").decision.after_wake == {"no": 0.3}
        said = "the thresholds for after a wake word stay, but were chosen with other settings"
        assert (said in capsys.readouterr().err) == told


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (["--wake", "{wake}"], 2, "--wake needs --positives AUDIO."),
        ([], 2, "Give recordings without keywords as NEGATIVE, or --wake MODEL."),
        (["--wake-window", "3", "a.wav"], 2, "--wake-window needs --wake MODEL."),
        *(
            (["--wake", "{wake}", "{said}", name, "0.3"], 2, f"{name} and --wake do not go")
            for name in (
                *("--lowest", "--false-accepts-per-hour"),
                *("--smoothing", "--refractory", "--release"),
            )
        ),
        (["--wake", "{wake}", "{said}", "--wake-window", "0"], 1, "Received: 0 s"),
        (["--wake", "{wake}", "{said}", "--wake-window", "0.001"], 1, "Received: 1 recording."),
        (["--wake", "none.tflite", "{said}"], 1, "none.tflite"),
    ],
)
def test_calibrate_refuses_in_one_line_what_it_cannot_choose_from(
    arguments: list[str],
    status: int,
    complaint: str,
    wake: Path,
    commands: Path,
    labelled: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(labelled)
    names = {"{wake}": [str(wake)], "{said}": ["--positives", "a.wav", "--labels", "a.tsv"]}
    given = [part for one in arguments for part in names.get(one, [one])]
    assert run(["calibrate", str(commands), *given, "-o", "new.tflite"]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert complaint in err and err.count("\n") == 1
    assert not Path("new.tflite").exists()


@pytest.mark.parametrize("command", ["calibrate", "evaluate"])
def test_a_model_without_keywords_is_one_line(
    command: str, labelled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    none = DecisionConfig(thresholds={})
    model = tiny_model.write_tiny(labelled / "none.tflite", keywords=(), decision=none)
    more = ["--stream", str(labelled / "a.wav"), "--labels", str(labelled / "a.tsv")]
    if command == "calibrate":
        more = [str(labelled / "a.wav"), "-o", str(labelled / "new.tflite")]
    assert run([command, str(model), *more]) == 1
    err = capsys.readouterr().err
    assert "has no keywords, so nothing to report" in err and err.count("\n") == 1


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
    given = ["-m", str(commands), "--threshold", "0.7", "--wake", str(wake), "--json"]
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


def test_a_threshold_is_that_of_the_commands_alone(
    wake: Path, commands: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_wav(tmp_path / "a.wav", PCM)
    woken = [e.time_s for e in Spotter(wake).feed(PCM)]
    given = ["-m", str(commands), "--wake", str(wake), "--json", str(tmp_path / "a.wav")]
    for threshold in ("0.5", "0.9"):
        assert run(["run", "--threshold", threshold, *given]) == 0
        heard = lines(capsys.readouterr().out)
        assert [at for at, word in heard if word == "computer"] == [round(t, 3) for t in woken]


@POSIX
def test_a_command_of_ones_own_runs_for_keywords_and_not_for_the_wake_word(
    wake: Path,
    commands: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install(monkeypatch, FakeInput(name="Mic", audio=PCM[: 20 * RATE], speed=20, end="ctrl-c"))
    log = tmp_path / "log"
    given = ["-m", str(commands), "--wake", str(wake), "--json"]
    assert run(["listen", *given, "--exec", f'echo "$KWS_KEYWORD" >> {log}']) == 0
    heard = [word for _, word in lines(capsys.readouterr().out)]
    ran = log.read_text().split()
    assert sorted(ran) == sorted(word for word in heard if word != "computer") != []


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
