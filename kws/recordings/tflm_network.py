"""The network on TFLM's interpreter, the one that microcontrollers run, as a wheel for computers.

What a model does on hours of audio can so be measured with the kernels of the device. Everything
around the network (front end, scaling, decision) is the same code.
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
"""What a recording may be heard with: the runtime of `kws run`, or TFLM's interpreter."""


class MicroNetwork(Network):
    """A `Network` whose steps TFLM's interpreter takes."""

    def __init__(self, path_or_name: str | Path, threads: int = 1) -> None:
        """Load a model file, or a pretrained model by its name.

        Raises:
            KwsError: as for `Network`, or the package is missing, or TFLM cannot run the file.
        """
        # Shapes and scales are read and checked by the base class.
        super().__init__(path_or_name, threads)
        module = require("tflite_micro.python.tflite_micro.runtime", extra="dev")
        _, content = load_model_bytes(path_or_name)
        try:
            self._micro = module.Interpreter.from_bytes(content)
        except (RuntimeError, ValueError) as error:
            raise KwsError(
                f"TFLM cannot run {path_or_name}: {' '.join(str(error).split())}. Use an int8 file"
            ) from error

    def reset(self) -> None:
        """Forget the past: the LSTM's state becomes zero."""
        self._micro.reset()

    def invoke(self, prepared: NDArray[np.generic]) -> NDArray[np.float32]:
        """Run the network once; see `Network.invoke`."""
        self._micro.set_input(prepared[np.newaxis], 0)
        self._micro.invoke()
        return self.as_posteriors(np.array(self._micro.get_output(0))[0])


def open_network(path_or_name: str | Path, runtime: str = "litert") -> Network:
    """Open a model with one of `RUNTIMES`.

    Raises:
        KwsError: an unknown runtime, or as the networks.
    """
    if runtime not in RUNTIMES:
        raise KwsError(f"Unknown runtime. Received: {runtime!r}. Use: {', '.join(RUNTIMES)}")
    return MicroNetwork(path_or_name) if runtime == "tflm" else Network(path_or_name)


def version_of(runtime: str) -> str:
    """Return name and version, for example ``TFLM 0.dev20260101``."""
    return f"TFLM {metadata.version('tflite-micro')}" if runtime == "tflm" else which_runtime()
