"""Publishing under load while things break, and the check that every gateway got everything in order."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from uuid import uuid4

from gatecast.client import EventPublisher
from gatecast.errors import ServerUnavailable
from gatecast.events import Action
from gatecast.testing.eventually import PATIENCE

#: Pause before an event that was not accepted is published again, in seconds.
_RETRY_PAUSE = 0.05


class Load:
    """Several workers publish to every gateway in turn, over every pod in turn, and note what was accepted.

    An event that is not accepted (the pod died, the database is away) is published again under the same id, so that
    it is stored once whatever became of the first attempt.
    """

    def __init__(self, publishers: Sequence[EventPublisher], gateway_ids: Sequence[str]) -> None:
        #: Event ids by gateway and offset, as the control plane answered.
        self.accepted: defaultdict[str, dict[int, str]] = defaultdict(dict)
        self._publishers = itertools.cycle(publishers)
        self._gateway_ids = gateway_ids
        self._moved = asyncio.Event()

    @property
    def count(self) -> int:
        """How many events were accepted."""
        return sum(map(len, self.accepted.values()))

    async def publish(self, rounds: int, *, workers: int = 8) -> None:
        """Publish this many events to each gateway; return when all of them are accepted."""
        todo = iter([gateway_id for _ in range(rounds) for gateway_id in self._gateway_ids])
        async with asyncio.TaskGroup() as tasks:
            for _ in range(workers):
                tasks.create_task(self._work(todo))

    async def reached(self, count: int) -> None:
        """Return when this many events were accepted."""
        while self.count < count:
            self._moved.clear()
            await self._moved.wait()

    async def _work(self, todo: Iterable[str]) -> None:
        for gateway_id in todo:
            async with asyncio.timeout(PATIENCE):
                await self.publish_once(gateway_id)

    async def publish_once(self, gateway_id: str) -> int:
        """Publish one event, over one pod after the other until it is accepted; return its offset."""
        event_id = uuid4()
        while True:
            publisher = next(self._publishers)
            with suppress(ServerUnavailable):
                published = await publisher.publish(
                    gateway_id,
                    type="api.updated",
                    action=Action.UPDATE,
                    entity_type="Api",
                    entity_id="api-1",
                    event_id=event_id,
                )
                # In an outbox it has no offset yet, which the next attempt asks for.
                if not published.position.pending:
                    self.accepted[gateway_id][published.position.offset] = str(event_id)
                    self._moved.set()
                    return published.position.offset
            await asyncio.sleep(_RETRY_PAUSE)


def check_delivery(received: Sequence[tuple[int, str]], accepted: Mapping[int, str], *, connections: int) -> None:
    """Fail unless offsets 1, 2, 3 … arrived, each with its own event, with no repeats but after a new connection.

    `received` are offsets and event ids in the order of arrival over so many `connections`.

    Raises:
        AssertionError: something is wrong, and what; also under `python -O`.
    """
    _expect(sorted(accepted) == list(range(1, len(accepted) + 1)), "accepted offsets have gaps")
    newest, repeats, previous = 0, 0, 0
    for offset, event_id in received:
        _expect(offset <= newest + 1, f"{offset} came after {newest}: something is missing")
        repeats += offset != previous + 1
        _expect(accepted.get(offset) == event_id, f"offset {offset} is another event")
        newest, previous = max(newest, offset), offset
    _expect(newest == len(accepted), f"{len(accepted)} events were accepted, {newest} arrived")
    _expect(repeats < max(1, connections), f"{repeats} rewinds on {connections} connections")


def _expect(held: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not held:
        raise AssertionError(otherwise)
