"""A part of a data set as a folder of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kws.audio.files import read_audio, write_wav
from kws.cli import run as kws
from kws.data.scan import scan


def test_the_validation_part_holds_the_official_clips_and_silence_at_the_stated_levels(
    real_speech: Path, tmp_path: Path
) -> None:
    source, target = real_speech / "speech_commands", tmp_path / "validation"
    assert kws(["data", "part", str(source), "--silence", "40", "--to", str(target)]) == 0
    clips = {p.relative_to(target).as_posix() for p in target.glob("[!_]*/*.wav")}
    assert clips == set((source / "validation_list.txt").read_text().split())
    quiet = [read_audio(p).astype(float) for p in sorted(target.glob("_silence_/*.wav"))]
    levels = [20 * np.log10(np.sqrt(np.mean(q**2)) / 32768) for q in quiet]
    assert len(levels) == 40
    assert -61 < min(levels) < -45
    assert -25 < max(levels) < -9
    assert scan(target).counts()["_silence_"] == 40


def test_some_words_of_all_speakers_are_a_part_too(real_speech: Path, tmp_path: Path) -> None:
    source, target = real_speech / "speech_commands", tmp_path / "some"
    arguments = ["data", "part", str(source), "--part", "all", "--to", str(target)]
    assert kws([*arguments, "--word", "cat", "--word", "bed"]) == 0
    wanted = {p.relative_to(source) for word in ("cat", "bed") for p in source.glob(f"{word}/*")}
    assert wanted and {p.relative_to(target) for p in target.glob("*/*")} == wanted


@pytest.mark.parametrize("rule", ["lists", "speaker", "clip", "recipe"])
def test_every_clip_stays_in_its_part_however_that_was_decided(rule: str, tmp_path: Path) -> None:
    source, target = tmp_path / "clips", tmp_path / "new"
    people = 5 if rule == "clip" else 60
    for i in range(60):
        name = f"s{i % people}_nohash_{i}.wav"
        write_wav(source / "yes" / name, np.full(9, i, np.int16), 16000)
    if rule == "lists":
        listed = sorted(path.name for path in (source / "yes").iterdir())[:20]
        (source / "testing_list.txt").write_text("".join(f"yes/{name}\n" for name in listed))
    if rule == "recipe":
        (source / ".kws_dataset.json").write_text('{"split": "testing"}')
    before = scan(source)
    assert before.split_rule == rule
    for part in ("all", "testing"):
        arguments = ["data", "part", str(source), "--part", part, "--to", str(target / part)]
        assert kws(arguments) == 0
        after = scan(target / part)
        parts = {before.path(i): before.split(i) for i in range(len(before))}
        assert {after.path(i): after.split(i) for i in range(len(after))} == {
            path: split for path, split in parts.items() if part in ("all", split)
        }


def test_a_broken_recording_of_noise_matters_only_where_silence_is_wanted(tmp_path: Path) -> None:
    source = tmp_path / "clips"
    write_wav(source / "yes" / "a_nohash_0.wav", np.ones(16000, np.int16), 16000)
    (source / "_background_noise_").mkdir()
    (source / "_background_noise_" / "hum.wav").write_bytes(b"RIFF")
    arguments = ["data", "part", str(source), "--part", "all", "--to"]
    assert kws([*arguments, str(tmp_path / "new")]) == 0
    assert kws([*arguments, str(tmp_path / "other"), "--silence", "1"]) == 1


def test_another_part_is_answered_with_all_that_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["data", "part", str(tmp_path), "--part", "silly", "--to", str(tmp_path / "new")]
    assert kws(arguments) == 1
    assert capsys.readouterr().err == (
        "kws: Unknown part of the data. Received: 'silly'. Use training, validation, testing, all\n"
    )


def test_help_says_that_clips_are_shared_with_the_data_set_and_so_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kws(["data", "part", "--help"]) == 0
    assert "hard links" in " ".join(capsys.readouterr().out.split())
    clip, target = tmp_path / "clips" / "yes" / "a_nohash_0.wav", tmp_path / "new"
    write_wav(clip, np.ones(16000, np.int16), 16000)
    arguments = ["data", "part", str(tmp_path / "clips"), "--part", "all", "--to", str(target)]
    assert kws(arguments) == 0
    assert capsys.readouterr().out == f"{target}: 1 clip of 1 label\n"
    assert (target / "yes" / clip.name).samefile(clip)


def test_clips_that_are_links_themselves_are_found_from_the_new_folder_too(tmp_path: Path) -> None:
    store, word = tmp_path / "store" / "1.wav", tmp_path / "clips" / "yes"
    write_wav(store, np.ones(16000, np.int16), 16000)
    word.mkdir(parents=True)
    (word / "a_nohash_0.wav").symlink_to("../../store/1.wav")
    target = tmp_path / "somewhere" / "else" / "new"
    arguments = ["data", "part", str(tmp_path / "clips"), "--part", "all", "--to", str(target)]
    assert kws(arguments) == 0
    assert (target / "yes" / "a_nohash_0.wav").samefile(store)
    assert len(read_audio(target / "yes" / "a_nohash_0.wav")) == 16000


@pytest.mark.parametrize("fault", ["there already", "no such part", "no such word", "no noise"])
def test_faults_end_in_one_line_and_leave_nothing(
    fault: str, real_speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = real_speech / "speech_commands", tmp_path / "new"
    arguments = ["data", "part", str(source), "--to", str(target)]
    if fault == "there already":
        target.mkdir()
    elif fault == "no such part":
        arguments += ["--part", "practice"]
    elif fault == "no such word":
        arguments += ["--word", "abracadabra"]
    else:
        word = tmp_path / "bare" / "yes"
        word.mkdir(parents=True)
        for clip in (source / "yes").glob("*.wav"):
            (word / clip.name).symlink_to(clip)
        arguments = ["data", "part", str(tmp_path / "bare"), "--to", str(target), "--silence", "1"]
    assert kws(arguments) == 1
    message = capsys.readouterr().err
    assert message.startswith("kws: ")
    assert message.count("\n") == 1
    assert not target.exists() or not list(target.iterdir())
