"""The leaderboard: finished runs side by side, with their cost on a device.

Runs of one recipe that differ only in their seed share one line: mean and extremes. Every run is
exported to int8 unless its folder already holds the file. Accuracy is that on the run's own
validation clips, MACs and parameters are counted, memory is measured with TFLM if it runs the
file, and time is measured on this computer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kws.errors import KwsError
from kws.evaluate.posteriors import clip_posteriors
from kws.model_file import ModelCard, read_card
from kws.network import Network
from kws.system.files import atomic_write
from kws.wording import counted

if TYPE_CHECKING:
    from kws.train.trained import TrainedRun

MODEL_FILE = "model.tflite"
TIMED_CLIPS = 20
"""Number of clips that are timed together."""
TIMES = 5
"""Number of timings, of which the fastest counts: other processes can only slow it down."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the leaderboard: a recipe, trained once or with several seeds."""

    name: str
    """Name of the recipe."""
    architecture: str
    """Its architecture."""
    epochs: int
    """Epochs trained."""
    teachers: int
    """Number of teachers."""
    seeds: int
    """Number of runs; accuracies are their mean, while sizes, MACs, memory and time are those of
    the first."""
    labels: int
    """Outputs; runs with other labels or clips are not comparable."""
    clips: int
    """Validation clips."""
    parameters: int
    """Weights and biases, batch normalisation folded."""
    file_bytes: int
    """Size of the int8 file, card included."""
    macs_per_second: int
    """Multiply-accumulates per second of audio; in clip form with one answer per clip."""
    ram_bytes: int
    """Memory for activations and states."""
    ram_by: str
    """``"TFLM"`` (its interpreter's arena, including its own bookkeeping) or ``"graph"`` (the
    largest total size of tensors alive at one time)."""
    float_accuracy: float
    """Accuracy of the network in Keras, 0 to 1."""
    int8_accuracy: float
    """Accuracy of the file, 0 to 1."""
    int8_extremes: tuple[float, float]
    """Lowest and highest accuracy of the seeds, 0 to 1."""
    streams: bool
    """Whether it follows a stream and answers at every step, or takes whole clips."""
    ms_per_second: float
    """Processor time per second of audio on this computer, front end included, in ms."""


def measure_runs(
    runs: Sequence[Path], *, say: Callable[[str], None] = lambda message: None
) -> list[Entry]:
    """Measure finished runs, best first.

    Args:
        runs: folders written by `kws train`; the int8 file of each is left in it.
        say: called with progress messages.

    Returns:
        One entry per recipe and number of epochs, for all seeds. Runs of the same recipe that were
        validated on other clips or repeat a seed get an entry of their own, with the folder's name.

    Raises:
        KwsError: a run is not finished, or cannot be exported.
    """
    from kws.recipe import to_toml
    from kws.train.trained import load_run, validation_labels

    loaded = [load_run(run) for run in {run.resolve(): run for run in runs}.values()]
    for run in loaded:
        if not run.metrics:
            raise KwsError(
                f"{run.path} is not finished: metrics.json is missing. Continue it with: kws train "
                "… --resume"
            )
    groups: dict[tuple[str, bytes, int], list[TrainedRun]] = {}
    met: Counter[tuple[str, bytes, int]] = Counter()
    for run in loaded:
        alike = (
            to_toml(dataclasses.replace(run.recipe, seed=0)),
            validation_labels(run).tobytes(),
        )
        groups.setdefault((*alike, met[(*alike, run.recipe.seed)]), []).append(run)
        met[(*alike, run.recipe.seed)] += 1
    entries, recipes = [], set()
    for (recipe, _, _), group in groups.items():
        entries.append(_measure(group, say, by_folder=recipe in recipes))
        recipes.add(recipe)
    return sorted(entries, key=lambda entry: (-entry.int8_accuracy, entry.file_bytes))


def write_leaderboard(entries: Sequence[Entry], path: Path) -> list[Path]:
    """Write the table as Markdown, and beside it the same as JSON and as a picture.

    Returns:
        The files.
    """
    from kws.report.sizes import plot_sizes

    texts = {
        path: "\n".join(table(entries)) + "\n",
        path.with_suffix(".json"): json.dumps(to_dicts(entries), indent=1) + "\n",
    }
    picture = path.with_suffix(".png")
    points = [(e.name, e.file_bytes / 1000, 100 * e.int8_accuracy, e.streams) for e in entries]
    plot_sizes(points, picture)
    for name, text in texts.items():
        with atomic_write(name, "w") as file:
            file.write(text)
    return [*texts, picture]


def table(entries: Sequence[Entry]) -> list[str]:
    """Return the leaderboard as a Markdown table, and a line that explains it."""
    titles = (
        *("", "form", "training", "parameters", "int8, kB", "million MACs/s", "RAM, kB"),
        *("float, %", "int8, %", "ms/s"),
    )
    lines = [f"| {' | '.join(titles)} |", "|---|---|---|" + "---:|" * (len(titles) - 3)]
    for e in entries:
        cells = (
            e.name,
            "stream" if e.streams else "clip",
            _training(e),
            f"{e.parameters:,}",
            f"{e.file_bytes / 1000:.1f}",
            f"{e.macs_per_second / 1e6:.2f}",
            f"{e.ram_bytes / 1000:.1f}" + ("" if e.ram_by == "TFLM" else "*"),
            f"{100 * e.float_accuracy:.2f}",
            _percent(e.int8_accuracy, e.int8_extremes),
            f"{e.ms_per_second:.2f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    clips = sorted({(e.clips, e.labels) for e in entries}, reverse=True)
    lines += [
        "",
        "Accuracy on "
        + ", ".join(f"{n:,} validation clips of {counted(labels, 'label')}" for n, labels in clips)
        + ". A stream answers at every step, a clip once: the MACs and the time of a network in "
        "clip form are those of one answer per clip. RAM is TFLM's arena"
        + (
            "; * the largest total size of live tensors, if TFLM does not run the file."
            if any(e.ram_by != "TFLM" for e in entries)
            else "."
        ),
    ]
    return lines


def _training(entry: Entry) -> str:
    taught = f", {counted(entry.teachers, 'teacher')}" if entry.teachers else ""
    seeds = f", {entry.seeds} seeds" if entry.seeds > 1 else ""
    return f"{counted(entry.epochs, 'epoch')}{taught}{seeds}"


def _percent(mean: float, extremes: tuple[float, float]) -> str:
    least, greatest = extremes
    spread = f" ({100 * least:.2f} to {100 * greatest:.2f})" if least < greatest else ""
    return f"{100 * mean:.2f}{spread}"


def _measure(group: Sequence[TrainedRun], say: Callable[[str], None], *, by_folder: bool) -> Entry:
    """Measure runs of the same recipe; `by_folder` adds the folder of the first to the name."""
    from kws.train.trained import validation_set

    cards = [_export(run, run.path / MODEL_FILE, say) for run in group]
    agreements = [card.provenance["agreement"]["forms"] for card in cards]
    int8 = [forms[-1]["accuracy"] for forms in agreements]
    run, card = group[0], cards[0]
    path, facts = run.path / MODEL_FILE, card.provenance
    network, training = Network(path), run.recipe.training
    pcm, _ = validation_set(run)
    pcm = pcm[np.linspace(0, len(pcm) - 1, min(TIMED_CLIPS, len(pcm))).astype(int)]
    say(f"measuring {card.name}")
    ram, ram_by = _ram(path.read_bytes())
    return Entry(
        name=f"{card.name} ({run.path.name})" if by_folder else card.name,
        architecture=facts["architecture"],
        epochs=training.epochs,
        teachers=len(training.teachers),
        seeds=len(group),
        labels=len(card.labels),
        clips=facts["agreement"]["clips"],
        parameters=facts["parameters"],
        file_bytes=path.stat().st_size,
        macs_per_second=facts["macs_per_second"],
        ram_bytes=ram,
        ram_by=ram_by,
        float_accuracy=float(np.mean([forms[0]["accuracy"] for forms in agreements])),
        int8_accuracy=float(np.mean(int8)),
        int8_extremes=(min(int8), max(int8)),
        streams=card.form == "stream",
        ms_per_second=1000 * _seconds(network, pcm) / (pcm.size / card.front_end.sample_rate_hz),
    )


def _export(run: TrainedRun, path: Path, say: Callable[[str], None]) -> ModelCard:
    """Return the card of the run's int8 file; export it unless the folder holds it already."""
    if path.is_file() and path.stat().st_mtime >= (run.path / "best.npz").stat().st_mtime:
        with contextlib.suppress(KwsError):  # damaged, or from elsewhere
            card = read_card(path.read_bytes())
            if _is_whole_export(run, card):
                return card
    from kws.export.run import export_run

    return export_run(run.path, path, say=say).card


def _is_whole_export(run: TrainedRun, card: ModelCard) -> bool:
    """Whether a file is what `kws export` makes of the run by default."""
    from kws.train.trained import validation_labels

    facts, whole_clip = card.provenance, bool(run.recipe.model.create().whole_clip)
    return (
        facts.get("recipe_sha256") == run.recipe_sha256
        and facts.get("calibration_clips", 0) > 0  # it is int8
        and card.form == ("clip" if whole_clip else "stream")
        and facts["agreement"]["clips"] == len(validation_labels(run))
    )


def _seconds(network: Network, pcm: Any) -> float:
    """Return the processor time of front end and network for these clips, in s."""
    spent = []
    for _ in range(TIMES):
        before = time.process_time()
        clip_posteriors(network, pcm)
        spent.append(time.process_time() - before)
    return min(spent)


def _ram(content: bytes) -> tuple[int, str]:
    """Return the memory for activations and states in bytes, and its source."""
    from kws.export.graph import Graph, live_bytes
    from kws.export.runtimes import check_runtimes

    shape = Graph(content).shape(Graph(content).inputs[0])
    report = check_runtimes(content, np.zeros(shape, np.int8), np.ones(1, bool), ["tflm"])
    if arena := report.checks[0].arena_bytes:
        return arena, "TFLM"
    return live_bytes(Graph(content)), "graph"


def to_dicts(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return the leaderboard as plain dictionaries, for JSON."""
    return [dataclasses.asdict(entry) for entry in entries]
