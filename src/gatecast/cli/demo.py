"""`gatecast demo`: two pods, one gateway, one killed pod; nothing is lost, and each step is printed as it happens."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime
from secrets import token_urlsafe
from typing import Annotated, Any
from uuid import uuid4

import typer

from gatecast.cli.async_remote import AsyncRemote, async_remote
from gatecast.cli.databases import temporary_database
from gatecast.cli.demo_site import DemoSite
from gatecast.cli.output import screen
from gatecast.cli.sites import NATS_EMBEDDED, nats_site, prepare_site
from gatecast.client import GatewayClient
from gatecast.errors import GatecastError
from gatecast.storage.database_url import parse
from gatecast.testing.eventually import eventually
from gatecast.testing.pods import Pods, RunningPod
from gatecast.testing.processes.deployment import Site, gateway_address
from gatecast.testing.processes.pod_template import shared_template
from gatecast.testing.tcp_proxy import TcpProxy

#: Longest wait for any step of the demo, also on a slow machine; in seconds.
_PATIENCE = 60.0


def demo(
    *,
    database: Annotated[
        str,
        typer.Option(help="sqlite (default), postgresql+embedded, nats+embedded, or the URL of an empty database."),
    ] = "sqlite",
    once: Annotated[
        bool, typer.Option("--once", help="End after the demonstration instead of keeping the pods running.")
    ] = False,
) -> None:
    """Watch an event travel from one pod through another to a gateway, and survive the death of a pod."""
    with suppress(KeyboardInterrupt):
        asyncio.run(_until_told(_demo(database, once=once)))


async def _until_told(work: Coroutine[Any, Any, None]) -> None:
    """Run the work until it is done, or until a signal stops it: then everything that was started ends in order."""
    task = asyncio.ensure_future(work)
    told = False

    def stop() -> None:
        nonlocal told
        told = True
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not told:
            raise


async def _demo(database: str, *, once: bool) -> None:
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(_site(database))
        admin_token = token_urlsafe(24)
        screen.print(f"Starting two pods on [bold]{_name(site)}[/bold] …")
        # Forks of one process, which imports everything once; in another thread, so that signals are handled meanwhile.
        command = await asyncio.to_thread(shared_template)
        pods = Pods(site.database, outbox=site.outbox, admin_token=admin_token, command=command)
        await stack.enter_async_context(pods)
        await prepare_site(site)
        pod_a, pod_b = await pods.start("pod-a"), await pods.start("pod-b")
        server = await stack.enter_async_context(async_remote(pod_a.api, admin_token))
        balancer = await stack.enter_async_context(TcpProxy(gateway_address(pod_b)))
        show = _Show(server, balancer)
        await show.run(pod_a, pod_b)
        if once:
            screen.print("\n[green]Done:[/green] every event arrived, in order, exactly as it was published.")
        else:
            shown = DemoSite(pods, pod_a, server, admin_token)
            async with shown:
                shown.announce()
                await asyncio.Event().wait()


@asynccontextmanager
async def _site(database: str) -> AsyncIterator[Site]:
    """The storage of the pods: three NATS servers and a file, or any database."""
    async with AsyncExitStack() as stack:
        if database == NATS_EMBEDDED:
            yield stack.enter_context(nats_site()).site
        else:
            yield Site(database=await stack.enter_async_context(temporary_database(database)))


def _name(site: Site) -> str:
    return "three NATS servers, with SQLite as the outbox" if site.outbox else str(parse(site.database).backend)


class _Show:
    """Runs and prints the steps of the demo, and checks the events on the way."""

    def __init__(self, server: AsyncRemote, balancer: TcpProxy) -> None:
        self._server = server
        self._balancer = balancer
        #: When each change was recorded, in seconds since 1970; set once its publish was printed.
        self._recorded_at: defaultdict[int, asyncio.Future[float]] = defaultdict(
            asyncio.get_running_loop().create_future
        )
        self._count = 0
        self._received: list[int] = []
        self._arrived = asyncio.Condition()
        self.gateway_id = ""
        self.token = ""

    async def run(self, pod_a: RunningPod, pod_b: RunningPod) -> None:
        """The whole show.

        Raises:
            GatecastError: an event did not arrive, or arrived in the wrong order.
        """
        await self._make_gateway()
        url = f"https://{self._balancer.address}"
        async with GatewayClient(url, self.token, ssl=False) as gateway:
            receiving = asyncio.create_task(self._receive(gateway))
            try:
                await self._connected_to("pod-b")
                _title(1, "The gateway is connected to [cyan]pod B[/cyan]; publish on [magenta]pod A[/magenta].")
                await self._publish_and_wait(3)
                await self._lose_pod(pod_a, pod_b)
                _title(3, "The gateway is back, on [magenta]pod A[/magenta], and continues where it was.")
                await self._arrived_through(6)
                await self._publish_and_wait(2)
                await self._confirmed(8)
                self._check(8)
            finally:
                receiving.cancel()
                await asyncio.gather(receiving, return_exceptions=True)

    async def _lose_pod(self, pod_a: RunningPod, pod_b: RunningPod) -> None:
        _title(2, "[red]kill -9[/red] of [cyan]pod B[/cyan]; publish while the gateway is cut off.")
        pod_b.kill()
        await pod_b.ended()
        for number in range(4, 7):
            await self._publish(number)
        # As a load balancer does once it notices.
        self._balancer.retarget(gateway_address(pod_a))

    async def _make_gateway(self) -> None:
        gateway = await self._server.request("POST", "/api/v1/gateways", body={"name": "demo-gateway"})
        token = await self._server.request("POST", f"/api/v1/gateways/{gateway['id']}/tokens")
        self.gateway_id, self.token = gateway["id"], token["token"]

    async def _publish_and_wait(self, count: int) -> None:
        for number in range(self._count + 1, self._count + 1 + count):
            await self._publish(number)
            await self._arrived_through(number)

    async def _publish(self, number: int) -> None:
        body = {
            "type": "route.changed",
            "action": "UPDATE",
            "entityType": "Route",
            "entityId": "orders",
            "data": {"change": number},
        }
        begun_at = time.perf_counter()
        answer = await self._stored(body)
        milliseconds = (time.perf_counter() - begun_at) * 1000
        screen.print(f"   published on [magenta]pod A[/magenta]   offset {answer['offset']}   in {milliseconds:.1f} ms")
        path = f"/api/v1/gateways/{self.gateway_id}/events?after={answer['offset'] - 1}&limit=1"
        [event] = (await self._server.request("GET", path))["items"]
        self._count = number
        self._recorded_at[number].set_result(datetime.fromisoformat(event["recordedAt"]).timestamp())

    async def _stored(self, body: dict[str, Any]) -> dict[str, Any]:
        """The answer with the offset; an event in the outbox has none yet, and publishing the same id asks for it."""
        event = {**body, "eventId": str(uuid4())}
        while True:
            answer: dict[str, Any] = await self._server.request(
                "POST", f"/api/v1/gateways/{self.gateway_id}/events", body=event
            )
            if answer["offset"] is not None:
                return answer

    async def _receive(self, gateway: GatewayClient) -> None:
        async for event in gateway.events():
            number, received_at = event.position.offset, time.time()
            await gateway.acknowledge(event)
            # Print the publish first, although the gateway may have the event before the publisher has its answer.
            milliseconds = (received_at - await self._recorded_at[number]) * 1000
            screen.print(
                f"   [green]received by gateway[/green]  offset {number}   {milliseconds:.1f} ms after the commit"
            )
            async with self._arrived:
                self._received.append(number)
                self._arrived.notify_all()

    async def _arrived_through(self, offset: int) -> None:
        async with asyncio.timeout(_PATIENCE), self._arrived:
            await self._arrived.wait_for(lambda: offset in self._received)

    async def _connected_to(self, pod_id: str) -> None:
        await self._until(lambda gateway: any(each["podId"] == pod_id for each in gateway["connections"]))

    async def _confirmed(self, offset: int) -> None:
        gateway = await self._until(lambda gateway: gateway["position"]["confirmed"] >= offset)
        screen.print(f"   confirmed up to offset {gateway['position']['confirmed']}, lag {gateway['lag']}")

    async def _until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        gateway: dict[str, Any] = {}

        async def holds() -> bool:
            nonlocal gateway
            gateway = await self._server.request("GET", f"/api/v1/gateways/{self.gateway_id}")
            return condition(gateway)

        await eventually(holds, within=_PATIENCE)
        return gateway

    def _check(self, count: int) -> None:
        if self._received != list(range(1, count + 1)):
            raise _ShowFailed(self._received)


def _title(number: int, text: str) -> None:
    screen.print(f"\n[bold]{number}.[/bold] {text}")


class _ShowFailed(GatecastError):
    """An event did not arrive, or not in order."""

    def __init__(self, received: list[int]) -> None:
        super().__init__(received)
        #: The offsets in the order in which they arrived.
        self.received = received

    def __str__(self) -> str:
        return f"the gateway received offsets {self.received}, not 1, 2, 3 … in order"
