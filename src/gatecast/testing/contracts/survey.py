"""The contract of surveys: questions about many gateways and long logs."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gatecast.errors import UnknownGateway
from gatecast.events import Event
from gatecast.storage import survey
from gatecast.storage.contract import Engine, EventSearch, FoundEvents, Outcome, OutcomeKind
from gatecast.testing.contracts.backend import (
    ALIVE,
    EXPIRED,
    GATEWAY,
    OTHER_GATEWAY,
    POD,
    EngineBackend,
    connect,
    make_connection,
    make_event,
    make_events,
    publish,
)


async def _found(storage: Engine, *, confirmed: int = 0, **wanted: Any) -> FoundEvents:  # noqa: ANN401 - fields
    values: dict[str, Any] = {"gateway_id": GATEWAY, "max_events": 100, "max_bytes": 1_000_000}
    search = EventSearch(**values | wanted)
    return await storage.survey.search(search, confirmed=confirmed)


async def _offsets(storage: Engine, *, confirmed: int = 0, **wanted: Any) -> list[int]:  # noqa: ANN401 - fields
    return [event.offset for event in (await _found(storage, confirmed=confirmed, **wanted)).events]


def _event(gateway_id: str = GATEWAY, **fields: Any) -> Event:  # noqa: ANN401 - fields
    return replace(make_event(gateway_id), **fields)


def _said(offset: int, kind: OutcomeKind, replica: str = "") -> Outcome:
    return Outcome(gateway_id=GATEWAY, replica=replica, offset=offset, kind=kind, reason="")


class SurveyContract(EngineBackend):
    """`Survey`."""

    async def test_a_summary_tells_how_each_gateway_stands(self, tmp_path: Path) -> None:
        """Its lag, since when, where it is connected, and what is wrong; of gateways that exist."""
        async with self.open_with(tmp_path, GATEWAY, OTHER_GATEWAY) as storage:
            await publish(storage, *make_events(3))
            await connect(storage, make_connection("one"))
            await connect(storage, make_connection("two"))
            await storage.outcomes.record([_said(1, OutcomeKind.PARKED)])
            found = await storage.survey.summaries([OTHER_GATEWAY, GATEWAY, "nobody"])
            known = {each.gateway_id: each for each in found}
            assert known.keys() == {GATEWAY, OTHER_GATEWAY}
            mine, other = known[GATEWAY], known[OTHER_GATEWAY]
            assert (mine.head, mine.lag, mine.pods, mine.parked) == (3, 3, (POD, POD), True)
            assert mine.resync_reason == ""
            assert mine.lag_seconds > 0
            assert mine.last_seen is not None
            assert (other.lag, other.lag_seconds, other.pods, other.parked) == (0, 0.0, (), False)
            assert other.last_seen is None
            assert await storage.survey.summaries([]) == []

    async def test_a_summary_agrees_with_the_whole_status(self, tmp_path: Path) -> None:
        """After the pod's lease has run out nobody is connected, and a position of an older epoch confirms nothing."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(2))
            await connect(storage, make_connection("one"))
            await storage.presence.renew_lease(POD, EXPIRED)
            epoch = (await storage.presence.status([GATEWAY]))[GATEWAY].epoch
            await storage.log.renew_epoch(epoch)
            [summary] = await storage.survey.summaries([GATEWAY])
            status = (await storage.presence.status([GATEWAY]))[GATEWAY]
            assert (summary.lag, summary.pods) == (status.head - status.confirmed, ())
            assert summary.resync_reason == status.resync_reason
            assert status.last_seen_at is not None
            assert summary.last_seen == pytest.approx(status.last_seen_at.timestamp(), abs=0.01)
            await storage.presence.renew_lease(POD, ALIVE)

    async def test_gateways_are_counted_as_their_summaries_tell(self, tmp_path: Path) -> None:
        """Those that stand alike are one row, however many they are; some can be left out by how their ids begin."""
        names = [GATEWAY, OTHER_GATEWAY, "third", "fourth", "hidden-1"]
        async with self.open_with(tmp_path, *names) as storage:
            await publish(storage, *make_events(3))
            await publish(storage, _event("third"))
            await connect(storage, make_connection("one"))
            await storage.outcomes.record([_said(1, OutcomeKind.PARKED)])
            counts = await storage.survey.counts(slow_after=1_000.0, except_for="hidden-")
            fields = ("gateways", "resynchronizing", "parked", "connected", "lagging")
            assert sorted(tuple(getattr(each, name) for name in fields) for each in counts) == [
                (1, False, False, False, True),
                (1, False, True, True, True),
                (2, False, False, False, False),
            ]
            assert [each.lag_seconds > 0 for each in counts] == [each.lagging for each in counts]
            slow = await storage.survey.counts(slow_after=0.0, except_for="nobody-")
            assert sum(each.gateways for each in slow) == len(names)
            assert sorted(await storage.survey.beginning_with("hidden-")) == ["hidden-1"]
            assert sorted(await storage.survey.beginning_with("")) == sorted(names)
            epoch = (await storage.presence.status([GATEWAY]))[GATEWAY].epoch
            await storage.log.renew_epoch(epoch)
            counts = await storage.survey.counts(slow_after=1_000.0, except_for="nobody-")
            assert sum(each.gateways for each in counts if each.resynchronizing) == 1

    async def test_events_are_found_by_what_they_are(self, tmp_path: Path) -> None:
        """The newest come first; of another gateway's log nothing comes."""
        async with self.open_with(tmp_path, GATEWAY, OTHER_GATEWAY) as storage:
            await publish(storage, _event(type="api.changed"), _event(entity_type="Route", entity_id="r 1"))
            await publish(storage, _event(OTHER_GATEWAY, type="api.changed"))
            await publish(storage, make_event())
            assert await _offsets(storage) == [3, 2, 1]
            assert await _offsets(storage, type="api.changed", entity_type="Route") == []
            assert await _offsets(storage, entity_type="Route", entity_id="r 1") == [2]
            assert await _offsets(storage, type="api.changed") == [1]
            with pytest.raises(UnknownGateway):
                await _found(storage, gateway_id="nobody")

    async def test_events_are_found_by_what_became_of_them(self, tmp_path: Path) -> None:
        """Of several replicas a rejection counts most; what is held was neither applied nor rejected."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(7))
            said = [(1, OutcomeKind.APPLIED), (2, OutcomeKind.REJECTED), (3, OutcomeKind.HELD)]
            await storage.outcomes.record([_said(*each) for each in said])
            await storage.outcomes.record([_said(2, OutcomeKind.APPLIED, "b"), _said(4, OutcomeKind.UNDELIVERABLE)])
            for state, offsets in (
                ("applied", [1]),
                ("rejected", [4, 2]),
                ("confirmed", [5]),
                ("stored", [7, 6, 3]),
            ):
                assert await _offsets(storage, confirmed=5, state=state) == offsets, state

    async def test_events_are_found_by_time(self, tmp_path: Path) -> None:
        """From the first instant on, before the second; of an empty range nothing."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            for _ in range(5):
                await publish(storage, make_event())
            times = {event.offset: event.recorded_at for event in (await _found(storage)).events}
            assert await _offsets(storage, since=times[3]) == [5, 4, 3]
            assert await _offsets(storage, until=times[3]) == [2, 1]
            assert await _offsets(storage, since=times[2], until=times[4]) == [3, 2]
            assert await _offsets(storage, since=times[4], until=times[2]) == []
            assert await _offsets(storage, since=times[5] + timedelta(days=1)) == []
            assert await _offsets(storage, until=times[1] - timedelta(days=1)) == []

    async def test_a_search_goes_on_where_it_ended(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It looks at a bounded number of events, also where none matches, and ends at the beginning of the log."""
        monkeypatch.setattr(survey, "LOOKED_AT", 4)
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, _event(type="rare"), *make_events(9))
            pages, before = [], None
            while True:
                found = await _found(storage, type="rare", before=before)
                pages.append([event.offset for event in found.events])
                if (before := found.before) is None:
                    break
            assert pages == [[], [], [1]]
            first = await _found(storage, max_events=2)
            assert ([event.offset for event in first.events], first.before) == ([10, 9], 9)
            assert await _offsets(storage, before=first.before, max_events=2) == [8, 7]

    async def test_a_page_is_bounded_in_bytes(self, tmp_path: Path) -> None:
        """A page holds at least one event, whatever its size, and the next page begins after it."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *(_event(data={"text": "x" * 1_000}) for _ in range(3)))
            found = await _found(storage, max_bytes=10)
            assert ([event.offset for event in found.events], found.before) == ([3], 3)
            found = await _found(storage, max_bytes=10, before=found.before)
            assert ([event.offset for event in found.events], found.before) == ([2], 2)
