"""The result of lowering: calls of kernels, with the constants and the state that they need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class ConstArray:
    """A constant array in flash, which a C structure points to."""

    values: NDArray[np.generic]
    """Integers of a type with a fixed width, in the shape that `label` explains."""
    label: str
    """Comment in C: shape, unit, Q format."""


@dataclass(frozen=True, kw_only=True)
class Variable:
    """State that is kept from one invocation to the next."""

    tensor: int
    """Its number in the graph."""
    ctype: str
    """Type of its elements in C: ``int8_t`` or ``int16_t``."""
    count: int
    """Number of elements."""
    initial: int
    """Value of every element at the start and after a reset."""

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
    """Name of the kernel, for example ``conv``, whose parameters in C are a ``kws_conv``."""
    kind: str = ""
    """Variant of the kernel, for example ``max`` of ``pool``; mostly empty."""
    fields: Mapping[str, int | ConstArray]
    """The parameters, in the order of the struct."""
    inputs: tuple[int, ...]
    """Tensors read: int8 activations, with aliases resolved."""
    outputs: tuple[int, ...]
    """The tensor written: an int8 activation."""
    variables: tuple[Variable, ...] = ()
    """State read and written."""
    macs: int = 0
    """Multiply-accumulates of one call."""
    layer: str = "rest"
    """``conv``, ``lstm`` or ``rest``, for the breakdown of run time."""
    label: str = ""
    """Comment in C: what it computes."""

    @property
    def function(self) -> str:
        """Its function in C, for example ``kws_conv_s8`` or ``kws_max_pool_s8``."""
        return "_".join(filter(None, ("kws", self.kind, self.kernel, "s8")))

    @property
    def struct(self) -> str:
        """The type of its parameters, for example ``kws_conv``."""
        return f"kws_{self.kernel}"

    @property
    def source(self) -> str:
        """Its file in `runtime/`, for example ``kws_conv.c``."""
        return f"kws_{self.kernel}.c"
