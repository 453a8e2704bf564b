"""The one error type that users are meant to see, and what its lines are made of."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType


class KwsError(Exception):
    """An expected failure. Its text is one line: what is wrong, what was received, what to do."""


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional package on first use.

    Args:
        module: name to import, for example ``"soundfile"``.
        extra: the extra of this distribution that installs it, for example ``"audio"``.

    Raises:
        KwsError: the package is not installed; names the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if isinstance(error.__cause__, KeyboardInterrupt):  # what native modules make of Ctrl-C
            raise error.__cause__ from None
        # A package that is there but fails to load one of its own parts says so in `name`.
        broken = f" ({error})" if error.name not in (module, module.split(".")[0]) else ""
        raise KwsError(
            f"The package {module.split('.')[0]!r} is needed here and cannot be imported{broken}. "
            f"Install it with: pip install 'kws[{extra}]'"
        ) from error


def some(items: Sequence[str], most: int = 12) -> str:
    """Return a list for a line of text: ``"a, b, c and 9 more"``."""
    rest = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + rest
