"""The network on the interpreter of microcontrollers, TFLM, from its wheel for computers.

This measures a model on hours of audio with the kernels of the device. The code around the network
(front end, scaling, decision) is the same.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kws.errors import KwsError, require
from kws.model_file.card import load_model_bytes
from kws.network import Network
from kws.runtime import which_runtime

RUNTIMES = ("litert", "tflm")
"""The interpreters: that of `kws run`, or TFLM's."""


class TflmNetwork(Network):
    """A `Network` on TFLM's interpreter."""

    def __init__(self, path_or_name: str | Path, threads: int = 1) -> None:
        """Load a model file, or a pretrained model by its name.

        Raises:
            KwsError: as for `Network`; the package is missing; or TFLM cannot run the file.
        """
        # The base class reads and checks shapes and scales.
        super().__init__(path_or_name, threads)
        module = require("tflite_micro.python.tflite_micro.runtime", extra="dev")
        _, content = load_model_bytes(path_or_name)
        try:
            self._tflm = module.Interpreter.from_bytes(content)
        except (RuntimeError, ValueError) as error:
            raise KwsError(
                f"TFLM cannot run {path_or_name}: {' '.join(str(error).split())}. Use an int8 file"
            ) from error

    def reset(self) -> None:
        """Set the LSTM's state to zero."""
        self._tflm.reset()

    def invoke(self, prepared: NDArray[np.generic]) -> NDArray[np.float32]:
        """Run the network once; see `Network.invoke`."""
        self._tflm.set_input(prepared[np.newaxis], 0)
        self._tflm.invoke()
        return self.as_posteriors(np.array(self._tflm.get_output(0))[0])


def open_network(path_or_name: str | Path, runtime: str = "litert") -> Network:
    """Open a model with one of `RUNTIMES`.

    Raises:
        KwsError: an unknown runtime, or as for the networks.
    """
    if runtime not in RUNTIMES:
        raise KwsError(f"Unknown runtime. Received: {runtime!r}. Use: {', '.join(RUNTIMES)}")
    return TflmNetwork(path_or_name) if runtime == "tflm" else Network(path_or_name)


def version_of(runtime: str) -> str:
    """Return name and version, for example ``TFLM 0.dev20260101``."""
    return f"TFLM {metadata.version('tflite-micro')}" if runtime == "tflm" else which_runtime()
