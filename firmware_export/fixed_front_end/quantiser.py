"""From MFCC in Q16 to the int8 input of a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.errors import KwsError
from kws.model_file import ModelCard

INPUT_COMMENTS = {
    "kws_input_centre_q16": "MFCC that becomes 0, Q16",
    "kws_input_gain": "factor of the difference from it",
    "kws_input_shift": "bits that the product is shifted right by",
}
"""What each table in C holds, with its Q format."""


@dataclass(frozen=True, kw_only=True, eq=False)
class InputQuantiser:
    """Quantises MFCC in Q16: ``(mfcc - centre) * gain / 2^shift``."""

    centre: NDArray[np.int32]
    """MFCC that becomes 0, Q16 [n_mfcc]."""
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
    """Fold the card's normalisation and the input tensor's quantisation into integers.

    The result is that of `kws.network.Network.prepare`: ``rint((x - mean) / (std * scale)) +
    zero_point``.

    Raises:
        KwsError: numbers too large or too small to be expressed.
    """
    std, mean = np.array(card.feature_std), np.array(card.feature_mean)
    with np.errstate(over="ignore", divide="ignore"):
        factor = 1.0 / (std * scale)
        centre = np.rint((mean - zero_point * std * scale) * 65536)
    # The largest shift for which gain has 30 bits; a factor below 2^-17 has fewer.
    shift = np.minimum(62, 16 + 30 - np.frexp(factor)[1])
    if not (np.isfinite(factor).all() and shift.min() >= 1 and np.abs(centre).max() < 2.0**31):
        raise KwsError(
            "The normalisation of this model does not fit the firmware's 32 bits. Received: "
            f"feature_mean {list(card.feature_mean)}, feature_std {list(card.feature_std)}, input "
            f"scale {scale}, zero point {zero_point}. Train with features of ordinary magnitude"
        )
    gain = np.minimum(np.rint(np.ldexp(factor, shift - 16)), 2.0**30)
    return InputQuantiser(
        centre=centre.astype(np.int32), gain=gain.astype(np.int32), shift=shift.astype(np.uint8)
    )


def quantise_features(mfcc_q16: NDArray[np.int32], quantiser: InputQuantiser) -> NDArray[np.int8]:
    """Return the int8 input of the network, bit for bit as in C.

    Args:
        mfcc_q16: from `fixed_mfcc` [..., n_mfcc].
        quantiser: from `input_quantiser`.

    Returns:
        int8 [..., n_mfcc], rounded to nearest (halves up) and saturated.
    """
    x = mfcc_q16.astype(np.int64) - quantiser.centre
    shift = quantiser.shift.astype(np.int64)
    q = (x * quantiser.gain + (np.int64(1) << (shift - 1))) >> shift
    return np.clip(q, -128, 127).astype(np.int8)
