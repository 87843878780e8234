"""What must be refused is refused, at once and everywhere, and costs little."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing

import asyncpg
import pytest

from gatecast.storage.connect import open_engine
from gatecast.testing.doubles.raw_connection import RawConnection, refusal
from gatecast.testing.eventually import PATIENCE
from gatecast.testing.operator import GatewayAccess, Operator, Refused
from gatecast.testing.pods import RunningPod
from gatecast.testing.processes.deployment import Deployment, Site
from gatecast.testing.unmodified_gateway import UnmodifiedGateway

pytestmark = pytest.mark.acceptance

#: Within this time after the answer every pod has closed what was revoked; in seconds (promise P9).
_CLOSING_TIME_LIMIT = 1.0


async def _closing(connection: RawConnection) -> tuple[int | None, float]:
    """The code that the connection is closed with, and when."""
    async with asyncio.timeout(PATIENCE):
        return await connection.closed(), time.monotonic()


async def _closed_in_time(
    operator: Operator, path: str, *connections: RawConnection, refusing: Awaitable[list[int]]
) -> list[int | None]:
    """Delete what stands at `path`; the codes that the connections are closed with, all of them soon enough.

    From the moment of the answer on, everybody refuses.
    """
    closing = [asyncio.create_task(_closing(connection)) for connection in connections]
    await operator.ask("DELETE", path)
    answered_at = time.monotonic()
    assert set(await refusing) == {401}
    closed = await asyncio.gather(*closing)
    assert [at - answered_at for _, at in closed if at - answered_at > _CLOSING_TIME_LIMIT] == []
    return [code for code, _ in closed]


async def _refusals(pods: Sequence[RunningPod], access: GatewayAccess) -> list[int]:
    return await asyncio.gather(*(refusal(pod.gateways, access.token) for pod in pods))


@pytest.mark.parametrize("notifications", ["on", "off"])
async def test_s26_a_revoked_token_closes_its_connections_on_every_pod(site: Site, notifications: str) -> None:
    """Revoked through one pod, closed by both, and refused by both from the moment of the answer."""
    async with Deployment(site, notifications=notifications) as deployment:
        pods = one, two = await deployment.start("one", "two")
        operator = await deployment.operator(one)
        access = await operator.create_gateway("compromised")
        async with (
            RawConnection.open(one.gateways, access.token) as here,
            RawConnection.open(two.gateways, access.token) as there,
        ):
            await operator.connections(access.id, 2)
            token = f"/gateways/{access.id}/tokens/{access.token_id}"
            codes = await _closed_in_time(operator, token, here, there, refusing=_refusals(pods, access))
            assert codes == [4001, 4001]


async def test_s26_a_deleted_gateway_is_disconnected_everywhere(site: Site) -> None:
    """Its connections on another pod are closed, and its token opens nothing any more."""
    async with Deployment(site) as deployment:
        pods = one, two = await deployment.start("one", "two")
        operator = await deployment.operator(one)
        access = await operator.create_gateway("gone")
        async with RawConnection.open(two.gateways, access.token) as connection:
            await operator.connections(access.id, 1)
            codes = await _closed_in_time(
                operator, f"/gateways/{access.id}", connection, refusing=_refusals(pods, access)
            )
            assert codes == [4004]


async def _one_pod(deployment: Deployment) -> tuple[RunningPod, Operator]:
    [pod] = await deployment.start("one")
    return pod, await deployment.operator(pod)


async def test_s27_attempts_are_limited_before_the_upgrade_and_write_nothing(site: Site) -> None:
    """Bad tokens count like good ones, X-Forwarded-For changes nothing, and no table but `pods` is written."""
    async with Deployment(site, connect_rate="20") as deployment:
        pod, operator = await _one_pod(deployment)
        access = await operator.create_gateway("guarded")
        pod.terminate()
        await pod.ended()
        writes = await _writes_of(site)
        pod, _ = await _one_pod(deployment)
        before = await writes()
        answers = [
            await refusal(pod.gateways, f"guess-{number}", headers={"X-Forwarded-For": f"192.0.2.{number}"})
            for number in range(30)
        ]
        assert answers[:20] == [401] * 20
        assert answers[-5:] == [429] * 5
        assert await refusal(pod.gateways, access.token) == 429
        pod.terminate()
        # What a pod has written is counted by the time that it has ended.
        await pod.ended()
        after = await writes()
    assert after.pop("pods") > before.pop("pods"), "it is counted at all"
    assert after == before


async def _writes_of(site: Site) -> Callable[[], Awaitable[dict[str, int]]]:
    """Asks how many rows were written to each table so far."""
    if site.outbox:
        return lambda: _writes_to_stream_and_outbox(site)
    if not site.database.startswith("sqlite"):
        return lambda: _writes_to_postgresql(site.database)
    file = site.database.removeprefix("sqlite:///")
    with closing(sqlite3.connect(file)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        connection.execute("CREATE TABLE written (name text)")
        for table, change in itertools.product(tables, ("INSERT", "UPDATE", "DELETE")):
            connection.execute(
                f"CREATE TRIGGER count_{change}_{table} AFTER {change} ON {table}"
                f" BEGIN INSERT INTO written VALUES ('{table.removeprefix('gatecast_')}'); END"
            )
        connection.commit()
    return lambda: asyncio.to_thread(_writes_to_sqlite, file)


def _writes_to_sqlite(file: str) -> dict[str, int]:
    with closing(sqlite3.connect(file)) as connection:
        return {"pods": 0, **dict(connection.execute("SELECT name, count(*) FROM written GROUP BY name"))}


async def _writes_to_stream_and_outbox(site: Site) -> dict[str, int]:
    """The number of the last write to each subject of the stream, and rows written to each table of the outbox.

    All writes to the stream are those of `pods`; their leases are not looked at, nor who forwards.
    """
    async with open_engine(site.database) as opened:
        stream = opened.engine.log._stream  # type: ignore[attr-defined] # looks inside
        written = {each.subject: each.sequence async for each in stream.scan(f"{stream.subjects.name}.>")}
        pods = (await stream.info()).last_sequence
    others = {subject: number for subject, number in written.items() if ".pod." not in subject}
    tables = await _writes_to_postgresql(site.outbox)
    return {**tables, **others, "pods": pods, "gatecast_outbox_forwarder": 0}


async def _writes_to_postgresql(url: str) -> dict[str, int]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT relname, n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_user_tables")
    finally:
        await connection.close()
    return dict(map(tuple, rows))


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


async def test_s27_connections_of_one_gateway_are_limited(site: Site) -> None:
    """One more is 429, which the client takes as `later`; a closed one makes room."""
    async with Deployment(site, max_connections_per_gateway="2") as deployment:
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


async def test_s28_nonsense_is_ignored_and_the_connection_stays(site: Site) -> None:
    """Garbage, binary, deep JSON and unknown types; events are delivered as before."""
    async with Deployment(site) as deployment:
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


async def test_s28_a_frame_of_ten_mebibytes_closes_the_connection_and_nothing_else(site: Site) -> None:
    """With 1009; the pod serves others as before."""
    async with Deployment(site) as deployment:
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


async def test_s40_a_payload_over_one_mebibyte_is_refused_at_the_http_door(site: Site) -> None:
    """With the size and the limit in the error, and nothing stored; one that just fits is accepted."""
    async with Deployment(site) as deployment:
        _, operator = await _one_pod(deployment)
        access = await operator.create_gateway("large")
        with pytest.raises(Refused) as refused:
            await operator.publish(access.id, {"padding": "x" * 1024 * 1024})
        assert refused.value.status == 413
        assert "1,048,576" in refused.value.body
        assert "1,048,590" in refused.value.body
        fitting = {"padding": "x" * (1024 * 1024 - len('{"padding":""}'))}
        assert (await operator.publish(access.id, fitting))["offset"] == 1
