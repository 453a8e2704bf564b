"""Verification: equal on real speech, and a single changed bit is detected."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from firmware_export.boards.build import missing_tools
from firmware_export.boards.cores import HOST
from firmware_export.differences import Clip, compare
from firmware_export.emit import generate
from firmware_export.verification import CoreResult, Verification
from firmware_export.verification_records import (
    ClipTrace,
    FirmwareEvent,
    pack_clips,
    unpack_records,
)
from firmware_export.verify import verify
from kws.audio.files import read_audio, write_wav
from kws.errors import KwsError
from kws.evaluate.clips import evaluate_folder
from kws.model_file import resolve_model

MODEL = "commands_en"
WORDS = ("yes", "no", "stop", "bed")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if missing := missing_tools(HOST):
        pytest.skip(missing)
    folder = tmp_path_factory.mktemp("firmware") / "library"
    generate(MODEL, folder)
    return folder


@pytest.fixture(scope="module")
def clips(real_speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six real clips of each of a few words."""
    folder = tmp_path_factory.mktemp("clips")
    for word in WORDS:
        (folder / word).mkdir()
        for path in sorted((real_speech / "speech_commands" / word).glob("*.wav"))[:6]:
            shutil.copy(path, folder / word)
    return folder


@pytest.fixture(scope="module")
def stream(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same clips in a row, some clipped and some almost silent."""
    parts = [read_audio(path) for path in sorted(clips.rglob("*.wav"))]
    gains = [1, 20, 1, 0.003]
    loud = [np.clip(pcm * gains[i % 4], -32768, 32767) for i, pcm in enumerate(parts)]
    path = tmp_path_factory.mktemp("stream") / "stream.wav"
    write_wav(path, np.concatenate(loud).astype(np.int16), 16000)
    return path


@pytest.fixture(scope="module")
def verified(library: Path, clips: Path, stream: Path) -> Verification:
    return verify(MODEL, library, clips, stream=stream, cores=["host"])


def changed(library: Path, to: Path, file: str, pattern: str, replacement: str) -> Path:
    """A copy of the library with one place in its sources changed."""
    shutil.copytree(library, to)
    path = to / "src" / file
    text, n = re.subn(pattern, replacement, path.read_text(), count=1)
    assert n == 1
    path.write_text(text)
    return to


def test_on_real_speech_c_computes_what_python_computes(verified: Verification) -> None:
    (host,) = verified.cores
    assert verified.equal, host.first_difference
    assert (host.clips, host.warnings) == (25, "")
    assert host.steps > 24 * 20 and host.events > 5
    assert host.differing == {"features": 0, "posteriors": 0, "events": 0}
    assert "all" in "\n".join(verified.lines())


def test_it_stays_equal_under_the_sanitizers(library: Path, clips: Path) -> None:
    flags = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    try:
        result = verify(MODEL, library, clips, limit=3, cores=["host"], optimise="-O1", flags=flags)
    except KwsError as error:
        pytest.skip(f"no sanitizers here: {error}")
    assert result.equal, result.lines()


def test_the_runners_accuracy_is_that_of_evaluate(verified: Verification, clips: Path) -> None:
    assert verified.runner_accuracy == evaluate_folder(MODEL, clips).accuracy
    (host,) = verified.cores
    assert host.accuracy is not None and verified.runner_accuracy is not None
    # The front ends differ in the last bits, which may change the answer to a borderline clip.
    assert abs(host.accuracy - verified.runner_accuracy) * 24 <= verified.answers_changed


def test_it_detects_in_the_stream_what_the_runner_detects(verified: Verification) -> None:
    assert verified.stream_s > 20
    assert verified.runner_events >= verified.events_alike >= 0.9 * verified.runner_events > 0


# The last weight of a layer: changing some others by one step would change no posterior.
@pytest.mark.parametrize(
    "layer", ["conv_0", "conv_1", "lstm_0_input", "lstm_0_hidden", "fully_connected_0"]
)
def test_one_weight_that_is_off_by_one_is_noticed(
    layer: str, library: Path, clips: Path, tmp_path: Path
) -> None:
    other = changed(
        library,
        tmp_path / "other",
        "kws_model.c",
        rf"(static const int8_t {layer}_weights\[\d+\] = \{{[^}}]*\s)(-?\d+)(,?\s*\}};)",
        lambda found: f"{found[1]}{int(found[2]) - (1 if int(found[2]) > 0 else -1)}{found[3]}",  # type: ignore[arg-type]
    )
    result = verify(MODEL, other, clips, cores=["host"])
    (host,) = result.cores
    assert not result.equal
    assert host.differing["features"] == 0 and host.differing["posteriors"] > 0
    assert re.search(r"wav, step \d+, value \d+: C has -?\d+, Python -?\d+", host.first_difference)
    assert host.first_difference in "\n".join(result.lines())


def test_one_table_entry_that_is_off_by_one_is_noticed(
    library: Path, clips: Path, tmp_path: Path
) -> None:
    other = changed(
        library,
        tmp_path / "other",
        "kws_input_tables.c",
        r"(const int32_t \w*centre\w*\[\w+\] = \{\s*)(-?\d+),",
        lambda found: f"{found[1]}{int(found[2]) + 65536},",  # type: ignore[arg-type]
    )
    result = verify(MODEL, other, clips, limit=4, cores=["host"])
    assert not result.equal and result.cores[0].differing["features"] > 0
    assert "int8 frame" in result.cores[0].first_difference


def test_another_threshold_is_noticed_in_the_events_alone(
    library: Path, stream: Path, tmp_path: Path
) -> None:
    generate(MODEL, tmp_path / "other", thresholds=0.3)
    result = verify(MODEL, tmp_path / "other", stream=stream, cores=["host"])
    (host,) = result.cores
    assert not result.equal and host.differing["events"] > 0
    assert host.differing["features"] == host.differing["posteriors"] == 0
    assert "event" in host.first_difference


def test_the_deviation_of_other_kernels_is_reported(library: Path, clips: Path) -> None:
    content = resolve_model(MODEL).read_bytes()
    result = verify(MODEL, library, clips, cores=["host"], content=content)
    assert result.equal and result.other_kernels is not None
    assert result.other_kernels.steps == result.cores[0].steps
    run = [check for check in result.other_kernels.checks if not check.not_checked]
    assert run and all(check.largest_difference <= 8 for check in run)
    assert any("LSB" in line or "bit for bit" in line for line in result.lines())


def test_other_kernels_hear_the_stream_as_well_as_the_clips(
    library: Path, clips: Path, stream: Path
) -> None:
    content = resolve_model(MODEL).read_bytes()
    result = verify(MODEL, library, clips, stream=stream, cores=["host"], content=content)
    assert result.other_kernels is not None
    assert result.other_kernels.steps == result.cores[0].steps


def test_nothing_to_compare_on_is_refused(library: Path) -> None:
    with pytest.raises(KwsError, match="neither clips nor a stream"):
        verify(MODEL, library)


def test_a_folder_without_a_library_is_refused(clips: Path, tmp_path: Path) -> None:
    if missing := missing_tools(HOST):
        pytest.skip(missing)
    with pytest.raises(KwsError, match="no generated library"):
        verify(MODEL, tmp_path, clips, cores=["host"])


def trace(**changes: object) -> ClipTrace:
    values: dict[str, object] = {
        "mfcc_q16": np.arange(26, dtype=np.int32).reshape(2, 13),
        "inputs": np.zeros((2, 13), np.int8),
        "posteriors": np.zeros((1, 12), np.int8),
        "events": (FirmwareEvent(keyword=1, score_q15=2, time_samples=3),),
    }
    return ClipTrace(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("other", "value", "said"),
    [
        (
            {"mfcc_q16": np.zeros((1, 13), np.int32)},
            "features",
            "frames: C has 1, Python 2",
        ),
        ({"posteriors": np.eye(1, 12, 3, dtype=np.int8)}, "posteriors", "step 0, value 3: C has 1"),
        ({"events": ()}, "events", "event 0: C has None"),
    ],
)
def test_the_first_difference_is_reported_in_full(
    other: dict[str, object], value: str, said: str
) -> None:
    result = CoreResult(core="m4", title="Cortex-M4")
    clip = Clip(name="yes/a.wav", pcm=np.zeros(0, np.int16))
    compare(result, [clip, clip], [trace(), trace()], [trace(), trace(**other)])
    assert not result.equal
    assert result.differing[value] == 1
    assert said in result.first_difference and "yes/a.wav" in result.first_difference


def test_a_core_that_was_skipped_is_neither_equal_nor_silent() -> None:
    skipped = CoreResult(core="m7", title="Cortex-M7", skipped="no qemu-system-arm")
    result = Verification(
        model="m",
        runtime="r",
        cores=(skipped,),
        clips=0,
        stream_s=0.0,
        runner_accuracy=None,
        answers_changed=0,
        runner_events=0,
        events_alike=0,
        other_kernels=None,
    )
    assert not result.equal and not result.to_dict()["cores"][0]["equal"]
    assert any("Cortex-M7: SKIPPED, no qemu-system-arm" in line for line in result.lines())


def test_clips_are_packed_as_the_program_reads_them() -> None:
    content = pack_clips([np.array([1, -2], np.int16), np.array([], np.int16)])
    assert content == b"KWSI\2\0\0\0\2\0\0\0\1\0\xfe\xff\0\0\0\0"


def test_records_that_are_cut_off_anywhere_are_refused() -> None:
    head = b"KWSO" + np.array([512, 320, 1, 2, 99], "<u4").tobytes()
    frame = b"F" + np.array([-5], "<i4").tobytes() + b"\x07"
    event = b"E" + np.array([1, 2], "<u2").tobytes() + np.array([3], "<u8").tobytes()
    whole = head + b"C" + frame + b"P\x01\xff" + event + b"Z"
    records = unpack_records(whole)
    (clip,) = records.clips
    assert (records.state_bytes, records.hop_length) == (99, 320)
    assert clip.mfcc_q16.tolist() == [[-5]] and clip.inputs.tolist() == [[7]]
    assert clip.posteriors.tolist() == [[1, -1]]
    assert clip.events == (FirmwareEvent(keyword=1, score_q15=2, time_samples=3),)
    for n in range(len(whole)):
        with pytest.raises(KwsError):
            unpack_records(whole[:n])
    with pytest.raises(KwsError):
        unpack_records(head + b"C?" + whole)
