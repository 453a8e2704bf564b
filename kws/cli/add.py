"""The work of `kws data add`: file after file, what was cut and what was refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kws.errors import KwsError

if TYPE_CHECKING:
    from kws.audio.samples import Pcm
    from kws.data.recording.find_words import Utterance
    from kws.data.recording.word_clips import AddedClip, Cut
    from kws.recordings.word_times import WordTimes


def add_files(
    word: str,
    files: Sequence[Path],
    folder: Path | None,
    *,
    speaker: str | None,
    several: bool,
    model: str | None,
    uncut: bool,
    longest_s: float,
    pause_s: float,
    plot: Path | None,
    dry_run: bool,
    rename: bool = False,
    show: Callable[[str], object] = typer.echo,
) -> None:
    """Cut the files, add the clips and `show` a line for each; the options are the command's.

    What is there already under another speaker's name is not added again. It is named, with what
    to do; with `rename` it takes the speaker's name where nobody had said who speaks.

    Raises:
        KwsError: a bad word, speaker, model or picture, or at least one file was refused.
    """
    from kws.data.fetch.home import own_words
    from kws.data.recording.find_words import find_utterances
    from kws.data.recording.word_clips import (
        WordFolder,
        add_cuts,
        check_speaker,
        check_word,
        cut_other_speech,
        cut_words,
    )
    from kws.data.recording.word_clips import uncut as whole
    from kws.labels import UNKNOWN
    from kws.recordings.word_times import check_keyword
    from kws.report.cuts import CutRecording, plot_cuts
    from kws.report.style import check_picture

    if word != UNKNOWN:
        check_word(word)
    if speaker is not None:
        check_speaker(speaker)
    if model is not None:
        check_keyword(model, word)
    if plot is not None:
        check_picture(plot)
    target = own_words(folder)
    work = _Files(files)
    drawn = []
    clips = WordFolder(target, word, dry_run=dry_run)
    all_added: list[AddedClip] = []
    for path, pcm, heard in work.readable() if model is None else work.heard(model, word):
        found: list[Utterance] = []
        try:
            if uncut:
                cuts = whole(pcm)
            elif word == UNKNOWN:
                cuts = cut_other_speech(path, pcm)
            else:
                found = find_utterances(pcm, longest_gap_s=pause_s)
                times = None if heard is None else _times(path, word, heard, several)
                cuts = cut_words(
                    path, pcm, found, several=several, times_s=times, longest_s=longest_s
                )
        except KwsError as error:
            work.refuse(path, error)
            cuts = []
        added = add_cuts(clips, path, pcm, cuts, speaker=speaker, rename=rename)
        for clip in added:
            show(_line(clip, path, dry_run))
        all_added += added
        if cuts and found and model is None:
            _say_what_is_left(path, found, cuts, several)
        if plot is not None:
            drawn.append(CutRecording(name=path.name, pcm=pcm, found=found, cuts=cuts))
    if plot is not None and drawn:
        plot_cuts(drawn, plot)
        typer.echo(str(plot), err=True)
    _say_other_names(all_added, clips.path)
    _say_lengths(target, word)
    if work.refused:
        raise KwsError(
            f"{work.refused} of {len(files)} recordings were refused (see above). "
            f"Received for the word {word!r}; the others are in {target / word}"
            if work.refused < len(files)
            else f"None of the recordings could be added (see above). Received: {len(files)}"
        )


class _Files:
    """The files that can be read, and a line for each that cannot."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self.refused = 0

    def refuse(self, path: Path, error: KwsError) -> None:
        """Say why nothing comes of a file."""
        text = " ".join(str(error).split())
        typer.echo(f"refused: {text if str(path) in text else f'{path}: {text}'}", err=True)
        self.refused += 1

    def readable(self) -> Iterator[tuple[Path, Pcm, None]]:
        """Yield the recordings."""
        from kws.data.recording.word_clips import open_recording

        for path in self._paths:
            try:
                pcm = open_recording(path)
            except KwsError as error:
                self.refuse(path, error)
                continue
            yield path, pcm, None

    def heard(self, model: str, word: str) -> Iterator[tuple[Path, Pcm, WordTimes]]:
        """Yield the recordings and when a model hears the word in them."""
        from kws.data.recording.word_clips import open_recording
        from kws.recordings.word_times import word_times

        # Read twice, so that the memory is that of one recording.
        paths = [path for path, _, _ in self.readable()]
        for path, times in zip(paths, word_times(model, word, paths, progress=True), strict=True):
            yield path, open_recording(path), times


def _times(path: Path, word: str, heard: WordTimes, several: bool) -> Sequence[float]:
    times = heard.chosen_s(several=several)
    if not times:
        raise KwsError(
            f"The model does not hear {word!r} in {path}. Received: a posterior of "
            f"{heard.peak:.2f} at most; its threshold is {heard.threshold:.2f}. Add the recording "
            "without --model"
        )
    return times


def _line(clip: AddedClip, source: Path, dry_run: bool) -> str:
    from kws.audio.samples import SAMPLE_RATE_HZ

    if clip.before is None:
        what = "would add" if dry_run else "added"
    else:
        what = "there already" if clip.path == clip.before else f"was {clip.before.name}"
    start_s, end_s = clip.cut.start / SAMPLE_RATE_HZ, clip.cut.end / SAMPLE_RATE_HZ
    word = (
        f"word {clip.cut.word.length_s:.2f} s at"
        if clip.cut.word
        else f"{end_s - start_s:.2f} s at"
    )
    return (
        f"{what}: {clip.path} ({start_s:.2f}-{end_s:.2f} s of {source}, {word} "
        f"{clip.level_dbfs:.0f} dBFS)"
    )


def _say_what_is_left(
    path: Path, found: Sequence[Utterance], cuts: Sequence[Cut], several: bool
) -> None:
    """Name what stands out as well and was not taken."""
    from kws.data.recording.find_words import alike
    from kws.errors import some

    words = [cut.word for cut in cuts]
    left = [one for one in found if one not in words]
    if not several:
        # A cough beside the word needs no remark; a second word does.
        left = [one for one in left if len(alike([*(w for w in words if w), one])) == 2]
    if left:
        where = some([f"{one.start_s:.2f}-{one.end_s:.2f} s" for one in left], 4)
        hint = "they are not like the others" if several else "--several takes all that are alike"
        typer.echo(f"note: left out of {path}: {where}; {hint}", err=True)


def _say_other_names(added: Sequence[AddedClip], folder: Path) -> None:
    """Name the clips that were there under another speaker's name, and what became of them."""
    from kws.data.split import speaker_of
    from kws.errors import some
    from kws.wording import counted

    renamed = [
        f"{clip.before.name} is {clip.path.name}"
        for clip in added
        if clip.before is not None and clip.before != clip.path
    ]
    left = {clip.path.name: None for clip in added if speaker_of(clip.path.name) != clip.speaker}
    if renamed:
        typer.echo(
            f"note: there already without a speaker's name, which they have now: "
            f"{counted(len(renamed), 'clip')} in {folder} ({some(renamed, 4)})",
            err=True,
        )
    if left:
        typer.echo(
            f"note: there already under another speaker's name, and not added again: "
            f"{counted(len(left), 'clip')} in {folder} ({some(list(left), 4)}); keep what is "
            "named rightly, or delete it and run this again",
            err=True,
        )


def _say_lengths(folder: Path, word: str) -> None:
    from kws.data.recording.lengths import word_lengths
    from kws.labels import UNKNOWN

    if word == UNKNOWN:
        return
    try:
        typer.echo(str(word_lengths(folder, word)), err=True)
    except KwsError:  # nothing was added, which is said
        return
