"""A gateway rejects an event: its entity waits, the rest flows, and an operator decides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from gatecast.client import GatewayClient, GatewayEvent, Reject
from gatecast.testing.doubles.recording_gateway import EAGER
from gatecast.testing.eventually import eventually
from gatecast.testing.operator import Operator, Refused
from gatecast.testing.pods import RunningPod
from gatecast.testing.processes.deployment import Deployment, Site, gateway_address
from gatecast.testing.tcp_proxy import TcpProxy

pytestmark = pytest.mark.acceptance


@dataclass
class _Gateway:
    """Rejects what it is told to; remembers entity and number of what it applied."""

    rejecting: set[str] = field(default_factory=set)
    applied: list[tuple[str, int]] = field(default_factory=list)

    async def handle(self, event: GatewayEvent) -> None:
        entity, number = str(event.payload["entity"]), int(str(event.payload["number"]))
        if entity in self.rejecting:
            raise Reject(f"cannot apply {number}")
        self.applied.append((entity, number))


@dataclass(frozen=True)
class _Scene:
    pods: list[RunningPod]
    operator: Operator
    gateway_id: str
    gateway: _Gateway
    way: TcpProxy
    numbers: list[int]

    async def publish(self, entity: str) -> int:
        """The next event of an entity; its offset."""
        self.numbers.append(len(self.numbers) + 1)
        answer = await self.operator.ask(
            "POST",
            f"/gateways/{self.gateway_id}/events",
            {
                "type": "route.changed",
                "action": "UPDATE",
                "entityType": "Route",
                "entityId": entity,
                "data": {"entity": entity, "number": self.numbers[-1]},
            },
        )
        return int(answer["offset"])

    async def parked(self) -> list[tuple[str, str, int]]:
        """Entity, reason and number of held events."""
        page = await self.operator.ask("GET", f"/gateways/{self.gateway_id}/parked")
        return [(each["entityId"], each["reason"], each["held"]) for each in page["items"]]

    async def decide(self, decision: str, entity: str) -> None:
        """Retry or skip."""
        body = {"entityType": "Route", "entityId": entity}
        await self.operator.ask("POST", f"/gateways/{self.gateway_id}/parked/{decision}", body)

    async def until_applied(self, *expected: tuple[str, int]) -> None:
        """Return when exactly these were applied, in this order."""

        async def reached() -> bool:
            return self.gateway.applied == list(expected)

        try:
            await eventually(reached)
        except TimeoutError:
            raise AssertionError(f"applied {self.gateway.applied}, parked {await self.parked()}") from None


@asynccontextmanager
async def _scene(site: Site) -> AsyncIterator[_Scene]:
    async with Deployment(site) as deployment:
        pods = await deployment.start("one", "two")
        operator = await deployment.operator(pods[1])
        access = await operator.create_gateway("gateway")
        way = await deployment.balancer(pods[0])
        gateway = _Gateway()
        async with GatewayClient(f"https://{way.address}", access.token, ssl=False, options=EAGER) as client:
            running = asyncio.create_task(client.run(gateway.handle))
            try:
                yield _Scene(pods, operator, access.id, gateway, way, [])
            finally:
                running.cancel()
                await asyncio.wait({running})


async def _rejected(scene: _Scene) -> None:
    """Event 1 of route a is rejected; 2 and 4 of it come later, and 3 of route b."""
    scene.gateway.rejecting.add("a")
    await scene.operator.confirmed(scene.gateway_id, await scene.publish("a"))
    assert await scene.parked() == [("a", "cannot apply 1", 0)]
    for entity in ("a", "b", "a"):
        offset = await scene.publish(entity)
    await scene.operator.confirmed(scene.gateway_id, offset)


async def test_a_rejected_event_parks_its_entity_and_a_retry_brings_all_of_it(site: Site) -> None:
    """Also on another pod, where the entity is still parked; the position passes what is held."""
    async with _scene(site) as scene:
        await _rejected(scene)
        await scene.until_applied(("b", 3))
        assert await scene.parked() == [("a", "cannot apply 1", 2)]
        why = await scene.operator.ask("GET", f"/gateways/{scene.gateway_id}/why")
        assert why["code"] == "rejected"
        assert "cannot apply 1" in why["cause"]
        scene.way.retarget(gateway_address(scene.pods[1]))
        await scene.operator.confirmed(scene.gateway_id, await scene.publish("a"))
        assert await scene.parked() == [("a", "cannot apply 1", 3)]
        scene.gateway.rejecting.clear()
        await scene.decide("retry", "a")
        await scene.until_applied(("b", 3), ("a", 1), ("a", 2), ("a", 4), ("a", 5))
        await scene.publish("a")
        await scene.until_applied(("b", 3), ("a", 1), ("a", 2), ("a", 4), ("a", 5), ("a", 6))
        assert await scene.parked() == []
        with pytest.raises(Refused) as refused:
            await scene.decide("retry", "a")
        assert refused.value.status == 404


async def test_a_skipped_event_does_not_come_and_what_was_held_does(site: Site) -> None:
    """In order, behind what has flowed meanwhile."""
    async with _scene(site) as scene:
        await _rejected(scene)
        scene.gateway.rejecting.clear()
        await scene.decide("skip", "a")
        await scene.until_applied(("b", 3), ("a", 2), ("a", 4))
        events = (await scene.operator.ask("GET", f"/gateways/{scene.gateway_id}/events"))["items"]
        kinds = [each["outcome"] and each["outcome"]["kind"] for each in events]
        assert kinds[:4] == ["skipped", "released", None, "released"]


async def test_a_retry_that_is_rejected_again_parks_again(site: Site) -> None:
    """Nothing is lost by trying: the copies are held like any other event."""
    async with _scene(site) as scene:
        await _rejected(scene)
        await scene.decide("retry", "a")

        async def again() -> bool:
            return [(entity, held) for entity, _, held in await scene.parked()] == [("a", 2)]

        await eventually(again)
        scene.gateway.rejecting.clear()
        await scene.decide("retry", "a")
        await scene.until_applied(("b", 3), ("a", 1), ("a", 2), ("a", 4))
