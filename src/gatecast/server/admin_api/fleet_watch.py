"""Sends one stream the state of gateways: each of them at first, and each again whenever it changes."""

from __future__ import annotations

import json
from collections.abc import Mapping

from gatecast.server.admin_api.context import AdminContext
from gatecast.server.admin_api.fleet import Fleet, FleetGateway
from gatecast.server.admin_api.outcome_watch import OutcomeWatch
from gatecast.server.admin_api.why import why
from gatecast.server.fleet_metrics import code_of
from gatecast.storage.contract import GatewayStatus

#: Most gateways in one portion.
_PORTION = 200


class FleetWatch:
    """The states of gateways that one stream has sent.

    Only the newest state of each is sent, so a client that reads slowly gets less and holds up nobody. A client that
    returns gets all of them anew. All streams of a pod share its looks at the fleet.
    """

    def __init__(
        self, context: AdminContext, organization: str, *, gateway: str, outcomes: OutcomeWatch | None = None
    ) -> None:
        self._context = context
        #: The outcomes of the events that the same stream has shown.
        self._outcomes = outcomes
        self._organization = organization
        self._gateway = gateway
        self._fleet: Fleet | None = None
        #: The last seen state of each gateway, and the states still to send; None: it is gone.
        self._seen: dict[str, FleetGateway] = {}
        self._due: dict[str, FleetGateway | None] = {}

    async def look(self) -> None:
        """Find out which states have changed."""
        fleet = await self._context.fleets.look(self._organization)
        if fleet is not self._fleet:
            self._fleet = fleet
            self._compare(fleet)

    def _compare(self, fleet: Fleet) -> None:
        present = {each.id: each for each in fleet.standings if self._gateway in ("", each.id)}
        for gateway_id, standing in present.items():
            before = self._seen.get(gateway_id)
            if before is None or _visible(before) != _visible(standing):
                self._due[gateway_id] = standing
        self._due |= dict.fromkeys(self._seen.keys() - present.keys())
        self._seen = present

    async def next_portion(self) -> str:
        """The next part to send, as text; empty: there is no more."""
        names = list(self._due)[:_PORTION]
        if not names:
            return ""
        waiting, status = await self._context.hub.unforwarded_of(names), await self._context.hub.status(names)
        confirmed = {name: each.confirmed for name, each in status.items()}
        before = await self._outcomes.before(confirmed) if self._outcomes is not None else ""
        return before + "".join(
            _message(name, self._due.pop(name), status.get(name), waiting.get(name, 0)) for name in names
        )


def _visible(standing: FleetGateway) -> tuple[object, ...]:
    """The values whose change is sent; progress shows as a newer `last_seen`."""
    summary = standing.summary
    return (
        standing.gateway.name,
        standing.gateway.unrecovered,
        summary.lag,
        summary.last_seen,
        summary.resync_reason,
        tuple(summary.pods),
        summary.parked,
        # Time alone changes it, too.
        code_of(summary),
    )


def _message(gateway_id: str, standing: FleetGateway | None, status: GatewayStatus | None, waiting: int) -> str:
    state: Mapping[str, object] = {"gatewayId": gateway_id, "deleted": True}
    if standing is not None and status is not None:
        state = _state(standing, status, waiting)
    return f"event: gateway\ndata: {json.dumps(state, ensure_ascii=False)}\n\n"


def _state(standing: FleetGateway, status: GatewayStatus, waiting: int) -> Mapping[str, object]:
    return {
        "gatewayId": standing.id,
        "name": standing.gateway.name,
        "connected": bool(status.connections),
        "connections": [{"podId": each.pod_id, "replica": each.replica} for each in status.connections],
        "head": status.head,
        "sent": status.sent,
        "confirmed": status.confirmed,
        "lag": max(0, status.head - status.confirmed) + waiting,
        "state": standing.state.value,
        "why": _code(standing, status),
        "parked": standing.summary.parked,
    }


def _code(standing: FleetGateway, status: GatewayStatus) -> str:
    """As `GET …/why` says it, from what is known of all gateways at once."""
    if standing.gateway.unrecovered:
        return "resync-needed"
    code = why(status, rejected=None, held=False).code
    return "rejected" if standing.summary.parked and code in ("current", "offline") else code
