"""Reads what is new of an organization's gateways, for one stream."""

from __future__ import annotations

import json
from typing import Self

from gatecast.containment import concerns_everyone, contained, log_failure
from gatecast.delivery.reading import ReadAnswer, read_each
from gatecast.errors import GatecastError, InvalidValue
from gatecast.events import RecordedEvent
from gatecast.server.admin_api.context import AdminContext
from gatecast.server.admin_api.named import gateway_ids
from gatecast.server.admin_api.stream_position import StreamPosition
from gatecast.storage.changes import changes_since
from gatecast.storage.contract import Changes, ReadRequest

#: Most gateways that one stream follows: each is part of every position that a client carries.
MAX_GATEWAYS = 500

#: What is read in one turn; a slow client holds no more than this in memory.
_GATEWAYS_PER_READ = 8
_EVENTS_PER_GATEWAY = 100
_BYTES_PER_GATEWAY = 128 * 1024


class Follower:
    """What one stream has shown, and what it has to show next."""

    def __init__(self, context: AdminContext, organization: str, position: StreamPosition, *, gateway: str) -> None:
        self._context = context
        self._organization = organization
        self._gateway = gateway
        self._position = position
        self._seen: Changes | None = None
        #: Logs that have grown and are not read to their end yet: kept when the database goes away in between.
        self._moved: dict[str, None] = {}
        #: Logs that alone could not be read; the next look tries them again.
        self._put_off: set[str] = set()
        self._has_strangers = False
        self._gap = ""
        #: True once there are more gateways than one stream can follow.
        self.is_over = False

    @classmethod
    async def begin(
        cls, context: AdminContext, organization: str, gateway: str, resumed: StreamPosition | None
    ) -> Self:
        """A follower of one gateway, or of all, that continues where an earlier one was, or begins with what comes now.

        Raises:
            NotFound: there is no such gateway.
            InvalidValue: there are more gateways than one stream can follow.
        """
        if gateway:
            [gateway] = ids = await gateway_ids(context, organization, [gateway])
            await context.gateways.get(organization, gateway)
        else:
            ids = await context.gateways.ids(organization, limit=MAX_GATEWAYS + 1)
        if len(ids) > MAX_GATEWAYS:
            raise InvalidValue("gateway", gateway, f"name one gateway, because you have more than {MAX_GATEWAYS}")
        changes = await context.hub.storage.log.changed_since(0)
        follower = cls(context, organization, _heads(changes, ids), gateway=gateway)
        follower._seen = changes
        if resumed is not None:
            follower._resume(resumed)
        return follower

    def _resume(self, resumed: StreamPosition) -> None:
        if resumed.epoch != self._position.epoch:
            self._gap = _gap(reason="epoch")
            return
        for gateway_id, head in self._position.offsets.items():
            # What is not in it was created since, and nothing of it was shown.
            shown = resumed.offsets.get(gateway_id, 0)
            self._position.offsets[gateway_id] = shown
            if shown < head:
                self._moved[gateway_id] = None

    async def look(self) -> None:
        """Find out what is new; what the database cannot tell now is found the next time."""
        self._moved |= dict.fromkeys(self._put_off)
        self._put_off.clear()
        with contained("stream-could-not-look", organization=self._organization):
            if self._has_strangers and not self._gateway:
                await self._look_for_new_gateways()
            await self._note(await changes_since(self._context.hub.storage.log, self._seen))

    async def next_portion(self) -> str:
        """The next part of what is new, as text; empty: there is no more, or the database cannot be read now."""
        if self._gap:
            return self._portion([self._take_gap()])
        with contained("stream-could-not-read", organization=self._organization):
            while self._moved:
                if portion := await self._read_some():
                    return portion
        return ""

    async def _note(self, changes: Changes) -> None:
        if changes.epoch != self._position.epoch:
            await self._begin_anew()
        known = self._position.offsets
        self._moved |= dict.fromkeys(name for name, head in changes.heads.items() if head > known.get(name, head))
        self._has_strangers |= any(name not in known for name in changes.heads)
        self._seen = changes

    async def _begin_anew(self) -> None:
        """The database was restored: offsets mean other events now."""
        changes = await self._context.hub.storage.log.changed_since(0)
        self._position = _heads(changes, list(self._position.offsets))
        self._moved.clear()
        self._gap = _gap(reason="epoch")

    async def _look_for_new_gateways(self) -> None:
        ids = await self._context.gateways.ids(self._organization, limit=MAX_GATEWAYS + 1)
        self.is_over = len(ids) > MAX_GATEWAYS
        self._has_strangers = False
        for gateway_id in ids[:MAX_GATEWAYS]:
            if gateway_id not in self._position.offsets:
                self._position.offsets[gateway_id] = 0
                self._moved[gateway_id] = None

    async def _read_some(self) -> str:
        names = list(self._moved)[:_GATEWAYS_PER_READ]
        results = await read_each(self._context.hub.storage.log, [self._request(name) for name in names])
        messages: list[str] = []
        for name, result in zip(names, results, strict=True):
            messages += self._shown(name, result)
        return self._portion(messages)

    def _request(self, name: str) -> ReadRequest:
        return ReadRequest(
            gateway_id=name,
            after=self._position.offsets[name],
            max_events=_EVENTS_PER_GATEWAY,
            max_bytes=_BYTES_PER_GATEWAY,
        )

    def _shown(self, name: str, result: ReadAnswer) -> list[str]:
        """What a read brought, as messages; the log is read to its end when it brought nothing more.

        Raises:
            GatecastError: it is not this log that is at fault.
        """
        if isinstance(result, GatecastError):
            if concerns_everyone(result):
                raise result
            # The others do not wait for it.
            log_failure("stream-read-refused", result, gateway=name)
            del self._moved[name]
            self._put_off.add(name)
            return []
        if result is None or result.epoch != self._position.epoch:
            # Deleted, or of another history, which the next look finds.
            del self._moved[name]
            if result is None:
                del self._position.offsets[name]
            return []
        offset = self._position.offsets[name]
        messages = []
        if result.trimmed_through > offset:
            messages.append(_gap(reason="retention", gatewayId=name, after=offset, through=result.trimmed_through))
        messages += [f"event: recorded\ndata: {_event(event)}\n\n" for event in result.events]
        last = result.events[-1].offset if result.events else max(offset, result.trimmed_through)
        self._position.offsets[name] = last
        if last >= result.head or not result.events:
            del self._moved[name]
        return messages

    def _portion(self, messages: list[str]) -> str:
        """Messages with the position behind them.

        It stands in the last one alone, because it may be long: whoever loses the connection in between gets the
        portion once more.
        """
        if not messages:
            return ""
        *others, last = messages
        return "".join([*others, f"id: {self._position}\n{last}"])

    def _take_gap(self) -> str:
        gap, self._gap = self._gap, ""
        return gap


def _heads(changes: Changes, ids: list[str]) -> StreamPosition:
    """The present end of these logs."""
    return StreamPosition(changes.epoch, {name: changes.heads[name] for name in ids if name in changes.heads})


def _gap(**fields: object) -> str:
    return f"event: gap\ndata: {json.dumps(fields)}\n\n"


def _event(recorded: RecordedEvent) -> str:
    """One that nobody can read is shown by its id and with the reason, so that what follows it is shown as well."""
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
