"""Distillation: a network learns the outputs of others at the end of each clip."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tiny_model

from kws.errors import KwsError
from kws.frontend import FrontEndConfig
from kws.recipe import DataConfig, ModelConfig, TrainingConfig, TrainingRecipe
from kws.train.trained import TrainedRun

keras = pytest.importorskip("keras")
pytest.importorskip("tensorflow")

CLIPS = 3
SIZES = {"conv_filters": (6,), "conv_kernels": (4,), "conv_strides": (3,), "lstm_units": 5}
STREAM = ModelConfig(architecture="conv_lstm", sizes=SIZES)
CLIP = ModelConfig(architecture="res_cnn", sizes={"filters": 4, "blocks": 1})


def recipe(model: ModelConfig = STREAM, **data: object) -> TrainingRecipe:
    return TrainingRecipe(
        name="student",
        data=DataConfig(words=("yes", "no"), clip_ms=700, **data),  # type: ignore[arg-type]
        model=model,
        training=TrainingConfig(
            context_clips=1 if model is CLIP else CLIPS, batch_size=CLIPS, teacher_weight=2.0
        ),
    )


def finished(of: TrainingRecipe) -> TrainedRun:
    """An untrained network, whose normalisation is not the student's."""
    from kws.train.weights import network_weights

    keras.utils.set_random_seed(7)
    n = of.front_end.n_features
    return TrainedRun(
        path=Path("teacher"),
        recipe=of,
        recipe_sha256="",
        weights=network_weights(of.build_network(keras)),
        mean=np.linspace(-3, 3, n),
        std=np.linspace(1, 4, n),
        metrics={},
    )


@pytest.fixture(scope="module")
def pcm() -> np.ndarray:
    return (np.random.default_rng(0).standard_normal((2, CLIPS, 11200)) * 3000).astype(np.int16)


@pytest.mark.parametrize("model", [STREAM, CLIP], ids=["stream", "clip"])
def test_a_teacher_says_of_each_clip_what_it_says_of_the_recording(
    model: ModelConfig, pcm: np.ndarray
) -> None:
    """Oracle: the teacher's own network on its own features, clip after clip."""
    from kws.frontend import features_of
    from kws.train.teachers import Teacher
    from kws.train.weights import load_network_weights

    run = finished(recipe(model))
    mean, std = np.full(13, 0.5), np.full(13, 2.0)
    heard = (features_of(pcm.reshape(2, -1), run.recipe.front_end) - mean) / std
    teacher = Teacher(run, recipe(), mean=mean, std=std)
    found = np.asarray(teacher(heard.astype(np.float32)))
    network = run.recipe.build_network(keras)
    load_network_weights(network, run.weights)
    # A streaming network has heard the clips before; one that takes whole clips has not.
    first = range(CLIPS) if model is CLIP else [0] * CLIPS
    for i, start in enumerate(first):
        own = run.features(pcm[:, start : i + 1].reshape(2, -1))
        np.testing.assert_allclose(found[:, i], np.asarray(network(own))[:, -1], atol=1e-4)


def test_a_teacher_takes_whole_clips_that_do_not_begin_with_a_frame(pcm: np.ndarray) -> None:
    from kws.frontend import features_of
    from kws.train.teachers import Teacher

    front_end = FrontEndConfig(hop_length=480)  # a clip is 23 1/3 hops
    student, run = (
        dataclasses.replace(of, front_end=front_end)
        for of in (recipe(), finished(recipe(CLIP)).recipe)
    )
    heard = features_of(pcm.reshape(2, -1), front_end)
    teacher = finished(run)
    layer = Teacher(teacher, student, mean=teacher.mean, std=teacher.std)
    found = np.asarray(layer(heard))
    for i, first in enumerate((0, 23, 46)):
        clip = heard[:, first : first + run.clip_frames]
        np.testing.assert_allclose(found[:, i], layer.network(clip)[:, 0], atol=1e-5)


@pytest.mark.parametrize(("hop_length", "clip_frames"), [(320, 49), (256, 61), (101, 154)])
def test_a_file_teaches_clips_of_as_many_frames_whatever_the_front_end(
    hop_length: int, clip_frames: int, tmp_path: Path
) -> None:
    """Clips of 1000 ms, which the file does not record."""
    from kws.export.load_weights import load_teacher
    from kws.train.trained import check_teachers

    front_end = FrontEndConfig(hop_length=hop_length)
    student = dataclasses.replace(
        recipe(), data=DataConfig(words=("yes", "no")), front_end=front_end
    )
    path = tiny_model.write_tiny(
        tmp_path / "file.tflite",
        front_end=front_end,
        clip_frames=clip_frames,
        labels=student.labels.labels,
    )
    check_teachers([load_teacher(path)], student)


def test_the_loss_grows_by_how_far_the_answers_are_from_the_teachers_and_is_else_the_same() -> None:
    from kws.train.teachers import TaughtAnswers

    posteriors = np.array([[[0.9, 0.1], [0.5, 0.5]], [[0.1, 0.9], [0.8, 0.2]]], np.float32)
    layer = TaughtAnswers(np.array([1], np.int32), weight=3.0)
    taught = np.array([[[0.75, 0.25]], [[0.8, 0.2]]], np.float32)
    np.testing.assert_array_equal(layer(posteriors, taught), posteriors)
    # The second sequence's last step agrees: no divergence there.
    divergence = 0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.5)
    np.testing.assert_allclose(float(layer.losses[0]), 3.0 * divergence / 2, rtol=1e-5)


@pytest.mark.parametrize("model", [STREAM, CLIP], ids=["stream", "clip"])
def test_a_teacher_has_the_features_that_it_was_trained_on(
    model: ModelConfig, pcm: np.ndarray
) -> None:
    """Oracle: the teacher's own network on its own features of the last clip, or of all."""
    from kws.train.targets import sequence_steps
    from kws.train.trainer import build_trainer
    from kws.train.weights import load_network_weights

    log_mel = FrontEndConfig(features="log_mel", frame_length=480, hop_length=160, n_mels=20)
    run = finished(dataclasses.replace(recipe(model), front_end=log_mel))
    student = recipe()
    trainer, _ = build_trainer(
        student, np.zeros(13), np.ones(13), np.ones(40000, np.int16), [run, finished(recipe())]
    )
    ours = np.asarray(trainer([pcm, np.zeros((2, CLIPS, 4), np.float32)]))
    ours = ours[:, sequence_steps(student, CLIPS).last]
    taught = []
    for teacher in (run, finished(recipe())):
        network = teacher.recipe.build_network(keras)
        load_network_weights(network, teacher.weights)
        whole = teacher.recipe.model is CLIP
        clips = [pcm[:, i if whole else 0 : i + 1].reshape(2, -1) for i in range(CLIPS)]
        taught.append([np.asarray(network(teacher.features(clip)))[:, -1] for clip in clips])
    mean = np.mean(taught, axis=0).transpose(1, 0, 2)
    divergence = np.sum(mean * (np.log(mean) - np.log(ours)), axis=-1).mean()
    assert divergence > 1e-3
    np.testing.assert_allclose(float(sum(trainer.losses)), 2.0 * divergence, rtol=1e-3)


def test_a_teacher_may_have_other_features_if_its_clips_are_as_long() -> None:
    from kws.train.trained import check_teachers

    log_mel = FrontEndConfig(features="log_mel", frame_length=480, hop_length=160, n_mels=20)
    other = dataclasses.replace(recipe(), front_end=log_mel)
    check_teachers([finished(other)], recipe())
    longer = dataclasses.replace(other, data=DataConfig(words=("yes", "no"), clip_ms=900))
    with pytest.raises(KwsError, match=r"frames in a clip\. Received: teacher with 88\. .*: 68$"):
        check_teachers([finished(longer)], recipe())


def test_teacher_and_student_hear_the_same_variation(pcm: np.ndarray) -> None:
    from kws.train.layers import TrainingFeatures
    from kws.train.trainer import build_trainer

    seldom = dataclasses.replace(recipe(CLIP), front_end=FrontEndConfig(hop_length=160))
    student = dataclasses.replace(recipe(), seed=5)
    noise = np.ones(40000, np.int16)
    trainer, _ = build_trainer(student, np.zeros(13), np.ones(13), noise, [finished(seldom)])
    layers = [layer for layer in trainer.layers if isinstance(layer, TrainingFeatures)]
    assert len(layers) == 2
    draws = []
    for layer in layers:
        stages = [layer.audio, *layer.spectrum, layer.masks]
        draws.append([np.asarray(stage.uniform((4,), 0.0, 1.0)) for stage in stages])
    np.testing.assert_array_equal(draws[0], draws[1])


def test_only_the_student_is_trained() -> None:
    from kws.train.trainer import build_trainer

    student = recipe()
    noise = np.ones(40000, np.int16)
    teachers = [finished(student), finished(recipe(CLIP))]
    trainer, network = build_trainer(student, np.zeros(13), np.ones(13), noise, teachers)
    names = [v.path for v in network.trainable_variables]
    assert [v.path for v in trainer.trainable_variables] == names
    before = network.count_params()
    assert before == build_trainer(student, np.zeros(13), np.ones(13), noise)[1].count_params()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"data": DataConfig(words=("yes", "go"), clip_ms=700)}, "labels"),
        ({"data": DataConfig(words=("yes", "no"), clip_ms=900)}, "frames in a clip"),
    ],
)
def test_a_teacher_of_something_else_is_refused(changed: dict, said: str) -> None:
    from kws.train.trained import check_teachers

    other = finished(dataclasses.replace(recipe(), **changed))
    with pytest.raises(KwsError, match=f"must have the recipe's {said}. Received: teacher"):
        check_teachers([finished(recipe()), other], recipe())
    check_teachers([finished(recipe())], recipe())
