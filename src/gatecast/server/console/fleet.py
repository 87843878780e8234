"""How the gateways of an organization stand, as the overview and the list show it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gatecast.controlplane.gateways import Gateway
from gatecast.server.admin_api.context import AdminContext
from gatecast.storage.contract import GatewayStatus

#: Most gateways that one look takes in.
MOST = 1_000


class State(StrEnum):
    """How far a gateway is, whether it is connected or not."""

    CURRENT = "current"
    BEHIND = "behind"
    RESYNC = "resync"


@dataclass(frozen=True, slots=True)
class Standing:
    """A gateway, and how its delivery stands."""

    gateway: Gateway
    status: GatewayStatus

    @property
    def connected(self) -> bool:
        """Whether a pod holds a connection of it."""
        return bool(self.status.connections)

    @property
    def lag(self) -> int:
        """Events that it has not confirmed."""
        return self.status.head - self.status.confirmed

    @property
    def state(self) -> State:
        """How far it is."""
        if self.status.resync_reason or self.gateway.unrestored:
            return State.RESYNC
        return State.BEHIND if self.lag else State.CURRENT


async def look(context: AdminContext, organization: str) -> list[Standing]:
    """Every gateway of the organization, in the order of names."""
    gateways = await context.gateways.page(organization, after="", limit=MOST)
    status = await context.hub.storage.presence.status([gateway.id for gateway in gateways])
    return [Standing(gateway, status[gateway.id]) for gateway in gateways if gateway.id in status]
