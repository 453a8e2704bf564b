"""`kws evaluate`: how often a model is right, on folders of clips and on long recordings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from kws.cli.options import JSON, LABELS, MODEL, WORKERS
from kws.wording import counted, duration, two_digits

if TYPE_CHECKING:
    from kws.evaluate.clips import Evaluation
    from kws.evaluate.streams import StreamEvaluation
    from kws.recordings.curve import Curve

_SHOWN_FAULTS = 5
_SHOWN_CONFUSIONS = 8
_SHOWN_MISTAKES = 5


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.command()(evaluate)


def evaluate(
    model: str = MODEL,
    folder: Path | None = typer.Argument(
        None, metavar="DIR", help="Clips as DIR/<label>/<clip>.", show_default=False
    ),
    stream: list[Path] | None = typer.Option(
        None,
        help="A long recording instead of DIR; may be given again, each with its --labels.",
        metavar="AUDIO",
        show_default=False,
    ),
    labels: list[Path] | None = LABELS,
    as_json: bool = JSON,
    plot: Path | None = typer.Option(
        None,
        help="Draw the confusion matrix, or with --stream a time line (.png, .pdf, .svg).",
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
        help="Where the time line begins, in s; by default just before the first mistake.",
        show_default=False,
        min=0.0,
    ),
    span: float = typer.Option(
        20.0, metavar="S", help="Length of the time line, in s.", min=1.0, max=300.0
    ),
    recording: int | None = typer.Option(
        None,
        metavar="N",
        help="Which recording's time line, from 1; by default the first with a mistake.",
        min=1,
        show_default=False,
    ),
    runtime: str = typer.Option(
        "litert",
        metavar="NAME",
        help="With --stream: tflm runs the network on TFLM's interpreter, as microcontrollers do.",
    ),
    noise: Path | None = typer.Option(
        None,
        metavar="NOISE",
        help="Hear the clips of DIR in noise as well: a folder of recordings, or a data set with "
        "_background_noise_. Only the last fifth of each recording is used, which kws train "
        "never hears; other kinds of noise than were trained on tell more.",
        show_default=False,
    ),
    snr: list[float] | None = typer.Option(
        None,
        metavar="DB",
        help="With --noise: level of the clip above the noise (RMS of both over the whole clip); "
        "may be given again. [default: 20, 10, 5, 0]",
        show_default=False,
    ),
    noise_plot: Path | None = typer.Option(
        None,
        help="With --noise: draw accuracy over the noise (.png, .pdf, .svg).",
        metavar="FILE",
        show_default=False,
    ),
    seed: int = typer.Option(
        0, metavar="N", min=0, help="With --noise: which piece of it each clip hears."
    ),
    limit: int | None = typer.Option(
        None, metavar="N", help="At most so many clips of each folder.", min=1, show_default=False
    ),
    workers: int | None = WORKERS,
    skip_bad: bool = typer.Option(
        False, "--skip-bad", help="Go on without clips that cannot be read."
    ),
) -> None:
    """Measure a model on labelled clips or on a long recording.

    Folders that are no label of the model count as _unknown_; _background_noise_ is passed over.
    A clip shorter than those the model was trained on gets zeros at the end; a longer one is heard
    whole, and its surest keyword counts. On a recording a keyword counts as heard when it is
    reported between its start and 0.5 s after its end. Several recordings count together, and are
    heard at the same time.

    In noise each clip hears a piece of its own, the same at every level. Where the sum would be
    too loud, word and noise are made quieter together. _silence_ clips hold no word to measure
    noise against, and count as they are.

    \b
    Examples:
      kws evaluate commands_en speech/ --plot confusion.png
      kws evaluate commands_en speech/ --noise speech_commands --noise-plot noise.png
      kws evaluate model.tflite --stream day.wav --labels day.tsv --json
      kws evaluate commands_en --stream a.wav --labels a.tsv --stream b.wav --labels b.tsv
    """
    streams, tables = stream or [], labels or []
    if (folder is None) == (not streams):
        given = "neither" if folder is None else "both"
        raise typer.BadParameter(f"Give either DIR or --stream AUDIO. Received: {given}.")
    if len(streams) != len(tables):
        raise typer.BadParameter(
            "--stream and --labels go together. Received: only one of them."
            if not (streams and tables)
            else f"Each --stream needs its --labels. Received: {len(streams)} and {len(tables)}."
        )
    if recording is not None and recording > len(streams):
        raise typer.BadParameter(f"--recording {recording}, but {len(streams)} --stream.")
    if det is not None and folder is not None:
        raise typer.BadParameter("--det is for recordings. Use --stream AUDIO --labels TSV.")
    if runtime != "litert" and folder is not None:
        raise typer.BadParameter("--runtime is for recordings. Use --stream AUDIO --labels TSV.")
    if noise is not None and folder is None:
        raise typer.BadParameter("--noise is for clips. Give DIR instead of --stream AUDIO.")
    if noise is None and (snr or noise_plot is not None):
        raise typer.BadParameter("--snr and --noise-plot need noise to mix in. Add --noise NOISE.")
    for picture in (plot, det, noise_plot):
        if picture is not None:
            from kws.report.style import check_picture

            check_picture(picture)
    if folder is not None:
        _on_clips(
            *(model, folder, as_json, plot, limit, workers, skip_bad),
            noise=noise,
            snrs_db=snr,
            noise_plot=noise_plot,
            seed=seed,
        )
    else:
        pairs = list(zip(streams, tables, strict=True))
        _on_streams(model, pairs, as_json, plot, det, start, span, recording, runtime, workers)


def _on_clips(
    model: str,
    folder: Path,
    as_json: bool,
    plot: Path | None,
    limit: int | None,
    workers: int | None,
    skip_bad: bool,
    *,
    noise: Path | None,
    snrs_db: list[float] | None,
    noise_plot: Path | None,
    seed: int,
) -> None:
    from kws.data.noise import SNRS_DB
    from kws.errors import KwsError
    from kws.evaluate.clips import evaluate_folder
    from kws.system.processes import usable_cores
    from kws.system.progress import tell

    result = evaluate_folder(
        model,
        folder,
        limit=limit,
        workers=workers or usable_cores(),
        skip_bad=True,
        progress=True,
        noise=noise,
        snrs_db=snrs_db or SNRS_DB,
        seed=seed,
    )
    for fault in result.unreadable[:_SHOWN_FAULTS]:
        tell(" ".join(fault.split()))
    if len(result.unreadable) > _SHOWN_FAULTS:
        tell(f"and {len(result.unreadable) - _SHOWN_FAULTS} more that cannot be read")
    if result.unreadable and not skip_bad:
        total = result.clips + len(result.unreadable)
        raise KwsError(
            f"{len(result.unreadable)} of {total} clips cannot be read. Remove or repair them, or "
            "leave them out with --skip-bad"
        )
    for note in result.notes:
        tell(note)
    # Before the pictures: what was measured must not be lost if one cannot be drawn or stored.
    typer.echo(_as_json(result.to_json()) if as_json else clip_report(result))
    if plot is not None:
        from kws.report.clips import plot_confusion

        plot_confusion(result, plot)
        tell(f"wrote {plot}")
    if noise_plot is not None:
        from kws.report.clips import plot_in_noise

        plot_in_noise(result, noise_plot)
        tell(f"wrote {noise_plot}")


def _on_streams(
    model: str,
    recordings: Sequence[tuple[Path, Path]],
    as_json: bool,
    plot: Path | None,
    det: Path | None,
    start_s: float | None,
    span_s: float,
    recording: int | None,
    runtime: str,
    workers: int | None,
) -> None:
    from kws.data.label_file import read_truth
    from kws.errors import KwsError
    from kws.evaluate.streams import evaluate_streams
    from kws.system.processes import usable_cores
    from kws.system.progress import tell

    pairs = [(audio, read_truth(table)) for audio, table in recordings]
    if det is not None and not any(truth for _, truth in pairs):
        # Better now than after hours of listening.
        raise KwsError(
            "--det draws misses, but no word is labelled. Give a recording with keywords, too"
        )
    result = evaluate_streams(
        model, pairs, workers=workers or usable_cores(), runtime=runtime, progress=True
    )
    for note in result.notes:
        tell(note)
    # Before the pictures, as above.
    typer.echo(_as_json(result.to_json()) if as_json else stream_report(result))
    if plot is not None:
        from kws.report.timeline import plot_stretch

        mistakes = [one.first_mistake_s() for one in result.recordings]
        which = next((i for i, at in enumerate(mistakes) if at is not None), 0)
        if recording is not None:
            which = recording - 1
        elif start_s is not None:
            which = 0
        if start_s is None:
            last_s = result.recordings[which].heard.seconds - span_s
            start_s = max(0.0, min((mistakes[which] or 0.0) - span_s / 3, last_s))
        plot_stretch(result, plot, start_s=start_s, end_s=start_s + span_s, recording=which)
        tell(f"wrote {plot}")
    if det is not None:
        from kws.report.trade_off import plot_trade_off

        plot_trade_off(result.curves, Path(result.model).name, det)
        tell(f"wrote {det}")


def clip_report(result: Evaluation) -> str:
    """Return the figures of an evaluation on clips for people."""
    low, high = result.interval
    lines = [
        f"{result.model} on {result.runtime}: {counted(result.clips, 'clip')} in "
        f"{result.seconds:.1f} s",
        f"accuracy {_percent(result.accuracy)} (95 % interval {_percent(low)} to {_percent(high)})",
        "",
    ]
    width = max(len("label"), *(len(label) for label in result.labels))
    lines.append(f"{'label':<{width}}{'clips':>8}{'right':>8}{'recall':>10}{'precision':>11}")
    for label, n in result.per_label().items():
        lines.append(
            f"{label:<{width}}{n['clips']:>8,}{n['correct']:>8,}"
            f"{_percent(n['recall']):>10}{_percent(n['precision']):>11}"
        )
    lines += _noise_table(result)
    if result.confusions:
        lines += ["", "most frequent confusions"]
        for confusion in result.confusions[:_SHOWN_CONFUSIONS]:
            lines.append(
                f"  {confusion.word} heard as {confusion.heard}: {counted(confusion.clips, 'clip')}"
            )
        lines += ["", "wrong and most sure of it"]
        for mistake in result.mistakes[:_SHOWN_MISTAKES]:
            lines.append(f"  {mistake.clip} heard as {mistake.heard} ({mistake.score:.2f})")
    return "\n".join(lines)


def _noise_table(result: Evaluation) -> list[str]:
    """Return the accuracy in noise beside that of the clips as they are; nothing without noise."""
    if not result.in_noise:
        return []
    lines = ["", f"{'SNR, dB':<8}{'accuracy':>10}   {'95 % interval':<18}{'points lost':>11}"]
    for one in (result, *result.in_noise):
        name = "clean" if one.snr_db is None else f"{one.snr_db:g}"
        low, high = one.interval
        lost = "" if one is result else f"{100 * (result.accuracy - one.accuracy):.1f}"
        lines.append(
            f"{name:<8}{_percent(one.accuracy):>10}   "
            f"{f'{_percent(low)} to {_percent(high)}':<18}{lost:>11}".rstrip()
        )
    return lines


def stream_report(result: StreamEvaluation) -> str:
    """Return the figures of an evaluation on recordings for people."""
    from kws.confidence import poisson_interval

    m = result.matches
    speed = m.duration_s / result.seconds
    low, high = (bound / m.hours for bound in poisson_interval(len(m.false_accepts)))
    lines = [
        f"{result.model} on {result.runtime}: {duration(m.duration_s)} in {result.seconds:.1f} s "
        f"({speed:,.0f} times real time)",
        f"{counted(m.words, 'word')}: {len(m.hits):,} heard, {len(m.misses):,} missed, "
        f"{len(m.substitutions):,} taken for another keyword "
        f"(false reject rate {_percent(m.false_reject_rate)})",
        f"{counted(m.events, 'event')}: {counted(len(m.false_accepts), 'false accept')}, "
        f"{m.false_accepts_per_hour:.2f} an hour (95 % interval {low:.2f} to {high:.2f})",
        f"command error rate {_percent(m.command_error_rate)}",
    ]
    median, p95 = m.latency_ms(50), m.latency_ms(95)
    if median is not None and p95 is not None:
        lines.append(f"latency after the word's end: median {median:.0f} ms, p95 {p95:.0f} ms")
    table = m.per_keyword()
    if table:
        width = max(len("keyword"), *(len(keyword) for keyword in table))
        lines += [
            "",
            f"{'keyword':<{width}}{'said':>8}{'heard':>8}{'missed':>8}{'taken':>8}{'false':>8}",
        ]
        for keyword, n in table.items():
            lines.append(
                f"{keyword:<{width}}{n['words']:>8,}{n['hits']:>8,}{n['misses']:>8,}"
                f"{n['substitutions']:>8,}{n['false_accepts']:>8,}"
            )
    return "\n".join(lines + _trade_off(result.curves))


def _trade_off(curves: Mapping[str, Curve]) -> list[str]:
    """Return the table of misses over false accepts; nothing where no word is spoken."""
    from kws.recordings.curve import RATES

    rows = [curve for curve in curves.values() if curve.own.words]
    if not rows:
        return []
    width = max(len("at most … false accepts an hour"), *(len(curve.name) for curve in rows))
    lines = [
        "",
        "words missed or taken for another if all thresholds are moved to have"
        + (" (a keyword: of its own)" if len(rows) > 2 else ""),
        f"{'at most … false accepts an hour':<{width}}" + "".join(f"{r:>8g}" for r in RATES),
    ]
    for curve in rows if len(rows) > 2 else rows[:1]:
        points = [curve.best(rate) for rate in RATES]
        lines.append(
            f"{curve.name:<{width}}"
            + "".join(f"{_percent(p.false_reject_rate if p else None):>8}" for p in points)
        )
    smallest = rows[0].resolution()
    if smallest > min(RATES):
        lines.append(
            f"One false accept in {duration(rows[0].own.hours * 3600)} is {two_digits(smallest)} "
            "an hour; what stands under less rests on none at all. Longer recordings tell more."
        )
    return lines


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _as_json(content: dict[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False)
