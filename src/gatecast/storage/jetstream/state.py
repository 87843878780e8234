"""The connections and positions of one gateway, as one document; does no I/O."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import UUID

from gatecast.errors import StatementFailed, StorageUnavailable
from gatecast.events import Position
from gatecast.storage.contract import Connection, DisconnectReason, Progress

#: The resynchronization that is owed to a replica whose parked events are gone.
PARKED = "parked"


@dataclass(slots=True)
class StoredPosition:
    """The stored position of one replica."""

    epoch: str
    sent: int
    confirmed: int
    resync_reason: str | None
    #: In seconds since 1970, by the server's clock.
    updated_at: float


@dataclass(slots=True)
class StoredConnection:
    """One connection."""

    connection_id: str
    #: Later connections have higher numbers.
    number: int
    replica: str
    pod_id: str
    protocol: str
    remote: str
    token_id: str | None
    connected_at: float
    sent: int
    confirmed: int
    #: Its pod's lease has expired: it holds no position back.
    released: bool = False
    #: Why it must be disconnected.
    dismissal: str | None = None

    @property
    def counts(self) -> bool:
        """Whether it holds its position back."""
        return not self.released and self.dismissal is None


@dataclass(slots=True)
class State:
    """The shared state of one gateway's delivery. Methods change it in place."""

    #: The log that the positions belong to.
    log: int
    positions: dict[str, StoredPosition] = field(default_factory=dict)
    connections: list[StoredConnection] = field(default_factory=list)
    next_number: int = 1

    @classmethod
    def decode(cls, data: bytes) -> State:
        """The document.

        Raises:
            StatementFailed: it cannot be read.
        """
        try:
            values: dict[str, Any] = json.loads(data)
            return cls(
                log=values["log"],
                positions={name: StoredPosition(**each) for name, each in values["positions"].items()},
                connections=[StoredConnection(**each) for each in values["connections"]],
                next_number=values["next_number"],
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise StatementFailed("the state of a gateway in the stream cannot be read") from error

    def encode(self) -> bytes:
        """The document as JSON."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":")).encode()

    def of_log(self, log: int) -> State:
        """The state for this log: without positions, if they belong to an earlier one."""
        if self.log != log:
            self.log, self.positions = log, {}
        return self

    # --- connections --------------------------------------------------------------------------------------------

    def connect(
        self, opened: Connection, start: Position, *, resync_reason: str | None, newest_only: bool, now: float
    ) -> None:
        """Record a connection; the position moves to `start`, unless another connection of it is slower.

        Raises:
            StorageUnavailable: the replica must resynchronize, and does not know.
        """
        known = self.positions.get(opened.replica)
        if known is not None and known.epoch != str(start.epoch):
            # Connections of an ended history: a restore may have brought back some that no pod knows.
            self.remove([each.connection_id for each in self._of(opened.replica)])
        others = [each for each in self._of(opened.replica) if each.connection_id != opened.connection_id]
        if newest_only:
            dismiss(others, DisconnectReason.SUPERSEDED)
        slowest = min((each.confirmed for each in others if each.counts), default=start.offset)
        self._move_to(opened.replica, start, min(start.offset, slowest), resync_reason, now)
        self.remove([opened.connection_id])
        self.connections.append(
            StoredConnection(
                connection_id=opened.connection_id,
                number=self.next_number,
                replica=opened.replica,
                pod_id=opened.pod_id,
                protocol=opened.protocol,
                remote=opened.remote,
                token_id=opened.token_id,
                connected_at=now,
                sent=start.offset,
                confirmed=start.offset,
            )
        )
        self.next_number += 1

    def _move_to(self, replica: str, start: Position, confirmed: int, resync_reason: str | None, now: float) -> None:
        known = self.positions.get(replica)
        if known is not None and known.resync_reason == PARKED and resync_reason is None:
            # The events were lost on the way here: the replica must reconnect to learn of it.
            raise StorageUnavailable("the parked events were removed in the meantime")
        epoch = str(start.epoch)
        sent = max(known.sent, start.offset) if known is not None and known.epoch == epoch else start.offset
        self.positions[replica] = StoredPosition(epoch, sent, confirmed, resync_reason, now)

    def _of(self, replica: str) -> list[StoredConnection]:
        return [each for each in self.connections if each.replica == replica]

    def at(self, pods: Collection[str]) -> list[StoredConnection]:
        """The connections to these pods."""
        return [each for each in self.connections if each.pod_id in pods]

    def remove(self, connection_ids: Collection[str]) -> None:
        """Remove these connections."""
        self.connections = [each for each in self.connections if each.connection_id not in connection_ids]

    # --- progress -----------------------------------------------------------------------------------------------

    def note(self, progress: Iterable[Progress], epoch: UUID) -> None:
        """Note how far connections have got; a connection that reports is alive."""
        known = {each.connection_id: each for each in self.connections}
        for one in progress:
            connection = known.get(one.connection_id)
            if connection is not None and one.epoch == epoch:
                connection.sent = max(connection.sent, one.sent)
                connection.confirmed = max(connection.confirmed, one.confirmed)
                connection.released = False

    def advance(self, replicas: Iterable[str], epoch: UUID, now: float) -> None:
        """Move these positions to what the slowest connection of each has confirmed; never back."""
        for replica in set(replicas):
            position = self.positions.get(replica)
            counting = [each for each in self._of(replica) if each.counts]
            if position is None or position.epoch != str(epoch) or not counting:
                continue
            sent = max(position.sent, *(each.sent for each in counting))
            confirmed = max(position.confirmed, min(each.confirmed for each in counting))
            if (sent, confirmed) != (position.sent, position.confirmed):
                position.sent, position.confirmed, position.updated_at = sent, confirmed, now

    def end(self, progress: Sequence[Progress], epoch: UUID, head: int | None, now: float) -> None:
        """Note the last progress of connections, and remove them."""
        ids, replicas = [one.connection_id for one in progress], [one.replica for one in progress]
        self.note(progress, epoch)
        self.dismiss_older(ids, head)
        # Leaving connections count for the last time; afterwards only the others move the position.
        self.advance(replicas, epoch, now)
        self.remove(ids)
        self.advance(replicas, epoch, now)

    def dismiss_older(self, connection_ids: Collection[str], head: int | None) -> None:
        """These connections have ended. Disconnect the older ones of a position that one left unfinished.

        The newer one may have been sent events again that an older one had confirmed: then the gateway also needs what
        came after them again, so the older ones come back and resume from the position.
        """
        if head is None:
            return
        for ended in [each for each in self.connections if each.connection_id in connection_ids]:
            if ended.confirmed < head:
                older = [each for each in self._of(ended.replica) if each.number < ended.number]
                dismiss(older, DisconnectReason.RESTARTING)

    def release(self, ended: Sequence[StoredConnection], epoch: UUID, head: int | None, now: float) -> None:
        """Move the positions that these connections held back: their pods are gone."""
        self.dismiss_older([each.connection_id for each in ended], head)
        for each in ended:
            each.released = True
        self.advance([each.replica for each in ended], epoch, now)

    def dismiss_all(self) -> None:
        """The gateway is deleted: every connection must end, and no position is left."""
        for each in self.connections:
            each.dismissal = DisconnectReason.GATEWAY_DELETED.value
        self.positions = {}

    def resynchronized(self, replica: str, reason: str, connection_id: str | None) -> None:
        """A replica has read the desired state again, for this reason, unless its connection has to end."""
        stays = connection_id is None or any(
            each.connection_id == connection_id and each.dismissal is None for each in self.connections
        )
        position = self.positions.get(replica)
        if stays and position is not None and position.resync_reason == reason:
            position.resync_reason = None

    def lose(self, replicas: Collection[str]) -> None:
        """Parked events are gone: these replicas must resynchronize, and reconnect to learn of it."""
        for replica in replicas:
            if (position := self.positions.get(replica)) is not None:
                position.resync_reason = PARKED
            dismiss(self._of(replica), DisconnectReason.RESTARTING)


def dismiss(connections: Iterable[StoredConnection], reason: DisconnectReason) -> None:
    """Ask that these connections be disconnected, unless that was asked before."""
    for each in connections:
        each.dismissal = each.dismissal or reason.value
