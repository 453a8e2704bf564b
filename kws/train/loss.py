"""The loss of training, and the accuracy that it reports."""

from __future__ import annotations

from typing import Any

import keras


class StreamLoss(keras.losses.Loss):
    """Negative log-likelihood of the right answers (`kws.train.targets.Targets`).

    For single steps this is the cross-entropy, with probabilities summed if several answers are
    right; for a keyword it is that of the mean posterior over the steps at which it should be
    reported. Label smoothing takes a share of the loss from the mean over all answers.
    """

    def __init__(self, n_labels: int, label_smoothing: float) -> None:
        super().__init__(name="stream_loss")
        self.n_labels, self.label_smoothing = n_labels, label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each sequence [sequences].

        Args:
            y_true: [sequences, steps, n_labels + 1 + clips]: `Targets`' answers, weights, named.
            y_pred: posteriors [sequences, steps, n_labels].
        """
        ops, n, tiny = keras.ops, self.n_labels, keras.config.epsilon()
        answers, weights, named = y_true[..., :n], y_true[..., n], y_true[..., n + 1 :]
        if n == 1:
            right = ops.where(answers > 0, y_pred, 1.0 - y_pred)[..., 0]
        else:
            right = ops.sum(answers * y_pred, axis=-1)
        asked = ops.sum(named, axis=1)  # [sequences, clips]
        by_name = ops.sum(right[..., None] * named, axis=1) / ops.maximum(asked, tiny)
        log = lambda p: ops.log(ops.clip(p, tiny, 1.0))  # noqa: E731
        loss = -ops.sum(asked * log(by_name), axis=1) - ops.sum(weights * log(right), axis=1)
        if self.label_smoothing:
            everything = y_pred if n > 1 else ops.concatenate([y_pred, 1.0 - y_pred], axis=-1)
            weights = weights + ops.sum(named, axis=-1)
            spread = -ops.sum(weights * ops.mean(log(everything), axis=-1), axis=1)
            loss = (1 - self.label_smoothing) * loss + self.label_smoothing * spread
        return loss / named.shape[-1]


def right_answers(y_true: Any, y_pred: Any) -> Any:
    """Return the weighted share of steps with a right answer, for each sequence."""
    ops, n = keras.ops, y_pred.shape[-1]
    answers, weights = y_true[..., :n], y_true[..., n]
    if n == 1:
        right = ops.cast((y_pred > 0.5) == (answers > 0.5), "float32")[..., 0]
    else:
        best = ops.max(y_pred, axis=-1, keepdims=True)
        right = ops.max(ops.where(y_pred >= best, answers, 0.0), axis=-1)
    return ops.sum(weights * right, axis=1) / ops.sum(weights, axis=1)
