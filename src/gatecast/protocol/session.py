"""The server's side of one connection as a state machine: frames and ticks in, actions out, no I/O."""

from __future__ import annotations

import json
from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias
from uuid import UUID

from gatecast.errors import ProtocolViolation
from gatecast.events import Position, RecordedEvent
from gatecast.protocol import codec
from gatecast.protocol.close_codes import RATE_EXCEEDED, SILENT, CloseCode
from gatecast.protocol.messages import DeploymentAck, EventReject, Ignored, PositionAck


class Version(StrEnum):
    """What the client speaks."""

    #: The unmodified gateway-controller: confirms by Pong.
    GATEWAY_V1 = "gateway.v1"
    #: Explicit acknowledgements.
    GATECAST_V2 = "gatecast.v2"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """How patient and how generous the server is with one connection."""

    #: Most unconfirmed events in flight to an unmodified gateway.
    window_v1: int = 64
    #: Most unconfirmed events in flight to a `gatecast.v2` client.
    window_v2: int = 256
    #: Seconds between Pings on an idle connection: the unmodified gateway gives up after 35.
    ping_interval: float = 15.0
    #: Seconds without a Pong before the peer counts as gone. A gateway that is busy inside one download answers
    #: nothing for up to 60 s and is not dead (scenario S23).
    pong_timeout: float = 90.0
    #: Most events between two Pings.
    ping_every: int = 32
    #: Frames that move nothing: how many a gateway may send per second, and how many at once.
    frames_per_second: float = 50.0
    frame_burst: int = 500
    #: Frames over the rate that are ignored before the connection is closed.
    ignored_over_rate: int = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """How a connection begins."""

    gateway_id: str
    connection_id: str
    epoch: UUID
    #: Delivery begins behind this offset.
    start: int
    version: Version
    #: Why the client must resynchronize, and where delivery goes on when it has; None: it need not.
    resync: tuple[str, Position] | None = None


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
    """Close the connection."""

    code: CloseCode


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The peer has confirmed everything up to this offset."""

    offset: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """The peer cannot apply this event."""

    offset: int
    reason: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The peer said what became of a deployment; `offset` is its event's, when it was sent here."""

    ack: DeploymentAck
    offset: int | None


@dataclass(frozen=True, slots=True)
class ResyncDone:
    """The peer has read the desired state anew."""

    position: Position


Action: TypeAlias = SendText | SendPing | Close | Confirmed | Rejected | Acknowledged | ResyncDone

#: How many deployments are remembered, so that an acknowledgement finds its event.
_REMEMBERED_DEPLOYMENTS = 1_024

#: A gateway downloads something for these, which can take 30 s each.
_DOWNLOADS = ".deployed"
_DEPLOYMENTS = (_DOWNLOADS, ".undeployed")

_ARTIFACT_FIELDS = ("apiId", "providerId", "proxyId")


class ServerSession:
    """What was sent, what was confirmed, and what may be sent next.

    Events are confirmed in order: by `position.ack`, or, for an unmodified gateway, by the Pong that echoes the offset
    of a Ping sent behind them. That gateway reads frames in order and answers a Ping only after it has handled the
    frames before it, so its Pong proves handling; from other clients a Pong proves receipt.
    """

    def __init__(self, opening: Opening, limits: SessionLimits, *, now: float) -> None:
        self._opening = opening
        self._limits = limits
        self._sent = self._confirmed = opening.start
        self._awaits_resync = opening.resync is not None
        self._explicit = opening.version is Version.GATECAST_V2
        self._window = limits.window_v2 if self._explicit else limits.window_v1
        self._rejected: set[int] = set()
        self._unpinged = 0
        #: Offsets of the Pings that were not answered yet, oldest first.
        self._pings: deque[int] = deque()
        self._last_ping_at = self._last_pong_at = now
        self._deployments: OrderedDict[tuple[str, str, datetime | None, bool], int] = OrderedDict()
        self._frames = float(limits.frame_burst)
        self._frames_at = now
        #: Frames that were ignored, by reason.
        self.ignored: Counter[str] = Counter()

    @property
    def sent(self) -> int:
        """Last offset that was handed out to be sent."""
        return self._sent

    @property
    def confirmed(self) -> int:
        """Last offset that the peer has confirmed."""
        return self._confirmed

    @property
    def room(self) -> int:
        """How many more events may be handed in now."""
        return 0 if self._awaits_resync else max(0, self._window - (self._sent - self._confirmed))

    @property
    def next_tick_at(self) -> float:
        """When `tick` has something to do."""
        return self._last_ping_at + self._limits.ping_interval

    # --- going out ----------------------------------------------------------------------------------------------

    def start(self, timestamp: datetime) -> list[Action]:
        """The first frames: `connection.ack`, always (scenario S21)."""
        opening = self._opening
        actions: list[Action] = [
            SendText(codec.encode_connection_ack(opening.gateway_id, opening.connection_id, timestamp))
        ]
        if opening.resync is not None:
            actions.append(SendText(codec.encode_resync_required(*opening.resync)))
        return actions

    def deliver(self, events: Sequence[RecordedEvent], now: float) -> list[Action]:
        """Send these events, which continue where the last ones ended."""
        actions: list[Action] = []
        for event in events:
            if event.offset != self._sent + 1:
                raise ProtocolViolation(f"offset {event.offset} was handed in behind {self._sent}")
            self._sent = event.offset
            self._unpinged += 1
            actions.append(SendText(codec.encode_event(event, self._opening.epoch)))
            if event.type.endswith(_DEPLOYMENTS):
                self._remember(event)
            if self._unpinged >= self._limits.ping_every or event.type.endswith(_DOWNLOADS):
                actions.append(self._ping(now))
        if self._unpinged:
            actions.append(self._ping(now))
        return actions

    def tick(self, now: float) -> list[Action]:
        """Ping an idle peer; close when it has been silent for too long."""
        if self._pings and now - self._last_pong_at >= self._limits.pong_timeout:
            return [Close(SILENT)]
        if now < self.next_tick_at:
            return []
        return [self._ping(now)]

    def _ping(self, now: float) -> SendPing:
        if not self._pings:
            # Silence is counted from the first Ping that could be answered.
            self._last_pong_at = now
        self._last_ping_at = now
        self._unpinged = 0
        self._pings.append(self._sent)
        return SendPing(f"{self._opening.epoch}:{self._sent}".encode())

    def _remember(self, event: RecordedEvent) -> None:
        if (key := _deployment_key(event)) is not None:
            self._deployments[key] = event.offset
            if len(self._deployments) > _REMEMBERED_DEPLOYMENTS:
                self._deployments.popitem(last=False)

    # --- coming in ----------------------------------------------------------------------------------------------

    def receive_pong(self, payload: bytes, now: float) -> list[Action]:
        """A Pong; confirms for an unmodified gateway, if it echoes a Ping of this connection."""
        offset = self._pinged_offset(payload)
        if offset is None:
            self.ignored["pong"] += 1
            return []
        self._last_pong_at = now
        while self._pings and self._pings[0] <= offset:
            self._pings.popleft()
        return [] if self._explicit else self._confirm(offset)

    def _pinged_offset(self, payload: bytes) -> int | None:
        epoch, _, digits = payload.partition(b":")
        if epoch != str(self._opening.epoch).encode() or not digits.isdigit() or len(digits) > 19:  # noqa: PLR2004 - 2^63
            return None
        offset = int(digits)
        return offset if offset in self._pings else None

    def receive_binary(self, now: float) -> list[Action]:
        """A binary frame: nothing that we speak."""
        return self._charge([], "binary", now)

    def receive_text(self, text: str, now: float) -> list[Action]:
        """A text frame. What moves nothing counts against the rate: a peer that confirms much is no nuisance."""
        match codec.decode(text):
            case PositionAck(position):
                actions, why = self._position_ack(position), "position"
            case EventReject(position, reason):
                actions, why = self._event_reject(position, reason), "position"
            case DeploymentAck() as ack:
                actions, why = [self._acknowledged(ack)], "foreign-ack"
            case Ignored(why):
                actions = []
        return actions if any(map(_moves_something, actions)) else self._charge(actions, why, now)

    def _charge(self, actions: list[Action], why: str, now: float) -> list[Action]:
        """Count a frame that moved nothing, and let its actions through unless there were too many of them."""
        self.ignored[why] += 1
        limits = self._limits
        self._frames = min(limits.frame_burst, self._frames + (now - self._frames_at) * limits.frames_per_second)
        self._frames_at = now
        if self._frames >= 1:
            self._frames -= 1
            return actions
        self.ignored["over-rate"] += 1
        return [Close(RATE_EXCEEDED)] if self.ignored["over-rate"] > limits.ignored_over_rate else []

    def _position_ack(self, position: Position) -> list[Action]:
        if not self._explicit or position.epoch != self._opening.epoch or position.offset > self._sent:
            return []
        if self._awaits_resync:
            if position.offset != self._opening.start:
                return []
            self._awaits_resync = False
            return [ResyncDone(position)]
        return self._confirm(position.offset)

    def _event_reject(self, position: Position, reason: str) -> list[Action]:
        offset = position.offset
        known = position.epoch == self._opening.epoch and self._confirmed < offset <= self._sent
        if not (self._explicit and known) or self._awaits_resync or offset in self._rejected:
            return []
        self._rejected.add(offset)
        return [Rejected(offset, reason), *self._confirm(self._confirmed)]

    def _confirm(self, offset: int) -> list[Action]:
        """Move the confirmed offset, and over what was rejected next to it."""
        before = self._confirmed
        self._confirmed = max(before, offset)
        while self._confirmed + 1 in self._rejected:
            self._confirmed += 1
        if self._confirmed == before:
            return []
        self._rejected = {rejected for rejected in self._rejected if rejected > self._confirmed}
        return [Confirmed(self._confirmed)]

    def _acknowledged(self, ack: DeploymentAck) -> Acknowledged:
        key = (ack.artifact_id, ack.deployment_id, ack.performed_at, ack.action == "deploy")
        return Acknowledged(ack, self._deployments.pop(key, None))


def _moves_something(action: Action) -> bool:
    return not (isinstance(action, Acknowledged) and action.offset is None)


def _deployment_key(event: RecordedEvent) -> tuple[str, str, datetime | None, bool] | None:
    """What an acknowledgement of this event will name; None when the event is not what its type says."""
    try:
        payload = json.loads(event.payload)
        artifact = next(str(payload[name]) for name in _ARTIFACT_FIELDS if name in payload)
        performed_at = codec.decode_instant(payload.get("performedAt"))
    except (ValueError, TypeError, StopIteration, OverflowError):
        return None
    return artifact, str(payload.get("deploymentId", "")), performed_at, event.type.endswith(_DOWNLOADS)
