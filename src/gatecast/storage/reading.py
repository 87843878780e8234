"""Reads many logs at once, so that an unreadable one keeps no other waiting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from gatecast.containment import concerns_everyone, in_halves
from gatecast.errors import GatecastError
from gatecast.events import RecordedEvent
from gatecast.storage.contract import EventLog, ReadRequest, ReadResult

#: The result of a request: None if the gateway is not registered, an error if only this log cannot be read.
ReadAnswer: TypeAlias = ReadResult | GatecastError | None


async def read_each(log: EventLog, requests: Sequence[ReadRequest]) -> Sequence[ReadAnswer]:
    """The next events for each request, in order.

    A row that makes its read fail comes as an undeliverable event, after those before it.

    Raises:
        GatecastError: nothing can be read now, whatever is asked for.
    """
    answers = await in_halves(requests, log.read)
    if requests and all(isinstance(each, GatecastError) for each in answers):
        # It may be one row of each, or reading itself: then this fails as well.
        await log.read([])
    return [
        await _front(log, request, answer) if isinstance(answer, GatecastError) else answer
        for request, answer in zip(requests, answers, strict=True)
    ]


async def _front(log: EventLog, request: ReadRequest, error: GatecastError) -> ReadAnswer:
    """The events before the row at fault or, if that is the next one, a stand-in for it."""
    size = request.max_events
    while size and not concerns_everyone(error):
        size //= 2
        [answer] = await in_halves([replace(request, max_events=size)], log.read)
        if answer is None or not isinstance(answer, GatecastError):
            return answer if size or answer is None else _with_stand_in(answer, request, error)
        error = answer
    return error


def _with_stand_in(result: ReadResult, request: ReadRequest, error: GatecastError) -> ReadResult:
    """A result without events, completed with a stand-in for the next event."""
    if not result.low_water_mark <= request.after < result.head:
        return result
    event = RecordedEvent.standing_in(request.gateway_id, request.after + 1, str(error))
    return replace(result, events=[event])
