"""How the gateway gets at secrets (gateway-protocol.md 3.5)."""

from __future__ import annotations

from collections.abc import Iterable

from gatecast.testing.unmodified_gateway.messages import Fields
from gatecast.testing.unmodified_gateway.rest_calls import CallFailed, RestCalls
from gatecast.testing.unmodified_gateway.world import World

_ACTIVE = "ACTIVE"


class SecretsCache:
    """Values in the database, and the hashes that this process has seen."""

    def __init__(self, calls: RestCalls, world: World) -> None:
        self._calls = calls
        self._values = world.database.secrets
        self._records = world.records
        #: Hash by handle; forgotten at restart; empty for what was fetched on demand.
        self._hashes: dict[str, str] = {}

    async def synchronize(self) -> None:
        """Fetch everything at first, and what changed afterwards."""
        if self._hashes:
            await self._fetch_changed()
        else:
            await self._fetch_all()

    async def fetch_missing(self, handles: Iterable[str]) -> None:
        """Fetch the secrets that a document asks for and that this process has not seen."""
        for handle in handles:
            if handle not in self._hashes:
                await self._fetch(handle, sha="")

    async def _fetch_all(self) -> None:
        for item in await self._listed(includeValues="true"):
            if item.text("value"):
                self._keep(item.text("handle"), item.text("value"), item.text("hash"))

    async def _fetch_changed(self) -> None:
        for item in await self._listed():
            if self._hashes.get(item.text("handle")) != item.text("hash"):
                await self._fetch(item.text("handle"), sha=item.text("hash"))

    async def _listed(self, **query: str) -> list[Fields]:
        listed = Fields(await self._calls.get("/secrets", **query)).items("list")
        return [item for item in listed if item.text("status") == _ACTIVE]

    async def _fetch(self, handle: str, *, sha: str) -> None:
        try:
            value = Fields(await self._calls.get(f"/secrets/{handle}/value")).text("value")
        except (CallFailed, ValueError) as problem:
            self._records.note(f"secret not fetched: {problem}")
        else:
            self._keep(handle, value, sha)

    def _keep(self, handle: str, value: str, sha: str) -> None:
        self._values[handle] = value
        self._hashes[handle] = sha
