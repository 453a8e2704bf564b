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
from kws.errors import some
from kws.model_file import ModelCard

PROJECT = Path(__file__).resolve().parent / "project"
README = PROJECT.with_name("readme")
"""Sections of the README that differ between libraries of one and of two models."""
AUTHOR = "kws firmware"
URL = "https://example.org/kws"
"""Arduino requires a web address; a generated library has none, so this is a placeholder."""

_BEGIN, _END = "<!-- measured: begin -->", "<!-- measured: end -->"
_NOT_MEASURED = "Not measured yet. "


def project_files(library: Library, sources: Sequence[str]) -> dict[str, str]:
    """Return the text of each file around the C sources by its path.

    Args:
        library: the library.
        sources: names of the C files in ``src/``.
    """
    words = {
        **_card_words([detector.card for detector in library.detectors]),
        **_name_words(library),
        **_size_words(library),
        "SOURCES": "\n".join(f"  src/{name}" for name in sources),
        "ZEPHYR_SOURCES": "\n".join(f"    ../src/{name}" for name in sources),
        "MEASURED": f"{_BEGIN}\n{_not_measured(library)}\n{_END}",
    }

    def text_of(path: Path) -> str:
        return filled(renamed(path.read_text(encoding="utf-8"), library.prefix), words)

    sections = README / ("one" if len(library.detectors) == 1 else "two")
    words |= {
        "USE": text_of(sections / "use.md").rstrip(),
        "SEVERAL": text_of(sections / "several.md").rstrip(),
    }
    return {
        path.relative_to(PROJECT).as_posix(): text_of(path)
        for path in sorted(PROJECT.rglob("*"))
        if path.is_file()
    }


def _card_words(cards: Sequence[ModelCard]) -> dict[str, str]:
    """Return what the files say of the model; or of the wake word's and of the commands' model."""
    card = cards[-1]
    rate = card.front_end.sample_rate_hz
    keywords = [[label for label in c.labels if label in c.keywords] for c in cards]
    models = [f"{c.name} ({c.license})" for c in cards]
    after = "" if len(cards) == 1 else f" after {some(keywords[0], 6)}"
    return {
        "MODELS": _plain(
            f"the model {card.name}"
            if len(cards) == 1
            else f"the models {cards[0].name} (the wake word) and {card.name} (the commands)"
        ),
        "LICENSE": _plain(" and ".join(dict.fromkeys(c.license for c in cards))),
        "SPDX": spdx_license(*(c.license for c in cards)),
        "DESCRIPTION": _plain(
            f"Detects {some(keywords[-1], 6)}{after} in {rate / 1000:g} kHz audio"
        )[:250],
        "PARAGRAPH": _plain(
            "Front end, int8 network and decisions in C99 without heap or floating point. Made "
            f"from {' and '.join(models)}."
        ),
        "KEYWORDS": _markdown(
            ", ".join(keywords[-1])
            + ("" if len(cards) == 1 else f", just after {' or '.join(keywords[0])}")
        ),
        "SOME_KEYWORDS": _plain(some(keywords[-1], 6) + after),
        "RATE": f"{rate}",
        "RATE_KHZ": f"{rate / 1000:g}",
        "HOP_MS": f"{1000 * card.front_end.hop_length / rate:g}",
        "STEP": _times(c.step_ms for c in cards),
        "FIRST": _times(1000 * c.step_time_s(0) for c in cards),
        "SMOOTHING": _times(c.decision.smoothing_ms for c in cards),
        "REFRACTORY": _times(c.decision.refractory_ms for c in cards),
    }


def _times(ms: Iterable[float]) -> str:
    """Return the time of the only model, or of the wake word's and the commands' if they differ."""
    texts = [f"{time_ms:g} ms" for time_ms in ms]
    if len(set(texts)) == 1:
        return texts[0]
    return f"{texts[0]} (wake word) or {texts[1]} (commands)"


def _name_words(library: Library) -> dict[str, str]:
    prefix, two = library.prefix, len(library.detectors) > 1
    wake, card = library.detectors[0].card, library.card
    name = prefix
    if prefix == PREFIX:
        name = library_name(f"{card.name} after {wake.name}" if two else card.name)
    first_keyword = min(card.labels.index(keyword) for keyword in card.keywords)
    first_keyword += len(library.labels) - len(card.labels)
    another = "kws_more" if prefix != "kws_more" else "kws_other"
    notices = [_notice(d.card, f"src/{d.naming.prefix}_model.c") for d in library.detectors]
    return {
        "NAME": name,
        "NOTICES": "\n\n".join(notices),
        "SLUG": name.lower().replace("_", "-"),
        "PREFIX": prefix,
        "PREFIX_UPPER": prefix.upper(),
        "ANOTHER": another,
        "ANOTHER_UPPER": another.upper(),
        "AGAIN": "" if prefix == PREFIX else f" with `--prefix {prefix}`",
        "VERSION": __version__,
        "AUTHOR": AUTHOR,
        "URL": URL,
        "EXAMPLE_LABEL": library.label_names[first_keyword],
        "LABEL_ROWS": _labels(library),
        "AFTER_WAKE": _AFTER_WAKE if card.decision.is_after_wake_word and not two else "",
        "WAKE_MODEL": _markdown(wake.name),
        "COMMANDS_MODEL": _markdown(card.name),
        "WINDOW_S": f"{library.window_samples / library.front_end.sample_rate_hz:g}",
    }


def _size_words(library: Library) -> dict[str, str]:
    rate = library.front_end.sample_rate_hz
    flash_bytes = library.weights_bytes + library.tables_bytes
    return {
        "CODE_KB": f"{library.code_kb}",
        "FLASH_KB": f"{flash_bytes / 1000 + library.code_kb:.0f}",
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
    words = {"NAME": name, "NOTICES": _notice(card, weights)}
    texts = {file: (PROJECT / file).read_text(encoding="utf-8") for file in ("LICENSE", "NOTICE")}
    return {file: filled(text, words) for file, text in texts.items()}


def _notice(card: ModelCard, file: str) -> str:
    """Return the paragraph of ``NOTICE`` about a model's weights."""
    data = _plain(str(card.provenance.get("dataset", "data that the model does not name")))
    return (
        f'The weights in {file} are those of the model "{_plain(card.name)}", made by `kws train` '
        f"and\n`kws export`. Their licence: {_plain(card.license)}. Trained on: {data}."
    )


def spdx_license(*licenses: str) -> str:
    """Return the licence of a file with code and weights, as an SPDX expression.

    Args:
        licenses: of the weights of each model. One that is not an SPDX identifier becomes
            ``LicenseRef-weights``; ``NOTICE`` states it.
    """
    names = ["Apache-2.0"]
    for license in licenses:
        known = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", license)
        names.append(license if known else "LicenseRef-weights")
    return " AND ".join(dict.fromkeys(names))


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
    return lines if found and closed and not inside.strip().startswith(_NOT_MEASURED) else []


def _not_measured(library: Library) -> str:
    two = len(library.detectors) > 1
    command = "COMMANDS --wake WAKE" if two else "MODEL"
    return (
        f"{_NOT_MEASURED}`kws firmware {command} -o DIR --verify CLIPS` measures on emulated "
        "Cortex-M cores and writes the table here."
    )


def readme_with_measurements(readme: str, lines: Iterable[str]) -> str:
    """Return the README with `lines` in place of its table of measured figures."""
    before, found, rest = readme.partition(_BEGIN)
    _, closed, after = rest.partition(_END)
    if not found or not closed:  # a README of the user's own
        return "\n".join([readme.rstrip(), "", *lines, ""])
    return "\n".join([before + _BEGIN, *lines, _END + after])


_AFTER_WAKE = (
    "\nThese are the thresholds for after a wake word (`--after-wake`), with which there would be "
    "many false\nalarms alone. Count a keyword only just after something else, such as a button or "
    "a wake word.\n"
)

_USES = {
    "samples": "samples waiting for the next frame",
    "features": "features of later steps, and the newest frame",
    "scratch": "scratch: FFT, then activations",
    "network": "state of the LSTM",
    "decisions": "thresholds, moving sums of the posteriors",
    "counters": "counters, posteriors, alignment",
}


def _labels(library: Library) -> str:
    fires = []
    for card in (detector.card for detector in library.detectors):
        for label in card.labels:
            keyword = label in card.keywords
            fires.append(f"from {card.decision.thresholds[label]:.2f}" if keyword else "never")
    rows = zip(library.label_names, library.labels, fires, strict=True)
    return "\n".join(
        f"| {i} | `{name}` | {_markdown(label)} | {when} |"
        for i, (name, label, when) in enumerate(rows)
    )


def _golden_events(library: Library) -> str:
    events, rate = library.test.events, library.front_end.sample_rate_hz
    if not events:
        return (
            "It detects no keyword in the voice, so its events are tested on made-up posteriors "
            "alone."
        )
    found = ", ".join(
        f"{_markdown(library.labels[event.keyword])} at {event.time_samples / rate:.2f} s"
        for event in events
    )
    return f"It detects in it: {found}."


def _plain(text: str) -> str:
    """Return text that is safe in JSON, YAML, properties and CMake strings."""
    return "".join("_" if c in '"\\$@#;<>`' else c for c in text)


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", text)
