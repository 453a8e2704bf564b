"""Measure accuracy on your own word against the number of recordings; run by hand.

    python tests/measure_own_words.py REAL --out measured [--words computer snowboy]
        [--recordings 0 3 10 20 50] [--draws 3]

REAL holds ``wake_words/<word>/``, ``speech_commands/`` and ``sentences/`` with transcripts.tsv. For
each word and draw, a network is trained on some recordings of the training part and generated
voices, and all other recordings of the word are placed in a stream of noise and of sentences by
speakers of the testing part. Thresholds are chosen for 0.5 false accepts per hour on two hours of
other speech by validation speakers, and measured on two more by testing speakers. Everything uses
the command line as users do. Finished parts are not repeated.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from kws.data.split import TRAINING, split_of

MOST_RECORDINGS = 50
PER_HOUR = "0.5"
LANGUAGES = ("en", "de", "nl", "it")
"""Many people pronounce English words with an accent."""


def kws(*arguments: str | Path, log: Path) -> str:
    """Run a command of the kit; return its stdout, and append all output to a log."""
    command = [sys.executable, "-m", "kws", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ kws {' '.join(command[3:])}\n{done.stdout}{done.stderr}")
    if done.returncode:
        sys.exit(f"kws {arguments[0]} failed, see {log}: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout


def prepare(word: str, real: Path, out: Path) -> None:
    """Cut the word's recordings and synthesise the word, once."""
    log = out / "log.txt"
    if not (out / "all" / word).is_dir():
        recordings = sorted((real / "wake_words" / word).iterdir())
        kws("data", "add", word, *recordings, "--to", out / "all", log=log)
    if not (out / "generated" / word).is_dir():
        speak = ["--count", "1000", "--near-misses", "1000"]
        speak += [part for language in LANGUAGES for part in ("--language", language)]
        kws("data", "synth", word, *speak, "--to", out / "generated" / word, log=log)


def streams(words: Sequence[str], real: Path, out: Path) -> None:
    """Build the streams of other speech that all words share, once."""
    log = out / "log.txt"
    if not (out / "generated_speech").is_dir():
        kws("data", "synth", *words, "--speech", "60", "--to", out / "generated_speech", log=log)
    for name, part, seed in (("choose", "validation", "31"), ("check", "testing", "32")):
        if not (out / f"{name}.wav").is_file():
            kws(
                *("data", "stream", real / "speech_commands", "--keywords", ",".join(words)),
                *("--no-commands", "--part", "validation", "--hours", "2", "--seed", seed),
                *("--sentences", real / "sentences", "--sentence-part", part),
                *("-o", out / f"{name}.wav"),
                log=log,
            )


def draw(word: str, n: int, number: int, real: Path, out: Path) -> tuple[Path, Path]:
    """Set up the folder to train on, and a stream of the other recordings."""
    clips = sorted((out / "all" / word).glob("*.wav"))
    order = [clip for clip in clips if split_of(clip.name) == TRAINING]
    random.Random(f"{word}-{number}").shuffle(order)
    folder = out / f"{word}_{n}_{number}"
    for target, chosen in (
        (folder / "data" / "recordings", order[:n]),
        (out / f"test_{word}_{number}", [c for c in clips if c not in order[:MOST_RECORDINGS]]),
    ):
        (target / word).mkdir(parents=True, exist_ok=True)
        for clip in chosen:
            link = target / word / clip.name
            if not link.is_symlink():
                link.symlink_to(clip.resolve())
    for name, target in (
        ("generated", out / "generated" / word),
        ("generated_speech", out / "generated_speech"),
        ("speech_commands", real / "speech_commands"),
        ("sentences", real / "sentences"),
    ):
        if not (folder / "data" / name).is_symlink():
            (folder / "data" / name).symlink_to(target.resolve())
    noise = out / f"test_{word}_{number}" / "_background_noise_"
    if not noise.is_symlink():
        noise.symlink_to((real / "speech_commands" / "_background_noise_").resolve())
    stream = out / f"test_{word}_{number}.wav"
    if not stream.is_file():
        kws(
            *("data", "stream", out / f"test_{word}_{number}", "--keywords", word),
            *("--part", "training,validation,testing", "--others-per-hour", "0", "--hours", "0.9"),
            *("--sentences", real / "sentences", "--sentence-part", "testing"),
            *("--seed", f"2{number}", "-o", stream),
            log=out / "log.txt",
        )
    return folder, stream


def measure(word: str, n: int, number: int, real: Path, out: Path) -> dict[str, object]:
    """Train on one draw and measure it; a finished result is read back."""
    folder, stream = draw(word, n, number, real, out)
    result = folder / "result.json"
    if result.is_file():
        return dict(json.loads(result.read_text(encoding="utf-8")))
    clips = '["recordings", "speech_commands"]' if n else '["speech_commands"]'
    recipe = folder / "data" / "recipe.toml"
    recipe.write_text(
        f'base = "own_words"\nname = "{word}"\nseed = {number + 1}\n'
        f'[data]\nwords = ["{word}"]\nclips = {clips}\n',
        encoding="utf-8",
    )
    log, run, model = folder / "log.txt", folder / "run", folder / "chosen.tflite"
    started = time.monotonic()
    kws("train", recipe, "--out", run, "--replace", log=log)
    seconds = time.monotonic() - started
    kws("export", run, "-o", folder / "model.tflite", "--runtimes", "none", log=log)
    limit = ("--false-accepts-per-hour", PER_HOUR)
    kws("calibrate", folder / "model.tflite", out / "choose.wav", *limit, "-o", model, log=log)
    given: list[str | Path] = []
    for audio in (stream, out / "check.wav"):
        given += ["--stream", audio, "--labels", audio.with_suffix(".tsv")]
    picture = ("--det", folder / "det.png", "--json")
    found = json.loads(kws("evaluate", model, *given, *picture, log=log))
    at = found["curves"]["all"]["at_false_accepts_per_hour"]
    line: dict[str, object] = {
        "word": word,
        "recordings": n,
        "draw": number,
        "missed": found["false_reject_rate"],
        "false_accepts": found["false_accepts"],
        "hours": found["hours"],
        "latency_ms": found["latency_ms"],
        "missed_at": {rate: point and point["false_reject_rate"] for rate, point in at.items()},
        "training_s": round(seconds),
    }
    result.write_text(json.dumps(line) + "\n", encoding="utf-8")
    return line


def table(lines: Sequence[dict[str, object]]) -> str:
    """Return means over the draws as Markdown."""
    rows = [
        "| word | recordings | draws | missed | false accepts per hour | missed at 0.5 per hour |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    keys = sorted({(str(one["word"]), int(str(one["recordings"]))) for one in lines})
    for word, n in keys:
        ours = [one for one in lines if (one["word"], one["recordings"]) == (word, n)]
        missed = [100 * float(str(one["missed"])) for one in ours]
        best = [100 * float(dict(one["missed_at"])["0.5"]) for one in ours]  # type: ignore[call-overload]
        false = sum(int(str(one["false_accepts"])) for one in ours)
        hours = sum(float(str(one["hours"])) for one in ours)
        rows.append(
            f"| {word} | {n} | {len(ours)} | {_spread(missed)} | {false / hours:.2f} "
            f"| {_spread(best)} |"
        )
    return "\n".join(rows)


def _spread(shares: Sequence[float]) -> str:
    middle = f"{statistics.mean(shares):.1f} %"
    return middle if len(shares) < 2 else f"{middle} ({min(shares):.1f}–{max(shares):.1f})"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("real", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--words", nargs="+", default=["computer", "snowboy"])
    parser.add_argument("--recordings", nargs="+", type=int, default=[0, 3, 10, 20, 50])
    parser.add_argument("--draws", type=int, default=3)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    streams(given.words, given.real, given.out)
    lines = []
    for number in range(given.draws):
        for n in given.recordings:
            for word in given.words:
                prepare(word, given.real, given.out)
                lines.append(measure(word, n, number, given.real, given.out))
                print(json.dumps(lines[-1]), flush=True)
    print(table(lines))


if __name__ == "__main__":
    main()
