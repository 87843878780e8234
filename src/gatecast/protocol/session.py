"""The server's side of one connection as a state machine: frames and ticks in, actions out, no I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from math import inf
from types import MappingProxyType
from typing import TypeAlias
from uuid import UUID

from gatecast.events import Position, RecordedEvent
from gatecast.protocol import codec
from gatecast.protocol.close_codes import RATE_EXCEEDED, SILENT, CloseCode
from gatecast.protocol.deployments import DEPLOYED, SentDeployments
from gatecast.protocol.heartbeat import Heartbeat
from gatecast.protocol.messages import DeploymentAck, EventReject, Ignored, Inbound, PositionAck
from gatecast.protocol.token_bucket import TokenBucket
from gatecast.protocol.window import Window


class Version(StrEnum):
    """What the client speaks."""

    #: The unmodified gateway-controller: confirms by Pong.
    GATEWAY_V1 = "gateway.v1"
    #: Explicit acknowledgements.
    GATECAST_V2 = "gatecast.v2"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """The time limits and rates that the server applies to one connection."""

    #: Most unconfirmed events in flight to an unmodified gateway.
    window_v1: int = 64
    #: Most unconfirmed events in flight to a `gatecast.v2` client.
    window_v2: int = 256
    #: Seconds between Pings on an idle connection; an unmodified gateway gives up after 35.
    ping_interval: float = 15.0
    #: Seconds without a Pong before the peer counts as gone. A gateway that is busy with one download answers nothing
    #: for up to 60 s and is not dead (scenario S23).
    pong_timeout: float = 90.0
    #: Most bytes of a frame with several events, whatever a `gatecast.v2` client asks for.
    max_batch_bytes: int = 256 * 1024
    #: Most events between two Pings to an unmodified gateway.
    ping_every: int = 32
    #: Useless frames that a gateway may send per second, and at once. Each answer must match something that was sent,
    #: so answers need no limit of their own.
    frames_per_second: float = 50.0
    frame_burst: int = 200
    #: This many times the rate and burst close the connection; below that, further frames are ignored.
    flood_factor: int = 10
    #: Largest text frame, in bytes.
    max_text_bytes: int = codec.MAX_INBOUND_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """How a connection begins."""

    gateway_id: str
    connection_id: str
    epoch: UUID
    #: Delivery begins after this offset.
    start: int
    version: Version
    #: Why the gateway's position cannot be resumed, and where delivery continues. A `gatecast.v2` client must
    #: resynchronize first; an unmodified gateway cannot be told, and delivery begins there at once.
    resync: tuple[str, Position] | None = None
    #: Most bytes of a frame with several events that a `gatecast.v2` client takes; 0: each event has its own frame.
    batch_bytes: int = 0


# --- what a session asks its shell to do ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SendText:
    """Send a text frame."""

    text: str


@dataclass(frozen=True, slots=True)
class SendPing:
    """Send a Ping."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection; the session sends nothing more."""

    code: CloseCode


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Everything up to this offset is confirmed."""

    offset: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """The peer rejected this event; its last report counts."""

    offset: int
    reason: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The peer acknowledged a deployment; `offset` is its event's, if it was sent on this connection."""

    ack: DeploymentAck
    offset: int | None


@dataclass(frozen=True, slots=True)
class ResyncDone:
    """The peer has read the desired state again."""

    position: Position


SessionAction: TypeAlias = SendText | SendPing | Close | Confirmed | Rejected | Acknowledged | ResyncDone


# --- the session ------------------------------------------------------------------------------------------------------

#: Seconds after which a Ping no longer protects a download: the gateway gives up 35 s after the last Ping that it read,
#: and the download alone may take 30.
_FRESH_PING = 1.0

#: Characters of a useless frame that cost as much as one more frame.
_FRAME_SIZE = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStatistics:
    """The counts of one connection so far."""

    #: Last offset that was handed out to be sent.
    sent: int
    #: Last offset that is confirmed.
    confirmed: int
    #: How many events were rejected.
    rejected: int
    #: How many frames were ignored, by reason.
    ignored: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Reply:
    """The result of a frame."""

    actions: Sequence[SessionAction] = ()
    #: Why the frame is useless, so that it counts against the rate; None: it answered something that was sent.
    useless: str | None = None


class ServerSession:
    """Which events were sent and confirmed, and which may be sent next.

    Events are confirmed in order: by `position.ack`, or, for an unmodified gateway, by the Pong that echoes the offset
    of a Ping sent after them. That gateway reads frames in order and answers a Ping only after it has handled the
    frames before it, so its Pong proves handling; from other clients a Pong proves receipt.

    Every `now` is in seconds of one monotonic clock.
    """

    def __init__(self, opening: Opening, limits: SessionLimits, *, now: float) -> None:
        self._opening = opening
        self._epoch = str(opening.epoch)
        self._limits = limits
        self._explicit = opening.version is Version.GATECAST_V2
        self._awaits_resync = self._explicit and opening.resync is not None
        self._window = Window(
            opening.resync[1].offset if opening.resync else opening.start,
            limits.window_v2 if self._explicit else limits.window_v1,
        )
        self._batch_bytes = min(opening.batch_bytes, limits.max_batch_bytes)
        self._heartbeat = Heartbeat(opening.epoch, interval=limits.ping_interval, timeout=limits.pong_timeout, now=now)
        self._unpinged = 0
        self._withheld = 0
        self._deployments = SentDeployments()
        self._allowance = TokenBucket(limits.frames_per_second, limits.frame_burst, now=now)
        self._flood = TokenBucket(
            limits.frames_per_second * limits.flood_factor, limits.frame_burst * limits.flood_factor, now=now
        )
        self._closed = False
        self._rejected = 0
        self._ignored: Counter[str] = Counter()
        self._uncounted: Counter[str] = Counter()

    @property
    def sent(self) -> int:
        """Last offset that was handed out to be sent."""
        return self._window.sent

    @property
    def confirmed(self) -> int:
        """Last offset that is confirmed."""
        return self._window.confirmed

    @property
    def room(self) -> int:
        """How many more events may be handed in now."""
        return 0 if self._awaits_resync or self._closed else self._window.room

    @property
    def next_tick_at(self) -> float:
        """When `tick` is due; infinite once the session has closed."""
        if self._closed:
            return inf
        due_at, silent_at = self._heartbeat.due_at, self._heartbeat.silent_at
        return min(silent_at, due_at)

    @property
    def stats(self) -> SessionStatistics:
        """The counts of this connection so far."""
        return SessionStatistics(
            sent=self.sent,
            confirmed=self.confirmed,
            rejected=self._rejected,
            ignored=MappingProxyType(dict(self._ignored)),
        )

    @property
    def has_ignored(self) -> bool:
        """Whether frames were ignored since `take_ignored` was called last."""
        return bool(self._uncounted)

    def take_ignored(self) -> Mapping[str, int]:
        """How many frames were ignored since the last call, by reason."""
        taken, self._uncounted = self._uncounted, Counter()
        return taken

    # --- going out ----------------------------------------------------------------------------------------------

    def start(self, timestamp: datetime) -> list[SessionAction]:
        """The first frames: `connection.ack`, always (scenario S21)."""
        opening = self._opening
        actions: list[SessionAction] = [
            SendText(codec.encode_connection_ack(opening.gateway_id, opening.connection_id, timestamp))
        ]
        if self._awaits_resync and opening.resync is not None:
            actions.append(SendText(codec.encode_resync_required(*opening.resync)))
        return actions

    def deliver(self, events: Sequence[RecordedEvent], now: float) -> list[SessionAction]:
        """Send these events, which follow the last ones.

        Raises:
            ValueError: they do not, or are more than there is room for; nothing was changed.
        """
        self._check(events)
        if self._explicit:
            return [SendText(frame) for frame in codec.join_messages(map(self._message, events), self._batch_bytes)]
        actions: list[SessionAction] = []
        for event in events:
            self._send_between_pings(event, now, actions)
        if self._unpinged:
            actions.append(self._ping(now))
        return actions

    def _check(self, events: Sequence[RecordedEvent]) -> None:
        if len(events) > self.room:
            raise ValueError(f"{len(events)} events were handed in with room for {self.room}")
        for expected, event in enumerate(events, self.sent + 1):
            if event.offset != expected:
                raise ValueError(f"offset {event.offset} was handed in where {expected} comes next")

    def _send_between_pings(self, event: RecordedEvent, now: float, actions: list[SessionAction]) -> None:
        """The event, with the Pings that an unmodified gateway needs around it."""
        downloads = event.type.endswith(DEPLOYED)
        if downloads and self._heartbeat.age(now) > _FRESH_PING:
            actions.append(self._ping(now))
        self._unpinged += 1
        actions.append(SendText(self._message(event)))
        if downloads or self._unpinged >= self._limits.ping_every:
            actions.append(self._ping(now))

    def _message(self, event: RecordedEvent) -> str:
        """The event as text; from here on it counts as sent."""
        self._window.extend()
        self._deployments.remember(event)
        withheld, self._withheld = self._withheld, 0
        return codec.encode_event(event, self._epoch, withheld=withheld)

    def skip_to(self, offset: int) -> list[SessionAction]:
        """Pass over every unsent event up to `offset`; the next event is the one after it.

        A skipped event is confirmed as soon as everything before it is.

        Raises:
            ValueError: `offset` was sent already, the client has yet to resynchronize, or the session has closed.
        """
        if offset <= self.sent or self._awaits_resync or self._closed:
            raise ValueError(f"cannot skip to {offset} now")
        before = self.confirmed
        self._withheld += offset - self.sent
        self._window.skip_to(offset)
        return self._progress(before)

    def tick(self, now: float) -> list[SessionAction]:
        """Ping an idle peer; close the connection if it has been silent for too long."""
        if self._closed:
            return []
        if now >= self._heartbeat.silent_at:
            return [self._close(SILENT)]
        return [self._ping(now)] if now >= self._heartbeat.due_at else []

    def _ping(self, now: float) -> SendPing:
        self._unpinged = 0
        return SendPing(self._heartbeat.ping(self.sent, now))

    def _close(self, code: CloseCode) -> Close:
        self._closed = True
        return Close(code)

    # --- coming in ----------------------------------------------------------------------------------------------

    def receive_pong(self, payload: bytes, now: float) -> list[SessionAction]:
        """Receive a Pong; for an unmodified gateway it confirms, if it echoes a Ping of this connection."""
        if self._closed:
            return []
        offset = self._heartbeat.answer(payload, now)
        if offset is None:
            return self._admit(_Reply(useless="pong"), now)
        return [] if self._explicit else self._confirm(offset)

    def receive_binary(self, now: float) -> list[SessionAction]:
        """Receive a binary frame, which the protocol does not use."""
        return [] if self._closed else self._admit(_Reply(useless="binary"), now)

    def receive_text(self, text: str, now: float) -> list[SessionAction]:
        """Receive a text frame; never raises."""
        if self._closed:
            return []
        message = codec.decode(text, max_bytes=self._limits.max_text_bytes)
        return self._admit(self._handle(message), now, cost=1 + len(text) / _FRAME_SIZE)

    def _admit(self, reply: _Reply, now: float, *, cost: float = 1.0) -> list[SessionAction]:
        """Let useful frames through, and useless ones within the rate."""
        if reply.useless is None:
            return list(reply.actions)
        if not self._flood.take(now, cost):
            return [self._close(RATE_EXCEEDED)]
        if reply.actions and self._allowance.take(now):
            return list(reply.actions)
        reason = "over-rate" if reply.actions else reply.useless
        self._ignored[reason] += 1
        self._uncounted[reason] += 1
        return []

    def _handle(self, message: Inbound) -> _Reply:
        match message:
            case DeploymentAck():
                return self._deployment_ack(message)
            case PositionAck() | EventReject() if not self._explicit:
                return _Reply(useless="wrong-version")
            case PositionAck(position) | EventReject(position) if position.epoch != self._opening.epoch:
                return _Reply(useless="other-epoch")
            case PositionAck(position):
                return self._position_ack(position)
            case EventReject(position, reason):
                return self._event_reject(position.offset, reason)
            case Ignored(why):
                return _Reply(useless=why)

    def _deployment_ack(self, ack: DeploymentAck) -> _Reply:
        offset = self._deployments.take(ack)
        return _Reply([Acknowledged(ack, offset)], useless="foreign-ack" if offset is None else None)

    def _position_ack(self, position: Position) -> _Reply:
        if self._awaits_resync:
            return self._resync_ack(position)
        if position.offset > self.sent:
            return _Reply(useless="beyond-sent")
        actions = self._confirm(position.offset)
        return _Reply(actions, useless=None if actions else "nothing-new")

    def _resync_ack(self, position: Position) -> _Reply:
        if position.offset != self.confirmed:
            return _Reply(useless="resync-pending")
        self._awaits_resync = False
        return _Reply([ResyncDone(position)])

    def _event_reject(self, offset: int, reason: str) -> _Reply:
        if self._awaits_resync:
            return _Reply(useless="resync-pending")
        if not 0 < offset <= self.sent:
            return _Reply(useless="beyond-sent")
        if not self._window.is_open(offset):
            return _Reply([Rejected(offset, reason)], useless="repeated-reject")
        self._rejected += 1
        before = self.confirmed
        self._window.ack(offset)
        return _Reply([Rejected(offset, reason), *self._progress(before)])

    def _confirm(self, offset: int) -> list[SessionAction]:
        before = self._window.confirmed
        self._window.ack_through(offset)
        return self._progress(before)

    def _progress(self, before: int) -> list[SessionAction]:
        confirmed = self._window.confirmed
        return [Confirmed(confirmed)] if confirmed > before else []
