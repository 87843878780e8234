"""The state of all gateways of an organization: counted, searched, filtered and sorted.

One look takes two statements for any number of gateways, and serves all callers at this pod.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from gatecast.controlplane.access.gateways import GatewayName, Gateways
from gatecast.hub import EventHub
from gatecast.server.admin_api.shared_looks import SharedLooks
from gatecast.server.fleet_metrics import code_of
from gatecast.storage.contract import DeliverySummary

#: Most gateways that one overview covers; further ones are found by their names.
MAX_GATEWAYS = 50_000

#: Organizations for which the time of the last look is kept.
_KEPT = 100


class FleetState(StrEnum):
    """How far a gateway is, whether it is connected or not."""

    CURRENT = "current"
    BEHIND = "behind"
    #: Something that it rejected waits for a decision.
    REJECTED = "rejected"
    RESYNC = "resync"


class Sort(StrEnum):
    """The order of a list of gateways."""

    NAME = "name"
    LAG = "lag"
    LAST_SEEN = "last-seen"
    STATE = "state"


class FleetGateway(NamedTuple):
    """A gateway, and a summary of its delivery."""

    gateway: GatewayName
    summary: DeliverySummary

    @property
    def id(self) -> str:
        """Its id."""
        return self.gateway.id

    @property
    def connected(self) -> bool:
        """Whether a pod holds a connection of it."""
        return bool(self.summary.pods)

    @property
    def lag(self) -> int:
        """Events that it has not confirmed."""
        return self.summary.lag

    @property
    def state(self) -> FleetState:
        """How far it is; the gravest that is true."""
        if self.summary.resync_reason or self.gateway.unrecovered:
            return FleetState.RESYNC
        if self.summary.parked:
            return FleetState.REJECTED
        return FleetState.BEHIND if self.summary.lag else FleetState.CURRENT


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetFilter:
    """Which gateways to list; an empty field matches all."""

    #: A part of the name or display name, in any case.
    text: str = ""
    connected: bool | None = None
    state: FleetState | None = None

    def fits(self, standing: FleetGateway) -> bool:
        """Whether a gateway is wanted."""
        return (
            self.connected in (None, standing.connected)
            and self.state in (None, standing.state)
            and (not self.text or self.text.casefold() in _searched(standing.gateway))
        )


def _searched(gateway: GatewayName) -> str:
    return f"{gateway.name}\n{gateway.display_name}".casefold()


_GRAVEST_FIRST = (FleetState.RESYNC, FleetState.REJECTED, FleetState.BEHIND, FleetState.CURRENT)

#: By what each sort puts gateways in order; those with the same are in the order of names.
_KEYS: Mapping[Sort, Callable[[FleetGateway], tuple[float, float]]] = {
    Sort.NAME: lambda _: (0.0, 0.0),
    Sort.LAG: lambda each: (-each.summary.lag_seconds, -float(each.lag)),
    Sort.LAST_SEEN: lambda each: (each.summary.last_seen or 0.0, 0.0),
    Sort.STATE: lambda each: (float(_GRAVEST_FIRST.index(each.state)), -each.summary.lag_seconds),
}


@dataclass(frozen=True, slots=True)
class Fleet:
    """Every gateway of an organization at one moment, in the order of names."""

    standings: Sequence[FleetGateway]
    #: Another number whenever something that lists show of it has changed.
    fingerprint: int = 0

    @property
    def states(self) -> Mapping[FleetState, int]:
        """How many gateways are how far."""
        return Counter(each.state for each in self.standings)

    @property
    def connected(self) -> int:
        """How many are connected."""
        return sum(each.connected for each in self.standings)

    @property
    def connections_by_pod(self) -> Mapping[str, int]:
        """How many connections of this organization each pod holds."""
        return Counter(pod_id for standing in self.standings for pod_id in standing.summary.pods)

    def matching(self, wanted: FleetFilter, *, sort: Sort = Sort.NAME) -> list[FleetGateway]:
        """The gateways that the filter selects; those that need attention most come first."""
        found = [each for each in self.standings if wanted.fits(each)] if wanted != FleetFilter() else self.standings
        # Python sorts stably, and the names are in order already.
        return list(found) if sort is Sort.NAME else sorted(found, key=_KEYS[sort])


class Fleets:
    """Looks at the gateways of organizations."""

    def __init__(self, hub: EventHub, gateways: Gateways, *, clock: Callable[[], float] | None = None) -> None:
        self._hub = hub
        self._gateways = gateways
        self._clock = clock or asyncio.get_running_loop().time
        self._looks = SharedLooks(self._look, name="fleet", clock=self._clock, last_change=gateways.last_change)
        #: When each organization was last looked at, the latest at the end.
        self._looked_at: OrderedDict[str, float] = OrderedDict()

    async def look(self, organization: str) -> Fleet:
        """The fleet as it was a second ago, or up to five if looks are slow; with every change made by this pod.

        Raises:
            StorageUnavailable: the database is away.
        """
        self._looked_at[organization] = self._clock()
        self._looked_at.move_to_end(organization)
        if len(self._looked_at) > _KEPT:
            self._looked_at.popitem(last=False)
        return await self.seen(organization)

    async def look_now(self, organization: str) -> Fleet:
        """The fleet as it is, for one who is about to change it.

        Raises:
            StorageUnavailable: the database is away.
        """
        return await self._look(organization)

    async def seen(self, organization: str) -> Fleet:
        """Like `look`, for measuring: it does not count as a look by a caller."""
        return await self._looks.of(organization)

    def looked_at(self, *, within: float) -> list[str]:
        """The organizations that a caller has looked at within this many seconds."""
        since = self._clock() - within
        return [organization for organization, at in self._looked_at.items() if at >= since]

    async def _look(self, organization: str) -> Fleet:
        gateways = await self._gateways.names(organization, limit=MAX_GATEWAYS)
        summaries = await self._hub.summaries([gateway.id for gateway in gateways])
        known = {each.gateway_id: each for each in summaries}
        standings = [FleetGateway(each, known[each.id]) for each in gateways if each.id in known]
        return Fleet(standings, hash(tuple(map(_visible, standings))))


def _visible(standing: FleetGateway) -> tuple[object, ...]:
    """What lists show of it, without ages; its code says that it has not confirmed for too long."""
    gateway, summary = standing
    return (
        gateway.id,
        gateway.version,
        summary.lag,
        summary.last_seen,
        summary.pods,
        standing.state,
        code_of(summary),
    )
