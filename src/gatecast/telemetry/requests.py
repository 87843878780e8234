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

#: The names that a peer may give its request; any other is replaced.
_NAME = re.compile(r"[\w.~+/=:@-]{1,128}", re.ASCII)


def name_request(given: str | None) -> str:
    """The request's name: as the peer calls it, or a new one; lines that this task logs from now on carry it."""
    name = given if given is not None and _NAME.fullmatch(given) else str(uuid4())
    structlog.contextvars.bind_contextvars(request=name)
    return name


def follow_trace(trace_parent: str | None) -> None:
    """Let events created by this task carry this W3C `traceparent`, and its log lines the trace id.

    Without one, or with an invalid one, nothing is traced, as the standard says.
    """
    change_trace.set(None)
    structlog.contextvars.unbind_contextvars("trace")
    with suppress(InvalidValue):
        if trace_parent is not None:
            change_trace.set(clean_trace_parent("traceparent", trace_parent))
            structlog.contextvars.bind_contextvars(trace=trace_parent.split("-")[1])
