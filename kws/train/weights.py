"""A network's weights, by the names of its layers."""

from __future__ import annotations

from typing import Any

import numpy as np


def network_weights(network: Any) -> dict[str, np.ndarray]:
    """Return the weights as ``<layer>/<i>``, as export reads them."""
    return {
        f"{layer.name}/{i}": np.asarray(weight)
        for layer in network.layers
        for i, weight in enumerate(layer.get_weights())
    }


def count_parameters(network: Any) -> int:
    """Return the number of weights and biases once normalisations ``X_norm`` are folded.

    Of the four vectors of each, one becomes the bias of the convolution before it.
    """
    norms = [layer for layer in network.layers if layer.name.endswith("_norm")]
    return int(network.count_params() - sum(3 * layer.gamma.shape[0] for layer in norms))


def load_network_weights(network: Any, weights: dict[str, np.ndarray]) -> None:
    """Set the weights returned by `network_weights`."""
    for layer in network.layers:
        n = len(layer.get_weights())
        layer.set_weights([weights[f"{layer.name}/{i}"] for i in range(n)])
