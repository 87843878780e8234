"""Close codes as data: one table for server, client and docs.

Numbers from 4000 on are ours. `reconnect` is the rule a client follows: unmodified gateways come back after any code,
which is why a gateway that must not come back is refused before the upgrade next time.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseCode:
    """Why a connection ends, and whether the client should come back."""

    #: The number in the close frame.
    number: int
    #: The reason in the close frame.
    reason: str
    #: True when the client should connect again.
    reconnect: bool
    #: The meaning, for people.
    meaning: str


NORMAL = CloseCode(number=1000, reason="closed", reconnect=True, meaning="the connection was closed in order")
TOO_BIG = CloseCode(number=1009, reason="too-big", reconnect=True, meaning="a frame was larger than 64 KiB")
INTERNAL = CloseCode(
    number=1011, reason="internal-error", reconnect=True, meaning="the pod failed; connect to another pod"
)
RESTARTING = CloseCode(
    number=1012, reason="restarting", reconnect=True, meaning="the pod stops; connect to another pod; nothing is lost"
)
TOKEN_REVOKED = CloseCode(
    number=4001, reason="token-revoked", reconnect=False, meaning="the token was revoked; use a new one"
)
GATEWAY_DELETED = CloseCode(
    number=4004, reason="gateway-deleted", reconnect=False, meaning="the gateway was deleted in the control plane"
)
SILENT = CloseCode(number=4008, reason="silent", reconnect=True, meaning="the gateway sent no Pong for too long")
SUPERSEDED = CloseCode(
    number=4009, reason="superseded", reconnect=False, meaning="a newer connection of this gateway replaced this one"
)
RATE_EXCEEDED = CloseCode(
    number=4029, reason="rate-exceeded", reconnect=True, meaning="the gateway sent too many useless frames"
)

#: Every code that Gatecast sends, by number.
CLOSE_CODES = (
    NORMAL,
    TOO_BIG,
    INTERNAL,
    RESTARTING,
    TOKEN_REVOKED,
    GATEWAY_DELETED,
    SILENT,
    SUPERSEDED,
    RATE_EXCEEDED,
)

_BY_REASON = {code.reason: code for code in CLOSE_CODES}
_BY_NUMBER = {code.number: code for code in CLOSE_CODES}


def for_reason(reason: str) -> CloseCode:
    """The code with this reason; an unknown reason is an internal error."""
    return _BY_REASON.get(reason, INTERNAL)


def for_number(number: int | None) -> CloseCode | None:
    """The code with this number, if Gatecast sends it."""
    return _BY_NUMBER.get(number or 0)
