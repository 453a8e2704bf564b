"""The TFLite interpreter that runs the network: LiteRT, tflite-runtime or TensorFlow's own."""

from __future__ import annotations

import contextlib
import importlib
import io
from functools import lru_cache
from types import ModuleType
from typing import Any

from kws.errors import KwsError

# By preference: the current package, its predecessor (32-bit Raspberry Pi OS), and TensorFlow,
# which is installed for training but takes seconds to import.
_RUNTIMES = (
    ("ai-edge-litert", "ai_edge_litert", "ai_edge_litert.interpreter"),
    ("tflite-runtime", "tflite_runtime", "tflite_runtime.interpreter"),
    ("tensorflow", "tensorflow", "tensorflow.lite.python.interpreter"),
)


def open_interpreter(model: bytes, threads: int = 1) -> Any:
    """Return an interpreter for `model` with its tensors allocated and its state at zero.

    The built-in kernels run without the XNNPACK delegate: it costs more than it saves on such small
    steps, and its int8 rounding may differ from the kernels on microcontrollers.

    Args:
        model: content of a .tflite file.
        threads: for the kernels that can use more than one.

    Raises:
        KwsError: `threads` is below 1, no runtime is installed, it was built for another NumPy, or
            it cannot run this model.
    """
    if not isinstance(threads, int) or threads < 1:
        raise KwsError(f"threads must be a whole number, at least 1. Received: {threads!r}. Use 1")
    _, module = _runtime()
    try:
        # If the runtime was built for another NumPy, NumPy prints a page; one line replaces it.
        with contextlib.redirect_stderr(io.StringIO()):
            interpreter = module.Interpreter(
                model_content=model,
                num_threads=threads,
                experimental_op_resolver_type=(
                    module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
                ),
            )
        interpreter.allocate_tensors()
    except SystemError as error:
        import numpy as np

        raise KwsError(
            f"{which_runtime()} was built for another NumPy. Received: NumPy {np.__version__}. "
            "Install one that fits: pip install 'numpy<2', or a newer runtime"
        ) from error
    except (ValueError, RuntimeError) as error:
        # The runtime's own message may have several lines.
        raise KwsError(
            f"{which_runtime()} cannot run this model: {' '.join(str(error).split())}. "
            "Check that the file is complete, or export it again"
        ) from error
    return interpreter


def which_runtime() -> str:
    """Return the runtime's name and version, for example ``ai-edge-litert 2.3.0``.

    Raises:
        KwsError: none is installed.
    """
    name, module = _runtime()
    package = importlib.import_module(module.__name__.split(".")[0])
    return f"{name} {getattr(package, '__version__', '(unknown version)')}"


@lru_cache(maxsize=1)
def _runtime() -> tuple[str, ModuleType]:
    broken = ""
    for name, package, module in _RUNTIMES:
        try:
            return name, importlib.import_module(module)
        except ImportError as error:
            # Installed but not loadable, for example built for another Python or processor.
            if error.name is None or error.name.split(".")[0] != package:
                broken = broken or f" ({name} is installed but does not load: {error})"
    raise KwsError(
        f"No TFLite runtime was found{broken}. Install one with: pip install ai-edge-litert "
        "(on 32-bit ARM: pip install tflite-runtime 'numpy<2')"
    )
