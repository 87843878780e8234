"""Reads many logs at once, so that one that cannot be read keeps no other waiting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from gatecast.containment import concerns_everyone, in_halves
from gatecast.errors import GatecastError
from gatecast.storage.contract import EventLog, ReadRequest, ReadResult

#: What came of a request: None where the gateway is not registered, an error where this log alone cannot be read.
ReadAnswer: TypeAlias = ReadResult | GatecastError | None


async def read_each(log: EventLog, requests: Sequence[ReadRequest]) -> Sequence[ReadAnswer]:
    """The next events for each request, in order.

    Of a log with a row that makes its read fail, those before it come first.

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
    """The events before the row at fault; the error when it is the next one."""
    size = request.max_events // 2
    while size and not concerns_everyone(error):
        [answer] = await in_halves([replace(request, max_events=size)], log.read)
        if not isinstance(answer, GatecastError):
            return answer
        error, size = answer, size // 2
    return error
