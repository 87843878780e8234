"""Random histories of an outbox: whatever fails, each gateway's log has what was committed, in order and once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from gatecast.errors import StorageUnavailable
from gatecast.events import Event
from gatecast.outbox.forwarder import Forwarder, OutboxOptions
from gatecast.outbox.lease import LEASE
from gatecast.outbox.records import MIGRATIONS, Mark, Records
from gatecast.storage.connect import open_storage
from gatecast.storage.contract import EventLog, PublishResult, Receipt, TrimPolicy
from gatecast.storage.database_url import Backend
from gatecast.testing.contracts.backend import make_event, publish

_STEPS = 120
_GATEWAYS = [f"gateway-{number}" for number in range(4)]
_EVERYTHING = TrimPolicy(keep_confirmed=timedelta(0), keep_at_most=timedelta(seconds=-1), max_events=1 << 40)


class _Faults:
    """What goes wrong, with which probability; nothing once it is healed."""

    def __init__(self, source: random.Random) -> None:
        self._source = source
        self.rate = 0.15

    def strike(self, error: BaseException) -> None:
        """Fail, perhaps."""
        if self._source.random() < self.rate:
            raise error


class _Log:
    """The log, which loses requests and answers; remembers what was ever stored."""

    def __init__(self, log: EventLog, faults: _Faults) -> None:
        self._log = log
        self._faults = faults
        self.stored: dict[str, list[UUID]] = {}

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the real one has
        return getattr(self._log, name)

    async def publish(self, groups: Sequence[Sequence[Event]], **how: Any) -> list[PublishResult]:  # noqa: ANN401 - as the real one
        self._faults.strike(StorageUnavailable("the log is away"))
        results = await self._log.publish(groups, **how)
        for result in results:
            for receipt in result if isinstance(result, tuple) else ():
                self._note(receipt)
        self._faults.strike(StorageUnavailable("the answer is lost"))
        self._faults.strike(asyncio.CancelledError())
        return results

    def _note(self, receipt: Receipt) -> None:
        if receipt.created:
            self.stored.setdefault(receipt.gateway_id, []).append(receipt.event_id)

    async def forget(self, gateway_id: str, *, log_id: int) -> bool:
        forgotten = await self._log.forget(gateway_id, log_id=log_id)
        self.stored.pop(gateway_id, None)
        self._faults.strike(StorageUnavailable("the answer is lost"))
        return forgotten


class _Records(Records):
    """The tables of forwarding, which lose requests and answers as well."""

    faults: _Faults

    async def save(self, term: str, marks: Sequence[Mark]) -> None:
        self.faults.strike(StorageUnavailable("the database is away"))
        await super().save(term, marks)
        self.faults.strike(StorageUnavailable("the answer is lost"))


class _History:
    def __init__(self, outbox: Any, log: _Log, records: Records, source: random.Random) -> None:  # noqa: ANN401 - storage
        self._outbox = outbox
        self._log = log
        self._records = records
        self._source = source
        self.now = 0.0
        self.committed: dict[str, list[UUID]] = {}
        #: In half of the histories ids are kept, and what is repeated is known.
        self._kept = source.choice([timedelta(0), timedelta(days=1)])
        self._pods = [self._pod(number) for number in range(3)]

    def _pod(self, number: int) -> Forwarder:
        options = OutboxOptions(
            pod_id=f"pod-{number}", poll_interval=0.1, keep_forwarded=self._kept, clock=lambda: self.now
        )
        log: Any = self._log
        return Forwarder(self._outbox.log, log, self._records, options)

    async def step(self) -> None:
        """One thing that happens."""
        choices = [self._commit] * 6 + [self._forward] * 6
        choices += [self._pass, self._restart, self._trim, self._register_or_delete]
        choices += [self._repeat] * 2 if self._kept else []
        await self._source.choice(choices)()

    async def _commit(self) -> None:
        registered = sorted(self.committed)
        if not registered:
            return
        chosen = self._source.choices(registered, k=self._source.choice([1, 2, 5, 150]))
        events = [make_event(gateway_id) for gateway_id in chosen]
        await publish(self._outbox, *events)
        for event in events:
            self.committed[event.gateway_id].append(event.event_id)

    async def _repeat(self) -> None:
        known = [
            (gateway_id, event_id) for gateway_id in sorted(self.committed) for event_id in self.committed[gateway_id]
        ]
        if known:
            gateway_id, event_id = self._source.choice(known)
            [receipt] = await publish(self._outbox, replace(make_event(gateway_id), event_id=event_id))
            assert not receipt.created

    async def _forward(self) -> None:
        with suppress(StorageUnavailable, asyncio.CancelledError):
            await self._source.choice(self._pods).forward()

    async def _pass(self) -> None:
        self.now += self._source.choice([1, LEASE / 2, LEASE])

    async def _restart(self) -> None:
        number = self._source.randrange(len(self._pods))
        if self._source.random() < 0.5:
            await self._pods[number].lease.give_up()
        self._pods[number] = self._pod(number)

    async def _trim(self) -> None:
        """Retention removes some of the log's events, however soon."""
        await self._log.trim(TrimPolicy(**{**_fields(_EVERYTHING), "chunk": self._source.choice([1, 3, 1_000])}))

    async def _register_or_delete(self) -> None:
        gateway_id = self._source.choice(_GATEWAYS)
        if gateway_id in self.committed:
            await self._outbox.log.forget(gateway_id)
            del self.committed[gateway_id]
        else:
            await self._outbox.log.register(gateway_id)
            self.committed[gateway_id] = []

    async def finish(self) -> None:
        """One pod is left, and nothing fails any more."""
        pod = self._pod(9)
        await pod.forward()
        self.now += LEASE
        await pod.forward()


def _fields(policy: TrimPolicy) -> dict[str, Any]:
    return {name: getattr(policy, name) for name in ("keep_confirmed", "keep_at_most", "max_events", "chunk")}


@pytest.mark.parametrize("seed", range(8))
async def test_every_history_ends_with_every_event_in_order_and_once(seed: int, tmp_path: Path) -> None:
    """Answers are lost, processes die and take over, retention is in a hurry, gateways come and go."""
    source = random.Random(seed)  # noqa: S311 - draws a history
    faults = _Faults(source)
    async with (
        open_storage(f"sqlite:///{tmp_path}/application.db", extra_migrations=(MIGRATIONS,)) as application,
        open_storage(f"sqlite:///{tmp_path}/log.db") as opened,
    ):
        for each in (application, opened):
            await each.storage.database.migrate()
        records = _Records(application.storage.database, Backend.SQLITE)
        records.faults = faults
        log = _Log(opened.storage.log, faults)
        history = _History(application.storage, log, records, source)
        for _ in range(_STEPS):
            await history.step()
        faults.rate = 0.0
        await history.finish()
        assert [each for each in await records.waiting() if each.entries or each.mark is None] == []
        assert {name: ids for name, ids in log.stored.items() if ids} == {
            name: ids for name, ids in history.committed.items() if ids
        }
        assert (await opened.storage.log.changed_since(0)).heads.keys() == history.committed.keys()
