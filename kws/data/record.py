"""Guided recording of a word: takes of a few seconds, judged at once, kept as one-second clips."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kws.audio.files import SAMPLE_RATE_HZ, write_wav
from kws.audio.microphone import find_device, level_dbfs, open_microphone
from kws.data.own_words import check_word
from kws.errors import KwsError

CLIP_SAMPLES = SAMPLE_RATE_HZ
TAKE_S = 2.0
COUNT_IN_S = 1.5

# The word is looked for in steps of 10 ms.
_FRAME = SAMPLE_RATE_HZ // 100
# Loudest 30 ms of speech at arm's length: -35 to -15 dBFS. Below this the gain is set wrong.
_QUIET_DBFS = -42.0
# A word this little above the room's noise is hard to hear for people, too.
_SMALLEST_SNR_DB = 12.0
# Speech is what lies within this of the loudest 30 ms (weak consonants are about 25 dB down) …
_BELOW_PEAK_DB = 30.0
# … and clearly above the noise.
_ABOVE_NOISE_DB = 6.0
_CLIPPED_SAMPLES = 8
_EDGE_S = 0.03


@dataclasses.dataclass(frozen=True, kw_only=True)
class TakeReport:
    """What `judge_take` finds in a recording of one word."""

    faults: tuple[str, ...]
    """What is wrong, in words for the speaker, the worst first; empty for a good take."""
    level_dbfs: float
    """RMS of the loudest 30 ms, in dB below full scale; ``-inf`` for digital silence."""
    noise_dbfs: float
    """RMS of the quietest tenth, in dB below full scale."""
    start_s: float
    """Where the word begins, in s from the start; 0 when none was found."""
    end_s: float
    """Where the word ends, in s from the start; 0 when none was found."""

    @property
    def good(self) -> bool:
        """Whether the take can be kept."""
        return not self.faults


def judge_take(pcm: NDArray[np.int16]) -> TakeReport:
    """Find the word in a take and say what is wrong with it.

    Args:
        pcm: int16 [n] at 16 kHz, at least 0.3 s: some quiet, one word, some quiet.

    Raises:
        KwsError: the take is shorter than 0.3 s.
    """
    if len(pcm) < 0.3 * SAMPLE_RATE_HZ:
        raise KwsError(f"A take lasts at least 0.3 s. Received: {len(pcm) / SAMPLE_RATE_HZ:.2f} s")
    frames = len(pcm) // _FRAME
    samples = pcm[: frames * _FRAME].astype(np.float64)
    samples -= samples.mean()
    power = (samples.reshape(frames, _FRAME) ** 2).mean(axis=1)
    # Three frames together: shorter than a syllable, longer than a click.
    power = np.convolve(power, np.ones(3) / 3, mode="same")
    loudest = float(power.max())
    noise = float(np.quantile(power, 0.1))
    level_db, noise_db = _dbfs(loudest), _dbfs(noise)

    def report(*faults: str, first: int = 0, last: int = 0) -> TakeReport:
        return TakeReport(
            faults=faults,
            level_dbfs=level_db,
            noise_dbfs=noise_db,
            start_s=first * _FRAME / SAMPLE_RATE_HZ,
            end_s=last * _FRAME / SAMPLE_RATE_HZ,
        )

    if loudest == 0:
        return report("digital silence: the microphone is muted or not allowed")
    # A peak limiter's flat top is as bad as full scale, but cannot be told from music this simply.
    clipped = int(np.count_nonzero((pcm >= 32766) | (pcm <= -32767)))
    if clipped >= _CLIPPED_SAMPLES:
        return report("clipped: speak more softly, move away or turn down the input level")
    if level_db < _QUIET_DBFS:
        return report(f"too quiet ({level_db:.0f} dBFS): come closer or turn up the input level")
    if level_db - noise_db < _SMALLEST_SNR_DB:
        return report(
            f"no word stands out of the noise ({noise_db:.0f} dBFS): find a quieter place, or "
            f"speak after the signal"
        )
    floor = max(loudest * 10 ** (-_BELOW_PEAK_DB / 10), noise * 10 ** (_ABOVE_NOISE_DB / 10))
    active = np.flatnonzero(power > floor)
    first, last = int(active[0]), int(active[-1]) + 1
    faults = []
    edge = round(_EDGE_S * SAMPLE_RATE_HZ / _FRAME)
    if first < edge:
        faults.append("cut off at the beginning: speak a little later")
    if last > frames - edge:
        faults.append("cut off at the end: speak a little earlier")
    if (last - first) * _FRAME > CLIP_SAMPLES:
        faults.append(
            f"{(last - first) * _FRAME / SAMPLE_RATE_HZ:.1f} s long: say only the word, within "
            f"{CLIP_SAMPLES / SAMPLE_RATE_HZ:g} s"
        )
    return report(*faults, first=first, last=last)


def clip_of(pcm: NDArray[np.int16], report: TakeReport) -> NDArray[np.int16]:
    """Cut a take to one second with the word in its middle, from the take's own samples.

    Args:
        pcm: the take, int16 [n], at least one second.
        report: what `judge_take` found in it.

    Returns:
        int16 [16000].

    Raises:
        KwsError: the take is shorter than a second.
    """
    if len(pcm) < CLIP_SAMPLES:
        raise KwsError(
            f"A take for a clip lasts at least 1 s. Received: {len(pcm) / SAMPLE_RATE_HZ:.2f} s"
        )
    middle = (report.start_s + report.end_s) / 2 * SAMPLE_RATE_HZ
    start = min(max(0, round(middle - CLIP_SAMPLES / 2)), len(pcm) - CLIP_SAMPLES)
    return pcm[start : start + CLIP_SAMPLES]


def speaker_id(name: str) -> str:
    """Eight hexadecimal digits for a person, the same for the same name however it is typed.

    Only the digits are written to disk. They keep a person's clips on one side of the split.

    Raises:
        KwsError: the name is empty.
    """
    plain = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
    if not plain:
        raise KwsError(f"A speaker needs a name. Received: {name!r}. Give one with --speaker")
    return hashlib.sha1(plain.encode(), usedforsecurity=False).hexdigest()[:8]


def save_clip(
    pcm: NDArray[np.int16], word: str, out_dir: str | os.PathLike[str], speaker: str
) -> Path:
    """Write ``<out_dir>/<word>/<speaker>_nohash_<n>.wav`` with the first number that is free."""
    folder = Path(out_dir) / check_word(word)
    number = 0
    while (path := folder / f"{speaker}_nohash_{number}.wav").exists():
        number += 1
    write_wav(path, pcm, SAMPLE_RATE_HZ)
    return path


def record_word(
    word: str,
    out_dir: str | os.PathLike[str],
    *,
    count: int,
    speaker: str,
    device: int | str | None = None,
    ask: Callable[[str], str],
    say: Callable[[str], None],
    show_level: Callable[[float], None] = lambda _level: None,
) -> list[Path]:
    """Take after take until `count` clips are kept or the speaker stops.

    After each take the speaker is asked: Enter keeps a good take (or repeats a faulty one), ``r``
    repeats, ``k`` keeps even a faulty one, ``q`` stops without it. What is kept is on disk at once.

    Args:
        word: the label, and what to say.
        out_dir: the data folder; other clips in it are never overwritten.
        count: how many clips to keep.
        speaker: an id as from `speaker_id`.
        device: as for `kws.audio.microphone.find_device`.
        ask: prints a question and returns the answer; raises `EOFError` when there is nobody.
        say: prints a line.
        show_level: called with the level in dBFS of every block of audio.

    Returns:
        The clips kept.

    Raises:
        KwsError: a word that cannot name a folder, or trouble with the microphone.
    """
    check_word(word)
    find_device(device)  # Trouble with the microphone is said before anybody is asked to begin.
    kept: list[Path] = []
    try:
        ask(f"{count} takes of {word!r}. Press Enter to begin: ")
        while len(kept) < count:
            pcm = _take(word, f"take {len(kept) + 1} of {count}", device, say, show_level)
            report = judge_take(pcm)
            for fault in report.faults:
                say(f"  {fault}")
            if report.good:
                length_s = report.end_s - report.start_s
                say(f"  good: {report.level_dbfs:.0f} dBFS, {length_s:.2f} s")
                question = "  Enter: keep, r: again, q: stop: "
            else:
                question = "  Enter: again, k: keep it all the same, q: stop: "
            answer = ask(question).strip().lower()
            if answer == "q":
                break
            if answer == "k" or (report.good and answer != "r"):
                kept.append(save_clip(clip_of(pcm, report), word, out_dir, speaker))
    except EOFError:
        say("nobody answers; stopping")
    return kept


def _take(
    word: str,
    which: str,
    device: int | str | None,
    say: Callable[[str], None],
    show_level: Callable[[float], None],
) -> NDArray[np.int16]:
    """Count in, give the signal and record; int16 [TAKE_S * 16000]."""
    # Opened for each take, so that nothing said while the speaker was asked is in it.
    with open_microphone(device) as microphone:
        heard, signal_at = 0, round(COUNT_IN_S * SAMPLE_RATE_HZ)
        blocks: list[NDArray[np.int16]] = []
        say(f"{which}: get ready …")
        for block in microphone:
            show_level(level_dbfs(block))
            if heard >= signal_at:
                blocks.append(block)
            elif heard + len(block) >= signal_at:
                say(f"  say {word!r} now")
            heard += len(block)
            if heard >= signal_at + TAKE_S * SAMPLE_RATE_HZ:
                break
        if microphone.overflows or microphone.lost_s:
            say("  some audio was lost in this take: close other programs and repeat it")
    return np.concatenate(blocks)


def _dbfs(power: float) -> float:
    return 10 * math.log10(power / 32768**2) if power > 0 else -math.inf
