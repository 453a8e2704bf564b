"""The model card of a run, as export writes it into the file."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any

from kws import __version__
from kws.decide import THRESHOLD, DecisionConfig
from kws.export.tf_keras_model import import_tensorflow
from kws.model_file import ModelCard
from kws.train.trained import TrainedRun


def run_card(
    run: TrainedRun,
    *,
    form: str,
    decision: DecisionConfig | None,
    provenance: dict[str, Any],
) -> ModelCard:
    """Return the model card of a run.

    Args:
        run: what was trained.
        form: ``"stream"`` or ``"clip"``.
        decision: thresholds and smoothing; None for the recipe's.
        provenance: added to what the run itself says about its origin.
    """
    tf, _ = import_tensorflow()
    recipe, labels = run.recipe, run.recipe.labels
    decision = decision or recipe.decision
    thresholds = {word: decision.thresholds.get(word, THRESHOLD) for word in labels.keywords}
    return ModelCard(
        name=recipe.name,
        license=recipe.license,
        labels=labels.labels,
        keywords=labels.keywords,
        head=recipe.data.head,
        form=form,
        receptive_field_frames=recipe.receptive_field_frames,
        stride_frames=recipe.stride_frames,
        clip_frames=recipe.clip_frames,
        front_end=recipe.front_end,
        feature_mean=tuple(float(x) for x in run.mean),
        feature_std=tuple(float(x) for x in run.std),
        decision=replace(decision, thresholds=thresholds),
        provenance={
            "recipe": recipe.name,
            "description": recipe.description,
            "recipe_sha256": run.recipe_sha256,
            "dataset": ", ".join(run.folders),
            "architecture": recipe.model.architecture,
            "seed": recipe.seed,
            "kws_version": __version__,
            # Not the version of the package "tensorflow": it may be installed as tensorflow-cpu.
            "tensorflow_version": tf.__version__,
            "date": _date(),
            "training": run.metrics,
            **provenance,
        },
    )


def _date() -> str:
    """Return the time in UTC; that of $SOURCE_DATE_EPOCH if it is set, for reproducible files."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(given) if given.isdigit() else None))
