"""Tells one stream how gateways stand: each of them at first, and each again whenever it stands otherwise."""

from __future__ import annotations

import json
from collections.abc import Mapping

from gatecast.containment import contained
from gatecast.server.admin_api.context import AdminContext
from gatecast.server.admin_api.fleet import Fleet, Standing
from gatecast.server.admin_api.why import why

#: Most gateways that are told of in one portion.
_PORTION = 200


class FleetWatch:
    """What one stream has said of its gateways.

    Only the newest state of each is told, so a client that reads slowly is told less and holds up nobody. Whoever comes
    back is told of all of them anew. All streams of a pod share its looks at the fleet.
    """

    def __init__(self, context: AdminContext, organization: str, *, gateway: str) -> None:
        self._context = context
        self._organization = organization
        self._gateway = gateway
        self._fleet: Fleet | None = None
        #: What was said last of each gateway, and what is to be said.
        self._said: dict[str, Mapping[str, object]] = {}
        self._due: dict[str, Mapping[str, object]] = {}

    async def look(self) -> None:
        """Find out who stands otherwise; what the database cannot tell now is found the next time."""
        with contained("stream-could-not-look-at-fleet", organization=self._organization):
            fleet = await self._context.fleets.look(self._organization)
            if fleet is not self._fleet:
                self._fleet = fleet
                self._compare(fleet)

    def _compare(self, fleet: Fleet) -> None:
        present = {each.gateway.id: _state(each) for each in fleet.standings if self._gateway in ("", each.gateway.id)}
        for gateway_id, state in present.items():
            if self._said.get(gateway_id) != state:
                self._due[gateway_id] = state
        for gateway_id in self._said.keys() - present.keys():
            self._due[gateway_id] = {"gatewayId": gateway_id, "deleted": True}
        self._said = present

    async def next_portion(self) -> str:
        """The next part of what is to be said, as text; empty: there is no more."""
        names = list(self._due)[:_PORTION]
        return "".join(f"event: gateway\ndata: {json.dumps(self._due.pop(name))}\n\n" for name in names)


def _state(standing: Standing) -> Mapping[str, object]:
    status = standing.status
    return {
        "gatewayId": standing.gateway.id,
        "name": standing.gateway.fields.name,
        "connected": standing.connected,
        "connections": [{"podId": each.pod_id, "replica": each.replica} for each in status.connections],
        "head": status.head,
        "sent": status.sent,
        "confirmed": status.confirmed,
        "lag": standing.lag,
        "state": standing.state.value,
        "why": _code(standing),
        "parked": standing.parked,
    }


def _code(standing: Standing) -> str:
    """As `GET …/why` says it, from what is known of all gateways at once."""
    if standing.gateway.unrestored:
        return "resync-needed"
    code = why(standing.status, rejected=None, held=False).code
    return "rejected" if standing.parked and code in ("current", "offline") else code
