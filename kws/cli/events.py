"""Output of events in `kws run`, `kws listen` and `kws serve`: lines, and clips on request."""

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
        event: the detection.
        as_json: print JSON.
        file: the file that it was detected in, if any.
    """
    if as_json:
        where = {} if file is None else {"file": file}
        time_s, score = round(event.time_s, 3), round(event.score, 4)
        return json.dumps({**where, "time_s": time_s, "keyword": event.keyword, "score": score})
    line = f"{event.time_s:.2f} s  {event.keyword}  {event.score:.2f}"
    return line if file is None else f"{file}  {line}"


def keeper_for(spotter: Spotter, folder: Path | None, almost: bool) -> Keeper | None:
    """Return a keeper of clips; None without a folder."""
    if folder is None:
        if almost:
            raise typer.BadParameter("--keep-almost needs --keep DIR.")
        return None
    from kws.keep import Keeper

    return Keeper(spotter, folder, almost=almost)


def kept_line(keeper: Keeper, folder: Path) -> str:
    """Return a line that says what was kept."""
    events, almost = len(keeper.clips), len(keeper.almost_clips)
    line = f"kept {counted(events, 'event')}"
    if almost:
        line += f" and {almost} that came close"
    return f"{line} in {folder}"
