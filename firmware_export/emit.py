"""Writes the C library of a model and the projects around it."""

from __future__ import annotations

import hashlib
import shlex
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from firmware_export.files import library_files
from firmware_export.folder import MANIFEST, facts_of, replace_file, same_files, write_folder
from firmware_export.library import Library, plan_library, plan_library_of_two
from firmware_export.names import PREFIX, check_prefix
from firmware_export.projects import measurements_in, readme_with_measurements
from firmware_export.reader import read_graph
from firmware_export.reference_model import CommandsAfterWake, ReferenceModel
from firmware_export.tflm import TflmForm, write_tflm
from kws import __version__
from kws.after_wake import WINDOW_S, WakeGate, check_apart
from kws.errors import KwsError, some
from kws.model_file import resolve_model
from kws.network import Network
from kws.wording import byte_size


@dataclass(frozen=True, kw_only=True)
class Firmware:
    """The library that was written, in numbers."""

    folder: str
    """Where it was written."""
    files: int
    """Number of files."""
    kept: tuple[str, ...]
    """Files that the user had edited, which were left as they are."""
    kept_prefix: str
    """Prefix of the names in C in these."""
    prefix: str
    """Prefix of the names in C."""
    model: str
    """Name of the model; of the commands' one, if there are two."""
    model_sha256: str
    """Of the .tflite that it was made from."""
    wake: str
    """Name of the wake word's model; empty without one."""
    wake_sha256: str
    """Of its .tflite."""
    weights_bytes: int
    """Flash: constants of the network."""
    tables_bytes: int
    """Flash: constants of front end and decisions."""
    golden_bytes: int
    """Flash: golden vectors of the self-test, if it is called."""
    state_bytes: int
    """RAM of one stream: `KWS_STATE_BYTES`."""
    state_parts: Mapping[str, int]
    """The same by use."""
    macs_per_second: float
    """Multiply-accumulates of the network for a second of audio."""
    max_feed_samples: int
    """`KWS_MAX_FEED_SAMPLES`."""
    code_kb: int
    """Flash: machine code without self-test, roughly."""
    golden_events: int
    """Events in the self-test's signal."""
    thresholds: Mapping[str, float]
    """Of each keyword, wake words too."""
    window_samples: int
    """How long a command counts after a wake word; 0 without one."""
    replaced: str
    """The model or models of the library that was there before, if they were others."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain dictionaries, lists, numbers and strings."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return the summary as text."""
        of = f"{self.model!r} after {self.wake!r}" if self.wake else repr(self.model)
        replaced = [f"instead of the library of {self.replaced} there"] if self.replaced else []
        parts = ", ".join(f"{name} {size:,}" for name, size in self.state_parts.items())
        kept = [f"kept    {some(self.kept)}, as you edited it"] if self.kept else []
        if self.kept and self.kept_prefix != self.prefix:
            names = f"{self.kept_prefix}_ is now {self.prefix}_"
            kept.append(f"edit    the names in these files: {names}")
        return [
            f"{self.folder}: {self.files} files, a C99 library of {of} for CMake, Arduino, "
            "PlatformIO, ESP-IDF and Zephyr",
            f"flash   {byte_size(self.weights_bytes)} weights, {byte_size(self.tables_bytes)} "
            f"tables, and about {self.code_kb} kB of code",
            f"RAM     {self.state_bytes:,} bytes per stream ({parts})",
            f"work    {self.macs_per_second / 1e6:.2f} million multiply-accumulates per second",
            *replaced,
            *kept,
            f"check   cmake -S {shlex.quote(self.folder)} -B build && cmake --build build && "
            "ctest --test-dir build",
            f"next    {self.folder}/README.md",
        ]


def _is_yours(name: str) -> bool:
    """Return whether users are expected to edit a file: pins, author, address."""
    packages = ("library.properties", "library.json", "idf_component.yml")
    return name.startswith("examples/") or name in packages


def generate(
    model: str | Path,
    out: str | Path,
    *,
    thresholds: float | Mapping[str, float] | None = None,
    prefix: str = PREFIX,
) -> Firmware:
    """Write the C library of a model.

    Args:
        model: a .tflite in int8 stream form with a model card, or the name of a pretrained model.
        out: the folder; new, empty, or one that this function wrote.
        thresholds: in place of the model's own, for some keywords or one number for all.
        prefix: of names in C and of C files: ``kws``, or, for each of several models in one
            program, ``kws_`` and a word of its own.

    Edits to the examples and to the packaging files are kept.

    Raises:
        KwsError: no such model, one that the library cannot compute, a prefix that could make two
            libraries clash, or a folder with files of someone else.
    """
    check_prefix(prefix)
    reference = open_reference_model(model, thresholds)
    content = resolve_model(model).read_bytes()
    return _write(plan_library(reference, read_graph(content), prefix), [content], Path(out))


def generate_after_wake(
    commands: str | Path,
    wake: str | Path,
    out: str | Path,
    *,
    thresholds: float | Mapping[str, float] | None = None,
    window_s: float = WINDOW_S,
) -> Firmware:
    """Write one C library of a wake word and of commands that count only just after it.

    Args:
        commands: the model of the commands, as for `generate`.
        wake: that of the wake word, likewise.
        out: as for `generate`.
        thresholds: for the commands, in place of their model's own for after a wake word.
        window_s: how long after the wake word a command counts, in seconds.

    Raises:
        KwsError: as for `generate`; models that share a keyword or have other front ends.
    """
    reference = open_commands_after_wake(commands, wake, thresholds, window_s)
    contents = [resolve_model(model).read_bytes() for model in (wake, commands)]
    library = plan_library_of_two(reference, [read_graph(content) for content in contents])
    return _write(library, contents, Path(out))


def _write(library: Library, contents: Sequence[bytes], out: Path) -> Firmware:
    """Write a library, made from these model files, under the rules of `generate`."""
    sums = [hashlib.sha256(content).hexdigest() for content in contents]
    two = len(library.detectors) > 1
    wake = library.detectors[0].card
    files = library_files(library)
    if measured := _measured_before(out, files):
        files["README.md"] = readme_with_measurements(files["README.md"], measured)
    facts: dict[str, Any] = {
        "generator": "kws firmware",
        "kws_version": __version__,
        "form": "library",
        "prefix": library.prefix,
        "model": library.card.name,
        "model_sha256": sums[-1],
        "thresholds": dict(library.card.decision.thresholds),
    }
    if two:
        facts["wake"] = {
            "model": wake.name,
            "model_sha256": sums[0],
            "thresholds": dict(wake.decision.thresholds),
            "window_samples": library.window_samples,
        }
    facts_before = facts_of(out)
    before = _of(facts_before)
    kept = write_folder(out, files, facts, yours=_is_yours)
    return Firmware(
        folder=str(out),
        files=len(files) + 1,
        kept=tuple(kept),
        kept_prefix=facts_before.get("prefix", PREFIX),
        prefix=library.prefix,
        model=library.card.name,
        model_sha256=sums[-1],
        wake=wake.name if two else "",
        wake_sha256=sums[0] if two else "",
        weights_bytes=library.weights_bytes,
        tables_bytes=library.tables_bytes,
        golden_bytes=library.golden_bytes,
        state_bytes=library.state_bytes,
        state_parts=library.state_parts,
        macs_per_second=library.macs_per_second,
        max_feed_samples=library.max_feed_samples,
        code_kb=library.code_kb,
        golden_events=len(library.test.events),
        thresholds={k: t for d in library.detectors for k, t in d.card.decision.thresholds.items()},
        window_samples=library.window_samples,
        replaced="" if before in ("", _of(facts)) else before,
    )


def _of(facts: Mapping[str, Any]) -> str:
    """Return the model or models that a manifest names, as "'commands_en' after 'computer'"."""
    wake = facts.get("wake")
    after = f" after {wake.get('model')!r}" if isinstance(wake, dict) else ""
    return f"{facts['model']!r}{after}" if "model" in facts else ""


def _measured_before(folder: Path, files: Mapping[str, str]) -> list[str]:
    """Return the figures in the README of a folder that has the same C; empty if there are none."""
    sources = [name for name in files if name.startswith("src/")]
    if facts_of(folder).get("form") != "library" or not same_files(folder, files, sources):
        return []
    try:
        return measurements_in((folder / "README.md").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []


def generate_tflm(
    model: str | Path,
    out: str | Path,
    *,
    thresholds: float | Mapping[str, float] | None = None,
) -> TflmForm:
    """Write a model for TensorFlow Lite Micro into a folder, under the rules of `generate`.

    Raises:
        KwsError: no such model, a damaged one, an operator that TFLM does not have, thresholds that
            are not for its keywords, or a folder with files of someone else.
    """
    with tempfile.TemporaryDirectory(prefix="kws-firmware-") as room:
        written = write_tflm(model, Path(room), thresholds=thresholds)
        files = {
            path.relative_to(room).as_posix(): path.read_text(encoding="utf-8")
            for path in sorted(Path(room).rglob("*"))
            if path.is_file()
        }
    facts = {"generator": "kws firmware", "kws_version": __version__, "form": "tflm"}
    write_folder(Path(out), files, facts)
    return replace(written, folder=Path(out))


def add_measurements(folder: str | Path, lines: Iterable[str]) -> None:
    """Put measured figures (lines of Markdown) into the README of a generated folder.

    Raises:
        KwsError: the folder was not written by `generate`.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).is_file() or not (folder / "README.md").is_file():
        raise KwsError(f"{folder} was not written by kws firmware. Give a folder that was")
    text = (folder / "README.md").read_text(encoding="utf-8")
    replace_file(folder, "README.md", readme_with_measurements(text, lines))


def open_reference_model(
    model: str | Path, thresholds: float | Mapping[str, float] | None = None
) -> ReferenceModel:
    """Return the reference model of the library that `generate` writes with these arguments.

    Raises:
        KwsError: no such model, one that the library cannot compute, or thresholds that are not for
            its keywords.
    """
    network = Network(model)
    decision = network.card.decision.with_thresholds(thresholds)
    reference = ReferenceModel(network, replace(network.card, decision=decision))
    _check_output(network)
    return reference


def open_commands_after_wake(
    commands: str | Path,
    wake: str | Path,
    thresholds: float | Mapping[str, float] | None = None,
    window_s: float = WINDOW_S,
) -> CommandsAfterWake:
    """Return the reference of the library that `generate_after_wake` writes with these arguments.

    Raises:
        KwsError: as for `open_reference_model`; models that share a keyword, or a window of no use.
    """
    WakeGate(window_s)  # raises
    network = Network(commands)
    if 1000 * window_s < network.card.step_ms:
        raise KwsError(
            "In firmware a command counts for at least one step of its network after a wake word, "
            f"{network.card.step_ms:g} ms. Received: a window of {1000 * window_s:g} ms. Give a "
            "longer one"
        )
    decision = network.card.decision.after_wake_word(thresholds)
    waking = open_reference_model(wake)
    check_apart(waking.card, network.card)
    reference = CommandsAfterWake(
        network,
        replace(network.card, decision=decision),
        waking,
        round(window_s * network.card.front_end.sample_rate_hz),
    )
    _check_output(network)
    return reference


def _check_output(network: Network) -> None:
    output = network.output_tensor
    if (output["scale"], output["zero_point"]) != (1 / 256, -128):
        raise KwsError(
            "Firmware needs posteriors of scale 1/256 and zero point -128, the output of softmax "
            f"and logistic. Received: scale {output['scale']:g}, zero point "
            f"{output['zero_point']}. Export the model with kws export"
        )
