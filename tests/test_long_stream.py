"""Streams built for measuring: what is laid is where the labels say, as loud as they say."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.audio.files import read_audio, write_wav
from kws.cli import run
from kws.data.forbidden import Forbidden, forms_of
from kws.data.label_file import read_truth
from kws.data.scan import scan
from kws.data.split import split_of
from kws.data.streams.long_stream import LaidItem, StreamPlan, build_stream, lay_items
from kws.data.streams.material import Material, gather
from kws.errors import KwsError

RATE = 16000
TONES = {"yes": 400, "no": 1000, "tree": 2500}


def tone(hz: float, seconds: float, level: float = 8000.0) -> np.ndarray:
    return level * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)


def clip_of(hz: float, seconds: float, start_s: float) -> np.ndarray:
    pcm = np.zeros(RATE)
    first = round(start_s * RATE)
    pcm[first : first + round(seconds * RATE)] = tone(hz, seconds)
    return pcm.astype(np.int16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words that are tones of their own, each somewhere in a silent second; sentences; noise."""
    root = tmp_path_factory.mktemp("material")
    rng = np.random.default_rng(0)
    for word, hz in TONES.items():
        for i in range(40):
            pcm = clip_of(hz, rng.uniform(0.3, 0.5), rng.uniform(0.0, 0.45))
            write_wav(root / "clips" / word / f"speaker{i}_nohash_0.wav", pcm, RATE)
    noise = (3000 * rng.standard_normal(20 * RATE)).clip(-30000, 30000).astype(np.int16)
    write_wav(root / "clips" / "_background_noise_" / "white.wav", noise, RATE)
    lines = ["utterance\ttranscript"]
    texts = ["it rains", "i know", "say yes", "he won't", "good morning", "no-one", "not now"]
    for speaker in range(60):
        for i, text in enumerate(texts):
            pcm = np.concatenate([np.zeros(4000), tone(5000, 1.5), np.zeros(4000)])
            write_wav(root / "talk" / f"s{speaker}" / f"{i}.wav", pcm.astype(np.int16), RATE)
            lines.append(f"s{speaker}/{i}\t{text.upper()}")
    (root / "talk" / "transcripts.tsv").write_text("\n".join(lines))
    return root


@pytest.fixture(scope="module")
def material(folder: Path) -> Material:
    return gather(folder / "clips", ["yes", "no"], sentences=folder / "talk")


def strongest_hz(pcm: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm))))
    return float(spectrum.argmax() * RATE / len(pcm))


def level_db(pcm: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(pcm, dtype=np.float64)) / 32768**2 + 1e-20))


QUIET = {"snr_db": (60.0, 60.0), "silence_dbfs": (-110.0, -110.0), "noise_dbfs": (-110.0, -110.0)}


def test_each_word_is_where_its_label_says_and_nowhere_else(
    material: Material, tmp_path: Path
) -> None:
    plan = StreamPlan(
        hours=0.1, words_per_hour=600, speech=0, others_per_hour=0, level_dbfs=(-20, -20), **QUIET
    )
    build_stream(material, plan, tmp_path / "s.wav", tmp_path / "s.tsv")
    pcm, truth = read_audio(tmp_path / "s.wav"), read_truth(tmp_path / "s.tsv")
    assert len(pcm) == 0.1 * 3600 * RATE
    assert 57 <= len(truth) <= 60
    rest = pcm.astype(np.float64)
    for word in truth:
        first, last = round(word.start_s * RATE), round(word.end_s * RATE)
        assert 0.25 < word.end_s - word.start_s < 0.55
        assert strongest_hz(pcm[first:last]) == pytest.approx(TONES[word.keyword], abs=10)
        # The tone fills its span: it is as loud at both edges.
        assert level_db(pcm[first : first + 800]) == pytest.approx(-20, abs=2)
        assert level_db(pcm[last - 800 : last]) == pytest.approx(-20, abs=2)
        rest[first - 160 : last + 160] = 0
    assert np.abs(rest).max() < 100


def test_levels_and_ratios_are_those_in_the_labels(material: Material, tmp_path: Path) -> None:
    plan = StreamPlan(hours=0.1, words_per_hour=600, speech=0, others_per_hour=0, gap_s=(1.0, 1.5))
    build_stream(material, plan, tmp_path / "s.wav", tmp_path / "s.tsv")
    pcm = read_audio(tmp_path / "s.wav")
    header, *rows = [line.split("\t") for line in (tmp_path / "s.tsv").read_text().splitlines()]
    assert header == ["start_s", "end_s", "keyword", "source", "level_dbfs", "snr_db"]
    for row in rows:
        word = dict(zip(header, row, strict=True))
        first, last = (round(float(word[edge]) * RATE) for edge in ("start_s", "end_s"))
        speech, snr = float(word["level_dbfs"]), float(word["snr_db"])
        assert -38 <= speech <= -18
        assert 10 <= snr <= 20
        # Noise adds up to 0.5 dB to the word; after a word there is noise of the same level.
        assert level_db(pcm[first:last]) == pytest.approx(speech + 0.2, abs=0.6)
        assert level_db(pcm[last + 200 : last + 1400]) == pytest.approx(speech - snr, abs=1.0)


def test_equal_seeds_give_equal_bytes_and_others_do_not(material: Material, tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        plan = StreamPlan(hours=0.02, seed=seed)
        build_stream(material, plan, tmp_path / f"{name}.wav", tmp_path / f"{name}.tsv")
    a, b, c = ((tmp_path / f"{name}.wav").read_bytes() for name in "abc")
    assert a == b
    assert a != c
    assert (tmp_path / "a.tsv").read_text() == (tmp_path / "b.tsv").read_text()


def test_keywords_come_equally_often_and_shares_come_out(material: Material) -> None:
    plan = StreamPlan(hours=1.0, words_per_hour=300, others_per_hour=100)
    items = [item for _, item in lay_items(material, plan) if item]
    spoken = [item.text for item in items if item.kind == "keyword"]
    assert len(spoken) in (299, 300)
    assert abs(spoken.count("yes") - spoken.count("no")) <= 1
    assert sum(item.kind == "other" for item in items) in (99, 100)
    seconds = {
        kind: sum(i.end_s - i.start_s for i in items if i.kind == kind)
        for kind in ("sentence", "noise", "silence")
    }
    # A sentence is laid with margins of 0.1 s that its span has not.
    seconds["sentence"] *= 1.7 / 1.5
    total = sum(seconds.values())
    for kind, share in (("sentence", 0.6), ("noise", 0.25), ("silence", 0.15)):
        assert seconds[kind] / total == pytest.approx(share, abs=0.03)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 999),
    seconds=st.floats(0.1, 90.0),
    words=st.floats(0, 600),
    others=st.floats(0, 300),
    shares=st.tuples(*[st.floats(0.01, 1)] * 3),
    gap=st.floats(0.0, 1.0),
)
def test_any_plan_gives_its_length_and_items_in_order(
    material: Material,
    seed: int,
    seconds: float,
    words: float,
    others: float,
    shares: tuple[float, float, float],
    gap: float,
) -> None:
    plan = StreamPlan(
        hours=seconds / 3600, words_per_hour=words, others_per_hour=others, speech=shares[0],
        noise=shares[1], silence=shares[2], gap_s=(gap, gap + 1), seed=seed,
    )  # fmt: skip
    pieces = list(lay_items(material, plan))
    assert sum(len(pcm) for pcm, _ in pieces) == plan.samples
    items = [item for _, item in pieces if item is not None]
    assert [item for _, item in pieces].count(None) == 1
    before = 0.0
    for item in items:
        assert before + gap - 1e-4 <= item.start_s < item.end_s
        before = item.end_s
    assert before <= max(0.0, plan.samples / RATE - 0.6)


def test_a_long_stream_takes_no_more_memory_than_a_short_one(
    material: Material, tmp_path: Path
) -> None:
    def peak(hours: float) -> int:
        tracemalloc.start()
        build_stream(material, StreamPlan(hours=hours), tmp_path / "s.wav", tmp_path / "s.tsv")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    short, long = peak(0.05), peak(0.4)
    assert (tmp_path / "s.wav").stat().st_size > 40e6
    assert long < short + 2e6


def test_a_recording_that_breaks_leaves_neither_file(folder: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_text("this is text")
    good = gather(folder / "clips", ["yes"])
    broken = Material(words={"yes": (bad,)}, others=good.others, sentences=(), noise=good.noise)
    with pytest.raises(KwsError, match=r"bad\.wav"):
        build_stream(
            broken, StreamPlan(hours=0.05, speech=0), tmp_path / "s.wav", tmp_path / "s.tsv"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["bad.wav"]


def test_a_wake_word_comes_just_before_each_keyword_and_as_loud(
    folder: Path, tmp_path: Path
) -> None:
    word = tmp_path / "Jarvis"
    for i in range(3):
        write_wav(word / f"{i}.wav", clip_of(1700, 0.6, 0.2), RATE)
    material = gather(folder / "clips", ["yes", "no"], sentences=folder / "talk", wake=word)
    assert ", 3 of Jarvis, " in material.describe()
    plan = StreamPlan(hours=0.05, seed=3, wake_gap_s=(0.2, 0.3), **QUIET)
    built = build_stream(material, plan, tmp_path / "w.wav", tmp_path / "w.tsv")
    labels = read_truth(tmp_path / "w.tsv")
    assert [word.keyword for word in labels] == [word.keyword for word in built.truth]
    pcm = read_audio(tmp_path / "w.wav", RATE)
    wakes = [item for item in built.items if item.kind == "wake"]
    keywords = [item for item in built.items if item.kind == "keyword"]
    assert len(wakes) == len(keywords) == sum(built.words.values()) > 5
    for wake, keyword in zip(wakes, keywords, strict=True):
        assert built.items[built.items.index(wake) + 1] is keyword
        # Between the two lie the pause and the margins of both clips.
        assert 0.2 <= keyword.start_s - wake.end_s <= 0.3 + 0.2 + 0.01
        assert (wake.text, wake.level_dbfs, wake.snr_db) == (
            "Jarvis",
            keyword.level_dbfs,
            keyword.snr_db,
        )
        heard = pcm[round(wake.start_s * RATE) : round(wake.end_s * RATE)]
        assert strongest_hz(heard) == pytest.approx(1700, abs=20)


@pytest.mark.parametrize("seed", range(12))
def test_no_stream_ends_between_a_wake_word_and_its_keyword(
    folder: Path, tmp_path: Path, seed: int
) -> None:
    write_wav(tmp_path / "jarvis" / "0.wav", clip_of(1700, 0.6, 0.2), RATE)
    material = gather(folder / "clips", ["yes"], wake=tmp_path / "jarvis")
    plan = StreamPlan(hours=0.01, words_per_hour=900, others_per_hour=0, speech=0, seed=seed)
    kinds = [item.kind for _, item in lay_items(material, plan) if item is not None]
    said = [kind for kind in kinds if kind in ("wake", "keyword")]
    assert said == ["wake", "keyword"] * (len(said) // 2) != []


def test_more_words_than_an_hour_holds_with_their_wake_words_are_refused(
    folder: Path, tmp_path: Path
) -> None:
    write_wav(tmp_path / "jarvis" / "0.wav", clip_of(1700, 0.6, 0.2), RATE)
    plan = StreamPlan(hours=0.01, words_per_hour=1000, others_per_hour=0, speech=0)
    assert list(lay_items(gather(folder / "clips", ["yes"]), plan))
    material = gather(folder / "clips", ["yes"], wake=tmp_path / "jarvis")
    with pytest.raises(KwsError, match=r"each after 'jarvis'\. Received: 1000, and 0 others"):
        list(lay_items(material, plan))


def test_the_command_builds_a_stream_with_a_wake_word(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    write_wav("jarvis/0.wav", clip_of(1700, 0.6, 0.2), RATE)
    given = ["data", "stream", str(folder / "clips"), "--keywords", "yes,no", "--hours", "0.02"]
    given += ["--sentences", str(folder / "talk"), "-o", "w.wav", "--wake-clips", "jarvis"]
    assert run(given) == 0
    labels = [word.keyword for word in read_truth("w.tsv")]
    assert labels[::2] == ["jarvis"] * (len(labels) // 2) and set(labels[1::2]) == {"yes", "no"}
    assert f"w.tsv: {len(labels)} labels" in capsys.readouterr().out
    assert run([*given, "--no-commands"]) == 2
    assert "--wake-clips come before keywords" in capsys.readouterr().err


def test_a_wake_word_is_said_nowhere_else(folder: Path, tmp_path: Path) -> None:
    write_wav(tmp_path / "rain" / "0.wav", clip_of(1700, 0.6, 0.2), RATE)
    write_wav(tmp_path / "tree" / "0.wav", clip_of(1700, 0.6, 0.2), RATE)
    given = {"sentences": folder / "talk", "sentence_parts": ["training", "validation", "testing"]}
    free = gather(folder / "clips", ["yes", "no"], **given)
    said = {path.stem for path in free.sentences}
    rain = gather(folder / "clips", ["yes", "no"], wake=tmp_path / "rain", **given)
    assert {path.stem for path in rain.sentences} == said - {"0"}  # "it rains"
    tree = gather(folder / "clips", ["yes", "no"], wake=tmp_path / "tree", **given)
    assert free.others and not tree.others
    with pytest.raises(KwsError, match="must not be a keyword, too"):
        gather(folder / "clips", ["yes", "tree"], wake=tmp_path / "tree", **given)


def test_people_of_other_parts_are_not_heard(folder: Path) -> None:
    everything = scan(folder / "clips")
    for part in ("validation", "testing", "training"):
        found = gather(folder / "clips", ["yes", "no"], parts=[part], sentences=folder / "talk")
        assert {split_of(p.name) for paths in found.words.values() for p in paths} == {part}
        assert {split_of(path.parent.name) for path in found.sentences} == {part}
        assert {path.parent.name for path in found.others} == {"tree"}
        n = len(everything.select(split=part, words=["yes"]))
        assert len(found.words["yes"]) == n > 0
    chosen = gather(folder / "clips", ["yes"], sentences=folder / "talk", speakers=["s1", "s2"])
    assert {path.parent.name for path in chosen.sentences} == {"s1", "s2"}


def test_a_list_of_speakers_may_begin_with_a_byte_order_mark(folder: Path, tmp_path: Path) -> None:
    who = tmp_path / "who.txt"
    who.write_bytes(b"\xef\xbb\xbfs1\r\ns2\r\n")
    stream = ["data", "stream", f"{folder}/clips", "--sentences", f"{folder}/talk", "--hours"]
    options = ["0.01", "--no-commands", "--others-per-hour", "0", "--speakers", f"@{who}"]
    assert run([*stream, *options, "-o", str(tmp_path / "s.wav")]) == 0


def test_sentences_that_may_hold_a_keyword_are_left_out(folder: Path) -> None:
    found = gather(folder / "clips", ["yes", "no"], sentences=folder / "talk", speakers=["s1"])
    # "i know", "say yes" and "no-one" are not; "he won't" is, as nobody listens for "one".
    assert [path.stem for path in found.sentences] == ["0", "3", "4", "6"]


@pytest.mark.parametrize(
    ("keyword", "held", "free"),
    [
        ("stop", "He STOPPED.|non-stop music|Stops!|stopping", "top|stopwatch"),
        ("no", "I know|knows, well|it is known|NO,", "not|now|nothing|note"),
        ("right", "write it|he writes|writing|it's alright-right", "bright|alright"),
        ("go", "goes|going|let's go", "good|gone|goat"),
        ("off", "off", "offer|office|of"),
        ("one", "he won't|won|ones|one's own", "only|on"),
        ("on", "come on!|on-line", "one|upon"),
    ],
)
def test_forms_of_a_keyword_are_found_in_transcripts(keyword: str, held: str, free: str) -> None:
    forbidden = Forbidden([keyword])
    assert all(forbidden.among(text) in forms_of(keyword) for text in held.split("|"))
    assert [text for text in free.split("|") if forbidden.among(text)] == []


@pytest.mark.parametrize(
    ("keyword", "held", "free"),
    [
        (
            "hey computer",
            "And hey, computers!|HEY-COMPUTER|hey _computer_",
            "computer, hey|hey|hey my computer",
        ),
        ("turn on", "it turned on|turning on the light", "turn it on|turn|on"),
        ("turn right", "turn, write", "right turn"),
        ("don't stop", "don’t stop|don't stopping", "don't|stop|do stop"),
        ("wake-up", "wake up|a wake-up call", "wakeup"),
        ("हाँ", "हाँ जी", "वह है"),
        ("Straße", "die STRASSE", "strass"),
    ],
)
def test_a_phrase_is_found_word_by_word(keyword: str, held: str, free: str) -> None:
    forbidden = Forbidden(["other", keyword])
    assert [text for text in held.split("|") if not forbidden.among(text)] == []
    assert [text for text in free.split("|") if forbidden.among(text)] == []


def test_a_label_that_holds_a_keyword_gives_no_other_words(tmp_path: Path) -> None:
    for label in ("hey computer", "computers", "Computer", "house", "not_computer"):
        for i in range(20):
            write_wav(tmp_path / label / f"s{i}_nohash_0.wav", np.zeros(100, np.int16))
    write_wav(tmp_path / "_background_noise_" / "n.wav", np.ones(20_000, np.int16))

    def others(keyword: str) -> set[str]:
        found = gather(tmp_path, [keyword], commands=False)
        return {path.parent.name for path in found.others}

    assert others("computer") == {"house", "not_computer"}
    assert others("hey computer") == {"computers", "Computer", "house", "not_computer"}


def test_clips_of_a_keyword_lie_in_folders_of_any_case(folder: Path) -> None:
    plain, shouted = (gather(folder / "clips", [word]) for word in ("yes", "YES"))
    assert shouted.words["YES"] == plain.words["yes"] and shouted.others == plain.others


def test_a_stream_without_commands_has_no_labels_and_none_of_their_tones(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = tmp_path / "n.wav"
    arguments = ["data", "stream", f"{folder}/clips", "--sentences", f"{folder}/talk"]
    arguments += ["--keywords", "yes,no", "--hours", "0.05", "--no-commands", "-o", str(stream)]
    assert run([*arguments, "--snr", "60", "60", "--noise", "0", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["seconds"] == 180
    assert facts["words"] == {}
    assert read_truth(tmp_path / "n.tsv") == []
    pcm = read_audio(stream)
    spectrum = np.abs(np.fft.rfft(pcm.astype(np.float64)))

    def energy(hz: float) -> float:
        at = round(hz * len(pcm) / RATE)
        return float(np.square(spectrum[at - 300 : at + 300]).sum())

    assert energy(TONES["tree"]) > 1000 * energy(TONES["yes"])
    assert energy(5000) > 1000 * energy(TONES["no"])


def test_a_stream_of_real_speech_is_built_and_labelled(real_speech: Path, tmp_path: Path) -> None:
    found = gather(
        real_speech / "speech_commands", ["yes", "no", "stop"], sentences=real_speech / "sentences",
        sentence_parts=["validation", "testing"],
    )  # fmt: skip
    plan = StreamPlan(hours=0.05, words_per_hour=500)
    built = build_stream(found, plan, tmp_path / "s.wav", tmp_path / "s.tsv")
    assert [w.keyword for w in read_truth(tmp_path / "s.tsv")] == [w.keyword for w in built.truth]
    lengths = [word.end_s - word.start_s for word in built.truth]
    assert 0.25 < np.median(lengths) < 0.7
    assert 20 <= sum(built.words.values()) <= 25
    pcm = read_audio(tmp_path / "s.wav")
    assert np.mean(np.abs(pcm) == 32767) < 1e-4


def test_several_folders_of_clips_and_of_sentences_count_as_one(
    folder: Path, tmp_path: Path
) -> None:
    write_wav(tmp_path / "mine" / "yes" / "speaker0_nohash_0.wav", clip_of(400, 0.4, 0.2), RATE)
    write_wav(tmp_path / "mine" / "lamp" / "speaker0_nohash_0.wav", clip_of(700, 0.4, 0.2), RATE)
    parts = ["training", "validation", "testing"]
    one = gather(folder / "clips", ["yes"], parts=parts, sentences=folder / "talk")
    both = gather(
        [tmp_path / "mine", folder / "clips"], ["yes"], parts=parts,
        sentences=[folder / "talk", folder / "talk"],
    )  # fmt: skip
    assert len(both.words["yes"]) == len(one.words["yes"]) + 1
    assert {path.parent.name for path in both.others} == {"no", "tree", "lamp"}
    assert both.sentences == one.sentences * 2
    # The noise of the one folder that has any.
    assert [len(pcm) for pcm in both.noise] == [len(pcm) for pcm in one.noise]
    with pytest.raises(KwsError, match=r"No clips of sofa in the .* part of .*mine and .*clips"):
        gather([tmp_path / "mine", folder / "clips"], ["sofa"], parts=parts)


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (["--hours", "0"], 1, "more than 0 hours. Received: 0"),
        (["--hours", "nan"], 1, "more than 0 hours"),
        (["--hours", "40"], 1, "holds 37.3 hours. Received: 40"),
        (["--hours", "1e9"], 1, "holds 37.3 hours. Received: 1e+09"),
        (["--hours", "inf"], 1, "holds 37.3 hours. Received: inf"),
        (["--words-per-hour", "5000"], 1, "single words with these pauses. Received: 5200"),
        (["--words-per-hour", "-1"], 1, "must be 0 or more"),
        (["--snr", "20", "10"], 1, "snr_db must go from a lower to a higher number"),
        (["--gap", "-1", "1"], 1, "A pause must not be negative"),
        (["--speech", "0", "--noise", "0", "--silence", "0"], 1, "one above 0"),
        (["--speech", "0.5"], 1, "There are no sentences. Received"),
        (["--speech", "0", "--keywords", "yes,marvin"], 1, "No clips of marvin"),
        (["--part", "practice"], 1, "Unknown part of the data. Received: 'practice'"),
        (["--speakers", "s1"], 1, "Add --sentences DIR"),
        (["--speakers", "s1,nobody", "--sentences", "{talk}"], 1, "recordings of the speaker nobo"),
        (["--speakers", "@nowhere", "--sentences", "{talk}"], 1, "Cannot read the list"),
        (["--sentences", "{clips}"], 1, "has no transcripts.tsv"),
        (["--sentences", "nowhere"], 1, "The folder nowhere does not exist"),
        (["--noise-dir", "nowhere"], 1, "The folder nowhere does not exist"),
        (["--keywords", ","], 2, "separated by commas"),
        (["-o", "stream.mp3"], 2, "--out must end in .wav"),
        (["--labels", "./s.wav"], 2, "--labels must differ from --out"),
        (["-o", "{talk}/transcripts.tsv/s.wav"], 1, "is a file"),
        (["--labels", "{clips}"], 1, "The output must be a file"),
        (["--seed", "-1"], 2, "--seed"),
    ],
)
def test_each_wrong_use_ends_in_one_line(
    arguments: list[str],
    status: int,
    complaint: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    clips, talk = folder / "clips", folder / "talk"
    given = [argument.format(clips=clips, talk=talk) for argument in arguments]
    common = ["data", "stream", str(clips), "--keywords", "yes,no", "-o", "s.wav"]
    assert run([*common, *given]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert complaint in captured.err.splitlines()[-1]
    assert len([line for line in captured.err.splitlines() if " clips of " not in line]) <= 1
    assert list(tmp_path.iterdir()) == []


def test_digital_silence_among_the_noise_is_not_amplified(material: Material) -> None:
    dead = np.zeros(5 * RATE, np.int16)
    only = Material(words={}, others=(), sentences=(), noise=(dead,))
    plan = StreamPlan(hours=0.01, words_per_hour=0, others_per_hour=0, speech=0)
    with pytest.raises(
        KwsError, match=r"1 recording, none of at least a second .* with --noise-dir DIR"
    ):
        list(lay_items(only, plan))
    both = Material(words={}, others=(), sentences=(), noise=(dead, material.noise[0]))
    pcm = np.concatenate([pcm for pcm, _ in lay_items(both, plan)])
    assert pcm.any()


def test_without_noise_the_error_names_an_option_that_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for i in range(20):
        write_wav(tmp_path / "clips" / "yes" / f"s{i}_nohash_0.wav", np.zeros(100, np.int16), RATE)
    common = ["data", "stream", "clips", "--keywords", "yes", "-o", "s.wav"]
    assert run(common) == 1
    assert "Give recordings of noise with --noise-dir DIR" in capsys.readouterr().err
    write_wav(tmp_path / "noise" / "n.wav", tone(300, 2.0).astype(np.int16), RATE)
    few = ["--hours", "0.001", "--others-per-hour", "0", "--no-commands", "--speech", "0"]
    assert run([*common, *few, "--noise-dir", "noise"]) == 0


def test_one_of_a_kind_is_counted_in_the_singular(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, noise = Path("yes/a_nohash_0.wav"), (np.ones(RATE, np.int16),)
    one = Material(words={"yes": (clip,)}, others=(), sentences=(clip,), noise=noise)
    expected = "1 clip of 1 keyword, 0 of other words, 1 sentence, 1 recording of noise"
    assert one.describe() == expected
    stream = ["data", "stream", f"{folder}/clips", "--sentences", f"{folder}/talk", "--hours"]
    rates = ["0.01", "--words-per-hour", "100", "--others-per-hour", "0", "--keywords", "yes"]
    assert run([*stream, *rates, "-o", str(tmp_path / "s.wav")]) == 0
    assert capsys.readouterr().out.endswith("s.tsv: 1 label\n")


def test_items_say_what_they_are(material: Material) -> None:
    items = [item for _, item in lay_items(material, StreamPlan(hours=0.1)) if item]
    assert {item.kind for item in items} == {"keyword", "other", "sentence", "noise", "silence"}
    for item in items:
        assert isinstance(item, LaidItem)
        assert (item.snr_db is None) == (item.kind in ("noise", "silence"))
        assert bool(item.source) == (item.snr_db is not None)
