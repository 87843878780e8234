"""The steps of `gatecast verify`: what it does to an installation, and what it checks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import uuid4

from gatecast.cli.async_remote import AsyncRemote, async_remote
from gatecast.cli.remote import RequestRefused
from gatecast.cli.verify.faults import Fault
from gatecast.cli.verify.findings import Finding, Findings, expect
from gatecast.cli.verify.reachability import check_reachability
from gatecast.cli.verify.safety import Endpoint, check_revocation
from gatecast.cli.verify.temporary import LeftBehind, TemporaryGateways
from gatecast.client import EventPublisher, GatewayClient
from gatecast.errors import GatecastError, PositionLost
from gatecast.events import MAX_PAYLOAD_BYTES, Position
from gatecast.testing.doubles.recording_gateway import RecordingGateway
from gatecast.testing.eventually import eventually
from gatecast.testing.processes.deployment import address_of
from gatecast.testing.processes.load import Load, check_delivery
from gatecast.testing.tcp_proxy import TcpProxy
from gatecast.waiting import Backoff

#: An event that has not arrived within this time counts as lost; in seconds.
_PATIENCE = 60.0

#: Events for each gateway in one step.
_FEW = 10

#: How long a fault lasts, in seconds.
_BROKEN_FOR = 2.0

#: If a pod does not answer, the next one gets the same event id.
_EAGER = Backoff(first=0.01, longest=0.05)


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """The installation to verify."""

    #: Admin API of each pod.
    apis: Sequence[str]
    #: Gateway listener of each pod, in the same order.
    gateways: Sequence[str]
    #: An admin token.
    token: str
    #: Kills the last pod; None: no pod may be killed.
    kill: Callable[[], None] | None = None
    #: Stops the second pod in order, and returns its exit status; None: no pod may be stopped.
    end: Callable[[], Coroutine[Any, Any, int]] | None = None
    #: Further faults to cause.
    faults: Sequence[Fault] = ()
    #: Which clock is wrong, in words; empty: none.
    clocks: str = ""


@dataclass(slots=True)
class _Gateway:
    id: str
    token: str
    balancer: TcpProxy
    recorder: RecordingGateway


@dataclass(slots=True, kw_only=True)
class _Run:
    """One verification: what it created, and what it found."""

    installation: Installation
    servers: Sequence[AsyncRemote]
    publishers: Sequence[EventPublisher]
    temporary: TemporaryGateways
    findings: Findings
    recorders: AsyncExitStack = field(default_factory=AsyncExitStack)
    gateways: list[_Gateway] = field(default_factory=list)

    @property
    def server(self) -> AsyncRemote:
        """The pod that is neither killed nor ended."""
        return self.servers[0]


async def verify_installation(installation: Installation, *, gateways: int, events: int) -> list[Finding]:
    """Check every promise that is visible from outside; delete everything that was created for it.

    Raises:
        RequestRefused: the installation cannot be used at all: wrong address or token.
    """
    async with AsyncExitStack() as stack:
        apis, token = installation.apis, installation.token
        servers = [await stack.enter_async_context(async_remote(api, token)) for api in apis]
        publishers = [await stack.enter_async_context(EventPublisher(api, token, backoff=_EAGER)) for api in apis]
        run = _Run(
            installation=installation,
            servers=servers,
            publishers=publishers,
            temporary=TemporaryGateways(servers),
            findings=Findings(time_limit=4 * _PATIENCE),
        )
        await check_reachability(servers, installation.gateways)
        try:
            await _make_gateways(stack, run, gateways)
            await _verify(run, events)
        except RequestRefused as refusal:
            if left := await _clean_up(run):
                raise LeftBehind(refusal.status, refusal.title, f"{refusal}; not deleted: {', '.join(left)}") from None
            raise
        except BaseException:
            await _clean_up(run)
            raise
        if left := await _clean_up(run):
            await run.findings.check("clean-up: nothing is left behind", lambda: _complain(left))
        return run.findings.items


async def _clean_up(run: _Run) -> list[str]:
    """Delete what was created; return what could not be deleted."""
    # Failures of recorders were reported when they were closed.
    with suppress(GatecastError):
        await run.recorders.aclose()
    return await run.temporary.delete()


async def _complain(left: Sequence[str]) -> str:
    raise AssertionError(f"not deleted: {', '.join(left)}")


async def _make_gateways(stack: AsyncExitStack, run: _Run, count: int) -> None:
    """Temporary gateways, each connected through a proxy that can move it to another pod."""
    listeners = run.installation.gateways
    for number in range(count):
        access = await run.temporary.make()
        listener = listeners[number % len(listeners)]
        balancer = await stack.enter_async_context(TcpProxy(address_of(listener)))
        recorder = RecordingGateway(f"{listener.partition('://')[0]}://{balancer.address}", access.token)
        await run.recorders.enter_async_context(recorder)
        run.gateways.append(_Gateway(access.id, access.token, balancer, recorder))


async def _verify(run: _Run, events: int) -> None:
    load = Load(run.publishers, [gateway.id for gateway in run.gateways])
    check = run.findings.check
    await check("P1 durable: every publish is answered", lambda: _publish_while_things_break(run, load, events))
    await check("P7 isolated: a deaf gateway delays no other", lambda: _deafen(run, load))
    for fault in run.installation.faults:
        await check(f"P10 survivable: {fault.name}", partial(_survive, run, load, fault))
    if clocks := run.installation.clocks:
        await check("P2 ordered: no clock decides", lambda: _disregard_clocks(run, load, clocks))
    # Before a pod ends, so that there is another pod to revoke it through.
    await check("P9 safe: a revoked token closes its connection", lambda: _revoke(run))
    if (end := run.installation.end) is not None:
        await check("P10 survivable: a pod that ends loses nothing", lambda: _end_pod(run, load, end))
    await check("P2 P3 P5 ordered, complete, resumed", lambda: _everything_arrived(run, load))
    await check("P4 confirmed: positions reach the heads", lambda: _positions(run, load))
    # Later checks move the recorders' positions without them.
    await check("P6 honest: no gateway was told that events are missing", lambda: _leave(run))
    await check("P1 a repeated event id is stored once", lambda: _repeat(run))
    await check("P1 what cannot be stored is refused", lambda: _refuse(run))
    await check("P6 honest: a foreign position is not continued", lambda: _foreign_position(run))


async def _publish_while_things_break(run: _Run, load: Load, events: int) -> str:
    total = events * len(run.gateways)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(load.publish(events))
        tasks.create_task(_disturb(run, load, total))
    killed = ", one pod killed" if run.installation.kill is not None else ""
    return f"{total:,} events through {len(run.publishers)} pods; gateways cut off and moved{killed}"


async def _disturb(run: _Run, load: Load, total: int) -> None:
    """Move every gateway at a third, kill a pod at half, cut everybody at two thirds."""
    listeners = [address_of(listener) for listener in run.installation.gateways]
    await load.reached(total // 3)
    for number, gateway in enumerate(run.gateways):
        gateway.balancer.retarget(listeners[(number + 1) % len(listeners)])
    await load.reached(total // 2)
    if run.installation.kill is not None:
        run.installation.kill()
        listeners.pop()
        for number, gateway in enumerate(run.gateways):
            gateway.balancer.retarget(listeners[number % len(listeners)])
    await load.reached(total * 2 // 3)
    for gateway in run.gateways:
        gateway.balancer.cut()
        gateway.balancer.heal()


async def _deafen(run: _Run, load: Load) -> str:
    """The first gateway's wire goes silent while the others get events."""
    deaf, *others = run.gateways
    deaf.balancer.deafen()
    await load.publish(_FEW)
    for gateway in others:
        await gateway.recorder.until(len(load.accepted[gateway.id]), within=_PATIENCE)
    missing = len(load.accepted[deaf.id]) - len({offset for offset, _ in deaf.recorder.received})
    deaf.balancer.cut()
    deaf.balancer.heal()
    await deaf.recorder.until(len(load.accepted[deaf.id]), within=_PATIENCE)
    return f"{len(others)} gateways got everything while one missed {missing} events, which it got afterwards"


async def _survive(run: _Run, load: Load, fault: Fault) -> str:
    """Cause a fault for a while under load."""
    async with asyncio.TaskGroup() as tasks, fault.lasting():
        tasks.create_task(load.publish(_FEW))
        await asyncio.sleep(_BROKEN_FOR)
    await _caught_up(run, load)
    return f"for {_BROKEN_FOR:.0f} s; every accepted event arrived"


async def _disregard_clocks(run: _Run, load: Load, clocks: str) -> str:
    """Publish events one after another, through pods with different clocks."""
    offsets = [await load.publish_once(run.gateways[0].id) for _ in range(_FEW)]
    expect(offsets == sorted(offsets), f"events that were accepted one after another got the offsets {offsets}")
    await _caught_up(run, load)
    return f"{_FEW} events over pods in turn have the order in which they were published; {clocks}"


async def _caught_up(run: _Run, load: Load) -> None:
    for gateway in run.gateways:
        await gateway.recorder.until(len(load.accepted[gateway.id]), within=_PATIENCE)


async def _end_pod(run: _Run, load: Load, end: Callable[[], Coroutine[Any, Any, int]]) -> str:
    """Stop the second pod under load; its gateways move to the first one."""
    first = address_of(run.installation.gateways[0])
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(load.publish(_FEW))
        ended = tasks.create_task(end())
        for gateway in run.gateways:
            gateway.balancer.retarget(first)
    status = ended.result()
    expect(status == 0, f"the pod ended with status {status}")
    await _caught_up(run, load)
    return "every accepted event arrived, and the pod ended by itself"


async def _everything_arrived(run: _Run, load: Load) -> str:
    for gateway in run.gateways:
        accepted = load.accepted[gateway.id]
        await gateway.recorder.until(len(accepted), within=_PATIENCE)
        check_delivery(gateway.recorder.received, accepted, connections=gateway.balancer.accepted)
    return f"each of {len(run.gateways)} gateways got offsets 1, 2, 3 … to the end, each with its own event"


async def _positions(run: _Run, load: Load) -> str:
    for gateway in run.gateways:
        await _confirmed(run, gateway, len(load.accepted[gateway.id]))
    return "every gateway's stored position is its last offset"


async def _confirmed(run: _Run, gateway: _Gateway, offset: int) -> None:
    async def reached() -> bool:
        shown = await run.server.request("GET", f"/api/v1/gateways/{gateway.id}")
        return bool(shown["position"]["confirmed"] == shown["position"]["head"] == offset)

    await eventually(reached, within=_PATIENCE)


async def _repeat(run: _Run) -> str:
    body = {"type": "verify", "action": "UPDATE", "entityType": "verify", "entityId": "1", "eventId": str(uuid4())}
    path = f"/api/v1/gateways/{run.gateways[0].id}/events"
    first, second = [await run.server.request("POST", path, body=body) for _ in range(2)]
    expect(first["offset"] == second["offset"], f"stored at {first['offset']} and again at {second['offset']}")
    return f"both answers say offset {first['offset']}"


async def _refuse(run: _Run) -> str:
    body = {"type": "verify", "action": "UPDATE", "entityType": "verify", "entityId": "1"}
    too_large = {**body, "data": {"text": "x" * (MAX_PAYLOAD_BYTES + 1)}}
    statuses = [
        await _status(run, f"/api/v1/gateways/{run.gateways[0].id}/events", too_large),
        await _status(run, f"/api/v1/gateways/{uuid4()}/events", body),
    ]
    expect(statuses == [413, 404], f"answered {statuses}, not 413 and 404")
    return "too large: 413; unknown gateway: 404"


async def _status(run: _Run, path: str, body: object) -> int:
    try:
        await run.server.request("POST", path, body=body)
    except RequestRefused as refusal:
        return refusal.status
    return 201


async def _foreign_position(run: _Run) -> str:
    gateway = run.gateways[0]
    url = run.installation.gateways[0]
    foreign = Position(uuid4(), 1)
    async with GatewayClient(url, gateway.token, replica="verify", after=foreign, ssl=False) as client:
        try:
            await anext(client.events())
        except PositionLost as lost:
            return f"the client was told to resynchronize ({lost.reason})"
    raise AssertionError("a position of another history was continued")


async def _revoke(run: _Run) -> str:
    installation = run.installation
    endpoints = [
        Endpoint(server=server, gateways=gateways)
        for server, gateways in zip(run.servers, installation.gateways, strict=False)
    ]
    return await check_revocation(endpoints, await run.temporary.make())


async def _leave(run: _Run) -> str:
    """Close every recorder; one that the installation has closed raises."""
    await run.recorders.aclose()
    return f"{len(run.gateways)} gateways were served to the end"
