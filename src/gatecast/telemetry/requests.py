"""Names requests, so that every line that is logged for one can be found."""

from __future__ import annotations

import re
from uuid import uuid4

import structlog

#: The header that carries a request's name, there and back.
REQUEST_ID_HEADER = "X-Request-ID"

#: What a peer may call its request; anything else gets a name of ours.
_NAME = re.compile(r"[\w.~+/=:@-]{1,128}", re.ASCII)


def name_request(given: str | None) -> str:
    """The request's name: as the peer calls it, or a new one; lines that this task logs from now on carry it."""
    name = given if given is not None and _NAME.fullmatch(given) else uuid4().hex
    structlog.contextvars.bind_contextvars(request=name)
    return name
