"""What hangs, dribbles, babbles or floods at the two listeners harms nobody else."""

from __future__ import annotations

import asyncio
import json
import resource
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import trustme

from gatecast.testing.doubles.raw_connection import CONNECT_PATH, RawConnection, refusal
from gatecast.testing.eventually import PATIENCE, eventually
from gatecast.testing.operator import Operator
from gatecast.testing.pods import SERVE, Pods, RunningPod
from gatecast.testing.processes.deployment import Deployment, address_of

pytestmark = pytest.mark.acceptance

#: Bytes that are no request, or one that breaks off, and whether that is a mistake of who sent them.
_NONSENSE = [
    b"nonsense\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: pod\r\n\r\n",
    b"GET /\xff\xfe HTTP/1.1\r\nHost: pod\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: pod\r\nContent-Length: many\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: pod\r\nno colon\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: pod\r\nA: " + b"a" * 300_000 + b"\r\n\r\n",
]


async def _said(url: str, sent: bytes) -> bytes:
    """What a listener answers to these bytes before it closes."""
    host, port = address_of(url)
    trust = None
    if url.startswith("https"):
        trust = ssl.create_default_context()
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(host, port, ssl=trust)
    try:
        writer.write(sent)
        await writer.drain()
        return await asyncio.wait_for(reader.read(), PATIENCE)
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize("listener", ["api", "gateways"])
async def test_malformed_http_is_one_line_of_log(sqlite_url: str, listener: str) -> None:
    """And 400 for who sent it; no traceback, nothing of what was sent, nothing that is no JSON."""
    async with Deployment(sqlite_url) as deployment:
        [pod] = await deployment.start("one")
        url = pod.api if listener == "api" else pod.gateways
        before = len(pod.log)
        for nonsense in _NONSENSE:
            answer = await _said(url, nonsense)
            assert answer[9:12] in (b"", b"400"), nonsense[:40]
        await _ended(pod)
        lines = [json.loads(line) for line in list(pod.log)[before:]]
        malformed = [line for line in lines if line["event"] == "malformed-request"]
        assert len(malformed) == len(_NONSENSE)
        assert {line["event"] for line in lines} == {"malformed-request", "draining"}
        assert not any("exception" in line for line in lines)


async def test_a_body_that_is_malformed_or_breaks_off_is_no_traceback_either(sqlite_url: str) -> None:
    """On both listeners, from a caller with a valid token."""
    async with Deployment(sqlite_url) as deployment:
        [pod] = await deployment.start("one")
        operator = await deployment.operator(pod)
        access = await operator.create_gateway("mangled")
        gateway_head = (
            f"POST /api/internal/v1/gateways/{access.id}/manifest HTTP/1.1\r\nHost: pod\r\napi-key: {access.token}\r\n"
            "Content-Type: application/json\r\n"
        ).encode()
        api_head = (
            b"POST /api/v1/gateways HTTP/1.1\r\nHost: pod\r\nAuthorization: Bearer an-admin-token-for-tests\r\n"
            b"Content-Type: application/json\r\n"
        )
        for url, head in ((pod.api, api_head), (pod.gateways, gateway_head)):
            answer = await _said(url, head + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\nzz\r\n")
            assert answer[9:12] in (b"", b"400")
            await _break_off(url, head + b'Content-Length: 100\r\n\r\n{"a"')
        await _ended(pod)
        assert [line for line in pod.log if "Traceback" in line or "exception" in line] == []


async def _break_off(url: str, sent: bytes) -> None:
    host, port = address_of(url)
    trust = None
    if url.startswith("https"):
        trust = ssl.create_default_context()
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection(host, port, ssl=trust)
    writer.write(sent)
    await writer.drain()
    writer.transport.abort()


async def _ended(pod: RunningPod) -> None:
    pod.terminate()
    pod.terminate()
    assert await pod.ended() == 0


async def test_a_frame_that_is_not_masked_closes_the_connection(sqlite_url: str) -> None:
    """With 1002, as RFC 6455 asks for; what came before it counts."""
    async with Deployment(sqlite_url) as deployment:
        [pod] = await deployment.start("one")
        operator = await deployment.operator(pod)
        access = await operator.create_gateway("bare")
        async with _frames(pod, access.token) as (reader, writer):
            await operator.publish(access.id)
            writer.write(b"\x89\x81\x00\x00\x00\x00x" + b"\x81")
            await writer.drain()
            await operator.connections(access.id, 1)
            writer.write(b"\x05plain")
            received = await asyncio.wait_for(reader.read(), PATIENCE)
        assert b"\x8a\x01x" in received, "a masked Ping is answered"
        assert b"\x88" + bytes([len(received.rpartition(b"\x88")[2]) - 1]) in received
        assert received.rpartition(b"\x88")[2][1:3] == (1002).to_bytes(2, "big")
        await operator.connections(access.id, 0)


@asynccontextmanager
async def _frames(pod: RunningPod, token: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection after the upgrade, byte by byte."""
    host, port = address_of(pod.gateways)
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(host, port, ssl=trust)
    writer.write(
        f"GET {CONNECT_PATH} HTTP/1.1\r\nHost: pod\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\napi-key: {token}\r\n\r\n".encode()
    )
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    try:
        yield reader, writer
    finally:
        writer.close()


async def test_with_few_descriptors_gateways_are_refused_and_the_api_answers(database: str) -> None:
    """More gateways than fit: some are told to come back, and health checks of the pod notice nothing."""
    command = ("/bin/sh", "-c", 'ulimit -n 200; exec "$@"', "sh", *SERVE)
    async with (
        Pods(database, admin_token="an-admin-token-for-tests", command=command) as pods,
        AsyncExitStack() as connections,
    ):
        pod = await pods.start("one")
        operator = await connections.enter_async_context(Operator(pod.api, "an-admin-token-for-tests"))
        answers: list[int] = []
        for number in range(10):
            access = await operator.create_gateway(f"many-{number}")
            answers += await asyncio.gather(*(_held(connections, pod, access.token) for _ in range(10)))
        assert set(answers) == {101, 503}
        assert answers.count(101) > 50
        refused = await operator.create_gateway("one-more")
        assert await refusal(pod.gateways, refused.token) == 503
        await operator.publish(refused.id)
        async with aiohttp.ClientSession(pod.api) as session:
            for path in ("/healthz", "/readyz", "/metrics"):
                async with session.get(path) as answer:
                    assert answer.status == 200
        assert len(list(Path(f"/proc/{pod.pid}/fd").iterdir())) < 200
        [warning] = pod.logged("few-descriptors")
        assert warning["max_connections"] == answers.count(101)


async def _held(connections: AsyncExitStack, pod: RunningPod, token: str) -> int:
    try:
        await connections.enter_async_context(RawConnection.open(pod.gateways, token))
    except aiohttp.WSServerHandshakeError as refused:
        return refused.status
    return 101


async def test_silent_connections_make_room_for_who_has_something_to_say(sqlite_url: str) -> None:
    """Hundreds of open sockets that say nothing, at both listeners, and beyond all limits."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert limit >= 2000, "this test needs descriptors of its own"
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    command = ("/bin/sh", "-c", 'ulimit -n 250; exec "$@"', "sh", *SERVE)
    async with Pods(sqlite_url, admin_token="an-admin-token-for-tests", command=command) as pods:
        pod = await pods.start("one")
        async with Operator(pod.api, "an-admin-token-for-tests") as operator:
            access = await operator.create_gateway("heard")
            opened = [
                (await asyncio.open_connection(*address_of(url)))[1]
                for url, count in ((pod.api, 80), (pod.gateways, 200))
                for _ in range(count)
            ]
            assert await refusal(pod.gateways, access.token) == 101
            await operator.publish(access.id)
            for writer in opened:
                writer.transport.abort()


async def test_a_renewed_certificate_is_shown_after_sighup_and_nobody_is_dropped(
    sqlite_url: str, tmp_path: Path
) -> None:
    """Present connections stay; new ones see the new certificate."""
    authority = trustme.CA()
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"

    def write(name: str) -> None:
        issued = authority.issue_cert("localhost", name)
        key.write_bytes(issued.private_key_pem.bytes())
        certificate.write_bytes(issued.cert_chain_pems[0].bytes())

    write("one.example")
    async with Deployment(sqlite_url, gateway_tls=str(certificate), gateway_tls_key=str(key)) as deployment:
        [pod] = await deployment.start("one")
        operator = await deployment.operator(pod)
        access = await operator.create_gateway("steady")
        async with RawConnection.open(pod.gateways, access.token) as connection:
            await connection.message()
            assert "one.example" in await _names(pod, authority)
            write("two.example")
            pod.renew()
            await eventually(_says(pod, authority, "two.example"))
            await operator.publish(access.id)
            assert (await connection.message())["position"].endswith(":1")
        await _ended(pod)


def _says(pod: RunningPod, authority: trustme.CA, name: str) -> Callable[[], Awaitable[bool]]:
    async def says() -> bool:
        return name in await _names(pod, authority)

    return says


async def _names(pod: RunningPod, authority: trustme.CA) -> set[str]:
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    _, writer = await asyncio.open_connection(*address_of(pod.gateways), ssl=trust, server_hostname="localhost")
    shown = writer.get_extra_info("peercert")
    writer.close()
    return {name for _, name in shown["subjectAltName"]}


async def test_without_certificate_files_sighup_stops_the_pod_in_order(sqlite_url: str) -> None:
    """As when a terminal is closed."""
    async with Deployment(sqlite_url) as deployment:
        [pod] = await deployment.start("one")
        pod.renew()
        pod.terminate()
        assert await pod.ended() == 0


async def test_balancers_have_time_to_notice_that_a_pod_stops(sqlite_url: str) -> None:
    """Unready, and yet everything answers, for as long as nobody is in a hurry; without any gateway, too."""
    async with Deployment(sqlite_url, drain_time="1h") as deployment:
        [pod] = await deployment.start("one")
        operator = await deployment.operator(pod)
        access = await operator.create_gateway("few")
        pod.terminate()
        async with aiohttp.ClientSession(pod.api) as session:

            async def is_unready() -> bool:
                async with session.get("/readyz") as answer:
                    return answer.status == 503

            await eventually(is_unready)
            await operator.publish(access.id)
            assert await refusal(pod.gateways, access.token) == 503
            assert pod.running
            pod.terminate()
            assert await pod.ended() == 0
