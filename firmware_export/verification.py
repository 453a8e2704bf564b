"""What `verify` found: for each core, how many of its values differ from Python's."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from kws.export.runtimes import RuntimeReport
from kws.wording import grouped_reasons, percent

_VALUES = ("features", "posteriors", "events")


@dataclass(kw_only=True)
class CoreResult:
    """How the values of one core compare with Python's."""

    core: str
    """Name for the command line, for example ``m4``."""
    title: str
    """Name in reports."""
    skipped: str = ""
    """Why nothing was run; empty if it was."""
    failed: str = ""
    """Why it stopped; empty if it ran to the end."""
    clips: int = 0
    """Clips compared, the stream included."""
    frames: int = 0
    """Frames compared."""
    steps: int = 0
    """Steps compared."""
    events: int = 0
    """Events compared."""
    differing: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_VALUES, 0))
    """Frames, steps and events that differ."""
    first_difference: str = ""
    """Where the first difference is and what it is; empty if there is none."""
    warnings: str = ""
    """The compiler's warnings about the library."""
    state_bytes: int = 0
    """sizeof(kws_state) on this core."""
    accuracy: float | None = None
    """Share of the clips that are answered correctly; None without labelled clips."""

    @property
    def equal(self) -> bool:
        """Whether it ran to the end and every value was equal."""
        return not (self.skipped or self.failed or self.first_difference) and self.clips > 0


@dataclass(frozen=True, kw_only=True)
class Verification:
    """How a library compares with Python, on all cores."""

    model: str
    """The model's name."""
    runtime: str
    """The TFLite runtime that the posteriors were compared with."""
    cores: tuple[CoreResult, ...]
    """In the order requested, by default that of `boards.cores.CORES`."""
    clips: int
    """Clips with a label."""
    stream_s: float
    """Length of the stream in seconds; 0 without one."""
    runner_accuracy: float | None
    """Share of the clips that the Python runner (float front end) answers correctly."""
    answers_changed: int
    """Clips that the library and the runner answer differently."""
    runner_events: int
    """Events that the runner detects in the stream."""
    events_alike: int
    """Of these, events that the library detects too, at most one step apart."""
    other_kernels: RuntimeReport | None
    """How far other kernels deviate on the same input; None if not requested."""

    @property
    def equal(self) -> bool:
        """Whether all cores that were not skipped are equal, and at least one ran."""
        checked = [core for core in self.cores if not core.skipped]
        return bool(checked) and all(core.equal for core in checked)

    def to_dict(self) -> dict[str, Any]:
        """Return plain dictionaries, lists, numbers and strings."""
        result = asdict(self)
        for plain, core in zip(result["cores"], self.cores, strict=True):
            plain["equal"] = core.equal
        result["equal"] = self.equal
        return result

    def lines(self) -> list[str]:
        """Return the result as a table and notes."""
        rows: list[tuple[str, ...]] = [
            ("core", "clips", "steps", "features", "posteriors", "events", "accuracy")
        ]
        for core in self.cores:
            if core.skipped or core.failed:
                continue
            totals = dict(zip(_VALUES, (core.frames, core.steps, core.events), strict=True))
            shares = tuple(_share(totals[name], core.differing[name]) for name in _VALUES)
            counts = (f"{core.clips:,}", f"{core.steps:,}")
            rows.append((core.title, *counts, *shares, percent(core.accuracy, decimals=2)))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            "  ".join(
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ]
        lines += grouped_reasons(
            {core.title: f"SKIPPED, {core.skipped}" for core in self.cores if core.skipped}
        )
        for core in self.cores:
            if core.failed:
                lines.append(f"{core.title}: FAILED, {core.failed}")
            if core.first_difference:
                lines.append(f"{core.title}: first difference at {core.first_difference}")
            if core.warnings:
                lines.append(f"{core.title}: the compiler warned: {core.warnings.splitlines()[0]}")
        lines.append(
            "compared with: the NumPy front end (features), "
            f"{self.runtime} with built-in kernels (posteriors), Python's decisions (events)"
        )
        if self.runner_accuracy is not None:
            accuracy = percent(self.runner_accuracy, decimals=2)
            lines.append(
                f"the Python runner (float front end): accuracy {accuracy} "
                f"on {self.clips:,} clips, {self.answers_changed} answered differently"
            )
        if self.stream_s:
            lines.append(
                f"stream of {self.stream_s:.0f} s: the runner detects {self.runner_events} events, "
                f"the C library {self.events_alike} of them, at most one step apart"
            )
        if self.other_kernels is not None:
            lines += ["", "other kernels on the same input", *self.other_kernels.lines()]
        return lines


def _share(total: int, differing: int) -> str:
    return f"{differing:,} differ" if differing else f"all {total:,} equal"
