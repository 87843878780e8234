"""The parts that the admin API works with, and the caller of a request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from gatecast.controlplane.access.admin_tokens import AdminTokens, Caller
from gatecast.controlplane.access.audit import AuditLog
from gatecast.controlplane.access.gateway_tokens import GatewayTokens
from gatecast.controlplane.access.gateways import Gateways
from gatecast.controlplane.access.log_outs import LogOuts
from gatecast.controlplane.access.token_hashing import digest_of
from gatecast.controlplane.control_plane import ControlPlane
from gatecast.controlplane.encryption import Encryption
from gatecast.errors import Unauthenticated
from gatecast.hub import EventHub
from gatecast.server.admin_api.auditing import address_of, allow
from gatecast.server.admin_api.deployment_looks import DeploymentLooks
from gatecast.server.admin_api.fleet import Fleets
from gatecast.server.admin_api.oidc import OidcIssuer, is_jwt
from gatecast.server.admission import TokenAttempts
from gatecast.server.probe import Probe
from gatecast.server.sessions import SessionCookies
from gatecast.settings import Settings
from gatecast.storage.replication import Replication

#: Streams of events that one pod serves at the same time.
MAX_STREAMS = 100

#: Publishers that wait for a gateway at one pod at the same time; further ones are answered at once with what is known.
MAX_WAITS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminContext:
    """The parts that the admin API works with."""

    hub: EventHub
    settings: Settings
    gateways: Gateways
    tokens: GatewayTokens
    admin_tokens: AdminTokens
    #: The state of the gateways, by organization.
    fleets: Fleets
    #: Records who requested which change.
    audit: AuditLog
    #: Who has logged out everywhere.
    log_outs: LogOuts
    #: Artifacts, and what belongs to them.
    control_plane: ControlPlane
    #: Why this pod should get no traffic now; empty: it is ready.
    problems: Callable[[], Awaitable[list[str]]]
    #: Sends events to the next pod to see whether they arrive; None: it is switched off.
    probe: Probe | None = None
    #: The database's standbys; None: unknown, or there can be none.
    replication: Callable[[], Replication | None] = lambda: None
    #: Where gateways connect to this pod, written host:port; empty: it is not known.
    gateway_address: str = ""
    #: The issuer whose JWTs are accepted beside admin tokens.
    oidc: OidcIssuer | None = None
    #: Sessions of the console.
    cookies: SessionCookies = field(default_factory=lambda: SessionCookies(Encryption([])))
    #: Set when the pod begins to stop, so that answers that would never end do.
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    #: Bounds the streams that this pod serves.
    streams: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_STREAMS))
    #: Bounds the publishers that this pod lets wait for a gateway.
    waits: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_WAITS))

    #: Recent changes of deployments, by organization.
    deployments: DeploymentLooks = field(init=False)
    #: Limits bad tokens.
    attempts: TokenAttempts = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "deployments", DeploymentLooks(self.control_plane.search))
        object.__setattr__(self, "attempts", TokenAttempts(self.settings.connect_rate, clock=time.monotonic))

    async def pause(self, seconds: float) -> None:
        """Return after this time, or at once when the pod begins to stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stopping.wait()


def context_of(request: Request) -> AdminContext:
    """The context of the application that answers this request."""
    return cast("AdminContext", request.app.state.context)


_bearer = HTTPBearer(auto_error=False, description="An admin token, or a JWT of the configured OIDC issuer.")


async def token_of(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> str:
    """The token that the caller sent.

    Raises:
        Unauthenticated: there is none.
    """
    if credentials is None:
        raise Unauthenticated
    return credentials.credentials


async def _context(request: Request) -> AdminContext:
    """The context of the application that answers.

    FastAPI would hand a dependency that is no coroutine to a thread, for every request.
    """
    return context_of(request)


Context = Annotated[AdminContext, Depends(_context)]
Token = Annotated[str, Depends(token_of)]


async def caller_with(context: AdminContext, token: str) -> Caller:
    """Who sent this token.

    Raises:
        Unauthenticated: the token is not valid.
        Forbidden: it is valid, and names no organization.
        StorageUnavailable, IssuerUnavailable: the caller is unknown now.
    """
    if context.oidc is not None and is_jwt(token):
        return await context.oidc.caller_with(token)
    caller = await context.admin_tokens.caller_with(token)
    if caller is None:
        raise Unauthenticated
    return caller


async def known_caller(request: Request, context: AdminContext, token: str) -> Caller:
    """Who sent this token, unless too many bad ones came from there.

    Raises:
        TooManyAttempts: too many bad tokens came from the caller's address.
        Unauthenticated, Forbidden, StorageUnavailable, IssuerUnavailable: as `caller_with`.
    """
    async with context.attempts.counted(address_of(request, context.settings), digest_of(token)):
        return await caller_with(context, token)


async def organization_of(request: Request, context: Context, token: Token) -> str:
    """The organization that the caller's token is for; never taken from anywhere else (scenario S31).

    Raises:
        TooManyAttempts: too many bad tokens came from the caller's address.
        Forbidden: the caller may read, and wants to change something.
    """
    caller = await known_caller(request, context, token)
    await allow(request, context, caller, door="api")
    return caller.organization


Organization = Annotated[str, Depends(organization_of)]
