"""One who runs a control plane through its admin API, in tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Self
from uuid import UUID, uuid4

import aiohttp

from gatecast.testing.eventually import PATIENCE, eventually

_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayAccess:
    """A gateway and what it authenticates with."""

    id: str
    token: str
    token_id: str


class Refused(Exception):
    """The admin API answered with an error."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(status, body)
        #: The HTTP status.
        self.status = status
        #: What it said.
        self.body = body


class Operator:
    """Talks to one pod; opened with `async with`.

    Raises (from every call): Refused, for an answer of 400 and above; aiohttp.ClientError or TimeoutError, for none.
    """

    def __init__(self, api: str, admin_token: str) -> None:
        self._session = aiohttp.ClientSession(
            base_url=api,
            headers={"Authorization": f"Bearer {admin_token}"},
            timeout=aiohttp.ClientTimeout(total=PATIENCE),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._session.close()

    async def ask(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        """The decoded answer of the admin API; `path` stands below `/api/v1`."""
        # As a stream: aiohttp warns of larger bodies in one piece.
        data = None if body is None else BytesIO(json.dumps(body).encode())
        async with self._session.request(method, f"/api/v1{path}", data=data, headers=_JSON) as reply:
            text = await reply.text()
            if reply.status >= 400:
                raise Refused(reply.status, text)
            return json.loads(text) if text else None

    async def create_gateway(self, name: str) -> GatewayAccess:
        """A new gateway with a token."""
        gateway = await self.ask("POST", "/gateways", {"name": name})
        token = await self.ask("POST", f"/gateways/{gateway['id']}/tokens")
        return GatewayAccess(id=gateway["id"], token=token["token"], token_id=token["id"])

    async def publish(
        self, gateway_id: str, data: Mapping[str, Any] | None = None, *, event_id: UUID | None = None
    ) -> dict[str, Any]:
        """Publish one event; `eventId`, `offset` and `position`."""
        event = {
            "type": "api.updated",
            "action": "UPDATE",
            "entityType": "Api",
            "entityId": "api-1",
            "data": dict(data or {}),
            "eventId": str(event_id or uuid4()),
        }
        answer: dict[str, Any] = {}

        async def has_offset() -> bool:
            answer.update(await self.ask("POST", f"/gateways/{gateway_id}/events", event))
            return answer["offset"] is not None

        # It is durable with the first answer. In an outbox, it has no offset yet.
        await eventually(has_offset)
        return answer

    async def gateway(self, gateway_id: str) -> dict[str, Any]:
        """A gateway with its connections and its position."""
        answer: dict[str, Any] = await self.ask("GET", f"/gateways/{gateway_id}")
        return answer

    async def confirmed(self, gateway_id: str, offset: int, *, within: float = PATIENCE) -> None:
        """Return when the gateway's stored position has reached this offset."""

        async def reached() -> bool:
            position = (await self.gateway(gateway_id))["position"]
            return bool(position["confirmed"] >= offset)

        await eventually(reached, within=within)

    async def connections(self, gateway_id: str, count: int, *, within: float = PATIENCE) -> None:
        """Return when the gateway has this many connections."""

        async def as_many() -> bool:
            gateway = await self.gateway(gateway_id)
            return len(gateway["connections"]) == count and gateway["connected"] == bool(count)

        await eventually(as_many, within=within)
