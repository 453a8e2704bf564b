"""Writes the C library of a model and the projects around it."""

from __future__ import annotations

import hashlib
import shlex
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from firmware_export.folder import MANIFEST, facts_of, replace_file, write_folder
from firmware_export.library import Library
from firmware_export.names import PREFIX, check_prefix
from firmware_export.projects import CODE_KB, readme_with_measurements
from firmware_export.reader import read_graph
from firmware_export.tflm import TflmForm, write_tflm
from firmware_export.twin import Twin
from kws import __version__
from kws.errors import KwsError, some
from kws.model_file import resolve_model
from kws.network import Network
from kws.wording import byte_size


@dataclass(frozen=True, kw_only=True)
class Firmware:
    """What was written, in numbers."""

    folder: str
    """The folder."""
    files: int
    """Files in it."""
    kept: tuple[str, ...]
    """Those of them that were edited since they were written before, and were left as they are."""
    kept_prefix: str
    """What names in C begin with in these."""
    prefix: str
    """What names in C begin with."""
    model: str
    """Name of the model."""
    model_sha256: str
    """Of the .tflite it was made from."""
    weights_bytes: int
    """Flash: constants of the network."""
    tables_bytes: int
    """Flash: constants of front end and decisions."""
    golden_bytes: int
    """Flash: what the self-test needs, where it is called."""
    state_bytes: int
    """RAM of one stream: `KWS_STATE_BYTES`."""
    state_parts: Mapping[str, int]
    """The same by use."""
    macs_per_step: int
    """Multiply-accumulates of the network each time it runs."""
    steps_per_second: float
    """How often that is."""
    max_feed_samples: int
    """`KWS_MAX_FEED_SAMPLES`."""
    golden_events: int
    """Events in the self-test's signal."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain dictionaries, lists, numbers and strings."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return the summary for people."""
        parts = ", ".join(f"{name} {size:,}" for name, size in self.state_parts.items())
        mmacs = self.macs_per_step * self.steps_per_second / 1e6
        kept = [f"kept    {some(self.kept)}, as you edited it"] if self.kept else []
        if self.kept and self.kept_prefix != self.prefix:
            kept.append(f"edit    the names in there: {self.kept_prefix}_ is {self.prefix}_ now")
        return [
            f"{self.folder}: {self.files} files, a C99 library of {self.model!r} for CMake, "
            "Arduino, PlatformIO, ESP-IDF and Zephyr",
            f"flash   {byte_size(self.weights_bytes)} weights, {byte_size(self.tables_bytes)} "
            f"tables; about {CODE_KB} kB of code come on top",
            f"RAM     {self.state_bytes:,} bytes for each stream ({parts})",
            f"work    {mmacs:.2f} million multiply-accumulates per second in the network",
            *kept,
            f"check   cmake -S {shlex.quote(self.folder)} -B build && cmake --build build && "
            "ctest --test-dir build",
            f"next    {self.folder}/README.md",
        ]


def _is_yours(name: str) -> bool:
    """Tell whether a file of the library is there to be edited: pins, authors, addresses."""
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
        prefix: what names in C and of C files begin with: ``kws``, or for each of several models in
            one program ``kws_`` and a word of its own.

    What was edited in the examples and the packages' own files since it wrote them is kept.

    Raises:
        KwsError: no such model, one that the library cannot compute, a prefix that two libraries
            could clash with, or a folder that is not ours.
    """
    check_prefix(prefix)
    path = resolve_model(model)
    twin = open_twin(path, thresholds)
    content = path.read_bytes()
    library = Library(twin, read_graph(content), prefix)
    files = library.files()
    facts = {
        "generator": "kws firmware",
        "kws_version": __version__,
        "form": "library",
        "prefix": prefix,
        "model": twin.card.name,
        "model_sha256": hashlib.sha256(content).hexdigest(),
    }
    kept_prefix = facts_of(Path(out)).get("prefix", PREFIX)
    kept = write_folder(Path(out), files, facts, yours=_is_yours)
    return Firmware(
        folder=str(out),
        files=len(files) + 1,
        kept=tuple(kept),
        kept_prefix=kept_prefix,
        prefix=prefix,
        model=twin.card.name,
        model_sha256=facts["model_sha256"],
        weights_bytes=library.weights_bytes,
        tables_bytes=library.tables_bytes,
        golden_bytes=library.golden_bytes,
        state_bytes=library.state_bytes,
        state_parts=library.state_parts,
        macs_per_step=sum(call.macs for call in library.calls),
        steps_per_second=1000 / twin.card.step_ms,
        max_feed_samples=library.max_feed_samples,
        golden_events=len(library.golden.events),
    )


def generate_tflm(model: str | Path, out: str | Path) -> TflmForm:
    """Write a model for TensorFlow Lite Micro into a folder, under the rules of `generate`.

    Raises:
        KwsError: no such model, a damaged one, an operator that TFLM does not have, or a folder
            that is not ours.
    """
    with tempfile.TemporaryDirectory(prefix="kws-firmware-") as room:
        written = write_tflm(model, Path(room))
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
        raise KwsError(f"{folder} was not written by kws firmware. Give the folder that was")
    text = (folder / "README.md").read_text(encoding="utf-8")
    replace_file(folder, "README.md", readme_with_measurements(text, lines))


def open_twin(model: str | Path, thresholds: float | Mapping[str, float] | None = None) -> Twin:
    """Return the Python twin of the library that `generate` makes of the same arguments.

    Raises:
        KwsError: no such model, or one that the library cannot compute.
    """
    network = Network(model)
    card = network.card
    if thresholds is not None:
        if not isinstance(thresholds, Mapping):
            thresholds = dict.fromkeys(card.keywords, float(thresholds))
        changed = {**card.decision.thresholds, **thresholds}
        card = replace(card, decision=replace(card.decision, thresholds=changed))
    twin = Twin(network, card)
    output = network.output_tensor
    if (output["scale"], output["zero_point"]) != (1 / 256, -128):
        raise KwsError(
            "The firmware decides on posteriors of scale 1/256 and zero point -128, as softmax "
            f"and logistic give them. Received: scale {output['scale']:g}, zero point "
            f"{output['zero_point']}. Export the model with kws export"
        )
    return twin
