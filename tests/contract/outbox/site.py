"""A site for tests of the outbox: an application's database, a log, and processes that forward, step by step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from gatecast.errors import StorageUnavailable, ValueRefused
from gatecast.events import Event
from gatecast.outbox.forwarder import Forwarder, OutboxOptions
from gatecast.outbox.lease import LEASE
from gatecast.outbox.outbox import Outbox
from gatecast.outbox.records import MIGRATIONS, Mark, Records
from gatecast.storage.connect import OpenStorage, open_storage
from gatecast.storage.contract import Engine, EventLog, PublishResult, Storage, TrimPolicy
from gatecast.storage.database_url import Backend
from gatecast.testing.contracts.backend import GATEWAY, OTHER_GATEWAY, ids_of, publish
from gatecast.testing.eventually import PATIENCE
from gatecast.wakeup.in_process import InProcessWakeup

EVERYTHING = TrimPolicy(keep_confirmed=timedelta(0), keep_at_most=timedelta(seconds=-1), max_events=1 << 40)


class Log:
    """A log that fails as a test wants; what it is not told, the real one does."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self.publishes = 0
        self.refused: dict[UUID, str] = {}
        self.before: Callable[[], Awaitable[None]] = nothing
        self.after: Callable[[], Awaitable[None]] = nothing

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the real one has
        return getattr(self._log, name)

    async def publish(self, groups: Sequence[Sequence[Event]], **how: Any) -> list[PublishResult]:  # noqa: ANN401 - as the real one
        """Publish, or fail as told."""
        await self.before()
        self.publishes += 1
        for event in (event for group in groups for event in group):
            if event.event_id in self.refused:
                raise ValueRefused(self.refused[event.event_id])
        results = await self._log.publish(groups, **how)
        await self.after()
        return results


async def nothing() -> None:
    pass


async def fail() -> None:
    raise StorageUnavailable("the connection broke")


@dataclass
class Stop:
    """A place where a task stands still until the test lets it go on."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self) -> None:
        """Stand still."""
        self.reached.set()
        await self.go_on.wait()


class Site:
    """An application's database, a log, and processes that forward."""

    def __init__(self, opened: OpenStorage, engine: Engine, log_of_its_own: Storage) -> None:
        self.opened = opened
        self.engine = engine
        self.storage = log_of_its_own
        self.outbox = opened.storage
        self.records = Records(opened.storage.database, opened.backend)
        self.now = 1000.0
        self.keep_forwarded = timedelta(0)

    def log(self) -> Log:
        """The log, which fails as the test tells it."""
        return Log(self.engine.log)

    def forwarder(
        self, pod_id: str = "pod-1", log: object | None = None, records: Records | None = None, *, bound_to: str = ""
    ) -> Forwarder:
        """One more process that may forward."""
        options = OutboxOptions(
            pod_id=pod_id, poll_interval=0.1, keep_forwarded=self.keep_forwarded, clock=lambda: self.now, log=bound_to
        )
        log_: Any = log or self.engine.log
        return Forwarder(self.outbox.log, log_, records or self.records, options)

    def as_outbox(self, forwarder: Forwarder, records: Records | None = None, log: object | None = None) -> Outbox:
        """What an operator sees of it."""
        log_: Any = log or self.engine.log
        return Outbox(self.outbox, log_, records or self.records, forwarder, InProcessWakeup())

    async def store(self, *events: Event) -> None:
        """Commit these to the outbox."""
        await publish(self.outbox, *events)

    async def ids(self, gateway_id: str = GATEWAY) -> list[UUID]:
        """The ids in the gateway's log, in order."""
        return await ids_of(self.storage, gateway_id)

    async def waiting(self) -> dict[str, int]:
        """How many entries of each gateway wait."""
        return {each.gateway_id: each.entries for each in await self.records.waiting()}

    async def statement(self, text: str, *arguments: object) -> None:
        """Change the outbox by hand."""
        if self.opened.backend is Backend.SQLITE:
            text = text.replace("gatecast.", "gatecast_")
        statement: Any = text
        assert await self.outbox.database.execute(statement, *arguments) == 1


def opening_at(outbox_url: str, tmp_path: Path, *, log_url: str = "") -> Callable[[], Any]:
    """Opens a site with two gateways, whose log is a file unless its URL is given."""

    @asynccontextmanager
    async def site() -> AsyncIterator[Site]:
        async with asyncio.timeout(PATIENCE), AsyncExitStack() as stack:
            opened = await stack.enter_async_context(open_storage(outbox_url, extra_migrations=(MIGRATIONS,)))
            await opened.storage.database.migrate()
            log = await stack.enter_async_context(open_storage(log_url or f"sqlite:///{tmp_path}/log.db"))
            await log.storage.database.migrate()
            made = Site(opened, log.engine, log.storage)
            for gateway_id in (GATEWAY, OTHER_GATEWAY):
                await opened.storage.log.register(gateway_id)
            yield made

    return site


Opening = Callable[[], Any]


def ids(events: Sequence[Event]) -> list[UUID]:
    return [event.event_id for event in events]


async def forward_and_die(site: Site) -> None:
    """Forward one batch; the process dies when the log has confirmed it and nothing is recorded yet."""

    class Dying(Records):
        async def save(self, term: str, marks: Sequence[Mark]) -> None:
            if any(mark.forwarded or mark.refused for mark in marks):
                raise asyncio.CancelledError
            await super().save(term, marks)

    dying = site.forwarder(records=Dying(site.outbox.database, site.opened.backend))
    with pytest.raises(asyncio.CancelledError):
        await dying.forward()
    site.now += LEASE


async def take_over(site: Site, pod_id: str = "pod-2") -> Forwarder:
    """Another process forwards, once it has seen no sign of life for as long as a lease."""
    forwarder = site.forwarder(pod_id)
    await forwarder.forward()
    assert not holds(forwarder)
    site.now += LEASE
    await forwarder.forward()
    assert holds(forwarder)
    return forwarder


def holds(forwarder: Forwarder) -> bool:
    return forwarder.lease.term is not None
