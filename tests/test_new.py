"""`kws new`: answers become a recipe that training reads, and commands that can be run."""

from __future__ import annotations

import io
import json
import math
import shlex
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import typer.main
from test_find_words import recording

from kws.audio.files import write_wav
from kws.cli import app, main, run
from kws.data.recording.lengths import word_lengths
from kws.data.scan import scan
from kws.data.split import TRAINING, speaker_of, split_of
from kws.errors import KwsError
from kws.own_words import answers, next_steps
from kws.own_words import recipe as recipe_text
from kws.recipe import TrainingRecipe, load_recipe
from kws.verdict.advice import KeywordMeasurements, advise_word


class Terminal(io.StringIO):
    """Somebody who types these lines, and then Ctrl-D, or Ctrl-C."""

    def __init__(self, *lines: str, interrupts: bool = False) -> None:
        super().__init__("".join(f"{line}\n" for line in lines))
        self.interrupts = interrupts

    def isatty(self) -> bool:
        return True

    def readline(self, *_: int) -> str:
        line = super().readline()
        if not line and self.interrupts:
            raise KeyboardInterrupt
        return line


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KWS_DATA", str(tmp_path / "home"))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    return tmp_path


@pytest.fixture
def mute(monkeypatch: pytest.MonkeyPatch) -> None:
    """No synthesiser is installed."""
    for module in (answers, recipe_text):
        monkeypatch.setattr(module, "can_speak", lambda: False)
    monkeypatch.setattr(next_steps, "missing_extras", lambda: ["synth"])


def recipe(folder: str | Path) -> TrainingRecipe:
    return load_recipe(Path(folder) / "recipe.toml")


def record(*paths: str, length_s: float = 0.6) -> None:
    """Write recordings with a word in the middle of 3 s."""
    for seed, path in enumerate(paths):
        said = np.roll(recording((1.2, length_s, 6000), seconds=3), 160 * seed)
        # No two are the same clip.
        write_wav(path, np.rint(said * (1 - seed / 50)).astype(np.int16))


def commands(out: str) -> list[str]:
    return [line for line in out.splitlines() if not line.startswith("#")]


def test_one_word_becomes_a_recipe_that_training_reads_and_nothing_else(here, mute, capsys):
    assert run(["new", "--word", "lamp"]) == 0
    assert [str(p.relative_to(here)) for p in here.rglob("*")] == ["lamp", "lamp/recipe.toml"]
    read = recipe("lamp")
    assert read.name == "lamp"
    assert (read.labels.labels, read.data.head) == (("lamp",), "sigmoid")
    assert read.data.clips == ("recordings", "speech_commands_v0.02")
    assert read.data.generated == ("generated",)
    assert read.data.speech == ("generated_speech",)
    assert read.data.clip_ms == 1200
    base = load_recipe("own_words")
    assert read.training == base.training and read.model == base.model
    assert read.data.unknown_share == base.data.unknown_share
    out, err = capsys.readouterr()
    assert "pip install 'kws[synth]'" in err
    assert commands(out)[-1] == "kws listen --model lamp/lamp.tflite"


def test_several_words_share_a_recipe_that_tells_them_apart(mute):
    assert run(["new", "house", "--word", "lights", "--word", "fan"]) == 0
    read = recipe("house")
    assert (read.name, read.data.head) == ("house", "softmax")
    assert read.labels.keywords == ("lights", "fan")


@pytest.mark.parametrize(("words", "clips"), [(1, 4000), (2, 2000), (10, 1000)])
def test_an_epoch_grows_much_less_than_the_number_of_words(mute, words, clips):
    names = [f"{letter}word" for letter in "abcdefghij"[:words]]
    assert run(["new", "house", *(part for name in names for part in ("--word", name))]) == 0
    assert recipe("house").data.keyword_clips == clips


def test_what_is_not_given_is_asked_and_a_wrong_answer_asked_again(here, mute, monkeypatch, capsys):
    record("mine/a.wav", "mine/b.wav")
    answers = Terminal(
        *("a/b", "lamp", "nowhere", "mine", "Änne", "anne", "fr, ,en", "fr, en, fr"),
        *("phone", "small-microcontroller"),
    )
    monkeypatch.setattr("sys.stdin", answers)
    assert run(["new"]) == 0
    out, err = capsys.readouterr()
    for said in (
        "contains one of",
        "Received: 'a/b'",
        "[none]",
        "nowhere",
        "[en]",
        "[laptop]",
        "phone",
    ):
        assert said in err
    assert "'Änne'" in err and "Received: ''" in err
    clips = (here / "lamp/recordings/lamp").iterdir()
    assert sorted(clip.name for clip in clips) == ["anne_nohash_0.wav", "anne_nohash_1.wav"]
    assert "data synth lamp --speech 60 --to lamp/generated_speech -l fr -l en\n" in out
    assert recipe("lamp").model == load_recipe("conv_lstm_s").model
    assert commands(out)[-1] == "kws firmware lamp/lamp.tflite -o lamp/firmware"


@pytest.mark.parametrize(
    ("answers", "speakers"),
    [
        (["yes", "Anne Smith", "y", "anne"], {"anne"}),
        (["Y", "anne"], {"anne"}),
        (["anne"], {"anne"}),
        (["No"], None),
        (["n"], None),
        (["yes", "no"], None),
        ([""], None),
    ],
)
def test_yes_and_no_are_no_speakers_names(here, mute, monkeypatch, answers, speakers):
    record("mine/a.wav", "mine/b.wav")
    monkeypatch.setattr("sys.stdin", Terminal("lamp", "mine", *answers, "en", "pi"))
    assert run(["new"]) == 0
    found = {speaker_of(clip.name) for clip in (here / "lamp/recordings/lamp").iterdir()}
    assert found == speakers if speakers else len(found) == 2


@pytest.mark.parametrize("answer", ["none", "No", "N", ""])
def test_no_is_no_folder_of_recordings(here, mute, monkeypatch, answer):
    monkeypatch.setattr("sys.stdin", Terminal("lamp", answer, "en", "laptop"))
    assert run(["new"]) == 0
    assert not (here / "lamp/recordings").exists()


def test_a_device_may_have_capital_letters(mute, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", Terminal("none", "Pi"))
    assert run(["new", "--word", "lamp", "-l", "en"]) == 0
    asked = capsys.readouterr()
    assert "on the Pi" in asked.out and "Unknown device" not in asked.err
    given = ["--replace", "--yes", "--device", "PI"]
    assert run(["new", "--word", "lamp", *given]) == 0
    assert capsys.readouterr().out == asked.out


def test_what_is_given_is_not_asked(mute, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", Terminal())
    assert run(["new", "--word", "lamp", "--yes"]) == 0
    options = ["--word", "fan", "--recordings", "fans", "-l", "de", "--device", "pi"]
    record("fans/a.wav")
    assert run(["new", *options]) == 0
    assert "?" not in capsys.readouterr().err


@pytest.mark.parametrize(("interrupts", "status"), [(False, 1), (True, 130)])
def test_who_leaves_in_the_middle_of_the_questions_leaves_nothing_behind(
    here, mute, monkeypatch, capsys, interrupts, status
):
    record("mine/a.wav")
    before = sorted(here.rglob("*"))
    monkeypatch.setattr("sys.stdin", Terminal("lamp", "mine", interrupts=interrupts))
    assert run(["new"]) == status
    assert sorted(here.rglob("*")) == before
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("arguments", [[], ["--yes"]])
@pytest.mark.parametrize("stdin", [io.StringIO(), None])
def test_without_a_terminal_a_missing_word_is_bad_usage(arguments, stdin, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", stdin)  # None where it was closed (`<&-`)
    with pytest.raises(SystemExit, match="2"):
        main(["new", *arguments])
    assert "--word" in capsys.readouterr().err


def test_a_recipe_is_replaced_only_on_request(mute, capsys):
    assert run(["new", "--word", "lamp"]) == 0
    mine = Path("lamp/recipe.toml")
    mine.write_text("# mine\n")
    assert run(["new", "--word", "lamp"]) == 1
    assert "--replace" in capsys.readouterr().err and mine.read_text() == "# mine\n"
    assert run(["new", "--word", "lamp", "--replace"]) == 0
    assert recipe("lamp").name == "lamp"


@pytest.mark.parametrize("length_s", [0.5, 1.2])
def test_a_clip_is_as_long_as_recorded_words_and_generated_voices_need(length_s, capsys):
    pytest.importorskip("espeakng_loader")
    record(*(f"mine/{i}.wav" for i in range(4)), length_s=length_s)
    assert run(["new", "--word", "computer", "--recordings", "mine"]) == 0
    p95_s = word_lengths("computer/recordings", "computer").p95_s
    assert p95_s == pytest.approx(length_s, abs=0.06)
    out, err = capsys.readouterr()
    assert run(["new", "without", "--word", "computer"]) == 0
    without = recipe("without").data.clip_ms
    recorded = max(1000, 100 * math.ceil(10 * (p95_s + 0.35)))
    assert recipe("computer").data.clip_ms == max(recorded, without)
    assert (recorded < without) == (length_s < 1)
    assert "computer: 4 clips by 4 speakers" in err and "data record" not in out


def test_a_clip_is_as_long_as_generated_voices_need_where_there_are_no_recordings():
    pytest.importorskip("espeakng_loader")
    assert run(["new", "--word", "go"]) == 0
    assert run(["new", "--word", "good morning dear computer"]) == 0
    assert recipe("go").data.clip_ms < 1300 < recipe("good_morning_dear_computer").data.clip_ms


@pytest.mark.parametrize(("recordings", "clip_ms"), [(1, 1200), (20, 1000)])
def test_few_recordings_tell_little_about_how_long_others_take(here, mute, recordings, clip_ms):
    record(*(f"lamp/recordings/lamp/{i}.wav" for i in range(recordings)), length_s=0.5)
    assert run(["new", "--word", "lamp"]) == 0
    assert recipe("lamp").data.clip_ms == clip_ms


def test_recordings_in_a_format_that_is_not_read_are_named(here, mute, capsys):
    record("mine/1.wav", "mine/2.wav")
    for name in ("memo.m4a", "Old.WMA", "notes.txt", ".hidden.m4a"):
        (here / "mine" / name).write_bytes(b"ftyp")
    assert run(["new", "--word", "lamp", "--recordings", "mine"]) == 0
    err = capsys.readouterr().err
    assert "kws: left out, as their format is not read: Old.WMA, memo.m4a. Convert each" in err
    assert "notes.txt" not in err and ".hidden" not in err
    assert len(list((here / "lamp/recordings/lamp").iterdir())) == 2


def test_a_word_of_which_no_recording_can_be_read_is_named_beside_others(here, mute, capsys):
    record("mine/lamp/1.wav", "mine/lamp/2.wav")
    (here / "mine/light").mkdir()
    (here / "mine/light/b.m4a").write_bytes(b"ftyp")
    assert run(["new", "--word", "lamp", "--word", "light", "--recordings", "mine"]) == 0
    assert "left out, as their format is not read: b.m4a. Convert" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["mine", "mine/Lamp"])
def test_where_no_recording_can_be_read_it_is_said_how_to_convert_them(here, mute, capsys, place):
    (here / place).mkdir(parents=True)
    for name in ("a.m4a", "b.AAC"):
        (here / place / name).write_bytes(b"ftyp")
    assert run(["new", "--word", "lamp", "--recordings", "mine"]) == 1
    err = capsys.readouterr().err
    assert "Received: a.m4a, b.AAC. Convert each to WAV, for example: ffmpeg -i" in err
    assert "Leave recordings out" not in err and not Path("lamp").exists()


def test_aiff_files_are_recordings(here, mute, capsys):
    soundfile = pytest.importorskip("soundfile")
    Path("mine").mkdir()
    for name, amplitude in (("a.aif", 6000), ("b.AIFF", 5000)):
        pcm = recording((1.2, 0.6, amplitude))
        soundfile.write(Path("mine", name), pcm, 16000, format="AIFF")
    assert run(["new", "--word", "lamp", "--recordings", "mine"]) == 0
    assert len(list((here / "lamp/recordings/lamp").iterdir())) == 2
    assert "left out" not in capsys.readouterr().err


def test_a_word_that_is_too_quiet_is_taken_and_said(here, mute, capsys):
    record("mine/good.wav")
    write_wav("mine/low.wav", recording((1.2, 0.6, 60), noise=2))
    assert run(["new", "--word", "lamp", "--recordings", "mine"]) == 0
    (note,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert "mine/low.wav" in note and "too quiet" in note
    assert len(list((here / "lamp/recordings/lamp").iterdir())) == 2


def test_another_way_to_add_a_recording_is_a_command_that_does_it(here, mute, capsys):
    record("my lamps/good.wav")
    write_wav("my lamps/noise.wav", recording(noise=400))
    write_wav("my lamps/two.wav", recording((0.5, 0.5, 6000), (1.8, 0.5, 5000)))
    given = ["--recordings", "my lamps", "--speaker", "mia"]
    assert run(["new", "my house", "--word", "lamp", *given]) == 0
    err = capsys.readouterr().err
    assert len(list((here / "my house/recordings/lamp").iterdir())) == 2
    again = [line[line.index("kws data add") :] for line in err.splitlines() if "kws data" in line]
    assert [line.split()[-1] for line in again] == ["--whole", "--several"]
    for command in again:
        assert run(shlex.split(command)[1:]) == 0
    clips = sorted(clip.name for clip in (here / "my house/recordings/lamp").iterdir())
    assert clips == [f"mia_nohash_{n}.wav" for n in range(4)]


def test_recordings_of_one_person_are_all_hers_and_most_are_learnt_from(here, mute, capsys):
    # By the hash of that name they would all be kept for measuring, if there were many people.
    assert split_of("mia_nohash_0.wav") != TRAINING
    record(*(f"mine/{i}.wav" for i in range(12)))
    given = ["new", "--word", "lamp", "--speaker", "mia"]
    assert run([*given, "--recordings", "mine"]) == 0
    assert "lamp: 12 clips by 1 speaker," in capsys.readouterr().err
    clips = scan(here / "lamp/recordings")
    assert clips.n_speakers == 1
    assert len(clips.select(split=TRAINING)) >= 6
    assert run([*given, "--replace"]) == 2
    assert "--recordings" in capsys.readouterr().err


def test_a_speaker_who_was_forgotten_and_is_given_then_has_the_recordings_once(here, mute, capsys):
    record(*(f"mine/{i}.wav" for i in range(3)))
    given = ["new", "--word", "lamp", "--recordings", "mine"]
    assert run(given) == 0
    place = here / "lamp/recordings/lamp"
    before = sorted(clip.read_bytes() for clip in place.iterdir())
    names = [clip.name for clip in place.iterdir()]
    capsys.readouterr()
    assert run([*given, "--speaker", "me", "--replace"]) == 0
    assert sorted(clip.name for clip in place.iterdir()) == [f"me_nohash_{n}.wav" for n in range(3)]
    assert sorted(clip.read_bytes() for clip in place.iterdir()) == before
    err = capsys.readouterr().err
    assert "without a speaker's name, now renamed: 3 clips" in err
    assert all(f"{name} is now me_nohash_" in err for name in names)
    assert "lamp: 3 clips by 1 speaker," in err


def test_recordings_that_somebody_had_named_keep_their_name_and_it_is_said(here, mute, capsys):
    record("mine/a.wav", "mine/b.wav")
    given = ["new", "--word", "lamp", "--recordings", "mine", "--replace"]
    assert run([*given, "--speaker", "anna"]) == 0
    capsys.readouterr()
    for speaker in (["--speaker", "me"], []):
        assert run([*given, *speaker]) == 0
        names = sorted(clip.name for clip in (here / "lamp/recordings/lamp").iterdir())
        assert names == ["anna_nohash_0.wav", "anna_nohash_1.wav"]
        err = capsys.readouterr().err
        assert "not added again: 2 clips in lamp/recordings/lamp (anna_nohash_0.wav, anna" in err


def test_recordings_lie_in_a_folder_for_each_word_or_of_one_word(here, mute, capsys):
    record("mine/lights/a.wav", "mine/fan/a.wav", "mine/fan/b.wav", "fan/c.wav", "both/a.wav")
    words = ["--word", "lights", "--word", "fan"]
    assert run(["new", "house", *words, "--recordings", "mine", "--recordings", "fan"]) == 0
    names = {w: len(list((here / "house/recordings" / w).iterdir())) for w in ("lights", "fan")}
    assert names == {"lights": 1, "fan": 3}
    capsys.readouterr()
    assert run(["new", "other", *words, "--recordings", "both"]) == 1
    assert "folders named after the words" in capsys.readouterr().err
    assert not Path("other").exists()


def test_folders_of_recordings_are_named_like_the_words_in_any_case(here, mute):
    record("mine/Hey Lamp/a.wav", "mine/FAN/a.wav", "mine/fan/b.wav", "hey_lamp/b.wav")
    words = ["--word", "hey lamp", "--word", "fan"]
    assert run(["new", "house", *words, "--recordings", "mine", "--recordings", "hey_lamp"]) == 0
    names = {w: len(list((here / "house/recordings" / w).iterdir())) for w in ("hey lamp", "fan")}
    assert names == {"hey lamp": 2, "fan": 2}


def test_recordings_that_are_in_place_are_left_alone(here, mute):
    record("lamp/recordings/lamp/ann_nohash_0.wav")
    before = (here / "lamp/recordings/lamp/ann_nohash_0.wav").read_bytes()
    for given in ([], ["--recordings", "lamp/recordings", "--replace"]):
        assert run(["new", "--word", "lamp", *given]) == 0
        (clip,) = (here / "lamp/recordings").rglob("*.wav")
        assert clip.read_bytes() == before


def test_recordings_without_sound_are_refused_by_name_and_the_others_taken(mute, capsys):
    record("mine/good.wav")
    write_wav("mine/bad.wav", np.zeros(32000, np.int16))
    assert run(["new", "--word", "lamp", "--recordings", "mine"]) == 0
    assert "mine/bad.wav is silent" in capsys.readouterr().err
    Path("mine/good.wav").unlink()
    assert run(["new", "--word", "fan", "--recordings", "mine"]) == 1
    assert not Path("fan").exists()


def test_fetched_data_sets_are_in_the_recipe_and_need_not_be_fetched(here, mute, capsys):
    for name in ("speech_commands_v0.01", "sentences"):
        (here / "home" / name).mkdir(parents=True)
    assert run(["new", "--word", "lamp"]) == 0
    data = recipe("lamp").data
    assert data.clips == ("recordings", "speech_commands_v0.01")
    assert data.speech == ("generated_speech", "sentences")
    assert "fetch" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["computer"], ["lumière"], ["hey computer"], ["lights", "fan"], ["it's"]], ids=str
)
def test_every_command_that_is_printed_is_one_of_the_kit(words, mute, capsys):
    given = [option for word in words for option in ("--word", word)]
    assert run(["new", "my house", *given, "--device", "microcontroller"]) == 0
    printed = commands(capsys.readouterr().out)
    named = []
    for line in printed:
        group, (kws, *rest) = typer.main.get_command(app), shlex.split(line)
        assert kws == "kws"
        while hasattr(group, "commands"):
            group = group.commands[rest.pop(0)]
        named.append(group.name)
        given = group.make_context(group.name, rest).params
        spoken = [text.partition("=")[0] for text in given.get("words", [])]
        assert spoken in ([], words) and given.get("word") in (None, *words)
    records = ["record"] * len(words)
    assert named == [*records, "synth", "synth", "fetch", "train", "verdict", "listen", "firmware"]
    assert all(str(Path(part).parts[0]) == "my house" for part in shlex.split(printed[-1])[2:5:2])


@pytest.mark.parametrize(
    ("word", "languages"),
    [("电脑", ["cmn"]), ("computer", ["en", "fr"]), ("lumière", ["fr"]), ("pata", ["mi", "am"])],
)
def test_the_synthesiser_accepts_its_commands_in_any_language(
    here, word, languages, monkeypatch, capsys
):
    pytest.importorskip("espeakng_loader")
    monkeypatch.setattr(next_steps, "_CLIPS", 2)
    monkeypatch.setattr(next_steps, "_MINUTES", 0.1)
    options = [option for code in languages for option in ("-l", code)]
    assert run(["new", "--word", word, *options]) == 0
    synth = [line for line in commands(capsys.readouterr().out) if "data synth" in line]
    assert len(synth) == 2
    for line in synth:
        _, *rest = shlex.split(line)
        assert rest[-len(options) :] == options
        assert run(rest) == 0
    for label in (word, f"not_{word}"):
        assert len(list((here / word / "generated" / label).glob("*.wav"))) == 2
    assert list((here / word / "generated_speech").rglob("*.wav"))


@pytest.mark.parametrize(
    ("languages", "learnt"),
    [([], True), (["en-gb"], True), (["de", "EN"], True), (["de"], False), (["fr", "eo"], False)],
)
def test_the_sounds_of_english_are_learnt_with_english_only(mute, languages, learnt):
    options = [option for code in languages for option in ("-l", code)]
    for device in ("laptop", "small-microcontroller"):
        assert run(["new", "--word", "die", *options, "--device", device, "--replace"]) == 0
        read, own_words = recipe("die").training, load_recipe("own_words").training
        assert read.phone_weight == own_words.phone_weight * learnt
        assert read.start == (own_words.start if device == "laptop" else "")


def test_another_spelling_is_spoken_and_the_word_stays_the_label(capsys):
    assert run(["new", "--word", "kws", "--say", "kws=kay double you ess", "--yes"]) == 0
    assert "kws data synth 'kws=kay double you ess' " in capsys.readouterr().out
    assert recipe("kws").labels.keywords == ("kws",)
    assert run(["new", "--word", "lamp", "--say", "other=x"]) == 2
    assert "other" in capsys.readouterr().err


def test_accents_are_one_letter_however_they_are_typed(mute):
    assert run(["new", "--word", unicodedata.normalize("NFD", "lumière")]) == 0
    assert recipe("lumière").labels.keywords == (unicodedata.normalize("NFC", "lumière"),)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--word", "lamp", "--word", "Lamp "], "Received: 'Lamp' twice"),
        (["--word", "a/b"], "'a/b'"),
        (["--word", "_unknown_"], "leading '_'"),
        (["--word", "-x"], "must not begin with '-'"),
        (["--word", "a=b"], "'='"),
        (["--word", "!!"], "letters"),
        (["--word", " "], "empty"),
        (["--word", "lamp", "--recordings", "hollow"], "an empty folder"),
        (["--word", "lamp", "--recordings", "nowhere"], "nothing there"),
        (["--word", "lamp", "-l", ""], "A language is a code"),
        (["taken", "--word", "lamp"], "which is a file"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(here, mute, capsys, arguments, said):
    Path("hollow").mkdir()
    Path("taken").touch()
    before = sorted(here.rglob("*"))
    assert run(["new", *arguments]) == 1
    out, err = capsys.readouterr()
    assert said in err and len(err.splitlines()) == 1 and not out
    assert sorted(here.rglob("*")) == before


def test_the_synthesiser_refuses_what_it_cannot_say_before_anything_is_written(here, capsys):
    pytest.importorskip("espeakng_loader")
    assert run(["new", "--word", "lamp", "-l", "xx"]) == 1
    assert "No voice speaks this language" in capsys.readouterr().err
    for refused in (["свет"], ["电脑", "-l", "cmn", "-l", "en"], ["computer", "-l", "fr"]):
        assert run(["new", "--word", *refused]) == 1
        assert "language" in capsys.readouterr().err
    assert not list(here.iterdir())
    assert run(["new", "--word", "свет", "-l", "ru"]) == 0


@pytest.mark.parametrize("refused", [["日本", "-l", "ja"], ["привет"], ["go", "-w", "привет"]])
def test_a_word_that_cannot_be_said_as_spelt_is_refused_with_the_option_to_use(
    here, capsys, refused
):
    pytest.importorskip("espeakng_loader")
    assert run(["new", "--word", *refused]) == 1
    err = capsys.readouterr().err
    word = next(word for word in refused if not word.isascii())
    assert f"'{word}=TEXT'" in err and "--say" in err and "NAME=" not in err


def test_who_is_asked_for_the_language_is_asked_how_to_say_the_word_in_it(monkeypatch, capsys):
    pytest.importorskip("espeakng_loader")
    typed = ("ja", "", "xx", "ja", "日本!", "[[n'ihoN]]", "pi")
    monkeypatch.setattr("sys.stdin", Terminal("日本, さくら", "", *typed))
    assert run(["new", "house"]) == 0
    out, err = capsys.readouterr()
    assert err.count("How should they say '日本'?") == 3
    assert err.count("Language of the generated voices?") == 3
    assert "No voice speaks this language" in err and "--say" not in err
    assert "kws data synth '日本=[[n'\"'\"'ihoN]]' 'さくら' " in out


def test_json_has_the_recipe_and_the_commands(mute, capsys):
    assert run(["new", "--word", "lamp", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["recipe"] == "lamp/recipe.toml"
    names = [shlex.split(line)[1] for line in found["next"]]
    assert names == ["data", "data", "train", "verdict", "listen"]
    assert [line.split()[2] for line in found["optional"]] == ["record", "fetch"]


def test_a_word_that_the_pretrained_model_was_kept_from_can_be_ones_own(here):
    assert run(["new", "--word", "marvin"]) == 0
    assert recipe("marvin").labels.keywords == ("marvin",)


def test_training_reads_the_recipe_when_nothing_but_generated_voices_is_there(here, capsys):
    pytest.importorskip("espeakng_loader")
    from kws.train.dataset import load_training_data

    assert run(["new", "--word", "lamp"]) == 0
    synth = ["data", "synth", "lamp"]
    assert run([*synth, "--count", "40", "--near-misses", "40", "--to", "lamp/generated"]) == 0
    assert run([*synth, "--speech", "0.2", "--to", "lamp/generated_speech"]) == 0
    data = load_training_data(recipe("lamp"), here / "lamp")
    assert {"lamp", "not_lamp", "_speech_", "_silence_"} == set(data.training.words)
    assert data.training.generated[data.training.labels == 0].all() and len(data.validation)
    err = capsys.readouterr().err
    assert "no folder 'recordings'" in err and "no folder 'speech_commands_v0.02'" in err
    assert "lamp/recordings/_background_noise_" in err and data.noise.std() > 1000

    hiss = np.random.default_rng(1).integers(-500, 500, 20 * 16000).astype(np.int16)
    write_wav("lamp/recordings/_background_noise_/room.wav", hiss)
    assert 0 < load_training_data(recipe("lamp"), here / "lamp").noise.std() < 1000
    assert "recordings" not in capsys.readouterr().err


def test_training_looks_beside_the_recipe_though_there_are_no_recordings(monkeypatch, capsys):
    pytest.importorskip("tensorflow")
    looked_in: list[Path | None] = []

    def stop(_recipe, data_dir, *_arguments, **_options):
        looked_in.append(data_dir)
        raise KwsError("enough")

    monkeypatch.setattr("kws.train.run.run_training", stop)
    assert run(["new", "--word", "lamp", "--device", "small-microcontroller"]) == 0
    (train,) = [c for c in commands(capsys.readouterr().out) if c.startswith("kws train")]
    assert f"# Train it with: {train}\n" in Path("lamp/recipe.toml").read_text()
    assert run(shlex.split(train)[1:]) == 1
    Path("lamp/generated").mkdir()
    Path("lamp/run").mkdir()
    Path("lamp/run/best.npz").touch()
    # Come back and train again.
    assert run(shlex.split(train)[1:]) == 1
    assert looked_in == [None, Path("lamp")]
    assert "holds a run" not in capsys.readouterr().err


def test_the_advice_to_record_more_says_where_training_will_find_it(here):
    from kws.train.folders import first_folder

    assert run(["new", "--word", "lamp"]) == 0
    for _ in range(2):
        assert first_folder(recipe("lamp"), here / "lamp") == here / "lamp/recordings"
        (here / "lamp/recordings").mkdir(exist_ok=True)
    heard = [(0, 0, 0.0), (9, 0, None), (9, 2, 0.5)]
    for recordings, held_out, missed in heard:
        measured = KeywordMeasurements(
            keyword="hey lamp", recordings=recordings, speakers=recordings, held_out=held_out,
            generated=9, missed=missed, more_to="lamp/recordings",
        )  # fmt: skip
        advice = advise_word(measured)[0]
        assert advice.endswith("kws data record 'hey lamp' --to lamp/recordings")
