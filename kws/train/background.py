"""Whether the noise recordings are long enough to train on; checked before any long work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kws.audio.files import read_audio
from kws.data.clips import NOISE_FOLDER
from kws.data.noise_recordings import HELD_OUT_SHARE, split_noise
from kws.data.scan import scan
from kws.errors import KwsError
from kws.labels import SILENCE
from kws.recipe import TrainingRecipe
from kws.train.folders import named_folders
from kws.wording import counted


def check_background(recipe: TrainingRecipe, data_dir: Path | None) -> None:
    """Make sure that the noise in a recipe's folders can be cut into clips; no noise is fine.

    Args:
        recipe: what to train.
        data_dir: see `kws.train.folders.named_folders`.

    Raises:
        KwsError: no recording is long enough for its validation part to hold a clip, or one
            cannot be read.
    """
    if SILENCE not in recipe.labels.labels and recipe.data.head != "sigmoid":
        return
    folders = named_folders(recipe, data_dir).values()
    there = [folder for folder in folders if folder is not None and folder.is_dir()]
    check_lengths(
        [path for folder in there for path in scan(folder).noise],
        recipe.clip_samples,
        recipe.front_end.sample_rate_hz,
    )


def check_lengths(recordings: Sequence[Path], clip_samples: int, sample_rate_hz: int) -> None:
    """Make sure that at least one noise recording, if there are any, gives a clip for validation.

    Args:
        recordings: audio files.
        clip_samples: length of a clip.
        sample_rate_hz: its sample rate.

    Raises:
        KwsError: as `check_background`.
    """
    longest = 0
    for path in recordings:
        whole = read_audio(path, sample_rate_hz)
        if len(split_noise([whole])[1][0]) >= clip_samples:
            return
        longest = max(longest, len(whole))
    if recordings:
        n, clip_s = len(recordings), clip_samples / sample_rate_hz
        raise KwsError(
            f"The noise in {NOISE_FOLDER} is too short. Received: {counted(n, 'recording')} "
            f"in {recordings[0].parent}, "
            f"{'of' if n == 1 else 'the longest of'} {longest / sample_rate_hz:.1f} s; one of "
            f"{clip_s / HELD_OUT_SHARE:.1f} s is needed, since the last fifth of each is kept for "
            f"validation and must hold a clip of {clip_s:g} s. Record a few minutes of noise"
        )
