"""Wires in memory, for the protocols that asyncio and aiohttp speak: they take time, break, and fall silent."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import aiohttp
from aiohttp.client_proto import ResponseHandler

#: Makes the protocol of a new connection, once there is a place for it.
Accept: TypeAlias = Callable[[], Awaitable[asyncio.Protocol]]

#: Seconds that a piece of data may be on its way.
_DELAYS = (0.0, 0.0, 0.0, 0.001, 0.02)


class MemoryTransport(asyncio.Transport):
    """One end of a wire; the other end is its `peer`."""

    def __init__(self, network: Network, protocol: asyncio.Protocol, extra: dict[str, Any]) -> None:
        super().__init__(extra)
        self._network = network
        self._protocol: asyncio.BaseProtocol = protocol
        self._loop = asyncio.get_running_loop()
        #: What is on its way to this end, with the time at which it arrives; None ends it.
        self._arriving: deque[tuple[float, bytes | None]] = deque()
        self._due: asyncio.TimerHandle | None = None
        self._reading = True
        self._closing = False
        self._lost = False
        self.peer: MemoryTransport = self

    # --- what protocols call --------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send data; it arrives in order, after the time that it takes."""
        if not self._closing and data:
            self.peer.arrive(bytes(data))

    def close(self) -> None:
        """Hang up after what was written."""
        if not self._closing:
            self._closing = True
            self.peer.arrive(None)
            self._loop.call_soon(self._end, None)

    def abort(self) -> None:
        """Break the wire at once: what is on its way is lost."""
        self.lose(None)
        self.peer.lose(ConnectionResetError("the wire broke"))

    def is_closing(self) -> bool:
        """Whether this end has hung up, or the wire is broken."""
        return self._closing

    def can_write_eof(self) -> bool:
        """No: there are no half-closed wires."""
        return False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Let another protocol have what arrives."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol that gets what arrives."""
        return self._protocol

    def is_reading(self) -> bool:
        """Whether what arrives is handed on."""
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        """Keep what arrives."""
        self._reading = False

    def resume_reading(self) -> None:
        """Hand on what has arrived."""
        self._reading = True
        self._schedule()

    def get_write_buffer_size(self) -> int:
        """Nothing waits at this end: the wire holds everything."""
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing to limit."""

    # --- how it arrives -------------------------------------------------------------------------------------------

    def arrive(self, data: bytes | None) -> None:
        """Put data on its way to this end."""
        if self._network.is_silent(self):
            return
        earliest = self._arriving[-1][0] if self._arriving else 0.0
        self._arriving.append((max(earliest, self._loop.time() + self._network.delay()), data))
        self._schedule()

    def _schedule(self) -> None:
        if self._arriving and self._reading and self._due is None and not self._lost:
            self._due = self._loop.call_at(self._arriving[0][0], self._hand_on)

    def _hand_on(self) -> None:
        self._due = None
        if self._lost or not self._reading:
            return
        _, data = self._arriving.popleft()
        if data is None:
            self._closing = True
            self._end(None)
            return
        assert isinstance(self._protocol, asyncio.Protocol)
        self._protocol.data_received(data)
        self._schedule()

    def lose(self, error: Exception | None) -> None:
        """Let the protocol learn in its next turn that the wire is broken."""
        self._closing = True
        self._loop.call_soon(self._end, error)

    def _end(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = True
        self._arriving.clear()
        self._network.forget(self)
        self._protocol.connection_lost(error)


class Network:
    """Listeners by name, and the ways that lead to them."""

    def __init__(self, random_source: random.Random) -> None:
        self._random = random_source
        self._listeners: dict[str, Accept] = {}
        #: Which listener each way leads to.
        self.ways: dict[str, str] = {}
        # Dictionaries, because they keep their order: a seed must repeat exactly.
        self._ends: dict[MemoryTransport, str] = {}
        self._silent: dict[MemoryTransport, None] = {}

    def listen(self, name: str, accept: Accept) -> None:
        """Let this make the protocol of each connection to a listener."""
        self._listeners[name] = accept

    def close(self, name: str) -> None:
        """Refuse new connections."""
        self._listeners.pop(name, None)

    def cut(self, name: str) -> None:
        """Break every wire that goes by this way, or ends at this listener."""
        for end in [end for end, where in self._ends.items() if where == name]:
            end.abort()

    def silence(self, name: str) -> None:
        """Let nothing through any more on these wires; nobody notices by itself."""
        for end in [end for end, where in self._ends.items() if where == name]:
            self._silent |= dict.fromkeys((end, end.peer))

    def cut_silent(self) -> None:
        """Break the wires that let nothing through."""
        for end in list(self._silent):
            end.abort()

    def delay(self) -> float:
        """How long a piece of data takes; in seconds."""
        return self._random.choice(_DELAYS)

    def is_silent(self, end: MemoryTransport) -> bool:
        """Whether nothing arrives at this end."""
        return end in self._silent

    def forget(self, end: MemoryTransport) -> None:
        """The wire has ended here."""
        self._ends.pop(end, None)
        self._silent.pop(end, None)

    async def dial(self, way: str, protocol: asyncio.Protocol) -> None:
        """Connect this protocol to the listener that a way leads to.

        Raises:
            ConnectionRefusedError: there is none.
        """
        await asyncio.sleep(self.delay())
        name = self.ways.get(way, way)
        accept = self._listeners.get(name)
        if accept is None:
            raise ConnectionRefusedError(f"nobody listens at {name}")
        theirs = await accept()
        near = MemoryTransport(self, protocol, {"peername": (name, 1)})
        far = MemoryTransport(self, theirs, {"peername": (way, 1)})
        near.peer, far.peer = far, near
        self._ends |= {near: way, far: name}
        theirs.connection_made(far)
        protocol.connection_made(near)


class MemoryConnector(aiohttp.BaseConnector):
    """Takes aiohttp's clients to listeners in memory."""

    def __init__(self, network: Network) -> None:
        super().__init__(limit=0)
        self._network = network

    async def _create_connection(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own
    ) -> ResponseHandler:
        _ = traces, timeout
        protocol = self._factory()
        try:
            await self._network.dial(str(req.url.host), protocol)
        except OSError as problem:
            raise aiohttp.ClientConnectorError(req.connection_key, problem) from problem
        return protocol
