"""Text of C constants."""

from __future__ import annotations

import textwrap

import numpy as np
import numpy.typing as npt

_CTYPES = {"int8": "int8_t", "uint8": "uint8_t", "int16": "int16_t", "uint16": "uint16_t"}
_CTYPES |= {"int32": "int32_t", "uint32": "uint32_t", "int64": "int64_t"}
# The most negative numbers have no literal of their own in C: -2147483648 is minus (too large).
_LOWEST = {-(2**31): "INT32_MIN", -(2**63): "INT64_MIN"}


def c_comment(text: str) -> str:
    """Return `text` as one C comment on a line of its own; no text can end it early."""
    return f"/* {' '.join(text.replace('*/', '* /').replace('/*', '/ *').split())} */"


def c_array(
    name: str, values: npt.ArrayLike, *, static: bool = True, comment: str | None = None
) -> str:
    """Return the definition of a constant array.

    Args:
        name: its name in C.
        values: whole numbers of a type with a fixed width; written flat, in C order.
        static: visible in its file only.
        comment: what it holds (shape, unit, Q format), put on the line above.

    Example:
        >>> print(c_array("kws_ends", np.array([-1, 1], np.int8)))
        static const int8_t kws_ends[2] = {
            -1, 1,
        };
    """
    array = np.asarray(values)
    ctype = _CTYPES[array.dtype.name]
    numbers = ", ".join(_LOWEST.get(int(v), str(int(v))) for v in array.ravel()) + ","
    lines = textwrap.wrap(numbers, 100, initial_indent="    ", subsequent_indent="    ")
    head = f"{c_comment(comment)}\n" if comment else ""
    storage = "static const" if static else "const"
    return f"{head}{storage} {ctype} {name}[{array.size}] = {{\n" + "\n".join(lines) + "\n};"
