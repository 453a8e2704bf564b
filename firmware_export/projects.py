"""The files around the library: build systems, packaging, examples and the README.

They lie in `project/` as they will lie in the generated folder; words between @ are filled in.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from firmware_export.names import PREFIX, filled, renamed
from kws import __version__
from kws.errors import some
from kws.model_file import ModelCard

PROJECT = Path(__file__).resolve().parent / "project"
AUTHOR = "kws firmware"
URL = "https://example.org/kws"
"""Arduino wants an address for a person to visit; a generated library has none of its own."""

CODE_KB = 6
"""Machine code of the whole library without self-test: 5.9 kB on a Cortex-M4 at -Os."""

_BEGIN, _END = "<!-- measured: begin -->", "<!-- measured: end -->"
_NOT_MEASURED = (
    "Not measured yet. `kws firmware MODEL -o DIR --verify CLIPS` measures on emulated Cortex-M "
    "cores and writes the table here."
)


def project_files(
    *,
    card: ModelCard,
    prefix: str,
    sources: Sequence[str],
    weights_bytes: int,
    tables_bytes: int,
    golden_bytes: int,
    golden_events: Sequence[tuple[str, int]],
    state_bytes: int,
    state_parts: Mapping[str, int],
    max_feed_samples: int,
    label_names: Sequence[str],
) -> dict[str, str]:
    """Return the contents of all files around the library by their paths.

    Args:
        card: of the model.
        prefix: what names in C begin with.
        sources: names of the C files in ``src/``.
        weights_bytes: flash of the network's constants.
        tables_bytes: flash of the other constants.
        golden_bytes: flash of the self-test's constants.
        golden_events: label and time in samples of each event in the self-test's signal.
        state_bytes: RAM of one stream.
        state_parts: the same by use.
        max_feed_samples: the most samples for one call.
        label_names: names of the labels in C.
    """
    rate = card.front_end.sample_rate_hz
    keywords = [label for label in card.labels if label in card.keywords]
    first_ms = 1000 * card.step_time_s(0)
    name = library_name(card.name) if prefix == PREFIX else prefix
    another = "kws_wake" if prefix != "kws_wake" else "kws_commands"
    words = {
        "NAME": name,
        "SLUG": name.lower().replace("_", "-"),
        "PREFIX": prefix,
        "PREFIX_UPPER": prefix.upper(),
        "ANOTHER": another,
        "ANOTHER_UPPER": another.upper(),
        "AGAIN": "" if prefix == PREFIX else f" with `--prefix {prefix}`",
        "CODE_KB": f"{CODE_KB}",
        "VERSION": __version__,
        "AUTHOR": AUTHOR,
        "URL": URL,
        "SOME_KEYWORDS": _plain(some(keywords, 6)),
        "DESCRIPTION": _plain(f"Hears {some(keywords, 6)} in {rate / 1000:g} kHz audio")[:250],
        "PARAGRAPH": _plain(
            f"Front end, int8 network and decisions in C99 without heap or floating point. Made "
            f"from the model {card.name} ({card.license})."
        ),
        "SOURCES": "\n".join(f"  src/{name}" for name in sources),
        "ZEPHYR_SOURCES": "\n".join(f"    ../src/{name}" for name in sources),
        "MODEL": _plain(card.name),
        "LICENSE": _plain(card.license),
        "SPDX": weights_too(card.license),
        "DATA": _plain(str(card.provenance.get("dataset", "data that the model does not name"))),
        "KEYWORDS": _markdown(", ".join(keywords)),
        "RATE": f"{rate}",
        "RATE_KHZ": f"{rate / 1000:g}",
        "HOP": f"{card.front_end.hop_length}",
        "HOP_MS": f"{1000 * card.front_end.hop_length / rate:g}",
        "STEP_MS": f"{card.step_ms:g}",
        "FIRST_MS": f"{first_ms:g}",
        "MAX_FEED": f"{max_feed_samples}",
        "MAX_FEED_MS": f"{1000 * max_feed_samples / rate:g}",
        "SMOOTHING_MS": f"{card.decision.smoothing_ms:g}",
        "REFRACTORY_MS": f"{card.decision.refractory_ms:g}",
        "STATE_BYTES": f"{state_bytes}",
        "STATE": f"{state_bytes:,}",
        "STATE_TABLE": "\n".join(f"| {_USES[use]} | {n:,} |" for use, n in state_parts.items()),
        "WEIGHTS": f"{weights_bytes:,}",
        "TABLES": f"{tables_bytes:,}",
        "GOLDEN": f"{golden_bytes:,}",
        "FLASH_KB": f"{(weights_bytes + tables_bytes) / 1000 + CODE_KB:.0f}",
        "LABEL_ROWS": _labels(card, label_names),
        "EXAMPLE_LABEL": label_names[card.labels.index(keywords[0])],
        "GOLDEN_EVENTS": _golden_events(golden_events, rate),
        "MEASURED": f"{_BEGIN}\n{_NOT_MEASURED}\n{_END}",
    }
    return {
        path.relative_to(PROJECT).as_posix(): filled(
            renamed(path.read_text(encoding="utf-8"), prefix), words
        )
        for path in sorted(PROJECT.rglob("*"))
        if path.is_file()
    }


def weights_too(license: str) -> str:
    """Return the licence of what holds code and weights, as an SPDX expression.

    A licence that is no SPDX identifier is called ``LicenseRef-weights``; ``NOTICE`` has its words.
    """
    if license == "Apache-2.0":
        return license
    known = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", license)
    return f"Apache-2.0 AND {license if known else 'LicenseRef-weights'}"


def library_name(model: str) -> str:
    """Return a name that every packaging takes: ``kws_commands_en``.

    ASCII letters, digits and underscores; it begins with "kws" and has at most 50 characters.
    """
    text = unicodedata.normalize("NFKD", model).encode("ascii", "ignore").decode()
    name = re.sub("[^0-9A-Za-z]+", "_", text).strip("_")
    return f"kws_{name or 'model'}"[:50].rstrip("_")


def readme_with_measurements(readme: str, lines: Iterable[str]) -> str:
    """Return the README with `lines` in place of its table of measured figures."""
    before, found, rest = readme.partition(_BEGIN)
    _, closed, after = rest.partition(_END)
    if not found or not closed:  # somebody's own README
        return "\n".join([readme.rstrip(), "", *lines, ""])
    return "\n".join([before + _BEGIN, *lines, _END + after])


_USES = {
    "samples": "the beginning of the next frame",
    "features": "features that later steps need, and the newest frame",
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


def _golden_events(events: Sequence[tuple[str, int]], rate: int) -> str:
    if not events:
        return (
            "To this model the voice says no keyword, so the events are tested on posteriors made "
            "for it."
        )
    heard = ", ".join(f"{_markdown(label)} at {time / rate:.2f} s" for label, time in events)
    return f"This model hears: {heard}."


def _plain(text: str) -> str:
    """Return text that may stand in JSON, YAML, properties and CMake strings alike."""
    return "".join("_" if c in '"\\$@#;<>`' else c for c in text)


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", text)
