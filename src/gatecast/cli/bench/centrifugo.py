"""Centrifugo, a messaging server in Go, beside the pod that is measured: its messages go to the same PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_urlsafe
from tempfile import TemporaryDirectory

import aiohttp

from gatecast.testing.eventually import eventually
from gatecast.testing.processes.pgbouncer import free_port

_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Centrifugo:
    """A running server."""

    url: str
    pid: int
    #: Admits to its HTTP API.
    key: str


@asynccontextmanager
async def running_centrifugo(program: Path, database: str) -> AsyncIterator[Centrifugo]:
    """Run this program of release 6.9 or newer on the database; every message is stored before it is answered.

    Raises:
        TimeoutError: it does not answer.
        OSError: it cannot be run.
    """
    port, key = free_port(), token_urlsafe(24)
    with TemporaryDirectory(prefix="gatecast-centrifugo-") as folder:
        file = Path(folder) / "centrifugo.json"
        file.write_text(json.dumps(_configuration(database, port, key)), "utf-8")
        process = await asyncio.create_subprocess_exec(program, "--config", file)
        try:
            url = f"http://{_HOST}:{port}"
            await eventually(lambda: _is_up(url))
            yield Centrifugo(url=url, pid=process.pid, key=key)
        finally:
            process.terminate()
            await process.wait()


def _configuration(database: str, port: int, key: str) -> dict[str, object]:
    broker = {"enabled": True, "type": "postgres", "postgres": {"dsn": database, "use_notify": True}}
    return {
        "broker": broker,
        # Without a history nothing is stored.
        "channel": {"without_namespace": {"history_size": 1_000_000, "history_ttl": "1h"}},
        "http_api": {"key": key},
        "http_server": {"address": _HOST, "port": port},
        "health": {"enabled": True},
        "log": {"level": "error"},
    }


async def _is_up(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(f"{url}/health") as answer:
            return answer.ok
    except aiohttp.ClientError:
        return False
