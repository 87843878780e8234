"""Sockets of a simulated world: they take time, fill up, break, and fall silent."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import WSMsgType

from gatecast.server.gateway_api.frame_socket import SocketHandler

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
        self._frames: deque[Frame] = deque()
        self._moved = asyncio.Event()
        #: Called when it is full, and when there is room again; must not block.
        self.on_full: Callable[[bool], None] = lambda _: None
        self._full = False
        self._cut = False
        #: True: what is written vanishes, and nothing says so.
        self.deaf = False

    @property
    def is_cut(self) -> bool:
        """True once the connection is broken."""
        return self._cut

    def cut(self) -> None:
        """Break it: what is on its way is lost."""
        self._cut = True
        self._full = False
        self._moved.set()

    def send(self, frame: Frame) -> None:
        """Send a frame, whether there is room or not."""
        if not self.deaf and not self.is_cut:
            self._frames.append(frame)
            self._note_change()

    async def write(self, frame: Frame) -> None:
        """Send a frame; wait while the other side does not read."""
        while self._full and not self.deaf:
            await self._change()
        if self.is_cut and not self.deaf:
            raise ConnectionResetError
        self.send(frame)

    async def read(self) -> Frame:
        """The next frame, after the time that it takes; `CLOSED` when the connection broke."""
        if not self.is_cut:
            await asyncio.sleep(self._random.choice((0.0, 0.0, 0.001, 0.02)))
        while not self._frames and not self.is_cut:
            await self._change()
        if self.is_cut:
            return _CLOSED
        frame = self._frames.popleft()
        self._note_change()
        return frame

    def _note_change(self) -> None:
        self._moved.set()
        full = len(self._frames) >= (_CAPACITY // 2 if self._full else _CAPACITY)
        if full != self._full:
            self._full = full
            self.on_full(full)

    async def _change(self) -> None:
        """Something was sent or read, or the wire broke; one side waits at a time, for the pipe is empty or full."""
        self._moved.clear()
        await self._moved.wait()


class Wire:
    """A connection between a gateway and a pod; the pod's side is a socket of the gateway listener."""

    def __init__(self, random_source: random.Random, *, on_end: Callable[[Wire], object]) -> None:
        self.to_gateway = Pipe(random_source)
        self.to_pod = Pipe(random_source)
        self._on_end = on_end
        self._unsent: list[Frame] = []
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

    async def serve(self, handler: SocketHandler) -> None:
        """Hand on what the gateway sends, until the connection breaks."""

        def note(full: bool) -> None:  # noqa: FBT001 - called with nothing else
            (handler.pause_writing if full else handler.resume_writing)()

        self.to_gateway.on_full = note
        try:
            while (frame := await self.to_pod.read()) is not _CLOSED:
                self._hand_on(frame, handler)
        finally:
            self.to_gateway.on_full = lambda _: None

    @staticmethod
    def _hand_on(frame: Frame, handler: SocketHandler) -> None:
        match frame.type:
            case WSMsgType.TEXT:
                handler.received_text(frame.data)
            case WSMsgType.PING:
                handler.received_ping(frame.data)
            case WSMsgType.PONG:
                handler.received_pong(frame.data)
            case _:
                handler.received_binary()

    def send_text(self, text: str) -> None:
        """Put a text frame into the next write."""
        self._unsent.append(Frame(WSMsgType.TEXT, text))

    def send_ping(self, payload: bytes) -> None:
        """Put a Ping into the next write."""
        self._unsent.append(Frame(WSMsgType.PING, payload))

    def send_pong(self, payload: bytes) -> None:
        """Put the answer to a Ping into the next write."""
        self._unsent.append(Frame(WSMsgType.PONG, payload))

    def flush(self) -> None:
        """Write everything; over a wire that lets nothing through nobody says that it went nowhere."""
        if self.to_gateway.is_cut and not self.to_gateway.deaf:
            raise ConnectionResetError
        unsent, self._unsent = self._unsent, []
        for frame in unsent:
            self.to_gateway.send(frame)

    def close(self, code: int, reason: str) -> None:
        """Say goodbye and end; what was written before arrives if the peer reads it in time."""
        _ = reason
        self._unsent.append(Frame(WSMsgType.CLOSE, code))
        if not self.to_gateway.is_cut:
            self.flush()
        self.cut()
