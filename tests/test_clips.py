"""The index of a data folder: what it finds, how it splits, what it costs, what it complains of."""

from __future__ import annotations

import os
import shutil
import tracemalloc
import unicodedata
from pathlib import Path

import numpy as np
import pytest

import kws.data.scan
from kws.data.clips import ClipIndex
from kws.data.enough import require_enough_clips
from kws.data.scan import scan
from kws.data.split import RECORD, SPLITS, split_of, training_speaker
from kws.errors import KwsError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("KWS_CACHE", str(folder))
    return folder


def make(root: Path, names: dict[str, list[str]]) -> Path:
    """Make empty files; an index looks at names only."""
    for label, clips in names.items():
        (root / label).mkdir(parents=True, exist_ok=True)
        for name in clips:
            (root / label / name).touch()
    return root


def speakers(n: int, suffix: str = "wav") -> list[str]:
    return [f"{i * 2654435761 % 2**32:08x}_nohash_0.{suffix}" for i in range(n)]


def age(root: Path) -> None:
    """Make everything look a minute old: what was touched just now is not cached."""
    for path in [root, *root.rglob("*")]:
        stamp = path.stat().st_mtime - 60
        os.utime(path, (stamp, stamp))


def everything(index: ClipIndex) -> list[tuple[str, str, str, str]]:
    n = range(len(index))
    return [(index.path(i), index.word(i), index.speaker(i), index.split(i)) for i in n]


def test_a_data_set_for_measuring_is_all_for_testing_and_training_refuses_it(
    tmp_path: Path,
) -> None:
    root = make(tmp_path / "data", {"yes": speakers(40), "no": speakers(40)})
    before = scan(root)
    assert {before.split(i) for i in range(80)} == {"training", "validation", "testing"}
    (root / RECORD).write_text('{"name": "data", "split": "testing"}')
    index = scan(root)
    assert {index.split(i) for i in range(80)} == {"testing"}
    with pytest.raises(KwsError, match="keeps all of it for measuring"):
        require_enough_clips([index], ["yes", "no"])


@pytest.mark.parametrize("content", ['{"split": "speaker_hash"}', "[]", "no JSON", ""])
def test_other_records_leave_the_parts_to_the_speakers(tmp_path: Path, content: str) -> None:
    root = make(tmp_path / "data", {"yes": speakers(40)})
    before = everything(scan(root))
    (root / RECORD).write_text(content)
    assert everything(scan(root)) == before


def test_every_format_is_found_and_everything_else_passed_over(tmp_path: Path) -> None:
    root = make(
        tmp_path / "data",
        {
            "yes": ["a.wav", "b.FLAC", "c.ogg", "d.opus", "e.mp3", ".hidden.wav", "notes.txt"],
            "no": ["n.wav", "Thumbs.db"],
            "_unknown_": ["u.wav"],
            "_silence_": ["s.wav"],
            "_background_noise_": ["tap.wav", "README.md"],
            "_private": ["x.wav"],
            ".git": ["y.wav"],
            "empty": [],
        },
    )
    (root / "README.md").touch()
    (root / "loose.wav").touch()
    (root / "yes" / "folder.wav").mkdir()
    index = scan(root)
    assert index.paths == [
        "_silence_/s.wav",
        "_unknown_/u.wav",
        "no/n.wav",
        *(f"yes/{name}" for name in ("a.wav", "b.FLAC", "c.ogg", "d.opus", "e.mp3")),
    ]
    assert index.counts() == {"_silence_": 1, "_unknown_": 1, "no": 1, "yes": 5}
    assert index.words[:3] == ["_silence_", "_unknown_", "no"]
    assert index.noise == (root.resolve() / "_background_noise_" / "tap.wav",)


def test_names_of_any_script_come_back_as_they_are_on_disk(tmp_path: Path) -> None:
    names = ["grüß gott_nohash_0.wav", "はい.wav", "a b'c.wav"]
    index = scan(make(tmp_path / "data", {"ja 是": names}))
    assert sorted(index.paths) == sorted(f"ja 是/{name}" for name in names)
    assert all((index.root / path).exists() for path in index.paths)


def test_the_hash_of_the_speaker_splits_where_there_are_no_lists(tmp_path: Path) -> None:
    index = scan(make(tmp_path / "data", {"yes": speakers(300), "no": speakers(300)}))
    assert index.split_rule == "speaker" and index.n_speakers == 300
    assert [index.split(i) for i in range(len(index))] == [split_of(p) for p in index.paths]


def test_lists_win_over_the_hash(tmp_path: Path) -> None:
    root = make(tmp_path / "data", {"yes": speakers(100), "no": speakers(100)})
    picked = [f"yes/{name}" for name in speakers(100) if split_of(name) == "training"][:7]
    (root / "validation_list.txt").write_text("\n".join([*picked, "no/none.wav"]))
    index = scan(root)
    assert index.split_rule == "lists"
    assert index.select(split="validation").paths == sorted(picked)
    assert not len(index.select(split="testing"))


def test_a_word_that_no_list_mentions_is_split_by_the_hash(tmp_path: Path) -> None:
    root = make(tmp_path / "data", {"yes": speakers(50), "own": speakers(50)})
    (root / "testing_list.txt").write_text(f"yes/{speakers(1)[0]}\n")
    own = scan(root).select(words=["own"])
    assert [own.split(i) for i in range(50)] == [split_of(path) for path in own.paths]


def test_a_list_of_wav_names_still_fits_a_set_that_was_converted(tmp_path: Path) -> None:
    root = make(tmp_path / "data", {"yes": speakers(20, "flac")})
    (root / "validation_list.txt").write_text(f"yes/{speakers(1)[0]}\n")
    assert scan(root).select(split="validation").paths == [f"yes/{speakers(1, 'flac')[0]}"]


def test_few_speakers_are_split_by_clip_so_that_no_part_is_empty(tmp_path: Path) -> None:
    names = [f"me_nohash_{i}.wav" for i in range(100)]
    index = scan(make(tmp_path / "data", {"hey": names, "ho": names}))
    assert index.split_rule == "clip" and index.n_speakers == 1
    for word in ("hey", "ho"):
        for part in ("training", "validation", "testing"):
            assert len(index.select(split=part, words=[word])) > 2
    assert require_enough_clips([index], ["hey", "ho"]) == []


def parts(index: ClipIndex, word: str) -> list[int]:
    """Clips of a word for training, validation and testing."""
    return [len(index.select(split=part, words=[word])) for part in SPLITS]


KIM = [f"a6312121_nohash_{i}.wav" for i in range(20)]
"""By a speaker whose hash says testing."""


def test_false_alarms_take_nobody_out_of_training_and_are_trained_on_themselves(
    tmp_path: Path,
) -> None:
    root = make(tmp_path / "data", {"computer": KIM, "_unknown_": [KIM[0]]})
    before = scan(root)
    assert before.split_rule == "clip" and parts(before, "computer") == [15, 2, 3]
    for n in (5, 40):
        alarms = [training_speaker(f"{i:08x}") for i in range(n)]
        make(root, {"_unknown_": [f"{name}_nohash_{i}.wav" for name in alarms for i in range(3)]})
        after = scan(root, cached=False)
        assert after.split_rule == "clip" and parts(after, "computer") == [15, 2, 3]
        assert parts(after, "_unknown_")[0] >= 3 * n
        assert require_enough_clips([after], ["computer"]) == []


def test_other_speech_by_one_person_is_not_all_kept_for_measuring(tmp_path: Path) -> None:
    index = scan(make(tmp_path / "data", {"yes": speakers(9), "_unknown_": KIM}))
    assert all(parts(index, "_unknown_"))


def test_generated_voices_do_not_count_as_people_and_keep_apart_by_voice(tmp_path: Path) -> None:
    voices = [f"espeak-m{i}_nohash_{k}.wav" for i in range(40) for k in range(2)]
    index = scan(make(tmp_path / "data", {"computer": KIM + voices}))
    assert index.split_rule == "clip"
    people, generated = (index.take(np.flatnonzero(index.generated == k)) for k in (False, True))
    assert parts(people, "computer") == [15, 2, 3]
    assert generated.splits.tolist() == [SPLITS.index(split_of(p)) for p in generated.paths]
    few = scan(
        make(tmp_path / "few", {"computer": [f"espeak-a_nohash_{k}.wav" for k in range(90)]})
    )
    assert few.split_rule == "clip" and all(parts(few, "computer"))


def test_whoever_recorded_most_of_it_is_not_left_to_one_hash(tmp_path: Path) -> None:
    # Missed words that were added without a speaker count as one speaker each.
    index = scan(
        make(tmp_path / "data", {"computer": KIM + speakers(19), "no": speakers(300)[290:]})
    )
    mine = index.take([i for i in range(len(index)) if index.speaker(i) == "a6312121"])
    assert index.split_rule == "speaker" and parts(mine, "computer") == [0, 0, 20]
    index = scan(make(tmp_path / "less", {"computer": KIM + speakers(19)}))
    mine = index.take([i for i in range(len(index)) if index.speaker(i) == "a6312121"])
    assert index.split_rule == "speaker" and parts(mine, "computer") == [15, 2, 3]
    others = index.take([i for i in range(len(index)) if index.speaker(i) != "a6312121"])
    assert [others.split(i) for i in range(19)] == [split_of(path) for path in others.paths]


def test_recordings_that_are_not_learnt_from_are_said_although_generated_ones_are(
    tmp_path: Path,
) -> None:
    root = make(tmp_path / "words", {"computer": KIM, "no": speakers(100)})
    voices = [f"espeak-m{i}_nohash_0.wav" for i in range(100)]
    generated = scan(make(tmp_path / "generated", {"computer": voices}))
    with pytest.raises(KwsError, match=r"No clip of computer .* training part"):
        require_enough_clips([scan(root)], ["computer", "no"])
    (line,) = require_enough_clips([scan(root), generated], ["computer", "no"])
    assert line.startswith("computer: only 0 of its 20 recordings are trained on")
    assert "the hash of the speaker" in line and "other speakers" in line
    (root / RECORD).write_text('{"split": "testing"}')  # that is what they are for
    assert require_enough_clips([scan(root), generated], ["computer"]) == []


def test_selecting_keeps_columns_together(tmp_path: Path) -> None:
    index = scan(make(tmp_path / "data", {w: speakers(80) for w in ("a", "b", "c")}))
    chosen = index.select(split="training", words=["c", "a", "nothing"])
    assert everything(chosen) == [
        row for row in everything(index) if row[1] in "ac" and row[3] == "training"
    ]
    assert everything(index.take([5, 2])) == [everything(index)[5], everything(index)[2]]
    with pytest.raises(KwsError, match="Unknown part"):
        index.select(split="train")


def test_a_second_look_reads_the_cache_and_sees_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make(tmp_path / "data", {"yes": speakers(50), "_background_noise_": ["tap.wav"]})
    age(root)
    first = scan(root)
    monkeypatch.setattr(kws.data.scan, "_scan", None)  # a second look must not need it
    second = scan(root)
    assert everything(second) == everything(first)
    assert (second.noise, second.split_rule) == (first.noise, first.split_rule)


def test_any_change_of_the_folder_is_seen(tmp_path: Path) -> None:
    root = make(tmp_path / "data", {"yes": speakers(50)})
    age(root)
    assert len(scan(root)) == 50
    (root / "yes" / "new.wav").touch()
    assert len(scan(root)) == 51
    make(root, {"no": ["a.wav"]})
    assert scan(root).labels == ("no", "yes")
    age(root)
    assert len(scan(root)) == 52
    (root / "validation_list.txt").write_text("yes/new.wav\n")
    assert scan(root).select(split="validation").paths == ["yes/new.wav"]
    shutil.rmtree(root / "no")
    assert len(scan(root)) == 51


def test_a_damaged_or_unwritable_cache_costs_time_only(tmp_path: Path, cache: Path) -> None:
    root = make(tmp_path / "data", {"yes": speakers(50)})
    age(root)
    assert len(scan(root)) == 50
    stored = list((cache / "index").iterdir())
    assert len(stored) == 1
    stored[0].write_bytes(stored[0].read_bytes()[:100])
    assert len(scan(root)) == 50
    shutil.rmtree(cache)
    cache.write_text("a file where the folder should be")
    assert len(scan(root)) == 50


def test_100_000_clips_stay_in_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Names as from a disk, without 100,000 files: 35 labels of 2,858 clips each.
    root = make(tmp_path / "data", {f"word{i:02}": [] for i in range(35)})
    monkeypatch.setattr(kws.data.scan, "_clip_names", lambda folder: speakers(2858))
    scan(root, cached=False)  # imports and caches of the interpreter
    tracemalloc.start()
    try:
        index = scan(root, cached=False)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(index) == 100_030
    assert kept < 50 * len(index) and peak < 20e6


def test_faults_of_a_data_folder_are_one_line_each(tmp_path: Path) -> None:
    def line(root: Path) -> str:
        with pytest.raises(KwsError) as caught:
            scan(root)
        assert "\n" not in str(caught.value) and root.name in str(caught.value)
        return str(caught.value)

    assert "does not exist" in line(tmp_path / "none")
    (tmp_path / "file").touch()
    assert "a file" in line(tmp_path / "file")
    (tmp_path / "bare").mkdir()
    assert "no label folders. Received: an empty folder" in line(tmp_path / "bare")
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "yes.wav").touch()
    assert "no label folders. Received: yes.wav" in line(tmp_path / "flat")
    make(tmp_path / "unheard", {"_background_noise_": []})
    assert "no label folders" in line(tmp_path / "unheard")
    make(tmp_path / "hollow", {"yes": ["notes.txt"], "no": []})
    assert "contains no clips. Received: 2 folders (no, yes)" in line(tmp_path / "hollow")


def test_a_folder_of_background_noise_alone_is_data_too(tmp_path: Path) -> None:
    root = make(tmp_path / "data", {"_background_noise_": ["tap.wav"]})
    index = scan(root)
    assert len(index) == 0 and [path.name for path in index.noise] == ["tap.wav"]
    with pytest.raises(KwsError, match="No clips of yes"):
        require_enough_clips([index], ["yes"])


def test_labels_that_cannot_be_trained_on_are_named_with_their_number(tmp_path: Path) -> None:
    names = {"yes": speakers(100), "go": ["a.wav", "b.wav"], "no": speakers(5)}
    index = scan(make(tmp_path / "data", names))
    with pytest.raises(KwsError, match=r"Received: go has 2; each label needs at least 5"):
        require_enough_clips([index], ["yes", "go"])
    with pytest.raises(KwsError, match="No clips of left"):
        require_enough_clips([index], ["yes", "left"])
    with pytest.raises(KwsError, match="go has 2, no has 5; each label needs at least 8"):
        require_enough_clips([index], ["yes", "go", "no"], minimum=8)
    assert require_enough_clips([index], ["yes"]) == []


def test_a_word_has_the_clips_of_its_folders_in_any_case(tmp_path: Path) -> None:
    composed, apart = "ça", unicodedata.normalize("NFD", "ÇA")
    index = scan(make(tmp_path / "data", {"yes": speakers(60), "no": speakers(100)}))
    other = scan(make(tmp_path / "other", {"Yes": speakers(30), apart: speakers(20)}))
    assert set(index.select(words=["YES"]).words) == {"yes"}
    assert set(other.select(words=[composed]).words) == {apart}
    assert require_enough_clips([index, other], ["YES", composed]) == []
    with pytest.raises(KwsError, match="YES has 90, ça has 20; each label needs at least 95"):
        require_enough_clips([index, other], ["YES", composed, "no"], minimum=95)


def test_a_word_without_validation_clips_is_a_warning_and_all_of_them_an_error(
    tmp_path: Path,
) -> None:
    training = [name for name in speakers(200) if split_of(name) == "training"][:20]
    testing = [name for name in speakers(200) if split_of(name) == "testing"][:20]
    names = {"yes": speakers(100), "no": training, "go": testing}
    index = scan(make(tmp_path / "data", names))
    warnings = require_enough_clips([index], ["yes", "no"])
    assert len(warnings) == 1 and warnings[0].startswith("no: none of its 20 clips")
    with pytest.raises(KwsError, match="validation part"):
        require_enough_clips([index], ["no"])
    with pytest.raises(KwsError, match=r"No clip of go .* training part"):
        require_enough_clips([index], ["yes", "go"])
