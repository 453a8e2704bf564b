"""The model card: a model file's description of itself, JSON under one name in its metadata."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kws.decide import DecisionConfig
from kws.errors import KwsError
from kws.frontend import FrontEndConfig
from kws.labels import SILENCE, UNKNOWN
from kws.model_file.flatbuffer import read_metadata, write_metadata

METADATA_NAME = "kws"
SCHEMA_VERSION = 1
HEADS = ("softmax", "sigmoid")
FORMS = ("stream", "clip")

_PRETRAINED = Path(__file__).resolve().parent.parent / "pretrained"


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Everything needed to run a model, and where it comes from.

    Raises:
        KwsError: fields that are invalid or contradict each other.
    """

    schema_version: int = SCHEMA_VERSION
    """Version of this format; a reader refuses newer ones."""
    name: str
    """Short name, for example ``commands_en``."""
    license: str
    """Licence of the trained weights, as an SPDX expression."""
    labels: tuple[str, ...]
    """What the outputs mean, in order."""
    keywords: tuple[str, ...]
    """The labels that trigger events; never ``_silence_`` or ``_unknown_``."""
    head: str
    """``softmax`` (labels exclude each other) or ``sigmoid`` (one label: p(word))."""
    form: str
    """``stream`` (input is one receptive field, state is carried on) or ``clip`` (a whole clip)."""
    receptive_field_frames: int
    """R: MFCC frames that one step looks at."""
    stride_frames: int
    """S: new MFCC frames for each step, at most R."""
    clip_frames: int
    """Frames in the clips it was trained on (49 for one second)."""
    front_end: FrontEndConfig
    """How audio becomes MFCC."""
    feature_mean: tuple[float, ...]
    """Mean of each coefficient [n_features], subtracted before the network."""
    feature_std: tuple[float, ...]
    """Standard deviation of each coefficient [n_features], the divisor before the network."""
    decision: DecisionConfig
    """How posteriors become events."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Data set, recipe, seed, package version, date, metrics: any JSON object."""

    def __post_init__(self) -> None:
        for what, text in (("name", self.name), ("license", self.license)):
            _check_text(what, text)
        if not self.labels:
            raise KwsError("A model card needs at least one label. Received: none")
        for label in self.labels:
            _check_text("a label", label)
        for what, words in (("labels", self.labels), ("keywords", self.keywords)):
            if len(set(words)) != len(words):
                raise KwsError(
                    f"The {what} of a model card must be distinct. Received: {list(words)}"
                )
        for keyword in self.keywords:
            if keyword not in self.labels or keyword in (SILENCE, UNKNOWN):
                raise KwsError(
                    f"A keyword must be one of the labels and neither {SILENCE} nor {UNKNOWN}. "
                    f"Received: {keyword!r} with labels {list(self.labels)}"
                )
        _check_choice("head", self.head, HEADS)
        _check_choice("form", self.form, FORMS)
        if self.head == "sigmoid" and (len(self.labels) != 1 or self.keywords != self.labels):
            raise KwsError(
                "A sigmoid head has one label, which is its keyword. "
                f"Received: labels {list(self.labels)}, keywords {list(self.keywords)}"
            )
        frames = (self.stride_frames, self.receptive_field_frames, self.clip_frames)
        if not 1 <= frames[0] <= frames[1] <= frames[2] <= 1_000_000:
            raise KwsError(
                "A model card needs 1 <= stride_frames <= receptive_field_frames <= clip_frames. "
                f"Received: {frames[0]}, {frames[1]}, {frames[2]}"
            )
        n_features = self.front_end.n_features
        for what, numbers in (("mean", self.feature_mean), ("std", self.feature_std)):
            if len(numbers) != n_features or not all(math.isfinite(x) for x in numbers):
                raise KwsError(
                    f"feature_{what} must be {n_features} finite numbers. Received: {list(numbers)}"
                )
        if min(self.feature_std) <= 0.0:
            raise KwsError(f"feature_std must be above 0. Received: {list(self.feature_std)}")
        if set(self.decision.thresholds) != set(self.keywords):
            raise KwsError(
                "The decision settings need one threshold for each keyword and no other. "
                f"Received: thresholds for {list(self.decision.thresholds)}, "
                f"keywords {list(self.keywords)}"
            )

    @property
    def step_ms(self) -> float:
        """Milliseconds of audio from one step to the next."""
        return (
            1000.0 * self.stride_frames * self.front_end.hop_length / self.front_end.sample_rate_hz
        )

    @property
    def clip_s(self) -> float:
        """Length in s of the clips it was trained on, rounded up to tenths: a clip's last frame
        need not end where the clip does."""
        samples = self.front_end.n_samples(self.clip_frames)
        return math.ceil(10 * samples / self.front_end.sample_rate_hz) / 10

    def require_stream_form(self) -> None:
        """Raise KwsError if this model takes whole clips and cannot run on a stream."""
        if self.form != "stream":
            raise KwsError(
                f"The model {self.name!r} takes whole clips and cannot run on a stream. Export it "
                "in stream form, the default of `kws export` where the network allows it"
            )

    def require_keywords(self) -> None:
        """Raise KwsError if no label of this model triggers events."""
        if not self.keywords:
            raise KwsError(
                f"The model {self.name!r} has no keywords, so nothing to report. Received: labels "
                f"{', '.join(self.labels)}. Export it with keywords"
            )

    def step_time_s(self, step: int) -> float:
        """Return the end of the last sample that step number `step` (from 0) looks at, in s."""
        return float(self._step_end_s(step))

    def step_times_s(self, n: int) -> npt.NDArray[np.float64]:
        """Return `step_time_s` of the first `n` steps [n]."""
        times: npt.NDArray[np.float64] = self._step_end_s(np.arange(n))
        return times

    def _step_end_s(self, step: Any) -> Any:
        last_frame = step * self.stride_frames + self.receptive_field_frames - 1
        samples = last_frame * self.front_end.hop_length + self.front_end.frame_length
        return samples / self.front_end.sample_rate_hz

    def n_steps(self, n_frames: int) -> int:
        """Return how many steps `n_frames` frames give."""
        if n_frames < self.receptive_field_frames:
            return 0
        return (n_frames - self.receptive_field_frames) // self.stride_frames + 1

    def to_dict(self) -> dict[str, Any]:
        """Return the card as plain dictionaries, lists, numbers and strings."""
        card = asdict(self)
        # Versions from before there was a choice know no such field.
        if not self.decision.after_wake:
            del card["decision"]["after_wake"]
        return card

    def to_json(self) -> str:
        """Return the card as one JSON object.

        Raises:
            KwsError: the provenance holds something that JSON cannot represent, or NaN.
        """
        try:
            return json.dumps(self.to_dict(), ensure_ascii=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise KwsError(f"This model card cannot be written as JSON: {error}") from error

    @classmethod
    def from_json(cls, text: str | bytes) -> ModelCard:
        """Read a card.

        Raises:
            KwsError: not JSON, a newer schema, or a field that is missing, unknown, or of a wrong
                type or value.
        """
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise KwsError(
                f"The model card is not readable JSON ({error}). Export the model again"
            ) from error
        card = _expect(raw, dict, "the card")
        version = _expect(card.get("schema_version"), int, "schema_version")
        if version > SCHEMA_VERSION:
            raise KwsError(
                f"This model was made by a newer kws. Received: card version {version}, this one "
                f"reads up to {SCHEMA_VERSION}. Upgrade with: pip install --upgrade kws"
            )
        values = _known_fields(cls, card, "")
        text_fields = ("name", "license", "head", "form")
        count_fields = ("receptive_field_frames", "stride_frames", "clip_frames")
        # Files from before there was a choice use MFCC and do not say so.
        front_end = {"features": "mfcc", **_expect(values["front_end"], dict, "front_end")}
        front_end = _known_fields(FrontEndConfig, front_end, "front_end.")
        features = _expect(front_end.pop("features"), str, "front_end.features")
        decision = {"after_wake": {}, **_expect(values["decision"], dict, "decision")}
        decision = _known_fields(DecisionConfig, decision, "decision.")
        thresholds, after_wake = (
            _expect(decision.pop(name), dict, f"decision.{name}")
            for name in ("thresholds", "after_wake")
        )
        return cls(
            schema_version=version,
            **{key: _expect(values[key], str, key) for key in text_fields},
            **{key: _expect(values[key], int, key) for key in count_fields},
            labels=tuple(
                _expect(x, str, "labels") for x in _expect(values["labels"], list, "labels")
            ),
            keywords=tuple(
                _expect(x, str, "keywords") for x in _expect(values["keywords"], list, "keywords")
            ),
            front_end=FrontEndConfig(
                features=features,
                **{key: _number(value, f"front_end.{key}") for key, value in front_end.items()},
            ),
            feature_mean=_numbers(values["feature_mean"], "feature_mean"),
            feature_std=_numbers(values["feature_std"], "feature_std"),
            decision=DecisionConfig(
                thresholds={k: _number(v, f"thresholds.{k}") for k, v in thresholds.items()},
                after_wake={k: _number(v, f"after_wake.{k}") for k, v in after_wake.items()},
                **{key: _number(value, f"decision.{key}") for key, value in decision.items()},
            ),
            provenance=_expect(values.get("provenance", {}), dict, "provenance"),
        )


def read_card(model: bytes) -> ModelCard:
    """Read the card out of a .tflite's bytes.

    Raises:
        KwsError: not a .tflite, no card in it, or a card that cannot be used.
    """
    payload = read_metadata(model, METADATA_NAME)
    if payload is None:
        raise KwsError(
            "This .tflite carries no kws model card, so its labels and front end are unknown. "
            "Make the file with: kws export RUN -o model.tflite"
        )
    return ModelCard.from_json(payload)


def write_card(model: bytes, card: ModelCard) -> bytes:
    """Return the .tflite with `card` in it, replacing any card it had.

    Raises:
        KwsError: not a .tflite, or a damaged one.
    """
    return write_metadata(model, METADATA_NAME, card.to_json().encode())


def load_model(path_or_name: str | Path) -> ModelCard:
    """Read a model file's card; no interpreter is started.

    Args:
        path_or_name: a .tflite, or the name of a pretrained model (as for `resolve_model`).

    Raises:
        KwsError: no such model, not a .tflite, or one without a readable card.

    Example:
        >>> load_model("commands_en").keywords  # doctest: +SKIP
        ('yes', 'no', 'up', 'down', 'left', 'right', 'on', 'off', 'stop', 'go')
    """
    return load_model_bytes(path_or_name)[0]


def load_model_bytes(path_or_name: str | Path) -> tuple[ModelCard, bytes]:
    """Read a model file once and return its card and its bytes; raises as `load_model` does."""
    path = resolve_model(path_or_name)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise KwsError(f"Cannot read the model {path}: {error.strerror or error}") from error
    try:
        return read_card(content), content
    except KwsError as error:
        raise KwsError(f"{path}: {error}") from error


def pretrained_models() -> list[str]:
    """Return the names of the models that ship with this package, sorted."""
    return sorted(path.stem for path in _PRETRAINED.glob("*.tflite"))


def resolve_model(path_or_name: str | Path) -> Path:
    """Find a model: the pretrained one of this name, else an existing file.

    A pretrained model's bare name means that model, even if the current folder holds a file of the
    same name; that file is given with a folder (``./commands_en``) or as a `Path`.

    Raises:
        KwsError: neither; lists the known names.
    """
    if not isinstance(path_or_name, (str, os.PathLike)):
        raise KwsError(
            "A model is a .tflite file or the name of a pretrained model. Received: "
            f"{type(path_or_name).__name__}. Pass a str or a Path"
        )
    path, names = Path(path_or_name), pretrained_models()
    if path_or_name not in names and path.is_file():
        # Passed on, its bare name would mean the pretrained model.
        return path.absolute() if str(path) in names else path
    if str(path) in names:
        return _PRETRAINED / f"{path}.tflite"
    what = (
        "is a folder, not a model file" if path.is_dir() else "is neither a file nor a known name"
    )
    raise KwsError(
        f"The model {str(path_or_name)!r} {what}. Give a .tflite made by `kws export`, or one of "
        f"the pretrained models: {', '.join(names) or '(this installation has none)'}"
    )


def _check_text(what: str, text: str) -> None:
    # Labels end up in terminals, environment variables and C strings: no control characters, no
    # lone surrogates, and short enough for one line.
    if not text or not text.isprintable() or len(text) > 200:
        raise KwsError(
            f"In a model card {what} must be 1 to 200 printable characters. Received: {text[:40]!a}"
        )


def _check_choice(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise KwsError(f"{what} must be one of {', '.join(known)}. Received: {value[:40]!a}")


def _known_fields(kind: type, raw: dict[str, Any], prefix: str) -> dict[str, Any]:
    names = {f.name for f in fields(kind)} - {"provenance"}
    for key in raw:
        if key not in names and key != "provenance":
            raise KwsError(
                f"The model card has an unknown field {prefix + key[:40]!a}. Upgrade kws"
            )
    for key in sorted(names):
        if key not in raw:
            raise KwsError(f"The model card lacks {prefix + key!r}. Export the model again")
    return raw


def _expect(value: Any, kind: type, what: str) -> Any:
    # To Python, bool is an int, but it is not a number of frames.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise KwsError(
            f"In the model card {what} must be of type {kind.__name__}. "
            f"Received: {repr(value)[:60].encode('unicode_escape').decode()}"
        )
    return value


def _number(value: Any, what: str) -> Any:
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not good or not abs(value) < 1e15:
        raise KwsError(
            f"In the model card {what} must be a finite number. Received: {repr(value)[:60]!a}"
        )
    return value


def _numbers(value: Any, what: str) -> tuple[float, ...]:
    return tuple(float(_number(x, what)) for x in _expect(value, list, what))
