"""What the admin API works with, and who is asking."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from gatecast.controlplane.admin_tokens import AdminTokens
from gatecast.controlplane.gateway_tokens import GatewayTokens
from gatecast.controlplane.gateways import Gateways
from gatecast.errors import Unauthenticated
from gatecast.hub import EventHub
from gatecast.settings import Settings

#: Streams of events that one pod serves at the same time.
MAX_STREAMS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminContext:
    """What the admin API works with."""

    hub: EventHub
    settings: Settings
    gateways: Gateways
    tokens: GatewayTokens
    admin_tokens: AdminTokens
    #: Why this pod should get no traffic now; empty: it is ready.
    problems: Callable[[], Awaitable[list[str]]]
    #: Set when the pod begins to stop, so that answers that would never end do.
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    #: Bounds the streams that this pod serves.
    streams: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_STREAMS))


def context_of(request: Request) -> AdminContext:
    """The context of the application that answers this request."""
    return cast("AdminContext", request.app.state.context)


_bearer = HTTPBearer(auto_error=False, description="An admin token.")


async def organization_of(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> str:
    """The organization that the caller's token administers; never taken from anywhere else (scenario S31).

    Raises:
        Unauthenticated: there is no valid token.
        StorageUnavailable: that cannot be told now.
    """
    if credentials is None:
        raise Unauthenticated
    organization = await context_of(request).admin_tokens.organization_of(credentials.credentials)
    if organization is None:
        raise Unauthenticated
    return organization


Context = Annotated[AdminContext, Depends(context_of)]
Organization = Annotated[str, Depends(organization_of)]
