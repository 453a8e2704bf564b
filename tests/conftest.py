"""Fixtures shared by the tests: where real speech is, and models made once for the session."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Quiet and deterministic: no accelerator, no start-up chatter.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

ROOT = Path(__file__).resolve().parent.parent
SPEECH_ARCHIVES = Path(os.environ.get("KWS_REAL_SPEECH", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def real_speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small set of real recordings as WAV, at most 12 for each word or speaker and archive.

    Holds speech_commands/<word>/*.wav, speech_commands/_background_noise_/*.wav,
    sentences/<speaker>/*.wav with transcripts.tsv, wake_words/<word>/*.wav.
    """
    unpack = SPEECH_ARCHIVES / "unpack.py"
    if not unpack.exists():
        pytest.skip(
            f"the real recordings are not here (looked in {SPEECH_ARCHIVES}; set KWS_REAL_SPEECH)"
        )
    target = tmp_path_factory.mktemp("real_speech")
    subprocess.run(
        [sys.executable, str(unpack), str(target), "--limit", "12"], check=True, capture_output=True
    )
    return target
