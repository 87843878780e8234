from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from gatecast.testing.eventually import eventually
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.tcp_proxy import TcpProxy
from gatecast.testing.wakeup_suite import Heard
from gatecast.wakeup import postgres as postgres_wakeup
from gatecast.wakeup.contract import EVERYTHING, Hint
from gatecast.wakeup.postgres import PostgresWakeup, _parse

_LISTENERS = "FROM pg_stat_activity WHERE application_name = 'gatecast-listen' AND datname = current_database()"


@asynccontextmanager
async def _listening(url: str, *, check_interval: float = 60.0) -> AsyncIterator[tuple[PostgresWakeup, Heard]]:
    heard = Heard()
    wakeup = PostgresWakeup(url, check_interval=check_interval)
    wakeup.listen(heard)
    async with wakeup:
        await heard.until_everything()
        await eventually(partial(_is, lambda: wakeup.connected))
        yield wakeup, heard


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _is(condition: Callable[[], bool]) -> bool:
    return condition()


async def test_it_looks_at_everything_once_it_listens(postgres_url: str) -> None:
    """What was sent while nobody listened is found by looking once."""
    async with _listening(postgres_url) as (wakeup, _):
        assert wakeup.connected


async def test_s18_a_killed_connection_comes_back_and_looks_at_everything(postgres_url: str) -> None:
    async with _listening(postgres_url) as (wakeup, heard):
        for _ in range(3):
            await _execute(postgres_url, f"SELECT pg_terminate_backend(pid) {_LISTENERS}")
            await heard.until_everything()
            await eventually(partial(_is, lambda: wakeup.connected))
            await _execute(postgres_url, "SELECT gatecast.hint_v1('{gateway-1}')")
            await heard.until_told_of("gateway-1")


@asynccontextmanager
async def _through_proxy(server: PostgresServer, url: str) -> AsyncIterator[tuple[TcpProxy, str]]:
    database = urlsplit(url).path[1:]
    async with TcpProxy(server.socket) as proxy:
        yield proxy, server.url(database, address=proxy.address)


async def test_s18_a_database_that_is_away_is_dialled_until_it_is_back(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """Not connected in between; the pod looks at everything when it is again."""
    async with _through_proxy(postgres, postgres_url) as (proxy, url), _listening(url) as (wakeup, heard):
        proxy.cut()
        await eventually(partial(_is, lambda: not wakeup.connected))
        proxy.heal()
        await heard.until_everything()
        await eventually(partial(_is, lambda: wakeup.connected))


async def test_s18_a_wire_that_went_deaf_is_noticed_by_asking(
    postgres: PostgresServer, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody says that hints no longer arrive: no answer to a question does."""
    monkeypatch.setattr(postgres_wakeup, "_ANSWER_TIME_LIMIT", 0.5)
    async with (
        _through_proxy(postgres, postgres_url) as (proxy, url),
        _listening(url, check_interval=0.05) as (wakeup, heard),
    ):
        proxy.deafen()
        await eventually(partial(_is, lambda: not wakeup.connected))
        proxy.heal()
        await heard.until_everything()
        await eventually(partial(_is, lambda: wakeup.connected))


async def test_a_connection_on_which_nothing_can_be_heard_says_so(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LISTEN succeeds, as if it had run on another one. Until something can be heard: then nothing is wrong."""
    add_listener: Any = asyncpg.Connection.add_listener

    async def add_deaf_listener(self: Any, channel: str, callback: object) -> None:  # noqa: ANN401 - the driver's own
        await add_listener(self, channel, callback)
        await self.execute("UNLISTEN *")

    monkeypatch.setattr(postgres_wakeup, "_ANSWER_TIME_LIMIT", 0.5)
    monkeypatch.setattr(asyncpg.Connection, "add_listener", add_deaf_listener)
    async with PostgresWakeup(postgres_url, check_interval=0.05) as wakeup:
        await eventually(partial(_is, lambda: "GATECAST_NOTIFICATIONS=off" in (wakeup.problem or "")))
        assert not wakeup.connected
        monkeypatch.undo()
        await _execute(postgres_url, f"SELECT pg_terminate_backend(pid) {_LISTENERS}")
        await eventually(partial(_is, lambda: wakeup.connected))
        assert wakeup.problem is None


async def test_a_connection_that_hears_is_not_accused_when_nobody_can_be_asked_to_notify(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server may be out of connections: that says nothing of the one that listens."""
    connect: Callable[..., Awaitable[Any]] = asyncpg.connect

    async def only_listening(url: str, **options: Any) -> Any:  # noqa: ANN401 - the driver's own
        if options["server_settings"]["application_name"] != "gatecast-listen":
            raise asyncpg.TooManyConnectionsError("sorry, too many clients already")
        return await connect(url, **options)

    monkeypatch.setattr(asyncpg, "connect", only_listening)
    async with _listening(postgres_url) as (wakeup, _):
        assert wakeup.connected
        assert wakeup.problem is None


async def test_a_server_that_takes_the_connection_and_hangs_is_given_up(
    postgres: PostgresServer, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it falls silent between the handshake and LISTEN."""
    monkeypatch.setattr(postgres_wakeup, "_ANSWER_TIME_LIMIT", 0.5)
    heard = Heard()
    async with _through_proxy(postgres, postgres_url) as (proxy, url):
        wakeup = PostgresWakeup(url)
        wakeup.listen(heard)
        connect: Callable[..., Awaitable[object]] = asyncpg.connect
        handshakes = 0

        async def deafen_behind(url: str, **options: object) -> object:
            nonlocal handshakes
            connection: object = await connect(url, **options)
            handshakes += 1
            if handshakes == 1:
                proxy.deafen()
                asyncio.get_running_loop().call_later(1.0, proxy.heal)
            return connection

        monkeypatch.setattr(asyncpg, "connect", deafen_behind)
        async with wakeup:
            await heard.until_everything()
        assert handshakes == 2


async def test_it_can_be_closed_while_it_dials(postgres_url: str) -> None:
    async with PostgresWakeup("postgresql://postgres@127.0.0.1:1/nowhere") as wakeup:
        await asyncio.sleep(0)
        assert not wakeup.connected
    async with PostgresWakeup(postgres_url):
        pass
    assert not await _listeners(postgres_url)


async def _listeners(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        count: int = await connection.fetchval(f"SELECT count(*) {_LISTENERS}")
    finally:
        await connection.close()
    return count


async def test_closing_it_does_not_swallow_a_cancellation(postgres_url: str) -> None:
    """A task that is cancelled while leaving ends cancelled."""

    async def use() -> None:
        async with PostgresWakeup(postgres_url):
            leaving.set_result(None)

    leaving = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(use())
    await leaving
    # The task waits in __aexit__ now, for the wake-up to end.
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


@pytest.mark.parametrize(
    ("payload", "hint"),
    [
        ('["a", "b"]', Hint.at(["a", "b"])),
        ("[]", Hint.at([])),
        ("*", EVERYTHING),
        ("", EVERYTHING),
        ('"a"', EVERYTHING),
        ("null", EVERYTHING),
        ('{"a": 1}', EVERYTHING),
        ("[" * 7_900, EVERYTHING),
        ("[" + "9" * 7_000 + "]", EVERYTHING),
        ("[1, null]", Hint.at(["1", "None"])),
    ],
)
def test_a_payload_is_a_list_of_names_or_means_everything(payload: str, hint: Hint) -> None:
    assert _parse(payload) == hint
