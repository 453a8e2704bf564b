"""How far and in which direction each weight is moved."""

from __future__ import annotations

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from kws.train.optimiser import MOMENTUM, STEP_RMS, MuonAdamW, matrices_in, orthogonal  # noqa: E402

RATE = 0.01


@pytest.mark.parametrize("shape", [(5, 5), (3, 40), (40, 3), (1, 7)])
def test_orthogonal_matrices_keep_their_directions_and_lose_their_lengths(
    shape: tuple[int, int],
) -> None:
    """Oracle: the singular value decomposition."""
    rng = np.random.default_rng(0)
    matrices = rng.standard_normal((6, *shape)).astype(np.float32) * 1e-3
    found = np.asarray(orthogonal(matrices))
    u, _, v = np.linalg.svd(matrices, full_matrices=False)
    lengths = np.einsum("nri,nrc,nic->ni", u, found, v)
    assert lengths.min() > 0.3 and lengths.max() < 1.3
    np.testing.assert_allclose(found, np.einsum("nri,ni,nic->nrc", u, lengths, v), atol=2e-3)
    np.testing.assert_array_equal(np.asarray(orthogonal(np.zeros((1, *shape), "float32"))), 0)


@pytest.mark.parametrize(
    ("path", "shape", "matrices"),
    [
        ("conv_0/kernel", (5, 13, 48), 1),
        ("lstm/lstm_cell/kernel", (64, 384), 4),
        ("bilstm/forward_lstm/lstm_cell/recurrent_kernel", (64, 256), 4),
        ("gru/gru_cell/kernel", (80, 288), 3),
        ("dense/kernel", (64, 64), 1),
        ("posteriors/kernel", (96, 12), 0),
        ("phoneme_loss/phonemes/kernel", (96, 40), 0),
        ("conv_0_norm/gamma", (48,), 0),
        ("gru/gru_cell/bias", (2, 288), 0),
        ("depthwise_0/kernel", (3, 3, 64, 1), 0),
    ],
)
def test_muon_is_for_matrices_within_the_network(
    path: str, shape: tuple[int, ...], matrices: int
) -> None:
    assert matrices_in(path, shape) == matrices


def test_every_variable_of_a_network_is_known_by_its_path() -> None:
    """The rule relies on names that Keras gives."""
    layers = keras.layers
    inputs = keras.Input((None, 3))
    x = layers.Conv1D(4, 2, name="conv_0")(inputs)
    x = layers.LSTM(5, return_sequences=True, name="lstm")(x)
    both = layers.Bidirectional(layers.LSTM(5, return_sequences=True, name="lstm"), name="both")
    x = layers.GRU(6, return_sequences=True, name="gru")(both(x))
    network = keras.Model(inputs, layers.Dense(2, name="posteriors")(x))
    found = [matrices_in(v.path, v.shape) for v in network.trainable_variables]
    assert found == [1, 0, 4, 4, 0, 4, 4, 0, 4, 4, 0, 3, 3, 0, 0, 0]


class Layer(keras.layers.Layer):
    """Holds variables of given shapes."""

    def __init__(self, shape: tuple[int, ...], name: str) -> None:
        super().__init__(name=name)
        self.w = self.add_weight(shape=shape, initializer="zeros", name="kernel")


def optimiser(*, muon: bool = True, thaw: int = 0, decay: float = 0.0) -> MuonAdamW:
    return MuonAdamW(RATE, muon=muon, weight_decay=decay, thaw_steps=[thaw])


def moved(layer: Layer, gradients: list[np.ndarray], made: MuonAdamW) -> np.ndarray:
    """Return the variable, which starts at zero, after each step."""
    made.build([layer.w])
    places = []
    for gradient in gradients:
        made.apply([keras.ops.convert_to_tensor(gradient)], [layer.w])
        places.append(np.array(layer.w))
    return np.stack(places)


def test_steps_follow_the_mean_gradient_a_step_ahead() -> None:
    """Computed by hand from the same Newton-Schulz iteration."""
    rng = np.random.default_rng(1)
    first, second = rng.standard_normal((2, 2, 3, 10)).astype(np.float32)
    found = moved(Layer((2, 3, 10), "conv_0"), [first, second], optimiser())
    far = RATE * STEP_RMS * np.sqrt(10)
    mean, place = np.zeros((6, 10)), np.zeros((6, 10))
    for gradient, here in zip((first, second), found, strict=True):
        flat = gradient.reshape(6, 10)
        mean = MOMENTUM * mean + flat
        ahead = (flat + MOMENTUM * mean).astype(np.float32)
        place = place - far * np.asarray(orthogonal(ahead[None]))[0]
        np.testing.assert_allclose(here.reshape(6, 10), place, atol=1e-6)
    # About as long as a step of AdamW.
    assert 0.5 * STEP_RMS < np.sqrt(np.mean(found[0] ** 2)) / RATE < 1.5 * STEP_RMS


def test_each_gate_is_a_matrix_of_its_own() -> None:
    gradient = np.random.default_rng(2).standard_normal((6, 20)).astype(np.float32)
    gradient[:, 5:10] *= 1000  # would drown the others

    class LstmCell(Layer):
        pass

    whole = moved(LstmCell((6, 20), "lstm_cell"), [gradient], optimiser())[0]
    for gate in range(4):
        at = slice(5 * gate, 5 * gate + 5)
        alone = moved(Layer((6, 5), "dense"), [gradient[:, at]], optimiser())[0]
        np.testing.assert_allclose(whole[:, at], alone, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "name", "muon"),
    [
        ((4, 5), "posteriors", True),
        ((4, 5, 1), "depthwise_0", True),
        ((20,), "conv_0_norm", True),
        ((4, 5), "dense", False),
    ],
)
def test_the_answers_and_whatever_is_no_matrix_are_adamws(
    shape: tuple[int, ...], name: str, muon: bool
) -> None:
    """Oracle: Keras' own AdamW. Without Muon, also for the matrices."""
    gradients = [g.astype(np.float32) for g in np.random.default_rng(3).standard_normal((3, 4, 5))]
    of_shape = [g.reshape(shape) for g in gradients]
    ours = moved(Layer(shape, name), of_shape, optimiser(muon=muon, decay=0.1))
    layer, keras_own = Layer(shape, name), keras.optimizers.AdamW(RATE, weight_decay=0.1)
    theirs = []
    for gradient in of_shape:
        keras_own.apply([keras.ops.convert_to_tensor(gradient)], [layer.w])
        theirs.append(np.array(layer.w))
    np.testing.assert_allclose(ours, np.stack(theirs), atol=1e-7)


@pytest.mark.parametrize("name", ["conv_0", "posteriors"])
def test_a_frozen_variable_waits_for_its_step(name: str) -> None:
    gradient = np.ones((3, 4), np.float32)
    layer = Layer((3, 4), name)
    layer.w.assign(gradient)
    found = moved(layer, [gradient] * 3, optimiser(thaw=2, decay=0.1))
    # Not even decayed.
    np.testing.assert_array_equal(found[:2], np.stack([gradient] * 2))
    assert (found[2] < gradient).all()
