"""Gateways as small as they can be: they connect, handle events one after another, and confirm."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from aiohttp import WSMsgType

from gatecast.client.progress import ClientProgress
from gatecast.events import Position
from gatecast.protocol.codec import SEPARATOR
from gatecast.protocol.session import Version
from simulation.history import History
from simulation.network import Frame, Wire

#: A gateway that hears no Ping for this long connects anew, in seconds (gateway-protocol 1.6).
LIVENESS = 35.0


class SimulatedGateway:
    """One gateway: unmodified, or speaking `gatecast.v2`."""

    def __init__(
        self,
        gateway_id: str,
        version: Version,
        *,
        random_source: random.Random,
        history: History,
        dial: Callable[[SimulatedGateway, Position | None], Awaitable[Wire | None]],
    ) -> None:
        self.gateway_id = gateway_id
        self.version = version
        self._random = random_source
        self._history = history
        self._dial = dial
        #: Seconds that handling one event takes, at the most.
        self.pace = 0.01
        #: Unset: it reads nothing, and blocks the writer.
        self.reading = asyncio.Event()
        self.reading.set()
        self.wire: Wire | None = None
        #: The token that it connects with.
        self.token_id = f"token-of-{gateway_id}"
        #: True once the pod has said that the connection is open.
        self.greeted = False
        #: How likely it refuses an event; only a client of `gatecast.v2` can.
        self.reluctance = 0.0
        #: What a client of `gatecast.v2` knows; an unmodified gateway knows nothing.
        self._progress = ClientProgress(None)
        #: What it said of its rejections on this connection.
        self._said: set[int] = set()
        #: When the connection counts as dead.
        self._silent_at = 0.0

    async def run(self) -> None:
        """Connect, speak, and connect again, until cancelled."""
        while True:
            self.greeted = False
            self.wire = await self._dial(self, self._after())
            if self.wire is not None:
                await self._speak(self.wire)
                self.wire.hang_up()
            await asyncio.sleep(self._random.uniform(0.001, 0.5))

    def _after(self) -> Position | None:
        """A client may say where it stands, or rely on what the server stored."""
        relies = not self._progress.rejections and self._random.random() < 0.5
        return None if relies else self._progress.position

    async def _speak(self, wire: Wire) -> None:
        self._said.clear()
        self._heard()
        first = True
        while (frame := await self._next(wire)) is not None:
            if first and not self._is_connection_ack(frame):
                raise AssertionError("S21: the first frame was not connection.ack")
            if not first:
                await self._handle(wire, frame)
            first, self.greeted = False, True

    async def _next(self, wire: Wire) -> Frame | None:
        """The next frame; None when the connection has ended, or fallen silent for too long."""
        await self.reading.wait()
        try:
            async with asyncio.timeout_at(self._silent_at):
                frame = await wire.to_gateway.read()
        except TimeoutError:
            return None
        if frame.type is WSMsgType.PING or self.version is Version.GATECAST_V2:
            self._heard()
        return None if frame.type in (WSMsgType.CLOSE, WSMsgType.CLOSED) else frame

    def _heard(self) -> None:
        self._silent_at = asyncio.get_running_loop().time() + LIVENESS

    @staticmethod
    def _is_connection_ack(frame: Frame) -> bool:
        return frame.type is WSMsgType.TEXT and json.loads(frame.data)["type"] == "connection.ack"

    async def _handle(self, wire: Wire, frame: Frame) -> None:
        try:
            if frame.type is WSMsgType.PING:
                await wire.to_pod.write(Frame(WSMsgType.PONG, frame.data))
            elif frame.type is WSMsgType.PONG:
                # What was refused before the Ping is stored.
                for offset in json.loads(frame.data):
                    self._progress.rejections.pop(offset, None)
            elif frame.type is WSMsgType.TEXT:
                for text in frame.data.split(SEPARATOR):
                    await self._handle_message(wire, json.loads(text))
        except ConnectionResetError:
            return

    async def _handle_message(self, wire: Wire, message: dict[str, Any]) -> None:
        position = Position.parse(message["position"])
        await asyncio.sleep(self._random.uniform(0, self.pace))
        if message["type"] == "resync.required":
            self._history.resynchronized(self.gateway_id, position.epoch, position.offset)
            self._progress.begin_behind(position)
        else:
            self._check_continued(wire, position, message.get("withheld", 0))
            self._take(position, UUID(message["eventId"]), message.get("withheld", 0))
        if self.version is Version.GATECAST_V2:
            await self._answer(wire, position)

    def _check_continued(self, wire: Wire, position: Position, withheld: int) -> None:
        first = wire.taken is None
        behind = (wire.begins_behind if wire.taken is None else wire.taken) + withheld
        self._history.continued(self.gateway_id, position.offset, behind=behind, first=first)
        wire.taken = position.offset

    def _take(self, position: Position, event_id: UUID, withheld: int) -> None:
        """Apply an event, or refuse it; a client of `gatecast.v2` knows what it has had."""
        explicit = self.version is Version.GATECAST_V2
        known = explicit and not self._progress.is_new(position)
        self._history.delivered(
            self.gateway_id, position.epoch, position.offset, event_id, withheld=withheld, known=known
        )
        if known:
            return
        if explicit:
            self._progress.hand_out(position)
        if self._random.random() < self.reluctance:
            self._progress.reject(position, "no")
            self._history.refused(self.gateway_id, position.offset)
        else:
            self._history.applied(self.gateway_id, event_id)

    async def _answer(self, wire: Wire, position: Position) -> None:
        """Rejections first, because an acknowledgement covers them; the Pong to a Ping says that they are stored."""
        self._progress.acknowledge(position)
        refused = sorted(offset for offset in self._progress.rejections if offset <= position.offset)
        refused = [offset for offset in refused if offset not in self._said]
        for offset in refused:
            await self._say(wire, "event.reject", Position(position.epoch, offset), reason="no")
        self._said.update(refused)
        await self._say(wire, "position.ack", position)
        if refused:
            await wire.to_pod.write(Frame(WSMsgType.PING, json.dumps(refused).encode()))

    async def _say(self, wire: Wire, kind: str, position: Position, **fields: str) -> None:
        text = json.dumps({"type": kind, "position": str(position), **fields})
        await wire.to_pod.write(Frame(WSMsgType.TEXT, text))
