"""Which clips an epoch contains, how often each, and in which order."""

from __future__ import annotations

import numpy as np

from kws.labels import SILENCE
from kws.recipe import DataConfig, TrainingRecipe
from kws.train.dataset import ClipSet, keyword_labels


def epoch_order(data: ClipSet, recipe: TrainingRecipe, epoch: int) -> np.ndarray:
    """Choose and shuffle the clips of one epoch: int64 [n], a multiple of the batch size.

    Every recording of a keyword is used at least once, and repeated until the word has the number
    of clips that the recipe asks for, with its share of generated ones; if it asks for no number,
    all generated ones are used. Other speech and background are drawn anew for each epoch to make
    up their shares. The order depends only on seed and epoch, so a resumed run continues as if it
    had never stopped.
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
    # A partial last batch is filled up from the start of the same epoch.
    return np.resize(order, -(-len(order) // size) * size)


def _by_origin(data: ClipSet, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of recorded and of generated clips among those `wanted`, bool [n]."""
    return np.flatnonzero(wanted & ~data.generated), np.flatnonzero(wanted & data.generated)


def _of_word(
    recorded: np.ndarray, generated: np.ndarray, config: DataConfig, rng: np.random.Generator
) -> np.ndarray:
    """Draw the clips of one word for an epoch: every recording at least once.

    If there are both kinds, a generated share of 0 or 1 leaves the other kind out.
    """
    share, wanted = config.generated_share, config.keyword_clips
    if len(recorded) and len(generated) and share in (0.0, 1.0):
        recorded, generated = recorded[: 0 if share else None], generated[: None if share else 0]
    if not len(generated):
        return _draw(recorded, max(len(recorded), wanted), rng)
    if not len(recorded):
        return _draw(generated, wanted or len(generated), rng)
    # If a number is given, not all generated clips need be used: their number is arbitrary.
    least = 0 if wanted else len(generated)
    total = max(len(recorded) / (1 - share), least / share, wanted)
    # Rounding must not leave a clip out.
    counts = max(len(recorded), round(total * (1 - share))), max(least, round(total * share))
    pools = zip((recorded, generated), counts, strict=True)
    return np.concatenate([_draw(pool, n, rng) for pool, n in pools])


def _draw(pool: np.ndarray, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `wanted` of `pool`, none a second time before all were drawn."""
    draws = [rng.permutation(pool) for _ in range(-(-wanted // max(1, len(pool))))]
    return np.concatenate([pool[:0], *draws])[:wanted]
