"""Which clips an epoch hears, how often each, and in which order."""

from __future__ import annotations

import numpy as np

from kws.labels import SILENCE
from kws.recipe import DataConfig, TrainingRecipe
from kws.train.dataset import ClipSet, keyword_labels


def epoch_order(data: ClipSet, recipe: TrainingRecipe, epoch: int) -> np.ndarray:
    """Choose and shuffle the clips of one epoch: int64 [n], a multiple of the batch size.

    Every recording of a keyword comes at least once, and again until there are as many clips as the
    recipe asks for, recorded and generated ones of a word in the shares that it asks for; generated
    ones all come where it asks for no number. Other speech and background are drawn anew for each
    epoch so that they make up theirs. The order depends on seed and epoch alone, so a resumed run
    goes on as if it had never stopped.
    """
    rng = np.random.default_rng((recipe.seed, epoch))
    keywords = np.isin(data.labels, keyword_labels(recipe))
    silence = data.words == SILENCE
    share = recipe.data.generated_share
    spoken = [
        _of_word(*_by_origin(data, data.labels == label), recipe.data, rng)
        for label in keyword_labels(recipe)
    ]
    others, quiet = np.flatnonzero(~keywords & ~silence), np.flatnonzero(silence)
    unknown_share = recipe.data.unknown_share if len(others) else 0.0
    silence_share = recipe.data.silence_share if len(quiet) else 0.0
    total = sum(map(len, spoken)) / (1 - unknown_share - silence_share)
    wanted = round(total * unknown_share)
    recorded, generated = _by_origin(data, ~keywords & ~silence)
    if len(recorded) and len(generated):
        n = round(wanted * share)
        unknown = [_draw(recorded, wanted - n, rng), _draw(generated, n, rng)]
    else:
        unknown = [_draw(others, wanted, rng)]
    parts = [*spoken, *unknown, _draw(quiet, round(total * silence_share), rng)]
    order = rng.permutation(np.concatenate(parts))
    size = recipe.training.batch_size
    # A last partial batch is filled up from the front of the same epoch.
    return np.resize(order, -(-len(order) // size) * size)


def _by_origin(data: ClipSet, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of recorded and of generated clips among those `wanted`, bool [n]."""
    return np.flatnonzero(wanted & ~data.generated), np.flatnonzero(wanted & data.generated)


def _of_word(
    recorded: np.ndarray, generated: np.ndarray, config: DataConfig, rng: np.random.Generator
) -> np.ndarray:
    """Take every recording of a word at least once, and what else the recipe asks for.

    Where there are both kinds, a generated share of none or all leaves the other kind out.
    """
    share, wanted = config.generated_share, config.keyword_clips
    if len(recorded) and len(generated) and share in (0.0, 1.0):
        recorded, generated = recorded[: 0 if share else None], generated[: None if share else 0]
    if not len(generated):
        return _draw(recorded, max(len(recorded), wanted), rng)
    if not len(recorded):
        return _draw(generated, wanted or len(generated), rng)
    # With a number to keep to, generated clips need not all come: there is no end of them.
    least = 0 if wanted else len(generated)
    total = max(len(recorded) / (1 - share), least / share, wanted)
    # Not below the number there is: rounding, too, must not leave a clip out.
    counts = max(len(recorded), round(total * (1 - share))), max(least, round(total * share))
    pools = zip((recorded, generated), counts, strict=True)
    return np.concatenate([_draw(pool, n, rng) for pool, n in pools])


def _draw(pool: np.ndarray, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """Draw so many of `pool`, none a second time before all were drawn."""
    draws = [rng.permutation(pool) for _ in range(-(-wanted // max(1, len(pool))))]
    return np.concatenate([pool[:0], *draws])[:wanted]
