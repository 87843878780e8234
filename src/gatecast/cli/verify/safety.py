"""Promise P9, seen from outside: a revoked token closes its connection, and opens none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from gatecast.cli.async_remote import AsyncRemote
from gatecast.cli.remote import RequestRefused
from gatecast.cli.verify.findings import expect
from gatecast.cli.verify.temporary import Access
from gatecast.client import GatewayClient
from gatecast.errors import Forbidden, GatecastError, Unauthenticated
from gatecast.testing.eventually import eventually

#: The promise, in seconds. The measured round trip on this machine is added to it.
_PROMISED = 1.0

#: Longest wait for the close, and for a refusal; in seconds.
_PATIENCE = 15.0

_QUESTIONS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """The two addresses of a pod."""

    server: AsyncRemote
    gateways: str


async def check_revocation(endpoints: Sequence[Endpoint], access: Access) -> str:
    """Revoke a token through another pod than the one that holds its connection, if there is another.

    Raises:
        AssertionError: the connection stayed, or closed late, or a pod still admits the token.
    """
    endpoints = [endpoint for endpoint in endpoints if await _answers(endpoint, access)]
    expect(bool(endpoints), "no pod answers")
    socket_side, revoking_side = endpoints[0], endpoints[-1]
    async with GatewayClient(socket_side.gateways, access.token, replica="verify", ssl=False) as client:
        await eventually(lambda: _as_awaitable(value=client.connected), within=_PATIENCE)
        round_trip = await _round_trip(revoking_side, access)
        await revoking_side.server.request("DELETE", f"/api/v1/gateways/{access.id}/tokens/{access.token_id}")
        revoked_at = time.monotonic()
        await _disconnected(client)
        took = time.monotonic() - revoked_at
    limit = _PROMISED + round_trip
    expect(took <= limit, f"closed {took:.2f} s after the revocation; {limit:.2f} s are allowed here")
    for endpoint in endpoints:
        await _refused(endpoint, access)
    through = "through another pod" if len(endpoints) > 1 else "through the same pod, as there is no other"
    return f"revoked {through}, closed {took * 1000:.0f} ms later, refused by {len(endpoints)} pods from then on"


async def _answers(endpoint: Endpoint, access: Access) -> bool:
    try:
        await endpoint.server.request("GET", f"/api/v1/gateways/{access.id}")
    except RequestRefused as refusal:
        # A server that answers with an error is there, and has to keep the promise.
        return refusal.status != 0
    return True


async def _round_trip(endpoint: Endpoint, access: Access) -> float:
    """The longest of a few round trips, in seconds."""
    longest = 0.0
    for _ in range(_QUESTIONS):
        began = time.monotonic()
        await endpoint.server.request("GET", f"/api/v1/gateways/{access.id}")
        longest = max(longest, time.monotonic() - began)
    return longest


async def _disconnected(client: GatewayClient) -> None:
    """Return when the connection is gone."""

    async def gone() -> bool:
        return not client.connected

    try:
        await eventually(gone, within=_PATIENCE)
    except TimeoutError:
        raise AssertionError(f"the connection was not closed within {_PATIENCE:.0f} s") from None


async def _refused(endpoint: Endpoint, access: Access) -> None:
    """Return when the pod has refused the token; fail if it admits it."""
    async with GatewayClient(endpoint.gateways, access.token, replica="verify", ssl=False) as client:
        refusal = asyncio.create_task(_ending(client))
        try:
            await eventually(lambda: _as_awaitable(value=refusal.done() or client.connected), within=_PATIENCE)
            expect(not client.connected, f"{endpoint.gateways} admits the revoked token")
            error = await refusal
        except TimeoutError:
            raise AssertionError(f"{endpoint.gateways} neither admits nor refuses the revoked token") from None
        finally:
            refusal.cancel()
    expect(isinstance(error, Unauthenticated | Forbidden), f"{endpoint.gateways} answered with {error}")


async def _ending(client: GatewayClient) -> GatecastError:
    try:
        async for _ in client.events():
            pass
    except GatecastError as error:
        return error
    raise AssertionError("the events of a gateway have no end")


async def _as_awaitable(*, value: bool) -> bool:
    return value
