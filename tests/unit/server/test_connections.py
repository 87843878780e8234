"""How long a connection may keep a pod waiting, on a clock that jumps."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gatecast.server.connections import (
    BODY_RATE,
    BODY_TIME_LIMIT,
    FIRST_WORD_TIME,
    HEAD_TIME_LIMIT,
    KEEP_ALIVE,
    WRITE_TIME_LIMIT,
    Place,
    Places,
)
from gatecast.server.listener import configure
from gatecast.testing.virtual_time import run_in_virtual_time


class _Transport:
    """Notes when it was dropped."""

    def __init__(self, place: Place) -> None:
        self.dropped_at: float | None = None
        self.unsent = 0
        self._place = place

    def abort(self) -> None:
        """The connection is dropped."""
        self.dropped_at = asyncio.get_running_loop().time()
        self._place.lost()

    def get_write_buffer_size(self) -> int:
        """What the peer has not taken."""
        return self.unsent


async def _open(places: Places | None = None) -> tuple[Place, Any]:
    place = await (places or Places(10)).take()
    place.opening(lambda: None)
    transport: Any = _Transport(place)
    place.opened(transport)
    return place, transport


def _dropped_after(behave: Callable[[Place, Any], Awaitable[None]]) -> float | None:
    """When a connection that behaves so is dropped; None: it is not, in an hour."""

    async def run() -> float | None:
        place, transport = await _open()
        await behave(place, transport)
        await asyncio.sleep(3600)
        return transport.dropped_at  # type: ignore[no-any-return]

    return run_in_virtual_time(run())


async def _silent(_place: Place, _transport: object) -> None:
    """It says nothing at all."""


async def _begins(place: Place, _transport: object) -> None:
    await asyncio.sleep(10)
    for _ in range(8):
        place.receives_head()
        await asyncio.sleep(1)


async def _asks(place: Place) -> None:
    place.receives_head()
    place.receives_body()
    place.answers()


async def _keeps_asking(place: Place, _transport: object) -> None:
    for _ in range(3):
        await _asks(place)
        await asyncio.sleep(1000)
        place.answered()
        await asyncio.sleep(70)


async def _begins_again(place: Place, transport: object) -> None:
    await _keeps_asking(place, transport)
    place.receives_head()


async def _dribbles(place: Place, _transport: object) -> None:
    place.receives_head()
    place.receives_body()
    for _ in range(60):
        place.received(1)
        await asyncio.sleep(1)


async def _uploads(place: Place, _transport: object) -> None:
    place.receives_head()
    place.receives_body()
    for _ in range(600):
        place.received(BODY_RATE)
        await asyncio.sleep(1)


async def _does_not_read(place: Place, transport: Any) -> None:  # noqa: ANN401 - the fake
    await _asks(place)
    transport.unsent = 100_000
    place.pause_writing()
    place.answered()


async def _reads_slowly(place: Place, transport: Any) -> None:  # noqa: ANN401 - the fake
    await _does_not_read(place, transport)
    for _ in range(100):
        await asyncio.sleep(WRITE_TIME_LIMIT - 1)
        transport.unsent -= 1
    place.resume_writing()


@pytest.mark.parametrize(
    ("behave", "dropped_after"),
    [
        (_silent, HEAD_TIME_LIMIT),
        (_begins, HEAD_TIME_LIMIT),
        (_keeps_asking, 3 * 1070 + KEEP_ALIVE - 70),
        (_begins_again, 3 * 1070 + KEEP_ALIVE - 70),
        (_dribbles, BODY_TIME_LIMIT),
        (_uploads, 600 + BODY_TIME_LIMIT),
        (_does_not_read, WRITE_TIME_LIMIT),
        (_reads_slowly, 100 * (WRITE_TIME_LIMIT - 1) + KEEP_ALIVE),
    ],
)
def test_a_connection_that_keeps_the_pod_waiting_is_dropped(
    behave: Callable[[Place, Any], Awaitable[None]], dropped_after: float
) -> None:
    """What arrives or is taken gives it more time; what only seems to does not."""
    assert _dropped_after(behave) == pytest.approx(dropped_after, abs=0.01)


def test_a_request_that_is_being_answered_may_take_its_time() -> None:
    async def ask(place: Place, _transport: object) -> None:
        await _asks(place)

    assert _dropped_after(ask) is None


def test_idle_connections_stay_for_longer_than_balancers_keep_theirs() -> None:
    assert KEEP_ALIVE > 60


def test_without_a_free_place_one_on_which_nothing_is_asked_makes_room() -> None:
    """First the connection answered longest ago, then the one silent for longest that has had time to send."""

    async def run() -> None:
        places = Places(5)
        busy, busy_transport = await _open(places)
        _, silent = await _open(places)
        _, silent_too = await _open(places)
        (first, answered), (second, answered_later) = await _open(places), await _open(places)
        for place in (busy, first, second):
            await _asks(place)
        first.answered()
        second.answered()
        for number in range(4):
            new, _ = await _open(places)
            await _asks(new)
            dropped = [each.dropped_at is not None for each in (answered, answered_later, silent, silent_too)]
            assert dropped == [True] * (number + 1) + [False] * (3 - number)
        assert (answered_later.dropped_at, silent.dropped_at, busy_transport.dropped_at) == (0, FIRST_WORD_TIME, None)
        assert places.taken == 5

    run_in_virtual_time(run())


def test_when_all_are_busy_the_next_one_waits() -> None:
    async def run() -> None:
        places = Places(1)
        place, transport = await _open(places)
        await _asks(place)
        waiting = asyncio.create_task(places.take())
        await asyncio.sleep(100)
        assert not waiting.done()
        place.answered()
        await waiting
        assert transport.dropped_at == 100

    run_in_virtual_time(run())


def test_a_handshake_makes_room_as_well() -> None:
    async def run() -> None:
        places = Places(1)
        place = await places.take()
        place.opening(place.lost)
        await places.take()
        assert places.taken == 1

    run_in_virtual_time(run())


def test_connections_that_are_half_open_are_noticed_within_45_seconds() -> None:
    with socket.socket() as connection:
        configure(connection)
        tcp = socket.IPPROTO_TCP
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        asks = connection.getsockopt(tcp, socket.TCP_KEEPINTVL) * connection.getsockopt(tcp, socket.TCP_KEEPCNT)
        assert connection.getsockopt(tcp, socket.TCP_KEEPIDLE) + asks <= 45
        assert connection.getsockopt(tcp, socket.TCP_USER_TIMEOUT) == 45_000
