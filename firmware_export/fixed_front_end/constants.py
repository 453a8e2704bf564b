"""The constants of a front end as integers, computed once for each configuration."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kws.errors import KwsError
from kws.frontend import FrontEndConfig, dct_matrix, hann_window, mel_filters

SMALLEST_FRAME, LARGEST_FRAME = 64, 2048
LOWEST_WEIGHT = 2.0**-6
"""Least sum of a mel filter's weights, which are rounded to 2^-16 each."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Constants:
    """All constants of a front end, as int64 for use in NumPy."""

    config: FrontEndConfig
    fft_log2: int
    cosine: Ints
    root: Ints
    ln: Ints
    mel_first_bin: int
    mel_bins: Ints
    mel_weight: Ints
    mel_guard: int
    log_offset: int
    dct: Ints
    dct_shift: int
    mfcc0_floor: int


@functools.lru_cache(maxsize=8)
def constants_of(config: FrontEndConfig) -> Constants:
    require_mfcc(config)
    length = config.frame_length
    if not SMALLEST_FRAME <= length <= LARGEST_FRAME or length & (length - 1):
        raise KwsError(
            f"The firmware's front end needs a frame_length that is a power of two from "
            f"{SMALLEST_FRAME} to {LARGEST_FRAME}. Received: {length}. Train with such a frame, or "
            "use `kws firmware --form tflm` with your own front end"
        )
    fft_log2 = (length // 2).bit_length() - 1
    first_bin, bins, weight = _mel_runs(config)
    guard = _mel_guard(config, fft_log2)
    dct, dct_shift = _half_dct(config)
    # A chord lies below a concave curve, on average by -f'' h^2 / 12, which is added here.
    i, j = np.arange(32, 257), np.arange(129) / 128
    root = 4096 * (np.sqrt(i) + i**-1.5 / 48)
    ln = np.log1p(j) + (1 + j) ** -2 / (12 * 128**2)
    floor = math.log(np.float32(config.log_floor))
    return Constants(
        config=config,
        fft_log2=fft_log2,
        cosine=whole(
            np.minimum(2.0**31 * np.cos(2 * np.pi * np.arange(length // 4 + 1) / length), 2**31 - 1)
        ),
        root=whole(np.minimum(root, 65535)),
        ln=whole(65536 * ln),
        mel_first_bin=first_bin,
        mel_bins=bins,
        mel_weight=weight,
        mel_guard=guard,
        log_offset=round(2**24 * (math.log(2) * (0.5 + guard + fft_log2) - floor)),
        dct=dct,
        dct_shift=dct_shift,
        mfcc0_floor=round(65536 * floor * math.sqrt(config.n_mels)),
    )


def _mel_runs(config: FrontEndConfig) -> tuple[int, Ints, Ints]:
    """Return the first bin, the bins in each run between corners, and their rising weights, Q16.

    Between two corners one filter rises as the other falls, and their weights sum to 1, so one
    number for each bin gives both. It comes from `mel_filters`, so that there is one definition.
    """
    filters = mel_filters(config).astype(np.float64)
    thin = np.flatnonzero(filters.sum(axis=1) < LOWEST_WEIGHT)
    if len(thin):
        raise KwsError(
            f"Mel filter {thin[0]} covers too little of any FFT bin for the firmware's integer "
            f"arithmetic. Received: n_mels {config.n_mels}, frame_length "
            f"{config.frame_length}. Use fewer filters or longer frames"
        )
    runs: list[int] = []
    weights: list[int] = []
    used = np.flatnonzero((filters > 2.0**-17).any(axis=0))  # the rest rounds to 0
    bins = range(max(1, int(used[0])), min(int(used[-1]), config.frame_length // 2 - 1) + 1)
    peaks = np.array([row.argmax() for row in filters])
    for b in bins:
        touched = np.flatnonzero(filters[:, b])
        last = int(touched[-1])
        # A single weight is the rise of the first filter, the fall of the last, or a bin exactly on
        # a corner.
        rises = len(touched) == 2 or (last == 0 and b <= peaks[0] and filters[0, b] < 1)
        run = last if rises else last + 1
        weight = round(65536 * float(filters[last, b])) if rises else 0
        if not rises and last == config.n_mels - 1:
            weight = 65536 - round(65536 * float(filters[last, b]))
        if weight == 65536:
            run, weight = run + 1, 0
        runs.append(run)
        weights.append(weight)
    return (
        bins[0],
        np.bincount(runs, minlength=config.n_mels + 1).astype(np.int64),
        np.array(weights, np.int64),
    )


def _mel_guard(config: FrontEndConfig, fft_log2: int) -> int:
    """Return how many bits magnitudes must drop so that no filter's sum exceeds 32 bits.

    Cauchy-Schwarz and Parseval: a filter's output is at most the norm of its weights times the norm
    of the spectrum, which is that of the windowed frame times sqrt(frame_length / 2).
    """
    filters = mel_filters(config).astype(np.float64)
    window = hann_window(config.frame_length)
    norm = np.sqrt((filters**2).sum(axis=1).max())
    largest = 32768 * norm * np.sqrt(config.frame_length / 2 * (window**2).sum())
    units = largest * 2.0 ** (16 - fft_log2) / math.sqrt(2)
    return max(0, math.ceil(math.log2(units * 1.001) - 32))


def _half_dct(config: FrontEndConfig) -> tuple[Ints, int]:
    """Return the first halves of the DCT's rows in 16 bits, and their Q minus 14.

    Rounding keeps the running sum of each row exact. So the errors of neighbours cancel, since the
    spectral envelope that they are multiplied by changes little from one to the next.
    """
    n = config.n_mels
    exact = dct_matrix(config.n_mfcc, n).astype(np.float64)[:, : (n + 1) // 2]
    q = 14
    while np.abs(exact).max() * 2.0 ** (q + 1) < 32766:
        q += 1
    sums = whole(np.cumsum(exact * 2.0**q, axis=1))
    rows = np.diff(sums, axis=1, prepend=0)
    if n % 2:
        # The middle entry counts once and the others twice; in odd rows it is zero.
        total = whole(2.0**q * exact @ np.append(np.full(n // 2, 2.0), 1.0))
        rows[:, -1] = total - 2 * rows[:, :-1].sum(axis=1)
        rows[1::2, -1] = 0
    return rows, q - 14


def require_mfcc(config: FrontEndConfig) -> None:
    """Raise KwsError if the features are not MFCC, which is all that firmware computes."""
    if config.features != "mfcc":
        raise KwsError(
            f"Firmware supports MFCC features only. Received: features = {config.features!r}. "
            "Train an architecture that takes MFCC, such as conv_lstm"
        )


def whole(x: NDArray[np.floating]) -> Ints:
    return np.rint(x).astype(np.int64)
