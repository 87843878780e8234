"""Checks that all endpoints of a verification can be reached, before anything is created."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gatecast.cli.async_remote import AsyncRemote
from gatecast.cli.remote import RequestRefused
from gatecast.hiding import redacted
from gatecast.testing.processes.deployment import address_of

#: How long a listener may take to accept a connection, in seconds.
_TIME_LIMIT = 5.0


async def check_reachability(servers: Sequence[AsyncRemote], listeners: Sequence[str]) -> None:
    """Return if each admin API accepts our token and each gateway listener accepts a connection.

    Raises:
        RequestRefused: one does not; the error names it.
    """
    for server in servers:
        await server.request("GET", "/api/v1/gateways", parameters={"limit": "1"})
    for listener in listeners:
        try:
            async with asyncio.timeout(_TIME_LIMIT):
                _, writer = await asyncio.open_connection(*address_of(listener))
        except (OSError, ValueError) as error:
            raise RequestRefused(
                0,
                "unreachable",
                f"no gateway listener answers at {redacted(listener)} ({type(error).__name__}); "
                "say where it is with --gateway-url",
            ) from error
        writer.close()
