"""Sentences from the synthesiser, in the layout of recordings of people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kws.errors import KwsError
from kws.wording import counted

pytest.importorskip("espeakng_loader")
pytest.importorskip("soxr")

from kws.audio.files import read_audio
from kws.cli import run
from kws.data.speech_windows import cut_speech
from kws.data.split import split_of
from kws.data.streams.material import gather
from kws.data.synthesis.near_misses import too_alike
from kws.data.synthesis.nonsense import nonsense_word, script_of
from kws.data.synthesis.phonemes import sounds_of
from kws.data.synthesis.running_speech import synthesise_speech
from kws.data.synthesis.spoken_words import synthesise
from kws.data.synthesis.synth import transcribe
from kws.data.synthesis.voices import find_voice, languages
from kws.data.transcripts import read_transcripts


def spoken(folder: Path) -> dict[str, str]:
    return read_transcripts(folder / "transcripts.tsv")


def test_sentences_last_three_to_eight_seconds_and_as_many_are_written_as_asked(tmp_path) -> None:
    heard: list[float] = []
    paths = synthesise_speech(tmp_path, 3, languages=["en", "ru"], on_speech=heard.append)
    lengths = [len(read_audio(path)) / 16000 for path in paths]
    assert min(lengths) >= 3 and max(lengths) <= 8
    assert heard == pytest.approx(lengths, abs=1e-3) or sorted(heard) == sorted(lengths)
    assert 180 <= sum(lengths) < 188
    assert {path.relative_to(tmp_path).with_suffix("").as_posix() for path in paths} == set(
        spoken(tmp_path)
    )


def test_they_are_read_as_recordings_of_people_are(tmp_path) -> None:
    speech, clips = tmp_path / "speech", tmp_path / "clips"
    paths = synthesise_speech(speech, 2, avoid=["computer"])
    windows = cut_speech(speech, ["computer"], progress=False)
    assert len(windows) > len(paths)
    speakers = {recording.split("/")[0] for recording in windows.recordings}
    assert speakers == {path.parent.name for path in paths}
    word = synthesise(["computer"], clips, clips_per_word=200)
    # One throat is in one part, whether it says a word or a sentence.
    parts = {path.name.split("_nohash_")[0]: split_of(path.name) for path in word}
    assert all(split_of(name) == parts[name] for name in speakers & set(parts))
    noise = tmp_path / "noise"
    noise.mkdir()
    word[0].rename(noise / "a.wav")
    found = gather(clips, ["computer"], parts=["training"], sentences=speech, noise=noise).sentences
    assert found and set(found) <= set(paths)


def test_sentences_repeat_with_the_seed_whatever_the_number_of_workers(tmp_path) -> None:
    def call(name: str, minutes: float, **options: int) -> dict[str, bytes]:
        paths = synthesise_speech(tmp_path / name, minutes, **options)
        return {path.relative_to(tmp_path / name).as_posix(): path.read_bytes() for path in paths}

    one = call("a", 0.5, workers=1)
    assert call("b", 0.5, workers=2) == one
    assert call("c", 0.5, seed=1) != one


@pytest.mark.parametrize(
    "voice",
    [
        *("en-us", "ru", "el", "ja", "ko", "ar", "hi", "ka", "fr-fr"),
        *("cmn", "mi", "am", "or", "si", "my", "shn"),
    ],
)
def test_nonsense_is_spelt_with_letters_that_the_language_reads(voice: str) -> None:
    speaker = find_voice(voice)
    rng = np.random.default_rng(0)
    words = {nonsense_word(speaker, rng) for _ in range(100)}
    assert len(words) > 80
    assert all(len(sounds_of(word, speaker)) == 1 for word in words)


def test_letters_are_known_for_every_language_that_can_be_spoken() -> None:
    for code in languages():
        voice = find_voice(code)
        # Of some the synthesiser has no rules at all.
        assert script_of(voice) is not None or not transcribe("baba", voice), code


def test_a_keyword_is_never_spoken_nor_what_sounds_like_it(tmp_path) -> None:
    # Half of all nonsense in English would hold something like these.
    words = ["tofo", "dego=[[d'eIg@]]"]
    synthesise_speech(tmp_path, 4, avoid=words, languages="en-us")
    voice = find_voice("en-us")
    targets = [tuple(sounds_of(text, voice)) for text in ("tofo", "[[d'eIg@]]")]
    for said in spoken(tmp_path).values():
        phrase = tuple(sounds_of(said, voice))
        assert not any(too_alike(phrase, target, voice) for target in targets)


def test_lines_of_a_text_are_spoken_without_those_with_the_keyword(tmp_path) -> None:
    book = tmp_path / "book.txt"
    book.write_text(
        "\ufeffThe cat sat on the mat.\n\n---\nMy computers are slow today.\n"
        "Water [runs] down the hill.\n",
        encoding="utf-8",
    )
    synthesise_speech(tmp_path / "out", 1, text=book, avoid=["computer"])
    said = " ".join(spoken(tmp_path / "out").values()).lower()
    assert "water runs down the hill." in said and "cat" in said
    assert "computer" not in said


def test_transcripts_of_other_recordings_stay(tmp_path) -> None:
    (tmp_path / "transcripts.tsv").write_text("utterance\ttranscript\nada/1\tHELLO\n")
    synthesise_speech(tmp_path, 0.1)
    assert spoken(tmp_path)["ada/1"] == "HELLO"
    assert len(spoken(tmp_path)) > 1


def test_ctrl_c_leaves_whole_files_and_their_transcripts(tmp_path) -> None:
    def stop(_: float) -> None:
        if len(list(tmp_path.rglob("*.wav"))) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesise_speech(tmp_path, 2, on_speech=stop)
    assert len(spoken(tmp_path)) == len(list(tmp_path.rglob("*.wav"))) == 2
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"minutes": 0}, "above 0.*Received: 0"),
        # The synthesiser comes without its rules.
        ({"languages": "fo"}, "No letters.*'fo'.*--text"),
        ({"languages": "xx"}, "No voice speaks this language"),
        ({"text": "missing.txt"}, "missing.txt cannot be read.*No such file"),
        ({"text": "empty.txt"}, "empty.txt contains no words"),
        ({"text": "latin1.txt"}, "latin1.txt cannot be read.*not UTF-8 text"),
        ({"text": "russian.txt"}, "An English voice can only spell"),
        ({"text": "word.txt", "avoid": ["computer"]}, "free of computer"),
    ],
)
def test_what_cannot_be_done_is_one_line(tmp_path, options, says) -> None:
    (tmp_path / "empty.txt").write_text("---\n\n")
    (tmp_path / "latin1.txt").write_bytes("Übung".encode("latin-1"))
    (tmp_path / "russian.txt").write_text("привет", encoding="utf-8")
    (tmp_path / "word.txt").write_text("computer\n")
    if "text" in options:
        options = options | {"text": tmp_path / options["text"]}
    with pytest.raises(KwsError, match=says) as caught:
        synthesise_speech(tmp_path / "out", **({"minutes": 0.2} | options))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_command_writes_speech(tmp_path, capsys) -> None:
    line = ["data", "synth", "computer", "--to", str(tmp_path)]
    assert run([*line, "--speech", "0.1", "--avoid", "marvin"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path}: {counted(len(spoken(tmp_path)), 'sentence')}\n"
    assert "cannot replace real" in err
    for wrong in (["--avoid", "x"], ["--text", "f"], ["--speech", "1", "--near-misses", "2"]):
        assert run([*line, *wrong]) == 2
