"""The constants of a front end as tables and macros in C."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_export.fixed_front_end.constants import constants_of
from kws.frontend import FrontEndConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class FixedTables:
    """The constants of one front end for the C library."""

    arrays: list[tuple[str, str, NDArray[Any]]]
    """Name in C, type in C and values of each table, for `firmware_export.c_source.c_array`."""
    macros: dict[str, int]
    """Name and value of each macro for ``kws_tables.h``; some are negative."""
    comments: Mapping[str, str]
    """What each table and macro holds, with its Q format."""


def tables(config: FrontEndConfig) -> FixedTables:
    """Return all constants of the front end except those of the quantiser.

    Raises:
        KwsError: an unsupported front end.
    """
    c = constants_of(config)
    arrays: list[tuple[str, NDArray[Any], str]] = [
        ("kws_cos_q31", c.cosine.astype(np.int32), "cos(2 pi i / KWS_FRAME_LENGTH), Q31"),
        ("kws_root", c.root.astype(np.uint16), "4096 sqrt(i + 32)"),
        ("kws_ln_q16", c.ln.astype(np.uint16), "ln(1 + i / 128), Q16"),
        (
            "kws_mel_bins",
            c.mel_bins.astype(np.uint16),
            "bins between corners of mel filters",
        ),
        (
            "kws_mel_weight_q16",
            c.mel_weight.astype(np.uint16),
            "weight of each bin in the rising mel filter, Q16",
        ),
        (
            "kws_dct",
            c.dct.astype(np.int16).ravel(),
            "half rows of the DCT, Q(14 + KWS_DCT_SHIFT)",
        ),
    ]
    macros = {
        "KWS_FRAME_LENGTH": (config.frame_length, "samples in a frame"),
        "KWS_HOP_LENGTH": (config.hop_length, "samples from one frame to the next"),
        "KWS_N_MELS": (config.n_mels, "mel filters"),
        "KWS_N_MFCC": (config.n_mfcc, "coefficients"),
        "KWS_FFT_LOG2": (c.fft_log2, "the complex FFT has 2^this points"),
        "KWS_MEL_FIRST_BIN": (c.mel_first_bin, "first bin in a mel filter"),
        "KWS_MEL_WEIGHTS": (len(c.mel_weight), "bins in mel filters"),
        "KWS_MEL_GUARD": (
            c.mel_guard,
            "bits dropped so that sums of magnitudes fit 32 bits",
        ),
        "KWS_LOG_OFFSET_Q24": (
            c.log_offset,
            "from ln of the filters' units to ln / floor, Q24",
        ),
        "KWS_DCT_SHIFT": (c.dct_shift, "from sums of the DCT to Q16"),
        "KWS_MFCC0_FLOOR_Q16": (c.mfcc0_floor, "coefficient 0 of silence, Q16"),
    }
    return FixedTables(
        arrays=[(name, f"{values.dtype.name}_t", values) for name, values, _ in arrays],
        macros={name: value for name, (value, _) in macros.items()},
        comments={name: text for name, _, text in arrays}
        | {name: text for name, (_, text) in macros.items()},
    )
