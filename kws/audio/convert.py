"""Live samples of any rate and number of channels converted to 16 kHz mono int16, in blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.audio.samples import SAMPLE_RATE_HZ, Pcm
from kws.errors import require


class LiveConverter:
    """Turns one stream's blocks into 16 kHz mono: channels averaged, resampled with soxr.

    The resampler keeps its state between blocks, so that their boundaries are inaudible.
    """

    def __init__(self, rate_hz: int) -> None:
        """Prepare for the first block.

        Args:
            rate_hz: rate of the incoming samples.

        Raises:
            KwsError: the rate is not 16 kHz and soxr is not installed.
        """
        self._resampler: Any = None
        if rate_hz != SAMPLE_RATE_HZ:
            soxr = require("soxr", extra="audio")
            self._resampler = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32")

    def feed(self, block: NDArray[np.int16]) -> Pcm:
        """Convert the next samples, int16 [frames, channels]; int16 [n], n may be 0."""
        if block.shape[1] == 1 and self._resampler is None:
            return block[:, 0]
        mono = block.mean(axis=1, dtype=np.float32)
        if self._resampler is not None:
            mono = self._resampler.resample_chunk(mono)
        return _rounded(mono)

    def finish(self) -> Pcm:
        """Return the 10 to 50 ms that the resampler still holds at the end: int16 [n]."""
        if self._resampler is None:
            return np.empty(0, np.int16)
        return _rounded(self._resampler.resample_chunk(np.empty(0, np.float32), last=True))


def _rounded(samples: NDArray[np.float32]) -> Pcm:
    return np.clip(np.rint(samples), -32768, 32767).astype(np.int16)
