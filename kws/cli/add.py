"""Output of `kws data add` and `kws new` as recordings are cut and added."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kws.errors import KwsError, some
from kws.wording import counted

if TYPE_CHECKING:
    from kws.data.recording.add import AddedRecording, Cutting
    from kws.data.recording.word_clips import AddedClip, Cut, WordFolder


def add_files(
    word: str,
    files: Sequence[Path],
    folder: Path | None,
    cutting: Cutting,
    *,
    speaker: str | None,
    model: str | None,
    plot: Path | None,
    dry_run: bool,
) -> None:
    """Do the work of `kws data add`; the options are the command's.

    Raises:
        KwsError: a bad word, speaker, model or picture, or at least one file was refused.
    """
    from kws.data.fetch.home import own_words
    from kws.data.recording.add import add_recordings
    from kws.data.recording.word_clips import WordFolder, check_speaker
    from kws.recordings.word_times import check_keyword
    from kws.report.cuts import CutRecording, plot_cuts
    from kws.report.style import check_picture

    clips = WordFolder(own_words(folder), word, dry_run=dry_run)
    if speaker is not None:
        check_speaker(speaker)
    if model is not None:
        check_keyword(model, word)
    if plot is not None:
        check_picture(plot)
    hear = None if model is None else lambda paths: _hear(model, word, paths, cutting.several)
    recordings = []
    for recording in add_recordings(files, clips, cutting, speaker=speaker, hear=hear):
        tell_recording(recording, several=cutting.several, dry_run=dry_run)
        recordings.append(recording if plot is not None else replace(recording, pcm=None))
    drawn = [
        CutRecording(name=one.path.name, pcm=one.pcm, found=one.found, cuts=one.cuts)
        for one in recordings
        if one.pcm is not None
    ]
    if plot is not None and drawn:
        plot_cuts(drawn, plot)
        typer.echo(str(plot), err=True)
    tell_totals(recordings, clips)


def tell_recording(
    recording: AddedRecording,
    *,
    several: bool = False,
    dry_run: bool = False,
    show: Callable[[str], object] = typer.echo,
) -> None:
    """Print a line for each clip of a recording (by `show`), its faults, or why it was refused."""
    path = recording.path
    if recording.error is not None:
        text = " ".join(str(recording.error).split())
        typer.echo(f"refused: {text if str(path) in text else f'{path}: {text}'}", err=True)
    for clip in recording.clips:
        show(_line(clip, path, dry_run))
        if clip.fault is not None:
            typer.echo(
                f"note: {path}, {_span(clip.cut)}, is {clip.fault}, and record it again if you can",
                err=True,
            )
    if recording.left_out:
        where = some([f"{one.start_s:.2f}-{one.end_s:.2f} s" for one in recording.left_out], 4)
        hint = (
            "they differ from the others"
            if several
            else f"to take all similar ones: {recording.again} --several"
        )
        typer.echo(f"note: left out of {path}: {where}; {hint}", err=True)


def tell_totals(recordings: Sequence[AddedRecording], clips: WordFolder) -> None:
    """Print what is worth knowing about all clips of a word.

    Raises:
        KwsError: at least one recording was refused.
    """
    _tell_other_names([clip for one in recordings for clip in one.clips], clips.path)
    _tell_lengths(clips)
    refused = sum(one.error is not None for one in recordings)
    if refused:
        raise KwsError(
            f"{refused} of {len(recordings)} recordings were refused (see above). "
            f"Received for the word {clips.label!r}; the others are in {clips.path}"
            if refused < len(recordings)
            else f"None of the recordings could be added (see above). Received: {len(recordings)}"
        )


def _hear(
    model: str, word: str, paths: Sequence[Path], several: bool
) -> Iterator[Sequence[float] | KwsError]:
    """Yield when a model detects the word in each recording."""
    from kws.recordings.word_times import word_times

    for path, heard in zip(paths, word_times(model, word, paths, progress=True), strict=True):
        if isinstance(heard, KwsError):
            yield heard
            continue
        yield heard.chosen_s(several=several) or KwsError(
            f"The model does not detect {word!r} in {path}. Received: a posterior of at most "
            f"{heard.peak:.2f}; its threshold is {heard.threshold:.2f}. Add the recording "
            "without --model"
        )


def _span(cut: Cut) -> str:
    from kws.audio.samples import SAMPLE_RATE_HZ

    return f"{cut.start / SAMPLE_RATE_HZ:.2f}-{cut.end / SAMPLE_RATE_HZ:.2f} s"


def _line(clip: AddedClip, source: Path, dry_run: bool) -> str:
    from kws.audio.samples import SAMPLE_RATE_HZ

    if clip.before is None:
        what = "would add" if dry_run else "added"
    else:
        what = "already there" if clip.path == clip.before else f"was {clip.before.name}"
    word = (
        f"word {clip.cut.word.length_s:.2f} s"
        if clip.cut.word
        else f"{(clip.cut.end - clip.cut.start) / SAMPLE_RATE_HZ:.2f} s"
    )
    return (
        f"{what}: {clip.path} ({_span(clip.cut)} of {source}, {word} at {clip.level_dbfs:.0f} dBFS)"
    )


def _tell_other_names(added: Sequence[AddedClip], folder: Path) -> None:
    """Name the clips that were there under another speaker's name."""
    from kws.data.split import speaker_of

    renamed = [
        f"{clip.before.name} is now {clip.path.name}"
        for clip in added
        if clip.before is not None and clip.before != clip.path
    ]
    left = {clip.path.name: None for clip in added if speaker_of(clip.path.name) != clip.speaker}
    if renamed:
        typer.echo(
            f"note: already there without a speaker's name, now renamed: "
            f"{counted(len(renamed), 'clip')} in {folder} ({some(renamed, 4)})",
            err=True,
        )
    if left:
        typer.echo(
            f"note: already there under another speaker's name, not added again: "
            f"{counted(len(left), 'clip')} in {folder} ({some(list(left), 4)}); keep those with "
            "the right name, delete the others and run this again",
            err=True,
        )


def _tell_lengths(clips: WordFolder) -> None:
    from kws.data.recording.lengths import word_lengths
    from kws.labels import UNKNOWN

    if clips.label == UNKNOWN:
        return
    try:
        typer.echo(str(word_lengths(clips.path.parent, clips.label)), err=True)
    except KwsError:  # nothing was added, which has been reported
        return
