"""What must be refused is refused, at once and everywhere, and costs little."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from gatecast.testing.deployment import Deployment
from gatecast.testing.operator import Operator, Refused
from gatecast.testing.pods import RunningPod
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.raw_connection import RawConnection, refusal
from gatecast.testing.unmodified_gateway import UnmodifiedGateway

pytestmark = pytest.mark.acceptance

NewDatabase = Callable[[], Awaitable[str]]


async def _closed_by(connection: RawConnection, ending: Awaitable[object]) -> int | None:
    """The close code that the operator's request leads to; prints how long after asking it came."""
    asked_at = time.monotonic()
    await ending
    async with asyncio.timeout(5):
        code = await connection.closed()
    print(f"closed {time.monotonic() - asked_at:.3f} s after asking")  # noqa: T201 - a figure for the reader
    return code


async def test_s26_a_revoked_token_closes_its_connections_on_every_pod(
    postgres: PostgresServer, new_database: NewDatabase
) -> None:
    """Revoked through one pod, closed by both, and refused by both from the moment of the answer."""
    async with Deployment(postgres.url(await new_database())) as deployment:
        one, two = await deployment.start("one", "two")
        operator = await deployment.operator(one)
        access = await operator.create_gateway("compromised")
        async with (
            RawConnection.open(one.gateways, access.token) as here,
            RawConnection.open(two.gateways, access.token) as there,
        ):
            await operator.connections(access.id, 2)
            revocation = asyncio.create_task(operator.ask("DELETE", f"/gateways/{access.id}/tokens/{access.token_id}"))
            closed = [asyncio.create_task(_closed_by(connection, revocation)) for connection in (here, there)]
            await revocation
            refused = await asyncio.gather(*(refusal(pod.gateways, access.token) for pod in (one, two)))
            assert refused == [401, 401]
            assert await asyncio.gather(*closed) == [4001, 4001]


async def test_s26_a_deleted_gateway_is_disconnected_everywhere(
    postgres: PostgresServer, new_database: NewDatabase
) -> None:
    """Its connections on another pod are closed, and its token opens nothing any more."""
    async with Deployment(postgres.url(await new_database())) as deployment:
        one, two = await deployment.start("one", "two")
        operator = await deployment.operator(one)
        access = await operator.create_gateway("gone")
        async with RawConnection.open(two.gateways, access.token) as connection:
            await operator.connections(access.id, 1)
            code = await _closed_by(connection, operator.ask("DELETE", f"/gateways/{access.id}"))
        assert code == 4004
        assert [await refusal(pod.gateways, access.token) for pod in (one, two)] == [401, 401]


async def _one_pod(deployment: Deployment) -> tuple[RunningPod, Operator]:
    [pod] = await deployment.start("one")
    return pod, await deployment.operator(pod)


async def test_s27_attempts_are_limited_before_the_upgrade_and_write_nothing(
    postgres: PostgresServer, new_database: NewDatabase
) -> None:
    """Bad tokens count like good ones, a made-up X-Forwarded-For changes nothing, and no row is written."""
    url = postgres.url(await new_database())
    async with Deployment(url, connect_rate="20") as deployment:
        pod, operator = await _one_pod(deployment)
        access = await operator.create_gateway("guarded")
        answers = [
            await refusal(pod.gateways, f"guess-{number}", headers={"X-Forwarded-For": f"192.0.2.{number}"})
            for number in range(30)
        ]
        assert answers[:20] == [401] * 20
        assert answers[-5:] == [429] * 5
        assert await refusal(pod.gateways, access.token) == 429
        pod.terminate()
        await pod.ended()
    connection = await asyncpg.connect(url)
    written = await connection.fetchval(
        "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables"
        " WHERE relname IN ('connections', 'cursors')"
    )
    await connection.close()
    assert written == 0


async def test_s27_a_trusted_proxy_may_say_who_connects(sqlite_url: str) -> None:
    """Then each address behind it has attempts of its own."""
    async with Deployment(sqlite_url, connect_rate="5", trusted_proxies="127.0.0.0/8") as deployment:
        pod, _ = await _one_pod(deployment)
        answers = [
            await refusal(pod.gateways, "guess", headers={"X-Forwarded-For": f"192.0.2.{number}"})
            for number in range(20)
        ]
        assert answers == [401] * 20
        again = [await refusal(pod.gateways, "guess", headers={"X-Forwarded-For": "192.0.2.1"}) for _ in range(10)]
        assert again[-1] == 429


async def test_s27_connections_of_one_gateway_are_limited(sqlite_url: str) -> None:
    """One more is 429, which the client takes as `later`; a closed one makes room."""
    async with Deployment(sqlite_url, max_connections_per_gateway="2") as deployment:
        pod, operator = await _one_pod(deployment)
        access = await operator.create_gateway("busy")
        async with RawConnection.open(pod.gateways, access.token):
            async with RawConnection.open(pod.gateways, access.token):
                assert await refusal(pod.gateways, access.token) == 429
            await operator.connections(access.id, 1)
            assert await refusal(pod.gateways, access.token) == 101


_NONSENSE = (
    "{{{",
    "null",
    '"text"',
    '{"type":"no-such-type"}',
    '{"type":7}',
    '{"type":"deployment.ack","payload":"no object"}',
    '{"type":"position.ack","position":"elsewhere"}',
    "[" * 50_000,
)


async def test_s28_nonsense_is_ignored_and_the_connection_stays(sqlite_url: str) -> None:
    """Garbage, binary, deep JSON and unknown types; events are delivered as before."""
    async with Deployment(sqlite_url) as deployment:
        pod, operator = await _one_pod(deployment)
        access = await operator.create_gateway("babbling")
        async with RawConnection.open(pod.gateways, access.token) as connection:
            await connection.message()
            for text in _NONSENSE:
                await connection.socket.send_str(text)
            await connection.socket.send_bytes(bytes(range(256)) * 100)
            await connection.socket.pong(b"never asked")
            await operator.publish(access.id)
            assert (await connection.message())["position"].endswith(":1")


async def test_s28_a_frame_of_ten_mebibytes_closes_the_connection_and_nothing_else(sqlite_url: str) -> None:
    """With 1009; the pod serves others as before."""
    async with Deployment(sqlite_url) as deployment:
        pod, operator = await _one_pod(deployment)
        access = await operator.create_gateway("shouting")
        async with RawConnection.open(pod.gateways, access.token) as connection:
            await connection.message()
            sending = asyncio.create_task(connection.socket.send_str("x" * 10 * 1024 * 1024))
            assert await connection.closed() == 1009
            await asyncio.wait({sending})
            sending.exception()
        async with UnmodifiedGateway(pod.gateway_host, access.token) as gateway:
            await operator.publish(access.id)
            await gateway.wait_until(lambda: len(gateway.received) == 1)


async def test_s40_a_payload_over_one_mebibyte_is_refused_at_the_http_door(sqlite_url: str) -> None:
    """With the size and the limit in the error, and nothing stored; one that just fits is accepted."""
    async with Deployment(sqlite_url) as deployment:
        _, operator = await _one_pod(deployment)
        access = await operator.create_gateway("large")
        with pytest.raises(Refused) as refused:
            await operator.publish(access.id, {"padding": "x" * 1024 * 1024})
        assert refused.value.status == 413
        assert "1,048,576" in refused.value.body
        assert "1,048,590" in refused.value.body
        fitting = {"padding": "x" * (1024 * 1024 - len('{"padding":""}'))}
        assert (await operator.publish(access.id, fitting))["offset"] == 1
