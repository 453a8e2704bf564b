"""An event as the line that `kws run` and `kws listen` print."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kws.decide import Event


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
