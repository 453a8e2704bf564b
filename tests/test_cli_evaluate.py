"""`kws evaluate` as users run it: results on stdout, talk on stderr, one line for each failure."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tiny_model

from kws.audio.files import read_audio, write_wav
from kws.cli import run
from kws.cli.evaluate import _trade_off
from kws.decide import DecisionConfig
from kws.recordings.curve import Curve, Point
from kws.spotter import Spotter

RATE = 16000


def sound(seed: int, samples: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    level = np.interp(np.arange(samples), np.linspace(0, samples, 9), rng.uniform(50, 4000, 9))
    return np.clip(level * rng.standard_normal(samples), -32768, 32767).astype(np.int16)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    decision = DecisionConfig(thresholds={"yes": 0.3, "no": 0.3}, smoothing_ms=80, release=1.0)
    path = tmp_path_factory.mktemp("model") / "tiny.tflite"
    return str(tiny_model.write_tiny(path, decision=decision))


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    for i, (word, n) in enumerate({"yes": 6, "no": 5, "tree": 7}.items()):
        for j in range(n):
            write_wav(folder / word / f"{j}.wav", sound(100 * i + j, RATE), RATE)
    return folder


@pytest.fixture
def recording(tmp_path: Path, model: str) -> tuple[str, str]:
    """A minute in which about half of what fires was said."""
    pcm = np.concatenate([sound(seed, RATE) for seed in range(60)])
    write_wav(tmp_path / "long.wav", pcm, RATE)
    events = Spotter(model).feed(pcm)
    assert len(events) > 10
    rows = ["start_s\tend_s\tkeyword"]
    rows += [f"{max(0, e.time_s - 0.4)}\t{e.time_s - 0.1}\t{e.keyword}" for e in events[1::2]]
    (tmp_path / "long.tsv").write_text("\n".join(rows))
    return str(tmp_path / "long.wav"), str(tmp_path / "long.tsv")


def test_json_is_one_object_that_adds_up(
    model: str, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", model, str(clips), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["clips"] == 18
    assert result["labels"] == ["_silence_", "_unknown_", "yes", "no"]
    matrix = np.array(result["confusion"])
    assert matrix.sum(axis=1).tolist() == [0, 7, 6, 5]
    assert result["accuracy"] == matrix.trace() / 18
    low, high = result["accuracy_interval_95"]
    assert low <= result["accuracy"] <= high
    for i, label in enumerate(result["labels"]):
        figures = result["per_label"][label]
        assert figures["clips"] == matrix[i].sum()
        assert figures["correct"] == matrix[i, i]
        if figures["clips"]:
            assert figures["recall"] == matrix[i, i] / matrix[i].sum()
    assert result["model"] == model
    assert result["runtime"].split()[0] in ("ai-edge-litert", "tflite-runtime", "tensorflow")
    assert result["seconds"] > 0


def test_people_get_a_table_and_the_worst_confusions(
    model: str, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", model, str(clips)]) == 0
    captured = capsys.readouterr()
    assert "18 clips" in captured.out
    assert "95 % interval" in captured.out
    rows = [line.split()[:2] for line in captured.out.splitlines()]
    assert ["yes", "6"] in rows
    assert ["_unknown_", "7"] in rows
    assert "most frequent confusions" in captured.out
    assert "taken for" in captured.out
    assert "counted as _unknown_: tree" in captured.err


def test_the_confusion_matrix_is_drawn_on_request(
    model: str, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "confusion.png"
    assert run(["evaluate", model, str(clips), "--plot", str(picture), "--json"]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    captured = capsys.readouterr()
    json.loads(captured.out)
    assert f"wrote {picture}" in captured.err


@pytest.mark.skipif(sys.platform != "linux", reason="needs file names that are not UTF-8")
def test_json_is_valid_even_if_a_file_name_is_not_utf_8(
    model: str, clips: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    for i in range(6):
        (clips / "yes" / f"{i}.wav").rename(clips / "yes" / f"{i}\udcff.wav")
    assert run(["evaluate", model, str(clips), "--json"]) == 0
    printed = capsysbinary.readouterr().out.decode("utf-8")
    assert json.loads(printed)["clips"] == 18
    assert "\\udcff.wav" in printed


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """A recording whose last fifth is two seconds."""
    write_wav(tmp_path / "noise" / "hum.wav", sound(1000, 10 * RATE), RATE)
    return tmp_path / "noise"


def test_noise_adds_a_table_a_curve_and_a_key_and_leaves_the_rest_alone(
    model: str, clips: Path, noise: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    assert run(["evaluate", model, str(clips), "--json"]) == 0
    without = json.loads(capsys.readouterr().out)
    picture = tmp_path / "noise.png"
    common = ["evaluate", model, str(clips), "--noise", str(noise), "--noise-plot", str(picture)]
    assert run([*common, "--json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert f"wrote {picture}" in captured.err
    assert "the last 20 % of 1 recording, 2 s" in captured.err
    for key in without.keys() - {"seconds", "notes", "in_noise"}:
        assert result[key] == without[key]
    assert [noisy["snr_db"] for noisy in result["in_noise"]] == [20, 10, 5, 0]

    assert run(common) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    at = lines.index(["SNR,", "dB", "accuracy", "95", "%", "interval", "points", "lost"])
    table = lines[at + 1 : at + 6]
    assert [row[0] for row in table] == ["clean", "20", "10", "5", "0"]
    for row, noisy in zip(table[1:], result["in_noise"], strict=True):
        assert row[1] == f"{100 * noisy['accuracy']:.1f}"
        low, high = noisy["accuracy_interval_95"]
        assert [row[3], row[6]] == [f"{100 * low:.1f}", f"{100 * high:.1f}"]
        assert row[-1] == f"{noisy['points_lost']:.1f}"


def test_other_ratios_and_another_seed_can_be_asked_for(
    model: str, clips: Path, noise: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["evaluate", model, str(clips), "--noise", str(noise), "--json"]
    shown = []
    for seed in ("0", "0", "7"):
        assert run([*common, "--snr", "-5", "--snr", "3", "--seed", seed]) == 0
        shown.append(json.loads(capsys.readouterr().out)["in_noise"])
    assert [noisy["snr_db"] for noisy in shown[0]] == [3, -5]
    assert shown[0] == shown[1] != shown[2]


def test_unreadable_clips_are_named_one_line_each_and_the_rest_counted(
    model: str, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(8):
        (clips / "yes" / f"bad{i}.wav").write_text("text")
    assert run(["evaluate", model, str(clips)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert [f"bad{i}.wav" in lines[i] for i in range(5)] == [True] * 5
    assert "3 more" in lines[5]
    assert "8 of 26 clips cannot be read" in lines[6]
    assert len(lines) == 7

    assert run(["evaluate", model, str(clips), "--skip-bad", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["clips"] == 18
    assert "bad0.wav" in captured.err


def test_a_recording_gives_the_promised_figures(
    model: str, recording: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    audio, labels = recording
    assert run(["evaluate", model, "--stream", audio, "--labels", labels, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    n_words = len(Path(labels).read_text().splitlines()) - 1
    assert result["hits"] == n_words
    assert result["misses"] == result["substitutions"] == 0
    assert result["false_accepts"] == result["events"] - n_words > 0
    assert result["hours"] == pytest.approx(1 / 60)
    assert result["false_accepts_per_hour"] == pytest.approx(60 * result["false_accepts"])
    assert result["false_reject_rate"] == 0
    # Each word was labelled to end 0.1 s before its event.
    assert result["latency_ms"] == {"median": 100.0, "p95": 100.0}

    assert run(["evaluate", model, "--stream", audio, "--labels", labels]) == 0
    shown = capsys.readouterr().out
    assert f"{n_words} words: {n_words} detected, 0 missed" in shown
    assert "median 100 ms" in shown


def test_a_recording_is_measured_with_another_threshold(
    model: str, recording: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    audio, labels = recording
    given = ["evaluate", model, "--stream", audio, "--labels", labels, "--json"]
    assert run([*given, "--threshold", "0.5"]) == 0
    result = json.loads(capsys.readouterr().out)
    alone = Spotter(model, thresholds=0.5)
    pcm = np.concatenate([read_audio(audio), np.zeros(8000, np.int16)])
    assert result["events"] == len(alone.feed(pcm)) > 0
    assert set(result["curves"]["all"]["own"]["thresholds"].values()) == {0.5}
    assert run([*given[:2], str(Path(audio).parent), "--threshold", "0.5"]) == 2
    assert "--threshold is for recordings" in capsys.readouterr().err


def test_the_time_line_begins_before_the_first_mistake(
    model: str, recording: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    audio, labels = recording
    picture = tmp_path / "line.svg"
    common = ["evaluate", model, "--stream", audio, "--labels", labels, "--plot", str(picture)]
    assert run([*common, "--span", "6"]) == 0
    assert "0 to 6 s:" in picture.read_text()
    assert run([*common, "--span", "6", "--from", "30"]) == 0
    assert "30 to 36 s:" in picture.read_text()
    # A mistake close to the end is shown with as much before it as fits.
    rows = Path(labels).read_text().splitlines()
    late = tmp_path / "late.tsv"
    events = Spotter(model).feed(read_audio(audio))
    rows[1:] = [f"{max(0, e.time_s - 0.4)}\t{e.time_s - 0.1}\t{e.keyword}" for e in events]
    late.write_text("\n".join([*rows, "59.8\t59.9\tyes", "59.9\t59.95\tyes"]))
    common[common.index(labels)] = str(late)
    assert run([*common, "--span", "6"]) == 0
    assert "54 to 60 s:" in picture.read_text()


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("fault", ["no audio there", "a folder in the way"])
def test_a_picture_that_cannot_be_made_does_not_cost_the_figures(
    fault: str,
    as_json: bool,
    model: str,
    clips: Path,
    recording: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "line.png"
    on_stream = ["--stream", recording[0], "--labels", recording[1], "--plot", str(picture)]
    if fault == "no audio there":
        commands = [[*on_stream, "--from", "61"]]
        complaint = "61.00 to 81.00 s, where there is no audio. The audio is 0.00 to 60.00 s"
    else:
        picture.mkdir()
        det = [*on_stream[:4], "--det", str(picture)]
        commands = [on_stream, det, [str(clips), "--plot", str(picture)]]
        complaint = "line.png"
    for command in commands:
        assert run(["evaluate", model, *command, *(["--json"] if as_json else [])]) == 1
        captured = capsys.readouterr()
        assert complaint in captured.err.splitlines()[-1]
        if as_json:
            assert "false_accepts" in json.loads(captured.out) or command[0] == str(clips)
        else:
            assert "95 % interval" in captured.out


def test_one_thing_is_counted_in_the_singular(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pcm = np.concatenate([sound(seed, RATE) for seed in range(60)])
    first = Spotter(model).feed(pcm)[0]
    write_wav(tmp_path / "short.wav", pcm[: round((first.time_s + 0.05) * RATE)], RATE)
    row = f"0\t{first.time_s}\t{first.keyword}"
    (tmp_path / "one.tsv").write_text(f"start_s\tend_s\tkeyword\n{row}\n")
    short = ["--stream", str(tmp_path / "short.wav"), "--labels", str(tmp_path / "one.tsv")]
    assert run(["evaluate", model, *short]) == 0
    shown = capsys.readouterr().out
    assert "\n1 word: 1 detected, 0 missed" in shown
    assert "\n1 event: 0 false accepts, " in shown
    write_wav(tmp_path / "clips" / "yes" / "0.wav", pcm[:RATE], RATE)
    assert run(["evaluate", model, str(tmp_path / "clips")]) == 0
    assert ": 1 clip in " in capsys.readouterr().out


def point_of(thresholds: dict[str, float], *, shift: float = 0.0, rejected: int = 1) -> Point:
    return Point(
        shift=shift,
        thresholds=thresholds,
        words=9,
        rejected=rejected,
        false_accepts=2,
        hours=1.0,
    )


def curve_of(*points: Point, name: str = "all") -> Curve:
    return Curve(name=name, points=points, own=points[0])


@pytest.mark.parametrize(
    ("no", "shown"), [(0.5, "thresholds of 0.50"), (0.7, "thresholds of 0.50 to 0.70")]
)
def test_the_thresholds_of_the_lowest_error_rate_are_named(no: float, shown: str) -> None:
    better = point_of({"yes": 0.5, "no": no}, shift=-1.0, rejected=1)
    worse = point_of({"yes": 0.9, "no": 0.9}, rejected=4)
    assert f"Lowest command error rate: 33.3 %, with {shown}" in _trade_off(
        {"all": curve_of(worse, better)}
    )


def test_the_table_of_several_keywords_says_that_each_has_false_accepts_of_its_own() -> None:
    names = ("all", "yes", "no")

    def curve(name: str) -> Curve:
        return curve_of(point_of({"yes": 0.5}), name=name)

    two, one = (_trade_off({name: curve(name) for name in names[:n]}) for n in (3, 2))
    assert two[1].endswith("(each keyword: its own false accepts)") and one[1].endswith("to allow")
    assert [line.split()[0] for line in two[3:6]] == list(names)


def test_two_recordings_count_together_with_a_table_and_a_picture_of_the_trade_off(
    model: str,
    recording: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("matplotlib")
    audio, labels = recording
    empty = tmp_path / "none.tsv"
    empty.write_text("start_s\tend_s\tkeyword\n")
    common = ["evaluate", model, "--stream", audio, "--labels", labels]
    assert run([*common, "--json"]) == 0
    once = json.loads(capsys.readouterr().out)
    common += ["--stream", audio, "--labels", str(empty)]
    assert run([*common, "--json", "--det", str(tmp_path / "det.png")]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (tmp_path / "det.png").read_bytes().startswith(b"\x89PNG")
    assert result["recordings"] == [audio, audio]
    assert result["hours"] == pytest.approx(2 * once["hours"])
    assert result["hits"] == once["hits"]
    assert result["false_accepts"] == once["false_accepts"] + once["events"]
    low, high = result["false_accepts_per_hour_interval_95"]
    assert low < result["false_accepts_per_hour"] < high
    curve = result["curves"]["all"]
    assert curve["own"]["false_accepts"] == result["false_accepts"]
    assert len(curve["points"]) > 100
    missed = [point["false_reject_rate"] for point in curve["points"]]
    assert missed[-1] == 1.0

    assert run(common) == 0
    lines = capsys.readouterr().out.splitlines()
    at = next(i for i, line in enumerate(lines) if "false accepts per hour" in line)
    assert lines[at].split()[-7:] == ["10", "5", "2", "1", "0.5", "0.2", "0.1"]
    # A row for each keyword that is spoken, if there are several.
    spoken = [word for word, n in result["per_keyword"].items() if n["words"]]
    rows = [line.split()[0] for line in lines[at + 1 : -2]]
    assert sorted(rows) == sorted(["all", *(spoken if len(spoken) > 1 else [])])
    assert lines[-2].startswith("Lowest command error rate: ")
    assert "One false accept in 2:00 min is 30 per hour" in lines[-1]


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        ([], 2, "Give either DIR or --stream AUDIO. Received: neither"),
        (["{clips}", "--stream", "x.wav"], 2, "Received: both"),
        (["--stream", "x.wav"], 2, "--stream and --labels go together"),
        (["--stream", "x.wav", "--stream", "y.wav", "--labels", "x.tsv"], 2, "Received: 2 and 1"),
        (["--stream", "x.wav", "--labels", "x.tsv", "--recording", "2"], 2, "but 1 --stream"),
        (["{clips}", "--det", "x.png"], 2, "--det is for recordings"),
        (["{clips}", "--runtime", "tflm"], 2, "--runtime is for recordings"),
        (
            ["--stream", "{clips}/yes/0.wav", "--labels", "{strange}/none.tsv", "--runtime", "x"],
            1,
            "Unknown runtime. Received: 'x'. Use: litert, tflm",
        ),
        (["{clips}", "--recording", "1"], 2, "--recording is for recordings"),
        (["{clips}", "--labels", "x.tsv"], 2, "--stream and --labels go together"),
        (["{clips}", "--limit", "0"], 2, "--limit"),
        (["{clips}", "--snr", "10"], 2, "Add --noise NOISE"),
        (["{clips}", "--noise-plot", "x.png"], 2, "Add --noise NOISE"),
        (["{clips}", "--noise", "{clips}", "--noise-plot", "x.gif"], 1, "must end in .png"),
        (["{clips}", "--noise", "{clips}", "--snr", "loud"], 2, "--snr"),
        (["{clips}", "--noise", "{clips}", "--snr", "nan"], 1, "must be -100 to 100 dB"),
        (["{clips}", "--noise", "{clips}/nothing"], 1, "does not exist"),
        (["{clips}", "--noise", "{empty}"], 1, "no recordings"),
        (["{clips}", "--noise", "{clips}"], 1, "shorter than a clip"),
        (["{clips}", "--noise", "{dead}"], 1, "is silent"),
        (["--stream", "x", "--labels", "x", "--noise", "{clips}"], 2, "--noise is for clips"),
        (["--stream", "x", "--labels", "x", "--snr", "3"], 2, "--snr is for clips"),
        (["{clips}", "--plot", "x.jpeg"], 1, "must end in .png"),
        (["{clips}/nothing"], 1, "does not exist"),
        (["{clips}/yes"], 1, "contains no label folders"),
        (["{empty}"], 1, "contains no label folders"),
        (["{strange}"], 1, "is a label of this model"),
        (["--stream", "x.wav", "--labels", "{clips}/x.tsv"], 1, "x.tsv: No such file"),
        (["--stream", "{strange}/x.wav", "--labels", "{strange}/good.tsv"], 1, "x.wav"),
        (["--stream", "{clips}/yes/0.wav", "--labels", "{strange}/bad.tsv"], 1, "line 2: end_s"),
        (
            ["--stream", "x.wav", "--labels", "{strange}/none.tsv", "--det", "x.png"],
            1,
            "no word is labelled",
        ),
    ],
)
def test_each_wrong_use_ends_in_one_line(
    arguments: list[str],
    status: int,
    complaint: str,
    model: str,
    clips: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    empty, strange = tmp_path / "empty", tmp_path / "strange"
    empty.mkdir()
    write_wav(strange / "cat" / "0.wav", sound(0, RATE), RATE)
    (strange / "good.tsv").write_text("start_s\tend_s\tkeyword\n0.1\t0.5\tyes\n")
    (strange / "none.tsv").write_text("start_s\tend_s\tkeyword\n")
    (strange / "bad.tsv").write_text("start_s\tend_s\tkeyword\n0.1\tsoon\tyes\n")
    write_wav(tmp_path / "dead" / "0.wav", np.zeros(6 * RATE, np.int16), RATE)
    dead = tmp_path / "dead"
    places = {"clips": clips, "empty": empty, "strange": strange, "dead": dead}
    given = [argument.format(**places) for argument in arguments]
    assert run(["evaluate", model, *given]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert complaint in captured.err
    assert len(captured.err.splitlines()) == 1


def test_a_model_in_clip_form_hears_clips_but_follows_no_stream(
    clips: Path, tmp_path: Path, recording: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tiny_model.write_tiny(tmp_path / "clip.tflite", form="clip"))
    assert run(["evaluate", path, str(clips), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["clips"] == 18
    assert run(["evaluate", path, "--stream", recording[0], "--labels", recording[1]]) == 1
    assert "stream form" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal to a process group")
@pytest.mark.parametrize("after_s", [0.5, 0.8, 1.1, 1.5])
def test_ctrl_c_ends_in_one_line_and_leaves_nothing(
    after_s: float, model: str, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    clip = tmp_path / "clips" / "yes" / "0.wav"
    write_wav(clip, sound(0, 10 * RATE), RATE)
    for i in range(1, 3000):
        clip.with_name(f"{i}.wav").hardlink_to(clip)
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", "from kws.cli import main; main()"),
            *("evaluate", model, str(tmp_path / "clips"), "--workers", "2"),
            *("--plot", str(tmp_path / "confusion.png")),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    time.sleep(after_s)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    # Python itself has no one line for us while it starts.
    if process.returncode == -signal.SIGINT or "init_import_site" in err:
        pytest.skip(f"the machine was too slow to get to the command within {after_s} s")
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "kws: interrupted"
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["clips"]
