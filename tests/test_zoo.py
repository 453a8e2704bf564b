"""The zoo: every architecture is built, trained, exported to int8 and run."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kws.errors import KwsError
from kws.evaluate.posteriors import clip_posteriors
from kws.models import ARCHITECTURES
from kws.network import Network
from kws.recipe import RECIPES, TrainingRecipe, load_recipe
from kws.train.dataset import ClipSet, TrainingData, load_training_data

keras = pytest.importorskip("keras")
tf_keras = pytest.importorskip("tf_keras")

# Small enough to be trained in a second or two.
SIZES = {
    "bc_resnet": "",
    "bilstm": "conv_filters = [8, 8]\nlstm_units = 8\ndense_units = 8",
    "cnn2d": "conv_filters = [8, 8, 8]",
    "cnn_lstm": "conv_filters = [8, 8]\nlstm_units = 8",
    "conv_lstm": "conv_filters = [8, 8]\nlstm_units = 8",
    "conv_lstm_classic": "conv_filters = 8\nlstm_units = 8\ndense_units = 8",
    "ds_cnn": "filters = 8\nblocks = 2",
    "gru": "conv_filters = [8, 8]\ngru_units = 8",
    "lstm": "lstm_units = [8, 8]",
    "raw_cnn": "conv_filters = [8, 8, 8, 8]",
    "res_cnn": "filters = 8\nblocks = 2",
}
FRONT_ENDS = {
    "bc_resnet": 'features = "log_mel"',
    "raw_cnn": 'features = "samples"\nframe_length = 320',
}
STREAMING = {"cnn_lstm", "conv_lstm", "conv_lstm_classic", "lstm"}
NAMES = sorted(ARCHITECTURES)


def write_recipe(folder: Path, architecture: str, front_end: str | None = None) -> Path:
    path = folder / f"{architecture}.toml"
    front_end = FRONT_ENDS.get(architecture, "") if front_end is None else front_end
    context = 2 if architecture in STREAMING else 1
    path.write_text(
        f"""
        [data]
        words = ["yes", "no", "stop"]
        clips = "speech_commands"
        silence_clips = 20
        validation_silence_clips = 10
        [front_end]
        {front_end}
        [model]
        architecture = "{architecture}"
        {SIZES[architecture]}
        [training]
        epochs = 2
        batch_size = 16
        context_clips = {context}
        """
    )
    return path


@pytest.fixture(scope="module")
def data(real_speech: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    recipe = load_recipe(write_recipe(tmp_path_factory.mktemp("recipe"), "conv_lstm"))
    data = load_training_data(recipe, real_speech)

    def third(clips: ClipSet) -> ClipSet:
        return ClipSet(**{name: values[::3] for name, values in vars(clips).items()})

    return dataclasses.replace(
        data,
        training=third(data.training),
        spans=data.spans[::3],
        validation=third(data.validation),
    )


def randomised(network: Any, seed: int = 0) -> dict[str, list[np.ndarray]]:
    """Give a network weights that all have an effect, and return them by layer."""
    rng = np.random.default_rng(seed)

    def drawn(w: np.ndarray) -> np.ndarray:
        # Vectors around their values, positive since variances must be; kernels twice as wide.
        return np.abs(rng.normal(w, 0.3)) if w.ndim == 1 else rng.normal(0, 2 * w.std(), w.shape)

    for layer in network.layers:
        layer.set_weights([drawn(w) for w in layer.get_weights()])
    return {layer.name: layer.get_weights() for layer in network.layers}


def test_there_is_a_test_for_every_architecture() -> None:
    assert sorted(SIZES) == NAMES
    assert {n for n, a in ARCHITECTURES.items() if not a.whole_clip} == STREAMING


@pytest.mark.parametrize("name", NAMES)
def test_an_architecture_is_the_same_in_keras_in_its_twin_and_in_the_folded_twin(
    name: str, tmp_path: Path
) -> None:
    from kws.export.tf_keras_model import fold
    from kws.train.weights import count_parameters

    recipe = load_recipe(write_recipe(tmp_path, name))
    keras.utils.set_random_seed(2)
    network = recipe.build_network(keras, frames=recipe.clip_frames)
    twin = recipe.build_network(tf_keras, frames=recipe.clip_frames)
    folded = recipe.build_network(tf_keras, frames=recipe.clip_frames, folded=True)
    weights = randomised(network)
    for layer in twin.layers:
        layer.set_weights(weights[layer.name])
    arrays = {f"{n}/{i}": w for n, ws in weights.items() for i, w in enumerate(ws)}
    assert count_parameters(network) == folded.count_params()
    left = fold(arrays)
    for layer in folded.layers:
        layer.set_weights(left.pop(layer.name, []))
    assert not left

    shape = (3, recipe.clip_frames, recipe.front_end.n_features)
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    expected = np.log(network(x, training=False))
    assert np.ptp(expected, axis=0).max() > 0.02  # or the comparison would be meaningless
    np.testing.assert_allclose(np.log(twin(x, training=False)), expected, atol=1e-3)
    np.testing.assert_allclose(np.log(folded(x, training=False)), expected, atol=1e-3)
    steps = (recipe.clip_frames - recipe.receptive_field_frames) // recipe.stride_frames + 1
    assert expected.shape == (3, steps, 5)
    assert (steps > 1) == (name in STREAMING)


@pytest.mark.parametrize("name", NAMES)
def test_an_architecture_is_trained_and_exported_to_an_int8_file_that_hears_clips(
    name: str, data: TrainingData, tmp_path: Path
) -> None:
    from kws.export.run import export_run
    from kws.train.loop import train
    from kws.train.run_folder import RunFolder

    recipe = load_recipe(write_recipe(tmp_path, name))
    train(recipe, data, RunFolder(tmp_path / "run"))
    said: list[str] = []
    report = export_run(tmp_path / "run", tmp_path / "model.tflite", say=said.append)
    network = Network(report.path)
    assert network.quantised
    streams = name in STREAMING
    assert network.card.form == ("stream" if streams else "clip")
    assert any("clip form: " in line for line in said) == (not streams)
    if streams:
        assert report.agreement.stream_clip_lsb in (0, 1)
    else:
        assert report.agreement.stream_and_clip.startswith("clip form only: ")
        with pytest.raises(KwsError, match="no stream form"):
            export_run(tmp_path / "run", tmp_path / "model.tflite", form="stream")
    last = report.agreement.forms[-1]
    assert last.mean_difference < 0.02
    assert report.macs_per_second > 0

    # The runner's answers to clips are those that export measured.
    pcm, labels = data.validation.pcm, data.validation.labels
    answers = clip_posteriors(network, pcm).argmax(axis=1)
    assert np.mean(answers == labels) == pytest.approx(last.accuracy)
    longer = np.pad(pcm[:2], [(0, 0), (8000, 8000)])
    assert clip_posteriors(network, longer).shape == (2, 5)


def test_every_recipe_of_the_zoo_builds_its_network_and_differs_from_the_others() -> None:
    recipes = [load_recipe(path.stem) for path in sorted((RECIPES / "zoo").glob("*.toml"))]
    assert {recipe.model.architecture for recipe in recipes} == set(ARCHITECTURES)
    for recipe in recipes:
        assert recipe.build_network(keras).output_shape[-1] == len(recipe.labels.labels)
    for one, other in itertools.combinations(recipes, 2):
        assert (one.model, one.data) != (other.model, other.data)


def test_the_zoo_is_trained_on_the_data_of_the_flagship() -> None:
    flagship = load_recipe("commands_en")
    for path in (RECIPES / "zoo").glob("*.toml"):
        recipe = load_recipe(path.stem)
        assert recipe.augment == flagship.augment
        if path.stem == "teacher":  # it is not compared
            continue
        if path.stem != "wake_word":
            assert recipe.data == flagship.data
        # teacher_weight has no effect without teachers, and networks without are compared.
        weight = flagship.training.teacher_weight
        same = dataclasses.replace(recipe.training, context_clips=2, teacher_weight=weight)
        assert same == flagship.training


def refused(folder: Path, text: str) -> str:
    (folder / "mine.toml").write_text(text)
    with pytest.raises(KwsError) as caught:
        load_recipe(folder / "mine.toml")
    return str(caught.value)


def test_a_network_for_whole_clips_hears_one_clip_at_a_time(tmp_path: Path) -> None:
    model = '[model]\narchitecture = "ds_cnn"\n'
    (tmp_path / "mine.toml").write_text(model)
    recipe: TrainingRecipe = load_recipe(tmp_path / "mine.toml")
    assert recipe.training.context_clips == 1
    said = refused(tmp_path, model + "[training]\ncontext_clips = 4")
    assert "averages over the whole clip" in said and "context_clips must be 1" in said


def test_an_architecture_that_needs_other_features_says_so(tmp_path: Path) -> None:
    assert 'features = "log_mel"' in refused(tmp_path, '[model]\narchitecture = "bc_resnet"')
    assert 'features = "samples"' in refused(tmp_path, '[model]\narchitecture = "raw_cnn"')
    network = ARCHITECTURES["bc_resnet"]()
    with pytest.raises(KwsError, match="multiple of 40 features"):
        network.build(keras, n_features=13, n_labels=3, head="softmax", frames=49)


@pytest.mark.parametrize(
    "text",
    [
        '[model]\narchitecture = "cnn2d"\n[front_end]\nn_mfcc = 3',
        '[model]\narchitecture = "cnn_lstm"\n[front_end]\nn_mfcc = 2',
        'base = "raw_cnn"\n[data]\nclip_ms = 100',
    ],
)
def test_layers_that_are_larger_than_the_features_are_refused_in_one_line(
    text: str, tmp_path: Path
) -> None:
    (tmp_path / "mine.toml").write_text(text)
    recipe = load_recipe(tmp_path / "mine.toml")
    received = rf"{recipe.clip_frames} frames with {recipe.front_end.n_features} features"
    with pytest.raises(KwsError, match=rf"larger than its input\. Received: .*{received}"):
        recipe.build_network(keras)


def test_sizes_that_cannot_be_are_refused_by_name(tmp_path: Path) -> None:
    model = '[model]\narchitecture = "gru"\n'
    assert "gru_units must be 1 or more" in refused(tmp_path, model + "gru_units = 0")
    assert "dropout must be in [0, 1)" in refused(tmp_path, model + "dropout = 1.0")
    assert "one entry for each layer" in refused(tmp_path, model + "conv_kernels = [3]")
