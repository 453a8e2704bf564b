"""The one error type that users are meant to see, and parts of its messages."""

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
        extra: the extra of this distribution that provides it, for example ``"audio"``.

    Raises:
        KwsError: the package is not installed; names the extra that provides it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if isinstance(error.__cause__, KeyboardInterrupt):  # native modules turn Ctrl-C into this
            raise error.__cause__ from None
        # If an installed package fails to load one of its own parts, `name` is that part.
        broken = f" ({error})" if error.name not in (module, module.split(".")[0]) else ""
        raise KwsError(
            f"The package {module.split('.')[0]!r} is required and cannot be imported{broken}. "
            f"Install it with: pip install 'kws[{extra}]'"
        ) from error


def some(items: Sequence[str], most: int = 12) -> str:
    """Return items as text: ``"a, b, c and 9 more"``."""
    rest = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + rest
