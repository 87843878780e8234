"""Pods that do everything at once never wait for each other in a circle: locks are taken in one order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from urllib.parse import urlsplit
from uuid import UUID

from gatecast.errors import StorageUnavailable
from gatecast.events import Position
from gatecast.storage.contract import Connection, Outcome, OutcomeKind, Progress, TrimPolicy
from gatecast.storage.postgres import PostgresStorage
from gatecast.testing.contracts.backend import epoch_of, make_connection, make_event
from gatecast.testing.eventually import eventually
from gatecast.testing.postgres_server import PostgresServer

_GATEWAYS = [f"gateway-{number}" for number in range(6)]
_PODS = [f"pod-{number}" for number in range(4)]
_STEPS = 300

#: Alive, dead for a moment, dead, and so long that it is forgotten.
_LEASES = [timedelta(seconds=seconds) for seconds in (15, 0.01, -1, -700)]
_RUTHLESS = TrimPolicy(keep_confirmed=timedelta(0), keep_at_most=timedelta(seconds=1), max_events=100)


class _Pod:
    """One pod that connects, reports, disconnects, dies and comes back as chance will have it."""

    def __init__(self, storage: PostgresStorage, pod_id: str, epoch: UUID, seed: int) -> None:
        self._storage = storage
        self._pod_id = pod_id
        self._epoch = epoch
        self._random = random.Random(seed)  # noqa: S311 - repeats, guards nothing
        self._reached: dict[Connection, int] = {}
        self._opened = 0
        self._seed = seed

    async def live(self) -> None:
        """Take all the steps."""
        presence = self._storage.presence
        work: list[tuple[Callable[[], Awaitable[object]], int]] = [
            (self._connect, 30),
            (lambda: presence.record_progress(self._some_progress()), 40),
            (lambda: presence.disconnect([self._leave(one) for one in self._some_progress()]), 20),
            (lambda: presence.renew_lease(self._pod_id, self._random.choice(_LEASES)), 20),
            (lambda: presence.end_lease(self._pod_id), 1),
            (lambda: presence.disconnect_token("token-1"), 1),
            (self._publish, 10),
            (self._say_something, 20),
            (lambda: self._storage.log.trim(_RUTHLESS), 10),
            (self._decide, 10),
            (self._renew_epoch, 1),
        ]
        steps, weights = zip(*work, strict=True)
        for _ in range(_STEPS):
            await self._attempt(self._random.choices(steps, weights)[0])

    async def _attempt(self, step: Callable[[], Awaitable[object]]) -> None:
        # That what a connection continues from has changed is an answer, too.
        with suppress(StorageUnavailable):
            await step()

    async def _connect(self) -> None:
        self._opened += 1
        connection = make_connection(
            f"{self._seed}-{self._opened}",
            self._random.choice(_GATEWAYS),
            pod_id=self._pod_id,
            token_id=self._random.choice(("token-1", "token-2")),
            protocol=self._random.choice(("gateway.v1", "gatecast.v2")),
        )
        standing = await self._storage.presence.standing(connection.gateway_id, "")
        self._epoch = standing.epoch
        start = standing.confirmed.offset if standing.confirmed else 0
        await self._storage.presence.connect(
            connection,
            start=Position(self._epoch, start),
            resync_reason=standing.resync_reason,
            newest_only=self._random.random() < 0.1,
        )
        self._reached[connection] = start

    async def _renew_epoch(self) -> None:
        """As after a restore; every connection is ended by that."""
        self._epoch = await self._storage.log.renew_epoch(self._epoch)

    def _some_progress(self) -> list[Progress]:
        some = self._random.sample(list(self._reached), min(len(self._reached), 6))
        for connection in some:
            self._reached[connection] += self._random.randint(0, 3)
        return [self._progress(connection) for connection in some]

    def _progress(self, connection: Connection) -> Progress:
        reached = self._reached[connection]
        return Progress(
            connection_id=connection.connection_id,
            gateway_id=connection.gateway_id,
            replica="",
            epoch=self._epoch,
            sent=reached,
            confirmed=reached,
        )

    def _leave(self, progress: Progress) -> Progress:
        self._reached = {
            connection: reached
            for connection, reached in self._reached.items()
            if connection.connection_id != progress.connection_id
        }
        return progress

    async def _publish(self) -> None:
        events = [make_event(gateway_id) for gateway_id in self._random.sample(_GATEWAYS, 3)]
        await self._storage.log.publish([events])

    async def _say_something(self) -> None:
        kinds = (OutcomeKind.PARKED, OutcomeKind.HELD, OutcomeKind.APPLIED)
        outcomes = [
            Outcome(
                gateway_id=self._random.choice(_GATEWAYS),
                replica="",
                offset=self._random.randint(1, 300),
                kind=self._random.choice(kinds),
                reason="",
            )
            for _ in range(6)
        ]
        await self._storage.outcomes.record(outcomes)

    async def _decide(self) -> None:
        gateway_id = self._random.choice(_GATEWAYS)
        event = make_event(gateway_id)
        await self._storage.parking.resolve(gateway_id, "", (event.entity_type, event.entity_id), retry=True)


async def test_nothing_waits_in_a_circle(postgres: PostgresServer, postgres_url: str) -> None:
    async with AsyncExitStack() as stack:
        storages = [await stack.enter_async_context(PostgresStorage.open(postgres_url)) for _ in _PODS]
        for gateway_id in _GATEWAYS:
            await storages[0].log.register(gateway_id)
        epoch = await epoch_of(storages[0])
        pods = [
            _Pod(storage, pod_id, epoch, seed)
            for seed, (storage, pod_id) in enumerate([*zip(storages, _PODS, strict=True)] * 3)
        ]
        await asyncio.gather(*(pod.live() for pod in pods))
    # What lost a deadlock is repeated, so no error tells of it: the server does, when all its sessions have ended.
    here = f"datname = '{urlsplit(postgres_url).path[1:]}'"
    await eventually(lambda: postgres.fetch_value(f"SELECT count(*) = 0 FROM pg_stat_activity WHERE {here}"))
    assert await postgres.fetch_value(f"SELECT deadlocks FROM pg_stat_database WHERE {here}") == 0
