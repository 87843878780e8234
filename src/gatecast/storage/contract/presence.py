"""The contract of presence: which pods are alive, what they are connected to, and what was confirmed there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from gatecast.events import Position
from gatecast.storage.hops import Passages


class DisconnectReason(StrEnum):
    """Why the pod must disconnect a gateway; the value is also the close reason."""

    TOKEN_REVOKED = "token-revoked"  # noqa: S105 - a reason, not a password
    GATEWAY_DELETED = "gateway-deleted"
    SUPERSEDED = "superseded"
    RESTARTING = "restarting"

    @classmethod
    def read(cls, text: str) -> DisconnectReason:
        """The stored reason; `RESTARTING` for one that only a newer release knows, so that the gateway reconnects."""
        return cls(text) if text in list(cls) else cls.RESTARTING


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionState:
    """The state of a gateway's log and of one stored position, read at one instant."""

    #: Identity of the database's history now.
    epoch: UUID
    #: Offset of the last event.
    head: int
    #: Retention has removed every event up to and including this offset (the low-water mark).
    low_water_mark: int
    #: What the gateway (or the named replica) has confirmed, possibly in an older epoch; None if it never connected.
    confirmed: Position | None
    #: Why it must still resynchronize (`retention`, `epoch`, `ahead`, `parked`); None if it need not.
    resync_reason: str | None
    #: The epoch in which the log began. A log from an older epoch than the present one may have lost events that its
    #: gateway has seen, even if no position is known.
    registered_in: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One live connection of a gateway to a pod."""

    connection_id: str
    gateway_id: str
    #: Name that the client gave itself; empty for unnamed clients, which share one position.
    replica: str
    #: The pod that holds the connection.
    pod_id: str
    #: `gateway.v1` (unmodified), `gatecast.v2`, or `library`.
    protocol: str
    #: Address of the peer, to show to people.
    remote: str
    #: The token that the client used, by which `disconnect_token` finds the connection; None if it used none.
    token_id: str | None

    @property
    def rejects(self) -> bool:
        """Whether its client can reject single events, which parks their entities."""
        return self.protocol == "gatecast.v2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What was sent to one connection, and what its peer has confirmed; written in batches."""

    connection_id: str
    gateway_id: str
    replica: str
    #: The history that the offsets belong to; progress of another history is ignored.
    epoch: UUID
    #: Last offset written to the socket.
    sent: int
    #: Last offset that the peer has confirmed.
    confirmed: int
    #: Which events passed each hop since the previously stored progress, and when.
    passages: Passages = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveConnection:
    """A connection as operators see it: its pod's lease has not expired, and it has not been asked to disconnect."""

    connection_id: str
    pod_id: str
    replica: str
    protocol: str
    remote: str
    connected_at: datetime
    sent: int
    confirmed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePod:
    """A pod whose lease has not expired."""

    pod_id: str
    #: Seconds until its lease expires unless it is renewed, by the database's clock.
    lease_seconds: float
    #: The release that it runs; empty if it has not reported it.
    version: str
    #: When it started, by the database's clock; None if it has not reported it.
    started_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayStatus:
    """Everything that storage knows about one gateway's delivery."""

    gateway_id: str
    epoch: UUID
    head: int
    low_water_mark: int
    #: Highest offset written to a socket in the present epoch.
    sent: int
    #: What the slowest of the replicas with a position in the present epoch has confirmed; 0 if there are none. A
    #: replica whose position belongs to an older epoch does not count: `resync_reason` says that it must resynchronize.
    confirmed: int
    #: Age in seconds of the oldest event after `confirmed`, by the database's clock; 0 if there is none.
    lag_seconds: float
    #: When a connection of this gateway was last opened or made progress.
    last_seen_at: datetime | None
    #: Why the gateway must resynchronize (`retention`, `epoch`, `ahead`, `parked`), or None.
    resync_reason: str | None
    connections: Sequence[LiveConnection]


class Presence(Protocol):
    """Pods, their leases, their connections, and the positions that connections confirm.

    A position belongs to a gateway and a replica. The connections of both share it.
    """

    async def renew_lease(self, pod_id: str, duration: timedelta) -> UUID:
        """The pod's incarnation, once its lease lasts for `duration` from now, by the database's clock.

        The incarnation stays the same until the pod's lease ends by `end_lease`, or has been expired for so long (10
        minutes) that the pod and its connections were forgotten. Connections of pods whose leases have expired no
        longer hold positions back (scenario S24).
        """

    async def end_lease(self, pod_id: str) -> None:
        """Remove a pod that shuts down in order, and its connections."""

    async def standing(self, gateway_id: str, replica: str) -> PositionState:
        """The state of the gateway's log and of the replica's stored position.

        Raises:
            UnknownGateway: the gateway is not registered.
        """

    async def connect(
        self,
        connection: Connection,
        *,
        start: Position,
        resync_reason: str | None = None,
        newest_only: bool = False,
    ) -> None:
        """Record a connection that will read the events after `start`, and make `start` the stored position.

        A slower live connection that shares the position continues to hold it back (scenario S13).

        With `resync_reason`, the gateway must resynchronize until `resynchronized` is called, over any number of
        connections.

        With `newest_only`, every other connection of the same gateway and replica is disconnected as superseded, and
        does not hold the position back.

        Raises:
            UnknownGateway: the gateway was deleted in the meantime.
            StorageUnavailable: in the meantime `start` came to belong to another epoch or to be past the end of the
                log, or the gateway came to have to resynchronize; read `standing` again.
        """

    async def record_progress(self, progress: Sequence[Progress]) -> None:
        """Store the progress of connections, and move the positions that they share.

        A stored position is the minimum over the connections that share it. Progress never moves it back within one
        epoch (scenario S08). It also moves when a connection that held it back leaves, or that connection's pod dies
        (at the next `renew_lease` of any pod). Progress of another epoch, or of a connection that is not recorded,
        changes nothing; that of a connection that must disconnect moves no position.

        Passages are stored with the progress, as one row, until retention removes the last event that they describe.
        """

    async def disconnect(self, progress: Sequence[Progress]) -> None:
        """Store the last progress of connections, as `record_progress` does, and remove them.

        If a connection ends, here or with its pod, before it has confirmed its whole log, older connections of the
        position must disconnect: the new connection may have sent the same gateway confirmed events again, and then it
        also needs the events after them again.
        """

    async def describe_pod(self, pod_id: str, version: str) -> None:
        """Record that a pod starts now, and which release it runs; changes nothing for a pod without a lease."""

    async def pods(self) -> list[LivePod]:
        """The pods whose leases have not expired, by id."""

    async def disconnect_connection(self, gateway_id: str, connection_id: str) -> bool:
        """Ask the pod to close one connection, whose gateway may reconnect.

        False if the gateway has no such connection, or it must disconnect already.
        """

    async def pending_disconnects(self, pod_id: str) -> dict[str, DisconnectReason]:
        """The reasons why connections of this pod must be closed, by connection id."""

    async def disconnect_token(self, token_id: str, *, transaction: object | None = None) -> int:
        """How many recorded connections use this token; their pods are asked to close them (promise P9)."""

    async def resynchronized(
        self, gateway_id: str, replica: str, reason: str, *, connection_id: str | None = None
    ) -> None:
        """Record that the replica has read the desired state again, for this reason: it need not resynchronize for it.

        Another reason, which has come in the meantime, stays. With `connection_id`, which was told the reason, nothing
        is recorded unless that connection is recorded and need not disconnect: the same reason may have come again.
        """

    async def hint(self, gateway_ids: Sequence[str]) -> None:
        """Send every pod a hint to look at these gateways, if the database itself sends hints; else do nothing."""

    async def status(
        self, gateway_ids: Sequence[str], *, transaction: object | None = None
    ) -> dict[str, GatewayStatus]:
        """The delivery status of each registered gateway among these, at one instant or as the transaction sees it."""
