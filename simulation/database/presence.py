"""`gatecast.storage.contract.Presence` in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from gatecast.delivery.resume import PARKED
from gatecast.errors import StorageUnavailable, UnknownGateway
from gatecast.events import Position
from gatecast.storage.contract import (
    Connection,
    DisconnectReason,
    GatewayStatus,
    LivePod,
    PositionState,
    Progress,
)
from simulation.database.link import Link
from simulation.database.rows import ConnectionRow, Cursor, Rows

if TYPE_CHECKING:
    from simulation.database.database import SimulatedDatabase

#: What the present task was told, at last, when it asked where a gateway stands; as it is stored.
LOOKED_UP: ContextVar[PositionState] = ContextVar("LOOKED_UP")


class SimulatedPresence:
    """Pods, connections and positions as one pod reaches them."""

    def __init__(self, link: Link[SimulatedDatabase]) -> None:
        self._link = link
        self._database = link.database

    @property
    def _rows(self) -> Rows:
        return self._database.rows

    async def renew_lease(self, pod_id: str, duration: timedelta) -> UUID:
        """Keep this pod alive."""

        def renew() -> UUID:
            now = self._database.now()
            life = self._rows.lives.setdefault(pod_id, self._database.uuid())
            leases = self._rows.leases
            leases[pod_id] = now + duration
            returned = self._of_pods({pod_id})
            for row in returned:
                row.released = False
            self._advance_all(returned)
            forgotten = {row.connection.pod_id for row in self._rows.connections.values()} - leases.keys()
            self._release(forgotten | {name for name, until in leases.items() if until <= now})
            return life

        return await self._link.call(renew)

    async def describe_pod(self, pod_id: str, version: str) -> None:
        """Nothing here depends on it."""

    async def pods(self) -> list[LivePod]:
        """The pods that live."""
        now = self._database.now()
        return [
            LivePod(pod_id=name, lease_seconds=(until - now).total_seconds(), version="", started_at=None)
            for name, until in sorted(self._rows.leases.items())
            if until > now
        ]

    async def disconnect_connection(self, gateway_id: str, connection_id: str) -> bool:
        """Nobody disconnects anybody here."""
        del gateway_id, connection_id
        return False

    async def end_lease(self, pod_id: str) -> None:
        """Remove the pod and its connections."""

        def end() -> None:
            self._rows.leases.pop(pod_id, None)
            self._rows.lives.pop(pod_id, None)
            self._release({pod_id})
            for row in self._of_pods({pod_id}):
                del self._rows.connections[row.connection.connection_id]

        await self._link.call(end)

    def _release(self, pod_ids: set[str]) -> None:
        ended = [row for row in self._of_pods(pod_ids) if not row.released]
        self._dismiss_older(ended)
        for row in ended:
            row.released = True
        self._advance_all(ended)

    def _of_pods(self, pod_ids: set[str]) -> list[ConnectionRow]:
        return [row for row in self._rows.connections.values() if row.connection.pod_id in pod_ids]

    def _dismiss_older(self, ended: Iterable[ConnectionRow]) -> None:
        """A connection that ended before it confirmed its whole log may have repeated what older ones had confirmed."""
        for row in ended:
            stream = self._rows.streams[row.connection.gateway_id]
            for other in self._sharing(row.connection.gateway_id, row.connection.replica):
                if other is row:
                    break
                if row.confirmed < stream.head:
                    other.dismissal = other.dismissal or DisconnectReason.RESTARTING

    async def standing(self, gateway_id: str, replica: str) -> PositionState:
        """The state of the log and of the stored position."""

        def look() -> PositionState:
            LOOKED_UP.set(self._stored(gateway_id, replica))
            return self._standing(gateway_id, replica)

        return await self._link.call(look)

    def _standing(self, gateway_id: str, replica: str) -> PositionState:
        return self._stored(gateway_id, replica)

    def _stored(self, gateway_id: str, replica: str) -> PositionState:
        stream = self._rows.streams.get(gateway_id)
        if stream is None:
            raise UnknownGateway(gateway_id)
        cursor = self._rows.cursors.get((gateway_id, replica))
        return PositionState(
            epoch=self._rows.epoch,
            head=stream.head,
            low_water_mark=stream.low_water_mark,
            confirmed=Position(cursor.epoch, cursor.confirmed) if cursor else None,
            registered_in=stream.registered_in,
            resync_reason=cursor.resync_reason if cursor else None,
        )

    async def connect(
        self,
        connection: Connection,
        *,
        start: Position,
        resync_reason: str | None = None,
        newest_only: bool = False,
    ) -> None:
        """Record a connection."""
        await self._link.call(lambda: self._connect(connection, start, resync_reason, newest_only=newest_only))

    def _connect(
        self, connection: Connection, start: Position, resync_reason: str | None, *, newest_only: bool
    ) -> None:
        if self._rows.place != self._database.place:
            raise StorageUnavailable("another server has taken over just now")
        if start.epoch != self._rows.epoch:
            raise StorageUnavailable("its history was replaced just now")
        if start.offset > self._rows.streams[connection.gateway_id].head:
            raise StorageUnavailable("its log ends before that by now")
        key = (connection.gateway_id, connection.replica)
        before = self._rows.cursors.get(key)
        if before is not None and before.resync_reason == PARKED and resync_reason is None:
            raise StorageUnavailable("the parked events were removed in the meantime")
        confirmed = start.offset
        if newest_only:
            for row in self._sharing(*key):
                row.dismissal = DisconnectReason.SUPERSEDED
        else:
            confirmed = min([confirmed, *(row.confirmed for row in self._sharing(*key) if row.counts)])
        sent = max(before.sent, start.offset) if before and before.epoch == start.epoch else start.offset
        self._rows.cursors[key] = Cursor(start.epoch, sent, confirmed, resync_reason)
        self._rows.connections[connection.connection_id] = ConnectionRow(connection, start.offset, start.offset)

    def _sharing(self, gateway_id: str, replica: str) -> list[ConnectionRow]:
        return [
            row
            for row in self._rows.connections.values()
            if (row.connection.gateway_id, row.connection.replica) == (gateway_id, replica)
        ]

    async def record_progress(self, progress: Sequence[Progress]) -> None:
        """Store how far connections have come."""
        await self._link.call(lambda: self._record(progress))

    async def disconnect(self, progress: Sequence[Progress]) -> None:
        """Record last progress and remove those connections."""

        def leave() -> None:
            known = self._rows.connections
            self._note(progress)
            self._dismiss_older([known[one.connection_id] for one in progress if one.connection_id in known])
            self._move_cursors(progress)
            for one in progress:
                known.pop(one.connection_id, None)
            self._move_cursors(progress)

        await self._link.call(leave)

    def _record(self, progress: Sequence[Progress]) -> None:
        self._note(progress)
        self._move_cursors(progress)

    def _note(self, progress: Sequence[Progress]) -> None:
        for one in progress:
            row = self._rows.connections.get(one.connection_id)
            if row is not None and one.epoch == self._rows.epoch:
                row.sent, row.confirmed = max(row.sent, one.sent), max(row.confirmed, one.confirmed)
                row.released = False
                self._database.history.noted[one.connection_id] = row.confirmed

    def _move_cursors(self, progress: Sequence[Progress]) -> None:
        for key in dict.fromkeys((one.gateway_id, one.replica) for one in progress):
            self._move_cursor(key)

    def _advance_all(self, rows: Iterable[ConnectionRow]) -> None:
        for key in dict.fromkeys((row.connection.gateway_id, row.connection.replica) for row in rows):
            self._move_cursor(key)

    def _move_cursor(self, key: tuple[str, str]) -> None:
        cursor = self._rows.cursors.get(key)
        live = [row for row in self._sharing(*key) if row.counts]
        if cursor is None or cursor.epoch != self._rows.epoch or not live:
            return
        cursor.sent = max(cursor.sent, *(row.sent for row in live))
        cursor.confirmed = max(cursor.confirmed, min(row.confirmed for row in live))
        if cursor.resync_reason is None:
            self._database.history.stored_position(key[0], cursor.epoch, cursor.confirmed)

    async def pending_disconnects(self, pod_id: str) -> dict[str, DisconnectReason]:
        """This pod's connections that must be closed."""
        return await self._link.call(
            lambda: {
                key: row.dismissal
                for key, row in self._rows.connections.items()
                if row.connection.pod_id == pod_id and row.dismissal is not None
            }
        )

    async def disconnect_token(self, token_id: str, *, transaction: object | None = None) -> int:
        """Ask every pod to close what came with this token."""
        _ = transaction
        rows = [row for row in self._rows.connections.values() if row.connection.token_id == token_id]
        for row in rows:
            row.dismissal = row.dismissal or DisconnectReason.TOKEN_REVOKED
        return len(rows)

    async def hint(self, gateway_ids: Sequence[str]) -> None:
        """Nothing: hints go over the simulated network."""

    async def resynchronized(
        self, gateway_id: str, replica: str, reason: str, *, connection_id: str | None = None
    ) -> None:
        """Record that the gateway has read the desired state again, for this reason."""

        def mark() -> None:
            cursor = self._rows.cursors.get((gateway_id, replica))
            row = self._rows.connections.get(connection_id) if connection_id is not None else None
            stays = connection_id is None or (row is not None and row.dismissal is None)
            if cursor is not None and cursor.resync_reason == reason and stays:
                cursor.resync_reason = None

        await self._link.call(mark)

    async def status(
        self, gateway_ids: Sequence[str], *, transaction: object | None = None
    ) -> dict[str, GatewayStatus]:
        """Not simulated."""
        raise TypeError(gateway_ids, transaction)
