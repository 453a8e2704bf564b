"""What sounds like a word and is not it."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from kws.errors import KwsError

pytest.importorskip("espeakng_loader")
pytest.importorskip("soxr")

from kws.audio.files import read_audio
from kws.cli import run
from kws.data.synthesis.near_misses import KINDS, near_miss, too_alike
from kws.data.synthesis.phonemes import sounds_of, spell, syllables, vowel_distance
from kws.data.synthesis.spoken_record import Spoken, read_spoken
from kws.data.synthesis.spoken_words import synthesise
from kws.data.synthesis.synth import speak
from kws.data.synthesis.voices import find_voice

ENGLISH = find_voice("en-us")


def cut(text: str, voice: str) -> list[list[str]]:
    words = sounds_of(text, find_voice(voice))
    return [["".join(map(str, part)) for part in syllables(word)] for word in words]


def many(word: str, voice: str, n: int = 150) -> list[tuple[str, str]]:
    made = [near_miss(word, find_voice(voice), np.random.default_rng([3, i])) for i in range(n)]
    return [(miss.kind, miss.text) for miss in made]


def alike(one: str, other: str) -> bool:
    return too_alike(tuple(sounds_of(one, ENGLISH)), tuple(sounds_of(other, ENGLISH)), ENGLISH)


def test_words_are_cut_where_people_cut_them() -> None:
    assert cut("computer", "en-us") == [["k@m", "pj'u:", "t#3"]]
    assert cut("hey snowboy", "en-us") == [["h'eI"], ["sn'oU", "bOI"]]
    assert cut("Achtung", "de") == [["'ax", "tUN"]]
    assert cut("lumière", "fr-fr") == [["lym", "j'Er"]]
    # Softness stays with its consonant, a tone with its vowel.
    assert cut("привет", "ru") == [["p|@-r|;i", "v|;'et"]]
    assert cut("你好", "cmn") == [["ni214", "X'Au214"]]


@pytest.mark.parametrize(
    ("text", "voice"), [("computer", "en-us"), ("lumière", "fr-fr"), ("привет", "ru")]
)
def test_the_sounds_of_a_word_say_the_word(text: str, voice: str) -> None:
    spelt = speak(spell(sounds_of(text, find_voice(voice))), voice, pitch_range=0)
    assert len(spelt) == pytest.approx(len(speak(text, voice, pitch_range=0)), rel=0.02)


def test_vowels_lie_on_a_chart() -> None:
    def apart(one: str, other: str) -> float:
        a, b = (sounds_of(f"[[{name}|t]]", ENGLISH)[0][0] for name in (one, other))
        return vowel_distance(a, b, ENGLISH)

    assert apart("i:", "i") == 0  # Length does not count.
    assert 0.1 < apart("i:", "I") < 0.3 < apart("I", "a") < apart("i:", "0")
    # Diphthongs: half the way from i to a, and none at the end.
    assert apart("aI", "I") == pytest.approx(apart("I", "a") / 2, abs=0.1)


@pytest.mark.parametrize(
    ("text", "is_heard"),
    [
        ("computer", True),
        ("computers", True),
        ("my computer is slow", True),
        ("comcomputer", True),
        ("[[k@mpj'u:t @]]", True),  # The r at the end is all that is missing.
        ("[[k@mpj'u:d3]]", True),
        ("[[k'@mpju:t3]]", True),
        ("[[k@mpj'ut#3:]]", True),
        ("commuter", False),
        ("compute now", False),
        ("compete", False),
        ("scooter", False),
        ("com", False),
    ],
)
def test_only_what_people_take_for_the_word_is_too_alike(text: str, is_heard: bool) -> None:
    assert alike(text, "computer") is is_heard


@pytest.mark.parametrize(
    ("word", "voice"),
    [
        *(("computer", "en-us"), ("snowboy", "en-gb-scotland"), ("lumière", "fr-fr")),
        *(("Achtung", "de"), ("hey computer", "en-us"), ("go", "en-us"), ("привет", "ru")),
    ],
)
def test_near_misses_are_sayable_and_never_the_word(word: str, voice: str) -> None:
    speaker = find_voice(voice)
    target = tuple(sounds_of(word, speaker))
    made = many(word, voice)
    for _, text in set(made):
        assert not too_alike(tuple(sounds_of(text, speaker)), target, speaker), text
    assert len({text for _, text in made}) > 15


def test_a_longer_word_is_missed_in_every_way_and_each_is_about_as_frequent() -> None:
    kinds = [kind for kind, _ in many("computer", "en-us", 300)]
    assert set(kinds) == set(KINDS)
    assert all(10 <= kinds.count(kind) <= 70 for kind in KINDS)


def test_parts_lack_a_third_and_carry_a_vowel() -> None:
    for kind, text in many("computer", "en-us", 300):
        (word, *more) = sounds_of(text, ENGLISH)
        assert any(sound.is_vowel for sound in word)
        if kind in ("beginning", "end"):
            assert not more and len(word) <= 8 * 2 / 3


def test_only_sounds_of_the_language_are_used() -> None:
    french = {
        s.name
        for _, text in many("lumière", "fr-fr")
        for w in sounds_of(text, find_voice("fr-fr"))
        for s in w
    }
    german = {
        s.name
        for _, text in many("Achtung", "de")
        for w in sounds_of(text, find_voice("de"))
        for s in w
    }
    assert not french & {"h", "T", "D", "3:", "N", "x", "C", "aI"}
    assert not german & {"T", "D", "w", "3:", "A~", "E~"}


def test_near_misses_of_one_word_avoid_the_other_words() -> None:
    other = tuple(sounds_of("[[k@mm'u:t3]]", ENGLISH))
    for i in range(200):
        miss = near_miss(
            "[[k@mp'u:t3]]", ENGLISH, np.random.default_rng(i), avoid=["[[k@mm'u:t3]]"]
        )
        assert not too_alike(tuple(sounds_of(miss.text, ENGLISH)), other, ENGLISH)


@pytest.mark.parametrize(
    ("word", "voice", "says"),
    [
        ("computer", "fr-fr", "rules of another language.*'computer'.*--language"),
        ("!?", "en-us", "nothing to say.*'!\\?'"),
        ("[[_:]]", "en-us", "has no phonemes"),
    ],
)
def test_what_cannot_be_missed_is_one_line(word: str, voice: str, says: str) -> None:
    with pytest.raises(KwsError, match=says) as caught:
        near_miss(word, find_voice(voice), np.random.default_rng(0))
    assert "\n" not in str(caught.value)


def test_clips_lie_beside_the_word_with_what_they_say(tmp_path) -> None:
    def call(where: str, near_misses: int) -> dict[str, bytes]:
        paths = synthesise(
            ["computer"], tmp_path / where, clips_per_word=4, near_misses=near_misses
        )
        return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in paths}

    few, more = call("a", 6), call("b", 9)
    assert call("a", 6) == few
    assert set(few) < set(more)
    assert {name.split("/")[0] for name in few} == {"computer", "not_computer"}
    assert len({len(read_audio(tmp_path / "a" / name)) for name in few}) == 1
    with (tmp_path / "a/not_computer/texts.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    written = sorted(name.split("/")[1] for name in few if name.startswith("not"))
    assert [row["clip"] for row in rows] == written
    assert all(row["text"].startswith("[[") and row["kind"] in KINDS for row in rows)
    # Rows of clips that a later, smaller call leaves alone stay.
    call("b", 2)
    assert len((tmp_path / "b/not_computer/texts.tsv").read_text().splitlines()) == 10


def test_clips_are_as_long_as_the_words_need_whatever_is_beside_them(tmp_path) -> None:
    lengths = []
    for near_misses in (0, 30):
        paths = synthesise(
            ["hey computer robot"], tmp_path, clips_per_word=30, near_misses=near_misses
        )
        lengths.append({len(read_audio(path)) for path in paths})
    assert lengths[0] == lengths[1] and len(lengths[0]) == 1 and lengths[0] != {16000}


def test_near_misses_sound_further_from_the_word_than_it_said_in_another_way() -> None:
    librosa = pytest.importorskip("librosa")
    speaker = find_voice("en-us+f2")

    def cepstra(text: str, **manner: int) -> np.ndarray:
        sound = speak(text, speaker, pitch_range=40, **manner).astype(np.float32) / 32768
        found = librosa.feature.mfcc(y=sound, sr=16000, n_mfcc=13, n_fft=512, hop_length=320)[1:]
        return found - found.mean(axis=1, keepdims=True)

    def apart(one: np.ndarray, other: np.ndarray) -> float:
        costs, way = librosa.sequence.dtw(one, other)
        return costs[-1, -1] / len(way)

    word = cepstra("computer")
    itself = [apart(word, cepstra("computer", rate_wpm=rate)) for rate in (140, 190)]
    itself += [apart(word, cepstra("computer", pitch=pitch)) for pitch in (40, 65)]
    others = {text: apart(word, cepstra(text)) for _, text in many("computer", "en-us", 60)}
    assert np.mean([there > max(itself) for there in others.values()]) > 0.95, others
    assert np.median(list(others.values())) > 1.8 * max(itself)


def test_what_was_written_before_a_fault_is_noted(tmp_path) -> None:
    def stop() -> None:
        if len(list(tmp_path.rglob("*.wav"))) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesise(["computer"], tmp_path, clips_per_word=0, near_misses=20, on_clip=stop)
    assert len((tmp_path / "not_computer/texts.tsv").read_text().splitlines()) == 4
    assert not list(tmp_path.rglob("*.part"))


def test_how_words_were_generated_is_noted_beside_them(tmp_path) -> None:
    assert read_spoken(tmp_path) == {}
    synthesise({"k w s": "[[k'eI]] double"}, tmp_path, clips_per_word=1, languages=["en-us", "en"])
    synthesise(["lumière"], tmp_path, clips_per_word=1, languages="fr", seed=7)
    synthesise(
        ["lumière"],
        tmp_path,
        clips_per_word=0,
        near_misses=1,
        languages="fr",
        seed=8,
        clip_seconds=1.3,
    )
    noted = {
        "k w s": Spoken(text="[[k'eI]] double", languages=("en-us", "en"), seconds=1.0, seed=0),
        "lumière": Spoken(text="lumière", languages=("fr",), seconds=1.3, seed=8),
    }
    assert read_spoken(tmp_path) == noted
    table = tmp_path / "spoken.tsv"
    table.write_text(table.read_text() + "a damaged row\nfan\tfan\ten\t1\tx\n")
    assert read_spoken(tmp_path) == noted


def test_near_misses_never_lie_among_the_clips_of_another_word(tmp_path) -> None:
    with pytest.raises(KwsError, match=r"clips of another word\. Received: 'not_computer'"):
        synthesise(["computer", "Not_Computer"], tmp_path, clips_per_word=1, near_misses=1)
    assert not list(tmp_path.iterdir())


def test_the_command_says_where_near_misses_are(tmp_path, capsys) -> None:
    line = ["data", "synth", "computer", "--to", str(tmp_path), "--near-misses", "3"]
    assert run([*line, "--count", "0"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/not_computer: 3 clips\n"
