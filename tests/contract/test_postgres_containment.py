"""A refusal by PostgreSQL concerns only the caller that asked (promise P11)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest

from gatecast.errors import StatementFailed, ValueRefused
from gatecast.events import Action, Event
from gatecast.hub import EventHub
from gatecast.settings import Settings
from gatecast.storage.postgres import PostgresStorage
from gatecast.testing.eventually import PATIENCE, eventually
from gatecast.testing.postgres_server import PostgresServer

#: How the function looked before it knew of full queues: it stands for the moment between its look and the commit.
_CARELESS_HINT = """
CREATE OR REPLACE FUNCTION gatecast.hint_v1(gateway_ids text[]) RETURNS void LANGUAGE sql AS $$
    SELECT pg_notify('gatecast', '*')
$$
"""

_REFUSE = """
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.entity_id = 'bad' THEN RAISE EXCEPTION 'for a test' USING ERRCODE = 'STATE'; END IF;
    RETURN NEW;
END $$
"""
_ON_INSERT = "CREATE TRIGGER refuse BEFORE INSERT ON gatecast.events FOR EACH ROW EXECUTE FUNCTION public.refuse()"


def _event(gateway_id: str, entity_id: str = "a", **data: object) -> Event:
    return Event(
        gateway_id=gateway_id,
        type="route.changed",
        action=Action.UPDATE,
        entity_type="Route",
        entity_id=entity_id,
        data=data,
    )


@asynccontextmanager
async def _hub(url: str) -> AsyncIterator[EventHub]:
    settings = Settings(database=url, migrate="always", poll_interval=timedelta(milliseconds=50))
    async with EventHub.open(settings=settings) as hub:
        for gateway_id in ("culprit", "innocent"):
            await hub.register_gateway(gateway_id)
        yield hub
        assert hub.delivery.failure is None


async def _execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def _with_user(url: str, user: str) -> str:
    parts = urlsplit(url)
    _, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}@{host}"))


@pytest.mark.parametrize(
    ("state", "error"),
    [
        ("22P05", ValueRefused),  # the encoding of the database lacks a character
        ("23514", ValueRefused),
        ("42501", StatementFailed),
        ("54000", StatementFailed),
        ("XX001", StatementFailed),  # a damaged page
        ("ZZ999", StatementFailed),  # unknown to everybody
    ],
)
async def test_what_the_server_refuses_of_one_event_is_told_to_its_publisher_alone(
    postgres_url: str, state: str, error: type[StatementFailed]
) -> None:
    """Culprit and innocents wait for the same statement, and each gateway's order stays."""
    await _execute(postgres_url, _REFUSE.replace("STATE", state), _ON_INSERT)
    async with _hub(postgres_url) as hub:
        before, bad, after, others = await asyncio.gather(
            hub.publish([_event("culprit", "1")]),
            hub.publish([_event("culprit", "bad")]),
            hub.publish([_event("culprit", "3")]),
            hub.publish([_event("innocent", str(number)) for number in range(5)]),
            return_exceptions=True,
        )
        assert type(bad) is error
        assert state in str(bad)
        assert not isinstance(before, BaseException)
        assert not isinstance(after, BaseException)
        assert not isinstance(others, BaseException)
        assert [position.offset for position in (*before, *after)] == [1, 2]
        assert [position.offset for position in others] == [1, 2, 3, 4, 5]
        with pytest.raises(error):
            await hub.publish(_event("culprit", "bad"))
        subscription = await hub.subscribe("culprit")
        assert [(await anext(subscription)).entity_id for _ in range(2)] == ["1", "3"]


async def test_a_right_that_is_revoked_is_told_to_publishers_and_ends_no_loop(postgres_url: str) -> None:
    """42501, and everything goes on when the right is granted again."""
    role = f"role_{uuid4().hex}"
    grant = f"GRANT ALL ON ALL TABLES IN SCHEMA gatecast TO {role}"
    await _execute(
        postgres_url, f"CREATE ROLE {role} LOGIN", f"GRANT ALL ON SCHEMA gatecast TO {role}", grant,
        f"GRANT ALL ON ALL SEQUENCES IN SCHEMA gatecast TO {role}",
    )  # fmt: skip
    settings = Settings(database=_with_user(postgres_url, role), poll_interval=timedelta(milliseconds=50))
    async with EventHub.open(settings=settings) as hub:
        for gateway_id in ("culprit", "innocent"):
            await hub.register_gateway(gateway_id)
        subscription = await hub.subscribe("innocent")
        await hub.publish(_event("innocent", "1"))
        assert (await anext(subscription)).entity_id == "1"
        await _execute(postgres_url, f"REVOKE ALL ON ALL TABLES IN SCHEMA gatecast FROM {role}")
        results = await asyncio.gather(
            *(hub.publish(_event(name)) for name in ("culprit", "innocent")), return_exceptions=True
        )
        assert [type(each) for each in results] == [StatementFailed, StatementFailed]

        async def noticed() -> bool:
            loops = (hub.delivery.reader.loop, hub.delivery.presence.loop)
            return all("42501" in (loop.problem or "") for loop in loops)

        await eventually(noticed)
        await _execute(postgres_url, grant)
        await hub.publish(_event("innocent", "2"))
        async with asyncio.timeout(PATIENCE):
            assert (await anext(subscription)).entity_id == "2"
        assert hub.delivery.failure is None
    await _execute(postgres_url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@pytest.fixture(scope="module")
def small_queue() -> Iterator[PostgresServer]:
    """A server that takes few notifications."""
    with PostgresServer(fsync="off", max_notify_queue_pages="64") as server:
        yield server


@asynccontextmanager
async def _full_queue(server: PostgresServer) -> AsyncIterator[None]:
    """A session listens within a transaction that stays open, so that no notification can be forgotten."""
    listener, sender = await asyncpg.connect(server.url()), await asyncpg.connect(server.url())
    await listener.execute("LISTEN something")
    await listener.execute("BEGIN")
    await listener.execute("SELECT 1")
    # The queue counts its sessions of every database; who listens elsewhere keeps it from shrinking as well.
    with pytest.raises(asyncpg.ProgramLimitExceededError):
        await _notify_often(sender)
    try:
        yield
    finally:
        await sender.close()
        await listener.close()


async def _notify_often(sender: asyncpg.Connection[Any]) -> None:
    for number in range(1_000):
        await sender.execute("SELECT pg_notify('something', repeat('x', 7900) || $1::text)", str(number))


@pytest.mark.parametrize("careless", [False, True], ids=["noticed", "noticed too late"])
async def test_a_full_queue_of_notifications_fails_no_publish(small_queue: PostgresServer, *, careless: bool) -> None:
    """54000: pods poll until the queue is emptied. What is in the caller's own transaction commits as well."""
    name = f"queue_{uuid4().hex}"
    await small_queue.create_database(name)
    url = small_queue.url(name)
    async with PostgresStorage.open(url) as storage:
        await storage.database.migrate()
    if careless:
        await _execute(url, _CARELESS_HINT)
    async with _hub(url) as hub:
        subscription = await hub.subscribe("innocent")
        async with _full_queue(small_queue):
            for number in range(3):
                await hub.publish([_event("innocent", f"{number}"), _event("culprit", f"{number}")])
            await hub.publish(_event("innocent", "3"))
            if not careless:
                async with hub.storage.database.transaction() as transaction:
                    await hub.publish(_event("innocent", "4"), transaction)
                await hub.delete_gateway("culprit")
            async with asyncio.timeout(PATIENCE):
                received = [(await anext(subscription)).entity_id for _ in range(4 if careless else 5)]
        assert received == [f"{number}" for number in range(4 if careless else 5)]
    await _execute(small_queue.url(), f"DROP DATABASE {name} WITH (FORCE)")
