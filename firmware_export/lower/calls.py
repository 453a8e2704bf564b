"""Calls of kernels, and the constants and the state that they need: what lowering makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class ConstArray:
    """A constant array in flash; the C field that takes it is a pointer."""

    values: NDArray[np.generic]
    """Whole numbers of a type with a fixed width, in the shape that `label` explains."""
    label: str
    """What it holds: shape, unit, Q format; for a comment."""


@dataclass(frozen=True, kw_only=True)
class Variable:
    """State that lives from one invocation to the next."""

    tensor: int
    """Its number in the graph."""
    ctype: str
    """Type of its elements in C: ``int8_t`` or ``int16_t``."""
    count: int
    """Number of elements."""
    initial: int
    """What every element is at the start and after a reset."""

    @property
    def n_bytes(self) -> int:
        """Bytes of memory."""
        return self.count * {"int8_t": 1, "int16_t": 2}[self.ctype]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a kernel.

    In C: ``function(&parameters, inputs[0], outputs[0], inputs[1:]…, variables…)``, where
    activations are ``int8_t *`` and variables pointers to their type. No two of an operator's
    buffers may overlap.
    """

    kernel: str
    """Name of the kernel, for example ``conv``: C has its parameters as the type ``kws_conv``, in
    the file ``kws_conv.c``."""
    kind: str = ""
    """Which of several in that file, for example ``max`` of ``pool``."""
    fields: Mapping[str, int | ConstArray]
    """The parameters, in the order of the struct."""
    inputs: tuple[int, ...]
    """Tensors read: int8 activations; aliases are resolved."""
    outputs: tuple[int, ...]
    """The tensor written: an int8 activation."""
    variables: tuple[Variable, ...] = ()
    """State read and written."""
    macs: int = 0
    """Multiply-accumulates of one call."""
    layer: str = "rest"
    """``conv``, ``lstm`` or ``rest``, for the breakdown of time."""
    label: str = ""
    """What it does, for a comment."""

    @property
    def function(self) -> str:
        """The kernel in C, for example ``kws_conv_s8`` or ``kws_max_pool_s8``."""
        return "_".join(filter(None, ("kws", self.kind, self.kernel, "s8")))

    @property
    def struct(self) -> str:
        """The type of its parameters, for example ``kws_conv``."""
        return f"kws_{self.kernel}"

    @property
    def source(self) -> str:
        """The file in `runtime/` that has it, for example ``kws_conv.c``."""
        return f"kws_{self.kernel}.c"
