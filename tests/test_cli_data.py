"""`kws data list | info | fetch | add`, run as a user runs them."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from loopback import Site, serve

from kws.audio.files import read_audio, write_wav
from kws.cli import run
from kws.data.recording.word_clips import speaker_id
from kws.data.scan import scan
from kws.data.split import SPLITS, speaker_of, split_of

RATE = 16000


def tone(seconds: float, hz: float = 440.0, level: float = 0.3) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    return np.round(32767 * level * np.sin(2 * np.pi * hz * t)).astype(np.int16)


def small_archive(labels: tuple[str, ...] = ("yes", "no", "_background_noise_")) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for label in labels:
            content = f"a clip of {label}".encode()
            member = tarfile.TarInfo(f"./{label}/a_nohash_0.wav")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


ARCHIVE = small_archive()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KWS_DATA", str(tmp_path / "home"))
    monkeypatch.delenv("KWS_MIRROR", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "home"


@pytest.fixture
def site() -> Iterator[Site]:
    with serve(Site(ARCHIVE)) as running:
        yield running


def recipe_file(folder: Path, url: str, *, name: str = "small", **changes: str | None) -> Path:
    values = {
        "name": f'"{name}"',
        "title": '"Three clips"',
        "description": '"For tests."',
        "urls": f'["{url}"]',
        "size_bytes": str(len(ARCHIVE)),
        "sha256": f'"{hashlib.sha256(ARCHIVE).hexdigest()}"',
        "unpacked_limit_bytes": "10_000",
        "licence": '"CC-BY-4.0"',
        "citation": '"A. Nybody, 2024"',
        "homepage": '"https://example.org"',
        "sample_rate_hz": "16000",
        "labels": '["yes", "no"]',
        "split": '"speaker_hash"',
        "layout": '"<word>/*.wav"',
        **changes,
    }
    path = folder / f"{name}.toml"
    path.write_text("".join(f"{key} = {value}\n" for key, value in values.items() if value))
    return path


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    told = capsys.readouterr().err.splitlines()
    lines = [x for x in told if x.startswith("kws: ") and "cannot be verified" not in x]
    assert len(lines) == 1
    return lines[0]


def test_list_shows_every_data_set_and_which_are_here(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label in ("_background_noise_",):
        (home / "background_noise" / label).mkdir(parents=True)
    assert run(["data", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert [line.split()[0] for line in lines if " here " in line] == ["background_noise"]
    assert run(["data", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {entry["name"]: entry["present"] for entry in listed}["background_noise"] is True
    assert sum(entry["present"] for entry in listed) == 1


def test_looking_for_data_sets_needs_no_folder_and_creates_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KWS_DATA", raising=False)
    (tmp_path / "file").touch()
    for cache in (tmp_path / "file" / "kws", tmp_path / "cache"):
        monkeypatch.setenv("KWS_CACHE", str(cache))
        assert run(["data", "list"]) == 0
        assert " here " not in capsys.readouterr().out
    assert files_in(tmp_path) == ["file"]


@pytest.mark.parametrize("command", [["fetch", "background_noise"], ["add", "hello", "a.wav"]])
def test_a_data_home_that_is_not_writable_is_said_before_the_work(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("KWS_DATA", str(tmp_path / "file" / "data"))
    assert run(["data", *command]) == 1
    line = one_line(capsys)
    assert line.startswith("kws: The data home is not writable. Received: ")
    assert "--to" in line and "KWS_DATA" in line


def test_info_prints_all_fields_and_where_the_data_is(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", "info", "speech_commands_v0.02"]) == 0
    text = capsys.readouterr().out
    for fact in ("2,428,923,189", "af14739ee7dc", "CC-BY-4.0", "arXiv:1804.03209", "no (kws data"):
        assert fact in text
    assert run(["data", "info", "speech_commands_v0.02", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["size_bytes"] == 2_428_923_189
    assert facts["present"] is False
    assert facts["folder"] is None
    assert len(facts["labels"]) == 35


def test_an_unknown_data_set_is_one_line(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "info", "speech_commands_v0.2"]) == 1
    assert "Did you mean" in one_line(capsys)


def test_what_is_fetched_for_measuring_is_all_testing_clips(
    home: Path, site: Site, tmp_path: Path
) -> None:
    recipe = recipe_file(tmp_path, site.url(), split='"testing"')
    assert run(["data", "fetch", str(recipe)]) == 0
    index = scan(home / "small", cached=False)
    assert [index.split(i) for i in range(len(index))] == ["testing", "testing"]


def test_fetch_downloads_verifies_unpacks_and_then_is_a_no_op(
    home: Path, site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(recipe_file(tmp_path, site.url()))
    site.faults = [{"break_after": 50}]
    assert run(["data", "fetch", recipe]) == 0
    out, talk = capsys.readouterr()
    assert out.strip() == str(home / "small")
    assert "verified" in talk
    assert "A. Nybody, 2024" in talk
    assert (home / "small" / "yes" / "a_nohash_0.wav").read_bytes() == b"a clip of yes"
    assert files_in(home) == ["small"]
    assert len(site.requests) == 2
    assert run(["data", "fetch", recipe]) == 0
    out, talk = capsys.readouterr()
    assert out.strip() == str(home / "small")
    assert "already there" in talk
    assert len(site.requests) == 2
    assert run(["data", "info", recipe, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["folder"] == str(home / "small")


def test_fetch_to_another_home_and_keep_the_archive(home: Path, site: Site, tmp_path: Path) -> None:
    recipe = str(recipe_file(tmp_path, site.url()))
    assert run(["data", "fetch", recipe, "--to", str(tmp_path / "b"), "--keep-archive"]) == 0
    assert files_in(tmp_path / "b") == ["small", "speech.tar.gz"]
    assert files_in(home) == []


def test_a_wrong_sum_stops_before_anything_is_unpacked(
    home: Path, site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.content = small_archive(("yes", "no", "_background_noise_"))[:-1] + b"x"
    assert run(["data", "fetch", str(recipe_file(tmp_path, site.url()))]) == 1
    line = one_line(capsys)
    assert hashlib.sha256(site.content).hexdigest() in line
    assert hashlib.sha256(ARCHIVE).hexdigest() in line
    assert files_in(home) == []


def test_an_archive_that_cannot_be_verified_is_said_with_its_sum(
    home: Path, site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_file(tmp_path, site.url(), sha256=None, unverified_because='"nobody told"')
    assert run(["data", "fetch", str(recipe)]) == 0
    talk = capsys.readouterr().err
    assert "cannot be verified: nobody told" in talk
    assert hashlib.sha256(ARCHIVE).hexdigest() in talk


def test_a_download_that_turns_out_to_be_no_archive_is_not_kept(
    home: Path, site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.content = b"<html>Please log in</html>" * 100
    because = '"nobody told"'
    recipe = str(
        recipe_file(tmp_path, site.url(), sha256=None, size_bytes=None, unverified_because=because)
    )
    assert run(["data", "fetch", recipe]) == 1
    assert "in an unsupported format" in one_line(capsys)
    assert files_in(home) == []
    site.content = ARCHIVE
    assert run(["data", "fetch", recipe]) == 0


def test_a_mirror_is_used_instead_as_address_folder_or_variable(
    home: Path, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = str(recipe_file(tmp_path, "https://example.invalid/data/mine.tar.gz"))
    mirror = f"http://127.0.0.1:{site.port}/mirror/"
    assert run(["data", "fetch", recipe, "--mirror", mirror, "--to", str(tmp_path / "a")]) == 0
    assert site.requests[0]["path"] == "/mirror/mine.tar.gz"
    monkeypatch.setenv("KWS_MIRROR", mirror)
    assert run(["data", "fetch", recipe, "--to", str(tmp_path / "b")]) == 0
    assert len(site.requests) == 2
    local = tmp_path / "on disk"
    local.mkdir()
    (local / "mine.tar.gz").write_bytes(ARCHIVE)
    assert run(["data", "fetch", recipe, "--mirror", str(local), "--to", str(tmp_path / "c")]) == 0
    assert len(site.requests) == 2
    assert files_in(local) == ["mine.tar.gz"]


def test_a_mirror_has_archives_whose_names_are_no_addresses(
    home: Path, site: Site, tmp_path: Path
) -> None:
    recipe = str(recipe_file(tmp_path, "https://example.invalid/my%20data%23%C3%BC.tar.gz"))
    mirror = f"http://127.0.0.1:{site.port}"
    assert run(["data", "fetch", recipe, "--mirror", mirror, "--to", str(tmp_path / "a")]) == 0
    assert [request["path"] for request in site.requests] == ["/my%20data%23%C3%BC.tar.gz"]
    (tmp_path / "my data#ü.tar.gz").write_bytes(ARCHIVE)
    assert run(["data", "fetch", recipe, "--mirror", str(tmp_path)]) == 0


def test_an_archive_that_the_user_has_is_verified_used_and_left_alone(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(recipe_file(tmp_path, "https://example.invalid/mine.tar.gz"))
    mine = tmp_path / "renamed.bin"
    mine.write_bytes(ARCHIVE[:-1])
    assert run(["data", "fetch", recipe, "--from", str(mine)]) == 1
    assert "is not the right file" in one_line(capsys)
    assert files_in(home) == []
    assert mine.exists()
    mine.write_bytes(ARCHIVE)
    assert run(["data", "fetch", recipe, "--from", str(mine)]) == 0
    assert (home / "small" / "no").is_dir()
    assert mine.read_bytes() == ARCHIVE
    assert run(["data", "fetch", recipe, "--to", str(tmp_path / "b"), "--from", "none"]) == 1
    assert "no such archive" in one_line(capsys)


def test_an_archive_without_the_labels_is_refused_and_leaves_nothing(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.tar.gz"
    mine.write_bytes(ARCHIVE)
    recipe = recipe_file(tmp_path, "https://example.invalid/m.tgz", labels='["yes", "maybe"]')
    assert run(["data", "fetch", str(recipe), "--from", str(mine)]) == 1
    assert "the folders maybe are missing" in one_line(capsys)
    assert files_in(home) == []


def test_a_folder_of_that_name_with_other_things_is_not_touched(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "small").mkdir(parents=True)
    (home / "small" / "mine.txt").write_text("mine")
    recipe = recipe_file(tmp_path, "https://example.invalid/m.tgz")
    assert run(["data", "fetch", str(recipe)]) == 1
    assert "is taken" in one_line(capsys)
    assert files_in(home / "small") == ["mine.txt"]


def test_the_background_noise_comes_from_the_whole_data_set_if_that_is_here(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = home / "speech_commands_v0.02"
    assert run(["data", "info", "speech_commands_v0.02", "--json"]) == 0
    for label in json.loads(capsys.readouterr().out)["labels"]:
        (whole / label).mkdir(parents=True)
        (whole / label / "a_nohash_0.wav").write_bytes(b"clip")
    (whole / "_background_noise_").mkdir()
    (whole / "_background_noise_" / "pink_noise.wav").write_bytes(b"noise")
    assert run(["data", "fetch", "background_noise"]) == 0
    folder = home / "background_noise"
    assert (folder / "_background_noise_" / "pink_noise.wav").read_bytes() == b"noise"
    assert [name for name in files_in(folder) if not name.startswith(".")] == ["_background_noise_"]


def test_only_the_included_members_of_an_archive_are_unpacked(home: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.tar.gz"
    mine.write_bytes(ARCHIVE)
    recipe = recipe_file(
        tmp_path,
        "https://example.invalid/m.tgz",
        labels='["_background_noise_"]',
        include='["_background_noise_/*"]',
    )
    assert run(["data", "fetch", str(recipe), "--from", str(mine)]) == 0
    assert not (home / "small" / "yes").exists()
    assert (home / "small" / "_background_noise_" / "a_nohash_0.wav").exists()


def test_too_little_space_is_said_before_the_download(
    home: Path, site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_file(tmp_path, site.url(), unpacked_limit_bytes=str(10**17))
    assert run(["data", "fetch", str(recipe)]) == 1
    assert "Not enough space" in one_line(capsys)
    assert site.requests == []


def test_add_makes_clips_as_training_expects_them_and_says_what_it_did(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_wav(tmp_path / "one.wav", tone(1.0), RATE)
    write_wav(tmp_path / "two.wav", tone(0.5, 880), RATE)
    sources = [str(tmp_path / "one.wav"), str(tmp_path / "two.wav")]
    assert run(["data", "add", "computer", *sources, "--whole"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in out] == ["added", "added"]
    clips = sorted((home / "own_words" / "computer").glob("*_nohash_0.wav"))
    assert sorted(len(read_audio(clip)) for clip in clips) == [8000, 16000]
    for clip in clips:
        assert split_of(f"computer/{clip.name}") in SPLITS
    assert len({speaker_of(clip.name) for clip in clips}) == 2


def test_adding_the_same_recording_again_writes_nothing(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_wav(tmp_path / "one.wav", tone(1.0), RATE)
    target = tmp_path / "words"
    for options in ([], ["--speaker", "anna"]):
        command = ["data", "add", "yes", "--whole", str(tmp_path / "one.wav"), *options]
        command += ["--to", str(target)]
        assert run(command) == 0
        before = files_in(target / "yes")
        capsys.readouterr()
        assert run(command) == 0
        assert files_in(target / "yes") == before
        assert capsys.readouterr().out.startswith("already there: ")


def test_a_copy_under_another_name_gets_the_same_clip_name(home: Path, tmp_path: Path) -> None:
    for name in ("a/one.wav", "b/other.wav"):
        write_wav(tmp_path / name, tone(1.0), RATE)
        command = ["data", "add", "yes", "--whole", str(tmp_path / name)]
        assert run([*command, "--to", str(tmp_path / "w")]) == 0
    assert len(files_in(tmp_path / "w" / "yes")) == 1


def test_clips_of_a_speaker_are_numbered_and_never_overwritten(home: Path, tmp_path: Path) -> None:
    target = tmp_path / "words"
    for i in range(3):
        write_wav(tmp_path / f"{i}.wav", tone(0.5, 300 + 50 * i), RATE)
    mine = target / "yes" / "anna_nohash_1.wav"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"not even a sound file")
    sources = [str(tmp_path / f"{i}.wav") for i in range(3)]
    assert (
        run(["data", "add", "yes", *sources, "--whole", "--to", str(target), "--speaker", "anna"])
        == 0
    )
    assert files_in(target / "yes") == [f"anna_nohash_{i}.wav" for i in range(4)]
    assert mine.read_bytes() == b"not even a sound file"
    np.testing.assert_array_equal(
        read_audio(target / "yes" / "anna_nohash_2.wav"), read_audio(tmp_path / "1.wav")
    )


def test_a_clip_with_a_speaker_in_its_name_keeps_it(home: Path, tmp_path: Path) -> None:
    source = tmp_path / "0a7c2a8d_nohash_3.wav"
    write_wav(source, tone(1.0), RATE)
    assert run(["data", "add", "yes", "--whole", str(source), "--to", str(tmp_path / "w")]) == 0
    assert files_in(tmp_path / "w" / "yes") == ["0a7c2a8d_nohash_3.wav"]


@pytest.mark.parametrize("name", ["John Smith", "Zoë", "ann@home", "x" * 70])
def test_a_speakers_name_that_cannot_stand_in_a_clips_name_becomes_a_code_of_it(
    home: Path, tmp_path: Path, name: str
) -> None:
    for number in (1, 2):
        write_wav(tmp_path / f"{name}_nohash_{number}.wav", tone(1.0 + number), RATE)
    files = map(str, sorted(tmp_path.glob("*.wav")))
    assert run(["data", "add", "yes", "--whole", *files, "--to", str(tmp_path / "w")]) == 0
    expected = [f"{speaker_id(name)}_nohash_{number}.wav" for number in (1, 2)]
    assert files_in(tmp_path / "w" / "yes") == expected


def test_silent_short_and_broken_recordings_are_refused_by_name_and_the_others_added(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_wav(tmp_path / "good.wav", tone(0.2), RATE)
    write_wav(tmp_path / "short.wav", tone(0.19), RATE)
    write_wav(tmp_path / "silent.wav", np.zeros(RATE, np.int16), RATE)
    write_wav(tmp_path / "offset.wav", np.full(RATE, 9000, np.int16), RATE)
    (tmp_path / "text.wav").write_text("this is no sound")
    names = ["short.wav", "silent.wav", "offset.wav", "text.wav", "missing.wav", "good.wav"]
    target = tmp_path / "w"
    command = ["data", "add", "yes", "--whole", *(str(tmp_path / name) for name in names)]
    command += ["--to", str(target)]
    assert run(command) == 1
    out, talk = capsys.readouterr()
    refused = [line for line in talk.splitlines() if line.startswith("refused: ")]
    assert len(refused) == 5
    for name, line in zip(names, refused, strict=False):
        assert name in line
    assert "5 of 6 recordings were refused" in talk
    assert len(out.splitlines()) == 1
    assert len(files_in(target / "yes")) == 1


def test_a_quiet_but_audible_recording_is_added(home: Path, tmp_path: Path) -> None:
    write_wav(tmp_path / "quiet.wav", tone(1.0, level=0.003), RATE)
    assert run(["data", "add", "yes", "--whole", str(tmp_path / "quiet.wav")]) == 0


@pytest.mark.parametrize(
    "word", ["", " ", "a/b", "a\\b", "..", "_silence_", ".hidden", "a\nb", "x" * 65, " a", "a:b"]
)
def test_a_word_that_cannot_be_a_folder_is_refused(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    write_wav(tmp_path / "one.wav", tone(1.0), RATE)
    target = tmp_path / "w"
    assert run(["data", "add", word, str(tmp_path / "one.wav"), "--to", str(target)]) == 1
    assert "cannot be the name of a word" in one_line(capsys)
    assert not target.exists()


@pytest.mark.parametrize("speaker", ["", "a/b", "a_nohash_b", "-x", "é"])
def test_a_bad_speaker_is_refused(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], speaker: str
) -> None:
    write_wav(tmp_path / "one.wav", tone(1.0), RATE)
    assert run(["data", "add", "yes", str(tmp_path / "one.wav"), "--speaker", speaker]) == 1
    assert "A speaker's name" in one_line(capsys)


@pytest.mark.parametrize("word", ["computer", "grüezi", "hey snips", "x-ray"])
def test_words_of_any_language_are_names(home: Path, tmp_path: Path, word: str) -> None:
    write_wav(tmp_path / "one.wav", tone(1.0), RATE)
    assert run(["data", "add", word, "--whole", str(tmp_path / "one.wav")]) == 0
    assert files_in(home / "own_words") == [word]


def test_missing_arguments_are_bad_usage(home: Path) -> None:
    assert run(["data", "add", "yes"]) == 2
    assert run(["data", "fetch"]) == 2
    assert run(["data", "frobnicate"]) == 2
