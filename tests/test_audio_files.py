"""Sound files: what soundfile and librosa make of them, and one line for whatever is wrong."""

from __future__ import annotations

import os
import struct
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from kws.audio.files import iter_audio, read_audio, write_wav
from kws.audio.samples import to_int16
from kws.errors import KwsError

RNG = np.random.default_rng(1)


def noise(n: int, channels: int = 1) -> np.ndarray:
    """Return float64 [n, channels] with peaks up to full scale."""
    return np.clip(RNG.normal(0, 0.3, (n, channels)), -1, 1)


def as_int16(samples: np.ndarray) -> np.ndarray:
    """Return the documented conversion of float64 [n, channels], written out once more."""
    return np.array(
        [min(32767, max(-32768, round(32768 * v))) for v in samples.mean(axis=1)], np.int16
    )


def wave_bytes(
    content: bytes,
    *,
    code: int = 1,
    channels: int = 1,
    rate: int = 16000,
    bits: int = 16,
    promised: int | None = None,
    chunks: bytes = b"",
    frame_bytes: int | None = None,
    after: bytes = b"",
) -> bytes:
    frame = channels * bits // 8 if frame_bytes is None else frame_bytes
    fmt = struct.pack("<HHIIHH", code, channels, rate, rate * frame, frame, bits)
    size = len(content) if promised is None else promised
    body = b"WAVE" + b"fmt " + struct.pack("<I", 16) + fmt + chunks
    body += b"data" + struct.pack("<I", size & 0xFFFFFFFF) + content + after
    return b"RIFF" + struct.pack("<I", len(body)) + body


def complaint(path: Path) -> str:
    """Return the one line that reading `path` ends in, the same whole and in blocks."""
    with pytest.raises(KwsError) as whole:
        read_audio(path)
    with pytest.raises(KwsError) as blocks:
        list(iter_audio(path, 100))
    line = str(whole.value)
    assert line == str(blocks.value)
    assert "\n" not in line
    assert path.name in line, "the line must name the file"
    assert "Received: " in line
    return line


@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64"])
@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_every_wav_coding_gives_what_soundfile_reads(
    tmp_path: Path, container: str, channels: int, subtype: str
) -> None:
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path / "clip.wav"
    soundfile.write(path, noise(3001, channels), 16000, subtype=subtype, format=container)
    oracle, _ = soundfile.read(path, dtype="float64", always_2d=True)
    pcm = read_audio(path)
    assert pcm.dtype == np.int16 and pcm.shape == (3001,)
    np.testing.assert_array_equal(pcm, as_int16(oracle))


@pytest.mark.parametrize("container", ["WAV", "WAVEX"])
def test_floats_beyond_full_scale_are_clipped(tmp_path: Path, container: str) -> None:
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path / "loud.wav"
    soundfile.write(path, np.array([1.5, -1.5, 0.5, 1.0]), 16000, subtype="FLOAT", format=container)
    assert read_audio(path).tolist() == [32767, -32768, 16384, 32767]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("clip.flac", {"subtype": "PCM_16"}),
        ("clip.flac", {"subtype": "PCM_24"}),
        ("clip.ogg", {"subtype": "VORBIS"}),
        ("clip.opus", {"format": "OGG", "subtype": "OPUS"}),
        ("clip.mp3", {"format": "MP3"}),
        ("clip.aiff", {"subtype": "PCM_16"}),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_compressed_formats_give_what_soundfile_decodes(
    tmp_path: Path, name: str, settings: dict[str, str], channels: int
) -> None:
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path / name
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    soundfile.write(path, np.repeat(tone[:, None], channels, axis=1), 16000, **settings)
    oracle, _ = soundfile.read(path, dtype="float64", always_2d=True)
    pcm = read_audio(path)
    # The MP3 decoder's floats differ by 0.004 LSB after a seek, which the oracle makes.
    np.testing.assert_allclose(pcm, as_int16(oracle), atol=1 if name == "clip.mp3" else 0)
    assert np.corrcoef(pcm[:16000], tone[: len(pcm)])[0, 1] > 0.99


def test_floats_become_int16_and_peaks_slightly_above_full_scale_are_clipped() -> None:
    samples = np.array([[0.5, -0.25], [1.02, -1.7]])
    expected = [[16384, -8192], [32767, -32768]]
    for dtype in ("f2", "f4", "f8"):
        assert to_int16(samples.astype(dtype)).tolist() == expected
    assert to_int16(np.zeros(0)).shape == (0,)


@pytest.mark.parametrize(
    ("samples", "says"),
    [
        (np.array([3, -20_000], np.int32), "int32.*samples >> 16"),
        (np.array([3, -20_000], np.int16), "int16 needs no conversion"),
        (np.array([0.5, np.nan]), "NaN or infinity. Received: 1 of 2 samples"),
        (np.array([-np.inf, np.nan]), "NaN or infinity. Received: 2 of 2 samples"),
        (np.array([0.0, -20_000.0], np.float32), "peak of 20000.*astype"),
        # A quiet room in the scale of 16 bits.
        (np.rint(20 * noise(500)), "peak of [1-9].*astype"),
    ],
)
def test_what_is_not_floats_of_full_scale_one_does_not_become_int16(
    samples: np.ndarray, says: str
) -> None:
    with pytest.raises(KwsError, match=says):
        to_int16(samples)


def test_what_a_file_is_follows_from_its_content_not_its_name(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path / "really_flac.wav"
    samples = to_int16(noise(500)[:, 0])
    soundfile.write(path, samples, 16000, format="FLAC")
    np.testing.assert_array_equal(read_audio(path), samples)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
def test_other_rates_are_converted_as_soxr_does_in_one_piece(tmp_path: Path, rate: int) -> None:
    soundfile, soxr = pytest.importorskip("soundfile"), pytest.importorskip("soxr")
    path = tmp_path / "clip.wav"
    soundfile.write(path, 0.2 * noise(7 * rate + 7, 2), rate, subtype="PCM_24")  # many blocks
    oracle = soxr.resample(soundfile.read(path)[0].mean(axis=1), rate, 16000, quality="HQ")
    pcm = read_audio(path)
    assert len(pcm) == len(oracle)
    assert np.abs(pcm - 32768.0 * oracle).max() <= 0.6


def test_a_converted_tone_is_the_same_tone(tmp_path: Path) -> None:
    pytest.importorskip("soxr")
    path = tmp_path / "tone.wav"
    write_wav(path, to_int16(0.5 * np.sin(2 * np.pi * 1000 * np.arange(44100) / 44100)), 44100)
    pcm = read_audio(path)
    ideal = 16384 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    assert len(pcm) == 16000
    assert np.abs(pcm - ideal)[400:-400].max() <= 3


@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize("chunk", [1, 160, 1600, 7919, 10**6])
def test_blocks_joined_are_the_whole_file(tmp_path: Path, rate: int, chunk: int) -> None:
    pytest.importorskip("soxr")
    path = tmp_path / "clip.wav"
    write_wav(path, to_int16(noise(9001)[:, 0]), rate)
    blocks = list(iter_audio(path, chunk))
    assert all(len(block) == chunk for block in blocks[:-1])
    np.testing.assert_array_equal(np.concatenate(blocks), read_audio(path))


@pytest.mark.parametrize("rate", [16000, 48000])
def test_hours_are_read_in_a_few_megabytes(tmp_path: Path, rate: int) -> None:
    pytest.importorskip("soxr")
    path = tmp_path / "long.wav"
    seconds = 1800
    size = 2 * rate * seconds
    path.write_bytes(wave_bytes(b"", rate=rate, promised=size))
    with path.open("r+b") as file:
        file.truncate(44 + size)
    tracemalloc.start()
    try:
        total = sum(len(block) for block in iter_audio(path, 16000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 16000 * seconds
    assert peak < 8e6


def test_sixteen_bit_mono_survives_writing_and_reading(tmp_path: Path) -> None:
    samples = np.array([0, 1, -1, 32767, -32768], np.int16)
    write_wav(tmp_path / "new" / "clip.wav", samples)
    np.testing.assert_array_equal(read_audio(tmp_path / "new" / "clip.wav"), samples)


def test_a_written_file_is_what_soundfile_writes(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    samples = to_int16(noise(1000)[:, 0])
    write_wav(tmp_path / "ours.wav", samples, 8000)
    soundfile.write(tmp_path / "theirs.wav", samples, 8000, subtype="PCM_16")
    assert (tmp_path / "ours.wav").read_bytes() == (tmp_path / "theirs.wav").read_bytes()


@pytest.mark.parametrize(
    "samples",
    [np.zeros(10), np.zeros((2, 10), np.int16), np.zeros(0, np.int16), np.zeros(5, np.int32)],
    ids=["float", "two-dimensional", "nothing", "int32"],
)
def test_only_mono_int16_is_written_and_nothing_is_left_behind(
    tmp_path: Path, samples: np.ndarray
) -> None:
    with pytest.raises(KwsError):
        write_wav(tmp_path / "clip.wav", samples)
    assert list(tmp_path.iterdir()) == []


def test_chunks_that_mean_nothing_here_are_passed_over(tmp_path: Path) -> None:
    odd = b"LIST" + struct.pack("<I", 5) + b"INFOx" + b"\0"  # an odd chunk has a padding byte
    content = np.arange(100, dtype="<i2").tobytes()
    path = tmp_path / "clip.wav"
    path.write_bytes(wave_bytes(content, chunks=odd * 3, after=odd))
    assert read_audio(path).tolist() == list(range(100))


@pytest.mark.parametrize("promised", [0, 0xFFFFFFFF, 0x7FFFF000, 0x80000000])
def test_a_header_written_before_the_length_was_known_means_to_the_end(
    tmp_path: Path, promised: int
) -> None:
    path = tmp_path / "streamed.wav"
    path.write_bytes(wave_bytes(np.arange(100, dtype="<i2").tobytes(), promised=promised))
    assert read_audio(path).tolist() == list(range(100))


def test_an_empty_data_chunk_before_other_chunks_is_not_taken_for_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "none.wav"
    path.write_bytes(wave_bytes(b"", after=b"LIST" + struct.pack("<I", 4) + b"INFO"))
    assert "0 samples" in complaint(path)


def test_a_cut_off_file_says_what_was_promised_and_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "cut.wav"
    write_wav(path, np.ones(16000, np.int16))
    path.write_bytes(path.read_bytes()[:-12000])
    line = complaint(path)
    assert "cut off" in line and "32,000 bytes" in line and "20,000" in line


@pytest.mark.parametrize("n", [1, 3, 4, 8, 11, 12, 15, 20, 35, 36, 40, 43])
def test_a_header_cut_off_anywhere_is_one_line(tmp_path: Path, n: int) -> None:
    path = tmp_path / "cut.wav"
    path.write_bytes(wave_bytes(b"\0\0" * 100)[:n])
    complaint(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"this is not audio\n", "text that begins with 'this is not audi"),
        (b"<html><body>404</body></html>", "text"),
        (b"\x00\x01\x02\x03\xf0\x9f" * 20, "bytes that begin with"),
        (b"\0\0\0\x20ftypM4A \0\0\0\0" * 4, "MP4 or M4A"),
        (b"RIFF\x10\0\0\0AVI " + b"\0" * 50, "'AVI '"),
        (b"fLaC" + b"\0" * 50, "cannot be decoded"),
        (b"OggS" + b"\0" * 50, "cannot be decoded"),
        (wave_bytes(b""), "0 samples"),
        (wave_bytes(b"\0"), "0 samples"),
        (wave_bytes(b"\0\0" * 9, rate=0), "0 Hz"),
        (wave_bytes(b"\0\0" * 9, rate=4_000_000), "4000000 Hz"),
        (wave_bytes(b"\0\0" * 9, channels=0, frame_bytes=2), "number of channels"),
        (wave_bytes(b"\0\0" * 9, channels=60000, frame_bytes=2), "number of channels"),
        (wave_bytes(b"\0" * 9, code=6, bits=8), "A-law"),
        (wave_bytes(b"\0" * 9, code=7, bits=8), "mu-law"),
        (wave_bytes(b"\0" * 9, code=2, bits=4), "ADPCM"),
        (wave_bytes(b"\0" * 9, code=0x1234, bits=8), "0x1234"),
        (wave_bytes(b"\0\0" * 9, code=0xFFFE), "subformat"),
        (wave_bytes(b"\0\0" * 9, bits=12, frame_bytes=2), "12-bit"),
        (wave_bytes(b"\0\0" * 9, code=3), "16-bit floats"),
        (wave_bytes(b"\0\0" * 9, frame_bytes=3), "contradicts itself"),
        (wave_bytes(b"\0\0").replace(b"fmt ", b"fmx "), "no fmt chunk"),
        (wave_bytes(b"\0\0").replace(b"data", b"dato"), "no samples"),
        (b"RIFF\xff\xff\xff\xffWAVELIST\xff\xff\xff\x0fabc", "cut off in its header"),
    ],
)
def test_files_that_are_no_sound_say_what_they_are(
    tmp_path: Path, content: bytes, words: str
) -> None:
    if words == "cannot be decoded":
        pytest.importorskip("soundfile")
    path = tmp_path / "clip.wav"
    path.write_bytes(content)
    assert words in complaint(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_that_are_no_numbers_are_named_with_their_second(
    tmp_path: Path, value: float, bits: int, channels: int
) -> None:
    samples = np.zeros((600_000, channels), f"<f{bits // 8}")
    samples[560_000, -1] = value  # beyond the first block
    path = tmp_path / "nan.wav"
    path.write_bytes(wave_bytes(samples.tobytes(), code=3, channels=channels, bits=bits))
    line = complaint(path)
    assert "not numbers" in line and "second 35.000" in line


def test_floats_in_the_range_of_int16_are_refused_with_a_hint(tmp_path: Path) -> None:
    samples = np.full(100, 12000, "<f4")
    path = tmp_path / "scaled.wav"
    path.write_bytes(wave_bytes(samples.tobytes(), code=3, bits=32))
    line = complaint(path)
    assert "12000" in line and "Divide" in line


def test_a_missing_file_a_folder_and_a_pipe_are_one_line(tmp_path: Path) -> None:
    assert "does not exist" in complaint(tmp_path / "none.wav")
    assert "a folder" in complaint(tmp_path)
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    assert "cannot be read" in complaint(tmp_path / "loop.wav")
    if os.name == "posix":
        assert "not a file" in complaint(Path(os.devnull))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("clip.flac", {}),
        ("clip.ogg", {}),
        ("clip.opus", {"format": "OGG", "subtype": "OPUS"}),
        ("clip.mp3", {}),
        ("clip.aiff", {"subtype": "PCM_16"}),
        ("clip.wav", {"subtype": "PCM_16", "endian": "BIG"}),
    ],
)
def test_a_file_that_is_cut_off_is_refused_whatever_its_format(
    tmp_path: Path, name: str, settings: dict[str, str]
) -> None:
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path / name
    soundfile.write(path, 0.1 * noise(48000)[:, 0], 16000, **settings)
    assert len(read_audio(path)) == 48000
    content = path.read_bytes()
    for share in (0.3, 0.7, 0.95):
        path.write_bytes(content[: int(share * len(content))])
        line = complaint(path)
        assert "cut off" in line or "decoded" in line


def mp3(tmp_path: Path, samples: np.ndarray, rate: int = 16000) -> tuple[bytes, list[int]]:
    """Return an MP3 file of variable bit rate and where its frames begin."""
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path / "made.mp3"
    settings = {"bitrate_mode": "VARIABLE", "compression_level": 0.4}
    soundfile.write(path, samples, rate, format="MP3", **settings)
    content = path.read_bytes()
    return content, [at for at in range(len(content)) if content[at : at + 2] == content[:2]]


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 32000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_an_mp3_file_cut_off_at_any_byte_is_refused_and_a_whole_one_is_not(
    tmp_path: Path, rate: int, channels: int
) -> None:
    path = tmp_path / "clip.mp3"
    content, starts = mp3(tmp_path, 0.1 * noise(rate, channels), rate)
    path.write_bytes(content)
    assert len(read_audio(path, rate)) == rate
    for end in (len(content) - 1, starts[-5] - 1, *range(starts[-5], starts[-5] + 6)):
        path.write_bytes(content[:end])
        assert "cut off" in complaint(path)
        path.write_bytes(content[starts[1] : end])  # without the header that counts the frames
        if end != starts[-5]:
            assert "cut off" in complaint(path)


def test_what_stands_before_and_behind_the_frames_of_an_mp3_file_does_not_matter(
    tmp_path: Path,
) -> None:
    path = tmp_path / "clip.mp3"
    content, _ = mp3(tmp_path, 0.1 * noise(16000))
    tag = b"ID3\x04\0\0\0\0\x02\x01" + bytes(257)  # 2 * 128 + 1 bytes
    for before in (b"", tag, tag + tag):
        for after in (b"", b"TAG" + bytes(125), bytes(1000), b"\xff\xfejunk"):
            path.write_bytes(before + content + after)
            assert len(read_audio(path)) == 16000


def test_an_mp3_file_that_the_decoder_would_leave_before_its_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp3"
    content, starts = mp3(tmp_path, np.concatenate([noise(48000)[:, 0], np.zeros(96000)]))
    path.write_bytes(content[starts[1] :])  # its length would be guessed by the loud beginning
    assert "not be read to its end" in complaint(path)
    path.write_bytes(content + content)
    assert "not be read to its end" in complaint(path)


def test_an_aiff_file_from_a_pipe_does_not_know_its_length_and_is_read(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path / "clip.aiff"
    soundfile.write(path, noise(1000)[:, 0], 16000, subtype="PCM_16")
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"\xff\xff\xff\xff" + content[8:])
    assert len(read_audio(path)) == 1000


def test_a_flac_file_damaged_in_the_middle_is_refused(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path / "clip.flac"
    soundfile.write(path, 0.1 * noise(48000)[:, 0], 16000)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 4000] = bytes(4000)
    path.write_bytes(content)
    complaint(path)


@pytest.mark.parametrize(
    ("module", "name", "rate"), [("soundfile", "clip.flac", 16000), ("soxr", "clip.wav", 8000)]
)
def test_a_missing_package_names_the_file_and_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str, rate: int
) -> None:
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path / name
    soundfile.write(path, np.zeros(100), rate)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(KwsError, match=r"kws\[audio\]") as caught:
        read_audio(path)
    assert name in str(caught.value) and module in str(caught.value)


def test_wav_at_16_khz_needs_numpy_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("soundfile", "soxr", "librosa"):
        monkeypatch.setitem(sys.modules, module, None)
    path = tmp_path / "clip.wav"
    path.write_bytes(wave_bytes(noise(50, 2).astype("<f4").tobytes(), code=3, channels=2, bits=32))
    assert len(read_audio(path)) == 50


def test_real_recordings_are_what_soundfile_reads(real_speech: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    paths = sorted(real_speech.rglob("*.wav"))[::25]
    assert len(paths) > 20
    for path in paths:
        np.testing.assert_array_equal(read_audio(path), soundfile.read(path, dtype="int16")[0])


def test_whatever_the_bytes_reading_ends_in_samples_or_in_one_line(tmp_path: Path) -> None:
    hypothesis = pytest.importorskip("hypothesis")
    from hypothesis import strategies as st

    path = tmp_path / "fuzzed.wav"
    good = wave_bytes(bytes(range(200)), chunks=b"LIST" + struct.pack("<I", 4) + b"INFO")

    @hypothesis.settings(max_examples=300, deadline=None)
    @hypothesis.given(
        st.dictionaries(st.integers(0, 70), st.integers(0, 255), max_size=4),
        st.integers(0, len(good)),
    )
    def check(changes: dict[int, int], length: int) -> None:
        content = bytearray(good)
        for position, byte in changes.items():
            content[position] = byte
        path.write_bytes(content[:length] if length else content)
        try:
            pcm = read_audio(path)
        except KwsError as error:
            assert "\n" not in str(error)
        else:
            assert pcm.dtype == np.int16 and len(pcm) > 0

    check()
