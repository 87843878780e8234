"""One gateway's WebSocket: moves frames between the socket and the protocol session."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import groupby
from math import inf
from typing import Protocol

from gatecast.delivery.delivery import Delivery
from gatecast.delivery.parking import Fate
from gatecast.delivery.subscription import Subscription
from gatecast.errors import SubscriptionClosed, UnknownGateway
from gatecast.events import RecordedEvent
from gatecast.protocol.close_codes import CloseCode, for_reason
from gatecast.protocol.messages import DeploymentAck
from gatecast.protocol.session import (
    Acknowledged,
    Close,
    Confirmed,
    Opening,
    Rejected,
    ResyncDone,
    SendPing,
    SendText,
    ServerSession,
    SessionAction,
    SessionLimits,
    Version,
)
from gatecast.server.gateway_api.frame_socket import SocketHandler
from gatecast.server.gateway_api.persistence import persistently
from gatecast.storage.contract import DisconnectReason, OutcomeKind
from gatecast.telemetry import get_logger, metrics

#: A peer that does not accept a frame within this time is closed; in seconds. Longer than an unmodified gateway may be
#: busy with one event before it ends the connection itself (gateway-protocol.md 1.6).
WRITE_TIME_LIMIT = 45.0

#: A revoked connection is aborted if it has not closed by then; in seconds. Together with the interval at which pods
#: look for lost hints, this is less than a second.
GOODBYE_TIME_LIMIT = 0.4

#: Reasons that do not wait for the peer.
_MUST_GO = frozenset({DisconnectReason.TOKEN_REVOKED, DisconnectReason.GATEWAY_DELETED, DisconnectReason.SUPERSEDED})

_logger = get_logger("gateway-socket")


def open_session(
    subscription: Subscription, version: Version, limits: SessionLimits, *, batch_bytes: int = 0
) -> ServerSession:
    """The protocol session of a connection that begins where its subscription does."""
    start = subscription.start
    opening = Opening(
        gateway_id=subscription.connection.gateway_id,
        connection_id=subscription.connection.connection_id,
        epoch=start.position.epoch,
        start=start.position.offset,
        version=version,
        resync=(start.lost, start.position) if start.lost and version is Version.GATECAST_V2 else None,
        batch_bytes=batch_bytes,
    )
    return ServerSession(opening, limits, now=asyncio.get_running_loop().time())


class Observer:
    """Called with what is sent to a gateway and what it sends; must not block. This one does nothing."""

    @property
    def holds(self) -> bool:
        """True while events wait; the code that ends the wait sets the subscription's `changed`."""
        return False

    def sent(self, events: Sequence[RecordedEvent]) -> None:
        """These events are on their way to the gateway."""

    def acknowledged(self, ack: DeploymentAck) -> None:
        """The gateway said what it made of a deployment."""

    def confirmed(self, offset: int) -> None:
        """The gateway has handled everything up to here."""


class Socket(Protocol):
    """Where frames go. Nothing here waits: a socket that takes no more says so to its handler."""

    async def serve(self, handler: SocketHandler) -> None:
        """Hand on what the peer sends, until the connection has ended."""

    def send_text(self, text: str) -> None:
        """Put a text frame into the next write."""

    def send_ping(self, payload: bytes) -> None:
        """Put a Ping into the next write."""

    def send_pong(self, payload: bytes) -> None:
        """Put a Pong into the next write."""

    def flush(self) -> None:
        """Write everything at once; ConnectionError: the peer has gone."""

    def close(self, code: int, reason: str) -> None:
        """Write what is left and a close frame, and end once the peer has answered, or after a moment."""

    def abort(self) -> None:
        """Drop the connection without a close frame."""


class GatewaySocket:
    """Runs one connection from its first frame to its last.

    A frame of the peer is handled when it arrives. The replies, and every event that has arrived by then, leave in one
    pass in the same turn of the event loop, in one write; while the peer does not read, there is no pass.
    """

    def __init__(
        self,
        socket: Socket,
        session: ServerSession,
        subscription: Subscription,
        *,
        delivery: Delivery,
        observer: Observer | None = None,
    ) -> None:
        self._socket = socket
        self._session = session
        self._subscription = subscription
        self._delivery = delivery
        self._observer = observer or Observer()
        self._rejects = subscription.connection.rejects
        self._outbox: list[SessionAction] = []
        self._unanswered_ping: bytes | None = None
        self._loop = asyncio.get_running_loop()
        self._clock = self._loop.time
        #: True once the connection is being closed: nothing more is sent.
        self._closed = False
        #: True while a pass is to come.
        self._called = False
        #: Rings while the peer does not take what was sent; None: it does.
        self._unread: asyncio.TimerHandle | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._goodbye: asyncio.TimerHandle | None = None
        #: Notes in the database that the peer has resynchronized.
        self._noting: asyncio.Task[None] | None = None

    async def run(self, opening: Iterable[SessionAction]) -> None:
        """Speak until one side ends."""
        feed = self._subscription.feed
        feed.on_end = self._limit_goodbye
        feed.changed.on_set = self._call
        self._outbox += opening
        self._call()
        try:
            await self._socket.serve(self)
        finally:
            feed.changed.on_set = None
            self._closed = True
            for timer in (self._goodbye, self._tick, self._unread):
                if timer is not None:
                    timer.cancel()
            if self._noting is not None:
                self._noting.cancel()

    # --- reading ------------------------------------------------------------------------------------------------

    def received_text(self, text: str) -> None:
        """A text frame."""
        self._react(self._session.receive_text(text, self._clock()))

    def received_pong(self, payload: bytes) -> None:
        """A Pong."""
        self._react(self._session.receive_pong(payload, self._clock()))

    def received_ping(self, payload: bytes) -> None:
        """A Ping; of several that come before the next pass the last one's answer is enough."""
        self._unanswered_ping = payload
        self._call()

    def received_binary(self) -> None:
        """A binary frame."""
        self._react(self._session.receive_binary(self._clock()))

    def received_close(self, code: int | None) -> None:
        """The socket answers, and ends."""

    def _react(self, actions: Sequence[SessionAction]) -> None:
        """Carry out at once what needs no socket; leave the rest to the next pass, for which there may be room."""
        if not actions and self._session.has_ignored:
            metrics.frames_ignored(self._session.take_ignored())
        for action in actions:
            match action:
                case Confirmed(offset):
                    metrics.confirmed(offset - self._subscription.confirmed_offset)
                    self._subscription.acknowledge(offset)
                    self._subscription.lot.ack(offset)
                    self._observer.confirmed(offset)
                case Rejected(offset, reason):
                    self._subscription.lot.park(offset)
                    self._subscription.report(offset, OutcomeKind.PARKED, reason)
                case Acknowledged(ack, offset):
                    self._note_deployment(ack, offset)
                case _:
                    self._outbox.append(action)
        if self._outbox or self._subscription.feed.waiting:
            self._call()

    def _note_deployment(self, ack: DeploymentAck, offset: int | None) -> None:
        self._observer.acknowledged(ack)
        if offset is not None:
            kind = OutcomeKind.APPLIED if ack.succeeded else OutcomeKind.REJECTED
            self._subscription.report(offset, kind, ack.error_code)

    # --- writing ------------------------------------------------------------------------------------------------

    def _call(self) -> None:
        """Have a pass in the next turn of the loop, one for everything that happens in this one."""
        if not self._called:
            self._called = True
            self._loop.call_soon(self._pass)

    def pause_writing(self) -> None:
        """The peer does not take what was sent: it has so much time."""
        self._unread = self._loop.call_later(WRITE_TIME_LIMIT, self._give_up)

    def resume_writing(self) -> None:
        """The peer has taken most of it."""
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
            self._call()

    def _give_up(self) -> None:
        _logger.warning("peer-does-not-read", gateway=self._subscription.connection.gateway_id)
        self._socket.abort()

    def _pass(self) -> None:
        """Send what there is to send; whatever ends the writing also ends the connection."""
        self._called = False
        if self._closed or self._unread is not None:
            return
        try:
            self._write()
        except SubscriptionClosed as closed:
            self._close(for_reason(closed.reason))
        except ConnectionError:
            self._abort()
        except Exception:
            _logger.exception("writer-failed", gateway=self._subscription.connection.gateway_id)
            self._abort()

    def _write(self) -> None:
        """Everything of one pass in one write."""
        if self._outbox:
            outbox, self._outbox = self._outbox, []
            self._perform(outbox)
        if self._unanswered_ping is not None:
            self._answer_ping(self._unanswered_ping)
        now = self._clock()
        if now >= self._session.next_tick_at:
            self._perform(self._session.tick(now))
        if self._closed:
            return
        # Asked even without room: it is also how the end of the subscription is noticed.
        events = self._subscription.take_now(0 if self._observer.holds else self._session.room)
        if events:
            send = self._send if self._subscription.lot.sends(events) else self._send_some
            self._perform(send(events, now))
        self._socket.flush()
        if events:
            self._subscription.mark_sent(events[-1].offset)
            metrics.delivered(len(events))
        self._set_tick(self._session.next_tick_at)

    def _set_tick(self, moment: float) -> None:
        """Schedule a pass. A timer that fires too early is set again then: most are not needed."""
        if self._tick is not None and self._tick.when() > moment:
            self._tick.cancel()
            self._tick = None
        if self._tick is None and moment != inf:
            self._tick = self._loop.call_at(moment, self._ring)

    def _ring(self) -> None:
        self._tick = None
        self._call()

    def _send(self, events: Sequence[RecordedEvent], now: float) -> Sequence[SessionAction]:
        """The actions that send these events."""
        if self._rejects:
            self._subscription.lot.remember(events)
        self._observer.sent(events)
        return self._session.deliver(events, now)

    def _send_some(self, events: Sequence[RecordedEvent], now: float) -> Sequence[SessionAction]:
        """The actions that send these events, without those that are skipped."""
        actions: list[SessionAction] = []
        for fate, each in groupby(events, self._subscription.lot.fate):
            run = list(each)
            if fate is Fate.SEND:
                actions += self._send(run, now)
                continue
            if fate is not Fate.PASS:
                kind = OutcomeKind.HELD if fate is Fate.HOLD else OutcomeKind.UNDELIVERABLE
                for event in run:
                    self._subscription.report(event.offset, kind, event.undeliverable or "")
            self._react(self._session.skip_to(run[-1].offset))
        return actions

    def _perform(self, actions: Iterable[SessionAction]) -> None:
        for action in actions:
            match action:
                case SendText(text):
                    self._socket.send_text(text)
                case SendPing(payload):
                    self._socket.send_ping(payload)
                case Close(code):
                    self._close(code)
                case ResyncDone() if self._noting is None or self._noting.done():
                    self._noting = self._loop.create_task(self._note_resynchronized(), name="resynchronized")

    def _answer_ping(self, payload: bytes) -> None:
        """Answer the peer's Ping. To a client that rejects, a Pong says that its rejections are stored."""
        if not self._rejects or self._subscription.outcomes_stored:
            self._socket.send_pong(payload)
            self._unanswered_ping = None

    async def _note_resynchronized(self) -> None:
        """Outlive a database outage; what is not noted by the end of the connection is, with the next one's."""
        with suppress(UnknownGateway):
            await persistently(lambda: self._delivery.resynchronized(self._subscription))

    def _close(self, code: CloseCode) -> None:
        if not self._closed:
            self._closed = True
            metrics.closed(code.number)
            self._socket.close(code.number, code.reason)

    def _limit_goodbye(self) -> None:
        """Abort a revoked connection within a second (promise P9), even if it does not read and nothing is written."""
        if self._subscription.feed.end_reason in _MUST_GO:
            self._goodbye = self._loop.call_later(GOODBYE_TIME_LIMIT, self._abort)

    def _abort(self) -> None:
        """Drop the connection without a close frame: the peer would not read it."""
        self._closed = True
        self._socket.abort()
