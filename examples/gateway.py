"""A gateway of your own: applies what it receives, rejects what it cannot apply, and resumes where it stopped.

    pip install "gatecast[client]"
    export GATEWAY_URL=https://127.0.0.1:9243 GATEWAY_TOKEN=…    # from `gatecast token create`
    python gateway.py

Its routes are in a file, with the position up to which they are current: after a restart it continues there. What comes
again, because the program ended in between, is applied again, which changes nothing.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from gatecast import Position
from gatecast.client import GatewayClient, GatewayEvent, Reject

STATE = Path(os.environ.get("STATE", "gateway-state.json"))


class Gateway:
    """The routes that it serves."""

    def __init__(self) -> None:
        stored = json.loads(STATE.read_text()) if STATE.exists() else {"routes": {}, "position": None}
        self.routes: dict[str, str] = stored["routes"]
        self.position = Position.parse(stored["position"]) if stored["position"] else None

    def apply(self, event: GatewayEvent) -> None:
        """Apply one event; what is raised as `Reject` is shown to the operator, who decides about it."""
        if event.type == "route.changed":
            if not str(event.payload.get("path", "")).startswith("/"):
                raise Reject("a path begins with /")
            self.routes[str(event.payload["id"])] = str(event.payload["path"])
        print("serves", self.routes, flush=True)

    async def read_everything_again(self, reason: str, position: Position) -> None:
        """The position cannot be resumed, for example after a restored backup: begin with what is wanted now."""
        print("reading the desired state again:", reason, position, flush=True)
        self.routes = {}  # Yours asks the control plane here.

    def keep(self, position: Position | None) -> None:
        """Store the routes, and where to resume; never one without the other."""
        written = STATE.with_suffix(".new")
        written.write_text(json.dumps({"routes": self.routes, "position": str(position) if position else None}))
        written.replace(STATE)


async def main(limit: int) -> None:
    """Run until so many events were handled; 0: for ever."""
    gateway = Gateway()
    url, token = os.environ["GATEWAY_URL"], os.environ["GATEWAY_TOKEN"]
    # `ssl=False` accepts the self-signed certificate of a pod; leave it out with a real one.
    async with GatewayClient(url, token, after=gateway.position, ssl=False) as client:
        handled = 0
        async for event in client.events(on_resync=gateway.read_everything_again):
            try:
                gateway.apply(event)
            except Reject as refusal:
                print("rejected:", refusal, flush=True)
                await client.reject(event, str(refusal))
            else:
                await client.acknowledge(event)
            gateway.keep(client.position)
            handled += 1
            if handled == limit:
                return


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
