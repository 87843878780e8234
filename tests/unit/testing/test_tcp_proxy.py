"""The proxy forwards, and fails the way it is told to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from gatecast.testing.eventually import PATIENCE
from gatecast.testing.tcp_proxy import TcpProxy

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Echo:
    """Answers every byte with itself, behind its name; notes what it was sent."""

    def __init__(self, name: bytes = b"") -> None:
        self.name = name
        self.received = bytearray()
        self.changed = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1024):
                self.received += data
                self.changed.set()
                writer.write(self.name + data)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def heard(self, text: bytes) -> None:
        while text not in self.received:
            self.changed.clear()
            await self.changed.wait()


@asynccontextmanager
async def _listening(echo: _Echo) -> AsyncIterator[tuple[str, int]]:
    async with await asyncio.start_server(echo.serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield host, port


@asynccontextmanager
async def _through(proxy: TcpProxy) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def _asked(streams: Streams, text: bytes) -> bytes:
    reader, writer = streams
    writer.write(text)
    return await reader.readexactly(len(text))


async def _expect_reset(reader: asyncio.StreamReader) -> None:
    with pytest.raises(ConnectionResetError):
        await reader.read(1)


async def test_it_forwards_both_ways() -> None:
    """A whole wire is not noticed."""
    async with _listening(_Echo()) as address, TcpProxy(address) as proxy, _through(proxy) as streams:
        assert await _asked(streams, b"hello") == b"hello"
        assert proxy.connections == 1
        assert proxy.address == f"127.0.0.1:{proxy.port}"


async def test_it_leads_to_a_unix_socket(tmp_path: Path) -> None:
    """A database that listens on a unix socket only can be reached over TCP."""
    path = tmp_path / "echo"
    async with (
        await asyncio.start_unix_server(_Echo().serve, path),
        TcpProxy(path) as proxy,
        _through(proxy) as streams,
    ):
        assert await _asked(streams, b"hello") == b"hello"


async def test_the_end_of_one_side_ends_the_other() -> None:
    """A server that hangs up is noticed by the client, after everything that it said."""

    async def say_goodbye(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")
        writer.close()

    async with (
        await asyncio.start_server(say_goodbye, "127.0.0.1", 0) as server,
        TcpProxy(server.sockets[0].getsockname()) as proxy,
        _through(proxy) as (reader, _),
    ):
        assert await reader.read() == b"bye"


async def test_a_target_that_refuses_resets_the_client() -> None:
    """A dead server looks dead."""
    async with _listening(_Echo()) as address:
        pass
    async with TcpProxy(address) as proxy, _through(proxy) as (reader, _):
        await _expect_reset(reader)


async def test_a_cut_resets_every_connection_until_it_is_healed() -> None:
    """Old and new connections are reset; after healing new ones work."""
    async with _listening(_Echo()) as address, TcpProxy(address) as proxy:
        async with _through(proxy) as streams:
            await _asked(streams, b"hello")
            proxy.cut()
            await _expect_reset(streams[0])
        async with _through(proxy) as (reader, _):
            await _expect_reset(reader)
        proxy.heal()
        async with _through(proxy) as streams:
            assert await _asked(streams, b"hello") == b"hello"


async def test_a_deaf_wire_takes_bytes_and_forwards_nothing() -> None:
    """Neither side learns anything; what was lost cannot be continued, so healing resets the connection."""
    echo = _Echo()
    async with _listening(echo) as address, TcpProxy(address) as proxy, _through(proxy) as streams:
        await _asked(streams, b"before")
        proxy.deafen()
        streams[1].write(b"unheard")
        await streams[1].drain()
        async with _through(proxy) as (newcomer, _):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await asyncio.gather(newcomer.read(1), streams[0].read(1))
            proxy.heal()
            await _expect_reset(newcomer)
        await _expect_reset(streams[0])
        assert bytes(echo.received) == b"before"


async def test_a_connection_that_was_quiet_while_the_wire_was_deaf_lives_on() -> None:
    """Nothing was lost on it."""
    async with _listening(_Echo()) as address, TcpProxy(address) as proxy, _through(proxy) as streams:
        await _asked(streams, b"before")
        proxy.deafen()
        proxy.heal()
        assert await _asked(streams, b"after") == b"after"


async def test_a_deaf_wire_does_not_tell_that_a_side_has_ended() -> None:
    """The other side stays half-open."""
    async with _listening(_Echo()) as address, TcpProxy(address) as proxy:
        async with _through(proxy) as streams:
            await _asked(streams, b"hello")
            proxy.deafen()
        assert proxy.connections == 1


async def test_lost_answers_leave_requests_whole() -> None:
    """The target does what it is asked, and nobody hears of it."""
    echo = _Echo()
    async with _listening(echo) as address, TcpProxy(address) as proxy, _through(proxy) as streams:
        await _asked(streams, b"before")
        proxy.lose_answers()
        streams[1].write(b"commit")
        await echo.heard(b"commit")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await streams[0].read(1)
        proxy.heal()
        await _expect_reset(streams[0])


async def test_a_delay_keeps_order_and_ends_with_healing() -> None:
    """What was sent first arrives first, later."""
    async with _listening(_Echo()) as address, TcpProxy(address) as proxy, _through(proxy) as streams:
        proxy.delay(0.02)
        started = asyncio.get_running_loop().time()
        assert await _asked(streams, b"slow") == b"slow"
        assert asyncio.get_running_loop().time() - started >= 0.04
        proxy.heal()
        assert await _asked(streams, b"fast") == b"fast"


async def test_retargeting_resets_and_then_leads_elsewhere() -> None:
    """A failover to another server."""
    async with (
        _listening(_Echo(b"")) as first,
        _listening(_Echo(b"second:")) as second,
        TcpProxy(first) as proxy,
    ):
        async with _through(proxy) as streams:
            await _asked(streams, b"hello")
            proxy.retarget(second)
            await _expect_reset(streams[0])
        async with _through(proxy) as (reader, writer):
            writer.write(b"hello")
            assert await reader.readexactly(12) == b"second:hello"


@pytest.mark.parametrize("turns", range(8))
async def test_whoever_is_let_in_at_the_very_end_is_not_kept(turns: int) -> None:
    """At any turn of the loop: nothing stays open that nobody closes."""
    async with _listening(_Echo()) as target:
        with socket.socket() as client:
            client.settimeout(PATIENCE)
            async with TcpProxy(target) as proxy:
                client.connect((proxy.host, proxy.port))
                for _ in range(turns):
                    await asyncio.sleep(0)
            with suppress(ConnectionResetError):
                assert await asyncio.to_thread(client.recv, 1) == b""
    assert len(asyncio.all_tasks()) == 1
