"""Words from the synthesiser in many voices, and what only sounds like them."""

from __future__ import annotations

import functools
import os
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from kws.data.recording.word_clips import check_word
from kws.data.synthesis.near_misses import NearMiss, near_miss
from kws.data.synthesis.phonemes import sounds_of
from kws.data.synthesis.rooms import Rooms
from kws.data.synthesis.spoken_clips import (
    Cast,
    PlannedClip,
    labelled_texts,
    needed_seconds,
    plan_words,
    write_clips,
)
from kws.data.synthesis.spoken_record import Spoken, note_spoken
from kws.data.synthesis.voices import random_utterance, voices
from kws.errors import KwsError
from kws.labels import folded
from kws.system.files import atomic_write

TEXTS = "texts.tsv"
"""Says what is said in the near-misses of a folder."""


def synthesise(
    words: Sequence[str] | Mapping[str, str],
    out_dir: str | os.PathLike[str],
    *,
    clips_per_word: int = 100,
    near_misses: int = 0,
    languages: str | Sequence[str] = "en",
    seed: int = 0,
    clip_seconds: float | None = None,
    varied: bool = False,
    rooms: Rooms | None = None,
    workers: int | None = None,
    on_clip: Callable[[], None] | None = None,
) -> list[Path]:
    """Write clips of words, ``<out_dir>/<word>/<speaker>_nohash_<n>.wav``, in many voices.

    Every word is said by the same voices, each clip at its own pitch, speed and level, the word at
    a random place in the clip, digital silence around it. What is written depends on the arguments
    alone (not on `workers`). Clips of an earlier call with the same name are replaced; recordings
    of people have other names.

    Near-misses go to ``<out_dir>/not_<word>/``; ``texts.tsv`` beside them (columns clip, text,
    kind) says what they are. All clips have one length. How the words were generated is noted in
    ``<out_dir>/spoken.tsv`` (`kws.data.synthesis.spoken_record`).

    Args:
        words: what to say; a mapping gives label → text (``{"hello": "[[h@l'oU]]"}``), so does
            ``"hello=[[h@l'oU]]"`` in a sequence. A near-miss of one is never another one.
        out_dir: folder of the label folders; made where missing.
        clips_per_word: how many clips of each word; 0 for near-misses only.
        near_misses: how many for each word, by those of the accents that `own_sounds` names.
        languages: as for `kws.data.synthesis.voices.voices`; accents are drawn from all of them.
        seed: other voices, pitches, speeds, places and levels for another seed.
        clip_seconds: the clips' length; what is longer is spoken faster. `None`: as long as the
            words need (`kws.data.synthesis.spoken_clips.needed_seconds`).
        varied: let pitch and speed go further, words have pauses between them, and a few whisper.
        rooms: as for `kws.data.synthesis.spoken_clips.write_clips`.
        workers: as for `kws.data.synthesis.synth.render`.
        on_clip: called after each clip, from the caller's thread.

    Returns:
        The files, words first, word by word.

    Raises:
        KwsError: as `speak` and `near_miss`; nothing to write;
            two words with one label, one with the label of another's near-misses, or a label that
            cannot be a folder.
    """
    texts = labelled_texts(words)
    plan = functools.partial(
        plan_words, texts, out_dir, languages=languages, seed=seed, varied=varied
    )
    if clip_seconds is None:
        # Of the words: near-misses that happen to be longer are spoken a little faster.
        likely = plan(max(clips_per_word, near_misses))
        clip_seconds = needed_seconds(likely, workers=workers)
    clips = plan(clips_per_word) if clips_per_word or not near_misses else []
    made = _plan_near_misses(texts, Path(out_dir), near_misses, languages, seed, varied)
    written: dict[PlannedClip, NearMiss] = {}
    codes = (languages,) if isinstance(languages, str) else tuple(languages)
    how = {
        label: Spoken(text=text, languages=codes, seconds=clip_seconds, seed=seed)
        for label, text in texts.items()
    }
    begun = False

    def note(clip: PlannedClip) -> None:
        nonlocal begun
        begun = True
        if clip in made:
            written[clip] = made[clip]
        if on_clip is not None:
            on_clip()

    try:
        return write_clips(
            [*clips, *made],
            clip_seconds,
            rooms=rooms,
            workers=workers,
            on_clip=note,
        )
    finally:
        _note(written)
        if begun:
            note_spoken(out_dir, how)


def own_sounds(texts: Iterable[str], languages: str | Sequence[str]) -> frozenset[str]:
    """Return the accents that say all texts by their language's own rules.

    Near-misses are made of a word's sounds, and some languages leave a word to another one: French
    has "computer" said in English.

    Args:
        texts: as for `kws.data.synthesis.phonemes.sounds_of`.
        languages: as for `kws.data.synthesis.voices.voices`.

    Returns:
        Codes as in `Voice.language`, one at least.

    Raises:
        KwsError: no voice for a language, or there is no such accent.
    """
    texts = list(texts)
    able: set[str] = set()
    refused: KwsError | None = None
    for voice in voices(languages):
        if voice.variant:  # who speaks makes no difference to the sounds
            continue
        try:
            for text in texts:
                sounds_of(text, voice)
            able.add(voice.language)
        except KwsError as error:
            refused = refused or error
    if refused is not None and not able:
        raise refused
    return frozenset(able)


def _plan_near_misses(
    texts: Mapping[str, str],
    out_dir: Path,
    clips_per_word: int,
    languages: str | Sequence[str],
    seed: int,
    varied: bool,
) -> dict[PlannedClip, NearMiss]:
    if not clips_per_word:
        return {}
    cast = Cast(languages, seed, whispers=varied)
    able = own_sounds(texts.values(), languages)
    plan = {}
    for label, text in texts.items():
        others = [other for other in texts.values() if other != text]
        folder = out_dir / check_word(f"not_{label}")
        if folded(folder.name) in map(folded, texts):
            raise KwsError(
                f"The near-misses of {label!r} would lie among the clips of another word. "
                f"Received: {folder.name!r}. Give it another label, or speak it in another call"
            )
        for number in range(clips_per_word):
            rng = np.random.default_rng([seed, zlib.crc32(folder.name.encode()), number])
            # The speakers of the words, so that who speaks tells nothing.
            name, accents = cast.turn(number)
            accents = [voice for voice in accents if voice.language in able]
            # The accent decides about the sounds, so all else is drawn before the text.
            utterance = random_utterance(text, accents, rng, varied=varied)
            near = near_miss(text, utterance.voice, rng, avoid=others)
            clip = PlannedClip(
                path=folder / name, utterance=replace(utterance, text=near.text), rng=rng
            )
            plan[clip] = near
    return plan


def _note(written: Mapping[PlannedClip, NearMiss]) -> None:
    """Write what is said in clips beside them; rows about other clips stay."""
    folders: dict[Path, dict[str, str]] = {}
    for clip, made in written.items():
        rows = folders.setdefault(clip.path.parent, {})
        rows[clip.path.name] = f"{made.text}\t{made.kind}"
    for folder, rows in folders.items():
        table = folder / TEXTS
        if table.is_file():
            before = table.read_text(encoding="utf-8", errors="replace").splitlines()[1:]
            rows = {name: rest for name, _, rest in (row.partition("\t") for row in before)} | rows
        with atomic_write(table, "w") as file:
            file.write("clip\ttext\tkind\n")
            file.writelines(f"{name}\t{rows[name]}\n" for name in sorted(rows))
