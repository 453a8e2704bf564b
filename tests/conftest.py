"""Fixtures shared by the tests: where real speech is, and models made once for the session."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Quiet and deterministic: no accelerator, no start-up chatter.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

ROOT = Path(__file__).resolve().parent.parent
SPEECH_ARCHIVES = Path(os.environ.get("KWS_REAL_SPEECH", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def real_speech(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small set of real recordings as WAV: at most 12 for each word or speaker and archive.

    Holds speech_commands/<word>/*.wav, speech_commands/_background_noise_/*.wav,
    sentences/<speaker>/*.wav by every fifth speaker with transcripts.tsv, wake_words/<word>/*.wav.
    Read only: it is kept in pytest's cache from one run to the next.
    """
    unpack = SPEECH_ARCHIVES / "unpack.py"
    if not unpack.exists():
        pytest.skip(
            f"the real recordings are not here (looked in {SPEECH_ARCHIVES}; set KWS_REAL_SPEECH)"
        )
    cache = getattr(pytestconfig, "cache", None)
    cached = cache.mkdir("few_real_recordings") if cache else tmp_path_factory.mktemp("recordings")
    folder = cached / "unpacked"
    if not folder.exists():
        pytest.importorskip("soundfile", reason="unpacking the real recordings needs soundfile")
        # Processes that test side by side may both unpack: whoever is first is taken.
        with tempfile.TemporaryDirectory(dir=cached) as own:
            target = Path(own) / "unpacked"
            command = [sys.executable, str(unpack), str(target), "--limit", "12"]
            subprocess.run(command, check=True, capture_output=True)
            # To find the sounds in sentences takes long, and 25 speakers have all of them.
            speakers = sorted(path for path in (target / "sentences").iterdir() if path.is_dir())
            for number, speaker in enumerate(speakers):
                if number % 5:
                    shutil.rmtree(speaker)
            with contextlib.suppress(OSError):
                target.rename(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe for a network that `real_speech` trains in seconds; others say what they change.

    Such a one begins with ``base = "<this path>"``.
    """
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text("""\
name = "tiny"
[data]
words = ["yes", "no", "stop"]
clips = "speech_commands"
speech = ["sentences"]
silence_clips = 20
validation_silence_clips = 10
[model]
conv_filters = [8, 8]
lstm_units = 8
[training]
epochs = 4
batch_size = 16
warmup_epochs = 0.5
context_clips = 2
""")
    return path


@pytest.fixture(autouse=True, scope="session")
def ctrl_c() -> Iterator[None]:
    """Let Ctrl-C be heard: a shell that starts the tests in the background has them ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the kit's cache folder away from the user's own."""
    patch = pytest.MonkeyPatch()
    patch.setenv("KWS_CACHE", str(tmp_path_factory.mktemp("kws_cache")))
    yield
    patch.undo()
