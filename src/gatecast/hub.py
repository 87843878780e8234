"""EventHub: the library's entry point, and the only place that chooses a database and a wake-up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine, Generator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, overload
from uuid import uuid4

from gatecast.delivery.delivery import Delivery, DeliveryOptions
from gatecast.delivery.retention import clean_up
from gatecast.delivery.subscription import Subscription
from gatecast.errors import (
    DatabaseUnsuitable,
    EventUndeliverable,
    HubClosed,
    InvalidValue,
    PositionLost,
    SchemaMissing,
    SettingInvalid,
    StorageError,
    SubscriptionClosed,
)
from gatecast.events import Event, Position, RecordedEvent, clean_identifier
from gatecast.events.event import listed
from gatecast.outbox.gateways import GatewayQueue, end_of
from gatecast.outbox.outbox import Outbox, OutboxOptions, check, refuse_new
from gatecast.outbox.records import MIGRATIONS as OUTBOX_MIGRATIONS
from gatecast.settings import Settings, variable
from gatecast.storage.connect import OpenStorage, OpenStream, open_engine, open_storage, place_of
from gatecast.storage.contract import (
    Connection,
    Database,
    DeliverySummary,
    Engine,
    GatewayStatus,
    Receipt,
    Storage,
    Transaction,
    TrimPolicy,
)
from gatecast.storage.database_url import Backend
from gatecast.storage.migrations import SchemaNeed
from gatecast.telemetry import traces
from gatecast.wakeup.contract import SupervisedWakeup
from gatecast.wakeup.datagram import DatagramWakeup
from gatecast.wakeup.in_process import InProcessWakeup
from gatecast.wakeup.jetstream import JetStreamWakeup
from gatecast.wakeup.postgres import PostgresWakeup


class EventHub:
    """Durable, ordered, confirmed delivery of events to gateways, on the database you have.

    Opened with `async with EventHub.open(url) as hub`. Every process that opens the same database is one pod.
    """

    def __init__(
        self,
        opened: OpenStorage | OpenStream,
        wakeup: SupervisedWakeup,
        settings: Settings,
        outbox: Outbox | None = None,
    ) -> None:
        self._opened = opened
        self._outbox = outbox
        self._engine: Engine = opened.engine if outbox is None else outbox.engine(opened.engine)
        self._settings = settings
        self._policy = trim_policy(settings)
        self._wakeup = wakeup
        self._closed = asyncio.Event()
        options = DeliveryOptions(
            pod_id=settings.pod_id,
            poll_interval=settings.poll_interval.total_seconds(),
            trim_policy=self._policy,
        )
        #: The running parts, for the server that is built on the hub.
        self.delivery = Delivery(self._engine, wakeup, options)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        url: str | None = None,
        *,
        outbox: str | None = None,
        settings: Settings | None = None,
        migrations: Sequence[str] = (),
        adopt: bool = True,
    ) -> AsyncIterator[Self]:
        """Open the database at `url` and start delivery; without `url` and `settings`, environment variables name it.

        An empty database gets its schema. An older schema is upgraded only if the setting `migrate` is `always`.
        `migrations` names packages with your own migrations, numbered from 9001; with an outbox they are for its
        database.

        `outbox` is the URL of the SQL database with your application's tables, if that is not the one of the log. A
        publish in a transaction of that database commits with it, and is then forwarded to the log. A new outbox adopts
        the gateways of the log; with `adopt=False` opening fails instead, which catches a mistyped URL.

        Raises:
            SettingInvalid: a URL names no supported database, or a variable of the environment is wrong.
            DatabaseUnsuitable: the stream of a `nats://` URL keeps fewer copies than it must, or was edited; or the
                database at `url` is an outbox, or that at `outbox` holds a log, belongs to another log or must not
                adopt gateways.
            StorageUnavailable: the database cannot be reached.
            SchemaMissing: the schema is older than this release; run `gatecast migrate`.
            SchemaTooNew: a newer release migrated the database.
        """
        if settings is None:
            settings = Settings.read() if url is None else Settings()
        if url is not None:
            settings = replace(settings, database=url)
        if outbox is not None:
            settings = replace(settings, outbox=outbox)
        async with AsyncExitStack() as stack:
            opened = await stack.enter_async_context(
                open_engine(
                    settings.database,
                    send_hints=settings.notifications,
                    extra_migrations=() if settings.outbox else migrations,
                    pooler=settings.pooler,
                )
            )
            if isinstance(opened, OpenStorage):
                await prepare_schema(opened.storage, settings.migrate)
                await refuse_outbox(opened.storage)
            wakeup = await stack.enter_async_context(_wakeup(opened, settings))
            opening = _open_outbox(opened.engine, wakeup, settings, migrations, adopt=adopt)
            opened_outbox = await stack.enter_async_context(opening)
            hub = cls(opened, wakeup, settings, opened_outbox)
            wakeup.on_failure(hub.delivery.fail)
            if opened_outbox is not None:
                opened_outbox.on_failure(hub.delivery.fail)
                await stack.enter_async_context(
                    opened_outbox.disconnects.applied_to(lambda: hub.delivery.subscriptions, hub.delivery.fail)
                )
            await stack.enter_async_context(hub.delivery)
            try:
                yield hub
            finally:
                await hub.close()

    # --- publishing ---------------------------------------------------------------------------------------------

    @overload
    async def publish(self, events: Event, transaction: object | None = None) -> Position: ...
    @overload
    async def publish(self, events: Iterable[Event], transaction: object | None = None) -> list[Position]: ...

    async def publish(
        self, events: Event | Iterable[Event], transaction: object | None = None
    ) -> Position | list[Position]:
        """Store one event, or all or none of several, and return their positions once the commit is on disk.

        With `transaction` the events become part of the caller's own transaction and are stored when it commits. Pass
        a connection of asyncpg or an asynchronous one of psycopg 3, an AsyncConnection or AsyncSession of SQLAlchemy on
        one of these, a sqlite3 connection, or a transaction of `hub.storage.database`. Sessions are flushed first.
        Without an event loop see `publish_sync`.

        An event id that is already in a gateway's log is not stored again, whatever the new event contains: the first
        position is returned. Two different events need two ids; only the admin API compares them (409).

        Raises:
            InvalidValue: something is no event; nothing was stored.
            UnknownGateway: a gateway is not registered; nothing was stored.
            TransactionUnusable: the transaction cannot carry a publish.
            StorageUnavailable: the database cannot be reached; repeat with the same event ids.
            Overloaded: too many events wait already.
        """
        if isinstance(events, Event):
            [receipt] = await self.append([events], transaction)
            return receipt.position
        return [receipt.position for receipt in await self.append(listed(events), transaction)]

    async def append(self, events: Sequence[Event], transaction: object | None = None) -> tuple[Receipt, ...]:
        """Like `publish`, but return receipts, which also say whether an event was new."""
        if transaction is not None:
            with traces.timed("append", events):
                return await self.engine.log.publish_in(transaction, events)
        return await self.delivery.publish(events)

    # --- receiving ----------------------------------------------------------------------------------------------

    def subscribe(self, gateway_id: str, after: Position | None = None, *, replica: str = "") -> HubSubscription:
        """The events of one gateway as an async iterator, after `after` or after the last acknowledged event.

        Acknowledge what you have handled. The next subscription delivers unacknowledged events again.

        Raises:
            InvalidValue: `after` is no position, or a name is none.

        Raises (when opened, at the latest by the first iteration):
            UnknownGateway: the gateway is not registered.

        Raises (while iterating, until `resynchronized` was awaited):
            PositionLost: the position cannot be resumed: events are missing, and no iteration will bring them. Read
                the desired state again, await `resynchronized`, and continue to iterate.
            EventUndeliverable: the next event cannot be read, and nothing after it is delivered. Acknowledge the
                error's `position` to leave the event out, or let an operator decide (`gatecast gateway skip`), and
                continue to iterate.
        """
        if not isinstance(after, Position | None):
            raise InvalidValue("after", type(after).__name__, "be a position, or None")
        connection = Connection(
            connection_id=str(uuid4()),
            gateway_id=clean_identifier("gateway_id", gateway_id),
            replica=clean_identifier("replica", replica) if replica else "",
            pod_id=self._settings.pod_id,
            protocol="library",
            remote="local",
            token_id=None,
        )
        return HubSubscription(self.delivery, connection, after)

    async def unsubscribe_all(self) -> None:
        """End every subscription of this process and store their positions, if the database can be reached."""
        for subscription in self.delivery.subscriptions:
            subscription.close()
        await _done_within(_FLUSH_TIME_LIMIT, self.delivery.recorder.flush())

    # --- gateways and upkeep ------------------------------------------------------------------------------------

    async def register_gateway(self, gateway_id: str, *, transaction: object | None = None) -> bool:
        """Create an empty log for a gateway; False if it has one already."""
        return await self.engine.log.register(clean_identifier("gateway_id", gateway_id), transaction=transaction)

    async def delete_gateway(self, gateway_id: str, *, transaction: object | None = None) -> bool:
        """Delete a gateway's log and positions, and close its connections on every pod; False if it is unknown."""
        return await self.engine.log.forget(clean_identifier("gateway_id", gateway_id), transaction=transaction)

    async def disconnect_token(self, token_id: str, *, transaction: Transaction) -> None:
        """Once the transaction commits, every pod closes the connections that use this token."""
        if self._outbox is None:
            await self.engine.presence.disconnect_token(token_id, transaction=transaction)
        else:
            await self._outbox.disconnects.note(transaction, token_id=token_id)

    async def delete_connected(self, gateway_id: str, *, transaction: Transaction) -> None:
        """Like `delete_gateway`; connections are closed once the transaction commits, even while the log is away."""
        await self.delete_gateway(gateway_id, transaction=transaction)
        if self._outbox is not None:
            await self._outbox.disconnects.note(transaction, gateway_id=gateway_id)

    async def status(
        self, gateway_ids: Sequence[str], *, transaction: Transaction | None = None
    ) -> dict[str, GatewayStatus]:
        """The delivery status of each registered gateway among these, at one instant or as the transaction sees it.

        With an outbox, a gateway whose log is not created yet counts as registered, with an empty log. In a transaction
        every gateway does, because the transaction does not see the log (`status_before`).
        """
        presence = self.engine.presence
        if self._outbox is None:
            return await presence.status(gateway_ids, transaction=transaction)
        last = self.delivery.reader.last_sweep
        # The log may be away now.
        epoch = last.epoch if last is not None else self._outbox.epoch_at_open
        return await self._outbox.gateways.status(presence, gateway_ids, epoch=epoch, transaction=transaction)

    async def status_before(self, gateway_id: str) -> GatewayStatus | None:
        """The status to report for a transaction that begins now and will not see the log.

        None if it will see the log, if the gateway is not registered, or if the log does not answer within a second.
        """
        if self._outbox is None:
            return None
        with suppress(StorageError, TimeoutError):
            async with asyncio.timeout(_STATUS_TIME_LIMIT):
                return (await self.status([gateway_id])).get(gateway_id)
        return None

    async def summaries(self, gateway_ids: Sequence[str]) -> Sequence[DeliverySummary]:
        """The `status` of thousands of gateways, in a short form."""
        survey = self.engine.survey
        if self._outbox is None:
            return await survey.summaries(gateway_ids)
        return await self._outbox.gateways.summaries(survey, gateway_ids)

    async def behind(self) -> Sequence[tuple[DeliverySummary | None, DeliverySummary]]:
        """The gateways with events in the outbox: the summary of each without them (None: no log), and with them."""
        return () if self._outbox is None else await self._outbox.gateways.behind(self.engine.survey)

    async def unforwarded(self, gateway_id: str) -> GatewayQueue:
        """The events of one gateway that wait in the outbox; none without an outbox.

        Call it before reading the log: an event forwarded in between is then counted twice, and none is missed.
        """
        return GatewayQueue() if self._outbox is None else await self._outbox.gateways.queue(gateway_id)

    async def unforwarded_of(self, gateway_ids: Collection[str]) -> Mapping[str, int]:
        """How many events of each of these gateways wait in the outbox; only those with such events.

        Call it before reading the log, as `unforwarded`.
        """
        return {} if self._outbox is None else await self._outbox.gateways.waiting(gateway_ids)

    async def events_published(self, gateway_id: str) -> int:
        """How many events were ever published to the gateway, forwarded or not.

        Raises:
            UnknownGateway: the gateway is not registered.
        """
        if self._outbox is not None:
            return await self._outbox.gateways.published(gateway_id)
        return await end_of(self.engine.log, gateway_id)

    async def clean_up(self) -> int:
        """Remove the events that retention allows now, and return how many; runs by itself every minute.

        Ends early while another process does it.
        """
        return await clean_up(self.engine.log, self._policy)

    @property
    def engine(self) -> Engine:
        """The engine that holds the log; with an outbox, changes go through the outbox."""
        return self._engine

    @property
    def storage(self) -> Storage:
        """The SQL database that the hub works on.

        Raises:
            DatabaseUnsuitable: the log is on NATS JetStream, which is not an SQL database.
        """
        if isinstance(self._opened, OpenStorage):
            return self._opened.storage
        raise DatabaseUnsuitable("NATS JetStream holds no tables", "open the hub on SQLite or PostgreSQL")

    @property
    def database(self) -> Database:
        """The SQL database whose transactions a publish can join: that of the outbox if there is one, else of the log.

        Raises:
            DatabaseUnsuitable: the log is on NATS JetStream, and there is no outbox.
        """
        return self.storage.database if self._outbox is None else self._outbox.database

    @property
    def has_outbox(self) -> bool:
        """Whether publishes go through an outbox."""
        return self._outbox is not None

    @property
    def outbox(self) -> Outbox:
        """The outbox: the events that wait to be forwarded to the log, and those that the log refused.

        Raises:
            DatabaseUnsuitable: the hub was opened without an outbox.
        """
        if self._outbox is None:
            raise DatabaseUnsuitable("the hub has no outbox", "open it with EventHub.open(…, outbox='postgresql://…')")
        return self._outbox

    @property
    def wakeup_connected(self) -> bool:
        """False while wake-ups cannot arrive, so that delivery takes up to the poll interval."""
        return self._wakeup.connected

    @property
    def wakeup_problem(self) -> str | None:
        """Why wake-ups cannot arrive; None if they can."""
        return self._wakeup.problem

    async def close(self, *, within: float | None = None) -> None:
        """Answer accepted publishes, store positions, and return the lease, within the drain time.

        `within` replaces the drain time, in seconds, if other steps have used part of it.
        """
        if self._closed.is_set():
            return
        self._closed.set()
        seconds = self._settings.drain_time.total_seconds() if within is None else within
        if await _done_within(seconds / 2, self.delivery.drain()):
            return
        # One step hangs, on a held log or on the database. The other steps have their own time. A step that fails does
        # no harm: publishers get an error, events are repeated, the lease expires.
        for subscription in self.delivery.subscriptions:
            subscription.close()
        await _done_within(seconds / 4, self.delivery.recorder.flush())
        await _done_within(seconds / 4, self.delivery.presence.end())


class HubSubscription:
    """The events of one gateway, in order. Iterate over it, and acknowledge what you have handled.

    Opened by the first iteration, by `async with`, or by awaiting it; closed at the end of `async with`, by `close`,
    and with the hub.
    """

    def __init__(self, delivery: Delivery, connection: Connection, after: Position | None) -> None:
        self._delivery = delivery
        self._connection = connection
        self._after = after
        self._subscription: Subscription | None = None
        self._waiting: list[RecordedEvent] = []
        self._resynchronized = False

    def __await__(self) -> Generator[Any, None, Self]:
        return self._open().__await__()

    async def _open(self) -> Self:
        if self._subscription is None:
            subscription = await self._delivery.subscribe(self._connection, after=self._after)
            self._subscription = subscription
        return self

    async def __aenter__(self) -> Self:
        return await self._open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RecordedEvent:
        await self._open()
        subscription = self._opened
        if (reason := self.resync_reason) is not None:
            raise PositionLost(reason, resume_from=subscription.start.position)
        if not self._waiting:
            self._waiting = await self._take(subscription)
        event = self._waiting.pop()
        subscription.mark_sent(event.offset)
        return event

    async def _take(self, subscription: Subscription) -> list[RecordedEvent]:
        """The next events, last first; ends the iteration when this side closed the subscription."""
        try:
            return (await self._next_of(subscription))[::-1]
        except SubscriptionClosed:
            if subscription.was_closed_here:
                raise StopAsyncIteration from None
            raise

    async def _next_of(self, subscription: Subscription) -> list[RecordedEvent]:
        """The next events, without those that an operator decided to leave out.

        Raises:
            EventUndeliverable: the next one cannot be delivered.
        """
        while True:
            taken = subscription.take_now(_TAKE)
            if events := [event for event in taken if not subscription.lot.passes(event)]:
                return events
            if taken and taken[0].offset == subscription.confirmed.offset + 1:
                # The user gets no later event whose acknowledgement would cover the skipped ones.
                subscription.acknowledge(taken[-1].offset)
            if (stuck := subscription.stuck_at) is not None:
                position = Position(subscription.confirmed.epoch, stuck.offset)
                raise EventUndeliverable(stuck.undeliverable or "", event_id=stuck.event_id, position=position)
            if not taken:
                await subscription.changed.wait()

    @property
    def _opened(self) -> Subscription:
        if self._subscription is None:
            raise HubClosed
        return self._subscription

    @property
    def position(self) -> Position:
        """The position up to and including which everything was acknowledged."""
        return self._opened.confirmed

    @property
    def resync_reason(self) -> str | None:
        """Why events are missing (`retention`, `epoch`, `ahead`, `parked`); None: none are, or it resynchronized."""
        return None if self._resynchronized else self._opened.start.lost

    async def resynchronized(self) -> None:
        """Record that the caller has read the desired state again; iteration continues with every retained event.

        Without this call, the next subscription reports the loss again, even if later events were acknowledged.

        Raises:
            StorageUnavailable: the database cannot be reached; call it again.
        """
        await self._open()
        await self._delivery.resynchronized(self._opened)
        self._resynchronized = True

    def acknowledge(self, position: Position | RecordedEvent) -> None:
        """Confirm everything up to and including this position or event. It is stored within a moment.

        Raises:
            InvalidValue: the position lies in another epoch, or ahead of what was received, or the event is another
                gateway's.
        """
        if not isinstance(position, Position | RecordedEvent):
            raise InvalidValue("position", type(position).__name__, "be a position or a received event")
        if isinstance(position, RecordedEvent) and position.gateway_id != self._connection.gateway_id:
            raise InvalidValue("position", position.gateway_id, f"be of the gateway {self._connection.gateway_id}")
        subscription = self._opened
        stuck = subscription.stuck_at
        if isinstance(position, Position) and position.epoch != subscription.confirmed.epoch:
            raise InvalidValue("position", str(position), f"lie in the present epoch {subscription.confirmed.epoch}")
        if stuck is not None and position.offset == stuck.offset:
            subscription.leave_out(stuck)
            return
        if position.offset > subscription.sent:
            raise InvalidValue("position", position.offset, f"be at most {subscription.sent}, the last one received")
        subscription.acknowledge(position.offset)

    async def close(self) -> None:
        """End it and store its position; if the database is away, that happens later, or the events come again."""
        if self._subscription is not None:
            self._subscription.close()
            await _done_within(_FLUSH_TIME_LIMIT, self._delivery.recorder.flush())


#: Longest wait for a status that an answer merely shows, in seconds.
_STATUS_TIME_LIMIT = 1.0

#: Most events that a library subscriber takes from the feed at once.
_TAKE = 64

#: Ending a subscription waits this long for its position to be stored, in seconds.
_FLUSH_TIME_LIMIT = 2.0


async def _done_within(seconds: float, work: Coroutine[Any, Any, None]) -> bool:
    """Whether the work was done in this time; False also when the database refused it."""
    with suppress(TimeoutError, StorageError):
        async with asyncio.timeout(seconds):
            await work
        return True
    return False


def trim_policy(settings: Settings) -> TrimPolicy:
    """What retention may remove under these settings."""
    return TrimPolicy(
        keep_confirmed=settings.retention,
        keep_at_most=max(settings.retention, settings.retention_limit),
        max_events=settings.retention_events,
    )


async def prepare_schema(storage: Storage, migrate: str) -> None:
    """Migrate when asked, or if the database has no schema of ours; else refuse a schema that does not fit.

    Raises:
        SchemaMissing: the schema is older than this release.
        SchemaTooNew: a newer release migrated the database.
    """
    need = await storage.database.schema_need()
    if migrate == "always" or (migrate == "auto" and need is SchemaNeed.FRESH):
        await storage.database.migrate()
    elif need is not SchemaNeed.NOTHING:
        raise SchemaMissing


async def refuse_outbox(storage: Storage) -> None:
    """Return if the database can hold a log.

    Raises:
        DatabaseUnsuitable: it is an outbox.
    """
    if await storage.database.is_outbox():
        raise DatabaseUnsuitable(
            "it is the outbox of another log",
            "open the hub with the URL of that log, and name this database as its outbox",
        )


@asynccontextmanager
async def _open_outbox(
    engine: Engine, wakeup: SupervisedWakeup, settings: Settings, migrations: Sequence[str], *, adopt: bool
) -> AsyncIterator[Outbox | None]:
    """The outbox that the settings name, prepared and forwarding until the block ends; None if they name none."""
    if not settings.outbox:
        yield None
        return
    settings.check_for_outbox()
    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(_open_outbox_storage(settings, migrations))
        await check(opened.storage, engine.log)
        await prepare_schema(opened.storage, settings.migrate)
        place, log_place = place_of(settings.outbox), place_of(settings.database)
        if not adopt:
            await refuse_new(opened.storage, opened.backend, engine.log, place=place, log_place=log_place)
        hints = await stack.enter_async_context(_wakeup(opened, settings))
        options = OutboxOptions(
            pod_id=settings.pod_id,
            poll_interval=settings.poll_interval.total_seconds(),
            keep_forwarded=settings.retention,
            send_hint=wakeup.send,
            log_place=log_place,
        )
        outbox = Outbox.open(opened.storage, opened.backend, engine.log, hints, options)
        yield await stack.enter_async_context(outbox)


@asynccontextmanager
async def _open_outbox_storage(settings: Settings, migrations: Sequence[str]) -> AsyncIterator[OpenStorage]:
    async with AsyncExitStack() as stack:
        opening = open_storage(
            settings.outbox,
            send_hints=settings.notifications,
            extra_migrations=(OUTBOX_MIGRATIONS, *migrations),
            pooler=settings.pooler,
        )
        try:
            opened = await stack.enter_async_context(opening)
        except SettingInvalid as error:
            raise SettingInvalid(variable("outbox"), error.value, error.rule) from None
        yield opened


def _wakeup(opened: OpenStorage | OpenStream, settings: Settings) -> SupervisedWakeup:
    if not settings.notifications:
        return InProcessWakeup()
    if isinstance(opened, OpenStream):
        return JetStreamWakeup(opened.engine.hints)
    if opened.backend is Backend.POSTGRESQL:
        return PostgresWakeup(opened.location)
    return DatagramWakeup(Path(opened.location))
