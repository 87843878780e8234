"""How many statements a change takes: as many for one gateway as for a thousand; on every database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from gatecast import EventHub
from gatecast.controlplane.catalog.artifact_kinds import LLM_PROVIDER, LLM_PROXY, REST_API
from gatecast.controlplane.catalog.artifact_store import StoredArtifact
from gatecast.controlplane.control_plane import ControlPlane
from gatecast.controlplane.deployments.artifacts import Edit
from gatecast.controlplane.encryption import Encryption
from gatecast.storage.queries import Queries
from gatecast.storage.sqlite.database import SqliteTransaction
from gatecast.testing.doubles.control_plane_fixture import ORGANIZATION, Site

QUERIES = Queries("gatecast.controlplane.access", "gateways.sql")

OpenHub = Callable[[], AbstractAsyncContextManager[EventHub]]

#: Most statements of a change, whatever it is.
_BOUND = 45


_CLEARING = (
    "DELETE FROM gatecast_artifacts",
    "DELETE FROM gatecast_placements",
    "DELETE FROM gatecast_gateways",
)

#: Set where a change is counted, so that what pods do beside it is not.
_counting: ContextVar[list[str] | None] = ContextVar("counting", default=None)


@dataclass
class Counter:
    """The statements that a database was sent."""

    async def of(self, change: Awaitable[object]) -> int:
        """How many statements a change takes."""
        sent: list[str] = []
        token = _counting.set(sent)
        try:
            await change
        finally:
            _counting.reset(token)
        return len(sent)


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """Counts what is sent to PostgreSQL, and what the writing thread of SQLite is asked to do."""

    def counted(owner: type, name: str) -> None:
        method = getattr(owner, name)

        def note(connection: object, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
            if (sent := _counting.get()) is not None:
                sent.append(str(arguments[0]))
            return method(connection, *arguments, **options)

        monkeypatch.setattr(owner, name, note)

    for name in ("fetch", "fetchrow", "fetchval", "execute", "executemany"):
        counted(asyncpg.Connection, name)
    counted(SqliteTransaction, "_run")
    return Counter()


@asynccontextmanager
async def _site(open_hub: OpenHub, gateways: int) -> AsyncIterator[Site]:
    async with open_hub() as hub:
        ids = sorted(str(uuid4()) for _ in range(gateways))
        async with hub.storage.database.transaction() as transaction:
            for number, gateway_id in enumerate(ids):
                columns = (f"edge-{number}", "", "", "", "regular", "all", "{}")
                await transaction.execute(QUERIES["insert_gateway"], gateway_id, ORGANIZATION, *columns)
                await hub.register_gateway(gateway_id, transaction=transaction)
        yield Site(hub, ControlPlane.on(hub, Encryption([bytes(32)])), ids)


async def _leave(site: Site, artifact: StoredArtifact) -> None:
    edit = Edit(document=lambda stored: stored, gateways=(), undeploy=site.gateways)
    await site.control_plane.artifacts.update(ORGANIZATION, artifact.artifact_kind, artifact.id, edit)


async def _counts(open_hub: OpenHub, counter: Counter, gateways: int) -> dict[str, int]:
    async with _site(open_hub, gateways) as site:
        made: dict[str, int] = {}
        artifacts, keys = site.control_plane.artifacts, site.control_plane.keys
        made["create a provider"] = await counter.of(site.make(LLM_PROVIDER, "Provider", context="/provider"))
        [provider] = (await artifacts.page(ORGANIZATION, LLM_PROVIDER, after="", limit=2)).items
        made["create a proxy"] = await counter.of(site.make(LLM_PROXY, "Proxy", provider={"id": provider.id}))
        [proxy] = (await artifacts.page(ORGANIZATION, LLM_PROXY, after="", limit=2)).items
        made["make a key"] = await counter.of(keys.create(ORGANIZATION, LLM_PROXY, proxy.id, "a-key"))
        made["move a provider with a proxy"] = await counter.of(site.change(provider, context="/moved"))
        made["give a key a new value"] = await counter.of(keys.rotate(ORGANIZATION, LLM_PROXY, proxy.id, "a-key"))
        made["change a proxy"] = await counter.of(site.change(proxy, description="Changed"))
        made["deploy it to one"] = await counter.of(site.deploy(proxy))
        made["restore it on one"] = await counter.of(site.restore(proxy, (await site.deployments(proxy))[0]))
        made["revoke a key"] = await counter.of(keys.revoke(ORGANIZATION, LLM_PROXY, proxy.id, "a-key"))
        made["undeploy it everywhere"] = await counter.of(_leave(site, proxy))
        made["delete it"] = await counter.of(site.delete(proxy))
        await site.make(REST_API)
        return made


async def test_a_change_takes_as_many_statements_for_many_gateways_as_for_one(
    open_hub: OpenHub, counter: Counter
) -> None:
    one = await _counts(open_hub, counter, 1)
    assert max(one.values()) <= _BOUND, one
    for gateways in (10, 100):
        async with open_hub() as hub, hub.storage.database.transaction() as transaction:
            for statement in _CLEARING:
                await transaction.execute(statement)
        assert await _counts(open_hub, counter, gateways) == one


async def test_deploying_to_a_thousand_gateways_is_one_transaction_of_few_statements(
    open_hub: OpenHub, counter: Counter
) -> None:
    async with _site(open_hub, 1_000) as site:
        few = await counter.of(_on(site, "Few", site.gateways[:10]))
        assert few <= _BOUND
        assert await counter.of(_on(site, "Many", site.gateways)) == few
        [many] = [
            each
            for each in (await site.control_plane.artifacts.page(ORGANIZATION, REST_API, after="", limit=5)).items
            if each.handle == "many"
        ]
        assert await counter.of(site.change(many, description="Changed")) <= _BOUND
        assert {each.revision for each in await site.deployments(many)} == {2}
        assert len(await site.deployments(many)) == 1_000


async def _on(site: Site, name: str, gateways: list[str]) -> None:
    only = Site(site.hub, site.control_plane, gateways)
    await only.make(REST_API, name, context=f"/{name.lower()}")
