"""exp of float32 numbers, bit for bit as in glibc, on any machine.

LiteRT fills the tables of SOFTMAX and LOGISTIC with the C library's expf. glibc's (since 2.27, by
Szabolcs Nagy, ARM's optimized-routines) is not always correctly rounded, and NumPy's float32 exp
deviates more. So glibc's arithmetic is repeated here in double: exp(x) = 2^(k/32) * 2^r, with k the
integer nearest to 32 x / ln 2 and a polynomial for 2^r, rounded to float32 at the end.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

_N = 32
_INVERSE_LN2 = float.fromhex("0x1.71547652b82fep+0") * _N
# 2^r - 1 around zero, as r times these: cubic, square, linear.
_POLYNOMIAL = tuple(
    float.fromhex(c) / _N**power
    for c, power in (
        ("0x1.c6af84b912394p-5", 3),
        ("0x1.ebfce50fac4f3p-3", 2),
        ("0x1.62e42ff0c52d6p-1", 1),
    )
)
_OVERFLOW = float.fromhex("0x1.62e42ep6")
_UNDERFLOW = float.fromhex("-0x1.9fe368p6")


def exp_f32(x: npt.ArrayLike) -> NDArray[np.float32]:
    """Return e^x as float32; subnormal results are kept, smaller ones are zero."""
    x32 = np.asarray(x, np.float32)
    double = np.clip(x32.astype(np.float64), -200.0, 200.0)
    z = _INVERSE_LN2 * double
    k = np.rint(z)
    r = z - k
    whole, part = np.divmod(k.astype(np.int64), _N)
    power = np.ldexp(2.0 ** (part / _N), whole)
    cubic, square, linear = _POLYNOMIAL
    y = (linear * r + 1.0) + (cubic * r + square) * (r * r)
    with np.errstate(over="ignore", under="ignore"):
        result = (y * power).astype(np.float32)
    result = np.where(x32 > _OVERFLOW, np.float32(np.inf), result)
    return np.where(x32 < _UNDERFLOW, np.float32(0), result).astype(np.float32)
