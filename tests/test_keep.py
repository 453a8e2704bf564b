"""The sound around events is kept, and around what nearly was one; and it finds its way back."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import tracemalloc
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_model
from fake_sounddevice import FakeInput, install
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sounds import gusts

from kws.audio.files import read_audio, write_wav
from kws.cli import run
from kws.data.scan import scan
from kws.decide import DecisionConfig, Event
from kws.errors import KwsError
from kws.keep import Keeper
from kws.model_file import load_model, write_card
from kws.spotter import Spotter

RATE = 16000


PCM = gusts(30)


def model_with(folder: Path, threshold: float) -> str:
    decision = DecisionConfig(
        thresholds={"yes": threshold, "no": threshold},
        smoothing_ms=80,
        refractory_ms=400,
        release=0.9,
    )
    return str(tiny_model.write_tiny(folder / f"{threshold}.tflite", decision=decision))


@pytest.fixture(scope="module")
def eager(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that fires often."""
    return model_with(tmp_path_factory.mktemp("keep"), 0.45)


@pytest.fixture(scope="module")
def reluctant(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that comes to half of its threshold often and fires now and then."""
    return model_with(tmp_path_factory.mktemp("keep"), 0.75)


def hear(
    spotter: Spotter, keeper: Keeper, samples: np.ndarray, *, real: bool = True
) -> list[Event]:
    events = spotter.feed(samples)
    keeper.follow(samples, events, real=real)
    return events


def kept(model: str, folder: Path, cuts: list[int], pcm: np.ndarray = PCM) -> Keeper:
    spotter = Spotter(model)
    keeper = Keeper(spotter, folder, almost=True)
    keeper.begin("radio.wav")
    for part in np.split(pcm, sorted(cuts)):
        hear(spotter, keeper, part)
    keeper.finish()
    return keeper


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.wav")}


def test_each_event_leaves_two_seconds_that_end_shortly_after_it(eager, tmp_path):
    events = Spotter(eager).feed(PCM)
    assert len(events) > 5
    keeper = kept(eager, tmp_path, list(range(0, len(PCM), 640)))
    assert len(keeper.clips) == len(events)
    for event, path in zip(events, keeper.clips, strict=True):
        assert path.parent == tmp_path / event.keyword
        assert re.fullmatch(
            rf"radio-[0-9a-f]{{4}}_{round(1000 * event.time_s):07}_{event.score:.2f}.wav", path.name
        )
        end = min(len(PCM), round((event.time_s + 0.3) * RATE))
        np.testing.assert_array_equal(read_audio(path), PCM[max(0, end - 2 * RATE) : end])


@pytest.mark.parametrize(("clip_ms", "seconds"), [(1000, 2.0), (1400, 2.0), (2400, 3.0)])
def test_clips_of_a_longer_word_hold_it_and_its_latency(eager, tmp_path, clip_ms, seconds):
    card = load_model(eager)
    card = dataclasses.replace(card, clip_frames=card.front_end.n_frames(clip_ms * RATE // 1000))
    model = tmp_path / "phrase.tflite"
    model.write_bytes(write_card(Path(eager).read_bytes(), card))
    events = Spotter(eager).feed(PCM)
    whole = kept(str(model), tmp_path / "kept", list(range(0, len(PCM), 640)))
    for event, path in zip(events, whole.clips, strict=True):
        end = min(len(PCM), round((event.time_s + 0.3) * RATE))
        start = max(0, end - round(seconds * RATE))
        np.testing.assert_array_equal(read_audio(path), PCM[start:end])


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.integers(0, len(PCM)), max_size=20))
def test_what_is_kept_does_not_depend_on_the_chunks(reluctant, tmp_path_factory, cuts):
    folders = [tmp_path_factory.mktemp("chunks") for _ in range(2)]
    kept(reluctant, folders[0], list(range(0, len(PCM), 800)))
    kept(reluctant, folders[1], cuts)
    assert contents(folders[0]) == contents(folders[1]) != {}


def test_what_came_to_half_of_the_threshold_is_kept_apart_and_nothing_twice(reluctant, tmp_path):
    keeper = kept(reluctant, tmp_path, [])
    spotter = Spotter(reluctant)
    events = spotter.feed(PCM)
    assert len(keeper.clips) == len(events) > 0
    assert len(keeper.almost_clips) > 2
    steps = round(80 / spotter.card.step_ms)
    moments = [event.time_s for event in events]
    for path in keeper.almost_clips:
        assert path.parent.parent == tmp_path / "almost"
        milliseconds, score = path.stem.split("_")[1:]
        at = int(np.argmin(np.abs(spotter.step_times_s - int(milliseconds) / 1000)))
        column = spotter.card.labels.index(path.parent.name)
        smooth = spotter.posteriors[max(0, at - steps + 1) : at + 1, column].sum() / steps
        assert smooth == pytest.approx(float(score), abs=0.006)
        assert smooth >= 0.375
        moments.append(int(milliseconds) / 1000)
    apart = np.diff(sorted(moments))
    is_almost = [m not in [e.time_s for e in events] for m in sorted(moments)]
    for gap, a, b in zip(apart, is_almost, is_almost[1:], strict=False):
        assert gap >= 0.99 or not (a or b)


def test_without_almost_only_events_are_kept(reluctant, tmp_path):
    spotter = Spotter(reluctant)
    keeper = Keeper(spotter, tmp_path)
    hear(spotter, keeper, PCM)
    keeper.finish()
    assert keeper.clips and not keeper.almost_clips and not (tmp_path / "almost").exists()


def test_a_threshold_of_ones_own_is_the_one_that_counts(eager, tmp_path):
    spotter = Spotter(eager, thresholds=0.999)
    assert spotter.decision.thresholds == {"yes": 0.999, "no": 0.999}
    keeper = Keeper(spotter, tmp_path, almost=True)
    hear(spotter, keeper, PCM)
    keeper.finish()
    assert not keeper.clips
    assert all(float(path.stem.split("_")[1]) >= 0.495 for path in keeper.almost_clips)


def test_the_memory_is_that_of_a_few_seconds(reluctant, tmp_path):
    spotter = Spotter(reluctant)
    keeper = Keeper(spotter, tmp_path, almost=True)
    for _ in range(3):
        hear(spotter, keeper, PCM[:RATE])
    tracemalloc.start()
    for _ in range(60):
        for start in range(0, RATE, 640):
            hear(spotter, keeper, PCM[start : start + 640])
    # Not all that is traced: the interpreter's table of strings may grow meanwhile.
    ours = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/kws/keep.py")])
    tracemalloc.stop()
    assert 100_000 < sum(trace.size for trace in ours.traces) < 500_000


def test_a_full_disk_ends_the_keeping_and_not_the_listening(eager, tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    events = Spotter(eager).feed(PCM)
    monkeypatch.setattr("kws.system.files.os.fsync", full)
    spotter = Spotter(eager)
    keeper = Keeper(spotter, tmp_path / "kept")
    heard = [
        e
        for start in range(0, len(PCM), 4000)
        for e in hear(spotter, keeper, PCM[start : start + 4000])
    ]
    keeper.finish()
    assert heard == events
    assert keeper.clips == []
    assert keeper.failed is not None and "the disk is full" in keeper.failed
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_file_in_place_of_the_folder_is_refused_at_once(eager, tmp_path):
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(KwsError, match="Clips go to a folder"):
        Keeper(Spotter(eager), tmp_path / "kept")


def test_silence_that_nobody_recorded_is_heard_and_not_kept(eager, tmp_path):
    event = Spotter(eager).feed(PCM)[3]
    heard = PCM[: round((event.time_s + 0.1) * RATE)]
    spotter = Spotter(eager)
    keeper = Keeper(spotter, tmp_path)
    hear(spotter, keeper, heard)
    hear(spotter, keeper, np.zeros(RATE // 2, np.int16), real=False)
    keeper.finish()
    assert f"_{event.score:.2f}" in keeper.clips[3].name
    np.testing.assert_array_equal(read_audio(keeper.clips[3]), heard[-2 * RATE :])


def named_times(paths: list[Path]) -> list[float]:
    stamps = [path.name.split("_")[0] for path in paths]
    return [datetime.strptime(stamp, "%Y%m%d-%H%M%S.%f").timestamp() for stamp in stamps]


@pytest.mark.parametrize("shift_s", [7202.0, -3600.0])
def test_clips_of_live_sound_are_named_after_the_clock_as_it_is_when_they_come(
    eager, tmp_path, monkeypatch, shift_s
):
    # The clock is set, or as many seconds are lost, just before the fourth event.
    events = Spotter(eager).feed(PCM)
    began_s, heard = datetime(2026, 1, 31, 7, 12).timestamp(), 0

    def shift(time_s: float) -> float:
        return shift_s if time_s >= events[3].time_s else 0.0

    def clock() -> float:
        return began_s + heard / RATE + shift(heard / RATE)

    monkeypatch.setattr("kws.keep.time", SimpleNamespace(time=clock))
    spotter = Spotter(eager)
    keeper = Keeper(spotter, tmp_path)
    for start in range(0, len(PCM), 640):
        block = PCM[start : start + 640]
        heard += len(block)
        hear(spotter, keeper, block)
    began_s += 100  # what follows the last sound does not count
    keeper.finish()
    expected = [began_s - 100 + event.time_s + shift(event.time_s) for event in events]
    assert named_times(keeper.clips) == pytest.approx(expected, abs=0.002)


def test_names_of_live_clips_keep_their_order_when_sound_comes_all_at_once(
    eager, tmp_path, monkeypatch
):
    now_s = datetime(2026, 1, 31, 7, 12).timestamp()
    monkeypatch.setattr("kws.keep.time", SimpleNamespace(time=lambda: now_s))
    spotter = Spotter(eager)
    keeper = Keeper(spotter, tmp_path)
    for start in range(0, len(PCM), 640):
        hear(spotter, keeper, PCM[start : start + 640])
    keeper.finish()
    times = named_times(keeper.clips)
    assert len(times) == len(Spotter(eager).feed(PCM)) > 5
    assert times == sorted(set(times))


# ---- the commands


@pytest.mark.parametrize("command", ["run", "listen"])
def test_the_help_says_how_clips_are_named_of_live_sound_and_of_files(command, capsys):
    assert run([command, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "DIR/<keyword>/<when>_<score>.wav. <when> is the time of day" in shown
    assert "or <file>-<hash>_<ms> for a sound file" in shown


def test_run_keeps_clips_of_each_file_and_no_silence_behind_its_end(
    eager, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write_wav(f"{name}.wav", PCM)
    command = ["run", "-m", eager, "--keep", "kept", "a.wav", "b.wav"]
    assert run(command) == 0
    out, err = capsys.readouterr()
    n = len(out.splitlines())
    assert f"kept {n} events in kept" in err
    clips = contents(tmp_path / "kept")
    assert len(clips) == n == 2 * len([name for name in clips if "/a-" in name])
    whole = PCM.tobytes()
    assert all(content[44:] in whole for content in clips.values())
    assert run(command) == 0
    assert contents(tmp_path / "kept") == clips


def test_run_says_that_it_could_not_keep_clips(eager, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_wav("a.wav", PCM)
    Path("kept").mkdir()
    for keyword in ("yes", "no"):
        (Path("kept") / keyword).write_text("mine")
    assert run(["run", "-m", eager, "--keep", "kept", "a.wav"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("kws: no more clips are kept: ")
    assert run(["run", "-m", eager, "--keep-almost", "a.wav"]) == 2


def test_listen_names_clips_after_the_time_of_day_and_goes_on_when_it_cannot_keep(
    eager, tmp_path, monkeypatch, capsys
):
    install(monkeypatch, FakeInput(name="Mic", audio=PCM[: 8 * RATE], speed=20, end="ctrl-c"))
    folder = tmp_path / "kept"
    assert run(["listen", "-m", eager, "--keep", str(folder)]) == 0
    out, err = capsys.readouterr()
    clips = list(folder.rglob("*.wav"))
    assert len(clips) == len(out.splitlines()) > 0
    assert all(re.fullmatch(r"\d{8}-\d{6}\.\d{3}_0\.\d\d\.wav", path.name) for path in clips)
    assert f"kept {len(clips)} event" in err.splitlines()[-1]

    for keyword in ("yes", "no"):
        (tmp_path / keyword).write_text("mine")
    install(monkeypatch, FakeInput(name="Mic", audio=PCM[: 8 * RATE], speed=20, end="ctrl-c"))
    assert run(["listen", "-m", eager, "--keep", str(tmp_path)]) == 0
    again, err = capsys.readouterr()
    assert len(again.splitlines()) == len(clips)
    assert err.count("no more clips are kept") == 1


def test_a_clip_that_ctrl_c_broke_off_is_written_at_the_end(eager, tmp_path, monkeypatch):
    whole = kept(eager, tmp_path / "whole", list(range(0, len(PCM), 640)))
    spotter = Spotter(eager)
    keeper = Keeper(spotter, tmp_path / "broken")
    keeper.begin("radio.wav")

    def pressed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("kws.keep.write_wav", pressed)
        with pytest.raises(KeyboardInterrupt):
            hear(spotter, keeper, PCM)
    keeper.finish()
    assert [path.name for path in keeper.clips] == [path.name for path in whole.clips] != []


def test_what_was_kept_goes_back_into_training(eager, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_wav("a.wav", PCM)
    assert run(["run", "-m", eager, "--keep", "kept", "a.wav"]) == 0
    false = [str(path) for path in Path("kept").rglob("*.wav")]
    assert run(["data", "add", "_unknown_", *false, "--to", "words"]) == 0
    index = scan("words", cached=False)
    assert index.labels == ("_unknown_",) and len(index) >= len(false)
    capsys.readouterr()
