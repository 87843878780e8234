"""Two processes on one database: one publishes, the other receives, in order and without a gap.

    pip install gatecast
    python two_pods.py receive &      # resumes after what it acknowledged, however often it is started
    python two_pods.py publish 3

GATECAST_DATABASE names the database; without it both use a file in this folder.
"""

import asyncio
import os
import sys

from gatecast import Action, Event, EventHub

DATABASE = os.environ.get("GATECAST_DATABASE", "sqlite:///two-pods.db")
GATEWAY = "gateway-1"


async def publish(count: int) -> None:
    """Publish so many changes."""
    async with EventHub.open(DATABASE) as hub:
        await hub.register_gateway(GATEWAY)
        for number in range(count):
            event = Event(
                gateway_id=GATEWAY,
                type="route.changed",
                action=Action.UPDATE,
                entity_type="Route",
                entity_id="route-7",
                data={"path": f"/orders/v{number + 1}"},
            )
            position = await hub.publish(event)
            print("published at offset", position.offset, flush=True)


async def receive(limit: int) -> None:
    """Print what arrives, until so many events have arrived; 0: for ever."""
    async with EventHub.open(DATABASE) as hub:
        await hub.register_gateway(GATEWAY)
        async with hub.subscribe(GATEWAY) as subscription:
            seen = 0
            async for event in subscription:
                print("received", event.offset, event.data["path"], flush=True)
                subscription.acknowledge(event)
                seen += 1
                if seen == limit:
                    return


if __name__ == "__main__":
    what, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0
    asyncio.run(publish(count or 1) if what == "publish" else receive(count))
