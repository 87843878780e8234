"""The client's side of a `gatecast.v2` connection as a state machine: frames in, deliveries and answers out, no I/O."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from gatecast.errors import ProtocolViolation
from gatecast.events import Position
from gatecast.protocol import codec
from gatecast.protocol.messages import (
    ConnectionAck,
    EventMessage,
    Ignored,
    Outbound,
    ResyncRequired,
    UnreadableEvent,
)
from gatecast.protocol.session import SendText
from gatecast.protocol.window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLimits:
    """How long the client waits for the server, in seconds."""

    #: How long to wait for `connection.ack`.
    welcome: float = 5.0
    #: How long to wait for any frame before the server counts as gone; it pings every 15 s.
    silence: float = 45.0


# --- what a session reports to its shell ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcomed:
    """The connection is open; always the first action."""

    gateway_id: str
    connection_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The next event: acknowledge or reject its position once it is handled."""

    position: Position
    event_id: str
    type: str
    #: The event's data.
    payload: dict[str, object] = field(repr=False)
    #: When the publisher made the change, by its own clock.
    originated_at: datetime


@dataclass(frozen=True, slots=True)
class Undeliverable:
    """The next event, which this client cannot read: reject its position in its turn."""

    position: Position
    #: For people.
    reason: str


@dataclass(frozen=True, slots=True)
class Resynchronize:
    """Read the desired state again, then call `resynchronized`; nothing is delivered before that."""

    #: `retention`, `epoch`, `ahead` or `parked`.
    reason: str
    #: Where delivery continues afterwards.
    position: Position


@dataclass(frozen=True, slots=True)
class SendPong:
    """Answer a Ping."""

    payload: bytes


ClientAction: TypeAlias = Welcomed | Delivered | Undeliverable | Resynchronize | SendPong


class FrameUnreadable(ProtocolViolation):
    """A frame cannot be read, and its event's position is not known either; its content may be lost."""


class ClientSession:
    """Which events were delivered, and which were acknowledged or rejected.

    A `ProtocolViolation` ends the connection: close it and connect again after `settled`.
    Every `now` is in seconds of one monotonic clock.
    """

    def __init__(self, after: Position | None, *, now: float, limits: ClientLimits | None = None) -> None:
        self._limits = limits or ClientLimits()
        #: Set once the position of this client is known.
        self._epoch = after.epoch if after else None
        self._window = Window(after.offset if after else 0)
        self._welcomed = False
        self._resync: Position | None = None
        self._heard_at = now
        #: Frames that were dropped, by reason: `duplicate`, `late-welcome`, or what the codec says.
        self.ignored: Counter[str] = Counter()

    @property
    def delivered(self) -> Position | None:
        """Position of the last received event; None before the first, if the server chose where to begin."""
        return Position(self._epoch, self._window.sent) if self._epoch else None

    @property
    def acked(self) -> Position | None:
        """Everything up to and including it was acked or rejected: reconnect with it as `after`."""
        return Position(self._epoch, self._window.confirmed) if self._epoch else None

    @property
    def next_tick_at(self) -> float:
        """When `tick` gives up, unless a frame arrives before."""
        return self._heard_at + (self._limits.silence if self._welcomed else self._limits.welcome)

    # --- coming in ----------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Do nothing while the server keeps its time limits.

        Raises:
            ProtocolViolation: `connection.ack` did not come in time, or nothing came for too long.
        """
        if now >= self.next_tick_at:
            raise ProtocolViolation("nothing came for too long" if self._welcomed else "connection.ack did not come")

    def receive_ping(self, payload: bytes, now: float) -> list[ClientAction]:
        """Receive a Ping; before `connection.ack` it does not extend the wait."""
        self._hear(now)
        return [SendPong(payload)]

    def receive_text(self, text: str, now: float) -> list[ClientAction]:
        """A text frame, with one message or several.

        Raises:
            ProtocolViolation: the server left out `connection.ack` or an event, or changed the epoch unannounced.
                Nothing of the frame is delivered; it comes again on the next connection.
        """
        actions: list[ClientAction] = []
        for message in codec.decode_frame_from_server(text):
            actions += self._receive(message, now)
        return actions

    def _receive(self, message: Outbound, now: float) -> list[ClientAction]:
        if not self._welcomed:
            return self._welcome(message, now)
        self._hear(now)
        match message:
            case EventMessage():
                return self._event(message)
            case UnreadableEvent(position, withheld, why):
                reason = f"undeliverable: the client cannot read it ({why})"
                return self._next(position, withheld, Undeliverable(position, reason))
            case ResyncRequired(reason, position):
                return self._require_resync(reason, position)
            case ConnectionAck():
                return self._ignore("late-welcome")
            case Ignored("unknown-type"):
                return self._ignore("unknown-type")
            case Ignored(why):
                raise FrameUnreadable(f"a frame is {why}")

    def _hear(self, now: float) -> None:
        if self._welcomed:
            self._heard_at = now

    def _welcome(self, message: Outbound, now: float) -> list[ClientAction]:
        if not isinstance(message, ConnectionAck):
            raise ProtocolViolation("the first frame is not connection.ack")
        self._welcomed = True
        self._heard_at = now
        return [Welcomed(gateway_id=message.gateway_id, connection_id=message.connection_id)]

    def _ignore(self, why: str) -> list[ClientAction]:
        self.ignored[why] += 1
        return []

    def _event(self, event: EventMessage) -> list[ClientAction]:
        delivered = Delivered(
            position=event.position,
            event_id=event.event_id,
            type=event.type,
            payload=event.payload,
            originated_at=event.timestamp,
        )
        return self._next(event.position, event.withheld, delivered)

    def _next(self, position: Position, withheld: int, action: Delivered | Undeliverable) -> list[ClientAction]:
        """The action, if this is the next event; nothing, if it was received before."""
        if self._resync is not None:
            raise ProtocolViolation("an event came before the resynchronization was acknowledged")
        if self._epoch is None:
            self._begin_behind(Position(position.epoch, max(0, position.offset - 1)))
        if position.epoch != self._epoch:
            raise ProtocolViolation("the epoch changed without resync.required")
        if position.offset <= self._window.sent:
            return self._ignore("duplicate")
        if position.offset - withheld > self._window.sent + 1:
            raise ProtocolViolation(f"offset {position.offset} came after {self._window.sent}")
        if position.offset > self._window.sent + 1:
            self._window.skip_to(position.offset - 1)
        self._window.extend()
        return [action]

    def _require_resync(self, reason: str, position: Position) -> list[ClientAction]:
        self._resync = position
        return [Resynchronize(reason, position)]

    def _begin_behind(self, position: Position) -> None:
        self._epoch = position.epoch
        self._window = Window(position.offset)

    # --- going out ----------------------------------------------------------------------------------------------

    def acknowledge(self, position: Position) -> list[SendText]:
        """Acknowledge everything up to `position`; sends nothing if that was acknowledged before.

        Raises:
            ValueError: nothing was delivered up to there on this connection.
        """
        self._check_delivered(position)
        if position.offset <= self._window.confirmed:
            return []
        self._window.ack_through(position.offset)
        return [SendText(codec.encode_position_ack(position))]

    def reject(self, position: Position, reason: str) -> list[SendText]:
        """Reject this one event, because it cannot be applied; later events flow.

        `reason` is cut to 1,000 printable characters.

        Raises:
            ValueError: it was not delivered on this connection.
        """
        self._check_delivered(position)
        if self._window.is_open(position.offset):
            self._window.ack(position.offset)
        return [SendText(codec.encode_event_reject(position, reason))]

    def resynchronized(self) -> list[SendText]:
        """Report that the desired state was read again; delivery continues. Sends nothing if it was not required."""
        if self._resync is None:
            return []
        position, self._resync = self._resync, None
        self._begin_behind(position)
        return [SendText(codec.encode_position_ack(position))]

    def _check_delivered(self, position: Position) -> None:
        if position.epoch != self._epoch or position.offset > self._window.sent:
            raise ValueError(f"{position} was not delivered on this connection")
