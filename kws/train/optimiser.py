"""The optimiser: AdamW, with Muon's steps for the matrices inside a network.

Muon (K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024) takes a
step of the same length in all directions of a matrix's gradient: it replaces the moving mean of the
gradients by the nearest orthogonal matrix, so that a few strong directions do not dominate. Its
steps are scaled to the length of AdamW's (J. Liu et al., arXiv 2502.16982, section 2.2), so that
one learning rate and one weight decay suit both.

Keras has a Muon, too, but only for variables stored as matrices, which did not help here: a
convolution is not stored as one, and the gates of an LSTM are stored side by side in one matrix,
although each has to be treated separately (docs/accuracy.md has the figures).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kws.train.phonemes import PHONEMES
from kws.train.start import HEAD

MOMENTUM = 0.95
"""Weight of the previous moving mean of the gradients at each step."""
STEP_RMS = 0.2
"""Root mean square of a step's elements at a learning rate of 1: that of AdamW in practice."""
GATES = {"lstm_cell": 4, "gru_cell": 3}
"""Matrices that stand side by side in the weights of a recurrent cell."""
_ITERATIONS = 5
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonal(matrices: Any) -> Any:
    """Return roughly the nearest orthogonal matrices: singular values mostly 0.7 to 1.2.

    A Newton-Schulz iteration with the coefficients of Jordan et al., chosen to raise small singular
    values fast rather than to converge to exactly 1; the very smallest stay below 0.7.

    Args:
        matrices: float32 [n, rows, columns].

    Returns:
        The same shape; zeros for a matrix of zeros.
    """
    a, b, c = _COEFFICIENTS
    x = matrices
    wide = x.shape[1] <= x.shape[2]
    x = x if wide else ops.swapaxes(x, 1, 2)
    x = x / (ops.sqrt(ops.sum(x * x, axis=(1, 2), keepdims=True)) + 1e-7)
    for _ in range(_ITERATIONS):
        square = ops.matmul(x, ops.swapaxes(x, 1, 2))
        x = a * x + ops.matmul(b * square + c * ops.matmul(square, square), x)
    return x if wide else ops.swapaxes(x, 1, 2)


def matrices_in(path: str, shape: Sequence[int]) -> int:
    """Return how many matrices a layer's variable holds side by side, for Muon; 0 for AdamW.

    AdamW is for variables that are not matrices (biases, normalisation, depthwise convolutions,
    whose kernels do not mix channels) and for the output layers.

    Args:
        path: of the variable, as ``"lstm/lstm_cell/kernel"``.
        shape: of the variable; all axes but the last are inputs.
    """
    layers = path.split("/")
    mixes = layers[-1].endswith("kernel") and min(math.prod(shape[:-1]), shape[-1]) > 1
    if not mixes or HEAD in layers or PHONEMES in layers:
        return 0
    return next((n for name, n in GATES.items() if name in layers), 1)


class MuonAdamW(keras.optimizers.AdamW):
    """AdamW with Muon's steps for matrices; each variable can stay frozen up to a given step."""

    def __init__(
        self, *arguments: Any, muon: bool, thaw_steps: Sequence[int], **options: Any
    ) -> None:
        """Create the optimiser.

        Args:
            arguments: for AdamW.
            muon: whether to use Muon for matrices; else AdamW is used for everything.
            thaw_steps: for each variable, in the order given to `build`, the step from which on it
                is trained.
            options: for AdamW.
        """
        super().__init__(*arguments, **options)
        self.muon, self.thaw_steps = muon, list(thaw_steps)

    def build(self, variables: Any) -> None:
        """Create the moving means of the gradients."""
        if self.built:
            return
        super().build(variables)
        self._matrices = [matrices_in(v.path, v.shape) if self.muon else 0 for v in variables]
        self._means = [
            self.add_variable_from_reference(v, name="mean_gradient") if n else None
            for v, n in zip(variables, self._matrices, strict=True)
        ]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Train one variable unless it is still frozen."""
        index = self._get_variable_index(variable)
        learning_rate = self._rate(index, learning_rate)
        if not self._matrices[index]:
            super().update_step(gradient, variable, learning_rate)
            return
        mean = self._means[index]
        self.assign(mean, MOMENTUM * mean + (1 - MOMENTUM) * gradient)
        # Looking one step ahead (Nesterov momentum).
        ahead = MOMENTUM * mean + (1 - MOMENTUM) * gradient
        step = self._step(ahead, self._matrices[index])
        self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * step)

    def _apply_weight_decay(self, variables: Any) -> None:
        """Decay weights towards zero, except those that are still frozen."""
        for variable in variables:
            if self.weight_decay and self._use_weight_decay(variable):
                rate = self._rate(self._get_variable_index(variable), self.learning_rate)
                decay, rate = (ops.cast(x, variable.dtype) for x in (self.weight_decay, rate))
                self.assign_sub(variable, variable * decay * rate)

    def _rate(self, index: int, learning_rate: Any) -> Any:
        """Return the learning rate of the variable number `index`: zero while it is frozen."""
        at = self.thaw_steps[index]
        return learning_rate * ops.cast(self.iterations >= at, "float32") if at else learning_rate

    def _step(self, gradient: Any, n: int) -> Any:
        """Return the step for a variable that holds `n` matrices, of the gradient's shape."""
        shape = gradient.shape
        rows, columns = math.prod(shape[:-1]), shape[-1] // n
        apart = ops.swapaxes(ops.reshape(gradient, (rows, n, columns)), 0, 1)
        # The elements of an orthogonal matrix have an RMS of 1 / sqrt(its longer side).
        step = orthogonal(apart) * (STEP_RMS * math.sqrt(max(rows, columns)))
        return ops.reshape(ops.swapaxes(step, 0, 1), shape)
