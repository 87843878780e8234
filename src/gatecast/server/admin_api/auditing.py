"""Who may do what, at the admin API and the console alike; every attempt to change something is noted."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Protocol
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gatecast.controlplane.access.admin_tokens import Caller, Role
from gatecast.controlplane.access.audit import Attempt, AuditLog
from gatecast.errors import Forbidden, StorageError
from gatecast.server.admission import client_address
from gatecast.settings import Settings

#: The methods that change nothing.
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

#: Published events are in the logs that they were published to.
_NOT_AUDITED = frozenset({"publish_event", "publish_events"})


class Audited(Protocol):
    """The parts of an application's context that the audit needs."""

    @property
    def audit(self) -> AuditLog:
        """Where entries go."""

    @property
    def settings(self) -> Settings:
        """The settings, which name the trusted proxies."""


async def allow(request: Request, context: Audited, caller: Caller, *, door: str) -> None:
    """Let the request pass, after it was noted when it is to change something.

    Raises:
        Forbidden: the caller may only read.
        StorageUnavailable: it cannot be noted, so nothing is changed.
    """
    action = _action_of(request)
    if request.method in _SAFE_METHODS or action in _NOT_AUDITED:
        if request.method not in _SAFE_METHODS:
            require_admin(caller)
        return
    attempt = Attempt(
        organization=caller.organization,
        subject=caller.subject,
        role=caller.role,
        remote=address_of(request, context.settings),
        door=door,
        action=action,
        target=request.url.path,
    )
    entry_id = await context.audit.record(attempt)

    async def answered(status: int, location: str) -> None:
        await context.audit.answered(entry_id, status, location)

    request.scope["gatecast.answered"] = answered
    request.scope["gatecast.attempt"] = entry_id
    require_admin(caller)


def _action_of(request: Request) -> str:
    """The action of a request, the same in the admin API and the console: `create_gateway`, `deploy_llm_provider`."""
    endpoint = getattr(request.scope.get("endpoint"), "__name__", request.url.path)
    name = getattr(request.scope.get("route"), "operation_id", None) or endpoint
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


async def describe(request: Request, context: Audited, **what: object) -> None:
    """Note what a change is about, where its path alone does not tell: which of many, and what with them.

    Raises:
        StorageUnavailable: it cannot be noted, so nothing is changed.
    """
    given = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in what.items()
        if value not in ("", None)
    }
    await context.audit.describe(request.scope["gatecast.attempt"], f"{request.url.path}?{urlencode(given)}")


def require_admin(caller: Caller) -> None:
    """Let pass who may change something.

    Raises:
        Forbidden: the caller may only read.
    """
    if caller.role is not Role.ADMIN:
        raise Forbidden("your token allows only reading; use a token with the role admin")


def address_of(request: Request, settings: Settings) -> str:
    """The address that a request came from."""
    peer = request.client.host if request.client else "unknown"
    # Without a trusted proxy, forwarded addresses are not believed, so they are not read.
    said = ",".join(request.headers.getlist("X-Forwarded-For")) if settings.trusted_proxies else ""
    return client_address(peer, said, settings.trusted_proxies)


def _made(scope: Scope, message: Message) -> str:
    """Where what a request has made is found; empty: it made nothing, and is about what its path names.

    A form of the console is answered with a redirect, which only after a form for something new leads to what was made.
    """
    if message["status"] != HTTPStatus.CREATED and not scope["path"].endswith("/new"):
        return ""
    headers = {name.lower(): value for name, value in message.get("headers", ())}
    location: bytes = headers.get(b"location", b"")
    return location.decode("latin-1")


class NoteAnswers:
    """Notes what an attempt was answered with, before the answer leaves."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and note with what."""

        async def noting(message: Message) -> None:
            answered: Callable[[int, str], Awaitable[None]] | None = scope.get("gatecast.answered")
            if message["type"] == "http.response.start" and answered is not None:
                with suppress(StorageError):
                    await answered(message["status"], _made(scope, message))
            await send(message)

        await self._app(scope, receive, noting)
