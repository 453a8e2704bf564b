"""What an export produced, and how well its forms agree."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kws.export.agreement import Agreement
from kws.export.runtimes import RuntimeReport
from kws.model_file import ModelCard


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What was exported, and how well its forms agree."""

    path: Path
    """The file."""
    card: ModelCard
    """Its model card."""
    quantised: bool
    """int8, else float32."""
    size_bytes: int
    """Length of the file."""
    parameters: int
    """Weights and biases, batch normalisation folded."""
    macs_per_invocation: int
    """Multiply-accumulates of one invocation of the network."""
    macs_per_second: int
    """The same per second of audio, including what each step recomputes; in clip form for clips
    back to back, each answered once."""
    macs_per_second_least: int
    """The same per second of audio if no step recomputed a convolution."""
    invocation_us: float
    """Median time of one invocation on this computer, one thread, in µs."""
    agreement: Agreement
    """Keras, float, int8, clip and stream on the validation clips."""
    runtimes: RuntimeReport | None
    """The file on other runtimes; None if none was requested."""
    seconds: float
    """Time taken in all."""

    @property
    def summary(self) -> str:
        """One line on accuracy, agreement and size."""
        forms = self.agreement.forms
        return (
            f"{'int8' if self.quantised else 'float32'} {100 * forms[-1].accuracy:.1f} %, "
            f"float {100 * forms[0].accuracy:.1f} % on {self.agreement.clips:,} clips; "
            f"{self.agreement.stream_and_clip}; {self.size_bytes / 1000:.1f} kB"
        )

    def lines(self) -> list[str]:
        """Return the report as text."""
        card = self.card
        kind = "int8" if self.quantised else "float32"
        lines = [
            f"{self.path}: {card.name}, {kind}, {card.form} form, {self.size_bytes / 1000:.1f} kB, "
            f"{self.parameters:,} parameters",
            f"{self.macs_per_invocation / 1e6:.3f} million MACs and {self.invocation_us:.0f} µs "
            f"per invocation, {self.macs_per_second / 1e6:.2f} million MACs per second of audio"
            + (
                f" ({self.macs_per_second_least / 1e6:.2f} without recomputed convolutions)"
                if card.form == "stream"
                else ""
            ),
            "",
            *self.agreement.lines(),
        ]
        if self.runtimes is not None:
            lines += ["", *self.runtimes.lines()]
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return plain dictionaries, lists, numbers and strings."""
        return {
            "model": str(self.path),
            "name": self.card.name,
            "type": "int8" if self.quantised else "float32",
            "form": self.card.form,
            "size_bytes": self.size_bytes,
            "parameters": self.parameters,
            "macs_per_invocation": self.macs_per_invocation,
            "macs_per_second": self.macs_per_second,
            "macs_per_second_least": self.macs_per_second_least,
            "invocation_us": self.invocation_us,
            "agreement": self.agreement.to_dict(),
            "runtimes": self.runtimes.to_dict() if self.runtimes else None,
            "seconds": self.seconds,
        }
