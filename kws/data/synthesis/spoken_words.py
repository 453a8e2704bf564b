"""Words from the synthesiser in many voices, and similar-sounding words."""

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
"""Table of the texts of the near-misses in a folder."""


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

    All words are said by the same voices. Each clip has its own pitch, speed and level, and the
    word is at a random position, with digital silence around it. The result depends only on the
    arguments (not on `workers`). Clips of an earlier call with the same name are replaced;
    recordings of people have other names.

    Near-misses go to ``<out_dir>/not_<word>/``, with a table ``texts.tsv`` (columns clip, text,
    kind). All clips have the same length. ``<out_dir>/spoken.tsv`` records how the words were
    generated (`kws.data.synthesis.spoken_record`).

    Args:
        words: what to say; a mapping gives label → text (``{"hello": "[[h@l'oU]]"}``), as does
            ``"hello=[[h@l'oU]]"`` in a sequence. A near-miss of one is never another one.
        out_dir: folder of the label folders; created if missing.
        clips_per_word: number of clips of each word; 0 for near-misses only.
        near_misses: number for each word, in the accents from `own_sounds`.
        languages: as for `kws.data.synthesis.voices.voices`; accents are drawn from all of them.
        seed: another seed gives other voices, pitches, speeds, positions and levels.
        clip_seconds: the clips' length; longer words are spoken faster. `None`: as long as the
            words need (`kws.data.synthesis.spoken_clips.needed_seconds`).
        varied: wider ranges of pitch and speed, pauses between words, and some whispering.
        rooms: as for `kws.data.synthesis.spoken_clips.write_clips`.
        workers: as for `kws.data.synthesis.synth.render`.
        on_clip: called after each clip, from the caller's thread.

    Returns:
        The files, words first, word by word.

    Raises:
        KwsError: as `speak` and `near_miss`; nothing to write; a duplicate label, one that is the
            label of another word's near-misses, or one that cannot name a folder.
    """
    texts = labelled_texts(words)
    plan = functools.partial(
        plan_words, texts, out_dir, languages=languages, seed=seed, varied=varied
    )
    if clip_seconds is None:
        # For the words only; longer near-misses are spoken a little faster.
        likely = plan(max(clips_per_word, near_misses))
        clip_seconds = needed_seconds(likely, workers=workers)
    clips = plan(clips_per_word) if clips_per_word or not near_misses else []
    made = _plan_near_misses(texts, Path(out_dir), near_misses, languages, seed, varied)
    written: list[PlannedClip] = []

    def note(clip: PlannedClip) -> None:
        written.append(clip)
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
        if written:
            _note_near_misses({clip: made[clip] for clip in written if clip in made})
            codes = (languages,) if isinstance(languages, str) else tuple(languages)
            how = {
                label: Spoken(text=text, languages=codes, seconds=clip_seconds, seed=seed)
                for label, text in texts.items()
            }
            note_spoken(out_dir, how)


def own_sounds(texts: Iterable[str], languages: str | Sequence[str]) -> frozenset[str]:
    """Return the accents that say all texts by their language's own rules.

    Near-misses are made from a word's phonemes, and some languages leave a word to another one:
    espeak-ng's French says "computer" in English.

    Args:
        texts: as for `kws.data.synthesis.phonemes.sounds_of`.
        languages: as for `kws.data.synthesis.voices.voices`.

    Returns:
        Codes as in `Voice.language`, at least one.

    Raises:
        KwsError: no voice for a language, or no such accent.
    """
    texts = list(texts)
    able: set[str] = set()
    refused: KwsError | None = None
    for voice in voices(languages):
        if voice.variant:  # the variant does not change the phonemes
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
                f"The near-misses of {label!r} would be mixed with the clips of another word. "
                f"Received: {folder.name!r}. Give it another label, or speak it in another call"
            )
        for number in range(clips_per_word):
            rng = np.random.default_rng([seed, zlib.crc32(folder.name.encode()), number])
            # The same speakers as for the words, so that the speaker reveals nothing.
            name, accents = cast.turn(number)
            accents = [voice for voice in accents if voice.language in able]
            # The accent determines the phonemes, so everything else is drawn before the text.
            utterance = random_utterance(text, accents, rng, varied=varied)
            near = near_miss(text, utterance.voice, rng, avoid=others)
            clip = PlannedClip(
                path=folder / name, utterance=replace(utterance, text=near.text), rng=rng
            )
            plan[clip] = near
    return plan


def _note_near_misses(written: Mapping[PlannedClip, NearMiss]) -> None:
    """Write the texts of clips to the table next to them; rows about other clips are kept."""
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
