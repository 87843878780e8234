"""`application/problem+json` back to errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from gatecast.errors import (
    Conflict,
    Forbidden,
    GatecastError,
    InvalidValue,
    PayloadTooLarge,
    ProtocolViolation,
    Unauthenticated,
    UnknownGateway,
)
from gatecast.events import MAX_PAYLOAD_BYTES


def error_from(status: int, body: bytes, *, gateway_id: str) -> GatecastError:
    """The error that the server reported, with its text if the error has a field for it."""
    problem = _problem(body)
    detail = str(problem.get("detail") or problem.get("title") or f"HTTP {status}")
    make = _ERRORS.get(status)
    if status == HTTPStatus.NOT_FOUND:
        return UnknownGateway(gateway_id)
    return make(problem, detail) if make else ProtocolViolation(f"a publish was answered with {detail}")


class _Refused(InvalidValue):
    """A value that the server refused, in the server's words."""

    def __str__(self) -> str:
        return self.rule


def _problem(body: bytes) -> Mapping[str, Any]:
    try:
        problem = json.loads(body)
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _refused(problem: Mapping[str, Any], detail: str) -> GatecastError:
    return _Refused(str(problem.get("field") or "event"), problem.get("value"), detail)


def _too_large(problem: Mapping[str, Any], _detail: str) -> GatecastError:
    return PayloadTooLarge(_number(problem.get("size")), _number(problem.get("limit")) or MAX_PAYLOAD_BYTES)


_ERRORS: Mapping[int, Callable[[Mapping[str, Any], str], GatecastError]] = {
    HTTPStatus.BAD_REQUEST: _refused,
    HTTPStatus.UNPROCESSABLE_ENTITY: _refused,
    HTTPStatus.UNAUTHORIZED: lambda _problem, _detail: Unauthenticated(),
    HTTPStatus.FORBIDDEN: lambda _problem, detail: Forbidden(detail),
    HTTPStatus.CONFLICT: lambda problem, detail: Conflict(detail, field=problem.get("field")),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: _too_large,
}
