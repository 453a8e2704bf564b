"""Raw samples from a pipe: 16-bit little-endian mono, as ``arecord`` and ``ffmpeg`` write them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

import numpy as np

from kws.audio.samples import Pcm
from kws.errors import KwsError
from kws.system.progress import tell


def pcm_chunks(stream: IO[bytes], chunk_samples: int = 1600) -> Iterator[Pcm]:
    """Read int16 samples from a binary stream until it ends.

    Nothing waits for more than one block. Short pieces are joined to whole blocks, whether the
    stream is unbuffered (``sys.stdin.buffer.raw``) or buffered (``sys.stdin.buffer``); the rest
    comes at the end.

    A stream that ends in the middle of a sample was cut off or does not contain 16-bit samples. By
    then its events have been reported, so the odd byte is dropped with a warning on stderr instead
    of an error. A stream that begins like a sound file is refused at once, because its header and
    coding would be taken for noise.

    Args:
        stream: a file or pipe opened in binary mode.
        chunk_samples: samples in each block; the last may be shorter.

    Yields:
        int16 [chunk_samples], native byte order.

    Raises:
        KwsError: `chunk_samples` is less than 1, or the stream is not binary, begins like a sound
            file, cannot be read, or ends without one sample.

    Example::

        for pcm in pcm_chunks(sys.stdin.buffer):
            events += spotter.feed(pcm)
    """
    if chunk_samples < 1:
        raise KwsError(f"A block needs at least 1 sample. Received: {chunk_samples}. Use 1 or more")
    empty = True
    while True:
        block = _read(stream, 2 * chunk_samples)
        if empty:
            _refuse_sound_files(block)
        if len(block) % 2:
            tell(
                "the stream ended in the middle of a sample; its last byte is dropped (raw 16-bit "
                "samples are expected)"
            )
        if len(block) >= 2:
            empty = False
            yield np.frombuffer(block, "<i2", count=len(block) // 2).astype(np.int16)
        if len(block) < 2 * chunk_samples:
            break
    if empty:
        raise KwsError(
            "The stream contains no sound. Received: 0 samples. Check the program that writes it"
        )


def _read(stream: IO[bytes], size: int) -> bytes:
    """Read `size` bytes, fewer only at the end of the stream."""
    pieces: list[bytes] = []
    held = 0
    while held < size:
        try:
            piece = stream.read(size - held)
        except OSError as error:
            raise KwsError(
                f"The stream of samples cannot be read. Received: {error.strerror or error}. "
                "Check the program that writes it"
            ) from error
        if isinstance(piece, str):
            raise KwsError(
                "Samples must come from a binary stream. Received: text. Use sys.stdin.buffer"
            )
        if not piece:  # the end; only in non-blocking mode does a pipe that is not ready give None
            break
        pieces.append(piece)
        held += len(piece)
    return b"".join(pieces)


def _refuse_sound_files(block: bytes) -> None:
    for magic, kind in ((b"RIFF", "WAV"), (b"fLaC", "FLAC"), (b"OggS", "Ogg"), (b"ID3", "MP3")):
        if block.startswith(magic):
            raise KwsError(
                f"The stream contains a {kind} file, not raw samples. Received: {magic!r} at its "
                "beginning. Give the file's name instead of '-', or convert: "
                "ffmpeg -i IN -f s16le -ac 1 -ar 16000 -"
            )
