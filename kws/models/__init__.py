"""The zoo: one file for each architecture, each a frozen dataclass of sizes with a `build` method.

`build` takes the Keras to build with, so that training (Keras 3, any backend) and export
(tf_keras, whose LSTM the TFLite converter fuses into one operator) share one definition.
"""

from __future__ import annotations

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


def architecture_named(name: str) -> type[Architecture]:
    """Return an architecture, a dataclass of its sizes.

    Raises:
        KwsError: there is none of this name.
    """
    if name not in ARCHITECTURES:
        raise KwsError(
            f"Unknown architecture. Received: {name!r}. Known: {', '.join(sorted(ARCHITECTURES))}"
        )
    return ARCHITECTURES[name]
