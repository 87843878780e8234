"""What a gateway is told when it connects, beyond the events that wait for it.

An unmodified gateway reads the list of deployments once, when its process starts. Whatever it cannot be replayed is
published again as new events.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from gatecast.controlplane.artifact_events import key_created, key_revoked
from gatecast.controlplane.change import Change, begin_change
from gatecast.controlplane.documents import Kind
from gatecast.controlplane.families import FAMILIES
from gatecast.controlplane.keys import ApiKey
from gatecast.controlplane.placements import (
    PLACEMENTS,
    Desired,
    Placement,
    placement_of,
    send_keys,
    tell_again,
)
from gatecast.hub import EventHub
from gatecast.storage.contract import ReadRequest
from gatecast.telemetry import get_logger

#: With more events waiting than this, what may have been lost is looked for at the next connect.
_MAX_WAITING = 1_000
_MAX_WAITING_BYTES = 8 * 1024 * 1024

_logger = get_logger("desired-state")

_RANK = {family.kind: rank for rank, family in enumerate(FAMILIES)}


class DesiredState:
    """Brings gateways to the state that operators want."""

    def __init__(self, hub: EventHub) -> None:
        self._hub = hub

    async def publish_all(self, organization: str, gateway_id: str) -> int:
        """Publish all that a gateway should have, and not have, as new events; return how many artifacts that were.

        For a gateway whose position cannot be continued, so that nothing is known of what it has (scenario S05).
        """
        async with begin_change(self._hub) as change:
            await change.lock_gateways(organization, [gateway_id])
            rows = await change.transaction.fetch(PLACEMENTS["placements_of_gateway"], gateway_id)
            placements = [replace(placement_of(row), held="") for row in rows]
            await _tell(change, organization, placements)
        _logger.warning("desired-state-published", gateway=gateway_id, artifacts=len(placements))
        return len(placements)

    async def publish_unanswered(self, organization: str, gateway_id: str, confirmed: int) -> int | None:
        """Publish once more what a gateway has handled and never acknowledged.

        An acknowledgement that is lost is not repeated, and the same event again would be ignored as stale
        (gateway-protocol.md 2.2). `confirmed` is the last offset that the gateway has handled. Return the offset at
        which to look again, because events that wait for the gateway now may be stale for it; None: there are none.
        """
        rows = await self._hub.storage.database.fetch(PLACEMENTS["open_placements"], gateway_id)
        if not rows:
            return None
        request = ReadRequest(
            gateway_id=gateway_id, after=confirmed, max_events=_MAX_WAITING, max_bytes=_MAX_WAITING_BYTES
        )
        [result] = await self._hub.storage.log.read([request])
        if result is None or (result.events[-1].offset if result.events else confirmed) < result.head:
            return result.head if result is not None else None
        waiting = {str(event.event_id) for event in result.events}
        handled = {row["event_id"] for row in rows} - waiting
        if handled:
            await self._publish_handled(organization, gateway_id, handled)
        return result.head if waiting & {row["event_id"] for row in rows} else None

    async def _publish_handled(self, organization: str, gateway_id: str, handled: Collection[str]) -> None:
        async with begin_change(self._hub) as change:
            await change.lock_gateways(organization, [gateway_id])
            # What was acknowledged, or told anew, meanwhile is not among them any more.
            rows = await change.transaction.fetch(PLACEMENTS["open_placements"], gateway_id)
            unanswered = [placement_of(row) for row in rows if row["event_id"] in handled]
            for placement in unanswered:
                if placement.desired is Desired.DELETED:
                    # Nothing acknowledges a deletion: that it was handled is the final word.
                    ids = (placement.artifact_id, gateway_id)
                    await change.transaction.execute(PLACEMENTS["delete_placement"], *ids)
            again = [each for each in unanswered if each.desired is not Desired.DELETED]
            await _tell(change, organization, again)
        _logger.info("unanswered-published", gateway=gateway_id, artifacts=len(again))

    async def publish_fetched(self, organization: str, gateway_id: str, artifact_ids: Collection[str]) -> None:
        """Publish once more what a gateway fetches at its start although it had an answer for it.

        It lost its database, or it failed before and tries again now: what comes of it, it says of events only. The
        keys of MCP proxies go along, because they are the only thing that it does not ask for by itself.
        """
        async with begin_change(self._hub) as change:
            await change.lock_gateways(organization, [gateway_id])
            rows = await change.transaction.fetch(PLACEMENTS["answered_placements"], gateway_id)
            fetched = [placement_of(row) for row in rows if row["artifact_id"] in artifact_ids]
            await _tell(change, organization, [_without_keys(each) for each in fetched])

    async def publish_late_keys(self, organization: str, gateway_id: str, since: int) -> None:
        """Publish once more what changed of keys since a moment, in milliseconds since 1970.

        A gateway that connects reads its keys in lists. A key that is made while such a list is on its way is removed
        when the list arrives, and one that is revoked comes back.
        """
        if not await self._hub.storage.database.fetch(PLACEMENTS["late_keys"], gateway_id, since):
            return
        async with begin_change(self._hub) as change:
            await change.lock_gateways(organization, [gateway_id])
            keys = [
                ApiKey.of(row) for row in await change.transaction.fetch(PLACEMENTS["late_keys"], gateway_id, since)
            ]
            active = {(key.artifact_id, key.name) for key in keys if key.revoked_at is None}
            ended = [key for key in keys if key.revoked_at is not None and (key.artifact_id, key.name) not in active]
            change.events += [key_revoked(key, gateway_id) for key in ended]
            send_keys(change, [key for key in keys if key.revoked_at is None], gateway_id, key_created)
        _logger.info("late-keys-published", gateway=gateway_id, keys=len(keys))


def _without_keys(placement: Placement) -> Placement:
    """As it is where the gateway has no keys that it did not ask for."""
    return replace(placement, held="") if placement.kind is Kind.MCP else placement


async def _tell(change: Change, organization: str, placements: Sequence[Placement]) -> None:
    for placement in sorted(placements, key=_turn):
        rows = await change.transaction.fetch(PLACEMENTS["keys"], placement.artifact_id)
        await tell_again(change, placement, organization, [ApiKey.of(row) for row in rows])


def _turn(placement: Placement) -> tuple[int, int, str]:
    """What ends comes first, because it makes room for names; providers run before their proxies and end after them."""
    rank = _RANK[placement.kind]
    match placement.desired:
        case Desired.DELETED:
            return 0, -rank, placement.artifact_id
        case Desired.UNDEPLOYED:
            return 1, -rank, placement.artifact_id
        case Desired.DEPLOYED:
            return 2, rank, placement.artifact_id
