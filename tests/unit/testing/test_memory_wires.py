"""Wires in memory carry what asyncio's protocols send: in order, late, or not at all."""

from __future__ import annotations

import asyncio
import random

import aiohttp
import pytest
from aiohttp import web

from gatecast.testing.doubles.memory_wires import MemoryConnector, Network
from gatecast.testing.virtual_time import run_in_virtual_time


class Recorder(asyncio.Protocol):
    """Remembers what happens to it."""

    def __init__(self) -> None:
        self.received = b""
        self.lost: list[Exception | None] = []
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the wire."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Remember what arrives."""
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        """Remember how it ended."""
        self.lost.append(exc)


async def connected(network: Network) -> tuple[Recorder, Recorder]:
    """Both ends of a new wire."""
    near, far = Recorder(), Recorder()

    async def accept() -> Recorder:
        return far

    network.listen("pod", accept)
    network.ways["way"] = "pod"
    await network.dial("way", near)
    return near, far


def network() -> Network:
    """Wires whose delays repeat."""
    return Network(random.Random(1))  # noqa: S311 - repeats, guards nothing


def test_data_arrives_in_order_also_when_each_piece_takes_another_time() -> None:
    async def run() -> None:
        near, far = await connected(network())
        for number in range(200):
            near.transport.write(b"%d," % number)
        near.transport.close()
        await asyncio.sleep(60)
        assert far.received == b"".join(b"%d," % number for number in range(200))
        assert (near.lost, far.lost) == ([None], [None])
        near.transport.write(b"too late")
        await asyncio.sleep(60)
        assert b"late" not in far.received

    run_in_virtual_time(run())


def test_a_paused_reader_gets_everything_when_it_reads_on() -> None:
    async def run() -> None:
        near, far = await connected(network())
        far.transport.pause_reading()
        near.transport.write(b"a")
        near.transport.write(b"b")
        await asyncio.sleep(60)
        assert (far.received, far.transport.is_reading()) == (b"", False)
        far.transport.resume_reading()
        await asyncio.sleep(60)
        assert far.received == b"ab"

    run_in_virtual_time(run())


def test_a_cut_is_noticed_at_both_ends_and_what_is_on_its_way_is_lost() -> None:
    async def run() -> None:
        wires = network()
        near, far = await connected(wires)
        near.transport.write(b"lost")
        wires.cut("way")
        await asyncio.sleep(60)
        assert far.received == b""
        assert near.lost == [None]
        assert isinstance(far.lost[0], ConnectionResetError)
        assert near.transport.is_closing()

    run_in_virtual_time(run())


def test_silence_is_noticed_by_nobody_until_it_is_cut() -> None:
    async def run() -> None:
        wires = network()
        near, far = await connected(wires)
        wires.silence("way")
        near.transport.write(b"nobody hears")
        far.transport.write(b"nobody hears")
        await asyncio.sleep(60)
        assert (near.received, far.received, near.lost, far.lost) == (b"", b"", [], [])
        wires.cut_silent()
        await asyncio.sleep(60)
        assert len(near.lost) == len(far.lost) == 1

    run_in_virtual_time(run())


def test_nobody_listens_after_a_close() -> None:
    async def run() -> None:
        wires = network()
        await connected(wires)
        wires.close("pod")
        with pytest.raises(ConnectionRefusedError, match="pod"):
            await wires.dial("way", Recorder())

    run_in_virtual_time(run())


def test_aiohttp_speaks_over_them_with_requests_and_sockets() -> None:
    async def echo(request: web.Request) -> web.StreamResponse:
        if request.path == "/hello":
            return web.Response(text="hello")
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data.upper())
        return socket

    async def run() -> None:
        wires = network()
        application = web.Application()
        application.router.add_get("/{path}", echo)
        runner = web.AppRunner(application, handle_signals=False)
        await runner.setup()
        server = runner.server
        assert server is not None

        async def accept() -> asyncio.Protocol:
            return server()

        wires.listen("pod", accept)
        async with aiohttp.ClientSession(connector=MemoryConnector(wires)) as session:
            async with session.get("http://pod/hello") as answer:
                assert await answer.text() == "hello"
            async with session.ws_connect("http://pod/socket") as socket:
                await socket.send_str("louder")
                assert await socket.receive_str() == "LOUDER"
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get("http://nowhere/")
        await runner.cleanup()

    run_in_virtual_time(run())
