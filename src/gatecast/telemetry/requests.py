"""Names requests, so that every line that is logged for one can be found."""

from __future__ import annotations

import re
from contextlib import suppress
from uuid import uuid4

import structlog

from gatecast.errors import InvalidValue
from gatecast.events.event import change_trace
from gatecast.events.grammar import clean_trace_parent

#: The header that carries a request's name, there and back.
REQUEST_ID_HEADER = "X-Request-ID"

#: What a peer may call its request; anything else gets a name of ours.
_NAME = re.compile(r"[\w.~+/=:@-]{1,128}", re.ASCII)


def name_request(given: str | None) -> str:
    """The request's name: as the peer calls it, or a new one; lines that this task logs from now on carry it."""
    name = given if given is not None and _NAME.fullmatch(given) else str(uuid4())
    structlog.contextvars.bind_contextvars(request=name)
    return name


def follow_trace(trace_parent: str | None) -> None:
    """Let the events that this task makes carry this W3C `traceparent`, and its lines the id of the trace.

    Without one, and with what is none, nothing is traced, as the standard says.
    """
    change_trace.set(None)
    structlog.contextvars.unbind_contextvars("trace")
    with suppress(InvalidValue):
        if trace_parent is not None:
            change_trace.set(clean_trace_parent("traceparent", trace_parent))
            structlog.contextvars.bind_contextvars(trace=trace_parent.split("-")[1])
