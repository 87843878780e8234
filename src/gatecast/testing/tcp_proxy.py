"""A TCP proxy that cuts, delays or deafens the wire between two parts of a system under test."""

from __future__ import annotations

import asyncio
import socket
import struct
from enum import Enum
from pathlib import Path
from typing import Self, TypeAlias

#: Where a proxy leads: host and port, or a unix socket.
Address: TypeAlias = "tuple[str, int] | Path"

_CHUNK = 64 * 1024

#: Turns of the event loop from accepting a connection to reporting it, and one to spare.
_TURNS_TO_LET_IN = 4

#: The wire is cut, not shut: what was not sent yet is dropped, and the peer gets RST.
_LINGER_NOT = struct.pack("ii", 1, 0)


class _Wire(Enum):
    """What happens to bytes."""

    WHOLE = "whole"
    #: Answers are lost; requests arrive.
    ONE_WAY = "one-way"
    #: Nothing arrives anywhere.
    DEAF = "deaf"
    #: Nobody can connect.
    CUT = "cut"


class TcpProxy:
    """Listens on a loopback port of its own and forwards to `target`, as well as the wire in between allows.

    Opened with `async with`. Each fault lasts until `heal`; connections that lost bytes to one are reset then, as
    nothing sensible can follow on them.
    """

    def __init__(self, target: Address) -> None:
        self._target = target
        self._wire = _Wire.WHOLE
        self._delay = 0.0
        self._links: set[_Link] = set()
        self._healed = asyncio.Event()
        self._server: asyncio.Server | None = None
        #: How many connections were made to it so far.
        self.accepted = 0
        #: How many bytes came back from the target so far.
        self.returned = 0
        #: Where it listens.
        self.host = "127.0.0.1"
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self.host, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exception: object) -> None:
        assert self._server is not None
        await self._let_nobody_in(self._server)
        tasks = [link.task for link in self._links if link.task is not None]
        self.cut()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    @staticmethod
    async def _let_nobody_in(server: asyncio.Server) -> None:
        """Stop listening, once those who were let in just now are links, which are cut like the others.

        A server that is closed in between forgets them, and they stay open for ever.
        """
        loop = asyncio.get_running_loop()
        for listening in server.sockets:
            loop.remove_reader(listening)
        for _ in range(_TURNS_TO_LET_IN):
            await asyncio.sleep(0)
        server.close()

    @property
    def address(self) -> str:
        """Where it listens, written host:port."""
        return f"{self.host}:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections pass through it now."""
        return len(self._links)

    # --- faults -------------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Reset every connection, and every new one."""
        self._set(_Wire.CUT)
        self._reset(self._links)

    def deafen(self) -> None:
        """Take bytes and connections from both sides and forward nothing, not even that a side went away."""
        self._set(_Wire.DEAF)

    def lose_answers(self) -> None:
        """Forward what clients send, and nothing that comes back."""
        self._set(_Wire.ONE_WAY)

    def delay(self, seconds: float) -> None:
        """Hold each piece of up to 64 KiB back for this long, in both directions; 0 ends it."""
        self._delay = seconds

    def heal(self) -> None:
        """End every fault."""
        self._delay = 0.0
        self._set(_Wire.WHOLE)
        self._reset({link for link in self._links if link.lost_bytes})
        self._healed.set()

    def retarget(self, target: Address) -> None:
        """Lead elsewhere from now on; present connections are reset."""
        self._target = target
        self._reset(self._links)

    def _set(self, wire: _Wire) -> None:
        self._wire = wire
        self._healed.clear()

    @staticmethod
    def _reset(links: set[_Link]) -> None:
        for link in links:
            link.reset()

    # --- connections --------------------------------------------------------------------------------------------

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer)
        self.accepted += 1
        self._links.add(link)
        link.task = asyncio.create_task(self._serve(link, reader), name="tcp-proxy-link")
        link.task.add_done_callback(lambda _: self._links.discard(link))

    async def _serve(self, link: _Link, reader: asyncio.StreamReader) -> None:
        try:
            if self._wire is _Wire.DEAF:
                link.lost_bytes = True
                await self._healed.wait()
            elif self._wire is not _Wire.CUT:
                await self._forward(link, reader)
                return
        except OSError:
            pass
        finally:
            link.close()
        link.abort()

    async def _forward(self, link: _Link, reader: asyncio.StreamReader) -> None:
        """Forward until one side ends."""
        target_reader, target_writer = await _dial(self._target)
        link.sides.append(target_writer)
        pumps = [
            asyncio.create_task(self._pump(link, reader, target_writer, answers=False)),
            asyncio.create_task(self._pump(link, target_reader, link.sides[0], answers=True)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(
        self, link: _Link, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        while data := await source.read(_CHUNK):
            self.returned += len(data) if answers else 0
            if self._delay:
                await asyncio.sleep(self._delay)
            if self._passes(answers=answers):
                sink.write(data)
                await sink.drain()
            else:
                link.lost_bytes = True
        # That a side has ended is also something that a deaf wire does not tell.
        if not self._passes(answers=answers):
            link.lost_bytes = True
            await self._healed.wait()

    def _passes(self, *, answers: bool) -> bool:
        return self._wire is _Wire.WHOLE or (self._wire is _Wire.ONE_WAY and not answers)


class _Link:
    """One connection through the proxy: the client's side, and the target's once it was dialled."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.sides = [client]
        self.lost_bytes = False
        self.task: asyncio.Task[None] | None = None

    def reset(self) -> None:
        """End it now."""
        self.abort()
        if self.task is not None:
            self.task.cancel()

    def abort(self) -> None:
        """Drop both sides, as a cable that is pulled out of a router does; a TCP peer gets RST."""
        for side in self.sides:
            connection: socket.socket = side.get_extra_info("socket")
            if connection.family != socket.AF_UNIX and connection.fileno() >= 0:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            side.transport.abort()

    def close(self) -> None:
        """Close both sides after sending what was written to them."""
        for side in self.sides:
            side.close()


async def _dial(target: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(target, Path):
        return await asyncio.open_unix_connection(target)
    return await asyncio.open_connection(*target)
