"""The front end of the firmware: MFCC in whole numbers, the same bits here and in C.

`fixed_mfcc` does in NumPy what ``runtime/kws_fft.c`` and ``runtime/kws_frontend.c`` do, operation
by operation, so that Python can show what a device will see; the tests hold the two equal in every
bit. Read it beside the C: the comments on Q formats and on why nothing overflows are there.

The definition that both approximate is `kws.frontend`; on speech, from -60 dB to clipped, they stay
within 0.001 of its MFCC (measured: 0.0002, and 2 of 10,000 values of int8 differ, by one).
"""

from __future__ import annotations

from firmware_export.fixed_front_end.constants import require_mfcc
from firmware_export.fixed_front_end.mfcc import FixedFrontEnd, fixed_mfcc
from firmware_export.fixed_front_end.quantiser import (
    InputQuantiser,
    input_quantiser,
    quantise_features,
)
from firmware_export.fixed_front_end.tables import FixedTables, tables

__all__ = [
    "FixedFrontEnd",
    "FixedTables",
    "InputQuantiser",
    "fixed_mfcc",
    "input_quantiser",
    "quantise_features",
    "require_mfcc",
    "tables",
]
