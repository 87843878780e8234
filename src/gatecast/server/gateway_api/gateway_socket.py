"""One gateway's WebSocket: moves frames between the socket and the protocol session."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import groupby

from aiohttp import WSMsgType, web

from gatecast.delivery.delivery import Delivery
from gatecast.delivery.parking import Fate
from gatecast.delivery.subscription import Subscription
from gatecast.errors import StorageError, SubscriptionClosed
from gatecast.events import RecordedEvent
from gatecast.protocol.close_codes import CloseCode, for_reason
from gatecast.protocol.messages import DeploymentAck
from gatecast.protocol.session import (
    Acknowledged,
    Action,
    Close,
    Confirmed,
    Opening,
    Rejected,
    ResyncDone,
    SendPing,
    SendText,
    ServerSession,
    SessionLimits,
    Version,
)
from gatecast.storage.contract import Dismissal, OutcomeKind
from gatecast.telemetry import get_logger, metrics

#: A peer that does not take a frame within this time is closed; in seconds. Longer than an unmodified gateway may be
#: busy with one event before it ends the connection itself (gateway-protocol.md 1.6).
WRITE_TIME_LIMIT = 45.0

#: Whoever must go is dropped when it has not gone by itself within this time; in seconds. Together with the time until
#: a lost hint is made good that is less than a second.
GOODBYE_TIME_LIMIT = 0.4

#: Reasons that do not wait for the peer.
_MUST_GO = frozenset({Dismissal.TOKEN_REVOKED, Dismissal.GATEWAY_DELETED, Dismissal.SUPERSEDED})

_CLOSED = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR)

_logger = get_logger("gateway-socket")


def open_session(subscription: Subscription, version: Version, limits: SessionLimits) -> ServerSession:
    """The protocol session of a connection that begins where its subscription does."""
    start = subscription.start
    opening = Opening(
        gateway_id=subscription.connection.gateway_id,
        connection_id=subscription.connection.connection_id,
        epoch=start.position.epoch,
        start=start.position.offset,
        version=version,
        resync=(start.lost, start.position) if start.lost and version is Version.GATECAST_V2 else None,
    )
    return ServerSession(opening, limits, now=asyncio.get_running_loop().time())


class Observer:
    """Told of what a gateway says; must not block. This one does nothing with it."""

    @property
    def holds(self) -> bool:
        """True while events wait; whoever ends that sets the subscription's `changed`."""
        return False

    def acknowledged(self, ack: DeploymentAck) -> None:
        """The gateway said what it made of a deployment."""

    def confirmed(self, offset: int) -> None:
        """The gateway has handled everything up to here."""


class GatewaySocket:
    """Runs one connection from its first frame to its last.

    Two tasks: this one reads frames, the other one is the only writer. Whatever reading causes to be sent is left in
    the outbox, and both events and outbox wake the writer through one signal.
    """

    def __init__(
        self,
        socket: web.WebSocketResponse,
        session: ServerSession,
        subscription: Subscription,
        *,
        transport: asyncio.Transport | None,
        delivery: Delivery,
        observer: Observer | None = None,
    ) -> None:
        self._socket = socket
        self._session = session
        self._subscription = subscription
        self._transport = transport
        self._delivery = delivery
        self._observer = observer or Observer()
        self._outbox: list[Action] = []
        self._unanswered_ping: bytes | None = None
        self._closed = False
        self._goodbye: asyncio.TimerHandle | None = None
        self._clock = asyncio.get_running_loop().time

    async def run(self, opening: Iterable[Action]) -> None:
        """Speak until one side ends."""
        self._subscription.feed.on_end = self._limit_goodbye
        writer = asyncio.create_task(self._write(opening), name="gateway-writer")
        try:
            await self._read()
        finally:
            if self._goodbye is not None:
                self._goodbye.cancel()
            writer.cancel()
            with suppress(asyncio.CancelledError):
                await writer

    # --- reading ------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            now = self._clock()
            if message.type in _CLOSED:
                return
            if message.type is WSMsgType.TEXT:
                self._react(self._session.receive_text(message.data, now))
            elif message.type is WSMsgType.PONG:
                self._react(self._session.receive_pong(bytes(message.data), now))
            elif message.type is WSMsgType.PING:
                # Left to the writer, the only one that sends. Of several Pings the last one's answer is enough.
                self._unanswered_ping = bytes(message.data)
                self._subscription.changed.set()
            else:
                self._react(self._session.receive_binary(now))
            metrics.frames_ignored(self._session.take_ignored())

    def _react(self, actions: Iterable[Action]) -> None:
        """Carry out at once what needs no socket; leave the rest to the writer, and tell it that there may be room."""
        for action in actions:
            match action:
                case Confirmed(offset):
                    metrics.confirmed(offset - self._subscription.confirmed.offset)
                    self._subscription.acknowledge(offset)
                    self._subscription.lot.settle(offset)
                    self._observer.confirmed(offset)
                case Rejected(offset, reason):
                    self._subscription.lot.park(offset)
                    self._subscription.report(offset, OutcomeKind.PARKED, reason)
                case Acknowledged(ack, offset):
                    self._note_deployment(ack, offset)
                case _:
                    self._outbox.append(action)
        self._subscription.changed.set()

    def _note_deployment(self, ack: DeploymentAck, offset: int | None) -> None:
        self._observer.acknowledged(ack)
        if offset is not None:
            kind = OutcomeKind.APPLIED if ack.succeeded else OutcomeKind.REJECTED
            self._subscription.report(offset, kind, ack.error_code)

    # --- writing ------------------------------------------------------------------------------------------------

    async def _write(self, opening: Iterable[Action]) -> None:
        """Send until the connection ends; whatever ends the writing also ends the reading."""
        try:
            await self._write_until_ended(opening)
        except ConnectionError:
            self._abort()
        except TimeoutError:
            _logger.warning("peer-does-not-read", gateway=self._subscription.connection.gateway_id)
            self._abort()
        except Exception:
            _logger.exception("writer-failed", gateway=self._subscription.connection.gateway_id)
            self._abort()

    async def _write_until_ended(self, opening: Iterable[Action]) -> None:
        try:
            await self._perform(opening)
            while not self._closed:
                await self._write_next()
        except SubscriptionClosed as closed:
            await self._close(for_reason(closed.reason))

    async def _write_next(self) -> None:
        outbox, self._outbox = self._outbox, []
        await self._perform(outbox)
        await self._answer_ping()
        if self._clock() >= self._session.next_tick_at:
            await self._perform(self._session.tick(self._clock()))
        # Asked even without room: it is also how the end of the subscription is noticed.
        events = self._subscription.take_now(0 if self._observer.holds else self._session.room)
        if events:
            await self._perform(self._sent(events))
            self._subscription.mark_sent(events[-1].offset)
            metrics.delivered(len(events))
        elif not self._outbox and not self._owes_pong:
            await self._subscription.changed.wait(max(0.0, self._session.next_tick_at - self._clock()))

    def _sent(self, events: Sequence[RecordedEvent]) -> list[Action]:
        """What it takes to send these events, without those that are passed over."""
        lot = self._subscription.lot
        actions: list[Action] = []
        for fate, each in groupby(events, lot.fate):
            run = list(each)
            if fate is Fate.SEND:
                if self._subscription.connection.rejects:
                    lot.remember(run)
                actions += self._session.deliver(run, self._clock())
                continue
            if fate is not Fate.PASS:
                kind = OutcomeKind.HELD if fate is Fate.HOLD else OutcomeKind.UNDELIVERABLE
                for event in run:
                    self._subscription.report(event.offset, kind, event.undeliverable or "")
            self._react(self._session.skip_to(run[-1].offset))
        return actions

    async def _perform(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case SendText(text):
                    async with asyncio.timeout(WRITE_TIME_LIMIT):
                        await self._socket.send_str(text)
                case SendPing(payload):
                    async with asyncio.timeout(WRITE_TIME_LIMIT):
                        await self._socket.ping(payload)
                case Close(code):
                    await self._close(code)
                case ResyncDone():
                    await self._note_resynchronized()

    @property
    def _owes_pong(self) -> bool:
        """Whether a Ping can be answered now: to a client that rejects, a Pong says that its rejections are stored."""
        rejects = self._subscription.connection.rejects
        return self._unanswered_ping is not None and (not rejects or self._subscription.outcomes_stored)

    async def _answer_ping(self) -> None:
        if self._unanswered_ping is not None and self._owes_pong:
            payload, self._unanswered_ping = self._unanswered_ping, None
            async with asyncio.timeout(WRITE_TIME_LIMIT):
                await self._socket.pong(payload)

    async def _note_resynchronized(self) -> None:
        """The mark may outlive a database outage; then it goes with the next resynchronization."""
        with suppress(StorageError):
            await self._delivery.resynchronized(self._subscription)

    async def _close(self, code: CloseCode) -> None:
        self._closed = True
        async with asyncio.timeout(WRITE_TIME_LIMIT):
            await self._socket.close(code=code.number, message=code.reason.encode())

    def _limit_goodbye(self) -> None:
        """Whoever must go is gone within a second (promise P9), also when it does not read and the writer waits."""
        if self._subscription.feed.end_reason in _MUST_GO:
            self._goodbye = asyncio.get_running_loop().call_later(GOODBYE_TIME_LIMIT, self._abort)

    def _abort(self) -> None:
        """Drop the connection without a close frame: the peer would not read it."""
        if self._transport is not None:
            self._transport.abort()
