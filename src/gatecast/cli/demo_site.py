"""What stays up after the demo: a console that outlives pods, gateways in every state, and changes."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from gatecast.cli.async_remote import AsyncRemote
from gatecast.cli.output import screen
from gatecast.client import GatewayClient
from gatecast.errors import GatecastError
from gatecast.testing.pods import Pods, RunningPod
from gatecast.testing.processes.deployment import address_of, gateway_address
from gatecast.testing.tcp_proxy import TcpProxy
from gatecast.testing.unmodified_gateway import UnmodifiedGateway

#: Seconds between changes, so that a visitor sees activity at once.
_CHANGE_INTERVAL = 5.0

#: How often the site checks that the pod at an address is alive, in seconds.
_LOOK_INTERVAL = 0.2

_PROVIDER = {
    "name": "OpenAI",
    "version": "v1.0",
    "context": "/openai",
    "description": "Made by the demo; its key is not a real one.",
    "template": "openai",
    "upstream": {
        "url": "https://api.openai.com/v1",
        "auth": {"type": "api-key", "header": "Authorization", "value": "Bearer not-a-real-key"},
    },
}


@dataclass(frozen=True, slots=True)
class _Access:
    id: str
    token: str


class DemoSite:
    """Two pods that share one address for people and one for gateways; open it with `async with`."""

    def __init__(self, pods: Pods, living: RunningPod, server: AsyncRemote, admin_token: str) -> None:
        self._pods = pods
        self._living = [living]
        self._server = server
        self._admin_token = admin_token
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._living.append(await self._pods.start("pod-c"))
        first = self._living[0]
        self._console = await self._stack.enter_async_context(TcpProxy(address_of(first.api)))
        self._gateways = await self._stack.enter_async_context(TcpProxy(gateway_address(first)))
        await self._furnish()
        return self

    async def __aexit__(self, *exception: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    # --- gateways in every state --------------------------------------------------------------------------------

    async def _furnish(self) -> None:
        current, behind, rejecting, offline = [
            await self._gateway(name) for name in ("edge-eu-1", "edge-us-1-behind", "edge-us-2-rejects", "edge-ap-1")
        ]
        real = UnmodifiedGateway(self._gateways.address, current.token, follow_artifacts=True)
        await self._stack.enter_async_context(real)
        await self._ask("POST", "/llm-providers", _PROVIDER | {"gateways": [current.id, offline.id]})
        url = f"https://{self._gateways.address}"
        silent = await self._stack.enter_async_context(GatewayClient(url, behind.token, ssl=False))
        picky = await self._stack.enter_async_context(GatewayClient(url, rejecting.token, ssl=False))
        self._begin(_receive(silent), "receive-and-say-nothing")
        self._begin(_reject_first(picky), "reject-one")
        for gateway in (behind, rejecting, offline):
            await self._publish(gateway.id, 1)
        await self._publish(rejecting.id, 2)
        self._begin(self._change(current.id), "change")
        self._begin(self._follow_living_pods(), "follow-living-pods")

    async def _gateway(self, name: str) -> _Access:
        gateway = await self._ask("POST", "/gateways", {"name": name})
        token = await self._ask("POST", f"/gateways/{gateway['id']}/tokens")
        return _Access(gateway["id"], token["token"])

    async def _ask(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        return await self._server.request(method, f"/api/v1{path}", body=body)

    async def _publish(self, gateway_id: str, number: int) -> None:
        event = {"type": "route.changed", "action": "UPDATE", "entityType": "Route", "entityId": "orders"}
        await self._ask("POST", f"/gateways/{gateway_id}/events", event | {"data": {"change": number}})

    def _begin(self, work: Any, name: str) -> None:  # noqa: ANN401 - a coroutine
        self._tasks.append(asyncio.create_task(work, name=name))

    async def _change(self, gateway_id: str) -> None:
        number = 0
        while True:
            await asyncio.sleep(_CHANGE_INTERVAL)
            number += 1
            try:
                await self._publish(gateway_id, number)
            except GatecastError:
                # A visitor has killed the pod that it was sent to.
                continue

    # --- pods that visitors kill --------------------------------------------------------------------------------

    async def _follow_living_pods(self) -> None:
        """Act as the load balancer, and replace pods that have died."""
        replaced = 0
        while True:
            await asyncio.sleep(_LOOK_INTERVAL)
            alive = [pod for pod in self._living if pod.running]
            if len(alive) == len(self._living) or not alive:
                continue
            self._console.retarget(address_of(alive[0].api))
            self._gateways.retarget(gateway_address(alive[0]))
            replaced += 1
            self._living = [*alive, await self._pods.start(f"pod-r{replaced}")]
            screen.print(f"   a pod was killed; [bold]{self._living[-1].name}[/bold] took its place")

    # --- what is printed ----------------------------------------------------------------------------------------

    @property
    def login_link(self) -> str:
        """Where a visitor begins. The token follows the number sign: browsers never send that part."""
        return f"http://{self._console.address}/login#token={self._admin_token}"

    def announce(self) -> None:
        """Print the addresses and commands to try."""
        command = shlex.quote(_own_command())
        export = f"export GATECAST_URL=http://{self._console.address} GATECAST_TOKEN={self._admin_token}"
        lines = (
            ("", ""),
            ("[green]Every event arrived, in order.[/green] The demo stays up; Ctrl-C ends it.", ""),
            ("", ""),
            ("Open the console, logged in", self.login_link),
            ("Why is a gateway behind?", f"{export}\n   {command} why edge-ap-1"),
            ("Publish something", f"{command} publish edge-eu-1 --type route.changed --entity-id orders"),
            ("Kill a pod, and watch the page", f"kill -9 {self._living[0].pid}"),
            ("API documentation", f"http://{self._console.address}/docs"),
            ("Gateways connect to", f"https://{self._gateways.address}"),
        )
        for title, text in lines:
            screen.print(f"[bold]{title}[/bold]" if text else title, soft_wrap=True)
            if text:
                screen.print(f"   {text}", soft_wrap=True, markup=False, highlight=False)


def _own_command() -> str:
    """The command as it can be pasted, even if no environment is activated."""
    beside = Path(sys.executable).with_name("gatecast")
    return os.path.relpath(beside) if beside.exists() else "gatecast"


async def _receive(client: GatewayClient) -> None:
    async for _ in client.events():
        pass


async def _reject_first(client: GatewayClient) -> None:
    first = True
    async for event in client.events():
        if first:
            await client.reject(event, "the route names a backend that this gateway does not know")
            first = False
        else:
            await client.acknowledge(event)
