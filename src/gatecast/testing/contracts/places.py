"""The contract of places: where a log stood when a marker was taken; a reader that continues there misses nothing."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from gatecast.storage.contract import Engine, Place, TrimPolicy
from gatecast.testing.contracts.backend import (
    GATEWAY,
    OTHER_GATEWAY,
    EngineBackend,
    make_event,
    make_events,
    publish,
    read,
    settled_marker,
)

_AGE = timedelta(hours=1)


async def _place(storage: Engine, marker: int, gateway_id: str = GATEWAY) -> Place:
    return (await storage.log.places([gateway_id], marker))[gateway_id]


class PlacesContract(EngineBackend):
    """`places`, and the marker `lasting` of `changed_since`."""

    async def test_a_place_is_where_the_log_ended_then(self, tmp_path: Path) -> None:
        """While nobody publishes, exactly."""
        async with self.open_with(tmp_path, GATEWAY, OTHER_GATEWAY) as storage:
            await publish(storage, *make_events(3))
            marker = await settled_marker(storage.log)
            await publish(storage, *make_events(2))
            await publish(storage, *make_events(4, OTHER_GATEWAY))
            places = await storage.log.places([GATEWAY, OTHER_GATEWAY, "nobody"], marker)
            assert {name: (each.offset, each.is_gap) for name, each in places.items()} == {
                GATEWAY: (3, False),
                OTHER_GATEWAY: (0, False),
            }
            assert places[GATEWAY].log_id == (await read(storage)).log_id
            assert (await _place(storage, await settled_marker(storage.log))).offset == 5

    async def test_nothing_is_named_again_while_nothing_happens(self, tmp_path: Path) -> None:
        """A stream that waits asks for what is new, and gets nothing."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(3))
            marker = await settled_marker(storage.log)
            assert (await storage.log.changed_since(marker)).heads == {}
            await publish(storage, make_event())
            assert (await storage.log.changed_since(marker)).heads == {GATEWAY: 4}

    async def test_a_log_that_begins_later_begins_at_its_beginning(self, tmp_path: Path) -> None:
        """Also that of a gateway that was deleted and registered again."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(3))
            marker = await settled_marker(storage.log)
            await storage.log.forget(GATEWAY)
            for gateway_id in (GATEWAY, OTHER_GATEWAY):
                await storage.log.register(gateway_id)
                await publish(storage, *make_events(2, gateway_id))
                assert (await _place(storage, marker, gateway_id)).offset == 0
            assert set((await storage.log.changed_since(marker)).heads) == {GATEWAY, OTHER_GATEWAY}

    async def test_what_retention_removed_since_is_a_gap_and_what_was_seen_is_none(self, tmp_path: Path) -> None:
        """A log whose events are all gone has no gap, if they were committed before the marker."""
        async with self.open_with(tmp_path, GATEWAY, OTHER_GATEWAY) as storage:
            await publish(storage, *make_events(5))
            await publish(storage, *make_events(5, OTHER_GATEWAY))
            seen = await settled_marker(storage.log)
            await publish(storage, *make_events(5))
            await storage.log.trim(TrimPolicy(keep_confirmed=_AGE, keep_at_most=_AGE, max_events=2))
            await publish(storage, make_event(OTHER_GATEWAY))
            await storage.log.trim(TrimPolicy(keep_confirmed=_AGE, keep_at_most=_AGE, max_events=1))
            places = await storage.log.places([GATEWAY, OTHER_GATEWAY], seen)
            assert (places[GATEWAY].offset, places[GATEWAY].is_gap) == (9, True)
            assert (places[OTHER_GATEWAY].offset, places[OTHER_GATEWAY].is_gap) == (5, False)

    async def test_whoever_goes_on_from_a_marker_misses_nothing(self, tmp_path: Path) -> None:
        """Publishers commit in any order, some for several gateways, some roll back; a reader looks now and then."""
        random_source = random.Random(7)  # noqa: S311 - repeats, guards nothing
        gateways = [f"gateway-{number}" for number in range(5)]
        async with self.open_with(tmp_path, *gateways) as storage:
            published: set[tuple[str, UUID]] = set()
            busy = [
                asyncio.create_task(self._publish_at_random(storage, gateways, published, seed)) for seed in range(4)
            ]
            shown: set[tuple[str, UUID]] = set()
            marker = 0
            while not all(task.done() for task in busy):
                marker = await _follow(storage, marker, shown)
                await asyncio.sleep(random_source.uniform(0, 0.02))
            await asyncio.gather(*busy)
            await _follow(storage, marker, shown)
            assert shown == published

    async def _publish_at_random(
        self, storage: Engine, gateways: list[str], published: set[tuple[str, UUID]], seed: int
    ) -> None:
        random_source = random.Random(seed)  # noqa: S311 - repeats, guards nothing
        for _ in range(12):
            events = [make_event(name) for name in sorted(random_source.sample(gateways, random_source.randint(1, 3)))]
            if await self.commit_somehow(storage, events, random_source):
                published.update((event.gateway_id, event.event_id) for event in events)


async def _follow(storage: Engine, marker: int, shown: set[tuple[str, UUID]]) -> int:
    """Read what came since, as one who remembers nothing but the marker; the next marker."""
    changes = await storage.log.changed_since(marker)
    places = await storage.log.places(list(changes.heads), marker)
    for name, place in places.items():
        assert not place.is_gap
        result = await read(storage, name, after=place.offset)
        shown.update((name, event.event_id) for event in result.events if event.offset <= changes.heads[name])
    return changes.lasting
