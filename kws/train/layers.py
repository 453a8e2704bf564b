"""Everything between int16 clips and the network in training, as Keras 3 layers.

`TrainingFeatures` is the whole chain; the layers before it are its stages. The MFCCs are those of
`kws.frontend`, written in `keras.ops` so that they run batched on any backend and device; tests
check that the two are equal. The layers that vary the audio do so only in training, each with its
own seed, and are the identity otherwise.

What matters for speed, measured on two cores: No level is computed from gathered samples, since
compilers repeat the gather for a sum over its result (3 times as long). Clips keep their own axis
until they are cut into frames: flattened earlier, an index is divided for every sample (2 times).
Frames are gathered as rows of the greatest common divisor of frame and hop, not sample by sample
(13 times on jax). And on TensorFlow all of this is compiled by XLA, separately from the network:
without it the gather in `RandomAudio` alone takes 14 times as long.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from kws.frontend import (
    FULL_SCALE,
    FrontEndConfig,
    dct_matrix,
    hann_window,
    mel_corners_hz,
    mel_filters,
)
from kws.recipe import AugmentConfig

NOISE_GRID = 160
# Energy far below one LSB of a converter; keeps divisions and gradients of square roots finite.
TINY = 1e-12


class Random(keras.layers.Layer):
    """A layer with its own random number generator."""

    def __init__(self, seed: int, **kwargs: Any) -> None:
        super().__init__(trainable=False, **kwargs)
        self.random = keras.random.SeedGenerator(seed)

    def uniform(self, shape: tuple[Any, ...], low: float, high: float) -> Any:
        """Draw float32 numbers between `low` and `high`."""
        return keras.random.uniform(shape, low, high, seed=self.random)


class Varying(Random):
    """A layer that varies its input in training and passes it on unchanged otherwise."""

    def call(self, x: Any, training: bool = False) -> Any:
        return self.vary(x) if training else x

    def vary(self, x: Any) -> Any:
        """Return the varied input, of the same shape."""
        raise NotImplementedError


class RandomAudio(Random):
    """Vary timing, speed and level of each clip, and mix background into each sequence.

    The variation and the level of the background are inputs (`kws.train.variation`), since they
    depend on the clips, and the targets depend on them; the piece of background is drawn here.
    Speed and pitch change together, about the clip's centre; samples from outside the clip are
    zero.
    """

    def __init__(
        self,
        noise: np.ndarray,
        *,
        seed: int,
        **kwargs: Any,
    ) -> None:
        """Keep the background, int16 [m]; it is repeated if it is shorter than a sequence."""
        super().__init__(seed, **kwargs)
        self.noise = noise

    def build(self, shape: tuple[int, ...]) -> None:
        """Tabulate the level of every piece of background of the length of a sequence."""
        length = shape[1] * shape[2]
        noise = np.resize(self.noise, max(len(self.noise), length)).astype(np.float32) / FULL_SCALE
        energy = np.concatenate([[0.0], np.cumsum(np.square(noise, dtype=np.float64))])
        # Pieces start on a grid, which keeps the table small.
        starts = np.arange(0, len(noise) - length + 1, NOISE_GRID)
        mean_square = (energy[starts + length] - energy[starts]) / length
        self.bank = noise
        self.levels = np.sqrt(np.maximum(mean_square, 0) + TINY).astype(np.float32)

    def call(self, x: Any, variation: Any, training: bool = False) -> Any:
        """float32 [sequences, clips, samples] → the same, clipped as by an A/D converter.

        `variation` is float32 [sequences, clips, 4] as in `kws.train.variation.Variation`.
        """
        if not training:
            return x
        speed, shift, gain = (variation[..., i : i + 1] for i in range(3))
        noise = self._noise(x, variation[:, :1, 3:])
        return ops.clip(gain * self._moved(x, speed, shift) + noise, -1.0, 1.0)

    def _moved(self, x: Any, speed: Any, shift: Any) -> Any:
        """Shift and stretch by linear interpolation."""
        sequences, (clips, samples) = ops.shape(x)[0], x.shape[1:]
        centre = (samples - 1) / 2
        at = (ops.arange(samples, dtype="float32") - centre) * speed + (centre + shift)
        held = ops.clip(at, 0.0, samples - 1.0)
        left = ops.minimum(ops.floor(held), samples - 2.0)
        part = held - left
        # One flat gather is several times faster on a CPU than one with batch dimensions.
        flat = ops.reshape(x, (-1,))
        rows = ops.reshape(ops.arange(sequences * clips, dtype="int32"), (-1, clips, 1)) * samples
        left = ops.cast(left, "int32") + rows
        y = ops.take(flat, left, axis=0) * (1 - part) + ops.take(flat, left + 1, axis=0) * part
        return ops.where(held == at, y, 0.0)

    def _noise(self, x: Any, level: Any) -> Any:
        """Cut background for each sequence and scale it to an RMS of `level`."""
        sequences, (clips, samples) = ops.shape(x)[0], x.shape[1:]
        place = np.arange(clips * samples, dtype=np.int32).reshape(1, clips, samples)
        shape = (sequences, 1, 1)
        piece = ops.cast(self.uniform(shape, 0.0, float(len(self.levels))), "int32")
        # A draw can round up to the upper limit itself.
        piece = ops.minimum(piece, len(self.levels) - 1)
        noise = ops.take(ops.convert_to_tensor(self.bank), piece * NOISE_GRID + place, axis=0)
        own = ops.take(ops.convert_to_tensor(self.levels), piece, axis=0)
        return noise * (level / own)


def framed(x: Any, config: FrontEndConfig) -> Any:
    """Return the frames of float32 [batch, samples] as [batch, frames, frame_length]."""
    frames, length = config.n_frames(x.shape[1]), config.frame_length
    step = math.gcd(length, config.hop_length)
    first = np.arange(frames)[:, None] * (config.hop_length // step)
    rows = (first + np.arange(length // step)).astype(np.int32).reshape(-1)
    whole = x.shape[1] // step
    x = ops.reshape(x[:, : whole * step], (-1, whole, step))
    return ops.reshape(ops.take(x, rows, axis=1), (-1, frames, length))


class MelEnergies(keras.layers.Layer):
    """float32 [batch, samples] → mel energies [batch, frames, n_mels]."""

    def __init__(self, config: FrontEndConfig, **kwargs: Any) -> None:
        super().__init__(trainable=False, **kwargs)
        self.config = config
        self.window = hann_window(config.frame_length).astype(np.float32)
        self.filters = np.ascontiguousarray(mel_filters(config).T)

    def call(self, x: Any) -> Any:
        real, imaginary = ops.rfft(framed(x, self.config) * self.window)
        # The tiny constant keeps the gradient of the square root finite: nothing before it is
        # trained, but backends differentiate it all the same.
        magnitudes = ops.sqrt(real * real + imaginary * imaginary + 1e-20)
        return ops.matmul(magnitudes, self.filters)


class RandomRoom(Varying):
    """Add reverberation: an exponential tail of energy, the same for all filters.

    Late reverberation is the sum of so many reflections that their energies add, and it falls by
    60 dB in the time RT60 (W. C. Sabine's law), so a recursion over frames approximates the
    convolution with an impulse response.
    """

    def __init__(self, config: AugmentConfig, *, frame_ms: float, seed: int, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        self.share, self.room_ms, self.room_db = config.room_share, config.room_ms, config.room_db
        self.frame_ms = frame_ms

    def vary(self, x: Any) -> Any:
        """float32 mel energies (amplitudes) [batch, frames, n_mels] → the same."""
        batch, frames = ops.shape(x)[0], x.shape[1]
        time_ms = self.uniform((batch, 1, 1), *self.room_ms)
        kept = ops.exp(-math.log(1e6) * self.frame_ms / time_ms)
        direct_to_room = _ratio(2 * self.uniform((batch, 1, 1), *self.room_db))
        in_room = ops.cast(self.uniform((batch, 1, 1), 0.0, 1.0) < self.share, "float32")
        # The tail's frames 1, 2, … sum to the energy given by the ratio.
        amount = in_room * (1 - kept) / kept / direct_to_room
        lag = np.arange(frames)[:, None] - np.arange(frames)
        tail = ops.power(kept, np.maximum(lag, 0).astype(np.float32)) * amount
        kernel = np.eye(frames, dtype=np.float32) + tail * (lag > 0).astype(np.float32)
        return ops.sqrt(ops.matmul(kernel, x * x) + 1e-20)


class RandomTract(Varying):
    """Shift formants as a longer or shorter vocal tract would, without changing the timing.

    A change of speed changes both; this distinguishes a child's voice from a hurried one.
    Frequencies are multiplied by one factor per sequence, and mel energies are interpolated between
    filters (N. Jaitly, G. Hinton, "Vocal Tract Length Perturbation improves speech recognition",
    2013; without their bend below the highest frequency: beyond the last filter, it is repeated).
    """

    def __init__(
        self, config: AugmentConfig, front_end: FrontEndConfig, *, seed: int, **kwargs: Any
    ) -> None:
        super().__init__(seed, **kwargs)
        self.limit = math.log1p(config.tract)
        corners = mel_corners_hz(front_end)
        self.centres_hz = corners[1:-1].astype(np.float32)
        # Filters are evenly spaced on this scale.
        self.first, second = np.log1p(corners[1:3] / 700).tolist()
        self.step = second - self.first

    def vary(self, x: Any) -> Any:
        """float32 mel energies [batch, frames, n_mels] → the same."""
        n = x.shape[-1]
        factor = ops.exp(self.uniform((ops.shape(x)[0], 1), -self.limit, self.limit))
        # For each filter, the position between filters from which it takes its energy.
        at = (ops.log1p(self.centres_hz * factor / 700) - self.first) / self.step
        at = ops.clip(at, 0.0, n - 1.0)
        shares = ops.maximum(
            0.0, 1.0 - ops.abs(at[:, None] - np.arange(n, dtype=np.float32)[:, None])
        )
        return ops.matmul(x, shares)


class RandomEqualiser(Varying):
    """Multiply mel energies by a smooth curve, as another microphone or room would."""

    def __init__(self, config: AugmentConfig, *, seed: int, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        self.deviation_db = config.equaliser_db

    def vary(self, x: Any) -> Any:
        """float32 [batch, frames, n_mels] → the same."""
        n = x.shape[-1]
        # Four slow cosines over the filters; RandomAudio varies the overall level.
        curves = dct_matrix(5, n)[1:] * np.float32(math.sqrt(n / 2))
        amounts = keras.random.normal(
            (ops.shape(x)[0], 1, len(curves)), stddev=self.deviation_db, seed=self.random
        )
        return x * _ratio(ops.matmul(amounts, curves))


class Log(keras.layers.Layer):
    """Natural logarithm, clamped from below."""

    def __init__(self, config: FrontEndConfig, **kwargs: Any) -> None:
        super().__init__(trainable=False, **kwargs)
        self.floor = config.log_floor

    def call(self, x: Any) -> Any:
        return ops.log(ops.maximum(x, self.floor))


class SpecAugment(Varying):
    """Blank stretches of time and bands of filters with the mean (Park et al., 1904.08779)."""

    def __init__(
        self, config: AugmentConfig, *, clips: int, frame_ms: float, seed: int, **kwargs: Any
    ) -> None:
        """A sequence of `clips` gets `clips` times as many time masks; `frame_ms` is the hop."""
        super().__init__(seed, **kwargs)
        self.time_masks = config.time_masks * clips
        self.longest = config.time_mask_ms / frame_ms
        self.mel_masks, self.widest = config.mel_masks, float(config.mel_mask_width)

    def vary(self, x: Any) -> Any:
        """float32 log-mel [batch, frames, n_mels] → the same."""
        times = self._masked(x, 1, self.time_masks, self.longest)
        bands = self._masked(x, 2, self.mel_masks, self.widest)
        mean = ops.mean(x, axis=(1, 2), keepdims=True)
        return ops.where(times[:, :, None] | bands[:, None, :], mean, x)

    def _masked(self, x: Any, axis: int, masks: int, longest: float) -> Any:
        """Return whether a mask lies on each place along `axis`, bool [batch, places]."""
        places, batch = x.shape[axis], ops.shape(x)[0]
        if not masks:
            return ops.zeros((batch, places), "bool")
        width = self.uniform((batch, masks, 1), 0.0, min(longest, places))
        start = self.uniform((batch, masks, 1), 0.0, 1.0) * (places - width)
        at = np.arange(places, dtype=np.float32)
        return ops.any((at >= start) & (at < start + width), axis=1)


class Normalised(keras.layers.Layer):
    """Log-mel → normalised MFCC: (DCT - mean) / standard deviation; other features: no DCT."""

    def __init__(
        self, config: FrontEndConfig, mean: np.ndarray, deviation: np.ndarray, **kwargs: Any
    ) -> None:
        super().__init__(trainable=False, **kwargs)
        deviation = np.asarray(deviation, np.float64)
        self.dct = config.features == "mfcc"
        first = dct_matrix(config.n_mfcc, config.n_mels).T if self.dct else np.float64(1)
        self.gain = (first / deviation).astype(np.float32)
        self.offset = (np.asarray(mean, np.float64) / deviation).astype(np.float32)

    def call(self, x: Any) -> Any:
        return (ops.matmul(x, self.gain) if self.dct else x * self.gain) - self.offset


class TrainingFeatures(keras.layers.Layer):
    """int16 [sequences, clips, samples] → normalised features [sequences, frames, n_features].

    In training each clip is varied separately in time and level. Then the clips of a sequence form
    one stretch of audio, in one room with one background: the network hears them without a break
    and has to forget a word when the next one comes. Otherwise the features are those of
    `kws.frontend.features_of`, normalised. If they are samples, the variations of the spectrum
    (vocal tract, room, equaliser, masks) are left out.

    Example:
        >>> features = TrainingFeatures(
        ...     FrontEndConfig(), AugmentConfig(), noise, mean=mean, deviation=std, seed=1
        ... )  # doctest: +SKIP
        >>> features(pcm, training=True)  # doctest: +SKIP
    """

    def __init__(
        self,
        front_end: FrontEndConfig,
        augment: AugmentConfig,
        noise: np.ndarray,
        *,
        mean: np.ndarray,
        deviation: np.ndarray,
        seed: int,
        clips: int = 1,
        **kwargs: Any,
    ) -> None:
        """Create the stages.

        Args:
            front_end: the definition of the features.
            augment: how far clips are varied.
            noise: int16 [m], background to mix in.
            mean: of the features, [n_features].
            deviation: standard deviation of the features, [n_features].
            seed: of all random numbers; the same seed gives the same variations on the same
                backend and kind of device.
            clips: clips in a sequence.
            kwargs: for the Keras layer.
        """
        super().__init__(trainable=False, dtype="float32", **kwargs)
        frame_ms = 1000 * front_end.hop_length / front_end.sample_rate_hz
        seeds = range(seed * 100, seed * 100 + 5)
        self.audio = RandomAudio(noise, seed=seeds[0])
        self.mel_energies = MelEnergies(front_end)
        self.spectrum: list[Varying] = [RandomEqualiser(augment, seed=seeds[1])]
        if augment.room_share:
            room = RandomRoom(augment, frame_ms=frame_ms, seed=seeds[2])
            self.spectrum.insert(0, room)
        if augment.tract:
            self.spectrum.insert(0, RandomTract(augment, front_end, seed=seeds[4]))
        self.log = Log(front_end)
        self.masks = SpecAugment(augment, clips=clips, frame_ms=frame_ms, seed=seeds[3])
        self.normalised = Normalised(front_end, mean, deviation)
        self._front_end, self._clips = front_end, clips
        self._compiled: Any = self._features
        if keras.backend.backend() == "tensorflow":
            import tensorflow

            self._compiled = tensorflow.function(self._features, jit_compile=True, autograph=False)

    def build(self, pcm_shape: tuple[int, ...], variation_shape: tuple[int, ...]) -> None:
        """Build the stage that needs it before it is compiled."""
        self.audio.build(pcm_shape)

    def compute_output_shape(
        self, pcm_shape: tuple[int, ...], variation_shape: tuple[int, ...]
    ) -> tuple[int, ...]:
        """[sequences, clips, samples] → [sequences, frames, n_features]."""
        frames = self._front_end.n_frames(pcm_shape[1] * pcm_shape[2])
        return (pcm_shape[0], frames, self._front_end.n_features)

    def call(self, pcm: Any, variation: Any, training: bool = False) -> Any:
        return self._compiled(pcm, variation, bool(training))

    def _features(self, pcm: Any, variation: Any, training: bool) -> Any:
        x = ops.cast(pcm, "float32") / FULL_SCALE
        x = self.audio(x, variation, training=training)
        x = ops.reshape(x, (-1, pcm.shape[1] * pcm.shape[2]))
        if self._front_end.features == "samples":
            return self.normalised(framed(x, self._front_end))
        x = self.mel_energies(x)
        for layer in self.spectrum:
            x = layer(x, training=training)
        return self.normalised(self.masks(self.log(x), training=training))


def _ratio(decibels: Any) -> Any:
    """Decibels → a factor on amplitudes."""
    return ops.exp(decibels * (math.log(10) / 20))
