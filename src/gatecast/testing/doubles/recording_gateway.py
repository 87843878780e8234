"""A gateway that speaks `gatecast.v2`, applies everything, and remembers its events and resynchronizations."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self

from gatecast.client import ClientOptions, GatewayClient, GatewayEvent, ReconnectTimes
from gatecast.events import Position
from gatecast.testing.eventually import PATIENCE
from gatecast.waiting import Backoff

#: It does not wait for seconds before it dials again.
EAGER = ClientOptions(
    reconnect=ReconnectTimes(backoff=Backoff(first=0.05, longest=0.5), restart=Backoff(first=0.1, longest=0.2))
)


class RecordingGateway:
    """Acknowledges each event; opened with `async with`. Certificates are not checked."""

    def __init__(self, url: str, token: str, *, options: ClientOptions = EAGER) -> None:
        #: Offset and id of each event, in the order of arrival.
        self.received: list[tuple[int, str]] = []
        #: Each time that it had to read the desired state anew: why, and after which offset it continued.
        self.resyncs: list[tuple[str, int]] = []
        self._client = GatewayClient(url, token, ssl=False, options=options)
        self._task: asyncio.Task[None] | None = None
        self._arrived = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        self._task = asyncio.create_task(
            self._client.run(self._record, on_resync=self._resynchronize), name="recording-gateway"
        )
        return self

    async def __aexit__(self, *exception: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        await self._client.__aexit__(*exception)

    async def until(self, offset: int, *, within: float = PATIENCE) -> None:
        """Return when the event at this offset has arrived.

        Raises:
            TimeoutError: it did not, within `within` seconds; says what did.
        """
        try:
            async with asyncio.timeout(within):
                while not self.received or self.received[-1][0] < offset:
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            raise TimeoutError(f"not within {within} s; the newest events are {self.received[-3:]}") from None

    async def _record(self, event: GatewayEvent) -> None:
        self.received.append((event.position.offset, event.event_id))
        self._arrived.set()

    async def _resynchronize(self, reason: str, position: Position) -> None:
        self.resyncs.append((reason, position.offset))
