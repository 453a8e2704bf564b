"""Guided recording of a word: takes of a few seconds, judged at once and cut to the word.

A person may record in several sessions, in different rooms or with different microphones. Numbers
in file names continue, so that all clips of a person stay in one part of the data. A table next to
the clips holds the session, level and time of each.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np

from kws.audio.files import write_wav
from kws.audio.level import level_dbfs
from kws.audio.microphone import find_device, open_microphone
from kws.audio.samples import SAMPLE_RATE_HZ, Pcm
from kws.data.recording.find_words import LONGEST_S, cut_around, find_utterances, strongest
from kws.data.recording.levels import level_fault, measure_levels
from kws.data.recording.word_clips import check_word
from kws.errors import KwsError
from kws.system.files import atomic_write

TAKE_S = 2.0
SHORTEST_TAKE_S, LONGEST_TAKE_S = 1.0, 10.0
COUNT_IN_S = 1.5
TABLE = "recordings.tsv"
"""Table of the clips of `record_word`, in the folder of the word."""
_COLUMNS = ("clip", "speaker", "session", "level_dbfs", "noise_dbfs", "word_s", "recorded")

# A word less than this above the noise is hard to understand for people, too.
_SMALLEST_SNR_DB = 12.0
# An utterance within this of the word's level is another word.
_ALIKE_DB = 12.0
_EDGE_S = 0.03


@dataclasses.dataclass(frozen=True, kw_only=True)
class TakeReport:
    """What `judge_take` finds in a take."""

    faults: tuple[str, ...]
    """What is wrong, as advice for the speaker, the worst first; empty for a good take."""
    level_dbfs: float
    """RMS of the loudest 30 ms, in dB relative to full scale; ``-inf`` for digital silence."""
    noise_dbfs: float
    """RMS of the quietest tenth, in dB relative to full scale."""
    start: int
    """The word's first sample; 0 if none was found."""
    end: int
    """The sample after its last; 0 if none was found."""

    @property
    def length_s(self) -> float:
        """Length of the word, in s; 0 if none was found."""
        return (self.end - self.start) / SAMPLE_RATE_HZ

    @property
    def good(self) -> bool:
        """Whether the take can be kept."""
        return not self.faults


def judge_take(pcm: Pcm) -> TakeReport:
    """Find the word in a take and what is wrong with it.

    Args:
        pcm: int16 [n] at 16 kHz, at least 0.3 s: silence, one word, silence.

    Raises:
        KwsError: the take is shorter than 0.3 s.
    """
    if len(pcm) < 0.3 * SAMPLE_RATE_HZ:
        raise KwsError(f"A take lasts at least 0.3 s. Received: {len(pcm) / SAMPLE_RATE_HZ:.2f} s")
    levels = measure_levels(pcm)
    level_db, noise_db = levels.loudest_dbfs, levels.noise_dbfs

    def report(*faults: str, start: int = 0, end: int = 0) -> TakeReport:
        return TakeReport(
            faults=faults, level_dbfs=level_db, noise_dbfs=noise_db, start=start, end=end
        )

    if np.isneginf(level_db):
        return report("digital silence: the microphone is muted or lacks permission")
    if (fault := level_fault(pcm)) is not None:
        return report(fault)
    if level_db - noise_db < _SMALLEST_SNR_DB:
        return report(
            f"no word stands out of the noise ({noise_db:.0f} dBFS): find a quieter place, or "
            f"speak after the signal"
        )
    utterances = find_utterances(pcm)
    if not utterances:
        return report("no word stands out, only a click or a breath: say it again")
    word = strongest(utterances)
    faults = []
    if word.start_s < _EDGE_S:
        faults.append("cut off at the beginning: speak a little later")
    if word.end_s > len(pcm) / SAMPLE_RATE_HZ - _EDGE_S:
        faults.append("cut off at the end: speak a little earlier, or use longer takes (--seconds)")
    if word.length_s > LONGEST_S:
        faults.append(f"{word.length_s:.1f} s long: say only the word, within {LONGEST_S:g} s")
    others = [one for one in utterances if one.level_dbfs > word.level_dbfs - _ALIKE_DB]
    if len(others) > 1:
        faults.append(f"said {len(others)} times: say the word once, without a pause")
    return report(*faults, start=word.start, end=word.end)


def clip_of(pcm: Pcm, report: TakeReport) -> Pcm:
    """Cut a take to its word with 0.3 s on either side, at least a second in all.

    Args:
        pcm: the take, int16 [n].
        report: what `judge_take` found in it.

    Returns:
        int16 [m]; the whole take if no word was found in it.
    """
    if report.end <= report.start:
        return pcm
    start, end = cut_around(report.start, report.end, len(pcm))
    return pcm[start:end]


def check_session(name: str) -> str:
    """Return a session's name if it fits into a table.

    Raises:
        KwsError: it is empty, or has control characters or more than 64 characters.
    """
    plain = name.strip()
    if not plain or not plain.isprintable() or len(plain) > 64:
        raise KwsError(
            "A session's name is one line of up to 64 characters, such as 'kitchen, headset'. "
            f"Received: {name!r}"
        )
    return plain


def save_clip(pcm: Pcm, word: str, out_dir: str | os.PathLike[str], speaker: str) -> Path:
    """Write ``<out_dir>/<word>/<speaker>_nohash_<n>.wav`` with the first free number."""
    folder = Path(out_dir) / check_word(word)
    number = 0
    while (path := folder / f"{speaker}_nohash_{number}.wav").exists():
        number += 1
    write_wav(path, pcm, SAMPLE_RATE_HZ)
    return path


def _check_table(folder: Path) -> None:
    """Make sure, before recording begins, that clips can be added to the table."""
    table = folder / TABLE
    if not table.exists():
        return
    content = table.read_bytes()
    # Some editors write a byte order mark.
    lines = content.decode("utf-8-sig", "replace").splitlines()
    if not lines or lines[0].split("\t") != list(_COLUMNS):
        raise KwsError(
            f"{table} is a different table. Received: a first line other than "
            f"{' '.join(_COLUMNS)!r}. Move it away"
        )
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise KwsError(
            f"{table} is not UTF-8 text. Received: the byte 0x{content[error.start]:02x} in line "
            f"{line}. Save it as UTF-8, or move it away"
        ) from error


def _note_clip(path: Path, speaker: str, session: str, report: TakeReport) -> None:
    """Add a line to the table of the clip's folder."""
    table = path.parent / TABLE
    # Its bytes are kept unchanged, even if it was edited since it was checked.
    content = table.read_bytes() if table.exists() else "\t".join(_COLUMNS).encode()
    if not content.endswith(b"\n"):
        content += b"\n"
    values = (
        *(path.name, speaker, session, f"{report.level_dbfs:.1f}", f"{report.noise_dbfs:.1f}"),
        *(f"{report.length_s:.2f}", datetime.now().astimezone().isoformat(timespec="seconds")),
    )
    with atomic_write(table) as file:
        file.write(content + "\t".join(values).encode() + b"\n")


def record_word(
    word: str,
    out_dir: str | os.PathLike[str],
    *,
    count: int,
    speaker: str,
    session: str,
    seconds: float = TAKE_S,
    device: int | str | None = None,
    ask: Callable[[str], str],
    say: Callable[[str], None],
    show_level: Callable[[float], None] = lambda _level: None,
) -> list[Path]:
    """Record takes until `count` clips are kept or the speaker stops.

    After each take the speaker decides: Enter keeps a good take (or repeats a faulty one), ``r``
    repeats, ``k`` keeps even a faulty one, ``q`` stops without it. Kept clips are written at once.

    Args:
        word: the label, and the word to say.
        out_dir: the data folder; existing clips are never overwritten.
        count: number of clips to keep.
        speaker: an id as from `kws.data.recording.word_clips.speaker_id`.
        session: what the takes have in common, such as the room; for the table.
        seconds: length of a take.
        device: as for `kws.audio.microphone.find_device`.
        ask: prints a question and returns the answer; raises `EOFError` at the end of the input.
        say: prints a line.
        show_level: called with the level of each block of audio, in dBFS.

    Returns:
        The clips kept.

    Raises:
        KwsError: a word that cannot name a folder, or a problem with the microphone.
    """
    check_word(word)
    session = check_session(session)
    if not SHORTEST_TAKE_S <= seconds <= LONGEST_TAKE_S:
        raise KwsError(
            f"A take lasts {SHORTEST_TAKE_S:g} to {LONGEST_TAKE_S:g} s. Received: {seconds:g} s"
        )
    _check_table(Path(out_dir) / word)
    find_device(device)  # Reports problems with the microphone before the first question.
    kept: list[Path] = []
    try:
        ask(f"{count} takes of {word!r}. Press Enter to begin: ")
        while len(kept) < count:
            which = f"take {len(kept) + 1} of {count}"
            pcm = _take(word, which, seconds, device, say, show_level)
            report = judge_take(pcm)
            for fault in report.faults:
                say(f"  {fault}")
            if report.good:
                say(f"  good: {report.level_dbfs:.0f} dBFS, {report.length_s:.2f} s")
                question = "  Enter: keep, r: repeat, q: stop: "
            else:
                question = "  Enter: repeat, k: keep anyway, q: stop: "
            answer = ask(question).strip().lower()
            if answer == "q":
                break
            if answer == "k" or (report.good and answer != "r"):
                path = save_clip(clip_of(pcm, report), word, out_dir, speaker)
                kept.append(path)
                _note_clip(path, speaker, session, report)
    except EOFError:
        say("end of input; stopping")
    return kept


def _take(
    word: str,
    which: str,
    seconds: float,
    device: int | str | None,
    say: Callable[[str], None],
    show_level: Callable[[float], None],
) -> Pcm:
    """Count in, give the signal and record; int16 [seconds * 16000]."""
    # Opened for each take, so that nothing said during the question is in it.
    with open_microphone(device) as microphone:
        heard, signal_at = 0, round(COUNT_IN_S * SAMPLE_RATE_HZ)
        blocks: list[Pcm] = []
        say(f"{which}: get ready …")
        for block in microphone:
            show_level(level_dbfs(block))
            if heard >= signal_at:
                blocks.append(block)
            elif heard + len(block) >= signal_at:
                say(f"  say {word!r} now")
            heard += len(block)
            if heard >= signal_at + seconds * SAMPLE_RATE_HZ:
                break
        if microphone.overflows or microphone.lost_s:
            say("  some audio was lost in this take: close other programs and repeat it")
    return np.concatenate(blocks)
