"""What `kws run` and `kws listen` do with events: a line for each, and clips where wanted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kws.wording import counted

if TYPE_CHECKING:
    from kws.decide import Event
    from kws.keep import Keeper
    from kws.spotter import Spotter


def event_line(event: Event, *, as_json: bool, file: str | None = None) -> str:
    """Return one line for people or, with `as_json`, one JSON object.

    Args:
        event: what was heard.
        as_json: for a machine.
        file: where it was heard, if in a file.
    """
    if as_json:
        where = {} if file is None else {"file": file}
        time_s, score = round(event.time_s, 3), round(event.score, 4)
        return json.dumps({**where, "time_s": time_s, "keyword": event.keyword, "score": score})
    line = f"{event.time_s:.2f} s  {event.keyword}  {event.score:.2f}"
    return line if file is None else f"{file}  {line}"


def keeper_for(spotter: Spotter, folder: Path | None, almost: bool) -> Keeper | None:
    """Return what keeps clips in the folder; None where none was given."""
    if folder is None:
        if almost:
            raise typer.BadParameter("--keep-almost says what to keep: give --keep DIR as well.")
        return None
    from kws.keep import Keeper

    return Keeper(spotter, folder, almost=almost)


def kept_line(keeper: Keeper, folder: Path) -> str:
    """Return what was kept, in a line."""
    events, almost = len(keeper.clips), len(keeper.almost_clips)
    line = f"kept {counted(events, 'event')}"
    if almost:
        line += f" and {almost} that came close"
    return f"{line} in {folder}"
