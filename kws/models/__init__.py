"""The zoo: one file for each architecture, each a frozen dataclass of sizes with a `build` method.

`build` takes the Keras to build with, so that training (Keras 3, any backend) and export
(tf_keras, whose LSTM the TFLite converter fuses into one operator) share one definition.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Protocol

from kws.errors import KwsError
from kws.models.conv_lstm import ConvLstm


class Architecture(Protocol):
    """What training and export need of an architecture."""

    @property
    def receptive_field_frames(self) -> int:
        """MFCC frames that one output step looks at."""

    @property
    def stride_frames(self) -> int:
        """New MFCC frames for each output step."""

    def build(
        self,
        keras: Any,
        *,
        n_mfcc: int,
        n_labels: int,
        head: str,
        frames: int | None = None,
        batch_size: int | None = None,
        folded: bool = False,
    ) -> Any:
        """Return a model [batch, frames, n_mfcc] → [batch, steps, n_labels]."""


ARCHITECTURES: dict[str, type[Architecture]] = {"conv_lstm": ConvLstm}


def architecture(name: str, sizes: dict[str, Any]) -> Architecture:
    """Return the architecture `name` with the given sizes; those left out keep their defaults.

    Raises:
        KwsError: unknown architecture or size.
    """
    if name not in ARCHITECTURES:
        raise KwsError(
            f"Unknown architecture. Received: {name!r}. Known: {', '.join(sorted(ARCHITECTURES))}"
        )
    kind = ARCHITECTURES[name]
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    unknown = sorted(set(sizes) - set(known))
    if unknown:
        raise KwsError(
            f"{name} has no size {unknown[0]!r}. Known: {', '.join(known)}. Remove it from [model]"
        )
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in sizes.items()})
