"""The front end of the firmware: MFCC in whole numbers, the same bits here and in C.

`fixed_mfcc` does in NumPy what ``runtime/kws_fft.c`` and ``runtime/kws_frontend.c`` do, operation
by operation, so that Python can show what a device will see; the tests hold the two equal in every
bit. Read it beside the C: the comments on Q formats and on why nothing overflows are there.

The definition that both approximate is `kws.frontend`; on speech, from -60 dB to clipped, they stay
within 0.001 of its MFCC (measured: 0.0002, and 2 of 10,000 values of int8 differ, by one).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.errors import KwsError
from kws.frontend import FrontEndConfig, dct_matrix, hann_window, mel_filters, split
from kws.model_file import ModelCard

SMALLEST_FRAME, LARGEST_FRAME = 64, 2048
LOWEST_WEIGHT = 2.0**-6
"""The weights of a mel filter must sum to this at least: each is rounded to 2^-16."""

_LN2_Q24 = 11629080
_QUANTISER_COMMENTS = {
    "kws_input_centre_q16": "the MFCC that becomes 0, Q16",
    "kws_input_gain": "factor from there on",
    "kws_input_shift": "bits to shift the product to the right",
}
_BLOCK_FRAMES = 256  # frames worked on at once: what they need still lies in the processor's cache
_Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class FixedTables:
    """The constants of one front end for the C library."""

    arrays: list[tuple[str, str, NDArray[Any]]]
    """Name in C, type in C and values of each table, for `firmware_export.c_source.c_array`."""
    macros: dict[str, int]
    """Name and value of each macro for ``kws_model.h``; some are negative."""
    comments: Mapping[str, str]
    """For each table (the quantiser's too) and macro what it holds, with its Q format."""


def tables(config: FrontEndConfig) -> FixedTables:
    """Return all constants of the front end but those of the quantiser.

    Raises:
        KwsError: a front end that the C library cannot do.
    """
    plan = _plan(config)
    arrays: list[tuple[str, NDArray[Any], str]] = [
        ("kws_cos_q31", plan.cosine.astype(np.int32), "cos(2 pi i / KWS_FRAME_LENGTH), Q31"),
        ("kws_root", plan.root.astype(np.uint16), "4096 sqrt(i + 32)"),
        ("kws_ln_q16", plan.ln.astype(np.uint16), "ln(1 + i / 128), Q16"),
        ("kws_mel_bins", plan.mel_bins.astype(np.uint16), "bins between corners of mel filters"),
        (
            "kws_mel_weight_q16",
            plan.mel_weight.astype(np.uint16),
            "weight of each bin in the rising mel filter, Q16",
        ),
        (
            "kws_dct",
            plan.dct.astype(np.int16).ravel(),
            "half rows of the DCT, Q(14 + KWS_DCT_SHIFT)",
        ),
    ]
    macros = {
        "KWS_FRAME_LENGTH": (config.frame_length, "samples in a frame"),
        "KWS_HOP_LENGTH": (config.hop_length, "samples from one frame to the next"),
        "KWS_N_MELS": (config.n_mels, "mel filters"),
        "KWS_N_MFCC": (config.n_mfcc, "coefficients"),
        "KWS_FFT_LOG2": (plan.fft_log2, "the complex FFT has 2^this points"),
        "KWS_MEL_FIRST_BIN": (plan.mel_first_bin, "first bin in a mel filter"),
        "KWS_MEL_WEIGHTS": (len(plan.mel_weight), "bins in mel filters"),
        "KWS_MEL_GUARD": (plan.mel_guard, "bits dropped so that sums of magnitudes fit 32 bits"),
        "KWS_LOG_OFFSET_Q24": (plan.log_offset, "from ln of the filters' units to ln / floor, Q24"),
        "KWS_DCT_SHIFT": (plan.dct_shift, "from sums of the DCT to Q16"),
        "KWS_MFCC0_FLOOR_Q16": (plan.mfcc0_floor, "coefficient 0 of silence, Q16"),
    }
    return FixedTables(
        arrays=[(name, f"{values.dtype.name}_t", values) for name, values, _ in arrays],
        macros={name: value for name, (value, _) in macros.items()},
        comments={name: text for name, _, text in arrays}
        | {name: text for name, (_, text) in macros.items()}
        | _QUANTISER_COMMENTS,
    )


def require_mfcc(config: FrontEndConfig) -> None:
    """Raise KwsError if the features are not those that firmware computes."""
    if config.features != "mfcc":
        raise KwsError(
            f"Firmware is for models on MFCC. Received: one on features = {config.features!r}. "
            "Train an architecture that takes MFCC, such as conv_lstm"
        )


def fixed_mfcc(pcm: NDArray[np.int16], config: FrontEndConfig) -> NDArray[np.int32]:
    """Return what the C library's front end makes of a clip, bit for bit.

    Args:
        pcm: int16 [n].
        config: the definition.

    Returns:
        int32 [frames, n_mfcc] in Q16: coefficients times 65536.

    Raises:
        KwsError: not int16 or not one channel, a front end that the C library cannot do.
    """
    _check(pcm)
    plan = _plan(config)
    frames = split(pcm, config)
    features = np.empty((len(frames), config.n_mfcc), np.int32)
    for i in range(0, len(frames), _BLOCK_FRAMES):
        block = slice(i, i + _BLOCK_FRAMES)
        # The frames go last, so that every operation runs along contiguous memory.
        re, im, raised = _spectrum(np.ascontiguousarray(frames[block].T, np.int64), plan)
        features[block] = _cepstrum(_mel_logarithms(re, im, raised, plan), plan).T
    return features


class FixedFrontEnd:
    """The same over a stream: samples in, the frames they complete out.

    Example:
        >>> front_end = FixedFrontEnd(FrontEndConfig())
        >>> front_end.feed(np.zeros(16000, np.int16)).shape
        (49, 13)
    """

    def __init__(self, config: FrontEndConfig) -> None:
        """Begin a stream.

        Raises:
            KwsError: a front end that the C library cannot do.
        """
        _plan(config)
        self.config = config
        self.reset()

    def reset(self) -> None:
        """Forget the samples that wait for the rest of their frame."""
        self._waiting = np.empty(0, np.int16)

    def feed(self, pcm: NDArray[np.int16]) -> NDArray[np.int32]:
        """Take the next samples, int16 [n] of any length, and return int32 [frames, n_mfcc], Q16.

        Raises:
            KwsError: not int16, or not one channel.
        """
        _check(pcm)
        samples = np.concatenate([self._waiting, pcm])
        features = fixed_mfcc(samples, self.config)
        self._waiting = samples[len(features) * self.config.hop_length :].copy()
        return features


def _check(pcm: Any) -> None:
    if isinstance(pcm, np.ndarray) and pcm.dtype == np.int16 and pcm.ndim == 1:
        return
    received = type(pcm).__name__
    if isinstance(pcm, np.ndarray):
        received = f"dtype {pcm.dtype}, shape {pcm.shape}"
    raise KwsError(
        f"Audio must be a NumPy array of int16, shape [n]. Received: {received}. "
        "Convert it to int16 and average its channels first"
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class InputQuantiser:
    """From MFCC in Q16 to the int8 input of a network: ``(mfcc - centre) * gain / 2^shift``."""

    centre: NDArray[np.int32]
    """The MFCC that becomes 0, Q16 [n_mfcc]."""
    gain: NDArray[np.int32]
    """Factor [n_mfcc], positive."""
    shift: NDArray[np.uint8]
    """Power of two to divide by, 1 to 62 [n_mfcc]."""

    @property
    def arrays(self) -> list[tuple[str, str, NDArray[Any]]]:
        """Name in C, type in C and values of each table."""
        return [
            ("kws_input_centre_q16", "int32_t", self.centre),
            ("kws_input_gain", "int32_t", self.gain),
            ("kws_input_shift", "uint8_t", self.shift),
        ]


def input_quantiser(card: ModelCard, scale: float, zero_point: int) -> InputQuantiser:
    """Fold the card's normalisation and the input tensor's quantisation into whole numbers.

    The function of `kws.network.Network.prepare`: ``rint((x - mean) / (std * scale)) +
    zero_point``.

    Raises:
        KwsError: numbers so large or so small that they do not fit.
    """
    std, mean = np.array(card.feature_std), np.array(card.feature_mean)
    with np.errstate(over="ignore", divide="ignore"):
        factor = 1.0 / (std * scale)
        centre = np.rint((mean - zero_point * std * scale) * 65536)
    # shift so large that gain has 30 bits; a factor below 2^-17 gets by with fewer.
    shift = np.minimum(62, 16 + 30 - np.frexp(factor)[1])
    if not (np.isfinite(factor).all() and shift.min() >= 1 and np.abs(centre).max() < 2.0**31):
        raise KwsError(
            "The normalisation of this model does not fit the firmware's 32 bits. Received: "
            f"feature_mean {list(card.feature_mean)}, feature_std {list(card.feature_std)}, input "
            f"scale {scale}, zero point {zero_point}. Train with features of an ordinary size"
        )
    gain = np.minimum(np.rint(np.ldexp(factor, shift - 16)), 2.0**30)
    return InputQuantiser(
        centre=centre.astype(np.int32), gain=gain.astype(np.int32), shift=shift.astype(np.uint8)
    )


def quantise_features(mfcc_q16: NDArray[np.int32], quantiser: InputQuantiser) -> NDArray[np.int8]:
    """Return the int8 input of the network, bit for bit as C makes it.

    Args:
        mfcc_q16: from `fixed_mfcc` [..., n_mfcc].
        quantiser: from `input_quantiser`.

    Returns:
        int8 [..., n_mfcc], rounded to nearest (a half upwards) and saturated.
    """
    x = mfcc_q16.astype(np.int64) - quantiser.centre
    shift = quantiser.shift.astype(np.int64)
    q = (x * quantiser.gain + (np.int64(1) << (shift - 1))) >> shift
    return np.clip(q, -128, 127).astype(np.int8)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Plan:
    """All constants of a front end, as int64 for NumPy's sake."""

    config: FrontEndConfig
    fft_log2: int
    cosine: _Ints
    root: _Ints
    ln: _Ints
    mel_first_bin: int
    mel_bins: _Ints
    mel_weight: _Ints
    mel_guard: int
    log_offset: int
    dct: _Ints
    dct_shift: int
    mfcc0_floor: int


@functools.lru_cache(maxsize=8)
def _plan(config: FrontEndConfig) -> _Plan:
    require_mfcc(config)
    length = config.frame_length
    if not SMALLEST_FRAME <= length <= LARGEST_FRAME or length & (length - 1):
        raise KwsError(
            f"The firmware's front end needs a frame_length that is a power of two from "
            f"{SMALLEST_FRAME} to {LARGEST_FRAME}. Received: {length}. Train with such a frame, or "
            "use `kws firmware --form tflm` with a front end of your own"
        )
    fft_log2 = (length // 2).bit_length() - 1
    first_bin, bins, weight = _mel_runs(config)
    guard = _mel_guard(config, fft_log2)
    dct, dct_shift = _half_dct(config)
    # Balanced: a chord lies below a concave curve, on average by a twelfth of -f'' h^2.
    i, j = np.arange(32, 257), np.arange(129) / 128
    root = 4096 * (np.sqrt(i) + i**-1.5 / 48)
    ln = np.log1p(j) + (1 + j) ** -2 / (12 * 128**2)
    floor = math.log(np.float32(config.log_floor))
    return _Plan(
        config=config,
        fft_log2=fft_log2,
        cosine=_whole(
            np.minimum(2.0**31 * np.cos(2 * np.pi * np.arange(length // 4 + 1) / length), 2**31 - 1)
        ),
        root=_whole(np.minimum(root, 65535)),
        ln=_whole(65536 * ln),
        mel_first_bin=first_bin,
        mel_bins=bins,
        mel_weight=weight,
        mel_guard=guard,
        log_offset=round(2**24 * (math.log(2) * (0.5 + guard + fft_log2) - floor)),
        dct=dct,
        dct_shift=dct_shift,
        mfcc0_floor=round(65536 * floor * math.sqrt(config.n_mels)),
    )


def _mel_runs(config: FrontEndConfig) -> tuple[int, _Ints, _Ints]:
    """Return the first bin, the bins in each run between corners, and their rising weights, Q16.

    Between two corners one filter rises as the other falls, and their weights sum to 1: one number
    for each bin says both. It comes from `mel_filters`, so that there is one definition.
    """
    filters = mel_filters(config).astype(np.float64)
    thin = np.flatnonzero(filters.sum(axis=1) < LOWEST_WEIGHT)
    if len(thin):
        raise KwsError(
            f"Mel filter {thin[0]} hardly touches a bin of the FFT: too little for the firmware's "
            f"whole numbers. Received: n_mels {config.n_mels}, frame_length "
            f"{config.frame_length}. Use fewer filters or longer frames"
        )
    runs: list[int] = []
    weights: list[int] = []
    used = np.flatnonzero((filters > 2.0**-17).any(axis=0))  # the rest rounds to nothing
    bins = range(max(1, int(used[0])), min(int(used[-1]), config.frame_length // 2 - 1) + 1)
    peaks = np.array([row.argmax() for row in filters])
    for b in bins:
        touched = np.flatnonzero(filters[:, b])
        last = int(touched[-1])
        # A lone weight belongs to the rise of the first filter, the fall of the last, or a bin that
        # is right on a corner.
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
    """Return how many bits the magnitudes must lose so that no filter's sum passes 32 bits.

    Cauchy-Schwarz and Parseval: a filter's output is at most the norm of its weights times the norm
    of the spectrum, which is that of the windowed frame times sqrt(frame_length / 2).
    """
    filters = mel_filters(config).astype(np.float64)
    window = hann_window(config.frame_length)
    norm = np.sqrt((filters**2).sum(axis=1).max())
    largest = 32768 * norm * np.sqrt(config.frame_length / 2 * (window**2).sum())
    units = largest * 2.0 ** (16 - fft_log2) / math.sqrt(2)
    return max(0, math.ceil(math.log2(units * 1.001) - 32))


def _half_dct(config: FrontEndConfig) -> tuple[_Ints, int]:
    """Return the first halves of the DCT's rows in 16 bits, and their Q less 14.

    Rounded so that the running sum of each row is right: the errors of neighbours cancel, and what
    they are multiplied with, a spectrum's envelope, differs little from one to the next.
    """
    n = config.n_mels
    exact = dct_matrix(config.n_mfcc, n).astype(np.float64)[:, : (n + 1) // 2]
    q = 14
    while np.abs(exact).max() * 2.0 ** (q + 1) < 32766:
        q += 1
    sums = _whole(np.cumsum(exact * 2.0**q, axis=1))
    rows = np.diff(sums, axis=1, prepend=0)
    if n % 2:
        # The middle counts once, the others twice; in odd rows it is zero.
        total = _whole(2.0**q * exact @ np.append(np.full(n // 2, 2.0), 1.0))
        rows[:, -1] = total - 2 * rows[:, :-1].sum(axis=1)
        rows[1::2, -1] = 0
    return rows, q - 14


def _spectrum(x: _Ints, plan: _Plan) -> tuple[_Ints, _Ints, _Ints]:
    """kws_spectrum: samples [frame_length, frames] → re, im [frame_length / 2, frames], raised."""
    pairs = len(x) // 2
    used = np.bitwise_or.reduce(x ^ (x >> 15), axis=0) | 1
    raised = 15 - _bit_length(used)
    sample_bits = 16 - plan.fft_log2 + (plan.fft_log2 - 1) // 2
    cosine, sine = plan.cosine[:-1] >> 1, plan.cosine[:0:-1] >> 1
    window = (1 << 30) + np.concatenate([-cosine, sine, cosine, -sine])
    windowed = ((x << raised) * window[:, None]) >> (31 - sample_bits)
    order = _reversed_bits(plan.fft_log2)
    re, im = _transform(windowed[0::2][order], windowed[1::2][order], plan)
    # separate()
    k = np.arange(1, pairs // 2)
    even_re, even_im = (re[k] + re[-k]) >> 1, (im[k] - im[-k]) >> 1
    odd_re, odd_im = _turn(
        im[k] + im[-k],
        re[-k] - re[k],
        plan.cosine[k],
        plan.cosine[pairs // 2 - k],
    )
    re[k], im[k] = even_re + odd_re, even_im + odd_im
    re[-k], im[-k] = even_re - odd_re, odd_im - even_im
    return re, im, raised


def _transform(re: _Ints, im: _Ints, plan: _Plan) -> tuple[_Ints, _Ints]:
    pairs = len(re)
    shape: tuple[int, ...] = (-1, 4, 1, re.shape[1])
    re, im = _butterflies(re.reshape(shape), im.reshape(shape))
    length = 4
    while 4 * length <= pairs:
        shape = (pairs // (4 * length), 4, length, re.shape[-1])
        re, im = re.reshape(shape), im.reshape(shape)
        angle = np.arange(length) * (pairs // (2 * length))
        re, im = _halve_or_turn(re, im, angle, plan)
        re, im = _butterflies(re, im)
        length *= 4
    re, im = re.reshape(pairs, -1), im.reshape(pairs, -1)
    if length < pairs:
        angle = 2 * np.arange(length)
        b_re, b_im = _turn(re[length:], im[length:], _cosine_of(angle, plan), _sine_of(angle, plan))
        a_re, a_im = re[:length] >> 1, im[:length] >> 1
        re, im = (
            np.concatenate([a_re + b_re, a_re - b_re]),
            np.concatenate([a_im + b_im, a_im - b_im]),
        )
    return re, im


def _halve_or_turn(re: _Ints, im: _Ints, angle: _Ints, plan: _Plan) -> tuple[_Ints, _Ints]:
    """Inputs of four-point DFTs [..., 4, angles, frames] times their twiddle factors / 2."""
    turned_re, turned_im = re >> 1, im >> 1
    for i, turns in ((1, 2), (2, 1), (3, 3)):
        turned_re[:, i, 1:], turned_im[:, i, 1:] = _turn(
            re[:, i, 1:],
            im[:, i, 1:],
            _cosine_of(turns * angle[1:], plan),
            _sine_of(turns * angle[1:], plan),
        )
    return turned_re, turned_im


def _butterflies(re: _Ints, im: _Ints) -> tuple[_Ints, _Ints]:
    """Four-point DFTs over axis 1, whose middle two come swapped."""
    a_re, b_re, c_re, d_re = _sums(re)
    a_im, b_im, c_im, d_im = _sums(im)
    return (
        np.stack([a_re + c_re, b_re + d_im, a_re - c_re, b_re - d_im], axis=1),
        np.stack([a_im + c_im, b_im - d_re, a_im - c_im, b_im + d_re], axis=1),
    )


def _sums(z: _Ints) -> tuple[_Ints, _Ints, _Ints, _Ints]:
    return z[:, 0] + z[:, 1], z[:, 0] - z[:, 1], z[:, 2] + z[:, 3], z[:, 2] - z[:, 3]


def _turn(re: _Ints, im: _Ints, cosine: _Ints, sine: _Ints) -> tuple[_Ints, _Ints]:
    """The product with cos - i sin of each row's angle, halved; upper words, as in C."""
    cosine, sine = cosine[:, None], sine[:, None]
    return (
        ((re * cosine) >> 32) + ((im * sine) >> 32),
        ((im * cosine) >> 32) - ((re * sine) >> 32),
    )


def _cosine_of(angle: _Ints, plan: _Plan) -> _Ints:
    quarter = len(plan.cosine) - 1
    angle = np.where(angle > 2 * quarter, 4 * quarter - angle, angle)
    # Both branches are looked up, so both indices must be valid.
    return np.where(
        angle <= quarter,
        plan.cosine[np.minimum(angle, quarter)],
        -plan.cosine[2 * quarter - np.maximum(angle, quarter)],
    )


def _sine_of(angle: _Ints, plan: _Plan) -> _Ints:
    return _cosine_of(np.abs(angle - (len(plan.cosine) - 1)), plan)


def _reversed_bits(bits: int) -> _Ints:
    order = np.zeros(1, np.int64)
    for _ in range(bits):
        order = np.concatenate([2 * order, 2 * order + 1])
    return order


def _bit_length(x: _Ints) -> _Ints:
    """Bits of 0 <= x < 2^53; 0 for 0."""
    return np.frexp(x.astype(np.float64))[1].astype(np.int64)


def _mel_logarithms(re: _Ints, im: _Ints, raised: _Ints, plan: _Plan) -> _Ints:
    """mel_logarithms: bins [frame_length / 2, frames] → ln above floor [n_mels, frames], Q18."""
    used = slice(plan.mel_first_bin, plan.mel_first_bin + len(plan.mel_weight))
    re, im = np.abs(re[used]), np.abs(im[used])
    either = re | im
    shift = 32 - _bit_length(either)
    a, b = (re << shift) >> 16, (im << shift) >> 16
    root = _root_of(((a * (a + 1)) >> 1) + ((b * (b + 1)) >> 1), plan)
    back = shift + plan.mel_guard
    heard = either >> plan.mel_guard != 0
    up = ((root * plan.mel_weight[:, None]) >> back) * heard
    down = ((root << 16) >> back) * heard - up
    energy = np.zeros((plan.config.n_mels, re.shape[1]), np.int64)
    end = np.cumsum(plan.mel_bins)
    for run, (first, last) in enumerate(zip(end - plan.mel_bins, end, strict=True)):
        if run < len(energy):
            energy[run] += up[first:last].sum(axis=0)
        if run:
            energy[run - 1] += down[first:last].sum(axis=0)
    return _log_above_floor(energy, raised, plan)


def _root_of(x: _Ints, plan: _Plan) -> _Ints:
    # 0 only where nothing is heard; any entry does.
    i = np.maximum(x >> 24, 32) - 32
    entry, step = plan.root[i], np.diff(plan.root)[i]
    return entry + ((step * ((x >> 8) & 0xFFFF) + 0x8000) >> 16)


def _log_above_floor(energy: _Ints, raised: _Ints, plan: _Plan) -> _Ints:
    shift = 32 - _bit_length(energy)
    x = energy << shift
    i = (x >> 24) & 127
    ln = (plan.ln[i] << 16) + np.diff(plan.ln)[i] * ((x >> 8) & 0xFFFF)
    above = plan.log_offset - (shift + raised) * _LN2_Q24 + (ln >> 8)
    return np.where((above < 0) | (energy == 0), 0, (above + 32) >> 6)


def _cepstrum(logs: _Ints, plan: _Plan) -> _Ints:
    """DCT: [n_mels, frames] → [n_mfcc, frames], Q16."""
    n = len(logs)
    mirrored = logs[::-1]
    sums, differences = (logs + mirrored)[: (n + 1) // 2], (logs - mirrored)[: (n + 1) // 2]
    if n % 2:
        sums[-1] = logs[n // 2]
        differences[-1] = 0
    mfcc = np.empty((len(plan.dct), logs.shape[1]), np.int64)
    mfcc[0::2] = (plan.dct[0::2] @ sums) >> 16
    mfcc[1::2] = (plan.dct[1::2] @ differences) >> 16
    mfcc = (mfcc + ((1 << plan.dct_shift) >> 1)) >> plan.dct_shift
    mfcc[0] += plan.mfcc0_floor
    return mfcc


def _whole(x: NDArray[np.floating]) -> _Ints:
    return np.rint(x).astype(np.int64)
