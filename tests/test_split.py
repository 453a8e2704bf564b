"""The parts of Speech Commands: the original's rule, and its lists."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from kws.data.split import SPLITS, read_lists, speaker_of, split_of
from kws.errors import KwsError


def which_set(filename: str, validation_percentage: float, testing_percentage: float) -> str:
    """Return what the README of Speech Commands describes, written independently of the kit."""
    hash_name = re.sub(r"_nohash_.*$", "", filename.rsplit("/", 1)[-1])
    number = int(hashlib.sha1(hash_name.encode()).hexdigest(), 16) % (2**27 - 1 + 1)
    percentage = number * (100.0 / (2**27 - 1))
    if percentage < validation_percentage:
        return "validation"
    if percentage < validation_percentage + testing_percentage:
        return "testing"
    return "training"


def test_the_hash_equals_the_official_list_for_real_speakers(real_speech: Path) -> None:
    root = real_speech / "speech_commands"
    official = set((root / "validation_list.txt").read_text().split())
    clips = [path.relative_to(root).as_posix() for path in root.glob("[!_]*/*.wav")]
    assert len(official) > 200 and len(clips) > 2 * len(official) - 200
    wrong = [c for c in clips if split_of(c) != ("validation" if c in official else "training")]
    assert wrong == []


def test_the_hash_equals_the_published_rule_for_any_speaker() -> None:
    names = [f"word/{i * 2654435761 % 2**32:08x}_nohash_{i % 4}.wav" for i in range(20_000)]
    parts = [split_of(name) for name in names]
    assert parts == [which_set(name, 10, 10) for name in names]
    assert {part: round(parts.count(part) / len(parts), 1) for part in SPLITS} == {
        "training": 0.8,
        "validation": 0.1,
        "testing": 0.1,
    }


def test_a_speaker_never_stands_on_two_sides() -> None:
    for speaker in ("0a7c2a8d", "me", "ünïcode", "a b"):
        names = [
            f"{word}/{speaker}_nohash_{i}.{kind}"
            for word in ("yes", "no")
            for i in range(9)
            for kind in ("wav", "flac")
        ]
        assert len({split_of(name) for name in names}) == 1


def test_a_clip_without_a_speaker_keeps_its_part_in_another_format() -> None:
    names = [f"recording {i}" for i in range(200)]
    assert [split_of(f"{n}.wav") for n in names] == [split_of(f"{n}.flac") for n in names]
    assert {split_of(n) for n in names} == set(SPLITS)


@pytest.mark.parametrize(
    ("name", "speaker"),
    [
        ("yes/3cfc6b3a_nohash_0.wav", "3cfc6b3a"),
        ("3cfc6b3a_nohash_12.opus", "3cfc6b3a"),
        ("yes/take.two.wav", "take.two"),
        ("a_nohash_b_nohash_1.wav", "a"),
    ],
)
def test_the_speaker_is_the_name_up_to_the_marker(name: str, speaker: str) -> None:
    assert speaker_of(name) == speaker


def test_lists_are_read_whatever_their_line_ends_and_absent_lists_are_none(tmp_path: Path) -> None:
    assert read_lists(tmp_path) is None
    (tmp_path / "validation_list.txt").write_bytes(
        b"\xef\xbb\xbfyes/a_nohash_0.wav\r\n\r\nno\\b.wav\r\n"  # as Windows' editors write it
    )
    (tmp_path / "testing_list.txt").write_text("no/c.wav\n")
    assert read_lists(tmp_path) == {
        "yes/a_nohash_0": "validation",
        "no/b": "validation",
        "no/c": "testing",
    }


def test_a_list_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "testing_list.txt").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(KwsError, match=r"testing_list\.txt is not a list"):
        read_lists(tmp_path)
