"""What lies between int16 clips and the network in training, as Keras 3 layers.

The MFCC here are those of `kws.frontend`, written in `keras.ops` so that they run batched on any
backend and device; the test holds the two equal. The layers that vary the audio do so only in
training, each from a seed of its own, and are the identity otherwise.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from kws.frontend import FULL_SCALE, FrontEndConfig, dct_matrix, hann_window, mel_filters
from kws.recipe import AugmentConfig


class Varying(keras.layers.Layer):
    """A layer with its own random numbers that passes its input on unchanged outside training."""

    def __init__(self, seed: int, **kwargs: Any) -> None:
        super().__init__(trainable=False, **kwargs)
        self.random = keras.random.SeedGenerator(seed)

    def call(self, x: Any, training: bool = False) -> Any:
        return self.vary(x) if training else x

    def vary(self, x: Any) -> Any:
        """Return the varied input, of the same shape."""
        raise NotImplementedError

    def uniform(self, shape: tuple[Any, ...], low: float, high: float) -> Any:
        """Draw float32 numbers between `low` and `high`."""
        return keras.random.uniform(shape, low, high, seed=self.random)


class ToFloat(keras.layers.Layer):
    """int16 samples → float32 between -1 and 1."""

    def call(self, pcm: Any) -> Any:
        return ops.cast(pcm, "float32") / FULL_SCALE


class RandomTiming(Varying):
    """Shift each clip and change its speed (and so its pitch) about its centre; zeros come in."""

    def __init__(
        self, config: AugmentConfig, *, sample_rate_hz: int, seed: int, **kwargs: Any
    ) -> None:
        super().__init__(seed, **kwargs)
        self.shift_samples = config.shift_ms * sample_rate_hz / 1000
        self.speed = config.speed

    def vary(self, x: Any) -> Any:
        """float32 [batch, samples] → the same, by linear interpolation."""
        batch, samples = ops.shape(x)[0], x.shape[1]
        # A change by a factor is as likely up as down, so it is drawn on a logarithmic scale.
        limit = math.log1p(self.speed)
        speed = ops.exp(self.uniform((batch, 1), -limit, limit))
        shift = self.uniform((batch, 1), -self.shift_samples, self.shift_samples)
        centre = (samples - 1) / 2
        at = (ops.arange(samples, dtype="float32")[None] - centre) * speed + centre + shift
        before = ops.floor(at)
        part = at - before
        left = ops.cast(before, "int32")
        inside = ops.cast((left >= 0) & (left < samples - 1), "float32")
        # One flat gather is several times faster on a CPU than one with a batch dimension.
        flat = ops.reshape(x, (-1,))
        row = ops.arange(batch, dtype="int32")[:, None] * samples
        left = ops.clip(left, 0, samples - 2) + row
        y = ops.take(flat, left, axis=0) * (1 - part) + ops.take(flat, left + 1, axis=0) * part
        return y * inside


class RandomGain(Varying):
    """Change the level of each clip."""

    def __init__(self, config: AugmentConfig, *, seed: int, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        self.gain_db = config.gain_db

    def vary(self, x: Any) -> Any:
        """float32 [batch, samples] → the same."""
        return x * _ratio(self.uniform((ops.shape(x)[0], 1), *self.gain_db))


class RandomNoise(Varying):
    """Mix a random piece of background into each stretch, then clip as a converter would."""

    def __init__(
        self, config: AugmentConfig, noise: np.ndarray, *, seed: int, **kwargs: Any
    ) -> None:
        """Keep int16 [m] of background; it is repeated if it is shorter than a stretch."""
        super().__init__(seed, **kwargs)
        self.noise, self.share, self.snr_db = noise, config.noise_share, config.snr_db

    def build(self, shape: tuple[int, ...]) -> None:
        noise = np.resize(self.noise, max(len(self.noise), shape[1] + 1))
        self.bank = noise.astype(np.float32) / np.float32(FULL_SCALE)

    def vary(self, x: Any) -> Any:
        """float32 [batch, samples] → the same."""
        batch, samples = ops.shape(x)[0], x.shape[1]
        bank = ops.convert_to_tensor(self.bank)
        start = self.uniform((batch, 1), 0.0, float(len(self.bank) - samples))
        noise = ops.take(bank, ops.cast(start, "int32") + ops.arange(samples)[None], axis=0)
        # Never above full scale over the loudest stretch of digital silence: no speech, no noise.
        gain = _rms(x) / _rms(noise) / _ratio(self.uniform((batch, 1), *self.snr_db))
        mixed = ops.cast(self.uniform((batch, 1), 0.0, 1.0) < self.share, "float32")
        return ops.clip(x + mixed * gain * noise, -1.0, 1.0)


class MelEnergies(keras.layers.Layer):
    """float32 [batch, samples] → mel energies [batch, frames, n_mels]."""

    def __init__(self, config: FrontEndConfig, **kwargs: Any) -> None:
        super().__init__(trainable=False, **kwargs)
        self.config = config
        self.window = hann_window(config.frame_length).astype(np.float32)
        self.filters = np.ascontiguousarray(mel_filters(config).T)

    def call(self, x: Any) -> Any:
        frames = ops.extract_sequences(x, self.config.frame_length, self.config.hop_length)
        real, imaginary = ops.rfft(frames * self.window)
        # The tiny constant keeps the gradient of the root finite; nothing is trained below it, but
        # backends differentiate it all the same.
        magnitudes = ops.sqrt(real * real + imaginary * imaginary + 1e-20)
        return ops.matmul(magnitudes, self.filters)


class RandomEqualiser(Varying):
    """Multiply mel energies by a smooth curve, as another microphone or room would."""

    def __init__(self, config: AugmentConfig, *, seed: int, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        self.deviation_db = config.equaliser_db

    def vary(self, x: Any) -> Any:
        """float32 [batch, frames, n_mels] → the same."""
        n = x.shape[-1]
        # Four slow cosines over the filters; the level itself is RandomGain's.
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
        """`clips` in a row get `clips` times as many time masks; `frame_ms` from frame to frame."""
        super().__init__(seed, **kwargs)
        self.time_masks = config.time_masks * clips
        self.longest = config.time_mask_ms / frame_ms
        self.mel_masks, self.widest = config.mel_masks, float(config.mel_mask_width)

    def vary(self, x: Any) -> Any:
        """float32 log-mel [batch, frames, n_mels] → the same."""
        kept = self._keep(x, 1, self.time_masks, self.longest) * self._keep(
            x, 2, self.mel_masks, self.widest
        )
        mean = ops.mean(x, axis=(1, 2), keepdims=True)
        return mean + (x - mean) * kept

    def _keep(self, x: Any, axis: int, masks: int, longest: float) -> Any:
        """Return 0 where a mask lies along `axis`, else 1; broadcasts against `x`."""
        shape = [ops.shape(x)[0], 1, 1]
        at = ops.reshape(
            ops.arange(x.shape[axis], dtype="float32"), [-1 if i == axis else 1 for i in range(3)]
        )
        kept: Any = 1.0
        for _ in range(masks):
            width = self.uniform(tuple(shape), 0.0, longest)
            start = self.uniform(tuple(shape), 0.0, 1.0) * (x.shape[axis] - width)
            kept = kept * (1 - ops.cast((at >= start) & (at < start + width), "float32"))
        return kept


class Cepstrum(keras.layers.Layer):
    """Log-mel → normalised MFCC: (DCT - mean) / standard deviation."""

    def __init__(
        self, config: FrontEndConfig, mean: np.ndarray, deviation: np.ndarray, **kwargs: Any
    ) -> None:
        super().__init__(trainable=False, **kwargs)
        deviation = np.asarray(deviation, np.float64)
        self.matrix = (dct_matrix(config.n_mfcc, config.n_mels).T / deviation).astype(np.float32)
        self.offset = (np.asarray(mean, np.float64) / deviation).astype(np.float32)

    def call(self, x: Any) -> Any:
        return ops.matmul(x, self.matrix) - self.offset


def _ratio(decibels: Any) -> Any:
    """Decibels → a factor on amplitudes."""
    return ops.exp(decibels * (math.log(10) / 20))


def _rms(x: Any) -> Any:
    """[batch, samples] → [batch, 1]."""
    return ops.sqrt(ops.mean(ops.square(x), axis=1, keepdims=True) + 1e-12)
