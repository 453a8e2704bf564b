"""Keyword spotting for embedded devices.

``kws.Spotter("model.tflite").feed(samples)`` turns 16 kHz audio into events. Names are resolved on
first use, so that ``import kws`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kws.after_wake import AfterWake
    from kws.decide import Event
    from kws.errors import KwsError
    from kws.model_file import ModelCard, load_model
    from kws.spotter import Spotter

__version__ = "0.1.0"
__all__ = ["AfterWake", "Event", "KwsError", "ModelCard", "Spotter", "__version__", "load_model"]

_HOMES = {
    "AfterWake": "kws.after_wake",
    "Event": "kws.decide",
    "KwsError": "kws.errors",
    "ModelCard": "kws.model_file",
    "Spotter": "kws.spotter",
    "load_model": "kws.model_file",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'kws' has no attribute {name!r}")
