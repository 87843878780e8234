"""Pods, connections and positions on PostgreSQL; the functions in `functions/` do the work."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from gatecast.containment import contained
from gatecast.errors import StorageUnavailable, UnknownGateway
from gatecast.events import Position
from gatecast.gathering import Gathered
from gatecast.storage.connecting import ConnectRequest
from gatecast.storage.contract import (
    Connection,
    DisconnectReason,
    GatewayStatus,
    LivePod,
    PositionState,
    Progress,
    Row,
)
from gatecast.storage.hops import NOTHING, Hop, Passages
from gatecast.storage.postgres.appending import QUERIES
from gatecast.storage.postgres.array_literals import array_literal, text_array
from gatecast.storage.postgres.caller_transaction import Statements, joined
from gatecast.storage.postgres.database import PostgresDatabase
from gatecast.storage.row_values import live_connection, position_state
from gatecast.storage.rows import as_rows


class PostgresPresence:
    """`gatecast.storage.contract.Presence` on PostgreSQL."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        #: Gateways that connect at the same time are looked up in one statement (scenario S30).
        self._standings = Gathered[tuple[str, str], PositionState | None]("standings", self._look_up)
        #: They are recorded in one statement, except those that would wait for a lock.
        self._connects = Gathered[ConnectRequest, bool]("connects", self._record_unlocked, writes=True)

    async def renew_lease(self, pod_id: str, duration: timedelta) -> UUID:
        """The pod's incarnation, once its lease lasts for `duration` from now."""
        [row] = await self._database.fetch(QUERIES["renew_lease"], pod_id, duration)
        incarnation: UUID = row["life"]
        return incarnation

    async def end_lease(self, pod_id: str) -> None:
        """Remove a pod that shuts down, and its connections."""
        await self._database.fetch(QUERIES["end_lease"], pod_id)

    async def standing(self, gateway_id: str, replica: str) -> PositionState:
        """The state of the gateway's log and of the replica's stored position."""
        standing = await self._standings.ask((gateway_id, replica))
        if standing is None:
            raise UnknownGateway(gateway_id)
        return standing

    async def _look_up(self, wanted: Sequence[tuple[str, str]]) -> list[PositionState | None]:
        keys = as_rows({"gateway": gateway_id, "replica": replica} for gateway_id, replica in wanted)
        found = {row["key"]: position_state(row) for row in await self._database.fetch(QUERIES["standing"], keys)}
        return [found.get(str(number)) for number in range(len(wanted))]

    async def connect(
        self,
        connection: Connection,
        *,
        start: Position,
        resync_reason: str | None = None,
        newest_only: bool = False,
    ) -> None:
        """Record a connection; the position moves to `start`, unless another live connection of it is slower."""
        request = ConnectRequest(
            connection=connection, start=start, resync_reason=resync_reason, newest_only=newest_only
        )
        recorded = await self._connects.ask(request) or connection.connection_id in await self._connect(
            [request], waits=True
        )
        if not recorded:
            await self.standing(connection.gateway_id, connection.replica)
            raise StorageUnavailable("the position that it may resume from has just changed")
        if newest_only:
            with contained("hint-lost"):
                await self._database.fetch(QUERIES["hint_everything"])

    async def _record_unlocked(self, requests: Sequence[ConnectRequest]) -> list[bool]:
        """Whether each was recorded; the others may be recorded alone."""
        recorded = await self._connect(requests, waits=False)
        return [request.connection.connection_id in recorded for request in requests]

    async def _connect(self, requests: Sequence[ConnectRequest], *, waits: bool) -> set[str]:
        """The ids of the connections that were recorded; without `waits` none waits for a lock."""
        opened = [request.connection for request in requests]
        rows = await self._database.fetch(
            QUERIES["connect"],
            text_array([one.gateway_id for one in opened]),
            text_array([one.replica for one in opened]),
            text_array([one.connection_id for one in opened]),
            text_array([one.pod_id for one in opened]),
            text_array([one.protocol for one in opened]),
            text_array([one.remote for one in opened]),
            [one.token_id for one in opened],
            text_array([str(request.start.epoch) for request in requests]),
            array_literal([request.start.offset for request in requests]),
            [request.newest_only for request in requests],
            [request.resync_reason for request in requests],
            waits,
        )
        return {row["connection_id"] for row in rows}

    async def record_progress(self, progress: Sequence[Progress]) -> None:
        """Store the progress of connections, and move their positions."""
        await self._record(progress, remove=False)

    async def disconnect(self, progress: Sequence[Progress]) -> None:
        """Store the last progress of connections, and remove them."""
        await self._record(progress, remove=True)

    async def _record(self, progress: Sequence[Progress], *, remove: bool) -> None:
        await self._database.fetch(
            QUERIES["record_progress"],
            text_array([one.connection_id for one in progress]),
            text_array([one.gateway_id for one in progress]),
            text_array([one.replica for one in progress]),
            text_array([str(one.epoch) for one in progress]),
            array_literal([one.sent for one in progress]),
            array_literal([one.confirmed for one in progress]),
            remove,
            array_literal([_offsets(one.passages) for one in progress]),
            array_literal([_moments(one.passages) for one in progress]),
        )

    async def describe_pod(self, pod_id: str, version: str) -> None:
        """Record that a pod starts now, and which release it runs."""
        await self._database.fetch(QUERIES["describe_pod"], pod_id, version)

    async def pods(self) -> list[LivePod]:
        """The pods whose leases have not expired, by id."""
        return [LivePod(**row) for row in await self._database.fetch(QUERIES["pods"])]

    async def disconnect_connection(self, gateway_id: str, connection_id: str) -> bool:
        """Ask the pod to close one connection; False if there is none, or it must disconnect already."""
        [row] = await self._database.fetch(QUERIES["dismiss_connection"], gateway_id, connection_id)
        with contained("hint-lost"):
            await self._database.fetch(QUERIES["hint_everything"])
        return bool(row["dismissed"])

    async def pending_disconnects(self, pod_id: str) -> dict[str, DisconnectReason]:
        """The reasons why connections of this pod must be closed, by connection id."""
        rows = await self._database.fetch(QUERIES["dismissals"], pod_id)
        return {row["connection_id"]: DisconnectReason.read(row["dismissal"]) for row in rows}

    async def disconnect_token(self, token_id: str, *, transaction: object | None = None) -> int:
        """How many connections use this token; their pods are asked to close them."""

        async def work(connection: Statements) -> int:
            dismissed: int = await connection.fetchval(QUERIES["dismiss_token"], token_id)
            await connection.fetch(QUERIES["hint_everything"])
            return dismissed

        return await joined(self._database, transaction, work)

    async def resynchronized(
        self, gateway_id: str, replica: str, reason: str, *, connection_id: str | None = None
    ) -> None:
        """Record that the replica has read the desired state again, for this reason."""
        await self._database.fetch(QUERIES["resynchronized"], gateway_id, replica, reason, connection_id)

    async def hint(self, gateway_ids: Sequence[str]) -> None:
        """Notify every pod to look at these gateways."""
        await self._database.fetch(QUERIES["hint_gateways"], json.dumps(list(gateway_ids)))

    async def status(
        self, gateway_ids: Sequence[str], *, transaction: object | None = None
    ) -> dict[str, GatewayStatus]:
        """The delivery status of each registered gateway among these, at one instant or as the transaction sees it."""
        rows: defaultdict[str, list[Row]] = defaultdict(list)
        for row in await self._statuses(gateway_ids, transaction):
            rows[row["gateway_id"]].append(row)
        return {gateway_id: _status(of_gateway) for gateway_id, of_gateway in rows.items()}

    async def _statuses(self, gateway_ids: Sequence[str], transaction: object | None) -> list[Row]:
        query, ids = QUERIES["status"], list(gateway_ids)
        if transaction is None:
            return await self._database.fetch(query, ids)
        return await joined(self._database, transaction, lambda connection: connection.fetch(query, ids))


#: In place of missing passages: in an array of arrays, every row has the same length.
_NO_PASSAGES = (NOTHING,) * len(Hop)


def _offsets(passages: Passages) -> list[int]:
    picked_up, sent, confirmed = passages or _NO_PASSAGES
    return [*picked_up[:2], *sent[:2], *confirmed[:2]]


def _moments(passages: Passages) -> list[float]:
    picked_up, sent, confirmed = passages or _NO_PASSAGES
    return [*picked_up[2:], *sent[2:], *confirmed[2:]]


def _status(rows: Sequence[Row]) -> GatewayStatus:
    row = rows[0]
    return GatewayStatus(
        gateway_id=row["gateway_id"],
        epoch=row["epoch"],
        head=row["head"],
        low_water_mark=row["trimmed_through"],
        sent=row["sent"],
        confirmed=row["confirmed"],
        lag_seconds=max(0.0, row["lag_seconds"] or 0.0),
        last_seen_at=row["updated_at"],
        resync_reason=row["resync_reason"],
        connections=[live_connection(each) for each in rows if each["connection_id"] is not None],
    )
