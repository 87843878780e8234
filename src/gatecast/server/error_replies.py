"""The one table of errors: the HTTP status of each, and its form as `application/problem+json`."""

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
    #: Names the kind; `type` is `urn:gatecast:problem:` and this.
    kind: str
    title: str
    #: Fields of the error that are shown.
    fields: tuple[str, ...] = ()
    #: Shown instead of the error's own text, which may name parts of the internal network.
    detail: str = ""


#: From the most to the least specific: the first class that matches counts.
ERROR_REPLIES: Mapping[type[GatecastError], ErrorReply] = {
    errors.PayloadTooLarge: ErrorReply(413, "payload-too-large", "The data is too large", ("field", "size", "limit")),
    errors.UnsupportedBody: ErrorReply(415, "unsupported-body", "The body has an unsupported form", ("field", "rule")),
    errors.InvalidValue: ErrorReply(422, "invalid-value", "A value breaks a rule", ("field", "rule")),
    errors.UnknownGateway: ErrorReply(404, "unknown-gateway", "There is no such gateway"),
    errors.NotFound: ErrorReply(404, "not-found", "There is no such resource"),
    errors.LimitReached: ErrorReply(409, "limit-reached", "A limit is used up", ("field",)),
    errors.Conflict: ErrorReply(409, "conflict", "The change contradicts what is stored", ("field",)),
    errors.StaleWrite: ErrorReply(412, "stale-write", "The resource was changed by someone else", ("current",)),
    errors.Unauthenticated: ErrorReply(401, "unauthenticated", "The credential is missing or not valid"),
    errors.TooManyAttempts: ErrorReply(429, "too-many-attempts", "Too many bad credentials"),
    errors.IssuerUnavailable: ErrorReply(503, "issuer-unavailable", "The token cannot be checked"),
    errors.Forbidden: ErrorReply(403, "forbidden", "The credential does not allow this"),
    errors.SecretKeyMissing: ErrorReply(503, "secret-key-missing", "Secrets cannot be stored or read"),
    errors.StoredByNewerRelease: ErrorReply(503, "newer-release", "A newer release has stored this"),
    errors.Overloaded: ErrorReply(503, "overloaded", "Too much is waiting already"),
    errors.ValueRefused: ErrorReply(
        422,
        "value-refused",
        "The database cannot hold a value",
        detail="the database cannot hold a value of this request, perhaps a character that its encoding lacks",
    ),
    errors.LogHeld: ErrorReply(503, "log-held", "Another transaction holds the log"),
    errors.RepeatUncertain: ErrorReply(503, "repeat-uncertain", "Unknown whether it was published before"),
    errors.StorageError: ErrorReply(
        503, "database-unavailable", "The database is not available", detail="the database cannot be asked; try again"
    ),
    errors.HubClosed: ErrorReply(
        503, "shutting-down", "This pod is shutting down", detail="this pod is shutting down; ask another one"
    ),
}

#: Every other error is a bug, and the answer does not describe it.
INTERNAL = ErrorReply(
    500, "internal", "Something went wrong here", detail="something went wrong here, and was logged; try again"
)


def reply_for(error: BaseException) -> ErrorReply:
    """The row of the table for an error."""
    return next((reply for kind, reply in ERROR_REPLIES.items() if isinstance(error, kind)), INTERNAL)


def problem(error: BaseException) -> tuple[int, dict[str, Any]]:
    """Status and body that answer an error; errors of other libraries are not described."""
    reply = reply_for(error)
    shown = {name: value for name in reply.fields if (value := getattr(error, name, None)) is not None}
    if "field" in shown:
        shown["field"] = _outside(shown["field"])
    if isinstance(error, errors.InvalidValue):
        shown["errors"] = [
            mistake(_outside(each.field), each.rule, shorten(each.value)) for each in (error, *error.also)
        ]
        if reply.kind == "invalid-value":
            shown["value"] = shorten(error.value)
    return reply.status, problem_body(reply, reply.detail or str(error), **shown)


def mistake(field: str, rule: str, value: str | None) -> dict[str, str]:
    """One invalid field, as `errors` lists it."""
    shown = {} if value is None else {"value": value}
    return {"field": field, "rule": rule} | shown


def problem_body(reply: ErrorReply, detail: str, **fields: object) -> dict[str, Any]:
    """A body in the one format of all problems."""
    return {
        "type": f"urn:gatecast:problem:{reply.kind}",
        "title": reply.title,
        "status": reply.status,
        "detail": detail,
        **fields,
    }


def _outside(field: str) -> str:
    """A field's name as the API spells it: `entity_type` is `entityType` there."""
    first, *others = field.split("_")
    return first + "".join(part.capitalize() for part in others)
