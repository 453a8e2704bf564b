"""The files around the library: build systems, packaging, examples and the README.

`project/` has them at their places in the generated folder; words between @ are filled in.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from firmware_export.library import Library
from firmware_export.names import PREFIX, filled, renamed
from kws import __version__
from kws.after_wake import WINDOW_S
from kws.errors import some
from kws.model_file import ModelCard

PROJECT = Path(__file__).resolve().parent / "project"
AUTHOR = "kws firmware"
URL = "https://example.org/kws"
"""Arduino requires a web address; a generated library has none, so this is a placeholder."""

CODE_KB = 6
"""Machine code of the library without self-test: 5.9 kB on a Cortex-M4 at -Os."""

_LONGEST_WINDOW_S = 3600.0
_BEGIN, _END = "<!-- measured: begin -->", "<!-- measured: end -->"
_NOT_MEASURED = (
    "Not measured yet. `kws firmware MODEL -o DIR --verify CLIPS` measures on emulated Cortex-M "
    "cores and writes the table here."
)


def project_files(library: Library, sources: Sequence[str]) -> dict[str, str]:
    """Return the text of each file around the C sources by its path.

    Args:
        library: the library.
        sources: names of the C files in ``src/``.
    """
    words = {
        **_model_words(library.card),
        **_name_words(library),
        **_size_words(library),
        "SOURCES": "\n".join(f"  src/{name}" for name in sources),
        "ZEPHYR_SOURCES": "\n".join(f"    ../src/{name}" for name in sources),
        "MEASURED": f"{_BEGIN}\n{_NOT_MEASURED}\n{_END}",
    }
    return {
        path.relative_to(PROJECT).as_posix(): filled(
            renamed(path.read_text(encoding="utf-8"), library.prefix), words
        )
        for path in sorted(PROJECT.rglob("*"))
        if path.is_file()
    }


def _model_words(card: ModelCard) -> dict[str, str]:
    rate = card.front_end.sample_rate_hz
    keywords = [label for label in card.labels if label in card.keywords]
    return {
        "MODEL": _plain(card.name),
        "LICENSE": _plain(card.license),
        "SPDX": spdx_license(card.license),
        "DATA": _plain(str(card.provenance.get("dataset", "data that the model does not name"))),
        "DESCRIPTION": _plain(f"Detects {some(keywords, 6)} in {rate / 1000:g} kHz audio")[:250],
        "PARAGRAPH": _plain(
            f"Front end, int8 network and decisions in C99 without heap or floating point. Made "
            f"from the model {card.name} ({card.license})."
        ),
        "KEYWORDS": _markdown(", ".join(keywords)),
        "SOME_KEYWORDS": _plain(some(keywords, 6)),
        "RATE": f"{rate}",
        "RATE_KHZ": f"{rate / 1000:g}",
        "HOP": f"{card.front_end.hop_length}",
        "HOP_MS": f"{1000 * card.front_end.hop_length / rate:g}",
        "STEP_MS": f"{card.step_ms:g}",
        "FIRST_MS": f"{1000 * card.step_time_s(0):g}",
        "SMOOTHING_MS": f"{card.decision.smoothing_ms:g}",
        "REFRACTORY_MS": f"{card.decision.refractory_ms:g}",
    }


def _name_words(library: Library) -> dict[str, str]:
    card, prefix = library.card, library.prefix
    name = library_name(card.name) if prefix == PREFIX else prefix
    # A single word is taken for the wake word, unless its names or thresholds say otherwise.
    commands_names = prefix == "kws_commands" or card.decision.is_after_wake_word
    is_wake = prefix == "kws_wake" or (card.head == "sigmoid" and not commands_names)
    another = "kws_commands" if is_wake else "kws_wake"
    wake, commands = (prefix, another) if is_wake else (another, prefix)
    first_keyword = min(card.labels.index(keyword) for keyword in card.keywords)
    return {
        "NAME": name,
        "WEIGHTS_FILE": f"src/{prefix}_model.c",
        "SLUG": name.lower().replace("_", "-"),
        "PREFIX": prefix,
        "PREFIX_UPPER": prefix.upper(),
        "ANOTHER": another,
        "ANOTHER_UPPER": another.upper(),
        "WAKE": wake,
        "WAKE_UPPER": wake.upper(),
        "COMMANDS": commands,
        "COMMANDS_UPPER": commands.upper(),
        "AGAIN": "" if prefix == PREFIX else f" with `--prefix {prefix}`",
        "VERSION": __version__,
        "AUTHOR": AUTHOR,
        "URL": URL,
        "EXAMPLE_LABEL": library.label_names[first_keyword],
        "LABEL_ROWS": _labels(card, library.label_names),
        "AFTER_WAKE": _AFTER_WAKE if card.decision.is_after_wake_word else "",
        **_wake_window(card),
    }


def _size_words(library: Library) -> dict[str, str]:
    rate = library.card.front_end.sample_rate_hz
    flash_bytes = library.weights_bytes + library.tables_bytes
    return {
        "CODE_KB": f"{CODE_KB}",
        "FLASH_KB": f"{flash_bytes / 1000 + CODE_KB:.0f}",
        "WEIGHTS": f"{library.weights_bytes:,}",
        "TABLES": f"{library.tables_bytes:,}",
        "GOLDEN": f"{library.golden_bytes:,}",
        "GOLDEN_EVENTS": _golden_events(library),
        "STATE_BYTES": f"{library.state_bytes}",
        "STATE": f"{library.state_bytes:,}",
        "STATE_TABLE": "\n".join(
            f"| {_USES[use]} | {n:,} |" for use, n in library.state_parts.items()
        ),
        "MAX_FEED": f"{library.max_feed_samples}",
        "MAX_FEED_MS": f"{1000 * library.max_feed_samples / rate:g}",
    }


def licence_files(card: ModelCard, name: str, weights: str) -> dict[str, str]:
    """Return ``LICENSE`` (of the code) and ``NOTICE`` (licence and sources of the weights).

    Args:
        card: the model.
        name: title of the folder.
        weights: path of the file that holds them.
    """
    words = {**_model_words(card), "NAME": name, "WEIGHTS_FILE": weights}
    texts = {file: (PROJECT / file).read_text(encoding="utf-8") for file in ("LICENSE", "NOTICE")}
    return {file: filled(text, words) for file, text in texts.items()}


def spdx_license(license: str) -> str:
    """Return the licence of a file with code and weights, as an SPDX expression.

    Args:
        license: of the weights. One that is not an SPDX identifier becomes ``LicenseRef-weights``;
            ``NOTICE`` states it.
    """
    if license == "Apache-2.0":
        return license
    known = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", license)
    return f"Apache-2.0 AND {license if known else 'LicenseRef-weights'}"


def library_name(model: str) -> str:
    """Return a name that is valid in every packaging system: ``kws_commands_en``.

    It begins with "kws_" and has at most 50 ASCII letters, digits and underscores.
    """
    text = unicodedata.normalize("NFKD", model).encode("ascii", "ignore").decode()
    name = re.sub("[^0-9A-Za-z]+", "_", text).strip("_")
    return f"kws_{name or 'model'}"[:50].rstrip("_")


def measurements_in(readme: str) -> list[str]:
    """Return the lines that `readme_with_measurements` put into a README; empty if there are none.

    Lines that say that nothing was measured do not count.
    """
    _, found, rest = readme.partition(_BEGIN)
    inside, closed, _ = rest.partition(_END)
    lines = inside.strip("\n").split("\n")
    return lines if found and closed and lines != [_NOT_MEASURED] else []


def readme_with_measurements(readme: str, lines: Iterable[str]) -> str:
    """Return the README with `lines` in place of its table of measured figures."""
    before, found, rest = readme.partition(_BEGIN)
    _, closed, after = rest.partition(_END)
    if not found or not closed:  # a README of the user's own
        return "\n".join([readme.rstrip(), "", *lines, ""])
    return "\n".join([before + _BEGIN, *lines, _END + after])


_AFTER_WAKE = (
    "\nThese are the thresholds for after a wake word (`--after-wake`). Use them only as shown "
    "under\n[Several models in one program](#several-models-in-one-program): without a wake word "
    "there\nwould be many false alarms.\n"
)


def _wake_window(card: ModelCard) -> dict[str, str]:
    """Return how long a command counts: what its thresholds were chosen for, or the default."""
    chosen = card.provenance.get("after_wake")
    window_s = chosen.get("window_s") if isinstance(chosen, dict) else None
    if not isinstance(window_s, (int, float)) or not 0 < window_s <= _LONGEST_WINDOW_S:
        window_s = WINDOW_S
    return {
        "WINDOW_S": f"{window_s:g}",
        "WINDOW": f"{round(window_s * card.front_end.sample_rate_hz)}",
    }


_USES = {
    "samples": "samples waiting for the next frame",
    "features": "features of later steps, and the newest frame",
    "scratch": "scratch: FFT, then activations",
    "network": "state of the LSTM",
    "decisions": "thresholds, moving sums of the posteriors",
    "counters": "counters, posteriors, alignment",
}


def _labels(card: ModelCard, names: Sequence[str]) -> str:
    rows = []
    for i, (label, name) in enumerate(zip(card.labels, names, strict=True)):
        fires = f"from {card.decision.thresholds[label]:.2f}" if label in card.keywords else "never"
        rows.append(f"| {i} | `{name}` | {_markdown(label)} | {fires} |")
    return "\n".join(rows)


def _golden_events(library: Library) -> str:
    card, events = library.card, library.self_test.events
    if not events:
        return (
            "This model detects no keyword in the voice, so its events are tested on made-up "
            "posteriors alone."
        )
    rate = card.front_end.sample_rate_hz
    found = ", ".join(
        f"{_markdown(card.labels[event.keyword])} at {event.time_samples / rate:.2f} s"
        for event in events
    )
    return f"This model detects in it: {found}."


def _plain(text: str) -> str:
    """Return text that is safe in JSON, YAML, properties and CMake strings."""
    return "".join("_" if c in '"\\$@#;<>`' else c for c in text)


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", text)
