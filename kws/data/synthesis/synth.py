"""Speech from espeak-ng: a text or many utterances become samples.

Generated voices cannot replace people. They all share one synthesiser's version of every phoneme,
so a model trained only on them does better on other generated voices than on real people.

`speak` works in this process and varies very slightly from call to call (`espeak` explains why).
`render` and `render_each` speak in fresh processes, in portions that depend only on the list, and
are exactly repeatable on any number of cores.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import re
import struct
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from kws.audio.samples import SAMPLE_RATE_HZ
from kws.data.synthesis.espeak import Utterance, Voice, engine
from kws.data.synthesis.phoneme_tables import Types, unknown_in
from kws.data.synthesis.voices import find_voice
from kws.errors import KwsError
from kws.system.processes import send_task, start_worker, take_stdout, usable_cores

# Faster than this, espeak-ng drops phonemes instead of shortening them.
_FASTEST_WPM = 320
# Utterances per process: few enough to spread over cores, enough to make up for its start.
_PORTION = 200
_WORKER = "from kws.data.synthesis.synth import _serve; _serve()"


def speak(
    text: str,
    voice: Voice | str = "en-us",
    *,
    pitch: int = 50,
    pitch_range: int = 50,
    rate_wpm: int = 165,
    longest_samples: int | None = None,
) -> NDArray[np.int16]:
    """Speak a text in this process.

    Args:
        text: see `Utterance`, as for the other arguments.
        voice: a `Voice`, or a name such as ``"en-us+m3"``.

    Returns:
        int16 [n] at 16 kHz, mono, without silence at the ends, at the voice's own level.

    Raises:
        KwsError: nothing in the text can be said, a setting is out of range, the text does not fit
            into `longest_samples`, or espeak-ng is missing.
    """
    utterance = Utterance(
        text=text,
        voice=find_voice(voice) if isinstance(voice, str) else voice,
        pitch=pitch,
        pitch_range=pitch_range,
        rate_wpm=rate_wpm,
        longest_samples=longest_samples,
    )
    return _speak(utterance)


def render(
    utterances: Sequence[Utterance],
    *,
    workers: int | None = None,
    on_clip: Callable[[], None] | None = None,
) -> list[NDArray[np.int16]]:
    """Speak many utterances on several cores; the same list gives the same samples every time.

    Args:
        utterances: what to say.
        workers: processes; `None`: one for each core. Does not change the samples.
        on_clip: called after each utterance, from the caller's thread.

    Returns:
        One int16 [n] array at 16 kHz for each utterance, in their order, as `speak` gives them.

    Raises:
        KwsError: as `speak`; the first error ends the work.
    """
    spoken: dict[int, NDArray[np.int16]] = {}
    for index, pcm in render_each(utterances, workers):
        spoken[index] = pcm
        if on_clip is not None:
            on_clip()
    return [spoken[index] for index in range(len(utterances))]


def render_each(
    utterances: Sequence[Utterance], workers: int | None
) -> Iterator[tuple[int, NDArray[np.int16]]]:
    """Speak portions of the list in fresh processes; yield (index, samples) as they are ready.

    Args:
        utterances: what to say.
        workers: as for `render`.

    Raises:
        KwsError: as `speak`; the first error ends the work.
    """
    engine()  # Reports a missing package once, here.
    if workers is None:
        workers = usable_cores()
    starts = range(0, len(utterances), _PORTION)
    # Bounded, so that speakers wait for a slow disk instead of filling the memory.
    spoken: queue.Queue[tuple[int, NDArray[np.int16]] | BaseException | None] = queue.Queue(256)
    running: set[subprocess.Popen[bytes]] = set()
    stopped = threading.Event()

    def hand_over(item: tuple[int, NDArray[np.int16]] | BaseException | None) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                spoken.put(item, timeout=0.1)
                return

    def portion(start: int) -> None:
        if stopped.is_set():
            return
        process = None
        try:
            process = start_worker(_WORKER)
            running.add(process)
            for index, pcm in enumerate(_ask(process, utterances[start : start + _PORTION])):
                hand_over((start + index, pcm))
        except BaseException as error:
            hand_over(error)
        finally:
            if process is not None:
                running.discard(process)
                process.kill()
                process.wait()
            hand_over(None)

    pool = ThreadPoolExecutor(max(1, min(workers, len(starts))))
    try:
        for start in starts:
            pool.submit(portion, start)
        finished = 0
        while finished < len(starts):
            try:
                # A timeout, because Windows cannot interrupt an endless wait.
                item = spoken.get(timeout=0.5)
            except queue.Empty:
                continue
            if item is None:
                finished += 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item
    finally:
        stopped.set()
        for process in list(running):
            process.kill()
        pool.shutdown(wait=True, cancel_futures=True)


def phoneme_types(voice: Voice) -> Types:
    """Return mnemonic → type (espeak-ng's ``phoneme.h``) of the language's phonemes."""
    return engine().phoneme_types(voice)


def transcribe(text: str, voice: Voice, *, ipa: bool = False) -> list[list[str]]:
    """Return the phonemes of each word of a text, as espeak-ng's mnemonics or in IPA.

    Stress precedes a phoneme (``"'u:"``). A word that is left to another language's rules is marked
    by its code: ``"(en)"``.

    Raises:
        KwsError: no such voice.
    """
    return engine().transcribe(text, voice, ipa=ipa)


def check_phonemes(text: str, voice: Voice) -> None:
    """Refuse ``[[phonemes]]`` that the voice's language does not have.

    espeak-ng silently skips them.

    Raises:
        KwsError: names the first one.
    """
    for phonemes in re.findall(r"\[\[(.*?)\]\]", text):
        if rest := unknown_in(phonemes, phoneme_types(voice)):
            raise KwsError(
                f"{voice.language} has no phoneme at {rest!r}. Received: {text!r}. "
                f"Choose another one, or its --language"
            )


def check_sayable(text: str, *, english: bool) -> None:
    """Refuse text that espeak-ng would skip or spell out character by character."""
    if re.search(r"\[\[.*\S.*\]\]", text):
        return
    letters = [character for character in text if character.isalnum()]
    if not letters:
        raise KwsError(f"There is nothing to say. Received: {text!r}. Give a word with letters")
    foreign = [c for c in letters if c.isalpha() and "LATIN" not in unicodedata.name(c, "")]
    if english and foreign:
        raise KwsError(
            f"An English voice can only spell out this word. Received: {text!r}. "
            f"Choose its language (--language)"
        )


def _speak(utterance: Utterance) -> NDArray[np.int16]:
    """Do the work of `speak`."""
    for value, low, high, name in (
        (utterance.pitch, 0, 99, "pitch"),
        (utterance.pitch_range, 0, 99, "pitch_range"),
        (utterance.rate_wpm, 80, _FASTEST_WPM, "rate_wpm"),
        (utterance.word_gap_ms, 0, 500, "word_gap_ms"),
    ):
        if not low <= value <= high:
            raise KwsError(f"{name} must be {low} to {high}. Received: {value}")
    check_sayable(utterance.text, english=utterance.voice.language.startswith("en"))
    check_phonemes(utterance.text, utterance.voice)
    limit = utterance.longest_samples
    rate_wpm = utterance.rate_wpm
    while True:
        pcm = _trim(engine().speak(dataclasses.replace(utterance, rate_wpm=rate_wpm)))
        if not len(pcm):
            raise KwsError(
                f"The voice {utterance.voice.name} says nothing for this text. "
                f"Received: {utterance.text!r}. Check the spelling or the language"
            )
        if limit is None or len(pcm) <= limit:
            return pcm
        if rate_wpm == _FASTEST_WPM:
            raise KwsError(
                f"The word takes {len(pcm) / SAMPLE_RATE_HZ:.1f} s even when spoken fast, longer "
                f"than a clip of {limit / SAMPLE_RATE_HZ:g} s. Received: {utterance.text!r}. "
                f"Choose a shorter word or longer clips"
            )
        rate_wpm = min(_FASTEST_WPM, int(rate_wpm * max(1.05, 1.02 * len(pcm) / limit)) + 1)


def _trim(pcm: NDArray[np.int16]) -> NDArray[np.int16]:
    """Cut silence (50 dB below the peak) at both ends except for 10 ms; empty if all is silent."""
    level = np.abs(pcm.astype(np.int32))
    peak = int(level.max(initial=0))
    if peak < 30:
        return pcm[:0]
    loud = np.flatnonzero(level > peak / 316)
    margin = SAMPLE_RATE_HZ // 100
    return pcm[max(0, loud[0] - margin) : loud[-1] + 1 + margin]


def _ask(
    process: subprocess.Popen[bytes], utterances: Sequence[Utterance]
) -> Iterator[NDArray[np.int16]]:
    """Give a worker its portion and read the answers: a count and samples, or a fault."""
    assert process.stdout is not None
    send_task(process, [dataclasses.asdict(utterance) for utterance in utterances])
    for utterance in utterances:
        header = process.stdout.read(4)
        size = struct.unpack("<i", header)[0] if len(header) == 4 else 0
        body = process.stdout.read(abs(size))
        if not body or len(body) < abs(size):
            raise KwsError(
                f"espeak-ng died while speaking. Received: exit status {process.wait()} "
                f"at {utterance.text!r} with the voice {utterance.voice.name}"
            )
        if size < 0:
            raise KwsError(body.decode())
        yield np.frombuffer(body, "<i2").astype(np.int16)


def _serve() -> None:
    """The worker's side of `_ask`."""
    answers = take_stdout()
    for fields in json.loads(sys.stdin.readline()):
        fields["voice"] = Voice(**fields["voice"])
        try:
            body = _speak(Utterance(**fields)).astype("<i2").tobytes()
            size = len(body)
        except KwsError as error:
            body = str(error).encode()
            size = -len(body)
        try:
            answers.write(struct.pack("<i", size) + body)
            answers.flush()
        except BrokenPipeError:
            os._exit(1)  # The parent has gone.
