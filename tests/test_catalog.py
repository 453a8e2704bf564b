"""The dataset recipes: the shipped ones are sound, faulty ones are named with file and key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kws.data.fetch.catalog import (
    dataset_names,
    list_dataset_recipes,
    load_dataset_recipe,
)
from kws.errors import KwsError

GOOD = {
    "name": '"mine"',
    "title": '"My words"',
    "description": '"Two words."',
    "urls": '["https://example.org/data/mine.tar.gz"]',
    "size_bytes": "1000",
    "sha256": '"' + "0a" * 32 + '"',
    "unpacked_limit_bytes": "5000",
    "licence": '"CC0-1.0"',
    "citation": '"Me, 2024"',
    "homepage": '"https://example.org"',
    "sample_rate_hz": "16000",
    "labels": '["yes", "no"]',
    "split": '"speaker_hash"',
    "layout": '"<word>/<speaker>_nohash_<n>.wav"',
}


def write(folder: Path, **changes: str | None) -> Path:
    values = {**GOOD, **changes}
    path = folder / "mine.toml"
    path.write_text("".join(f"{key} = {value}\n" for key, value in values.items() if value))
    return path


def test_the_five_data_sets_are_known() -> None:
    assert dataset_names() == [
        "background_noise",
        "speech_commands_test_v0.01",
        "speech_commands_test_v0.02",
        "speech_commands_v0.01",
        "speech_commands_v0.02",
    ]
    assert [recipe.name for recipe in list_dataset_recipes()] == dataset_names()


@pytest.mark.parametrize(
    ("name", "size_bytes", "sum_starts", "n_labels"),
    [
        # From TensorFlow Datasets, torchaudio and Hugging Face Datasets: see datasets/README.md.
        ("speech_commands_v0.01", 1_489_096_277, "743935421bb51ccc", 30),
        ("speech_commands_v0.02", 2_428_923_189, "af14739ee7dc3114", 35),
        ("speech_commands_test_v0.01", 71_271_436, "baa084f6b62c91de", 12),
        ("speech_commands_test_v0.02", 112_563_277, "cc2a00c1147c2254", 12),
    ],
)
def test_the_archives_are_those_that_others_published_sums_of(
    name: str, size_bytes: int, sum_starts: str, n_labels: int
) -> None:
    recipe = load_dataset_recipe(name)
    assert recipe.size_bytes == size_bytes
    assert recipe.sha256 is not None
    assert recipe.sha256.startswith(sum_starts)
    assert len(recipe.labels) == n_labels
    assert recipe.licence == "CC-BY-4.0"
    assert recipe.sample_rate_hz == 16000
    # One clip of a second is 32,044 bytes; the limit must let all of them through.
    assert recipe.clips is not None
    assert recipe.unpacked_limit_bytes > recipe.clips * 32_044


@pytest.mark.parametrize("name", dataset_names())
def test_every_recipe_says_where_its_facts_are_from(name: str) -> None:
    recipe = load_dataset_recipe(name)
    assert recipe.facts_from
    assert recipe.urls[0].startswith("https://")
    assert len({url.rpartition("/")[2] for url in recipe.urls}) == 1


def test_background_noise_is_a_part_of_a_data_set_that_is_known() -> None:
    noise = load_dataset_recipe("background_noise")
    assert noise.part_of is not None
    whole = load_dataset_recipe(noise.part_of)
    assert (noise.urls, noise.size_bytes, noise.sha256) == (
        whole.urls,
        whole.size_bytes,
        whole.sha256,
    )


def test_a_recipe_of_ones_own_is_read_from_its_path(tmp_path: Path) -> None:
    recipe = load_dataset_recipe(str(write(tmp_path)))
    assert recipe.labels == ("yes", "no")
    assert recipe.archive_name == "mine.tar.gz"
    assert recipe.include == ()
    assert recipe.clips is None


def test_a_recipe_without_a_sum_must_say_why(tmp_path: Path) -> None:
    with pytest.raises(KwsError, match="'unverified_because' must be given if there is no"):
        load_dataset_recipe(write(tmp_path, sha256=None))
    because = '"its makers publish none"'
    recipe = load_dataset_recipe(write(tmp_path, sha256=None, unverified_because=because))
    assert recipe.sha256 is None
    with pytest.raises(KwsError, match="and only then"):
        load_dataset_recipe(write(tmp_path, unverified_because=because))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", '"other"'),
        ("name", '"../mine"'),
        ("title", '"  "'),
        ("title", "5"),
        ("urls", "[]"),
        ("urls", '["ftp://example.org/mine.tar.gz"]'),
        ("urls", '["https://example.org/"]'),
        ("urls", '"https://example.org/mine.tar.gz"'),
        ("size_bytes", "0"),
        ("size_bytes", "true"),
        ("size_bytes", "1.5"),
        ("sha256", '"0a0a"'),
        ("sha256", '"' + "0A" * 32 + '"'),
        ("unpacked_limit_bytes", "-1"),
        ("labels", "[]"),
        ("labels", '["yes", "yes"]'),
        ("labels", '["yes", 1]'),
        ("split", '"by moon phase"'),
    ],
)
def test_a_faulty_value_is_one_line_with_file_key_and_value(
    tmp_path: Path, key: str, value: str
) -> None:
    path = write(tmp_path, **{key: value})
    with pytest.raises(KwsError, match=f"mine.toml: key '{key}' must .* Received: ") as caught:
        load_dataset_recipe(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", [key for key in GOOD if key not in ("size_bytes", "sha256")])
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    with pytest.raises(KwsError, match=f"mine.toml: key '{key}' is missing"):
        load_dataset_recipe(write(tmp_path, **{key: None}))


def test_a_misspelt_key_is_named_with_the_right_one(tmp_path: Path) -> None:
    with pytest.raises(KwsError, match=r"unknown key 'license'\. Did you mean 'licence'"):
        load_dataset_recipe(write(tmp_path, license='"MIT"'))


@pytest.mark.parametrize("content", [b"name = ", b"\xff\xfe", b"[[["])
def test_what_is_no_toml_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(KwsError, match=re.escape(f"{path}: is not valid TOML")) as caught:
        load_dataset_recipe(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_an_unknown_name_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(KwsError, match="cannot be read: No such file"):
        load_dataset_recipe(tmp_path / "none.toml")
    with pytest.raises(KwsError, match=r"Did you mean 'speech_commands_v0\.02'"):
        load_dataset_recipe("speech_comands_v0.02")
    with pytest.raises(KwsError, match="There are: background_noise, "):
        load_dataset_recipe("xyz")
