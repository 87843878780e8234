"""Puts the admin API together."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gatecast.errors import GatecastError, shorten
from gatecast.server.admin_api import events, gateways, operations, stream
from gatecast.server.admin_api.context import AdminContext
from gatecast.server.admin_api.models import Problem
from gatecast.server.error_replies import MEDIA_TYPE, RETRY_AFTER, problem
from gatecast.telemetry import get_logger
from gatecast.version import __version__

#: Largest body of a request, in bytes: an event of 1 MiB with everything around it.
MAX_BODY_BYTES = 2 * 1024 * 1024

_logger = get_logger("admin-api")

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text, "content": {MEDIA_TYPE: {}}}
    for status, text in {
        401: "The token is missing or not valid.",
        404: "There is no such resource in your organization.",
        409: "The change contradicts what is stored.",
        412: "The resource was changed by someone else.",
        413: "The data is too large.",
        422: "A value breaks a rule; `field` names it.",
        503: "Not now: the database is away, or the pod is busy or stopping. Try again.",
    }.items()
}


def create_admin_app(context: AdminContext) -> FastAPI:
    """The application behind the API listener."""
    app = FastAPI(
        title="Gatecast",
        version=__version__,
        summary="Durable, ordered, confirmed delivery of configuration changes to gateways.",
        responses=_PROBLEMS,
    )
    app.state.context = context
    for part in (gateways, events, stream, operations):
        app.include_router(part.router)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(GatecastError, _on_error)
    app.add_exception_handler(Exception, _on_error)
    app.add_middleware(_BoundedBodies)
    return app


class _BodyTooLarge(Exception):
    """The request's body passed the limit."""


class _BoundedBodies:
    """Stops reading a body at the limit, whatever its headers say."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        size = 0

        async def bounded() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > MAX_BODY_BYTES:
                raise _BodyTooLarge
            return message

        try:
            await self._app(scope, bounded, send)
        except _BodyTooLarge:
            detail = f"the body must be at most {MAX_BODY_BYTES:,} bytes"
            reply = _answer(413, _body("payload-too-large", "The request is too large", 413, detail))
            await reply(scope, receive, send)


def _body(kind: str, title: str, status: int, detail: str, **fields: object) -> dict[str, Any]:
    return {"type": f"urn:gatecast:problem:{kind}", "title": title, "status": status, "detail": detail, **fields}


def _answer(status: int, body: dict[str, Any]) -> JSONResponse:
    headers = {}
    if status in (429, 503):
        headers["Retry-After"] = str(RETRY_AFTER)
    if status == 401:  # noqa: PLR2004 - Unauthorized
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, status_code=status, headers=headers, media_type=MEDIA_TYPE)


async def _on_error(request: Request, error: Exception) -> JSONResponse:
    status, body = problem(error)
    if status == 500:  # noqa: PLR2004 - Internal Server Error
        _logger.error("request-failed", path=request.url.path, exc_info=error)
    return _answer(status, body)


async def _on_http_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    title = str(error.detail)
    return _answer(error.status_code, _body("http", title, error.status_code, title))


async def _on_invalid_request(_request: Request, error: Exception) -> JSONResponse:
    """The first thing that is wrong, with its place, the value, and the rule."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
    value = shorten(first.get("input"))
    detail = f"{place}: {first['msg']}; got {value}"
    return _answer(422, _body("invalid-value", "A value breaks a rule", 422, detail, field=place, value=value))
