"""How the gateways of an organization stand, all together: counted, searched, filtered and sorted.

One look takes three statements whatever the number of gateways, and holds for a moment for everybody who asks at this
pod, so that many open pages cost the database no more than one.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from gatecast.controlplane.access.gateways import Gateway, Gateways
from gatecast.hub import EventHub
from gatecast.storage.contract import GatewayStatus

#: Most gateways that one overview covers.
MAX_GATEWAYS = 10_000

#: An overview is reused for this long, in seconds, or for this many times as long as it took.
FRESH = 1.0
_TIMES_ITS_COST = 5

#: Organizations whose last look is kept.
_KEPT = 100

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class FleetState(StrEnum):
    """How far a gateway is, whether it is connected or not."""

    CURRENT = "current"
    BEHIND = "behind"
    #: Something that it rejected waits for a decision.
    REJECTED = "rejected"
    RESYNC = "resync"


class Sort(StrEnum):
    """What a list of gateways is sorted by."""

    NAME = "name"
    LAG = "lag"
    LAST_SEEN = "last-seen"


@dataclass(frozen=True, slots=True)
class Standing:
    """A gateway, and how its delivery stands."""

    gateway: Gateway
    status: GatewayStatus
    #: Whether something that it rejected waits for a decision.
    parked: bool

    @property
    def connected(self) -> bool:
        """Whether a pod holds a connection of it."""
        return bool(self.status.connections)

    @property
    def lag(self) -> int:
        """Events that it has not confirmed."""
        return max(0, self.status.head - self.status.confirmed)

    @property
    def state(self) -> FleetState:
        """How far it is; the gravest that is true."""
        if self.status.resync_reason or self.gateway.unrestored:
            return FleetState.RESYNC
        if self.parked:
            return FleetState.REJECTED
        return FleetState.BEHIND if self.lag else FleetState.CURRENT


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetFilter:
    """Which gateways are wanted; what is empty does not matter."""

    #: A part of the name or display name, in any case.
    text: str = ""
    connected: bool | None = None
    state: FleetState | None = None

    def fits(self, standing: Standing) -> bool:
        """Whether a gateway is wanted."""
        fields = standing.gateway.fields
        return (
            self.text.casefold() in f"{fields.name}\n{fields.display_name}".casefold()
            and self.connected in (None, standing.connected)
            and self.state in (None, standing.state)
        )


@dataclass(frozen=True, slots=True)
class Fleet:
    """Every gateway of an organization at one moment, in the order of names."""

    standings: Sequence[Standing]

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
        return Counter(each.pod_id for standing in self.standings for each in standing.status.connections)

    def matching(self, wanted: FleetFilter, *, sort: Sort = Sort.NAME) -> list[Standing]:
        """The gateways that are wanted; those that need somebody most come first."""
        found = [each for each in self.standings if wanted.fits(each)]
        match sort:
            case Sort.LAG:
                found.sort(key=lambda each: (-each.status.lag_seconds, -each.lag))
            case Sort.LAST_SEEN:
                found.sort(key=lambda each: each.status.last_seen_at or _LONG_AGO)
            case Sort.NAME:
                pass
        return found


class _Look:
    """A look that has begun, or has ended and holds for a while."""

    def __init__(self, task: asyncio.Task[Fleet], clock: Callable[[], float]) -> None:
        self.task = task
        self._begun_at = clock()
        self._ended_at: float | None = None
        task.add_done_callback(lambda _: self._end(clock()))

    def _end(self, now: float) -> None:
        self._ended_at = now

    def holds(self, now: float) -> bool:
        """Whether whoever asks now gets this one."""
        if self._ended_at is None:
            return not self.task.done()
        if self.task.cancelled() or self.task.exception() is not None:
            return False
        return now - self._ended_at < max(FRESH, _TIMES_ITS_COST * (self._ended_at - self._begun_at))


class Fleets:
    """Looks at the gateways of organizations."""

    def __init__(self, hub: EventHub, gateways: Gateways, *, clock: Callable[[], float] | None = None) -> None:
        self._hub = hub
        self._gateways = gateways
        self._clock = clock or asyncio.get_running_loop().time
        #: For each organization until when its last look holds, once that is known, and the look.
        self._looks: OrderedDict[str, _Look] = OrderedDict()

    async def look(self, organization: str) -> Fleet:
        """The fleet as it was less than a second ago.

        Raises:
            StorageUnavailable: the database is away.
        """
        look = self._looks.get(organization)
        if look is None or not look.holds(self._clock()):
            look = _Look(asyncio.create_task(self._look(organization), name="fleet"), self._clock)
            self._looks[organization] = look
            self._looks.move_to_end(organization)
            if len(self._looks) > _KEPT:
                self._looks.popitem(last=False)
        # Shielded: the one who asked first may leave, and the others still get their answer.
        return await asyncio.shield(look.task)

    async def _look(self, organization: str) -> Fleet:
        gateways = await self._gateways.page(organization, after="", limit=MAX_GATEWAYS)
        ids = [gateway.id for gateway in gateways]
        status = await self._hub.storage.presence.status(ids)
        parked = await self._hub.storage.parking.gateways_with_parked(ids)
        return Fleet([Standing(each, status[each.id], each.id in parked) for each in gateways if each.id in status])
