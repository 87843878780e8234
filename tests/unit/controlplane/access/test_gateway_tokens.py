"""What gateways authenticate with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import LiteralString
from uuid import uuid4

import pytest

from gatecast.controlplane.access.gateway_tokens import MAX_REVOKED_TOKENS, GatewayTokens
from gatecast.controlplane.access.gateways import ConnectionPolicy, GatewayFields, Gateways
from gatecast.errors import LimitReached, NotFound
from gatecast.events import Position
from gatecast.hub import EventHub
from gatecast.storage.contract import Connection, DisconnectReason, Row
from gatecast.storage.queries import Queries

QUERIES = Queries("gatecast.controlplane.access", "gateway_tokens.sql")

OpenHub = Callable[[], AbstractAsyncContextManager[EventHub]]

_POD = "some-pod"


async def _new_gateway(hub: EventHub, name: str = "edge", policy: ConnectionPolicy = ConnectionPolicy.ALL) -> str:
    return (await Gateways(hub).create("acme", GatewayFields(name=name, connection_policy=policy))).gateway.id


@asynccontextmanager
async def _one_gateway(open_hub: OpenHub) -> AsyncIterator[tuple[EventHub, GatewayTokens, str]]:
    async with open_hub() as hub:
        yield hub, GatewayTokens(hub), await _new_gateway(hub)


async def _connect(hub: EventHub, gateway_id: str, token_id: str, connection_id: str) -> None:
    presence = hub.storage.presence
    await presence.renew_lease(_POD, timedelta(hours=1))
    standing = await presence.standing(gateway_id, "")
    connection = Connection(
        connection_id=connection_id,
        gateway_id=gateway_id,
        replica="",
        pod_id=_POD,
        protocol="gateway.v1",
        remote="127.0.0.1:5000",
        token_id=token_id,
    )
    await presence.connect(connection, start=Position(standing.epoch, 0))


async def test_a_token_is_recognized(open_hub: OpenHub) -> None:
    """With everything that its connection needs to know, and without noting its use."""
    async with open_hub() as hub:
        tokens = GatewayTokens(hub)
        gateway_id = await _new_gateway(hub, policy=ConnectionPolicy.NEWEST_ONLY)
        issued = await tokens.issue("acme", gateway_id)
        identity = await tokens.authenticate(issued.token)
        assert identity is not None
        assert (identity.gateway_id, identity.token_id) == (gateway_id, issued.id)
        assert (identity.organization, identity.newest_only) == ("acme", True)
        [listed] = await tokens.of_gateway(gateway_id)
        assert listed.last_used_at is None


@pytest.mark.parametrize("token", ["", "gcg_", "gcg_nothing-of-ours", "x" * 5_000, "nul\x00", "\ud800"])
async def test_what_is_no_token_is_recognized_as_nobody(open_hub: OpenHub, token: str) -> None:
    async with _one_gateway(open_hub) as (_, tokens, gateway_id):
        issued = await tokens.issue("acme", gateway_id)
        assert await tokens.authenticate(token) is None
        assert await tokens.authenticate(f"{issued.token}x") is None
        assert await tokens.authenticate(issued.token[:-1]) is None


async def test_s39_the_secret_is_stored_nowhere(open_hub: OpenHub) -> None:
    """Only its first characters and its digest are; two tokens have nothing in common."""
    async with _one_gateway(open_hub) as (hub, tokens, gateway_id):
        issued = await tokens.issue("acme", gateway_id)
        other = await tokens.issue("acme", gateway_id)
        rows = await hub.storage.database.fetch("SELECT * FROM gatecast_gateway_tokens")
        stored = " ".join(str(value) for row in rows for value in row.values())
    assert len(issued.token) >= 43
    assert issued.token != other.token
    assert issued.token.startswith(issued.prefix)
    assert issued.token not in stored
    assert issued.token[len(issued.prefix) :] not in stored


async def test_two_tokens_are_active_at_most(open_hub: OpenHub) -> None:
    """Revoking one makes room for the next: add, switch, revoke."""
    async with _one_gateway(open_hub) as (_, tokens, gateway_id):
        first, second = [await tokens.issue("acme", gateway_id) for _ in range(2)]
        with pytest.raises(LimitReached):
            await tokens.issue("acme", gateway_id)
        await tokens.revoke(gateway_id, first.id)
        third = await tokens.issue("acme", gateway_id)
        listed = await tokens.of_gateway(gateway_id)
        assert [token.id for token in listed if token.revoked_at is None] == [second.id, third.id]


async def test_tokens_asked_for_at_once_never_become_three(open_hub: OpenHub) -> None:
    """Also when the requests come to different pods."""
    async with open_hub() as one, open_hub() as two:
        gateway_id = await _new_gateway(one)
        attempts = [GatewayTokens(hub).issue("acme", gateway_id) for hub in (one, two) * 4]
        results = await asyncio.gather(*attempts, return_exceptions=True)
        assert sum(isinstance(result, LimitReached) for result in results) == 6
        assert len(await GatewayTokens(one).of_gateway(gateway_id)) == 2


async def test_revoked_tokens_are_not_kept_for_ever(open_hub: OpenHub) -> None:
    async with _one_gateway(open_hub) as (_, tokens, gateway_id):
        for _ in range(MAX_REVOKED_TOKENS + 5):
            last = await tokens.issue("acme", gateway_id)
            await tokens.revoke(gateway_id, last.id)
        active = await tokens.issue("acme", gateway_id)
        listed = await tokens.of_gateway(gateway_id)
    assert len(listed) == MAX_REVOKED_TOKENS + 1
    assert [token.id for token in listed[-2:]] == [last.id, active.id]


async def test_an_unknown_gateway_gets_no_token(open_hub: OpenHub) -> None:
    async with open_hub() as hub:
        with pytest.raises(NotFound):
            await GatewayTokens(hub).issue("acme", str(uuid4()))


async def test_s26_revoking_dismisses_the_tokens_connections_and_no_others(open_hub: OpenHub) -> None:
    """In the same transaction; and from then on the token opens nothing."""
    async with _one_gateway(open_hub) as (hub, tokens, gateway_id):
        bad, good = [await tokens.issue("acme", gateway_id) for _ in range(2)]
        await _connect(hub, gateway_id, bad.id, "of-bad")
        await _connect(hub, gateway_id, good.id, "of-good")
        await tokens.revoke(gateway_id, bad.id)
        assert await hub.storage.presence.pending_disconnects(_POD) == {"of-bad": DisconnectReason.TOKEN_REVOKED}
        assert await tokens.authenticate(bad.token) is None
        assert not await tokens.confirm_use(bad.id)
        assert await tokens.confirm_use(good.id)
        first_revocation = (await tokens.of_gateway(gateway_id))[0].revoked_at
        await tokens.revoke(gateway_id, bad.id)
        assert (await tokens.of_gateway(gateway_id))[0].revoked_at == first_revocation


async def test_s26_a_connection_recorded_during_a_revocation_is_found_by_one_side(open_hub: OpenHub) -> None:
    """Either the revocation sees the connection, or the connection sees the revocation."""
    async with _one_gateway(open_hub) as (hub, tokens, gateway_id):
        for number in range(10):
            token, connection = await tokens.issue("acme", gateway_id), f"connection-{number}"

            async def connect(token_id: str = token.id, connection_id: str = connection) -> bool:
                await _connect(hub, gateway_id, token_id, connection_id)
                return await tokens.confirm_use(token_id)

            used, _ = await asyncio.gather(connect(), tokens.revoke(gateway_id, token.id))
            assert not used or connection in await hub.storage.presence.pending_disconnects(_POD)


async def test_s26_confirming_waits_for_a_revocation_that_is_under_way(open_hub: OpenHub) -> None:
    """A use that is confirmed while the revoker holds the token's row learns of the revocation."""
    async with _one_gateway(open_hub) as (hub, tokens, gateway_id):
        issued = await tokens.issue("acme", gateway_id)
        async with hub.storage.database.transaction() as transaction:
            await transaction.execute(QUERIES["revoke_token"], gateway_id, issued.id)
            confirming = asyncio.create_task(tokens.confirm_use(issued.id))
            # The token still counts for readers, and the confirmation has no answer yet.
            assert await tokens.authenticate(issued.token) is not None
            assert not confirming.done()
        assert await confirming is False


async def test_s30_uses_confirmed_at_once_share_a_statement_and_a_revoked_token_fails_alone(
    open_hub: OpenHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when two connections of one gateway use the same token."""
    async with open_hub() as hub:
        tokens = GatewayTokens(hub)
        ids = [await _new_gateway(hub, f"edge-{number}") for number in range(20)]
        issued = [(await tokens.issue("acme", each)).id for each in ids]
        statements, execute = 0, hub.storage.database.execute

        async def counting(query: LiteralString, *arguments: object) -> int:
            nonlocal statements
            statements += 1
            return await execute(query, *arguments)

        monkeypatch.setattr(hub.storage.database, "execute", counting)
        assert all(await asyncio.gather(*(tokens.confirm_use(each) for each in [*issued, issued[0]])))
        assert statements <= 2
        assert all([(await tokens.of_gateway(each))[0].last_used_at for each in ids])
        await tokens.revoke(ids[3], issued[3])
        confirmed = await asyncio.gather(*(tokens.confirm_use(each) for each in [*issued, "unknown"]))
        assert [number for number, each in enumerate(confirmed) if not each] == [3, 20]


async def test_s30_a_token_that_is_locked_keeps_no_other_waiting(open_hub: OpenHub) -> None:
    """Its revocation is under way. On SQLite there is one lock for all."""
    async with open_hub() as hub:
        if hub.storage.database.__class__.__name__ == "SqliteDatabase":
            return
        tokens = GatewayTokens(hub)
        ids = [await _new_gateway(hub, f"edge-{number}") for number in range(8)]
        issued = [(await tokens.issue("acme", each)).id for each in ids]
        async with hub.storage.database.transaction() as transaction:
            await transaction.execute(QUERIES["revoke_token"], ids[0], issued[0])
            confirming = [asyncio.create_task(tokens.confirm_use(each)) for each in issued]
            assert all(await asyncio.gather(*confirming[1:]))
            assert not confirming[0].done()
        assert await confirming[0] is False


async def test_the_last_use_is_noted(open_hub: OpenHub) -> None:
    async with _one_gateway(open_hub) as (_, tokens, gateway_id):
        issued = await tokens.issue("acme", gateway_id)
        assert await tokens.confirm_use(issued.id)
        [listed] = await tokens.of_gateway(gateway_id)
        assert listed.last_used_at is not None
        assert listed.last_used_at >= listed.created_at


async def test_a_token_is_revoked_only_through_its_own_gateway(open_hub: OpenHub) -> None:
    async with _one_gateway(open_hub) as (hub, tokens, gateway_id):
        issued = await tokens.issue("acme", gateway_id)
        other = await _new_gateway(hub, "other")
        for owner, token_id in ((other, issued.id), (gateway_id, "no-such-token")):
            with pytest.raises(NotFound):
                await tokens.revoke(owner, token_id)
        assert await tokens.authenticate(issued.token) is not None


async def test_gateways_that_come_at_once_are_looked_up_together(
    open_hub: OpenHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands come at once when a pod has died; each is told of itself, and unknown ones of nothing."""
    async with open_hub() as hub:
        gateway_ids = [await _new_gateway(hub, f"edge-{number}") for number in range(20)]
        tokens, statements = GatewayTokens(hub), 0
        issued = [(await tokens.issue("acme", each)).token for each in gateway_ids]
        fetch = hub.storage.database.fetch

        async def counting(query: LiteralString, *arguments: object) -> list[Row]:
            nonlocal statements
            statements += 1
            return await fetch(query, *arguments)

        monkeypatch.setattr(hub.storage.database, "fetch", counting)
        found = await asyncio.gather(*(tokens.authenticate(token) for token in (*issued, "gcg_unknown")))
        assert [each and each.gateway_id for each in found] == [*gateway_ids, None]
        assert statements <= 2
