"""Windows of running speech: what is cut, and what is left out."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from sounds import hiss

from kws.audio.files import read_audio, write_wav
from kws.data.speech_windows import cut_speech
from kws.data.split import split_of
from kws.data.transcripts import free_sentences
from kws.errors import KwsError


def speech(root: Path, recordings: dict[str, tuple[str, np.ndarray]]) -> Path:
    lines = ["utterance\ttranscript"]
    for name, (transcript, pcm) in recordings.items():
        write_wav(root / f"{name}.wav", pcm)
        lines.append(f"{name}\t{transcript}")
    (root / "transcripts.tsv").write_text("\n".join(lines) + "\n")
    return root


def test_sentences_with_a_keyword_or_what_sounds_like_it_are_left_out(tmp_path: Path) -> None:
    root = speech(
        tmp_path / "speech",
        {
            "anna/1": ("GO AWAY", hiss(1000)),
            "anna/2": ("I KNOW YOU", hiss(1000)),
            "ben/1": ("AGO AND NOBODY GONE", hiss(1000)),
            "ben/2": ("say: no!", hiss(1000)),
            "ben/3": ("fine weather", hiss(1000)),
        },
    )
    write_wav(root / "ben" / "without_transcript.wav", hiss(1000))
    windows = cut_speech(root, ["go", "no"], clip_samples=1000)
    assert len(windows) == 2
    np.testing.assert_array_equal(windows.pcm[0], read_audio(root / "ben" / "1.wav"))
    np.testing.assert_array_equal(windows.pcm[1], read_audio(root / "ben" / "3.wav"))
    assert windows.recordings == ("ben/1.wav", "ben/3.wav")
    assert len(cut_speech(root, clip_samples=1000)) == 5


def test_a_table_of_transcripts_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    root = speech(tmp_path / "speech", {"a/1": ("fine", hiss(1000)), "a/2": ("no", hiss(1000))})
    table = root / "transcripts.tsv"
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())
    assert cut_speech(root, ["no"], clip_samples=1000).recordings == ("a/1.wav",)


def test_training_leaves_out_what_a_verdict_leaves_out_phrases_and_inflections_too(
    tmp_path: Path,
) -> None:
    said = {
        "anna/1": "then somebody said hey computer to it",
        "anna/2": "hey you at the computer",
        "anna/3": "two computers here",
        "anna/4": "it computes",
        "anna/5": "The Crème-Brûlée was fine",
    }
    said["anna/5"] = unicodedata.normalize("NFD", said["anna/5"])
    root = speech(tmp_path / "speech", {name: (text, hiss(1000)) for name, text in said.items()})
    for keyword, held in (
        ("hey computer", [1]),
        ("Hey_Computer", [1]),
        ("computer", [1, 2, 3]),
        ("crème brûlée", [5]),
    ):
        windows = cut_speech(root, [keyword], clip_samples=1000)
        free = [f"{name}.wav" for name in said if int(name[-1]) not in held]
        assert list(windows.recordings) == free
        assert free_sentences(root, [f"{name}.wav" for name in said], [keyword]) == free


def test_windows_start_at_every_hop_and_pauses_are_dropped(tmp_path: Path) -> None:
    pcm = hiss(5000)
    pcm[2000:4000] //= 500
    windows = cut_speech(
        speech(tmp_path / "speech", {"anna/1": ("x", pcm)}), clip_samples=1000, hop_samples=500
    )
    expected = [pcm[i : i + 1000] for i in (0, 500, 1000, 1500, 3500, 4000)]
    np.testing.assert_array_equal(windows.pcm, expected)
    np.testing.assert_array_equal(windows.starts, [0, 500, 1000, 1500, 3500, 4000])


def test_the_speakers_of_sentences_are_split_by_the_same_hash(tmp_path: Path) -> None:
    names = [f"{i:04}" for i in range(60)]
    root = speech(tmp_path / "speech", {f"{n}/a": ("x", hiss(100)) for n in names})
    windows = cut_speech(root, clip_samples=100)
    assert windows.recordings == tuple(f"{name}/a.wav" for name in names)
    expected = [i for i, name in enumerate(names) if split_of(name) == "validation"]
    assert 0 < len(expected) < 30
    validation = windows.select("validation")
    np.testing.assert_array_equal(validation.pcm, windows.pcm[expected])
    assert [validation.recordings[i] for i in validation.recording_ids] == [
        f"{names[i]}/a.wav" for i in expected
    ]


def test_folders_of_running_speech_that_cannot_be_used_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(KwsError, match="does not exist"):
        cut_speech(tmp_path / "none")
    (tmp_path / "bare").mkdir()
    with pytest.raises(KwsError, match="no recordings"):
        cut_speech(tmp_path / "bare")
    root = speech(tmp_path / "speech", {"anna/1": ("go", hiss(100))})
    with pytest.raises(KwsError, match="free of the keywords"):
        cut_speech(root, ["go"])
    (root / "transcripts.tsv").write_text("file\ttext\n")
    with pytest.raises(KwsError, match="lacks a column"):
        cut_speech(root)
