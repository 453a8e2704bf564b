"""What counts in long recordings where commands count only just after a wake word."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from kws.after_wake import WINDOW_S, WakeGate, check_apart
from kws.data.label_file import SpokenWord
from kws.decide import Event
from kws.model_file import ModelCard, load_model
from kws.recordings.matching import Matches, match_events
from kws.recordings.posteriors import RecordingPosteriors
from kws.recordings.replay import Replay
from kws.recordings.truth import addressed_words


class Waking:
    """A wake word's model, and what is said in the recordings as it sees them."""

    model: str | Path
    """Name or file of the model."""
    card: ModelCard
    """Its model card."""
    window_s: float
    """How long after the wake word a command counts, in seconds."""
    commands: list[list[SpokenWord]]
    """The commands in each recording that follow the wake word."""
    notes: list[str]
    """Remarks on other labelled words."""

    def __init__(
        self,
        model: str | Path,
        commands: ModelCard,
        said: Sequence[Sequence[SpokenWord]],
        window_s: float = WINDOW_S,
    ) -> None:
        """Check that models and words go together.

        Args:
            model: of the wake word.
            commands: the model of the commands.
            said: all words labelled in each recording.
            window_s: how long after the wake word a command counts, in seconds.

        Raises:
            KwsError: no such model, models that do not go together, a window of no use, or words of
                neither model.
        """
        WakeGate(window_s)
        self.model, self.card, self.window_s = model, load_model(model), window_s
        self.card.require_stream_form()
        check_apart(self.card, commands)
        self._wakes, self.commands, self.notes = addressed_words(
            self.card, commands, said, window_s=window_s
        )

    def match(self, posteriors: Sequence[RecordingPosteriors]) -> list[Matches]:
        """Match the wake word's events with those spoken, in each recording."""
        return [
            match_events(words, Replay(self.card, one).events(), duration_s=one.seconds)
            for one, words in zip(posteriors, self._wakes, strict=True)
        ]

    def replays(
        self,
        commands: ModelCard,
        posteriors: Sequence[RecordingPosteriors],
        woken: Sequence[Matches],
    ) -> list[Replay]:
        """Return the decisions of the commands' model in each recording, of which some count.

        Args:
            commands: the model of the commands.
            posteriors: its posteriors for each recording.
            woken: what `match` returned.
        """
        return [
            Replay(commands, one, counted=self._counted_after(matches))
            for one, matches in zip(posteriors, woken, strict=True)
        ]

    def _counted_after(self, woken: Matches) -> Callable[[list[Event]], list[Event]]:
        return lambda events: WakeGate(self.window_s).pick(woken.reported, events)
