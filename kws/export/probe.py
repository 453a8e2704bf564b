"""Runs a .tflite on one runtime, in its own process and possibly its own environment.

This file is self-contained: it imports NumPy and the requested runtime, nothing of kws.

    python -I probe.py RUNTIME MODEL INPUTS.npz RESULT.npz

`INPUTS.npz` holds `windows` [invocations, frames, n_features] in the type of the input and `resets`
bool [invocations], true if the state is set to zero before. `RESULT.npz` gets `outputs`
[invocations, steps per invocation, n_labels], `version`, and `arena_bytes` (TFLM; else 0).
"""

from __future__ import annotations

# ruff: noqa: B905  (it also runs on Python 3.9, whose zip has no `strict`)
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    """Run as described above."""
    runtime, model, inputs, result = sys.argv[1:]
    content = Path(model).read_bytes()
    with np.load(inputs) as arrays:
        windows, resets = arrays["windows"], arrays["resets"]
    if runtime == "tflm":
        outputs, version, arena = run_tflm(content, windows, resets)
    else:
        outputs, version = run_tflite(runtime, content, windows, resets)
        arena = 0
    np.savez(result, outputs=outputs, version=version, arena_bytes=arena)


def run_tflite(
    runtime: str, content: bytes, windows: np.ndarray, resets: np.ndarray
) -> tuple[np.ndarray, str]:
    """Run on LiteRT or tflite-runtime.

    Args:
        runtime: ``litert`` or ``tflite-runtime``, optionally with ``+xnnpack`` (the default
            delegate of both) or ``+reference`` (the reference kernels).
    """
    package, _, kernels = runtime.partition("+")
    if package == "litert":
        import ai_edge_litert as home
        import ai_edge_litert.interpreter as module
    else:
        import tflite_runtime as home
        import tflite_runtime.interpreter as module
    kinds = module.OpResolverType
    interpreter: Any = module.Interpreter(
        model_content=content,
        num_threads=1,
        experimental_op_resolver_type={
            "": kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            "xnnpack": kinds.AUTO,
            "reference": kinds.BUILTIN_REF,
        }[kernels],
    )
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    result = interpreter.get_output_details()[0]["index"]
    outputs = []
    for window, reset in zip(windows, resets):
        if reset:
            interpreter.reset_all_variables()
        interpreter.set_tensor(source, window[np.newaxis])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(result)[0])
    return np.array(outputs), str(getattr(home, "__version__", "of unknown version"))


def run_tflm(
    content: bytes, windows: np.ndarray, resets: np.ndarray
) -> tuple[np.ndarray, str, int]:
    """Run on TFLM's interpreter, and read the arena's size from its own report."""
    from importlib import metadata

    from tflite_micro.python.tflite_micro import runtime

    interpreter = runtime.Interpreter.from_bytes(content)
    outputs = []
    for window, reset in zip(windows, resets):
        if reset:
            interpreter.reset()
        interpreter.set_input(window[np.newaxis], 0)
        interpreter.invoke()
        outputs.append(np.array(interpreter.get_output(0))[0])
    # The report is printed, not returned.
    with tempfile.TemporaryFile() as report:
        saved = os.dup(2)
        os.dup2(report.fileno(), 2)
        interpreter.print_allocations()
        os.dup2(saved, 2)
        report.seek(0)
        found = re.search(rb"Arena allocation total (\d+) bytes", report.read())
    arena = int(found.group(1)) if found else 0
    return np.array(outputs), metadata.version("tflite-micro"), arena


if __name__ == "__main__":
    main()
