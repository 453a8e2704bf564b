"""Raw samples from a pipe."""

from __future__ import annotations

import io
import os
import threading
import time

import numpy as np
import pytest

from kws.audio.stream import pcm_chunks
from kws.errors import KwsError

SAMPLES = np.arange(-500, 501, dtype="<i2")


@pytest.mark.parametrize("chunk", [1, 10, 1001, 5000])
def test_blocks_joined_are_the_stream(chunk: int) -> None:
    blocks = list(pcm_chunks(io.BytesIO(SAMPLES.tobytes()), chunk))
    assert all(len(block) == chunk for block in blocks[:-1])
    assert all(block.dtype == np.int16 and len(block) for block in blocks)
    np.testing.assert_array_equal(np.concatenate(blocks), SAMPLES)


def test_pieces_that_split_samples_are_joined() -> None:
    reader, writer = os.pipe()

    def write() -> None:
        content = SAMPLES.tobytes()
        for start in range(0, len(content), 333):
            os.write(writer, content[start : start + 333])
            time.sleep(0.001)
        os.close(writer)

    thread = threading.Thread(target=write)
    thread.start()
    with open(reader, "rb", buffering=0) as stream:  # noqa: PTH123
        blocks = list(pcm_chunks(stream, 160))
    thread.join()
    assert [len(block) for block in blocks] == [160] * 6 + [41]
    np.testing.assert_array_equal(np.concatenate(blocks), SAMPLES)


def test_a_lone_last_byte_is_dropped_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = list(pcm_chunks(io.BytesIO(SAMPLES.tobytes() + b"\x01"), 100))
    np.testing.assert_array_equal(np.concatenate(blocks), SAMPLES)
    captured = capsys.readouterr()
    assert "last byte is dropped" in captured.err and captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize("content", [b"", b"x"])
def test_a_stream_without_a_sample_is_refused_as_an_empty_file_is(content: bytes) -> None:
    with pytest.raises(KwsError, match="contains no sound"):
        list(pcm_chunks(io.BytesIO(content)))


@pytest.mark.parametrize("magic", [b"RIFF", b"fLaC", b"OggS"])
def test_a_sound_file_is_refused_instead_of_heard_as_noise(magic: bytes) -> None:
    with pytest.raises(KwsError, match="not raw samples"):
        list(pcm_chunks(io.BytesIO(magic + bytes(5000))))


def test_a_text_stream_and_a_silly_block_are_one_line() -> None:
    with pytest.raises(KwsError, match=r"sys\.stdin\.buffer"):
        list(pcm_chunks(io.StringIO("hello")))  # type: ignore[arg-type]
    with pytest.raises(KwsError, match="1 or more"):
        list(pcm_chunks(io.BytesIO(b""), 0))
