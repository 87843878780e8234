"""The admin API, and the console, in this process, on every database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest

from gatecast.controlplane.access.admin_tokens import AdminTokens
from gatecast.controlplane.access.audit import AuditLog
from gatecast.controlplane.access.gateway_tokens import GatewayTokens
from gatecast.controlplane.access.gateways import Gateways
from gatecast.controlplane.access.log_outs import LogOuts
from gatecast.controlplane.access.token_hashing import digest_of
from gatecast.controlplane.control_plane import ControlPlane
from gatecast.controlplane.encryption import Encryption
from gatecast.events import Position
from gatecast.hub import EventHub
from gatecast.server.admin_api import AdminContext, create_admin_app
from gatecast.server.admin_api.fleet import Fleets
from gatecast.settings import Settings
from gatecast.storage.contract import Connection, Progress
from gatecast.storage.queries import Queries

QUERIES = Queries("gatecast.controlplane.access", "admin_tokens.sql")

#: An open API: a client of the organization `default`, and what the API works with.
Api = AbstractAsyncContextManager[tuple[httpx.AsyncClient, AdminContext]]


async def _ready() -> list[str]:
    return []


@asynccontextmanager
async def _open(settings: Settings, changes: dict[str, Any]) -> AsyncIterator[tuple[httpx.AsyncClient, AdminContext]]:
    async with EventHub.open(settings=settings, migrations=("gatecast.controlplane.migrations",)) as hub:
        gateways = Gateways(hub)
        context = AdminContext(
            hub=hub,
            settings=settings,
            gateways=gateways,
            tokens=GatewayTokens(hub),
            admin_tokens=AdminTokens(hub.storage),
            fleets=Fleets(hub, gateways),
            audit=AuditLog(hub.storage.database),
            log_outs=LogOuts(hub.storage.database),
            control_plane=ControlPlane.on(hub, Encryption([bytes(32)])),
            problems=_ready,
        )
        context = replace(context, **changes)
        await context.admin_tokens.prepare("default-admin-token")
        async with hub.storage.database.transaction() as transaction:
            await transaction.execute(QUERIES["insert_admin_token"], "2", "other", digest_of("other-token"), "admin")
        transport = httpx.ASGITransport(create_admin_app(context), raise_app_exceptions=False)
        headers = {"Authorization": "Bearer default-admin-token"}
        async with httpx.AsyncClient(transport=transport, base_url="http://pod", headers=headers) as client:
            yield client, context


@pytest.fixture
def open_api(database_url: str) -> Callable[..., Api]:
    """Opens the API on the test's database, with these fields of its context changed.

    The token `default-admin-token` is of the organization `default`, and `other-token` of the organization `other`.
    """
    settings = Settings(
        database=database_url,
        migrate="always",
        poll_interval=timedelta(hours=1),
        notifications=False,
        # There is no pooler, and detecting one costs a connection for each test.
        pooler="off",
    )
    return lambda **changes: _open(settings, changes)


@pytest.fixture
def new_gateway() -> Callable[..., Awaitable[str]]:
    """Creates a gateway and tells its id."""

    async def create(client: httpx.AsyncClient, name: str = "edge", *, headers: dict[str, str] | None = None) -> str:
        answer = await client.post("/api/v1/gateways", json={"name": name}, headers=headers)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    return create


@pytest.fixture
def confirm() -> Callable[[AdminContext, str, int], Awaitable[None]]:
    """Lets a gateway confirm everything up to an offset."""
    return _confirm


async def _confirm(context: AdminContext, gateway_id: str, offset: int) -> None:
    presence = context.hub.storage.presence
    await presence.renew_lease("pod-1", timedelta(hours=1))
    epoch = (await presence.standing(gateway_id, "")).epoch
    connection = Connection(
        connection_id=f"connection-{gateway_id}",
        gateway_id=gateway_id,
        replica="",
        pod_id="pod-1",
        protocol="gateway.v1",
        remote="",
        token_id=None,
    )
    await presence.connect(connection, start=Position(epoch, 0))
    await presence.disconnect(
        [
            Progress(
                connection_id=f"connection-{gateway_id}",
                gateway_id=gateway_id,
                replica="",
                epoch=epoch,
                sent=offset,
                confirmed=offset,
            )
        ]
    )
