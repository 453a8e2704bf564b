"""MFCC in integer arithmetic, operation by operation as in C."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from firmware_export.fixed_front_end.constants import Constants, Ints, constants_of
from kws.audio.samples import check_pcm
from kws.frontend import FrontEndConfig, split

_LN2_Q24 = 11629080
_BLOCK_FRAMES = 256  # frames processed at once: few enough for the processor's cache


def fixed_mfcc(pcm: NDArray[np.int16], config: FrontEndConfig) -> NDArray[np.int32]:
    """Return the MFCC of a clip, bit for bit as in the C library.

    Args:
        pcm: int16 [n].
        config: of the front end.

    Returns:
        int32 [frames, n_mfcc] in Q16: coefficients times 65536.

    Raises:
        KwsError: audio that is not int16 with one channel, or an unsupported front end.
    """
    pcm = check_pcm(pcm)
    constants = constants_of(config)
    frames = split(pcm, config)
    features = np.empty((len(frames), config.n_mfcc), np.int32)
    for i in range(0, len(frames), _BLOCK_FRAMES):
        block = slice(i, i + _BLOCK_FRAMES)
        # Frames are the last axis, so that every operation runs along contiguous memory.
        re, im, raised = _spectrum(np.ascontiguousarray(frames[block].T, np.int64), constants)
        features[block] = _cepstrum(_mel_logarithms(re, im, raised, constants), constants).T
    return features


class FixedFrontEnd:
    """The same for a stream: takes samples, returns the frames that they complete.

    Example:
        >>> front_end = FixedFrontEnd(FrontEndConfig())
        >>> front_end.feed(np.zeros(16000, np.int16)).shape
        (49, 13)
    """

    def __init__(self, config: FrontEndConfig) -> None:
        """Begin a stream.

        Raises:
            KwsError: an unsupported front end.
        """
        constants_of(config)
        self.config = config
        self.reset()

    def reset(self) -> None:
        """Discard the samples of incomplete frames."""
        self._waiting = np.empty(0, np.int16)

    def feed(self, pcm: NDArray[np.int16]) -> NDArray[np.int32]:
        """Take the next samples, int16 [n] of any length, and return int32 [frames, n_mfcc], Q16.

        Raises:
            KwsError: audio that is not int16 with one channel.
        """
        samples = np.concatenate([self._waiting, check_pcm(pcm)])
        features = fixed_mfcc(samples, self.config)
        self._waiting = samples[len(features) * self.config.hop_length :].copy()
        return features


def _spectrum(x: Ints, constants: Constants) -> tuple[Ints, Ints, Ints]:
    """kws_spectrum: samples [frame_length, frames] → re, im [frame_length / 2, frames], raised."""
    pairs = len(x) // 2
    used = np.bitwise_or.reduce(x ^ (x >> 15), axis=0) | 1
    raised = 15 - _bit_length(used)
    sample_bits = 16 - constants.fft_log2 + (constants.fft_log2 - 1) // 2
    cosine, sine = constants.cosine[:-1] >> 1, constants.cosine[:0:-1] >> 1
    window = (1 << 30) + np.concatenate([-cosine, sine, cosine, -sine])
    windowed = ((x << raised) * window[:, None]) >> (31 - sample_bits)
    order = _reversed_bits(constants.fft_log2)
    re, im = _transform(windowed[0::2][order], windowed[1::2][order], constants)
    # separate()
    k = np.arange(1, pairs // 2)
    even_re, even_im = (re[k] + re[-k]) >> 1, (im[k] - im[-k]) >> 1
    odd_re, odd_im = _turn(
        im[k] + im[-k],
        re[-k] - re[k],
        constants.cosine[k],
        constants.cosine[pairs // 2 - k],
    )
    re[k], im[k] = even_re + odd_re, even_im + odd_im
    re[-k], im[-k] = even_re - odd_re, odd_im - even_im
    return re, im, raised


def _transform(re: Ints, im: Ints, constants: Constants) -> tuple[Ints, Ints]:
    pairs = len(re)
    shape: tuple[int, ...] = (-1, 4, 1, re.shape[1])
    re, im = _butterflies(re.reshape(shape), im.reshape(shape))
    length = 4
    while 4 * length <= pairs:
        shape = (pairs // (4 * length), 4, length, re.shape[-1])
        re, im = re.reshape(shape), im.reshape(shape)
        angle = np.arange(length) * (pairs // (2 * length))
        re, im = _halve_or_turn(re, im, angle, constants)
        re, im = _butterflies(re, im)
        length *= 4
    re, im = re.reshape(pairs, -1), im.reshape(pairs, -1)
    if length < pairs:
        angle = 2 * np.arange(length)
        b_re, b_im = _turn(
            re[length:], im[length:], _cosine_of(angle, constants), _sine_of(angle, constants)
        )
        a_re, a_im = re[:length] >> 1, im[:length] >> 1
        re, im = (
            np.concatenate([a_re + b_re, a_re - b_re]),
            np.concatenate([a_im + b_im, a_im - b_im]),
        )
    return re, im


def _halve_or_turn(re: Ints, im: Ints, angle: Ints, constants: Constants) -> tuple[Ints, Ints]:
    """Inputs of four-point DFTs [..., 4, angles, frames] times their twiddle factors / 2."""
    turned_re, turned_im = re >> 1, im >> 1
    for i, turns in ((1, 2), (2, 1), (3, 3)):
        turned_re[:, i, 1:], turned_im[:, i, 1:] = _turn(
            re[:, i, 1:],
            im[:, i, 1:],
            _cosine_of(turns * angle[1:], constants),
            _sine_of(turns * angle[1:], constants),
        )
    return turned_re, turned_im


def _butterflies(re: Ints, im: Ints) -> tuple[Ints, Ints]:
    """Four-point DFTs over axis 1, with its middle two entries swapped."""
    a_re, b_re, c_re, d_re = _sums(re)
    a_im, b_im, c_im, d_im = _sums(im)
    return (
        np.stack([a_re + c_re, b_re + d_im, a_re - c_re, b_re - d_im], axis=1),
        np.stack([a_im + c_im, b_im - d_re, a_im - c_im, b_im + d_re], axis=1),
    )


def _sums(z: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    return z[:, 0] + z[:, 1], z[:, 0] - z[:, 1], z[:, 2] + z[:, 3], z[:, 2] - z[:, 3]


def _turn(re: Ints, im: Ints, cosine: Ints, sine: Ints) -> tuple[Ints, Ints]:
    """The product with cos - i sin of each row's angle, halved; upper words, as in C."""
    cosine, sine = cosine[:, None], sine[:, None]
    return (
        ((re * cosine) >> 32) + ((im * sine) >> 32),
        ((im * cosine) >> 32) - ((re * sine) >> 32),
    )


def _cosine_of(angle: Ints, constants: Constants) -> Ints:
    quarter = len(constants.cosine) - 1
    angle = np.where(angle > 2 * quarter, 4 * quarter - angle, angle)
    # np.where evaluates both branches, so both indices must be valid.
    return np.where(
        angle <= quarter,
        constants.cosine[np.minimum(angle, quarter)],
        -constants.cosine[2 * quarter - np.maximum(angle, quarter)],
    )


def _sine_of(angle: Ints, constants: Constants) -> Ints:
    return _cosine_of(np.abs(angle - (len(constants.cosine) - 1)), constants)


def _reversed_bits(bits: int) -> Ints:
    order = np.zeros(1, np.int64)
    for _ in range(bits):
        order = np.concatenate([2 * order, 2 * order + 1])
    return order


def _bit_length(x: Ints) -> Ints:
    """Bits of 0 <= x < 2^53; 0 for 0."""
    return np.frexp(x.astype(np.float64))[1].astype(np.int64)


def _mel_logarithms(re: Ints, im: Ints, raised: Ints, constants: Constants) -> Ints:
    """mel_logarithms: bins [frame_length / 2, frames] → ln above floor [n_mels, frames], Q18."""
    used = slice(constants.mel_first_bin, constants.mel_first_bin + len(constants.mel_weight))
    re, im = np.abs(re[used]), np.abs(im[used])
    either = re | im
    shift = 32 - _bit_length(either)
    a, b = (re << shift) >> 16, (im << shift) >> 16
    root = _root_of(((a * (a + 1)) >> 1) + ((b * (b + 1)) >> 1), constants)
    back = shift + constants.mel_guard
    counted = either >> constants.mel_guard != 0
    up = ((root * constants.mel_weight[:, None]) >> back) * counted
    down = ((root << 16) >> back) * counted - up
    energy = np.zeros((constants.config.n_mels, re.shape[1]), np.int64)
    end = np.cumsum(constants.mel_bins)
    for run, (first, last) in enumerate(zip(end - constants.mel_bins, end, strict=True)):
        if run < len(energy):
            energy[run] += up[first:last].sum(axis=0)
        if run:
            energy[run - 1] += down[first:last].sum(axis=0)
    return _log_above_floor(energy, raised, constants)


def _root_of(x: Ints, constants: Constants) -> Ints:
    # x is 0 only where its result is discarded, so any entry will do.
    i = np.maximum(x >> 24, 32) - 32
    entry, step = constants.root[i], np.diff(constants.root)[i]
    return entry + ((step * ((x >> 8) & 0xFFFF) + 0x8000) >> 16)


def _log_above_floor(energy: Ints, raised: Ints, constants: Constants) -> Ints:
    shift = 32 - _bit_length(energy)
    x = energy << shift
    i = (x >> 24) & 127
    ln = (constants.ln[i] << 16) + np.diff(constants.ln)[i] * ((x >> 8) & 0xFFFF)
    above = constants.log_offset - (shift + raised) * _LN2_Q24 + (ln >> 8)
    return np.where((above < 0) | (energy == 0), 0, (above + 32) >> 6)


def _cepstrum(logs: Ints, constants: Constants) -> Ints:
    """DCT: [n_mels, frames] → [n_mfcc, frames], Q16."""
    n = len(logs)
    mirrored = logs[::-1]
    sums, differences = (logs + mirrored)[: (n + 1) // 2], (logs - mirrored)[: (n + 1) // 2]
    if n % 2:
        sums[-1] = logs[n // 2]
        differences[-1] = 0
    mfcc = np.empty((len(constants.dct), logs.shape[1]), np.int64)
    mfcc[0::2] = (constants.dct[0::2] @ sums) >> 16
    mfcc[1::2] = (constants.dct[1::2] @ differences) >> 16
    mfcc = (mfcc + ((1 << constants.dct_shift) >> 1)) >> constants.dct_shift
    mfcc[0] += constants.mfcc0_floor
    return mfcc
