"""`kws info`: print a model file's card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from kws.cli.options import JSON, MODEL

if TYPE_CHECKING:
    from kws.frontend import FrontEndConfig
    from kws.model_file import ModelCard


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.command("info")(info)


def info(
    model: str = MODEL,
    as_json: bool = JSON,
) -> None:
    """Print a model file's card.

    That is: labels, front end, decision settings, size, input and output, and provenance.

    Example: kws info commands_en
    """
    from kws.model_file import resolve_model
    from kws.network import Network

    path = resolve_model(model)
    network = Network(path)
    facts: dict[str, Any] = {
        "file": str(path),
        "file_bytes": path.stat().st_size,
        "input": network.input_tensor,
        "output": network.output_tensor,
        "card": network.card.to_dict(),
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        typer.echo("\n".join(_lines(facts, network.card)))


def _lines(facts: dict[str, Any], card: ModelCard) -> list[str]:
    front_end, decision = card.front_end, card.decision
    after = decision.after_wake_word().thresholds
    rows = [
        ("name", card.name),
        ("licence", card.license),
        ("file", f"{facts['file']} ({facts['file_bytes']:,} bytes)"),
        ("keywords", _fires({word: decision.thresholds[word] for word in card.keywords})),
        *(
            [("after a wake word", _fires({word: after[word] for word in card.keywords}))]
            if decision.after_wake
            else []
        ),
        ("other labels", ", ".join(x for x in card.labels if x not in card.keywords) or "none"),
        ("head", card.head),
        (
            "form",
            f"stream: a step every {card.step_ms:g} ms looks at {1000 * card.step_time_s(0):g} ms "
            f"({card.receptive_field_frames} frames) and at the state before it"
            if card.form == "stream"
            else f"clip: takes {card.clip_frames} frames at once",
        ),
        (
            "front end",
            f"{front_end.sample_rate_hz} Hz, {_features(front_end)}, frames of "
            f"{front_end.frame_length} samples every {front_end.hop_length}",
        ),
        (
            "decision",
            f"mean over {decision.smoothing_ms:g} ms, {decision.refractory_ms:g} ms of rest "
            f"after an event, release at {decision.release:g} of the threshold",
        ),
        ("input", _tensor(facts["input"])),
        ("output", _tensor(facts["output"])),
    ]
    provenance = {ascii(key)[1:-1]: _text(value) for key, value in card.provenance.items()}
    rows += [(name, text) for name, text in provenance.items() if text]
    width = max(len(name) for name, _ in rows)
    return [f"{name:{width}}  {text}" for name, text in rows]


def _fires(thresholds: Mapping[str, float]) -> str:
    """Return keywords and their thresholds, a common one only once."""
    numbers = [f"{threshold:.2f}" for threshold in thresholds.values()]
    if len(numbers) > 1 and len(set(numbers)) == 1:
        return f"{', '.join(thresholds)} (each from {numbers[0]})"
    return ", ".join(f"{word} (from {n})" for word, n in zip(thresholds, numbers, strict=True))


def _features(front_end: FrontEndConfig) -> str:
    filters = (
        f"{front_end.n_mels} mel filters ({front_end.mel_low_hz:g} to {front_end.mel_high_hz:g} Hz)"
    )
    return {
        "mfcc": f"{front_end.n_mfcc} MFCC from {filters}",
        "log_mel": f"the logarithms of {filters}",
        "samples": "samples as they are",
    }[front_end.features]


def _text(value: Any) -> str:
    """Return a piece of provenance, printable; of a table only its figures, possibly none."""
    if isinstance(value, str) and value.isprintable():
        return value
    if isinstance(value, dict):
        figures = {k: _text(v) for k, v in value.items() if not isinstance(v, (dict, list))}
        return ", ".join(f"{ascii(k)[1:-1]} {text}" for k, text in figures.items() if text)
    if isinstance(value, float):
        return f"{value:.4g}"
    # ASCII-only JSON, which holds no terminal control sequences.
    return json.dumps(value)


def _tensor(tensor: dict[str, Any]) -> str:
    text = f"{tensor['type']} {tensor['shape']}"
    if tensor["type"] == "int8":
        text += f", scale {tensor['scale']:.6g}, zero point {tensor['zero_point']}"
    return text
