"""The models that come with the kit, on real recordings that they were not trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kws.after_wake import AfterWake
from kws.audio.files import read_audio
from kws.data.arrays import fit_clip
from kws.data.labels import COMMANDS
from kws.data.scan import scan
from kws.evaluate.clips import evaluate_arrays
from kws.model_file import load_model, resolve_model
from kws.network import Network
from kws.recipe import load_recipe
from kws.spotter import Spotter

# Of the few recordings of "computer" here, those that are among the half kept for measuring.
NOT_TRAINED_ON = ("04685ec1", "07542e8f", "08fb146a", "0b62c269", "0c990922", "0cefaa42")


@pytest.fixture(scope="module")
def heard(real_speech: Path) -> tuple[np.ndarray, list[str]]:
    """Validation clips, at most 12 of each word: int16 [n, 16000] and their words."""
    index = scan(real_speech / "speech_commands").select(split="validation")
    clips = [fit_clip(read_audio(index.root / path), 16000) for path in index.paths]
    return np.stack(clips), index.words


def test_the_file_is_small_int8_and_streams() -> None:
    card, network = load_model("commands_en"), Network("commands_en")
    assert resolve_model("commands_en").stat().st_size <= 150_000
    assert network.quantised
    assert card.form == "stream"
    assert card.keywords == COMMANDS
    assert set(card.labels) == {*COMMANDS, "_silence_", "_unknown_"}
    assert card.provenance["recipe"]


def test_it_answers_clips_of_unheard_speakers(heard: tuple[np.ndarray, list[str]]) -> None:
    """A few hundred clips: the README has the figure for all; this notices a broken file."""
    pcm, words = heard
    assert len(words) > 150
    assert evaluate_arrays(Network("commands_en"), pcm, words).accuracy > 0.88


def test_words_laid_into_a_stream_are_heard(heard: tuple[np.ndarray, list[str]]) -> None:
    from kws.data.streams.short_stream import lay_stream
    from kws.recordings.matching import match_events

    pcm, words = heard
    said = [(word, clip) for word, clip in zip(words, pcm, strict=True) if word in COMMANDS]
    noise = np.random.default_rng(0).normal(0, 1000, 160_000).astype(np.int16)
    stream, truth = lay_stream(said, noise, snr_db=(15, 25), seed=1)
    events = Spotter("commands_en").feed(stream)
    matches = match_events(truth, events, duration_s=len(stream) / 16000)
    assert len(matches.hits) / matches.words > 0.8


@pytest.mark.parametrize(
    ("wake_word", "commands"), [("computer", "commands_en"), ("computer_s", "commands_en_s")]
)
def test_the_wake_word_is_heard_and_lets_the_command_after_it_count(
    wake_word: str, commands: str, real_speech: Path, heard: tuple[np.ndarray, list[str]]
) -> None:
    recordings = [
        path
        for path in sorted((real_speech / "wake_words" / "computer").glob("*.wav"))
        if path.name.startswith(NOT_TRAINED_ON)
    ]
    assert len(recordings) == len(NOT_TRAINED_ON)
    pcm, words = heard
    said = [clip for word, clip in zip(words, pcm, strict=True) if word in ("left", "stop")]
    woken, counted = [], []
    for recording, command in zip(recordings, said, strict=False):
        wake = read_audio(recording)
        events = AfterWake(wake_word, commands).feed(np.concatenate([wake, command, 0 * wake]))
        woken.append([event.keyword for event in events[:1]])
        counted.append([event.keyword for event in events[1:]])
        assert AfterWake(wake_word, commands).feed(np.tile(command, 2)) == []
    assert woken.count(["computer"]) >= 5
    assert sum(words in (["left"], ["stop"]) for words in counted) >= 5
    for recording in sorted((real_speech / "wake_words" / "snowboy").glob("*.wav")):
        assert Spotter(wake_word).feed(read_audio(recording)) == []


def test_a_wake_word_and_its_commands_fit_into_100_kb_together() -> None:
    sizes = [resolve_model(name).stat().st_size for name in ("computer_s", "commands_en_s")]
    assert sum(sizes) < 100_000 and Network("computer_s").quantised
    assert load_model("computer_s").keywords == load_model("computer").keywords == ("computer",)
    assert load_recipe("computer_s").labels == load_recipe("computer").labels


def test_words_of_ones_own_carry_the_licence_of_the_weights_they_start_from() -> None:
    recipe = load_recipe("own_words")
    assert recipe.license == load_model(recipe.training.start).license == "CC-BY-4.0"


def test_words_of_ones_own_start_from_a_network_of_the_flagships_sizes() -> None:
    start, recipe = load_recipe("own_words").training.start, load_recipe("own_words")
    card, network = load_model(start), Network(start)
    assert network.quantised and card.front_end == recipe.front_end
    assert card.receptive_field_frames == recipe.receptive_field_frames
    assert card.license == "CC-BY-4.0"


def test_a_folder_of_its_name_is_not_taken_for_a_run_to_start_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorflow")
    from kws.export.load_weights import load_start, load_teacher

    (tmp_path / "own_words_start").mkdir()  # such as `kws firmware own_words_start` may write
    monkeypatch.chdir(tmp_path)
    card = load_model("own_words_start")
    assert load_start("own_words_start").labels == card.labels
    assert load_teacher("own_words_start").recipe.labels.labels == card.labels
