"""`kws data stream`: hours of labelled audio from clips, sentences and noise."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from kws.cli.data import data_app
from kws.cli.options import DATA_SET, JSON
from kws.wording import counted, duration


def register(app: typer.Typer) -> None:
    """Add `stream` to the `data` group."""
    data_app.command("stream")(stream)


def stream(
    clips: Path = DATA_SET,
    out: Path = typer.Option(
        ...,
        "--out",
        "-o",
        metavar="WAV",
        help="The stream; its labels go next to it, as .tsv.",
    ),
    labels: Path | None = typer.Option(
        None,
        "--labels",
        metavar="TSV",
        help="Write the labels here instead.",
        show_default=False,
    ),
    sentences: Path | None = typer.Option(
        None,
        "--sentences",
        metavar="DIR",
        help="Running speech: DIR/<speaker>/<recording> and DIR/transcripts.tsv. Sentences that "
        "may contain a keyword or the wake word are left out.",
        show_default=False,
    ),
    keywords: str | None = typer.Option(
        None, "--keywords", metavar="WORDS", help="Comma-separated. [default: the ten commands]"
    ),
    part: str = typer.Option(
        "validation",
        "--part",
        metavar="PARTS",
        help="Whose words: training, validation, testing.",
    ),
    sentence_part: str | None = typer.Option(
        None,
        "--sentence-part",
        metavar="PARTS",
        help="Whose sentences. [default: as --part]",
    ),
    speakers: str | None = typer.Option(
        None,
        "--speakers",
        metavar="NAMES",
        help="Sentences of these speakers instead, comma-separated, or @FILE with one per line.",
    ),
    noise_dir: Path | None = typer.Option(
        None,
        "--noise-dir",
        metavar="DIR",
        help="Recordings of noise. [default: the data set's, from their untrained end]",
    ),
    wake_clips: Path | None = typer.Option(
        None,
        "--wake-clips",
        metavar="DIR/WORD",
        help="Before each keyword a wake word, one of the clips in this folder.",
        show_default=False,
    ),
    hours: float = typer.Option(1.0, "--hours", metavar="H", help="Length of the stream."),
    words_per_hour: float = typer.Option(
        400.0, "--words-per-hour", metavar="N", help="Keywords per hour, all equally often."
    ),
    others_per_hour: float = typer.Option(
        200.0, "--others-per-hour", metavar="N", help="Other single words per hour."
    ),
    no_commands: bool = typer.Option(
        False, "--no-commands", help="No keywords at all: every detection is a false accept."
    ),
    speech: float = typer.Option(
        0.6, "--speech", metavar="SHARE", help="Weight of sentences in the remaining time."
    ),
    noise: float = typer.Option(
        0.25, "--noise", metavar="SHARE", help="Weight of stretches of noise alone."
    ),
    silence: float = typer.Option(
        0.15, "--silence", metavar="SHARE", help="Weight of stretches of near silence."
    ),
    snr: tuple[float, float] = typer.Option(
        (10.0, 20.0), "--snr", metavar="DB DB", help="Lowest and highest speech-to-noise ratio."
    ),
    level: tuple[float, float] = typer.Option(
        (-38.0, -18.0), "--level", metavar="DB DB", help="Lowest and highest level of speech, dBFS."
    ),
    gap: tuple[float, float] = typer.Option(
        (0.6, 2.5), "--gap", metavar="S S", help="Shortest and longest pause before an item."
    ),
    seed: int = typer.Option(0, "--seed", metavar="N", min=0, help="Seed of the random stream."),
    as_json: bool = JSON,
) -> None:
    """Build hours of labelled audio to measure a model on.

    It shows how the model does when it always listens, which clips cannot show.

    Words, sentences, noise and near silence come in random order, at random levels. The same seed
    gives the same bytes. Any recording with a label file (start_s, end_s, keyword) works as well.

    \b
    Examples:
      kws data stream speech_commands --sentences sentences --hours 3 -o day.wav
      kws data stream speech_commands --sentences sentences --no-commands -o quiet.wav
    """
    from kws.data.labels import COMMANDS
    from kws.data.streams.long_stream import StreamPlan, build_stream
    from kws.data.streams.material import gather
    from kws.system.files import check_output
    from kws.system.progress import tell

    table = labels or out.with_suffix(".tsv")
    if out.suffix.lower() != ".wav":
        raise typer.BadParameter(f"--out must end in .wav. Received: {out}.")
    if table.absolute() == out.absolute():
        raise typer.BadParameter(f"--labels must differ from --out. Received: {table}.")
    if wake_clips is not None and no_commands:
        raise typer.BadParameter("--wake-clips come before keywords: leave out --no-commands.")
    check_output(out)
    check_output(table)
    words = COMMANDS if keywords is None else tuple(_names(keywords))
    plan = StreamPlan(
        hours=hours,
        words_per_hour=0.0 if no_commands else words_per_hour,
        others_per_hour=others_per_hour,
        speech=speech,
        noise=noise,
        silence=silence,
        gap_s=gap,
        snr_db=snr,
        level_dbfs=level,
        seed=seed,
    )
    material = gather(
        clips,
        words,
        commands=not no_commands,
        parts=_names(part),
        sentences=sentences,
        sentence_parts=None if sentence_part is None else _names(sentence_part),
        speakers=None if speakers is None else _speakers(speakers),
        noise=noise_dir,
        wake=wake_clips,
    )
    tell(material.describe())
    built = build_stream(material, plan, out, table, progress=True)
    shares = {kind: round(share, 3) for kind, share in built.shares.items()}
    if as_json:
        facts = {"audio": str(out), "labels": str(table), "seconds": built.seconds}
        typer.echo(json.dumps({**facts, "words": built.words, "shares": shares}))
        return
    spoken = sum(built.words.values())
    parts = ", ".join(f"{kind} {share:.0%}" for kind, share in shares.items())
    typer.echo(f"{out}: {duration(built.seconds)}, {counted(spoken, 'keyword')}; {parts}")
    typer.echo(f"{table}: {counted(len(built.truth), 'label')}")


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise typer.BadParameter(f"Give names, separated by commas. Received: {text!r}.")
    return names


def _speakers(text: str) -> list[str]:
    if not text.startswith("@"):
        return _names(text)
    from kws.errors import KwsError

    try:
        content = Path(text[1:]).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise KwsError(f"Cannot read the list of speakers {text[1:]}: {reason}") from error
    return _names(content.replace("\n", ","))
