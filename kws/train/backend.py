"""Which backend Keras trains on; chosen before Keras is imported."""

from __future__ import annotations

import os
from importlib.util import find_spec

from kws.errors import KwsError

BACKENDS = ("tensorflow", "jax")
"""Backends of Keras that training works on; the first is the default."""


def chosen_backend() -> str:
    """Return the backend that `choose_backend` chose, without importing Keras."""
    return os.environ.get("KERAS_BACKEND") or BACKENDS[0]


def choose_backend(backend: str | None = None, *, extra: str = "train") -> None:
    """Choose Keras' backend; takes effect only before Keras is imported.

    Args:
        backend: ``"tensorflow"`` or ``"jax"``; by default ``$KERAS_BACKEND``, else tensorflow.
        extra: the extra to install, named where a package is missing.

    Raises:
        KwsError: an unknown backend, or its package is not installed.
    """
    wanted = backend or chosen_backend()
    if wanted not in BACKENDS:
        raise KwsError(f"Unknown backend. Received: {wanted!r}. Use one of: {', '.join(BACKENDS)}")
    for package in ("keras", wanted):
        if find_spec(package) is None:
            what = "jax" if package == "jax" else f"'kws[{extra}]'"
            raise KwsError(
                f"Training needs the package {package!r}. Install it with: pip install {what}"
            )
    os.environ["KERAS_BACKEND"] = wanted
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
