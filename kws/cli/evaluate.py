"""`kws evaluate`: accuracy of a model on folders of clips and on long recordings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from kws.cli.events import window_after_wake
from kws.cli.options import JSON, LABELS, MODEL, THRESHOLD, WAKE, WAKE_WINDOW, WORKERS
from kws.wording import counted, duration, lowest_to_highest, percent, two_digits

if TYPE_CHECKING:
    from kws.evaluate.clips import Evaluation
    from kws.evaluate.streams import StreamEvaluation, WakeResult
    from kws.recordings.curve import Curve

_SHOWN_FAULTS = 5
_SHOWN_CONFUSIONS = 8
_SHOWN_MISTAKES = 5
_TOGETHER = "--stream and --labels go together. Received: only one of them."


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.command()(evaluate)


@dataclass(frozen=True, kw_only=True)
class ClipOptions:
    """What `kws evaluate MODEL DIR` was called with; the fields are the command's options."""

    model: str
    folder: Path
    as_json: bool
    plot: Path | None
    limit: int | None
    workers: int | None
    skip_bad: bool
    noise: Path | None
    snrs_db: Sequence[float]
    noise_plot: Path | None
    seed: int

    def check(self) -> None:
        """Refuse options that do not go together, before long work."""
        if self.noise is None and (self.snrs_db or self.noise_plot is not None):
            raise typer.BadParameter(
                "--snr and --noise-plot need noise to mix in. Add --noise NOISE."
            )
        _check_pictures(self.plot, self.noise_plot)


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """What `kws evaluate MODEL --stream` was called with; the fields are the command's options."""

    model: str
    streams: Sequence[Path]
    labels: Sequence[Path]
    as_json: bool
    plot: Path | None
    det: Path | None
    start_s: float | None
    span_s: float
    recording: int | None
    threshold: float | None
    wake: str | None
    wake_window_s: float
    runtime: str
    workers: int | None

    def check(self) -> None:
        """Refuse options that do not go together, before long work."""
        if not self.labels:
            raise typer.BadParameter(_TOGETHER)
        if len(self.streams) != len(self.labels):
            raise typer.BadParameter(
                "Each --stream needs its --labels. "
                f"Received: {len(self.streams)} and {len(self.labels)}."
            )
        if self.recording is not None and self.recording > len(self.streams):
            raise typer.BadParameter(
                f"--recording {self.recording}, but {len(self.streams)} --stream."
            )
        _check_pictures(self.plot, self.det)


def evaluate(
    model: str = MODEL,
    folder: Path | None = typer.Argument(
        None, metavar="DIR", help="Clips as DIR/<label>/<clip>.", show_default=False
    ),
    stream: list[Path] | None = typer.Option(
        None,
        help="A long recording instead of DIR; may be repeated, each with its --labels.",
        metavar="AUDIO",
        show_default=False,
    ),
    labels: list[Path] | None = LABELS,
    as_json: bool = JSON,
    plot: Path | None = typer.Option(
        None,
        help="Draw the confusion matrix, or with --stream a timeline (.png, .pdf, .svg).",
        metavar="FILE",
    ),
    det: Path | None = typer.Option(
        None,
        help="With --stream: draw misses over false accepts per hour (.png, .pdf, .svg).",
        metavar="FILE",
    ),
    start: float | None = typer.Option(
        None,
        "--from",
        metavar="S",
        help="Start of the timeline, in s; by default just before the first mistake.",
        show_default=False,
        min=0.0,
    ),
    span: float = typer.Option(
        20.0, metavar="S", help="Length of the timeline, in s.", min=1.0, max=300.0
    ),
    recording: int | None = typer.Option(
        None,
        metavar="N",
        help="Recording of the timeline, from 1; by default the first with a mistake.",
        min=1,
        show_default=False,
    ),
    threshold: float | None = THRESHOLD,
    wake: str | None = WAKE,
    wake_window: float | None = WAKE_WINDOW,
    runtime: str = typer.Option(
        "litert",
        metavar="NAME",
        help="With --stream: tflm runs the network on TFLM's interpreter, as microcontrollers do.",
    ),
    noise: Path | None = typer.Option(
        None,
        metavar="NOISE",
        help="Also evaluate the clips of DIR in noise: a folder of recordings, or a data set with "
        "_background_noise_. Only the last fifth of each recording is used, which kws train "
        "never uses; kinds of noise that are new to the model are the better test.",
        show_default=False,
    ),
    snr: list[float] | None = typer.Option(
        None,
        metavar="DB",
        help="With --noise: level of the clip above the noise (RMS of both over the whole clip); "
        "may be repeated. [default: 20, 10, 5, 0]",
        show_default=False,
    ),
    noise_plot: Path | None = typer.Option(
        None,
        help="With --noise: draw accuracy over the noise (.png, .pdf, .svg).",
        metavar="FILE",
        show_default=False,
    ),
    seed: int = typer.Option(
        0, metavar="N", min=0, help="With --noise: which piece of it each clip gets."
    ),
    limit: int | None = typer.Option(
        None, metavar="N", help="At most N clips of each folder.", min=1, show_default=False
    ),
    workers: int | None = WORKERS,
    skip_bad: bool = typer.Option(
        False, "--skip-bad", help="Continue without clips that cannot be read."
    ),
) -> None:
    """Measure a model on labelled clips or on a long recording.

    Folders that are not labels of the model count as _unknown_; _background_noise_ is skipped.
    A clip shorter than those in training is padded with zeros; in a longer one the keyword may be
    anywhere. On a recording, a keyword counts as detected if it is reported between its start and
    0.5 s after its end. Several recordings count together and run in parallel.

    With --wake (for recordings, as --threshold), a keyword counts as said only if it is the first
    after the wake word and ends within --wake-window of its end. Wake words must be labelled, too.
    Reporting any other keyword is a false accept.

    In noise, each clip gets its own piece of it, the same at every level. If the sum would clip,
    word and noise are attenuated together. _silence_ clips have no word to measure noise against
    and get none.

    \b
    Examples:
      kws evaluate commands_en speech/ --plot confusion.png
      kws evaluate commands_en speech/ --noise speech_commands --noise-plot noise.png
      kws evaluate model.tflite --stream day.wav --labels day.tsv --json
      kws evaluate commands_en --stream a.wav --labels a.tsv --stream b.wav --labels b.tsv
    """
    if (folder is None) == (not stream):
        received = "neither" if folder is None else "both"
        raise typer.BadParameter(f"Give either DIR or --stream AUDIO. Received: {received}.")
    for_clips = {
        "--noise": noise is not None,
        "--snr": bool(snr),
        "--noise-plot": noise_plot is not None,
    }
    for_streams = {
        "--det": det is not None,
        "--recording": recording is not None,
        "--threshold": threshold is not None,
        "--wake": wake is not None,
        "--wake-window": wake_window is not None,
        "--runtime": runtime != "litert",
    }
    if folder is None:
        for name in (name for name, given in for_clips.items() if given):
            raise typer.BadParameter(f"{name} is for clips. Give DIR instead of --stream AUDIO.")
        on_streams = StreamOptions(
            model=model, streams=stream or (), labels=labels or (), as_json=as_json, plot=plot,
            det=det, start_s=start, span_s=span, recording=recording, threshold=threshold,
            wake=wake, wake_window_s=window_after_wake(wake, wake_window), runtime=runtime,
            workers=workers,
        )  # fmt: skip
        on_streams.check()
        _evaluate_streams(on_streams)
        return
    if labels:
        raise typer.BadParameter(_TOGETHER)
    for name in (name for name, given in for_streams.items() if given):
        raise typer.BadParameter(f"{name} is for recordings. Use --stream AUDIO --labels TSV.")
    on_clips = ClipOptions(
        model=model, folder=folder, as_json=as_json, plot=plot, limit=limit, workers=workers,
        skip_bad=skip_bad, noise=noise, snrs_db=snr or (), noise_plot=noise_plot, seed=seed,
    )  # fmt: skip
    on_clips.check()
    _evaluate_clips(on_clips)


def _check_pictures(*pictures: Path | None) -> None:
    for picture in pictures:
        if picture is not None:
            from kws.report.style import check_picture

            check_picture(picture)


def _evaluate_clips(options: ClipOptions) -> None:
    from kws.data.noise import SNRS_DB
    from kws.errors import KwsError
    from kws.evaluate.clips import evaluate_folder
    from kws.system.processes import usable_cores
    from kws.system.progress import tell

    result = evaluate_folder(
        options.model,
        options.folder,
        limit=options.limit,
        workers=options.workers or usable_cores(),
        skip_bad=True,
        progress=True,
        noise=options.noise,
        snrs_db=options.snrs_db or SNRS_DB,
        seed=options.seed,
    )
    for fault in result.unreadable[:_SHOWN_FAULTS]:
        tell(" ".join(fault.split()))
    if len(result.unreadable) > _SHOWN_FAULTS:
        tell(f"and {len(result.unreadable) - _SHOWN_FAULTS} more that cannot be read")
    if result.unreadable and not options.skip_bad:
        total = result.clips + len(result.unreadable)
        raise KwsError(
            f"{len(result.unreadable)} of {total} clips cannot be read. Remove or repair them, or "
            "leave them out with --skip-bad"
        )
    for note in result.notes:
        tell(note)
    # Before the pictures: results must not be lost if one cannot be drawn or stored.
    typer.echo(_as_json(result.to_json()) if options.as_json else clip_report(result))
    if options.plot is not None:
        from kws.report.clips import plot_confusion

        plot_confusion(result, options.plot)
        tell(f"wrote {options.plot}")
    if options.noise_plot is not None:
        from kws.report.clips import plot_in_noise

        plot_in_noise(result, options.noise_plot)
        tell(f"wrote {options.noise_plot}")


def _evaluate_streams(options: StreamOptions) -> None:
    from kws.data.label_file import read_truth
    from kws.errors import KwsError
    from kws.evaluate.streams import evaluate_streams
    from kws.system.processes import usable_cores
    from kws.system.progress import tell

    recordings = [
        (audio, read_truth(table))
        for audio, table in zip(options.streams, options.labels, strict=True)
    ]
    if options.det is not None and not any(truth for _, truth in recordings):
        # Before hours of work.
        raise KwsError(
            "--det draws misses, but no word is labelled. Add a recording that has keywords"
        )
    result = evaluate_streams(
        options.model,
        recordings,
        threshold=options.threshold,
        wake=options.wake,
        wake_window_s=options.wake_window_s,
        workers=options.workers or usable_cores(),
        runtime=options.runtime,
        progress=True,
    )
    for note in result.notes:
        tell(note)
    # Before the pictures, as above.
    typer.echo(_as_json(result.to_json()) if options.as_json else stream_report(result))
    if options.plot is not None:
        from kws.report.timeline import plot_stretch

        which, start_s = _timeline_start(result, options)
        end_s = start_s + options.span_s
        plot_stretch(result, options.plot, start_s=start_s, end_s=end_s, recording=which)
        tell(f"wrote {options.plot}")
    if options.det is not None:
        from kws.report.trade_off import plot_trade_off

        plot_trade_off(result.curves, Path(result.model).name, options.det)
        tell(f"wrote {options.det}")


def _timeline_start(result: StreamEvaluation, options: StreamOptions) -> tuple[int, float]:
    """Return which recording the timeline shows, from 0, and from where on, in s."""
    mistakes = [one.first_mistake_s() for one in result.recordings]
    if options.recording is not None:
        which = options.recording - 1
    elif options.start_s is not None:
        which = 0
    else:
        which = next((i for i, at in enumerate(mistakes) if at is not None), 0)
    if options.start_s is not None:
        return which, options.start_s
    last_s = result.recordings[which].recording.seconds - options.span_s
    return which, max(0.0, min((mistakes[which] or 0.0) - options.span_s / 3, last_s))


def clip_report(result: Evaluation) -> str:
    """Return the figures of an evaluation on clips as text."""
    low, high = result.interval
    lines = [
        f"{result.model} on {result.runtime}: {counted(result.clips, 'clip')} in "
        f"{result.seconds:.1f} s",
        f"accuracy {percent(result.accuracy)} (95 % interval {percent(low)} to {percent(high)}), "
        f"mean over the labels {percent(result.balanced_accuracy)}",
        "",
    ]
    width = max(len("label"), *(len(label) for label in result.labels))
    lines.append(f"{'label':<{width}}{'clips':>8}{'right':>8}{'recall':>10}{'precision':>11}")
    for label, n in result.per_label().items():
        lines.append(
            f"{label:<{width}}{n['clips']:>8,}{n['correct']:>8,}"
            f"{percent(n['recall']):>10}{percent(n['precision']):>11}"
        )
    lines += _noise_table(result)
    if result.confusions:
        lines += ["", "most frequent confusions"]
        for confusion in result.confusions[:_SHOWN_CONFUSIONS]:
            clips = counted(confusion.clips, "clip")
            lines.append(f"  {confusion.word} taken for {confusion.heard}: {clips}")
        lines += ["", "most confident mistakes"]
        for mistake in result.mistakes[:_SHOWN_MISTAKES]:
            lines.append(f"  {mistake.clip} taken for {mistake.heard} ({mistake.score:.2f})")
    return "\n".join(lines)


def _noise_table(result: Evaluation) -> list[str]:
    """Return the accuracy in noise beside that without; nothing if there is no noise."""
    if not result.in_noise:
        return []
    lines = ["", f"{'SNR, dB':<8}{'accuracy':>10}   {'95 % interval':<18}{'points lost':>11}"]
    for one in (result, *result.in_noise):
        name = "clean" if one.snr_db is None else f"{one.snr_db:g}"
        low, high = one.interval
        lost = "" if one is result else f"{100 * (result.accuracy - one.accuracy):.1f}"
        lines.append(
            f"{name:<8}{percent(one.accuracy):>10}   "
            f"{f'{percent(low)} to {percent(high)}':<18}{lost:>11}".rstrip()
        )
    return lines


def stream_report(result: StreamEvaluation) -> str:
    """Return the figures of an evaluation on recordings as text."""
    from kws.confidence import poisson_interval

    m = result.matches
    speed = m.duration_s / result.seconds
    low, high = (bound / m.hours for bound in poisson_interval(len(m.false_accepts)))
    lines = [
        f"{result.model} on {result.runtime}: {duration(m.duration_s)} in {result.seconds:.1f} s "
        f"({speed:,.0f} times real time)",
        f"{counted(m.words, 'word')}: {len(m.hits):,} detected, {len(m.misses):,} missed, "
        f"{len(m.substitutions):,} taken for another keyword "
        f"(false reject rate {percent(m.false_reject_rate)})",
        f"{counted(m.events, 'event')}: {counted(len(m.false_accepts), 'false accept')}, "
        f"{m.false_accepts_per_hour:.2f} per hour (95 % interval {low:.2f} to {high:.2f})",
        f"command error rate {percent(m.command_error_rate)}",
    ]
    if result.wake is not None:
        lines[1:1] = [_wake_line(result.wake)]
    median, p95 = m.latency_ms(50), m.latency_ms(95)
    if median is not None and p95 is not None:
        lines.append(f"latency after the word's end: median {median:.0f} ms, p95 {p95:.0f} ms")
    table = m.per_keyword()
    if table:
        width = max(len("keyword"), *(len(keyword) for keyword in table))
        lines += [
            "",
            f"{'keyword':<{width}}{'said':>8}{'detected':>10}{'missed':>8}{'taken':>8}{'false':>8}",
        ]
        for keyword, n in table.items():
            lines.append(
                f"{keyword:<{width}}{n['words']:>8,}{n['hits']:>10,}{n['misses']:>8,}"
                f"{n['substitutions']:>8,}{n['false_accepts']:>8,}"
            )
    return "\n".join(lines + _trade_off(result.curves, after_wake=result.wake is not None))


def _wake_line(wake: WakeResult) -> str:
    m = wake.matches
    return (
        f"wake word ({wake.model}): {len(m.hits):,} of {m.words:,} detected, "
        f"{counted(len(m.false_accepts), 'false accept')}, {m.false_accepts_per_hour:.2f} per "
        f"hour; the first keyword within {wake.window_s:g} s of it counts"
    )


def _trade_off(curves: Mapping[str, Curve], *, after_wake: bool = False) -> list[str]:
    """Return the table of misses over false accepts; nothing if no word is spoken."""
    from kws.recordings.curve import RATES

    rows = [curve for curve in curves.values() if curve.own.words]
    if not rows:
        return []
    width = max(len("at most … false accepts per hour"), *(len(curve.name) for curve in rows))
    lines = [
        "",
        "words missed or taken for another, with all thresholds "
        + ("but the wake word's " if after_wake else "")
        + "moved to allow"
        + (" (each keyword: its own false accepts)" if len(rows) > 2 else ""),
        f"{'at most … false accepts per hour':<{width}}" + "".join(f"{r:>8g}" for r in RATES),
    ]
    for curve in rows if len(rows) > 2 else rows[:1]:
        points = [curve.best(rate) for rate in RATES]
        lines.append(
            f"{curve.name:<{width}}"
            + "".join(f"{percent(p.false_reject_rate if p else None):>8}" for p in points)
        )
    best = rows[0].fewest_errors()
    lines.append(
        f"Lowest command error rate: {percent(best.command_error_rate)}, with thresholds of "
        f"{lowest_to_highest(best.thresholds.values())}"
    )
    smallest = rows[0].resolution()
    if smallest > min(RATES):
        lines.append(
            f"One false accept in {duration(rows[0].own.hours * 3600)} is {two_digits(smallest)} "
            "per hour; columns below that allow none at all. Use longer recordings for them."
        )
    return lines


def _as_json(content: dict[str, Any]) -> str:
    return json.dumps(content, allow_nan=False)
