"""The gateways that a verification registers, and deletes again in any case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

from gatecast.cli.async_remote import AsyncRemote
from gatecast.cli.remote import RequestRefused


class LeftBehind(RequestRefused):
    """A verification could not begin, and gateways that it had created could not be deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """A temporary gateway, and its token."""

    id: str
    token: str
    token_id: str


class TemporaryGateways:
    """Creates gateways through the first pod that answers, and deletes all of them through any pod."""

    def __init__(self, servers: Sequence[AsyncRemote]) -> None:
        self._servers = servers
        #: By name. Listed before they are registered: the answer to a registration can get lost.
        self._names: list[str] = []

    async def make(self) -> Access:
        """A gateway with a token.

        Raises:
            RequestRefused: the installation refused, or did not answer.
        """
        name = f"verify-{uuid4()}"
        self._names.append(name)
        server = self._servers[0]
        made = await server.request("POST", "/api/v1/gateways", body={"name": name})
        token = await server.request("POST", f"/api/v1/gateways/{made['id']}/tokens")
        return Access(id=made["id"], token=token["token"], token_id=token["id"])

    async def delete(self) -> list[str]:
        """Delete all of them; return what could not be deleted, with the reason."""
        left: dict[str, str] = dict.fromkeys(self._names, "")
        for server in self._servers:
            left = await _delete_some(server, left)
        self._names = list(left)
        return [f"{name} ({reason})" for name, reason in left.items()]


async def _delete_some(server: AsyncRemote, names: dict[str, str]) -> dict[str, str]:
    """Delete what this pod can delete; return the others."""
    if not names:
        return {}
    try:
        ids = {gateway["name"]: gateway["id"] for gateway in await server.all_items("/api/v1/gateways")}
    except RequestRefused as refusal:
        return dict.fromkeys(names, str(refusal))
    left = {}
    for name in names.keys() & ids.keys():
        try:
            await server.request("DELETE", f"/api/v1/gateways/{ids[name]}")
        except RequestRefused as refusal:
            if refusal.status != 404:  # noqa: PLR2004 - gone already
                left[name] = str(refusal)
    return left
