"""Finding the sounds of speech in recordings whose words are known."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from kws.audio.files import read_audio, write_wav
from kws.data import phones
from kws.data.phones import PHONES, SILENCE_PHONE, UNKNOWN_PHONE, Aligner, aligned, cut
from kws.errors import KwsError

pytest.importorskip("pocketsphinx")


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``a/<text>.wav``: half a second of silence, a generated voice, half a second of silence."""
    pytest.importorskip("espeakng_loader")
    from kws.data.synthesis.synth import speak

    root = tmp_path_factory.mktemp("spoken")
    for text in ("stop the music", "seven"):
        pcm = speak(text, "en-us")
        pause = np.zeros(8000, np.int16)
        (root / "a").mkdir(exist_ok=True)
        write_wav(root / "a" / f"{text}.wav", np.concatenate([pause, pcm, pause]))
    return root


def heard(found: np.ndarray) -> list[str]:
    return [PHONES[phone] for phone, _ in groupby(found)]


def test_the_sounds_come_in_the_order_of_the_dictionary_between_the_silences(spoken: Path) -> None:
    pcm = read_audio(spoken / "a" / "stop the music.wav")
    found = Aligner().align(pcm, "Stop the music!")
    assert found is not None and len(found) == len(pcm) // 160
    said = [phone for phone in heard(found) if phone != "SIL"]
    assert said in (
        ["S", "T", "AA", "P", "DH", "AH", "M", "Y", "UW", "Z", "IH", "K"],
        ["S", "T", "AA", "P", "DH", "IY", "M", "Y", "UW", "Z", "IH", "K"],
    )
    # The pauses are 50 frames each, and of the voice there is at least half a second.
    assert (found[:40] == SILENCE_PHONE).all() and (found[-40:] == SILENCE_PHONE).all()
    assert (found != SILENCE_PHONE).sum() > 50


@pytest.mark.parametrize("text", ["", "!?", "stop the fnordling", "mañana", "route 66", "звук"])
def test_what_the_dictionary_does_not_have_is_passed_over(spoken: Path, text: str) -> None:
    assert Aligner().align(read_audio(spoken / "a" / "seven.wav"), text) is None


@pytest.mark.parametrize("samples", [0, 100, 2000])
def test_a_recording_too_short_for_its_words_is_passed_over(samples: int) -> None:
    assert Aligner().align(np.zeros(samples, np.int16), "stop the music") is None


def test_recordings_are_aligned_once_and_again_when_their_words_change(
    spoken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"a/seven.wav": "seven", "a/stop the music.wav": "blarghness"}
    found = aligned(spoken, said)
    assert list(found) == ["a/seven.wav"]
    one = Aligner().align(read_audio(spoken / "a" / "seven.wav"), "seven")
    np.testing.assert_array_equal(found["a/seven.wav"], one)

    monkeypatch.setattr(phones, "_align", lambda *_: pytest.fail("aligned again"))
    np.testing.assert_array_equal(aligned(spoken, said)["a/seven.wav"], one)
    with pytest.raises(pytest.fail.Exception):
        aligned(spoken, {**said, "a/stop the music.wav": "stop the music"})


def test_interrupted_work_keeps_the_folders_that_were_done(
    spoken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"a/seven.wav": "seven", "b/seven.wav": "seven"}
    for path in said:
        (tmp_path / path).parent.mkdir()
        shutil.copy(spoken / "a" / "seven.wav", tmp_path / path)
    asked, ask = [], phones._ask

    def stop_at_b(process: object, batch: list[list[str]]) -> object:
        asked.append(batch[0][0])
        if "/b/" in asked[-1] and len(asked) == 2:
            raise KeyboardInterrupt
        return ask(process, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(phones, "_ask", stop_at_b)
    monkeypatch.setattr(phones, "usable_cores", lambda: 1)
    with pytest.raises(KeyboardInterrupt):
        aligned(tmp_path, said)
    assert list(aligned(tmp_path, said)) == list(said)
    assert asked == [f"{tmp_path}/{path}" for path in (*said, "b/seven.wav")]


def test_of_two_that_want_the_same_sounds_one_works_and_the_other_waits(
    spoken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fcntl", reason="there is no waiting on Windows")
    (tmp_path / "a").mkdir()
    shutil.copy(spoken / "a" / "seven.wav", tmp_path / "a" / "seven.wav")
    begun, waits, align, work = threading.Event(), threading.Event(), phones._align, []

    def slow(root: Path, folders: dict, said: dict) -> Iterator[tuple[str, list]]:
        work.append(dict(folders))
        begun.set()
        assert waits.wait(60)
        yield from align(root, folders, said)

    monkeypatch.setattr(phones, "_align", slow)
    monkeypatch.setattr(phones, "tell", lambda line: waits.set() if "waiting" in line else None)
    said, found = {"a/seven.wav": "seven"}, []
    first = threading.Thread(target=lambda: found.append(aligned(tmp_path, said)))
    first.start()
    assert begun.wait(60)
    found.append(aligned(tmp_path, said))
    first.join()
    assert work == [{"a": ["a/seven.wav"]}, {}]
    np.testing.assert_array_equal(found[0]["a/seven.wav"], found[1]["a/seven.wav"])


def test_a_damaged_cache_is_made_anew(spoken: Path) -> None:
    from kws.system.cache import cache_folder

    said = {"a/seven.wav": "seven"}
    before = aligned(spoken, said)
    for file in cache_folder("phones").iterdir():
        file.write_bytes(file.read_bytes()[:40])
    np.testing.assert_array_equal(aligned(spoken, said)["a/seven.wav"], before["a/seven.wav"])


def test_an_aligner_that_dies_and_one_that_is_missing_are_one_line(
    spoken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"a/seven.wav": "seven six"}
    monkeypatch.setattr(phones, "_WORKER", "import sys; sys.stdin.readline(); sys.exit(3)")
    with pytest.raises(KwsError, match=r"Received: exit status 3"):
        aligned(spoken, said)
    monkeypatch.setattr(phones, "find_spec", lambda _: None)
    with pytest.raises(KwsError, match=r"pip install 'kws\[train\]'"):
        aligned(spoken, said)


def test_a_piece_past_the_end_of_its_recording_is_silent() -> None:
    whole = np.arange(1, 11, dtype=np.int8)
    assert cut(whole, 0, 480).tolist() == [1, 2, 3]
    assert cut(whole, 800 + 159, 640).tolist() == [6, 7, 8, 9]
    assert cut(whole, 1440, 480).tolist() == [10, SILENCE_PHONE, SILENCE_PHONE]
    assert cut(np.full(3, UNKNOWN_PHONE, np.int8), 0, 160).tolist() == [UNKNOWN_PHONE]
