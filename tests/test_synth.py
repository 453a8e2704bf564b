from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
import wave
from pathlib import Path

import numpy as np
import pytest

from kws.data.split import speaker_of, split_of
from kws.errors import KwsError

pytest.importorskip("espeakng_loader")
pytest.importorskip("soxr")

from kws.audio.files import read_audio
from kws.cli import run
from kws.data.synthesis.espeak import Utterance
from kws.data.synthesis.rooms import Rooms
from kws.data.synthesis.spoken_clips import labelled_texts
from kws.data.synthesis.spoken_words import synthesise
from kws.data.synthesis.synth import render, speak
from kws.data.synthesis.voices import find_voice, random_utterance, voices


def pitch_hz(pcm: np.ndarray) -> float:
    """Fundamental of a voiced sound: the strongest peak of the autocorrelation, 60–400 Hz."""
    middle = pcm[len(pcm) // 4 : len(pcm) * 3 // 4].astype(float)
    correlation = np.correlate(middle, middle, "full")[len(middle) - 1 :]
    lags = np.arange(16000 // 400, 16000 // 60)
    return 16000 / lags[np.argmax(correlation[lags])]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.wav"))}


def test_a_word_is_sound_without_silence_around_it():
    pcm = speak("marvin", "en-us+m3")
    assert pcm.dtype == np.int16 and pcm.ndim == 1
    assert 0.3 < len(pcm) / 16000 < 0.8
    peak = np.abs(pcm.astype(int)).max()
    assert peak > 3000
    for end in (pcm[:400], pcm[-400:]):
        assert np.abs(end.astype(int)).max() > peak / 400


def test_speed_and_pitch_do_what_they_say():
    slow, fast = (speak("marvin", rate_wpm=rate) for rate in (100, 250))
    assert 1.8 < len(slow) / len(fast) < 3
    low, high = (
        pitch_hz(speak("[[a:::]]", "en-us", pitch=pitch, pitch_range=0)) for pitch in (20, 80)
    )
    assert high > 1.3 * low
    woman, man = (pitch_hz(speak("[[a:::]]", f"en-us+{name}")) for name in ("f2", "m1"))
    assert woman > 1.4 * man


def test_phonemes_say_the_word_that_they_spell():
    spelt, written = speak("[[h@l'oU]]", pitch_range=0), speak("hello", pitch_range=0)
    assert len(spelt) == pytest.approx(len(written), rel=0.02)
    assert len(speak("[[h@l'oU h@l'oU]]")) > 1.6 * len(spelt)


def test_accents_and_languages_differ():
    assert {voice.language for voice in voices("en")} >= {
        *("en-us", "en-gb", "en-029", "en-gb-scotland")
    }
    assert {voice.language for voice in voices(["de", "fr"])} >= {"de", "fr-fr"}
    german, english = (speak("Stadt", name, pitch_range=0) for name in ("de", "en-us"))
    assert abs(len(german) - len(english)) > 200
    assert len(speak("привет", "ru")) > 3000
    assert all("shaw" not in voice.language for voice in voices("en"))


def test_effects_are_left_out_unless_asked_for():
    assert not any("robo" in voice.speaker or "whisper" in voice.speaker for voice in voices())
    assert any(voice.variant == "whisper" for voice in voices(effects=True))


def test_every_english_voice_says_something():
    pool = [voice for voice in voices("en-us") if voice.language == "en-us"]
    for pcm in render([Utterance(text="yes", voice=voice) for voice in pool]):
        assert 0.15 < len(pcm) / 16000 < 1.0
        assert np.abs(pcm.astype(int)).max() > 1000


def test_render_repeats_exactly_whatever_the_number_of_workers_and_what_was_said_before():
    rng = np.random.default_rng(4)
    pool = voices("en")
    some = [random_utterance(word, pool, rng) for word in ("yes", "no", "stop") * 90]
    speak("something else before")
    one, two = render(some, workers=1), render(some, workers=2)
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert len({pcm.tobytes() for pcm in one}) == len(some)


def test_clips_of_short_words_are_one_second_and_named_by_speaker(tmp_path):
    paths = synthesise(["yes", "no no"], tmp_path, clips_per_word=12, workers=1)
    record = tmp_path / "spoken.tsv"
    assert sorted([*paths, record]) == sorted(tmp_path.rglob("*.*"))
    assert {path.parent.name for path in paths} == {"yes", "no no"}
    starts = []
    for path in paths:
        with wave.open(str(path)) as clip:
            assert (clip.getframerate(), clip.getnchannels(), clip.getsampwidth()) == (16000, 1, 2)
            pcm = np.frombuffer(clip.readframes(16001), "<i2")
        assert len(pcm) == 16000
        loud = np.flatnonzero(pcm)
        starts.append(int(loud[0]))
        assert speaker_of(path.name).startswith("espeak-")
    assert np.std(starts) > 800  # The word is not always at the same place.


def test_clips_hold_the_longest_word_whole_and_have_one_length(tmp_path):
    paths = synthesise(["yes", "hey incomprehensible robot"], tmp_path, clips_per_word=40)
    clips = [read_audio(path) for path in paths]
    lengths = {len(pcm) for pcm in clips}
    assert len(lengths) == 1
    spans = [np.ptp(np.flatnonzero(pcm)) + 1 for pcm in clips]
    # Of 40 the slowest are measured: nothing had to be hurried, and there is little to spare.
    assert max(spans) + 1600 <= lengths.pop() <= max(spans) + 3200 + 160


def test_clips_in_rooms_hold_the_word_and_fade_out_where_its_tail_is_cut(tmp_path):
    def clips(where: str, share: float, clip_seconds: float) -> list[np.ndarray]:
        rooms = Rooms(share=share, count=10, seed=3)
        paths = synthesise(
            ["yes"], tmp_path / where, clips_per_word=40, clip_seconds=clip_seconds, rooms=rooms
        )
        return [read_audio(path).astype(int) for path in paths]

    dry, wet, tight = clips("dry", 0, 1.0), clips("wet", 1, 1.0), clips("tight", 1, 0.6)
    spans = [[np.ptp(np.flatnonzero(np.abs(c) > 30)) for c in some] for some in (dry, wet)]
    assert np.median(spans[1]) > np.median(spans[0]) + 1000  # Reverberation.
    for some, length in ((wet, 16000), (tight, 9600)):
        assert {len(one) for one in some} == {length}
        assert all(one[-1] == 0 for one in some)
        levels = [20 * np.log10(np.abs(one).max() / 32767) for one in some]
        assert min(levels) > -18.1 and max(levels) < -0.9
        # The word is not always at the same place.
        assert np.std([np.flatnonzero(one)[0] for one in some]) > 400


def test_varied_voices_go_further_pause_between_words_and_some_whisper():
    rng = np.random.default_rng(0)
    pool = voices("en")
    usual, varied = (
        [random_utterance("hey computer", pool, rng, varied=varied) for _ in range(500)]
        for varied in (False, True)
    )
    for name in ("pitch", "pitch_range", "rate_wpm", "word_gap_ms"):
        values = [[getattr(u, name) for u in some] for some in (usual, varied)]
        assert np.ptp(values[1]) > 1.15 * np.ptp(values[0]), name
    whispering = {v.speaker for v in voices("en", whispers=True)} - {v.speaker for v in pool}
    assert whispering == {"espeak-whisper", "espeak-whisperf"}
    together, apart = (
        Utterance(text="hey computer", voice=find_voice("en-us"), word_gap_ms=gap)
        for gap in (0, 200)
    )
    short, long = (len(pcm) / 16000 for pcm in render([together, apart]))
    assert 0.1 < long - short < 0.35


def test_a_length_that_was_asked_for_is_kept(tmp_path):
    paths = synthesise(["incomprehensible"], tmp_path, clips_per_word=4, clip_seconds=0.8)
    assert {len(read_audio(path)) for path in paths} == {12800}


def test_the_split_by_speaker_separates_the_voices(tmp_path):
    paths = synthesise(["go"], tmp_path, clips_per_word=250)
    parts = {
        part: [p for p in paths if split_of(p.name) == part]
        for part in ("training", "validation", "testing")
    }
    assert all(len(part) >= 10 for part in parts.values())
    # One speaker is one throat in every accent.
    assert find_voice("en-us+m3").speaker == find_voice("en-gb-scotland+m3").speaker == "espeak-m3"


def test_the_seed_decides_what_is_written(tmp_path):
    for name, seed, workers in (("a", 1, 1), ("b", 1, 2), ("c", 2, 1)):
        synthesise(["up", "down"], tmp_path / name, clips_per_word=6, seed=seed, workers=workers)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert not set(contents(tmp_path / "a").values()) & set(contents(tmp_path / "c").values())


def test_more_clips_or_words_leave_names_and_voices_of_the_others_as_they_were(tmp_path):
    few = {p.name for p in synthesise(["up"], tmp_path / "few", clips_per_word=5)}
    more = {p.name for p in synthesise(["left", "up"], tmp_path / "more", clips_per_word=9)}
    assert few < more


def test_a_long_word_is_spoken_faster_to_fit_and_refused_when_it_cannot():
    word = "incomprehensibilities"
    assert len(speak(word, rate_wpm=120)) > 16000
    assert len(speak(word, rate_wpm=120, longest_samples=16000)) <= 16000
    with pytest.raises(KwsError, match=r"longer than a clip of 0\.5 s"):
        speak(word, longest_samples=8000)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"text": ""}, "nothing to say"),
        ({"text": "!?"}, "nothing to say"),
        ({"text": "[[ ]]"}, "nothing to say"),
        ({"text": "[[_:]]"}, "says nothing"),
        ({"text": "[[h@l§oU]]"}, "en-us has no phoneme at '§oU'"),
        ({"text": "yes [[lymj'Er]]"}, "en-us has no phoneme at .ymj'Er"),
        ({"text": "привет"}, "--language"),
        ({"text": "yes", "voice": "klingon"}, "No voice speaks this language.*'klingon'.*de, "),
        ({"text": "yes", "voice": "en-us+bob"}, "Unknown variant.*'en-us.bob'.*m3"),
        ({"text": "yes", "pitch": 100}, "pitch must be 0 to 99.*100"),
        ({"text": "yes", "rate_wpm": 20}, "rate_wpm must be"),
    ],
)
def test_what_cannot_be_said_is_refused_in_one_line(arguments, says):
    with pytest.raises(KwsError, match=says) as caught:
        speak(**arguments)
    assert "\n" not in str(caught.value)


def test_a_fault_in_a_worker_reaches_the_caller_as_the_same_line(tmp_path):
    with pytest.raises(KwsError, match=r"longer than a clip of 0\.2 s"):
        synthesise(["yes", "incomprehensibilities"], tmp_path, clips_per_word=2, clip_seconds=0.2)


def test_labels_may_have_another_text_but_must_be_names_of_folders():
    assert labelled_texts(["yes", " hello=[[h@l'oU]]"]) == {"yes": "yes", "hello": "[[h@l'oU]]"}
    for bad in (["a/b"], [".."], [""], ["_silence_"], [], ["yes", "Yes"], ["[[h@l'oU]]"]):
        with pytest.raises(KwsError):
            labelled_texts(bad)


def test_missing_espeak_names_the_extra():
    code = """
        import sys
        sys.modules["espeakng_loader"] = None
        from kws.cli import main
        main(["data", "synth", "yes", "--to", "nowhere"])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "kws[synth]" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_deep_environment_does_not_overflow_espeaks_path_buffer(tmp_path):
    import espeakng_loader

    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    (deep / "data").symlink_to(espeakng_loader.get_data_path())
    code = f"""
        import espeakng_loader
        espeakng_loader.get_data_path = lambda: {str(deep / "data")!r}
        from kws.data.synthesis.synth import speak
        print(len(speak("yes")))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
    )
    assert done.stderr == ""
    assert int(done.stdout) > 3000


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_stops_at_once_with_one_line_and_leaves_whole_files_only(tmp_path):
    command = "from kws.cli import main; main()"
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", command),
            *("data", "synth", "yes", "--count", "20000", "--to", str(tmp_path / "out")),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 30
    while not list(tmp_path.rglob("*.wav")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # As a terminal does: to the workers as well.
    _, said = process.communicate(timeout=10)
    assert process.returncode == 130
    assert said.strip().splitlines()[-1] == "kws: interrupted"
    assert "Traceback" not in said
    assert not list(tmp_path.rglob("*.part"))
    assert len({path.stat().st_size for path in tmp_path.rglob("*.wav")}) == 1


def test_the_command_writes_clips_and_says_what_they_are_worth(tmp_path, capsys):
    assert run(["data", "synth", "yes", "no", "--to", str(tmp_path), "--count", "3"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [f"{tmp_path / word}: 3 clips" for word in ("yes", "no")]
    assert "6 clips" in err and "cannot replace real" in err
    assert len(list(tmp_path.rglob("*.wav"))) == 6
    assert run(["data", "synth", "go", "--to", str(tmp_path), "--count", "1"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'go'}: 1 clip\n"
    assert err.startswith("wrote 1 clip by 1 voice in ")


def test_the_command_tells_bad_usage_from_failed_work(tmp_path, capsys):
    assert run(["data", "synth", "yes"]) == 2
    assert run(["data", "synth", "yes", "--to", str(tmp_path), "--count", "0"]) == 2
    assert run(["data", "synth", "--to", str(tmp_path)]) == 2
    assert run(["data", "synth", "yes", "--to", str(tmp_path), "--language", "xx"]) == 1
    assert capsys.readouterr().err.count("\n") == 4
    assert run(["data", "synth", "--list-languages"]) == 0
    assert {"de", "en-us", "en-gb-scotland"} <= set(capsys.readouterr().out.split())


def test_a_crash_of_the_c_library_is_one_error_and_not_a_hang(monkeypatch):
    monkeypatch.setattr(
        "kws.data.synthesis.synth._WORKER",
        "import os; os.read(0, 9); os.write(1, b'\\x10\\0\\0\\0abc')",
    )
    with pytest.raises(
        KwsError, match=r"espeak-ng died while speaking.*'yes' with the voice en-us"
    ):
        render([Utterance(text="yes", voice=find_voice("en-us"))])


def test_the_deepest_voice_can_say_whatever_is_drawn() -> None:
    """espeak-ng crashes where a deep voice has a wide range of pitch: voice rob, pitch 25, 99."""
    pool = [voice for voice in voices("en-us", effects=True) if voice.variant == "rob"]
    rng = np.random.default_rng(1)
    drawn = [random_utterance("chocolate", pool, rng, varied=True) for _ in range(300)]
    lowest = min(drawn, key=lambda said: (said.pitch, -said.pitch_range))
    widest = max(drawn, key=lambda said: said.pitch_range / said.pitch)
    for said in (lowest, widest):
        assert len(next(iter(render([said], workers=1))))
