"""Reads what is new of an organization's gateways, for one stream."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Self
from uuid import UUID

from gatecast.containment import concerns_everyone, describe, log_failure
from gatecast.errors import GatecastError
from gatecast.events import RecordedEvent
from gatecast.server.admin_api.context import AdminContext
from gatecast.server.admin_api.named import gateway_ids
from gatecast.server.admin_api.outcome_watch import MOST_EVENTS
from gatecast.server.admin_api.stream_position import StreamPosition
from gatecast.storage.contract import Changes, Place, ReadRequest, ReadResult
from gatecast.storage.reading import ReadAnswer, read_each

#: Limits of one read; a slow client holds no more than this in memory.
_GATEWAYS_PER_READ = 8
_EVENTS_PER_GATEWAY = 100
_BYTES_PER_GATEWAY = 128 * 1024

#: A marker that no log has reached: asking for what came after it returns the present one.
_LAST = 2**60

#: So many gateways of others are remembered as such.
_MOST_STRANGERS = 100_000


class Follower:
    """The progress of one stream through the logs of its gateways.

    It goes in rounds. A round asks which logs changed since the previous round's marker, and reads them to the end that
    they had then, in the order of the gateways' ids. So the place in a round tells for each gateway what was shown.
    """

    def __init__(self, context: AdminContext, organization: str, *, gateway: str) -> None:
        self._context = context
        self._organization = organization
        self._gateway = gateway
        #: The history that is followed, and the copy of the tables that it is read from.
        self._history: tuple[UUID, str] = UUID(int=0), ""
        #: Everything that was committed before it was shown, and what the round has to reach.
        self._since = self._until = 0
        #: For each gateway with shown events: its log, and the offset up to which it was shown.
        self._shown: dict[str, Place] = {}
        #: Gateways that have changed and belong to others.
        self._strangers: set[str] = set()
        #: Gateways whose logs have more to show in this round, by id.
        self._waiting: list[str] = []
        #: Logs that alone could not be read; the next round tries them again.
        self._put_off: set[str] = set()
        #: Gateways that were reported as unreadable.
        self._unreadable: set[str] = set()
        #: Where a client resumes, until the round that it left is over.
        self._resumed: StreamPosition | None = None
        self._notices: list[str] = []
        #: The events that were shown last: gateway and offset.
        self.shown_lately: deque[tuple[str, int]] = deque(maxlen=MOST_EVENTS)

    @classmethod
    async def begin(
        cls,
        context: AdminContext,
        organization: str,
        gateway: str,
        resumed: StreamPosition | None,
        *,
        goes_on: bool = False,
    ) -> Self:
        """A follower of one gateway, or of all, that continues where an earlier one was, or begins with what comes now.

        `goes_on` with no position: the client's position cannot be continued, which is reported as a gap.

        Raises:
            NotFound: there is no such gateway.
        """
        if gateway:
            [gateway] = await gateway_ids(context, organization, [gateway])
            await context.gateways.get(organization, gateway)
        follower = cls(context, organization, gateway=gateway)
        changes = await context.hub.engine.log.changed_since(_LAST)
        follower._begin_with(changes)
        if resumed is not None:
            follower._resume(resumed, changes)
            await follower._remember()
        elif goes_on:
            follower._notices.append(_gap(reason="position"))
        return follower

    @property
    def gateway(self) -> str:
        """The one gateway that is followed; empty: all."""
        return self._gateway

    @property
    def position(self) -> StreamPosition:
        """The position of the stream: later events were not shown yet, or may come again."""
        epoch, copy = self._history
        behind = min([*self._waiting[:1], *self._put_off], default="")
        place = self._shown.get(behind, Place(0, 0, is_gap=False))
        return StreamPosition(
            epoch=epoch,
            copy=copy,
            since=self._since,
            until=self._until,
            gateway=behind,
            log_id=place.log_id,
            offset=place.offset,
        )

    def _begin_with(self, changes: Changes) -> None:
        """Show what comes from now on."""
        self._history = _history_of(changes)
        self._since = self._until = changes.lasting
        self._shown.clear()
        self._waiting.clear()
        self._put_off.clear()
        self._resumed = None

    def _resume(self, resumed: StreamPosition, changes: Changes) -> None:
        if (resumed.epoch, resumed.copy) != self._history:
            self._notices.append(_gap(reason="epoch"))
        elif max(resumed.since, resumed.until) > max(changes.marker, changes.lasting):
            self._notices.append(_gap(reason="position"))
        else:
            self._since = self._until = resumed.since
            self._resumed = resumed

    async def _remember(self) -> None:
        """Note the last events that the client was shown before: their later outcomes are sent, too."""
        if (resumed := self._resumed) is None:
            return
        fleet = await self._context.fleets.look(self._organization)
        own = [each for each in fleet.standings if self._gateway in ("", each.id)]
        lately = sorted(own, key=lambda each: each.summary.last_seen or 0.0, reverse=True)[:MOST_EVENTS]
        marker = max(resumed.since, resumed.until)
        places = await self._context.hub.engine.log.places([each.id for each in lately], marker)
        ends = {name: place.offset for name, place in places.items()}
        here = places.get(resumed.gateway)
        if here is not None and here.log_id == resumed.log_id:
            ends[resumed.gateway] = max(here.offset, resumed.offset)
        self.shown_lately.extend(reversed(_newest(ends)))

    async def look(self) -> None:
        """Begin a round: find out what is new."""
        changes = await self._context.hub.engine.log.changed_since(self._since)
        if _history_of(changes) != self._history:
            # Restored, or perhaps so: offsets and markers may mean something else now.
            self._begin_with(changes)
            self._notices = [_gap(reason="epoch")]
            return
        await self._note(changes)

    async def _note(self, changes: Changes) -> None:
        names = [self._gateway] if self._gateway else list(changes.heads)
        changed = [name for name in names if name in changes.heads and name not in self._strangers]
        await self._find_places([name for name in changed if name not in self._shown])
        waiting = {name for name in changed if name in self._shown and self._shown[name].offset != changes.heads[name]}
        self._waiting = sorted(waiting.union(self._waiting, self._put_off))
        self._put_off.clear()
        self._until = changes.lasting
        self._end_round()

    async def _find_places(self, names: Sequence[str]) -> None:
        """Find the shown offsets of gateways that have events for the first time."""
        mine = {self._gateway} if self._gateway else await self._context.gateways.among(self._organization, names)
        if len(self._strangers) > _MOST_STRANGERS:
            self._strangers.clear()
        self._strangers.update(name for name in names if name not in mine)
        log = self._context.hub.engine.log
        own = [name for name in names if name in mine]
        places = dict(await log.places(own, self._since)) if own else {}
        if (resumed := self._resumed) is not None and own:
            before = [name for name in own if name < resumed.gateway]
            places |= dict(await log.places(before, resumed.until)) if before else {}
            here = places.get(resumed.gateway)
            if here is not None and here.log_id == resumed.log_id and here.offset < resumed.offset:
                places[resumed.gateway] = Place(here.log_id, resumed.offset, is_gap=False)
        for name, place in places.items():
            self._shown[name] = place
            if place.is_gap:
                self._notices.append(_gap(reason="retention", gatewayId=name, through=place.offset))

    def _end_round(self) -> None:
        """Once everything is shown that the round found, the next one begins after it."""
        if not self._waiting and not self._put_off:
            self._since = self._until
            self._resumed = None

    async def next_portion(self) -> str:
        """The next new messages, as text; empty: there are no more."""
        if self._notices:
            notices, self._notices = self._notices, []
            return self._portion(notices)
        while self._waiting:
            if portion := await self._read_some():
                return portion
        return ""

    async def _read_some(self) -> str:
        names = self._waiting[:_GATEWAYS_PER_READ]
        results = await read_each(self._context.hub.engine.log, [self._request(name) for name in names])
        messages: list[str] = []
        for name, result in zip(names, results, strict=True):
            messages += self._messages(name, result)
        self._end_round()
        return self._portion(messages)

    def _request(self, name: str) -> ReadRequest:
        return ReadRequest(
            gateway_id=name,
            after=self._shown[name].offset,
            max_events=_EVENTS_PER_GATEWAY,
            max_bytes=_BYTES_PER_GATEWAY,
        )

    def _messages(self, name: str, result: ReadAnswer) -> list[str]:
        """The messages for a read; the log is read to its end once a read returns nothing more.

        Raises:
            GatecastError: the fault is not in this log.
        """
        if isinstance(result, GatecastError):
            if concerns_everyone(result):
                raise result
            # The others do not wait for it.
            log_failure("stream-read-refused", result, gateway=name)
            self._done_with(name)
            self._put_off.add(name)
            return self._said_unreadable(name, describe(result))
        return [*self._said_readable(name), *self._news(name, result)]

    def _said_unreadable(self, name: str, reason: str) -> list[str]:
        if name in self._unreadable:
            return []
        self._unreadable.add(name)
        return [_unreadable(name, reason)]

    def _said_readable(self, name: str) -> list[str]:
        if name not in self._unreadable:
            return []
        self._unreadable.discard(name)
        return [_unreadable(name, None)]

    def _news(self, name: str, result: ReadResult | None) -> list[str]:
        if result is None or result.epoch != self._history[0]:
            # Deleted, or of another history, which the next look finds.
            self._done_with(name)
            if result is None:
                self._shown.pop(name, None)
            return []
        before = self._shown[name]
        if before.log_id != result.log_id or before.offset > result.head:
            # Another log, or one without the shown events: it is read from its beginning.
            self._shown[name] = Place(result.log_id, 0, is_gap=False)
            return [] if before.log_id != result.log_id else [_gap(reason="position", gatewayId=name)]
        messages = []
        if result.low_water_mark > before.offset:
            gap = _gap(reason="retention", gatewayId=name, after=before.offset, through=result.low_water_mark)
            messages.append(gap)
        messages += [f"event: recorded\ndata: {_event(event)}\n\n" for event in result.events]
        self.shown_lately.extend((name, event.offset) for event in result.events)
        last = result.events[-1].offset if result.events else max(before.offset, result.low_water_mark)
        self._shown[name] = Place(result.log_id, last, is_gap=False)
        if last >= result.head or not result.events:
            self._done_with(name)
        return messages

    def _done_with(self, name: str) -> None:
        place = bisect_left(self._waiting, name)
        if self._waiting[place : place + 1] == [name]:
            del self._waiting[place]

    def _portion(self, messages: list[str]) -> str:
        """Messages, the last one with the position after them.

        A client that loses the connection in between gets the portion once more.
        """
        if not messages:
            return ""
        *others, last = messages
        return "".join([*others, f"id: {self.position}\n{last}"])


def _history_of(changes: Changes) -> tuple[UUID, str]:
    return changes.epoch, hashlib.sha256(changes.copy.encode()).hexdigest()[:16]


def _newest(ends: Mapping[str, int]) -> list[tuple[str, int]]:
    """The newest events of logs that end at these offsets: the last one of each, then the one before it, and so on."""
    depth = min(MOST_EVENTS, max(ends.values(), default=0))
    found = ((name, end - back) for back in range(depth) for name, end in ends.items() if end > back)
    return list(islice(found, MOST_EVENTS))


def _gap(**fields: object) -> str:
    return f"event: gap\ndata: {json.dumps(fields)}\n\n"


def _unreadable(gateway_id: str, reason: str | None) -> str:
    return f"event: unreadable\ndata: {json.dumps({'gatewayId': gateway_id, 'reason': reason}, ensure_ascii=False)}\n\n"


def _event(recorded: RecordedEvent) -> str:
    """The message for an event; an unreadable one has its id and the reason, so that later ones are shown as well."""
    event = recorded.checked()
    trouble = {} if event.undeliverable is None else {"undeliverable": event.undeliverable}
    return json.dumps(
        {
            "gatewayId": event.gateway_id,
            "offset": event.offset,
            "eventId": str(event.event_id),
            "type": event.type,
            "action": event.action,
            "entityType": event.entity_type,
            "entityId": event.entity_id,
            "data": None if event.undeliverable else event.data,
            "recordedAt": event.recorded_at.isoformat(),
            **trouble,
        },
        ensure_ascii=False,
    )
