"""The pool lends each connection to one caller at a time, and lends out none that it cannot rely on."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from gatecast.storage.postgres import connection_pool
from gatecast.storage.postgres.connection_pool import ConnectionPool

_LIMIT = 5.0


class _Protocol:
    cancelling = False

    def _is_cancelling(self) -> bool:
        return self.cancelling


class _Connection:
    """What the pool needs of the driver's connection."""

    def __init__(self) -> None:
        self._protocol = _Protocol()
        self.closed = self.in_transaction = False
        self._top_xact: object = None
        self.asked: list[str] = []
        self.answers = asyncio.Event()
        self.answers.set()

    def is_closed(self) -> bool:
        return self.closed

    def is_in_transaction(self) -> bool:
        return self.in_transaction

    def terminate(self) -> None:
        self.closed = True

    async def close(self) -> None:
        self.closed = True

    async def execute(self, query: str) -> None:
        self.asked.append(query)
        await self.answers.wait()


async def _dial() -> Any:  # noqa: ANN401 - stands in for the driver's
    return _Connection()


@pytest.fixture
def pool() -> ConnectionPool:
    return ConnectionPool(_dial, size=2)


async def _taken(pool: ConnectionPool) -> Any:  # noqa: ANN401 - as above
    return await pool.acquire(_LIMIT)


async def test_an_idle_connection_costs_no_turn_of_the_loop(pool: ConnectionPool) -> None:
    connection = await _taken(pool)
    with pytest.raises(StopIteration):
        pool.release(connection).send(None)
    with pytest.raises(StopIteration) as taken:
        pool.acquire(_LIMIT).send(None)
    assert taken.value.value is connection


async def test_no_connection_is_lent_twice_and_whoever_waits_gets_the_next_in_order(pool: ConnectionPool) -> None:
    first, second = await _taken(pool), await _taken(pool)
    assert first is not second
    waiting = [asyncio.create_task(_taken(pool)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await pool.release(first)
    # One task waits: a later one is not served before it.
    late = asyncio.create_task(_taken(pool))
    assert await waiting[1] is first
    await pool.release(second)
    assert await waiting[2] is second
    await pool.release(first)
    assert await late is first
    assert pool.connections == 2


async def test_a_failed_dial_leaves_its_place_to_others() -> None:
    problems = [OSError("refused"), OSError("refused")]

    async def dial() -> Any:  # noqa: ANN401 - as above
        if problems:
            raise problems.pop()
        return _Connection()

    async with ConnectionPool(dial, size=1) as pool:
        for _ in range(2):
            with pytest.raises(OSError, match="refused"):
                await _taken(pool)
        await pool.release(await _taken(pool))


@pytest.mark.parametrize("fault", ["closed", "in_transaction", "_top_xact"])
async def test_a_connection_that_is_no_use_is_replaced(pool: ConnectionPool, fault: str) -> None:
    connection = await _taken(pool)
    setattr(connection, fault, True)
    await pool.release(connection)
    assert connection.closed
    assert await _taken(pool) is not connection


async def test_a_connection_that_was_lost_while_idle_is_replaced(pool: ConnectionPool) -> None:
    connection = await _taken(pool)
    await pool.release(connection)
    connection.terminate()
    assert await _taken(pool) is not connection


async def test_after_expiry_every_connection_is_another_one(pool: ConnectionPool) -> None:
    used, idle = await _taken(pool), await _taken(pool)
    await pool.release(idle)
    pool.expire()
    assert (used.closed, idle.closed) == (False, True)
    await pool.release(used)
    assert used.closed
    assert not (await _taken(pool)).closed


async def test_an_interrupted_statement_ends_before_its_connection_is_used_again(pool: ConnectionPool) -> None:
    connection = await _taken(pool)
    connection._protocol.cancelling = True
    connection.answers.clear()
    releasing = asyncio.create_task(pool.release(connection))
    await asyncio.sleep(0)
    # The caller goes; what it began is still ended.
    releasing.cancel()
    await asyncio.wait([releasing])
    assert await _taken(pool) is not connection
    waiting = asyncio.create_task(_taken(pool))
    await asyncio.sleep(0)
    connection.answers.set()
    assert await waiting is connection
    assert connection.asked == ["SELECT 1"]


async def test_a_statement_that_cannot_be_ended_takes_the_idle_connections_with_it(
    pool: ConnectionPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_pool, "RELEASE_TIME_LIMIT", 0)
    connection, idle = await _taken(pool), await _taken(pool)
    await pool.release(idle)
    connection._protocol.cancelling = True
    connection.answers.clear()
    await pool.release(connection)
    assert (connection.closed, idle.closed, pool.connections) == (True, True, 0)


async def test_what_nobody_needs_is_closed(pool: ConnectionPool, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = await _taken(pool)
    await pool.release(connection)
    pool._close_unused()
    assert not connection.closed
    monkeypatch.setattr(connection_pool, "LONGEST_IDLE", 0)
    pool._close_unused()
    assert (connection.closed, pool.connections) == (True, 0)


async def test_closing_waits_for_what_is_in_use_and_refuses_more() -> None:
    pool = ConnectionPool(_dial, size=1)
    connection = await _taken(pool)
    waiting = asyncio.create_task(_taken(pool))
    await asyncio.sleep(0)
    closing = asyncio.create_task(pool.__aexit__(None, None, None))
    await asyncio.sleep(0)
    assert not connection.closed
    await pool.release(connection)
    with pytest.raises(asyncpg.InterfaceError, match="closed"):
        await waiting
    await closing
    assert connection.closed
