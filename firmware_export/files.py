"""All files of a library: generated and hand-written C, and the projects around it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from firmware_export.library import Library
from firmware_export.library_source import (
    config_header,
    config_source,
    tables_header,
    tables_source,
)
from firmware_export.model_source import input_tables_source, model_header, model_source
from firmware_export.names import OF_A_MODEL, OF_THE_WHOLE, RUNTIME, renamed
from firmware_export.projects import project_files
from firmware_export.self_test_vectors import detector_golden_source, golden_source

_AFTER_WAKE = RUNTIME / "after_wake"
"""What a library of two models has, also in place of files of the same names."""


def library_files(library: Library) -> dict[str, str]:
    """Return the text of each file by its path in the library's folder."""
    sources = _sources(library)
    c_files = sorted(name for name in sources if name.endswith(".c"))
    return {
        **{f"src/{name}": text for name, text in sorted(sources.items())},
        **project_files(library, c_files),
    }


def _sources(library: Library) -> dict[str, str]:
    prefix, two = library.prefix, len(library.detectors) > 1
    whole = {
        "kws_config.h": config_header(library),
        "kws_tables.h": tables_header(library),
        "kws_tables.c": tables_source(library),
        "kws_golden.c": renamed(golden_source(library.test), prefix),
    }
    if two:
        whole["kws_config.c"] = config_source(library)
        for path in _AFTER_WAKE.glob("*.[ch]"):
            whole[path.name] = renamed(path.read_text(encoding="utf-8"), prefix)
    sources = {}
    kernels = {call.source for detector in library.detectors for call in detector.calls}
    for name in sorted(_runtime_files(kernels)):
        text = (RUNTIME / name).read_text(encoding="utf-8")
        if name.partition(".")[0] in OF_A_MODEL:
            for detector in library.detectors:
                naming = detector.naming
                sources[naming.renamed(name)] = naming.renamed(text)
        else:
            whole.setdefault(name, renamed(text, prefix))
    for detector in library.detectors:
        naming = detector.naming
        sources |= {
            naming.renamed(name): text
            for name, text in {
                "kws_model.h": model_header(detector),
                "kws_model.c": model_source(detector),
                "kws_input_tables.c": input_tables_source(detector),
                "kws_detector_golden.c": naming.renamed(detector_golden_source(detector.test)),
            }.items()
        }
    return sources | {renamed(name, prefix): text for name, text in whole.items()}


def _runtime_files(kernels: Iterable[str]) -> set[str]:
    """Return the names of the hand-written files that a library with these kernels needs.

    They are the kernels, those that every library has, what these include, and the C file of each
    header.
    """
    found: set[str] = set()
    waiting = {*kernels, *(f"{stem}.c" for stem in OF_A_MODEL + OF_THE_WHOLE)}
    while waiting:
        name = waiting.pop()
        if name in found or not (RUNTIME / name).is_file():  # generated, or a header alone
            continue
        found.add(name)
        text = (RUNTIME / name).read_text(encoding="utf-8")
        headers = re.findall(r'^#include "(\w+)\.h"', text, re.MULTILINE)
        waiting |= {f"{stem}{ending}" for stem in headers for ending in (".h", ".c")}
    return found
