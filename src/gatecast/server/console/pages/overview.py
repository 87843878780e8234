"""The overview: how many gateways stand how, and what needs somebody."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from gatecast.server.admin_api.context import AdminContext, Context
from gatecast.server.admin_api.gateways import explain_gateway
from gatecast.server.admin_api.models import WhyView
from gatecast.server.console.fleet import Standing, State, look
from gatecast.server.console.rendering import page
from gatecast.server.console.routes import ConsoleRoute, Visitor

router = APIRouter(route_class=ConsoleRoute, include_in_schema=False)

#: So many gateways that need attention are listed.
_LISTED = 20

#: How grave a cause is, by its code; what is not named is a warning.
TONES = {
    "current": "good",
    "rejected": "bad",
    "undeliverable": "bad",
    "resync-needed": "bad",
    "not-confirming": "bad",
    "offline": "quiet",
}

_GRAVITY = ("bad", "warn", "quiet", "good")


@dataclass(frozen=True, slots=True)
class Attention:
    """A gateway that somebody should look at, and why."""

    standing: Standing
    why: WhyView

    @property
    def tone(self) -> str:
        """How grave it is."""
        return TONES.get(self.why.code, "warn")


@router.get("/")
async def show_overview(request: Request, context: Context, visitor: Visitor) -> Response:
    """The first page."""
    standings = await look(context, visitor.organization)
    attention = await _attention(context, visitor.organization, standings)
    states = Counter(each.state for each in standings)
    counts = {
        "all": len(standings),
        "connected": sum(each.connected for each in standings),
        "current": states[State.CURRENT],
        "behind": states[State.BEHIND],
        "resync": states[State.RESYNC],
        "rejected": sum(each.why.code == "rejected" for each in attention),
    }
    return page(request, "overview.html", counts=counts, attention=attention)


async def _attention(context: AdminContext, organization: str, standings: list[Standing]) -> list[Attention]:
    """The gateways that are not current, or not connected, the gravest first."""
    found: list[Attention] = []
    for each in standings:
        if len(found) >= _LISTED:
            break
        why = await explain_gateway(each.gateway.id, context, organization)
        if why.code != "current" or not each.connected:
            found.append(Attention(each, why))
    return sorted(found, key=lambda each: _GRAVITY.index(each.tone))
