"""A network's labels, in the order of its outputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kws.errors import KwsError
from kws.labels import SILENCE, UNKNOWN, folded

COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
"""The ten commands of the twelve-label task (P. Warden, arXiv 1804.03209, section 6)."""

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

WORDS = (
    *COMMANDS,
    *DIGITS,
    *("backward", "bed", "bird", "cat", "dog", "follow", "forward", "happy", "house", "learn"),
    *("marvin", "sheila", "tree", "visual", "wow"),
)
"""All 35 words of Speech Commands v0.02."""

NOT_THE_WORD = -1
"""`LabelSet.index_of` for anything but the wake word of a sigmoid head: its output should be 0."""


@dataclass(frozen=True, kw_only=True)
class LabelSet:
    """The labels of a network."""

    labels: tuple[str, ...]
    """All labels, in the order of the outputs."""
    keywords: tuple[str, ...]
    """The labels that are reported as events."""
    head: str = "softmax"
    """``"softmax"``: exactly one label applies; ``"sigmoid"``: one output, p(the wake word)."""

    def __post_init__(self) -> None:
        for word in self.labels:
            if not word or word != word.strip() or any(c in word for c in "/\\\t\n\0"):
                raise KwsError(
                    f"A label must be a plain folder name. Received: {word!r}. Rename it"
                )
        plain = [folded(word) for word in self.labels]
        twice = [word for i, word in enumerate(self.labels) if plain[i] in plain[:i]]
        if twice:
            raise KwsError(
                f"Labels must differ, ignoring case. Received: {twice[0]!r} twice. Remove one"
            )
        wrong = [w for w in self.keywords if w not in self.labels or w in (SILENCE, UNKNOWN)]
        if not self.keywords or wrong:
            raise KwsError(
                "Keywords must be labels, at least one, and not the special ones. "
                f"Received: {', '.join(wrong) or 'none'}. Name the words to detect"
            )
        if self.head == "sigmoid":
            if self.labels != self.keywords or len(self.labels) != 1:
                raise KwsError(
                    "A sigmoid head has one output, the wake word. Received: labels "
                    f"{', '.join(self.labels)}. Use a softmax head for several"
                )
        elif self.head != "softmax":
            raise KwsError(f"Unknown head. Received: {self.head!r}. Use 'softmax' or 'sigmoid'")
        elif len(self.labels) < 2:
            raise KwsError(
                f"A softmax head needs at least two labels. Received: {', '.join(self.labels)}. "
                f"Add {UNKNOWN}, or use a sigmoid head for one wake word"
            )

    @classmethod
    def own(cls, words: Sequence[str], *, silence: bool = True, unknown: bool = True) -> LabelSet:
        """Return a custom choice of words, with the special labels at the end.

        Raises:
            KwsError: no words, a duplicate, or a word that cannot name a folder.
        """
        if isinstance(words, str):
            words = [words]
        special = (SILENCE,) * silence + (UNKNOWN,) * unknown
        return cls(labels=(*words, *special), keywords=tuple(words))

    @classmethod
    def twelve(cls) -> LabelSet:
        """Return the ten commands, ``_silence_`` and ``_unknown_``."""
        return cls.own(COMMANDS)

    @classmethod
    def thirty_five(cls) -> LabelSet:
        """Return all 35 words of Speech Commands v0.02, without special labels."""
        return cls.own(WORDS, silence=False, unknown=False)

    @classmethod
    def wake_word(cls, word: str) -> LabelSet:
        """Return one output, the probability of `word`."""
        return cls(labels=(word,), keywords=(word,), head="sigmoid")

    def index_of(self, word: str) -> int:
        """Return the output for a word (a folder's name, or a special label).

        Spelling variants match (`kws.labels.folded`): a folder "yes" belongs to the label "Yes". A
        word that is not a label counts as ``_unknown_``; so does silence without a label of its
        own. For a wake word's network, which has one output, all else gets `NOT_THE_WORD` (-1).

        Raises:
            KwsError: the word is not a label and there is no ``_unknown_``.
        """
        if (plain := folded(word)) in (known := [folded(label) for label in self.labels]):
            return known.index(plain)
        if self.head == "sigmoid":
            return NOT_THE_WORD
        if UNKNOWN in self.labels:
            return self.labels.index(UNKNOWN)
        raise KwsError(
            f"No label for {word!r}. Received: labels {', '.join(self.labels)}. "
            f"Add the word or {UNKNOWN}, or leave its clips out"
        )

    def indices_of(self, words: Iterable[str]) -> list[int]:
        """Return `index_of` for each word."""
        known: dict[str, int] = {}
        indices = []
        for word in words:
            if word not in known:
                known[word] = self.index_of(word)
            indices.append(known[word])
        return indices
