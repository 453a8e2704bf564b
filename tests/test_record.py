from __future__ import annotations

import csv
import io
import math
import re
import wave
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from fake_sounddevice import FakeInput, install

from kws.audio.files import read_audio
from kws.cli import main, run
from kws.data.recording.record import clip_of, judge_take, record_word, save_clip
from kws.data.recording.word_clips import speaker_id
from kws.data.scan import scan
from kws.data.split import speaker_of
from kws.errors import KwsError


def take(
    *,
    start_s: float = 0.7,
    length_s: float = 0.5,
    amplitude: float = 6000,
    noise: float = 10,
    total_s: float = 2.0,
) -> np.ndarray:
    """A vowel-like tone with soft edges in noise; int16."""
    rng = np.random.default_rng(2)
    n = round(total_s * 16000)
    t = np.arange(n) / 16000
    inside = (t >= start_s) & (t < start_s + length_s)
    x = amplitude * np.sin(2 * math.pi * 180 * t) * inside + rng.normal(0, noise, n)
    return np.clip(np.rint(x), -32768, 32767).astype(np.int16)


def test_a_good_take_has_its_word_located_and_its_levels_measured():
    report = judge_take(take())
    assert report.good and report.faults == ()
    assert report.start / 16000 == pytest.approx(0.7, abs=0.03)
    assert report.end / 16000 == pytest.approx(1.2, abs=0.03)
    assert report.length_s == pytest.approx(0.5, abs=0.03)
    # RMS of the sine: 6000 / sqrt(2); of the noise: 10.
    assert report.level_dbfs == pytest.approx(20 * math.log10(6000 / math.sqrt(2) / 32768), abs=0.3)
    assert report.noise_dbfs == pytest.approx(20 * math.log10(10 / 32768), abs=1.5)


@pytest.mark.parametrize(
    ("pcm", "fault"),
    [
        (np.zeros(32000, np.int16), "digital silence"),
        (np.full(32000, -7, np.int16), "digital silence"),
        (take(amplitude=150, noise=3), "too quiet"),
        (take(amplitude=60000), "clipped"),
        (take(amplitude=600, noise=400), "no word stands out"),
        (take(amplitude=0, noise=400), "no word stands out"),
        (take(start_s=0.0), "cut off at the beginning"),
        (take(start_s=1.6), "cut off at the end"),
        (take(start_s=0.5, length_s=3.5, total_s=5), "3.5 s long"),
        (np.concatenate([take(), take()]), "said 2 times"),
        (take(length_s=0.02), "a click"),
    ],
)
def test_each_fault_is_told_from_the_others(pcm, fault):
    report = judge_take(pcm)
    assert len(report.faults) == 1
    assert fault in report.faults[0]
    assert not report.good


def test_a_word_that_is_cut_on_both_sides_has_all_its_faults():
    report = judge_take(take(start_s=0, length_s=2))
    assert not report.good


def test_a_gain_that_is_within_limits_changes_nothing_but_the_level():
    loud, soft = judge_take(take(amplitude=12000, noise=20)), judge_take(take())
    assert (loud.start, loud.end, loud.faults) == (soft.start, soft.end, soft.faults)
    assert loud.level_dbfs - soft.level_dbfs == pytest.approx(6.02, abs=0.05)


def test_real_recordings_are_good_and_found_out_when_they_are_cut_through_the_word(real_speech):
    clips = [read_audio(path) for path in sorted(real_speech.glob("wake_words/*/*.wav"))[:36]]
    whole = [(pcm, report) for pcm in clips if (report := judge_take(pcm)).good]
    assert len(whole) >= 0.8 * len(clips) > 9
    cut_late = cut_early = 0
    for pcm, report in whole:
        middle = (report.start + report.end) // 2
        rest = np.concatenate([pcm[middle:], pcm[-4800:]])
        cut_late += any("beginning" in fault for fault in judge_take(rest).faults)
        part = np.concatenate([pcm[:4800], pcm[:middle]])
        cut_early += any("end" in fault for fault in judge_take(part).faults)
    # The middle of a word may be the silence before a plosive.
    assert cut_late >= 0.75 * len(whole)
    assert cut_early >= 0.75 * len(whole)


def test_a_take_that_is_too_short_to_judge_is_refused():
    with pytest.raises(KwsError, match=r"at least 0\.3 s.*0\.10 s"):
        judge_take(np.zeros(1600, np.int16))


@pytest.mark.parametrize("length_s", [0.2, 0.5, 1.4, 2.6])
def test_the_clip_is_the_word_with_a_margin_whatever_its_length(length_s):
    pcm = take(start_s=0.7, length_s=length_s, noise=1, total_s=4)
    report = judge_take(pcm)
    assert report.good
    clip = clip_of(pcm, report)
    assert len(clip) / 16000 == pytest.approx(max(1.0, length_s + 0.6), abs=0.03)
    assert (np.abs(clip.astype(int)) > 3000).sum() == (np.abs(pcm.astype(int)) > 3000).sum()
    loud = np.flatnonzero(np.abs(clip.astype(int)) > 1000)
    assert (loud[0] + loud[-1]) / 2 == pytest.approx(len(clip) / 2, abs=400)


def test_a_take_in_which_no_word_was_found_is_kept_whole_if_at_all():
    pcm = take(amplitude=0, noise=400)
    assert len(clip_of(pcm, judge_take(pcm))) == len(pcm)


def test_a_speaker_is_the_same_however_the_name_is_typed():
    assert speaker_id("Ada Lovelace") == speaker_id("  ada   LOVELACE\n")
    assert speaker_id("Zoe\u0308") == speaker_id("Zo\u00eb")
    assert speaker_id("Ada") != speaker_id("Bob")
    assert len(speaker_id("Ada")) == 8 and int(speaker_id("Ada"), 16) >= 0
    with pytest.raises(KwsError, match="needs a name"):
        speaker_id("  ")


def test_clips_count_up_and_never_replace_one_another(tmp_path):
    pcm = take()[:16000]
    first = save_clip(pcm, "marvin", tmp_path, "abc")
    (tmp_path / "marvin" / "abc_nohash_1.wav").write_bytes(b"somebody's")
    third = save_clip(pcm, "marvin", tmp_path, "abc")
    assert [first.name, third.name] == ["abc_nohash_0.wav", "abc_nohash_2.wav"]
    assert (tmp_path / "marvin" / "abc_nohash_1.wav").read_bytes() == b"somebody's"
    with wave.open(str(first)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)


def record(monkeypatch, answers: str, *arguments: str) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(answers))
    return run(["data", "record", *arguments])


def after_the_count_in(pcm: np.ndarray) -> np.ndarray:
    # 1.5 s of counting in, to the next whole block of 40 ms.
    return np.concatenate([take(amplitude=0, total_s=1.52), pcm])


def test_a_missing_microphone_is_said_before_the_first_question(monkeypatch, capsys, tmp_path):
    install(monkeypatch, FakeInput(name="Mic"))
    assert record(monkeypatch, "", "marvin", "--to", str(tmp_path), "--device", "Other") == 1
    assert capsys.readouterr().err.startswith("kws: No microphone has this text in its name. ")


def test_without_a_folder_takes_go_where_added_recordings_go(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("KWS_DATA", str(tmp_path))
    install(monkeypatch, FakeInput(name="Mic", audio=after_the_count_in(take())))
    assert record(monkeypatch, "\n\n", "marvin", "--count", "1", "--speaker", "Ada") == 0
    kept = Path(capsys.readouterr().out.strip())
    assert kept.parent == tmp_path / "own_words" / "marvin"


def test_the_command_keeps_takes_as_the_speaker_decides(monkeypatch, capsys, tmp_path):
    install(monkeypatch, FakeInput(name="Mic", audio=after_the_count_in(take())))
    # Begin; keep; again; keep.
    arguments = ("marvin", "--to", str(tmp_path), "--count", "2", "--speaker", "Ada")
    assert record(monkeypatch, "\n\nr\n\n", *arguments) == 0
    out, err = capsys.readouterr()
    paths = [Path(line) for line in out.splitlines()]
    assert [path.name for path in paths] == [
        f"{speaker_id('Ada')}_nohash_{n}.wav" for n in range(2)
    ]
    assert paths == sorted((tmp_path / "marvin").glob("*.wav"))
    assert err.count("say 'marvin' now") == 3
    assert err.count("good: -18 dBFS") == 3
    for path in paths:
        pcm = read_audio(path)
        assert len(pcm) / 16000 == pytest.approx(1.1, abs=0.03)
        loud = np.flatnonzero(np.abs(pcm.astype(int)) > 1000)
        assert (loud[0] + loud[-1]) / 2 == pytest.approx(len(pcm) / 2, abs=400)
    assert "marvin: 2 clips by 1 speaker, 0.5" in err
    assert speaker_of(paths[0].name) == speaker_id("Ada")


def test_faulty_takes_are_not_kept_unless_the_speaker_insists(monkeypatch, capsys, tmp_path):
    quiet = take(amplitude=100, noise=2)
    install(monkeypatch, FakeInput(name="Mic", audio=after_the_count_in(quiet)))
    arguments = ("marvin", "--to", str(tmp_path), "--count", "1")
    assert record(monkeypatch, "\n\nq\n", *arguments) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert not list(tmp_path.iterdir())
    assert err.count("too quiet") == 2
    assert record(monkeypatch, "\nk\n", *arguments) == 0
    assert len(list(tmp_path.rglob("*.wav"))) == 1


def test_the_next_session_goes_on_where_the_last_one_stopped(monkeypatch, tmp_path, capsys):
    install(monkeypatch, FakeInput(name="Mic", audio=after_the_count_in(take())))
    for _ in range(2):
        assert record(monkeypatch, "\n\n\nq\n", "go", "--to", str(tmp_path), "-n", "1") == 0
    assert len(list((tmp_path / "go").glob("*.wav"))) == 2
    capsys.readouterr()


def test_each_clip_is_noted_with_its_session_and_stays_with_its_speaker(
    monkeypatch, tmp_path, capsys
):
    install(monkeypatch, FakeInput(name="Mic", audio=after_the_count_in(take())))
    arguments = ("go", "--to", str(tmp_path), "-n", "1", "--speaker", "Ada")
    for session in (["--session", "kitchen, headset"], []):
        assert record(monkeypatch, "\n\n", *arguments, *session) == 0
    capsys.readouterr()
    table = tmp_path / "go" / "recordings.tsv"
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    ada = speaker_id("Ada")
    assert [row["clip"] for row in rows] == [f"{ada}_nohash_{n}.wav" for n in range(2)]
    assert {row["speaker"] for row in rows} == {speaker_of(row["clip"]) for row in rows} == {ada}
    assert rows[0]["session"] == "kitchen, headset"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", rows[1]["session"])
    assert float(rows[0]["level_dbfs"]) == pytest.approx(-17.8, abs=0.5)
    assert float(rows[0]["word_s"]) == pytest.approx(0.5, abs=0.03)
    assert datetime.fromisoformat(rows[0]["recorded"]).tzinfo is not None
    assert scan(tmp_path, cached=False).paths == [f"go/{row['clip']}" for row in rows]


def test_a_longer_word_gets_longer_takes(monkeypatch, capsys, tmp_path):
    long = take(start_s=0.4, length_s=2.2, total_s=3.2)
    install(monkeypatch, FakeInput(name="Mic", audio=after_the_count_in(long)))
    arguments = ("abracadabra", "--to", str(tmp_path), "-n", "1")
    assert record(monkeypatch, "\nq\n", *arguments) == 0
    assert "cut off at the end" in capsys.readouterr().err
    assert record(monkeypatch, "\n\n", *arguments, "--seconds", "3.2") == 0
    (clip,) = tmp_path.rglob("*.wav")
    assert len(read_audio(clip)) / 16000 == pytest.approx(2.8, abs=0.03)
    assert record(monkeypatch, "\n", *arguments, "--seconds", "0.5") == 2


@pytest.mark.parametrize("session", ["", "a\tb", "x" * 65])
def test_a_session_that_does_not_fit_a_table_is_one_line(monkeypatch, capsys, tmp_path, session):
    install(monkeypatch, FakeInput(name="Mic"))
    assert record(monkeypatch, "", "go", "--to", str(tmp_path), "--session", session) == 1
    assert capsys.readouterr().err.startswith("kws: A session's name is one line")


def test_somebody_elses_table_is_not_written_into(monkeypatch, capsys, tmp_path):
    install(monkeypatch, FakeInput(name="Mic", audio=after_the_count_in(take())))
    table = tmp_path / "go" / "recordings.tsv"
    table.parent.mkdir()
    table.write_text("my\town\n")
    assert record(monkeypatch, "\n\n", "go", "--to", str(tmp_path)) == 1
    assert "is a different table" in capsys.readouterr().err
    assert table.read_text() == "my\town\n" and not list(tmp_path.rglob("*.wav"))


def test_a_table_whose_last_line_somebody_left_open_gets_a_new_line(monkeypatch, tmp_path):
    install(monkeypatch, FakeInput(name="Mic", audio=after_the_count_in(take())))
    arguments = ("go", "--to", str(tmp_path), "-n", "1", "--speaker", "Ada")
    table = tmp_path / "go" / "recordings.tsv"
    assert record(monkeypatch, "\n\n", *arguments) == 0
    mark = "\ufeff"
    for n, begin in ((2, ""), (3, mark)):
        table.write_text(begin + table.read_text("utf-8").rstrip("\n"), "utf-8")
        assert record(monkeypatch, "\n\n", *arguments) == 0
        with table.open(encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        assert [row["clip"] for row in rows] == [
            f"{speaker_id('Ada')}_nohash_{i}.wav" for i in range(n)
        ]


def test_a_table_in_another_encoding_is_one_line_before_anybody_speaks(
    monkeypatch, capsys, tmp_path
):
    install(monkeypatch, FakeInput(name="Mic", audio=after_the_count_in(take())))
    arguments = ("go", "--to", str(tmp_path), "-n", "1", "--session", "Küche")
    assert record(monkeypatch, "\n\n", *arguments) == 0
    table = tmp_path / "go" / "recordings.tsv"
    latin = table.read_text("utf-8").encode("latin-1")
    table.write_bytes(latin)
    capsys.readouterr()
    assert record(monkeypatch, "\n\n", *arguments) == 1
    err = capsys.readouterr().err
    assert "is not UTF-8 text. Received: the byte 0xfc in line 2" in err and err.count("\n") == 1
    assert table.read_bytes() == latin and len(list(tmp_path.rglob("*.wav"))) == 1


def test_a_take_is_noted_also_in_a_table_that_was_spoilt_meanwhile(monkeypatch, tmp_path):
    install(monkeypatch, FakeInput(name="Mic", audio=after_the_count_in(take())))
    table = tmp_path / "go" / "recordings.tsv"

    def ask(question: str) -> str:
        if table.exists():
            table.write_bytes(table.read_bytes().rstrip(b"\n") + " Küche".encode("latin-1"))
        return "\n"

    told = {"count": 2, "speaker": "ada", "session": "x", "ask": ask, "say": lambda _: None}
    kept = record_word("go", tmp_path, **told)
    lines = table.read_bytes().splitlines()
    assert [line.split(b"\t")[0].decode() for line in lines[1:]] == [path.name for path in kept]
    assert b" K\xfcche" in lines[1]


def test_a_user_without_a_name_is_asked_for_one(monkeypatch, capsys, tmp_path):
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert run(["data", "record", "yes", "--to", str(tmp_path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "uid not found: 4711" in line and "--speaker" in line


def test_nobody_at_the_keyboard_ends_it_with_what_was_kept(monkeypatch, capsys, tmp_path):
    install(monkeypatch, FakeInput(name="Mic", audio=after_the_count_in(take())))
    assert record(monkeypatch, "\n\n", "go", "--to", str(tmp_path)) == 0
    assert len(list(tmp_path.rglob("*.wav"))) == 1
    assert "end of input" in capsys.readouterr().err


def test_a_closed_stdin_is_nobody_at_the_keyboard(monkeypatch, capsys, tmp_path):
    install(monkeypatch, FakeInput(name="Mic"))
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(SystemExit, match="0"):
        main(["data", "record", "go", "--to", str(tmp_path)])
    assert "end of input" in capsys.readouterr().err


def test_bad_words_and_missing_microphones_are_one_line(monkeypatch, capsys, tmp_path):
    install(monkeypatch, default=None)
    assert record(monkeypatch, "\n", "go", "--to", str(tmp_path)) == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith("the group 'audio')")
    assert record(monkeypatch, "\n", "../go", "--to", str(tmp_path)) == 1
    assert capsys.readouterr().err.count("\n") == 1
