"""The generated C of a library as a whole: `kws_config.h`, `kws_tables.h` and `kws_tables.c`.

As in `model_source`, C is written with the prefix ``kws`` and renamed.
"""

from __future__ import annotations

import zlib

from firmware_export.c_source import (
    GENERATED,
    c_array,
    c_comment,
    c_number,
    c_string,
    enumerators,
    header,
    macros,
)
from firmware_export.library import Library
from firmware_export.names import filled, renamed
from kws import __version__

_COMMENTS = {
    "KWS_SAMPLE_RATE_HZ": "of the audio, 16 bits, one channel",
    "KWS_STATE_BYTES": "kws_state is no larger; checked when kws.c is compiled",
    "KWS_STATE_MARK": "marks an initialised state; differs for each prefix",
    "KWS_N_LABELS": "of both models",
    "KWS_N_WAKE_LABELS": "of these, the first are the wake word's model's",
    "KWS_WINDOW_SAMPLES": "how long a command counts after a wake word",
    "KWS_MAX_FEED_SAMPLES": "the most samples that one call of kws_feed takes",
}


def config_header(library: Library) -> str:
    """Return `kws_config.h`: the version, sizes of the whole, and the labels of two models."""
    memory: dict[str, int | str] = {
        "KWS_STATE_BYTES": library.state_bytes,
        "KWS_STATE_MARK": f"{zlib.crc32(library.prefix.encode())}u",
    }
    body = [
        f"/* Version of the generator. */\n#define KWS_VERSION {c_string(__version__)}",
        _block("Memory", memory),
        _block("Self-test", library.test.macros),
    ]
    if len(library.detectors) > 1:
        body += _both(library)
    text = renamed(header("KWS_CONFIG_H", "\n\n".join(body)), library.prefix)
    head = f"{c_comment(GENERATED)}\n\n/* SPDX-License-Identifier: Apache-2.0 */\n"
    return head + filled(text, {"LABELS": enumerators(library.label_names, library.labels)})


def config_source(library: Library) -> str:
    """Return `kws_config.c`: the labels of two models."""
    labels = "\n".join(f"    {c_string(label)}," for label in library.labels)
    text = "\n\n".join(
        [
            c_comment(GENERATED),
            "/* SPDX-License-Identifier: Apache-2.0 */",
            '#include "kws_config.h"',
            "const char *const kws_labels[KWS_N_LABELS] = {\n@LABELS@\n};\n",
        ]
    )
    return filled(renamed(text, library.prefix), {"LABELS": labels})


def tables_header(library: Library) -> str:
    """Return `kws_tables.h`: sizes of the front end."""
    sizes: dict[str, int | str] = {
        "KWS_SAMPLE_RATE_HZ": library.front_end.sample_rate_hz,
        **{name: c_number(value) for name, value in library.tables.macros.items()},
    }
    body = macros(sizes, {**library.tables.comments, **_COMMENTS})
    text = renamed(
        f"#ifndef KWS_TABLES_H\n#define KWS_TABLES_H\n\n{body}\n\n#endif\n", library.prefix
    )
    return (
        f"{c_comment(GENERATED)}\n\n/* Sizes of the front end.\n"
        f" *\n * SPDX-License-Identifier: Apache-2.0\n */\n{text}"
    )


def tables_source(library: Library) -> str:
    """Return `kws_tables.c`: the front end's constants."""
    blocks = [
        c_comment(GENERATED),
        "/* Constants of the front end, explained in kws_frontend.h and kws_fft.h.\n"
        " *\n * SPDX-License-Identifier: Apache-2.0\n */",
        '#include "kws_fft.h"\n#include "kws_frontend.h"',
    ]
    for name, ctype, values in library.tables.arrays:
        if f"{values.dtype.name}_t" != ctype:
            raise AssertionError(f"{name} is {values.dtype}, not {ctype}")
        comment = library.tables.comments.get(name)
        blocks.append(c_array(name, values, static=False, comment=comment))
    return renamed("\n\n".join(blocks) + "\n", library.prefix)


def _both(library: Library) -> list[str]:
    sizes: dict[str, int | str] = {
        "KWS_N_LABELS": len(library.labels),
        "KWS_N_WAKE_LABELS": len(library.detectors[0].card.labels),
        "KWS_WINDOW_SAMPLES": library.window_samples,
        "KWS_MAX_FEED_SAMPLES": library.max_feed_samples,
    }
    return [
        _block("A wake word and commands", sizes),
        "/* What events may be of: labels of the wake word's model, then of the commands'. */\n"
        "enum kws_label {\n@LABELS@\n};",
        "/* Names of the labels, UTF-8. */\nextern const char *const kws_labels[KWS_N_LABELS];",
    ]


def _block(title: str, values: dict[str, int | str]) -> str:
    return f"{c_comment(title)}\n{macros(values, _COMMENTS)}"
