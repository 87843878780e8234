"""Pods, leases, connections and positions on a stream."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TypeAlias
from uuid import UUID, uuid4

from gatecast.containment import contained
from gatecast.errors import StorageUnavailable
from gatecast.events import Position
from gatecast.storage.contract import (
    Connection,
    DisconnectReason,
    GatewayStatus,
    LiveConnection,
    LivePod,
    PositionState,
    Progress,
)
from gatecast.storage.jetstream.documents import Pod, moment
from gatecast.storage.jetstream.gateways import Gateway, Gateways
from gatecast.storage.jetstream.repeating import repeated
from gatecast.storage.jetstream.state import StoredConnection, dismiss
from gatecast.storage.jetstream.stream import Message, Stream, Write
from gatecast.storage.jetstream.transactions import refuse
from gatecast.waiting import together

#: A pod and its connections are forgotten this many seconds after its lease has expired.
_FORGET_AFTER = 600.0


#: Changes the connections that a gateway has to some pods.
_Work: TypeAlias = Callable[[Gateway, list[StoredConnection], float], None]


class JetStreamPresence:
    """`gatecast.storage.contract.Presence` on a stream."""

    def __init__(self, stream: Stream, gateways: Gateways) -> None:
        self._stream = stream
        self._gateways = gateways

    # --- pods ---------------------------------------------------------------------------------------------------

    async def renew_lease(self, pod_id: str, duration: timedelta) -> UUID:
        """The pod's incarnation, once its lease lasts for `duration` from now; releases what dead pods held back."""
        pod, returned = await repeated(partial(self._renew, pod_id, duration.total_seconds()))
        if returned:
            # While its lease had expired, its connections did not count, so positions did not move for them.
            await self._change_at({pod_id}, _take_back)
        await self._release_dead(pod_id)
        return UUID(pod.incarnation)

    async def _renew(self, pod_id: str, seconds: float) -> tuple[Pod, bool]:
        subject, now = self._stream.subjects.pod(pod_id), (await self._stream.info()).now
        found = await self._stream.newest([subject])
        known = Pod.decode(found[subject].data) if subject in found else None
        pod = known or Pod(pod_id=pod_id, incarnation=str(uuid4()), lease_until=0.0)
        pod = replace(pod, lease_until=now + seconds)
        expected = found[subject].sequence if subject in found else 0
        await self._stream.write(Write(subject=subject, data=pod.encode(), expect=expected))
        return pod, known is not None and known.lease_until <= now

    async def _release_dead(self, alive: str) -> None:
        """Release the connections of pods whose leases have expired, and forget pods that are gone for long."""
        now = await self._stream.now()
        dead = {pod.pod_id: pod for pod in await self._pods() if pod.pod_id != alive and pod.lease_until <= now}
        if not dead:
            return
        await self._change_at(dead, _release)
        gone = {name: pod for name, pod in dead.items() if pod.lease_until < now - _FORGET_AFTER}
        if gone:
            await self._forget(gone)

    async def _forget(self, gone: dict[str, Pod]) -> None:
        await self._change_at(
            gone, lambda gateway, ended, _: gateway.state.remove([one.connection_id for one in ended])
        )
        for pod_id, pod in gone.items():
            subject = self._stream.subjects.pod(pod_id)
            found = await self._stream.newest([subject])
            # Unless the pod has come back meanwhile.
            if subject in found and Pod.decode(found[subject].data) == pod:
                await self._stream.purge(subject, before=found[subject].sequence + 1)

    async def _change_at(self, pods: Collection[str], work: _Work) -> None:
        """Do the same to the connections that each gateway has to these pods."""
        named = [await self._gateways.named_in(self._stream.subjects.seats_of_pod(pod_id)) for pod_id in pods]
        await self._change_of([name for names in named for name in names], pods, work)

    async def _change_of(self, gateway_ids: Sequence[str], pods: Collection[str], work: _Work) -> None:
        now = await self._stream.now()

        def change(gateway: Gateway) -> None:
            if at_them := gateway.state.at(pods):
                work(gateway, at_them, now)

        await self._gateways.change_readable(gateway_ids, change)

    async def end_lease(self, pod_id: str) -> None:
        """Remove a pod that shuts down, and its connections."""
        await self._change_at({pod_id}, _end)
        await self._stream.purge(self._stream.subjects.pod(pod_id))
        await self._stream.purge(self._stream.subjects.calls(pod_id))

    async def describe_pod(self, pod_id: str, version: str) -> None:
        """Record that a pod starts now, and which release it runs."""
        await repeated(partial(self._describe, pod_id, version))

    async def _describe(self, pod_id: str, version: str) -> None:
        subject = self._stream.subjects.pod(pod_id)
        found = (await self._stream.newest([subject])).get(subject)
        if found is not None:
            pod = replace(Pod.decode(found.data), version=version, started_at=await self._stream.now())
            await self._stream.write(Write(subject=subject, data=pod.encode(), expect=found.sequence))

    async def pods(self) -> list[LivePod]:
        """The pods whose leases have not expired, by id."""
        now = await self._stream.now()
        alive = [pod for pod in await self._pods() if pod.lease_until > now]
        return [
            LivePod(
                pod_id=pod.pod_id,
                lease_seconds=pod.lease_until - now,
                version=pod.version,
                started_at=moment(pod.started_at) if pod.started_at is not None else None,
            )
            for pod in sorted(alive, key=lambda pod: pod.pod_id)
        ]

    async def _pods(self) -> list[Pod]:
        return Pod.readable(await self._stream.matching(self._stream.subjects.pods))

    # --- connections --------------------------------------------------------------------------------------------

    async def standing(self, gateway_id: str, replica: str) -> PositionState:
        """The state of the gateway's log and of the replica's stored position."""
        gateway = (await self._gateways.find([gateway_id]))[gateway_id]
        log, position = gateway.log, gateway.state.positions.get(replica)
        return PositionState(
            epoch=gateway.epoch,
            head=log.head,
            low_water_mark=gateway.low_water_mark,
            confirmed=Position(UUID(position.epoch), position.confirmed) if position is not None else None,
            resync_reason=position.resync_reason if position is not None else None,
            registered_in=UUID(log.registered_in),
        )

    async def connect(
        self,
        connection: Connection,
        *,
        start: Position,
        resync_reason: str | None = None,
        newest_only: bool = False,
    ) -> None:
        """Record a connection; the position moves to `start`, unless another live connection of it is slower."""
        now = await self._stream.now()
        await repeated(partial(self._make_known, connection.pod_id))

        def work(gateway: Gateway) -> None:
            if gateway.log.head < start.offset or gateway.epoch != start.epoch:
                raise StorageUnavailable("the position that it may resume from has just changed")
            gateway.state.connect(connection, start, resync_reason=resync_reason, newest_only=newest_only, now=now)

        await self._gateways.change(connection.gateway_id, work)

    async def _make_known(self, pod_id: str) -> None:
        """Store a pod that was forgotten as one whose lease has expired, so that others find its connections."""
        subject = self._stream.subjects.pod(pod_id)
        if subject in await self._stream.newest([subject]):
            return
        expired = Pod(pod_id=pod_id, incarnation=str(uuid4()), lease_until=await self._stream.now())
        await self._stream.write(Write(subject=subject, data=expired.encode(), expect=0))

    async def record_progress(self, progress: Sequence[Progress]) -> None:
        """Store the progress of connections, and move their positions."""
        now, by_gateway = await self._stream.now(), _by_gateway(progress)

        def work(gateway: Gateway) -> None:
            those = by_gateway[gateway.gateway_id]
            gateway.state.note(those, gateway.epoch)
            gateway.state.advance([one.replica for one in those], gateway.epoch, now)

        await self._gateways.change_each(by_gateway, work)

    async def disconnect(self, progress: Sequence[Progress]) -> None:
        """Store the last progress of connections, and remove them.

        The write that records one of them may still be on its way, long after it was given up.
        """
        now, by_gateway = await self._stream.now(), _by_gateway(progress)

        def work(gateway: Gateway) -> None:
            gateway.state.end(by_gateway[gateway.gateway_id], gateway.epoch, gateway.end, now)

        def lacks_one(gateway: Gateway) -> bool:
            known = {each.connection_id for each in gateway.state.connections}
            return gateway.head is not None and any(
                one.connection_id not in known for one in by_gateway[gateway.gateway_id]
            )

        await self._gateways.change_each(by_gateway, work, fences=lacks_one)

    async def pending_disconnects(self, pod_id: str) -> dict[str, DisconnectReason]:
        """The reasons why connections of this pod, which lives, must be closed, by connection id."""
        found = await self._gateways.find_readable(await self._gateways.named_in(self._stream.subjects.calls(pod_id)))
        called = [(gateway.gateway_id, each) for gateway in found for each in gateway.state.at({pod_id})]
        if released := [name for name, each in called if each.released]:
            # 1 another pod saw that the lease had expired, 2 this one renewed it, 3 that pod released them.
            # Repeated with the next call; until then no connection may outlive what ends it (promise P9).
            with contained("connections-not-taken-back"):
                await self._change_of(released, {pod_id}, _take_back)
        return {
            each.connection_id: DisconnectReason.read(each.dismissal)
            for _, each in called
            if each.dismissal is not None
        }

    async def disconnect_connection(self, gateway_id: str, connection_id: str) -> bool:
        """Ask the pod to close one connection; False if there is none, or it must disconnect already."""

        def work(gateway: Gateway) -> bool:
            those = [each for each in gateway.state.connections if each.connection_id == connection_id]
            those = [each for each in those if each.dismissal is None]
            dismiss(those, DisconnectReason.RESTARTING)
            return bool(those)

        return await self._gateways.change(gateway_id, work)

    async def disconnect_token(self, token_id: str, *, transaction: object | None = None) -> int:
        """How many connections use this token; their pods are asked to close them."""
        refuse(transaction)

        def work(gateway: Gateway) -> int:
            those = [each for each in gateway.state.connections if each.token_id == token_id]
            for each in those:
                each.dismissal = DisconnectReason.TOKEN_REVOKED.value
            return len(those)

        named = await self._gateways.named_in(self._stream.subjects.seats_of_token(token_id))
        return sum(await self._gateways.change_readable(named, work))

    async def resynchronized(
        self, gateway_id: str, replica: str, reason: str, *, connection_id: str | None = None
    ) -> None:
        """Record that the replica has read the desired state again, for this reason."""
        await self._gateways.change(
            gateway_id, lambda gateway: gateway.state.resynchronized(replica, reason, connection_id)
        )

    async def hint(self, gateway_ids: Sequence[str]) -> None:
        """Do nothing: pods send these hints to each other."""

    # --- status -------------------------------------------------------------------------------------------------

    async def status(
        self, gateway_ids: Sequence[str], *, transaction: object | None = None
    ) -> dict[str, GatewayStatus]:
        """The delivery status of each registered gateway among these."""
        refuse(transaction)
        now = await self._stream.now()
        found = (await self._gateways.find(gateway_ids)).values()
        registered = [gateway for gateway in found if gateway.head is not None]
        alive = {pod.pod_id for pod in await self._pods() if pod.lease_until > now}
        oldest = await self.oldest_unconfirmed(registered)
        return {
            gateway.gateway_id: _status(gateway, alive, oldest.get(gateway.gateway_id), now) for gateway in registered
        }

    async def oldest_unconfirmed(self, gateways: Sequence[Gateway]) -> dict[str, Message]:
        """The message of the oldest event that each gateway has not confirmed, if there is one."""
        subjects = self._stream.subjects

        async def one(gateway: Gateway) -> list[Message]:
            after = max(gateway.confirmed, gateway.low_water_mark)
            if after >= gateway.log.head:
                return []
            subject = subjects.event(gateway.gateway_id, gateway.log.log, after + 1)
            # Not from a replica that lags: its answer would be that nothing waits.
            return list((await self._stream.newest([subject])).values())

        found = await together(map(one, gateways))
        return {gateway.gateway_id: each[0] for gateway, each in zip(gateways, found, strict=True) if each}


def _by_gateway(progress: Sequence[Progress]) -> dict[str, list[Progress]]:
    found: dict[str, list[Progress]] = {}
    for one in progress:
        found.setdefault(one.gateway_id, []).append(one)
    return found


def live_connections(gateway: Gateway, alive: set[str]) -> list[StoredConnection]:
    """The connections to pods that live, unless they must disconnect."""
    live = [each for each in gateway.state.at(alive) if each.dismissal is None]
    return sorted(live, key=lambda each: (each.connected_at, each.connection_id))


def _status(gateway: Gateway, alive: set[str], oldest: Message | None, now: float) -> GatewayStatus:
    epoch, seen = str(gateway.epoch), gateway.last_seen
    return GatewayStatus(
        gateway_id=gateway.gateway_id,
        epoch=gateway.epoch,
        head=gateway.log.head,
        low_water_mark=gateway.low_water_mark,
        sent=max((each.sent for each in gateway.state.positions.values() if each.epoch == epoch), default=0),
        confirmed=gateway.confirmed,
        lag_seconds=max(0.0, now - oldest.stored_at.timestamp()) if oldest is not None else 0.0,
        last_seen_at=moment(seen) if seen is not None else None,
        resync_reason=gateway.resync_reason,
        connections=[_live(each) for each in live_connections(gateway, alive)],
    )


def _live(connection: StoredConnection) -> LiveConnection:
    return LiveConnection(
        connection_id=connection.connection_id,
        pod_id=connection.pod_id,
        replica=connection.replica,
        protocol=connection.protocol,
        remote=connection.remote,
        connected_at=moment(connection.connected_at),
        sent=connection.sent,
        confirmed=connection.confirmed,
    )


def _release(gateway: Gateway, ended: list[StoredConnection], now: float) -> None:
    if those := [each for each in ended if not each.released]:
        gateway.state.release(those, gateway.epoch, gateway.end, now)


def _end(gateway: Gateway, ended: list[StoredConnection], now: float) -> None:
    gateway.state.release(ended, gateway.epoch, gateway.end, now)
    gateway.state.remove([each.connection_id for each in ended])


def _take_back(gateway: Gateway, returned: list[StoredConnection], now: float) -> None:
    for each in returned:
        each.released = False
    gateway.state.advance([each.replica for each in returned], gateway.epoch, now)
