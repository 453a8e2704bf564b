"""A network's weights by the names of its layers."""

from __future__ import annotations

from typing import Any

import numpy as np


def network_weights(network: Any) -> dict[str, np.ndarray]:
    """Return the weights as ``<layer>/<i>``, the form in which export reads them."""
    return {
        f"{layer.name}/{i}": np.asarray(weight)
        for layer in network.layers
        for i, weight in enumerate(layer.get_weights())
    }


def load_network_weights(network: Any, weights: dict[str, np.ndarray]) -> None:
    """Set the weights that `network_weights` returned."""
    for layer in network.layers:
        n = len(layer.get_weights())
        layer.set_weights([weights[f"{layer.name}/{i}"] for i in range(n)])
