"""Pods, leases, connections and positions on SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from uuid import UUID, uuid4

from gatecast.errors import GatecastError, StorageUnavailable, UnknownGateway
from gatecast.events import Position
from gatecast.gathering import Gathered
from gatecast.storage.connecting import ConnectRequest
from gatecast.storage.contract import (
    Connection,
    DisconnectReason,
    GatewayStatus,
    LiveConnection,
    LivePod,
    PositionState,
    Progress,
)
from gatecast.storage.moved import MOVED_TO_STREAM
from gatecast.storage.queries import Queries
from gatecast.storage.row_values import live_connection, position_state, to_moment
from gatecast.storage.sqlite.connection import Clock, system_clock
from gatecast.storage.sqlite.database import SqliteDatabase
from gatecast.storage.sqlite.moved import is_closed
from gatecast.storage.sqlite.statements import Columns, as_list, change, change_each, part, select, select_named

QUERIES = Queries("gatecast.storage.sqlite", "presence.sql")

#: A pod and its connections are forgotten this long after its lease has expired.
FORGET_AFTER = timedelta(minutes=10)


class SqlitePresence:
    """`gatecast.storage.contract.Presence` on SQLite."""

    def __init__(self, database: SqliteDatabase, clock: Clock = system_clock) -> None:
        self._database = database
        self._clock = clock
        #: Gateways that connect at the same time are looked up, and recorded, together (scenario S30).
        self._standings = Gathered[tuple[str, str], PositionState | None]("standings", self._look_up)
        self._connects = Gathered[ConnectRequest, GatecastError | None]("connects", self._record, writes=True)

    async def renew_lease(self, pod_id: str, duration: timedelta) -> UUID:
        """The pod's incarnation, once its lease lasts for `duration` from now."""
        return await self._database.write(partial(_renew_lease, pod_id=pod_id, duration=duration, now=self._clock()))

    async def end_lease(self, pod_id: str) -> None:
        """Remove a pod that shuts down, and its connections."""
        await self._database.write(partial(_end_lease, pod_id=pod_id))

    async def standing(self, gateway_id: str, replica: str) -> PositionState:
        """The state of the gateway's log and of the replica's stored position."""
        standing = await self._standings.ask((gateway_id, replica))
        if standing is None:
            raise UnknownGateway(gateway_id)
        return standing

    async def _look_up(self, wanted: Sequence[tuple[str, str]]) -> list[PositionState | None]:
        return await self._database.read(lambda connection: [_standing(connection, *each) for each in wanted])

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
        refusal = await self._connects.ask(request)
        if refusal is not None:
            raise refusal

    async def _record(self, requests: Sequence[ConnectRequest]) -> list[GatecastError | None]:
        """Why each was not recorded; None: it was."""
        return await self._database.write(lambda connection: [_refusal(connection, each) for each in requests])

    async def record_progress(self, progress: Sequence[Progress]) -> None:
        """Store the progress of connections, and move their positions."""
        await self._database.write(partial(_record_progress, progress=progress))

    async def disconnect(self, progress: Sequence[Progress]) -> None:
        """Store the last progress of connections, and remove them."""
        await self._database.write(partial(_disconnect, progress=progress))

    async def pending_disconnects(self, pod_id: str) -> dict[str, DisconnectReason]:
        """The reasons why connections of this pod must be closed, by connection id."""
        rows = await self._database.read(lambda connection: select(connection, QUERIES["dismissals"], pod_id))
        return {connection_id: DisconnectReason.read(dismissal) for connection_id, dismissal in rows}

    async def describe_pod(self, pod_id: str, version: str) -> None:
        """Record that a pod starts now, and which release it runs."""
        await self._database.write(lambda connection: change(connection, QUERIES["describe_pod"], pod_id, version))

    async def pods(self) -> list[LivePod]:
        """The pods whose leases have not expired, by id."""
        now = self._clock()
        rows = await self._database.read(lambda connection: select_named(connection, QUERIES["pods"], now))
        return [
            LivePod(
                pod_id=row["pod_id"],
                lease_seconds=(to_moment(row["lease_until"]) - now).total_seconds(),
                version=row["version"],
                started_at=to_moment(row["started_at"]) if row["started_at"] else None,
            )
            for row in rows
        ]

    async def disconnect_connection(self, gateway_id: str, connection_id: str) -> bool:
        """Ask the pod to close one connection; False if there is none, or it must disconnect already."""
        return bool(
            await self._database.write(
                lambda connection: change(connection, QUERIES["dismiss_connection"], gateway_id, connection_id)
            )
        )

    async def disconnect_token(self, token_id: str, *, transaction: object | None = None) -> int:
        """How many connections use this token; their pods are asked to close them."""
        return await self._database.write_with(transaction, partial(_dismiss_token, token_id=token_id))

    async def resynchronized(
        self, gateway_id: str, replica: str, reason: str, *, connection_id: str | None = None
    ) -> None:
        """Record that the replica has read the desired state again, for this reason."""
        arguments = (gateway_id, replica, reason, connection_id)
        await self._database.write(lambda connection: change(connection, QUERIES["resynchronized"], *arguments))

    async def hint(self, gateway_ids: Sequence[str]) -> None:
        """Do nothing: SQLite sends no hints."""

    async def status(
        self, gateway_ids: Sequence[str], *, transaction: object | None = None
    ) -> dict[str, GatewayStatus]:
        """The delivery status of each registered gateway among these, at one instant or as the transaction sees it."""
        look = partial(_status, gateway_ids=gateway_ids, now=self._clock())
        if transaction is None:
            return await self._database.read(look)
        return await self._database.write_in(transaction, look)


def _renew_lease(connection: sqlite3.Connection, pod_id: str, duration: timedelta, now: datetime) -> UUID:
    known = select(connection, QUERIES["pod"], pod_id)
    [[incarnation]] = select(connection, QUERIES["renew_lease"], pod_id, now + duration, uuid4())
    if known and known[0][0]:
        # While its lease had expired, its connections did not count, so positions did not move for them.
        returned = select(connection, QUERIES["connections_of_pod"], pod_id)
        change(connection, QUERIES["release"], _ids(returned), False)  # noqa: FBT003 - a column's value
        _advance(connection, _positions(returned))
    _release(connection, select(connection, QUERIES["ended_with_their_pods"], pod_id))
    change(connection, QUERIES["forget_connections_of_dead_pods"], now - FORGET_AFTER)
    change(connection, QUERIES["forget_dead_pods"], now - FORGET_AFTER)
    return UUID(incarnation)


def _end_lease(connection: sqlite3.Connection, pod_id: str) -> None:
    ended = select(connection, QUERIES["connections_of_pod"], pod_id)
    change(connection, QUERIES["remove_pod"], pod_id)
    _release(connection, ended)
    change(connection, QUERIES["remove_connections"], _ids(ended))


def _release(connection: sqlite3.Connection, ended: Sequence[Columns]) -> None:
    """Move the positions that these connections held back."""
    if ended:
        change(connection, QUERIES["dismiss_older"], _ids(ended))
        change(connection, QUERIES["release"], _ids(ended), True)  # noqa: FBT003 - a column's value
        _advance(connection, _positions(ended))


def _ids(connections: Sequence[Columns]) -> str:
    return as_list(connection_id for connection_id, _, _ in connections)


def _positions(connections: Sequence[Columns]) -> list[Columns]:
    return [(gateway_id, replica) for _, gateway_id, replica in connections]


def _dismiss_token(connection: sqlite3.Connection, token_id: str) -> int:
    if is_closed(connection):
        # The connections are elsewhere, and would stay.
        raise StorageUnavailable(MOVED_TO_STREAM)
    return change(connection, QUERIES["dismiss_token"], token_id)


def _standing(connection: sqlite3.Connection, gateway_id: str, replica: str) -> PositionState | None:
    rows = select_named(connection, QUERIES["standing"], gateway_id, replica)
    return position_state(rows[0]) if rows else None


def _refusal(connection: sqlite3.Connection, request: ConnectRequest) -> GatecastError | None:
    """Why this one was not recorded; the others are."""
    try:
        with part(connection):
            _connect(connection, request)
    except GatecastError as refusal:
        return refusal
    return None


def _connect(connection: sqlite3.Connection, request: ConnectRequest) -> None:
    opened, start = request.connection, request.start
    _check_place(connection, opened.gateway_id, start)
    key = (opened.gateway_id, opened.replica)
    if not change(connection, QUERIES["set_position"], *key, start.epoch, start.offset, request.resync_reason):
        raise StorageUnavailable("the parked events were removed in the meantime")
    if request.newest_only:
        change(connection, QUERIES["supersede"], *key, opened.connection_id)
    else:
        change(connection, QUERIES["hold_back"], *key, opened.connection_id)
    change(connection, QUERIES["thin_passages"], *key, start.offset)
    by_whom = (opened.pod_id, opened.protocol, opened.remote, opened.token_id)
    change(connection, QUERIES["insert_connection"], opened.connection_id, *key, *by_whom, start.offset)


def _check_place(connection: sqlite3.Connection, gateway_id: str, start: Position) -> None:
    rows = select(connection, QUERIES["place_to_connect"], gateway_id)
    if not rows:
        raise UnknownGateway(gateway_id)
    [[epoch, head]] = rows
    if epoch != str(start.epoch) or head < start.offset:
        raise StorageUnavailable("the position that it may resume from has just changed")


def _record_progress(connection: sqlite3.Connection, progress: Sequence[Progress]) -> None:
    _note_progress(connection, progress)
    _advance(connection, _shared_by(progress))


def _disconnect(connection: sqlite3.Connection, progress: Sequence[Progress]) -> None:
    ended = as_list(one.connection_id for one in progress)
    _note_progress(connection, progress)
    change(connection, QUERIES["dismiss_older"], ended)
    # Leaving connections count for the last time; afterwards only the others move the position.
    _advance(connection, _shared_by(progress))
    change(connection, QUERIES["remove_connections"], ended)
    _advance(connection, _shared_by(progress))


def _note_progress(connection: sqlite3.Connection, progress: Sequence[Progress]) -> None:
    rows = [(one.connection_id, str(one.epoch), one.sent, one.confirmed) for one in progress]
    change_each(connection, QUERIES["advance_connection"], rows)
    passed = [(one.connection_id, str(one.epoch), *chain(*one.passages)) for one in progress if one.passages]
    change_each(connection, QUERIES["insert_passages"], passed)


def _shared_by(progress: Sequence[Progress]) -> list[Columns]:
    return [(one.gateway_id, one.replica) for one in progress]


def _advance(connection: sqlite3.Connection, positions: Sequence[Columns]) -> None:
    if positions:
        change(connection, QUERIES["advance_positions"], as_list(map(list, positions)))


def _status(connection: sqlite3.Connection, gateway_ids: Sequence[str], now: datetime) -> dict[str, GatewayStatus]:
    ids = as_list(gateway_ids)
    live: dict[str, list[LiveConnection]] = {}
    for row in select_named(connection, QUERIES["live_connections"], ids):
        live.setdefault(row["gateway_id"], []).append(live_connection(row))
    statuses = select(connection, QUERIES["status"], ids)
    return {each[0]: _gateway_status(each, live.get(each[0], []), now) for each in statuses}


def _gateway_status(row: Columns, connections: Sequence[LiveConnection], now: datetime) -> GatewayStatus:
    gateway_id, epoch, head, low_water_mark, sent, confirmed, updated_at, resync_reason, unconfirmed_since = row
    lag = now - _moment_or(now, unconfirmed_since)
    return GatewayStatus(
        gateway_id=gateway_id,
        epoch=UUID(epoch),
        head=head,
        low_water_mark=low_water_mark,
        sent=sent,
        confirmed=confirmed,
        # The clock may have been set back since the event was recorded.
        lag_seconds=max(0.0, lag.total_seconds()),
        last_seen_at=to_moment(updated_at) if updated_at else None,
        resync_reason=resync_reason,
        connections=connections,
    )


def _moment_or(otherwise: datetime, text: str | None) -> datetime:
    """The instant in the text; `otherwise` if there is none, or it cannot be read (a damaged row)."""
    try:
        return to_moment(text) if text else otherwise
    except (ValueError, TypeError, OverflowError):
        return otherwise
