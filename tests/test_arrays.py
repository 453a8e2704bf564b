"""Clips as arrays: what they hold, and that the cache is right."""

from __future__ import annotations

import os
import wave
from pathlib import Path

import numpy as np
import pytest
from sounds import hiss

import kws.data.arrays
from kws.audio.files import read_audio, write_wav
from kws.data.arrays import fit_clip, load_clips, load_good_clips
from kws.errors import KwsError
from kws.system.cache import make_room

RNG = np.random.default_rng(2)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("KWS_CACHE", str(folder))
    return folder


@pytest.fixture
def clips(tmp_path: Path) -> tuple[Path, list[str]]:
    paths = [f"{word}/s{i}_nohash_0.wav" for word in ("no", "yes") for i in range(150)]
    for path in paths:
        target = tmp_path / "data" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(target), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes(hiss(400).tobytes())
    return tmp_path / "data", paths


def test_rows_are_the_clips_in_the_order_asked_for(clips: tuple[Path, list[str]]) -> None:
    root, paths = clips
    order = [paths[i] for i in RNG.permutation(len(paths))]
    pcm = load_clips(root, order, 400)
    assert pcm.dtype == np.int16 and pcm.shape == (300, 400)
    for row, path in zip(pcm, order, strict=True):
        np.testing.assert_array_equal(row, read_audio(root / path))


def test_the_second_time_nothing_is_decoded(
    clips: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, paths = clips
    first = np.array(load_clips(root, paths, 400))
    monkeypatch.setattr(kws.data.arrays, "read_audio", None)
    np.testing.assert_array_equal(load_clips(root, paths, 400), first)


def test_a_changed_clip_another_length_or_another_choice_is_decoded_anew(
    clips: tuple[Path, list[str]],
) -> None:
    root, paths = clips
    load_clips(root, paths, 400)
    changed = hiss(400)
    write_wav(root / paths[7], changed)
    os.utime(root / paths[7], (1, 1))
    np.testing.assert_array_equal(load_clips(root, paths, 400)[7], changed)
    assert load_clips(root, paths, 300).shape == (300, 300)
    assert load_clips(root, paths[:10], 400).shape == (10, 400)
    assert load_clips(root, [], 400).shape == (0, 400)


def test_a_damaged_cache_is_made_again(clips: tuple[Path, list[str]], cache: Path) -> None:
    root, paths = clips
    first = np.array(load_clips(root, paths, 400))
    for stored in (cache / "arrays").iterdir():
        stored.write_bytes(stored.read_bytes()[:200])
    np.testing.assert_array_equal(load_clips(root, paths, 400), first)


def test_without_a_writable_cache_the_same_is_made_and_said_once(
    clips: tuple[Path, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, paths = clips
    expected = np.array(load_clips(root, paths, 400))
    (tmp_path / "file").touch()
    monkeypatch.setenv("KWS_CACHE", str(tmp_path / "file" / "kws"))
    np.testing.assert_array_equal(load_clips(root, paths, 400), expected)
    np.testing.assert_array_equal(load_clips(root, paths[:9], 400), expected[:9])
    err = capsys.readouterr().err
    assert err.count("is not writable") == err.count("\n") == 1


def test_a_bad_clip_is_named_and_nothing_half_written_is_left(
    clips: tuple[Path, list[str]], cache: Path
) -> None:
    root, paths = clips
    (root / paths[200]).write_text("oops")
    with pytest.raises(KwsError, match=r"s50_nohash_0\.wav is not a sound file"):
        load_clips(root, paths, 400)
    (root / paths[200]).unlink()
    with pytest.raises(KwsError, match=r"s50_nohash_0\.wav does not exist"):
        load_clips(root, paths, 400)
    assert list((cache / "arrays").iterdir()) == []


def test_an_interruption_leaves_nothing_half_written(
    clips: tuple[Path, list[str]], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, paths = clips

    def interrupted(path: Path) -> np.ndarray:
        if path.name.startswith("s99"):
            raise KeyboardInterrupt
        return read_audio(path)

    monkeypatch.setattr(kws.data.arrays, "read_audio", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_clips(root, paths, 400)
    assert list((cache / "arrays").iterdir()) == []


def test_bad_clips_can_be_left_out_and_are_said(
    clips: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    root, paths = clips
    bad = [3, 128, 129, 200, 299]
    for i in bad:
        (root / paths[i]).write_text("oops")
    pcm, kept, _ = load_good_clips(root, paths, 400)
    assert kept.tolist() == [i for i in range(300) if i not in bad]
    assert pcm.shape == (295, 400)
    np.testing.assert_array_equal(pcm[-1], read_audio(root / paths[298]))
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 4 and "s3_nohash_0.wav" in said[0] and "skipped 5 of 300" in said[-1]
    again, kept_again, _ = load_good_clips(root, paths, 400)
    np.testing.assert_array_equal(again, pcm)
    np.testing.assert_array_equal(kept_again, kept)


def test_leaving_out_every_clip_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("oops")
    with pytest.raises(KwsError, match=r"No clip in .* can be read"):
        load_good_clips(tmp_path, ["a.wav"])


def test_a_full_disk_leaves_nothing_behind(
    clips: tuple[Path, list[str]], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, paths = clips
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    monkeypatch.setattr(kws.data.arrays, "_BATCH", 10)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
        with pytest.raises(OSError):
            load_clips(root, paths, 400)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert list((cache / "arrays").iterdir()) == []


def test_short_recordings_are_padded_at_the_end() -> None:
    pcm = hiss(700)
    fitted = fit_clip(pcm, 1000)
    np.testing.assert_array_equal(fitted[:700], pcm)
    assert fitted.shape == (1000,) and not fitted[700:].any()


@pytest.mark.parametrize("at", [0, 20_000, 64_000])
def test_of_long_recordings_the_loudest_second_is_taken(at: int) -> None:
    pcm = hiss(80_000, 20)
    pcm[at : at + 16_000] = hiss(16_000, 5000)
    fitted = fit_clip(pcm, 16_000)
    start = next(i for i in range(64_001) if (pcm[i : i + 50] == fitted[:50]).all())
    assert abs(start - at) <= 320


def test_it_is_known_where_in_its_recording_a_clip_begins(tmp_path: Path) -> None:
    paths = ["short.wav", "exact.wav", "long.wav", "bad.wav", "longer.wav"]
    for name, samples in zip(paths, (700, 1000, 4000, 2, 9000), strict=True):
        write_wav(tmp_path / name, np.concatenate([hiss(samples // 2, 20), hiss(samples // 2)]))
    (tmp_path / "bad.wav").write_text("oops")
    for _ in range(2):  # decoded, and then from the cache
        pcm, kept, starts = load_good_clips(tmp_path, paths, 1000)
        assert kept.tolist() == [0, 1, 2, 4]
        assert starts[0] == starts[1] == 0 and starts[2] >= 2000 and starts[3] >= 4500
        for clip, i, start in zip(pcm, kept, starts, strict=True):
            whole = read_audio(tmp_path / paths[i])[start:]
            np.testing.assert_array_equal(clip[: len(whole)], whole[:1000])


def test_a_short_word_in_silence_is_not_left_at_the_edge() -> None:
    pcm = np.zeros(80_000, np.int16)
    pcm[30_000:34_000] = hiss(4000, 5000)
    loud = np.flatnonzero(fit_clip(pcm, 16_000))
    assert loud[0] > 4000 and loud[-1] < 12_000


def test_the_cache_forgets_what_was_unused_for_longest(tmp_path: Path) -> None:
    for age, name in ((1, "new"), (3, "old"), (2, "middle")):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    make_room(tmp_path, 50, limit_bytes=260)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["middle", "new"]
