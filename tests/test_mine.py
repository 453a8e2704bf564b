"""False activations become clips that training takes for other speech, once and whole."""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny_model

import kws.recordings.mine as mining
from kws.audio.files import read_audio, write_wav
from kws.cli import run
from kws.data.label_file import SpokenWord
from kws.data.scan import scan
from kws.decide import DecisionConfig, Event
from kws.errors import KwsError
from kws.model_file import load_model, write_card
from kws.recordings.mine import clip_name, mine
from kws.spotter import Spotter

RATE = 16000


def sound(seed: int, seconds: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    n, knots = seconds * RATE, 8 * seconds
    level = np.interp(np.arange(n), np.linspace(0, n, knots), rng.uniform(50, 4000, knots))
    noise = np.convolve(rng.standard_normal(n), rng.standard_normal(8), "same")
    return np.clip(noise * level, -32768, 32767).astype(np.int16)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    eager = DecisionConfig(
        thresholds={"yes": 0.3, "no": 0.3}, smoothing_ms=80, refractory_ms=200, release=0.9
    )
    tiny_model.write_tiny(tmp_path / "m.tflite", decision=eager)
    for i, seconds in enumerate((30, 12, 20)):
        write_wav(tmp_path / f"{i}.wav", sound(i, seconds), RATE)
    return tmp_path


def test_each_clip_is_what_was_heard_up_to_its_event(here: Path) -> None:
    pcm = sound(0, 30)
    events = Spotter("m.tflite").feed(pcm)
    assert len(events) > 3
    (found,) = mine("m.tflite", [("0.wav", [])], "out", before_s=1.5, after_s=0.25)
    assert len(found.clips) == len(events)
    padded = np.concatenate([np.zeros(2 * RATE, np.int16), pcm])
    for event, name in zip(events, found.clips, strict=True):
        at = round(event.time_s * RATE)
        expected = padded[2 * RATE + at - 24000 : 2 * RATE + at + 4000]
        np.testing.assert_array_equal(read_audio(here / "out" / name), expected)
        assert f"{round(1000 * event.time_s):07}-{event.keyword}.wav" in name


@pytest.mark.parametrize("clip_ms", [1000, 1200, 2400])
def test_clips_are_as_long_as_those_that_the_model_learnt_from(here: Path, clip_ms: int) -> None:
    card = load_model("m.tflite")
    card = dataclasses.replace(card, clip_frames=card.front_end.n_frames(clip_ms * RATE // 1000))
    content = (here / "m.tflite").read_bytes()
    (here / "longer.tflite").write_bytes(write_card(content, card))
    (found,) = mine("longer.tflite", [("0.wav", [])], "out")
    lengths = {len(read_audio(here / "out" / name)) for name in found.clips}
    assert lengths == {clip_ms * RATE // 1000}


def test_words_that_were_said_are_not_mined(here: Path) -> None:
    events = Spotter("m.tflite").feed(sound(0, 30))
    truth = [
        SpokenWord(start_s=max(0.0, e.time_s - 0.3), end_s=e.time_s, keyword=e.keyword)
        for e in events[::2]
    ]
    (found,) = mine("m.tflite", [("0.wav", truth)], "out")
    assert len(found.clips) == len(events[1::2])


def test_training_takes_the_clips_as_other_speech_all_in_its_own_part(here: Path) -> None:
    found = list(mine("m.tflite", [(f"{i}.wav", []) for i in range(3)], "out", workers=2))
    index = scan("out", cached=False)
    assert index.labels == ("_unknown_",)
    assert len(index) == sum(len(one.clips) for one in found) > 5
    # Their speakers are the recordings; with other speakers in the folder the hash decides.
    names = [f"{index.root}/{path}" for path in index.paths]
    assert len({index.speaker(i) for i in range(len(index))}) == 3
    for i in range(40):
        clip = here / "out" / "yes" / f"person{i}_nohash_0.wav"
        clip.parent.mkdir(exist_ok=True)
        clip.symlink_to(names[0])
    whole = scan("out", cached=False)
    assert whole.select(split="training").counts()["_unknown_"] == len(index)


@pytest.mark.parametrize("stem", ["a", "radio 1", "../x", "日本", "...", "long" * 30])
def test_names_of_clips_are_plain_and_fall_to_training(stem: str) -> None:
    from kws.data.split import split_of

    for i in range(30):
        event = Event(keyword="turn on", score=1.0, time_s=1.5 + i)
        name = clip_name(f"/somewhere{i}/{stem}.wav", event)
        assert split_of(name) == "training"
        assert not set(name) & set(" /\\:")
        assert not name.startswith(".")
        assert name.endswith(f"{1500 + 1000 * i:07}-turn_on.wav")


def test_recordings_of_one_name_in_two_folders_do_not_meet() -> None:
    event = Event(keyword="yes", score=1.0, time_s=1.0)
    assert clip_name("/a/x.wav", event) != clip_name("/b/x.wav", event)


def test_what_is_done_is_not_done_again_unless_something_changed(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    each = mining.run_each

    def watched(model: object, recordings: list[Path], **options: object) -> object:
        heard.extend(path.name for path in recordings)
        return each(model, recordings, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(mining, "run_each", watched)

    def names(**options: object) -> list[str]:
        heard.clear()
        list(mine("m.tflite", [("0.wav", []), ("1.wav", [])], "out", **options))  # type: ignore[arg-type]
        return heard

    assert names() == ["0.wav", "1.wav"]
    # A clip that somebody removed stays removed.
    gone = next((here / "out" / "_unknown_").iterdir())
    gone.unlink()
    assert names() == []
    assert not gone.exists()
    write_wav(here / "1.wav", sound(9, 12), RATE)
    assert names() == ["1.wav"]
    assert names(thresholds=0.5) == ["0.wav", "1.wav"]
    assert names(thresholds=0.5) == []
    assert names(before_s=2.0) == ["0.wav", "1.wav"]


def test_an_interrupted_run_goes_on_where_it_was_and_leaves_nothing_half_written(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings = [(f"{i}.wav", []) for i in range(3)]
    whole = {clip for one in mine("m.tflite", recordings, "whole") for clip in one.clips}
    write, left = mining.write_wav, 4

    def stopping(*arguments: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(mining, "write_wav", stopping)
    with pytest.raises(KeyboardInterrupt):
        list(mine("m.tflite", recordings, "out"))
    monkeypatch.undo()
    monkeypatch.chdir(here)
    clips = list((here / "out" / "_unknown_").iterdir())
    assert len(clips) == 4
    assert all(len(read_audio(clip)) == RATE for clip in clips)
    again = list(mine("m.tflite", recordings, "out"))
    assert {clip for one in again for clip in one.clips} == whole
    assert {f"_unknown_/{p.name}" for p in (here / "out" / "_unknown_").iterdir()} == whole


def test_the_command_says_what_it_found(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["mine", "m.tflite", "0.wav", "1.wav", "-o", "out"]
    assert run([*command, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["clips"] == len(list((here / "out" / "_unknown_").iterdir())) > 0
    assert facts["hours"] == pytest.approx(42 / 3600)
    assert run(command) == 0
    shown = capsys.readouterr().out
    assert shown.count("(from an earlier run)") == 2
    assert f"{facts['clips']} false activations in 42 s" in shown
    assert run([*command, "--threshold", "1"]) == 0
    assert "no false activations" in capsys.readouterr().err


def bad_late(path: Path) -> None:
    """Write a sound file that only its last sample spoils."""
    samples = np.zeros(9 * RATE, "<f4")
    samples[-1] = np.nan
    data = samples.tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, 1, RATE, 4 * RATE, 4, 32)
    chunks = b"WAVE" + form + struct.pack("<4sI", b"data", len(data)) + data
    path.write_bytes(struct.pack("<4sI", b"RIFF", len(chunks)) + chunks)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_recordings_that_cannot_be_used_are_reported_and_the_others_still_heard(
    workers: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["mine", "m.tflite", "0.wav", "1.wav", "-o", "alone", "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)["clips"]
    (here / "text.wav").write_text("not a sound\n")
    bad_late(here / "late.wav")
    names = ["text.wav", "0.wav", "late.wav", "none.wav", "2.wav", "1.wav"]
    tables = []
    for name in names:
        table = here / f"{name}.tsv"
        # Nothing is said in any but the one that the labels are not of.
        words = "500\t501\tyes\n" if name == "2.wav" else ""
        table.write_text(f"start_s\tend_s\tkeyword\n{words}")
        tables += ["--labels", str(table)]
    command = ["mine", "m.tflite", *names, *tables, "-o", "out", "--workers", workers]
    for again in ("", " (from an earlier run)"):
        assert run(command) == 1
        out, err = capsys.readouterr()
        *recordings, total = out.splitlines()
        assert sorted(line.split(":")[0] for line in recordings) == ["0.wav", "1.wav"]
        assert all(line.endswith(f"clips{again}") for line in recordings)
        assert total == f"out: {alone} false activations in 42 s, 4 recordings not usable"
        complaints = [line for line in err.splitlines() if line.startswith("kws: ")]
        assert sorted(line.split()[1] for line in complaints) == [
            *("2.wav", "late.wav", "none.wav", "text.wav"),
        ]


def test_what_is_no_fault_of_a_recording_ends_the_run(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(*_: object, **__: object) -> Iterator[object]:
        raise KwsError("A worker process died")
        yield

    monkeypatch.setattr(mining, "run_each", dying)
    with pytest.raises(KwsError, match="died"):
        list(mine("m.tflite", [("0.wav", [])], "out"))


def test_clips_that_were_removed_since_are_not_counted(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["mine", "m.tflite", "0.wav", "-o", "out"]
    assert run(command) == 0
    clips = sorted((here / "out" / "_unknown_").iterdir())
    clips[0].unlink()
    capsys.readouterr()
    assert run([*command, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    left = [f"_unknown_/{clip.name}" for clip in clips[1:]]
    assert (facts["clips"], facts["recordings"][0]["clips"]) == (len(left), left)
    for clip in clips[1:]:
        clip.unlink()
    assert run(command) == 0
    out, err = capsys.readouterr()
    removed = f"(from an earlier run, {len(clips)} removed since)"
    assert out.splitlines()[0] == f"0.wav: 30 s, 0 clips {removed}"
    assert "no false activations" not in err


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (["m.tflite", "0.wav", "1.wav", "--labels", "x.tsv"], 2, "Received: 1 for 2"),
        (["m.tflite", "0.wav", "--labels", "x.tsv"], 1, "label file x.tsv"),
        (["m.tflite", "none.wav"], 1, "none.wav does not exist"),
        (["m.tflite", "0.wav", "--before", "0"], 1, "must last at least 0.1 s"),
        (["m.tflite", "0.wav", "-o", "0.wav"], 1, "Clips go to a folder"),
        (["m.tflite", "0.wav", "--labels", "late.tsv"], 1, "labelled at 31.00 s"),
    ],
)
def test_each_wrong_use_ends_in_one_line(
    arguments: list[str],
    status: int,
    complaint: str,
    here: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (here / "late.tsv").write_text("start_s\tend_s\tkeyword\n31\t32\tyes\n")
    out = [] if "-o" in arguments else ["-o", "out"]
    assert run(["mine", *arguments, *out]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert complaint in captured.err
    assert len(captured.err.splitlines()) == 1
    assert not (here / "out").exists()


def test_labels_of_other_words_alone_are_refused(here: Path) -> None:
    truth = [SpokenWord(start_s=1, end_s=2, keyword="marvin")]
    with pytest.raises(KwsError, match="None of the labelled words is a keyword"):
        list(mine("m.tflite", [("0.wav", truth)], "out"))
