"""The model file: a .tflite that carries its own description."""

from __future__ import annotations

from kws.model_file.card import (
    METADATA_NAME,
    SCHEMA_VERSION,
    ModelCard,
    load_model,
    pretrained_models,
    read_card,
    resolve_model,
    write_card,
)
from kws.model_file.flatbuffer import read_metadata, write_metadata

__all__ = [
    "METADATA_NAME",
    "SCHEMA_VERSION",
    "ModelCard",
    "load_model",
    "pretrained_models",
    "read_card",
    "read_metadata",
    "resolve_model",
    "write_card",
    "write_metadata",
]
