"""One table: which error is which HTTP status, and how it looks as `application/problem+json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gatecast import errors
from gatecast.errors import GatecastError, shorten

MEDIA_TYPE = "application/problem+json"

#: Seconds after which a client should try again, for 429 and 503.
RETRY_AFTER = 5


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """How one kind of error is answered."""

    status: int
    #: Names the kind; stands in `type` behind `urn:gatecast:problem:`.
    kind: str
    title: str
    #: Fields of the error that are shown.
    fields: tuple[str, ...] = ()


#: From the most to the least special: the first class that fits counts.
ERROR_REPLIES: Mapping[type[GatecastError], ErrorReply] = {
    errors.PayloadTooLarge: ErrorReply(413, "payload-too-large", "The data is too large", ("field", "size", "limit")),
    errors.InvalidValue: ErrorReply(422, "invalid-value", "A value breaks a rule", ("field", "rule")),
    errors.UnknownGateway: ErrorReply(404, "unknown-gateway", "There is no such gateway"),
    errors.NotFound: ErrorReply(404, "not-found", "There is no such resource"),
    errors.LimitReached: ErrorReply(409, "limit-reached", "A limit is used up", ("field",)),
    errors.Conflict: ErrorReply(409, "conflict", "The change contradicts what is stored", ("field",)),
    errors.StaleWrite: ErrorReply(412, "stale-write", "The resource was changed by someone else", ("current",)),
    errors.Unauthenticated: ErrorReply(401, "unauthenticated", "The credential is missing or not valid"),
    errors.Forbidden: ErrorReply(403, "forbidden", "The credential does not allow this"),
    errors.Overloaded: ErrorReply(503, "overloaded", "Too much is waiting already"),
    errors.StorageError: ErrorReply(503, "database-unavailable", "The database is not available"),
    errors.HubClosed: ErrorReply(503, "shutting-down", "This pod is shutting down"),
}

_INTERNAL = ErrorReply(500, "internal", "Something went wrong here")


def reply_for(error: BaseException) -> ErrorReply:
    """The row of the table that fits an error."""
    return next((reply for kind, reply in ERROR_REPLIES.items() if isinstance(error, kind)), _INTERNAL)


def problem(error: BaseException) -> tuple[int, dict[str, Any]]:
    """Status and body that answer an error. What is not ours is not told."""
    reply = reply_for(error)
    body: dict[str, Any] = {
        "type": f"urn:gatecast:problem:{reply.kind}",
        "title": reply.title,
        "status": reply.status,
        "detail": str(error) if reply is not _INTERNAL else "the error was logged; please try again",
    }
    for name in reply.fields:
        if (value := getattr(error, name, None)) is not None:
            body[name] = value
    if isinstance(error, errors.InvalidValue) and not isinstance(error, errors.PayloadTooLarge):
        body["value"] = shorten(error.value)
    return reply.status, body
