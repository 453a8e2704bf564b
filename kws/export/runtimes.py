"""Runs the finished file on every runtime it is meant for, and compares all outputs with LiteRT."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from kws.errors import KwsError
from kws.runtime import open_interpreter, which_runtime
from kws.system.cache import cache_folder

RUNTIMES = ("litert", "tflm", "tflite-runtime")
"""Names for the option ``--runtimes``."""
PROBES = {
    "litert": (
        ("litert+xnnpack", "LiteRT, default delegate"),
        ("litert+reference", "LiteRT, reference kernels"),
    ),
    "tflm": (("tflm", "TFLM"),),
    "tflite-runtime": (
        ("tflite-runtime", "tflite-runtime, built-in kernels"),
        ("tflite-runtime+xnnpack", "tflite-runtime, default delegate"),
    ),
}
"""For each runtime the arguments of `probe.py`, and names for display."""
REQUIREMENTS = ("tflite-runtime==2.14.0", "numpy<2")
"""The last tflite-runtime, which needs NumPy 1 and therefore its own environment."""
MOST_ANSWERS_CHANGED = 0.01
"""A runtime with different answers in more than this share of clear steps does not run the network
correctly."""
CLEAR_LEAD = 0.1
"""A step is clear if its best label leads the next by this much: a near-tie that a few LSB decide
does not count as a different answer."""
_PYTHONS = ((3, 9), (3, 11))
_PROBE_S = 300
_INSTALL_S = 600
_PROBE = Path(__file__).with_name("probe.py")


@dataclass(frozen=True, kw_only=True)
class RuntimeCheck:
    """Results of one runtime."""

    runtime: str
    """Name for display."""
    version: str
    """Version of its package; empty if it was not checked."""
    not_checked: str
    """Why it was not checked; empty if it was."""
    largest_difference: float
    """Largest difference from LiteRT's built-in kernels: in LSB of the int8 output, or of the
    posterior in a float file."""
    different_share: float
    """Share of the outputs that differ at all, 0 to 1."""
    answers_changed: float
    """Share of the clear steps (`CLEAR_LEAD`) with another label, 0 to 1."""
    arena_bytes: int
    """TFLM's arena for the file on this computer; 0 if unknown."""


@dataclass(frozen=True, kw_only=True)
class RuntimeReport:
    """Results of all runtimes."""

    reference: str
    """The reference: the kernels that `kws run` uses."""
    steps: int
    """Invocations compared."""
    checks: tuple[RuntimeCheck, ...]
    """One per set of kernels."""
    alike: tuple[tuple[str, ...], ...]
    """Groups with identical outputs, bit for bit; the reference's group first."""
    quantised: bool
    """Whether differences are in LSB."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain dictionaries, lists, numbers and strings, as JSON gives them back."""
        return cast("dict[str, Any]", json.loads(json.dumps(asdict(self))))

    @property
    def disagreeing(self) -> tuple[RuntimeCheck, ...]:
        """Those with another answer in more than `MOST_ANSWERS_CHANGED` of the clear steps.

        A difference of some LSB is not an error: kernels round and approximate sigmoid and tanh
        differently, and an LSTM carries that on from step to step.
        """
        return tuple(c for c in self.checks if c.answers_changed > MOST_ANSWERS_CHANGED)

    def lines(self) -> list[str]:
        """Return the results as a table."""
        width = max(len(c.runtime) for c in self.checks) if self.checks else 0
        lines = [f"compared with {self.reference} over {self.steps:,} invocations"]
        for c in self.checks:
            if c.not_checked:
                lines.append(f"{c.runtime:{width}}  not checked: {c.not_checked}")
                continue
            if c.different_share == 0:
                verdict = "bit for bit the same"
            else:
                apart = f"{c.largest_difference:.1g}"
                if self.quantised:
                    apart = f"{c.largest_difference:.0f} LSB"
                verdict = (
                    f"{apart} at most, {100 * c.different_share:.2f} % of outputs differ, "
                    f"{100 * c.answers_changed:.2f} % of clear answers"
                )
            arena = f", arena {c.arena_bytes:,} bytes" if c.arena_bytes else ""
            lines.append(f"{c.runtime:{width}}  {verdict}{arena} ({c.version})")
        groups = [group for group in self.alike[1:] if len(group) > 1]
        lines += [f"bit for bit the same as each other: {', '.join(group)}" for group in groups]
        return lines


def default_runtimes() -> tuple[str, ...]:
    """Return the runtimes that can be checked without a download."""
    names = []
    if find_spec("ai_edge_litert") is not None:
        names.append("litert")
    if find_spec("tflite_micro") is not None:
        names.append("tflm")
    if _ready(_environment()):
        names.append("tflite-runtime")
    return tuple(names)


def check_runtimes(
    content: bytes,
    inputs: NDArray[np.generic],
    resets: NDArray[np.bool_],
    names: Sequence[str],
    *,
    say: Callable[[str], None] = lambda message: None,
) -> RuntimeReport:
    """Run a model on each runtime and compare it with LiteRT's built-in kernels.

    Args:
        content: the finished file.
        inputs: in the type of the input tensor, one invocation after another [n, frames,
            n_features].
        resets: whether the state is set to zero before each invocation [n].
        names: some of `RUNTIMES`; for ``tflite-runtime`` an environment is created if needed.
        say: called with progress messages.

    Raises:
        KwsError: an unknown name.
    """
    for name in names:
        if name not in RUNTIMES:
            raise KwsError(f"Unknown runtime. Received: {name!r}. Use: {', '.join(RUNTIMES)}")
    expected = _reference(content, inputs, resets)
    quantised = expected.dtype == np.int8
    reference = f"{which_runtime()}, built-in kernels"
    outputs: dict[str, NDArray[np.generic]] = {reference: expected}
    checks = []
    with tempfile.TemporaryDirectory(prefix="kws-") as temporary:
        room = Path(temporary)
        (room / "model.tflite").write_bytes(content)
        np.savez(room / "inputs.npz", windows=inputs, resets=resets)
        for name in RUNTIMES:
            if name not in names:
                continue
            python, why = _python_for(name, say)
            for probe, title in PROBES[name]:
                found: dict[str, NDArray] = {}
                if python is not None:
                    found, why = _run_probe(python, probe, room)
                if not found:
                    checks.append(_not_checked(title, why))
                    continue
                outputs[title] = found["outputs"]
                checks.append(_checked(title, found, expected))
    return RuntimeReport(
        reference=reference,
        steps=len(inputs),
        checks=tuple(checks),
        alike=_groups(outputs),
        quantised=quantised,
    )


def _reference(
    content: bytes, inputs: NDArray[np.generic], resets: NDArray[np.bool_]
) -> NDArray[np.generic]:
    interpreter = open_interpreter(content)
    source = interpreter.get_input_details()[0]["index"]
    result = interpreter.get_output_details()[0]["index"]
    outputs = []
    for window, reset in zip(inputs, resets, strict=True):
        if reset:
            interpreter.reset_all_variables()
        interpreter.set_tensor(source, window[np.newaxis])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(result)[0])
    return np.array(outputs)


def _answers_changed(expected: NDArray[np.generic], received: NDArray[np.generic]) -> float:
    """Return the share of the clear steps [..., labels] with another answer in `received`."""
    posteriors = [
        # An int8 posterior is (q + 128) / 256 for both heads.
        (x.astype(np.float64) + 128) / 256 if x.dtype == np.int8 else x.astype(np.float64)
        for x in (expected, received)
    ]
    if expected.shape[-1] == 1:  # a wake word: the word against everything else
        posteriors = [np.concatenate([p, 1 - p], axis=-1) for p in posteriors]
    ranked = np.sort(posteriors[0], axis=-1)
    clear = ranked[..., -1] - ranked[..., -2] >= CLEAR_LEAD
    answers, others = (p.argmax(axis=-1)[clear] for p in posteriors)
    return float((answers != others).mean()) if clear.any() else 0.0


def _groups(outputs: dict[str, NDArray[np.generic]]) -> tuple[tuple[str, ...], ...]:
    groups: dict[bytes, list[str]] = {}
    for title, values in outputs.items():
        groups.setdefault(values.tobytes(), []).append(title)
    return tuple(tuple(group) for group in groups.values())


def _checked(title: str, found: dict[str, NDArray], expected: NDArray[np.generic]) -> RuntimeCheck:
    """Compare what `probe.py` returned with the reference."""
    received = found["outputs"]
    apart = np.abs(received.astype(np.float64) - expected.astype(np.float64))
    return RuntimeCheck(
        runtime=title,
        version=str(found["version"]),
        not_checked="",
        largest_difference=float(apart.max()),
        different_share=float((apart > 0).mean()),
        answers_changed=_answers_changed(expected, received),
        arena_bytes=int(found["arena_bytes"]),
    )


def _not_checked(title: str, why: str) -> RuntimeCheck:
    return RuntimeCheck(
        runtime=title,
        version="",
        not_checked=why,
        largest_difference=0.0,
        different_share=0.0,
        answers_changed=0.0,
        arena_bytes=0,
    )


def _run_probe(python: Path, probe: str, room: Path) -> tuple[dict[str, NDArray], str]:
    """Run `probe.py` and return its arrays; or none and the reason."""
    result = room / f"{probe}.npz"
    paths = (python, "-I", _PROBE, probe, room / "model.tflite", room / "inputs.npz", result)
    command = [str(part) for part in paths]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PROBE_S, check=False)
    except subprocess.TimeoutExpired:
        return {}, f"no result within {_PROBE_S} s"
    except OSError as error:
        return {}, f"{python} did not start ({error.strerror})"
    if done.returncode or not result.is_file():
        return {}, _last_line(done.stderr) or f"it ended with exit status {done.returncode}"
    with np.load(result, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}, ""


def _last_line(output: bytes) -> str:
    lines = [line.strip() for line in output.decode(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "")[:200]


def _python_for(name: str, say: Callable[[str], None]) -> tuple[Path | None, str]:
    """Return the Python that has a runtime; or None and the reason."""
    if name == "tflite-runtime":
        return _tflite_runtime_python(say)
    package = {"litert": "ai_edge_litert", "tflm": "tflite_micro"}[name]
    if find_spec(package) is None:
        extra = "'kws[dev]' (on Linux, x86-64)" if name == "tflm" else "ai-edge-litert"
        return None, f"not installed; get it with: pip install {extra}"
    return Path(sys.executable), ""


def _environment() -> Path:
    return cache_folder("environments") / "tflite-runtime-2.14.0"


def _ready(folder: Path) -> bool:
    return (folder / "ready").is_file() and _python_in(folder).exists()


def _python_in(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _tflite_runtime_python(say: Callable[[str], None]) -> tuple[Path | None, str]:
    """Create the environment for tflite-runtime, once, and return its Python."""
    folder = _environment()
    if _ready(folder):
        return _python_in(folder), ""
    base = _old_python()
    if base is None:
        (_, low), (_, high) = _PYTHONS
        return None, f"it needs a Python 3.{low} to 3.{high}, and none was found"
    say(f"installing {' '.join(REQUIREMENTS)} into {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        pip = (str(_python_in(folder)), "-m", "pip", "install", "--quiet")
        only_wheels = ("--disable-pip-version-check", "--only-binary", ":all:")
        for command in (
            [base, "-m", "venv", str(folder)],
            [*pip, *only_wheels, *REQUIREMENTS],
        ):
            done = subprocess.run(command, capture_output=True, timeout=_INSTALL_S, check=False)
            if done.returncode:
                why = _last_line(done.stderr) or _last_line(done.stdout)
                return None, f"it could not be installed ({why})"
        (folder / "ready").touch()
    except subprocess.TimeoutExpired:
        return None, f"installing it took longer than {_INSTALL_S} s"
    finally:
        # After any failure, Ctrl-C included, no incomplete environment is left.
        if not _ready(folder):
            shutil.rmtree(folder, ignore_errors=True)
    return _python_in(folder), ""


def _old_python() -> str | None:
    """Return a Python for which tflite-runtime has wheels: this one, or one on the PATH."""
    low, high = _PYTHONS
    names = [sys.executable] if low <= sys.version_info[:2] <= high else []
    names += [
        found
        for minor in range(high[1], low[1] - 1, -1)
        if (found := shutil.which(f"python3.{minor}"))
    ]
    for name in names:
        test = [name, "-c", "import ensurepip, venv"]
        if subprocess.run(test, capture_output=True, check=False).returncode == 0:
            return name
    return None
