"""All files of a library: generated and hand-written C, and the projects around it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from firmware_export.library import Library
from firmware_export.model_source import model_header, model_source, tables_source
from firmware_export.names import RUNTIME, renamed
from firmware_export.projects import project_files
from firmware_export.self_test_vectors import golden_source

_ALWAYS = ("kws.c", "kws_self_test.c")


def library_files(library: Library) -> dict[str, str]:
    """Return the text of each file by its path in the library's folder."""
    prefix = library.prefix
    sources = {
        "kws_model.h": model_header(library),
        "kws_model.c": model_source(library),
        "kws_tables.c": tables_source(library),
        "kws_golden.c": renamed(golden_source(library.self_test), prefix),
    }
    for name in _runtime_files(call.source for call in library.calls):
        sources[name] = renamed((RUNTIME / name).read_text(encoding="utf-8"), prefix)
    sources = {renamed(name, prefix): text for name, text in sorted(sources.items())}
    c_files = sorted(name for name in sources if name.endswith(".c"))
    return {
        **{f"src/{name}": text for name, text in sources.items()},
        **project_files(library, c_files),
    }


def _runtime_files(kernels: Iterable[str]) -> set[str]:
    """Return the names of the hand-written files that a library with these kernels needs.

    They are the kernels, `_ALWAYS`, what these include, and the C file of each header.
    """
    found: set[str] = set()
    waiting = {*kernels, *_ALWAYS}
    while waiting:
        name = waiting.pop()
        if name in found or not (RUNTIME / name).is_file():  # generated, or a header alone
            continue
        found.add(name)
        text = (RUNTIME / name).read_text(encoding="utf-8")
        headers = re.findall(r'^#include "(\w+)\.h"', text, re.MULTILINE)
        waiting |= {f"{stem}{ending}" for stem in headers for ending in (".h", ".c")}
    return found
