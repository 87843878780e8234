"""From the row of an event to the event, whatever is in the row."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from gatecast.events import Action, RecordedEvent


def recorded(*, action: str, originated_at: datetime | None, recorded_at: datetime, **fields: Any) -> RecordedEvent:  # noqa: ANN401 - the other columns
    """The event of a row. One that holds what no reader can read says so, and keeps no other from being read.

    `originated_at` is None where no `datetime` can hold it: rows may be older than the rule that forbids it.
    """
    known = action in set(Action)
    unreadable = "" if known else "action must be one of the known ones"
    if originated_at is None:
        unreadable = "originated_at must lie within the years 1 to 9999 in UTC"
    return RecordedEvent(
        action=Action(action) if known else Action.UPDATE,
        originated_at=recorded_at if originated_at is None else originated_at,
        recorded_at=recorded_at,
        unreadable=unreadable,
        **fields,
    )
