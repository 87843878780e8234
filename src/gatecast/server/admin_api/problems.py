"""How the admin API says what went wrong, and how its documentation says so."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from gatecast import errors
from gatecast.controlplane.documents.refusals import MAX_REFUSALS, mistakes
from gatecast.errors import GatecastError, shorten
from gatecast.server.admin_api.http_methods import allowed_methods
from gatecast.server.admin_api.json_bodies import BodyUnreadable
from gatecast.server.error_replies import (
    ERROR_REPLIES,
    INTERNAL,
    MEDIA_TYPE,
    RETRY_AFTER,
    ErrorReply,
    mistake,
    problem,
    problem_body,
)
from gatecast.telemetry import get_logger

#: A refused value of these fields may be a secret, so it is not shown again (scenario S39).
_PRIVATE = frozenset(
    {"data", "properties", "auth", "value", "params", "policies", "globalPolicies", "operationPolicies"}
)

#: Kinds of broken rules that are about a field and not about its value.
_WITHOUT_VALUE = frozenset({"missing", "extra_forbidden", "json_invalid"})

#: A value in place of an object or list may be its text, with the secrets in it.
_STRUCTURES = frozenset(
    {"dict_type", "list_type", "mapping_type", "model_attributes_type", "model_type", "set_type", "tuple_type"}
)

_logger = get_logger("admin-api")


class BodyTooLarge(HTTPException):
    """A request's body passed the limit. FastAPI lets only this kind of exception through while it reads a body."""

    def __init__(self, limit: int) -> None:
        super().__init__(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        #: The limit, in bytes.
        self.limit = limit


def answer_errors(app: FastAPI) -> None:
    """Let every error of this application be answered as a problem."""
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(BodyTooLarge, _on_body_too_large)
    app.add_exception_handler(BodyUnreadable, _on_body_unreadable)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(GatecastError, answer_error)
    app.add_exception_handler(Exception, answer_error)


def problem_answer(body: dict[str, Any], headers: dict[str, str] | None = None) -> JSONResponse:
    """A problem, with the headers that belong to its status."""
    extra = dict(headers or {})
    if body["status"] in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        extra["Retry-After"] = str(RETRY_AFTER)
    if body["status"] == HTTPStatus.UNAUTHORIZED:
        extra["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, status_code=body["status"], headers=extra, media_type=MEDIA_TYPE)


async def answer_error(request: Request, error: Exception) -> JSONResponse:
    """The problem that answers an error, which is logged where it is ours."""
    status, body = problem(error)
    if status == INTERNAL.status:
        _logger.error("request-failed", path=request.url.path, exc_info=error)
    elif status == HTTPStatus.SERVICE_UNAVAILABLE:
        _logger.warning("request-put-off", path=request.url.path, error=str(error))
    return problem_answer(body)


async def _on_body_too_large(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, BodyTooLarge)  # noqa: S101 - registered for it
    reply = ERROR_REPLIES[errors.PayloadTooLarge]
    detail = f"the body of a request must be at most {error.limit:,} bytes"
    return problem_answer(problem_body(reply, detail, field="body", limit=error.limit))


async def _on_body_unreadable(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, BodyUnreadable)  # noqa: S101 - registered for it
    return await answer_error(request, error.error)


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    """Refusals by the framework itself: no such route, no such method, a body that is not text."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    title = HTTPStatus(error.status_code).phrase
    body = {"type": "about:blank", "title": title, "status": error.status_code, "detail": error.detail}
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        # The framework names those of the first route alone.
        headers["Allow"] = allowed_methods(request)
    return problem_answer(body, headers)


async def _on_invalid_request(_request: Request, error: Exception) -> JSONResponse:
    """Everything that is wrong: its place, the value, and the rule. The first one stands by itself as well."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
    found = [mistake(_place(each), each["msg"], _value(each)) for each in mistakes(error.errors())[:MAX_REFUSALS]]
    detail = "; ".join(map(_in_words, found))
    return problem_answer(problem_body(ERROR_REPLIES[errors.InvalidValue], detail, **found[0], errors=found))


def _in_words(wrong: dict[str, str]) -> str:
    got = f"; got {wrong['value']}" if "value" in wrong else ""
    return f"{wrong['field']}: {wrong['rule']}{got}"


def _place(first: Mapping[str, Any]) -> str:
    if first["type"] == "json_invalid":
        return "body"
    where, *path = first["loc"]
    return ".".join(map(str, path)) or str(where)


def _value(first: Mapping[str, Any]) -> str | None:
    value = first.get("input")
    if first["type"] in _WITHOUT_VALUE | _STRUCTURES or _PRIVATE & set(first["loc"]) or isinstance(value, dict | list):
        return None
    return shorten(value)


# --- documentation ----------------------------------------------------------------------------------------------------

#: Statuses that come from the framework, or from a mistake.
_OTHERS = {
    400: ErrorReply(400, "", "The request cannot be read", detail="There was an error parsing the body"),
    500: INTERNAL,
}


def documented_problems() -> dict[int | str, dict[str, Any]]:
    """Every status that a request may be refused with, with an example of each kind."""
    replies = [*ERROR_REPLIES.values(), *_OTHERS.values()]
    return {status: _documented(status, replies) for status in sorted({reply.status for reply in replies})}


def _documented(status: int, replies: list[ErrorReply]) -> dict[str, Any]:
    own = [reply for reply in replies if reply.status == status]
    return {
        "description": "; ".join(reply.title for reply in own),
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": {reply.kind or "unreadable": {"value": _example(reply)} for reply in own},
            }
        },
    }


def _example(reply: ErrorReply) -> dict[str, Any]:
    body = problem_body(reply, reply.detail or reply.title)
    return body if reply.kind else body | {"type": "about:blank", "title": HTTPStatus(reply.status).phrase}
