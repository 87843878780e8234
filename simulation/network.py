"""Sockets of a simulated world: they take time, fill up, break, and fall silent."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import WSMsgType

#: Frames that one direction holds before its writer has to wait.
_CAPACITY = 40


@dataclass(frozen=True, slots=True)
class Frame:
    """What `aiohttp` hands out for a frame, as far as it is used."""

    type: WSMsgType
    data: Any


_CLOSED = Frame(WSMsgType.CLOSED, None)


class Pipe:
    """One direction of a connection."""

    def __init__(self, random_source: random.Random) -> None:
        self._random = random_source
        self._frames: asyncio.Queue[Frame] = asyncio.Queue(_CAPACITY)
        self._cut = asyncio.Event()
        #: True: what is written vanishes, and nothing says so.
        self.deaf = False

    @property
    def is_cut(self) -> bool:
        """True once the connection is broken."""
        return self._cut.is_set()

    def cut(self) -> None:
        """Break it: what is on its way is lost."""
        self._cut.set()

    async def write(self, frame: Frame) -> None:
        """Send a frame; wait while the other side does not read."""
        if self.deaf:
            return
        if await self._unless_cut(self._frames.put(frame)) is _CLOSED:
            raise ConnectionResetError

    async def read(self) -> Frame:
        """The next frame, after the time that it takes; `CLOSED` when the connection broke."""
        if not self.is_cut:
            await asyncio.sleep(self._random.choice((0.0, 0.0, 0.001, 0.02)))
        frame = await self._unless_cut(self._frames.get())
        return frame if isinstance(frame, Frame) else _CLOSED

    async def _unless_cut(self, work: Any) -> Any:  # noqa: ANN401 - whatever the work returns
        if self.is_cut:
            work.close()
            return _CLOSED
        doing, cutting = asyncio.ensure_future(work), asyncio.ensure_future(self._cut.wait())
        try:
            await asyncio.wait((doing, cutting), return_when=asyncio.FIRST_COMPLETED)
        finally:
            cutting.cancel()
            if not doing.done():
                doing.cancel()
        return doing.result() if doing.done() and not doing.cancelled() and not self.is_cut else _CLOSED


class Wire:
    """A connection between a gateway and a pod; the pod's side looks like a socket of `aiohttp`."""

    def __init__(self, random_source: random.Random, *, on_end: Callable[[Wire], object]) -> None:
        self.to_gateway = Pipe(random_source)
        self.to_pod = Pipe(random_source)
        self._on_end = on_end
        #: Where the pod began to deliver.
        self.begins_behind = 0
        #: Last offset that the gateway took from it.
        self.taken: int | None = None

    @property
    def works(self) -> bool:
        """Whether frames get through."""
        return not (self.to_gateway.is_cut or self.to_gateway.deaf or self.to_pod.deaf)

    # --- faults -------------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Break the connection; both sides notice."""
        self.to_gateway.cut()
        self.to_pod.cut()
        self._on_end(self)

    abort = cut

    def hang_up(self) -> None:
        """The gateway leaves; over a wire that lets nothing through, the pod does not learn of it."""
        if self.to_pod.deaf:
            self.to_gateway.cut()
        else:
            self.cut()

    def deafen(self) -> None:
        """Let nothing through any more; nobody notices by itself."""
        self.to_gateway.deaf = self.to_pod.deaf = True

    # --- the pod's side -----------------------------------------------------------------------------------------

    async def receive(self) -> Frame:
        """The next frame from the gateway."""
        return await self.to_pod.read()

    async def send_str(self, text: str) -> None:
        """Send a text frame."""
        await self.to_gateway.write(Frame(WSMsgType.TEXT, text))

    async def ping(self, payload: bytes) -> None:
        """Send a Ping."""
        await self.to_gateway.write(Frame(WSMsgType.PING, payload))

    async def pong(self, payload: bytes) -> None:
        """Answer a Ping."""
        await self.to_gateway.write(Frame(WSMsgType.PONG, payload))

    async def close(self, *, code: int, message: bytes) -> None:
        """Say goodbye and end; what was written before arrives if the peer reads it in time."""
        _ = message
        await self.to_gateway.write(Frame(WSMsgType.CLOSE, code))
        self.cut()
