"""`kws data add`: recordings are cut to the word, and it is said what was cut and what was not."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
import pytest
import tiny_model
from test_find_words import recording

from kws.audio.files import read_audio, write_wav
from kws.cli import run
from kws.data.recording.lengths import word_lengths
from kws.data.recording.record import judge_take
from kws.data.recording.word_clips import WordFolder, cut_other_speech, cut_words
from kws.data.scan import scan
from kws.data.split import TRAINING, speaker_of, split_of
from kws.errors import KwsError
from kws.recordings.word_times import WordTimes, word_times
from kws.spotter import Spotter

RATE = 16000
SESSION = recording(
    (1, 0.5, 6000),
    (2.2, 0.6, 5000),
    (3.5, 0.5, 8000),
    (4.6, 0.1, 6000),
    (5.5, 0.6, 6000),
    seconds=7,
)


def add(*arguments: str) -> int:
    return run(["data", "add", *arguments, "--to", "words"])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def clips(folder: Path) -> list[Path]:
    return sorted((folder / "words").rglob("*.wav"))


def test_a_recording_is_cut_to_its_word_from_its_own_samples(here, capsys):
    pcm = recording((1.2, 0.6, 6000))
    write_wav("long.wav", pcm)
    assert add("computer", "long.wav") == 0
    out, err = capsys.readouterr()
    (clip,) = clips(here)
    samples = read_audio(clip)
    assert len(samples) == pytest.approx(1.2 * RATE, abs=400)
    start = round(0.9 * RATE)
    near = range(start - 400, start + 400)
    assert any(np.array_equal(samples, pcm[at : at + len(samples)]) for at in near)
    found = re.search(
        r"\((\d\.\d\d)-(\d\.\d\d) s of long.wav, word (\d\.\d\d) s at -17 dBFS\)", out
    )
    assert found and [float(x) for x in found.groups()] == pytest.approx([0.9, 2.1, 0.6], abs=0.03)
    assert re.search(r"computer: 1 clip by 1 speaker, 0\.6\d s median, 0\.6\d s longest", err)


def test_of_several_words_the_strongest_is_taken_and_the_others_are_named(here, capsys):
    write_wav("session.wav", SESSION)
    assert add("computer", "session.wav") == 0
    out, err = capsys.readouterr()
    assert len(clips(here)) == 1
    assert "(3.20-4.30 s" in out or "(3.19-4.30 s" in out
    assert "note: left out of session.wav: 0.99-1.5" in err and "--several" in err


def test_several_cuts_all_that_are_alike_as_one_speaker(here, capsys):
    write_wav("session.wav", SESSION)
    assert add("computer", "session.wav", "--several") == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 4
    assert "note: left out of session.wav: 4.59-4.71 s; they differ from the others" in err
    names = [path.name for path in clips(here)]
    assert [name.split("_nohash_")[1] for name in names] == [f"{n}.wav" for n in range(4)]
    assert len({speaker_of(name) for name in names}) == 1
    assert add("computer", "session.wav", "--several") == 0
    assert capsys.readouterr().out.count("already there: ") == 4
    assert len(clips(here)) == 4


def test_dry_run_writes_nothing_and_names_the_clips_that_there_would_be(here, capsys):
    write_wav("session.wav", SESSION)
    assert add("computer", "session.wav", "--several", "--dry-run") == 0
    said = capsys.readouterr().out.splitlines()
    assert not (here / "words").exists()
    assert add("computer", "session.wav", "--several") == 0
    written = capsys.readouterr().out.splitlines()
    assert [line.replace("would add", "added") for line in said] == written


def test_the_same_recordings_are_not_added_again_under_another_speakers_name(here, capsys):
    write_wav("session.wav", SESSION)
    assert add("computer", "session.wav", "--several") == 0
    before = clips(here)
    capsys.readouterr()
    for dry_run in (["--dry-run"], []):
        assert add("computer", "session.wav", "--several", "--speaker", "ada", *dry_run) == 0
        out, err = capsys.readouterr()
        for line, clip in zip(out.splitlines(), before, strict=True):
            assert line.startswith(f"already there: {clip.relative_to(here)} (")
        (note,) = [line for line in err.splitlines() if line.startswith("note: already there")]
        assert "under another speaker's name" in note and "4 clips in words/computer" in note
        assert before[0].name in note and "keep" in note and "delete" in note
        assert clips(here) == before
    for clip in before:
        clip.unlink()
    assert add("computer", "session.wav", "--several", "--speaker", "ada") == 0
    assert [clip.name for clip in clips(here)] == [f"ada_nohash_{n}.wav" for n in range(4)]
    capsys.readouterr()
    assert add("computer", "session.wav", "--several", "--speaker", "ada") == 0
    assert "another speaker" not in capsys.readouterr().err


def test_a_clip_that_is_there_twice_under_two_speakers_names_is_said(here, capsys):
    write_wav("words/computer/ada_nohash_0.wav", recording((1.2, 0.6, 6000)))
    write_wav("words/computer/bob_nohash_3.wav", recording((1.2, 0.6, 6000)))
    write_wav("a.wav", recording((1.2, 0.6, 6000)))
    assert add("computer", "a.wav", "--whole", "--speaker", "ada") == 0
    assert "(bob_nohash_3.wav)" in capsys.readouterr().err
    assert len(clips(here)) == 2


def test_a_dry_run_counts_equal_recordings_once_like_the_run_itself(here, capsys):
    write_wav("a.wav", recording((1.2, 0.6, 6000)))
    write_wav("b.wav", recording((1.2, 0.6, 6000)))
    for dry_run, first in ((["--dry-run"], "would add"), ([], "added")):
        assert add("computer", "a.wav", "b.wav", "--speaker", "ada", *dry_run) == 0
        said = capsys.readouterr().out.splitlines()
        assert [line.split(":")[0] for line in said] == [first, "already there"]
    assert len(clips(here)) == 1


def test_clips_that_are_there_are_read_once_at_most_and_only_where_the_size_fits(
    tmp_path, monkeypatch
):
    for i in range(20):
        write_wav(tmp_path / f"go/s{i}_nohash_0.wav", np.full(16000 + i // 10, i, np.int16))
    read = []
    original = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or original(path))
    folder = WordFolder(tmp_path, "go")
    for i in range(100, 150):
        assert folder.holding(np.full(16001, i, np.int16)) == []
        folder.add(np.full(16001, i, np.int16), "ada")
    assert folder.holding(np.full(16001, 120, np.int16)) == [tmp_path / "go/ada_nohash_20.wav"]
    assert folder.holding(np.full(16001, 12, np.int16)) == [tmp_path / "go/s12_nohash_0.wav"]
    assert sorted(read) == [tmp_path / f"go/s{i}_nohash_0.wav" for i in range(10, 20)]


def test_the_picture_is_drawn_also_of_a_dry_run_and_of_what_was_refused(here, capsys):
    pytest.importorskip("matplotlib")
    write_wav("session.wav", SESSION)
    write_wav("noise.wav", recording(noise=300))
    files = ["session.wav", "noise.wav"]
    assert add("computer", *files, "--several", "--dry-run", "--plot", "cuts.png") == 1
    assert (here / "cuts.png").read_bytes().startswith(b"\x89PNG")
    assert not (here / "words").exists()
    assert add("computer", "session.wav", "--plot", "cuts.txt") == 1
    assert "must end in .png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("amplitude", "cut_as", "said"),
    [
        (90_000, [], "clipped: "),
        (90_000, ["--whole"], "clipped: "),
        (60, [], "too quiet (-5"),
        (6000, [], ""),
    ],
)
def test_a_word_that_record_would_refuse_for_its_level_is_added_and_said(
    here, capsys, amplitude, cut_as, said
):
    pcm = recording((1.2, 0.6, amplitude), noise=2)
    write_wav("a.wav", pcm)
    assert add("computer", "a.wav", *cut_as) == 0
    assert len(clips(here)) == 1
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    if not said:
        assert not notes
        return
    (note,) = notes
    assert re.match(r"note: a\.wav, \d\.\d\d-\d\.\d\d s, is ", note)
    assert said in note and said.split("(")[0] in judge_take(pcm).faults[0]


def test_other_speech_may_have_any_level(here, capsys):
    write_wav("far.wav", recording((0.5, 1.2, 60), seconds=2, noise=2))
    assert add("_unknown_", "far.wav") == 0
    assert "note: " not in capsys.readouterr().err


def test_running_speech_is_no_word_unless_it_is_allowed(here, capsys):
    write_wav("speech.wav", recording((1, 3.5, 6000), seconds=6))
    assert add("computer", "speech.wav") == 1
    assert "3.5 s of continuous speech from 1.0 s on" in capsys.readouterr().err
    assert add("computer", "speech.wav", "--longest", "4") == 0
    (clip,) = clips(here)
    assert len(read_audio(clip)) == pytest.approx(4.1 * RATE, abs=400)


def test_a_pause_may_be_part_of_a_phrase(here, capsys):
    write_wav("phrase.wav", recording((1, 0.4, 6000), (1.8, 0.5, 6000)))
    assert add("hey computer", "phrase.wav", "--pause", "0.5") == 0
    assert "word 1.3" in capsys.readouterr().out


def damaged(folder: Path) -> dict[str, str]:
    """Files of which nothing can come, and what is said about each."""
    word = recording((1.2, 0.6, 6000))
    write_wav(folder / "good.wav", word)
    whole = (folder / "good.wav").read_bytes()
    (folder / "cut_off.wav").write_bytes(whole[:-30000])
    (folder / "empty.wav").write_bytes(b"")
    (folder / "folder.wav").mkdir()
    write_wav(folder / "silence.wav", np.zeros(48000, np.int16))
    write_wav(folder / "noise.wav", recording(noise=400))
    floats = np.full(16000, np.nan, "<f4").tobytes()
    head = struct.pack(
        "<4sI4s4sIHHIIHH",
        b"RIFF",
        36 + len(floats),
        b"WAVE",
        b"fmt ",
        16,
        3,
        1,
        *(RATE, 4 * RATE, 4, 32),
    )
    (folder / "nan.wav").write_bytes(head + struct.pack("<4sI", b"data", len(floats)) + floats)
    return {
        "cut_off.wav": "Received",
        "empty.wav": "0 bytes",
        "folder.wav": "the folder",
        "silence.wav": "only silence",
        "noise.wav": "contains no word that stands out",
        "nan.wav": "not numbers",
        "missing.wav": "does not exist",
    }


def test_each_bad_file_is_refused_in_a_line_of_its_own_and_the_good_one_is_added(here, capsys):
    bad = damaged(here)
    assert add("computer", *bad, "good.wav") == 1
    out, err = capsys.readouterr()
    refused = [line for line in err.splitlines() if line.startswith("refused: ")]
    assert len(refused) == len(bad)
    for line, (name, why) in zip(refused, bad.items(), strict=True):
        assert name in line and why in line
    assert len(out.splitlines()) == len(clips(here)) == 1
    assert "7 of 8 recordings were refused" in err
    assert [path.name for path in (here / "words").rglob(".*")] == []


@pytest.mark.parametrize("rate", [8000, 44100])
def test_other_rates_and_stereo_give_the_same_cut(here, rate):
    soxr = pytest.importorskip("soxr")
    sound = soxr.resample(recording((1.2, 0.6, 6000)).astype(np.float64) / 32768, RATE, rate)
    stereo = np.repeat(np.rint(sound * 32767).astype("<i2"), 2).tobytes()
    head = struct.pack(
        "<4sI4s4sIHHIIHH",
        b"RIFF",
        36 + len(stereo),
        b"WAVE",
        b"fmt ",
        16,
        1,
        2,
        *(rate, 4 * rate, 4, 16),
    )
    Path("stereo.wav").write_bytes(head + struct.pack("<4sI", b"data", len(stereo)) + stereo)
    assert add("computer", "stereo.wav") == 0
    (clip,) = clips(here)
    assert len(read_audio(clip)) == pytest.approx(1.2 * RATE, abs=500)


def test_a_full_disk_is_one_line_and_leaves_no_piece(here, capsys, monkeypatch):
    write_wav("good.wav", recording((1.2, 0.6, 6000)))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kws.system.files.os.fsync", full)
    assert add("computer", "good.wav") == 1
    assert re.fullmatch(
        r"kws: the disk is full: could not write .*\.wav.*\n", capsys.readouterr().err
    )
    assert [path for path in (here / "words").rglob("*") if path.is_file()] == []


# ---- with a model


@pytest.fixture
def model(here: Path) -> str:
    return str(tiny_model.write_tiny(here / "m.tflite"))


def test_a_model_says_which_of_the_words_it_is(here, capsys, model, monkeypatch):
    write_wav("session.wav", SESSION)
    heard = WordTimes(times_s=(1.6, 2.9, 5.9), scores=(0.9, 0.5, 0.95), threshold=0.8, peak=0.95)
    monkeypatch.setattr("kws.recordings.word_times.word_times", lambda *_, **__: iter([heard]))
    assert add("yes", "session.wav", "--model", model) == 0
    assert "(5.2" in capsys.readouterr().out
    assert add("yes", "session.wav", "--model", model, "--several") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("added: ") and "(0.69" in first
    assert second.startswith("already there: ") and "(5.2" in second


def test_a_word_that_the_model_does_not_hear_is_said_with_what_it_heard(
    here, capsys, model, monkeypatch
):
    write_wav("session.wav", SESSION)
    heard = WordTimes(times_s=(), scores=(), threshold=0.8, peak=0.21)
    monkeypatch.setattr("kws.recordings.word_times.word_times", lambda *_, **__: iter([heard]))
    assert add("yes", "session.wav", "--model", model) == 1
    assert (
        "does not detect 'yes' in session.wav. Received: a posterior of at most 0.21"
        in capsys.readouterr().err
    )
    assert clips(here) == []


def test_a_model_without_the_word_is_refused_before_any_work(here, capsys, model):
    assert add("computer", "missing.wav", "--model", model) == 1
    assert "'computer' is not a keyword of" in capsys.readouterr().err


def test_times_are_where_the_smoothed_posterior_is_highest(here, model):
    rng = np.random.default_rng(3)
    pcm = np.repeat(rng.uniform(50, 6000, 50), 3200) * rng.normal(0, 1, 160000)
    pcm = np.clip(pcm, -32768, 32767).astype(np.int16)
    write_wav("sound.wav", pcm)
    (found,) = word_times(model, "yes", ["sound.wav"])
    spotter = Spotter(model)
    spotter.feed(pcm)
    yes = spotter.posteriors[:, spotter.card.labels.index("yes")].astype(np.float64)
    steps = round(spotter.card.decision.smoothing_ms / spotter.card.step_ms)
    smooth = np.array([yes[max(0, k - steps + 1) : k + 1].sum() / steps for k in range(len(yes))])
    assert found.peak == pytest.approx(smooth.max())
    for time_s, score in zip(found.times_s, found.scores, strict=True):
        at = int(np.argmin(np.abs(spotter.step_times_s - time_s)))
        assert smooth[at] == pytest.approx(score)
        assert score >= 0.5 * found.threshold
        assert score >= smooth[max(0, at - 1) : at + 2].max() - 1e-9
    assert (len(found.times_s) > 0) == (smooth.max() >= 0.5 * found.threshold)


def test_real_words_among_sentences_are_cut_where_the_model_hears_them(here, real_speech):
    rng = np.random.default_rng(0)
    sentences = [read_audio(p) for p in sorted(real_speech.glob("sentences/*/*.wav"))[:12]]
    right = tried = 0
    for clip in sorted(real_speech.glob("speech_commands/stop/*.wav"))[:10]:
        before, after = (sentences[k] for k in rng.choice(len(sentences), 2, replace=False))
        gap = np.zeros(RATE // 3, np.int16)
        write_wav("mixed.wav", np.concatenate([before, gap, read_audio(clip), gap, after]))
        assert run(["data", "add", "stop", "mixed.wav", "-m", "commands_en", "--to", "w"]) in (0, 1)
        tried += 1
        start = (len(before) + len(gap)) / RATE
        found = sorted(Path("w").rglob("*.wav"), key=lambda path: path.stat().st_mtime_ns)
        if len(found) > right:
            samples, pcm = read_audio(found[-1]), read_audio("mixed.wav")
            view = np.lib.stride_tricks.sliding_window_view(pcm, 64)
            at = int(np.flatnonzero((view == samples[:64]).all(axis=1))[0]) / RATE
            right += start - 0.5 < at < start + 0.9
    assert tried == 10 and right >= 7


# ---- what is none of the words


def test_false_activations_become_other_speech_for_training_in_seconds_and_whole(here, capsys):
    for i in range(12):
        write_wav(f"kept{i}.wav", recording((0.5 + i / 50, 1.2, 5000), seconds=2))
    assert add("_unknown_", *(f"kept{i}.wav" for i in range(12))) == 0
    index = scan("words", cached=False)
    assert index.labels == ("_unknown_",) and len(index) == 48
    lengths = [len(read_audio(here / "words" / path)) for path in index.paths]
    assert (lengths.count(RATE), lengths.count(2 * RATE)) == (36, 12)
    assert {split_of(path) for path in index.paths} == {TRAINING}
    assert "_unknown_: " not in capsys.readouterr().err


def test_other_speech_has_no_clips_of_its_pauses_and_is_not_endless():
    pcm = recording((0.2, 0.7, 5000), seconds=4, noise=2)
    cuts = [(cut.start, cut.end) for cut in cut_other_speech("x.wav", pcm)]
    assert cuts == [(0, RATE), (8000, 8000 + RATE), (0, 4 * RATE)]
    assert [(c.start, c.end) for c in cut_other_speech("x.wav", pcm[:9000])] == [(0, 9000)]
    long = recording((0.2, 9, 5000), seconds=10, noise=2)
    cuts = [(c.start / RATE, c.end / RATE) for c in cut_other_speech("x.wav", long)]
    assert [cut for cut in cuts if cut[1] - cut[0] > 1] == [(0, 4), (2, 6), (4, 8), (6, 10)]
    with pytest.raises(KwsError, match=r"61 s, at most 60 s.*kws mine"):
        cut_other_speech("x.wav", np.ones(61 * RATE, np.int16))


# ---- how long a word lasts


def test_lengths_are_those_of_the_words_and_not_of_the_clips(here):
    for i, length in enumerate((0.3, 0.5, 0.7, 0.9, 1.3)):
        write_wav(f"words/fan/p{i % 3}_nohash_{i}.wav", recording((0.8, length, 6000)))
    write_wav("words/fan/p9_nohash_0.wav", recording(noise=300))
    Path("words/fan/recordings.tsv").write_text("clip\n")
    Path("words/fan/p8_nohash_0.wav").write_bytes(b"broken")
    found = word_lengths("words", "fan")
    assert (found.clips, found.speakers, found.measured) == (7, 5, 5)
    assert found.median_s == pytest.approx(0.7, abs=0.03)
    assert found.longest_s == pytest.approx(1.3, abs=0.03)
    assert found.p95_s == pytest.approx(0.9 + 0.8 * 0.4, abs=0.05)
    assert str(found).startswith("fan: 7 clips by 5 speakers, 0.7")
    with pytest.raises(KwsError, match="no clips of 'lamp' in words"):
        word_lengths("words", "lamp")


def test_nothing_found_where_the_model_heard_it_is_refused():
    with pytest.raises(KwsError, match="stands out"):
        cut_words("x.wav", np.zeros(RATE, np.int16), [], times_s=[0.5])
